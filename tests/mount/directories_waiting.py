#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Edits that wait beside a checkpoint that is a directory: found by every name that it has (the directory, its index or .metadata, a link),
and committed onto another directory or file, all of them or none.

Usage: directories_waiting.py BUILD_DIR. Prints TAP; skips itself where /dev/fuse is missing.
"""
import json
import os
import shutil
import sys
import tempfile

import directories
from kit import Daemon, done, floats, memory, need_fuse, ok, read, run, same, side_by_side, write
from minicheckpoint import Tensor, save

need_fuse()
BUILD = os.path.abspath(sys.argv[1])
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
TOP = tempfile.mkdtemp(prefix="weightfs-waiting-", dir=memory())


def edit(mnt):
    os.rename(f"{mnt}/layer.0.0", f"{mnt}/zero")
    with open(f"{mnt}/layer.1.1", "r+b") as f:
        f.write(floats(1, 77))
    write(f"{mnt}/new", floats(2, 1))
    os.setxattr(f"{mnt}/new", "user.torch.dtype", b"float32")


def edited(want):
    want = {("zero" if k == "layer.0.0" else k): v for k, v in want.items()}
    return {**want, "layer.1.1": floats(1, 77) + want["layer.1.1"][4:], "new": floats(2, 1)}


def leave(path):
    """Edits wait, and nobody has the checkpoint."""
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    r = run(WEIGHTFS, path, mnt)
    assert r.returncode == 0, r.stderr
    edit(mnt)
    run("sync", mnt)
    daemon = Daemon(json.loads(read(f"{mnt}/.weightfs/status"))["pid"])
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", mnt)


def new(kind, waiting=False):
    d = directories.make(kind, tempfile.mkdtemp(dir=TOP, prefix=f"{kind}-") + "/set")
    if waiting:
        leave(d.path)
    return d


def has(d, want):
    return directories.load(d) == want


def link_to(d):
    os.symlink(d.path, d.path + ".link")
    return d.path + ".link"


# the names of a directory
NAMES = {"the directory": lambda d: d.path, "with a slash": lambda d: d.path + "/", "its main file": lambda d: d.main, "a link to it": link_to}


def names(kind):
    """What is wrong."""
    wrong = []
    for what, name in NAMES.items():
        d = new(kind, waiting=True)
        at = name(d)
        r = run(WFCTL, "status", at)
        if r.returncode or not json.loads(r.stdout)["dirty"]:
            wrong.append((what, "status", r))
        r = run(WFCTL, "set", at, "layer.2.0", "--file", d.main)
        if r.returncode != 1 or "--with-pending" not in r.stderr:
            wrong.append((what, "a verb that edits", r))
        r = run(WFCTL, "discard", at)
        if r.returncode or not has(d, d.want) or directories.left_over(d):
            wrong.append((what, "discard", r))
        leave(at)
        r = run(WFCTL, "commit", at)
        if r.returncode or not has(d, edited(d.want)) or directories.left_over(d):
            wrong.append((what, "commit", r))
        for other_what, other_name in NAMES.items():
            d, other = new(kind, waiting=True), new(kind)
            r = run(WFCTL, "commit", "--onto", other_name(other), name(d))
            if r.returncode or not has(other, edited(d.want)) or not has(d, d.want) or directories.left_over(d) or directories.left_over(other):
                wrong.append((what, "onto", other_what, r))
            d, other = new(kind, waiting=True), new(kind, waiting=True)
            r = run(WFCTL, "commit", "--onto", other_name(other), name(d))
            if r.returncode != 1 or "edits of its own" not in r.stderr or not has(other, d.want) or not os.path.exists(d.path + ".weightfs"):
                wrong.append((what, "onto one with edits of its own", other_what, r))
            d = new(kind, waiting=True)
            shutil.copy(d.main, d.main + ".new")  # somebody else's state of it
            os.rename(d.main + ".new", d.main)
            r = run(WFCTL, "commit", "--onto", other_name(d), d.path if what == "a link to it" == other_what else name(d))
            if r.returncode or not has(d, edited(d.want)) or directories.left_over(d):
                wrong.append((what, "onto itself", other_what, r))
    return wrong


def variant():
    """Of two indices in one directory, as links, as the hub's cache has them: each has edits of its own."""
    d = new("safetensors")
    hub = d.path + ".blob"
    os.rename(d.main, hub)
    paths = [f"{d.path}/{name}.safetensors.index.json" for name in ("model.a", "model.b")]
    for path in paths:
        os.symlink(hub, path)
    leave(paths[0])
    same([json.loads(run(WFCTL, "status", path).stdout)["dirty"] for path in paths], [True, False], "edits wait beside the index that was named")
    r = run(WFCTL, "discard", paths[1])
    ok(r.returncode == 1 and "no edits" in r.stderr, "and not beside the other one", r)
    r = run(WFCTL, "discard", paths[0])
    ok(r.returncode == 0 and sorted(os.listdir(d.path + "/..")) == ["set", "set.blob"] and not [n for n in os.listdir(d.path) if "weightfs" in n],
       "where they are dropped", (r, os.listdir(d.path)))
    leave(paths[0])
    other = new("safetensors")
    r = run(WFCTL, "commit", "--onto", other.path, paths[0])
    ok(r.returncode == 0 and has(other, edited(d.want)), "or committed onto another", r)


