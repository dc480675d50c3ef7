#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Safetensors files, edited: random dictionaries are written by the library, edited in a mount or by wfctl as a plain dictionary is in
Python, the daemon killed now and then, committed, and read by the library again. Names and their order, dtypes, shapes, bytes and metadata
have to agree, and a file that the library wrote is shown to the byte.

Usage: test_safetensors.py BUILD_DIRECTORY [ROUNDS [FIRST]]. Prints TAP; what needs a mount is skipped where /dev/fuse is missing.
"""
import json
import os
import random

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from safetensorskit import BUILD, DTYPES, FIRST, FUSE, ROUNDS
from kit import World, done, eventually, ok, read, run, same, write

# a backslash is a pattern to wfctl; the header of names with one is in the unit tests
LETTERS = ["a", "b", ".", "é", "日", "\0", "\1", "\n", '"', "/", "\x7f", "😀", " ", "%", "~"]


def name_of(key):
    """The contract's rule, for keys that are no numbers and are short."""
    if key == "":
        return "%"
    text = key.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return "%" + text.encode()[:1].hex().upper() + text[1:] if key in (".", "..", ".weightfs") else text


def is_usable(key):
    """Not one that an editor's scratch file has, nor one that the format keeps."""
    return not (key.endswith("~") or key.startswith((".#", "._", "#")) or key == "__metadata__" or key.startswith("."))


def some_key(r, used):
    """One that the round has not seen: a name remembers what stood there until the next commit."""
    while True:
        key = "k" * r.randrange(2) + "".join(r.choice(LETTERS) for _ in range(r.randrange(1, 6)))
        if key not in used and is_usable(key):
            used.add(key)
            return key


def bits(t):
    return bytes(t.contiguous().view(-1).view(torch.uint8).tolist()) if t.numel() else b""


def some_tensor(r):
    dtype = r.choice(DTYPES)
    shape = [r.randrange(0, 5) for _ in range(r.randrange(0, 4))]
    if dtype is getattr(torch, "float4_e2m1fn_x2", None) and not shape:
        shape = [2]
    count = 1
    for n in shape:
        count *= n
    size = count * dtype.itemsize
    raw = torch.tensor([r.randrange(2 if dtype == torch.bool else 256) for _ in range(size)], dtype=torch.uint8)
    return (raw.view(dtype) if size else torch.empty(0, dtype=dtype)).reshape(shape)


def look(d):
    return [(k, str(t.dtype), list(t.shape), bits(t)) for k, t in d.items()]


def header(path):
    content = read(path)
    return json.loads(content[8:8 + int.from_bytes(content[:8], "little")])


def held_against(path, d, notes, what):
    """The file as the library reads it, and the order in its header."""
    got = load_file(path)
    order = [k for k in header(path) if k != "__metadata__"]
    ok(look({k: got[k] for k in order}) == look(d), what, f"{[x[:3] for x in look({k: got[k] for k in order})]}\n{[x[:3] for x in look(d)]}")
    with safe_open(path, "pt") as f:
        same(f.metadata() or {}, notes, f"{what}: the metadata")


# ---- the same edit twice ----

class Mount:
    """Through the mount, by system calls."""

    def __init__(self, w, mode):
        self.w, self.mode = w, mode

    def path(self, key):
        return f"{self.w.mnt}/{name_of(key)}"

    def begin(self):
        self.w.mount("-o", f"commit={self.mode}")

    def crash(self):
        self.w.crash("-o", f"commit={self.mode}")

    def end(self):
        self.w.umount()

    def rename(self, a, b):
        os.rename(self.path(a), self.path(b))

    def remove(self, key):
        os.unlink(self.path(key))

    def overwrite(self, key, at, data):
        with open(self.path(key), "r+b") as f:
            f.seek(at)
            f.write(data)

    def resize(self, key, size):
        os.truncate(self.path(key), size)

    def add(self, key, t):
        with open(self.path(key), "wb") as f:
            os.setxattr(f.fileno(), "user.torch.dtype", str(t.dtype)[6:].encode())
            os.setxattr(f.fileno(), "user.torch.shape", json.dumps(list(t.shape)).encode())
            f.write(bits(t))

    def copy(self, a, b):
        os.link(self.path(a), self.path(b))

    def reshape(self, key, shape):
        os.setxattr(self.path(key), "user.torch.shape", json.dumps(shape).encode())

    def note(self, key, value):
        write(f"{self.w.mnt}/.weightfs/metadata/{key}", value.encode())

    def forget(self, key):
        os.unlink(f"{self.w.mnt}/.weightfs/metadata/{key}")


