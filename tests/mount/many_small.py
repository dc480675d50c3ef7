#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""model.safetensors of many small tensors: those that stand close to each other in the checkpoint are read at once, and each is its own.

Usage: many_small.py BUILD_DIRECTORY    Prints TAP.
"""
import os
import random
import struct
import sys

from flatfile import load
from kit import World, done, need_fuse, ok, read, same
from minicheckpoint import Tensor, save

need_fuse()
COUNT = 3000
numbers = random.Random(11)
SIZES = {f"layers.{i}": numbers.choice((1, 2, 8, 8, 8, 200, 300, 5000)) for i in range(COUNT)}
DATA = {name: struct.pack(f"<{n}f", *(numbers.random() for _ in range(n))) for name, n in SIZES.items()}


def make(path):
    """In an order that has nothing to do with the names, so that neighbours in the one file are none in the other."""
    names = list(DATA)
    numbers.shuffle(names)
    save(path, {name: Tensor("float32", (SIZES[name],), DATA[name]) for name in names})


def view(w):
    tensors, _ = load(f"{w.mnt}/.weightfs/model.safetensors")
    return {name: bytes(data) for name, (_, _, data) in tensors.items()}


def wrong(w):
    found = view(w)
    return [name for name in DATA if found.get(name) != DATA[name]] + [name for name in found if name not in DATA]


def parts(w):
    """Reads that begin and end inside of tensors give what one read gives."""
    path = f"{w.mnt}/.weightfs/model.safetensors"
    whole = read(path)
    f = os.open(path, os.O_RDONLY | os.O_DIRECT)
    for _ in range(200):
        at = numbers.randrange(len(whole) // 512) * 512
        size = numbers.choice((512, 4096, 65536, 200704))
        if os.pread(f, size, at) != whole[at:at + size]:
            return at, size
    os.close(f)
    return None


with World(sys.argv[1], make) as world:
    world.mount()
    same(wrong(world), [], "every tensor has its bytes")
    same(parts(world), None, "and every part of the file")
    for name in numbers.sample(sorted(DATA), 60):
        changed = bytes(reversed(DATA[name]))
        with open(f"{world.mnt}/{name}", "r+b") as f:
            f.write(changed)
        DATA[name] = changed
    for name in numbers.sample(sorted(DATA), 20):
        os.unlink(f"{world.mnt}/{name}")
        del DATA[name]
    same(wrong(world), [], "among them some that were written since, and without those that were removed")
    with open(f"{world.mnt}/.weightfs/commit", "w") as f:
        f.write("1")
    same(wrong(world), [], "after a commit")
    world.umount()
    ok(os.path.exists(world.file), "and the file stands")
done()
