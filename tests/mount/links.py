#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A container with several names is a directory under one and a link under the others, whichever the edits leave.

Usage: links.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()


def make(path):
    both, none = {"x": 1, "t": Tensor("float32", (1,), floats(1))}, {}
    pair = (Tensor("float32", (2,), floats(2, 5)), 7, {"k": 0})
    save(path, OrderedDict([("a", both), ("b", both), ("sub", {"again": both}), ("empty", none), ("void", none), ("pair", pair),
                            ("pairs", [pair, (pair, 3)]), ("w", Tensor("float32", (1,), floats(1, 9)))]))


with World(sys.argv[1], make) as w:
    w.mount()
    same((os.readlink(f"{w.mnt}/b"), os.readlink(f"{w.mnt}/sub/again")), ("a", "../a"), "links say where the container is")
    os.rename(f"{w.mnt}/a", f"{w.mnt}/moved")
    same((os.readlink(f"{w.mnt}/b"), os.readlink(f"{w.mnt}/sub/again"), read(f"{w.mnt}/b/x")), ("moved", "../moved", b"1\n"),
         "and follow it at once")
    os.rename(f"{w.mnt}/sub", f"{w.mnt}/below")
    os.rename(f"{w.mnt}/moved", f"{w.mnt}/below/deep")
    same((os.readlink(f"{w.mnt}/b"), os.readlink(f"{w.mnt}/below/again")), ("below/deep", "deep"), "into another directory, too")
    same(os.readlink(f"{w.mnt}/void"), "empty", "an empty container with two names")
    run("rmdir", f"{w.mnt}/empty")
    same((os.path.islink(f"{w.mnt}/void"), os.listdir(f"{w.mnt}/void")), (False, []), "is a directory where it is left")
    write(f"{w.mnt}/void/new", b"1")
    same(read(f"{w.mnt}/void/new"), b"1", "which takes entries")
    w.umount()

with World(sys.argv[1], make) as w:
    w.mount()
    same(os.readlink(f"{w.mnt}/b"), "a", "the link of a directory")
    os.rename(f"{w.mnt}/a", f"{w.mnt}/a~")
    same((os.path.islink(f"{w.mnt}/b"), os.readlink(f"{w.mnt}/a~"), os.readlink(f"{w.mnt}/sub/again")), (False, "b", "../b"),
         "that went to a scratch name is the directory: it is in the checkpoint")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    write(f"{w.mnt}/b/x", b"2\n")
    run("sync", w.mnt)
    w.crash()
    same((read(f"{w.mnt}/b/x"), read(f"{w.mnt}/a~/x"), os.readlink(f"{w.mnt}/a~")), (b"2\n", b"2\n", "b"),
         "and the other still a link after a kill")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    write(f"{w.mnt}/a~/x", b"3\n")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "unmounts")
    w.mount("-o", "ro")
    same((os.listdir(w.mnt)[0], read(f"{w.mnt}/b/x"), read(f"{w.mnt}/sub/again/x")), ("b", b"3\n", b"3\n"),
         "an edit through the scratch name is one of the checkpoint")
    w.umount()

with World(sys.argv[1], make) as w:
    w.mount()
    write(f"{w.mnt}/pair/1", b"8\n")
    os.setxattr(f"{w.mnt}/pair/0", "user.torch.shape", b"[2, 1]")
    same((read(f"{w.mnt}/pairs/0/1"), read(f"{w.mnt}/pairs/1/0/1")), (b"8\n", b"8\n"), "an edit in a tuple with three names")
    w.umount()
    w.mount("-o", "ro")
    same(([os.path.islink(f"{w.mnt}/{p}") for p in ("pair", "pairs/0", "pairs/1/0")], read(f"{w.mnt}/pair/1"),
          os.getxattr(f"{w.mnt}/pair/0", "user.torch.shape")), ([False, True, True], b"8\n", b"[2, 1]"),
         "leaves it one tuple in the checkpoint")
    w.umount()
done()
