#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A checkpoint on a mounted bucket or server: a file system that reads slowly, has no xattrs, clones or shared mappings, and fails at times.

far-files is that file system, and counts the bytes that it served. Of a checkpoint there, the pickle and the directory are read, and then what is
asked for; edits go elsewhere, or there; what cannot be read is told and loses nothing.

Usage: far_files.py BUILD_DIR FAR_FILES. Prints TAP.
"""
import contextlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys

from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()
BUILD, FAR = sys.argv[1:]
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contrib", "python")
TENSORS, ELEMENTS = 24, 1 << 18  # 1 MiB each
MIB = 1 << 20
HEAD = 448 << 10  # the pickle, the directory, 64 KiB at either end for what opens, identifies and watches the file: not of its size
CONTENT = {f"w{i}": floats(ELEMENTS, i) for i in range(TENSORS)}


def checkpoint(path):
    save(path, OrderedDict([*((key, Tensor("float32", (ELEMENTS,), data)) for key, data in CONTENT.items()), ("epoch", 3)]))


class Far(World):
    """m.pt is on the far file system, `far`; `local` is a directory that is not."""

    def __init__(self, *options):
        super().__init__(BUILD, checkpoint)
        self.options = options

    def __enter__(self):
        super().__enter__()
        self.back, self.far, self.local, self.control = (os.path.join(self.dir, name) for name in ("back", "far", "local", "control"))
        for directory in (self.back, self.far, self.local):
            os.mkdir(directory)
        os.rename(self.file, os.path.join(self.back, "m.pt"))
        self.file = os.path.join(self.far, "m.pt")
        write(self.control, bytes(4096))
        with open(self.control, "r+b") as f:
            self.numbers = mmap.mmap(f.fileno(), 4096)
        self.set(2, 2_000_000)
        r = run(FAR, self.back, self.control, self.far, "-o", ",".join(["fsname=far,attr_timeout=0,entry_timeout=0,negative_timeout=0", *self.options]))
        ok(r.returncode == 0, f"far-files is mounted {' '.join(self.options)}", r)
        return self

    def set(self, index, value):
        struct.pack_into("=Q", self.numbers, 8 * index, value)

    def served(self):
        return struct.unpack_from("=Q", self.numbers, 0)[0]

    def offset_of(self, key):
        """Where its bytes stand in the file."""
        return read(os.path.join(self.back, "m.pt")).index(CONTENT[key])

    @contextlib.contextmanager
    def broken(self, start, size):
        self.set(3, start)
        self.set(4, start + size)
        yield
        self.set(3, 0)
        self.set(4, 0)

    @contextlib.contextmanager
    def serves(self, at_most, what):
        """What is done inside takes no more bytes."""
        before = self.served()
        yield
        took = self.served() - before
        ok(took <= at_most, f"{what}: {took >> 10} KiB are read, of {TENSORS} MiB", f"{took} bytes, more than {at_most}")


def one_line(r, *words):
    return r.returncode == 1 and len(r.stderr.splitlines()) == 1 and all(word in r.stderr for word in words)


def without_a_mount(w):
    with w.serves(HEAD, "wfctl ls"):
        r = run(w.wfctl, "ls", w.file)
    same(len(r.stdout.splitlines()), TENSORS, "wfctl ls lists all of it")
    with w.serves(HEAD, "wfctl cat of a value"):
        same(run(w.wfctl, "cat", w.file, "epoch").stdout.strip(), "3", "wfctl cat")
    with w.serves(HEAD, "wfctl cat of ten elements"):
        same(run(w.wfctl, "cat", w.file, "w7[0:3]").stdout.split(), ["[7.", "8.", "9.]"], "a slice")
    with w.serves(HEAD + MIB, "wfctl cat of a tensor"):
        raw = subprocess.run([w.wfctl, "cat", "--raw", w.file, "w7"], stdout=subprocess.PIPE).stdout
    ok(raw == CONTENT["w7"], "has its bytes")
    code = ("import sys; sys.modules['torch'] = None; import weightfs; c = weightfs.open(sys.argv[1]); print(c['epoch'], len(c)); "
            "sys.argv[2:] and print(c['w7'][:3].tolist(), c['w7'].nbytes)")
    env = {**os.environ, "PYTHONPATH": PACKAGE, "WEIGHTFS_WFCTL": w.wfctl}
    with w.serves(HEAD, "weightfs.open"):
        same(run(sys.executable, "-c", code, w.file, env=env).stdout, f"3 {TENSORS + 1}\n", "the module opens it")
    if run(sys.executable, "-c", "import numpy").returncode == 0:
        with w.serves(HEAD + 2 * MIB, "weightfs.open and a few elements"):
            same(run(sys.executable, "-c", code, w.file, "w7", env=env).stdout, f"3 {TENSORS + 1}\n[7.0, 8.0, 9.0] {MIB}\n", "the module reads it")


def mounted_over_it(w):
    with w.serves(HEAD, "the mount"):
        r = w.mount()
    ok(r.returncode == 0 and "read-only" in r.stderr if "ro" in w.options else r.returncode == 0, "mounts", r)
    with w.serves(HEAD, "ls -l and all attributes"):
        ok(len(os.listdir(w.mnt)) == TENSORS + 1 and all(os.getxattr(f"{w.mnt}/{key}", "user.torch.shape") for key in CONTENT), "shows all of it")
    with w.serves(MIB + HEAD, "one tensor"):
        ok(read(f"{w.mnt}/w5") == CONTENT["w5"], "has its bytes")
    with w.serves(HEAD, "the same again"):
        read(f"{w.mnt}/w5")
    with w.serves(MIB, "the middle of one"), open(f"{w.mnt}/w9", "rb") as f:
        f.seek(MIB // 2)
        ok(f.read(16) == CONTENT["w9"][MIB // 2:MIB // 2 + 16], "has its bytes, too")


def reading(w):
    without_a_mount(w)
    mounted_over_it(w)
    r = run("touch", f"{w.mnt}/new")
    ok(r.returncode != 0 and "Read-only file system" in r.stderr, "edits are refused", r)
    w.umount()


def same_content(w, path, changed):
    """What wfctl reads of it, off the far file system."""
    names = [line.split(" ")[0] for line in run(w.wfctl, "ls", path).stdout.splitlines()]
    wanted = {**CONTENT, **changed}
    return set(names) == {key for key, data in wanted.items() if data is not None} and all(
        subprocess.run([w.wfctl, "cat", "--raw", path, key], stdout=subprocess.PIPE).stdout == wanted[key] for key in names)


def edits_elsewhere(w):
    out = os.path.join(w.local, "out.pt")
    before = read(os.path.join(w.back, "m.pt"))
    r = w.mount("-o", f"output={out}")
    ok(r.returncode == 0 and not r.stderr, "mounts with output= elsewhere, read and write", r)
    with w.serves(2 * HEAD, "edits of names and values"):
        os.rename(f"{w.mnt}/w3", f"{w.mnt}/renamed")
        os.unlink(f"{w.mnt}/w4")
        write(f"{w.mnt}/epoch", b"4\n")
    with w.serves(HEAD, "four bytes written into a tensor"), open(f"{w.mnt}/w6", "r+b") as f:
        f.write(floats(1, 99))
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "commits there", r)
    changed = {"w3": None, "renamed": CONTENT["w3"], "w4": None, "w6": floats(1, 99) + CONTENT["w6"][4:]}
    ok(same_content(w, out, changed) and run(w.wfctl, "cat", out, "epoch").stdout == "4\n", "and has all of it")
    ok(read(os.path.join(w.back, "m.pt")) == before and os.listdir(w.back) == ["m.pt"], "the far file is as it was, and nothing stands beside it")
    same(sorted(os.listdir(w.local)), ["out.pt"], "and the output stands alone")
    r = run(w.wfctl, "cp", f"{w.file}:w1", f"{out}:w1")
    ok(r.returncode == 0, "wfctl cp from there", r)
    with w.serves((TENSORS + 1) * MIB, "wfctl export of all"):
        r = run(w.wfctl, "export", w.file, os.path.join(w.local, "out.safetensors"))
    ok(r.returncode == 0 and os.path.getsize(os.path.join(w.local, "out.safetensors")) > TENSORS * MIB, "wfctl export", r)


def edits_there(w):
    for options in ((), ("-o", "commit=replace"), ("-o", "commit=append")):
        what = " ".join(options) or "commit=auto"
        checkpoint(os.path.join(w.back, "m.pt"))
        r = w.mount(*options)
        ok(r.returncode == 0 and not r.stderr, f"mounts {what}", r)
        os.rename(f"{w.mnt}/w3", f"{w.mnt}/renamed")
        with open(f"{w.mnt}/w6", "r+b") as f:
            f.write(floats(1, 99))
        r = run(w.wfctl, "umount", w.mnt)
        changed = {"w3": None, "renamed": CONTENT["w3"], "w6": floats(1, 99) + CONTENT["w6"][4:]}
        ok(r.returncode == 0 and same_content(w, os.path.join(w.back, "m.pt"), changed), f"commits {what}", r)
        same(os.listdir(w.back), ["m.pt"], f"and leaves nothing beside it {what}")
    checkpoint(os.path.join(w.back, "m.pt"))
    r = run(w.wfctl, "rename", w.file, "s/^w/v/")
    ok(r.returncode == 0 and len([line for line in run(w.wfctl, "ls", w.file).stdout.splitlines() if line.startswith("v")]) == TENSORS, "wfctl rename", r)
    same(os.listdir(w.back), ["m.pt"], "leaves nothing beside it, either")


def told(w):
    """EIO in the middle, of what is read and of what is written."""
    at, before = w.offset_of("w7"), read(os.path.join(w.back, "m.pt"))
    with w.broken(at + MIB // 2, 4096):
        r = run(w.wfctl, "cat", "--raw", w.file, "w7")
        ok(one_line(r, "m.pt", "Input/output error"), "wfctl cat tells of it", r.stderr)
        ok(run(w.wfctl, "cat", w.file, "epoch").stdout == "3\n", "and reads the rest")
        r = run(w.wfctl, "verify", w.file)
        ok(r.returncode == 1 and "Input/output error" in r.stdout + r.stderr, "wfctl verify tells of it", r)
        target = os.path.join(w.local, "out.safetensors")
        r = run(w.wfctl, "export", w.file, target)
        ok(one_line(r, "Input/output error") and not os.listdir(w.local), "wfctl export tells of it and leaves nothing", (r, os.listdir(w.local)))
        r = w.mount("-o", f"output={w.local}/out.pt")
        ok(r.returncode == 0, "it mounts", r)
        try:
            read(f"{w.mnt}/w7")
            ok(False, "a read of it fails")
        except OSError as e:
            ok(e.errno == 5, "a read of it fails with EIO", e)
        ok("w7" in read(f"{w.mnt}/.weightfs/log").decode(), "the log tells which", read(f"{w.mnt}/.weightfs/log"))
        ok(read(f"{w.mnt}/w8") == CONTENT["w8"], "others are read")
        os.rename(f"{w.mnt}/w8", f"{w.mnt}/renamed")
        r = run(w.wfctl, "commit", w.mnt)
        ok(one_line(r, "Input/output error") and not os.path.exists(f"{w.local}/out.pt"), "a commit that has to read it fails, and says so", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and same_content(w, f"{w.local}/out.pt", {"w8": None, "renamed": CONTENT["w8"]}), "and does it when the file is back", r)
    shutil.rmtree(w.local)
    os.mkdir(w.local)
    with w.broken(len(before) - 200, 100):
        for what, r in (("wfctl ls", run(w.wfctl, "ls", w.file)), ("the mount", w.mount())):
            ok(one_line(r, "m.pt", "Input/output error"), f"{what} tells of a directory that cannot be read", r)
    if "ro" in w.options:
        return
    w.mount()
    os.rename(f"{w.mnt}/w8", f"{w.mnt}/renamed")
    with w.broken(MIB, MIB):
        r = run(w.wfctl, "umount", w.mnt)
        ok(one_line(r, "Input/output error") and os.path.ismount(w.mnt), "a commit there that fails says so, and the mount stays", r)
        ok(read(os.path.join(w.back, "m.pt")) == before, "and the file is as it was")
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and same_content(w, os.path.join(w.back, "m.pt"), {"w8": None, "renamed": CONTENT["w8"]}), "and then it works", r)


for options, rows in ((("ro",), (reading, edits_elsewhere, told)), ((), (edits_there, told))):
    for row in rows:
        with Far(*options) as world:
            row(world)
done()
