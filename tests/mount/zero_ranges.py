#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fallocate(2): a range of zeroes is made without writing them, whatever the file is; and what statfs says.

The oracle is a bytearray. Usage: zero_ranges.py BUILD_DIR. Prints TAP.
"""
import ctypes
import errno
import os
import random
import sys
import time
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
BUILD = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
KEEP, PUNCH, ZERO = 1, 2, 16
TB = 1 << 40


def fallocate(path, mode, offset, length):
    fd = os.open(path, os.O_RDWR)
    try:
        if libc.fallocate(fd, mode, offset, length) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def checkpoint(path):
    base = Storage("float32", floats(64, 1))
    save(path, OrderedDict([("all", Tensor("float32", (8, 8), b"", storage=base)),
                            ("row", Tensor("float32", (8,), b"", storage=base, offset=16)),
                            ("columns", Tensor("float32", (8, 8), b"", storage=base, stride=(1, 8))),
                            ("own", Tensor("float32", (100,), floats(100, 1))), ("name", "a name")]))


def huge(w):
    big = f"{w.mnt}/big"
    write(big, b"start")
    began = time.monotonic()
    os.truncate(big, TB)
    fallocate(big, ZERO, 0, TB)
    fallocate(big, PUNCH | KEEP, 4096, TB // 2)
    fallocate(big, ZERO, TB, TB)
    fallocate(big, 0, 2 * TB, TB)
    took = time.monotonic() - began
    # each of them written out took an hour; half a minute is for a busy machine
    ok(took < 30, "zero ranges of terabytes take no time", f"{took:.3f} s")
    print(f"# {1000 * took:.1f} ms for five calls")
    overlay = f"{w.file}.weightfs/data"
    os.sync()
    room = sum(os.stat(f"{overlay}/{n}").st_blocks * 512 for n in os.listdir(overlay))
    ok(os.stat(big).st_size == 3 * TB and room < 1 << 20, "and no room", room)
    with open(big, "rb") as f:
        places = [0, 4096, TB - 10, TB, 2 * TB - 3, 3 * TB - 5]
        same([(f.seek(p), f.read(5))[1] for p in places], [bytes(5)] * len(places), "they read as zeroes")
    os.unlink(big)


def ranges(w):
    """Random ranges in all kinds of files, against bytearrays."""
    rng = random.Random(11)
    index = {"all": range(64), "row": range(16, 24), "columns": [i % 8 * 8 + i // 8 for i in range(64)]}
    base, own = bytearray(floats(64, 1)), bytearray(floats(100, 1))
    bad = []

    def shown():
        return {**{n: b"".join(bytes(base[4 * i:4 * i + 4]) for i in places) for n, places in index.items()}, "own": bytes(own)}

    for step in range(300):
        name = rng.choice(["all", "row", "columns", "own"])
        size = len(shown()[name])
        offset, length = rng.randrange(size), rng.randrange(1, size + 1)
        mode = rng.choice([ZERO | KEEP, PUNCH | KEEP])
        if step % 2:
            value = rng.randbytes(min(length, size - offset))
            with open(f"{w.mnt}/{name}", "r+b") as f:
                f.seek(offset)
                f.write(value)
        else:
            fallocate(f"{w.mnt}/{name}", mode, offset, length)
            value = bytes(min(length, size - offset))
        for k, byte in enumerate(value):
            at = offset + k
            if name == "own":
                own[at] = byte
            else:
                base[4 * index[name][at // 4] + at % 4] = byte
        now = {n: read(f"{w.mnt}/{n}") for n in index} | {"own": read(f"{w.mnt}/own")}
        if now != shown():
            bad.append((step, name, offset, length))
            break
    same(bad, [], "300 ranges and writes in views of one storage and a tensor of its own")
    fallocate(f"{w.mnt}/own", ZERO, 390, 22)  # three rows more: a size that is no whole number of rows is refused
    own[390:] = bytes(22)
    same(read(f"{w.mnt}/own"), bytes(own), "a range past the end makes it longer")
    try:
        fallocate(f"{w.mnt}/own", 8, 0, 4)  # FALLOC_FL_COLLAPSE_RANGE
        ok(False, "collapsing a range is refused")
    except OSError as e:
        same(e.errno, errno.EOPNOTSUPP, "collapsing a range is refused")
    fd = os.open(f"{w.mnt}", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    before = shown()
    w.crash()
    same({n: read(f"{w.mnt}/{n}") for n in before}, before, "after a kill")
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "committed", r)
    w.mount("-o", "ro")
    same({n: read(f"{w.mnt}/{n}") for n in before}, before, "and in the checkpoint")


def numbers(w):
    """What df shows."""
    st = os.statvfs(w.mnt)
    used, entries = st.f_files - st.f_ffree, sum(len(d) + len(f) for _, d, f in os.walk(w.mnt))
    same((used in (entries, entries + 1), st.f_ffree > 1000, st.f_favail <= st.f_ffree), (True, True, True), "df -i: so many names, and room for more")
    beside = os.statvfs(w.dir)
    ok(0 < st.f_bfree * st.f_frsize <= beside.f_bfree * beside.f_frsize * 1.1 and st.f_blocks >= st.f_bfree, "df: what is free beside the file", (st, beside))
    os.mkdir(f"{w.dir}/ro")
    run(w.weightfs, "-o", "ro", w.file, f"{w.dir}/ro")
    st = os.statvfs(f"{w.dir}/ro")
    same((st.f_files in (entries, entries + 1), st.f_ffree, st.f_bfree), (True, 0, 0), "a read-only mount is full")
    run("umount", f"{w.dir}/ro")


for case in (huge, ranges, numbers):
    with World(BUILD, checkpoint) as world:
        print(f"# {case.__name__}", flush=True)
        world.mount()
        case(world)
        run(world.wfctl, "umount", world.mnt)
done()
