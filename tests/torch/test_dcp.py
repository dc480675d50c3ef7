#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Distributed checkpoints against torch's own reader: after random edits by the verbs of wfctl, each a commit, dcp_to_torch_save finds what the same
edits make in Python; so does dcp.load, on one process and on two, which shard the tensors otherwise than they were saved. And both ways:
what wfctl exports is what the converter makes.

Usage: test_dcp.py BUILD_DIRECTORY [SEED]. Prints TAP.
"""
import os
import pickle
import random
import shutil
import sys
import tempfile
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verbkit import ok, tap, wfctl  # noqa: E402

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save  # noqa: E402

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "files", "dcp")
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def converted(path):
    with tempfile.TemporaryDirectory() as work:
        dcp_to_torch_save(path, os.path.join(work, "m.pt"))
        return torch.load(os.path.join(work, "m.pt"), weights_only=False)


def flat(value, way=()):
    """{way: tensor or value}, empty mappings left out, as torch leaves them out."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, (*way, str(key))).items()}
    if isinstance(value, list) and any(isinstance(v, (dict, list, torch.Tensor)) for v in value):
        return {k: v for i, inner in enumerate(value) for k, v in flat(inner, (*way, i)).items()}
    return {way: value}


def same_values(a, b):
    return a.keys() == b.keys() and all(
        (torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype) if isinstance(a[k], torch.Tensor) and isinstance(b[k], torch.Tensor)
        else type(a[k]) is type(b[k]) and a[k] == b[k] for k in a)


def differences(a, b):
    return "\n".join([f"only torch: {sorted(map(str, a.keys() - b.keys()))}", f"only Python: {sorted(map(str, b.keys() - a.keys()))}",
                      *[f"{k}: {a[k]} {b[k]}" for k in a.keys() & b.keys() if not same_values({k: a[k]}, {k: b[k]})]])


class Edits:
    """The same edit by a verb and in Python."""

    def __init__(self, path, state, rng, work, large=False):
        self.path, self.state, self.rng, self.work, self.number, self.large = path, state, rng, work, 0, large

    def mappings(self, value=None, way=()):
        value = self.state if value is None else value
        found = [(way, value)]
        for key, inner in value.items():
            if isinstance(inner, dict):
                found += self.mappings(inner, (*way, key))
        return found

    @staticmethod
    def takes_text(way, mapping):
        """Mappings of optimizers, whose keys are numbers, do not (tests/files/dcp.py)."""
        return way[-1:] != ("state",) or not all(str(k).isdigit() for k in mapping)

    def pick(self, kind=object):
        places = [(way, m, k) for way, m in self.mappings() for k, v in m.items() if isinstance(v, kind) and not isinstance(v, dict) and isinstance(k, str)]
        return self.rng.choice(places) if places else None

    def new_key(self):
        self.number += 1
        return f"new{self.number}" + self.rng.choice(("", ".dot", " ü"))

    @staticmethod
    def name(way, key):
        return "/".join(str(k).replace("%", "%25").replace("/", "%2F") for k in (*way, key))

    def run(self, *words):
        if self.large:  # with a hole behind the pickle they are too large for the graph
            os.truncate(os.path.join(self.path, ".metadata"), (256 << 20) + 1)
        r = wfctl(*words)
        if r.returncode:
            raise RuntimeError(f"wfctl {' '.join(words)}: {r.stderr.decode()}")

    def step(self):
        what = self.rng.choice(("mv", "mv", "rm", "value", "tensor", "tensor", "new", "tie"))
        picked = self.pick(torch.Tensor if what in ("tensor", "tie") else (int, float, str) if what == "value" else object)
        if not picked:
            return
        way, mapping, key = picked
        old = self.name(way, key)
        if what in ("new", "tie") and not self.takes_text(way, mapping):
            return
        if what == "mv":
            to_way, to = self.rng.choice([place for place in self.mappings() if self.takes_text(*place)])
            new = self.new_key()
            self.run("mv", self.path, old, self.name(to_way, new))
            to[new] = mapping.pop(key)
        elif what == "rm":
            if len(mapping) < 2:
                return
            self.run("rm", "-r", self.path, old)
            del mapping[key]
        elif what == "value":
            if isinstance(mapping[key], bool):
                return
            mapping[key] = self.rng.randrange(1000) if isinstance(mapping[key], int) else 0.5 + self.rng.randrange(9) if isinstance(mapping[key], float) else "täxt"
            self.run("set", self.path, old, str(mapping[key]))
        elif what == "tensor":
            data = bytes(self.rng.randrange(0, 2 if mapping[key].dtype == torch.bool else 60) for _ in range(mapping[key].nbytes))
            file = os.path.join(self.work, "bytes")
            with open(file, "wb") as f:
                f.write(data)
            if data:
                self.run("set", self.path, old, "--file", file)
                mapping[key] = torch.frombuffer(bytearray(data), dtype=mapping[key].dtype).reshape(mapping[key].shape)
        elif what == "new":
            new = self.new_key()
            self.run("set", self.path, self.name(way, new), "7.25")
            mapping[new] = 7.25
        else:
            new = self.new_key()
            self.run("ln", self.path, old, self.name(way, new))
            mapping[new] = mapping[key].clone()


