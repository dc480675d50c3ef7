#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pickles read into an object graph and written back, against what Python makes of them.

Usage: test_pickle_roundtrip.py BUILD_DIR

Every data.pkl and legacy stream that torch.save writes comes back byte for byte. So does every protocol-2 pickle of
plain objects, and what came in protocol 3, 4 or 5 becomes what CPython's own protocol 2 is. Written in the protocol in
which it was read, every one of 0 to 5 is of that protocol and loads as before. Prints TAP.
"""
import argparse
import collections
import copy
import decimal
import enum
import fractions
import io
import os
import pickle
import pickletools
import subprocess
import sys
import tempfile
import zipfile

try:
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)
try:
    import numpy
except ImportError:
    numpy = None

TOOL = None
TESTS = 0
FAILED = 0


def check(name, ok, why=""):
    global TESTS, FAILED
    TESTS += 1
    FAILED += not ok
    print(f"{'ok' if ok else 'not ok'} {TESTS} - {name}" + ("" if ok else f": {why}"), flush=True)


def roundtrip(data, offset=0, as_read=False):
    """The bytes written back and the offset after STOP."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        p = subprocess.run([TOOL, *["-r"] * as_read, f.name, str(offset)], capture_output=True)
    if p.returncode:
        raise RuntimeError(p.stderr.decode().strip())
    end, faithful = p.stderr.decode().split(" ", 1)
    if faithful != "faithful\n":
        raise RuntimeError(f"written anew it would mean something else: {faithful}")
    return p.stdout, int(end)


def check_same(name, data, want=None):
    want = data if want is None else want
    try:
        got, _ = roundtrip(data)
    except RuntimeError as e:
        check(name, False, str(e))
        return None
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    check(name, got == want, f"{len(want)} bytes became {len(got)}, first difference at {at}: "
          f"{want[max(0, at - 20):at + 20]!r} / {got[max(0, at - 20):at + 20]!r}")
    return got


def check_equal(name, data, want):
    """The written pickle loads as an equal object."""
    try:
        got, _ = roundtrip(data)
        back = pickle.loads(got)
    except Exception as e:  # noqa: BLE001 - any failure is a failed check
        check(name, False, repr(e))
        return
    check(name, back == want, f"{want!r:.200} became {back!r:.200}")


def check_converted(name, data, canonical, want):
    """A pickle of another protocol means the same when written in protocol 2, and is then stable."""
    try:
        got, _ = roundtrip(data)
        again, _ = roundtrip(got)
        found = canonical(got)
    except Exception as e:  # noqa: BLE001
        check(name, False, repr(e)[:300])
        return
    check(name, found == want, f"{want!r:.300} became {found!r:.300}")
    check(f"{name}, again", again == got, "the second writing differs from the first")


def protocol_of(data):
    ops = [(op, arg) for op, arg, _ in pickletools.genops(data)]
    return ops[0][1] if ops[0][0].name == "PROTO" else max(op.proto for op, _ in ops if op.name not in ("LONG1", "LONG4"))


def check_kept(name, data, protocol, canonical, want):
    """Written in its own protocol."""
    try:
        got, _ = roundtrip(data, as_read=True)
        found = canonical(got)
    except Exception as e:  # noqa: BLE001
        check(name, False, repr(e)[:300])
        return
    check(name, found == want and protocol_of(got) == protocol_of(data),
          f"protocol {protocol_of(data)} became {protocol_of(got)}; {want!r:.300} became {found!r:.300}")


def has_tensors(obj):
    f = io.BytesIO()
    torch.save(obj, f)
    return isinstance(obj, (torch.nn.Module, torch.optim.Optimizer)) or b"torch" in f.getvalue()


def check_loads(name, obj, protocol):
    """torch.load of a file whose data.pkl was written again, against torch.load of the file itself."""
    f = io.BytesIO()
    torch.save(obj, f, pickle_protocol=protocol)

    def canonical(pkl):
        out = io.BytesIO()
        old = zipfile.ZipFile(f)
        with zipfile.ZipFile(out, "w") as new:
            for record in old.namelist():
                new.writestr(record, pkl if record.endswith("/data.pkl") else old.read(record))
        out.seek(0)
        kwargs = {} if torch.__version__ < "2" else {"weights_only": False}
        again = io.BytesIO()
        torch.save(torch.load(out, **kwargs), again)
        return data_pkl(again)

    pkl = data_pkl(f)
    try:
        want = canonical(pkl)
    except Exception as e:  # noqa: BLE001 - torch 1.13 cannot load every file that it saves
        print(f"# {name}, protocol {protocol}: {e}")
        return
    check_converted(f"torch.save in protocol {protocol}, {name}", pkl, canonical, want)
    check_kept(f"torch.save in protocol {protocol}, {name}, kept", pkl, protocol, canonical, want)


def data_pkl(f):
    z = zipfile.ZipFile(f)
    return z.read(next(n for n in z.namelist() if n.endswith("/data.pkl")))


