#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hugging Face checkpoints: an index and its shards, read as one tree, edited, and committed as new shards and one rename of the index.

Usage: shards.py BUILD_DIR [DIE_AT]. With the library that kills, commits are killed, and nothing else is tried. Prints TAP; what needs
/dev/fuse is skipped without it. tests/torch/test_shards.py holds it against the libraries that write and read them.
"""
import errno
import glob
import hashlib
import io
import json
import os
import pickle
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

import flatfile
from kit import done, floats, memory, ok, read, run, same, side_by_side, skip, unmount, write
from minicheckpoint import Storage, Tensor, save

BUILD, DIE_AT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]) if sys.argv[2:] else None
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
TOP = tempfile.mkdtemp(prefix="weightfs-shards-", dir=memory() if DIE_AT else None)
DTYPES = {"F32": ("float32", 4), "I64": ("int64", 8), "U8": ("uint8", 1)}


def content(i):
    return {f"step.{i}": ("I64", [2], struct.pack("<2q", i, -i)), f"layer.{i}.weight": ("F32", [2, 3], floats(6, i)),
            f"layer.{i}.bias": ("F32", [3], floats(3, 100 + i))}


def index(directory, base, weight_map, **more):
    sizes = {"metadata": {"total_size": 1, "note": 7}}
    path = os.path.join(directory, base + ".index.json")
    write(path, json.dumps({**sizes, "weight_map": weight_map, **more}, indent=2).encode())
    return path


class Set:
    """Shards of one kind in a new directory, and what the whole should be."""

    def __init__(self, kind, shards=3, name="set"):
        self.dir = tempfile.mkdtemp(dir=TOP, prefix=f"{name}-{kind}-")
        self.kind = kind
        self.base = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
        self.want = {}
        weight_map = {}
        for i in range(shards):
            tensors = content(i)
            stem, end = self.base.rsplit(".", 1)
            file = f"{stem}-{i + 1:05d}-of-{shards:05d}.{end}"
            if kind == "safetensors":
                flatfile.make(os.path.join(self.dir, file), tensors, {"format": "pt"})
            else:
                save(os.path.join(self.dir, file), {k: Tensor(DTYPES[t][0], s, d) for k, (t, s, d) in tensors.items()})
            weight_map.update(dict.fromkeys(tensors, file))
            self.want.update(tensors)
        self.index = index(self.dir, self.base, weight_map)

    def map(self):
        return json.loads(read(self.index))["weight_map"]

    def copy(self):
        other = object.__new__(Set)
        other.__dict__.update(self.__dict__, dir=tempfile.mkdtemp(dir=TOP, prefix="copy-"), want=dict(self.want))
        shutil.copytree(self.dir, other.dir, dirs_exist_ok=True)
        if os.path.isdir(self.dir + ".weightfs"):
            shutil.copytree(self.dir + ".weightfs", other.dir + ".weightfs")
        other.index = os.path.join(other.dir, os.path.basename(self.index))
        return other


class Unpickler(pickle.Unpickler):
    """Of a shard that torch.save writes: name -> (dtype, shape, bytes)."""

    def __init__(self, z):
        self.z = z
        self.folder = z.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(z.read(self.folder + "/data.pkl")))

    def persistent_load(self, pid):
        return pid[1], self.z.read(f"{self.folder}/data/{pid[2]}")

    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, grad, hooks: (storage[0], list(size), storage[1])
        if (module, name) == ("collections", "OrderedDict"):
            return super().find_class(module, name)
        return {"FloatStorage": "F32", "LongStorage": "I64", "ByteStorage": "U8"}[name]


def load(s):
    """The whole as the index and the files say it, by nothing of weightfs; every rule of such a set is checked."""
    x = json.loads(read(s.index))
    files = sorted(set(x["weight_map"].values()))
    got = {}
    for file in files:
        path = os.path.join(s.dir, file)
        if s.kind == "safetensors":
            tensors = flatfile.load(path)[0]
        else:
            with zipfile.ZipFile(path) as z:
                assert not z.testzip(), "a sum is wrong"
                tensors = dict(Unpickler(z).load())
        assert sorted(tensors) == sorted(k for k, v in x["weight_map"].items() if v == file), f"{file} disagrees with the index"
        got.update(tensors)
    assert x["metadata"]["note"] == 7, "metadata was lost"
    return {k: got[k] for k in x["weight_map"]}


def left_over(s):
    """Files that the index does not name."""
    named = set(s.map().values()) | {os.path.basename(s.index)}
    beside = [s.dir + ".weightfs"] if os.path.exists(s.dir + ".weightfs") else []
    return sorted(set(os.listdir(s.dir)) - named) + beside


def whole(s, what):
    try:
        got = load(s)
    except (AssertionError, OSError, KeyError) as e:
        return ok(False, what, repr(e))
    size = json.loads(read(s.index))["metadata"]["total_size"]
    return ok(list(got.items()) == list(s.want.items()) and size == sum(len(d) for _, _, d in got.values()) and not left_over(s), what,
              f"{list(got)}\n{list(s.want)}\n{size} {left_over(s)}")


def wfctl(*words, env=None):
    return subprocess.run([WFCTL, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def keys(path):
    r = wfctl("ls", "--json", path)
    return [json.loads(line)["path"] for line in r.stdout.splitlines()] if r.returncode == 0 else r.stderr.decode()


# ---- reading ----

def check_reading(kind):
    s = Set(kind)
    for path, what in ((s.dir, "the directory"), (s.index, "the index"), (s.dir + "/", "the directory with a slash")):
        same(keys(path), list(s.want), f"{kind}: {what} lists all keys in the order of the index")
    wrong = [k for k, (_, _, data) in s.want.items() if wfctl("cat", "--raw", s.dir, k).stdout != data]
    same(wrong, [], f"{kind}: every tensor reads")
    shards = {k: wfctl("attr", s.dir, k, "user.torch.shard").stdout.decode().strip() for k in s.want}
    same(shards, s.map(), f"{kind}: user.torch.shard names the file")
    lines = [json.loads(line) for line in wfctl("ls", "--json", s.dir).stdout.splitlines()]
    wrong = [e["path"] for e in lines if read(e["file"])[e["file_offset"]:e["file_offset"] + e["bytes"]] != s.want[e["path"]][2]]
    same(wrong, [], f"{kind}: file and file_offset of tensors.json are those of the shard")
    r = wfctl("verify", s.dir)
    ok(r.returncode == 0, f"{kind}: verify", r)
    out = os.path.join(TOP, f"{kind}.safetensors")
    r = wfctl("export", s.dir, out)
    ok(r.returncode == 0 and sorted(flatfile.load(out)[0].items()) == sorted(s.want.items()), f"{kind}: export writes one file of it", r)
    gone = s.map()["step.1"]
    os.unlink(os.path.join(s.dir, gone))
    r = wfctl("cat", s.dir, "step.1")
    ok(r.returncode == 1 and gone in r.stderr.decode(), f"{kind}: a missing shard is named", r)
    ok(wfctl("cat", "--raw", s.dir, "step.2").stdout == s.want["step.2"][2], f"{kind}: and costs its own tensors alone")
    r = wfctl("rm", s.dir, "step.2")
    del s.want["step.2"]
    ok(r.returncode == 0 and "step.2" not in s.map() and s.map()["step.1"] == gone, f"{kind}: other shards can be edited", r)
    before = read(s.index)
    r = wfctl("mv", s.dir, "step.1", "other")
    ok(r.returncode == 1 and gone in r.stderr.decode() and read(s.index) == before and not glob.glob(s.dir + "*.weightfs"),
       f"{kind}: what a missing shard holds is not renamed", r)


def check_variants():
    """transformers and diffusers put the name of a variant before the suffix of the index, and before the number of the shard."""
    for kind in ("safetensors", "bin"):
        s = Set(kind)
        base, suffix = os.path.basename(s.index).split(".")[:2]
        variant = os.path.join(s.dir, f"{base}.{suffix}.index.fp16.json")
        for file in set(s.map().values()):
            os.rename(os.path.join(s.dir, file), os.path.join(s.dir, file.replace("model-", "model.fp16-")))
        index = read(s.index).replace(b"model-", b"model.fp16-")
        os.unlink(s.index)
        write(os.path.join(s.dir, "tf_model.h5.index.fp16.json"), b"{}")
        write(variant, index)
        same(keys(s.dir), list(s.want), f"{kind}: a variant's index is the one of its directory")
        write(os.path.join(s.dir, f"{base}.{suffix}.index.non_ema.v2.json"), index)
        text = keys(s.dir)
        ok("index.fp16.json" in text and "index.non_ema.v2.json" in text and text.count("\n") == 1, f"{kind}: of two variants none is", text)
        r = wfctl("mv", variant, "step.0", "moved")
        ok(r.returncode == 0 and "moved" in json.loads(read(variant))["weight_map"], f"{kind}: each can be edited by its name", r)
        same(keys(os.path.join(s.dir, f"{base}.{suffix}.index.non_ema.v2.json")), list(s.want), f"{kind}: and the shards of the other stay")
        r = wfctl("mkdir", variant, "sub")
        ok((r.returncode == 0) == (kind == "bin"), f"{kind}: by its name it is flat, or is not", r)


def check_names():
    """Which index a directory is."""
    s = Set("safetensors")
    variant = os.path.join(s.dir, "model.fp16.safetensors.index.json")
    shutil.copy(s.index, variant)
    same(keys(s.dir), list(s.want), "the plain index goes before a variant")
    os.unlink(s.index)
    same(keys(s.dir), list(s.want), "a variant alone is the one")
    shutil.copy(variant, os.path.join(s.dir, "other.safetensors.index.json"))
    text = keys(s.dir)
    ok("model.fp16.safetensors.index.json" in text and "other.safetensors.index.json" in text and text.count("\n") == 1,
       "several are named in one line", text)
    same(keys(variant), list(s.want), "and each can be named")
    r = wfctl("mv", variant, "step.0", "moved")
    ok(r.returncode == 0 and "moved" in json.loads(read(variant))["weight_map"], "and edited", r)
    same(keys(os.path.join(s.dir, "other.safetensors.index.json")), list(s.want), "shards that another index names stay")
    check_variants()
    os.rename(variant, os.path.join(s.dir, "tf_model.h5.index.json"))
    os.rename(os.path.join(s.dir, "other.safetensors.index.json"), os.path.join(s.dir, "diffusion_pytorch_model.safetensors.index.json"))
    ok("step.1" in keys(s.dir), "diffusers' name, beside TensorFlow's")
    for name in ("model.safetensors", "adapter_model.safetensors", "any.safetensors"):
        d = tempfile.mkdtemp(dir=TOP)
        flatfile.make(os.path.join(d, name), content(0))
        write(os.path.join(d, "config.json"), b"{}")
        same(keys(d), list(content(0)), f"a directory with {name} is that file")
    for name, whole_one in (("model-00001-of-00001.safetensors", True), ("model-00002-of-00003.safetensors", False), ("model-00002-of-00003.w1.safetensors", False)):
        d = tempfile.mkdtemp(dir=TOP)
        flatfile.make(os.path.join(d, name), content(0))
        text = keys(d)
        ok(text == list(content(0)) if whole_one else "not a checkpoint" in text and name in text, f"a directory with {name} is {'that file' if whole_one else 'no checkpoint'}", text)
    d = tempfile.mkdtemp(dir=TOP)
    flatfile.make(os.path.join(d, "one.safetensors"), content(0))
    flatfile.make(os.path.join(d, "two.safetensors"), content(0))
    ok("directory" in keys(d), "two files are no checkpoint", keys(d))
    hub = tempfile.mkdtemp(dir=TOP)
    s = Set("safetensors")
    os.mkdir(os.path.join(hub, "blobs"))
    os.mkdir(os.path.join(hub, "snapshot"))
    for i, name in enumerate(sorted(os.listdir(s.dir))):
        shutil.copy(os.path.join(s.dir, name), os.path.join(hub, "blobs", f"blob{i}"))
        os.symlink(f"../blobs/blob{i}", os.path.join(hub, "snapshot", name))
    blobs = {name: read(os.path.join(hub, "blobs", name)) for name in os.listdir(os.path.join(hub, "blobs"))}
    s.dir, s.index = os.path.join(hub, "snapshot"), os.path.join(hub, "snapshot", "model.safetensors.index.json")
    same([keys(s.dir), keys(s.index)], [list(s.want)] * 2, "links of the hub's cache are followed")
    r = wfctl("mv", s.dir, "step.1", "moved")
    s.want = {("moved" if k == "step.1" else k): v for k, v in s.want.items()}
    ok(r.returncode == 0, "and edited", r)
    whole(s, "the links are replaced")
    same({name: read(os.path.join(hub, "blobs", name)) for name in os.listdir(os.path.join(hub, "blobs"))}, blobs, "and the cache's files stay")


def check_digests():
    """What is named by the digest of its content is in a store that others share: it is read, never changed, whatever leads to it."""
    digest = hashlib.sha256(b"").hexdigest()
    for store, changed in ((f"blobs/{digest}", False), (f"blobs/{digest[:40]}", False), (f"md5/{digest[:2]}/{digest[2:32]}", False), (f"sha256-{digest}", False),
                           (f"SHA256E-s8--{digest}.safetensors", False), (f"model-{digest}.safetensors", True), ("0123456789abcdef", True), (digest[:32], True)):
        d = tempfile.mkdtemp(dir=TOP, prefix="digest-")
        file, link, out = os.path.join(d, store), os.path.join(d, "snapshot", "model.safetensors"), os.path.join(d, "out.safetensors")
        os.makedirs(os.path.dirname(file), exist_ok=True)
        os.mkdir(os.path.dirname(link))
        flatfile.make(file, content(0))
        os.symlink(os.path.relpath(file, os.path.dirname(link)), link)
        before = read(file)
        for path in (link, os.path.dirname(link)):
            r = run(WFCTL, "mv", path, "step.0", "moved")
            ok((r.returncode, "digest" in r.stderr) == ((0, False) if changed else (1, True)), f"{store}: {'is' if changed else 'is not'} changed", r)
            if changed:
                wfctl("mv", path, "moved", "step.0")
        ok(os.path.islink(link) and (changed or read(file) == before), f"{store}: the link stays")
        if changed:
            continue
        r = run(WFCTL, "repack", link)
        ok(r.returncode == 1 and "digest" in r.stderr and read(file) == before, f"{store}: is not repacked", r)
        if FUSE:
            mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
            for words, code in ((["-o", "rw"], 1), (["-o", f"output={link}"], 1), ([], 0)):
                r = run(WEIGHTFS, *words, link, mnt)
                ok(r.returncode == code and "digest" in r.stderr and not os.access(mnt + "/step.0", os.W_OK), f"{store}: mounted with {words}", r)
            unmount(mnt)
            r = run(WEIGHTFS, "-o", f"output={out}", link, mnt)
            os.rename(f"{mnt}/step.0", f"{mnt}/moved")
            same((r.returncode, wfctl("umount", mnt).returncode, "moved" in keys(out), read(file)), (0, 0, True, before), f"{store}: and is edited elsewhere")
        other = os.path.join(d, "other.safetensors")
        flatfile.make(other, content(1))
        r = wfctl("export", other, link)
        same((r.returncode, os.path.islink(link), read(file)), (0, False, before), f"{store}: an export replaces the link")


def check_refusals():
    first = "model-00001-of-00003.safetensors"

    def put(s, x):
        write(s.index, x if isinstance(x, bytes) else json.dumps(x).encode())

    def moved(s):
        return {**s.map(), "step.0": "model-00002-of-00003.safetensors"}
    table = [
        ("a file name with a slash", lambda s: put(s, {"weight_map": {"a": "sub/" + first}}), "sub/"),
        ("one that leads out", lambda s: put(s, {"weight_map": {"a": ".."}}), ".."),
        ("an absolute one", lambda s: put(s, {"weight_map": {"a": "/etc/passwd"}}), "/etc/passwd"),
        ("an empty one", lambda s: put(s, {"weight_map": {"a": ""}}), "file"),
        ("a key that is in another file", lambda s: put(s, {"weight_map": moved(s)}), "step.0"),
        ("a key that no file has", lambda s: put(s, {"weight_map": {**s.map(), "more": first}}), "more"),
        ("a tensor that has no key", lambda s: put(s, {"weight_map": {k: v for k, v in s.map().items() if k != "step.2"}}), "step.2"),
        ("a key twice", lambda s: put(s, b'{"weight_map": {"a": "x", "a": "y"}}'), "twice"),
        ("no weight_map", lambda s: put(s, {"metadata": {}}), "weight_map"),
        ("a weight_map that is a list", lambda s: put(s, {"weight_map": []}), "weight_map"),
        ("an index that is a list", lambda s: put(s, []), ".index.json: it has to be an object"),
        ("a file that is a number", lambda s: put(s, {"weight_map": {"a": 1}}), "string"),
        ("no JSON", lambda s: put(s, b'{"weight_map": {'), ".index.json, offset "),
        ("an index over 64 MiB", lambda s: os.truncate(s.index, (64 << 20) + 1), "index"),
    ]
    for what, spoil, word in table:
        s = Set("safetensors")
        spoil(s)
        text = keys(s.dir)
        ok(isinstance(text, str) and word in text and text.count("\n") == 1 and len(text) < 700, f"refused with one line: {what}", text)
    s = Set("safetensors")
    put(s, {"weight_map": s.map()})
    same(keys(s.dir), list(s.want), "metadata may be missing")
    put(s, {"weight_map": {}})
    same(keys(s.dir), [], "an empty set is one")


# ---- edits ----

def check_parameters(kind):
    """total_parameters, which transformers counts, stays where it may be true still."""
    for edits, stays in ((["mv layer.0.bias x"], True), (["rm layer.0.bias"], False), (["ln layer.0.bias x"], kind == "bin"), (["attr layer.0.weight shape=[6]"], True),
                         (["attr step.0 dtype=float32"], False), (["rm layer.0.bias", "ln layer.1.bias x"], False), (["repack"], True)):
        s = Set(kind)
        x = json.loads(read(s.index))
        x["metadata"]["total_parameters"] = 33
        write(s.index, json.dumps(x).encode())
        runs = [wfctl(edit.split()[0], s.dir, *edit.split()[1:]) for edit in edits]
        got = json.loads(read(s.index))["metadata"]
        same(([r.returncode for r in runs], got.get("total_parameters"), got["note"]), ([0] * len(edits), 33 if stays else None, 7), f"{kind}: total_parameters: {', '.join(edits)}")


def check_edits(kind):
    s = Set(kind)
    untouched = {f: os.stat(os.path.join(s.dir, f)).st_ino for f in s.map().values()}

    def step(what, *words, shards):
        r = wfctl(*words[:1], s.dir, *words[1:])
        ok(r.returncode == 0, f"{kind}: {what}", r)
        whole(s, f"{kind}: {what}: index and shards say so")
        now = {f: os.stat(os.path.join(s.dir, f)).st_ino for f in s.map().values()}
        same(len(set(now.items()) - set(untouched.items())), shards, f"{kind}: {what}: so many shards are new")
        untouched.clear()
        untouched.update(now)
    s.want = {("x" if k == "step.1" else k): v for k, v in s.want.items()}
    step("rename", "mv", "step.1", "x", shards=1)
    del s.want["layer.0.bias"]
    step("remove", "rm", "layer.0.bias", shards=1)
    data = os.path.join(TOP, "data")
    write(data, bytes(range(40)))
    s.want["new"] = ("U8", [40], bytes(range(40)))
    step("add", "set", "new", "--file", data, shards=1)
    same(s.map()["new"], s.map()["layer.2.bias"], f"{kind}: a new key is in the shard of the one before it")
    write(data, floats(6, 50))
    s.want["layer.2.weight"] = ("F32", [2, 3], floats(6, 50))
    step("bytes", "set", "layer.2.weight", "--file", data, shards=1)
    s.want["x"] = ("I64", [2, 1], s.want["x"][2])
    step("shape", "attr", "x", "user.torch.shape=[2,1]", shards=1)
    s.want = {k: v for k, v in s.want.items() if ".1." not in k and k != "x"}
    step("a shard that is empty", "rm", "layer.1.weight", "layer.1.bias", "x", shards=0)
    s.want = {("m." + k if k.startswith("layer") else k): v for k, v in s.want.items()}
    step("all shards", "rename", "s/^layer/m.layer/", shards=2)
    names = list(s.want)
    s.want = {}
    step("nothing left", "rm", *names, shards=0)
    s.want = {"new": ("U8", [24], floats(6, 50))}
    step("something again", "set", "new", "--file", data, shards=1)


def check_mount(kind):
    if not FUSE:
        skip(f"{kind}: a mount", "no /dev/fuse")
        return
    s = Set(kind)
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    r = run(WEIGHTFS, s.dir, s.dir)
    ok(r.returncode == 1 and "hides" in r.stderr, f"{kind}: not over its own files", r)
    r = run(WEIGHTFS, "-o", "ro", s.dir, s.dir)
    same((r.returncode, read(f"{s.dir}/step.1")), (0, s.want["step.1"][2]), f"{kind}: but to look at them")
    unmount(s.dir)
    r = run(WEIGHTFS, s.dir, mnt)
    ok(r.returncode == 0, f"{kind}: mounts", r)
    try:
        same(sorted(os.listdir(mnt)), sorted(s.want), f"{kind}: the mount has all keys")
        for i in range(3):
            os.rename(f"{mnt}/step.{i}", f"{mnt}/count.{i}")
            s.want = {(f"count.{i}" if k == f"step.{i}" else k): v for k, v in s.want.items()}
            with open(f"{mnt}/layer.{i}.weight", "r+b") as f:
                f.write(floats(1, 77))
            s.want[f"layer.{i}.weight"] = ("F32", [2, 3], floats(1, 77) + s.want[f"layer.{i}.weight"][2][4:])
            before = s.map()
            r = wfctl("commit", mnt)
            ok(r.returncode == 0, f"{kind}: commit {i}", r)
            changed = {before[k] for k in before if k in s.map() and s.map()[k] != before[k]}
            same(len(changed), 1, f"{kind}: commit {i} writes the one shard that changed")
            got = {k: read(f"{mnt}/{k}") for k in os.listdir(mnt)}
            same(got, {k: v[2] for k, v in s.want.items()}, f"{kind}: the mount goes on after commit {i}")
            same(os.getxattr(f"{mnt}/count.{i}", "user.torch.shard").decode(), s.map()[f"count.{i}"], f"{kind}: with the new shard's name")
        if kind == "safetensors":
            try:
                os.mkdir(f"{mnt}/folder")
                ok(False, f"{kind}: a directory is refused")
            except PermissionError:
                ok(True, f"{kind}: a directory is refused")
        with open(f"{mnt}/fresh", "wb") as f:
            f.write(b"12345678")
        os.setxattr(f"{mnt}/fresh", "user.torch.dtype", b"int64")
        s.want["fresh"] = ("I64", [1], b"12345678")
        r = wfctl("umount", mnt)
        ok(r.returncode == 0, f"{kind}: unmounts with a commit", r)
        whole(s, f"{kind}: and all is there")
        # changed by someone else meanwhile
        run(WEIGHTFS, s.dir, mnt)
        os.rename(f"{mnt}/fresh", f"{mnt}/old")
        changed = json.loads(read(s.index))
        changed["more"] = 1
        write(s.index + ".tmp", json.dumps(changed).encode())
        os.rename(s.index + ".tmp", s.index)
        r = wfctl("commit", mnt)
        ok(r.returncode == 1 and "changed by someone else" in r.stderr.decode() and set(left_over(s)) == {s.dir + ".weightfs"},
           f"{kind}: an index that somebody else changed is not replaced", (r, left_over(s)))
        unmount(mnt)
        r = wfctl("commit", "--onto", s.dir, s.dir)
        s.want = {("old" if k == "fresh" else k): v for k, v in s.want.items()}
        ok(r.returncode == 0, f"{kind}: --onto applies the edits to the new state", r)
        whole(s, f"{kind}: and they are in it")
        ok(json.loads(read(s.index)).get("more") == 1, f"{kind}: other members of the index stay")
    finally:
        run("umount", "-l", mnt)


def check_touched(kind):
    """Shards get other times: more of them than stay open, so that some are compared at a read and some when they are opened again."""
    if not FUSE:
        skip(f"{kind}: shards that are touched", "no /dev/fuse")
        return
    s = Set(kind, 140, "touched")
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    files = [os.path.join(s.dir, f) for f in sorted(set(s.map().values()))]

    def answers(key):
        """By shard: whether its tensor reads right, or the number of the error."""
        got = []
        for i in range(140):
            try:
                got.append(read(f"{mnt}/{key.format(i)}") == s.want[key.format(i)][2])
            except OSError as e:
                got.append(e.errno)
        return got
    r = run(WEIGHTFS, s.dir, mnt)
    ok(r.returncode == 0, f"{kind}: 140 shards mount", r)
    try:
        for seconds, key in ((1, "step.{}"), (2, "layer.{}.weight")):
            for f in files:
                os.utime(f, (seconds, seconds))
            same(answers(key), [True] * 140, f"{kind}: {key}: touched shards read, time {seconds}")
        os.rename(f"{mnt}/step.7", f"{mnt}/seven")
        r = wfctl("commit", mnt)
        s.want = {("seven" if k == "step.7" else k): v for k, v in s.want.items()}
        ok(r.returncode == 0, f"{kind}: and are committed", r)
        for i in (3, 139):
            with open(files[i], "r+b") as f:
                f.seek(-1, os.SEEK_END)
                last = f.read(1)
                f.seek(-1, os.SEEK_END)
                f.write(bytes([last[0] ^ 1]))
        copy = files[5] + ".copy"
        shutil.copy(files[5], copy)
        os.rename(copy, files[5])
        got = answers("layer.{}.bias")
        same([i for i, x in enumerate(got) if x is not True and i != 5], [3, 139], f"{kind}: other bytes at an edge are another file")
        same((got[3], got[139]), (errno.ESTALE, errno.ESTALE), f"{kind}: which is ESTALE")
        ok(got[5] in (True, errno.ESTALE), f"{kind}: of a file in another's place old bytes are read, or none")
    finally:
        unmount(mnt)
        run("umount", "-l", mnt)


def check_missing(kind):
    """Edits of the others while a shard is not there: its keys and its bytes stay in the index, and with it back all is whole."""
    s = Set(kind, 3, "missing")
    known = {k: len(v[2]) for k, v in s.want.items()}
    x = json.loads(read(s.index))
    x["metadata"]["total_size"] = sum(known.values())
    write(s.index, json.dumps(x).encode())
    gone = s.map()["step.1"]
    away = os.path.join(TOP, "away")

    def index_is(what):
        x = json.loads(read(s.index))
        size = sum(len(v[2]) for v in s.want.values())
        same((list(x["weight_map"]), x["metadata"]["total_size"], x["weight_map"].get("layer.1.bias", gone)), (list(s.want), size, gone),
             f"{kind}: a shard is missing: {what}: its keys and bytes stay in the index")
    os.rename(os.path.join(s.dir, gone), away)
    r = wfctl("rm", s.dir, "layer.0.bias")
    del s.want["layer.0.bias"]
    ok(r.returncode == 0, f"{kind}: a shard is missing: a key of another is removed", r)
    index_is("remove")
    data = os.path.join(TOP, "data")
    write(data, bytes(range(40)))
    r = wfctl("set", s.dir, "new", "--file", data)
    s.want["new"] = ("U8", [40], bytes(range(40)))
    ok(r.returncode == 0, f"{kind}: a shard is missing: a key is added", r)
    index_is("add")
    if FUSE:
        mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
        r = run(WEIGHTFS, s.dir, mnt)
        ok(r.returncode == 0, f"{kind}: a shard is missing: it mounts", r)
        try:
            for old, new in (("step.0", "a"), ("a", "b")):
                os.rename(f"{mnt}/{old}", f"{mnt}/{new}")
                s.want = {(new if k == old else k): v for k, v in s.want.items()}
                r = wfctl("commit", mnt)
                ok(r.returncode == 0, f"{kind}: a shard is missing: {new} is committed in a mount", r)
                index_is(new)
                errors = {}
                for k in s.want:
                    try:
                        errors[k] = read(f"{mnt}/{k}") == s.want[k][2]
                    except OSError as e:
                        errors[k] = e.errno
                same(errors, {k: errno.EIO if ".1" in k else True for k in s.want}, f"{kind}: a shard is missing: reads after {new}")
        finally:
            unmount(mnt)
            run("umount", "-l", mnt)
    before = read(s.index)
    write(data, b"abcd")
    for what, words in (("rename", ["mv", "step.1", "other"]), ("other bytes", ["set", "step.1", "--file", data]), ("a shape", ["attr", "step.1", "user.torch.shape=[2,1]"]),
                        ("a rename of all", ["rename", "s/[.]1/.9/"])):
        r = wfctl(words[0], s.dir, *words[1:])
        last = r.stderr.decode().splitlines()[-1]
        ok(r.returncode == 1 and (gone in last or "Input/output error" in last and gone in r.stderr.decode()) and read(s.index) == before and
           not glob.glob(s.dir + "*.weightfs"), f"{kind}: a shard is missing: {what} is refused", (last, read(s.index) == before, glob.glob(s.dir + "*.weightfs")))
    other = s.copy()
    os.rename(away, os.path.join(s.dir, gone))
    whole(s, f"{kind}: with the shard back all is there")
    s = other
    r = wfctl("rm", s.dir, "step.1", "layer.1.weight", "layer.1.bias")
    s.want = {k: v for k, v in s.want.items() if ".1" not in k}
    ok(r.returncode == 0, f"{kind}: all that a missing shard holds is removed", r)
    whole(s, f"{kind}: and the set is whole again")
    # one that is there and cannot be read is not removed with its keys
    spoilt = s.map()["layer.2.bias"]
    keys_of = [k for k, v in s.map().items() if v == spoilt]
    os.truncate(os.path.join(s.dir, spoilt), 20)
    r = wfctl("rm", s.dir, *keys_of)
    ok(r.returncode == 0 and left_over(s) == [spoilt] and not set(keys_of) & set(s.map()),
       f"{kind}: a broken shard stays where it is when its keys are removed", (r, left_over(s)))


def check_many_moves():
    """Each of 20,000 keys goes to the other of two shards: a set costs the same whichever is the first and whichever the last."""
    top = tempfile.mkdtemp(dir=TOP, prefix="many-")
    files = [f"model-{i + 1:05d}-of-00002.safetensors" for i in range(2)]
    weight_map = {f"k{i}.{k}": files[i] for i in range(2) for k in range(10000)}
    for i, file in enumerate(files):
        flatfile.make(f"{top}/{file}", {k: ("F32", [1], floats(1, i)) for k, f in weight_map.items() if f == file}, {"format": "pt"})
    write(f"{top}/model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": weight_map}).encode())
    lines = "".join(f"attr {top} {k} shard={files[f == files[0]]}\n" for k, f in weight_map.items())
    began = time.monotonic()
    r = subprocess.run([WFCTL, "-f", "-"], input=lines.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    took = time.monotonic() - began
    now = json.loads(read(f"{top}/model.safetensors.index.json"))["weight_map"]
    crossed = {k: files[f == files[0]].replace(".safetensors", ".w1.safetensors") for k, f in weight_map.items()}
    ok(r.returncode == 0 and now == crossed and took < 8, "20,000 keys change their shards", (r.stderr[-300:], took))  # 0.7 s; 17 s where each looked at all
    shutil.rmtree(top)


def check_moves(kind):
    """user.torch.shard says which file a tensor is to stand in."""
    s = Set(kind)
    end = s.base.rsplit(".")[1]
    first, second, third = (s.map()[f"step.{i}"] for i in range(3))

    def move(key, name, what, file):
        r = wfctl("attr", s.dir, key, f"shard={name}")
        same((r.returncode, r.stderr, s.map()[key]), (0, b"", file), f"{kind}: {what}: the index")
        whole(s, f"{kind}: {what}: the set")

    move("step.0", second, "moved to another shard", second.replace(f".{end}", f".w1.{end}"))
    move("layer.0.bias", second, "a shard is called as before the commits that wrote it", second.replace(f".{end}", f".w2.{end}"))
    move("step.2", f"fresh.{end}", "moved to a new shard", f"fresh.{end}")
    if kind == "safetensors":
        same(flatfile.load(f"{s.dir}/fresh.{end}")[1], {"format": "pt"}, f"{kind}: a new shard has the metadata of the others")
    move("layer.0.weight", f"fresh.{end}", "the last of a shard is moved, which goes", f"fresh.w1.{end}")
    move("step.1", s.map()["step.1"], "where it stands already nothing happens", s.map()["step.1"])
    write(f"{s.dir}/there.{end}", b"")
    before = read(s.index)
    for name, says in ((f"../x.{end}", "without slashes"), (f"a/b.{end}", "without slashes"), (f".x.{end}", "without a dot"), ("x.pt2", f"ends in .{end}"), ("", f"ends in .{end}"),
                       (f".{end}", f"ends in .{end}"), (f"a\x1b.{end}", f"ends in .{end}"), (f"there.{end}", "is no shard of this checkpoint"), (os.path.basename(s.index), f"ends in .{end}")):
        r = wfctl("attr", s.dir, "step.1", f"shard={name}")
        ok(r.returncode == 1 and says in r.stderr.decode() and r.stderr.count(b"\n") == 1 and read(s.index) == before, f"{kind}: no shard is called {name!r}", r)
    os.unlink(f"{s.dir}/there.{end}")
    gone = s.map()["layer.2.weight"]
    os.rename(f"{s.dir}/{gone}", f"{TOP}/gone")
    for words, what in ((("step.1", f"shard={gone}"), "into"), (("layer.2.weight", f"shard=other.{end}"), "out of")):
        r = wfctl("attr", s.dir, *words)
        ok(r.returncode == 1 and f"the file {gone} is missing" in r.stderr.decode().splitlines()[-1] and read(s.index) == before, f"{kind}: nothing is moved {what} a shard that is missing", r)
    os.rename(f"{TOP}/gone", f"{s.dir}/{gone}")
    if not FUSE:
        skip(f"{kind}: moved on a mount", "no /dev/fuse")
        return
    mnt, other = tempfile.mkdtemp(dir=TOP, prefix="mnt-"), tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    foreign = Set(kind, 2)
    for k in list(foreign.want):  # shards of other names
        wfctl("attr", foreign.dir, k, f"shard=foreign-{k[-1]}.{end}")
    run(WEIGHTFS, s.dir, mnt)
    run(WEIGHTFS, foreign.dir, other)
    try:
        for name in (f"late.{end}", s.map()["layer.2.weight"], f"late.{end}"):
            os.setxattr(f"{mnt}/step.1", "user.torch.shard", name.encode())
            same(os.getxattr(f"{mnt}/step.1", "user.torch.shard").decode(), name, f"{kind}: what was set is told until the commit")
        try:
            os.setxattr(f"{mnt}/step.1", "user.torch.shard", b"a/b")
            ok(False, f"{kind}: a bad name on a mount")
        except OSError as e:
            same(e.errno, errno.EINVAL, f"{kind}: a bad name on a mount")
        shards = set(s.map().values())
        run("cp", "-a", f"{other}/layer.1.bias", f"{mnt}/copied")
        run("cp", "-a", f"{other}/step.1", f"{mnt}/step.0")
        r = wfctl("commit", mnt)
        now = {k: os.getxattr(f"{mnt}/{k}", "user.torch.shard").decode() for k in os.listdir(mnt)}
        same((r.returncode, now, now["step.1"]), (0, s.map(), f"late.{end}"), f"{kind}: a commit on a mount moves it")
        ok(not any("foreign" in f for f in now.values()) and shards, f"{kind}: what cp -a sets of another checkpoint's shards is ignored", now)
    finally:
        for m in (mnt, other):
            unmount(m)
            run("umount", "-l", m)
    s.want["copied"], s.want["step.0"] = foreign.want["layer.1.bias"], foreign.want["step.1"]
    whole(s, f"{kind}: and the set is whole")


def check_repack(kind):
    s = Set(kind, 2)
    if kind == "safetensors":  # sizes that let all begin at such multiples
        for i, file in enumerate(sorted(set(s.map().values()))):
            part = {f"page.{i}.{k}": ("F32", [1024], floats(1024, k)) for k in range(3)}
            flatfile.make(os.path.join(s.dir, file), part, {"format": "pt"})
            s.want = {**(s.want if i else {}), **part}
        index(s.dir, s.base, {k: sorted(os.listdir(s.dir))[int(k.split(".")[1])] for k in s.want})
    before = s.map()
    r = wfctl("repack", "--align=4096", s.dir)
    places = [json.loads(line)["file_offset"] % 4096 for line in wfctl("ls", "--json", s.dir).stdout.splitlines()]
    same((r.returncode, r.stderr, set(places), set(s.map().values()) & set(before.values())), (0, b"", {0}, set()), f"{kind}: repack --align of each shard")
    whole(s, f"{kind}: and the set is whole")
    r = wfctl("repack", s.dir)
    ok(r.returncode == 0, f"{kind}: repack", r)
    whole(s, f"{kind}: and the set is whole again")
    before = read(s.index)
    r = wfctl("repack", "--trim", s.dir)
    ok(r.returncode == 1 and b"--trim is for one file" in r.stderr and r.stderr.count(b"\n") == 1 and read(s.index) == before, f"{kind}: repack --trim is refused", r)
    gone = s.map()[next(iter(s.want))]
    os.rename(os.path.join(s.dir, gone), os.path.join(TOP, "gone"))
    r = wfctl("repack", s.dir)
    ok(r.returncode == 1 and gone.encode() in r.stderr and read(s.index) == before, f"{kind}: nor is a set repacked of which a shard is missing", r)
    if kind == "safetensors":
        odd = Set(kind, 2)
        before = odd.map()
        r = wfctl("repack", "--align=4096", odd.dir)
        ok(r.returncode == 1 and b"model-00001-of-00002.safetensors: " in r.stderr and odd.map() == before and not left_over(odd), f"{kind}: tensors that cannot be aligned: the shard is named, and nothing changes", (r, left_over(odd)))


def check_moved_views():
    """Tensors that share bytes stand in one file."""
    s = Set("bin")
    data = floats(6)
    base = Storage("float32", data)
    tie = Tensor("float32", (2,), floats(2, 9))
    file = s.map()["step.0"]
    save(os.path.join(s.dir, file), {"all": Tensor("float32", (2, 3), b"", storage=base), "row": Tensor("float32", (3,), b"", storage=base, offset=3), "tie": tie, "tied": tie,
                                     "own": Tensor("float32", (1,), floats(1, 5))})
    index(s.dir, s.base, {**dict.fromkeys(("all", "row", "tie", "tied", "own"), file), **{k: v for k, v in s.map().items() if v != file}})
    r = wfctl("attr", s.dir, "row", "shard=views.bin")
    m = s.map()
    same((r.returncode, m["all"], m["row"], m["tie"] == m["own"]), (0, "views.bin", "views.bin", True), "a view takes the tensors along that share its bytes")
    r = wfctl("attr", s.dir, "tied", "shard=views.bin")
    m = s.map()
    same((r.returncode, m["tie"], m["tied"], m["all"], m["own"] == m["tie"]), (0, "views.w1.bin", "views.w1.bin", "views.w1.bin", False), "and a tie its other name")
    same([wfctl("cat", "--raw", s.dir, k).stdout for k in ("all", "row", "tied")], [data, data[12:], floats(2, 9)], "with the bytes that they had")
    same(wfctl("verify", s.dir).returncode, 0, "and the set is sound")


def check_read_only():
    """The overlay stands beside the directory: where nothing can be made there, the mount is read-only and says why, whatever was named."""
    if not FUSE:
        skip("a directory beside which nothing can be made", "no /dev/fuse")
        return
    s = Set("safetensors")
    parent = tempfile.mkdtemp(dir=TOP, prefix="parent-")
    one = tempfile.mkdtemp(dir=TOP, prefix="one-")
    flatfile.make(os.path.join(one, "model.safetensors"), content(0))
    root = os.geteuid() == 0
    if root and run("mount", "-t", "tmpfs", "none", parent).returncode:
        skip("a directory beside which nothing can be made", "nothing can be mounted")
        return
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    at = {name: os.path.join(parent, name) for name in ("set", "one")}
    try:
        for name, path in (("set", s.dir), ("one", one)):
            if root:
                os.mkdir(at[name])
                run("mount", "--bind", path, at[name])
            else:
                os.rename(path, at[name])
        index_path = os.path.join(at["set"], os.path.basename(s.index))
        variant = os.path.join(at["set"], "model.v2.safetensors.index.json")
        shutil.copy(index_path, variant)
        if root:
            run("mount", "-o", "remount,ro", parent)
        else:
            os.chmod(parent, 0o555)
        for what, path in (("the directory", at["set"]), ("its index", index_path)):
            r = run(WEIGHTFS, path, mnt)
            ok(r.returncode == 0 and r.stderr.count("\n") == 1 and f"read-only: {parent} cannot be written" in r.stderr and
               not os.access(mnt, os.W_OK), f"nothing can be made beside it, {what} is named: mounted read-only, and why", r)
            unmount(mnt)
            r = run(WEIGHTFS, "-o", "rw", path, mnt)
            ok(r.returncode == 1 and f"{parent} cannot be written" in r.stderr, f"and -o rw is refused: {what}", r)
        for what, path, key in (("another index, whose edits stand beside itself", variant, "step.2"),
                                ("the directory of one file, likewise", at["one"], "step.0")):
            r = run(WEIGHTFS, path, mnt)
            ok(r.returncode == 0 and not r.stderr, f"{what}: mounts", r)
            os.rename(f"{mnt}/{key}", f"{mnt}/moved")
            r = wfctl("umount", mnt)
            same((r.returncode, "moved" in keys(path)), (0, True), f"{what}: is edited")
    finally:
        run("umount", "-l", mnt)
        for path in (*at.values(), parent) if root else ():
            run("umount", "-l", path)
        os.chmod(parent, 0o755)


# ---- killed ----

EDITS = {
    "rename": ["rename", "s/^layer/m/"],
    "script": ["-f", "script"],
}
SCRIPT = ("mv SET step.0 zero\nrm SET layer.1.weight layer.1.bias step.1\nset SET layer.2.bias --file DATA\n"
          "attr SET layer.0.bias shard=LAST\nattr SET step.2 shard=fresh.END\n")


def wfctl_on(s, words, plan=None):
    script, data, at, env = s.dir + ".script", s.dir + ".data", s.dir + ".plan", dict(os.environ)
    write(data, floats(3, 9))
    write(script, SCRIPT.replace("SET", s.dir).replace("DATA", data).replace("LAST", s.map()["layer.2.bias"])
          .replace("END", s.base.rsplit(".")[1]).encode())
    words = ["-f", script] if words[0] == "-f" else [words[0], s.dir, *words[1:]]
    if plan:
        write(at, plan.encode())
        env.update(LD_PRELOAD=DIE_AT, DIE_AT=at)
    return wfctl(*words, env=env)


def uninterrupted(base, words):
    """On a copy: the copy, the run, and how many calls that change a file it made."""
    s = base.copy()
    r = wfctl_on(s, words, "count")
    with open(s.dir + ".plan.count") as f:
        return s, r, int(f.read())


def at_each_call(base, words, calls, failure, either, check):
    """What is wrong, of all calls that fail: what is there then has to be one of `either`, and check(number, copy, run, what is there) returns
    more of it."""
    def at(i):
        s = base.copy()
        r = wfctl_on(s, words, f"{i} {failure}")
        try:
            state = load(s)
            wrong = [] if state in either else [f"call {i}: neither old nor new: {list(state)}"]
            return wrong + check(i, s, r, state)
        except (AssertionError, OSError, KeyError) as e:
            return [f"call {i}: torn: {e!r}"]
        finally:
            shutil.rmtree(s.dir)
            shutil.rmtree(s.dir + ".weightfs", ignore_errors=True)
    return [line for i, lines, error in side_by_side(at, range(1, calls + 1)) for line in ([f"call {i}: {error}"] if error else lines)]


def check_killed(kind, words, failure):
    """At every call that changes a file: the old set or the new one, never something between, and the next edit cleans up."""
    base = Set(kind)
    old = load(base)
    s, r, calls = uninterrupted(base, words)
    new, what = load(s), f"{kind}: {words[0]}: {failure}"
    ok(r.returncode == 0 and new != old and calls > 10, f"{what}: {calls} calls that change files", r)

    def check(i, s, r, state):
        wrong = []
        if failure != "kill" and (r.returncode == 0) != (state == new):
            wrong.append(f"call {i}: exit {r.returncode} with {'new' if state == new else 'old'}: {r.stderr.decode()}")
        if failure != "kill" and set(left_over(s)) - {s.dir + ".weightfs"} and "any more" not in r.stderr.decode():
            wrong.append(f"call {i}: left over: {left_over(s)}")
        again = wfctl("mv", s.dir, "layer.0.weight" if "layer.0.weight" in state else "m.0.weight", "first")
        if again.returncode or [v for k, v in load(s).items()] != list(state.values()) or left_over(s):
            wrong.append(f"call {i}: then {again.stderr.decode()} {left_over(s)}")
        return wrong
    wrong = at_each_call(base, words, calls, failure, (old, new), check)
    ok(not wrong, f"{what} at each of them: old or new, and nothing stays behind the next edit", "\n".join(wrong))


def check_killed_pending(kind):
    """The same with edits that a killed mount has left."""
    if not FUSE:
        skip(f"{kind}: killed with edits that wait", "no /dev/fuse")
        return
    base = Set(kind)
    old = load(base)
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    run(WEIGHTFS, base.dir, mnt)
    os.rename(f"{mnt}/step.0", f"{mnt}/zero")
    os.unlink(f"{mnt}/layer.1.weight")
    os.setxattr(f"{mnt}/step.2", "user.torch.shard", f"fresh.{base.base.rsplit('.')[1]}".encode())
    with open(f"{mnt}/layer.2.bias", "r+b") as f:
        f.write(floats(1, 5))
    run("sync", mnt)
    pid = json.loads(read(f"{mnt}/.weightfs/status"))["pid"]
    fd = os.pidfd_open(pid)
    os.kill(pid, 9)
    select.select([fd], [], [], 30)
    run("umount", "-l", mnt)
    s, r, calls = uninterrupted(base, ["commit"])
    new = load(s)
    ok(r.returncode == 0 and new != old and not left_over(s), f"{kind}: what waits is committed, {calls} calls", r)

    def check(i, s, _, state):
        r, wrong = wfctl("commit", s.dir), []
        if state == old and r.returncode or load(s) != new:
            wrong.append(f"call {i}: then {r.stderr.decode()} {list(load(s))}")
        r = wfctl("mv", s.dir, "zero", "again")
        if r.returncode or left_over(s):
            wrong.append(f"call {i}: at last {r.stderr.decode()} {left_over(s)}")
        return wrong
    wrong = at_each_call(base, ["commit"], calls, "kill", (old, new), check)
    ok(not wrong, f"{kind}: killed at each of them: no edit is lost, and nothing stays", "\n".join(wrong))


def main():
    for kind in ("safetensors", "bin"):
        check_reading(kind)
        check_edits(kind)
        check_parameters(kind)
        check_mount(kind)
        check_touched(kind)
        check_missing(kind)
        check_moves(kind)
        check_repack(kind)
    check_many_moves()
    check_moved_views()
    check_names()
    check_digests()
    check_read_only()
    check_refusals()


def killed():
    check_killed("safetensors", EDITS["rename"], "kill")
    check_killed("bin", EDITS["script"], "kill")
    check_killed("safetensors", EDITS["script"], "EIO")
    check_killed("bin", EDITS["rename"], "ENOSPC")
    check_killed_pending("safetensors")


try:
    killed() if DIE_AT else main()
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
