#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checkpoints whose pickle cannot be written anew with the same meaning: bytes of tensors are edited, the pickle is copied byte for byte,
and whatever would change it is refused when it is tried, with the reason in the log. Judged by torch.load.

Usage: test_verbatim.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import copyreg
import errno
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "mount"), os.path.join(HERE, "..", "files")]
from kit import World, done, error_of, need_fuse, ok, read, run, same, write  # noqa: E402

need_fuse()

from craft import call, checkpoint, dictionary, get, glob, integer, legacy, storage, tensor, text, zip_file  # noqa: E402
from judge import load  # noqa: E402

copyreg.add_extension("collections", "OrderedDict", 240)


def put(index):
    return b"q" + bytes([index])


ORDERED = glob("collections", "OrderedDict")
EMPTY_LIST = b"]"


def apply(obj, state):
    obj.update(state)


# what the pickle says beside the tensors, and whether it can be written anew
KINDS = {
    # cloudpickle: a function that sets the state, whose result is dropped; the object is used again right behind it
    "a state setter": (False, [("x", ORDERED + b")R" + put(200) + glob("__main__", "apply") + get(200) +
                                dictionary((text("a"), integer(1))) + b"\x86R0"), ("y", get(200))]),
    # dill: calls made for what they do, after all
    "a call for its effect": (False, [("x", ORDERED + b")R" + put(200) + glob("operator", "setitem") + get(200) + text("k") + integer(3) +
                                       b"\x87R00" + get(200))]),
    "an argument that is filled later": (False, [("x", EMPTY_LIST + put(200) + b"0" + call(glob("__builtin__", "tuple"), get(200))),
                                                 ("y", get(200) + integer(5) + b"a")]),
    "an object that is filled later": (False, [("x", ORDERED + b")R" + put(200) + b"0" + call(glob("__builtin__", "len"), get(200))),
                                               ("y", get(200) + text("k") + integer(5) + b"s")]),
    "a list and items in turn": (True, [("x", ORDERED + b")R" + text("k") + integer(5) + b"s" + text("j") + integer(6) + b"s")]),
    "copyreg's extensions": (False, [("x", b"\x82\xf0)R")]),
    "protocols in turn": (False, [("x", b"\x80\x04" + text("a") + b"\x80\x02")]),
    "a call left on the stack": (False, [("x", integer(1))]),
    "INST": (True, [("x", b"(icollections\nOrderedDict\n")]),
    "OBJ": (True, [("x", b"(" + glob("collections", "OrderedDict") + b"o")]),
    "a dropped list": (True, [("x", EMPTY_LIST + b"0" + integer(1))]),
    "calls that are shared": (True, [("x", ORDERED + b")R" + put(200)), ("y", get(200)), ("z", call(glob("__builtin__", "len"), get(200)))]),
    "a list with itself inside": (True, [("x", EMPTY_LIST + put(200) + get(200) + b"a")]),
}
W, V = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<3q", 7, 8, 9)
NEW_V = struct.pack("<3q", 70, 80, 90)


def make(path, kind, items, legacy_stream):
    expression = dictionary((text("w"), tensor(storage("Float", "0", 4), (2, 2))), (text("v"), tensor(storage("Long", "1", 3), (3,))),
                            (text("epoch"), integer(3)), *((text(k), v) for k, v in items))
    if kind == "a call left on the stack":
        expression = call(glob("collections", "OrderedDict")) + expression
    if legacy_stream:
        expression = expression.replace(text("cpu") + integer(4) + b"t", text("cpu") + integer(4) + b"Nt").replace(
            text("cpu") + integer(3) + b"t", text("cpu") + integer(3) + b"Nt")
        write(path, legacy(expression, [("0", 4, W), ("1", 3, V)]))
    else:
        write(path, zip_file(checkpoint(expression, [("0", W), ("1", V)])))


def shown(path):
    """What torch loads, but for the tensors' bytes."""
    obj = load(path)
    return {k: repr(v) for k, v in obj.items() if k not in ("w", "v")}, obj["w"].tolist(), obj["v"].tolist()


def pickle_of(path, legacy_stream):
    if legacy_stream:
        with open(path, "rb") as f:
            for _ in range(4):
                start = f.tell()
                list(pickletools.genops(f))
            return read(path)[start:f.tell()]
    with zipfile.ZipFile(path) as z:
        return z.read("archive/data.pkl")


def edit_bytes(w, legacy_stream, options):
    before, pkl = shown(w.file), pickle_of(w.file, legacy_stream)
    w.mount(*options)
    r = run("sh", "-c", "printf '\\0\\0\\200\\077' | dd of=mnt/w bs=4 seek=2 conv=notrunc status=none && cp v.bin mnt/v && "
            "printf ')rest' > mnt/.v.swp && rm mnt/.v.swp", cwd=w.dir)
    ok(r.returncode == 0, "  bytes are edited", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "  and committed", r)
    same(shown(w.file), (before[0], [[1.0, 2.0], [1.0, 4.0]], [70, 80, 90]), "  torch loads them, and the rest as before")
    return pickle_of(w.file, legacy_stream) == pkl


REFUSED = ["mv mnt/w mnt/weight", "rm mnt/v", "mkdir mnt/d", "echo 5 > mnt/n", "echo 4 > mnt/epoch", "ln mnt/w mnt/u", "rm -r mnt/x",
           "setfattr -n user.torch.shape -v '[4]' mnt/w", "setfattr -n user.torch.requires_grad -v true mnt/w", "cp w.bin mnt/v",
           "dd if=w.bin of=mnt/v bs=8 count=1 status=none", "truncate -s 8 mnt/w", "cp -a mnt/w mnt/copy",
           "cp v.bin mnt/.goutputstream-A && mv mnt/.goutputstream-A mnt/v", "echo 9 > mnt/.epoch.swp && mv mnt/.epoch.swp mnt/epoch"]


