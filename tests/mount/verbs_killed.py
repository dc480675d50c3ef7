#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Verbs of wfctl over edits that a killed mount left (--with-pending), killed, or failed, at every call that changes something: what
waited waits as it was and can be committed, or all of it is in the checkpoint with what the verb did.

Usage: verbs_killed.py BUILD_DIR DIE_AT. Prints TAP; skips itself where /dev/fuse is missing. tests/files/verbs.py does it without such
edits.
"""
import json
import os
import shutil
import subprocess
import sys

from kit import World, done, floats, memory, need_fuse, ok, run, side_by_side, write

need_fuse()
BUILD, DIE_AT = map(os.path.abspath, sys.argv[1:3])
RUNS = [
    ["set", "model.pt", "epoch", "6", "--with-pending"],
    ["mv", "model.pt", "opt/lr", "moved", "--with-pending", "--commit=append"],
    ["-f", "script", "--with-pending", "--commit", "replace"],
]
SCRIPT = "set model.pt epoch 7\nmv model.pt row opt\ncp model.pt opt opt2\nset model.pt fc.bias --file bytes\nrm model.pt new\n"


def leave_edits():
    """Of names, of a value, of a tensor's bytes, of a new entry; and what the checkpoint is."""
    w.mount()
    write(f"{w.mnt}/epoch", b"5\n")
    with open(f"{w.mnt}/fc.weight", "r+b") as f:
        f.write(floats(2, 90))
    os.rename(f"{w.mnt}/tied", f"{w.mnt}/second")
    write(f"{w.mnt}/new", b"no line")
    run("sync", w.mnt)
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)


def run_in(top, *words, plan=None):
    env = {**os.environ, "PWD": top}
    if plan:
        write(os.path.join(top, "plan"), plan.encode())
        env.update(LD_PRELOAD=DIE_AT, DIE_AT=os.path.join(top, "plan"))
    return subprocess.run([w.wfctl, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=top, env=env)


def prepare(top):
    """A copy: the edits belong to a file with that content."""
    shutil.rmtree(top, ignore_errors=True)
    os.mkdir(top)
    shutil.copy2(w.file, os.path.join(top, "model.pt"))
    shutil.copytree(w.file + ".weightfs", os.path.join(top, "model.pt.weightfs"))
    write(os.path.join(top, "script"), SCRIPT.encode())
    write(os.path.join(top, "bytes"), floats(3, 50)[:os.path.getsize(os.path.join(w.dir, "bias"))])


def told(top):
    """What a reader sees, with what waits; and whether anything does."""
    shown = run_in(top, "ls", "-a", "model.pt"), run_in(top, "cat", "--raw", "model.pt", "*", "opt/*")
    return [r.stdout for r in shown], json.loads(run_in(top, "status", "model.pt").stdout)["dirty"]


def committed_after(top, state):
    """What waits can be committed to what was seen; then nothing is left beside the file."""
    r = run_in(top, "commit", "model.pt") if state[1] else run_in(top, "set", "model.pt", "again", "1")
    same = not state[1] or told(top) == (state[0], False)
    left = [e for e in os.listdir(top) if "weightfs" in e]
    return [] if r.returncode == 0 and same and not left else [f"then: exit {r.returncode} {r.stderr.decode()}, same {same}, left {left}"]


def everywhere(words, failure):
    top, name = os.path.join(w.dir, "killed"), f"wfctl {' '.join(words)}"
    prepare(top)
    old = told(top)
    r = run_in(top, *words, plan="count")
    new = told(top)
    with open(os.path.join(top, "plan.count")) as f:
        calls = int(f.read())
    ok(r.returncode == 0 and old[1] and not new[1] and old[0] != new[0] and calls > 0, f"{name}: {calls} calls that change something", (r, old, new))

    def at(i):
        top = os.path.join(w.dir, f"killed-{i}")
        prepare(top)
        r = run_in(top, *words, plan=f"{i} {failure}")
        state = told(top)
        problems = [] if state in (old, new) else [f"neither old nor new: {state}"]
        if failure == "kill" and r.returncode >= 0 and i < calls or failure != "kill" and (r.returncode, state) not in ((0, new), (1, old)):
            problems.append(f"exit {r.returncode} with {'old' if state == old else 'new'} {r.stderr.decode()}")
        problems += committed_after(top, state)
        return [f"call {i}: {p}" for p in problems]
    wrong = [line for i, lines, error in side_by_side(at, range(1, calls + 1)) for line in ([f"call {i}: {error}"] if error else lines)]
    ok(not wrong, f"{name}: {failure} at each of them, all that waits or all that is done", "\n".join(wrong))


with World(BUILD, within=memory()) as w:
    w.mount()
    shutil.copy(f"{w.mnt}/fc.bias", os.path.join(w.dir, "bias"))
    run(w.wfctl, "umount", w.mnt)
    leave_edits()
    for words in RUNS:
        everywhere(words, "kill")
    everywhere(RUNS[2], "ENOSPC")
    everywhere(RUNS[1], "EIO")
done()
