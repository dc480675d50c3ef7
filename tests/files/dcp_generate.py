#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes dcp/: directories that torch.distributed.checkpoint wrote, and dcp/manifest.json, which says what torch finds in them.

Usage: dcp_generate.py [OUTPUT_DIRECTORY]       run by the newest torch (tests/torch/requirements.txt) with gloo; runs itself again with
                                                the Python of Debian's torch 1.13 (WEIGHTFS_OLD_PYTHON, default /usr/bin/python3), and
                                                with those of other versions that WEIGHTFS_DCP_PYTHONS names, separated by colons

Several processes write one checkpoint as the ranks of a job do. What it holds is said by torch's own converter, dcp_to_torch_save.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "torch")]
warnings.filterwarnings("ignore")

import torch  # noqa: E402

VERSION = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
NEW = VERSION >= (2, 15)
if VERSION < (2, 0):  # Python 3.11 takes a default without a hash for one that can be changed
    import dataclasses
    dataclass = dataclasses.dataclass
    dataclasses.dataclass = lambda cls=None, **more: dataclass(cls, **({"unsafe_hash": True} if cls and "__hash__" not in vars(cls) and not more else more))

import torch.distributed as dist  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402


def count(*shape, dtype=torch.float32, start=0):
    numel = 1
    for n in shape:
        numel *= n
    return torch.arange(start, start + numel).reshape(shape).to(dtype)


def save(state, name, **more):
    import torch.distributed.checkpoint as dcp
    if VERSION < (2, 2):
        writer = dcp.FileSystemWriter(name, **more)
        flat = {}
        if VERSION < (2, 1):
            flat = {"no_dist": not dist.is_initialized()}
        from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
        saver = dcp.save_state_dict if hasattr(dcp, "save_state_dict") else dcp.save
        return saver(state, writer, planner=DefaultSavePlanner(), **(flat or {"no_dist": not dist.is_initialized()}))
    return dcp.save(state, storage_writer=dcp.FileSystemWriter(name, **more))


# ---- one process ----

def nested(name):
    """Mappings, lists, an optimizer's state with its int keys, values of many kinds."""
    state = {
        "model": {"w": count(3, 4), "b": count(3, dtype=torch.bfloat16), "turned": count(3, 5).t(), "step": torch.tensor(7), "none": torch.zeros(0, 4),
                  "mask": torch.tensor([True, False])},
        "optim": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": count(3, 4, start=100)}, 1: {"step": torch.tensor(4.0), "exp_avg": count(3)}},
                  "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "foreach": None, "params": [0, 1]}]},
        "list": [count(2), {"a": 1, "b": count(2, 2)}, [count(1)]], "text": "a/b ü", "bytes": b"\x00\x01", "epoch": 10, "empty": {}, "flag": True,
        "names with.dots/and slashes": {"layer.0.weight": count(2, 2, dtype=torch.float16)},
    }
    if VERSION < (2, 0):
        from torch.distributed._shard import checkpoint as old
        return old.save_state_dict(state_113(), old.FileSystemWriter(name), no_dist=True)
    save(state, name)


def state_113():
    return {"w": count(3, 4), "b": count(3, dtype=torch.bfloat16), "epoch": 10, "text": "a/b ü", "half.part": count(2, 2, dtype=torch.float16)}


def one_file_an_item(name):
    import torch.distributed.checkpoint as dcp
    dcp.save({"a": count(4, 4), "b": {"c": count(2), "d": "text"}}, storage_writer=dcp.FileSystemWriter(name, single_file_per_rank=False, thread_count=2))


