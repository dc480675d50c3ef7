#!/usr/bin/env python3
"""Entries under a scratch name, which no commit writes, outlive a commit and then a kill: values, links and mappings as well as tensors.

Usage: scratch.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same
from minicheckpoint import Tensor, save

need_fuse()
MOVED = ("epoch", "name", "betas", "again", "d", "t")


def make(path):
    shared = {"lr": 0.1}
    save(path, OrderedDict([("w", Tensor("float32", (2,), floats(2))), ("epoch", 3), ("name", "x" * 70000), ("betas", (0.9, 0.999)),
                            ("opt", shared), ("again", shared), ("d", {"k": 1, "t": Tensor("float32", (2,), floats(2, 5))}),
                            ("t", Tensor("float32", (1, 3), floats(3, 7)))]))


def shown(mnt):
    return {"names": os.listdir(mnt), "epoch": read(f"{mnt}/epoch"), "name": read(f"{mnt}/name"), "betas": read(f"{mnt}/betas"),
            "class": os.getxattr(f"{mnt}/betas", "user.torch.class"), "again": os.readlink(f"{mnt}/again"), "d": os.listdir(f"{mnt}/d"),
            "d/t": read(f"{mnt}/d/t"), "t": read(f"{mnt}/t"), "shape": os.getxattr(f"{mnt}/t", "user.torch.shape")}


with World(sys.argv[1], make) as w:
    w.mount()
    for name in MOVED:
        os.rename(f"{w.mnt}/{name}", f"{w.mnt}/{name}~")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    for name in MOVED:
        os.rename(f"{w.mnt}/{name}~", f"{w.mnt}/{name}")
    os.rename(f"{w.mnt}/w", f"{w.mnt}/last")
    before = shown(w.mnt)
    same(before["names"], ["last", "opt", *MOVED], "what was moved back is there again")
    run("sync", w.mnt)
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)
    r = w.mount()
    ok(r.returncode == 0 and not r.stderr, "mounts after a kill", r)
    same(shown(w.mnt), before, "everything is there, and what was edited last")
    same((run(w.wfctl, "umount", w.mnt).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "commits")
    w.mount("-o", "ro")
    same(shown(w.mnt), before, "and the checkpoint has it")
    w.umount()
done()