def load_on_ranks(rank, world, path, names, store):
    warnings.filterwarnings("ignore")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    wanted = torch.load(names, weights_only=False)
    state = {k: distribute_tensor(torch.zeros_like(v), mesh, [Shard(v.ndim - 1)]) if v.ndim and v.numel() else torch.zeros_like(v) for k, v in wanted.items()}
    dcp.load(state, checkpoint_id=path)
    for k, v in wanted.items():
        whole = state[k].full_tensor() if v.ndim and v.numel() else state[k]
        assert torch.equal(whole, v), k
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # all is compared; torch's threads now and then abort an ordinary exit ("terminate called without an active exception")


def check_ranks(path, values, work, what):
    tensors = {".".join(map(str, way)): v for way, v in values.items() if isinstance(v, torch.Tensor) and v.dtype in (torch.float32, torch.float64, torch.int64)}
    names = os.path.join(work, "wanted.pt")
    torch.save(tensors, names)
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as store:
            try:
                mp.spawn(load_on_ranks, (world, path, names, os.path.join(store, "s")), nprocs=world)
                problem = ""
            except Exception as e:  # noqa: BLE001
                problem = str(e)
        ok(not problem, f"{what}: dcp.load on {world} ranks", problem)


def check(name, rng, ranks, large=False):
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, name)
        shutil.copytree(os.path.join(FIXTURES, name), path)
        out = os.path.join(work, "whole.pt")
        r = wfctl("export", path, out)
        tensors = {".".join(map(str, way)): v for way, v in flat(converted(path)).items() if isinstance(v, torch.Tensor)}
        exported = torch.load(out) if r.returncode == 0 else {}
        ok(same_values(dict(exported), tensors), f"{name}: wfctl export makes the tensors that dcp_to_torch_save makes", r.stderr.decode())
        edits = Edits(path, converted(path), rng, work, large)
        problems = []
        try:
            for _ in range(12):
                edits.step()
        except RuntimeError as e:
            problems.append(str(e))
        found, wanted = flat(converted(path)), flat(edits.state)
        if not same_values(found, wanted):
            problems.append(differences(found, wanted))
        r = wfctl("verify", path)
        ok(not problems and r.returncode == 0, f"{name}: random edits {'of large metadata ' * large}(seed {SEED})", "\n".join([*problems, r.stderr.decode()]))
        if ranks:
            check_ranks(path, found, work, name)


def values_state():
    import numpy as np
    return {"w": torch.arange(4.0), "array": np.ones(3), "in": (torch.ones(3), {"a": torch.zeros(2)}), "list": [1, (torch.ones(2), np.arange(4))],
            "text": "as it is", "raw": "not to be understood", "number": 3}


def saved(work, state):
    path = os.path.join(work, "values")
    shutil.rmtree(path, ignore_errors=True)
    dcp.save(state, checkpoint_id=path, no_dist=True)
    return path