class Verbs(Mount):
    """By wfctl, each a commit of its own."""

    def begin(self):
        pass

    end = begin

    def verb(self, *words):
        NEW.clear()
        p = run(self.w.wfctl, words[0], f"--commit={self.mode}", *words[1:])
        ok(p.returncode == 0, f"wfctl {words[0]}", p)

    def rename(self, a, b):
        self.verb("mv", self.w.file, "--", name_of(a), name_of(b))

    def remove(self, key):
        self.verb("rm", self.w.file, "--", name_of(key))

    def add(self, key, t):
        write(f"{self.w.dir}/raw", bits(t))
        self.verb("set", self.w.file, "--file", f"{self.w.dir}/raw", "--", name_of(key))
        self.verb("attr", self.w.file, "--", name_of(key), f"user.torch.dtype={str(t.dtype)[6:]}")
        self.verb("attr", self.w.file, "--", name_of(key), f"user.torch.shape={json.dumps(list(t.shape))}")

    def copy(self, a, b):
        self.verb("cp", self.w.file, "--", name_of(a), name_of(b))

    def reshape(self, key, shape):
        self.verb("attr", self.w.file, "--", name_of(key), f"user.torch.shape={json.dumps(shape)}")

    def note(self, key, value):
        self.verb("set", self.w.file, "--", f".weightfs/metadata/{key}", value)

    def forget(self, key):
        self.verb("rm", self.w.file, "--", f".weightfs/metadata/{key}")


NEW = set()  # keys that were made since the last commit


def renamed(d, a, b):
    """In the place that a has; who had the name b goes."""
    pairs = [(b if k == a else k, v) for k, v in d.items() if k != b]
    d.clear()
    d.update(pairs)


def one_edit(r, d, used, notes, hand, whole):
    what = r.choice(["rename", "rename", "remove", "overwrite", "rows", "add", "add", "copy", "reshape", "note", "forget", "onto"])
    keys = list(d)
    if what in ("note", "forget"):
        key = r.choice(["format", "epoch", "a b", "text"])
        value = r.choice(["pt", "7", "two\nlines\n", "é", "[1, 2]"])
        if what == "note":
            hand.note(key, value)
            notes[key] = value
        elif key in notes:
            hand.forget(key)
            del notes[key]
        return
    if what == "add" or not keys:
        key, t = some_key(r, used), some_tensor(r)
        hand.add(key, t)
        NEW.add(key)
        d[key] = t
        return
    key = r.choice(keys)
    t = d[key]
    if what == "rename":
        new = some_key(r, used)
        hand.rename(key, new)
        renamed(d, key, new)
        if key in NEW:
            NEW.add(new)
    elif what == "onto" and len(keys) > 1 and key not in NEW:  # a new file takes the place of what it replaces
        other = r.choice([k for k in keys if k != key])
        hand.rename(key, other)
        renamed(d, key, other)
    elif what == "remove":
        hand.remove(key)
        del d[key]
    elif what == "copy":
        new = some_key(r, used)
        hand.copy(key, new)
        NEW.add(new)
        d[new] = t.clone()
    elif what == "reshape" and t.numel() and t.dtype is not getattr(torch, "float4_e2m1fn_x2", None):
        shape = [1, t.numel()]
        hand.reshape(key, shape)
        d[key] = t.reshape(shape)
    elif what == "overwrite" and t.numel() and whole:
        data = bytearray(bits(t))
        at = r.randrange(len(data))
        piece = bytes(r.randrange(2 if t.dtype == torch.bool else 256) for _ in range(min(3, len(data) - at)))
        hand.overwrite(key, at, piece)
        data[at:at + len(piece)] = piece
        d[key] = torch.tensor(list(data), dtype=torch.uint8).view(t.dtype).reshape(t.shape)
    elif what == "rows" and t.dim() > 0 and t.numel() and whole:
        rows = r.randrange(0, t.shape[0] + 3)
        row = t.numel() // t.shape[0] * t.dtype.itemsize
        data = (bits(t) + bytes(3 * row))[:rows * row]
        if not data:
            return
        hand.resize(key, len(data))
        d[key] = torch.tensor(list(data), dtype=torch.uint8).view(t.dtype).reshape([rows] + list(t.shape[1:]))


