#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""File handles, as NFS keeps them: a file is found again by number after the kernel has forgotten it, whatever was renamed or committed.

Each check drops the kernel's caches first (as root). Usage: handles.py BUILD_DIR. Prints TAP.
"""
import ctypes
import errno
import os
import struct
import sys

from kit import World, done, eventually, floats, need_fuse, ok, read, run, same, write
from kit import skip

need_fuse()
BUILD = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
MAX = 128


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * MAX)]


def fail():
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def handle_of(path):
    h, mount_id = Handle(bytes=MAX), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(h), ctypes.byref(mount_id), 0) < 0:
        fail()
    return h


def forget():
    """Dentries and inodes that nobody uses leave the kernel."""
    os.sync()
    for _ in range(2):
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2\n")


def open_handle(w, h, flags=os.O_RDONLY):
    forget()
    mount = os.open(w.mnt, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = libc.open_by_handle_at(mount, ctypes.byref(h), flags)
        if fd < 0:
            fail()
        return fd
    finally:
        os.close(mount)


def content(w, h):
    fd = open_handle(w, h)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def is_gone(w, h):
    try:
        os.close(open_handle(w, h))
        return False
    except OSError as e:
        return e.errno == errno.ESTALE


def answers(w, h, what):
    try:
        return content(w, h) and ok(False, what, "it is there")
    except OSError as e:
        return same(e.errno, errno.ESTALE, what)


def place(w, h):
    """Where the kernel believes that it is, below the mount."""
    fd = open_handle(w, h)
    try:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), w.mnt)
    finally:
        os.close(fd)


def found_again(w, options):
    w.mount(*options)
    names = {"fc.weight": floats(6), "tied": floats(2, 10), "epoch": b"3\n", "opt/lr": b"0.1\n"}
    handles = {n: handle_of(f"{w.mnt}/{n}") for n in names}
    same({n: content(w, h) for n, h in handles.items()}, names, "files are found by their handles")
    sub, status = handle_of(f"{w.mnt}/opt"), handle_of(f"{w.mnt}/.weightfs/globals")
    same(place(w, sub), "opt", "a directory, with its place")
    fd = open_handle(w, sub)
    up = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    same((os.listdir(fd), os.fstat(up).st_ino, os.path.samestat(os.fstat(up), os.stat(w.mnt))), (["lr"], 1, True), "and the one above it")
    os.close(fd)
    os.close(up)
    ok(b"collections" in content(w, status), "a text of .weightfs")
    same(content(w, handles["fc.weight"]), floats(6), "the root is the same afterwards")
    return handles


def edits(w):
    handles = found_again(w, ())
    sub = handle_of(f"{w.mnt}/opt")
    fd = open_handle(w, handles["fc.weight"], os.O_RDWR)
    os.pwrite(fd, floats(1, 70), 0)
    os.close(fd)
    same(read(f"{w.mnt}/fc.weight"), floats(1, 70) + floats(5, 1), "a write of the same size through a handle")
    os.rename(f"{w.mnt}/fc.weight", f"{w.mnt}/weight")
    os.rename(f"{w.mnt}/opt", f"{w.mnt}/optimizer")
    same((content(w, handles["fc.weight"])[:4], place(w, sub)), (floats(1, 70), "optimizer"), "renamed: the same file, the new name")
    write(f"{w.mnt}/new", floats(2))
    handles["new"] = handle_of(f"{w.mnt}/new")
    numbers = {n: os.stat(f"{w.mnt}/{n}").st_ino for n in ("weight", "tied", "epoch", "optimizer", "new")}
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 0, "a commit", r)
    forget()
    same({n: os.stat(f"{w.mnt}/{n}").st_ino for n in numbers}, numbers, "numbers survive it")
    same([content(w, handles[n])[:4] for n in ("fc.weight", "new", "epoch")], [floats(1, 70), floats(1), b"3\n"], "and handles")
    os.unlink(f"{w.mnt}/new")
    eventually(lambda: is_gone(w, handles["new"]))
    answers(w, handles["new"], "a removed file is gone for its handle, too")
    os.unlink(f"{w.mnt}/fc.bias")
    same(content(w, handles["tied"]), floats(2, 10), "of two names one is enough")
    old = handles["epoch"]
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "unmounts", r)
    w.mount()
    answers(w, old, "a handle of a file that a commit has changed since then finds nothing in a new mount")
    w.umount()


def mounts(w):
    handles = found_again(w, ("-o", "ro"))
    w.umount()
    w.mount("-o", "ro")
    same(content(w, handles["opt/lr"]), b"0.1\n", "a handle is good in the next mount of the same file")
    w.umount()


if os.geteuid() != 0:
    skip("handles", "open_by_handle_at is for root")
else:
    for case in (edits, mounts):
        with World(BUILD) as world:
            print(f"# {case.__name__}", flush=True)
            case(world)
    with open("/proc/filesystems") as f:
        if "nfsd" not in f.read():
            skip("over a kernel NFS server", "this kernel has no nfsd; it finds files by the same handles")
done()
