#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Commits of checkpoints that are directories, killed and failed at each call that changes a file, with wfctl and in a mount; and a disk that is
really full.

Killed: the old set or the new one, and the next edit leaves nothing behind. Failed (ENOSPC, EIO; an fsync is such a call, too): a commit that
says so left the old set, its edits wait, nothing else is left in the directory, and the same commit succeeds when the fault is gone; one that
says nothing has done all of it.

Usage: directories_faults.py BUILD_DIR DIE_AT. Prints TAP; what needs /dev/fuse is skipped without it.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import directories
from kit import done, floats, memory, ok, read, run, same, side_by_side, skip, write

BUILD, DIE_AT = map(os.path.abspath, sys.argv[1:3])
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
TOP = tempfile.mkdtemp(prefix="weightfs-directories-", dir=memory())
DATA = os.path.join(TOP, "data")
write(DATA, floats(6, 900))


class Plan:
    """What die-at.c is told."""

    def __init__(self, name):
        self.path = os.path.join(TOP, name)

    def env(self):
        return {**os.environ, "LD_PRELOAD": DIE_AT, "DIE_AT": self.path}

    def set(self, text):
        write(self.path + ".new", text.encode())
        os.rename(self.path + ".new", self.path)

    def calls(self):
        return int(read(self.path + ".count") or 0)


def state(d):
    """What is there, or why that is nothing."""
    try:
        return directories.load(d)
    except (AssertionError, OSError, KeyError, AttributeError) as e:
        return f"torn: {e!r}"


def remove(d):
    for path in (d.path, d.path + ".weightfs"):
        shutil.rmtree(path, ignore_errors=True)


# ---- without a mount ----

# a rename alone; bytes, a new key and a removal in one commit
EDITS = {
    "rename": "mv SET layer.0.0 zero\n",
    "several": "mv SET layer.0.0 zero\nset SET layer.1.1 --file DATA\nset SET new --file DATA\nrm SET layer.2.0\n",
}


def wfctl(d, script, plan=None):
    path = d.path + ".script"
    write(path, script.replace("SET", d.path).replace("DATA", DATA).encode())
    return run(WFCTL, "-f", path, env=plan.env() if plan else None)


def at_each_call(kind, what, failure):
    base = directories.make(kind, os.path.join(TOP, f"{kind}-{what}-{failure}"))

    def edited(fault, i):
        d, plan = base.copy(f"{base.path}-{i}"), Plan(f"plan-{i}")
        shutil.copytree(base.path, d.path)
        plan.set(fault)
        return d, wfctl(d, EDITS[what], plan), plan.calls()

    def at(i):
        """What is wrong, and whether the fault was told."""
        d, r, _ = edited(f"{i} {failure}", i)
        now, wrong = state(d), []
        if now not in (old, new):
            return [f"call {i}: neither old nor new: {now}"], False
        if failure != "kill":
            if (r.returncode == 0) != (now == new) or (r.returncode and not r.stderr):
                wrong.append(f"call {i}: exit {r.returncode} with {'new' if now == new else 'old'}: {r.stderr}")
            if set(directories.left_over(d)) - {d.path + ".weightfs"} and "any more" not in r.stderr:
                wrong.append(f"call {i}: left over: {directories.left_over(d)}")
        again = wfctl(d, "mv SET layer.1.0 first\n")
        if again.returncode or "first" not in state(d) or directories.left_over(d):
            wrong.append(f"call {i}: the next edit: {again.stderr} {state(d)} {directories.left_over(d)}")
        remove(d)
        return wrong, r.returncode != 0
    d, r, calls = edited("0 count", 0)
    old, new = state(base), state(d)
    ok(r.returncode == 0 and new != old and "zero" in new and not directories.left_over(d), f"{kind}: {what}: {calls} calls change files", (r, new))
    runs = list(side_by_side(at, range(1, calls + 1)))
    wrong = [line for i, result, error in runs for line in (result[0] if result else [f"call {i}: {error}"])]
    told = sum(bool(result and result[1]) for _, result, _ in runs)
    ok(not wrong, f"{kind}: {what}: {failure} at each of them, told {told} times", "\n".join(wrong))


# ---- in a mount ----

class Mount:
    """One daemon for all faults: each one begins with a change of the plan."""

    def __init__(self, d, plan):
        self.d, self.plan = d, plan
        self.mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
        plan.set("0 setup")
        subprocess.run([WEIGHTFS, d.path, self.mnt], env=plan.env(), check=True)
        self.want = dict(d.want)
        self.renamed = "layer.0.0"
        self.named = directories.named(d)
        self.was_named = set(self.named)

    def edit(self, n):
        """Renames, bytes, a new key, a removal: what is there afterwards is in want."""
        os.rename(f"{self.mnt}/{self.renamed}", f"{self.mnt}/zero.{n}")
        self.want[f"zero.{n}"] = self.want.pop(self.renamed)
        self.renamed = f"zero.{n}"
        with open(f"{self.mnt}/layer.1.1", "r+b") as f:
            f.write(floats(1, n))
        self.want["layer.1.1"] = floats(1, n) + self.want["layer.1.1"][4:]
        write(f"{self.mnt}/new.{n}", floats(3, n))
        os.setxattr(f"{self.mnt}/new.{n}", "user.torch.dtype", b"float32")
        self.want[f"new.{n}"] = floats(3, n)
        if f"new.{n - 1}" in self.want:
            os.unlink(f"{self.mnt}/new.{n - 1}")
            del self.want[f"new.{n - 1}"]

    def named_again(self):
        """Names of files that are new and that others had before: who reads an old index would take one for the other."""
        now = directories.named(self.d)
        again = (now - self.named) & self.was_named
        self.named = now
        self.was_named |= now
        return again

    def shown(self):
        return {k: read(f"{self.mnt}/{k}") for k in os.listdir(self.mnt)}

    def commit(self):
        return run(WFCTL, "commit", self.mnt)

    def end(self):
        r = run(WFCTL, "umount", self.mnt)
        run("umount", "-l", self.mnt)
        return r


