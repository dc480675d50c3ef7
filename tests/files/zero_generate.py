#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes zero/: directories that DeepSpeed wrote, and zero/manifest.json, which says what DeepSpeed finds in them.

Usage: zero_generate.py [OUTPUT_DIRECTORY]      run by a Python with torch (tests/torch/requirements.txt) and deepspeed:
                                                DS_BUILD_OPS=0 pip install deepspeed==0.19.8

Each is written by as many processes as it has ranks, over gloo, after a few steps of training. What a parameter is, is said by
zero_to_fp32's get_fp32_state_dict_from_zero_checkpoint, and what a moment is by ds_to_universal, never by weightfs.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.update(DS_ACCELERATOR="cpu", DS_BUILD_OPS="0", PYTHONWARNINGS="ignore", OMP_NUM_THREADS="1", PYTHONHASHSEED="0")

import torch  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
# name: ranks, stage, bf16, a frozen parameter, parameter groups, elements of a sub group of stage 3
CASES = {
    "stage0": (2, 0, False, False, 1, None),
    "stage1-groups": (2, 1, False, True, 2, None),
    "stage1-bf16": (3, 1, True, False, 2, None),
    "stage2-bf16": (3, 2, True, True, 1, None),
    "stage2-11-ranks": (11, 2, False, False, 1, None),
    "stage3-groups": (2, 3, False, True, 2, None),
    "stage3-bf16": (3, 3, True, True, 1, 12),
}
UNIVERSAL = ("stage2-bf16", "stage3-groups")


