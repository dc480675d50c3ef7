#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reading through the mount: bytes, mappings, many readers, inode numbers, the hidden directory, files that change underneath.

Usage: reading.py BUILD_DIR. Prints TAP.
"""
import errno
import hashlib
import json
import mmap
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from kit import World, done, floats, need_fuse, ok, read, run, same, skip
from minicheckpoint import Tensor, save

need_fuse()
BUILD = sys.argv[1]
BIG = 9 * 2**20 + 12  # bytes; no multiple of a page or of the largest request


def pattern(n):
    return b"".join(hashlib.sha256(struct.pack("<I", i)).digest() for i in range((n + 31) // 32))[:n]


BYTES = pattern(BIG)


def big_checkpoint(path):
    save(path, OrderedDict([("big", Tensor("uint8", (BIG,), BYTES)), ("empty", Tensor("float32", (0,), b"")),
                            ("scalar", Tensor("float64", (), struct.pack("<d", 1.5))),
                            ("turned", Tensor("float32", (3, 2), floats(6), stride=(1, 3)))]))


def many_checkpoint(path, n=20000):
    save(path, OrderedDict((f"layer.{i}.weight", Tensor("uint8", (4,), struct.pack("<I", i))) for i in range(n)))


def refused(code, what, call):
    try:
        call()
        ok(False, f"{what}: {errno.errorcode[code]}", "it was accepted")
    except OSError as e:
        ok(e.errno == code, f"{what}: {errno.errorcode[code]}", e)


def content(w):
    for mode in ("ro", "rw"):
        content_of(w, mode)


def content_of(w, mode):
    w.mount("-o", mode)
    m = w.mnt
    ok(read(f"{m}/big") == BYTES, f"{mode}: a large tensor reads whole")
    same((read(f"{m}/empty"), read(f"{m}/scalar")), (b"", struct.pack("<d", 1.5)), f"{mode}: an empty one and a single number")
    same(struct.unpack("<6f", read(f"{m}/turned")), (0.0, 3.0, 1.0, 4.0, 2.0, 5.0), f"{mode}: a transposed one reads in rows")
    fd = os.open(f"{m}/big", os.O_RDONLY)
    rng = random.Random(1)
    good = True
    for _ in range(200):
        at, n = rng.randrange(BIG + 100), rng.choice((1, 7, 4096, 65537, 2**20 + 1, 3 * 2**20))
        good &= os.pread(fd, n, at) == BYTES[at:at + n]
    ok(good, f"{mode}: 200 reads of any place and size")
    good = b""
    with open(f"{m}/big", "rb", buffering=0) as f:
        while piece := f.read(100001):
            good += piece
    ok(good == BYTES, f"{mode}: read in odd pieces")
    shared = mmap.mmap(fd, BIG, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(fd, BIG, mmap.MAP_PRIVATE, mmap.PROT_READ)
    ok(shared[:] == BYTES and private[:] == BYTES, f"{mode}: shared and private mappings")
    shared.close()
    private.close()
    os.close(fd)
    if hasattr(os, "O_DIRECT"):
        direct = os.open(f"{m}/big", os.O_RDONLY | os.O_DIRECT)
        page = mmap.mmap(-1, 2**20)
        ok(os.preadv(direct, [page], 2**20) == 2**20 and page[:] == BYTES[2**20:2**21], f"{mode}: O_DIRECT")
        os.close(direct)
    with ThreadPoolExecutor(8) as pool:
        sums = set(pool.map(lambda _: hashlib.sha256(read(f"{m}/big")).digest(), range(16)))
    same(sums, {hashlib.sha256(BYTES).digest()}, f"{mode}: 16 readers at once")
    readers = [subprocess.Popen(["cmp", f"{m}/big", f"{m}/big"]) for _ in range(8)]
    same([r.wait(60) for r in readers], [0] * 8, f"{mode}: 8 processes at once")
    w.umount()


def file_offset(w):
    """The bytes of a tensor that stands contiguous in the checkpoint can be mapped there."""
    w.mount("-o", "ro")
    at = int(os.getxattr(f"{w.mnt}/big", "user.torch.file_offset"))
    with open(w.file, "rb") as f:
        f.seek(at)
        ok(f.read(BIG) == BYTES, "user.torch.file_offset names the place in the checkpoint")
    refused(errno.ENODATA, "none of a transposed tensor", lambda: os.getxattr(f"{w.mnt}/turned", "user.torch.file_offset"))
    same(os.getxattr(f"{w.mnt}/turned", "user.torch.shape"), b"[3, 2]", "user.torch.shape")
    same(os.getxattr(f"{w.mnt}/turned", "user.numpy.descr"), b"<f4", "user.numpy.descr")
    names = os.listxattr(f"{w.mnt}/turned")
    ok(all(os.getxattr(f"{w.mnt}/turned", n) for n in names) and "user.torch.file_offset" not in names, "every listed attribute is there", names)
    refused(errno.EROFS, "setting one on a read-only mount", lambda: os.setxattr(f"{w.mnt}/turned", "user.torch.shape", b"[6]"))
    w.umount()


def inodes(w):
    def numbers():
        w.mount("-o", "ro")
        seen = {os.path.join(where, name): os.lstat(os.path.join(where, name)).st_ino
                for where, dirs, files in os.walk(w.mnt) for name in dirs + files}
        links = os.stat(f"{w.mnt}/fc.bias").st_nlink
        listed = {e.name: e.inode() for e in os.scandir(w.mnt)}
        same(listed, {os.path.basename(p): i for p, i in seen.items() if os.path.dirname(p) == w.mnt}, "readdir and stat agree")
        w.umount()
        return seen, links
    (first, links), (second, _) = numbers(), numbers()
    same(first, second, "inode numbers are the same at the next mount")
    same(first[f"{w.mnt}/fc.bias"] == first[f"{w.mnt}/tied"] and links, 2, "a tie is one inode with two links")
    same(len(set(first.values())), len(first) - 1, "everything else has its own")


def directories(w):
    w.mount("-o", "ro")
    n = 20000
    wanted = [f"layer.{i}.weight" for i in range(n)]
    same(os.listdir(w.mnt) == wanted, True, f"{n} entries in the mapping's order")
    same(os.listdir(w.mnt) == wanted, True, "once more, from the kernel's cache")
    r = run("find", w.mnt, "-type", "f", "-size", "-5c", "-printf", "x")
    same(len(r.stdout), n, "find sees the size of each")
    # a position in a directory stays valid while others are read: rewinddir, seekdir
    r = run("sh", "-c", f"ls -f {w.mnt} | head -n 5")
    same(r.stdout.split(), [".", ".."] + wanted[:3], "a listing that is given up")
    ok(all(read(f"{w.mnt}/layer.{i}.weight") == struct.pack("<I", i) for i in range(0, n, 97)), "their bytes")
    refused(errno.ENOENT, "a name that is not there", lambda: os.stat(f"{w.mnt}/layer.{n}.weight"))
    refused(errno.ENOENT, "the same once more", lambda: os.stat(f"{w.mnt}/layer.{n}.weight"))
    refused(errno.ENAMETOOLONG, "a name of 300 bytes", lambda: os.stat(f"{w.mnt}/{'x' * 300}"))
    refused(errno.ENOTDIR, "a file as a directory", lambda: os.stat(f"{w.mnt}/layer.0.weight/x"))
    archive = f"{w.mnt}/.weightfs/archive"
    files = run("find", archive, "-type", "f").stdout.split("\n")[:-1]
    with zipfile.ZipFile(w.file) as z:
        same(sorted(os.path.relpath(f, archive) for f in files), sorted(n.partition("/")[2] for n in z.namelist()), "archive/ has every record")
    w.umount()


def statfs(w):
    w.mount("-o", "ro")
    v = os.statvfs(w.mnt)
    size = os.stat(w.file).st_size
    ok(size <= v.f_blocks * v.f_frsize < size + 2 * v.f_frsize and v.f_bfree == 0, "statfs of a read-only mount: its size, none free", v)
    ok(v.f_namemax == 255 and v.f_flag & os.ST_RDONLY and v.f_files == 8, "names of 255 bytes, read-only, number of entries", v)
    w.umount()
    w.mount()
    host, v = os.statvfs(w.dir), os.statvfs(w.mnt)
    wanted, got = host.f_bavail * host.f_frsize, v.f_bavail * v.f_frsize
    ok(abs(wanted - got) < 2**28 and not v.f_flag & os.ST_RDONLY, "of a writable one: free is what is free beside the checkpoint", (host, v))
    ok(run("df", w.mnt).returncode == 0, "df")
    w.umount()


def hostile_records(w):
    """Whatever a record is called, it has a name in archive/ and its bytes can be read."""
    names = ["a/../../etc/passwd", "./x", "a//b", "/abs", "y" * 300, "per%cent", "data/0/below", "d" * 200 + "/" + "e" * 250,
             "/".join("deep" for _ in range(100)), "folder/", "many/" + "z" * 255] + [f"crowd/{i}" for i in range(3000)]
    prefix = zipfile.ZipFile(w.file).namelist()[0].split("/")[0]
    with zipfile.ZipFile(w.file, "a") as z:
        for name in names:
            z.writestr(f"{prefix}/{name}", name)
    r = w.mount("-o", "ro")
    ok(r.returncode == 0, "hostile record names open", r)
    archive = f"{w.mnt}/.weightfs/archive"
    found = run("find", archive, "-type", "f").stdout.split("\n")[:-1]
    texts = {read(f).decode("latin-1") for f in found}
    ok(set(names) <= texts, "each record is there and reads", sorted(set(names) - texts)[:3])
    same(sorted(os.listdir(archive + "/crowd")), sorted(str(i) for i in range(3000)), "a directory of 3,000")
    ok(os.path.isdir(f"{archive}/data") and read(f"{archive}/a/%2E./%2E./etc/passwd") == names[0].encode(), "escaped as keys are")
    refused(errno.ENOENT, "a name that no record has", lambda: os.stat(f"{archive}/crowd/3000"))
    w.umount()


def hidden(w):
    w.mount("-o", "ro")
    h = f"{w.mnt}/.weightfs"
    ok(".weightfs" not in os.listdir(w.mnt), "the hidden directory is not listed")
    same(sorted(os.listdir(h)), ["archive", "columns.json", "commit", "cuda", "discard", "entries.json", "globals", "log", "model.safetensors", "model.skipped", "npy", "objects",
                                 "safetensors", "status", "summary", "tensors.json"],
         "what is in it")
    same(stat.S_IMODE(os.stat(h).st_mode) & 0o222, 0, "it cannot be written")
    status = json.loads(read(f"{h}/status"))
    ok(status["checkpoint"] == w.file and status["pid"] == w.daemon().pid and status["tensors"] == 3 and not status["dirty"],
       "status is JSON", status)
    same(read(f"{h}/summary").decode(), run(w.wfctl, "ls", "-a", w.file).stdout, "summary is what wfctl ls -a prints")
    same(read(f"{h}/summary").splitlines()[0], b"fc.weight \t torch.Size([2, 3])", "in the tutorial's form")
    ok(b"collections.OrderedDict\n" in read(f"{h}/globals") and b"torch._utils._rebuild_tensor_v2\n" in read(f"{h}/globals"), "globals",
       read(f"{h}/globals"))
    refused(errno.EROFS, "a commit of a read-only mount", lambda: os.open(f"{h}/commit", os.O_WRONLY))
    same([e.stat().st_size == len(read(e.path)) for e in os.scandir(h) if e.name in ("status", "summary", "globals")], [True] * 3,
         "sizes are right")
    with zipfile.ZipFile(w.file) as z:
        records = {n.partition("/")[2]: z.read(n) for n in z.namelist()}  # without the directory that all of them share
        good = all(read(f"{h}/archive/{n}") == b and os.stat(f"{h}/archive/{n}").st_size == len(b) for n, b in records.items())
    ok(good, "archive/ has the raw records")
    same(set(os.listdir(f"{h}/archive")), {n.split("/")[0] for n in records}, "with directories where names have slashes")
    refused(errno.ENOENT, "a record that is not there", lambda: os.stat(f"{h}/archive/none"))
    refused(errno.ENOENT, ".weightfs below the root", lambda: os.stat(f"{w.mnt}/opt/.weightfs"))
    w.umount()
    w.mount()
    refused(errno.EACCES, "status cannot be written", lambda: os.open(f"{h}/status", os.O_WRONLY))
    refused(errno.EACCES, "commit cannot be read", lambda: read(f"{h}/commit"))
    refused(errno.EPERM, "the hidden directory cannot be removed", lambda: os.rmdir(h))
    refused(errno.EPERM, "nor renamed", lambda: os.rename(h, f"{w.mnt}/x"))
    refused(errno.EPERM, "nothing can be made in it", lambda: open(f"{h}/x", "w"))
    with open(f"{h}/commit", "w") as f:
        f.write("now\n")
    ok(True, "a commit with nothing to commit works")
    w.umount()


def truncated(w):
    """Cut off under the mount: what is gone gives EIO, also through a mapping of a fresh page SIGBUS and no more."""
    w.mount("-o", "ro")
    at = int(os.getxattr(f"{w.mnt}/big", "user.torch.file_offset"))
    fd = os.open(f"{w.mnt}/big", os.O_RDONLY)
    same(os.pread(fd, 100, 0), BYTES[:100], "reads before")
    os.truncate(w.file, at + 2**20)
    for attempt in ("cut off", "once more"):
        try:
            got = os.pread(fd, 4096, 6 * 2**20)
            ok(False, f"{attempt}: a read behind the cut fails", f"got {len(got)} bytes, {len(set(got))} different")
        except OSError as e:
            ok(e.errno in (errno.EIO, errno.ESTALE), f"{attempt}: a read behind the cut fails", e)
    code = f"import mmap,os; f=os.open('{w.mnt}/big',os.O_RDONLY); m=mmap.mmap(f,0,mmap.MAP_SHARED,mmap.PROT_READ); print(m[7*2**20])"
    r = run(sys.executable, "-c", code)
    ok(r.returncode == -7 and not r.stdout, "the reader of a mapping gets SIGBUS", r)
    ok(w.status()["tensors"] == 4, "the daemon serves on")
    os.close(fd)
    w.umount()


def replaced(w):
    """Another file under the same name: the mount goes on with the one that it has."""
    w.mount("-o", "ro")
    os.rename(w.file, f"{w.dir}/old.pt")
    big_checkpoint_other(w.file)
    ok(read(f"{w.mnt}/big") == BYTES, "a file that was replaced is still read whole")
    w.umount()


def big_checkpoint_other(path):
    save(path, {"big": Tensor("uint8", (BIG,), b"\xff" * BIG)})


def clients(w):
    """Programs that people use."""
    w.mount("-o", "ro")
    copy = f"{w.dir}/copy"
    r = run("cp", "-a", w.mnt, copy)
    ok(r.returncode == 0 and not r.stderr, "cp -a of the whole mount", r)
    ok(run("diff", "-r", w.mnt, copy).returncode == 0, "diff -r finds no difference")
    ok(run("tar", "-C", w.mnt, "-cf", f"{w.dir}/x.tar", ".").returncode == 0, "tar")
    if shutil.which("getfattr"):
        r = run("getfattr", "-d", f"{w.mnt}/fc.weight")
        ok('user.torch.shape="[2, 3]"' in r.stdout, "getfattr -d", r)
    else:
        skip("getfattr -d", "getfattr is missing")
    same(run("ls", "-l", w.mnt).returncode, 0, "ls -l")
    second = f"{w.dir}/second"
    os.mkdir(second)
    run(w.weightfs, "-o", "ro", w.file, second)
    ok(run("diff", "-r", w.mnt, second).returncode == 0, "diff -r between two mounts")
    run("umount", second)
    w.umount()


for make, cases in ((big_checkpoint, [content, file_offset, replaced, truncated]),
                    (many_checkpoint, [directories]), (None, [inodes, statfs, hostile_records, hidden, clients])):
    for case in cases:
        with World(BUILD, make) if make else World(BUILD) as world:
            print(f"# {case.__name__}", flush=True)
            case(world)
done()