def once(m, n, fault):
    """A commit of some edits with one fault, and one without. Returns how many calls there were, what is wrong, and whether it was told."""
    wrong = []
    before = state(m.d)
    m.edit(n)
    run("sync", m.mnt)
    m.plan.set(fault)
    at = len(read(f"{m.mnt}/.weightfs/log"))
    r = m.commit()
    calls = m.plan.calls()
    m.plan.set("0 again")
    now = state(m.d)
    if m.shown() != m.want:
        wrong.append(f"{fault}: the mount shows {m.shown()}")
    if r.returncode == 0 and now != m.want:
        wrong.append(f"{fault}: done, but there is {now}")
    if r.returncode and (now != before or r.stderr.count("\n") != 1):
        wrong.append(f"{fault}: {r.stderr!r} {now}")
    # what could not be removed is told (once where the line before says so, too), and gone after the next commit
    told = read(f"{m.mnt}/.weightfs/log")[at:]
    stays = b"cannot be removed" in told or told.startswith(b"(the last line")
    if not isinstance(now, str) and set(directories.left_over(m.d)) - {m.d.path + ".weightfs"} and not stays:
        wrong.append(f"{fault}: left over: {directories.left_over(m.d)}")
    again = m.commit()
    if m.named_again():
        wrong.append(f"{fault}: a name has another file")
    if again.returncode or state(m.d) != m.want or m.shown() != m.want:
        wrong.append(f"{fault}: then {again.stderr} {state(m.d)}")
    if set(directories.left_over(m.d)) - {m.d.path + ".weightfs"} and not (stays and r.returncode == 0):
        wrong.append(f"{fault}: then left over: {directories.left_over(m.d)}")
    return calls, wrong, r.returncode != 0


def in_a_mount(kind):
    """What is to be printed."""
    checks = []
    d = directories.make(kind, os.path.join(TOP, f"{kind}-mounted"))
    m = Mount(d, Plan(f"plan-{kind}"))
    n = 1
    try:
        calls, wrong, _ = once(m, n, "0 count")
        checks.append((not wrong and calls > 5, f"{kind}: a commit in a mount: {calls} calls change files", "\n".join(wrong)))
        for error in ("ENOSPC", "EIO"):
            bad, told = [], 0
            for i in range(1, calls + 1):
                n += 1
                _, wrong, reported = once(m, n, f"{i} {error}")
                bad += wrong
                told += reported
            checks.append((not bad and told, f"{kind}: {error} at each of them, told {told} times", "\n".join(bad)))
    finally:
        r = m.end()
    checks.append((r.returncode == 0 and state(d) == m.want and not directories.left_over(d), f"{kind}: unmounts, and nothing is left", (r, directories.left_over(d))))
    return checks


# ---- a disk that is full ----

def full_disk(kind):
    """As many bytes are free as the overlay needs, and fewer than the commit."""
    disk = tempfile.mkdtemp(dir=TOP, prefix="disk-")
    if run("mount", "-t", "tmpfs", "-o", "size=5m", "none", disk).returncode:
        return skip(f"{kind}: a full disk", "nothing can be mounted")
    plan = Plan(f"plan-full-{kind}")
    try:
        d = directories.make(kind, f"{disk}/set", elements=100_000)
        m = Mount(d, plan)
        try:
            before = state(d)
            os.rename(f"{m.mnt}/layer.0.0", f"{m.mnt}/zero")
            with open(f"{m.mnt}/layer.1.1", "r+b") as f:
                f.write(floats(1, 5))
            m.want["zero"] = m.want.pop("layer.0.0")
            m.want["layer.1.1"] = floats(1, 5) + m.want["layer.1.1"][4:]
            run("sync", m.mnt)
            with open(f"{disk}/filler", "wb") as f:
                try:
                    while True:
                        os.write(f.fileno(), bytes(4096))
                except OSError:
                    pass
            r = m.commit()
            ok(r.returncode == 1 and "No space" in r.stderr and r.stderr.count("\n") == 1 and state(d) == before and m.shown() == m.want,
               f"{kind}: a full disk: the commit says so, the old set is there and the edits wait", r)
            same(set(directories.left_over(d)) - {d.path + ".weightfs"}, set(), f"{kind}: and no half of a file")
            os.unlink(f"{disk}/filler")
            r = m.commit()
            ok(r.returncode == 0 and state(d) == m.want, f"{kind}: with room it is done", (r, directories.left_over(d)))
        finally:
            m.end()
    finally:
        run("umount", "-l", disk)


try:
    # shards.py has the other two kinds of this
    for edits, fault in (("several", "kill"), ("rename", "kill"), ("several", "ENOSPC"), ("several", "EIO")):
        at_each_call("dcp", edits, fault)
    if FUSE:
        for k, checks, error in side_by_side(in_a_mount, directories.EDITED):
            ok(not error, f"{k}: in a mount", error)
            for check in checks or ():
                ok(*check)
        for k in directories.EDITED:
            full_disk(k) if os.geteuid() == 0 else skip(f"{k}: a full disk", "only root can make one")
    else:
        skip("in a mount", "no /dev/fuse")
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
