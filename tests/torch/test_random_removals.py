#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random removals, whole and in part, of nested mappings, lists and tuples that share parts, between commits and kills; the same in Python,
and torch.load, as the oracle.

Usage: test_random_removals.py BUILD_DIRECTORY [--seconds S] [--rounds N] [--from SEED]. Prints TAP; a failed round names its seed.
"""
import argparse
import itertools
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, write  # noqa: E402

need_fuse()
import torch  # noqa: E402
import judge  # noqa: E402


FOUND_FAULTS = (85, 120, 1064, 810042)  # seeds that did once


def make(rng, depth, made):
    """A random value; containers that were made before come again."""
    if made and rng.random() < 0.15:
        return rng.choice(made)
    kind = rng.choice(["tensor", "tuple", "dict", "list", "int", "sparse"] if depth < 4 else ["tensor", "int"])
    if kind == "tensor":
        value = torch.arange(float(rng.randrange(1, 5))) + rng.randrange(9)
    elif kind == "int":
        return rng.randrange(100)
    elif kind == "sparse":
        value = torch.eye(rng.randrange(2, 4)).to_sparse()
    elif kind == "dict":
        value = {f"k{i}": make(rng, depth + 1, made) for i in range(rng.randrange(4))}
    else:  # one tensor at least: else it is a line of text
        parts = [torch.ones(1) * rng.randrange(9)] + [make(rng, depth + 1, made) for _ in range(rng.randrange(4))]
        value = tuple(parts) if kind == "tuple" else parts
    made.append(value)
    return value


class Round:
    def __init__(self, w, seed):
        self.w, self.rng, self.trace, self.count = w, random.Random(seed), [], 0
        made = []
        self.model = {f"k{i}": make(self.rng, 0, made) for i in range(8)}
        self.partly = {}  # id of an object that must go whole -> what was removed from it

    def entries(self, only=None):
        """(path, container, key) of every entry that is no link, of the containers that are directories."""
        found, todo = [], [("", self.model)]
        while todo:
            at, obj = todo.pop()
            items = obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, (list, tuple)) else ()
            for key, value in list(items):
                path = f"{at}/{key}"
                full = self.w.mnt + path
                if only is None or isinstance(obj, only):
                    found.append((path, obj, key))
                if os.path.isdir(full) and not os.path.islink(full):
                    todo.append((path, value))
        return [e for e in found if os.path.lexists(self.w.mnt + e[0])]

    def remove(self, path):
        """Each time by a program of its own: what one program removes before it removes the mapping around it may be its rm -r."""
        full = self.w.mnt + path
        tree = os.path.isdir(full) and not os.path.islink(full)
        words = [sys.executable, "-Sc", "import shutil, sys; shutil.rmtree(sys.argv[1])", full] if tree and self.rng.random() < 0.5 else ["rm", "-r", full]
        r = run(*words)
        if r.returncode:
            raise AssertionError(r.stderr)

    def is_in_tuple(self, path):
        obj = self.model
        for part in path[1:].split("/")[:-1]:
            obj = obj[part] if isinstance(obj, dict) else obj[int(part)]
            if isinstance(obj, tuple):
                return True
        return False

    def still_there(self):
        found, todo = set(), [self.model]
        while todo:
            obj = todo.pop()
            if isinstance(obj, (dict, list, tuple)) and id(obj) not in found:
                found.add(id(obj))
                todo += obj.values() if isinstance(obj, dict) else obj
        return found

    def remove_whole(self):
        found = self.entries(dict)
        if len(found) < 3:
            return
        path, container, key = self.rng.choice(found)
        self.trace.append(f"rm -r {path}")
        self.remove(path)
        del container[key]  # another key that shows what it held has all of it
        if self.is_in_tuple(path):
            self.add()  # until then it would come back with a part of the tuple
        there = self.still_there()
        self.partly = {obj: names for obj, names in self.partly.items() if obj in there}

    def remove_part(self):
        found = self.entries(tuple)
        if not found:
            return
        path, container, _ = self.rng.choice(found)
        self.trace.append(f"rm -r {path} (in a tuple)")
        self.remove(path)  # all of it is back with the next commit, also what rm took out of mappings and lists on its way
        self.partly.setdefault(id(container), []).append(path)

    def add(self):
        self.count += 1
        write(f"{self.w.mnt}/n{self.count}", b"%d\n" % self.count)
        self.model[f"n{self.count}"] = self.count
        self.trace.append("add")

    def judge_commit(self, r, what):
        self.trace.append(what)
        if (r.returncode, bool(r.stderr)) != ((1, True) if self.partly else (0, False)):
            raise AssertionError(f"{what} says {r.returncode} {r.stderr!r}, but {self.partly} was removed in part")
        self.partly = {}

    def commit(self):
        self.judge_commit(run(self.w.wfctl, "commit", self.w.mnt), "commit")

    def kill(self):
        self.trace.append("kill")
        run("sync", self.w.mnt)
        self.w.crash()
        self.partly = {}

    def run(self, mode):
        torch.save(self.model, self.w.file)
        self.w.mount("-o", f"commit={mode}")
        for _ in range(25):
            self.rng.choices([self.remove_whole, self.remove_part, self.add, self.commit, self.kill], [8, 8, 2, 2, 1])[0]()
        self.judge_commit(run(self.w.wfctl, "umount", self.w.mnt), "umount")
        judge.same(judge.load(self.w.file), self.model)
        r = run(self.w.wfctl, "verify", self.w.file)
        if r.returncode:
            raise AssertionError(r.stdout + r.stderr)


arguments = argparse.ArgumentParser()
arguments.add_argument("build")
arguments.add_argument("--seconds", type=float, default=15)
arguments.add_argument("--rounds", type=int, default=1 << 30)
arguments.add_argument("--from", type=int, default=int(time.time()), dest="first")
options = arguments.parse_args()
end, seeds, failed, done_rounds = time.monotonic() + options.seconds, itertools.chain(FOUND_FAULTS, itertools.count(options.first)), 0, 0
for seed in itertools.islice(seeds, options.rounds + len(FOUND_FAULTS)):
    if time.monotonic() > end or failed >= 3:
        break
    with World(options.build, lambda path: None) as world:
        current = Round(world, seed)
        try:
            current.run(("replace", "append", "auto")[seed % 3])
        except Exception as e:
            failed += 1
            ok(False, f"round {seed}", f"{e!r}\n" + "\n".join(current.trace[-16:]))
    done_rounds += 1
ok(failed == 0, f"{done_rounds} rounds: {failed} failed")
done()
