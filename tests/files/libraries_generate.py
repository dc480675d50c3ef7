#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes libraries/: directories that the libraries around torch wrote, and libraries/manifest.json, which says what their own readers find.

Usage: libraries_generate.py [OUTPUT_DIRECTORY]     run by a Python with torch (tests/torch/requirements.txt) and
    pip install accelerate==1.15.0 diffusers==0.42.1 lightning==2.6.6 megatron-core==0.16.1 peft==0.21.2
    pip install --no-deps torchtitan==0.3.0 torchdata tyro spmd_types==0.2.3 docstring_parser

Where a library wants GPUs for what is only files, the function that writes them is called as the library calls it: accelerate's and Lightning's of
FSDP, with two processes over gloo. Megatron asks CUDA to wait for nothing; it writes on one process.
"""
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", OMP_NUM_THREADS="1", PYTHONHASHSEED="0")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402
from zero_generate import load, told  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn, self.b = torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3, bias=False)

    def forward(self, x):
        return self.b(self.bn(self.a(x)))


# ---- one process: what is written, and what the library reads of it ----

def transformers(out):
    from transformers import AutoModelForCausalLM, LlamaConfig
    config = LlamaConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, vocab_size=20,
                         tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config).half()
    model.save_pretrained(out, variant="fp16", max_shard_size="2KB")
    got = AutoModelForCausalLM.from_pretrained(out, variant="fp16", dtype=torch.float16).state_dict()
    return {k: v for k, v in got.items() if k != "lm_head.weight"}  # tied, so that the format holds it once


def diffusers(out):
    from diffusers import UNet2DModel
    model = UNet2DModel(sample_size=4, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 4), norm_num_groups=2,
                        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, attention_head_dim=2)
    model.save_pretrained(out, variant="ema", max_shard_size="8KB", safe_serialization=False)
    return UNet2DModel.from_pretrained(out, variant="ema", use_safetensors=False).state_dict()


def peft(out):
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(Net(), LoraConfig(target_modules=["a", "b"], r=2))
    model.save_pretrained(out)
    from safetensors.torch import load_file
    return load_file(os.path.join(out, "adapter_model.safetensors"))


def megatron(out):
    for name, value in {"synchronize": None, "current_device": torch.device("cpu"), "empty_cache": None}.items():
        setattr(torch.cuda, name, lambda *_, value=value: value)
    from megatron.core.dist_checkpointing import ShardedObject, ShardedTensor, save
    one = ShardedTensor.from_rank_offsets
    model = {"model.embedding.weight": torch.rand(8, 6), "model.decoder.layers.weight": torch.rand(1, 3, 2),
             "model.norm": torch.rand(5).bfloat16(), "optimizer.state.exp_avg.model.norm": torch.rand(5)}
    layers = one("model.decoder.layers.weight", model["model.decoder.layers.weight"][0], (0, 0, 1), prepend_axis_num=1)
    state = {"model": {k: one(k, v) for k, v in model.items() if "layers" not in k}, "layers": layers, "iteration": 7,
             "extra": ShardedObject("model.extra/state", {"x": torch.arange(3)}, (1,), (0,)), "args": SimpleNamespace(tp=1)}
    os.makedirs(os.path.join(out, "iter_0000007"))
    save(state, os.path.join(out, "iter_0000007"))
    with open(os.path.join(out, "latest_checkpointed_iteration.txt"), "w") as f:
        f.write("7")
    return model


# ---- several ----

def sharded(mesh):
    from torch.distributed.fsdp import fully_shard
    model = Net()
    for layer in (model.a, model.b):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def trained(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.rand(4, 5)).sum().backward()
    optimizer.step()
    return optimizer


def accelerate(out, mesh, version):
    import accelerate.utils.fsdp_utils as fsdp
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardedOptimStateDictConfig, ShardedStateDictConfig, StateDictType
    fsdp.logger = SimpleNamespace(info=lambda _: None)
    model = sharded(mesh) if version == 2 else FullyShardedDataParallel(Net(), device_id=torch.device("cpu"), use_orig_params=True)
    optimizer = trained(model)
    plugin = SimpleNamespace(fsdp_version=version, state_dict_type=StateDictType.SHARDED_STATE_DICT, state_dict_config=ShardedStateDictConfig(True),
                             optim_state_dict_config=ShardedOptimStateDictConfig(True))
    accelerator = SimpleNamespace(num_processes=mesh.size(), process_index=dist.get_rank())
    fsdp.save_fsdp_model(plugin, accelerator, model, out)
    fsdp.save_fsdp_optimizer(plugin, accelerator, optimizer, model, out)


def lightning(out, mesh):
    from lightning.fabric.strategies.fsdp import _METADATA_FILENAME, _distributed_checkpoint_save
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
    import pathlib
    model = sharded(mesh)
    optimizer = trained(model)
    os.makedirs(out, exist_ok=True)
    _distributed_checkpoint_save({"model": get_model_state_dict(model), "optimizer_0": get_optimizer_state_dict(model, optimizer)}, pathlib.Path(out))
    if dist.get_rank() == 0:
        torch.save({"epoch": 1, "global_step": 8, "loops": {"fit_loop": {"state_dict": {}, "seen": torch.arange(3)}}, "hparams_name": "kwargs",
                    "hyper_parameters": {"lr": 0.1}, "lr_schedulers": [{"last_epoch": 2}]}, os.path.join(out, _METADATA_FILENAME))


class Stateful:
    """What torch takes for an object that tells its state."""

    def __init__(self, state):
        self.state_dict = self.load_state_dict = state


def of_hub(state):
    """Another name for each; torch's consolidation takes floating point alone."""
    return {"model." + k: v for k, v in state.items() if v.is_floating_point()}


