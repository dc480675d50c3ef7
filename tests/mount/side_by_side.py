#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Readers, writers, renames, opens, fsyncs, commits, listings and the status, all at once; then who waits how long for whom.

Every read goes to the daemon (O_DIRECT, attributes, .weightfs): what the kernel has cached proves nothing here. The build with
the thread sanitizer runs this, too, and its reports count as failures. Usage: side_by_side.py BUILD_DIR [SECONDS]. Prints TAP.
"""
import json
import os
import struct
import sys
import time
from collections import OrderedDict

from crowd import Crowd
from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
BUILD = sys.argv[1]
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
BLOCK, BLOCKS, WRITERS = 4096, 64, 2


def checkpoint(path):
    base = Storage("float32", bytes(BLOCK * BLOCKS))
    n = BLOCK * BLOCKS // 4
    save(path, OrderedDict([("all", Tensor("float32", (n,), b"", storage=base)),
                            ("half", Tensor("float32", (n // 2,), b"", storage=base, offset=n // 2)), ("epoch", 3), ("name", "x"),
                            ("sub", OrderedDict((f"w{i}", Tensor("float32", (4,), floats(4, i))) for i in range(50)))]))


def everything(w):
    m, crowd, model = w.mnt, Crowd(), bytearray(BLOCK * BLOCKS)
    fd = os.open(f"{m}/all", os.O_RDWR)

    def writer(k):
        def work(n):
            block = k + WRITERS * (n % (BLOCKS // WRITERS))
            model[block * BLOCK:(block + 1) * BLOCK] = struct.pack("<f", n) * (BLOCK // 4)
            os.pwrite(fd, model[block * BLOCK:(block + 1) * BLOCK], block * BLOCK)
            if n % 50 == 0:
                os.fsync(fd)
        return work

    def reader(name):
        f = crowd.direct(f"{m}/{name}")

        def work(n):
            got = f.read(BLOCK * (n % (BLOCKS // 2)))
            if got != got[:4] * (BLOCK // 4):
                raise ValueError(f"a torn block: {got[:8]!r}")
        return work

    def names(n):
        os.rename(f"{m}/sub/w0", f"{m}/sub/renamed")
        os.rename(f"{m}/sub/renamed", f"{m}/sub/w0")
        write(f"{m}/epoch", f"{n}\n".encode())
        write(f"{m}/new", floats(3))
        with open(f"{m}/new", "rb") as held:
            os.unlink(f"{m}/new")
            held.read()

    def opens(n):
        with open(f"{m}/sub/w{1 + n % 49}", "rb") as f:
            if f.read() != floats(4, 1 + n % 49):
                raise ValueError("content")
        os.getxattr(f"{m}/sub/w{1 + n % 49}", "user.torch.shape")

    def looks(n):
        status = json.loads(read(f"{m}/.weightfs/status"))
        if status["tensors"] < 52 or not read(f"{m}/.weightfs/summary").startswith(b"all \t"):
            raise ValueError(status)
        for text in ("tensors.json", "globals", "log"):
            read(f"{m}/.weightfs/{text}")
        os.listdir(f"{m}/sub")
        os.listdir(f"{m}/.weightfs/archive")
        os.listxattr(f"{m}/half")
        os.statvfs(m)

    def arrays(n):
        fd = os.open(f"{m}/.weightfs/npy/half.npy", os.O_RDWR)  # of the storage that is being written
        try:
            if os.pread(fd, 6, 0) != b"\x93NUMPY":
                raise ValueError("no head")
        finally:
            os.close(fd)

    def commits(n):
        write(f"{m}/.weightfs/commit", b"1")

    for k in range(WRITERS):
        crowd.add("write", writer(k))
    for name in ("all", "half"):
        crowd.add("read", reader(name))
    for work in (names, opens, looks, arrays, commits):
        crowd.add(work.__name__, work)
    crowd.run(SECONDS)
    same(crowd.bad, [], "readers, writers, renames, opens, listings and commits at once")
    ok(min(crowd.counts.values()) > 2, "each of them got somewhere", crowd.counts)
    print(f"# {crowd.counts}")
    os.close(fd)
    same(read(f"{m}/all"), bytes(model), "the last write is what is read")
    r = run(w.wfctl, "umount", m)
    ok(r.returncode == 0, "unmounts", r)
    w.mount("-o", "ro")
    same(read(f"{m}/all"), bytes(model), "and what was committed")
    run(w.wfctl, "umount", m)


def waits(w):
    """The longest that one side waits while eight of the other side never stop."""
    for many, one in (("readers", "writer"), ("writers", "reader")):
        w.mount()
        crowd, longest = Crowd(), [0.0, 0]
        fd, block = os.open(f"{w.mnt}/all", os.O_RDWR), bytes(BLOCK)

        def writing():
            return lambda n: os.pwrite(fd, block, BLOCK * (n % BLOCKS))

        def reading():
            f = crowd.direct(f"{w.mnt}/all")
            return lambda n: f.read(BLOCK * (n % BLOCKS))

        def timed(work):
            def measure(n):
                start = time.monotonic()
                work(n)
                longest[0] = max(longest[0], time.monotonic() - start)
                longest[1] += 1
            return measure

        for _ in range(8):
            crowd.add(many, (reading if many == "readers" else writing)())
        crowd.add(one, timed((writing if one == "writer" else reading)()))
        crowd.run(min(SECONDS, 2.0))
        same(crowd.bad, [], f"a {one} among eight {many}")
        ok(longest[0] < 1.0 and longest[1] > 10, f"the {one} is never left waiting", longest)
        print(f"# the {one}: {longest[1]} calls, the longest {1000 * longest[0]:.1f} ms; {many}: {crowd.counts[many]}")
        os.close(fd)
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0, "unmounts", r)


for case in (everything, waits):
    with World(BUILD, checkpoint) as world:
        print(f"# {case.__name__}", flush=True)
        if case is everything:
            world.mount()
        case(world)
done()
