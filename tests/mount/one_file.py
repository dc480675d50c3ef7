#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""After a commit names are one file where a new opening of the checkpoint shows one: two names of a plain value are two values, and views that
attributes made identical are ties. What is edited then is the same after a kill as before it, and as in what the next commit writes.

Usage: one_file.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()
VALUES = {"int": 5, "float": 0.5, "flag": True, "none": None, "str": "word", "list": [1, 2], "bytes": b"xy"}


def state(w, names):
    return {n: (read(f"{w.mnt}/{n}"), os.stat(f"{w.mnt}/{n}").st_nlink, [m for m in names if os.path.samefile(f"{w.mnt}/{n}", f"{w.mnt}/{m}")]) for n in names}


def judged(w, names, what):
    """The mount, after a kill, and a new opening of what is committed, say the same."""
    now = state(w, names)
    run("sync", w.mnt)
    w.crash()
    same(state(w, names), now, f"{what}: after a kill")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, f"{what}: committed")
    w.mount()
    same(state(w, names), now, f"{what}: opened again")


def values(w):
    save(w.file, {**VALUES, "d": {"x": 1}})
    w.mount()
    names = [n for k in VALUES for n in (k, f"{k}.2", f"d/{k}.3")]
    for k in VALUES:
        os.link(f"{w.mnt}/{k}", f"{w.mnt}/{k}.2")
        os.link(f"{w.mnt}/{k}", f"{w.mnt}/d/{k}.3")
        os.link(f"{w.mnt}/{k}", f"{w.mnt}/{k}~")  # a scratch name stays one of the key
    same([os.stat(f"{w.mnt}/{k}").st_nlink for k in VALUES], [4] * len(VALUES), "ln makes one file")
    with open(f"{w.mnt}/int") as held:
        same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commit")
        same(held.read(), "5\n", "who has it open reads on")
    same([[os.path.samefile(f"{w.mnt}/{k}", f"{w.mnt}/{n}") for n in (f"{k}.2", f"d/{k}.3", f"{k}~")] for k in VALUES], [[False, False, True]] * len(VALUES), "each key has its own value, and the scratch name is the key's")
    for k, text in {"int": "6\n", "float": "1.5\n", "flag": "false\n", "none": "8\n", "str": "other", "list": "[3]\n", "bytes": "z"}.items():
        write(f"{w.mnt}/{k}.2", text.encode())
    same([read(f"{w.mnt}/{n}") for n in ("int", "int.2", "d/int.3")], [b"5\n", b"6\n", b"5\n"], "a write changes one of them")
    for k in VALUES:
        os.unlink(f"{w.mnt}/{k}~")
    judged(w, names, "values")
    w.umount()


def views(w):
    base, other = Tensor("float32", (4,), floats(4)), Tensor("float32", (4,), floats(4, 9))

    def view(*shape):
        return Tensor("float32", shape, None, storage=base.storage)

    save(w.file, {"a": base, "b": view(2, 2), "c": view(1, 4), "d": {"e": view(4, 1)}, "other": other})
    w.mount()
    names = ["a", "b", "c", "d/e", "other"]
    for n in names[:4]:
        os.setxattr(f"{w.mnt}/{n}", "user.torch.shape", b"[4]")
    held = os.open(f"{w.mnt}/b", os.O_RDWR)
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commit")
    same([os.stat(f"{w.mnt}/{n}").st_nlink for n in names], [4, 4, 4, 4, 1], "identical views are ties")
    same(os.fstat(held).st_ino, os.stat(f"{w.mnt}/a").st_ino, "and are the file that somebody has open")
    os.pwrite(held, floats(1, 70), 0)
    os.close(held)
    same([read(f"{w.mnt}/{n}")[:4] for n in names], [floats(1, 70)] * 4 + [floats(1, 9)], "what is written shows in all")
    os.setxattr(f"{w.mnt}/c", "user.torch.shape", b"[2, 2]")
    judged(w, names, "views")
    w.umount()


with World(sys.argv[1], lambda path: None) as world:
    values(world)
with World(sys.argv[1], lambda path: None) as world:
    views(world)
done()
