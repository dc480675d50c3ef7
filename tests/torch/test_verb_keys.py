#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Keys that are no texts, and what cp, mv and rename make of them: the key that Python would have, or a line that refuses.

Usage: test_verb_keys.py BUILD_DIR. Prints TAP; the same on a mount where /dev/fuse can be used.
"""
import enum
import os
import shutil
import tempfile

import numpy as np
import torch

import verbkit
from verbkit import ok, wfctl


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


T, U = torch.arange(3.), torch.ones(2)


def model():
    shared = {"x": U}
    return {"top": T, "mixed": {0: T, "a": U, 1: 5, "1": 6, 2: shared}, "ints": {0: T, 1: U}, "link": {5: shared, "s": 1},
            "scalars": {1.5: T, None: 3, -3: T, (1, ("x", 2.5)): U, 2**70: 4, "null": 1, "1.5": 2}, "flags": {True: T, "x": 1}, "floats": {2.0: U},
            "odd": {b"by": T, Colour.RED: 4, torch.float32: 6, torch.device("cpu"): 7, np.int64(9): 8, "s": 1}}


def shown(v):
    """With the kinds of keys and the order, and tensors that are tied by name."""
    if isinstance(v, dict):
        return [(type(k).__name__, repr(k), shown(x)) for k, x in v.items()]
    return v.tolist() if isinstance(v, torch.Tensor) else v


def under(path, value, m):
    *parents, last = path
    for p in parents:
        m = m[p]
    m[last] = value


def moved(m, old, new):
    """In one mapping: the same place."""
    items = [(new if k == old and type(k) is type(old) else k, v) for k, v in m.items()]
    m.clear()
    m.update(items)


CASES = [  # words behind the path; what Python does, or a word of the line that refuses; whether a mount can tell
    ("cp mixed copy", lambda m: under(["copy"], m["mixed"], m), True),
    ("cp scalars copy", lambda m: under(["copy"], m["scalars"], m), True),
    ("cp ints copy", lambda m: under(["copy"], m["ints"], m), True),
    ("cp link copy", lambda m: under(["copy"], m["link"], m), True),
    ("cp ints/0 mixed/zz", lambda m: under(["mixed", "zz"], T, m), True),
    ("cp scalars/1.5 ints", lambda m: under(["ints", 1.5], T, m), True),
    ("cp scalars/-3 ints", lambda m: under(["ints", -3], T, m), True),
    ("cp scalars/null mixed", lambda m: under(["mixed", None], 3, m), True),
    ("cp scalars/[1,* ints", lambda m: under(["ints", (1, ("x", 2.5))], U, m), True),
    ("cp scalars/1180591620717411303424 mixed", lambda m: under(["mixed", 2**70], 4, m), True),
    ("cp scalars/%6Eull mixed", "Invalid", True),  # which is the name of that key beside None alone
    ("cp odd copy", "bytes", False),
    ("cp odd/b'by' ints", "bytes", False),
    ("cp odd/Colour* ints", "Colour", False),
    ("cp odd/torch.float32 ints", "dtype", False),
    ("cp odd/cpu ints", "device", False),
    ("cp odd/9 mixed", "numpy.int64", False),
    ("cp -T odd/b'by' ints/by", lambda m: under(["ints", "by"], T, m), True),
    ("cp odd/s ints", lambda m: under(["ints", "s"], 1, m), True),
    # one key to Python
    ("cp flags/true ints", "true", True),
    ("cp ints/1 flags", "its key is no text (1)", True),
    ("cp floats/2.0 mixed", "2.0", True),
    ("cp mixed/2 floats", "its key is no text (2)", True),
    # a new name is a str, but where all keys are ints
    ("mv odd/b'by' odd/bz", lambda m: moved(m["odd"], b"by", "bz"), True),
    ("mv odd/b'by' ints", lambda m: under(["ints", b"by"], m["odd"].pop(b"by"), m), True),
    ("mv odd/Colour* odd/red", lambda m: moved(m["odd"], Colour.RED, "red"), True),
    ("mv odd/cpu ints", lambda m: under(["ints", torch.device("cpu")], m["odd"].pop(torch.device("cpu")), m), True),
    ("mv scalars/null scalars/none", lambda m: moved(m["scalars"], None, "none"), True),
    ("mv scalars/-3 scalars/7", lambda m: moved(m["scalars"], -3, "7"), True),
    ("mv scalars/[1,* scalars/t", lambda m: moved(m["scalars"], (1, ("x", 2.5)), "t"), True),
    ("mv ints/0 ints/7", lambda m: moved(m["ints"], 0, 7), True),
    ("mv flags/true flags/yes", lambda m: moved(m["flags"], True, "yes"), True),
    # expressions are for texts
    ("rename s/^/p./ odd", lambda m: moved(m["odd"], "s", "p.s"), False),
    ("rename s/^/p./ mixed", lambda m: (moved(m["mixed"], "a", "p.a"), moved(m["mixed"], "1", "p.1")), True),
    ("rename s/^/p./ ints", lambda m: None, True),
    ("rename s/l/L/ scalars", lambda m: moved(m["scalars"], "null", "nuLl"), True),
    ("rename s/b/B/ odd", lambda m: None, False),
]


def outcome(top, words, mounted):
    """(exit status, line, what torch.load says)"""
    path, at = os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    torch.save(model(), path)
    verb, *rest = words.split(" ")
    options = [w for w in rest if w == "-T"]
    if mounted:
        wfctl("mount", path, at)
    r = wfctl(verb, *options, at if mounted else path, *[w for w in rest if w != "-T"])
    if mounted and wfctl("umount", at).returncode != 0:
        return -1, "not unmounted", None
    return r.returncode, r.stderr.decode(), torch.load(path, weights_only=False)


def try_all(top, mounted):
    where = " on a mount" if mounted else ""
    for words, does, tells in CASES:
        if mounted and not tells:
            continue
        status, line, got = outcome(top, words, mounted)
        want = model()
        if callable(does):
            does(want)
            right = status == 0
        else:
            right = status == 1 and does in line and line.count("\n") == 1
        kept = mounted and not callable(does)  # what a refused copy came to is there, as that of cp is
        ok(right and (kept or shown(got) == shown(want)), f"wfctl {words}{where}", f"exit {status}: {line}\n{shown(want)}\n{shown(got)}")


def between(top):
    """All of it in an empty checkpoint, ties and links too."""
    a, b = os.path.join(top, "a.pt"), os.path.join(top, "b.pt")
    want = {k: v for k, v in model().items() if k != "odd"}
    torch.save(want, a)
    wfctl("new", b)
    r = wfctl("cp", a + ":/", b + ":")
    got = torch.load(b, weights_only=False)
    ok(r.returncode == 0 and shown(got) == shown(want), "all of a checkpoint copied to an empty one", f"{r}\n{shown(want)}\n{shown(got)}")
    ok(got["top"].data_ptr() == got["mixed"][0].data_ptr() == got["ints"][0].data_ptr() == got["scalars"][-3].data_ptr(), "tied as it was")
    ok(got["mixed"][2] is got["link"][5], "and shared as it was")
    for key in ("mixed/0", "link/5"):  # in the place of what is there
        r = wfctl("cp", a + ":" + key.split("/")[0], b + ":")
        got = torch.load(b, weights_only=False)
        ok(r.returncode == 0 and shown(got) == shown(want), f"{key} copied over itself", f"{r}\n{shown(want)}\n{shown(got)}")


with tempfile.TemporaryDirectory(prefix="weightfs-keys-") as base:
    try_all(base, False)
    between(base)
    if os.access("/dev/fuse", os.W_OK) and shutil.which("fusermount3"):
        try_all(base, True)
    else:
        verbkit.tap.skip("keys on a mount", "/dev/fuse is missing")
verbkit.tap.done()
