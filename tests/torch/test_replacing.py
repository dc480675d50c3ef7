#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every way in which tools replace a file, on every kind of entry: the checkpoint must be what the same edit in Python makes of it,
in type, dtype, shape, order and value; and a content that does not fit must leave the old value, or be new content.

Usage: test_replacing.py BUILD_DIR [PATTERN]. Prints TAP.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from torchkit import done, ok, programs, skip

import numpy
import torch

import judge
from replacing import WAYS

BUILD, PATTERN = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
WEIGHTFS, WFCTL = programs(BUILD)
ONE, TWO = b"\0\0\x80\x3f", b"\0\0\0\x40"


def two(t):
    """A tensor of ones whose first element is 2."""
    with torch.no_grad():
        t.view(-1)[0] = 2
    return t


# key -> old value, its new file content, new value, what to replace by what
KINDS = {
    "int": (10, b"12\n", 12, ("10", "12")),
    "float": (0.1, b"0.25\n", 0.25, (r"0\.1", "0.25")),
    "whole": (1.0, b"3\n", 3.0, (r"1\.0", "3")),
    "becomes": (0, b"0.9\n", 0.9, ("0", "0.9")),
    "bool": (True, b"false\n", False, ("true", "false")),
    "none": (None, b"7\n", 7, ("null", "7")),
    "str": ("one\ntwo\n", b"1\ntwo\n", "1\ntwo\n", ("one", "1")),
    "list": ([1, 2, 3], b"[1, 2, 4]\n", [1, 2, 4], ("3", "4")),
    "tuple": ((0.9, 0.999), b"[0.8, 0.999]\n", (0.8, 0.999), (r"0\.9,", "0.8,")),
    "scalar": (numpy.float64(1.5), b"2.5\n", numpy.float64(2.5), (r"1\.5", "2.5")),
    "zero_d": (torch.tensor(1.0), TWO, torch.tensor(2.0), None),
    "tensor": (torch.ones(2, 3), TWO + 5 * ONE, two(torch.ones(2, 3)), None),
    "param": (torch.nn.Parameter(torch.ones(4)), TWO + 3 * ONE, torch.nn.Parameter(two(torch.ones(4))), None),
    "array": (numpy.ones(3, "f4"), TWO + 2 * ONE, numpy.array([2, 1, 1], "f4"), None),
}
HEX = (r"\x00\x00\x80\x3f", r"\x00\x00\x00\x40")
MISFITS = {"int": b"twelve, or so\n", "list": b"[1, two\n", "float": b"x\n", "bool": b"perhaps\n", "tensor": b"\1" * 23, "zero_d": b"words\n", "param": b"some text\n", "array": b"\1" * 13}
NEW = {"int": "twelve, or so", "list": "[1, two", "float": "x", "bool": "perhaps", "tensor": torch.full((23,), 1, dtype=torch.uint8), "zero_d": "words", "param": "some text",
       "array": torch.full((13,), 1, dtype=torch.uint8)}


def original():
    return {"first": 1, **{k: v[0] for k, v in KINDS.items()}, "last": torch.zeros(2)}


