#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Beside every kind of object that tests/files/cases.py makes, a number is edited: the object comes back as it was."""
import io
import os
import pickle
import sys

from common import HERE, LEGACY, Loose, Workflow, compare, done, load, ok, skip, torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "files"))
import cases  # noqa: E402


class Pickler(pickle._Pickler):
    """Leaves tensors and storages to compare()."""

    def persistent_id(self, obj):
        if isinstance(obj, torch.Tensor) or hasattr(obj, "data_ptr"):
            self.tensors.append(obj)
            return len(self.tensors)
        return None


def plain(obj):
    """What pickle says of an object, and the tensors in it."""
    out = io.BytesIO()
    pickler = Pickler(out, 4)
    pickler.tensors = []
    pickler.dump(obj)
    return out.getvalue(), pickler.tensors


def same_object(a, b):
    (text, tensors), (text2, tensors2) = plain(a), plain(b)
    if text != text2:
        raise AssertionError("another object: " + repr(a)[:300] + " against " + repr(b)[:300])
    for i, (x, y) in enumerate(zip(tensors, tensors2)):
        compare(x, y, f"tensor {i}")


for name, make in cases.CASES.items():
    if LEGACY and getattr(make, "only_zip", False):
        continue
    with Workflow() as w:
        try:
            w.save({"epoch": 3, "object": make()})
            old = load(w.file)["object"]
            same_object(old, load(w.file)["object"])
        except Exception as e:
            skip(name, f"this torch cannot say: {type(e).__name__}: {ascii(str(e).splitlines()[0])[1:-1]}")
            continue
        with w.mounted():
            w.sh("echo 4 > mnt/epoch")
        problem = ""
        try:
            for options in w.loads["model.pt"]:
                new = load(w.file, **options)
                if isinstance(new, Loose):
                    compare({"epoch": 4, "object": old}, new)
                    continue
                same_object(old, new["object"])
                if new["epoch"] != 4:
                    problem = "epoch is not 4"
        except Exception as e:
            problem = f"{type(e).__name__}: {e}"
        ok(not problem, f"{name}, {len(w.loads['model.pt'])} ways", problem)
done()
