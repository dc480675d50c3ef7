# SPDX-License-Identifier: MIT
"""Checkpoints in several files, beside the same work on one.

Usage: contrib/bench/run directories [open] [rename] [read] [zero] [dcp] [chunks]
WEIGHTFS_BENCH_MIB: of each shard that is renamed in (default 1024)
WEIGHTFS_BENCH_GIB: the size of what is read, and of the models of zero and dcp (default 1)
WEIGHTFS_BENCH_RANKS: that the 100,000 tensors of chunks are on (default 64, of which .metadata has 1.1 GB)

What zero_to_fp32 takes is told where the interpreter has deepspeed and huggingface_hub. WEIGHTFS_BENCH_PEERS=no leaves out it and
dcp_to_torch_save, which need several times the size in memory.
"""
import importlib.util
import json
import os
import resource
import shutil
import struct
import subprocess
import sys

from common import IO, WFCTL, alternate, daemon_rss_kib, finish, mounted, report, scratch, timed
from views import PYTHON, resident_kib, synced


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
    sides = alternate(9, eight=lambda: back_and_forth(directory), one=lambda: back_and_forth(f"{top}/one.safetensors"))
    report("a rename in 8 shards / in one file of that size", sides["eight"] / sides["one"], ceiling=1.2)


RANKS = 8
PEERS = os.environ.get("WEIGHTFS_BENCH_PEERS") != "no"
# The vectors stand for the moments, too, which are not written again: nobody reads them here.
ZERO = """
import os, sys, torch
from collections import OrderedDict
directory, count, ranks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(directory + "/global_step1")
open(directory + "/latest", "w").write("global_step1")
shapes = OrderedDict((f"layers.{i}.weight", torch.Size([4096, 1024])) for i in range(count))
for r in range(ranks):
    name = f"{directory}/global_step1/zero_pp_rank_{r}_mp_rank_00_"
    torch.save({"module": OrderedDict((k, torch.zeros(0)) for k in shapes), "buffer_names": [], "param_shapes": [shapes],
                "shared_params": {}, "ds_version": "0.19.8"}, name + "model_states.pt")
    v = torch.rand(count * (1 << 22) // ranks)
    torch.save({"optimizer_state_dict": {"zero_stage": 3, "partition_count": ranks, "fp32_flat_groups": [v], "optimizer_state_dict":
                {"state": {0: {"step": torch.tensor(1.0), "exp_avg": v, "exp_avg_sq": v}}, "param_groups": [{"params": [0]}]}}},
               name + "optim_states.pt")
"""
TO_FP32 = """
import os, sys
os.environ["DS_ACCELERATOR"] = "cpu"
from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict
convert_zero_checkpoint_to_fp32_state_dict(sys.argv[1], sys.argv[2], max_shard_size="1TB", safe_serialization=True)
"""


def zero(work):
    count = int(float(os.environ.get("WEIGHTFS_BENCH_GIB", "1")) * 64)
    source, ours, copy, theirs = f"{work}/zero", f"{work}/ours.safetensors", f"{work}/copy", f"{work}/theirs"
    subprocess.run([PYTHON, "-c", ZERO, source, str(count), str(RANKS)], check=True)
    subprocess.run([WFCTL, "export", source, ours], check=True)
    whole = f"{work}/whole.safetensors"
    os.rename(ours, whole)
    peer = {}
    command = [PYTHON, "-c", TO_FP32, source, theirs]
    if PEERS and importlib.util.find_spec("deepspeed") and importlib.util.find_spec("huggingface_hub"):
        def convert():
            shutil.rmtree(theirs, ignore_errors=True)
            return synced(command)
        peer["peer"] = convert
    t = alternate(3, cp=lambda: synced(["cp", "--reflink=never", whole, copy], copy),
                  wfctl=lambda: synced([WFCTL, "export", source, ours], ours), **peer)
    report(f"export of ZeRO-3, {RANKS} ranks: time / cp --reflink=never time", t["wfctl"] / t["cp"], ceiling=1.3)
    report("export of ZeRO-3: resident memory", resident_kib([WFCTL, "export", source, ours]) / 1024, ceiling=64, unit=" MiB")
    if peer:
        report("zero_to_fp32 time / export time", t["peer"] / t["wfctl"], floor=1)
        shutil.rmtree(theirs, ignore_errors=True)
        print(f"    zero_to_fp32: {resident_kib(command) / 1024:.0f} MiB")
        subprocess.run(["cmp", ours, f"{theirs}/model.safetensors"], check=True)


