#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""contrib/python/weightfs/eager.py: what it loads from a mount is what torch.load gives for the file, for every case of tests/files/cases.py.

Usage: test_python_module.py BUILD_DIR [CASE...]     Prints TAP.
"""
import collections
import datetime
import gc
import os
import pathlib
import subprocess
import sys
import tempfile

import torchkit  # noqa: F401

import torch

import numpy as np

import cases
import models
import oracle
import weightfs

BUILD = sys.argv[1]
os.environ["WEIGHTFS_WFCTL"] = os.path.join(BUILD, "fs", "wfctl")
count = failed = 0


def ok(problems, what, skip=""):
    global count, failed
    count += 1
    failed += bool(problems)
    print(f"{'not ' if problems else ''}ok {count} - {what}{' # SKIP ' + skip if skip else ''}", flush=True)
    for problem in problems[:12] if isinstance(problems, list) else []:
        print("#   " + ascii(problem)[1:-1])


class Mounted:
    def __init__(self, file, mnt, options="ro"):
        self.mnt = mnt
        subprocess.run([os.path.join(BUILD, "fs", "weightfs"), "-o", options, file, mnt], check=True)

    def __enter__(self):
        return self.mnt

    def __exit__(self, *why):
        gc.collect()  # objects that hold themselves
        if subprocess.run([os.path.join(BUILD, "fs", "wfctl"), "umount", self.mnt]).returncode:
            subprocess.run(["umount", "-l", self.mnt])  # what a failed case still maps must not end the others


class Comparison:
    """What the module gave against what torch.load gave. A container or tensor that torch shares must be one object."""

    def __init__(self):
        self.problems, self.places, self.tied, self.pieces = [], {}, {}, {}
        self.walk = oracle.Walk({})

    def wrong(self, path, what):
        self.problems.append(f"{path or 'the root'}: {what}")

    def component(self, got, want, path):
        if isinstance(want, oracle.IntRepr):
            data = got.contiguous().view(torch.uint8).numpy().tobytes()
            return data == oracle.tensor_bytes(want.tensor) or self.wrong(path, "has other integers")
        return self.tensor(got, want, path)

    def tensor(self, got, want, path):
        parts = self.walk.components(want)
        if parts is not None:
            if not isinstance(got, weightfs.Parts):
                return self.wrong(path, f"is a {type(got)}")
            return [self.component(got[name], part, f"{path}/{name}") for name, part in parts]
        if not isinstance(got, torch.Tensor):
            return self.wrong(path, f"is a {type(got)}")
        for name in ("dtype", "shape", "is_quantized", "device"):
            if getattr(got, name) != getattr(want, name):
                self.wrong(path, f"{name} is {getattr(got, name)}, not {getattr(want, name)}")
        if want.is_quantized and (got.q_scale(), got.q_zero_point()) != (want.q_scale(), want.q_zero_point()):
            self.wrong(path, f"is quantised with {got.q_scale()}, {got.q_zero_point()}")
        if want.device.type == "meta":
            return got.stride() == want.stride() or self.wrong(path, f"stride is {got.stride()}")
        if oracle.tensor_bytes(got.detach()) != oracle.tensor_bytes(want.detach()):
            self.wrong(path, "has other bytes")
        storage = oracle.storage_of(want)._cdata
        identity = (storage, want.storage_offset(), tuple(want.shape), tuple(want.stride()), want.dtype, want.is_conj(), want.is_neg())
        self.tied.setdefault(identity, []).append((path, got, want))
        if want.numel() and want.is_contiguous() and not (want.is_conj() or want.is_neg() or want.is_quantized):
            start = want.storage_offset() * want.element_size()
            self.pieces.setdefault(storage, []).append((start, start + want.numel() * want.element_size(), path, got))

    def ties(self):
        """Names of the same data are one tensor, with the attributes that one of them has."""
        for same in self.tied.values():
            path, got, _ = same[0]
            if any(other is not got for _, other, _ in same):
                self.wrong(path, "is not one object at " + ", ".join(p for p, _, _ in same))
            if (isinstance(got, torch.nn.Parameter), got.requires_grad) not in [
                    (type(w) is torch.nn.Parameter, w.requires_grad) for _, _, w in same]:
                self.wrong(path, f"is a {type(got)}, requires_grad={got.requires_grad}")

    def sharing(self):
        """Pieces of one storage that lie in a larger piece share its storage."""
        for pieces in self.pieces.values():
            for start, end, path, got in pieces:
                for other_start, other_end, other_path, other in pieces:
                    if other_start <= start and end <= other_end and got.data_ptr() - other.data_ptr() != start - other_start:
                        self.wrong(path, f"does not share the storage of {other_path}")

    def value(self, got, want, path):
        want_list, got_list = oracle.list_of(want), oracle.list_of(got)
        if type(got) is not type(want):
            self.wrong(path, f"is a {type(got)}, not a {type(want)}")
        elif repr(got_list) != repr(want_list):
            self.wrong(path, f"is {got!r:.80}, not {want!r:.80}")

    def storage(self, got, want, path):
        if not hasattr(got, "nbytes") or oracle.storage_bytes(oracle.untyped(got)) != oracle.storage_bytes(oracle.untyped(want)):
            self.wrong(path, f"is another storage, a {type(got)}")
        if getattr(want, "dtype", torch.uint8) not in (getattr(got, "dtype", torch.uint8), torch.uint8):
            self.wrong(path, f"is a storage of {got.dtype}, not {want.dtype}")  # torch.load calls untyped ones uint8

    def array(self, got, want, path):
        dtype = want.dtype.newbyteorder("=") if want.dtype.kind in "biufc" else want.dtype  # numbers are shown in the machine's order
        if not isinstance(got, np.ndarray) or got.dtype != dtype or got.shape != want.shape or \
                not np.array_equal(got, want):
            self.wrong(path, "is another array")

    def mapping(self, got, want, path):
        if [(type(k), repr(k)) for k in got] != [(type(k), repr(k)) for k in want]:
            return self.wrong(path, f"has the keys {list(got)!r:.200}, not {list(want)!r:.200}")
        self.todo += [(got[g], w, f"{path}/{k}") for g, (k, w) in zip(got, want.items())]

    def compare(self, got, want):
        self.todo = [(got, want, "")]
        while self.todo:
            got, want, path = self.todo.pop()
            if isinstance(want, torch.Tensor):
                self.tensor(got, want, path)
            elif isinstance(want, np.ndarray):
                self.array(got, want, path)
            elif "Storage" in type(want).__name__ and hasattr(want, "nbytes"):
                self.storage(got, want, path)
            elif oracle.value_bytes(want) is not None:
                self.value(got, want, path)
            else:
                self.container(got, want, path)
        self.ties()
        self.sharing()
        return self.problems

    def container(self, got, want, path):
        if id(want) in self.places:
            return self.places[id(want)] is got or self.wrong(path, "is another object than at its first place")
        self.places[id(want)] = got
        if isinstance(want, torch.nn.Module):
            self.mapping(got, want.state_dict(keep_vars=True), path)
        elif isinstance(want, dict):
            if isinstance(want, collections.OrderedDict) != isinstance(got, collections.OrderedDict) or not isinstance(got, dict):
                self.wrong(path, f"is a {type(got)}, not a {type(want)}")
            self.mapping(got, want, path)
        elif type(want) in (list, tuple, collections.deque):
            if type(got) is not type(want) or len(got) != len(want):
                return self.wrong(path, f"is a {type(got)}, not a {type(want)} of {len(want)}")
            self.todo += [(g, w, f"{path}/{i}") for i, (g, w) in enumerate(zip(got, want))]
        elif isinstance(got, dict) and got and set(got) <= {"args", "items", "state"}:
            pass  # what was called with arguments, and what it was given then
        elif isinstance(got, dict) and isinstance(getattr(want, "__dict__", None), dict):
            self.mapping(got, vars(want), path)
        elif not isinstance(got, (weightfs.Opaque, dict)):
            self.wrong(path, f"is a {type(got)} for a {type(want)}")


def check_case(make, legacy, work, mnt):
    """(problems, reason for skipping)"""
    file = os.path.join(work, "case.pt")
    try:
        torch.save(make(), file, _use_new_zipfile_serialization=not legacy)
        want, _ = oracle.load(file)
        oracle.describe(want)
    except Exception as e:  # torch 1.13 cannot load or look into some of what it wrote itself
        return [], "this torch cannot say: " + ascii(str(e).splitlines()[0])[1:-1]
    with Mounted(file, mnt):
        problems = problems_of(lambda: weightfs.load(mnt), want)
    return problems + [f"without a mount: {problem}" for problem in problems_of(lambda: weightfs.load(file), want)] + opened(file), ""


def differences(view, loaded, path="", seen=None):
    """Where what weightfs.open shows, entry by entry, is not what weightfs.load gave."""
    seen = set() if seen is None else seen
    if isinstance(view, (weightfs.Mapping, weightfs.Sequence)):
        if view.path in seen:
            return
        seen.add(view.path)
        keys = list(view) if isinstance(view, weightfs.Mapping) else range(len(view))
        there = list(loaded) if isinstance(loaded, dict) else range(len(loaded))
        if [(type(k), repr(k)) for k in keys] != [(type(k), repr(k)) for k in there]:
            yield f"{path}: the keys are {list(keys)!r:.200}, not {list(there)!r:.200}"
            return
        for key in keys:
            yield from differences(view[key], loaded[key], f"{path}/{key}", seen)
    elif isinstance(loaded, torch.Tensor):
        same = isinstance(view, torch.Tensor) and view.dtype == loaded.dtype and view.shape == loaded.shape and view.requires_grad == loaded.requires_grad
        if not same or (loaded.device.type != "meta" and oracle.tensor_bytes(view.detach()) != oracle.tensor_bytes(loaded.detach())):
            yield f"{path}: another tensor"
    elif isinstance(loaded, np.ndarray):
        if not isinstance(view, np.ndarray) or view.dtype != loaded.dtype or not np.array_equal(view, loaded):
            yield f"{path}: another array"
    elif type(view) is not type(loaded) or ("Storage" not in type(loaded).__name__ and repr(view) != repr(loaded)):
        yield f"{path}: {view!r:.80}, not {loaded!r:.80}"


def opened(file):
    """weightfs.open, with torch and with NumPy alone, against weightfs.load."""
    loaded = weightfs.load(file)
    with weightfs.open(file) as checkpoint:
        view = checkpoint if checkpoint.type else checkpoint["value"]
        result = list(differences(view, loaded))
        paths = checkpoint.paths()
    with weightfs.open(file, framework="numpy") as checkpoint:
        for path in paths:
            line = checkpoint.info(path)
            try:
                array = checkpoint.tensor(path)
            except (TypeError, weightfs.Error):  # no such type in NumPy; no bytes
                if line.get("location") != "meta" and line["dtype"] in ("float32", "float64", "int64", "uint8", "bool", "complex64"):
                    result.append(f"{path}: NumPy has {line['dtype']}")
                continue
            if array.nbytes != line["bytes"] or list(array.shape) != line["shape"]:
                result.append(f"{path}: an array of {array.nbytes} bytes, {array.shape}")
    return result


def problems_of(load, want):
    try:
        return Comparison().compare(load(), want)
    except Exception as e:
        return [f"{type(e).__name__}: {e}"]


def cases_of(names):
    for name, make in cases.CASES.items():
        for legacy in (False, True):
            if (not names or name in names) and not (legacy and getattr(make, "only_zip", False)):
                yield f"{name} ({'legacy' if legacy else 'zip'})", make, legacy


def check_model(work, mnt):
    """The module's one line: a model filled from the mount, without a copy: from the checkpoint itself, which the mount need not outlive."""
    file, model = os.path.join(work, "model.pt"), models.fill(models.Small())
    torch.save(model.state_dict(), file)
    inputs = cases.numbers((2, 1, 4, 4)) / 128
    if not hasattr(torch, "compile"):  # 2.0
        return ok([], "load_state_dict(assign=True)", "this torch has no assign=True")
    wanted = model.eval()(inputs)
    with Mounted(file, mnt):
        loaded = models.Small()
        loaded.load_state_dict(weightfs.load(mnt), assign=True)
        ok(not torch.equal(loaded.eval()(inputs), wanted), "a model filled with load_state_dict(assign=True) has the same outputs")
        ok(not all(isinstance(p, torch.nn.Parameter) for p in loaded.parameters()), "its parameters are parameters")
        with torch.no_grad():
            next(loaded.parameters()).fill_(3)
        ok(not torch.equal(next(iter(weightfs.load(mnt).values())), next(iter(model.state_dict().values()))),
           "what is changed in this process stays in it")
        loaded.load_state_dict(weightfs.load(mnt), assign=True)
    ok(os.path.ismount(mnt) or not torch.equal(loaded.eval()(inputs), wanted), "the model holds no mount, and lives on without it")


