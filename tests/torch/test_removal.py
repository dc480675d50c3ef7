#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Objects whose entries cannot go one by one (tuples, sparse and quantised tensors, modules) removed whole from a mount by the tools that
remove directories, and del in Python as the oracle.

Usage: test_removal.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same  # noqa: E402

need_fuse()
import torch  # noqa: E402
import judge  # noqa: E402


def checkpoint():
    t, module = torch.arange, torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    tie, shared, base = t(4.), (t(3.), 1, "x"), t(6.)
    mapping = {"t": t(2.), "n": 5, "inner": {"x": t(1.), "l": [t(2.), {"deep": t(3.)}]}, "tuple": (t(1.), {"y": t(2.)})}
    quantised = torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([.1, .2]), torch.tensor([0, 0]), 0, torch.qint8)
    return {
        "state_dict": {"w": t(4.), "b": t(2.)}, "tuple": (t(3.), {"k": 1, "t": t(2.)}, [t(1.), 2]), "module": module, "sparse": torch.eye(3).to_sparse(),
        "csr": torch.eye(3).to_sparse_csr(), "quantised": quantised, "list": [(t(2.), (t(3.), t(1.))), 5], "tuples": ((t(1.), (t(2.), {"x": (t(3.),)})), t(5.)),
        "shared": shared, "again": shared, "mapping": mapping, "mapping again": mapping, "mapping in it": mapping["inner"], "tied": (tie, 5.0), "tie": tie, "epoch": 3, "in a tuple": (module, 1), "views": (base[:3], base[3:]), "view": base[2:4],
        "dict": {"inner": (t(2.), "a"), "sparse": [torch.eye(2).to_sparse()]}, "last": t(3)}


KINDS = ("tuple", "module", "sparse", "csr", "quantised", "list", "tuples", "shared", "mapping", "tied", "in a tuple", "views", "dict")
INNER = (("list", 0), ("dict", "inner"), ("dict", "sparse"))


# a program that knows nothing of rm
BOTTOM_UP = """
import os, sys
for at, dirs, files in os.walk(sys.argv[1], topdown=False):
    for name in files:
        os.unlink(os.path.join(at, name))
    for name in dirs:
        inner = os.path.join(at, name)
        os.unlink(inner) if os.path.islink(inner) else os.rmdir(inner)
os.rmdir(sys.argv[1])
"""


def with_open_files(path):
    handles = [open(os.path.join(at, name), "rb") for at, _, files in os.walk(path) for name in files]
    before = [h.read() for h in handles]
    shutil.rmtree(path)
    for h in handles:
        h.seek(0)
    same([h.read() for h in handles], before, f"  what was open in {os.path.basename(path)} can still be read")
    for h in handles:
        h.close()


def command(*words):
    def remove(path):
        r = run(*words[:1], *[path if word == "PATH" else word for word in words[1:]])
        ok(r.returncode == 0 and not r.stderr, f"  {words[0]} says nothing", r)
    return remove


TOOLS = {"rm -r": command("rm", "-r", "PATH"), "rm -rf": command("rm", "-rf", "PATH"), "find -delete": command("find", "PATH", "-delete"),
         "rmtree": shutil.rmtree, "bottom up": command(sys.executable, "-c", BOTTOM_UP, "PATH"), "with open files": with_open_files}


def take(obj, key):
    """What the checkpoint is without an entry."""
    del obj[key]


def judged(w, wanted, what):
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and not r.stderr, f"{what}: is committed", r)
    try:
        judge.same(judge.load(w.file), wanted)
        ok(True, f"{what}: is what Python makes of it")
    except Exception as e:
        ok(False, f"{what}: is what Python makes of it", repr(e))
    same(run(w.wfctl, "verify", w.file).returncode, 0, "  and whole")


def fresh(w, legacy=False):
    obj = checkpoint()
    torch.save(obj, w.file, _use_new_zipfile_serialization=not legacy)
    return obj


def all_kinds(w):
    for name, tool in TOOLS.items():
        obj = fresh(w)
        w.mount()
        for kind in KINDS:
            tool(f"{w.mnt}/{kind}")
            take(obj, kind)
        judged(w, obj, name)
    for kind in KINDS:
        obj = fresh(w, legacy=True)
        w.mount()
        run("rm", "-r", f"{w.mnt}/{kind}")
        take(obj, kind)
        judged(w, obj, f"{kind} alone, of a legacy file")


def inner_ones(w):
    obj = fresh(w)
    w.mount("-o", "commit=append")
    for outer, key in INNER:
        run("rm", "-r", f"{w.mnt}/{outer}/{key}")
        take(obj[outer], key)
    judged(w, obj, "inside lists and mappings")


def only_the_state_dict(w):
    obj = fresh(w)
    w.mount()
    r = run("sh", "-c", f'for k in {w.mnt}/*; do [ "$k" = {w.mnt}/state_dict ] || rm -r "$k" || exit; done')
    ok(r.returncode == 0 and not r.stderr, "a script that keeps only the state_dict", r)
    judged(w, {"state_dict": obj["state_dict"]}, "it")
    fresh(w)
    w.mount()
    r = run("sh", "-c", f"rm -rf {w.mnt}/*")
    ok(r.returncode == 0 and not r.stderr and not os.listdir(w.mnt), "rm -rf of everything", r)
    judged(w, {}, "it")


def commits_and_kills(w):
    obj = fresh(w)
    w.mount()
    for i, kind in enumerate(KINDS):
        run("rm", "-r", f"{w.mnt}/{kind}")
        take(obj, kind)
        if i % 3 == 0:
            r = run(w.wfctl, "commit", w.mnt)
            ok(r.returncode == 0, "a commit between", r)
        if i % 3 == 1:
            run("sync", w.mnt)
            w.crash()
    judged(w, obj, "with commits and kills between")


def left_whole(w):
    """Removed in part: everything is back, said aloud, and the rest of the edits is committed."""
    obj = fresh(w)
    w.mount()
    for name in ("tuple/0", "module/0.weight", "sparse/values", "tuples/0/0", "quantised/scales"):
        os.unlink(f"{w.mnt}/{name}")
    os.rename(f"{w.mnt}/last", f"{w.mnt}/first")
    obj["first"] = obj.pop("last")
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 1 and "tuple/0" in r.stderr and "module/0.weight" in r.stderr, "a commit names what is back", r)
    judged(w, obj, "after that nothing is left to tell")


with World(sys.argv[1], lambda path: None) as world:
    for test in (all_kinds, inner_ones, only_the_state_dict, commits_and_kills, left_whole):
        test(world)
done()
