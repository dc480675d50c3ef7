#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""-o direct_io: tensor files leave nothing in the kernel's cache, and read and write as without it; texts stay right; mappings work or say why.

Usage: direct_io.py BUILD_DIR. Prints TAP.
"""
import ctypes
import errno
import mmap
import os
import random
import struct
import sys
import threading
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
BUILD = sys.argv[1]
N = 16384  # floats
LIBC = ctypes.CDLL(None, use_errno=True)


def checkpoint(path):
    base = Storage("float32", floats(N))
    save(path, OrderedDict([("all", Tensor("float32", (N,), b"", storage=base)), ("half", Tensor("float32", (N // 2,), b"", storage=base, offset=N // 2)),
                            ("columns", Tensor("float32", (64, N // 64), b"", storage=base, stride=(1, 64))), ("loss", Tensor("float32", (), floats(1, 2))),
                            ("epoch", 3), ("lr", 0.5), ("name", "resnet"), ("list", [1, 2])]))


def cached_pages(path):
    """Of the file, in the kernel's memory. A private mapping may be made; it looks, and touches nothing."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    fd, size = os.open(path, os.O_RDONLY), os.path.getsize(path)
    at = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
    found = ctypes.create_string_buffer((size + 4095) // 4096)
    failed = LIBC.mincore(at, size, found)
    LIBC.munmap(at, size)
    os.close(fd)
    return -1 if failed else sum(b & 1 for b in found.raw)


def check_cache(w):
    for options, direct in ((("ro",), False), (("rw",), False), (("ro", "direct_io"), True), (("rw", "direct_io"), True)):
        w.mount("-o", ",".join(options))
        fd = os.open(f"{w.mnt}/all", os.O_RDONLY)
        same(os.read(fd, 4 * N), floats(N), f"{options}: read")
        if options == ("rw", "direct_io"):
            with open(f"{w.mnt}/all", "r+b", buffering=0) as f:
                f.write(floats(N))
        pages = cached_pages(f"{w.mnt}/all")
        ok(pages == 0 if direct else pages > 0, f"{options}: {'nothing' if direct else 'something'} stays in the kernel's cache", pages)
        os.close(fd)
        w.umount()


def check_views(w):
    """Views of one storage, read and written by turns: against a list of numbers."""
    w.mount("-o", "direct_io")
    rng, model = random.Random(3), list(struct.unpack(f"<{N}f", floats(N)))
    fds = {name: os.open(f"{w.mnt}/{name}", os.O_RDWR) for name in ("all", "half", "columns")}
    place = {"all": lambda i: i, "half": lambda i: N // 2 + i, "columns": lambda i: i // (N // 64) + i % (N // 64) * 64}
    length = {"all": N, "half": N // 2, "columns": N}
    private = mmap.mmap(fds["half"], 2 * N, mmap.MAP_PRIVATE, mmap.PROT_READ)
    bad = []
    for step in range(400):
        name, other = rng.choice(list(fds)), rng.choice(list(fds))
        count = rng.choice([1, 3, 1000])
        first = rng.randrange(length[name] - count)
        values = [float(rng.randrange(1000)) for _ in range(count)]
        os.pwrite(fds[name], struct.pack(f"<{count}f", *values), 4 * first)
        for k, value in enumerate(values):
            model[place[name](first + k)] = value
        at = rng.randrange(length[other])
        n = rng.randrange(1, length[other] - at + 1)
        if os.pread(fds[other], 4 * n, 4 * at) != struct.pack(f"<{n}f", *(model[place[other](i)] for i in range(at, at + n))):
            bad.append((step, name, other))
    same(bad, [], "400 writes through one name are at once in another")
    same(os.pread(fds["half"], 100, 2 * N), b"", "nothing behind the end")
    ok(private[:] == struct.pack(f"<{N // 2}f", *model[N // 2:]), "a private mapping that was not touched before shows them")
    private.close()
    for fd in fds.values():
        os.close(fd)
    run(w.wfctl, "commit", w.mnt)
    same(read(f"{w.mnt}/all"), struct.pack(f"<{N}f", *model), "after a commit")
    w.crash("-o", "direct_io")
    same(read(f"{w.mnt}/columns"), struct.pack(f"<{N}f", *(model[place["columns"](i)] for i in range(N))), "and after a kill")
    w.umount()


def check_writers(w):
    """Writers beside each other, in one file: each block is one of theirs, whole; what is appended is there once."""
    w.mount("-o", "direct_io")
    block, blocks = 1024, 4 * N // 1024

    def fill(k):
        with open(f"{w.mnt}/all", "r+b", buffering=0) as f:
            for i in range(k, blocks, 4):
                f.seek(i * block)
                f.write(bytes([65 + k]) * block)
                f.seek(i * block)
                if f.read(block) != bytes([65 + k]) * block:
                    raise AssertionError("another's bytes")

    def append(k):
        with open(f"{w.mnt}/grown", "ab", buffering=0) as f:
            for _ in range(50):
                f.write(bytes([97 + k]) * 16)
    write(f"{w.mnt}/grown", b"start...........")
    threads = [threading.Thread(target=fill, args=(k,)) for k in range(4)] + [threading.Thread(target=append, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same(read(f"{w.mnt}/all"), b"".join(bytes([65 + i % 4]) * block for i in range(blocks)), "four writers of one tensor")
    grown = read(f"{w.mnt}/grown")
    pieces = [grown[i:i + 16] for i in range(16, len(grown), 16)]
    ok(len(grown) == 16 * 101 and sorted(set(pieces)) == [b"a" * 16, b"b" * 16] and pieces.count(b"a" * 16) == 50, "two that append", len(grown))
    same(os.path.getsize(f"{w.mnt}/grown"), 16 * 101, "and its size")
    w.umount()


TEXTS = [("epoch", b"11\n", b"11\n"), ("epoch", b"1.5\n", b"1.5\n"), ("lr", b"1e-3\n", b"0.001\n"), ("name", b"a longer name than before\n", None), ("name", b"x", None),
         ("list", b"[3, 4, 5, 6]\n", b"[3, 4, 5, 6]\n"), ("new", b"7\n", b"7\n"), ("words", b"some words\n", b"some words\n"), ("flag", b"true\n", b"true\n")]


def check_texts(w):
    w.mount("-o", "direct_io")
    for name, text, wanted in TEXTS:
        path = f"{w.mnt}/{name}"
        before = os.open(path, os.O_RDONLY) if os.path.exists(path) else -1
        write(path, text)
        same(read(path), wanted or text, f"{name} is {text!r}")
        same(os.path.getsize(path), len(wanted or text), "  and has its size")
        if before >= 0:
            same(os.pread(before, 100, 0), wanted or text, "  also for who had it open")
            os.close(before)
    write(f"{w.mnt}/loss", b"0.25\n")
    same(read(f"{w.mnt}/loss"), struct.pack("<f", 0.25), "a number into a 0-d tensor")
    try:
        write(f"{w.mnt}/epoch", b"no number\n")
        ok(False, "what is no number is refused")
    except OSError as e:
        same((e.errno, read(f"{w.mnt}/epoch")), (errno.EINVAL, b"1.5\n"), "what is no number is refused, and the old value stays")
    fd = os.open(f"{w.mnt}/late", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"1")
    same(os.pread(fd, 10, 0), b"1", "a new file, while it is written")
    os.write(fd, b"2\n")
    os.close(fd)
    same(read(f"{w.mnt}/late"), b"12\n", "and afterwards")
    run(w.wfctl, "commit", w.mnt)
    same([read(f"{w.mnt}/{name}") for name in ("late", "words", "epoch")], [b"12\n", b"some words", b"1.5\n"], "after a commit they are values")
    w.umount()


def check_mapping(w):
    w.mount("-o", "direct_io")
    log = read(f"{w.mnt}/.weightfs/log").decode()
    fd = os.open(f"{w.mnt}/all", os.O_RDWR)
    try:
        m = mmap.mmap(fd, 4 * N, mmap.MAP_SHARED)
        m[:4] = floats(1, 77)
        m.flush()
        same(os.pread(fd, 4, 0), floats(1, 77), "a shared mapping and reads agree")
        m.close()
    except OSError as e:
        ok(e.errno == errno.ENODEV and "direct_io" in log and "libfuse 3.17" in log and "6.6" in log, "a shared mapping is refused, and the log has the reason", (e, log))
    os.close(fd)
    with open(f"{w.mnt}/.weightfs/model.safetensors", "rb") as f:
        m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        ok(len(m[:]) == os.path.getsize(f.name), "files of .weightfs can be mapped")
        m.close()
    w.umount()
    w.mount()
    same(read(f"{w.mnt}/.weightfs/log"), b"", "without the option the log says nothing of it")
    w.umount()


def check_changed(w):
    """The checkpoint is changed under the mount: reads fail, and the mount goes on."""
    whole = floats(N)
    for what, change in (("cut short", lambda: os.truncate(w.file, 20000)), ("written over", lambda: write(w.file, bytes(os.path.getsize(w.file)))),
                         ("emptied", lambda: os.truncate(w.file, 0))):
        checkpoint(w.file)
        w.mount("-o", "ro,direct_io")
        fd = os.open(f"{w.mnt}/all", os.O_RDONLY)
        same((os.pread(fd, 4 * N, 0), os.pread(fd, 2 * N, N), os.pread(fd, 4 * N, 4)), (whole, whole[N:3 * N], whole[4:]), "large reads")
        change()
        for at, size in ((0, 4 * N), (3 * N, N), (0, 100)):
            try:
                got = os.pread(fd, size, at)
                ok(False, f"{what}: {size} bytes at {at} are read", got[:50])
            except OSError as e:
                ok(e.errno in (errno.EIO, errno.ESTALE), f"{what}: {size} bytes at {at} are not read", e)
        os.close(fd)
        ok(w.status()["format"] == "zip", "the mount is there")
        w.umount()


for case in (check_changed, check_cache, check_views, check_writers, check_texts, check_mapping):
    with World(BUILD, checkpoint) as world:
        case(world)
done()