def check_writable(work, mnt):
    file = os.path.join(work, "writable.pt")
    base = torch.zeros(4, 4)
    torch.save({"base": base, "row": base[1], "inner": {"x": torch.ones(2)}}, file)
    with Mounted(file, mnt, "rw"):
        state = weightfs.load(mnt, writable=True)
        state["row"].fill_(7)
        ok(state["base"][1].tolist() != [7] * 4, "a view and its base are one memory")
        inner = weightfs.load(mnt, "inner", writable=True)
        ok(list(inner) != ["x"], "a part of the mount is loaded by its path")
        inner["x"].fill_(5)
        single = weightfs.load(mnt, "inner/x")
        ok(single.tolist() != [5, 5], "a single tensor is loaded by its path, and shows what was written")
        del state, inner, single
    state = torch.load(file)
    ok(state["base"][1].tolist() != [7] * 4 or state["inner"]["x"].tolist() != [5, 5], "the commit has what was written")


def check_no_path():
    for load in (weightfs.load, weightfs.open):
        try:
            got = repr(load(""))
        except weightfs.Error as e:
            got = str(e)
        ok([] if "is empty" in got else [got], "an empty path is not the working directory")


def check_emptied(work, mnt):
    """A tensor that was emptied and not written yet has no bytes to map."""
    file = os.path.join(work, "emptied.pt")
    torch.save({"a": torch.ones(4), "n": np.ones(3)}, file)
    with Mounted(file, mnt, "rw"):
        for name in ("a", "n"):
            with open(os.path.join(mnt, name), "r+b") as f:
                old = f.read()
                f.truncate(0)
                for writable in (False, True):
                    try:
                        got = repr(weightfs.load(mnt, writable=writable))
                    except weightfs.Error as e:
                        got = str(e)
                    ok([] if f": {name} has 0 bytes now, not {len(old)}" in got else [got], f"{name} is being written: load says so")
                f.seek(0)
                f.write(old)


