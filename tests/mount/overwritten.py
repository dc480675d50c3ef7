#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What was written inside of a tensor before content that does not fit, or a write that failed: the old bytes are back at the close,
under all names, whatever the tensor is and however its bytes came about; and they stay when nothing failed.

Usage: overwritten.py BUILD_DIRECTORY. Prints TAP.
"""
import errno
import os
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
LONG = 600000  # floats: more than one chunk of a copy


def make(path):
    base = Storage("float32", floats(24))
    save(path, OrderedDict([("plain", Tensor("float32", (4, 3), floats(12))), ("view", Tensor("float32", (4, 3), b"", storage=base)),
                            ("all", Tensor("float32", (8, 3), b"", storage=base)), ("turned", Tensor("float32", (4, 3), b"", storage=base, stride=(1, 4))),
                            ("scalar", Tensor("float32", (), floats(1, 5))), ("long", Tensor("float32", (LONG, 1), floats(LONG)))]))


def no_rows(fd):
    os.pwrite(fd, b"x" * 5, os.fstat(fd).st_size)


def cut(fd):
    os.ftruncate(fd, 7)


def too_far(fd):
    os.pwrite(fd, b"x", 1 << 62)


def judged_twice(fd):
    os.fsync(fd)
    os.pwrite(fd, b"y" * 4, 0)
    no_rows(fd)



ENDS = (no_rows, cut, too_far, judged_twice)
KINDS = ("plain", "view", "turned", "scalar")


def everything(w):
    return {n: read(f"{w.mnt}/{n}") for n in os.listdir(w.mnt)}


def attempt(call, *args):
    try:
        call(*args)
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]


def overwrite(path, end, content=b"\7" * 4, at=0):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, content, at)
    said = [attempt(end, fd)]
    return said + [attempt(os.close, fd)]


def refused(w, what):
    before, bad = everything(w), []
    for name in KINDS:
        for end in ENDS:
            said = overwrite(f"{w.mnt}/{name}", end)
            if everything(w) != before or not {"EINVAL", "EFBIG"} & set(said):
                bad.append((name, end.__name__, said))
    same(bad, [], f"what was overwritten is back after a refusal: {what}")


with World(sys.argv[1], make) as w:
    w.mount()
    refused(w, "bytes of the checkpoint")
    for name in KINDS:
        content = read(f"{w.mnt}/{name}")
        same(overwrite(f"{w.mnt}/{name}", os.fsync, b"\3" * 4), ["done", "done"], f"{name}: written inside")
        same(read(f"{w.mnt}/{name}"), b"\3" * 4 + content[4:], "which stays")
    refused(w, "bytes of an edit")
    now = everything(w)
    run("sync", w.mnt)
    w.crash()
    same(everything(w), now, "a kill brings back neither")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    refused(w, "bytes of a commit")

    whole = read(f"{w.mnt}/long")
    same((overwrite(f"{w.mnt}/long", no_rows, b"\5" * len(whole)), read(f"{w.mnt}/long") == whole), (["done", "EINVAL"], True), "a long tensor")
    write(f"{w.mnt}/long", whole[::-1])
    overwrite(f"{w.mnt}/long", os.fsync, b"\6" * 40000, 5000)
    edited = read(f"{w.mnt}/long")
    same((overwrite(f"{w.mnt}/long", no_rows, b"\5" * (len(whole) // 2), 1000), read(f"{w.mnt}/long") == edited), (["done", "EINVAL"], True),
         "half of one that is edited in pieces")

    tools = [(["dd", "if=/dev/zero", f"of={w.mnt}/plain", "bs=50", "count=1", "conv=notrunc"], 1),
             (["rsync", "--inplace", f"{w.dir}/odd", f"{w.mnt}/plain"], None), (["sh", "-c", f"printf 0123456789 1<>{w.mnt}/plain >>{w.mnt}/plain"], None)]
    write(f"{w.dir}/odd", b"z" * 50)
    before = everything(w)
    for command, code in tools:
        r = run(*command)
        ok(everything(w) == before and (code is None or r.returncode == code), f"{command[0]}: nothing changed", r)

    fd, other = os.open(f"{w.mnt}/plain", os.O_RDWR), os.open(f"{w.mnt}/plain", os.O_RDONLY)
    os.pwrite(fd, b"\1" * 8, 0)
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "a commit in the middle takes what is there")
    os.pwrite(fd, b"\2" * 8, 8)
    no_rows(fd)
    same((attempt(os.close, fd), os.pread(other, 48, 0)), ("EINVAL", b"\1" * 8 + before["plain"][8:]), "and is what a refusal goes back to")
    os.close(other)
    a = os.open(f"{w.mnt}/plain", os.O_RDWR)
    os.pwrite(a, b"\4" * 4, 0)
    same(attempt(os.close, a), "done", "written and closed")
    now = everything(w)
    same((overwrite(f"{w.mnt}/plain", no_rows), everything(w) == now), (["done", "EINVAL"], True), "the next opening takes nothing of that back")
    now = everything(w)
    same((run(w.wfctl, "umount", w.mnt).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "unmounts")
    w.mount("-o", "ro")
    same(everything(w) == now, True, "as it was shown")
    w.umount()
done()
