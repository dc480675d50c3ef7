#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 7: several models in one file; one is taken out, put into another checkpoint, and two are swapped."""
from collections import OrderedDict

from common import Net, equal, fill, in_order_of, load, ok, other, rows, same, sgd, train


def gan():
    a, b = fill(Net()), other(Net())
    optimizers = sgd(a), sgd(b)
    for model, optimizer in zip((a, b), optimizers):
        train(model, optimizer)
    return {"modelA_state_dict": a.state_dict(), "modelB_state_dict": b.state_dict(), "optimizerA_state_dict": optimizers[0].state_dict(),
            "optimizerB_state_dict": optimizers[1].state_dict()}


def loads_strictly(state, wanted, what):
    model = Net()
    result = model.load_state_dict(state, strict=True)
    ok(not result.missing_keys and not result.unexpected_keys, f"{what} loads strictly")
    equal(model.state_dict(), wanted, f"{what}: its weights")


def taken_out(w):
    saved = gan()
    w.save(saved)
    with w.mounted(options="ro"):
        same(w.sh("ls -U mnt").split(), list(saved), "both models and both optimizers")
        w.sh("mkdir other; cp -a mnt/modelA_state_dict/. other/")
        same(w.sh("diff -r mnt/modelA_state_dict other; ls other | wc -l"), "10\n", "modelA on disk: the same files")
        forms = "getfattr -d -m 'user.torch.(shape|dtype)' *"
        same(w.sh(f"cd other; {forms}"), w.sh(f"cd mnt/modelA_state_dict; {forms}"), "with shape and dtype")
    w.judge("reading changed nothing", saved)


def into_another(w):
    """The model goes through a folder on disk, and from mount to mount."""
    saved = gan()
    w.save(saved)
    best = {"epoch": 3, "generator": OrderedDict(), "name": "best"}
    w.save(best, "best.pt")
    w.save({"epoch": 4}, "direct.pt")
    with w.mounted(options="ro"):
        w.sh("mkdir other; cp -a mnt/modelA_state_dict/. other/")
        with w.mounted("best.pt", "best"):
            w.sh("cp -a other/. best/generator/")
        with w.mounted("direct.pt", "direct"):
            w.sh("cp -a mnt/modelA_state_dict direct/generator")
    for name in ("best.pt", "direct.pt"):
        got = load(w.path(name))
        loads_strictly(got["generator"], saved["modelA_state_dict"], f"{name}: modelA")
        if name == "direct.pt": # a folder on disk has an order of its own
            same(list(got["generator"]), list(saved["modelA_state_dict"]), f"{name}: in the same order")
        same(got["epoch"], 3 if name == "best.pt" else 4, f"{name}: the rest is as it was")
    # what was copied is an ordinary state dict: judged in every way of loading, without the module versions that only torch knows
    best["generator"] = OrderedDict(saved["modelA_state_dict"].items())
    w.judge("the checkpoint that got modelA", in_order_of(load(w.path("best.pt")), best), "best.pt")


def with_its_optimizer(w):
    """A model and its optimizer, whose state has int keys and whose groups are a list, into an empty checkpoint: training goes on there."""
    saved = gan()
    w.save(saved)
    w.save({}, "one.pt")
    with w.mounted(options="ro"), w.mounted("one.pt", "one"):
        w.sh("cp -a mnt/modelA_state_dict one/model; cp -a mnt/optimizerA_state_dict one/optimizer")
    model = OrderedDict(saved["modelA_state_dict"].items())
    w.judge("modelA and its optimizer", {"model": model, "optimizer": saved["optimizerA_state_dict"]}, "one.pt", "model.pt")
    losses = []
    for state in (load(w.path("one.pt")), {"model": model, "optimizer": saved["optimizerA_state_dict"]}):
        net = Net()
        net.load_state_dict(state["model"])
        optimizer = sgd(net)
        optimizer.load_state_dict(state["optimizer"])
        losses.append(train(net, optimizer, 3))
    same(losses[0], losses[1], "training goes on as it would have")


def swapped(w):
    saved = gan()
    w.save(saved)
    with w.mounted():
        w.sh("mv mnt/modelA_state_dict mnt/t; mv mnt/modelB_state_dict mnt/modelA_state_dict; mv mnt/t mnt/modelB_state_dict")
        same(w.sh("ls -U mnt").split(), ["modelB_state_dict", "modelA_state_dict", "optimizerA_state_dict", "optimizerB_state_dict"],
             "a renamed entry stays where it was")
    a, b = saved.pop("modelA_state_dict"), saved.pop("modelB_state_dict")
    swapped = {"modelB_state_dict": a, "modelA_state_dict": b, **saved}
    w.judge("A and B have changed places", swapped)
    got = load(w.file)
    loads_strictly(got["modelA_state_dict"], b, "modelA, which was B,")
    loads_strictly(got["modelB_state_dict"], a, "modelB, which was A,")


def removed(w):
    saved = gan()
    w.save(saved)
    with w.mounted():
        w.sh("rm -r mnt/*B_state_dict")
    del saved["modelB_state_dict"], saved["optimizerB_state_dict"]
    w.judge("one model and its optimizer are left", saved)


rows(taken_out, into_another, with_its_optimizer, swapped, removed)
