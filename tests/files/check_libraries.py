#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Directories of the libraries around torch, without them: what libraries/manifest.json tells of those in libraries/ is what wfctl and a mount
show, and what an export of them holds.

Usage: check_libraries.py BUILD_DIRECTORY. Prints TAP. Without /dev/fuse the mounts are left out.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from tap import done, ok, same, skip  # noqa: E402

WEIGHTFS, WFCTL = (os.path.join(os.path.abspath(sys.argv[1]), "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
# values of those that stand beside the tensors: of meta.pt, of common.pt, of torchtitan's own
VALUES = {"lightning": {"epoch": "1", "hyper_parameters/lr": "0.1", "lr_schedulers/0/last_epoch": "2"}, "megatron": {"iteration": "7"},
          "torchtitan": {"lr_scheduler/last_epoch": "10", "dataloader/world_size": "2"}}


def run(*words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def told(directory, prefix=""):
    """name: what it is; of the tensors below prefix."""
    r = run(WFCTL, "ls", "--json", directory)
    rows = [row for row in map(json.loads, r.stdout.splitlines()) if row["path"].startswith(prefix)]
    return {row["path"][len(prefix):]: {"dtype": row["dtype"], "shape": row["shape"],
                                        "sha256": hashlib.sha256(run(WFCTL, "cat", "--raw", directory, row["path"]).stdout).hexdigest()} for row in rows}


def check_mount(what, directory, prefix, tensors):
    if not FUSE:
        return skip(f"{what}: a mount", "there is no /dev/fuse")
    with tempfile.TemporaryDirectory() as point:
        r = run(WEIGHTFS, "-o", "ro", directory, point)
        wrong = [r.stderr] if r.returncode else []
        try:
            for name, t in tensors.items() if not wrong else []:
                with open(os.path.join(point, prefix + name), "rb") as f:
                    wrong += [name] if hashlib.sha256(f.read()).hexdigest() != t["sha256"] else []
        except OSError as e:
            wrong.append(e)
        finally:
            run(WFCTL, "umount", point)
        same(wrong, [], f"{what}: a mount has these bytes")


def check(what, directory, prefix, tensors, scratch):
    found = told(directory, prefix)
    same({k: v for k, v in found.items() if k in tensors}, tensors, f"{what}: the tensors are those that its own reader finds")
    r = run(WFCTL, "verify", directory)
    ok(r.returncode == 0, f"{what}: verify", r)
    check_mount(what, directory, prefix, tensors)
    for key, value in VALUES.get(what, {}).items():
        same(run(WFCTL, "cat", directory, key).stdout.decode().strip(), value, f"{what}: {key}")
    if set(found) == set(tensors):
        out = os.path.join(scratch, what + ".safetensors")
        r = run(WFCTL, "export", *(["--prefix=" + prefix.rstrip("/")] if prefix else []), directory, out)
        ok(r.returncode == 0 and told(out) == tensors, f"{what}: an export holds them", r)


# what is not one .metadata, and why it is not changed
READ_ONLY = {"libraries/accelerate-fsdp1": "its model and its optimizer are checkpoints by themselves", "libraries/accelerate-fsdp2": "name one of its folders",
             "libraries/lightning": "Lightning's meta.pt", "libraries/megatron": "Megatron's common.pt", "dcp/no-collectives-2": "each rank has metadata of its own",
             "dcp/safetensors-2": "ranks' safetensors files"}


def check_read_only(scratch):
    """Each says why in one line, before it looks for the key, and a mount in the same words; what is in it is still written elsewhere."""
    for name, why in READ_ONLY.items():
        path = os.path.join(scratch, os.path.basename(name))
        shutil.copytree(os.path.join(HERE, name), path)
        before = {where: sorted(names) for where, _, names in os.walk(path)}
        for words in (["mv", path, "no such key", "x"], ["rm", path, "no such key"], ["set", path, "new", "3"], ["rename", path, "s/a/b/"], ["mkdir", path, "new"], ["commit", path], ["repack", path]):
            r = run(WFCTL, *words)
            ok(r.returncode == 1 and why in r.stderr.decode() and r.stderr.count(b"\n") == 1, f"{name}: {words[0]} says why it is not changed", r)
        if FUSE:
            with tempfile.TemporaryDirectory() as point:
                r = run(WEIGHTFS, path, point)
                ok(r.returncode == 0 and why in r.stderr.decode() and r.stderr.count(b"\n") == 1, f"{name}: so does a mount", r)
                run(WFCTL, "umount", point)
                r = run(WEIGHTFS, "-o", f"output={scratch}/new", path, point)
                ok(r.returncode == 1 and b"written as one .safetensors or .pt file" in r.stderr and not os.path.exists(f"{scratch}/new"), f"{name}: output=DIRECTORY is refused", r)
        same({where: sorted(names) for where, _, names in os.walk(path)}, before, f"{name}: nothing was written")


def check_halves(scratch):
    """accelerate's model is a checkpoint by itself, and what is changed there is what both show."""
    path = os.path.join(scratch, "halves")
    shutil.copytree(os.path.join(HERE, "libraries", "accelerate-fsdp2"), path)
    half = os.path.join(path, "pytorch_model_fsdp_0")
    key = next(json.loads(line)["path"] for line in run(WFCTL, "ls", "--json", half).stdout.splitlines())
    r = run(WFCTL, "mv", half, key, key + "-moved")
    both = [json.loads(line)["path"] for line in run(WFCTL, "ls", "--json", path).stdout.splitlines()]
    ok(r.returncode == 0 and any(p.endswith(key + "-moved") for p in both) and not any(p.endswith(key) for p in both) and run(WFCTL, "verify", path).returncode == 0,
       "accelerate-fsdp2: one half is changed by itself", (r, both))


def main():
    with open(os.path.join(HERE, "libraries", "manifest.json")) as f:
        manifest = json.load(f)
    with tempfile.TemporaryDirectory() as scratch:
        for what, e in manifest.items():
            check(what, os.path.join(HERE, "libraries", e["path"]), e["prefix"], e["tensors"], scratch)
        check_read_only(scratch)
        check_halves(scratch)
    done()


main()