def same_in(path, wanted, what):
    found = str(sorted(flat(converted(path)).items(), key=str))  # arrays have no one truth value
    wanted = str(sorted(flat(wanted).items(), key=str))
    ok(found == wanted, what, f"{found}\n{wanted}")


def info_of(path, key):
    m = dcp.FileSystemReader(path).read_metadata()
    return type(m.state_dict_metadata[key]).__name__, next((i for k, i in m.storage_data.items() if k.fqn == key), None)


def check_arrays(work):
    """Bytes of an array stand inside the pickle of a value, those of a tensor beside it: both go into the next slice."""
    state = values_state()
    for key, value in (("array", state["array"]), ("in/0", state["in"][0]), ("list/1/1", state["list"][1][1])):
        path, file = saved(work, state), os.path.join(work, "bytes")
        with open(file, "wb") as f:
            f.write(bytes(value.nbytes))
        r = wfctl("set", path, key, "--file", file)
        value[...] = 0
        ok(r.returncode == 0, f"{key} of a value gets other bytes", r.stderr.decode())
        same_in(path, state, f"{key}: torch finds them, and what was not changed")


def check_unread(work):
    """A value that cannot be understood, and one whose file is missing, stays what it is when something else is edited."""
    state = values_state()
    path = saved(work, state)
    _, info = info_of(path, "raw")
    with open(os.path.join(path, info.relative_path), "r+b") as f:
        f.seek(info.offset)
        f.write(b"\xff" * info.length)
    r = wfctl("mv", path, "number", "n")
    ok(r.returncode == 0 and info_of(path, "raw") == ("BytesStorageMetadata", info), "a value that is not understood stays one", info_of(path, "raw"))
    r = wfctl("mv", path, "raw", "in.other")
    ok(r.returncode == 0 and info_of(path, "in.other") == ("BytesStorageMetadata", info), "and when it is renamed", r.stderr.decode())
    path = saved(work, state)
    slices = [os.path.join(path, name) for name in os.listdir(path) if name.endswith(".distcp")]
    for name in slices:
        os.rename(name, name + ".away")
    edits = [wfctl(*words).returncode for words in (("mv", path, "number", "n"), ("mv", path, "w", "w2"), ("rm", path, "text"), ("set", path, "new", "7"))]
    for name in slices:
        os.rename(name + ".away", name)
    state["n"], state["w2"], state["new"] = state.pop("number"), state.pop("w"), 7
    del state["text"]
    ok(edits == [0, 0, 0, 0], "names change where the slices are missing", edits)
    same_in(path, state, "nothing else changed when they are back")


