#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""commit=append of a safetensors file: which edits change the file itself, which make a new one and why, and who keeps it from moving bytes.

Usage: in_place.py BUILD_DIRECTORY. Prints TAP.
"""
import fcntl
import json
import os
import shutil
import struct
import sys

from flatfile import load, make
from kit import World, done, floats, need_fuse, ok, read, run, same, skip, write

need_fuse()

LONG = "a.name.of.which.sixteen.do.not.fit.into.the.header" * 3
FILE = {"n": ("I64", [], struct.pack("<q", 3)), "a": ("F32", [4, 6], floats(24)), "b": ("F32", [4, 6], floats(24, 100)), "mid": ("F32", [40], floats(40)),
        "h": ("BF16", [4], b"01234567"), "e": ("U8", [0, 7], b""), "last": ("U8", [8], b"abcdefgh")}
NOTES = {"format": "pt"}
FLOATS, BYTES = floats(24, 7), b"ABCDEFGH"


def small(path):
    make(path, FILE, NOTES)


def large(path):
    make(path, {"a": ("U8", [3 << 20], bytes(range(256)) * (3 << 12)), "b": ("U8", [1 << 20], b"b" * (1 << 20))}, NOTES)


def sparse(path):
    make(path, {"a": ("U8", [2 << 20], bytes(2 << 20)), "b": ("U8", [8], BYTES)}, NOTES)
    with open(path, "r+b") as f:
        start, = struct.unpack("<Q", f.read(8))
        os.truncate(path, 8 + start)
        f.seek(8 + start + (2 << 20))
        f.write(BYTES)


# Each edit is made in the mount, and in the dictionary of what the file is to say.
def renamed(w, want):
    os.rename(f"{w.mnt}/a", f"{w.mnt}/z")
    return {"z" if k == "a" else k: v for k, v in want.items()}


def renamed_long(w, want):
    for i in range(24):
        write(f"{w.mnt}/{i}.{LONG}", BYTES)
        want[f"{i}.{LONG}"] = "U8", [8], BYTES
    return want


def patched(w, want):
    with open(f"{w.mnt}/mid", "r+b") as f:
        f.seek(10)
        f.write(b"xyz")
    dtype, shape, old = want["mid"]
    return {**want, "mid": (dtype, shape, old[:10] + b"xyz" + old[13:])}


def copied_over(w, want):
    write(f"{w.mnt}/a", FLOATS)
    return {**want, "a": ("F32", [4, 6], FLOATS)}


def exchanged(w, want):
    write(f"{w.mnt}/a", FILE["b"][2])
    write(f"{w.mnt}/b", FILE["a"][2])
    return {**want, "a": FILE["b"], "b": FILE["a"]}


def made_anew(w, want):
    """Another name, in the place of one that goes."""
    os.unlink(f"{w.mnt}/mid")
    write(f"{w.mnt}/anew", b"q" * 160)
    want = {k: v for k, v in want.items() if k != "mid"}
    return {**want, "anew": ("U8", [160], b"q" * 160)}


def added(w, want):
    for name, dtype, descr, data in (("u", "U8", b"uint8", b"123"), ("d", "F64", b"float64", bytes(16)), ("f", "F32", b"float32", floats(3))):
        write(f"{w.mnt}/{name}", data)
        os.setxattr(f"{w.mnt}/{name}", "user.torch.dtype", descr)
        want[name] = dtype, [len(data) // {"U8": 1, "F64": 8, "F32": 4}[dtype]], data
    return want


def linked(w, want):
    os.link(f"{w.mnt}/b", f"{w.mnt}/twin")
    return {**want, "twin": want["b"]}


def cut(w, want):
    os.unlink(f"{w.mnt}/last")
    os.unlink(f"{w.mnt}/h")
    return {k: v for k, v in want.items() if k not in ("last", "h")}


def emptied(w, want):
    for name in os.listdir(w.mnt):
        os.unlink(f"{w.mnt}/{name}")
    return {}


def cut_and_added(w, want):
    want = cut(w, want)
    write(f"{w.mnt}/more", b"m" * 30)
    return {**want, "more": ("U8", [30], b"m" * 30)}


def rows_at_end(w, want):
    write(f"{w.mnt}/last", b"abcdefghijkl")
    return {**want, "last": ("U8", [12], b"abcdefghijkl")}


def turned(w, want):
    os.setxattr(f"{w.mnt}/a", "user.torch.dtype", b"int32")
    os.setxattr(f"{w.mnt}/b", "user.torch.shape", b"[2,12]")
    return {**want, "a": ("I32", [4, 6], FILE["a"][2]), "b": ("F32", [2, 12], FILE["b"][2])}


def removed(w, want):
    os.unlink(f"{w.mnt}/mid")
    return {k: v for k, v in want.items() if k != "mid"}


def rows_inside(w, want):
    write(f"{w.mnt}/mid", floats(41))
    return {**want, "mid": ("F32", [41], floats(41))}


def unaligned(w, want):
    write(f"{w.mnt}/u", b"123")
    return {**want, "u": ("U8", [3], b"123")}


def behind_unaligned(w, want):
    write(f"{w.mnt}/f", floats(3))
    os.setxattr(f"{w.mnt}/f", "user.torch.dtype", b"float32")
    return {**want, "f": ("F32", [3], floats(3))}


def most(w, want):
    write(f"{w.mnt}/a", b"x" * (3 << 20))
    return {**want, "a": ("U8", [3 << 20], b"x" * (3 << 20))}


def noted(w, want):
    """The texts of the metadata, which make the header longer and then shorter."""
    write(f"{w.mnt}/.weightfs/metadata/history", b"long " * 2000)
    return want


def unnoted(w, want):
    os.unlink(f"{w.mnt}/.weightfs/metadata/history")
    return want


def cut_and_longer(w, want):
    noted(w, want)
    return cut(w, want)


HOLE, UNALIGNED = "would leave a hole", "would not be aligned"
# (how the file is made, edits with a commit after each: the edit, and the reason for a new file, None: the file itself is changed)
TABLE = [
    (small, [(renamed, None), (patched, None)]), (small, [(renamed_long, None), (copied_over, None)]), (small, [(exchanged, None)]),
    (small, [(made_anew, None)]), (small, [(added, None)]), (small, [(linked, None), (patched, None)]), (small, [(cut, None), (linked, None)]),
    (small, [(emptied, None), (added, None)]), (small, [(cut_and_added, None)]), (small, [(rows_at_end, None)]), (small, [(turned, None)]),
    (small, [(noted, None), (unnoted, None), (noted, None)]), (small, [(removed, HOLE), (renamed, None)]), (small, [(rows_inside, HOLE)]),
    (small, [(unaligned, None), (behind_unaligned, UNALIGNED), (patched, None)]), (small, [(cut_and_longer, "end of the file go")]),
    (large, [(most, "more than half")]), (sparse, [(noted, "sparse"), (unnoted, None)]),
]


def table(build):
    for made, steps in TABLE:
        with World(build, made) as w:
            w.mount("-o", "commit=append")
            want, notes = load(w.file)
            for edit, why in steps:
                what = f"{made.__name__}: {edit.__name__}"
                inode, logged = os.stat(w.file).st_ino, len(read(f"{w.mnt}/.weightfs/log"))
                want = edit(w, dict(want))
                if edit in (noted, cut_and_longer):
                    notes["history"] = "long " * 2000
                elif edit is unnoted:
                    del notes["history"]
                r = run(w.wfctl, "commit", w.mnt)
                log = read(f"{w.mnt}/.weightfs/log")[logged:].decode()
                ok(r.returncode == 0, f"{what}: committed", r)
                ok((os.stat(w.file).st_ino == inode) == (why is None) and ("a new file is written" in log) == (why is not None) and (why or "") in log,
                   f"{what}: {why or 'the file itself'}", log)
                same(load(w.file), (want, notes), f"{what}: what the file says")
                same({k: read(f"{w.mnt}/{k}") for k in want}, {k: v[2] for k, v in want.items()}, f"{what}: what the mount shows")
                same(sorted(os.listdir(f"{w.file}.weightfs")), ["data", "lock"], f"{what}: nothing waits")
            w.umount()
            ok(run(w.wfctl, "verify", w.file).returncode == 0, f"{made.__name__}: verified")


def held(build):
    """Who has the file in its place keeps the commit from moving it; the edits stay, and go through afterwards."""
    lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 1 << 62, 1, 0)
    with World(build, small) as w:
        other = f"{w.dir}/other"
        os.mkdir(other)

        def second_mount():
            ok(run(w.weightfs, "-o", "ro", w.file, other).returncode == 0, "a second mount, to read")
            return lambda: run("umount", other)

        def source_of_output():
            ok(run(w.weightfs, "-o", f"output={w.dir}/out.safetensors", w.file, other).returncode == 0, "a second mount, with an output")
            return lambda: run(w.wfctl, "umount", other)

        def manifest():
            f = open(f"{w.mnt}/.weightfs/tensors.json", "rb")
            return f.close

        def locked():
            f = open(w.file, "rb")
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, lock)
            return f.close
        w.mount("-o", "commit=append")
        want = dict(FILE)
        for begin, word in ((second_mount, "another mount"), (source_of_output, "another mount"), (manifest, "tensors.json"), (locked, "another mount")):
            end = begin()
            before = read(w.file)
            want = copied_over(w, patched(w, want))
            r = run(w.wfctl, "commit", w.mnt)
            ok(r.returncode == 1 and word in r.stderr and "commit=replace" in r.stderr, f"{begin.__name__}: refused", r)
            same(read(w.file), before, f"{begin.__name__}: the file is as it was")
            end()
            r = run(w.wfctl, "commit", w.mnt)
            ok(r.returncode == 0, f"{begin.__name__}: and then it is committed", r)
            same(load(w.file)[0], want, f"{begin.__name__}: with all edits")
        for who in ("cat", "ls"):
            ok(run(w.wfctl, who, w.file, "n").returncode == 0, f"wfctl {who} reads beside the mount")
        w.umount()


def without_inserting(build):
    """A file system that inserts no bytes: what needs none is done in place, the rest makes a new file."""
    types = {line.split()[1]: line.split()[2] for line in open("/proc/self/mounts")}
    if types.get("/dev/shm") != "tmpfs" or not os.access("/dev/shm", os.W_OK):
        skip("without inserting", "/dev/shm is no tmpfs that can be written to")
        return
    with World(build, small) as w:
        shm = os.path.join("/dev/shm", os.path.basename(w.dir))
        os.mkdir(shm)
        try:
            w.file = f"{shm}/m.safetensors"
            small(w.file)
            w.mount("-o", "commit=append")
            want, inode = dict(FILE), os.stat(w.file).st_ino
            for edit, stays in ((renamed, True), (patched, True), (renamed_long, False)):
                want = edit(w, want)
                r = run(w.wfctl, "commit", w.mnt)
                ok(r.returncode == 0 and (os.stat(w.file).st_ino == inode) == stays, f"tmpfs: {edit.__name__}", r)
                same(load(w.file)[0], want, f"tmpfs: what {edit.__name__} made")
            ok("cannot insert" in read(f"{w.mnt}/.weightfs/log").decode(), "the log says why")
            w.umount()
        finally:
            shutil.rmtree(shm)


def growing(build):
    """A header that grows a little at each commit moves the bytes of a larger file once."""
    def middling(path):
        make(path, {"a": ("U8", [24 << 20], os.urandom(1 << 20) * 24)}, NOTES)
    with World(build, middling) as w:
        inode, starts, whole = os.stat(w.file).st_ino, [], read(w.file)[-(24 << 20):]
        for i in range(16):
            r = run(w.wfctl, "set", "--commit=append", w.file, f".weightfs/metadata/{i}", "x" * 1000)
            with open(w.file, "rb") as f:
                starts.append(f.read(8))
        if os.stat(w.file).st_ino != inode:
            skip("growing", "this file system inserts no bytes")
            return
        ok(r.returncode == 0 and len(set(starts)) == 1, "sixteen longer headers, and the data move once", [struct.unpack("<Q", s)[0] for s in starts])
        got, notes = load(w.file)
        ok(got["a"][2] == whole and len(notes) == 17, "the file is right")


def verbs(build):
    """Without a mount."""
    with World(build, small) as w:
        inode = os.stat(w.file).st_ino
        for command in (["rename", "--commit=append", w.file, "s/^/model./"], ["rm", "--commit=append", w.file, "model.last"],
                        ["cp", "--commit=append", w.file, "model.a", "again"]):
            r = run(w.wfctl, *command)
            ok(r.returncode == 0 and os.stat(w.file).st_ino == inode, f"{command[0]} in place", r)
        want = {f"model.{k}": v for k, v in FILE.items() if k != "last"}
        same(load(w.file), ({**want, "again": FILE["a"]}, NOTES), "what they made")
        lines = [json.loads(line) for line in run(w.wfctl, "ls", "--json", w.file).stdout.splitlines()]
        whole = read(w.file)
        same([whole[t.get("file_offset", 0):][:t["bytes"]] for t in lines], [v[2] for v in want.values()] + [FILE["a"][2]], "and where it stands")


for case in (table, held, without_inserting, growing, verbs):
    case(sys.argv[1])
done()