def not_flattened(name):
    """Keys as Megatron has them: with slashes, values beside tensors, no planner data."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    state = {"decoder.layers.weight": count(4, 3, 2), "decoder.layers.extra/shard_0_1": {"x": 1}, "common_state/shard_0_1": {"iteration": 100, "t": count(2)}}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(name), planner=DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False))


# ---- several ----

def mesh(*sizes, names=None):
    from torch.distributed.device_mesh import init_device_mesh
    return init_device_mesh("cpu", sizes, **({"mesh_dim_names": names} if names else {}))


def dtensors(name):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    world = dist.get_world_size()
    one = mesh(world)
    state = {"rows": distribute_tensor(count(7, 5), one, [Shard(0)]), "columns": distribute_tensor(count(5, 7), one, [Shard(1)]),
             "replicated": distribute_tensor(count(3, 3), one, [Replicate()]), "few": distribute_tensor(count(2), one, [Shard(0)]),
             "last of three": distribute_tensor(count(2, 3, 6, dtype=torch.int32), one, [Shard(2)]), "plain": count(2, 2),
             "rank": "same on every rank"}
    if world == 4:
        grid = mesh(2, 2)
        state["grid"] = distribute_tensor(count(6, 10, dtype=torch.float64), grid, [Shard(0), Shard(1)])
        state["uneven grid"] = distribute_tensor(count(5, 3, dtype=torch.float64), grid, [Shard(1), Shard(0)])
        state["rows, replicated"] = distribute_tensor(count(5, 3), grid, [Replicate(), Shard(0)])
        state["rows of rows"] = distribute_tensor(count(11), grid, [Shard(0), Shard(0)])
    save(state, name)


def fsdp(name):
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.fsdp import fully_shard
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3, bias=False))
    one = mesh(dist.get_world_size())
    for layer in model:
        fully_shard(layer, mesh=one)
    fully_shard(model, mesh=one)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(count(4, 5)).sum().backward()
    optimizer.step()
    model_state, optimizer_state = get_state_dict(model, optimizer)
    save({"model": model_state, "optimizer": optimizer_state, "lr_scheduler": {"last_epoch": 3, "_last_lr": [0.01]}, "train_state": {"step": 5}}, name)


def without_collectives(name):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    one = mesh(dist.get_world_size())
    state = {"w": {"rows": distribute_tensor(count(5, 3), one, [Shard(0)]), "columns": distribute_tensor(count(3, 5), one, [Shard(1)]),
                   "whole": distribute_tensor(count(2, 2), one, [Replicate()])}, "plain": count(3), "epoch": 3}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(name), use_collectives=False)


def hugging_face(name):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageWriter
    from torch.distributed.tensor import Shard, distribute_tensor
    one = mesh(dist.get_world_size())
    state = {"rows": distribute_tensor(count(5, 3), one, [Shard(0)]), "columns": distribute_tensor(count(3, 5, dtype=torch.bfloat16), one, [Shard(1)]),
             "plain": count(3)}
    writer = HuggingFaceStorageWriter(name, save_distributed=True, fqn_to_index_mapping={k: 1 for k in state})
    dcp.save(state, storage_writer=writer)


CASES = {  # name: (what, number of processes)
    "nested": (nested, 1), "items": (one_file_an_item, 1), "keys-with-slashes": (not_flattened, 1),
    "dtensor-2": (dtensors, 2), "dtensor-3": (dtensors, 3), "dtensor-4": (dtensors, 4),
    "fsdp-1": (fsdp, 1), "fsdp-2": (fsdp, 2), "fsdp-3": (fsdp, 3), "no-collectives-2": (without_collectives, 2), "no-collectives-3": (without_collectives, 3),
    "safetensors-2": (hugging_face, 2),
}
OLD_CASES = {"nested": (nested, 1), **({"dtensor-3": (dtensors, 3)} if VERSION >= (2, 5) else {})}


def rank(number, world, name, store):
    warnings.filterwarnings("ignore")
    steady()
    what, processes = (CASES if NEW else OLD_CASES)[name]
    if processes > 1 or what in (fsdp,):
        dist.init_process_group("gloo", init_method="file://" + store, rank=number, world_size=world)
    what(directory(name))
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def steady():
    """The identity of a save is a random number: here it is always the same."""
    try:
        import torch.distributed.checkpoint.filesystem as filesystem
        if hasattr(filesystem, "_generate_uuid"):
            filesystem._generate_uuid = lambda: "00000000-0000-4000-8000-000000000000"
    except ImportError:
        pass


def directory(name):
    return name if NEW else f"{name}-{VERSION[0]}{VERSION[1]}"


def whole(name):
    """What torch's own converter makes of it; integer keys below `state`, which DCP keeps as texts, are integers."""
    if name.startswith("safetensors"):
        return {"rows": count(5, 3), "columns": count(3, 5, dtype=torch.bfloat16), "plain": count(3)}
    if name.startswith("no-collectives"):
        return {"w": {"rows": count(5, 3), "columns": count(3, 5), "whole": count(2, 2)}, "plain": count(3), "epoch": 3}
    if name.endswith("-113"):  # torch 2 does not know its classes any more
        return state_113()
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "whole.pt")
        dcp_to_torch_save(name, path)
        return with_integers(torch.load(path, weights_only=False))


def with_integers(value, parent=None):
    if isinstance(value, dict):
        digits = parent == "state" and value and all(str(k).isdigit() for k in value)
        return {int(k) if digits else k: with_integers(v, k) for k, v in value.items()}
    return [with_integers(v) for v in value] if isinstance(value, list) else value


def make():
    for name, (_, world) in (CASES if NEW else OLD_CASES).items():
        with tempfile.TemporaryDirectory() as work:
            mp.spawn(rank, (world, name, os.path.join(work, "store")), nprocs=world)


def main():
    arguments = sys.argv[1:]
    named = [a for a in arguments if not a.startswith("--")]
    out = os.path.abspath(named[0]) if named else os.path.join(HERE, "dcp")
    torch.set_num_threads(1)
    if "--only-make" in arguments:
        os.chdir(out)
        return make()
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    os.chdir(out)
    make()
    others = os.environ.get("WEIGHTFS_DCP_PYTHONS", "").split(":")
    for python in (os.environ.get("WEIGHTFS_OLD_PYTHON", "/usr/bin/python3"), *(p for p in others if p)):
        subprocess.run([python, os.path.abspath(__file__), "--only-make", out], check=True)
    import oracle
    lines = []
    for name in sorted(os.listdir(out)):
        entries = oracle.describe(whole(name), {}, 1 << 60)
        lines.append(f"{json.dumps(name)}: {{\"entries\": [\n" + ",\n".join(json.dumps(e) for e in entries) + "]}")
    with open(os.path.join(out, "manifest.json"), "w") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
