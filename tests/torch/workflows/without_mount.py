#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows again by wfctl alone, where nothing can be mounted: each is the line of a shell, and torch judges the file.

Usage: without_mount.py BUILD_DIR [legacy] [append]. Prints TAP. As root it runs in a name space in which /dev/fuse is none.
"""
import os
import sys
from collections import OrderedDict

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", ".."))
import tap  # noqa: E402

tap.without_fuse()
sys.path.insert(0, os.path.join(HERE, "..", "..", "mount"))
import kit  # noqa: E402

kit.need_fuse = lambda: None
from common import APPEND, KEYS, LEGACY, Net, equal, fill, keys_of, load, ok, other, rows, same, sgd, torch, train  # noqa: E402

HOW = " --commit=append" if APPEND else ""


def general(w):
    model = fill(Net())
    optimizer = sgd(model)
    loss = train(model, optimizer, 2)
    saved = {"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss}
    w.save(saved)
    return saved


def printed(w):
    """Rows 1 and 2."""
    state = fill(Net()).state_dict()
    w.save(state)
    same(w.sh("wfctl ls model.pt"), "".join(f"{k} \t {v.size()}\n" for k, v in state.items()), "the tutorial's table")
    same(w.sh("wfctl cat model.pt conv1.bias 'fc3.weight[0, :5]'"), f"{state['conv1.bias'].numpy()}\n{state['fc3.weight'].numpy()[0, :5]}\n", "as NumPy prints")
    saved = general(w)
    same(w.sh("wfctl cat model.pt optimizer_state_dict/param_groups/0/momentum epoch"), "0.9\n10\n", "values of the optimizer")
    same(w.sh("wfctl cat model.pt optimizer_state_dict/param_groups/0/params").strip(), str(saved["optimizer_state_dict"]["param_groups"][0]["params"]),
         "params is one list")
    same(w.sh("wfctl ls -a model.pt optimizer_state_dict/state | wc -l"), "10\n", "a buffer of each parameter")


def inference(w):
    """Row 3: a model filled from the bytes that cat gives."""
    model = fill(Net())
    w.save(model.state_dict())
    empty = Net()
    for key in KEYS:
        w.sh(f"wfctl cat --raw model.pt {key} > bytes; wfctl cat --npy model.pt {key} > {key}.npy")
        with open(w.path("bytes"), "rb") as f:
            empty.state_dict()[key].copy_(torch.frombuffer(bytearray(f.read()), dtype=torch.float32).reshape(empty.state_dict()[key].shape))
    equal(empty.state_dict(), model.state_dict(), "filled from bytes alone")


def modules(w):
    """Rows 4 and 5: bytes of a whole model, and of TorchScript, set from another one's."""
    if LEGACY:
        return
    model, donor = fill(Net()), other(Net())
    w.save(donor.state_dict(), "donor.pt")
    w.save(model, "model.pt")
    torch.jit.script(model).save(w.path("script.pt"))
    for name in ("model.pt", "script.pt"):
        w.sh(f"wfctl cat --raw donor.pt fc3.bias | wfctl set {name} fc3.bias --file -{HOW}")
    got = torch.load(w.path("model.pt"), **({} if torch.__version__ < "2.6" else {"weights_only": False}))
    want = model.state_dict()
    want["fc3.bias"] = donor.state_dict()["fc3.bias"]
    equal(got.state_dict(), want, "the whole model has the edit")
    equal(dict(torch.jit.load(w.path("script.pt")).state_dict()), dict(want), "TorchScript has the edit")
    w.refused("wfctl mv model.pt fc3.bias x", "not moved")


def resumed(w):
    """Row 6."""
    saved = general(w)
    w.sh(f"wfctl set model.pt epoch 11{HOW}; wfctl set model.pt optimizer_state_dict/param_groups/0/lr 0.01{HOW}")
    saved["epoch"] = 11
    saved["optimizer_state_dict"]["param_groups"][0]["lr"] = 0.01
    w.judge("epoch and rate", saved)
    w.sh(f"wfctl rm -r model.pt optimizer_state_dict{HOW}")
    del saved["optimizer_state_dict"]
    w.judge("without the optimizer", saved)


def several(w):
    """Row 7: A out into a checkpoint of its own, and A and B swapped."""
    a, b = fill(Net()).state_dict(), other(Net()).state_dict()
    w.save({"modelA_state_dict": a, "modelB_state_dict": b})
    w.save({"epoch": 4}, "best.pt")
    w.sh(f"wfctl cp model.pt:modelA_state_dict best.pt:generator{HOW}")
    got = load(w.path("best.pt"))
    ok(isinstance(got["generator"], OrderedDict), "the class came along", type(got["generator"]))
    equal(dict(got["generator"]), dict(a), "modelA in another checkpoint")
    Net().load_state_dict(got["generator"], strict=True)
    w.sh(f"printf 'mv model.pt modelA_state_dict x\\nmv model.pt modelB_state_dict modelA_state_dict\\nmv model.pt x modelB_state_dict\\n' | wfctl -f -{HOW}")
    w.judge("A and B swapped", {"modelB_state_dict": a, "modelA_state_dict": b})


def warm_started(w):
    """Row 8."""
    state, donor = fill(Net()).state_dict(), other(Net()).state_dict()
    w.save(state)
    w.save(donor, "donor.pt")
    w.sh(f"wfctl mv model.pt fc3.weight head.weight{HOW}; wfctl rm model.pt 'fc2.*'{HOW}; wfctl cp 'donor.pt:conv1.*' model.pt:{HOW}")
    want = keys_of(state, lambda k: k.replace("fc3.weight", "head.weight"))
    for key in ("fc2.weight", "fc2.bias"):
        del want[key]
    for key in ("conv1.weight", "conv1.bias"):
        want[key] = donor[key]
    w.judge("renamed, dropped, taken from a donor", want)
    result = Net().load_state_dict(load(w.file), strict=False)
    same((result.missing_keys, result.unexpected_keys), (["fc2.weight", "fc2.bias", "fc3.weight"], ["head.weight"]), "missing and unexpected keys")


def data_parallel(w):
    """Row 9, and the other prefixes that people meet."""
    state = fill(Net()).state_dict()
    for before in ("module.", "_orig_mod.", "model.", "base_model.model."):
        w.save(keys_of(state, lambda k: before + k))
        expression = "s/^" + before.replace(".", "\\.") + "//"
        same(w.sh(f"wfctl rename --dry-run model.pt '{expression}'").splitlines()[0], f"{before}conv1.weight → conv1.weight", "a dry run tells")
        w.sh(f"wfctl rename model.pt '{expression}'{HOW}")
        w.judge(f"{before} off", state)
    w.sh(f"wfctl rename model.pt 's/^/module./'{HOW}")
    w.judge("module. on again", keys_of(state, lambda k: "module." + k))


def to_cpu(w):
    """Row 10: tags of a GPU."""
    state = fill(Net()).state_dict()
    w.save(state)
    w.sh(f"wfctl attr model.pt '*' location=cuda:0{HOW}")
    same(set(w.sh("wfctl attr model.pt '*' location | cut -f 2").split()), {"cuda:0"}, "all on a GPU")
    w.sh(f"wfctl attr model.pt '*' location=cpu{HOW}")
    w.judge("on the CPU again", state)


rows(printed, inference, modules, resumed, several, warm_started, data_parallel, to_cpu)
