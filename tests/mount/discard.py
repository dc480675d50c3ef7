#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl discard on a mount: the edits are gone, in the tree, in the kernel's caches and beside the checkpoint.

Usage: discard.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys

from kit import World, done, floats, need_fuse, ok, read, run, same, write

need_fuse()


def tree(mnt):
    """Everything below a mount: name -> content, or target, or None for a directory."""
    found = {}
    for where, directories, files in os.walk(mnt):
        for name in directories + files:
            path = os.path.join(where, name)
            found[os.path.relpath(path, mnt)] = os.readlink(path) if os.path.islink(path) else \
                None if os.path.isdir(path) else read(path)
    return found


def edit(mnt):
    os.rename(f"{mnt}/fc.weight", f"{mnt}/head.weight")
    os.unlink(f"{mnt}/fc.bias")
    write(f"{mnt}/epoch", b"11\n")
    os.mkdir(f"{mnt}/new")
    write(f"{mnt}/new/x", floats(3))
    os.rename(f"{mnt}/opt", f"{mnt}/new/opt")
    with open(f"{mnt}/row", "r+b") as f:
        f.write(b"abcd")
    write(f"{mnt}/scratch~", b"of an editor")


def discarded(w, options):
    w.mount(*options)
    before, names = tree(w.mnt), os.listdir(w.mnt)
    for i in range(3):
        edit(w.mnt)
        if i == 1:
            run("sync", w.mnt)
        same(os.path.exists(f"{w.mnt}/fc.weight"), False, "an edit is seen")
        r = run(w.wfctl, "discard", w.mnt)
        ok(r.returncode == 0 and not r.stderr, "discarded", r)
        same((tree(w.mnt), os.listdir(w.mnt)), (before, names), "the tree is what the file says")
        same((w.status()["dirty"], w.status()["pending"]["edits"]), (False, 0), "nothing is pending")
    edit(w.mnt)
    run("sync", w.mnt)
    with open(f"{w.mnt}/tied", "rb"):
        r = run(w.wfctl, "discard", w.mnt)
        ok(r.returncode == 1 and "open" in r.stderr and r.stderr.count("\n") == 1, "not while a file is open", r)
        same(read(f"{w.mnt}/epoch"), b"11\n", "the edits are there")
    run(w.wfctl, "discard", w.mnt)
    w.crash(*options)
    same(tree(w.mnt), before, "a kill after it brings nothing back")
    write(f"{w.mnt}/epoch", b"12\n")
    run(w.wfctl, "commit", w.mnt)
    write(f"{w.mnt}/epoch", b"13\n")
    run(w.wfctl, "discard", w.mnt)
    same(read(f"{w.mnt}/epoch"), b"12\n", "what was committed stays")
    os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")
    w.umount()
    w.mount("-o", "ro")
    same({**before, "era": b"12\n", "epoch": 0}, {**tree(w.mnt), "epoch": 0}, "edits go on as usual, and are committed")
    r = run(w.wfctl, "discard", w.mnt)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1, "a read-only mount has none", r)
    w.umount()
    same(os.path.exists(w.file + ".weightfs"), False, "nothing is left beside the checkpoint")


for options in ((), ("-s",), ("-o", "map_location=cpu")):
    with World(sys.argv[1]) as world:
        print(f"# {' '.join(options)}")
        discarded(world, options)
done()
