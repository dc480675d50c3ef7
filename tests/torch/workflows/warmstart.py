#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 8: a model is warm-started from another one's checkpoint: keys renamed, dropped, taken from a donor, a prefix changed."""
from collections import OrderedDict

from common import KEYS, Net, equal, fill, keys_of, load, ok, other, rows, same, torch


class Head(Net):
    """The model to be trained: its last layer has another name."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(84, 10)
        del self.fc3


def reports(w, model, missing, unexpected):
    """Loads with strict=False: torch names exactly these keys, and the other tensors are the file's."""
    state = load(w.file)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = model.load_state_dict(state, strict=False)
    same((result.missing_keys, result.unexpected_keys), (missing, unexpected), "load_state_dict(strict=False): missing and unexpected keys")
    equal({k: v for k, v in model.state_dict().items()}, {k: state.get(k, before[k]) for k in before}, "the rest is the checkpoint's")


def renamed(w):
    state = fill(Net()).state_dict()
    w.save(state)
    with w.mounted():
        w.sh("mv mnt/fc3.weight mnt/head.weight")
        same(w.sh("ls -U mnt").split(), [k.replace("fc3.weight", "head.weight") for k in KEYS], "in the place of the old name")
    w.judge("one key renamed", keys_of(state, lambda k: k.replace("fc3.weight", "head.weight")))
    reports(w, Head(), ["head.bias"], ["fc3.bias"])


def dropped(w):
    state = fill(Net()).state_dict()
    w.save(state)
    with w.mounted():
        w.sh("rm mnt/fc2.*")
        same(w.sh("ls -U mnt").split(), [k for k in KEYS if not k.startswith("fc2")], "fc2 is gone")
    for k in ("fc2.weight", "fc2.bias"):
        del state[k]
    w.judge("fc2 dropped", state)
    reports(w, Net(), ["fc2.weight", "fc2.bias"], [])


def from_a_donor(w):
    """The donor is a checkpoint of its own, mounted beside; conv1 of the file is replaced, or was not there."""
    state, donor = fill(Net()).state_dict(), other(Net()).state_dict()
    w.save(state)
    w.save(donor, "donor.pt")
    half = OrderedDict((k, v) for k, v in state.items() if not k.startswith("conv1"))
    w.save(half, "half.pt")
    with w.mounted("donor.pt", "donor", "ro"):
        with w.mounted():
            w.sh("cp -a donor/conv1.* mnt/")
        with w.mounted("half.pt", "half"):
            w.sh("cp -a donor/conv1.* half/")
            same(w.sh("getfattr --only-values -n user.torch.shape half/conv1.weight"), "[6, 3, 5, 5]", "the shape came along")
    for k in ("conv1.weight", "conv1.bias"):
        state[k] = half[k] = donor[k]
    w.judge("conv1 replaced by the donor's", state)
    half.move_to_end("conv1.weight") # a shell's * is sorted
    w.judge("conv1 added from the donor", half, "half.pt")
    w.judge("the donor is as it was", donor, "donor.pt")
    for name in ("model.pt", "half.pt"):
        result = Net().load_state_dict(load(w.path(name)), strict=True)
        ok(not result.missing_keys and not result.unexpected_keys, f"{name} loads strictly")


def prefix(w):
    state = fill(Net()).state_dict()
    w.save(state)
    with w.mounted():
        w.sh("cd mnt; rename 's/^conv/backbone.conv/' *")
        w.sh("cd mnt; rename 's/^(fc.)\\.weight$/$1.weight_v/' *")
    change = lambda k: (k.replace("conv", "backbone.conv") if k.startswith("conv") else k.replace(".weight", ".weight_v"))  # noqa: E731
    w.judge("a prefix over several keys", keys_of(state, change))
    reports(w, Net(), KEYS[:4] + ["fc1.weight", "fc2.weight", "fc3.weight"],
            [change(k) for k in KEYS[:4]] + ["fc1.weight_v", "fc2.weight_v", "fc3.weight_v"])


def all_at_once(w):
    """As one does it: several edits, a look in between, one commit."""
    state, donor = fill(Net()).state_dict(), other(Net()).state_dict()
    w.save(state)
    w.save(donor, "donor.pt")
    before = w.sh("sha256sum model.pt")
    with w.mounted(), w.mounted("donor.pt", "donor", "ro"):
        w.sh("mv mnt/fc3.weight mnt/head.weight; mv mnt/fc3.bias mnt/head.bias")
        w.sh("rm mnt/fc2.*")
        w.sh("cp -a donor/conv1.* mnt/")
        same(w.sh("cmp mnt/conv1.weight donor/conv1.weight; wfctl status mnt | grep -c '\"dirty\": true'"), "1\n", "edits are pending")
        same(w.sh("sha256sum model.pt"), before, "the file is untouched until the commit")
    state["conv1.weight"], state["conv1.bias"] = donor["conv1.weight"], donor["conv1.bias"]
    del state["fc2.weight"], state["fc2.bias"]
    w.judge("all of it", keys_of(state, lambda k: k.replace("fc3", "head")))
    reports(w, Head(), ["fc2.weight", "fc2.bias"], [])


rows(renamed, dropped, from_a_donor, prefix, all_at_once)
