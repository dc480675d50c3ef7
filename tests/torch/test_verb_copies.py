#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl cp of every kind of entry into every kind of checkpoint: it is there as the format's own reader has it, with one line about what the format
cannot say of it; or it is refused with one line that names key and reason, and the checkpoint is what it was.

Usage: test_verb_copies.py BUILD_DIRECTORY. Prints TAP.
"""
import collections
import datetime
import glob
import json
import os
import pickle
import shutil
import sys
import tempfile
import warnings
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verbkit import ok, tap, wfctl  # noqa: E402

warnings.filterwarnings("ignore")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save  # noqa: E402

TOP = tempfile.mkdtemp(prefix="weightfs-copies-")
T = torch.arange(6.).reshape(2, 3)
ALL = ["pt", "legacy", "safetensors", "hf-safetensors", "hf-bin", "dcp", "pickle"]
FLAT, PLAIN = ["safetensors", "hf-safetensors"], ["safetensors", "hf-safetensors", "dcp", "pickle"]


def less(words, kinds=PLAIN):
    return {kind: ("less", words) for kind in kinds}


def never(words, kinds=ALL):
    return {kind: ("refused", words) for kind in kinds}


TENSORS_ALONE = never("holds tensors alone", FLAT)
ONE_DICTIONARY = never("one flat dictionary", FLAT)
PARTS = {**never("this directory cannot become a tensor", ["dcp"]), **ONE_DICTIONARY}
OBJECT = {**never("whose copy would be a mapping"), **ONE_DICTIONARY}
MORE = {**less("class", ALL)}
# name: value, and where the copy is something else than the value
KINDS = {
    "plain": (T.clone(), {}), "strided": (T.clone().t(), {}), "view": (torch.arange(20.)[3:9], {}), "scalar": (torch.tensor(3.5), {}),
    "empty": (torch.empty(0, 3), {}), "conj": (torch.complex(T, T).conj(), {}), "neg": (torch.complex(T, T).conj().imag, {}),
    "param": (torch.nn.Parameter(T.clone()), less("requires_grad, class")), "grad": (T.clone().requires_grad_(True), less("requires_grad")),
    "frozen": (torch.nn.Parameter(T.clone(), requires_grad=False), less("class")),
    "bfloat16": (T.bfloat16(), never("bfloat16", ["pickle"])), "complex128": (torch.complex(T, T).to(torch.complex128), never("complex128", FLAT)),
    "complex32": (torch.complex(T.half(), T.half()), never("complex32", [*FLAT, "legacy", "pickle"])),
    "float8": (T.to(torch.float8_e4m3fn), never("float8_e4m3fn", ["legacy", "pickle"])), "uint16": (T.to(torch.uint16), never("uint16", ["legacy"])),
    "quantised": (torch.quantize_per_tensor(T, .1, 2, torch.quint8), never("quint8", [*FLAT, "pickle"])),
    "sparse": (T.to_sparse(), PARTS), "csr": (T.to_sparse_csr(), PARTS), "meta": (torch.empty(2, 3, device="meta"), never("a meta tensor has no bytes")),
    "channels": (torch.quantize_per_channel(T, torch.tensor([.1, .2]), torch.tensor([0, 1]), 0, torch.qint8), {**PARTS, **never("cannot hold elements of qint8", ["pickle"])}),
    "storage": (torch.arange(4).storage(), MORE), "untyped": (torch.arange(4).untyped_storage(), MORE),
    "array": (np.arange(6.).reshape(2, 3), {}), "big-endian": (np.arange(6, dtype=">i4"), {}), "fortran": (np.asfortranarray(np.arange(6.).reshape(2, 3)), {}),
    "texts": (np.array(["a", "bc"]), never("<U2", FLAT)), "dates": (np.array(["2020-01-01"], dtype="M8[D]"), never("<M8[D]", FLAT)),
    "objects": (np.array([1, "x"], dtype=object), never("|O")), "number": (np.float64(2.5), TENSORS_ALONE),
    **{name: (value, TENSORS_ALONE) for name, value in {
        "int": 3, "float": .5, "bool": True, "none": None, "str": "hello", "bytes": b"\0\1", "complex": 1 + 2j, "list": [1, 2], "tuple": (1, 2), "set": {1, 2},
        "no-list": [], "size": torch.Size([2, 3]), "device": torch.device("cpu"), "dtype": torch.float32, "bytearray": bytearray(b"xy"), "large": 10**40}.items()},
    "date": (datetime.date(2020, 1, 1), {**never("it is a datetime.date, and its copy would be a str"), **TENSORS_ALONE}),
    "tensors": ([T.clone(), T.clone()], ONE_DICTIONARY), "mixed": ((T.clone(), 1), ONE_DICTIONARY), "dict": ({"w": T.clone(), "n": {"x": T.clone()}}, ONE_DICTIONARY),
    "module": (torch.nn.Linear(2, 2), OBJECT),
}


# ---- the checkpoints ----

def torch_save(path, value, **more):
    torch.save(value, path, **more)


def save_shards(path, end):
    os.mkdir(path)
    base = "model.safetensors" if end == "safetensors" else "pytorch_model.bin"
    names = {}
    for i in (1, 2):
        part, name = {f"w{i}": T.clone(), f"b{i}": T.clone()}, base.replace(".", f"-{i:05d}-of-00002.")
        (save_file if end == "safetensors" else lambda v, f: torch.save(v, f))(part, f"{path}/{name}")
        names.update(dict.fromkeys(part, name))
    with open(f"{path}/{base}.index.json", "w") as f:
        json.dump({"metadata": {"total_size": 96}, "weight_map": names}, f)


def load_shards(path):
    with open(glob.glob(f"{path}/*.index.json")[0]) as f:
        files = set(json.load(f)["weight_map"].values())
    return {k: v for file in files for k, v in
            (load_file if file.endswith("safetensors") else lambda f: torch.load(f, weights_only=False))(f"{path}/{file}").items()}


def load_dcp(path):
    dcp_to_torch_save(path, f"{TOP}/converted.pt")
    return torch.load(f"{TOP}/converted.pt", weights_only=False)


def load_pickle(path):
    with open(path, "rb") as f:
        return pickle.load(f)


def save_pickle(path):
    with open(path, "wb") as f:
        pickle.dump({"w": np.arange(3.)}, f)


LOAD = {"pt": lambda p: torch.load(p, weights_only=False), "legacy": lambda p: torch.load(p, weights_only=False), "safetensors": load_file,
        "hf-safetensors": load_shards, "hf-bin": load_shards, "dcp": load_dcp, "pickle": load_pickle}
torch.save({name: value for name, (value, _) in KINDS.items()}, f"{TOP}/donor.pt")
torch.save({"w": T}, f"{TOP}/pt")
torch.save({"w": T}, f"{TOP}/legacy", _use_new_zipfile_serialization=False)
save_file({"w": T}, f"{TOP}/safetensors")
save_shards(f"{TOP}/hf-safetensors", "safetensors")
save_shards(f"{TOP}/hf-bin", "bin")
dcp.save({"w": T.clone(), "sub": {"x": T.clone(), "n": 3}}, checkpoint_id=f"{TOP}/dcp", no_dist=True)
save_pickle(f"{TOP}/pickle")
# as torch.save would have written a tensor of a GPU
torch.save({"cuda": T}, f"{TOP}/cpu.pt")
with zipfile.ZipFile(f"{TOP}/cpu.pt") as old, zipfile.ZipFile(f"{TOP}/cuda.pt", "w", zipfile.ZIP_STORED) as new:
    for name in old.namelist():
        data = old.read(name)
        new.writestr(name, data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0") if name.endswith("data.pkl") else data)


def fresh(kind):
    path = f"{TOP}/try"
    shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    (shutil.copytree if os.path.isdir(f"{TOP}/{kind}") else shutil.copy)(f"{TOP}/{kind}", path)
    return path


def state(path):
    files = sorted(glob.glob(path + "/**", recursive=True, include_hidden=True)) if os.path.isdir(path) else [path]
    return {f: open(f, "rb").read() for f in files if os.path.isfile(f)}


# ---- one kind into one checkpoint ----

def attempt(kind, donor, name, want):
    """What is wrong; empty where nothing is."""
    path = fresh(kind)
    before = state(path)
    r = wfctl("cp", f"{TOP}/{donor}:{name}", f"{path}:new")
    said = r.stderr.decode().strip()
    what, words = want or ("done", "")
    if what == "refused":
        good = r.returncode == 1 and name in said and words in said and said.count("\n") == 0 and state(path) == before
        return "" if good else f"exit {r.returncode}: {said}; changed: {state(path) != before}"
    told = f"wfctl: copied without {words}, which the copy cannot say: new" if what == "less" else ""
    return "" if r.returncode == 0 and said == told else f"exit {r.returncode}: {said}, and not: {told}"


def plain(value):
    """As what every format has: elements, and a dtype where that is torch's or NumPy's alike."""
    if isinstance(value, np.ndarray):
        return value.dtype.newbyteorder("=").str, value.tolist()
    if isinstance(value, (torch.storage.TypedStorage, torch.UntypedStorage)):
        return "storage", bytes(value.untyped())
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        return str(value.layout), value.to_dense().tolist()
    if isinstance(value, torch.Tensor):
        value = (value.dequantize() if value.is_quantized else value.detach()).resolve_conj().resolve_neg()
        if value.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.complex32):
            return str(value.dtype), value.to(torch.complex64 if value.is_complex() else torch.float32).tolist()
        return value.numpy().dtype.str, value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and any(isinstance(v, (torch.Tensor, np.ndarray)) for v in value):
        return type(value).__name__, [plain(v) for v in value]
    return type(value).__name__, value


def same(name, got, want):
    if name in ("storage", "untyped"):
        got = torch.as_tensor(got)
        return bytes(got.view(torch.uint8).numpy()) == bytes(want.untyped() if name == "storage" else want)
    return plain(got) == plain(want)


for kind in ALL:
    wrong = {name: why for name, (_, want) in KINDS.items() if (why := attempt(kind, "donor.pt", name, want.get(kind)))}
    why = attempt(kind, "cuda.pt", "cuda", less("location").get(kind))
    wrong.update({"cuda": why} if why else {})
    ok(not wrong, f"every kind of entry copied into {kind}: done, with less, or refused", "\n".join(f"{k}: {v}" for k, v in wrong.items()))
    # all that can be copied, as one commit, and the format's own reader
    names = [name for name, (_, want) in KINDS.items() if want.get(kind, ("", ""))[0] != "refused"]
    path = fresh(kind)
    r = wfctl("-f", "-", input="".join(f"cp {TOP}/donor.pt:{name} {path}:copy.{name}\n" for name in names).encode())
    got = LOAD[kind](path) if r.returncode == 0 else {}
    bad = [n for n in names if not (f"copy.{n}" in got and same(n, got[f"copy.{n}"], KINDS[n][0]))]
    ok(r.returncode == 0 and not bad, f"what was copied into {kind} is what its own reader has", f"{r.stderr.decode()} {bad} {[got.get(f'copy.{n}') for n in bad]}")

np.savez(f"{TOP}/arrays.npz", w=T.numpy())
shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "files", "zero", "stage2-bf16"), f"{TOP}/zero")
for kind, words in {"arrays.npz": "NumPy archive", "zero": "read-only"}.items():
    r = wfctl("cp", f"{TOP}/donor.pt:plain", f"{TOP}/{kind}:new")
    ok(r.returncode == 1 and words in r.stderr.decode() and r.stderr.count(b"\n") == 1, f"nothing is copied into {kind}", r.stderr.decode())

# an entry that is there, and several of which the formats say less: one line about all of them
save_file({"param": T.clone(), "a": T.clone()}, f"{TOP}/over.safetensors")
r = wfctl("cp", f"{TOP}/donor.pt:param", f"{TOP}/donor.pt:grad", f"{TOP}/donor.pt:frozen", f"{TOP}/over.safetensors:")
ok(r.returncode == 0 and r.stderr.decode() == "wfctl: copied without requires_grad, class, which the copy cannot say: param and 2 others\n" and
   sorted(load_file(f"{TOP}/over.safetensors")) == ["a", "frozen", "grad", "param"], "several with less are one line", r.stderr.decode())

# what such a format does not say cannot be set either
for kind, key in {"safetensors": "w", "hf-safetensors": "w1", "dcp": "w"}.items():
    for setting in ("class=torch.nn.parameter.Parameter", "requires_grad=true", "location=cuda:0"):
        r = wfctl("attr", fresh(kind), key, setting)
        ok(r.returncode == 1 and "does not say" in r.stderr.decode(), f"{setting} in {kind} is refused with a reason", r.stderr.decode())

shutil.rmtree(TOP)
tap.done()
