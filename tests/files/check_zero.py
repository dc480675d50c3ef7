#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""DeepSpeed's checkpoints without DeepSpeed: what zero/manifest.json tells of the directories in zero/.

Usage: check_zero.py BUILD_DIRECTORY
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
import tap  # noqa: E402

WFCTL = os.path.join(os.path.abspath(sys.argv[1]), "fs", "wfctl")
ZERO = os.path.join(HERE, "zero")
CLIENT = {"epoch": b"7\n", "note": b"made for tests", "global_steps": b"3\n", "lr_scheduler/last_epoch": b"3\n",
          "ds_config/train_micro_batch_size_per_gpu": b"4\n", "ds_version": b"0.19.8"}


def wfctl(*arguments):
    r = subprocess.run([WFCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return r.returncode, r.stdout, r.stderr.decode()


def rows_of(directory):
    status, out, err = wfctl("ls", "--json", directory)
    return {row["path"]: row for row in map(json.loads, out.splitlines())} or {"": err}


def content(directory, key):
    status, out, err = wfctl("cat", "--raw", directory, key)
    return out if status == 0 else err


def differences(directory, rows, prefix, wanted):
    problems = []
    for name, want in wanted.items():
        row = rows.get(prefix + name)
        if row is None:
            problems.append(f"{prefix}{name} is not there")
            continue
        got = {"dtype": row["dtype"], "shape": row["shape"], "sha256": hashlib.sha256(content(directory, prefix + name)).hexdigest()}
        if got != want:
            problems.append(f"{prefix}{name}: {got}, not {want}")
    return problems


def check(name, wanted):
    directory = os.path.join(ZERO, name)
    rows = rows_of(directory)
    tap.ok("" not in rows, f"{name}: opens", rows.get(""))
    tap.same("\n".join(differences(directory, rows, "model/", wanted["model"])), "", f"{name}: model is what zero_to_fp32 makes")
    tap.same([p for p in rows if p.startswith("model/") and p[6:] not in wanted["model"]], [], f"{name}: and nothing else")
    universal = name.startswith("universal-")
    moments = {k: v for k, v in wanted["optimizer"].items() if not universal or "step" not in k or "stage3" not in name}
    if moments:
        tap.same("\n".join(differences(directory, rows, "optimizer/", moments)), "", f"{name}: optimizer is what ds_to_universal makes")
    tap.same({k: content(directory, "client/" + k) for k in CLIENT}, CLIENT, f"{name}: client")
    tag = os.path.join(directory, os.listdir(directory)[0] if len(os.listdir(directory)) == 1 else
                       next(f for f in os.listdir(directory) if not f.startswith("latest")))
    files = sorted(os.path.relpath(os.path.join(d, f), tag) for d, _, names in os.walk(tag) for f in names)
    missing = [f for f in files if not f.endswith("optimizer_state.pt") and not any(p.startswith(f"files/{f}/") or p == f"files/{f}" for p in rows)]
    tap.same(missing, [], f"{name}: each file is there as itself")
    tap.same(rows_of(tag), rows, f"{name}: the tag's directory is the same checkpoint")
    status, out, err = wfctl("verify", directory)
    tap.ok(status == 0, f"{name}: verify", out.decode() + err)


def check_export(scratch):
    """The model alone, under its own names; with an empty prefix all that is there."""
    directory, out = os.path.join(ZERO, "stage3-groups"), os.path.join(scratch, "out.safetensors")
    status, _, err = wfctl("export", directory, out)
    tap.ok(status == 0, "export", err)
    rows = rows_of(out)
    tap.same(sorted(rows), sorted(p[6:] for p in rows_of(directory) if p.startswith("model/") and p != "model/head.weight"),
             "export: the model's names, of tied ones the first")
    tap.same([p for p in rows if content(out, p) != content(directory, "model/" + p)], [], "export: the same bytes")
    status, _, err = wfctl("export", "--skip", "--prefix=optimizer", directory, out)
    tap.ok(status == 0 and "scale.exp_avg" in rows_of(out), "export --prefix=optimizer", err)
    tap.same(wfctl("attr", directory, "model/embed.weight", "user.torch.shard")[1].decode().strip(),
             "zero_pp_rank_0_mp_rank_00_optim_states.pt, zero_pp_rank_1_mp_rank_00_optim_states.pt", "user.torch.shard names both files")
    for verb in (("set", directory, "client/epoch", "8"), ("rm", directory, "model/scale"), ("mv", directory, "model/scale", "model/s")):
        status, _, err = wfctl(*verb)
        tap.ok(status == 1 and "read-only" in err and err.count("\n") == 1, f"{verb[0]}: refused in one line", err)


def copy_of(name, scratch):
    target = os.path.join(scratch, name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(os.path.join(ZERO, name), target)
    return target, os.path.join(target, "global_step3")


def readable(directory, prefix):
    return sorted(p for p in rows_of(directory) if p.startswith(prefix) and wfctl("cat", "--raw", directory, p)[0] == 0)


# The bytes of a rank that is gone cost what stands there; a directory that is not one plain run is shown file by file.
def check_damaged(scratch):
    directory, tag = copy_of("stage1-groups", scratch)
    os.remove(os.path.join(tag, "zero_pp_rank_1_mp_rank_00_optim_states.pt"))
    tap.same(readable(directory, "model/"), sorted("model/" + k for k in (
        "scale running steps norm.weight norm.bias norm.running_mean norm.running_var norm.num_batches_tracked frozen.weight").split()),
        "a rank's file is missing: the parameters of the others read")
    status, _, err = wfctl("cat", directory, "model/first.bias")
    tap.ok(status == 1 and "the file zero_pp_rank_1_mp_rank_00_optim_states.pt is missing" in err and "mod" in err, "and the others say which it is", err)
    directory, tag = copy_of("stage3-groups", scratch)
    broken = os.path.join(tag, "zero_pp_rank_1_mp_rank_00_optim_states.pt")
    os.truncate(broken, 700)
    tap.ok("model/scale" in readable(directory, "model/") and "model/first.bias" not in readable(directory, "model/"),
           "a rank's file is cut: the same")
    status, _, err = wfctl("cat", directory, "model/first.bias")
    tap.ok(status == 1 and "zero_pp_rank_1_mp_rank_00_optim_states.pt: " in err, "and it names the file", err)
    status, _, err = wfctl("verify", directory)
    tap.ok(status == 1 and "zero_pp_rank_1_mp_rank_00_optim_states.pt" in err, "and verify names it", err)
    for name, made, word in (("mp_rank_01_model_states.pt", "mp_rank_00_model_states.pt", "tensor-parallel"),
                             ("layer_3_expert_0_mp_rank_00_model_states.pt", "mp_rank_00_model_states.pt", "experts"),
                             ("layer_00-model_00-model_states.pt", "mp_rank_00_model_states.pt", "pipeline"),
                             ("zero_pp_rank_2_mp_rank_00_optim_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "3 optimizer files"),
                             ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "3 optimizer files")):
        directory, tag = copy_of("stage1-groups", scratch)
        shutil.copy(os.path.join(tag, made), os.path.join(tag, name))
        rows = rows_of(directory)
        tap.same({p.split("/")[0] for p in rows}, {"files"}, f"{word}: the single files alone")
        status, _, err = wfctl("ls", directory)
        tap.ok(status == 0 and word in err and err.count("\n") == 1, f"{word}: a line says why", err)


def check_apart(name, wanted):
    """What DeepSpeed saves of experts and of a pipeline: each file as itself, and one line that says what is not put together."""
    directory = os.path.join(ZERO, name)
    rows = rows_of(directory)
    tap.same({p.split("/")[0] for p in rows}, {"files"}, f"{name}: the single files alone")
    for file, tensors in wanted["files"].items():
        tap.same("\n".join(differences(directory, rows, f"files/{file}/", tensors)), "", f"{name}: {file} is what torch finds in it")
    for verb, status in (("ls", 0), ("verify", 0)):
        got, _, err = wfctl(verb, directory)
        tap.ok(got == status and wanted["apart"] in err and err.count("\n") == 1, f"{name}: {verb}: one line says why", err)
    tag = os.path.join(directory, "global_step2")
    tap.same((rows.keys(), {os.path.basename(p) for p in os.listdir(tag)} >= set(wanted["files"])), (rows_of(tag).keys(), True), f"{name}: and so of its tag")


def check_refused(scratch):
    directory, tag = copy_of("stage1-groups", scratch)
    for text in ("../stage1-groups/global_step3", "/etc", "..", "global_step3\nglobal_step3", "", "x" * 300, "gone"):
        with open(os.path.join(directory, "latest"), "w") as f:
            f.write(text)
        status, _, err = wfctl("ls", directory)
        tap.ok(status == 1 and err.count("\n") == 1, f"latest says {text[:40]!r}: one line", err)


def main():
    with open(os.path.join(ZERO, "manifest.json")) as f:
        manifest = json.load(f)
    for name, wanted in sorted(manifest.items()):
        (check_apart if "apart" in wanted else check)(name, wanted)
    with tempfile.TemporaryDirectory() as scratch:
        check_export(scratch)
        check_damaged(scratch)
        check_refused(scratch)
    tap.done()


main()
