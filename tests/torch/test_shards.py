#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hugging Face shards held against those who write and read them: random edits of sets that torch and safetensors wrote, and transformers'
from_pretrained of a set that was edited.

Usage: test_shards.py BUILD_DIRECTORY [--seconds N] [--from SEED]. Prints TAP; what wants transformers is skipped where it is not installed.
"""
import argparse
import gc
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import OrderedDict

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import done, ok, run, skip  # noqa: E402

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

args = argparse.ArgumentParser()
args.add_argument("build")
args.add_argument("--seconds", type=float, default=15)
args.add_argument("--from", type=int, default=1, dest="first")
args = args.parse_args()
WEIGHTFS, WFCTL = (os.path.join(args.build, "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
TOP = tempfile.mkdtemp(prefix="weightfs-shards-")
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.float16]


def index_of(directory):
    return glob.glob(f"{directory}/*.index.json")[0]


def load(directory):
    """As transformers does: every file that the index names. What it says must be true."""
    with open(index_of(directory)) as f:
        x = json.load(f)
    files, got, seen = sorted(set(x["weight_map"].values())), {}, {}
    for file in files:
        path = f"{directory}/{file}"
        part = load_file(path) if file.endswith("safetensors") else torch.load(path, weights_only=True, mmap=True)
        assert set(part) == {k for k, v in x["weight_map"].items() if v == file}, f"{file} disagrees with the index"
        seen.update({(file, t.untyped_storage().data_ptr()): t.untyped_storage().nbytes() for t in part.values() if t.numel()})
        got.update(part)
    assert sorted(os.listdir(directory)) == sorted([*files, os.path.basename(index_of(directory))]), "something is left over"
    assert x["metadata"]["total_size"] == sum(seen.values()), "total_size is not true"
    return {k: got[k] for k in x["weight_map"]}


def make_tensor(rng):
    shape = [rng.randrange(1, 9) for _ in range(rng.randrange(3))]
    return torch.randint(0, 100, shape).to(rng.choice(DTYPES))


def make(rng, directory, kind):
    """Keys in shards as split_torch_state_dict_into_shards leaves them; in .bin with ties, Parameters and an OrderedDict with _metadata."""
    want, weight_map, shards = OrderedDict(), {}, rng.randrange(1, 6)
    for i in range(shards):
        part = OrderedDict((f"m.{i}.{k}", make_tensor(rng)) for k in range(rng.randrange(1, 6)))
        name = f"{'model' if kind == 'st' else 'pytorch_model'}-{i + 1:05d}-of-{shards:05d}.{'safetensors' if kind == 'st' else 'bin'}"
        if kind == "st":
            save_file(part, f"{directory}/{name}", {"format": "pt"})
        else:
            if rng.random() < .5:
                part[f"m.{i}.tied"] = next(iter(part.values()))
            if rng.random() < .3:
                part[f"m.{i}.p"] = torch.nn.Parameter(torch.randn(3))
            part._metadata = OrderedDict([("", {"version": 1})])
            torch.save(part, f"{directory}/{name}")
        want.update(part)
        weight_map.update(dict.fromkeys(part, name))
    base = "model.safetensors" if kind == "st" else "pytorch_model.bin"
    with open(f"{directory}/{base}.index.json", "w") as f:
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in want.values()}
        json.dump({"metadata": {"total_size": sum(storages.values())}, "weight_map": weight_map}, f)
    return want


class Round:
    def __init__(self, seed):
        self.rng, self.kind = random.Random(seed), "st" if seed % 2 else "bin"
        torch.manual_seed(seed)
        self.dir, self.mnt = tempfile.mkdtemp(dir=TOP), tempfile.mkdtemp(dir=TOP)
        self.want = make(self.rng, self.dir, self.kind)
        self.mounted, self.count, self.did = False, 0, []

    def wfctl(self, *words):
        r = run(WFCTL, *words)
        assert r.returncode == 0, (words, r.stderr)

    @property
    def where(self):
        return self.mnt if self.mounted else self.dir

    def new_name(self):
        self.count += 1
        return f"n{self.count}"

    def rename(self, key):
        new = self.new_name()
        self.wfctl("mv", self.where, key, new)
        self.want = OrderedDict((new if k == key else k, v) for k, v in self.want.items())

    def remove(self, key):
        self.wfctl("rm", self.where, key)
        del self.want[key]

    def replace(self, key):
        old = self.want[key]
        new = torch.randint(0, 100, old.shape).to(old.dtype)
        if old.numel() == 0 or any(k != key and t.data_ptr() == old.data_ptr() for k, t in self.want.items()):
            return
        with open(f"{TOP}/data", "wb") as f:
            f.write(new.reshape(-1).view(torch.uint8).numpy().tobytes())
        self.wfctl("set", self.where, key, "--file", f"{TOP}/data")
        self.want[key] = new

    def add(self, key):
        new, tensor = self.new_name(), torch.randint(0, 100, (self.rng.randrange(1, 200),)).to(torch.uint8)
        with open(f"{TOP}/data", "wb") as f:
            f.write(tensor.numpy().tobytes())
        self.wfctl("set", self.where, new, "--file", f"{TOP}/data")
        self.want[new] = tensor

    def reshape(self, key):
        if any(k != key and t.data_ptr() == self.want[key].data_ptr() for k, t in self.want.items()):
            return
        self.wfctl("attr", self.where, key, f"user.torch.shape=[{self.want[key].numel()}]")
        self.want[key] = self.want[key].reshape(-1)

    def move(self, key):
        """To a shard that is there, or a new one; both names of a tie go."""
        with open(index_of(self.dir)) as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
        self.count += 1
        end = "safetensors" if self.kind == "st" else "bin"
        self.wfctl("attr", self.where, key, f"user.torch.shard={self.rng.choice([*files, f'shard{self.count}.{end}'])}")

    def commit(self, key):
        if self.mounted:
            self.wfctl("commit", self.mnt)
            self.compare()

    def switch(self, key):
        if not FUSE:
            return
        if self.mounted:
            self.wfctl("umount", self.mnt)
        else:
            r = run(WEIGHTFS, self.dir, self.mnt)
            assert r.returncode == 0, r.stderr
        self.mounted = not self.mounted

    def compare(self):
        got = load(self.dir)
        assert list(got) == list(self.want), (list(got), list(self.want))
        for k, t in self.want.items():
            assert got[k].dtype == t.dtype and got[k].shape == t.shape and torch.equal(got[k], t), k

    def run(self):
        for _ in range(12):
            keys = list(self.want)
            step = self.rng.choice([self.rename, self.remove, self.replace, self.add, self.add, self.reshape, self.move, self.move, self.commit, self.switch])
            if not keys and step not in (self.add, self.switch):
                continue
            self.did.append(step.__name__)
            step(self.rng.choice(keys) if keys else None)
            if not self.mounted:
                self.compare()
        if self.mounted:
            self.switch(None)
        self.compare()
        self.wfctl("verify", self.dir)


def random_rounds():
    seed, end = args.first, time.monotonic() + args.seconds
    while time.monotonic() < end:
        r = Round(seed)
        try:
            r.run()
        except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
            ok(False, f"round {seed}", f"{r.did}\n{e!r}")
            run("umount", "-l", r.mnt)
            break
        shutil.rmtree(r.dir)
        seed += 1
    ok(seed > args.first, f"{seed - args.first} rounds of random edits")


def check_objects():
    """The rest of a .bin shard's root: its class, _metadata, Parameters, ties."""
    rng, directory = random.Random(3), tempfile.mkdtemp(dir=TOP)
    a, p = torch.randn(4), torch.nn.Parameter(torch.randn(2, 2))
    part = OrderedDict(a=a, tied=a, p=p, view=a[1:3])
    part._metadata = OrderedDict([("", {"version": 2}), ("x", {"version": 1})])
    torch.save(part, f"{directory}/pytorch_model-00001-of-00001.bin")
    with open(f"{directory}/pytorch_model.bin.index.json", "w") as f:
        json.dump({"weight_map": dict.fromkeys(part, "pytorch_model-00001-of-00001.bin")}, f)
    r = run(WFCTL, "mv", directory, "p", "q")
    file = sorted(glob.glob(f"{directory}/*.bin"))
    got = torch.load(file[0], weights_only=True)
    ok(r.returncode == 0 and len(file) == 1 and type(got) is OrderedDict and got._metadata == part._metadata and list(got) == ["a", "tied", "q", "view"]
       and isinstance(got["q"], torch.nn.Parameter) and torch.equal(got["q"], p) and got["a"].data_ptr() == got["tied"].data_ptr()
       and got["view"].untyped_storage().data_ptr() == got["a"].untyped_storage().data_ptr() and torch.equal(got["view"], a[1:3]),
       "an OrderedDict, its _metadata, a Parameter, ties and views stay", (r, got, rng))


