#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 2: an optimizer's state_dict as directories: equal values, equal types."""
import json
import re

from common import Net, fill, read, rows, same, sgd, torch, train


def value(w, path):
    """A value as its file and its class say."""
    text = w.sh(f"cat {path}")
    kind = re.search('="(.*)"', w.sh(f"getfattr -n user.torch.class {path}"))[1]
    if kind == "str":
        return text
    value = json.loads(text)
    return tuple(value) if kind == "tuple" else value


def group_equals(w, path, group):
    names = w.sh(f"ls -U {path}").split()
    same(names, list(group), f"{path}: the same names in the same order")
    got = {k: value(w, f"{path}/{k}") for k in names}
    same({k: (type(v), v) for k, v in got.items()}, {k: (type(v), v) for k, v in group.items()}, f"{path}: equal values and types")


def before_the_first_step(w):
    model = fill(Net())
    state = sgd(model).state_dict()
    w.save(state)
    with w.mounted(options="ro"):
        group = state["param_groups"][0]
        listing = w.sh("ls -R mnt")
        wanted = ["mnt:\nparam_groups\nstate\n", "\nmnt/param_groups:\n0\n", "\nmnt/param_groups/0:\n" + "\n".join(sorted(group)) + "\n",
                  "\nmnt/state:\n"]
        same(listing, "".join(wanted), "ls -R: state is empty before the first step")
        same(w.sh("cat mnt/param_groups/0/lr mnt/param_groups/0/momentum"), "0.001\n0.9\n", "lr and momentum, as written in Python")
        same(w.sh("cat mnt/param_groups/0/params"), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n", "params is one JSON list")
        group_equals(w, "mnt/param_groups/0", group)
    w.judge("reading changed nothing", state)


def after_a_step(w):
    model = fill(Net())
    optimizer = sgd(model)
    train(model, optimizer)
    state = optimizer.state_dict()
    w.save(state)
    with w.mounted(options="ro"):
        same(w.sh("ls -U mnt/state").split(), [str(i) for i in range(10)], "one directory of state for each parameter")
        same(w.sh("ls mnt/state/3"), "momentum_buffer\n", "with its momentum")
        same([read(w.path(f"mnt/state/{i}/momentum_buffer")) for i in range(10)],
             [state["state"][i]["momentum_buffer"].numpy().tobytes() for i in range(10)], "the momentum's bytes")
        group_equals(w, "mnt/param_groups/0", state["param_groups"][0])
        same(w.sh("getfattr -n user.torch.key mnt/state/3").splitlines()[1], 'user.torch.key="3"', "keys are ints")


def old_ids(w):
    """Up to torch 1.5, params and state were keyed by the address of the parameter."""
    first = 139846512349184
    ids = [first + 72 * i for i in range(10)] + [2**63 - 1, 2**64 + 5]
    state = {"state": {i: {"momentum_buffer": torch.full((2,), float(n))} for n, i in enumerate(ids)},
             "param_groups": [{"lr": 0.001, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "params": ids}]}
    w.save(state)
    with w.mounted():
        same(w.sh("cat mnt/param_groups/0/params"), json.dumps(ids) + "\n", "params with big ids")
        same(w.sh("ls -U mnt/state").split(), [str(i) for i in ids], "state with big ids")
        w.sh(f"rm -r mnt/state/{ids[3]}; echo 0.5 > mnt/param_groups/0/lr")
    del state["state"][ids[3]]
    state["param_groups"][0]["lr"] = 0.5
    w.judge("big ids come back as they were", state)


rows(before_the_first_step, after_a_step, old_ids)
