#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""DeepSpeed's directories: random models over random numbers of ranks are put together as they were before they were cut, whatever the
stage, and files that lie about sizes, names and ranks are told, never believed.

Usage: test_zero.py BUILD_DIRECTORY [ROUNDS [FIRST]]. Prints TAP.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import torch

from torchkit import done, ok, programs
from tap import same
from zerokit import Zero, rank_name, rewrite

WEIGHTFS, WFCTL = programs(os.path.abspath(sys.argv[1]))
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15
FIRST = int(sys.argv[3]) if len(sys.argv) > 3 else 1


def wfctl(*arguments):
    r = subprocess.run([WFCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return r.returncode, r.stdout, r.stderr.decode()


def rows_of(directory):
    status, out, err = wfctl("ls", "--json", directory)
    return {row["path"]: row for row in map(json.loads, out.splitlines())}


def exported(directory, prefix, scratch):
    out = os.path.join(scratch, "out.pt")
    status, _, err = wfctl("export", "--skip", *(["--prefix=" + prefix] if prefix else []), directory, out)
    return torch.load(out) if status == 0 else {"": err}


def differences(got, want):
    problems = [f"{k}: not there" for k in want if k not in got] + [f"{k}: should not be there" for k in got if k not in want]
    for k, v in want.items():
        if k in got and not (got[k].dtype == v.dtype and got[k].shape == v.shape and torch.equal(got[k], v)):
            problems.append(f"{k}: {got[k].dtype} {tuple(got[k].shape)}, not {v.dtype} {tuple(v.shape)}, or other bytes")
    return "\n".join(problems)


# ---- random ones ----

def some_tensor(r, dtype=torch.float32):
    shape = [r.choice([0, 1, 2, 3, 5, 8, 17]) if r.random() < 0.1 else r.randrange(1, 12) for _ in range(r.randrange(1, 4))]
    numel = 1
    for n in shape:
        numel *= n
    return torch.tensor([r.random() for _ in range(numel)], dtype=dtype).reshape(shape)


def some_zero(r):
    count = 0

    def names(n):
        nonlocal count
        count += n
        return [f"{r.choice(['layer', 'a.b', 'é', 'x/y', 'w'])}.{i}" for i in range(count - n, count)]
    dtype = torch.float32
    groups = [{k: some_tensor(r) for k in names(r.randrange(1, 5))} for _ in range(r.randrange(1, 4))]
    # torch.optim has no state for nothing
    groups = [{k: v if v.numel() else torch.ones(2) for k, v in g.items()} for g in groups]
    stage = r.choice([1, 2, 3, 3])
    params = [k for g in groups for k in g]
    return Zero(groups, r.choice([1, 2, 3, 4, 5, 11]), stage, buffers={k: some_tensor(r, r.choice([torch.int64, torch.float16, dtype]))
                                                                       for k in names(r.randrange(3))},
                frozen={k: some_tensor(r, r.choice([torch.bfloat16, dtype])) for k in names(r.randrange(3))},
                shared={k: r.choice(params) for k in names(r.randrange(2))}, state=r.choice([("exp_avg", "exp_avg_sq"), ("momentum_buffer",), ()]),
                bf16=r.random() < 0.3, sub_group=r.choice([None, 3, 20]), strip=r.random() < 0.7, elastic=r.random() < 0.2,
                alignment=r.choice([None, None, 4]))


def check_random(seed, scratch):
    z = some_zero(random.Random(seed))
    directory = os.path.join(scratch, f"r{seed}")
    z.write(directory)
    told = f"random {seed}: stage {z.stage}, {z.ranks} ranks, {len(z.groups)} groups"
    same(differences(exported(directory, None, scratch), z.model()), "", f"{told}: model")
    moments = {k.replace("/", "."): v for k, v in z.moments().items()}
    steps = {f"{k}.step": torch.tensor(3.0) for k in z.params()} if moments or not z.names else {}
    got = exported(directory, "optimizer", scratch)
    names = {k.replace("/", "."): v for k, v in got.items()}
    same(differences(names, {**moments, **{k.replace("/", "."): v for k, v in steps.items()}}), "", f"{told}: optimizer")
    status, _, err = wfctl("verify", directory)
    ok(status == 0, f"{told}: verify", err)
    shutil.rmtree(directory)


# ---- those that lie ----

def small(stage, ranks=2, **more):
    groups = [{"a": torch.arange(20.0).reshape(4, 5), "b": torch.arange(7.0) + 100}, {"c": torch.arange(9.0) + 200}]
    return Zero(groups, ranks, stage, buffers={"n": torch.arange(3)}, frozen={"f": torch.arange(5.0)}, shared={"a2": "a"}, **more)


def inner(d):
    return d["optimizer_state_dict"]


def set_at(d, key, value):
    d[key] = value


def set_item(values, i, value):
    values[i] = value


# stage, which file of rank 0 or 1 is changed and how; what must not read then ("all": the single files alone are shown); a word of the reason
LIES = {
    "a shape that is larger": (2, "model", lambda d: set_at(d["param_shapes"][0], "a", torch.Size([400, 5])), {"a", "b", "a2"}, "fill"),
    "a shape that is larger, stage 3": (3, "model", lambda d: set_at(d["param_shapes"][0], "a", torch.Size([400, 5])), {"a", "b", "c", "a2"}, "fill"),
    "a shape that is smaller": (1, "model", lambda d: set_at(d["param_shapes"][1], "c", torch.Size([1])), {"c"}, "fill"),
    "a shape of 2^62": (2, "model", lambda d: set_at(d["param_shapes"][0], "a", torch.Size([1 << 31, 1 << 31])), "all", "shape"),
    "a shape of 2^40 by 2^40 by 0": (2, "model", lambda d: set_at(d["param_shapes"][0], "a", [1 << 40, 1 << 40, 0]), "all", "shape"),
    "a shape that is negative": (2, "model", lambda d: set_at(d["param_shapes"][0], "a", [-4, -5]), "all", "shape"),
    "a shape that is a text": (3, "model", lambda d: set_at(d["param_shapes"][0], "a", "20"), "all", "shape"),
    "a name that is a number": (2, "model", lambda d: set_at(d["param_shapes"][0], 5, torch.Size([2])), "all", "shape"),
    "no param_shapes": (2, "model", lambda d: d.pop("param_shapes") and None, "all", "param_shapes"),
    "a group more": (2, "model", lambda d: d["param_shapes"].append({"x": torch.Size([2])}), "all", "groups"),
    "a name in two groups": (2, "model", lambda d: d["param_shapes"][1].update({"c": torch.Size([2]), "a": torch.Size([7])}), "all", "twice"),
    "another stage": (2, "optim", lambda d: set_at(inner(d), "zero_stage", 3), "all", ""),
    "stage 9": (2, "optim", lambda d: set_at(inner(d), "zero_stage", 9), "all", ""),
    "a stage that is a text": (3, "optim", lambda d: set_at(inner(d), "zero_stage", "3"), "all", ""),
    "a partition_count of 2^40": (3, "optim", lambda d: set_at(inner(d), "partition_count", 1 << 40), "all", ""),
    "a partition_count of 0": (2, "optim", lambda d: set_at(inner(d), "partition_count", [0]), "all", ""),
    "a partition_count of 1": (2, "optim", lambda d: set_at(inner(d), "partition_count", 1), "all", "2 optimizer files"),
    "a flat group of another dtype": (2, "optim", lambda d: set_item(inner(d)["single_partition_of_fp32_groups"], 1, torch.zeros(5, dtype=torch.float16)),
                                      {"c"}, ""),
    "a flat group that is shorter": (3, "optim", lambda d: set_item(inner(d)["fp32_flat_groups"], 1, torch.zeros(2)), {"a", "b", "c", "a2"}, ""),
    "a flat group that is no tensor": (2, "optim", lambda d: set_item(inner(d)["single_partition_of_fp32_groups"], 1, [1.0, 2.0]), {"c"}, "no tensor"),
    "flat groups that are none": (3, "optim", lambda d: set_at(inner(d), "fp32_flat_groups", None), {"a", "b", "c", "a2"}, ""),
    "a flat group with strides": (2, "optim", lambda d: set_item(inner(d)["single_partition_of_fp32_groups"], 0, torch.zeros(2, 14).t().reshape(28)[::2]),
                                  {"a", "b", "a2"}, "contiguous"),
    "a frozen fragment that is shorter": (3, "model", lambda d: set_at(d["frozen_param_fragments"], "f", torch.zeros(1)), {"f"}, ""),
    "no frozen fragment": (2, "model", lambda d: set_at(d, "frozen_param_fragments", None), {"f"}, "no tensor"),
    "experts": (3, "model", lambda d: set_at(d, "ds_autoep_layers", []), "all", "experts"),
    "groups of ranks": (3, "optim", lambda d: set_at(inner(d), "ds_zero_partition_groups", [{}]), "all", "groups of ranks"),
    "a root that is a list": (2, "model", lambda d: [d], "all", "model file"),
}
HARMLESS = {
    "one mapping for param_shapes": (3, "model", lambda d: set_at(d, "param_shapes", {k: v for s in d["param_shapes"] for k, v in s.items()})),
    "shapes that are lists": (2, "model", lambda d: set_at(d, "param_shapes", [{k: list(v) for k, v in s.items()} for s in d["param_shapes"]])),
    "no module": (2, "model", lambda d: set_at(d, "module", {k: v for k, v in d["module"].items() if k == "n"})),
    "states that are texts": (2, "optim", lambda d: set_at(inner(d)["base_optimizer_state"], "state", "none")),
    "no optimizer state": (3, "optim", lambda d: inner(d).pop("optimizer_state_dict") and None),
    "a shared name that is not there": (2, "model", lambda d: d["shared_params"].update({"q": "gone"})),
    "a module with a tensor more": (2, "model", lambda d: d["module"].update({"extra": torch.ones(2)})),
}


def changed(name, stage, which, change, scratch):
    directory = os.path.join(scratch, "lie")
    shutil.rmtree(directory, ignore_errors=True)
    inside = small(stage).write(directory)
    file = "mp_rank_00_model_states.pt" if which == "model" and stage < 3 else rank_name(0, which)
    rewrite(os.path.join(inside, file), change)
    return directory


def check_lies(scratch):
    want = small(2).model()
    for name, (stage, which, change, lost, word) in LIES.items():
        directory = changed(name, stage, which, change, scratch)
        status, out, err = wfctl("ls", "--json", directory)
        rows = {row["path"] for row in map(json.loads, out.splitlines())}
        ok(word in err and rows, f"{name}: told", err or out[:300])
        if lost == "all":
            same({p.split("/")[0] for p in rows}, {"files"}, f"{name}: the single files alone")
            continue
        reads = {k for k in want if wfctl("cat", "--raw", directory, "model/" + k)[0] == 0}
        same(set(want) - reads, lost, f"{name}: what cannot be read")
        same([k for k in reads if wfctl("cat", "--raw", directory, "model/" + k)[1] != want[k].numpy().tobytes()], [], f"{name}: the rest is right")
        ok(wfctl("verify", directory)[0] == 1, f"{name}: verify fails")
    for name, (stage, which, change) in HARMLESS.items():
        directory = changed(name, stage, which, change, scratch)
        got = exported(directory, None, scratch)
        same(differences({k: v for k, v in got.items() if k != "extra"}, want), "", f"{name}: all is there")


def check_damage(scratch):
    """Bytes that are others: an answer in words, soon."""
    r = random.Random(1)
    wrong = []
    for i in range(40):
        directory = os.path.join(scratch, "damaged")
        shutil.rmtree(directory, ignore_errors=True)
        inside = small(r.choice([1, 2, 3])).write(directory)
        file = os.path.join(inside, r.choice(os.listdir(inside)))
        with open(file, "r+b") as f:
            data = bytearray(f.read())
            for _ in range(r.choice([1, 3, 30])):
                data[r.randrange(len(data))] = r.randrange(256)
            f.seek(0)
            f.write(data)
        for verb in ("ls", "verify"):
            status, _, err = wfctl(verb, directory)
            if status not in (0, 1) or (status and not err) or "Sanitizer" in err:
                wrong.append(f"{i}: {verb}: {status} {err}")
    same(wrong, [], "damaged files: wfctl says what is wrong, and ends")


def check_many(scratch):
    """More files than may be open."""
    z = Zero([{"a": torch.arange(3000.0).reshape(60, 50), "b": torch.arange(7.0)}], 300, 3)
    directory = os.path.join(scratch, "many")
    z.write(directory)
    out = os.path.join(scratch, "many.pt")
    r = subprocess.run(["sh", "-c", 'ulimit -n 256; "$1" export "$2" "$3" && "$1" verify "$2"', "sh", WFCTL, directory, out], stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, text=True)
    ok(r.returncode == 0 and not differences(torch.load(out), z.model()), "300 ranks with 256 descriptors", r.stderr)


# ---- by Python ----

def check_python(scratch):
    import weightfs
    z, directory = small(3), os.path.join(scratch, "python")
    z.write(directory)
    os.environ["PATH"] = os.path.dirname(WFCTL) + os.pathsep + os.environ["PATH"]
    loaded = weightfs.load(directory)
    same(differences(dict(loaded["model"]), z.model()), "", "weightfs.load of a directory")
    same(loaded["model"]["a"].data_ptr(), loaded["model"]["a2"].data_ptr(), "weightfs.load: a shared parameter is one")
    with weightfs.open(directory) as c:
        same(differences({k: c["model"][k] for k in c["model"]}, z.model()), "", "weightfs.open of a directory")
        info = c.info("model/a")
        same([os.path.basename(run[0]) for run in info["runs"]], [rank_name(0, "optim"), rank_name(1, "optim")], "runs name the files")
        got = b"".join(open(path, "rb").read()[at:at + n] for path, at, n in info["runs"])
        same(got, z.model()["a"].numpy().tobytes(), "and their bytes are the tensor's")


# ---- in a mount ----

def check_mount(scratch):
    z, point, directory = small(3), os.path.join(scratch, "mnt"), os.path.join(scratch, "mounted")
    z.write(directory)
    os.mkdir(point)
    r = subprocess.run([WEIGHTFS, directory, point], stderr=subprocess.PIPE, text=True)
    ok(r.returncode == 0 and r.stderr.count("\n") == 1 and "read-only" in r.stderr, "a mount is read-only, and one line says why", r.stderr)
    with open(f"{point}/model/a", "rb") as f:
        same(f.read(), z.model()["a"].numpy().tobytes(), "a parameter of two ranks")
    same(os.stat(f"{point}/model/a").st_ino, os.stat(f"{point}/model/a2").st_ino, "a shared one is a tie")
    same(os.getxattr(f"{point}/model/a", "user.torch.shard").decode(), f"{rank_name(0, 'optim')}, {rank_name(1, 'optim')}", "user.torch.shard")
    same(sorted(os.listdir(f"{point}/files")), sorted(rank_name(r, k) for r in (0, 1) for k in ("model", "optim")), "files")
    out = os.path.join(scratch, "m.safetensors")
    wfctl("export", directory, out)
    with open(out, "rb") as f, open(f"{point}/.weightfs/model.safetensors", "rb") as g:
        same(f.read(), g.read(), ".weightfs/model.safetensors is what export writes")
    wfctl("umount", point)
    subprocess.run([WEIGHTFS, "-o", "ro,map_location=cpu,preload", directory, point], check=True)
    with open(f"{point}/model/a", "rb") as f:
        same((f.read(), os.getxattr(f.name, "user.torch.device")), (z.model()["a"].numpy().tobytes(), b"cpu"), "preloaded: placed, the same bytes")
    wfctl("umount", point)
    subprocess.run([WEIGHTFS, "-o", "output=" + out, directory, point], check=True)
    os.rename(f"{point}/model/b", f"{point}/model/renamed")
    status, _, err = wfctl("umount", point)
    ok(status == 0, "a commit to an output", err)
    from safetensors.torch import load_file
    want = {("renamed" if k == "b" else k): v for k, v in z.model().items() if k != "a2"}
    same(differences(load_file(out), want), "", "it holds the model, as edited")
    for name, edit in {"a value": lambda: open(f"{point}/client/global_steps", "w").write("9\n"), "a moment": lambda: os.remove(f"{point}/optimizer/a/step"),
                       "a file's tensor": lambda: os.rename(f"{point}/files/{rank_name(0, 'optim')}", f"{point}/model/x"),
                       "the root": lambda: os.mkdir(f"{point}/more")}.items():
        subprocess.run([WEIGHTFS, "-o", "output=" + out, directory, point], check=True)
        edit()
        before = os.stat(out)
        status, _, err = wfctl("umount", point)
        ok(status == 1 and "model/ alone" in err and err.count("\n") == 1, f"{name} was edited, which the output does not take: refused", err)
        wfctl("discard", point)
        status, _, err = wfctl("umount", point)
        ok(status == 0 and os.stat(out).st_mtime_ns == before.st_mtime_ns, f"{name}: discarded", err)
    subprocess.run([WEIGHTFS, "-o", "output=" + out, directory, point], check=True)
    with open(f"{point}/model/n", "r+b") as f:  # a buffer, which stands in files, too
        f.write(bytes(24))
    status, _, err = wfctl("umount", point)
    ok(status == 0, "a tensor of the model that is in a file as it is", err)
    same(load_file(out)["n"].tolist(), [0, 0, 0], "it is written")
    same(sorted(os.listdir(directory)), ["global_step3", "latest"], "nothing was written into the directory")


def main():
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(FIRST, FIRST + ROUNDS):
            check_random(seed, scratch)
        check_lies(scratch)
        check_damage(scratch)
        check_many(scratch)
        check_python(scratch)
        check_mount(scratch)
    done()


main()
