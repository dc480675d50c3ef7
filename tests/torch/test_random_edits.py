#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random edit sequences, applied to a mount and to a Python dictionary of tensors: the two must always agree.

Usage: test_random_edits.py BUILD_DIR [--seconds N | --rounds N] [--from S | --seed S] [--steps N]

Each round makes a checkpoint with torch (zip or legacy), mounts it, and applies random edits with the system calls that
ordinary tools make. In between it syncs, kills the daemon, mounts again, commits (replace, append, auto) and unmounts.
After a kill the mount must show the state of the last fsync or of one of the edits after it, never less. After a commit
torch.load must return what the dictionary says, bit for bit, ties included. Tools replace files, text is written over tensors
and in halves with readers between, cp -a copies an entry over one of another type. Entries are put aside under scratch names, too,
which no commit writes and only an unmount or wfctl discard forgets, and brought back; and what was refused in place of a backup leaves
two files of the same bytes. Verbs of wfctl edit the mount, the file while
it is not mounted, and what a killed mount left, one by one and in scripts. The seed of a failing round is printed; the same seed
repeats it. Prints TAP.
"""
import argparse
import copy
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict

import torchkit  # noqa: F401

import numpy
import torch


from random_compare import Comparing
from random_content import ContentEdits
from random_model import DTYPES, Elements, Fixed, Mismatch, Opaque, containers, distinct, plain, stays
from random_names import LIBC, NameEdits
from random_tools import ToolEdits
from random_verbs import VerbEdits

CLONE_NEWNS = 0x20000
MNT_DETACH = 2


class Round(NameEdits, ContentEdits, ToolEdits, VerbEdits, Comparing):
    def __init__(self, build, seed, steps):
        self.rng = random.Random(seed)
        self.seed, self.steps = seed, steps
        self.weightfs = os.path.join(build, "fs", "weightfs")
        self.wfctl = os.path.join(build, "fs", "wfctl")
        self.dir = tempfile.mkdtemp(prefix="weightfs-random-")
        self.file = os.path.join(self.dir, "model.pt")
        self.mnt = os.path.join(self.dir, "mnt")
        os.mkdir(self.mnt)
        self.legacy = self.rng.random() < 0.25
        self.model = self.make()
        self.aside = OrderedDict()  # scratch name in the root -> what is put aside there
        self.counter = 0
        self.trace = []
        self.orphans = []  # (descriptor, bytes) of files that have no name any more
        self.committed = copy.deepcopy(self.model)
        torch.save(plain(self.model), self.file, _use_new_zipfile_serialization=not self.legacy)
        self.synced = None    # states that a kill may leave: the last synced one and each since

    # ---- the two sides ----
    def tensor(self):
        dtype = self.rng.choice(DTYPES)
        shape = self.rng.choice([(), (0,), (3,), (4, 5), (2, 3, 4), (1000,), (64, 65)])
        n = 1
        for s in shape:
            n *= s
        if dtype == torch.bool:
            return torch.tensor([self.rng.random() < 0.5 for _ in range(n)], dtype=dtype).reshape(shape)
        return torch.tensor([self.rng.randrange(100) for _ in range(n)]).to(dtype).reshape(shape)

    def value(self):
        return self.rng.choice([self.rng.randrange(-5, 1 << 40), self.rng.random(), True, None, "text", [0.9, 0.999], [1, 2, 3]])

    def make(self):
        root = OrderedDict() if self.rng.random() < 0.5 else {}
        for i in range(self.rng.randrange(2, 8)):
            root[f"layer{i}.weight"] = self.tensor()
        base = torch.arange(60, dtype=torch.float32)
        root["tie.a"] = base[:20]
        root["tie.b"] = base[:20]
        root["view"] = base.reshape(6, 10).t()
        root["epoch"] = 3
        root["optimizer"] = {"state": {i: {"step": i, "exp_avg": self.tensor()} for i in range(2)}, "lr": 0.1}
        root["sub"] = OrderedDict((f"k{i}", self.tensor()) for i in range(3))
        root["list"] = Elements([self.tensor(), {"x": self.tensor()}, 5, self.tensor()])
        root["sub"]["tuple"] = Fixed([self.tensor(), 7, Elements([self.tensor()])])
        root["array"] = numpy.arange(12, dtype=self.rng.choice(["f4", "i8"])).reshape(3, 4)
        root["param"] = torch.nn.Parameter(torch.randn(5), requires_grad=self.rng.random() < 0.5)
        root["opaque"] = Opaque(1, self.tensor())
        root["sub"]["opaque"] = Opaque(2, base[10:30])
        return root

    def mount(self):
        mode = self.rng.choice(["auto", "replace"] if self.legacy else ["auto", "replace", "append"])
        subprocess.run([self.weightfs, "-o", f"commit={mode}", self.file, self.mnt], check=True)
        with open(os.path.join(self.mnt, ".weightfs", "status")) as f:
            self.pid = json.load(f)["pid"]
        self.trace.append(f"mount commit={mode}")
        self.synced = None

    def umount(self):
        self.close_orphans()
        subprocess.run([self.wfctl, "umount", self.mnt], check=True)
        self.aside.clear()
        self.trace.append("umount")
        self.is_committed()

    def is_committed(self):
        for _, m in self.mappings() + self.mappings(aside=True):
            if isinstance(m, Elements):
                m.number()
        self.committed = copy.deepcopy(self.model)

    def path(self, where, name):
        return os.path.join(self.mnt, *[str(w) for w in where], str(name))

    def mappings(self, aside=False):
        return containers(self.aside if aside else self.model)

    def holds_shared(self, v, itself=True):
        """Whether v or a container inside it stands elsewhere, too. Aside, an inner one is a copy once a log is replayed."""
        inside = [x for _, x in containers(v)[0 if itself else 1:]]
        places = [id(x) for root in (self.model, self.aside) for _, m in distinct(root) for x in m.values() if isinstance(x, dict)]
        return any(places.count(id(x)) > 1 for x in inside)

    def pick(self, kind, names=True):
        """A place with a value of that kind; names: one whose name can change."""
        choices = [(w, m, k) for w, m in self.mappings() for k, v in m.items() if not (names and stays(m, k))
                   if (kind is None or isinstance(v, kind)) and not (kind is int and isinstance(v, bool))]
        return self.rng.choice(choices) if choices else None

    def place(self):
        """A directory that takes new names."""
        return self.rng.choice([x for x in self.mappings() if not isinstance(x[1], Fixed) and not getattr(x[1], "unsure", False)])

    def fresh(self, m):
        self.counter += 1
        if isinstance(m, Elements):
            m.next += 1
            return m.next - 1
        if m and all(isinstance(k, int) for k in m):
            return 1000 + self.counter
        return f"new.{self.counter}"


    def everywhere(self):
        return self.mappings() + self.mappings(aside=True)


    # ---- life and death ----
    def snapshot(self):
        return copy.deepcopy((self.model, self.aside))  # in one go: what is put aside may share a storage with what is not

    def sync(self):
        fd = os.open(self.mnt, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.synced = [self.snapshot()]
        self.trace.append("fsync")

    def kill_daemon(self):
        self.close_orphans()
        process = os.pidfd_open(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        select.select([process], [], [])  # until it has ended, it holds the checkpoint's lock
        os.close(process)
        subprocess.run(["umount", "-l", self.mnt], check=True)

    def kill(self):
        if self.synced is None:
            self.sync()
        self.kill_daemon()
        states = self.synced + [self.snapshot()]
        self.trace.append("kill")
        self.mount()
        errors = []
        for state in reversed(states):
            self.model, self.aside = state
            try:
                self.compare_mount()
                for _, m in self.everywhere():
                    if isinstance(m, Elements):
                        m.unsure = True
                return
            except (Mismatch, OSError) as e:
                errors.append(str(e))
        raise Mismatch("after a kill the mount shows none of the allowed states: " + errors[-1])

    def run(self):
        # writes inside a tensor reach the extent file before their record: only edits of names may follow an fsync that
        # a kill is to be compared with exactly
        names_only = [self.edit_rename, self.edit_rename_over_element, self.edit_move, self.edit_remove, self.edit_mkdir, self.edit_rmdir, self.edit_link,
                      self.edit_symlink, self.edit_exchange,
                      self.edit_value, self.edit_put_aside, self.edit_bring_back]
        every = names_only + [self.edit_back_up, self.edit_back_up, self.edit_write, self.edit_write, self.edit_create, self.edit_replace, self.edit_reshape,
                              self.edit_text, self.edit_half, self.edit_tool, self.edit_copy, self.edit_bad_value, self.edit_retype, self.edit_resize, self.edit_orphan, self.edit_write_orphan,
                              self.edit_verb, self.edit_verb, self.edit_verb, self.edit_script]
        self.mount()
        self.compare_mount()
        for step in range(self.steps):
            dice = self.rng.random()
            if dice < 0.03:
                self.sync()
                for _ in range(self.rng.randrange(4)):
                    self.rng.choice(names_only)()
                    self.synced.append(self.snapshot())
                self.kill()
            elif dice < 0.06:
                subprocess.run([self.wfctl, "commit", self.mnt], check=True)
                self.trace.append("commit")
                self.is_committed()
                self.compare_mount()
                self.compare_file()
            elif dice < 0.065:
                self.close_orphans()
                subprocess.run([self.wfctl, "discard", self.mnt], check=True)
                self.trace.append("discard")
                self.model, self.aside = copy.deepcopy(self.committed), OrderedDict()
            elif dice < 0.08:
                self.umount()
                self.compare_file()
                self.mount()
            elif dice < 0.10:
                self.verbs_on_file()
            elif dice < 0.11:
                self.verbs_with_pending()
            else:
                self.rng.choice(every)()
            if step % 10 == 0:
                self.compare_mount()
        self.compare_mount()
        self.umount()
        self.compare_file()

    def cleanup(self):
        while self.orphans:
            os.close(self.orphans.pop()[0])
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def apart():
    """In a mount name space of their own, where that is allowed, mounts are held by nobody else's, whom wfctl umount would name."""
    if LIBC.unshare(CLONE_NEWNS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        # and those of the tests beside this one are not held here: wfctl umount would name this process to them
        with open("/proc/self/mounts", "rb") as f:
            mounts = [line.split() for line in f]
        for _, where, kind, *_ in reversed(mounts):
            if kind == b"fuse.weightfs":
                LIBC.umount2(where.decode("unicode_escape").encode("latin-1"), MNT_DETACH)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--seconds", type=float, default=60)
    args.add_argument("--rounds", type=int, help="so many, in whatever time")
    args.add_argument("--seed", type=int, help="this round alone")
    args.add_argument("--from", type=int, dest="first", help="the first round's seed; by default another one each time")
    args.add_argument("--steps", type=int, default=120)
    args = args.parse_args()
    first = args.seed if args.seed is not None else args.first
    first = random.SystemRandom().randrange(1 << 32) if first is None else first
    apart()
    end = time.monotonic() + args.seconds
    n = failed = 0
    while n == 0 or (args.seed is None and (n < args.rounds if args.rounds else time.monotonic() < end)):
        seed = first + n
        n += 1
        round_ = Round(args.build, seed, args.steps)
        try:
            round_.run()
            print(f"ok {n} - seed {seed}, {len(round_.trace)} steps, {'legacy' if round_.legacy else 'zip'}", flush=True)
        except (Mismatch, OSError, subprocess.CalledProcessError, RuntimeError) as e:
            failed += 1
            print(f"not ok {n} - seed {seed}: {type(e).__name__}: {e}")
            for line in round_.trace[-12:]:
                print(f"#   {line}")
            sys.stdout.flush()
        finally:
            round_.cleanup()
        if failed >= 3:
            break
    print(f"1..{n}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
