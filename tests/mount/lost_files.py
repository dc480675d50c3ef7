#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files of a checkpoint in several that are not there, of every kind of such a checkpoint: the verbs that do not touch their tensors work, and say it in
one line; the others name tensor and file.

Usage: lost_files.py BUILD_DIR. Prints TAP; what needs /dev/fuse is skipped without it.
"""
import errno
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import zipfile

import flatfile
from kit import done, floats, ok, read, run, same, skip, unmount, write
from minicheckpoint import Tensor, save

BUILD = os.path.abspath(sys.argv[1])
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "files")
TOP = tempfile.mkdtemp(prefix="weightfs-lost-")


def wfctl(*words):
    return run(WFCTL, *words)


def shards(kind, count, gone):
    """Two tensors a shard; those of the numbers in gone are not there."""
    directory, weight_map = tempfile.mkdtemp(dir=TOP), {}
    base = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    for i in range(count):
        name = base.replace(".", f"-{i:05d}.", 1)
        weight_map.update({f"k{i}.a": name, f"k{i}.b": name})
        if i in gone:
            continue
        if kind == "safetensors":
            flatfile.make(f"{directory}/{name}", {f"k{i}.{c}": ("F32", [2], floats(2, i)) for c in "ab"}, {"format": "pt"})
        else:
            save(f"{directory}/{name}", {f"k{i}.{c}": Tensor("float32", (2,), floats(2, i)) for c in "ab"})
    write(f"{directory}/{base}.index.json", json.dumps({"metadata": {"total_size": 16 * count}, "weight_map": weight_map}).encode())
    return directory


def fixture(name, gone):
    directory = tempfile.mkdtemp(dir=TOP)
    shutil.copytree(os.path.join(FIXTURES, name), directory, dirs_exist_ok=True)
    os.unlink(os.path.join(directory, gone))
    return directory


# name: directory, a key that is there and one that is not, what the reason names
KINDS = {
    "safetensors": (shards("safetensors", 3, {1}), "k0.a", "k1.a", "model-00001.safetensors"),
    "bin": (shards("bin", 3, {1}), "k0.a", "k1.a", "pytorch_model-00001.bin"),
    "a thousand": (shards("safetensors", 1001, set(range(1, 1001))), "k0.a", "k7.a", "model-00007.safetensors"),
    "distributed": (fixture("dcp/fsdp-3", "__2_0.distcp"), None, None, "__2_0.distcp"),
    "DeepSpeed": (fixture("zero/stage2-bf16", "global_step3/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"), None, None,
                  "the file bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is missing"),
    "DeepSpeed 3": (fixture("zero/stage3-bf16", "global_step3/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"), None, None,
                    "the file bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is missing"),
}


def check_verbs(kind, directory, good, bad, file):
    rows = {row["path"]: row for row in map(json.loads, wfctl("ls", "--json", directory).stdout.splitlines())}
    lost = [k for k, row in rows.items() if "error" in row]
    bad, good = bad or lost[0], good or next(k for k in rows if k not in lost)
    same((len(lost) > 1, file in rows[bad]["error"]), (True, True), f"{kind}: the rows of what is lost name the file")
    read_only = kind.startswith("DeepSpeed")
    out = os.path.join(TOP, "out.safetensors")
    note = re.compile(r"wfctl: [0-9]+ tensors cannot be read \(.*; and so on\): wfctl verify lists them")
    for words, status, says in (
            (("ls",), 1, " tensors cannot be read ("), (("ls", "--tree"), 1, " tensors cannot be read ("), (("ls", good), 0, ""), (("ls", bad), 1, f"{bad} cannot be read: "), (("status",), 0, ""),
            (("cat", good), 0, ""), (("cat", bad), 1, f"{bad}: "), (("cat", "--raw", bad), 1, f"{bad}: "), (("attr", good, "shape"), 0, ""), (("attr", bad), 0, ""),
            (("cat", "--npy", bad), 1, f"{bad}: "), (("cat", bad + "[0]"), 1, f"{bad}: "), (("attr", bad, "shape=[1,1,1]"), 1, "read-only" if read_only else f"{bad}: user.torch.shape: "),
            (("attr", bad, "dtype=int8"), 1, "read-only" if read_only else f"{bad}: user.torch.dtype: "), (("set", bad, "5"), 1, "read-only" if read_only else f"{bad}: not set: "),
            (("export", "--prefix=", out), 1, "have no place"), (("export", "--prefix=", "--skip", out), 0, "left out"),
            (("cp", bad, "new"), 1, "read-only" if read_only else f"{bad}: not copied: "), (("set", bad, "--file", "/dev/null"), 1, "read-only" if read_only else f"{bad}: "),
            (("cp", good, "new"), 1 if read_only else 0, "read-only" if read_only else ""), (("mv", good, "moved"), 1 if read_only else 0, "read-only" if read_only else "")):
        copy = os.path.join(TOP, "copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        if os.path.exists(out):
            os.unlink(out)
        r = wfctl(words[0], *(w for w in words[1:] if w.startswith("--prefix") or w == "--skip"), copy, *(w for w in words[1:] if not w.startswith("--prefix") and w != "--skip"))
        lines = r.stderr.splitlines()
        told = [line for line in lines if note.fullmatch(line)]
        rest = [line for line in lines if line not in told]
        named = status == 1 and bad in words and "--file" not in words and says != "read-only"
        good_words = not says or (rest and says in rest[-1] and (not named or file in rest[-1]))
        ok(r.returncode == status and len(told) <= (0 if status else 1) and len(rest) <= (1 if says else 0) and good_words,
           f"{kind}: {' '.join(words[:3])}: one line about all that is lost", r)
    r = wfctl("verify", directory)
    named = [line for line in r.stderr.splitlines() if any(f": {k}: " in line for k in lost)]
    ok(r.returncode == 1 and len(named) == len(lost) and len(r.stderr.splitlines()) <= len(lost) + 2, f"{kind}: verify has one line for each tensor", r.stderr[-600:])


def check_names(kind, directory, good, bad, file):
    """The names of a shard stand in it: none of them changes without it. They can go, all at once."""
    index = next(f for f in os.listdir(directory) if f.endswith(".index.json"))
    before = read(os.path.join(directory, index))
    r = wfctl("attr", directory, bad, "shard")
    same((r.returncode, r.stdout.strip()), (0, file), f"{kind}: user.torch.shard names the file that is missing")
    for words, says in ((("mv", bad, "new"), f"{bad}: not moved: the file {file} is missing"), (("mv", bad, bad[:-1] + "b"), "not moved: "),
                        (("rename", f"s/^{bad[:-2]}/x/"), "not renamed: "),
                        *([(("ln", bad, "tie"), f"the file {file} is missing")] if kind == "bin" else [])):
        r = wfctl(words[0], directory, *words[1:])
        ok(r.returncode == 1 and says in r.stderr.splitlines()[-1] and read(os.path.join(directory, index)) == before and not os.path.exists(directory + ".weightfs"),
           f"{kind}: {' '.join(words)} is refused with the file", r)
    if FUSE:
        mnt = tempfile.mkdtemp(dir=TOP)
        r = run(WEIGHTFS, directory, mnt)
        try:
            codes = {}
            for name, call in (("rename", lambda: os.rename(f"{mnt}/{bad}", f"{mnt}/new")), ("read", lambda: read(f"{mnt}/{bad}")),
                               ("scratch", lambda: os.rename(f"{mnt}/{bad}", f"{mnt}/{bad}~")), ("back", lambda: os.rename(f"{mnt}/{bad}~", f"{mnt}/{bad}"))):
                try:
                    call()
                    codes[name] = 0
                except OSError as e:
                    codes[name] = e.errno
            same(codes, {"rename": errno.EIO, "read": errno.EIO, "scratch": 0, "back": 0}, f"{kind}: a rename on a mount is refused at once")
            log = read(f"{mnt}/.weightfs/log").decode()
            ok(f"{bad}: Input/output error: the file {file} is missing" in log and "the names of what it holds stand in it" in log, f"{kind}: .weightfs/log has the reasons", log)
            r = wfctl("commit", mnt)
            ok(r.returncode == 0, f"{kind}: what was moved away and back is no edit", r)
        finally:
            unmount(mnt)
    r = wfctl("rm", directory, bad, bad[:-1] + "b")
    left = json.loads(read(os.path.join(directory, index)))["weight_map"]
    ok(r.returncode == 0 and bad not in left and file not in left.values(), f"{kind}: all that a missing shard holds can be removed", r)


def check_one_goes(kind, on_mount):
    """A key of a shard that is missing is removed alone; with the shard back the others of it are there, and that one is not."""
    directory = shards(kind, 3, set())
    index = next(os.path.join(directory, f) for f in os.listdir(directory) if f.endswith(".index.json"))
    file = json.loads(read(index))["weight_map"]["k1.a"]
    path, mnt = os.path.join(directory, file), None

    def edit(words, call):
        if mnt:
            call()
            return wfctl("commit", mnt)
        return wfctl(words[0], directory, *words[1:])

    def look():
        x = json.loads(read(index))
        files = sorted(set(x["weight_map"].values()))
        return sorted(x["weight_map"]), file in files, x["metadata"].get("weightfs_removed", [])

    def rows():
        return sorted(row["path"] for row in map(json.loads, wfctl("ls", "--json", directory).stdout.splitlines()) if "error" not in row)

    os.rename(path, path + ".away")
    if on_mount:
        mnt = tempfile.mkdtemp(dir=TOP)
        run(WEIGHTFS, directory, mnt)
    try:
        where = f"{kind}{' on a mount' if mnt else ''}"
        r = edit(("rm", "k1.a"), lambda: os.unlink(f"{mnt}/k1.a"))
        same((r.returncode, look()), (0, (["k0.a", "k0.b", "k1.b", "k2.a", "k2.b"], True, [[file, "k1.a"]])), f"{where}: one key of a missing shard goes")
        r = edit(("mv", "k0.a", "moved"), lambda: os.rename(f"{mnt}/k0.a", f"{mnt}/moved"))
        same((r.returncode, look()), (0, (["k0.b", "k1.b", "k2.a", "k2.b", "moved"], True, [[file, "k1.a"]])), f"{where}: and stays away over another commit")
        if mnt:
            try:
                read(f"{mnt}/k1.b")
                ok(False, f"{where}: the other one reads")
            except OSError as e:
                same((e.errno, f"k1.b: Input/output error: the file {file} is missing" in read(f"{mnt}/.weightfs/log").decode()), (errno.EIO, True), f"{where}: the other one is lost as before")
    finally:
        if mnt:
            unmount(mnt)
    os.rename(path + ".away", path)
    same((rows(), wfctl("cat", directory, "k1.b").stdout, wfctl("verify", directory).returncode), (["k0.b", "k1.b", "k2.a", "k2.b", "moved"], "[1. 2.]\n", 0), f"{where}: with the shard back the other is there")
    again = directory + "-again"
    shutil.copytree(directory, again)
    os.rename(path, path + ".away")
    same((wfctl("rm", directory, "k1.b").returncode, look()), (0, (["k0.b", "k2.a", "k2.b", "moved"], False, [])), f"{where}: without keys the shard is not named")
    # a shard that is written again holds what the index says
    r = wfctl("mv", again, "k1.b", "k1.a")
    x = json.loads(read(os.path.join(again, os.path.basename(index))))
    same((r.returncode, x["metadata"].get("weightfs_removed"), x["metadata"]["total_size"], wfctl("cat", again, "k1.a").stdout), (0, None, 40, "[1. 2.]\n"), f"{where}: the key can be used again")
    x["weight_map"].pop("k2.a")
    write(os.path.join(again, os.path.basename(index)), json.dumps(x).encode())
    r = wfctl("ls", again)
    ok(r.returncode == 1 and "which is not in the index" in r.stderr and r.stderr.count("\n") == 1, f"{where}: any other key that the index does not name is refused", r)


TOTALS = (  # of three shards with two keys of 8 bytes each: which are away, what the index tells before, edits, what it tells then (None: nothing)
    ((), 48, ["rm k1.a"], 40),
    ((1,), 48, ["mv k0.a x"], 48),
    ((1,), 48, ["rm k0.a"], 40),
    ((1,), 48, ["rm k1.a"], None),
    ((1,), 48, ["rm k1.a", "mv k0.a x"], None),
    ((1,), 48, ["rm k1.a", "rm k1.b"], 32),
    ((1,), 48, ["rm k1.*"], 32),
    ((1, 2), 48, ["mv k0.a x"], 48),
    ((1, 2), 48, ["rm k1.*"], None),
    ((1, 2), 48, ["rm k1.*", "rm k2.*"], 16),
    ((1,), None, ["mv k0.a x"], None),  # what nobody told stays untold
    ((1,), 32, ["mv k0.a x"], None),  # no more than what can be read: it was false
    ((1,), "many", ["mv k0.a x"], None),
    ((), None, ["mv k0.a x"], 48),
    ((), 1, ["mv k0.a x"], 48),
)


def check_total(kind):
    """total_size is true, or it is left out."""
    for away, before, edits, after in TOTALS:
        directory = shards(kind, 3, set())
        index = next(os.path.join(directory, f) for f in os.listdir(directory) if f.endswith(".index.json"))
        x = json.loads(read(index))
        x["metadata"] = {"note": [1]} if before is None else {"total_size": before}
        write(index, json.dumps(x).encode())
        files = [os.path.join(directory, x["weight_map"][f"k{i}.a"]) for i in away]
        for file in files:
            os.rename(file, file + ".away")
        codes = [wfctl(*edit.split()[:1], directory, *edit.split()[1:]) for edit in edits]
        got = json.loads(read(index))["metadata"]
        what = f"{kind}: {len(away)} of 3 shards are missing, total_size {before}, {', '.join(edits)}"
        same(([r.returncode for r in codes], got.get("total_size"), got.get("note")), ([0] * len(edits), after, None if before else [1]), what)
        for file in files:
            os.rename(file + ".away", file)
        # with the shards back the next commit tells all
        r = wfctl("mv", directory, "k0.b", "back")
        total = 8 * len(json.loads(read(index))["weight_map"])
        same((r.returncode, json.loads(read(index))["metadata"]["total_size"], wfctl("verify", directory).returncode), (0, total, 0), f"{what}: and with them back {total}")


def rewritten(change):
    """A set of which the second shard's records are changed: change(name, data) gives those that take the place of each."""
    directory = shards("bin", 2, set())
    path = f"{directory}/pytorch_model-00001.bin"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path + ".new", "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            for other, data in change(name, old.read(name)):
                new.writestr(other, data)
    os.rename(path + ".new", path)
    return directory


