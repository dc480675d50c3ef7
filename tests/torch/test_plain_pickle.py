#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plain pickles of arrays and values, mounted and edited by ordinary tools, judged by pickle.load; the same edit in Python is the oracle.

Usage: test_plain_pickle.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import os
import pickle
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "mount"), HERE]
from kit import World, done, need_fuse, ok, read, run, same, write  # noqa: E402

need_fuse()
import numpy as np  # noqa: E402
import torch  # noqa: E402

from judge import same as compare  # noqa: E402


def arrays():
    return {"model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float64), "big": np.arange(70000, dtype=np.int32)},
            "__author__": "someone", "epoch": 3, "lr": 0.5, "betas": (0.9, 0.999), "none": None}


def tensors():
    return {"model": {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.float64), "h": torch.ones(4, dtype=torch.bfloat16)},
            "epoch": 3, "lr": 0.5, "view": torch.arange(10)[2:5]}


def poke(x, value):
    x.reshape(-1)[1] = value
    return x


def edited(d):
    """What the edits below do."""
    d = dict(d)
    new = np.array([1, 2], np.float32) if isinstance(d["model"]["b"], np.ndarray) else torch.tensor([1.0, 2.0])
    d["model"] = {("weight" if k == "w" else k): (poke(v, 100) if k == "w" else v) for k, v in d["model"].items() if k != "b"}
    d["model"]["new"] = new
    d["epoch"] = 4
    d["lr"] = 0.25
    d["note"] = "added"
    return d


EDITS = r"""
printf '\0\0\310B' | dd of=mnt/model/w bs=4 seek=1 conv=notrunc status=none
mv mnt/model/w mnt/model/weight
rm mnt/model/b
printf '\0\0\200?\0\0\0@' > mnt/model/new && setfattr -n user.torch.dtype -v float32 mnt/model/new
echo 4 > mnt/epoch
echo 0.25 > mnt/lr
echo added > mnt/note
"""


def loaded(path):
    with open(path, "rb") as f:
        return pickle.load(f)


def problem(wanted, got):
    try:
        compare(wanted, got)
        return ""
    except AssertionError as e:
        return e


def edit(w, make, protocol, *options):
    with open(w.file, "wb") as f:
        pickle.dump(make(), f, protocol)
    before = read(w.file)
    wanted = edited(make())
    w.mount(*options)
    r = run("sh", "-euc", EDITS, cwd=w.dir)
    ok(r.returncode == 0 and not r.stderr, "  is edited", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "  and committed", r)
    out = w.file
    if options:
        out = os.path.join(w.dir, "out.pkl")
        same(read(w.file), before, "  the source is as it was")
    why = problem(wanted, loaded(out))
    ok(not why, "  pickle.load gives what the same edit in Python gives", why)
    with open(out, "rb") as f:
        first = f.read(2)
    ok(first == bytes([0x80, protocol]) if protocol >= 2 else first[0] != 0x80, "  in the same protocol", first)
    r = run(w.wfctl, "verify", out)
    ok(r.returncode == 0, "  and wfctl verify finds nothing", r)


def without_torch(w):
    """New keys in a pickle of arrays need no torch to load."""
    r = run(sys.executable, "-c", "import sys; sys.modules['torch'] = None\nimport pickle\npickle.load(open(sys.argv[1], 'rb'))", w.file)
    ok(r.returncode == 0, "a pickle of arrays loads without torch as before", r.stderr)


def attributes(w):
    with open(w.file, "wb") as f:
        pickle.dump(arrays(), f, 4)
    w.mount()
    r = run("sh", "-euc", "setfattr -n user.torch.shape -v '[3, 2]' mnt/model/w; setfattr -n user.torch.dtype -v int64 mnt/model/b", cwd=w.dir)
    ok(r.returncode == 0, "shape and dtype of arrays are set", r)
    for command, why in (("setfattr -n user.torch.dtype -v bfloat16 mnt/model/big", "cannot hold elements of bfloat16"),):
        r = run("sh", "-euc", command, cwd=w.dir)
        ok(r.returncode != 0 and why in read(f"{w.mnt}/.weightfs/log").decode(), f"{command} is refused: {why}", r)
    r = run(w.wfctl, "umount", w.mnt)
    got = loaded(w.file)["model"]
    wanted = arrays()["model"]
    ok(r.returncode == 0 and (got["w"] == wanted["w"].reshape(3, 2)).all() and (got["b"] == wanted["b"].view(np.int64)).all(),
       "as reshape and view do", (r, got))


def killed(w):
    """Edits that were synced are there after a kill, and commit."""
    with open(w.file, "wb") as f:
        pickle.dump(arrays(), f, 2)
    w.mount()
    run("sh", "-euc", EDITS, cwd=w.dir)
    run("sync", w.mnt)
    w.crash()
    r = run(w.wfctl, "umount", w.mnt)
    why = problem(edited(arrays()), loaded(w.file))
    ok(r.returncode == 0 and not why, "synced edits outlive the daemon", (r, why))


with World(sys.argv[1], lambda path: None) as world:
    for make in (arrays, tensors):
        for protocol in range(6):
            ok(True, f"a pickle of {make.__name__}, protocol {protocol}")
            edit(world, make, protocol)
            if make is arrays and protocol == 2:
                without_torch(world)
    ok(True, "output=")
    edit(world, arrays, 4, "-o", f"output={world.dir}/out.pkl")
    attributes(world)
    killed(world)
done()
