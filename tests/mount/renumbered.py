#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""After a commit the mount shows what it showed, while the checkpoint that it goes on from, read anew, would show another
tree: elements of lists have other numbers, a list without tensors is a text, a shared container has its place elsewhere.
Names mean the right file all the same, at once and when the log of what follows is replayed.

Usage: renumbered.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()


def one(value):
    return Tensor("float32", (1,), floats(1, value))


def lists(path):
    save(path, OrderedDict([("l", [one(0), one(1), one(2), 5, one(4)]), ("w", one(9)), ("short", [one(7), 3])]))


def listed(mnt, where):
    return {name: read(f"{mnt}/{where}/{name}") for name in os.listdir(f"{mnt}/{where}")}


with World(sys.argv[1], lists) as w:
    w.mount()
    listed(w.mnt, "l")  # the kernel knows every name
    os.rename(f"{w.mnt}/w", f"{w.mnt}/l/5")
    os.unlink(f"{w.mnt}/l/0")
    os.unlink(f"{w.mnt}/l/2")
    ok(not os.path.exists(f"{w.mnt}/l/0"), "a removed element is gone, and leaves its number to nobody")
    same(sorted(listed(w.mnt, "l")), ["1", "3", "4", "5"], "until the commit")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    wanted = {"0": floats(1, 1), "1": b"5\n", "2": floats(1, 4), "3": floats(1, 9)}
    same({name: read(f"{w.mnt}/l/{name}") for name in wanted}, wanted, "the numbers that follow are looked up again")
    same(listed(w.mnt, "l"), wanted, "and listed")
    for name in ("4", "5"):
        ok(not os.path.exists(f"{w.mnt}/l/{name}"), "a number that is free is nobody's file")
    write(f"{w.mnt}/l/4", floats(1, 50))
    os.setxattr(f"{w.mnt}/l/4", "user.torch.dtype", b"float32")
    write(f"{w.mnt}/l/0", floats(1, 60))
    wanted |= {"4": floats(1, 50), "0": floats(1, 60)}
    same(listed(w.mnt, "l"), wanted, "a new element is a new one")
    run("sync", w.mnt)
    w.crash()
    same(listed(w.mnt, "l"), wanted, "after a kill, too")
    w.umount()
    w.mount("-o", "ro")
    same(listed(w.mnt, "l"), wanted, "and in the checkpoint")
    w.umount()

with World(sys.argv[1], lists) as w:
    w.mount()
    os.unlink(f"{w.mnt}/short/0")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits a list that lost its last tensor")
    write(f"{w.mnt}/short/0", b"4\n")
    write(f"{w.mnt}/short/1", floats(1, 8))
    wanted = {"0": b"4\n", "1": floats(1, 8)}
    same(listed(w.mnt, "short"), wanted, "it can still be edited as a directory")
    run("sync", w.mnt)
    w.crash()
    same(listed(w.mnt, "short"), wanted, "as which a replay finds it")
    os.unlink(f"{w.mnt}/short/1")
    same(w.umount().returncode, 0, "unmounts")
    w.mount("-o", "ro")
    same(read(f"{w.mnt}/short"), b"[4]\n", "read anew it is a text")
    w.umount()


def shared(path):
    both = {"x": 1, "t": one(3)}
    save(path, OrderedDict([("sub", {"k": 0}), ("a", both), ("b", both)]))


with World(sys.argv[1], shared) as w:
    w.mount()
    os.rename(f"{w.mnt}/a", f"{w.mnt}/sub/z")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits a shared container in another place")
    place, other = ("b", "sub/z") if os.path.islink(f"{w.mnt}/sub/z") else ("sub/z", "b")
    write(f"{w.mnt}/{place}/x", b"2\n")
    os.rename(f"{w.mnt}/{place}/t", f"{w.mnt}/{place}/u")
    os.unlink(f"{w.mnt}/{other}")
    write(f"{w.mnt}/sub/k", b"7\n")
    run("sync", w.mnt)
    w.crash()
    same((read(f"{w.mnt}/{place}/x"), read(f"{w.mnt}/{place}/u"), read(f"{w.mnt}/sub/k"), os.path.lexists(f"{w.mnt}/{other}")),
         (b"2\n", floats(1, 3), b"7\n", False), "edits through the place that is a link for a new reader, and the removal of the other")
    w.umount()


def on_a_small_disk(path):
    at = os.path.dirname(path)
    r = run("mount", "-t", "tmpfs", "-o", "size=1m", "weightfs-test", at)
    if r.returncode != 0:
        print(f"# {r.stderr}")
        return
    os.mkdir(f"{at}/mnt")
    save(path, OrderedDict([("l", [one(0), one(1), one(2)]), ("big", Tensor("uint8", (700000,), bytes(700000)))]))


with World(sys.argv[1], on_a_small_disk) as w:
    w.mount("-o", "commit=replace")
    os.unlink(f"{w.mnt}/l/0")
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode != 0 and "No space" in r.stderr, "a commit that fails", r)
    before = listed(w.mnt, "l")
    same(set(before.values()), {floats(1, 1), floats(1, 2)}, "leaves the list as it was")
    first = sorted(before)[0]
    write(f"{w.mnt}/l/{first}", floats(1, 70))
    wanted = before | {first: floats(1, 70)}
    run("sync", w.mnt)
    w.crash()
    same(listed(w.mnt, "l"), wanted, "and what is edited after it is replayed by the names that it had")
    os.unlink(f"{w.mnt}/big")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "commits once there is room")
done()
