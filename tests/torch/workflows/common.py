# SPDX-License-Identifier: MIT
"""What the workflow tests share: a directory where torch makes checkpoints, a shell in it, and torch's judgement afterwards.

A script is called as NAME.py BUILD_DIR [legacy] [append] and prints TAP; with `legacy` every checkpoint is made with
_use_new_zipfile_serialization=False, with `append` commits are written behind the old end. What a row does is done by ordinary tools in a shell, never by Python.
"""
import contextlib
import os
import re
import shutil
import sys
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(os.path.dirname(os.path.dirname(HERE)), "mount")]
try:
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)

from judge import VERSION, Loose, load, modes, same as compare  # noqa: E402,F401
from kit import World, done, need_fuse, ok, read, run, same, skip, write  # noqa: E402,F401
from models import Net, fill  # noqa: E402

warnings.filterwarnings("ignore")
need_fuse()
BUILD = sys.argv[1]
LEGACY, APPEND = (word in sys.argv[2:] for word in ("legacy", "append"))
KEYS = list(Net().state_dict())


def equal(got, wanted, what):
    """Two objects of torch, bit for bit."""
    try:
        compare(wanted, got)
        ok(True, what)
    except AssertionError as e:
        ok(False, what, e)


class Missing(Exception):
    """A program of others that is not installed."""


def rows(*functions):
    """Each in a directory of its own; the end of the script. A row that needs a program which is missing is skipped."""
    for function in functions:
        try:
            with Workflow() as w:
                function(w)
        except Missing as e:
            skip(function.__name__, f"{e} is missing")
    done()


def batch():
    """An input of the model, without a random generator."""
    return ((torch.arange(4 * 3 * 32 * 32) * 31) % 251 / 251).reshape(4, 3, 32, 32)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)


def train(model, optimizer, steps=1):
    """Each step has the same input; returns the last loss."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(batch()) ** 2).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def other(model):
    """A second model whose every tensor differs from those of fill()."""
    fill(model)
    with torch.no_grad():
        for t in model.parameters():
            t.add_(0.25)
    return model


def keys_of(state, change):
    """The state dict with its keys changed, as a rename of files does: the same order, the same _metadata."""
    new = type(state)((change(k), v) for k, v in state.items())
    if hasattr(state, "_metadata"):
        new._metadata = state._metadata
    return new


def in_order_of(got, wanted):
    """The order of names is that of the copying program, not ours to judge; all else is."""
    if isinstance(wanted, list) and isinstance(got, list):
        return [in_order_of(g, w) for g, w in zip(got, wanted)] + wanted[len(got):]
    if not isinstance(wanted, dict) or not isinstance(got, dict):
        return wanted
    return type(wanted)((k, in_order_of(got[k], wanted[k])) for k in [*got, *(k for k in wanted if k not in got)] if k in wanted)


class Workflow(World):
    """A private directory and a shell in it; `weightfs` and `wfctl` are in its PATH."""

    def __init__(self):
        super().__init__(BUILD, lambda path: None)

    def __enter__(self):
        super().__enter__()
        self.env = dict(os.environ, PATH=os.path.join(BUILD, "fs") + ":" + os.environ["PATH"], LC_ALL="C")
        self.file, self.loads = self.path("model.pt"), {}
        return self

    def path(self, name):
        return os.path.join(self.dir, name)

    def save(self, obj, name="model.pt", **options):
        torch.save(obj, self.path(name), _use_new_zipfile_serialization=not LEGACY, **options)
        self.loads[name] = modes(self.path(name))

    def shell(self, script):
        result = run("sh", "-euc", script, cwd=self.dir, env=self.env)
        unknown = re.search(r"^sh: (?:\d+: )?([\w.-]+): (?:command )?not found$", result.stderr, re.M)
        if unknown and unknown[1] not in ("weightfs", "wfctl") and not shutil.which(unknown[1]):
            raise Missing(unknown[1])
        return result

    def sh(self, script):
        """Runs a line as a user would. One that fails, or that has something to complain about, is a failed test. Returns its output."""
        result = self.shell(script)
        if result.returncode or result.stderr:
            ok(False, script, f"exit status {result.returncode}\n{result.stderr}")
        return result.stdout

    def refused(self, script, why):
        result = self.shell(script)
        ok(result.returncode and why in result.stderr, f"{script}: {why}", result)

    @contextlib.contextmanager
    def mounted(self, name="model.pt", mnt="mnt", options="rw"):
        """A mount that is committed at the end."""
        os.makedirs(self.path(mnt), exist_ok=True)
        if APPEND and options == "rw":
            options += ",commit=append"
        self.sh(f"weightfs -o {options} {name} {mnt}")
        yield
        self.sh(f"wfctl umount {mnt}")

    def cpp_reads(self, obj):
        """torch's C++ reader fails on some dictionaries that torch.save writes: it is no judge of what it cannot read from there."""
        torch.save(obj, self.path("by-torch.pt"))
        try:
            load(self.path("by-torch.pt"), how="C++")
        except RuntimeError:
            return False
        return True

    def judge(self, what, expected, name="model.pt", source=None):
        """The file loads as before in every way that its source did, and is what was expected."""
        how = [way for way in self.loads[source or name] if way.get("how") != "C++" or self.cpp_reads(expected)]
        problem = "" if how else "the source does not load"
        for options in how:
            try:
                compare(expected, load(self.path(name), **options))
            except Exception as e:
                problem = f"{options}: {type(e).__name__}: {e}"
                break
        with open(self.path(name), "rb") as f:
            if (f.read(4) == b"PK\3\4") == LEGACY:
                problem = "another container than before"
        self.sh(f"wfctl verify {name}")
        ok(not problem, f"torch.load in {len(how)} ways: {what}", problem)