class Colour(enum.Enum):
    RED = 1


class Outer:
    class Inner:
        def __init__(self):
            self.x = 1

        def __eq__(self, other):
            return type(other) is type(self) and other.x == self.x

        class Deep(enum.Enum):
            A = "a"


class Slots:
    __slots__ = ("a", "b")


class KeywordNew:
    def __new__(cls, *, k):
        self = object.__new__(cls)
        self.k = k
        return self

    def __getnewargs_ex__(self):
        return (), {"k": self.k}

    def __eq__(self, other):
        return type(other) is type(self) and other.k == self.k


class ListOf(list):
    pass


class DictOf(dict):
    pass


class Tensor2(torch.Tensor):
    pass


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 5)
        self.bn = torch.nn.BatchNorm2d(6)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        self.tied = self.layers[0].weight
        self.config = {"name": "net", "sizes": (1, 2), "lr": 1e-3}


def zoo():
    net = Net()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    adam = torch.optim.AdamW(net.parameters())
    for opt in (sgd, adam):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        opt.step()
    base = torch.arange(100.0)
    shared = [1, 2]
    cycle = {}
    cycle["self"] = cycle
    yield "state_dict", net.state_dict()
    yield "ema copy", {"model": net.state_dict(), "ema": copy.deepcopy(net.state_dict())}
    yield "sgd", sgd.state_dict()
    yield "training", {"model": net.state_dict(), "opt": adam.state_dict(), "epoch": 10, "loss": 0.25, "best": None}
    yield "module", net
    yield "optimizer object", adam
    yield "tensor", base
    yield "views", {"a": base, "b": base[10:20], "c": base.view(10, 10).t(), "again": base}
    yield "parameter", torch.nn.Parameter(base)
    yield "subclass", base.as_subclass(Tensor2)
    attributes = torch.ones(2)
    attributes.note = "hello"
    yield "tensor with attributes", attributes
    yield "sparse", torch.eye(3).to_sparse()
    yield "sparse csr", torch.eye(3).to_sparse_csr()
    yield "quantised", torch.quantize_per_tensor(base, 0.1, 3, torch.quint8)
    yield "quantised by channel", torch.quantize_per_channel(
        torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.qint8)
    yield "complex", {"t": torch.ones(3, dtype=torch.complex64).conj(), "v": 1 + 2j}
    yield "meta", torch.empty(3, device="meta")
    yield "dtypes", {str(d): torch.zeros(2, dtype=d) for d in
                     (torch.bool, torch.int8, torch.bfloat16, torch.float16, torch.float64)}
    yield "torch objects", [torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.strided,
                            torch.per_tensor_affine]
    yield "storage", base.untyped_storage() if hasattr(base, "untyped_storage") else base.storage()
    yield "rng", {"rng": torch.get_rng_state(), "generator": torch.Generator().get_state()}
    for n in (999, 1000, 1001, 1002, 2000, 2001, 3000):
        yield f"dict of {n}", {f"key{i}": i for i in range(n)}
        yield f"list of {n}", [i * 1.5 for i in range(n)]
        yield f"OrderedDict of {n}", collections.OrderedDict((i, i) for i in range(n))
        yield f"subclasses of {n}", [ListOf(range(n)), DictOf((i, i) for i in range(n))]
    yield "many keys", {f"layer.{i}.weight": torch.zeros(1) for i in range(1500)}
    yield "ints", [0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**63 - 1, 2**63, -2**63,
                   -2**63 - 1, 2**64, -2**71, -2**72, 10**100, -10**100, 2**2031, 2**2032, 2**4000, -128, -129, -32768]
    yield "floats", [0.0, -0.0, 1.5, float("inf"), float("-inf"), 1e308, 5e-324]
    yield "constants", [None, True, False, Ellipsis, NotImplemented, (), [], {}, ""]
    yield "strings", ["", "a", "ä", "\U0001f600", "a\nb\0c", "x" * 300, "\ud800", "y" * 70000, "é" * 70000]
    yield "bytes", [b"", b"a", b"\x80\xff", bytes(range(256)), b"z" * 70000, bytearray(b""), bytearray(b"abc\xff")]
    yield "tuples", [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), tuple(range(300)), ((1, (2, (3,))),)]
    yield "sets", [set(), {1}, {"a", "b"}, frozenset(), frozenset({1, 2}), set(range(1001))]
    yield "shared", {"a": shared, "b": shared, "t": (shared, shared), "key": "key"}
    yield "cycle", cycle
    yield "keys", {1: 1, "1": 2, None: 3, 1.5: 4, (1, "x"): 5, True: 6, frozenset({1}): 7, int: 8, b"b": 9, "": 10}
    yield "objects", [Colour.RED, Outer.Inner(), Outer.Inner.Deep.A, decimal.Decimal("1.5"), fractions.Fraction(1, 3),
                      collections.Counter("abca"), collections.defaultdict(list, {1: [2]}), collections.deque([1, 2]),
                      range(3), slice(1, 2, 3), argparse.Namespace(a=1), complex(1, 2), int, len, type(None)]
    if numpy:
        a = numpy.arange(6.0).reshape(2, 3)
        yield "numpy", {"a": a, "f": numpy.asfortranarray(a), "s": numpy.float32(1.5), "i": numpy.int64(7),
                        "o": numpy.array([None, "x"], dtype=object), "u": numpy.array(["ab", "c"]),
                        "z": numpy.zeros((0, 3)), "big": numpy.zeros(20000), "dtype": numpy.dtype("f4"),
                        "struct": numpy.zeros(2, dtype=[("a", "f4"), ("b", "i8")])}


