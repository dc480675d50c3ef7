# SPDX-License-Identifier: MIT
"""Checkpoints that are directories, made without torch for tests of the mount: one of each kind, of as many files as wanted, and what is read
of them without weightfs.

    d = make("dcp", path, files=3)
    d.want            name -> bytes of each tensor, as the tree shows it
    d.file_of(name)   the members that hold it
    load(d)           name -> bytes, of the kinds that can be edited; AssertionError where the directory is no whole checkpoint
"""
import io
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "files"))
import dcpkit  # noqa: E402
import flatfile  # noqa: E402
from kit import floats, read, write  # noqa: E402
from minicheckpoint import Tensor, save  # noqa: E402

KINDS = ("safetensors", "bin", "dcp", "zero")
EDITED = KINDS[:3]  # ZeRO is read-only


class Directory:
    def __init__(self, kind, path):
        self.kind, self.path, self.want, self.members = kind, path, {}, {}

    def copy(self, path):
        other = Directory(self.kind, path)
        other.want, other.members = dict(self.want), self.members
        return other

    @property
    def main(self):
        """The file whose rename commits."""
        return os.path.join(self.path, {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json",
                                        "dcp": ".metadata"}[self.kind])

    def file_of(self, name):
        return [os.path.join(self.path, f) for f in self.members[name]]


def make(kind, path, files=3, tensors=2, elements=6, **how):
    """`tensors` of float32 in each file. how: of dcp the forms that slices have (dcpkit.slice_of)."""
    os.makedirs(path)
    d = Directory(kind, path)
    {"safetensors": shards, "bin": shards, "dcp": distributed, "zero": zero}[kind](d, files, tensors, elements, **how)
    return d


def shards(d, files, tensors, elements):
    weight_map = {}
    for i in range(files):
        name = f"model-{i + 1:05d}-of-{files:05d}.safetensors" if d.kind == "safetensors" else f"pytorch_model-{i + 1:05d}-of-{files:05d}.bin"
        content = {f"layer.{i}.{k}": floats(elements, i * 100 + k) for k in range(tensors)}
        if d.kind == "safetensors":
            flatfile.make(os.path.join(d.path, name), {k: ("F32", [elements], v) for k, v in content.items()}, {"format": "pt"})
        else:
            save(os.path.join(d.path, name), {k: Tensor("float32", (elements,), v) for k, v in content.items()})
        weight_map.update(dict.fromkeys(content, name))
        d.want.update(content)
    d.members = {k: [v] for k, v in weight_map.items()}
    write(d.main, json.dumps({"metadata": {"total_size": sum(map(len, d.want.values()))}, "weight_map": weight_map}).encode())


def distributed(d, files, tensors, elements, forms=("zip",)):
    """Each tensor is in two files, if there are, but for the first one of each file."""
    made = dcpkit.Directory(d.path)
    names = [f"__{i}_0.distcp" for i in range(files)]
    half = elements // 2
    for i in range(files):
        for k in range(tensors):
            name, data = f"layer.{i}.{k}", floats(elements, i * 100 + k)
            cuts = [((0,), (half,)), ((half,), (elements - half,))] if k and files > 1 else None
            d.members[name] = [names[i], names[(i + 1) % files]][:2 if cuts else 1]
            made.tensor(name, "float32", (elements,), data, cuts, (name,), files=d.members[name], forms=forms)
            d.want[name] = data
    made.write()