def refuse_the_rest(w):
    before = shown(w.file)
    w.mount()
    for command in REFUSED:
        r = run("sh", "-c", command, cwd=w.dir)
        ok(r.returncode != 0 and "not permitted" in r.stderr, f"  {command} is refused", r)
        log = read(f"{w.mnt}/.weightfs/log").decode().splitlines()
        ok("kept as it is" in "".join(log[-2:]), "    with the reason", log[-3:])
    r = run("setfattr", "-n", "user.torch.shape", "-v", "[2, 2]", f"{w.mnt}/w")
    ok(r.returncode == 0, "  an attribute that is there may be set", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and shown(w.file) == before, "  and the checkpoint is as it was", r)


def rewrite(w):
    before = shown(w.file)
    w.mount()
    r = run("sh", "-c", "mv mnt/w mnt/weight && mv mnt/weight mnt/w && echo 4 > mnt/epoch", cwd=w.dir)
    ok(r.returncode == 0, "  it can be written anew", r)
    r = run(w.wfctl, "umount", w.mnt)
    after = shown(w.file)
    ok(r.returncode == 0 and after == (dict(before[0], epoch="4"), before[1], before[2]), "  with the same meaning", (r, before, after))


# what is written into the arrays, and what they are then
ARRAY_WRITTEN = [("printf aaaa | dd of=mnt/a conv=notrunc status=none", "a", lambda a: b"aaaa" + a[4:]), ("cp zeroes mnt/big", "big", lambda a: bytes(40000)),
                 ("fallocate -z -o 4 -l 4 mnt/a", "a", lambda a: a[:4] + bytes(4) + a[8:]), ("fallocate -p -o 8 -l 4 mnt/a", "a", lambda a: a[:8] + bytes(4) + a[12:]),
                 ("python3 -c 'import mmap; f = open(\"mnt/a\", \"r+b\"); m = mmap.mmap(f.fileno(), 24); m[16:20] = b\"abcd\"; m.flush()'", "a",
                  lambda a: a[:16] + b"abcd" + a[20:]),
                 ("cp mnt/.weightfs/npy/a.npy a.npy && cp a.npy mnt/.weightfs/npy/a.npy", "a", lambda a: a)]
ARRAY_REFUSED = ["truncate -s 8 mnt/a", "cp zeroes mnt/a", "truncate -s +4 mnt/a", "fallocate -l 32 mnt/a", "setfattr -n user.torch.shape -v '[2, 3]' mnt/a"]

ARRAY_SIZES = [("a size that is less", 0, lambda fd: os.ftruncate(fd, 8)), ("more bytes", os.O_APPEND, lambda fd: os.write(fd, bytes(4))),
               ("other content", os.O_TRUNC, lambda fd: os.write(fd, bytes(16)))]


def arrays(w, protocol):
    """Bytes of an array are a part of the pickle, and are written over in it; whatever would make it another array is refused. The rest is in
    test_inside_pickle.py."""
    content = {"a": np.arange(6, dtype=np.float32), "big": np.arange(5000.0), "x": OrderedDict()}
    write(w.file, pickle.dumps(content, protocol))
    write(os.path.join(w.dir, "zeroes"), bytes(40000))
    are = {k: content[k].tobytes() for k in ("a", "big")}
    w.mount()
    for command, k, change in ARRAY_WRITTEN:
        r = run("sh", "-c", command, cwd=w.dir)
        are[k] = change(are[k])
        same((r.returncode, r.stderr, read(f"{w.mnt}/{k}")), (0, "", are[k]), f"  {command[:50]}")
    for command in ARRAY_REFUSED:
        r = run("sh", "-c", command, cwd=w.dir)
        ok(r.returncode != 0, f"  {command[:50]} is refused", r)
        same({k: read(f"{w.mnt}/{k}") for k in are}, are, "    and the arrays stay")
    for what, flags, change in ARRAY_SIZES:
        fd = os.open(f"{w.mnt}/a", os.O_WRONLY | flags)
        change(fd)
        # the last close comes when everybody has looked: it decides nothing any more
        same((error_of(lambda: os.close(os.dup(fd))), {k: read(f"{w.mnt}/{k}") for k in are}), (errno.EOPNOTSUPP, are), f"  {what} is refused when it is closed")
        os.close(fd)
    r = run(w.wfctl, "umount", w.mnt)
    loaded = pickle.loads(read(w.file))
    same((r.returncode, r.stderr, {k: loaded[k].tobytes() for k in are}, loaded["x"]), (0, "", are, OrderedDict()), "  committed, and nothing else")


with World(sys.argv[1], lambda path: None) as world:
    for number in (2, 3, 4, 5):
        ok(True, f"arrays inside a pickle of protocol {number}")
        arrays(world, number)
    write(os.path.join(world.dir, "v.bin"), NEW_V)
    write(os.path.join(world.dir, "w.bin"), W)
    for kind, (rewritable, items) in KINDS.items():
        for legacy_stream in (False, True):
            ok(True, f"{kind}, {'legacy' if legacy_stream else 'zip'}")
            make(world.file, kind, items, legacy_stream)
            kept = edit_bytes(world, legacy_stream, [] if legacy_stream or kind != "a state setter" else ["-o", "commit=append"])
            if rewritable:
                rewrite(world)
            else:
                ok(kept, "  the pickle is the same, byte for byte")
                refuse_the_rest(world)
done()
