#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files made of a checkpoint's tensors, held against the libraries that define them: .weightfs/model.safetensors and wfctl export against
safetensors.torch.save_file, .weightfs/npy against np.save, exported state_dicts against torch.load.

Usage: test_views.py BUILD_DIRECTORY [ROUNDS [FIRST]]. Prints TAP; what needs a mount is skipped where /dev/fuse is missing.
"""
import io
import json
import os
import random
import sys
import zipfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from safetensorskit import BUILD, DTYPES, FIRST, FUSE, ROUNDS
from kit import World, done, ok, read, run, same, skip

LETTERS = ["a", "b", ".", "é", "日", "\0", "\1", "\x1f", "\n", "\t", '"', "\\", "/", "\x7f", "\u2028", "😀", " ", "%", "~"]
FORMAT = {"format": "pt"}


def tensor(r, dtype):
    shape = [r.randrange(0, 4) for _ in range(r.randrange(0, 4))]
    if dtype is getattr(torch, "float4_e2m1fn_x2", None) and not shape:
        shape = [2]
    size = int(np.prod(shape)) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(r.random().__hash__()))
    t = (raw.view(dtype) if size else torch.empty(0, dtype=dtype)).reshape(shape)
    if len(shape) > 1 and r.random() < 0.3:
        t = t.transpose(0, 1)
    return torch.nn.Parameter(t) if dtype == torch.float32 and r.random() < 0.2 else t


def mapping(r, depth=0):
    d = {}
    for _ in range(r.randrange(0, 8)):
        name = "".join(r.choice(LETTERS) for _ in range(r.randrange(0, 6)))
        what = r.random()
        if what < 0.1 and depth < 3:
            d[name] = mapping(r, depth + 1)
        elif what < 0.15:
            d[name] = [r.randrange(9), "x", 1.5, None][r.randrange(4)]
        else:
            d[name] = tensor(r, r.choice(DTYPES))
    return d


def each(d, prefix=""):
    """(full name, tensor) in the order of the dictionary."""
    for key, value in d.items() if isinstance(d, dict) else enumerate(d):
        if isinstance(value, (dict, list, tuple)):
            yield from each(value, f"{prefix}{key}.")
        elif torch.is_tensor(value):
            yield prefix + str(key), value


def data(t):
    return (t.untyped_storage().data_ptr(), t.storage_offset(), tuple(t.shape), t.stride(), t.dtype)


def reference(d, path):
    """save_file of the flat dictionary; ties as save_model treats them, the metadata in the order of its keys."""
    flat, first, notes = {}, {}, {}
    for name, t in each(d):
        flat.setdefault(name, t)
    for name in sorted(flat, key=lambda n: n.encode()):
        if flat[name].numel() and data(flat[name]) in first:
            notes[name] = first[data(flat.pop(name))]
        elif flat[name].numel():
            first[data(flat[name])] = name
    save_file({n: t.detach().contiguous() for n, t in flat.items()}, path, metadata={**notes, **FORMAT})
    return flat, {**notes, **FORMAT}


def same_file(got, wanted, what, notes):
    """Equal bytes; where the metadata has several keys, the reference writes these in an order that changes: then all but their order."""
    a, b = read(got), read(wanted)
    if len(notes) == 1:
        return ok(a == b, what, f"{a[:600]!r}\n{b[:600]!r}")
    heads = [json.loads(x[8:8 + int.from_bytes(x[:8], "little")]) for x in (a, b)]
    ends = [x[8 + int.from_bytes(x[:8], "little"):] for x in (a, b)]
    return ok(heads[0] == heads[1] and len(a) == len(b) and ends[0] == ends[1] and
              list(heads[0]["__metadata__"]) == sorted(notes, key=lambda n: n.encode()) and
              list(heads[0])[1:] == list(heads[1])[1:], what, f"{a[:600]!r}\n{b[:600]!r}")


def export(w, name, *options, source=None):
    out = os.path.join(w.dir, name)
    return run(w.wfctl, "export", *options, source or w.file, out), out


def bits(t):
    t = t.detach().resolve_conj().resolve_neg().contiguous()
    return t.dtype, tuple(t.shape), bytes(t.view(-1).view(torch.uint8).tolist()) if t.numel() else b""


def check_round(w, seed):
    r = random.Random(seed)
    d = mapping(r)
    names = [key for key in d if torch.is_tensor(d[key])]
    places = [d] + [value for value in d.values() if isinstance(value, dict)]
    for i in range(r.choice([0, 1, 1, 3]) if names else 0):
        r.choice(places)[r.choice(["tie", "a tie", "zz"]) + str(i)] = d[r.choice(names)]
    torch.save(d, w.file, **({} if seed % 3 else {"_use_new_zipfile_serialization": False}))
    wanted = os.path.join(w.dir, "wanted.safetensors")
    try:
        flat, notes = reference(d, wanted)
    except UnicodeEncodeError:
        return
    p, got = export(w, "got.safetensors", "--skip")
    if ok(p.returncode == 0, f"round {seed} is exported", p):
        same_file(got, wanted, f"round {seed}: safetensors", notes)
    p, got = export(w, "got.pt")
    names = [n for n, _ in each(d)]
    if len(names) != len(set(names)):
        ok(p.returncode == 1 and "same name" in p.stderr, f"round {seed}: two tensors with one name are no state_dict", p)
    elif ok(p.returncode == 0, f"round {seed} is exported as a state_dict", p):
        loaded = torch.load(got, weights_only=True)
        expected = {n: bits(t) for n, t in each(d)}
        ok({n: bits(t) for n, t in loaded.items()} == expected,
           f"round {seed}: torch.load with weights_only", f"{list(loaded)}\n{list(expected)}")
    if not FUSE:
        return
    w.mount(*([] if seed % 2 else ["-o", "ro"]))
    try:
        same_file(f"{w.mnt}/.weightfs/model.safetensors", wanted, f"round {seed}: the file of the mount", notes)
        inner = [key for key, value in d.items() if isinstance(value, dict) and key not in ("", ".", "..") and not set(key) & set("/%\0")]
        for key in inner[:1]:
            _, notes = reference(d[key], wanted)
            same_file(f"{w.mnt}/.weightfs/safetensors/{key}/model.safetensors", wanted, f"round {seed}: below a mapping", notes)
    finally:
        w.umount()


# ---- what a random dictionary does not have ----

def check_skipped(w):
    x = torch.arange(12.).reshape(3, 4)
    d = {"w": x, "epoch": 3, "c": torch.zeros(2, dtype=torch.complex128), "sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta"),
         "m": {"k": torch.ones(2)}, "m.k": torch.zeros(1), "__metadata__": torch.ones(1), "also": x, "format": x, "row": x[1], "list": [torch.zeros(1), {"q": torch.ones(1)}]}
    torch.save(d, w.file)
    p, out = export(w, "o.safetensors")
    ok(p.returncode == 1 and not os.path.exists(out) and "6 tensors" in p.stderr and "--skip" in p.stderr,
       "tensors that the format cannot hold are refused", p)
    p, out = export(w, "o.safetensors", "--skip")
    same(sorted(load_file(out)), ["also", "list.0", "list.1.q", "m.k", "row"], "--skip leaves them out; another view of a storage has its own bytes")
    ok(torch.equal(load_file(out)["row"], x[1]), "which are right")
    with safe_open(out, "pt") as f:
        same(f.metadata(), {"format": "pt", "w": "also"}, "a tie whose name the metadata have is left out as well")
    if FUSE:
        w.mount()
        lines = dict(line.split("\t") for line in read(f"{w.mnt}/.weightfs/model.skipped").decode().splitlines())
        same(sorted(lines), sorted(["epoch", "c", "sparse", "meta", "m.k", "__metadata__", "format"]), "model.skipped lists what is left out")
        same(read(f"{w.mnt}/.weightfs/model.safetensors"), read(out), "the mount shows the same file")
        w.umount()
        torch.save({"deep": {"in": {"a": 1, "b": 2, "t": x}}, "c": 3}, w.file)
        w.mount()
        for prefix in (None, "/deep/in/", "deep"):
            p, out = export(w, "o.safetensors", *([f"--prefix={prefix}"] if prefix else []))
            told = p.stderr.split("; ")[-1].split(" of a mount")[0]
            ok(p.returncode == 0 and len(read(f"{w.mnt}/{told}").splitlines()) == int(p.stderr.split()[3]), f"prefix {prefix}: the line names the list", p)
        p, out = export(w, "o.pt")
        ok(p.returncode == 0 and "left out: 3" in p.stderr and "model.skipped" not in p.stderr, "which there is for safetensors alone", p)
        w.umount()


def check_modules(w):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    wanted = os.path.join(w.dir, "wanted.safetensors")
    save_file(dict(model.state_dict()), wanted, metadata=FORMAT)
    for what, save in {"a module": lambda: torch.save(model, w.file), "a TorchScript archive": lambda: torch.jit.script(model).save(w.file),
                       "a legacy file": lambda: torch.save(model.state_dict(), w.file, _use_new_zipfile_serialization=False),
                       "what Lightning writes": lambda: torch.save({"state_dict": model.state_dict(), "epoch": 3, "callbacks": {}}, w.file),
                       "what YOLO writes": lambda: torch.save({"model": model, "ema": None, "date": "2024"}, w.file)}.items():
        save()
        prefix = {"what Lightning writes": ["--prefix=state_dict"], "what YOLO writes": ["--prefix", "model"]}.get(what, [])
        p, out = export(w, "o.safetensors", *prefix)
        ok(p.returncode == 0 and read(out) == read(wanted), f"{what} as safetensors", p)
        p, out = export(w, "o.bin", *prefix)
        if ok(p.returncode == 0, f"{what} as a state_dict", p):
            model.load_state_dict(torch.load(out, weights_only=True))
            torch.load(out, mmap=True)
            ok(zipfile.ZipFile(out).testzip() is None, "  whose sums are right")


def check_sharing(w):
    flat, x = torch.arange(100.), torch.arange(12.).reshape(3, 4)
    d = {"a": flat[10:60].view(5, 10), "b": flat[50:], "t": x.t(), "x": x, "x2": x, "few": torch.arange(1000000.)[3:5], "conj": torch.tensor([1 + 2j]).conj(),
         "array": np.arange(6, dtype=">i4").reshape(2, 3), "q": torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 3, torch.qint8)}
    torch.save(d, w.file)
    p, out = export(w, "o.pt")
    ok(p.returncode == 0, "views, ties, arrays and quantised tensors as a state_dict", p)
    got = torch.load(out, weights_only=True)
    ok(got["a"].untyped_storage().data_ptr() == got["b"].untyped_storage().data_ptr() and got["x"].data_ptr() == got["x2"].data_ptr() ==
       got["t"].data_ptr() and got["t"].stride() == (1, 4), "what shared a storage shares it")
    ok(os.path.getsize(out) < 100000, "a few bytes of a large storage do not bring all of it", os.path.getsize(out))
    ok(all(torch.equal(got[k], d[k]) for k in ("a", "b", "t", "x", "few", "conj")) and got["array"].tolist() == d["array"].tolist() and
       torch.equal(got["q"].int_repr(), d["q"].int_repr()) and got["q"].q_scale() == d["q"].q_scale(), "and every value is right")


def check_npz(w):
    d = {"a": torch.randn(3, 4).t(), "b/c": torch.arange(5), "n": np.asfortranarray(np.arange(6.).reshape(2, 3)), "日": torch.ones(1), "bf": torch.ones(1).bfloat16(),
         "m": {"k": torch.tensor(2.5)}}
    torch.save(d, w.file)
    p, out = export(w, "o.npz", "--skip")
    z = np.load(out)
    ok(p.returncode == 0 and sorted(z.files) == sorted(["a", "b/c", "n", "日", "m.k"]), "an .npz has the arrays", (p, z.files))
    ok((z["a"] == d["a"].numpy()).all() and (z["n"] == d["n"]).all() and z["m.k"] == 2.5, "  with their values")
    buffer = io.BytesIO()
    np.save(buffer, d["n"])
    ok(zipfile.ZipFile(out).read("n.npy") == buffer.getvalue() and zipfile.ZipFile(out).testzip() is None, "  each as np.save writes it")
    for what, d in {"an empty dictionary": {}, "values alone": {"a": 1}}.items():
        torch.save(d, w.file)
        p, out = export(w, "none.npz")
        ok(p.returncode == 0 and np.load(out).files == [], f"an .npz of {what} is one that np.load reads", p)
        same(run(sys.executable, "-m", "zipfile", "-t", out).returncode, 0, "  and so does zipfile")


def peak(*words):
    """The most memory that a program held, in bytes. A child of this one would be charged what this one holds; and meson asks the allocator to
    write into all that it gives, so that room for growth would count."""
    p = run(sys.executable, "-ISc", "import os, sys; os.environ.pop('MALLOC_PERTURB_', 0); p = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); w = os.wait4(p, 0)\n"
            "print('\\n', 1 << 40 if w[1] else w[2].ru_maxrss * 1024)", *words)
    return int(p.stdout.split()[-1])


def least_peak(*words):
    """Of some runs: how much of the libraries is in memory differs."""
    return min(peak(*words) for _ in range(3))


def check_memory(w):
    """What an export holds of each tensor, beside what an opening holds anyway."""
    n = 20000
    d = {f"model.layers.{i // 10}.block.{i % 10}.weight": torch.full((4,), i % 100, dtype=torch.int8) for i in range(n)}
    tie = "model.layers.0.block.0.weight"
    d.update({"tie": d[tie], "view": d["model.layers.7.block.7.weight"][1:]})
    torch.save(d, w.file)
    opened = least_peak(w.wfctl, "cat", w.file, tie)
    for kind, most in {"safetensors": 20, "pt": 40, "npz": 30}.items():  # less than an opening needs for the time of reading the pickle
        out = os.path.join(w.dir, "many." + kind)
        more = least_peak(w.wfctl, "export", f"--format={kind}", w.file, out) - opened
        ok(more < (1 << 20) + most * n, f"an export of {n} tensors to {kind} holds less than {most} bytes of each", more)
    got = torch.load(os.path.join(w.dir, "many.pt"), weights_only=True)
    ok(list(got) == list(d) and all(torch.equal(got[k], d[k]) for k in d), "  and each of them is there")
    ok(got["tie"] is got[tie] and got["view"].untyped_storage().data_ptr() == got["model.layers.7.block.7.weight"].data_ptr(),
       "  tied as it was, and sharing what it shared")
    ok(zipfile.ZipFile(os.path.join(w.dir, "many.npz")).testzip() is None, "  as in the .npz")


def check_shards(w):
    """Split as huggingface_hub does it: in order, full when the next would pass the limit, larger ones alone, ties with the first."""
    d = {f"l{i}.w": torch.full((250,), float(i)) for i in range(10)}
    d["big"], d["tie"] = torch.ones(2000), d["l1.w"]
    d["last"] = torch.ones(3)
    torch.save(d, w.file)
    p, out = export(w, "model.safetensors", "--max-shard-size=3KB")
    index = json.load(open(out + ".index.json"))
    ok(p.returncode == 0 and not os.path.exists(out), "shards, and no file of the plain name", p)
    files = ["l0.w l1.w l2.w", "l3.w l4.w l5.w", "l6.w l7.w l8.w", "big", "l9.w last"]  # the large one before the file that is being filled
    got = {f"model-{i + 1:05d}-of-00005.safetensors": names for i, names in enumerate(files)}
    same(index["weight_map"], {name: file for file, names in got.items() for name in names.split()}, "each shard has its tensors")
    same(index["metadata"]["total_size"], sum(t.numel() * 4 for n, t in d.items() if n != "tie"), "total_size counts tied tensors once")
    loaded, notes = {}, {}
    for file in got:
        with safe_open(os.path.join(w.dir, file), "pt") as f:
            notes.update(f.metadata())
            loaded.update({name: f.get_tensor(name) for name in f.keys()})
    ok(set(loaded) == set(d) - {"tie"} and all(torch.equal(loaded[n], d[n]) for n in loaded) and notes == {"tie": "l1.w", **FORMAT},
       "and all of them are there once", notes)
    p, out = export(w, "one.safetensors", "--max-shard-size=1GB")
    ok(p.returncode == 0 and os.path.exists(out) and not os.path.exists(out + ".index.json"), "one shard has the plain name and no index", p)


def check_shards_at_once(w):
    """All files of a set, or none; and no file of the checkpoint is replaced by what is made of it."""
    d = {"big": torch.ones(3000), **{f"l{i}": torch.full((1000,), float(i)) for i in range(4)}}
    torch.save(d, w.file)
    p, out = export(w, "set.safetensors", "--max-shard-size=9KB")
    before = state(w, "set")
    last = "set-00003-of-00003.safetensors"
    ok(p.returncode == 0 and len(before) == 4 and last in before, "a set of files", p)
    torch.save({k: t + 1 for k, t in d.items()}, w.file)
    for blocks in (8, 18):
        p = run("sh", "-c", f'ulimit -f {blocks}; trap "" XFSZ; exec "$@"', "sh", w.wfctl, "export", "--max-shard-size=9KB", w.file, out)
        left = [n for n in os.listdir(w.dir) if ".weightfs-" in n]
        same((p.returncode, state(w, "set") == before, left), (1, True, []), f"no room for a file of more than {blocks * 512} bytes: the old set stays, whole")
    os.rename(f"{w.dir}/{last}", f"{w.dir}/aside")
    os.mkdir(f"{w.dir}/{last}")
    p, out = export(w, "set.safetensors", "--max-shard-size=9KB")
    os.rmdir(f"{w.dir}/{last}")
    os.rename(f"{w.dir}/aside", f"{w.dir}/{last}")
    ok(p.returncode == 1 and "no regular file" in p.stderr and state(w, "set") == before, "so it does where a directory has one of the names", p)
    p, out = export(w, "set.safetensors", "--max-shard-size=9KB")
    got = {k: t for n in state(w, "set") if n.endswith("safetensors") for k, t in load_file(os.path.join(w.dir, n)).items()}
    ok(p.returncode == 0 and got.keys() == d.keys() and all(torch.equal(got[k], d[k] + 1) for k in d), "and then the new set is in its place", p)


def state(w, stem):
    return {n: open(os.path.join(w.dir, n), "rb").read() for n in os.listdir(w.dir) if n.startswith(stem)}


def check_own_files(w):
    home = os.path.join(w.dir, "home")
    os.mkdir(home)
    torch.save({f"l{i}": torch.full((1000,), float(i)) for i in range(6)}, w.file)
    run(w.wfctl, "export", "--max-shard-size=9KB", w.file, f"{home}/model.safetensors")
    os.symlink("model-00002-of-00003.safetensors", f"{home}/link.safetensors")
    os.link(f"{home}/model-00001-of-00003.safetensors", f"{home}/second.safetensors")
    os.mkdir(f"{home}/deep")
    before = {n: open(f"{home}/{n}", "rb").read() for n in os.listdir(home) if n != "deep"}
    for words in (["model-00001-of-00003.safetensors"], ["link.safetensors"], ["second.safetensors"], ["--format=pt", "model.safetensors.index.json"],
                  ["--max-shard-size=9KB", "model.safetensors"], ["--max-shard-size=9KB", "deep/../model.safetensors"], ["--max-shard-size=5KB", "model.safetensors"]):
        for source in (home, f"{home}/model.safetensors.index.json"):
            p = run(w.wfctl, "export", *words[:-1], source, f"{home}/{words[-1]}")
            same((p.returncode, "of the checkpoint itself" in p.stderr, {n: open(f"{home}/{n}", "rb").read() for n in os.listdir(home) if n != "deep"} == before),
                 (1, True, True), f"export {' '.join(words)}: a file of the checkpoint stays")
    one = os.path.join(w.dir, "model-00001-of-00002.safetensors")
    run(w.wfctl, "export", w.file, one)
    p = run(w.wfctl, "export", "--max-shard-size=13KB", one, os.path.join(w.dir, "model.safetensors"))
    ok(p.returncode == 1 and "the checkpoint itself" in p.stderr and len(load_file(one)) == 6, "nor is a file by itself, by one of its shards", p)
    p = run(w.wfctl, "export", "--max-shard-size=9KB", home, f"{w.dir}/other.safetensors")
    ok(p.returncode == 0 and os.path.exists(f"{w.dir}/other.safetensors.index.json"), "elsewhere they are written", p)


def check_words(w):
    torch.save({"a": torch.ones(2), "m": {"k": torch.ones(1)}}, w.file)
    out = os.path.join(w.dir, "words.safetensors")
    for what, status, arguments in (
            ("a suffix that tells nothing", 2, [w.file, f"{w.dir}/o.xyz"]), ("a format that is not there", 2, ["--format=gguf", w.file, out]),
            ("a size that is none", 2, ["--max-shard-size=lots", w.file, out]), ("shards of a .pt", 2, ["--max-shard-size=1MB", w.file, f"{w.dir}/o.pt"]),
            ("a prefix that is not there", 1, ["--prefix=no", w.file, out]), ("a tensor as prefix", 1, ["--prefix=a", w.file, out]),
            ("the checkpoint itself", 1, ["--format=pt", w.file, w.file]), ("a directory", 1, ["--format=pt", w.file, w.dir]),
            ("a directory that is not there", 1, [w.file, f"{w.dir}/no/o.pt"])):
        p = run(w.wfctl, "export", *arguments)
        ok(p.returncode == status and p.stderr and not os.path.exists(out), f"{what}: exit status {status}", p)
    os.symlink("real.safetensors", out)
    p = run(w.wfctl, "export", "--prefix=m/", w.file, out)
    ok(p.returncode == 0 and sorted(load_file(out)) == ["k"], "a prefix may end in a slash", p)
    left = [n for n in os.listdir(w.dir) if ".weightfs-" in n]
    same(left, [], "no temporary file is left")


# ---- npy ----

def check_npy(w):
    d = {"f": torch.randn(3, 4).t(), "c": torch.randn(2, 3, 4), "0-d": torch.tensor(3.5), "empty": torch.empty(0, 3), "bool": torch.tensor([True, False]),
         "step": torch.arange(10, dtype=torch.int16)[::2], "conj": torch.tensor([1 + 2j]).conj(), "one": torch.zeros(1, 5).t(), "p": torch.nn.Parameter(torch.ones(2)),
         "permuted": torch.randn(2, 3, 4).permute(2, 1, 0), "m": {"k": torch.ones(2)}, "n.npy": torch.ones(1), "d.npy": {"k": torch.ones(1)},
         "array": np.asfortranarray(np.arange(6.).reshape(2, 3)), "big endian": np.arange(5, dtype=">i4"), "text": np.array(["abc", "d"]),
         "date": np.array(["2020-01-01"], dtype="M8[D]"), "record": np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8", (2,))]),
         "records": np.asfortranarray(np.zeros((3, 2), dtype=[("a", "<i4"), ("b", "<i2")])), "é": np.zeros(2, dtype=[("é", "<i4")]),
         "日": np.zeros(2, dtype=[("日", "<i4")]), "bytes": np.array([b"ab", b"c"]), "bf": torch.ones(2).bfloat16(), "epoch": 3}
    torch.save(d, w.file)
    w.mount()
    npy = f"{w.mnt}/.weightfs/npy"
    for name, value in d.items():
        if isinstance(value, dict) or name in ("bf", "epoch"):
            continue
        buffer = io.BytesIO()
        np.save(buffer, value.detach().resolve_conj().numpy() if torch.is_tensor(value) else value)
        got = read(f"{npy}/{name}.npy")
        ok(got == buffer.getvalue() and os.path.getsize(f"{npy}/{name}.npy") == len(got), f"{name}.npy is what np.save writes", got[:140])
    same(sorted(os.listdir(npy)), sorted([f"{n}.npy" for n in d if n not in ("m", "d.npy", "bf", "epoch")] + ["m", "d.npy"]), "what NumPy has no dtype for is not there")
    same(np.load(f"{npy}/m/k.npy").tolist(), [1, 1], "below a mapping")
    same(np.load(f"{npy}/d.npy/k.npy").tolist(), [1], "below one whose name ends in .npy")
    same(np.load(f"{npy}/c.npy", mmap_mode="r").tolist(), d["c"].tolist(), "mapped")
    w.umount()


def check_edits(w):
    """The file follows edits; who has it open reads on what it says."""
    x = torch.arange(12.)
    torch.save({"a": x, "b": torch.ones(3)}, w.file)
    w.mount()
    path = f"{w.mnt}/.weightfs/model.safetensors"
    with safe_open(path, "pt") as before:
        os.rename(f"{w.mnt}/a", f"{w.mnt}/z")
        same(sorted(load_file(path)), ["b", "z"], "a rename shows at once")
        ok(sorted(before.keys()) == ["a", "b"] and torch.equal(before.get_tensor("a"), x), "and not to who had opened it")
        with open(f"{w.mnt}/z", "r+b") as f:
            f.write(bytes(4))
            f.flush()
            ok(load_file(path)["z"][0] == 0, "a write shows at once")
        os.remove(f"{w.mnt}/b")
        same(sorted(load_file(path)), ["z"], "a removal shows at once")
        ok(run(w.wfctl, "commit", w.mnt).returncode == 0, "a commit")
        same(sorted(load_file(path)), ["z"], "after a commit")
        same(sorted(before.keys()), ["a", "b"], "the open one is still what it was")
    os.setxattr(f"{w.mnt}/z", "user.torch.shape", b"[3, 4]")
    same(load_file(path)["z"].shape, (3, 4), "a shape shows at once")
    same(np.load(f"{w.mnt}/.weightfs/npy/z.npy").shape, (3, 4), "in npy/, too")
    p, out = export(w, "o.safetensors", source=w.mnt)
    ok(p.returncode == 0 and read(out) == read(path), "an export of the mount has the edits", p)
    ok(run(w.wfctl, "discard", w.mnt).returncode == 0 and load_file(path)["z"].shape == (12,), "discard shows at once")
    for name in ("model.safetensors", "model.skipped", "safetensors/x"):
        try:
            open(f"{w.mnt}/.weightfs/{name}", "w").close()
            ok(False, f"{name} cannot be written")
        except OSError:
            ok(True, f"{name} cannot be written")
    w.umount()


def check_hostile(w):
    """Few bytes of pickle that mean many names, a container that holds itself, and names of gigabytes."""
    shared = {"k": torch.ones(1)}
    for _ in range(40):
        shared = {"a": shared, "b": shared}
    torch.save(shared, w.file)
    p, out = export(w, "o.safetensors")
    ok(p.returncode in (0, 1) and "Killed" not in p.stderr, "2^40 places end", p)
    ring = {"w": torch.ones(1)}
    ring["self"] = ring
    torch.save(ring, w.file)
    p, out = export(w, "o.safetensors")
    ok(p.returncode == 0 and list(load_file(out)) == ["w"], "a mapping in itself is told once", p)


def check_output(w):
    """A commit of a mount with output=x.safetensors writes what save_file does of the same edit."""
    x = torch.arange(12.).reshape(3, 4)
    d = {"w": x, "t": x.t(), "tie": x, "m": {"k": torch.ones(2).bfloat16()}, "日": torch.tensor(True), "z": torch.empty(0, 3)}
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    out, wanted = os.path.join(w.dir, "o.safetensors"), os.path.join(w.dir, "wanted.safetensors")
    for what, save, edit, after in (
            ("a dictionary", lambda: torch.save(d, w.file), ("t", "u"), {"u": x.t(), **{k: v for k, v in d.items() if k != "t"}}),
            ("a legacy file", lambda: torch.save(d, w.file, _use_new_zipfile_serialization=False), ("m/k", "m/l"), {**d, "m": {"l": d["m"]["k"]}}),
            ("a module", lambda: torch.save(model, w.file), None, model.state_dict()),
            ("a TorchScript archive", lambda: torch.jit.script(model).save(w.file), None, model.state_dict())):
        save()
        w.mount("-o", f"output={out}")
        if edit:
            os.rename(*(f"{w.mnt}/{name}" for name in edit))
        else:
            with open(f"{w.mnt}/0.bias", "r+b") as f:
                f.write(bytes(16))
            after = {**after, "0.bias": torch.zeros(4)}
        p = run(w.wfctl, "umount", w.mnt)
        _, notes = reference(after, wanted)
        if ok(p.returncode == 0 and os.path.exists(out), f"output=x.safetensors of {what} is committed", p):
            same_file(out, wanted, "  as save_file writes it", notes)
            os.unlink(out)


def check_pickle_output(w):
    import pickle
    d = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": {"x": np.ones(3)}, "epoch": 3, "t": torch.ones(3)}
    with open(w.file, "wb") as f:
        pickle.dump(d, f)
    out = os.path.join(w.dir, "o.pt")
    w.mount("-o", f"output={out}")
    with open(f"{w.mnt}/w", "r+b") as f:
        f.write(np.float32(9).tobytes())
    os.rename(f"{w.mnt}/n/x", f"{w.mnt}/n/y")
    p = run(w.wfctl, "umount", w.mnt)
    ok(p.returncode == 0, "output=x.pt of a plain pickle is committed", p)
    got = torch.load(out, weights_only=False)
    ok(got["w"].tolist() == [[9, 1, 2], [3, 4, 5]] and got["n"]["y"].tolist() == [1, 1, 1] and got["epoch"] == 3 and torch.equal(got["t"], d["t"]) and
       list(got) == list(d), "  as torch.load reads it", got)


def check_state_dict_output(w):
    """output=x.pt of a safetensors file: what torch.load reads with weights_only; texts that it cannot hold are refused."""
    d = {"a": torch.arange(12.).reshape(3, 4), "b": torch.ones(5, dtype=torch.bfloat16), "c.d": torch.tensor(3), "none": torch.empty(0, 2)}
    out = os.path.join(w.dir, "o.pt")
    save_file(d, w.file, metadata=FORMAT)
    w.mount("-o", f"output={out}")
    os.rename(f"{w.mnt}/a", f"{w.mnt}/z")
    p = run(w.wfctl, "commit", w.mnt)
    got = torch.load(out, weights_only=True)
    ok(p.returncode == 0 and {n: bits(t) for n, t in got.items()} == {n: bits(t) for n, t in {**d, "z": d["a"]}.items() if n != "a"},
       "output=x.pt of a safetensors file is a state_dict", (p, got))
    with open(f"{w.mnt}/.weightfs/metadata/licence", "w") as f:
        f.write("mine\n")
    p = run(w.wfctl, "commit", w.mnt)
    ok(p.returncode == 1 and "licence" in p.stderr and list(torch.load(out)) == list(got), "  metadata that have no place there are refused", p)
    os.remove(f"{w.mnt}/.weightfs/metadata/licence")
    with open(f"{w.mnt}/z", "r+b") as f:
        f.write(bytes(48))
    p = run(w.wfctl, "umount", w.mnt)
    ok(p.returncode == 0 and not torch.load(out, mmap=True)["z"].any() and zipfile.ZipFile(out).testzip() is None, "  and a second commit has the edits since", p)
    ok(list(load_file(w.file)) and sorted(load_file(w.file)) == sorted(d) and not os.path.exists(out + ".weightfs"), "  the file itself is untouched")


with World(BUILD) as world:
    for check in (check_skipped, check_modules, check_sharing, check_npz, check_memory, check_shards, check_shards_at_once, check_own_files, check_words, check_hostile):
        check(world)
    for check in (check_npy, check_edits, check_output, check_pickle_output, check_state_dict_output):
        if FUSE:
            check(world)
        else:
            skip(check.__name__, "/dev/fuse is missing, or not for this user")
    for number in range(FIRST, FIRST + ROUNDS):
        check_round(world, number)
done()
