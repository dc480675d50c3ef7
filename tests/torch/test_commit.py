#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes changed checkpoints and asks torch what it reads from them.

Usage: test_commit.py BUILD_DIR

Each kind of file that this torch can write is changed by unit/test-commit used as a tool, as a new file and as an append. What
torch.load then returns must be the old object with the same changes made in Python, bit for bit, in every mode that could load
the old file: default, weights_only, mmap, and into FakeTensorMode, whose computed offsets must be those of the bytes. zipfile
and unzip -t must find nothing wrong. Prints TAP.
"""
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import OrderedDict

import numpy as np
import torch

from judge import VERSION, load, modes, same

TOOL = os.path.join(sys.argv[1], "tests", "unit", "test-commit")
WORK = tempfile.mkdtemp(prefix="weightfs-commit-")
COMPUTES_OFFSETS = VERSION >= (2, 7)
done = failed = 0


def test(name, body):
    global done, failed
    done += 1
    try:
        body()
        print(f"ok {done} - {name}", flush=True)
    except Exception as e:
        failed += 1
        print(f"not ok {done} - {name}\n# {type(e).__name__}: {str(e)[:2000]}".replace("\n", "\n# ").replace("\n# #", "\n#"), flush=True)


def edit(way, source, *operations):
    out = os.path.join(WORK, "out.pt")
    if os.path.exists(out):
        os.unlink(out)
    p = subprocess.run([TOOL, "-", way, source, out, *map(str, operations)], capture_output=True, text=True)
    if p.returncode or p.stdout:
        raise RuntimeError(f"{operations}: {p.stderr}{p.stdout}")
    return out


def storages(obj, found):
    if isinstance(obj, torch.Tensor) and obj.layout == torch.strided and not obj.is_meta:
        found.append(obj.untyped_storage())
    elif isinstance(obj, dict):
        for v in obj.values():
            storages(v, found)
    elif isinstance(obj, (list, tuple)):
        for v in obj:
            storages(v, found)
    return found


def check_offsets(path):
    """The places that torch computes or reads without loading are those of the bytes."""
    from torch._subclasses import FakeTensorMode
    from torch.utils.serialization import config
    with FakeTensorMode():
        fake = load(path)
    with open(path, "rb") as f:
        raw = f.read()

    def walk(real, pretended):
        if isinstance(real, torch.Tensor) and real.layout == torch.strided and real.numel():
            n = real.untyped_storage().nbytes()
            at = pretended.untyped_storage()._checkpoint_offset
            want = bytes(real.untyped_storage().tolist())
            if raw[at:at + n] != want:
                raise AssertionError(f"torch finds a storage of {n} bytes at {at}, where it is not")
        elif isinstance(real, dict):
            for k in real:
                walk(real[k], pretended[k])
    walk(load(path), fake)
    os.environ["TORCH_SERIALIZATION_DEBUG"] = "1"
    try:
        with config.patch({"load.calculate_storage_offsets": True}):
            load(path, mmap=True)
            load(path)
    finally:
        del os.environ["TORCH_SERIALIZATION_DEBUG"]


def check(source, out, expected, offsets=True):
    for options in modes(source):
        same(expected, load(out, **options))
    if zipfile.is_zipfile(out) and open(out, "rb").read(4) == b"PK\x03\x04":
        bad = zipfile.ZipFile(out).testzip()
        if bad:
            raise AssertionError(f"zipfile: {bad} is broken")
        if shutil.which("unzip"):
            p = subprocess.run(["unzip", "-tq", out], capture_output=True, text=True)
            if p.returncode:
                raise AssertionError("unzip: " + p.stdout + p.stderr)
        if COMPUTES_OFFSETS and offsets:
            check_offsets(out)


def renamed(d, a, b):
    items = [(b if k == a else k, v) for k, v in d.items()]
    metadata = getattr(d, "_metadata", None)
    d = type(d)(items)
    if metadata is not None:
        d._metadata = metadata
    return d


def without(d, *keys):
    for k in keys:
        del d[k]
    return d


def written(d, key, at, n, first):
    d[key].view(-1)[at:at + n] = torch.arange(n, dtype=torch.float32) + first
    return d


def with_new(d, key, n, first):
    d[key] = torch.arange(n, dtype=torch.float32) + first
    return d


def plain():
    big = torch.arange(100.0)
    d = {"a": big, "b": torch.tensor([1, 2, 3]), "none": torch.empty(0), "sub": {"view": big[3:9], "t": torch.randn(7, 5).t()},
         "epoch": 3, "lr": 0.1, "name": "xé", "list": [1, [2.5, None]], "same": big}
    d.update({f"k{i}": torch.randn(i + 1) for i in range(15)})
    return d


EDITS = [
    ("nothing", [], lambda d: d),
    ("rename", ["rename", "k3", "a.longer.name"], lambda d: renamed(d, "k3", "a.longer.name")),
    ("remove a middle one", ["remove", "k3"], lambda d: without(d, "k3")),
    ("remove the first", ["remove", "b", "remove", "k0"], lambda d: without(d, "b", "k0")),
    ("remove all of a storage", ["remove", "a", "remove", "sub", "remove", "same"], lambda d: without(d, "a", "sub", "same")),
    ("write a few bytes", ["write", "k14", 3, 2, 77], lambda d: written(d, "k14", 3, 2, 77)),
    ("write all bytes", ["write", "a", 0, 100, -9], lambda d: written(d, "a", 0, 100, -9)),
    ("add", ["add", "new", 1000, 5], lambda d: with_new(d, "new", 1000, 5)),
    ("all at once", ["add", "new", 10, 5, "remove", "b", "rename", "k1", "zz", "write", "k4", 0, 5, 9],
     lambda d: written(renamed(without(with_new(d, "new", 10, 5), "b"), "k1", "zz"), "k4", 0, 5, 9)),
]


def each_edit(kind, path, ways, offsets=True):
    for way in ways:
        for name, operations, apply in EDITS:
            test(f"{kind}, {way}: {name}",
                 lambda: check(path, edit(way, path, *operations), apply(load(path)), offsets))


def rezip(source, out, compression):
    with zipfile.ZipFile(source) as a, zipfile.ZipFile(out, "w", compression) as b:
        for info in a.infolist():
            b.writestr(info.filename, a.read(info.filename))


def big_endian(source, out):
    """The same checkpoint as a big-endian machine would write it."""
    size = {torch.float32: 4, torch.int64: 8}
    sizes = {}
    d = torch.load(source, weights_only=False)
    with zipfile.ZipFile(source) as a:
        names = a.namelist()
        prefix = names[0].split("/")[0]
        pkl = a.read(prefix + "/data.pkl")
        # keys and element sizes in the order in which the pickle names the storages
        import pickle

        class Reader(pickle.Unpickler):
            def persistent_load(self, pid):
                sizes[pid[2]] = size[pid[1].dtype]
                return torch.storage.TypedStorage(
                    wrap_storage=torch.UntypedStorage(pid[4] * size[pid[1].dtype]), dtype=pid[1].dtype, _internal=True)
        Reader(io.BytesIO(pkl)).load()
        with zipfile.ZipFile(out, "w") as b:
            for name in names:
                data = a.read(name)
                key = name.split("/")[-1]
                if name.endswith("/byteorder"):
                    data = b"big"
                elif "/data/" in name and key in sizes:
                    data = np.frombuffer(data, dtype=f"u{sizes[key]}").byteswap().tobytes()
                if not name.endswith((".format_version", ".storage_alignment", "serialization_id")):
                    b.writestr(name, data)
    return d


def make_tar(path):
    """The tar of 2016: one tensor, and one that views a part of a storage that is a view itself."""
    import pickle

    class Pid:
        def __init__(self, key):
            self.key = key

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj):
            return obj.key if isinstance(obj, Pid) else None

    def glob(f, name):
        return b"ctorch\n" + name + b"\n"
    storages = io.BytesIO()
    storages.write(pickle.dumps(1, 2))
    storages.write(b"\x80\x02(K\x01U\x03cpu" + glob(storages, b"FloatStorage") + b"t.")
    storages.write(struct.pack("<q", 10) + struct.pack("<10f", *range(10)))
    storages.write(pickle.dumps([(2, 1, 4, 6)], 2))
    tensors = io.BytesIO()
    tensors.write(pickle.dumps(2, 2))
    for key, storage, size, offset in ((11, 1, 10, 0), (12, 2, 3, 1)):
        tensors.write(b"\x80\x02(K" + bytes([key]) + b"K" + bytes([storage]) + glob(tensors, b"FloatTensor") + b"t.")
        tensors.write(struct.pack("<i", 1) + b"\0\0\0\0" + struct.pack("<qqq", size, 1, offset))
    obj = io.BytesIO()
    Pickler(obj, 2).dump(OrderedDict([("whole", Pid(11)), ("part", Pid(12)), ("epoch", 3)]))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as t:
        for name, data in (("sys_info", pickle.dumps({}, 2)), ("pickle", obj.getvalue()), ("tensors", tensors.getvalue()),
                           ("storages", storages.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


def legacy_of_python2(obj, path):
    """The legacy stream with every str as Python 2 pickled it."""
    import pickle
    import pickletools

    def old(data):
        """The same pickles, each BINUNICODE a SHORT_BINSTRING."""
        out, at = b"", 0
        for op, arg, here in list(pickletools.genops(data)):
            out += data[at:here]
            at = here
            if op.name == "BINUNICODE":
                text = arg.encode()
                out += b"U" + bytes([len(text)]) + text
                at = here + 5 + len(text)
        return out + data[at:]
    stream = io.BytesIO()
    torch.save(obj, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    with open(path, "wb") as f:
        at = 0
        for _ in range(5):
            part = io.BytesIO(data[at:])
            pickletools.dis(part, out=io.StringIO())
            f.write(old(data[at:at + part.tell()]))
            at += part.tell()
        f.write(data[at:])


def other_kinds():
    def path(name):
        return os.path.join(WORK, name)

    # optimizer state: int keys, param_groups; a module's state dict with _metadata; Parameters
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    training = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "weight": net[0].weight}
    torch.save(training, path("training.pt"))
    for way in ("replace", "append"):
        def body():
            out = edit(way, path("training.pt"), "rename", "weight", "w", "poke", "optimizer/state/0/exp_avg", 4, "0000803f")
            want = renamed(load(path("training.pt")), "weight", "w")
            want["optimizer"]["state"][0]["exp_avg"].view(-1)[1] = 1.0
            check(path("training.pt"), out, want)
            got = load(out)
            if got["w"].data_ptr() != got["model"]["0.weight"].data_ptr():
                raise AssertionError("a tie is broken")
        test(f"training state, {way}", body)

    # a whole module: its class is only known to Python
    for name, options in (("module.pt", {}), ("module-legacy.pt", {"_use_new_zipfile_serialization": False})):
        torch.save(net, path(name), **options)

        def body():
            out = edit("replace", path(name), "poke", "0.bias", 0, "0000803f")
            want = load(path(name))
            want.state_dict()["0.bias"][0] = 1.0
            check(path(name), out, want, offsets=False)
        test(f"whole {name}", body)

    # arrays inside the pickle: bytes, and text that stands for bytes
    arrays = {"state": np.arange(7, dtype=np.int32) * 40, "big": np.arange(30000, dtype=np.float64), "x": torch.ones(3),
              "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}
    for protocol in (2, 4):
        torch.save(arrays, path("arrays.pt"), pickle_protocol=protocol)
        for way in ("replace", "append"):
            def body():
                out = edit(way, path("arrays.pt"), "poke", "state", 4, "ffffffff", "poke", "big", 8, "000000000000f03f", "poke", "x", 0,
                           "00000040", "poke", "fortran", 4, "00002041")
                want = load(path("arrays.pt"))
                want["state"][1] = -1
                want["big"][1] = 1.0
                want["x"][0] = 2
                want["fortran"][0, 1] = 10
                check(path("arrays.pt"), out, want)
            test(f"arrays in a pickle of protocol {protocol}, {way}", body)

    # what C++ wrote: storages are in the memo, because the C++ reader makes another storage of every id
    if hasattr(torch._C, "_pickle_save"):
        ten = torch.arange(10.0)
        with open(path("cpp.pt"), "wb") as f:
            f.write(torch._C._pickle_save({"all": ten, "part": ten[3:6], "other": torch.ones(2)}))
        for way in ("replace", "append"):
            def body():
                out, want = edit(way, path("cpp.pt")), load(path("cpp.pt"))
                if {"how": "C++"} not in modes(path("cpp.pt")):
                    raise AssertionError("torch::pickle_load does not load what torch::pickle_save wrote")
                check(path("cpp.pt"), out, want, offsets=False)
                with open(out, "rb") as f:
                    got = torch._C._pickle_load_obj(f.read())
                if got["part"].data_ptr() != got["all"].data_ptr() + 12:
                    raise AssertionError("the view is no view any more")
            test(f"written by C++, {way}", body)

    # Python 2: its strings are bytes to torch.load(encoding='bytes'), in the ids as in the list of keys
    python2 = {"w": torch.arange(4.0), "b": torch.ones(2), "epoch": 3}
    legacy_of_python2(python2, path("python2.pt"))

    def body():
        ways = modes(path("python2.pt"))
        if {"encoding": "bytes"} not in ways or {"encoding": "latin1"} not in ways:
            raise AssertionError(f"it loads in {ways}")
        for operations, want in ((["write", "w", 1, 2, 9], written(load(path("python2.pt")), "w", 1, 2, 9)),
                                 (["rename", "b", "bias"], renamed(load(path("python2.pt")), "b", "bias")),
                                 (["add", "new", 5, 1, "remove", "w"], without(with_new(load(path("python2.pt")), "new", 5, 1), "w"))):
            check(path("python2.pt"), edit("replace", path("python2.pt"), *operations), want)
    test("a legacy stream of Python 2", body)

    # re-zipped: stored without descriptors, and deflated
    torch.save(plain(), path("plain.pt"))
    for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        rezip(path("plain.pt"), path(name + ".pt"), compression)
        def body():
            for way in ("replace", "append"):
                operations = ["rename", "k3", "longer", "write", "k9", 1, 3, 5]
                want = written(renamed(load(path(name + ".pt")), "k3", "longer"), "k9", 1, 3, 5)
                out = edit(way, path(name + ".pt"), *operations)
                same(want, load(out))
                if zipfile.ZipFile(out).testzip():
                    raise AssertionError("testzip")
        test(f"re-zipped, {name}", body)

    if VERSION >= (2, 1):
        rows = plain()
        torch.save(rows, path("little.pt"))
        want = big_endian(path("little.pt"), path("big.pt"))
        for way in ("replace", "append"):
            def body():
                out = edit(way, path("big.pt"), "write", "k9", 1, 3, 5, "poke", "b", 8, "0700000000000000", "rename", "k1", "z")
                expected = renamed(written(load(path("big.pt")), "k9", 1, 3, 5), "k1", "z")
                expected["b"][1] = 7
                same(expected, load(out))
                with zipfile.ZipFile(out) as z:
                    if z.testzip() or b"big" != z.read([n for n in z.namelist() if n.endswith("byteorder")][0]):
                        raise AssertionError("byteorder or sums")
            test(f"big endian, {way}", body)

    if VERSION >= (2, 6):
        torch.serialization.set_crc32_options(False)
        torch.save(plain(), path("nocrc.pt"))
        torch.serialization.set_crc32_options(True)

        def body():
            out = edit("replace", path("nocrc.pt"), "write", "k9", 1, 3, 5)
            same(written(load(path("nocrc.pt")), "k9", 1, 3, 5), load(out))
            sums = {i.filename.split("/", 1)[1]: i.CRC for i in zipfile.ZipFile(out).infolist()}
            if not sums["data.pkl"] or sum(1 for v in sums.values() if v == 0) < 10:
                raise AssertionError(f"sums {sums}")
        test("sums left out on purpose stay so, new bytes get one", body)

    # TorchScript: data in place, the code untouched, and it still runs
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval())
    scripted.save(path("script.pt"))
    for way in ("replace", "append"):
        def body():
            out = edit(way, path("script.pt"), "poke", "0.bias", 4, "0000c842")
            want = torch.jit.load(path("script.pt"))
            want.state_dict()["0.bias"][1] = 100.0
            got = torch.jit.load(out)
            x = torch.randn(2, 4)
            same(want.state_dict(), got.state_dict())
            same(want(x), got(x))
            before = {n: zipfile.ZipFile(path("script.pt")).read(n) for n in zipfile.ZipFile(path("script.pt")).namelist()}
            after = {n: zipfile.ZipFile(out).read(n) for n in zipfile.ZipFile(out).namelist()}
            changed = [n for n in before if before[n] != after.get(n)]
            if len(changed) > 2 or any("/code/" in n for n in changed):
                raise AssertionError(f"changed: {changed}")
        test(f"TorchScript, {way}", body)

    # only the bytes that views use stay, and what was shared is shared still
    large = torch.arange(2_000_000, dtype=torch.float32)
    slices = {"slice": large[1_000_003:1_020_003], "inner": large[1_010_000:1_010_010], "columns": large[1_000_100:1_000_200].view(10, 10).t(),
              "empty": large[5:5], "other": torch.ones(7), "raw": torch.arange(9.0)[2:4], "half": torch.ones(64).half()[33:35]}
    slices["raw_storage"] = slices["raw"].storage()
    for name, options in (("slices.pt", {}), ("slices-legacy.pt", {"_use_new_zipfile_serialization": False})):
        torch.save(slices, path(name), **options)

        def body():
            out = edit("trim", path(name))
            want, got = load(path(name)), load(out)
            for k in want:
                if isinstance(want[k], torch.Tensor):
                    if want[k].stride() != got[k].stride() or not torch.equal(want[k], got[k]):
                        raise AssertionError(k)
            if os.path.getsize(out) > 90_000 or got["slice"].data_ptr() + 4 * 9997 != got["inner"].data_ptr():
                raise AssertionError(f"{os.path.getsize(out)} bytes")
            for options in modes(path(name)):
                load(out, **options)
            if not name.startswith("slices-l"):
                check(out, out, got)
        test(f"trim {name}", body)

    def body():
        make_tar(path("tar.pt"))
        out = edit("replace", path("tar.pt"), "rename", "epoch", "step", "poke", "part", 4, "0000c842")
        whole = torch.arange(10.0)
        whole[6] = 100
        got = load(out)
        if list(got) != ["whole", "part", "step"] or got["step"] != 3:
            raise AssertionError(f"{got}")
        if not torch.equal(got["whole"], whole) or not torch.equal(got["part"], whole[5:8]):
            raise AssertionError(f"{got}")
        if got["part"].data_ptr() != got["whole"].data_ptr() + 20:
            raise AssertionError("the view is no view any more")
        if VERSION >= (2, 1):
            load(out, weights_only=True)
            load(out, mmap=True)
    test("a tar becomes a zip", body)


def array_edits(make):
    """EDITS of a dict whose values at `a` and `w` are of 100 and 2 x 3 float32, made by `make`."""
    def new(d):
        d["new"] = make(np.arange(5, dtype=np.float32) + 7)
        return d

    def poked(d):
        np.asarray(d["w"]).reshape(-1)[1] = 100
        return d

    def filled(d):
        np.asarray(d["a"])[:] = np.arange(100, dtype=np.float32) - 9
        return d
    return [
        ("nothing", [], lambda d: d),
        ("rename", ["rename", "w", "v"], lambda d: renamed(d, "w", "v")),
        ("remove", ["remove", "a"], lambda d: without(d, "a")),
        ("write a few bytes", ["poke", "w", 4, "0000c842"], poked),
        ("write all bytes", ["write", "a", 0, 100, -9], filled),
        ("add", ["add", "new", 5, 7], new),
        ("all at once", ["add", "new", 5, 7, "remove", "a", "poke", "w", 4, "0000c842", "rename", "w", "v"],
         lambda d: renamed(poked(without(new(d), "a")), "w", "v")),
    ]


def plain_pickles():
    import pickle
    import pickletools
    path = os.path.join(WORK, "plain.pkl")

    def first(p):
        with open(p, "rb") as f:
            data = f.read()
        ops = [(op, arg) for op, arg, _ in pickletools.genops(data)]
        return ops[0][1] if ops[0][0].name == "PROTO" else max(op.proto for op, _ in ops)
    for kind, make in (("arrays", np.array), ("tensors", torch.tensor)):
        obj = {"a": make(np.arange(100, dtype=np.float32)), "w": make(np.arange(6, dtype=np.float32).reshape(2, 3) * 1e30),
               "big": make(np.arange(40000, dtype=np.int64) * 0x0180_0a0d_5c27), "epoch": 3, "lr": 0.5, "name": "xé\n", "none": None,
               "on": True, "list": [1, [2.5]], "huge": 2 ** 80}
        for protocol in range(6):
            for name, operations, apply in array_edits(make):
                def body():
                    with open(path, "wb") as f:
                        pickle.dump(obj, f, protocol)
                        f.write(b"what follows")
                    out = edit("replace", path, *operations)
                    ways = modes(path)
                    if {"how": "pickle"} not in ways:
                        raise AssertionError(f"it loads in {ways}")
                    want = apply(load(path, how="pickle"))
                    for options in ways:
                        same(want, load(out, **options))
                    if first(out) != protocol:
                        raise AssertionError(f"protocol {first(out)}")
                    with open(out, "rb") as f:
                        if not f.read().endswith(b".what follows"):
                            raise AssertionError("what followed the pickle is lost")
                test(f"plain pickle of {kind}, protocol {protocol}: {name}", body)


def main():
    path = os.path.join(WORK, "zip.pt")
    torch.save(plain(), path)
    each_edit("zip", path, ("replace", "append"))
    with open(os.path.join(WORK, "stream.pt"), "wb") as f:
        torch.save(plain(), f)
    each_edit("zip written to a stream", os.path.join(WORK, "stream.pt"), ("replace",))
    path = os.path.join(WORK, "legacy.pt")
    torch.save(plain(), path, _use_new_zipfile_serialization=False)
    each_edit("legacy", path, ("replace",))
    if COMPUTES_OFFSETS:
        from torch.utils.serialization import config
        path = os.path.join(WORK, "aligned.pt")
        with config.patch({"save.storage_alignment": 4096}):
            torch.save(plain(), path)
        each_edit("alignment of 4096", path, ("replace", "append"))
    other_kinds()
    plain_pickles()
    print(f"1..{done}")
    shutil.rmtree(WORK)
    sys.exit(failed > 0)


main()