def recursive():
    """Objects that contain themselves by way of an immutable one: the pickler throws away and gets again."""
    for n in (1, 2, 3, 4, 6):
        inner = []
        t = (inner,) * n
        inner.append(t)
        yield f"tuple of {n} with itself inside", t
    a, b = [], []
    t = (a, b, 1)
    a.append(t)
    b.append(t)
    yield "tuple with itself inside twice", t
    x = Outer.Inner()
    x.me = frozenset
    f = frozenset([Cell()])
    next(iter(f)).other = f
    yield "frozenset with itself inside", f


class Cell:
    pass


def legacy_pickles(data):
    """(start, end) of the pickles at the front of a legacy stream: magic, version, system, object, keys."""
    at = 0
    for _ in range(5):
        f = io.BytesIO(data[at:])

        class Reader(pickle.Unpickler):
            def persistent_load(self, pid):
                return None

            def find_class(self, module, name):
                return lambda *a, **k: None

        start = at
        try:
            Reader(f).load()
            at += f.tell()
        except Exception:  # noqa: BLE001 - SETITEMS on an inert result; the end is found by opcode instead
            for op, _, pos in pickletools.genops(data[start:]):
                if op.name == "STOP":
                    at = start + pos + 1
                    break
        yield start, at


def main():
    global TOOL
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    args = parser.parse_args()
    TOOL = os.path.join(args.build, "tests", "torch", "pickle-roundtrip")
    for name, obj in zoo():
        f = io.BytesIO()
        try:
            torch.save(obj, f)
        except Exception as e:  # noqa: BLE001 - an older torch cannot save all of them
            print(f"# {name}: torch.save: {e}")
            continue
        check_same(f"torch.save, {name}", data_pkl(f))
        f = io.BytesIO()
        try:
            torch.save(obj, f, _use_new_zipfile_serialization=False)
        except Exception as e:  # noqa: BLE001
            print(f"# {name}: legacy torch.save: {e}")
            continue
        data = f.getvalue()
        for start, end in legacy_pickles(data):
            got, stop = roundtrip(data, start)
            if stop != end or got != data[start:end]:
                check(f"legacy torch.save, {name}, pickle at {start}", False, f"{end} {stop}")
                break
        else:
            check(f"legacy torch.save, {name}", True)
        if has_tensors(obj):
            for protocol in (3, 4, 5):
                check_loads(name, obj, protocol)
            continue
        try:
            two = pickle.dumps(obj, 2)
        except Exception as e:  # noqa: BLE001
            print(f"# {name}: {e}")
            continue
        check_same(f"pickle, {name}", two)
        for protocol in (0, 1, 3, 4, 5):
            try:
                data = pickle.dumps(obj, protocol)
                want = pickle.dumps(pickle.loads(data), 2)
            except Exception as e:  # noqa: BLE001
                print(f"# {name}, protocol {protocol}: {e}")
                continue
            check_converted(f"protocol {protocol}, {name}", data, lambda d: pickle.dumps(pickle.loads(d), 2), want)
            check_kept(f"protocol {protocol}, {name}, kept", data, protocol, lambda d: pickle.dumps(pickle.loads(d), 2), want)
    for name, obj in recursive():
        for protocol in (0, 1, 3, 4, 5):
            data = pickle.dumps(obj, protocol)
            check_kept(f"{name}, protocol {protocol}, kept", data, protocol, lambda d: pickle.dumps(pickle.loads(d), 2), pickle.dumps(obj, 2))
        for protocol in (2, 4):
            data = pickle.dumps(obj, protocol)
            got = check_same(name, data) if protocol == 2 and isinstance(obj, tuple) else roundtrip(data)[0]
            check(f"{name}, protocol {protocol}, loads", pickle.dumps(pickle.loads(got), 2) == pickle.dumps(obj, 2),
                  f"{got!r:.300}")
    check_equal("keyword arguments of __new__", pickle.dumps(KeywordNew(k=3), 4), KeywordNew(k=3))
    check_equal("nested class", pickle.dumps(Outer.Inner(), 4), Outer.Inner())
    print(f"1..{TESTS}")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
