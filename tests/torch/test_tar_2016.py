#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tar that torch 0.1.1 to 0.1.9 wrote in 2016. No torch of today writes it, but every one still reads it, so that it
can say whether what is made here is the real thing.

Usage: test_tar_2016.py BUILD_DIR        test: torch loads the file, and wfctl lists the same. Prints TAP.
       test_tar_2016.py --write FILE     only makes one

    import test_tar_2016; expected = test_tar_2016.write(path, tarfile.USTAR_FORMAT)
"""
import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile

try:
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)

TYPES = ["Float", "Double", "Half", "Long", "Int", "Short", "Char", "Byte"]


class Pickler(pickle._Pickler):
    """Tensors and storages by key; a module's class, the first time, with its source."""

    def __init__(self, file, keys):
        super().__init__(file, 2)
        self.keys, self.classes = keys, set()

    def persistent_id(self, obj):
        if id(obj) in self.keys:
            return str(self.keys[id(obj)])
        if isinstance(obj, type) and issubclass(obj, torch.nn.Module) and obj not in self.classes:
            self.classes.add(obj)
            return (obj, "linear.py", "class Linear: pass")
        return None


def dump(file, obj):
    pickle.dump(obj, file, 2)


def write(path, tar_format=tarfile.USTAR_FORMAT):
    """Makes the file and returns what it holds, in its order."""
    storages, tensors = io.BytesIO(), io.BytesIO()
    roots = [torch.arange(12).to(getattr(torch, t + "Tensor")(0).dtype) for t in TYPES]
    dump(storages, len(roots))
    for i, root in enumerate(roots):
        dump(storages, (100 + i, "cpu", getattr(torch, TYPES[i] + "Storage")))
        storages.write(struct.pack("<q", root.numel()) + root.numpy().tobytes())
    dump(storages, [(200, 100, 4, 6)])  # of the float storage, elements 4 to 9

    described = []

    def tensor(storage_key, cls, shape, stride, offset):
        key = 1000 + len(described)
        described.append((key, storage_key, cls, shape, stride, offset))
        return key

    entries = collections.OrderedDict()
    keys, alive = {}, []

    def entry(name, key, value):
        stand_in = torch.zeros(1)
        alive.append(stand_in)
        keys[id(stand_in)] = key
        entries[name] = (stand_in, value)

    for i, t in enumerate(TYPES):
        cls = getattr(torch, t + "Tensor")
        entry("w." + t.lower(), tensor(100 + i, cls, (3, 4), (4, 1), 0), roots[i].reshape(3, 4))
    entry("transposed", tensor(100, torch.FloatTensor, (4, 3), (1, 4), 0), roots[0].reshape(3, 4).t())
    entry("view", tensor(200, torch.FloatTensor, (2, 2), (3, 1), 1), roots[0][4:10].as_strided((2, 2), (3, 1), 5))
    entry("scalar", tensor(103, torch.LongTensor, (1,), (1,), 11), roots[3][11:])
    dump(tensors, len(described))
    for key, storage_key, cls, shape, stride, offset in described:
        dump(tensors, (key, storage_key, cls))
        n = len(shape)
        tensors.write(struct.pack(f"<i4x{n}q{n}qq", n, *shape, *stride, offset))

    obj = collections.OrderedDict((k, v[0]) for k, v in entries.items())
    obj["again"] = entries["w.float"][0]
    obj["class"] = torch.nn.Linear
    obj["epoch"] = 7
    pickled, sys_info = io.BytesIO(), io.BytesIO()
    Pickler(pickled, keys).dump(obj)
    dump(sys_info, {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}})
    with tarfile.open(path, "w:", format=tar_format) as tar:
        for name, data in (("sys_info", sys_info), ("pickle", pickled), ("tensors", tensors), ("storages", storages)):
            info = tarfile.TarInfo(name)
            info.size = len(data.getvalue())
            info.mtime = 1480000000.5  # a fraction makes PAX write a header of its own
            tar.addfile(info, io.BytesIO(data.getvalue()))
    expected = collections.OrderedDict((k, v[1]) for k, v in entries.items())
    expected["again"] = expected["w.float"]
    expected["class"] = torch.nn.Linear
    expected["epoch"] = 7
    return expected


def torch_agrees(path, expected):
    try:
        loaded = torch.load(path, weights_only=False)
    except TypeError:  # torch before 1.13
        loaded = torch.load(path)
    assert list(loaded) == list(expected), list(loaded)
    for k, v in expected.items():
        if isinstance(v, torch.Tensor):
            assert loaded[k].dtype == v.dtype and loaded[k].stride() == v.stride() and torch.equal(loaded[k], v), k
        else:
            assert loaded[k] == v, k
    assert loaded["again"] is loaded["w.float"]


def wfctl_agrees(wfctl, path, expected):
    out = subprocess.run([wfctl, "ls", path], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    shapes = {line.split()[0]: line.split(None, 1)[1].strip() for line in out.stdout.splitlines() if "torch.Size" in line}
    want = {k: str(v.shape) for k, v in expected.items() if isinstance(v, torch.Tensor)}
    assert shapes == want, (shapes, want)


def main():
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2])
        return 0
    wfctl = os.path.join(sys.argv[1], "fs", "wfctl")
    formats = [("ustar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)]
    failed = number = 0
    print(f"1..{2 * len(formats)}")
    with tempfile.TemporaryDirectory() as d:
        for name, tar_format in formats:
            path = os.path.join(d, name + ".pth")
            expected = write(path, tar_format)
            for what, check in (("torch loads", lambda: torch_agrees(path, expected)),
                                ("wfctl lists", lambda: wfctl_agrees(wfctl, path, expected))):
                number += 1
                if what == "wfctl lists" and not os.path.exists(wfctl):
                    print(f"ok {number} - {what} {name} # SKIP {wfctl} is not there")
                    continue
                try:
                    check()
                    print(f"ok {number} - {what} {name}")
                except Exception as e:
                    failed += 1
                    print(f"not ok {number} - {what} {name}\n# {type(e).__name__}: {e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