def check_commits(work):
    """Several commits of one mount: what stays of a value is found again in the new metadata."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
    from kit import World, write
    state = values_state()
    with World(sys.argv[1], lambda path: dcp.save(state, checkpoint_id=path, no_dist=True)) as w:
        w.mount()
        names = ["w", "w2", "w3", "w4"]
        for number, key in enumerate(("number", "array", "in/0")):
            os.rename(os.path.join(w.mnt, names[number]), os.path.join(w.mnt, names[number + 1]))
            value = {"number": 0, "array": state["array"], "in/0": state["in"][0]}[key]
            if key == "number":
                write(os.path.join(w.mnt, key), b"4\n")
            else:
                with open(os.path.join(w.mnt, key), "r+b") as f:
                    f.write(bytes(value.nbytes))
                value[...] = 0
            r = wfctl("commit", w.mnt)
            ok(r.returncode == 0, f"commit {number + 1} of a mount, which writes {key}", r.stderr.decode())
        with open(os.path.join(w.mnt, "list", "1", "0"), "rb") as f:
            ok(f.read() == state["list"][1][0].numpy().tobytes(), "a tensor of a value that stayed is read after them")
        r = wfctl("umount", w.mnt)
        ok(r.returncode == 0, "umount", r.stderr.decode())
        state["w4"], state["number"] = state.pop("w"), 4
        same_in(w.file, state, "torch finds all of it")


def check_chunks(name, ranks):
    """An element of each tensor that torch has sharded: its chunk is written, and the others stay; torch loads them on other ranks."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
    from kit import World
    with World(sys.argv[1], lambda path: shutil.copytree(os.path.join(FIXTURES, name), path)) as w:
        state, before = flat(converted(w.file)), dcp.FileSystemReader(w.file).read_metadata()
        w.mount()
        for way, t in state.items():
            if isinstance(t, torch.Tensor) and t.numel():
                at = (t.numel() - 1) * t.element_size()
                with open(os.path.join(w.mnt, *map(str, way)), "r+b") as f:
                    f.seek(at)
                    f.write(bytes(t.element_size()))
                t.reshape(-1)[-1] = 0
        r = wfctl("umount", w.mnt)
        after = dcp.FileSystemReader(w.file).read_metadata()
        ok(r.returncode == 0 and same_values(flat(converted(w.file)), state), f"{name}: an element of each tensor", r.stderr.decode())
        wrong = []
        for key, entry in before.state_dict_metadata.items():
            if not hasattr(entry, "chunks") or 0 in entry.size:
                continue
            moved = [i.offset for i in after.storage_data if i.fqn == key and after.storage_data[i] != before.storage_data[i]]
            last = [c.offsets for c in entry.chunks if all(o + s == n for o, s, n in zip(c.offsets, c.sizes, entry.size)) and 0 not in c.sizes]
            if moved != last or after.state_dict_metadata[key].chunks != entry.chunks:
                wrong.append(f"{key}: {moved} {last}")
        ok(not wrong, f"{name}: the last chunk of each is written, and no other", "\n".join(wrong))
        if ranks:
            check_ranks(w.file, state, w.dir, name)


def check_no_rows(name):
    """Chunks of ranks that have no rows, whose slices nothing tells of: they are read and edited as torch reads them, and torch reads the edits."""
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, name)
        shutil.copytree(os.path.join(FIXTURES, name), path)
        state, metadata = flat(converted(path)), dcp.FileSystemReader(path).read_metadata()
        empty = {k: [c.offsets for c in e.chunks if 0 in c.sizes] for k, e in metadata.state_dict_metadata.items() if hasattr(e, "chunks")}
        for index in [i for i in metadata.storage_data if i.offset in empty.get(i.fqn, [])]:
            del metadata.storage_data[index]
        with open(os.path.join(path, ".metadata"), "wb") as f:
            pickle.dump(metadata, f)
        names = [k for k, offsets in empty.items() if offsets]
        r = wfctl("verify", path)
        ok(names and r.returncode == 0 and same_values(flat(converted(path)), state), f"{name}: chunks without rows or slices: verify", r.stderr.decode())
        for i, k in enumerate(names):
            way = next(way for way in state if ".".join(map(str, way)) == k)
            data = os.path.join(work, "data")
            with open(data, "wb") as f:
                f.write(bytes(state[way].numel() * state[way].element_size()))
            words = [wfctl("set", path, "/".join(map(str, way)), "--file", data).returncode] if state[way].numel() else []
            words.append(wfctl("mv", path, "/".join(map(str, way)), f"renamed{i}").returncode)
            ok(not any(words), f"{name}: {k}: written and renamed", words)
            state[(f"renamed{i}",)] = torch.zeros_like(state.pop(way))
        ok(same_values(flat(converted(path)), state) and wfctl("verify", path).returncode == 0, f"{name}: torch finds the edits of those")
        check_ranks(path, state, work, f"{name} without slices of no rows")