class Round:
    def __init__(self, work):
        self.dir = tempfile.mkdtemp(dir=work)
        self.file, self.mnt, self.new = (os.path.join(self.dir, x) for x in ("m.pt", "mnt", "new"))
        os.mkdir(self.mnt)
        os.mkdir(self.new)
        torch.save(original(), self.file)
        subprocess.run([WEIGHTFS, self.file, self.mnt], check=True)

    def apply(self, way, key, content):
        for name in os.listdir(self.new):
            os.unlink(os.path.join(self.new, name))
        new = os.path.join(self.new, "content")
        with open(new, "wb") as f:
            f.write(content)
        os.utime(new, (10 ** 9, 10 ** 9))  # rsync takes files of one size and time for the same
        source, target = KINDS[key][3] or HEX
        if content != KINDS[key][1]:  # one that does not fit: all of it
            source, target = ".*", content.decode("latin1").rstrip("\n")
        env = {**os.environ, "K": os.path.join(self.mnt, key), "N": new, "D": self.new, "M": self.mnt, "B": key, "FROM": source, "TO": target}
        return subprocess.run(["bash", "-c", way.command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)

    def end(self):
        r = subprocess.run([WFCTL, "umount", self.mnt], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            raise AssertionError(f"umount: {r.stdout}")
        loaded = torch.load(self.file, weights_only=False) if judge.VERSION >= (1, 13) else torch.load(self.file)
        shutil.rmtree(self.dir)
        return loaded


def difference(got, wanted):
    """The first thing in which they differ, or None."""
    if list(got) != list(wanted):
        return f"keys {list(got)}, not {list(wanted)}"
    for k in wanted:
        try:
            judge.same(got[k], wanted[k], k)
        except AssertionError as e:
            return str(e)
    return None


def fitting(way, work):
    r = Round(work)
    wanted, said = original(), []
    for key, (old, content, value, words) in KINDS.items():
        if way.text and words is None:
            continue
        done = r.apply(way, key, content)
        if done.returncode:
            said.append(f"{key}: {done.returncode} {done.stdout.decode(errors='replace')}")
        wanted[key] = value
        if way.leaves:
            wanted[way.leaves.format(key)] = old
    found = difference(r.end(), wanted)
    ok(not found and not said, f"{way.name}", f"{found}\n{said}")


def misfitting(way, work):
    """Whole contents that are none for what is there. Editors that replace a part are spared what they cannot write."""
    edits = "$FROM" in way.command
    r = Round(work)
    wanted, silent = original(), []
    for key, content in MISFITS.items():
        if edits and (key not in ("int", "float", "bool", "list") or way.text):
            continue
        if way.text and KINDS[key][3] is None:
            continue
        if way.name == "rsync --inplace" and key not in ("int", "float", "bool"):
            continue  # bytes that are written inside a tensor are its new data at once
        done = r.apply(way, key, content)
        if way.misfit == "refused":
            if way.leaves and way.leaves.format(key) in os.listdir(r.mnt):
                wanted[way.leaves.format(key)] = None
            if not done.returncode and not done.stdout and not way.command.endswith("true"):
                silent.append(key)
            continue
        del wanted[key]
        if way.leaves:
            wanted[way.leaves.format(key)] = None
        wanted[key] = NEW[key]
    got = r.end()
    leftovers = [k for k in got if k not in wanted]
    if way.leaves:  # the old file under another name stays where it was; the order is the tool's
        for key in MISFITS:
            got.pop(way.leaves.format(key), None)
            wanted.pop(way.leaves.format(key), None)
    for k in leftovers:  # a temporary file that the tool could not rename, and left
        del got[k]
    found = difference(got, wanted) if way.misfit == "refused" else difference(dict(sorted(got.items())), dict(sorted(wanted.items())))
    ok(not found and not silent, f"{way.name}: what does not fit", f"{found}\nsilent: {silent}")


def main():
    work = tempfile.mkdtemp(prefix="weightfs-replacing-", dir="/var/tmp")
    try:
        for way in WAYS:
            if not re.search(PATTERN, way.name):
                continue
            missing = [x for x in way.needs.split() if not shutil.which(x)]
            for case in (fitting, misfitting):
                if missing:
                    skip(way.name, f"{missing[0]} is not installed")
                    continue
                try:
                    case(way, work)
                except Exception as e:
                    ok(False, f"{way.name}, {case.__name__}", repr(e))
    finally:
        for line in open("/proc/self/mounts").read().splitlines():
            if line.split()[1].startswith(work):
                subprocess.run(["umount", "-l", line.split()[1]])
        shutil.rmtree(work, ignore_errors=True)
    done()


main()
