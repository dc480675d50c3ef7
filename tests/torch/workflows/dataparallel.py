#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 9: the prefix that DataParallel puts before every key goes and comes with one rename."""
from common import KEYS, Net, equal, fill, keys_of, load, ok, rows, same, torch


def strict(w, model, what):
    result = model.load_state_dict(load(w.file), strict=True)
    ok(not result.missing_keys and not result.unexpected_keys, f"{what}: a strict load")
    inner = getattr(model, "module", model)
    equal(inner.state_dict(), fill(Net()).state_dict(), f"{what}: its weights")


def off_and_on(w):
    wrapped = torch.nn.DataParallel(fill(Net())).state_dict()
    w.save(wrapped)
    with w.mounted():
        same(w.sh("ls -U mnt").split(), ["module." + k for k in KEYS], "every key has the prefix")
        w.sh("rename -d 's/^module\\.//' mnt/*")
        same(w.sh("ls -U mnt").split(), KEYS, "the prefix is off, the order as it was")
    w.judge("without the prefix", keys_of(wrapped, lambda k: k[len("module."):]))
    strict(w, Net(), "the bare model")
    with w.mounted():
        w.sh("cd mnt; rename 's/^/module./' *")
        same(w.sh("ls -U mnt").split(), ["module." + k for k in KEYS], "the prefix is on again")
    w.judge("with the prefix again", wrapped)
    strict(w, torch.nn.DataParallel(Net()), "the wrapper")


def inside_a_general_checkpoint(w):
    wrapped = torch.nn.DataParallel(fill(Net())).state_dict()
    saved = {"epoch": 1, "model": wrapped}
    w.save(saved)
    with w.mounted():
        w.sh("cd mnt/model; rename 's/^module\\.//' *")
    saved["model"] = keys_of(wrapped, lambda k: k[len("module."):])
    w.judge("one folder down", saved)


rows(off_and_on, inside_a_general_checkpoint)