def check_huggingface():
    """The set that HuggingFaceStorageWriter makes with an index: torch wants DCP_SHARDING_INFO of every tensor of each shard, after edits, too."""
    try:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
    except ImportError:
        tap.skip("HuggingFaceStorageWriter", f"torch {torch.__version__} has none")
        return
    with tempfile.TemporaryDirectory() as work:
        path, wanted = os.path.join(work, "set"), {f"layer.{i}.w": torch.arange(12.0).reshape(3, 4) + i for i in range(4)}
        wanted.update(scalar=torch.tensor(3), b=torch.arange(5).to(torch.bfloat16))
        dcp.save(dict(wanted), storage_writer=HuggingFaceStorageWriter(path, fqn_to_index_mapping={k: 1 + i % 2 for i, k in enumerate(wanted)}), no_dist=True)
        with open(os.path.join(work, "rows"), "wb") as f:
            f.write(bytes(4 * 8))
        wanted["more"], wanted["moved"], wanted["copy"] = torch.zeros(8), wanted.pop("layer.0.w"), wanted["layer.1.w"]
        del wanted["b"]
        edits = (("mv", "layer.0.w", "moved"), ("rm", "b"), ("ln", "layer.1.w", "copy"), ("set", "more", "--file", os.path.join(work, "rows")),
                 ("attr", "more", "dtype=float32"), ("attr", "scalar", "shape=[1]"))
        wanted["scalar"] = wanted["scalar"].reshape(1)
        for verb, *words in edits:
            r = wfctl(verb, path, *words)
            ok(r.returncode == 0, f"HuggingFaceStorageWriter's set: {verb} {' '.join(words[:1])}", r.stderr.decode())
            try:
                m = HuggingFaceStorageReader(path).read_metadata()
                problem = [k for k, v in wanted.items() if k in m.state_dict_metadata and m.state_dict_metadata[k].chunks[0].sizes != m.state_dict_metadata[k].size]
            except Exception as e:  # noqa: BLE001
                problem = repr(e)
            ok(not problem, f"HuggingFaceStorageWriter's set: {verb} {' '.join(words[:1])}: torch's reader", problem)
        found = {k: torch.ones_like(v) for k, v in wanted.items()}
        dcp.load(found, storage_reader=HuggingFaceStorageReader(path), no_dist=True)
        ok(same_values(found, wanted), "HuggingFaceStorageWriter's set: dcp.load finds the edits", differences(found, wanted))


def check_output(name):
    """A whole directory of its own: torch finds the edited state there, and the old one where it was."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
    from kit import World
    with World(sys.argv[1], lambda path: shutil.copytree(os.path.join(FIXTURES, name), path)) as w:
        out, old, state = os.path.join(w.dir, "out"), flat(converted(w.file)), flat(converted(w.file))
        r = w.mount("-o", f"output={out}")
        way = next(way for way, t in state.items() if isinstance(t, torch.Tensor) and t.numel() > 1)
        with open(os.path.join(w.mnt, *map(str, way)), "r+b") as f:
            f.write(bytes(state[way].element_size()))
        state[way].reshape(-1)[0] = 0
        os.rename(os.path.join(w.mnt, *map(str, way)), os.path.join(w.mnt, "renamed"))
        state[("renamed",)] = state.pop(way)
        u = wfctl("umount", w.mnt)
        ok(r.returncode == 0 and u.returncode == 0 and same_values(flat(converted(out)), state) and same_values(flat(converted(w.file)), old),
           f"{name}: output=DIRECTORY has the edits, and the checkpoint has not", u.stderr.decode())


def check_values():
    with tempfile.TemporaryDirectory() as work:
        check_arrays(work)
        check_unread(work)
        path = saved(work, values_state())
        os.unlink(os.path.join(path, ".metadata"))
        r = wfctl("ls", path)
        ok(r.returncode == 1 and b"without its .metadata" in r.stderr and r.stderr.count(b"\n") == 1, "a save that did not finish is called so", r.stderr)
        check_no_rows("dtensor-4")
        check_huggingface()
        if os.path.exists("/dev/fuse"):
            check_commits(work)
            for name in ("dtensor-2", "dtensor-4", "fsdp-3"):
                check_chunks(name, name == "dtensor-4")
            for name in ("nested", "dtensor-2"):
                check_output(name)
        else:
            tap.skip("commits of a mount, and which chunks they write", "there is no /dev/fuse")


if __name__ == "__main__":
    check_values()
    rng = random.Random(SEED)
    for name in ("nested", "dtensor-2", "dtensor-4", "fsdp-3", "nested-23", "nested-25", "items"):
        check(name, rng, name in ("nested", "dtensor-4"))
        check(name, rng, name == "dtensor-4", large=True)
    tap.done()
