#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bytes of arrays that stand inside a pickle which is kept as it is: every dtype, protocol, container and way of writing. What was written is
there afterwards, everything else as before, the pickle's opcodes too; Python's own unpicklers judge, and cloudpickle and dill where they
are installed. What cannot be written there is refused when it is tried.

Usage: test_inside_pickle.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import codecs
import os
import pickle
import pickletools
import random
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "mount"), os.path.join(HERE, "..", "files")]
from kit import World, done, need_fuse, ok, read, run, same, write  # noqa: E402

from craft import Record, zip_file  # noqa: E402
from crafted import script as script_archive  # noqa: E402

need_fuse()
try:
    import cloudpickle
except ImportError:
    cloudpickle = None
try:
    import dill
except ImportError:
    dill = None
    # what its pickles name
    module = types.ModuleType("dill._dill")

    def _create_array(f, args, state, npdict=None):
        array = f(*args)
        array.__setstate__(state)
        return array

    _create_array.__module__ = "dill._dill"
    module._create_array = _create_array
    sys.modules.update({"dill": types.ModuleType("dill"), "dill._dill": module})

rng = random.Random(9)


def apply(obj, state):
    obj.update(state)


class Kept:
    """Pickled as cloudpickle does it: a function that sets the state is called for what it does, and its result dropped."""

    def __reduce__(self):
        return OrderedDict, (), {"n": 5}, None, None, apply


class Text:
    """Bytes as a text in latin-1, in any protocol."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return codecs.encode, (self.data.decode("latin1"), "latin1")


class Parts:
    """An array whose bytes are pickled as wrap() says, by the call that NumPy or dill makes."""

    def __init__(self, array, wrap, by_dill=False):
        self.array, self.wrap, self.by_dill = array, wrap, by_dill

    def __reduce__(self):
        f, args, state = self.array.__reduce__()
        state = state[:4] + (self.wrap(state[4]),)
        return (sys.modules["dill._dill"]._create_array, (f, args, state, None)) if self.by_dill else (f, args, state)


class Buffer:
    """An array as protocol 5 has it, in any."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        numeric = (getattr(np, "_core", None) or np.core).numeric
        return numeric._frombuffer, (bytearray(self.array.tobytes()), self.array.dtype, self.array.shape, "C")


