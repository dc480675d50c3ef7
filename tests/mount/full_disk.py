# SPDX-License-Identifier: MIT
"""A disk without room: what was edited stays, removing works and gives back what it held, and nothing is said that is not so.

Usage: full_disk.py BUILD_DIRECTORY. Prints TAP.
"""
import errno
import os
import resource
import subprocess
import sys

from kit import World, done, error_of, eventually, need_fuse, ok, read, run, same, skip, write
from minicheckpoint import Storage, Tensor, save

BUILD = sys.argv[1]
MIB = 1 << 20


def checkpoint(path):
    save(path, {"w": Tensor("uint8", (400_000,), bytes(400_000)), "epoch": 1, **{f"k{i}": i for i in range(300)}})


class Disk(World):
    """The checkpoint is on a file system of its own."""

    def __init__(self, kib):
        super().__init__(BUILD, lambda path: None)
        self.kib = kib

    def __enter__(self):
        super().__enter__()
        self.disk = f"{self.dir}/disk"
        os.mkdir(self.disk)
        run("mount", "-t", "tmpfs", "-o", f"size={self.kib}k", "tmpfs", self.disk)
        self.file = f"{self.disk}/m.pt"
        checkpoint(self.file)
        return self

    def free(self):
        st = os.statvfs(self.disk)
        return st.f_bavail * st.f_frsize

    def fill(self):
        with open(f"{self.disk}/filler", "ab") as f:
            try:
                while True:
                    os.write(f.fileno(), bytes(4096))
            except OSError as e:
                return e.errno

    def grow(self):
        run("mount", "-o", "remount,size=16m", self.disk)