def check_round(w, seed):
    r = random.Random(seed)
    d, used = {}, set()
    by_verbs = seed % 5 == 0 or not FUSE
    mode = ("append", "append", "auto", "replace")[seed // 5 % 4]
    for _ in range(r.randrange(0, 9)):
        d[some_key(r, used)] = some_tensor(r)
    notes = {"format": "pt"} if seed % 4 else {}
    save_file(d, w.file, metadata=notes or None)
    d = {k: d[k] for k in header(w.file) if k != "__metadata__"}
    p = run(w.wfctl, "export", w.file, f"{w.dir}/same.safetensors")
    ok(p.returncode == 0 and read(f"{w.dir}/same.safetensors") == read(w.file), f"round {seed}: exported to the byte", p)
    hand = Verbs(w, mode) if by_verbs else Mount(w, mode)
    NEW.clear()
    hand.begin()
    try:
        if type(hand) is Mount:
            same(read(f"{w.mnt}/.weightfs/model.safetensors"), read(w.file), f"round {seed}: shown to the byte")
        for i in range(r.randrange(1, 10)):
            one_edit(r, d, used, notes, hand, type(hand) is Mount)
            if type(hand) is Mount and r.random() < 0.1:
                run("sync", w.mnt)
                hand.crash()
            if type(hand) is Mount and r.random() < 0.15:
                p = run(w.wfctl, "commit", w.mnt)
                ok(p.returncode == 0, f"round {seed}: a commit", p)
                NEW.clear()
                held_against(w.file, d, notes, f"round {seed}: after a commit")
    finally:
        hand.end()
    held_against(w.file, d, notes, f"round {seed}: at the end")
    p = run(w.wfctl, "repack", w.file)
    ok(p.returncode == 0, f"round {seed}: repacked", p)
    save_file({k: t.contiguous() for k, t in d.items()}, f"{w.dir}/wanted.safetensors", metadata=notes or None)
    if len(notes) <= 1:
        same(read(w.file), read(f"{w.dir}/wanted.safetensors"), f"round {seed}: a repack writes what save_file does")
    p = run(w.wfctl, "export", w.file, f"{w.dir}/back.pt")
    back = torch.load(f"{w.dir}/back.pt", weights_only=True) if p.returncode == 0 else {}
    ok({k: bits(t) for k, t in back.items()} == {k: bits(t) for k, t in d.items()}, f"round {seed}: exported as a state_dict", p)


def check_donor(w):
    """From a checkpoint of torch.save: what the format can hold comes along, and what it cannot is told or refused."""
    layer = torch.nn.Linear(3, 2)
    d = {"w": layer.weight, "b": layer.bias, "t": torch.arange(6.0).reshape(2, 3).t(), "n": {"x": torch.ones(2)}, "lr": 0.1,
         "c": torch.zeros(2, dtype=torch.complex128)}
    donor = os.path.join(w.dir, "donor.pt")
    torch.save(d, donor)
    run(w.wfctl, "new", w.file)
    for key, to in (("w", "w"), ("b", "b"), ("t", "t"), ("n/x", "n.x")):
        p = run(w.wfctl, "cp", f"{donor}:{key}", f"{w.file}:{to}")
        ok(p.returncode == 0 and p.stderr.count("\n") == (key in "wb") and ("requires_grad" in p.stderr) == (key in "wb"), f"{key} is copied", p)
    for key in ("n", "lr", "c"):
        before = read(w.file)
        p = run(w.wfctl, "cp", f"{donor}:{key}", f"{w.file}:{key}")
        ok(p.returncode == 1 and p.stderr.count("\n") == 1 and "safetensors" in p.stderr and "Operation" not in p.stderr, f"{key} is refused", p)
        same(read(w.file), before, "and nothing changed")
    held_against(w.file, {"w": layer.weight.detach(), "b": layer.bias.detach(), "t": d["t"], "n.x": d["n"]["x"]}, {}, "what was copied")
    p = run(w.wfctl, "cp", f"{w.file}:t", f"{donor}:back")
    ok(p.returncode == 0 and torch.equal(torch.load(donor)["back"], d["t"]), "and back", p)


def check_arrays(w):
    """What np.save writes into the mount: it hears of what the format has not."""
    save_file({"w": torch.ones(2)}, w.file)
    w.mount()
    try:
        np.save(f"{w.mnt}/.weightfs/npy/x.npy", np.arange(6, dtype=">f8").reshape(2, 3))
        for what in (np.zeros(2, "c16"), np.array(["ab", "c"]), np.zeros(2, [("a", "i4")])):
            try:
                np.save(f"{w.mnt}/.weightfs/npy/y.npy", what)
                ok(False, f"np.save of {what.dtype} was not refused")
            except OSError as e:
                eventually(lambda: not os.path.exists(f"{w.mnt}/y"))  # it goes with the release
                same((e.errno, os.listdir(w.mnt)), (22, ["w", "x"]), f"np.save of {what.dtype}")
    finally:
        w.umount()
    held_against(w.file, {"w": torch.ones(2), "x": torch.arange(6.0, dtype=torch.float64).reshape(2, 3)}, {}, "arrays")


if not FUSE:
    print("# the rounds without a mount alone: there is no /dev/fuse")
for number in range(FIRST, FIRST + ROUNDS):
    with World(BUILD, lambda path: None) as world:
        world.file = os.path.join(world.dir, "m.safetensors")
        check_round(world, number)
with World(BUILD, lambda path: None) as world:
    world.file = os.path.join(world.dir, "m.safetensors")
    check_donor(world)
if FUSE:
    with World(BUILD, lambda path: None) as world:
        world.file = os.path.join(world.dir, "m.safetensors")
        check_arrays(world)
done()