DTYPES = ["?", "u1", "i1", "<i2", "<u4", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16", ">f4", ">i2", "<U3", "S5", "<M8[s]", [("id", "<i4"), ("score", "<f8")]]


def some(dtype, shape, fortran=False):
    d = np.dtype(dtype)
    count = int(np.prod(shape))
    if d.kind == "b":
        data = bytes(rng.randrange(2) for _ in range(count))
    elif d.kind == "U":
        return np.array([chr(rng.randrange(1, 0x3000)) * rng.randrange(4) for _ in range(count)], d).reshape(shape)
    else:
        data = rng.randbytes(count * d.itemsize)
    a = np.frombuffer(data, d).reshape(shape)
    return np.array(a, order="F" if fortran else "C")


def forms():
    """Name, shape, and how it stands in the pickle."""
    for i, dtype in enumerate(DTYPES):
        yield f"d{i}", some(dtype, (2, 3)), None
    yield "zero", some("<f4", ()), None
    yield "long", some("u1", (300,)), None
    yield "columns", some("<f8", (3, 4), fortran=True), None
    yield "big", some("<f4", (70, 300)), None
    yield "buffer", some("<f4", (4, 5)), "buffer"
    yield "text", some("<i4", (40, 10)), Text
    yield "text2", some("u1", (100,)), Text
    yield "dill", some("<i8", (3, 2)), "dill"


def pickled(a, how):
    return a if how is None else Buffer(a) if how == "buffer" else Parts(a, bytes, True) if how == "dill" else Parts(a, how)


def make():
    arrays = OrderedDict((k, (a, how)) for k, a, how in forms())
    kept = Kept()
    content = {"n": 3, "kept": kept, **{k: pickled(a, how) for k, (a, how) in arrays.items()}, "w": torch.arange(6.0).reshape(2, 3),
               "again": kept, "s": "text"}
    return content, {k: a for k, (a, how) in arrays.items()}


def native(dtype):
    """NumPy makes it that when it reads an array of protocol 4 or less."""
    return dtype.newbyteorder("<") if dtype.kind in "ifcu" else dtype


def shown(a):
    """The bytes of its file."""
    return a.astype(native(a.dtype)).tobytes()


def pickle_of(container, path):
    if container == "zip":
        with zipfile.ZipFile(path) as z:
            ok(z.testzip() is None, "    every CRC is right")
            return z.read(next(n for n in z.namelist() if n.endswith("/data.pkl")))
    with open(path, "rb") as f:
        for _ in range(3 if container == "legacy" else 0):
            list(pickletools.genops(f))
        start = f.tell()
        list(pickletools.genops(f))
        return read(path)[start:f.tell()]


def shape_of(data):
    """The pickle's opcodes, and their arguments but for long strings, which bytes of arrays may be, and lengths of frames."""
    return [(op.name[6 * op.name.startswith("SHORT_"):], None if op.name == "FRAME" or isinstance(arg, (str, bytes, bytearray)) and len(arg) > 2 else arg)
            for op, arg, at in pickletools.genops(data)]


def load_all(container, path, module):
    """By the fast unpickler and by the one that minds the lengths of frames."""
    if container != "plain":
        return [torch.load(path, weights_only=False)]
    return [module.loads(read(path))] + ([] if module is dill else [pickle._loads(read(path))])


def compare(container, path, module, arrays, words):
    for loaded in load_all(container, path, module):
        wrong = [k for k, a in arrays.items() if (native(loaded[k].dtype), loaded[k].shape) != (native(a.dtype), a.shape) or shown(loaded[k]) != shown(a)]
        others = (loaded["n"], dict(loaded["kept"]), loaded["again"] is loaded["kept"], loaded["s"])
        same((wrong, others), ([], (3, {"n": 5}, True, "text")), words)


def by_place(w, k, a):
    data = shown(a)
    half = len(data) // 2
    with open(f"{w.mnt}/{k}", "r+b", buffering=0) as f:
        f.seek(half)
        f.write(data[half:])
        f.seek(0)
        f.write(data[:half])


def by_copy(w, k, a):
    write(f"{w.dir}/bytes", shown(a))
    same(run("cp", f"{w.dir}/bytes", f"{w.mnt}/{k}").stderr, "", f"    cp of {k}")


def by_npy(w, k, a):
    np.save(f"{w.dir}/a.npy", a)
    same(run("cp", f"{w.dir}/a.npy", f"{w.mnt}/.weightfs/npy/{k}.npy").stderr, "", f"    cp of {k}.npy")


def by_set(w, k, a):
    write(f"{w.dir}/bytes", shown(a))
    same(run(w.wfctl, "set", w.mnt, k, "--file", f"{w.dir}/bytes").stderr, "", f"    wfctl set {k}")


WAYS = [by_place, by_copy, by_npy, by_set]


def edit(w, arrays, turn, every=1):
    for i, (k, a) in list(enumerate(arrays.items()))[turn % every::every]:
        new = some(a.dtype, a.shape, fortran=k == "columns")
        way = WAYS[(i + turn) % len(WAYS)]
        if way is by_npy and a.dtype.kind in "USMV":
            way = by_copy
        if way is by_copy and new.ndim == 0 or way is by_copy and shown(new).endswith(b"\n"):
            way = by_place  # text for a number
        way(w, k, new)
        arrays[k] = new
        if i % 5 == 4:  # what was written is what is read, before any commit
            same(read(f"{w.mnt}/{k}"), shown(new), f"    {k} reads as written by {way.__name__}")


def judge(w, container, module, arrays, turn, options):
    """Two commits: the second finds the bytes where the first has put them."""
    before = shape_of(pickle_of(container, w.file))
    w.mount(*options)
    edit(w, arrays, turn)
    if turn % 3 == 0:
        run("sync", w.mnt)
        w.crash(*options)
    same(run(w.wfctl, "commit", w.mnt).stderr, "", "  a commit")
    compare(container, w.file, module, arrays, "  all is there")
    same(shape_of(pickle_of(container, w.file)), before, "  in the same opcodes")
    edit(w, arrays, turn + 1, every=3)
    by_place(w, "w", np.arange(6, dtype=np.float32)[::-1].copy())
    same(run(w.wfctl, "umount", w.mnt).stderr, "", "  one more")
    compare(container, w.file, module, arrays, "  all is there")
    same((shape_of(pickle_of(container, w.file)), load_all(container, w.file, module)[0]["w"].flatten().tolist()),
         (before, [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), "  in the same opcodes, and the tensor")
    same((run(w.wfctl, "verify", w.file).returncode, run(w.wfctl, "repack", w.file).returncode), (0, 0), "  verify and repack")
    compare(container, w.file, module, arrays, "  repacked")


def save(container, path, content, protocol, module=pickle):
    if container == "plain":
        write(path, module.dumps(content, protocol))
    else:
        torch.save(content, path, pickle_module=module, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")


MODES = [[], ["-o", "commit=append"], ["-o", "commit=replace"]]


def table(w):
    for container, protocols in (("plain", range(6)), ("zip", range(1, 6)), ("legacy", range(1, 6))):
        for protocol in protocols:
            ok(True, f"{container}, protocol {protocol}")
            content, arrays = make()
            save(container, w.file, content, protocol)
            judge(w, container, pickle, arrays, protocol, MODES[protocol % len(MODES)] if container == "zip" else [])


def by_others(w):
    for module in filter(None, (cloudpickle, dill)):
        for protocol in range(6):
            ok(True, f"{module.__name__} {module.__version__}, protocol {protocol}")
            content, arrays = make()
            number = protocol * 7

            class Local:
                def __init__(self):
                    self.array = np.arange(4.0)

                def sum(self):
                    return self.array.sum() + number

            write(w.file, module.dumps({**content, "f": lambda x: x + number, "local": Local()}, protocol))
            judge(w, "plain", module, arrays, protocol, [])
            loaded = module.loads(read(w.file))
            same((loaded["f"](1), loaded["local"].sum()), (number + 1, 6.0 + number), "  functions and classes are what they were")
            w.mount()
            inside = next(p for p in ("local/array", "local/state/array") if os.path.exists(f"{w.mnt}/{p}"))
            write(f"{w.mnt}/{inside}", np.full(4, 2.0).tobytes())
            same(run(w.wfctl, "umount", w.mnt).stderr, "", "  an array of an object")
            same(module.loads(read(w.file))["local"].sum(), 8.0 + number, "  is another one")


def python2(w):
    """Bytes as Python 2 wrote them: str, raw or in quotes."""
    a, b = some("<i4", (3, 4)), some("<f8", (50,))
    for protocol in (0, 1, 2):
        ok(True, f"Python 2, protocol {protocol}")
        holder = [a.tobytes(), b.tobytes()]
        data = pickle.dumps({"kept": Kept(), "a": Parts(a, lambda x: "first bytes"), "b": Parts(b, lambda x: "second bytes"), "n": 3}, protocol)
        for text, raw in zip(("first bytes", "second bytes"), holder):
            unicode = f"V{text}\n".encode() if protocol == 0 else b"X" + len(text).to_bytes(4, "little") + text.encode()
            string = ("S" + repr(raw)[1:] + "\n").encode() if protocol == 0 else b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else \
                b"T" + len(raw).to_bytes(4, "little") + raw
            same(data.count(unicode), 1, "  made")
            data = data.replace(unicode, string)
        write(w.file, data)
        old = pickle.loads(data, encoding="latin1")
        same((old["a"].tobytes(), old["b"].tobytes()), (a.tobytes(), b.tobytes()), "  as Python reads it")
        w.mount()
        a, b = some("<i4", (3, 4)), some("<f8", (50,))
        by_place(w, "a", a)
        by_copy(w, "b", b)
        same(run(w.wfctl, "umount", w.mnt).stderr, "", "  a commit")
        new = pickle.loads(read(w.file), encoding="latin1")
        same((new["a"].tobytes(), new["b"].tobytes(), new["n"], dict(new["kept"])), (a.tobytes(), b.tobytes(), 3, {"n": 5}), "  all is there")
        if protocol > 0:  # pickletools takes no STRING that is not ASCII
            same(shape_of(read(w.file)), shape_of(data), "  in the same opcodes")


def numbers(w):
    """A 0-d array takes a number as text, in a pickle of either kind, as a 0-d tensor does."""
    for kept in (False, True):
        for turn, (dtype, text, value) in enumerate((("<f4", "0.5", 0.5), ("<f8", "1e3", 1000.0), (">f8", "2.5", 2.5), ("<i8", "7", 7), ("u1", "200", 200), ("?", "false", False),
                                   ("<c8", "'(1+2j)'", 1 + 2j), ("<f2", "-1", -1.0))):
            ok(True, f"0-d {dtype}, {'kept' if kept else 'written anew'}")
            ways = ["echo T > x", "printf -- T > x", f"{os.path.abspath(w.wfctl)} set {w.mnt} x T"]
            if not kept:
                ways += ["rm x && echo T > x", "echo T > .x.swp && mv .x.swp x"]
            for way in (ways[turn % len(ways)], ways[(turn + 1) % len(ways)]):
                protocol = (turn + kept) % 6
                write(w.file, pickle.dumps({"kept": Kept() if kept else 1, "x": np.array(1, dtype), "n": 3}, protocol))
                w.mount()
                command = way.replace("T", text)
                same(run("sh", "-c", command, cwd=w.mnt).stderr, "", f"  {command}")
                r = run("sh", "-c", "printf 'no number' > bad && cp bad mnt/x", cwd=w.dir)
                ok(r.returncode != 0, "  what is none is refused", r)
                same(run(w.wfctl, "umount", w.mnt).stderr, "", "  a commit")
                x = pickle.loads(read(w.file))["x"]
                same((native(x.dtype), x.shape, x.item()), (native(np.dtype(dtype)), (), value), "  is that number")


def refused(w):
    """What has a second user, and what would change more than bytes."""
    shared = bytes(range(24))
    one, text = np.array(7, np.uint8), bytes(range(24)).decode("latin1")
    state = np.arange(2.0).__reduce__()[2]

    class Same:
        def __reduce__(self):
            return codecs.encode, (text, "latin1")

    class Rebuilt:
        def __reduce__(self):
            f, args, _ = np.arange(2.0).__reduce__()
            return f, args, state

    content = {"kept": Kept(), "raw": shared, "other": Parts(np.zeros(6, np.float32), lambda x: shared), "x": one, "y": one.copy(),
               "state": [state, 1], "z": Rebuilt(), "free": np.arange(5, dtype=np.int16), "text": text,
               "u": Parts(np.zeros(24, np.uint8), lambda x: Same())}
    for protocol in range(6):
        ok(True, f"refused, protocol {protocol}")
        write(w.file, pickle.dumps(content, protocol))
        before = read(w.file)
        w.mount()
        # Python has one object for each bytes of length 1; protocol 5 has bytearrays
        for k in ("other", "z", "u") + (("x", "y") if protocol < 5 else ()):
            size = os.path.getsize(f"{w.mnt}/{k}")
            r = run("sh", "-c", f"head -c {size} /dev/urandom | dd of={w.mnt}/{k} conv=notrunc status=none")
            log = "".join(read(f"{w.mnt}/.weightfs/log").decode().splitlines()[-2:])
            ok(r.returncode != 0 and "not permitted" in r.stderr and "same bytes object" in log, f"  {k}", (r, log))
        for command in ("truncate -s 4 free", "head -c 12 /dev/urandom > free", "setfattr -n user.torch.shape -v '[5, 1]' free", "rm free", "mv free away",
                        "setfattr -n user.torch.dtype -v uint16 free"):
            r = run("sh", "-c", command, cwd=w.mnt)
            ok(r.returncode != 0, f"  {command}", r)
        np.save(f"{w.dir}/a.npy", np.arange(4, dtype=np.int16))
        ok(run("cp", f"{w.dir}/a.npy", f"{w.mnt}/.weightfs/npy/free.npy").returncode != 0, "  another shape as npy")
        same((read(f"{w.mnt}/free"), sorted(os.listdir(w.mnt))), (np.arange(5, dtype=np.int16).tobytes(), sorted(content)), "  all is as it was")
        same((run(w.wfctl, "umount", w.mnt).returncode, read(w.file) == before), (0, True), "  and nothing waits for a commit")


def script(w):
    """A TorchScript archive, of which a commit of bytes copies the pickle: an array in data.pkl is written over; one in constants.pkl, which no
    commit writes, is refused. (torch writes neither.)"""
    a, b = np.arange(4, dtype=np.int32), np.arange(3.0)
    for protocol in (2, 4):
        write(w.file, zip_file([Record("archive/data.pkl", pickle.dumps({"a": a, "n": 1, "b": b}, protocol)), Record("archive/constants.pkl", pickle.dumps((), 2)),
                                Record("archive/code/__torch__.py", b""), Record("archive/version", b"3\n")]))
        w.mount()
        by_copy(w, "a", np.full(4, -9, np.int32))
        same(run(w.wfctl, "umount", w.mnt).stderr, "", f"TorchScript, protocol {protocol}: a commit")
        with zipfile.ZipFile(w.file) as z:
            now = pickle.loads(z.read("archive/data.pkl"))
            same((now["a"].tolist(), now["b"].tolist(), now["n"], z.testzip()), ([-9] * 4, b.tolist(), 1, None), "  of that array")
        write(w.file, script_archive(pickle.dumps((a,), protocol), records=()))
        w.mount()
        r = run("dd", "if=/dev/zero", f"of={w.mnt}/constants/0", "bs=4", "count=1", "conv=notrunc")
        ok(r.returncode == 1 and "not permitted" in r.stderr, "  an array among the constants is refused", r)
        same((read(f"{w.mnt}/constants/0"), run(w.wfctl, "umount", w.mnt).returncode), (a.tobytes(), 0), "  and stays")


with World(sys.argv[1], lambda path: None) as world:
    for test in (table, numbers, python2, refused, script, by_others):
        test(world)
done()
