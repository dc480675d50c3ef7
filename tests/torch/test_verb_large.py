#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copies of tensors that are read where they stand: what the commit writes is what torch has, whatever is done to them before it.

Usage: test_verb_large.py BUILD_DIR. Prints TAP; needs no FUSE.
"""
import os
import tempfile

import numpy as np
import torch

import verbkit
from verbkit import done, ok, wfctl

N = 700_000


def donor():
    base = torch.arange(2 * N, dtype=torch.int32)
    tied = torch.arange(N, dtype=torch.float64)
    return {"w": torch.nn.Parameter(torch.arange(N, dtype=torch.float32)), "half": base[N:], "base": base, "turned": tied.reshape(7, -1).T, "a": tied, "b": tied,
            "bf": torch.arange(N).to(torch.bfloat16), "np": np.arange(N), "small": torch.ones(3), "bool": torch.ones(2 * N, dtype=torch.bool)}


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def check(what, path, want, load=None):
    got = load(path) if load else torch.load(path, weights_only=False)
    wrong = [k for k in want if not same(want[k], got.get(k))] if list(got) == list(want) else [list(got), list(want)]
    ok(not wrong, what, wrong)
    r = wfctl("verify", path)
    ok(r.returncode == 0, what + ", and its sums are right", r)
    ok(not os.path.exists(path + ".weightfs"), what + ", and nothing is left beside it")


def flat(path):
    from safetensors.torch import load_file
    return load_file(path)


def try_all(top):
    a, b = os.path.join(top, "a.pt"), os.path.join(top, "b.pt")
    d = donor()
    torch.save(d, a)
    script = os.path.join(top, "script")
    raw = os.path.join(top, "raw")
    with open(raw, "wb") as f:
        f.write(bytes(range(64)) * (N // 64 * 4))
    other = torch.from_numpy(np.fromfile(raw, np.float32))
    all_keys = " ".join(f"{a}:{k}" for k in d)
    cases = [  # lines of a script; what there is before; what there is then
        ("cp ALL b:", {}, d),
        ("cp a:w b:w", {"w": torch.zeros(5), "x": torch.ones(1)}, {"w": d["w"], "x": torch.ones(1)}),
        ("cp a:w b:w", {"w": torch.zeros(N)}, {"w": d["w"]}),
        ("cp a:base b:v\nattr b v dtype=float32 shape='[2, -1]'", {}, {"v": d["base"].view(torch.float32).reshape(2, -1)}),
        ("cp a:base b:v\ncp b v u\nrm b v", {}, {"u": d["base"]}),
        ("cp a:base b:v\nln b v u\nmv b v t", {}, {"t": d["base"], "u": d["base"]}),
        ("cp a:w b:w\nset b w --file raw\ncp a:bf b:bf", {}, {"w": torch.nn.Parameter(other), "bf": d["bf"]}),
        ("cp a:w b:w\ncp a:half b:w", {}, {"w": d["half"]}),
        ("cp a:w b:w\nrm b w\ncp a:a b:w", {"x": torch.ones(1)}, {"x": torch.ones(1), "w": d["a"]}),
    ]
    for kind, options in (("an archive", {}), ("the legacy format", {"_use_new_zipfile_serialization": False})):
        for mode in ("replace", "append"):
            for lines, before, after in cases:
                if kind != "an archive" and (mode == "append" or "bf" in after and "ALL" not in lines):
                    continue
                torch.save(before, b, **options)
                with open(script, "w") as f:
                    f.write(lines.replace("ALL", all_keys).replace("a:", a + ":").replace(a + ":" + a[:-4], a[:-4]).replace("b:", b + ":")
                            .replace("attr b ", f"attr {b} ").replace("cp b ", f"cp {b} ").replace("rm b ", f"rm {b} ").replace("ln b ", f"ln {b} ")
                            .replace("mv b ", f"mv {b} ").replace("set b ", f"set {b} ").replace("--file raw", f"--file {raw}") + "\n")
                done("-f", script, f"--commit={mode}")
                check(f"{kind}, {mode}: {lines.splitlines()[0][:20]} ({len(lines.splitlines())})", b, after)
    st = os.path.join(top, "m.safetensors")
    done("new", st)
    done("cp", f"{a}:base", f"{a}:bf", f"{a}:bool", st + ":")
    check("into a safetensors file", st, {k: d[k] for k in sorted(("base", "bf", "bool"))}, lambda p: dict(sorted(flat(p).items())))
    torch.save({}, b)
    done("cp", st + ":base", b + ":")
    check("out of one", b, {"base": d["base"]})
    # the same file under another name
    link = os.path.join(top, "link.pt")
    os.link(a, link)
    ok(wfctl("cp", link + ":w", a + ":copy").returncode == 0, "a copy from another name of the file")
    check("from the file itself", a, {**d, "copy": d["w"]})


with tempfile.TemporaryDirectory(prefix="weightfs-large-") as base:
    try_all(base)
verbkit.tap.done()