def check_transformers():
    try:
        from huggingface_hub import split_torch_state_dict_into_shards
        from transformers import AutoModelForCausalLM, LlamaConfig
    except ImportError:
        skip("from_pretrained of an edited set", "transformers is not installed")
        return
    home = tempfile.mkdtemp(dir=TOP)
    config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, vocab_size=100,
                         tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(home, max_shard_size="40KB")
    shards = glob.glob(f"{home}/*.safetensors")
    ok(len(shards) > 3 and glob.glob(f"{home}/*.index.json"), f"save_pretrained made {len(shards)} shards")
    wanted = model.state_dict()
    listed = [json.loads(line)["path"] for line in run(WFCTL, "ls", "--json", home).stdout.splitlines()]
    ok(sorted(listed) == sorted(wanted), "all are listed")
    name = "model.layers.2.mlp.up_proj.weight"
    wanted[name] = torch.ones_like(wanted[name])
    with open(f"{TOP}/data", "wb") as f:
        f.write(wanted[name].numpy().tobytes())
    r = run(WFCTL, "set", home, name, "--file", f"{TOP}/data")
    got = AutoModelForCausalLM.from_pretrained(home).state_dict()
    ok(r.returncode == 0 and got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in wanted), "from_pretrained of an edited set", r)
    run(WFCTL, "rename", home, r"s/^model\./decoder./")
    run(WFCTL, "rename", home, r"s/^decoder\./model./")
    got = AutoModelForCausalLM.from_pretrained(home).state_dict()
    ok(all(torch.equal(got[k], wanted[k]) for k in wanted) and len(glob.glob(f"{home}/*.safetensors")) == len(shards), "and of one of which all keys had other names")
    split = split_torch_state_dict_into_shards(wanted, max_shard_size="40KB")
    with open(index_of(home)) as f:
        x = json.load(f)
    ok(x["metadata"]["total_size"] == split.metadata["total_size"], "total_size is what huggingface_hub counts", x["metadata"])
    check_view(home, config, dict(wanted))
    check_variants(config)
    check_exported(config)