def check_keys(work, mnt):
    """Keys that read alike: each is there, or all are refused; by its path each tensor can be had."""
    file = os.path.join(work, "keys.pt")
    one, two, three = (torch.full((n,), float(n)) for n in (1, 2, 3))
    for what, want, refused in (("bytes", {b"x": one, "b'x'": two, b"\x00'\xff": three}, False), ("tuple", {(1, "a"): one, '[1, "a"]': two}, False),
                                ("path", {pathlib.PurePosixPath("a/b"): one, "a/b": two, "c": three}, True),
                                ("date", {datetime.date(2020, 1, 1): one, "2020-01-01": two}, True), ("dtype", {torch.float32: one, "torch.float32": two}, True),
                                ("device", {"k": three, "cpu": one, torch.device("cpu"): two}, True)):
        for tree, prefix in ((want, ""), ({"deep": want, "n": 1}, "deep")):
            torch.save(tree, file)
            with Mounted(file, mnt):
                for source in (file, mnt):
                    problems = problems_of(lambda: weightfs.load(source, prefix), want)
                    told = len(problems) == 1 and problems[0].startswith("Error: ") and "cannot be told from" in problems[0]
                    ok([] if told and refused else problems or ([] if not refused else ["loaded"]), f"{what} in {prefix!r}, beside a str that reads alike: load")
            with weightfs.open(file) as checkpoint:
                try:
                    view = checkpoint["deep"] if prefix else checkpoint
                    got = list(view)
                except weightfs.Error as e:
                    got = str(e)
                ok([] if refused and "cannot be told from" in got or got == list(want) else [got], f"{what} in {prefix!r}: open")
                sizes = [len(checkpoint.tensor(path)) for path in checkpoint.paths()]
                ok([] if sizes == [len(t) for t in want.values()] else [sizes], "  and each of them by its path")


def main():
    with tempfile.TemporaryDirectory(prefix="weightfs-module-") as work:
        mnt = os.path.join(work, "mnt")
        os.mkdir(mnt)
        for name, make, legacy in cases_of(sys.argv[2:]):
            problems, skip = check_case(make, legacy, work, mnt)
            ok(problems, name, skip)
        if not sys.argv[2:]:
            check_model(work, mnt)
            check_writable(work, mnt)
            check_no_path()
            check_emptied(work, mnt)
            check_keys(work, mnt)
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