class Net(torch.nn.Module):
    def __init__(self, bf16):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 5)
        self.norm = torch.nn.LayerNorm(5) if bf16 else torch.nn.BatchNorm1d(5)
        self.first = torch.nn.Linear(5, 7)
        self.frozen = torch.nn.Linear(7, 5, bias=False)
        self.head = torch.nn.Linear(5, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scale = torch.nn.Parameter(torch.tensor([1.5]))
        self.register_buffer("steps", torch.arange(4))
        self.register_buffer("running", torch.rand(2, 3))
        self.register_buffer("not_saved", torch.ones(3), persistent=False)

    def forward(self, x):
        y = torch.relu(self.first(self.norm(self.embed(x))))
        return self.head(self.frozen(y) * self.scale)


def train(rank, case, out, port):
    ranks, stage, bf16, frozen, groups, sub_group = case
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    import deepspeed
    deepspeed.init_distributed("gloo")
    zero = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    if sub_group:
        zero["sub_group_size"] = sub_group
    config = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": zero}
    if bf16:
        config["bf16"] = {"enabled": True}
    torch.manual_seed(5)
    net = Net(bf16)
    net.frozen.weight.requires_grad_(not frozen)
    params = [p for p in net.parameters() if p.requires_grad]
    if groups == 2:
        params = [{"params": params[:2], "weight_decay": 0.0}, {"params": params[2:], "weight_decay": 0.1}]
    optimizer = torch.optim.Adam(params, lr=1e-3, amsgrad=stage == 1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    engine, *_ = deepspeed.initialize(model=net, optimizer=optimizer, lr_scheduler=scheduler, config=config)
    torch.manual_seed(rank)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(engine(torch.randint(0, 11, (4,))).float(), torch.randint(0, 11, (4,)))
        engine.backward(loss)
        engine.step()
    engine.save_checkpoint(out, client_state={"epoch": 7, "note": "made for tests", "table": torch.arange(6.).reshape(2, 3)})


APART = {"moe": "experts", "pipeline": "pipeline"}  # what is not put together, and the word that says why


def train_apart(rank, kind, out, port):
    """Experts on two ranks, or the layers of a model on two."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    import deepspeed
    import deepspeed.comm.torch  # noqa: F401
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # gloo does, and that would be compiled first
    deepspeed.init_distributed("gloo")
    torch.manual_seed(5)
    config = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 1}, "optimizer": {"type": "Adam", "params": {"lr": 0.01, "torch_adam": True}}}
    linear = torch.nn.Linear
    if kind == "moe":
        from deepspeed.moe.layer import MoE
        from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

        class Mixture(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.moe, self.last = linear(8, 8), MoE(8, linear(8, 8), num_experts=4, ep_size=2, k=1), linear(8, 2)

            def forward(self, x):
                return self.last(self.moe(self.first(x))[0]).sum()
        net = Mixture()
        params = split_params_into_different_moe_groups_for_optimizer({"params": list(net.parameters()), "name": "p"})
        engine, *_ = deepspeed.initialize(model=net, model_parameters=params, config=config)
        for _ in range(2):
            engine.backward(engine(torch.randn(16, 8)))
            engine.step()
    else:
        from deepspeed.pipe import LayerSpec, PipelineModule
        net = PipelineModule([LayerSpec(linear, 8, 8), LayerSpec(torch.nn.ReLU), LayerSpec(linear, 8, 8), LayerSpec(linear, 8, 2)], num_stages=2,
                             loss_fn=torch.nn.MSELoss())
        engine, *_ = deepspeed.initialize(model=net, model_parameters=list(net.parameters()), config=config)
        for _ in range(2):
            engine.train_batch(iter(lambda: (torch.randn(4, 8), torch.randn(4, 2)), None))
    engine.save_checkpoint(out, tag="global_step2")


def make_apart(kind, out, port):
    """The tensors of each file that has parameters, by its name."""
    with tempfile.TemporaryDirectory() as scratch:
        made = os.path.join(scratch, "made")
        mp.spawn(train_apart, (kind, made, port), nprocs=2)
        shutil.copytree(made, os.path.join(out, kind), ignore=shutil.ignore_patterns("*.py"))
    files = {}
    folder = os.path.join(out, kind, "global_step2")
    for name in sorted(f for f in os.listdir(folder) if f.startswith("layer_")):
        files[name] = {k: told(v) for k, v in load(os.path.join(folder, name)).items()}
    return {"apart": APART[kind], "files": files}


def to_universal(source, target):
    tag = open(os.path.join(source, "latest")).read().strip()
    subprocess.run([sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--input_folder", os.path.join(source, tag), "--output_folder",
                    os.path.join(target, tag + "_universal"), "--num_extract_workers", "1", "--num_merge_workers", "1",
                    "--inject_missing_state"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# ---- what DeepSpeed finds ----

def told(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "sha256": hashlib.sha256(data).hexdigest()}


def load(path):
    return torch.load(path, map_location="cpu", weights_only=False)


def model_of(directory):
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    tag = open(os.path.join(directory, "latest")).read().strip()
    whole = os.path.join(directory, tag, "mp_rank_00_model_states.pt")
    module = load(whole)["module"] if os.path.exists(whole) else {}
    if not any("optim_states" in name for name in os.listdir(os.path.join(directory, tag))):
        return module
    # a parameter that it leaves out, for the optimizer does not have it, stands in the model's file
    return {**module, **get_fp32_state_dict_from_zero_checkpoint(directory)}


def moments_of(universal, model):
    """Of stage 3 they are flat there."""
    zero = os.path.join(universal, os.listdir(universal)[0], "zero")
    if "latest_universal" in os.listdir(universal):
        zero = os.path.join(universal, open(os.path.join(universal, "latest_universal")).read().strip(), "zero")
    moments = {}
    for name in sorted(os.listdir(zero)):
        folder = os.path.join(zero, name)
        for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            value = load(os.path.join(folder, file))
            value = value["param"] if isinstance(value, dict) else value
            if file != "fp32.pt":
                moments[f"{name}/{file[:-3]}"] = value if value.dim() == 0 else value.reshape(model[name].shape)
    return moments


def universal_of(universal, model):
    """A frozen parameter is of fp32 there; of a buffer there is a copy in fp32, and itself in the model's file."""
    tag = os.path.join(universal, open(os.path.join(universal, "latest_universal")).read().strip())
    for name in model:
        path = os.path.join(tag, "zero", name, "fp32.pt")
        if name == "frozen.weight" and os.path.exists(path):
            value = load(path)
            model = {**model, name: value["param"] if isinstance(value, dict) else value}
    return model


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "zero")
    manifest = {}
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for i, (name, case) in enumerate(CASES.items()):
        with tempfile.TemporaryDirectory() as scratch:
            made, universal = os.path.join(scratch, "made"), os.path.join(scratch, "universal")
            mp.spawn(train, (case, made, 29600 + (os.getpid() + i) % 300), nprocs=case[0])
            model = model_of(made)
            entry = {"ranks": case[0], "model": {k: told(v) for k, v in model.items()}, "optimizer": {}}
            if 0 < case[1] and not name.endswith("-ranks"):
                to_universal(made, universal)
                entry["optimizer"] = {k: told(v) for k, v in moments_of(universal, model).items()}
            manifest[name] = entry
            shutil.copytree(made, os.path.join(out, name), ignore=shutil.ignore_patterns("*.py"))
            if name in UNIVERSAL:
                manifest["universal-" + name] = {**entry, "model": {k: told(v) for k, v in universal_of(universal, model).items()}}
                shutil.copytree(universal, os.path.join(out, "universal-" + name), ignore=shutil.ignore_patterns("tmp"))
    for kind in APART:
        manifest[kind] = make_apart(kind, out, 29600 + (os.getpid() + 100) % 300)
    with open(os.path.join(out, "manifest.json"), "w") as f:
        json.dump(manifest, f, indent=1, sort_keys=True)
        f.write("\n")
    for folder, _, files in os.walk(out):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)


if __name__ == "__main__":
    main()