def check_view(home, config, wanted):
    """The one file that a mount of the set shows, with an edit that is not committed."""
    if not FUSE:
        return skip("from_pretrained of a mounted set's one file", "there is no /dev/fuse")
    mnt, out, name = tempfile.mkdtemp(dir=TOP), tempfile.mkdtemp(dir=TOP), "model.norm.weight"
    config.save_pretrained(out)
    r = run(WEIGHTFS, home, mnt)
    try:
        wanted[name] = torch.full_like(wanted[name], 3)
        with open(f"{mnt}/{name}", "r+b") as f:
            f.write(wanted[name].numpy().tobytes())
        os.symlink(f"{mnt}/.weightfs/model.safetensors", f"{out}/model.safetensors")
        ok(loads(out, wanted), "from_pretrained of the one file that a mounted set shows, as it is edited", r)
        gc.collect()
        run(WFCTL, "discard", mnt)
    finally:
        r = run(WFCTL, "umount", mnt)
    ok(r.returncode == 0, "  and it is unmounted", r)


def loads(directory, wanted, **more):
    """Whether from_pretrained, which reads the shards in several threads, finds exactly this."""
    from transformers import AutoModelForCausalLM
    got = AutoModelForCausalLM.from_pretrained(directory, **more).state_dict()
    return got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) and got[k].dtype == wanted[k].dtype for k in wanted)


def check_variants(config):
    """save_pretrained(variant=), in one file and in several, beside the model itself, which is what the directory is."""
    from transformers import AutoModelForCausalLM
    for size in ("1GB", "40KB"):
        home = tempfile.mkdtemp(dir=TOP)
        model, half = AutoModelForCausalLM.from_config(config).float(), AutoModelForCausalLM.from_config(config).half()
        model.save_pretrained(home, max_shard_size=size)
        half.save_pretrained(home, variant="fp16", max_shard_size=size)
        r = run(WFCTL, "ls", "--json", home)
        ok({json.loads(line)["dtype"] for line in r.stdout.splitlines()} == {"float32"}, f"shards of {size}: the model goes before its variant", r)
        variant = (glob.glob(f"{home}/*.index.fp16.json") or [f"{home}/model.fp16.safetensors"])[0]
        wanted, name = dict(half.state_dict()), "model.norm.weight"
        wanted[name] = torch.full_like(wanted[name], 2)
        with open(f"{TOP}/data", "wb") as f:
            f.write(wanted[name].numpy().tobytes())
        r = [run(WFCTL, *words) for words in (("set", variant, name, "--file", f"{TOP}/data"), ("mv", variant, name, "other"), ("mv", variant, "other", name))]
        ok(loads(home, wanted, variant="fp16", dtype=torch.float16), "  the variant is edited by its name", r)
        ok(loads(home, dict(model.state_dict()), dtype=torch.float32), "  and the model is what it was")
        for file in {*glob.glob(f"{home}/*.safetensors*")} - {*glob.glob(f"{home}/*fp16*")}:
            os.unlink(file)
        r = run(WFCTL, "set", home, name, "--file", f"{TOP}/data")
        ok(r.returncode == 0 and loads(home, wanted, variant="fp16", dtype=torch.float16), "  alone it is what the directory is", r)


def check_exported(config):
    """export --max-shard-size of what transformers saved in one file, with tied weights and without, is what it loads."""
    from transformers import AutoModelForCausalLM
    for tied in (False, True):
        config.tie_word_embeddings = tied
        home, out = tempfile.mkdtemp(dir=TOP), tempfile.mkdtemp(dir=TOP)
        model = AutoModelForCausalLM.from_config(config).float()
        model.save_pretrained(home)
        config.save_pretrained(out)
        r = run(WFCTL, "export", "--max-shard-size=40KB", home, f"{out}/model.safetensors")
        ok(r.returncode == 0 and len(glob.glob(f"{out}/*.safetensors")) > 3 and loads(out, dict(model.state_dict()), dtype=torch.float32),
           f"from_pretrained of exported shards{', tied weights' if tied else ''}", r)


try:
    check_objects()
    check_transformers()
    random_rounds()
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