def check_no_shards():
    """Files of torch.save that are no shards: one line for each of their tensors, and the others are as they were."""
    for what, says, change in (
            ("big-endian", "its bytes are big-endian", lambda n, d: [(n, b"big" if n.endswith("byteorder") else d)]),
            ("a TorchScript archive", "it is a TorchScript archive",
             lambda n, d: [(n, d)] + ([(n.replace("data.pkl", "constants.pkl"), pickle.dumps((), 2))] if n.endswith("data.pkl") else [])),
            ("a number", "it is no mapping from names to tensors", lambda n, d: [(n, pickle.dumps(3, 2) if n.endswith("data.pkl") else d)])):
        directory = rewritten(change)
        r = wfctl("verify", directory)
        same((r.returncode, [line.split(directory + ": ")[1].startswith(f"k1.{c}: pytorch_model-00001.bin: {says}") for c, line in zip("ab", r.stderr.splitlines())], r.stderr.count("\n")),
             (1, [True, True], 3), f"{what} as a shard: verify says it of each tensor")
        r = wfctl("mv", directory, "k0.a", "moved")
        ok(r.returncode == 0 and wfctl("cat", directory, "moved").stdout == "[0. 1.]\n", f"{what} as a shard: the other shards are read and edited", r)


def check_lost_stay(kind, directory, good, bad, file):
    """Commits in a mount rename what is lost: the file is named as before, and once it is back all of it is there."""
    index = os.path.join(TOP, "stays")
    shutil.copytree(directory, index)
    rows = {row["path"]: row for row in map(json.loads, wfctl("ls", "--json", index).stdout.splitlines())}
    lost = [k for k, row in rows.items() if "error" in row][:3]
    mnt = tempfile.mkdtemp(dir=TOP)
    run(WEIGHTFS, index, mnt)
    try:
        for old, new in (("", ".1"), (".1", ".2")):
            for k in lost:
                os.rename(f"{mnt}/{k}{old}", f"{mnt}/{k}{new}")
            r = wfctl("commit", mnt)
            ok(r.returncode == 0, f"{kind}: lost tensors are renamed and committed", r)
            log = read(f"{mnt}/.weightfs/log").decode().count(file)
            for k in lost:
                try:
                    read(f"{mnt}/{k}{new}")
                    ok(False, f"{kind}: {k}{new} is read")
                except OSError as e:
                    same(e.errno, errno.EIO, f"{kind}: {k}{new} stays lost")
            if new == ".1":  # an entry's error is logged once
                same(read(f"{mnt}/.weightfs/log").decode().count(file), log + len(lost), f"{kind}: and the log names the file for each")
    finally:
        unmount(mnt)
    shutil.copy(os.path.join(FIXTURES, "dcp/fsdp-3", file), index)
    whole = {k[:-2]: wfctl("cat", index, k).stdout for k in (k + ".2" for k in lost)}
    same(whole, {k: wfctl("cat", os.path.join(FIXTURES, "dcp/fsdp-3"), k).stdout for k in lost}, f"{kind}: with the file back all is there")


check_no_shards()
if FUSE:
    check_lost_stay("distributed", *KINDS["distributed"])
for name, what in KINDS.items():
    check_verbs(name, *what)
    if name in ("safetensors", "bin", "a thousand"):
        check_names(name, *what)
for name in ("safetensors", "bin"):
    check_total(name)
    check_one_goes(name, False)
    if FUSE:
        check_one_goes(name, True)
if not FUSE:
    skip("mounts", "no /dev/fuse")
shutil.rmtree(TOP)
done()