def zero(d, files, tensors, elements):
    """Stage 2 of `files` ranks, whose parameters stand one after the other in one vector."""
    inside = os.path.join(d.path, "global_step1")
    os.makedirs(inside)
    write(os.path.join(d.path, "latest"), b"global_step1")
    params = {f"layer.{i}.{k}": floats(elements, i * 100 + k) for i in range(files) for k in range(tensors)}
    flat = b"".join(params.values())
    flat += bytes(4 * (-(len(flat) // 4) % (2 * files)))
    part = len(flat) // files
    names = [f"zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in range(files)]
    for r, name in enumerate(names):
        mine = Tensor("float32", (part // 4,), flat[r * part:(r + 1) * part])
        moment = Tensor("float32", (part // 4,), bytes(part))
        save(os.path.join(inside, name), {"optimizer_state_dict": {
            "zero_stage": 2, "partition_count": [files], "single_partition_of_fp32_groups": [mine],
            "base_optimizer_state": {"state": {0: {"step": 1, "exp_avg": moment}}, "param_groups": [{"lr": 0.5, "params": [0]}]}}})
    save(os.path.join(inside, "mp_rank_00_model_states.pt"), {
        "module": OrderedDict((k, Tensor("float32", (elements,), v)) for k, v in params.items()), "buffer_names": [], "optimizer": None,
        "param_shapes": [OrderedDict((k, [elements]) for k in params)], "frozen_param_shapes": None, "shared_params": {}, "epoch": 7})
    for i, (k, v) in enumerate(params.items()):
        first, last = i * elements * 4 // part, ((i + 1) * elements * 4 - 1) // part
        d.want["model/" + k] = v
        d.members["model/" + k] = ["global_step1/" + names[r] for r in range(first, last + 1)]


# ---- reading without weightfs ----

class Thing:
    """An object of any class."""

    def __init__(self, *args, **members):
        self.args = args

    def __setstate__(self, state):
        vars(self).update(state) if isinstance(state, dict) else setattr(self, "state", state)

    def __hash__(self):
        return hash((self.fqn, tuple(self.offset or ())))

    def __eq__(self, other):
        return (self.fqn, self.offset) == (other.fqn, other.offset)


class Unpickler(pickle.Unpickler):
    """Tensors are their bytes."""

    def __init__(self, data, storage=None):
        self.storage = storage
        super().__init__(io.BytesIO(data))

    def persistent_load(self, pid):
        return self.storage(pid[2])

    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *rest: storage
        if name == "Size":
            return tuple
        if (module, name) == ("collections", "OrderedDict"):
            return super().find_class(module, name)
        return type(name, (Thing,), {})


def load_archive(file):
    with zipfile.ZipFile(file) as z:
        assert not z.testzip(), "a sum is wrong"
        folder = z.namelist()[0].split("/")[0]
        return Unpickler(z.read(folder + "/data.pkl"), lambda key: z.read(f"{folder}/data/{key}")).load()


def load_shards(d):
    index = json.loads(read(d.main))
    got = {}
    for file in sorted(set(index["weight_map"].values())):
        path = os.path.join(d.path, file)
        tensors = {k: v[2] for k, v in flatfile.load(path)[0].items()} if d.kind == "safetensors" else dict(load_archive(path))
        assert sorted(tensors) == sorted(k for k, v in index["weight_map"].items() if v == file), f"{file} disagrees with the index"
        got.update(tensors)
    assert index["metadata"]["total_size"] == sum(map(len, got.values())), "total_size is wrong"
    return {k: got[k] for k in index["weight_map"]}, set(index["weight_map"].values())


def load_distributed(d):
    m = Unpickler(read(d.main)).load()
    got, files = {}, set()
    for name, entry in m.state_dict_metadata.items():
        slices = sorted((i.offset or (), info) for i, info in m.storage_data.items() if i.fqn == name)
        assert len(slices) == len(getattr(entry, "chunks", [0])), f"{name} has {len(slices)} slices"
        data = []
        for _, info in slices:
            with open(os.path.join(d.path, info.relative_path), "rb") as f:
                f.seek(info.offset)
                content = f.read(info.length)
            assert len(content) == info.length, f"{info.relative_path} is short"
            data.append(load_archive(io.BytesIO(content)))
            files.add(info.relative_path)
        got[name] = b"".join(data) if all(isinstance(x, bytes) for x in data) else data[0]
    return got, files


def load(d):
    return (load_distributed if d.kind == "dcp" else load_shards)(d)[0]


def named(d):
    """The files that the main one names."""
    return (load_distributed if d.kind == "dcp" else load_shards)(d)[1]


def left_over(d):
    """Files that a commit has made and that nobody names; the overlay."""
    members = named(d) | {os.path.basename(d.main)}
    # slices of others are never removed: that nobody names them is no fault
    there = [n for n in os.listdir(d.path) if d.kind != "dcp" or not n[2:3].isdigit()]
    return sorted(set(there) - members) + ([d.path + ".weightfs"] if os.path.exists(d.path + ".weightfs") else [])