def copy_in(w, name, size):
    return error_of(lambda: write(f"{w.mnt}/{name}", bytes(range(256)) * (size // 256)))


def failed_copy():
    """rm of what filled the disk gives all of it back, and the commit has room again."""
    for synced in (False, True):
        with Disk(3 * 1024) as w:
            w.mount()
            write(f"{w.mnt}/epoch", b"5\n")
            if synced:
                run("sync", w.mnt)
            before = w.free()
            same(copy_in(w, "big", 4_000_000), errno.ENOSPC, "a copy that finds no room")
            if synced: # its records are in the log: until the removal is, too, its bytes must stay
                run("sync", w.mnt)
            same(error_of(lambda: os.unlink(f"{w.mnt}/big")), 0, "can be removed")
            ok(eventually(lambda: w.free() > before - 100_000), "and gives back what it took", (before, w.free()))
            r = run(w.wfctl, "commit", w.mnt)
            ok(r.returncode == 0, "then there is room for a commit", r)
            same(read(f"{w.mnt}/epoch"), b"5\n", "of what was edited before")
            w.umount()


def judged_without_room():
    """Content that others see through a view is written over when it is closed: what fails then leaves the old one, at once."""
    with Disk(4 * 1024) as w:
        shared = Storage("uint8", bytes(range(256)) * 4096)
        save(w.file, {"half": Tensor("uint8", (MIB // 2,), b"", shared), "all": Tensor("uint8", (MIB,), b"", shared)})
        w.mount()
        new = b"x" * (MIB // 2)
        w.fill()
        with open(f"{w.disk}/filler", "r+b") as f:
            f.truncate(f.seek(0, os.SEEK_END) - 3 * MIB // 4)
        fd = os.open(f"{w.mnt}/half", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, new)
        same(error_of(lambda: os.close(os.dup(fd))), errno.ENOSPC, "a close that has no room for what it writes")
        same([read(f"{w.mnt}/{k}") == shared.data[:n] for k, n in (("half", MIB // 2), ("all", MIB))], [True] * 2, "and the old bytes are there by then")
        os.close(fd)
        same([read(f"{w.mnt}/{k}") == shared.data[:n] for k, n in (("half", MIB // 2), ("all", MIB))], [True] * 2, "and stay")
        w.grow()
        same(error_of(lambda: write(f"{w.mnt}/half", new)), 0, "with room it is written")
        same([read(f"{w.mnt}/{k}") for k in ("half", "all")] == [new, new + shared.data[MIB // 2:]], True, "and both show it")
        w.umount()


def no_room_for_a_backup():
    """A backup that shows its key's bytes gets bytes of its own before one of the two is written: without room neither is."""
    old, name = bytes(range(256)) * 4096, "w"
    with Disk(6 * 1024) as w:
        save(w.file, {name: Tensor("float32", (MIB // 4,), old)})
        w.mount()
        os.rename(f"{w.mnt}/{name}", f"{w.mnt}/{name}~")
        same(error_of(lambda: write(f"{w.mnt}/{name}", b"abc")), errno.EINVAL, "what does not fit in place of a backup")
        w.fill()
        with open(f"{w.disk}/filler", "r+b") as f:
            f.truncate(f.seek(0, os.SEEK_END) - MIB // 2)
        new = old[:8] + b"1234" + old[12:]
        for written in (f"{name}~", name):
            fd = os.open(f"{w.mnt}/{written}", os.O_RDWR)
            same(error_of(lambda: (os.pwrite(fd, b"1234", 8), os.fsync(fd))), errno.ENOSPC, f"no room to write {written}")
            error_of(lambda: os.close(fd))
            same([read(f"{w.mnt}/{n}") == old for n in (name, f"{name}~")], [True] * 2, "and both are as they were")
        w.grow()
        fd = os.open(f"{w.mnt}/{name}~", os.O_RDWR)
        same(error_of(lambda: (os.pwrite(fd, b"1234", 8), os.fsync(fd))), 0, "with room the backup is written")
        os.close(fd)
        w.crash()
        same([read(f"{w.mnt}/{name}") == old, read(f"{w.mnt}/{name}~") == new], [True] * 2, "alone, and after a kill, too")
        w.umount()


def removals():
    """Nothing free at all: names can be removed, durably."""
    with Disk(3 * 1024) as w:
        w.mount()
        os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")
        same(w.fill(), errno.ENOSPC, "the disk is full")
        same([error_of(lambda: os.unlink(f"{w.mnt}/k{i}")) for i in range(300)], [0] * 300, "300 names are removed")
        same(run("sync", w.mnt).returncode, 0, "durably")
        w.crash()
        same(sorted(os.listdir(w.mnt)), ["era", "w"], "they are gone after a kill")
        errors = {error_of(lambda: os.mkdir(f"{w.mnt}/{'x' * 200}{i}")) for i in range(2000)}
        same(errors - {0}, {errno.ENOSPC}, "what needs room is refused in the end")
        same(error_of(lambda: os.unlink(f"{w.mnt}/w")), 0, "and a removal is still possible")
        r = run(w.wfctl, "commit", w.mnt)
        ok(r.returncode == 1 and "No space" in r.stderr and r.stderr.count("\n") == 1, "a commit says what is missing", r)
        r = run(w.wfctl, "discard", w.mnt)
        ok(r.returncode == 0 and len(os.listdir(w.mnt)) == 302, "a discard needs no room", r)
        w.umount()
        same(sorted(os.listdir(w.disk)), ["filler", "m.pt"], "nothing is left")


def remembered():
    """A commit that fails at the unmount, when nobody is there to be told: the next mount and status say so."""
    with Disk(3 * 1024) as w:
        w.mount("-o", "commit=replace")
        write(f"{w.mnt}/epoch", b"5\n")
        os.rename(f"{w.mnt}/k1", f"{w.mnt}/one")
        w.fill()
        w.umount()
        r = run(w.wfctl, "status", w.file)
        ok(r.returncode == 0 and '"last_error": "there is no room' in r.stdout and "No space" in r.stdout, "status tells of it", r)
        r = w.mount("-o", "ro")
        ok(r.returncode == 0 and r.stderr.count("\n") == 1 and "No space" in r.stderr and f"{w.file}.weightfs" in r.stderr, "the next mount as well", r)
        same((read(f"{w.mnt}/epoch"), "No space" in w.status()["last_error"]), (b"5\n", True), "the edits are there, and the mount's status says it")
        ok("No space" in read(f"{w.mnt}/.weightfs/log").decode(), "and its log")
        w.umount()
        r = run(w.wfctl, "commit", w.file)
        ok(r.returncode == 1 and "No space" in r.stderr, "a commit fails as before", r)
        w.grow()
        r = run(w.wfctl, "commit", w.file)
        ok(r.returncode == 0 and not os.path.exists(f"{w.file}.weightfs"), "with room it works", r)
        r = w.mount()
        ok(not r.stderr and w.status()["last_error"] is None and read(f"{w.mnt}/one") == b"1\n", "and nothing is told any more", r)
        w.umount()


def to_output():
    """The same with output=FILE: the edits wait beside that."""
    with Disk(2 * 1024) as w:
        source = f"{w.dir}/source.pt"
        checkpoint(source)
        w.file, out = source, f"{w.disk}/out.pt"
        w.mount("-o", f"output={out}")
        write(f"{w.mnt}/epoch", b"5\n")
        w.fill()
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 1 and "No space" in r.stderr and w.mounts(), "wfctl umount says why, and leaves the mount", r)
        w.umount()
        r = w.mount("-o", f"output={out}")
        ok(r.returncode == 0 and "No space" in r.stderr and read(f"{w.mnt}/epoch") == b"5\n", "the next mount has the edits and says what failed", r)
        os.unlink(f"{w.disk}/filler")
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0 and not r.stderr and os.path.exists(out) and not os.path.exists(f"{out}.weightfs"), "with room it is committed", r)
        # the second commit of a mount goes on from the output: in place, where that was asked for
        w.mount("-o", f"output={out},commit=append")
        write(f"{w.mnt}/epoch", b"6\n")
        same(run(w.wfctl, "commit", w.mnt).returncode, 0, "a commit to an output that is there")
        ino = os.stat(out).st_ino
        write(f"{w.mnt}/epoch", b"7\n")
        r = run(w.wfctl, "umount", w.mnt)
        same((r.returncode, os.stat(out).st_ino == ino), (0, True), "the next one is appended to it")
        w.file = out
        w.mount("-o", "ro")
        same(read(f"{w.mnt}/epoch"), b"7\n", "it has the last edit")
        w.umount()


def every_stage():
    """The room ends a page later each time: whatever fails says so, and what was accepted is committed when there is room."""
    failed = {"edit": 0, "write": 0, "sync": 0, "commit": 0}
    wrong = []
    for pages in list(range(1, 60)) + list(range(60, 260, 9)):
        with Disk(8 * 1024) as w:
            w.fill()
            os.truncate(f"{w.disk}/filler", os.stat(f"{w.disk}/filler").st_size - pages * 4096)
            w.mount("-o", "commit=replace")
            expected = {"w": bytes(400_000), "epoch": b"1\n"}
            if error_of(lambda: os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")):
                failed["edit"] += 1
            else:
                expected["era"] = expected.pop("epoch")
            if copy_in(w, "new", 204_800):
                failed["write"] += 1
                if os.path.exists(f"{w.mnt}/new"):
                    expected["new"] = None
            else:
                expected["new"] = bytes(range(256)) * 800
            failed["sync"] += run("sync", w.mnt).returncode != 0
            r = run(w.wfctl, "commit", w.mnt)
            failed["commit"] += r.returncode != 0
            if r.returncode and ("No space" not in r.stderr or read(w.file)[:2] != b"PK"):
                wrong.append((pages, r))
            if w.daemon().wait(0):
                wrong.append((pages, "the daemon has ended"))
            w.grow()
            r = run(w.wfctl, "umount", w.mnt)
            if r.returncode:
                wrong.append((pages, r))
            w.mount("-o", "ro")
            for name, content in expected.items():
                if not os.path.exists(f"{w.mnt}/{name}") or content is not None and read(f"{w.mnt}/{name}") != content:
                    wrong.append((pages, name))
            w.umount()
    same(wrong, [], "what was accepted is there")
    ok(failed["edit"] and failed["write"] and failed["commit"] and not failed["sync"], "every stage was met; a sync has its room", failed)


def size_limit():
    """A limit on the size of files (or a quota) is such an error, too, and no signal."""
    with World(BUILD, checkpoint) as w:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
        subprocess.run([w.weightfs, w.file, w.mnt], preexec_fn=limit, check=True)
        write(f"{w.mnt}/epoch", b"5\n")
        same(copy_in(w, "big", 2_000_000), errno.EFBIG, "a file above the limit")
        same(error_of(lambda: os.unlink(f"{w.mnt}/big")), 0, "can be removed")
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0, "and the rest is committed", r)


need_fuse()
if os.geteuid() == 0:
    failed_copy()
    judged_without_room()
    no_room_for_a_backup()
    removals()
    remembered()
    to_output()
    every_stage()
else:
    skip("full disks", "only root can make one")
size_limit()
done()
