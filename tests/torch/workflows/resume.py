#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 6: a general checkpoint; the epoch and the rate are edited with echo, training resumes with them; the optimizer is dropped."""
from common import APPEND, Net, batch, equal, fill, load, ok, rows, same, sgd, torch, train


def checkpoint():
    model = fill(Net())
    optimizer = sgd(model)
    loss = train(model, optimizer, 2)
    return {"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss}


def resume(state):
    """What the tutorial does with a general checkpoint, and one step more."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    model.load_state_dict(state["model_state_dict"])
    optimizer.load_state_dict(state["optimizer_state_dict"])
    rate = optimizer.param_groups[0]["lr"]
    return state["epoch"], rate, train(model, optimizer), model.state_dict()


def continued(w):
    saved = checkpoint()
    w.save(saved)
    with w.mounted():
        same(w.sh("ls -U mnt"), "epoch\nmodel_state_dict\noptimizer_state_dict\nloss\n", "the parts of the checkpoint")
        same(w.sh("cat mnt/epoch mnt/loss mnt/optimizer_state_dict/param_groups/0/lr"), f"10\n{saved['loss']!r}\n0.001\n", "its values")
        w.sh("echo 11 > mnt/epoch")
        w.sh("echo 0.01 > mnt/optimizer_state_dict/param_groups/0/lr")
        w.refused("echo eleven | tee mnt/epoch", "Invalid argument") # a shell does not look at what close() says
        same(w.sh("cat mnt/epoch"), "11\n", "what is no number leaves the old one")
    saved["epoch"] = 11
    saved["optimizer_state_dict"]["param_groups"][0]["lr"] = 0.01
    w.judge("epoch and rate are new, types kept, the rest as it was", saved)
    got, wanted = resume(load(w.file)), resume(saved)
    same(got[:3], wanted[:3], "training resumes at that epoch, with that rate, to the same loss")
    equal(got[3], wanted[3], "and to the same weights")
    ok(got[0] == 11 and type(got[0]) is int and got[1] == 0.01, "epoch 11, rate 0.01")


def a_whole_number_as_the_rate(w):
    saved = checkpoint()
    w.save(saved)
    with w.mounted():
        w.sh("echo 1 > mnt/optimizer_state_dict/param_groups/0/lr; echo 2 > mnt/loss")
        same(w.sh("cat mnt/optimizer_state_dict/param_groups/0/lr mnt/loss"), "1.0\n2.0\n", "a float stays one")
    saved["optimizer_state_dict"]["param_groups"][0]["lr"] = 1.0
    saved["loss"] = 2.0
    w.judge("rate 1.0 is a float", saved)


def without_the_optimizer(w):
    saved = checkpoint()
    w.save(saved)
    before = len(open(w.file, "rb").read())
    with w.mounted():
        w.refused("rmdir mnt/optimizer_state_dict", "Directory not empty")
        w.sh("rm -r mnt/optimizer_state_dict")
        same(w.sh("ls -U mnt"), "epoch\nmodel_state_dict\nloss\n", "the optimizer is gone")
    momentum = sum(s["momentum_buffer"].numel() * 4 for s in saved.pop("optimizer_state_dict")["state"].values())
    w.judge("the checkpoint without its optimizer", saved)
    if APPEND: # its bytes are still there, dead
        w.sh("wfctl repack model.pt")
        w.judge("the same after wfctl repack", saved)
    ok(len(open(w.file, "rb").read()) <= before - momentum, "the file is smaller by its momentum")
    model = Net()
    model.load_state_dict(load(w.file)["model_state_dict"], strict=True)
    ok(torch.isfinite(model(batch())).all(), "and the model loads strictly")


rows(continued, a_whole_number_as_the_rate, without_the_optimizer)
