#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What one name writes another one reads at once: views of one storage, ties, mappings, text in its own form, sizes, links.

The kernel keeps pages and attributes for as long as nobody tells it otherwise; everything here is read before the edit, so that
it has something to keep. Usage: coherence.py BUILD_DIR. Prints TAP.
"""
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
N = 4096  # floats in the shared storage: four pages


def checkpoint(path):
    base, tie = Storage("float32", floats(N)), Tensor("float32", (4,), floats(4, 50))
    save(path, OrderedDict([("all", Tensor("float32", (N,), b"", storage=base)),
                            ("half", Tensor("float32", (N // 2,), b"", storage=base, offset=N // 2)),
                            ("columns", Tensor("float32", (64, N // 64), b"", storage=base, stride=(1, 64))),
                            ("a", tie), ("b", tie), ("epoch", 3), ("lr", 0.5), ("list", [1, 2]), ("name", "resnet"),
                            ("sub", OrderedDict(x=Tensor("float32", (2,), floats(2))))]))


def views(w):
    rng = random.Random(7)
    fds = {name: os.open(f"{w.mnt}/{name}", os.O_RDWR) for name in ("all", "half", "columns")}
    model = list(struct.unpack(f"<{N}f", floats(N)))
    place = {"all": lambda i: i, "half": lambda i: N // 2 + i, "columns": lambda i: i // (N // 64) + i % (N // 64) * 64}
    length = {"all": N, "half": N // 2, "columns": N}
    for fd in fds.values():
        os.pread(fd, 4 * N, 0)
    bad = []
    for step in range(600):
        name = rng.choice(list(fds))
        i, value = rng.randrange(length[name]), float(step)
        os.pwrite(fds[name], struct.pack("<f", value), 4 * i)
        model[place[name](i)] = value
        other = rng.choice([n for n in fds if n != name])
        got = struct.unpack(f"<{length[other]}f", os.pread(fds[other], 4 * N, 0))
        wanted = tuple(model[place[other](i)] for i in range(length[other]))
        if got != wanted:
            bad.append((step, name, other))
    same(bad, [], "600 writes through one view are at once in another one")
    maps = {name: mmap.mmap(fd, 4 * length[name], mmap.MAP_SHARED) for name, fd in fds.items()}
    for m in maps.values():
        m[:]
    bad = []
    for step in range(100):
        i = rng.randrange(N // 2)
        os.pwrite(fds["all"], struct.pack("<f", -step), 4 * (N // 2 + i))
        if struct.unpack_from("<f", maps["half"], 4 * i)[0] != -step:
            bad.append(step)
    same(bad, [], "100 writes are at once in a mapping of another view")
    bad = []
    for step in range(20):
        i = rng.randrange(N // 2)
        struct.pack_into("<f", maps["half"], 4 * i, 1000 + step)
        maps["half"].flush()
        if struct.unpack("<f", os.pread(fds["all"], 4, 4 * (N // 2 + i)))[0] != 1000 + step:
            bad.append(step)
    same(bad, [], "20 writes through a mapping are in the other view after msync")
    for m in maps.values():
        m.close()
    for fd in fds.values():
        os.close(fd)


def text(w):
    bad = []
    for n in range(100):
        read(f"{w.mnt}/epoch")
        write(f"{w.mnt}/epoch", f"  {n:05} \n\n".encode())
        if (read(f"{w.mnt}/epoch"), os.stat(f"{w.mnt}/epoch").st_size) != (f"{n}\n".encode(), len(f"{n}\n")):
            bad.append((n, read(f"{w.mnt}/epoch")))
    same(bad, [], "100 times: a number is read back in its own form as soon as it is written")
    write(f"{w.mnt}/lr", b"1e-3")
    same(read(f"{w.mnt}/lr"), b"0.001\n", "the same for a float")
    write(f"{w.mnt}/list", b"[1,2 ,   3]")
    same(read(f"{w.mnt}/list"), b"[1, 2, 3]\n", "and for a list")
    try:
        write(f"{w.mnt}/epoch", b"many")
        ok(False, "text that does not parse is refused")
    except OSError as e:
        same((e.errno, read(f"{w.mnt}/epoch")), (errno.EINVAL, b"99\n"), "text that does not parse is refused and the old value is read at once")
    os.truncate(f"{w.mnt}/name", 0)
    with open(f"{w.mnt}/name", "ab") as f:
        f.write(b"vgg")
    with open(f"{w.mnt}/name", "ab") as f:
        f.write(b"16")
    same(read(f"{w.mnt}/name"), b"vgg16", "text is appended to")


def sizes(w):
    os.stat(f"{w.mnt}/sub/x")
    read(f"{w.mnt}/sub/x")
    write(f"{w.mnt}/sub/x", floats(5))
    same((os.stat(f"{w.mnt}/sub/x").st_size, read(f"{w.mnt}/sub/x")), (20, floats(5)), "a tensor that grew")
    same(os.getxattr(f"{w.mnt}/sub/x", "user.torch.shape"), b"[5]", "has its new shape")
    try:
        write(f"{w.mnt}/sub/x", b"abc")
        ok(False, "3 bytes are no rows of float32")
    except OSError as e:
        same(e.errno, errno.EINVAL, "3 bytes are no rows of float32")
    same((os.stat(f"{w.mnt}/sub/x").st_size, read(f"{w.mnt}/sub/x")), (20, floats(5)), "and the old tensor is there as before")
    write(f"{w.mnt}/sub/x", floats(1, 7))
    fd = os.open(f"{w.mnt}/sub/x", os.O_WRONLY)
    os.ftruncate(fd, 8)
    os.close(fd)
    same(read(f"{w.mnt}/sub/x"), floats(1, 7) + bytes(4), "truncate to more fills with zeros")
    os.setxattr(f"{w.mnt}/sub/x", "user.torch.dtype", b"int64")
    same(os.getxattr(f"{w.mnt}/sub/x", "user.numpy.descr"), b"<i8", "an attribute that follows from another one")


def links(w):
    m = w.mnt
    same((os.stat(f"{m}/a").st_nlink, os.stat(f"{m}/a").st_ino), (2, os.stat(f"{m}/b").st_ino), "a tie")
    read(f"{m}/b")
    with open(f"{m}/a", "r+b") as f:
        f.write(floats(1, 99))
    same(read(f"{m}/b"), floats(1, 99) + floats(3, 51), "a write to one name is in the other")
    os.link(f"{m}/a", f"{m}/sub/c")
    same([os.stat(f"{m}/{n}").st_nlink for n in ("a", "b", "sub/c")], [3, 3, 3], "ln makes a third name")
    write(f"{m}/new", floats(4))
    os.rename(f"{m}/new", f"{m}/b")
    same([os.stat(f"{m}/{n}").st_nlink for n in ("a", "b", "sub/c")], [2, 1, 2], "replacing one name breaks it off")
    same((read(f"{m}/a")[:4], read(f"{m}/b")[:4]), (floats(1, 99), floats(1)), "the others keep their data")
    os.unlink(f"{m}/sub/c")
    same(os.stat(f"{m}/a").st_nlink, 1, "removing one leaves the last")


def names(w):
    m = w.mnt
    before = os.listdir(m)
    bad = []
    for i in range(200):
        old, new = f"k{i}" if i else "a", f"k{i + 1}"
        os.rename(f"{m}/{old}", f"{m}/{new}")
        if os.path.exists(f"{m}/{old}") or not os.path.exists(f"{m}/{new}") or new not in os.listdir(m):
            bad.append(i)
    same(bad, [], "200 renames: each is in the listing at once, and the old name is gone")
    same(os.listdir(m).index("k200"), before.index("a"), "it has kept its place")
    os.mkdir(f"{m}/d")
    os.rename(f"{m}/k200", f"{m}/d/a")
    same((os.listdir(f"{m}/d"), "k200" in os.listdir(m)), (["a"], False), "moved to another mapping")
    os.rename(f"{m}/d", f"{m}/sub/d")
    same(os.listdir(f"{m}/sub"), ["x", "d"], "a mapping moved")
    same(read(f"{m}/sub/d/a"), floats(4, 50), "with what it holds")
    r = run("sed", "-i", "s/res/dense/", f"{m}/name")
    same((r.returncode, read(f"{m}/name"), sorted(os.listdir(m))), (0, b"densenet", sorted(set(before) - {"a"})), "sed -i")
    same(os.getxattr(f"{m}/name", "user.torch.class"), b"str", "a str stays a str")


def gone(path):
    os.unlink(path)


def backed_up(path):
    os.rename(path, path + "~")


def moved(path):
    os.rename(path, path + ".bak")


def orders(w):
    """A listing that the kernel keeps is made anew when a write gives an entry the place of what it replaces: nobody edits a name then."""
    m = w.mnt
    before = [n for n in os.listdir(m) if n != "sub"]
    npy = read(f"{m}/.weightfs/npy/a.npy")
    rows = [("lr", b"0.25\n"), ("name", b"vgg"), ("epoch", b"7\n"), ("a", floats(4))]
    bad = []
    for leave in (gone, backed_up, moved):
        for name, content in rows:
            leave(f"{m}/{name}")
            times = os.stat(m).st_mtime_ns
            with open(f"{m}/{name}", "wb", 0) as f:
                while_open = os.listdir(m).index(name)
                f.write(content)
            after = [n for n in os.listdir(m) if n in before]
            if after != before or while_open == 0 or os.stat(m).st_mtime_ns <= times:
                bad.append((leave.__name__, name, after, while_open, os.stat(m).st_mtime_ns - times))
            for other in set(os.listdir(m)) - set(before) - {"sub"}:
                os.unlink(f"{m}/{other}")
    same(bad, [], "what is removed or moved away and made anew has its old place in a listing after the close, and not before")
    os.unlink(f"{m}/name")
    with open(f"{m}/name", "wb", 0) as f:
        f.write(b"vgg")
        os.listdir(m)
        os.fsync(f.fileno())
        same(os.listdir(m).index("name"), before.index("name"), "and after an fsync")
    os.rename(f"{m}/lr", f"{m}/lr~")
    os.listdir(m)
    same((run(w.wfctl, "commit", m).returncode, [n for n in os.listdir(m) if n != "sub"]), (0, before),
         "a backup that a commit brings back is listed under its old name, in its place")
    os.listdir(f"{m}/sub")
    write(f"{m}/.weightfs/npy/sub/new.npy", npy)
    same(os.listdir(f"{m}/sub"), ["x", "new"], "a tensor that is made through npy/ is listed")
    os.unlink(f"{m}/sub/x")
    os.listdir(f"{m}/sub")
    write(f"{m}/.weightfs/npy/sub/x.npy", npy)
    same(os.listdir(f"{m}/sub"), ["x", "new"], "and one that is made anew has its place")
    with_all = os.listdir(m)
    os.rename(f"{m}/epoch", f"{m}/sub/epoch")
    write(f"{m}/more", b"1\n")
    os.listdir(m), os.listdir(f"{m}/sub")
    r = run(w.wfctl, "discard", m)
    same((r.returncode, os.listdir(m), os.listdir(f"{m}/sub")), (0, with_all, ["x"]), "after a discard listings are the file's")


def unlinked(w):
    fd = os.open(f"{w.mnt}/b", os.O_RDWR)
    os.unlink(f"{w.mnt}/a")
    os.unlink(f"{w.mnt}/b")
    same(os.pread(fd, 100, 0), floats(4, 50), "a removed file is read as long as it is open")
    os.pwrite(fd, b"\1" * 4, 0)
    same(os.pread(fd, 4, 0), b"\1" * 4, "and written")
    os.close(fd)


def across_a_commit(w):
    """Open files, mappings and node numbers go on over a commit, while others read and write."""
    m = w.mnt
    fd = os.open(f"{m}/all", os.O_RDWR)
    view = mmap.mmap(fd, 4 * N, mmap.MAP_SHARED)
    numbers = {n: os.stat(f"{m}/{n}").st_ino for n in os.listdir(m)}
    stop, bad, rounds = threading.Event(), [], [0]
    columns = read(f"{m}/columns")

    def reader():
        while not stop.is_set():
            if read(f"{m}/columns")[4:64] != columns[4:64] or read(f"{m}/name") != b"resnet":
                bad.append("read")
            rounds[0] += 1

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(5):
        struct.pack_into("<f", view, 0, 100.0 + i)
        view.flush()
        os.rename(f"{m}/lr", f"{m}/rate")
        os.rename(f"{m}/rate", f"{m}/lr")
        r = run(w.wfctl, "commit", m)
        if r.returncode or struct.unpack_from("<f", view, 0)[0] != 100 + i or os.pread(fd, 4, 0) != struct.pack("<f", 100 + i):
            bad.append((i, r))
    stop.set()
    for t in threads:
        t.join()
    same((bad, rounds[0] > 5), ([], True), "5 commits under 3 readers, a mapping and an open file")
    same({n: os.stat(f"{m}/{n}").st_ino for n in os.listdir(m)}, numbers, "the same node numbers")
    view.close()
    os.close(fd)
    ok(not w.status()["dirty"], "nothing is pending", w.status())


for options in ((), ("-s",)):
    for case in (views, text, sizes, links, names, orders, unlinked, across_a_commit):
        with World(BUILD, checkpoint) as world:
            print(f"# {' '.join((case.__name__,) + options)}", flush=True)
            world.mount(*options)
            case(world)
            r = run(world.wfctl, "umount", world.mnt)
            ok(r.returncode == 0, "unmounts", r)
            r = run(world.wfctl, "verify", world.file)
            ok(r.returncode == 0 and sorted(os.listdir(world.dir)) == ["m.pt", "mnt"],
               "the checkpoint is sound", (r, os.listdir(world.dir)))
done()
