# SPDX-License-Identifier: MIT
"""Checkpoints in several files, beside the same work on one.

Usage: contrib/bench/run directories [open] [rename]        WEIGHTFS_BENCH_MIB: of each shard that is renamed in (default 1024)
"""
import json
import os
import resource
import struct
import subprocess
import sys

from common import WFCTL, alternate, finish, report, scratch, timed


def shard(path, tensors):
    """names of tensors and their bytes, which are zeroes."""
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, size in tensors.items():
        head[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for size in tensors.values():
            for start in range(0, size, 1 << 20):
                f.write(os.urandom(min(1 << 20, size - start)))


def make_set(directory, shards, per_shard, size):
    os.mkdir(directory)
    weight_map = {}
    for i in range(shards):
        name, tensors = f"model-{i + 1:05d}-of-{shards:05d}.safetensors", {f"model.layers.{i}.{k}.weight": size for k in range(per_shard)}
        shard(f"{directory}/{name}", tensors)
        weight_map.update(dict.fromkeys(tensors, name))
    with open(f"{directory}/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {"total_size": shards * per_shard * size}, "weight_map": weight_map}, f, indent=2)
    return directory


def cpu_seconds(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def open_and_list(top):
    directory = make_set(f"{top}/many", 200, 10, 64)
    report("200 shards of 10 tensors: open and list, ms of CPU", min(cpu_seconds(WFCTL, "ls", directory) for _ in range(10)) * 1000, ceiling=20)
    directory = make_set(f"{top}/thousands", 10000, 2, 64)
    report("10,000 shards: open and list, ms of CPU", min(cpu_seconds(WFCTL, "ls", directory) for _ in range(3)) * 1000)


def rename(top):
    size = int(os.environ.get("WEIGHTFS_BENCH_MIB", 1024)) << 20
    directory = make_set(f"{top}/eight", 8, 4, size // 4)
    shard(f"{top}/one.safetensors", {f"model.layers.0.{k}.weight": size // 4 for k in range(4)})
    names = {}

    def back_and_forth(path):
        old = names.get(path, "model.layers.0.0.weight")
        names[path] = "renamed" if old != "renamed" else "model.layers.0.0.weight"
        return timed(WFCTL, "mv", path, old, names[path])
    sides = alternate(3, eight=lambda: back_and_forth(directory), one=lambda: back_and_forth(f"{top}/one.safetensors"))
    report("a rename in 8 shards / in one file of that size", sides["eight"] / sides["one"], ceiling=1.2)


ALL = {"open": open_and_list, "rename": rename}
for name in sys.argv[1:] or ALL:
    with scratch() as where:
        ALL[name](where)
finish()