# argv: directory, dimension of the shards, tensors, ranks, shape. Written as the writer of torch does it, by one process.
DCP = """
import io, os, pickle, sys, torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata
out, dim, count, ranks, *shape = sys.argv[1], *map(int, sys.argv[2:])
os.makedirs(out)
files = [open(f"{out}/__{r}_0.distcp", "wb") for r in range(ranks)]
state, storage = {}, {}
for t in range(count):
    whole, name, chunks = torch.rand(shape), f"layers.{t}.weight", []
    for r, c in enumerate(whole.chunk(ranks, dim)):
        offset, b = [0, 0], io.BytesIO()
        offset[dim] = r * c.shape[dim]
        torch.save(c.clone(memory_format=torch.contiguous_format), b)
        storage[MetadataIndex(name, offset, r)] = _StorageInfo(f"__{r}_0.distcp", files[r].tell(), len(b.getvalue()))
        files[r].write(b.getvalue())
        chunks.append(ChunkStorageMetadata(torch.Size(offset), c.shape))
    state[name] = TensorStorageMetadata(TensorProperties(), whole.shape, chunks)
pickle.dump(Metadata(state, {k: tuple(k.split(".")) for k in state}, storage), open(f"{out}/.metadata", "wb"))
"""
TO_TORCH = "import sys; from torch.distributed.checkpoint.format_utils import dcp_to_torch_save; dcp_to_torch_save(*sys.argv[1:])"


def read(work):
    """One tensor in shards of rows and of columns, and in one file: wfctl cat, which reads it, and dd from a mount that has nothing of it cached."""
    rows = int(float(os.environ.get("WEIGHTFS_BENCH_GIB", "1")) * 16384)
    paths = {name: f"{work}/{name}" for name in ("rows", "columns")}
    for dimension, path in enumerate(paths.values()):
        subprocess.run([PYTHON, "-c", DCP, path, str(dimension), "1", str(RANKS), str(rows), "16384"], check=True)
    paths["one"] = f"{work}/one.pt"
    subprocess.run([WFCTL, "export", paths["rows"], paths["one"]], check=True)

    def key(path):
        return "layers.0.weight" if path == paths["one"] else "layers/0/weight"

    def of_mount(path):
        with mounted(path) as mnt:
            return float(subprocess.run([IO, "dd", f"{mnt}/{key(path)}"], check=True, stdout=subprocess.PIPE).stdout.split()[0])
    for path in paths.values():
        of_mount(path)  # the page cache has the files
    t = alternate(7, **{name: lambda p=path: cpu_seconds(WFCTL, "cat", "--raw", p, key(p)) for name, path in paths.items()})
    report(f"wfctl cat, {RANKS} shards of rows: CPU of one file / its own", t["one"] / t["rows"], floor=0.95)
    report(f"wfctl cat, {RANKS} shards of columns: CPU of one file / its own", t["one"] / t["columns"], floor=0.5)
    t = alternate(7, **{name: lambda p=path: of_mount(p) for name, path in paths.items()})
    report(f"read of a mount, {RANKS} shards of rows: speed / that of one file", t["one"] / t["rows"], floor=0.9)
    report(f"read of a mount, {RANKS} shards of columns: speed / that of one file", t["one"] / t["columns"], floor=0.5)
    for name in t:
        print(f"    {name}: {rows / 16384 / t[name]:.2f} GiB/s")


