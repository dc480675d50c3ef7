#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 5: a TorchScript archive, scripted and traced, shows its state_dict keys; bytes are edited in place and torch.jit runs it."""
from collections import OrderedDict

from common import KEYS, Net, batch, equal, fill, ok, read, rows, same, torch


def edit(w, kind, script):
    model = fill(Net()).eval()
    script(model).save(w.path("model_scripted.pt"))
    with w.mounted("model_scripted.pt"):
        same(w.sh("ls -U mnt").split(), KEYS, f"{kind}: the module's state_dict keys, in order")
        same([read(w.path(f"mnt/{k}")) for k in KEYS], [v.numpy().tobytes() for v in model.state_dict().values()], f"{kind}: their bytes")
        w.sh("printf 00000040 | xxd -r -p | dd of=mnt/fc3.bias bs=4 seek=2 conv=notrunc status=none")
        w.sh("head -c 480 /dev/zero > mnt/fc1.bias")
        for line in ("mv mnt/fc3.bias mnt/other", "rm mnt/fc3.bias", "cp mnt/fc3.bias mnt/new"):
            w.refused(line, "Operation not permitted")
    with torch.no_grad():
        model.fc3.bias[2] = 2.0
        model.fc1.bias.zero_()
        edited = torch.jit.load(w.path("model_scripted.pt"))
        ok(torch.equal(edited(batch()), script(model)(batch())), f"{kind}: torch.jit.load's outputs follow the edit")
    equal(OrderedDict(edited.state_dict()), OrderedDict(model.state_dict().items()), f"{kind}: the rest is as it was")


def scripted(w):
    edit(w, "scripted", torch.jit.script)


def traced(w):
    edit(w, "traced", lambda model: torch.jit.trace(model, batch()))


rows(scripted, traced)