def scratch_names(kind):
    """Scratch names of what stays a key, of what goes and of new content, over a commit and a kill: the log that follows the commit tells them."""
    d, wrong = new(kind), []
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    run(WEIGHTFS, d.path, mnt)
    if kind != "safetensors":  # which has no ties
        os.link(f"{mnt}/layer.0.0", f"{mnt}/tie~")
    os.rename(f"{mnt}/layer.1.0", f"{mnt}/gone~")
    shutil.copy(f"{mnt}/layer.2.0", f"{mnt}/copy~")
    os.rename(f"{mnt}/layer.2.1", f"{mnt}/moved")
    want = {("moved" if k == "layer.2.1" else k): v for k, v in d.want.items()}
    kept = {"gone~": want["layer.1.0"], "copy~": want["layer.2.0"], **({"tie~": want["layer.0.0"]} if kind != "safetensors" else {})}
    del want["layer.1.0"]
    for state in ("committed", "killed"):
        if state == "committed":
            r = run(WFCTL, "commit", mnt)
            if r.returncode or not has(d, want):
                wrong.append((state, r))
        else:
            run("sync", mnt)
            daemon = Daemon(json.loads(read(f"{mnt}/.weightfs/status"))["pid"])
            daemon.kill(9)
            daemon.wait()
            run("umount", "-l", mnt)
            run(WEIGHTFS, d.path, mnt)
        found = {k: read(f"{mnt}/{k}") for k in os.listdir(mnt)}
        if found != {**want, **kept} or "tie~" in kept and os.stat(f"{mnt}/tie~").st_nlink != 2:
            wrong.append((state, sorted(found)))
    run(WFCTL, "umount", mnt)
    return wrong


def kinds():
    for one in directories.EDITED:
        for two in directories.EDITED:
            d, other = new(one, waiting=True), new(two)
            r = run(WFCTL, "commit", "--onto", other.path, d.path)
            ok(r.returncode == 0 and has(other, edited(d.want)) and has(d, d.want) and not directories.left_over(d) + directories.left_over(other),
               f"edits of {one} onto {two}", r)
    d, other = new("dcp", waiting=True), new("zero")
    r = run(WFCTL, "commit", "--onto", other.path, d.path)
    ok(r.returncode == 1 and "read-only" in r.stderr and r.stderr.count("\n") == 1 and os.path.exists(d.path + ".weightfs"), "not onto ZeRO's", r)
    file = f"{TOP}/file.pt"
    for one in directories.EDITED:
        d = new(one, waiting=True)
        save(file, {k: Tensor("float32", (len(v) // 4,), v) for k, v in d.want.items()})
        r = run(WFCTL, "commit", "--onto", file, d.path)
        ok(r.returncode == 0 and directories.load_archive(file) == edited(d.want) and not directories.left_over(d), f"{one} onto a file", r)
        save(file, {k: Tensor("float32", (len(v) // 4,), v) for k, v in d.want.items()})
        leave(file)
        r = run(WFCTL, "commit", "--onto", d.path, file)
        ok(r.returncode == 0 and has(d, edited(d.want)) and not os.path.exists(file + ".weightfs"), f"a file onto {one}", r)
        d, other = new(one, waiting=True), new(one)
        os.unlink(other.file_of("layer.1.1")[0])
        before = sorted(os.listdir(other.path)), read(other.main)
        r = run(WFCTL, "commit", "--onto", other.path, d.path)
        ok(r.returncode == 1 and "layer.1.1" in r.stderr and r.stderr.count("\n") == 1 and before == (sorted(os.listdir(other.path)), read(other.main)) and
           os.path.exists(d.path + ".weightfs"), f"{one}: a file of the other one is missing: none of the edits", r)


try:
    for k, problems, error in side_by_side(names, directories.EDITED):
        same(error or problems, [], f"{k}: status, verbs, discard, commit and --onto find the edits by each name")
    for k in directories.EDITED:
        same(scratch_names(k), [], f"{k}: scratch names over a commit and a kill")
    variant()
    kinds()
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
