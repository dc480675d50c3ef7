#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times, modes and owners: those of the edit, or as they were set, for the rest of the mount.

Usage: times.py BUILD_DIRECTORY. Prints TAP.
"""
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, skip, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
BASE = 1577880000_123456789  # of the checkpoint file, in the past, with nanoseconds
SET = 1600000000_000000001
START = time.time_ns() - 10**9


def make(path, more=()):
    base, tie, shared = Storage("float32", floats(6)), Tensor("float32", (2,), floats(2, 20)), {"k": 1}
    save(path, OrderedDict([("w", Tensor("float32", (4,), floats(4))), ("epoch", 10), ("text", "abc"), ("d", {"a": 1, "b": 2}),
                            ("whole", Tensor("float32", (6,), b"", storage=base)), ("row", Tensor("float32", (3,), b"", storage=base, offset=3)),
                            ("tie", tie), ("tied", tie), ("e", {}), ("shared", shared), ("again", shared),
                            *more]))
    os.utime(path, ns=(BASE, BASE))


def with_list(path):
    make(path, [("pair", [Tensor("float32", (1,), floats(1)), 3])])


def times(path):
    st = os.lstat(path)
    return st.st_mtime_ns, st.st_ctime_ns


def write_at(path, content):
    with open(path, "r+b") as f:
        f.write(content)


def through_mapping(path):
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:4] = b"\0\0\0A"
        m.flush()


def allocate(path):
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, 24)
    os.close(fd)


# name, what is done, whose content changed (mtime and ctime), of what only the inode (ctime)
EDITS = [
    ("a write into a tensor", lambda m: write_at(f"{m}/w", floats(1, 9)), {"w"}, set()),
    ("a write of the bytes that are there", lambda m: write_at(f"{m}/w", floats(1)), {"w"}, set()),
    ("a write over a number", lambda m: write(f"{m}/epoch", b"11\n"), {"epoch"}, set()),
    ("a write over a string", lambda m: write(f"{m}/text", b"abd"), {"text"}, set()),
    ("a mapping", lambda m: through_mapping(f"{m}/w"), {"w"}, set()),
    ("truncate", lambda m: os.truncate(f"{m}/w", 8), {"w"}, set()),
    ("fallocate", lambda m: allocate(f"{m}/w"), {"w"}, set()),
    ("a write into a view", lambda m: write_at(f"{m}/row", floats(3)), {"row", "whole"}, set()),
    ("a write beside a view", lambda m: write_at(f"{m}/whole", floats(1, 5)), {"whole"}, set()),
    ("a write into a tie", lambda m: write_at(f"{m}/tied", floats(1, 8)), {"tie", "tied"}, set()),
    ("an attribute", lambda m: os.setxattr(f"{m}/w", "user.torch.shape", b"[2, 2]"), set(), {"w"}),
    ("a rename", lambda m: os.rename(f"{m}/w", f"{m}/v"), {""}, {"v"}),
    ("a rename into a directory", lambda m: os.rename(f"{m}/epoch", f"{m}/d/epoch"), {"", "d"}, {"d/epoch"}),
    ("a rename of a directory", lambda m: os.rename(f"{m}/d", f"{m}/e/d"), {"", "e"}, {"e/d"}),
    ("a rename over an entry", lambda m: os.rename(f"{m}/d/a", f"{m}/d/b"), {"d"}, {"d/b"}),
    ("a new file", lambda m: write(f"{m}/d/new", b"1\n"), {"d", "d/new"}, set()),
    ("a new directory", lambda m: os.mkdir(f"{m}/d/new"), {"d", "d/new"}, set()),
    ("a removed file", lambda m: os.unlink(f"{m}/d/a"), {"d"}, set()),
    ("a removed tie", lambda m: os.unlink(f"{m}/tie"), {""}, {"tied"}),
    ("a removed directory", lambda m: os.rmdir(f"{m}/e"), {""}, set()),
    ("a removed element", lambda m: os.unlink(f"{m}/pair/1"), {"pair"}, set()),
    ("a new link", lambda m: os.link(f"{m}/w", f"{m}/d/w"), {"d"}, {"w", "d/w"}),
    ("a symbolic link", lambda m: os.symlink("d", f"{m}/s"), {"", "s"}, set()),
    ("a name that editors leave behind", lambda m: write(f"{m}/d/x~", b"1\n"), {"d", "d/x~"}, set()),
    ("reading", lambda m: read(f"{m}/w"), set(), set()),
    ("an edit that is refused", lambda m: run("sh", "-c", f"echo x > {m}/none/x; mv {m}/d {m}/d/a/x; rmdir {m}/d"), set(), set()),
]


def names(mnt):
    """Paths of all entries from the root, which is ''."""
    return {os.path.relpath(os.path.join(at, name), mnt) for at, dirs, files in os.walk(mnt) for name in [*dirs, *files]} | {""}


def stat_everything():
    with World(sys.argv[1], with_list) as w:
        w.mount()
        same({n: times(f"{w.mnt}/{n}") for n in names(w.mnt)}, {n: (BASE, BASE) for n in names(w.mnt)}, "what is not edited has the file's time")
    for what, edit, content, inode in EDITS:
        with World(sys.argv[1], with_list) as w:
            w.mount()
            for n in names(w.mnt):
                os.lstat(f"{w.mnt}/{n}")  # the kernel knows the old time
            edit(w.mnt)
            for when in ("", " after a commit"):
                moved = {n: tuple(t >= START for t in times(f"{w.mnt}/{n}")) for n in names(w.mnt)}
                got = {n for n, t in moved.items() if t == (True, True)}, {n for n, t in moved.items() if t == (False, True)}
                same(got, (content, inode), f"{what}: mtime and ctime follow, here only{when}")
                run(w.wfctl, "commit", w.mnt)


def set_times():
    with World(sys.argv[1], with_list) as w:
        w.mount()
        for n in ("w", "epoch", "d", "pair", "pair/0", ""):
            os.utime(f"{w.mnt}/{n}", ns=(SET + 1, SET))
            st = os.stat(f"{w.mnt}/{n}")
            same((st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns > SET), (SET + 1, SET, True), f"utimensat of '{n}'")
        os.utime(f"{w.mnt}/again", ns=(SET, SET), follow_symlinks=False)
        same((os.lstat(f"{w.mnt}/again").st_mtime_ns, os.stat(f"{w.mnt}/again").st_mtime_ns), (SET, BASE), "of a link itself")
        os.utime(f"{w.mnt}/tie", ns=(SET, SET))
        same(times(f"{w.mnt}/tied")[0], SET, "of both names of a tie")
        run("touch", "-d", "1969-01-01 00:00:00 UTC", f"{w.mnt}/text")
        same(times(f"{w.mnt}/text")[0], -31536000 * 10**9, "a time before 1970")
        run("touch", "-m", "-d", "@1500000000.5", f"{w.mnt}/d/a")
        same(os.stat(f"{w.mnt}/d/a").st_atime_ns, BASE, "touch -m leaves the other time (UTIME_OMIT)")
        same(os.stat(f"{w.mnt}/d/a").st_mtime_ns, 1500000000_500000000, "and sets this one")
        run("touch", f"{w.mnt}/d/a")
        ok(os.stat(f"{w.mnt}/d/a").st_mtime_ns >= START, "touch (UTIME_NOW)")
        same(w.status()["dirty"], False, "setting times is no edit")
        os.chmod(f"{w.mnt}/w", 0o600)
        os.chmod(f"{w.mnt}/d", 0o750)
        same([oct(os.stat(f"{w.mnt}/{n}").st_mode) for n in ("w", "d")], ["0o100600", "0o40750"], "chmod")
        if os.getuid() == 0:
            os.chown(f"{w.mnt}/w", 12, 34)
            same((os.stat(f"{w.mnt}/w").st_uid, os.stat(f"{w.mnt}/w").st_gid), (12, 34), "chown")
        write(f"{w.mnt}/epoch", b"12\n")
        os.utime(f"{w.mnt}/epoch", ns=(SET, SET))
        same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
        same((times(f"{w.mnt}/epoch")[0], times(f"{w.mnt}/w")[0], os.stat(f"{w.mnt}/w").st_mode & 0o777), (SET, SET, 0o600),
             "what was set outlives a commit")
        same(os.stat(f"{w.mnt}/.weightfs").st_mode & 0o777, 0o555, "the hidden directory is as ever")
        before = os.umask(0o077)
        write(f"{w.mnt}/secret", b"1\n")
        os.mkdir(f"{w.mnt}/private", 0o755)
        os.umask(before)
        same([oct(os.stat(f"{w.mnt}/{n}").st_mode) for n in ("secret", "private")], ["0o100600", "0o40700"], "a new entry has the mode it is made with")
        with open(f"{w.mnt}/w", "r+b") as f:
            os.unlink(f"{w.mnt}/w")
            os.utime(f.fileno(), ns=(SET - 5, SET - 5))
            same(os.fstat(f.fileno()).st_mtime_ns, SET - 5, "of a file without a name")
    with World(sys.argv[1], with_list) as w:
        w.mount("-o", "ro")
        same(run("touch", f"{w.mnt}/w").returncode, 1, "a read-only mount sets none")


def after_a_kill():
    with World(sys.argv[1], make) as w:
        w.mount()
        write_at(f"{w.mnt}/row", floats(1, 77))
        write(f"{w.mnt}/d/a", b"5\n")
        os.rename(f"{w.mnt}/e", f"{w.mnt}/f")
        run("sync", w.mnt)
        start = os.stat(f"{w.file}.weightfs/log").st_mtime_ns
        w.crash()
        later = {n for n in names(w.mnt) if times(f"{w.mnt}/{n}")[0] >= start}
        same(later, {"row", "whole", "d/a", ""}, "edits that a log brings back are newer than the file")


def listed(*command):
    """What rsync -i says that it did."""
    r = run("rsync", "-i", *command)
    ok(r.returncode == 0 and not r.stderr, f"rsync {' '.join(command[:-2])}", r)
    return sorted(line.split()[1] for line in r.stdout.splitlines() if " " in line)


def copying_tools():
    if not shutil.which("rsync"):
        skip("rsync", "rsync is not installed")
        return
    with World(sys.argv[1], make) as w:
        w.mount()
        out, back = f"{w.dir}/out", f"{w.dir}/back"
        listed("-a", f"{w.mnt}/", f"{out}/")
        same(listed("-a", f"{w.mnt}/", f"{out}/"), [], "a second rsync out of the mount copies nothing")
        write_at(f"{w.mnt}/w", floats(1, 9))
        write(f"{w.mnt}/epoch", b"12\n")
        same(listed("-a", f"{w.mnt}/", f"{out}/"), ["epoch", "w"], "after two edits of the same size those two")
        same(run("diff", "-r", w.mnt, out).returncode, 0, "and the copy is right")
        run(w.wfctl, "commit", w.mnt)
        same(listed("-a", f"{w.mnt}/", f"{out}/"), [], "after a commit nothing")
        write_at(f"{w.mnt}/w", floats(1, 10))
        same(run("cp", "-u", f"{w.mnt}/w", f"{out}/w").returncode, 0, "cp -u")
        same(read(f"{out}/w"), read(f"{w.mnt}/w"), "takes the edit")
        shutil.copytree(out, back, symlinks=True)
        write(f"{back}/epoch", b"99\n")
        os.chmod(f"{back}/text", 0o600)
        os.utime(f"{back}/w", ns=(SET, SET))
        for flags in ("-a", "-aI"):
            listed(flags, f"{back}/", f"{w.mnt}/")
        same(read(f"{w.mnt}/epoch"), b"99\n", "rsync into the mount")
        same(listed("-a", f"{back}/", f"{w.mnt}/"), [], "a second one copies nothing")
        same((times(f"{w.mnt}/w")[0], os.stat(f"{w.mnt}/text").st_mode & 0o777), (SET, 0o600), "times and modes arrive")
        same(listed("-a", "--inplace", f"{back}/", f"{w.mnt}/"), [], "nor one with --inplace")
        run(w.wfctl, "commit", w.mnt)
        same(listed("-a", f"{back}/", f"{w.mnt}/"), [], "nor one after a commit")
        for tool in (["cp", "-a", f"{back}/.", w.mnt], ["cp", "-p", f"{back}/w", f"{w.mnt}/w"],
                     ["sh", "-c", f"tar --format=posix -C {back} -cf - . | tar -C {w.mnt} -xpf -"], ["install", "-p", "-m", "640", f"{back}/w", f"{w.mnt}/v"]):
            r = run(*tool)
            ok(r.returncode == 0 and not r.stderr, f"{tool[0]} into the mount says nothing", r)
        same((times(f"{w.mnt}/w")[0], times(f"{w.mnt}/v")[0], os.stat(f"{w.mnt}/v").st_mode & 0o777), (SET, SET, 0o640), "and its times are there")
        same(listed("-a", f"{back}/", f"{w.mnt}/"), ["./"], "and rsync finds nothing to do but for the directory of the new entry")


def ordinary_user():
    if os.getuid() != 0:
        skip("an ordinary user", "needs root to become one")
        return
    with World(sys.argv[1], make) as w:
        os.chmod(w.dir, 0o755)
        w.mount("-o", "allow_other,uid=12345,gid=12345")
        os.mkdir(f"{w.dir}/his")
        os.chown(f"{w.dir}/his", 12345, 12345)

        def as_user(*command):
            return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                                  user=12345, group=12345, extra_groups=[54321])
        for command in (["rsync", "-a", f"{w.mnt}/", f"{w.dir}/his/out/"], ["rsync", "-a", f"{w.dir}/his/out/", f"{w.mnt}/"],
                        ["cp", "-a", f"{w.dir}/his/out/.", w.mnt], ["touch", "-d", "@1600000000", f"{w.mnt}/w"], ["chmod", "600", f"{w.mnt}/w"],
                        ["chgrp", "54321", f"{w.mnt}/w"]):
            if shutil.which(command[0]):
                r = as_user(*command)
                ok(r.returncode == 0 and not r.stderr, f"an ordinary user's {command[0]}", r)
        for command in (["chown", "0", f"{w.mnt}/w"], ["chgrp", "7", f"{w.mnt}/w"]):
            same((as_user(*command).returncode, os.stat(f"{w.mnt}/w").st_uid), (1, 12345), f"{command[0]} away is refused")


stat_everything()
set_times()
after_a_kill()
copying_tools()
ordinary_user()
done()
