#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads over a slow source go on side by side: 48 of them, each waiting 100 ms for the checkpoint's file, take about as long as one.

Usage: slow_source.py BUILD_DIR LIBSLOW_SOURCE. Prints TAP. Not for builds with a sanitizer: its run-time does not like the library.
"""
import mmap
import os
import sys
import threading
import time

from kit import World, done, floats, need_fuse, ok, run, same, write
from minicheckpoint import Tensor, save

need_fuse()
BUILD, LIBRARY = sys.argv[1:]
READERS = 48


def checkpoint(path):
    save(path, {f"w{i}": Tensor("float32", (1024,), floats(1024, i)) for i in range(READERS)})


def read_all(w):
    """Seconds that all of them take together."""
    start, results = threading.Barrier(READERS + 1), [None] * READERS

    def reader(i):
        fd, page = os.open(f"{w.mnt}/w{i}", os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
        start.wait()
        os.preadv(fd, [page], 0)
        results[i] = page[:]
        os.close(fd)
        page.close()

    threads = [threading.Thread(target=reader, args=(i,)) for i in range(READERS)]
    for t in threads:
        t.start()
    start.wait()
    began = time.monotonic()
    for t in threads:
        t.join()
    took = time.monotonic() - began
    same([i for i in range(READERS) if results[i] != floats(1024, i)], [], "each reads what is its own")
    return took


for options in (("-o", "ro"), ()):
    with World(BUILD, checkpoint) as world:
        world.mount(*options, env={**os.environ, "LD_PRELOAD": LIBRARY, "SLOW_SOURCE": world.file})
        write(f"{world.file}.slow", b"")
        # the best of three: on a busy machine threads wait for a CPU, too
        seconds = read_all(world)
        for _ in range(2):
            seconds = seconds if seconds < 0.6 else min(seconds, read_all(world))
        # with four threads, one after the other in twelve rounds: 1.2 s
        ok(0.1 <= seconds < 0.6, f"{READERS} reads of 100 ms each {' '.join(options) or '-o rw'}", f"{seconds:.2f} s")
        print(f"# {seconds:.2f} s")
        os.unlink(f"{world.file}.slow")
        r = run(world.wfctl, "umount", world.mnt)
        ok(r.returncode == 0, "unmounts", r)
done()