def torchtitan(out, mesh):
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
    from torchtitan.components.checkpointer.dcp import CheckpointManager
    model = sharded(mesh)
    optimizer = trained(model)
    config = CheckpointManager.Config(enable=True, folder=os.path.basename(out), interval=10, last_save_model_only=True, last_save_in_hf=True)
    optimizers = Stateful(lambda: get_optimizer_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True)))
    optimizers.init_cache_state_dict = lambda: None
    adapter = SimpleNamespace(to_hf=of_hub, fqn_to_index_mapping={k: 1 + i % 2 for i, k in enumerate(of_hub(model.state_dict()))})
    manager = CheckpointManager(config, dataloader=Stateful(lambda: {f"dp_rank_{dist.get_rank()}": b"data", "world_size": mesh.size()}),
                                model_parts=[model], optimizers=optimizers, lr_schedulers=Stateful(lambda: {"last_epoch": 10}),
                                states={"train_state": Stateful(lambda: {"step": torch.tensor(10)})}, sd_adapter=adapter, base_folder=os.path.dirname(out))
    manager.save(10)
    manager.save(15, last_step=True)
    whole = {k: v.full_tensor() if hasattr(v, "full_tensor") else v for k, v in model.state_dict().items()}
    if dist.get_rank() == 0:
        torch.save(whole, out + ".whole")


SEVERAL = {"accelerate-fsdp1": lambda *a: accelerate(*a, 1), "accelerate-fsdp2": lambda *a: accelerate(*a, 2), "lightning": lightning,
           "torchtitan": torchtitan}


def rank(number, world, name, out, store):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo", init_method="file://" + store, rank=number, world_size=world)
    from torch.distributed.device_mesh import init_device_mesh
    SEVERAL[name](out, init_device_mesh("cpu", (world,)))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # torch's threads now and then abort an ordinary exit


# ---- what the readers of those find ----

def merged(out, work):
    from accelerate.utils import merge_fsdp_weights
    from safetensors.torch import load_file
    merge_fsdp_weights(os.path.join(out, "pytorch_model_fsdp_0"), work)
    return load_file(os.path.join(work, "model.safetensors"))


def consolidated(out, work):
    file = os.path.join(work, "whole.ckpt")
    subprocess.run([sys.executable, "-m", "lightning.pytorch.utilities.consolidate_checkpoint", out, "--output_file", file], check=True)
    return load(file)["state_dict"]


def entry(path, prefix, tensors):
    """What stands below `prefix` in the directory, or below; sorted, since the order is that of a hash in some."""
    return {"path": path, "prefix": prefix, "tensors": {k: told(v) for k, v in sorted(tensors.items())}}


def main():
    out = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(HERE, "libraries")
    manifest = {}
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for make in (transformers, diffusers, peft):
        torch.manual_seed(1)
        manifest[make.__name__] = entry(make.__name__, "", make(os.path.join(out, make.__name__)))
    for name in SEVERAL:
        with tempfile.TemporaryDirectory() as work:
            target = os.path.join(out, name)
            mp.spawn(rank, (2, name, target, os.path.join(work, "store")), nprocs=2)
            if name == "torchtitan":
                whole = load(target + ".whole")
                os.remove(target + ".whole")
                manifest[name] = entry(f"{name}/step-10", "", whole)
                manifest[name + "-hf"] = entry(f"{name}/step-15", "", of_hub(whole))
                manifest[name + "-hf-sharded"] = entry(f"{name}/step-15/sharded", "", of_hub(whole))
            elif name == "lightning":
                manifest[name] = entry(name, "model/", consolidated(target, work))
            else:
                manifest[name] = entry(name, "pytorch_model_fsdp_0/model/", merged(target, work))
                manifest[name + "-model"] = entry(f"{name}/pytorch_model_fsdp_0", "model/", merged(target, work))
    with tempfile.TemporaryDirectory() as work:
        dist.init_process_group("gloo", init_method="file://" + os.path.join(work, "store"), rank=0, world_size=1)
        manifest["megatron"] = entry("megatron", "", megatron(os.path.join(out, "megatron")))
        dist.destroy_process_group()
    for folder, _, files in os.walk(out):
        for file in files:
            if file.endswith((".md", "config.json")):
                os.remove(os.path.join(folder, file))
            else:
                os.chmod(os.path.join(folder, file), 0o644)
    with open(os.path.join(out, "manifest.json"), "w") as f:
        json.dump(manifest, f, indent=1, sort_keys=True)
        f.write("\n")
    for child in multiprocessing.active_children():  # Megatron's writer
        child.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
