#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl discard on a mount: the edits are gone, in the tree, in the kernel's caches and beside the checkpoint.

Usage: discard.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys
import threading

from kit import World, done, floats, need_fuse, ok, read, run, same, skip, write

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


def command(w, name):
    """The errno of writing to one of .weightfs, or 0."""
    fd = os.open(f"{w.mnt}/.weightfs/{name}", os.O_WRONLY)
    try:
        os.write(fd, b"1")
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)


def waits(thread):
    """Whether it has written something that the daemon has not answered."""
    try:
        return b"vfs_write" in (stack := read(f"/proc/self/task/{thread}/stack")) and b"request_wait" in stack
    except OSError:
        return False


def while_it_waits(action, opened):
    """What the action gives when what opened() has opened is closed while a request of its is on its way. A machine under load can be late: there are three tries."""
    for _ in range(3):
        result, held = [], opened()
        t = threading.Thread(target=lambda: result.append(action()))
        t.start()
        while t.is_alive() and not waits(t.native_id):
            pass
        os.close(held)
        t.join()
        if result == [0]:
            break
    return result[0]


def touched(path):
    """A new file, closed but for a copy of its descriptor, which is returned."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.close(os.dup(fd))
    return fd


def closing(w, options):
    """The kernel tells of a last close when close has returned. Here it comes while a request waits that needs the file closed."""
    w.mount(*options)
    edited = {"a reader": ("epoch", os.O_RDONLY), "a writer": ("row", os.O_RDWR), "an array": (".weightfs/npy/row.npy", os.O_RDWR), "all places": (".weightfs/tensors.json", os.O_RDONLY)}
    for what, (name, flags) in edited.items():
        for verb in ("discard", "commit"):
            write(f"{w.mnt}/epoch", b"11\n")
            got = while_it_waits(lambda: command(w, verb), lambda: os.open(f"{w.mnt}/{name}", flags))
            same((got, w.status()["dirty"]), (0, False), f"{verb} when {what} closes")
    got = while_it_waits(lambda: command(w, "commit"), lambda: touched(f"{w.mnt}/empty"))
    same((got, w.status()["dirty"]), (0, False), "a commit when a new file without content closes: it is in it")
    w.umount()


for options in ((), ("-s",), ("-o", "map_location=cpu")):
    with World(sys.argv[1]) as world:
        print(f"# {' '.join(options)}")
        discarded(world, options)
if os.geteuid() == 0:
    for options in ((), ("-o", "commit=append")):
        with World(sys.argv[1]) as world:
            closing(world, options)
else:
    skip("what closes while a request waits", "only root sees that one waits")
done()
