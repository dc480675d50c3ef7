#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copies of NumPy arrays whose elements are no numbers of torch's: texts, bytes, dates, spans, records, long doubles. np.array_equal and the
dtype judge them.

Usage: test_verb_arrays.py BUILD_DIR. Prints TAP; the same on a mount where /dev/fuse can be used.
"""
import io
import os
import pickle
import shutil
import subprocess
import tempfile

import numpy as np
import torch

import verbkit
from verbkit import done, ok, refused

DTYPES = ["<U3", ">U2", "U0", "S4", "V3", "M8[D]", "M8[Y]", "M8[M]", "M8[W]", "M8[5m]", "M8[ns]", ">M8[s]", "m8[s]", "m8[3D]", "m8", "g", "G",
          [("a", "i4"), ("b", "f8")], [("a", "U3")], [("a", "f4", (2, 2)), ("b", [("c", "M8[s]"), ("d", "?")]), ("e", "S3")], [("x", "U2", (2,))], [("o", ">i2")],
          np.dtype([("a", "i1"), ("b", "f8"), ("c", "c8"), ("d", "u1")], align=True), [("x y'\\", ">i4"), ("é", "g"), ("z", "V2")],
          {"names": ["a", "b"], "formats": ["i2", "i4"], "offsets": [2, 8], "itemsize": 16}]


def arrays():
    rng, made = np.random.default_rng(1), {}
    for i, given in enumerate(DTYPES):
        dtype = np.dtype(given)
        for shape in [(3,), (2, 3), (0,), ()]:
            a = np.zeros(shape, dtype)
            raw = a.reshape(-1).view(np.uint8) if dtype.itemsize and a.size else None
            if dtype.kind == "U" and dtype.itemsize:
                a[...] = "aé😀"[:dtype.itemsize // 4]
            elif dtype.kind in "gc" or dtype.char in "gG":
                a[...] = np.longdouble("0.1")
            elif dtype.names is None and raw is not None:
                raw[...] = rng.integers(0, 100, raw.size)
            elif dtype.names:
                for name in dtype.names:
                    part = a[name]
                    part[...] = "x" if part.dtype.kind in "US" else part if part.dtype.kind == "V" else np.ones(part.shape, np.int64).astype(part.dtype)
            made[f"{i} {len(shape)}{'e' if shape == (0,) else ''}"] = a
    made["fortran"] = np.asfortranarray(np.array([["a", "b", "c"], ["d", "e", "f"]]))
    made["every second"] = np.array(["a", "b", "c", "d"])[::2]
    return made


def stored():
    """As torch.load gives them: NumPy brings some into this machine's order when it pickles them."""
    buffer = io.BytesIO()
    torch.save(arrays(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def plain(dtype):
    """As its description says it: without titles, and padding as fields without a name."""
    return np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))


def same(got, want):
    return isinstance(got, np.ndarray) and got.shape == want.shape and plain(got.dtype) == plain(want.dtype) and \
        (got.tobytes() == want.tobytes() if want.dtype.names is None else np.array_equal(got, want.astype(got.dtype)))


def compare(what, path, names, load):
    want, got = stored(), load(path)
    wrong = [f"{name} {want[name].dtype} {want[name].shape}: {got.get(name)!r}" for name in names if not same(got.get(name), want[name])]
    ok(not wrong and len(names) > 0, f"{what}: {len(names)} arrays are what they were", "\n".join(wrong))


def load(path):
    return torch.load(path, weights_only=False)


def files(top):
    a, b = os.path.join(top, "a.pt"), os.path.join(top, "b.pt")
    want = arrays()
    torch.save({"in": want}, a)
    done("new", b)
    done("cp", a + ":in", b + ":")
    compare("a mapping copied", b, list(want), lambda p: load(p)["in"])
    done("cp", "-T", a, "in", "again")
    compare("copied within the checkpoint", a, list(want), lambda p: load(p)["again"])
    torch.save({"in": {name: 5 for name in want}}, b)
    done("cp", a + ":in", b + ":")
    compare("over ints", b, list(want), lambda p: load(p)["in"])
    torch.save({"in": {name: torch.zeros(3) for name in want}}, b)
    done("cp", a + ":in", b + ":")
    compare("over tensors", b, list(want), lambda p: load(p)["in"])
    torch.save({"x": torch.zeros(1)}, b, _use_new_zipfile_serialization=False)
    done("cp", a + ":in/.", b + ":")
    compare("into a file of the legacy format", b, list(want), load)
    with open(b, "wb") as f:
        pickle.dump({"x": np.zeros(1)}, f)
    done("cp", a + ":in/.", b + ":")
    with open(b, "rb") as f:
        got = pickle.load(f)
    compare("into a pickle", b, list(want), lambda p: got)
    flat = os.path.join(top, "new.safetensors")
    done("new", flat)
    for name in ("0 1", "5 2", "17 1", "15 1"):
        refused("safetensors", "cp", a + ":in/" + name, flat + ":x")
    torch.save({"o": np.array([1, "x", None], dtype=object)}, a)
    refused("not copied", "cp", a, "o", "o2")


def mounted(top):
    """By wfctl, and by cp -a, which sets the attributes that it finds."""
    a, b, at = os.path.join(top, "a.pt"), os.path.join(top, "b.pt"), os.path.join(top, "mnt")
    want = {name: x for name, x in arrays().items() if name != "every second"}
    torch.save({"in": want}, a)
    torch.save({}, b)
    done("mount", b, at)
    done("cp", "--from", a, "--to", at, "in", "verb")
    with tempfile.TemporaryDirectory(dir=top) as source:
        done("mount", a, source)
        subprocess.run(["cp", "-a", source + "/in", at + "/tool"], check=True)
        done("umount", source)
    subprocess.run(["sync", at], check=True)
    done("umount", at)
    compare("wfctl cp to a mount", b, list(want), lambda p: load(p)["verb"])
    compare("cp -a between mounts", b, list(want), lambda p: load(p)["tool"])


with tempfile.TemporaryDirectory(prefix="weightfs-arrays-") as base:
    files(base)
    if os.access("/dev/fuse", os.W_OK) and shutil.which("fusermount3"):
        mounted(base)
    else:
        verbkit.tap.skip("arrays on a mount", "/dev/fuse is missing")
verbkit.tap.done()
