#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Kills the daemon, and fails its system calls, at every point of a commit and of an fsync.

Usage: crash.py BUILD_DIR DIE_AT_LIBRARY [--points N]

For each mode of commit: N calls change files during one commit. In turn the process is killed at call 1, 2, ... N; after each, the
checkpoint must be the old one or the new one, and the next mount must show every fsynced edit and be able to commit. The same
with ENOSPC and EIO: the commit must report the fault or get along without that call; in the first case checkpoint and mount are as
they were and a second commit succeeds. An fsync is treated alike: killed inside, each edit is there or not; once it has returned,
all are. A commit of a safetensors file likewise, one that changes the file in its place at every call. Where there are more points than --points, an even sample of them is taken, and the
counts say so. Prints TAP.
"""
import argparse
import functools
import hashlib
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import OrderedDict

import kit
from minicheckpoint import Storage, Tensor, save

if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    print("1..0 # SKIP /dev/fuse is missing, or not for this user")
    sys.exit(0)

args = argparse.ArgumentParser()
args.add_argument("build")
args.add_argument("library")
args.add_argument("--points", type=int, default=40)
args = args.parse_args()
WEIGHTFS, WFCTL = (os.path.join(args.build, "fs", name) for name in ("weightfs", "wfctl"))


class Mismatch(Exception):
    pass


def floats(n, start):
    return struct.pack(f"<{n}f", *(start + i for i in range(n)))


@functools.cache
def content():
    """Made once."""
    shared = Storage("float32", floats(600, 5))
    with tempfile.NamedTemporaryFile() as file:
        save(file.name, OrderedDict([
            ("a", Tensor("float32", (20000,), floats(20000, 1))),
            ("b", Tensor("float32", (300, 10), floats(3000, 2))),
            ("c", Tensor("int64", (4,), struct.pack("<4q", 1, 2, 3, 4))),
            ("tie", Tensor("float32", (600,), b"", storage=shared)),
            ("view", Tensor("float32", (10, 20), b"", storage=shared, offset=100, stride=(1, 10))),
            ("epoch", 3),
            ("sub", OrderedDict(x=Tensor("float32", (5,), floats(5, 3)), lr=0.1)),
        ]))
        return kit.read(file.name)


def snapshot(mnt):
    """Everything that the mount shows, in order."""
    seen = []
    for where, dirs, files in os.walk(mnt):
        seen.append((os.path.relpath(where, mnt), tuple(os.listdir(where))))
        for name in files:
            with open(os.path.join(where, name), "rb") as f:
                seen.append((os.path.relpath(f.name, mnt), f.read()))
    metadata = os.path.join(mnt, ".weightfs", "metadata")  # of a safetensors file
    for name in sorted(os.listdir(metadata)) if os.path.isdir(metadata) else []:
        with open(os.path.join(metadata, name), "rb") as f:
            seen.append((".weightfs/metadata/" + name, f.read().rstrip(b"\n")))
    return seen


class World:
    """A directory with a checkpoint, and the daemon on it."""

    in_place = False  # commits change the file itself: while one is under way it is no checkpoint

    def __init__(self):
        # the kernel's memory cannot insert bytes into a file
        self.dir = tempfile.mkdtemp(prefix="weightfs-crash-", dir=None if self.in_place else kit.memory())
        self.file, self.mnt, self.plan_file = (os.path.join(self.dir, n) for n in ("model/m.pt", "mnt", "plan"))
        os.mkdir(os.path.join(self.dir, "model"))
        os.mkdir(self.mnt)
        self.make()

    def make(self):
        kit.write(self.file, content())

    def check(self):
        """The file is whole, to somebody who knows nothing of overlays."""
        with zipfile.ZipFile(self.file) as z:
            if z.testzip():
                raise Mismatch("zipfile finds a bad record")

    def plan(self, text):
        with open(self.plan_file + ".new", "w") as f:
            f.write(text)
        os.rename(self.plan_file + ".new", self.plan_file)

    def calls(self):
        with open(self.plan_file + ".count") as f:
            return int(f.read() or 0)  # it may be about to be written

    def mount(self, options, faults=False):
        env = dict(os.environ)
        if faults:
            self.plan("0 setup")
            env.update(LD_PRELOAD=args.library, DIE_AT=self.plan_file)
        # a daemon that was killed may hold its lock for a moment longer
        for _ in range(50):
            if subprocess.run([WEIGHTFS, "-o", options, self.file, self.mnt], env=env, stdout=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        raise Mismatch("the checkpoint does not mount")

    def umount(self):
        subprocess.run([WFCTL, "umount", self.mnt], check=True)

    def detach(self):
        subprocess.run(["umount", "-l", self.mnt], check=True)

    def edits(self):
        """A list of edits; each is a function, so that a caller may stop in between."""
        def at(*names):
            return os.path.join(self.mnt, *names)

        def write(path, offset, data):
            with open(path, "r+b") as f:
                f.seek(offset)
                f.write(data)

        def create():
            with open(at("new"), "wb") as f:
                f.write(b"\1\2\3\4" * 100)
            os.setxattr(at("new"), "user.torch.dtype", b"int32")

        def epoch():
            with open(at("epoch"), "w") as f:
                f.write("11\n")
        return [lambda: os.rename(at("a"), at("renamed")), lambda: write(at("b"), 1000, b"\7" * 500), epoch,
                lambda: os.unlink(at("c")), lambda: write(at("view"), 40, b"\5" * 80), create,
                lambda: os.mkdir(at("sub", "deeper")), lambda: os.rename(at("tie"), at("sub", "tie"))]

    def sync(self):
        fd = os.open(self.mnt, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sha(self):
        with open(self.file, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def read_back(self):
        """What the file itself says, without an overlay's help: everything through a read-only mount, and zipfile's opinion."""
        left = sorted(os.listdir(os.path.dirname(self.file)))
        if left != ["m.pt"]:
            raise Mismatch(f"left behind: {left}")
        self.check()
        self.mount("ro")
        try:
            return snapshot(self.mnt)
        finally:
            self.umount()

    def remove(self):
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


class FlatWorld(World):
    """The same with a safetensors file, of which every commit makes a new file."""

    last = b"12345"

    def make(self):
        tensors = {"a": ("F32", 20000, floats(20000, 1)), "b": ("F32", 3000, floats(3000, 2)), "c": ("I64", 4, struct.pack("<4q", 1, 2, 3, 4)),
                   "view": ("U8", len(self.last), self.last)}
        head, at = {"__metadata__": {"format": "pt"}}, 0
        for name, (dtype, count, data) in tensors.items():
            head[name] = {"dtype": dtype, "shape": [count], "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with open(self.file, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))

    def edits(self):
        def at(*names):
            return os.path.join(self.mnt, *names)

        def metadata():
            with open(at(".weightfs", "metadata", "epoch"), "w") as f:
                f.write("11\n")
        a, b, epoch, c, view, new = super().edits()[:6]
        return [a, b, metadata, c, lambda: os.link(at("b"), at("d")), new]

    def check(self):
        with open(self.file, "rb") as f:
            content = f.read()
        n, = struct.unpack_from("<Q", content)
        ends = [e["data_offsets"][1] for name, e in json.loads(content[8:8 + n]).items() if name != "__metadata__"]
        if 8 + n + max(ends) != len(content):
            raise Mismatch("the file is torn")


class InPlaceWorld(FlatWorld):
    """The same with commit=append, and edits after which the file can stay: a header that outgrows its room, bytes inside a tensor, one of
    which all bytes are new, two that are new."""

    in_place = True
    last = b"12345678"  # what comes behind it is aligned

    def edits(self):
        def at(*names):
            return os.path.join(self.mnt, *names)

        def metadata():
            with open(at(".weightfs", "metadata", "history"), "w") as f:
                f.write("trained, and trained again; " * 200)

        def replace():
            with open(at("c"), "wb") as f:
                f.write(struct.pack("<4q", 5, 6, 7, 8))
        a, b = World.edits(self)[:2]
        new = World.edits(self)[5]
        return [a, b, metadata, replace, lambda: os.link(at("b"), at("d")), new]


class CutWorld(InPlaceWorld):
    """A tensor at the end goes, and a smaller one comes."""

    def edits(self):
        def new():
            with open(os.path.join(self.mnt, "n"), "wb") as f:
                f.write(b"abc")
        a, b = World.edits(self)[:2]
        return [a, b, lambda: os.unlink(os.path.join(self.mnt, "view")), new]


kind = World  # which of them the functions below make


def points(total):
    if total <= args.points:
        return list(range(1, total + 1))
    return sorted({1 + round(i * (total - 1) / (args.points - 1)) for i in range(args.points)})


def commit(world):
    return subprocess.run([WFCTL, "commit", world.mnt], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def reference(mode):
    """States before and after, and the number of calls of one commit and of one fsync, from a run without faults."""
    w = kind()
    try:
        w.mount(f"commit={mode}", faults=True)
        old = snapshot(w.mnt)
        for edit in w.edits():
            edit()
        w.plan("0 fsync")
        w.sync()
        sync_calls = w.calls()
        new = snapshot(w.mnt)
        w.plan("0 commit")
        inode = os.stat(w.file).st_ino
        if commit(w).returncode != 0:
            raise Mismatch("a commit without faults failed")
        if (os.stat(w.file).st_ino == inode) != (mode == "append"):
            raise Mismatch("the commit went another way: " + open(os.path.join(w.mnt, ".weightfs", "log")).read()[-300:])
        commit_calls = w.calls()
        if snapshot(w.mnt) != new:
            raise Mismatch("the mount changed over a commit")
        w.umount()
        if w.read_back() != new:
            raise Mismatch("the file does not say what the mount said")
        return old, new, sync_calls, commit_calls
    finally:
        w.remove()


def finish(w, mode, expected):
    """After a kill: the next mount shows one of the expected states, commits it, and the file then says the same."""
    w.mount(f"commit={mode}")
    now = snapshot(w.mnt)
    if now not in expected:
        raise Mismatch("the next mount shows a state that was never fsynced: " +
                       ", ".join(sorted({str(a[0]) for a in now if a not in expected[-1]})))
    result = commit(w)
    if result.returncode != 0:
        raise Mismatch("the next commit failed: " + result.stderr.strip())
    w.umount()
    if w.read_back() != now:
        raise Mismatch("the file does not say what the mount said")


def read_cut_short(w, states):
    """A reader, which repairs nothing, shows all of a state or refuses and says what to do."""
    mounted = subprocess.run([WEIGHTFS, "-o", "ro", w.file, w.mnt], stderr=subprocess.PIPE, text=True)
    if mounted.returncode and "cut short" not in mounted.stderr:
        raise Mismatch("a reader: " + mounted.stderr.strip())
    if mounted.returncode == 0:
        now = snapshot(w.mnt)
        w.umount()
        if now not in states:
            raise Mismatch("a reader is shown a state that there never was")


def kill_in_commit(mode, at, old, new):
    w = kind()
    try:
        w.mount(f"commit={mode}", faults=True)
        for edit in w.edits():
            edit()
        w.sync()
        w.plan(f"{at} kill")
        result = commit(w)
        w.detach()
        if mode == "replace":
            w.check()  # whole at every instant, not only after the next mount
        if w.in_place:
            read_cut_short(w, (old, new))
        if result.returncode == 0:
            raise Mismatch("a killed commit was reported as done")
        finish(w, mode, [new])
    finally:
        w.remove()


def fail_in_commit(mode, at, error, old, new):
    """Returns whether the commit reported the fault."""
    w = kind()
    try:
        w.mount(f"commit={mode}", faults=True)
        for edit in w.edits():
            edit()
        w.sync()
        before = w.sha()
        w.plan(f"{at} {error}")
        result = commit(w)
        if snapshot(w.mnt) != new:
            raise Mismatch("the mount changed over a failed commit")
        if result.returncode != 0 and w.sha() != before:
            raise Mismatch("a failed commit changed the checkpoint")
        if result.returncode != 0 and not result.stderr.strip():
            raise Mismatch("a failed commit said nothing")
        w.plan("0 again")
        again = commit(w)
        if again.returncode != 0:
            raise Mismatch("a second commit failed: " + again.stderr.strip())
        if snapshot(w.mnt) != new:
            raise Mismatch("the mount changed over the second commit")
        w.umount()
        if w.read_back() != new:
            raise Mismatch("the file does not say what the mount said")
        return result.returncode != 0
    finally:
        w.remove()


def kill_in_fsync(at, states):
    w = kind()
    try:
        w.mount("commit=replace", faults=True)
        for edit in w.edits():
            edit()
        w.plan(f"{at} kill")
        try:
            w.sync()
        except OSError:
            pass
        w.detach()
        finish(w, "replace", states)
    finally:
        w.remove()


def kill(w):
    with open(os.path.join(w.mnt, ".weightfs", "status")) as f:
        pid = json.load(f)["pid"]
    process = os.pidfd_open(pid)
    os.kill(pid, 9)
    select.select([process], [], []) # until it has ended, it holds the checkpoint's lock
    os.close(process)
    w.detach()


def fail_in_fsync(at, error, new):
    w = kind()
    try:
        w.mount("commit=replace", faults=True)
        for edit in w.edits():
            edit()
        w.plan(f"{at} {error}")
        try:
            w.sync()
            reported = False
        except OSError:
            reported = True
        w.plan("0 again")
        w.sync()
        kill(w)
        finish(w, "replace", [new])
        return reported
    finally:
        w.remove()


def read_while_commit_waits(at, x):
    """A commit that stands still: edits wait for it, each in a thread of the daemon, and reads are answered all the same."""
    w, started = kind(), []

    def start(*command):
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]
    try:
        w.mount("commit=replace", faults=True)
        for edit in w.edits():
            edit()
        gate, count = w.plan_file + ".gate", w.plan_file + ".count"
        os.mkfifo(gate)
        os.unlink(count)
        w.plan(f"{at} wait")
        committing = start(WFCTL, "commit", w.mnt)
        while not (os.path.exists(count) and w.calls() >= at):
            if committing.poll() is not None:
                raise Mismatch("the commit did not come to the gate")
            time.sleep(0.01)
        # one for each file: the kernel lets only one at a time into the same one
        writers = [start("dd", "if=/dev/zero", f"of={w.mnt}/{name}", "bs=4", "count=1", "conv=notrunc")
                   for name in ("renamed", "b", "view", "new", "sub/tie", "epoch")]
        seen = [subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
                for command in (["cat", f"{w.mnt}/.weightfs/status"], ["dd", f"if={w.mnt}/sub/x", "iflag=direct", "bs=4096", "status=none"])]
        waiting = [p for p in writers if p.poll() is None]
        with open(gate, "w"):
            pass
        if committing.wait(60) or [p.wait(60) for p in writers].count(0) < 5:  # zero bytes are no number: epoch may refuse
            raise Mismatch("the commit or an edit failed in the end")
        if not json.loads(seen[0])["commit"] or seen[1] != x:
            raise Mismatch(f"read {seen[1]!r} while the status was {seen[0]!r}")
        if len(waiting) < 5:
            raise Mismatch(f"only {len(waiting)} of {len(writers)} edits waited for the commit")
        w.umount()
    finally:
        w.remove()
        for process in started:
            process.kill()


def put_aside(w, mode):
    w.mount(f"commit={mode}", faults=True)
    keep = {name: open(os.path.join(w.mnt, name), "rb").read() for name in ("c", "view")}
    for edit in w.edits()[:3]:
        edit()
    for name in keep:
        os.rename(os.path.join(w.mnt, name), os.path.join(w.mnt, name + ".aside~"))
    w.sync()
    return keep


def kill_with_scratch(mode, at):
    """Entries under scratch names, which the commit leaves out of the checkpoint and takes over into the next log: they are there whatever
    came of the commit. Returns whether it was done."""
    w = kind()
    try:
        keep = put_aside(w, mode)
        w.plan(f"{at} kill")
        commit(w)
        w.detach()
        read_cut_short(w, ()) if w.in_place else w.mount("ro")
        if not w.in_place and {name for name in os.listdir(w.mnt) if name.endswith(".aside~")} != {name + ".aside~" for name in keep}:
            raise Mismatch(f"a read-only mount has {os.listdir(w.mnt)}")
        subprocess.run(["umount", "-l", w.mnt], stderr=subprocess.DEVNULL)
        mounted = subprocess.run([WEIGHTFS, w.file, w.mnt], stderr=subprocess.PIPE, text=True)
        if mounted.returncode or "left out" in mounted.stderr:
            raise Mismatch("the next mount: " + mounted.stderr)
        names = os.listdir(w.mnt)
        if [name for name in names if name in keep] or "renamed" not in names:
            raise Mismatch(f"the next mount has {names}")
        found = {name: open(os.path.join(w.mnt, name + ".aside~"), "rb").read() for name in keep if name + ".aside~" in names}
        if found != keep:
            raise Mismatch(f"scratch entries are {sorted(found)}")
        for name in found:
            os.rename(os.path.join(w.mnt, name + ".aside~"), os.path.join(w.mnt, name))
        seen = snapshot(w.mnt)
        w.umount()
        if w.read_back() != seen:
            raise Mismatch("the file does not say what the mount said")
        return "the last commit is complete" in mounted.stderr
    finally:
        w.remove()


def fail_with_scratch(mode, at, error):
    """Returns whether the commit reported the fault. What is under scratch names is there after it and after a kill."""
    w = kind()
    try:
        put_aside(w, mode)
        seen = snapshot(w.mnt)
        w.plan(f"{at} {error}")
        reported = commit(w).returncode != 0
        w.plan("0 again")
        if snapshot(w.mnt) != seen:
            raise Mismatch("the mount changed over a failed commit")
        again = commit(w)
        if again.returncode != 0:
            raise Mismatch("a second commit failed: " + again.stderr.strip())
        kill(w)
        w.mount(f"commit={mode}")
        if sorted(snapshot(w.mnt)) != sorted(seen):
            raise Mismatch("the next mount shows something else")
        w.umount()
        return reported
    finally:
        w.remove()


def calls_with_scratch(mode):
    w = kind()
    try:
        put_aside(w, mode)
        w.plan("0 commit")
        if commit(w).returncode != 0:
            raise Mismatch("a commit with scratch entries failed")
        return w.calls()
    finally:
        w.remove()


def prefixes():
    """The state after each edit: what a kill inside an fsync may leave, since the log holds the edits in order."""
    w = kind()
    try:
        w.mount("commit=replace")
        states = [snapshot(w.mnt)]
        for edit in w.edits():
            edit()
            states.append(snapshot(w.mnt))
        return states
    finally:
        w.remove()


def main():
    global kind
    n = failed = 0

    def case(name, call, said="reported"):
        nonlocal n, failed
        n += 1
        bad, reported, tried = [], 0, 0
        total, each = call
        for at, result, error in kit.side_by_side(each, points(total)):
            tried += 1
            reported += bool(result)
            if error:
                bad.append(f"call {at}: {error}")
        times = f", {said} {reported} times" if reported else ""
        print(f"{'not ' if bad else ''}ok {n} - {name} at {tried} of {total} calls{times}", flush=True)
        for line in bad[:10]:
            print(f"#   {line}")
        failed += bool(bad)

    states = prefixes()
    for mode in ("replace", "append"):
        old, new, sync_calls, commit_calls = reference(mode)
        case(f"{mode}: killed in a commit", (commit_calls, lambda at: kill_in_commit(mode, at, old, new)))
        for error in ("ENOSPC", "EIO"):
            case(f"{mode}: {error} in a commit", (commit_calls, lambda at: fail_in_commit(mode, at, error, old, new)))
        calls = calls_with_scratch(mode)
        case(f"{mode}: killed in a commit with scratch entries", (calls, lambda at: kill_with_scratch(mode, at)), said="done")
        case(f"{mode}: EIO in a commit with scratch entries", (calls, lambda at: fail_with_scratch(mode, at, "EIO")))
        if mode == "replace":
            case("read while edits wait for a commit", (1, lambda _: read_while_commit_waits(commit_calls * 3 // 4, floats(5, 3))))
    case("killed in an fsync", (sync_calls, lambda at: kill_in_fsync(at, states)))
    for error in ("ENOSPC", "EIO"):
        case(f"{error} in an fsync", (sync_calls, lambda at: fail_in_fsync(at, error, new)))
    kind = FlatWorld
    args.points = min(args.points, 20)
    old, new, _, commit_calls = reference("replace")
    case("safetensors: killed in a commit", (commit_calls, lambda at: kill_in_commit("replace", at, old, new)))
    case("safetensors: ENOSPC in a commit", (commit_calls, lambda at: fail_in_commit("replace", at, "ENOSPC", old, new)))
    sample = args.points
    for kind, what in ((InPlaceWorld, "in place"), (CutWorld, "cut in place")):
        args.points = 200  # each of them
        old, new, _, commit_calls = reference("append")
        case(f"safetensors, {what}: killed in a commit", (commit_calls, lambda at: kill_in_commit("append", at, old, new)))
        args.points = sample
        case(f"safetensors, {what}: EIO in a commit", (commit_calls, lambda at: fail_in_commit("append", at, "EIO", old, new)))
    print(f"1..{n}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
