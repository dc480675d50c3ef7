#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Directories with more files than stay open, used by many at once: readers of all their tensors, past the kernel's cache and through it,
listings, a view of the whole and exports; of those that can be edited names, bytes and commits, too.

The build with the thread sanitizer runs this, and its reports count as failures. Usage: directories_threads.py BUILD_DIR [SECONDS]. Prints TAP.
"""
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

import directories
import flatfile
from crowd import Crowd
from kit import done, floats, memory, need_fuse, ok, read, run, same, side_by_side, write

need_fuse()
BUILD = os.path.abspath(sys.argv[1])
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
TOP = tempfile.mkdtemp(prefix="weightfs-directories-", dir=memory())
FILES = 140        # 128 stay open
DESCRIPTORS = 256  # that the daemon may have


def limited():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


class Case:
    def __init__(self, name):
        self.kind = name.split()[0]
        self.d = directories.make(self.kind, os.path.join(TOP, name.replace(" ", "-")), FILES, elements=1500,
                                  **({"forms": ("turned", "zip", "deflated")} if "scattered" in name else {}))
        self.mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
        self.edited = self.kind in directories.EDITED
        # what is renamed, written and added has names of its own; the rest stays as it is
        self.stay = [k for k in self.d.want if not k.startswith(("layer.0.", "layer.1."))]
        subprocess.run([WEIGHTFS, *([] if self.edited else ["-o", "ro"]), self.d.path, self.mnt], preexec_fn=limited, check=True)

    def reader(self, start, direct):
        def work(n):
            key = self.stay[(start + n * 37) % len(self.stay)]
            fd = os.open(f"{self.mnt}/{key}", os.O_RDONLY | (os.O_DIRECT if direct else 0))
            try:
                got = os.pread(fd, 1 << 16, 0)
            finally:
                os.close(fd)
            if got != self.d.want[key]:
                raise ValueError(f"{key}: {len(got)} bytes")
        return work

    def looks(self, n):
        lines = read(f"{self.mnt}/.weightfs/tensors.json").splitlines()
        if len(lines) < len(self.d.want) - 2:
            raise ValueError(f"{len(lines)} lines")
        json.loads(read(f"{self.mnt}/.weightfs/status"))
        key = self.stay[n * 31 % len(self.stay)]
        named = os.getxattr(f"{self.mnt}/{key}", "user.torch.shard").decode()
        if not any(os.path.basename(f) in named for f in self.d.file_of(key)) and not self.edited:
            raise ValueError(f"{key} is in {named}")

    def exports(self, n, quiet=False):
        """Of one state, or refused in one line where each try had it taken away by edits and commits."""
        out = os.path.join(self.mnt + ".safetensors")
        r = run(WFCTL, "export", "--skip", self.mnt, out)
        if r.returncode:
            if quiet or not self.edited or r.returncode != 1 or r.stderr.count("\n") != 1 or "cannot write the new file" not in r.stderr:
                raise ValueError(r.stderr)
            return
        got = flatfile.load(out)[0]
        for key in self.stay[::7]:
            if got[key.removeprefix("model/")][2] != self.d.want[key]:
                raise ValueError(f"export: {key}")

    def names(self, n):
        os.rename(f"{self.mnt}/layer.0.0", f"{self.mnt}/other")
        os.rename(f"{self.mnt}/other", f"{self.mnt}/layer.0.0")
        write(f"{self.mnt}/new", floats(3))
        os.unlink(f"{self.mnt}/new")

    def bytes(self, n):
        with open(f"{self.mnt}/layer.1.{n % 2}", "r+b") as f:
            f.write(floats(2, n))

    def commits(self, n):
        write(f"{self.mnt}/.weightfs/commit", b"1")
        self.over.wait(0.2)  # so that exports come to an end


def case(name):
    """What is wrong, and how often each has worked."""
    c, crowd = Case(name), Crowd()
    c.over = crowd.stop
    try:
        for k in range(4):
            crowd.add("read", c.reader(k * 11, k % 2 == 0))
        for work in (c.looks, c.exports, *((c.names, c.bytes, c.commits) if c.edited else ())):
            crowd.add(work.__name__, work)
        crowd.run(SECONDS)
        wrong = list(crowd.bad)
        c.exports(0, quiet=True)
        open_files = len(os.listdir(f"/proc/{json.loads(read(f'{c.mnt}/.weightfs/status'))['pid']}/fd"))
        if open_files > DESCRIPTORS or crowd.counts["read"] < 10:
            wrong.append((open_files, crowd.counts))
        for key in c.stay:
            if read(f"{c.mnt}/{key}") != c.d.want[key]:
                wrong.append(f"at last {key}")
    finally:
        r = run(WFCTL, "umount", c.mnt)
        run("umount", "-l", c.mnt)
    if r.returncode:
        wrong.append(r.stderr)
    if c.edited:
        got = directories.load(c.d)
        wrong += [f"committed: {key}" for key in c.stay if name.count("scattered") == 0 and got.get(key) != c.d.want[key]]
        wrong += directories.left_over(c.d)
    return wrong, crowd.counts


try:
    for what, result, error in side_by_side(case, (*directories.KINDS, "dcp scattered"), 3):
        same(error or result[0], [], f"{what}: readers, listings, exports, edits and commits at once")
        print(f"# {result and result[1]}")
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