def dcp(work):
    count = int(float(os.environ.get("WEIGHTFS_BENCH_GIB", "1")) * 64)
    rows, columns, ours, copy, theirs = (f"{work}/{name}" for name in ("rows", "columns", "ours.safetensors", "copy", "theirs.pt"))
    for dimension, source in enumerate((rows, columns)):
        subprocess.run([PYTHON, "-c", DCP, source, str(dimension), str(count), str(RANKS), "4096", "1024"], check=True)
    whole = f"{work}/whole.safetensors"
    subprocess.run([WFCTL, "export", rows, whole], check=True)
    command = [PYTHON, "-c", TO_TORCH, rows, theirs]
    t = alternate(3, cp=lambda: synced(["cp", "--reflink=never", whole, copy], copy), rows=lambda: synced([WFCTL, "export", rows, ours], ours),
                  columns=lambda: synced([WFCTL, "export", columns, ours], ours), **({"peer": lambda: synced(command, theirs)} if PEERS else {}))
    for name in ("rows", "columns"):
        report(f"export of DCP, {RANKS} ranks, {name}: time / cp --reflink=never time", t[name] / t["cp"], ceiling=1.3)
    report("export of DCP, columns: resident memory", resident_kib([WFCTL, "export", columns, ours]) / 1024, ceiling=64, unit=" MiB")
    if PEERS:
        report("dcp_to_torch_save time / export time", t["peer"] / t["rows"], floor=1)
        print(f"    dcp_to_torch_save: {resident_kib(command) / 1024:.0f} MiB")


READ_METADATA = """
import os, sys, time
from torch.distributed.checkpoint import FileSystemReader
start = time.process_time()
FileSystemReader(sys.argv[1]).read_metadata()
print(time.process_time() - start, flush=True)
os._exit(0)
"""


def mount_and_list(directory):
    """Seconds of CPU of the daemon until the root is listed, and its resident memory in KiB."""
    with mounted(directory) as point:
        os.listdir(point)
        with open(f"{point}/.weightfs/status", encoding="utf-8") as f:
            pid = json.load(f)["pid"]
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            ticks = f.read().rsplit(")", 1)[1].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"), daemon_rss_kib(point)[1]


def chunks(work):
    script, tensors, ranks = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chunks.py"), 100000, int(os.environ.get("WEIGHTFS_BENCH_RANKS", "64"))
    few, many, count = f"{work}/few", f"{work}/many", tensors * ranks
    subprocess.run([PYTHON, script, "check"], check=True)
    for directory, n in ((few, 8), (many, ranks)):
        subprocess.run([PYTHON, script, directory, str(tensors), str(n)], check=True)
    report(f"{count:,} chunks: open and list, seconds of CPU", min(cpu_seconds(WFCTL, "ls", many) for _ in range(3)), ceiling=1)
    report("... seconds by the clock", min(timed(WFCTL, "ls", many) for _ in range(3)))
    report("... resident memory, bytes a chunk", resident_kib([WFCTL, "ls", many]) * 1024 / count, ceiling=300)
    seconds, resident = mount_and_list(many)
    report("... mount and list, seconds of CPU", seconds)
    report("... resident memory, bytes a chunk", resident * 1024 / count, ceiling=300)
    peer = float(subprocess.run([PYTHON, "-c", READ_METADATA, few], check=True, stdout=subprocess.PIPE, text=True).stdout)
    report("800,000 chunks: torch's read_metadata time / open and list time", peer / min(cpu_seconds(WFCTL, "ls", few) for _ in range(3)), floor=1)


ALL = {"open": open_and_list, "rename": rename, "read": read, "zero": zero, "dcp": dcp, "chunks": chunks}
for name in sys.argv[1:] or ALL:
    with scratch() as where:
        ALL[name](where)
finish()
