#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 1: a model's state_dict is printed as in PyTorch's tutorial, without torch."""
import subprocess

from common import KEYS, Net, Workflow, done, fill, same, torch

with Workflow() as w:
    state = fill(Net()).state_dict()
    w.save(state)
    # the loop of the tutorial
    lines = "".join(f"{key} \t {state[key].size()}\n" for key in state)
    same(w.sh("wfctl ls model.pt"), lines, "wfctl ls prints what the tutorial's loop prints")
    with w.mounted(options="ro"):
        same(w.sh("cat mnt/.weightfs/summary"), lines, "so does the summary of the mount")
        same(w.sh("ls -U mnt").split(), KEYS, "ls -U: the keys, in order")
        same(w.sh("ls mnt").split(), sorted(KEYS), "ls: the keys")
        same(w.sh("wfctl ls model.pt fc"), "".join(x for x in lines.splitlines(True) if x.startswith("fc")), "wfctl ls with a prefix")
        same(w.sh("wfctl ls model.pt fc1.bias"), "fc1.bias \t torch.Size([120])\n", "wfctl ls with a key")
        w.refused("wfctl ls model.pt fd", "no key is, fits or begins with fd")
        said = dict(line.split("=", 1) for line in w.sh("getfattr -d mnt/conv1.weight").splitlines() if "=" in line)
        wanted = {"user.torch.dtype": '"float32"', "user.torch.shape": '"[6, 3, 5, 5]"', "user.torch.stride": '"[75, 25, 5, 1]"',
                  "user.torch.storage_offset": '"0"', "user.torch.location": '"cpu"', "user.torch.device": '"file"',
                  "user.torch.requires_grad": '"false"', "user.torch.class": '"torch.Tensor"', "user.numpy.descr": '"<f4"'}
        same({k: v for k, v in said.items() if k in wanted}, wanted, "getfattr -d")
        sizes = {key: int(size) for size, key in (line.split() for line in w.sh("cd mnt; stat -c '%s %n' *").splitlines())}
        same(sizes, {k: v.numel() * v.element_size() for k, v in state.items()}, "the sizes are the tensors' bytes")
    w.judge("reading changed nothing", state)
done()
