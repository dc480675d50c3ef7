#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 3: a model is filled from the mount's files alone, by torch.from_file and numpy.memmap, and answers as the saved one does."""
import json
import os

import numpy as np

from common import KEYS, VERSION, Net, Workflow, batch, done, fill, ok, same, torch


def attribute(path, name):
    return os.getxattr(path, name).decode()


def by_torch(path, shared):
    shape = json.loads(attribute(path, "user.torch.shape"))
    return torch.from_file(path, shared=shared, size=os.path.getsize(path) // 4, dtype=torch.float32).reshape(shape)


def by_numpy(path):
    # the line of the README
    shape = tuple(json.loads(attribute(path, "user.torch.shape")))
    return torch.from_numpy(np.memmap(path, np.dtype(attribute(path, "user.numpy.descr")), "c", shape=shape))


def answers(fill_it, what, wanted, mnt):
    model = Net()
    tensors = {key: fill_it(os.path.join(mnt, key)) for key in KEYS}
    if VERSION >= (2, 1):
        model.load_state_dict(tensors, strict=True, assign=True)
    else:
        model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        ok(torch.equal(model.eval()(batch()), wanted), f"{what}: outputs are equal bit for bit")


with Workflow() as w:
    model = fill(Net()).eval()
    with torch.no_grad():
        wanted = model(batch())
    w.save(model.state_dict())
    for options in ("ro", "rw"):
        with w.mounted(options=options):
            same(w.sh("ls -U mnt").split(), KEYS, f"{options}: the model's keys")
            answers(lambda p: by_torch(p, False), f"{options}: torch.from_file(shared=False)", wanted, w.mnt)
            if options == "rw": # a shared mapping asks for the right to write
                answers(lambda p: by_torch(p, True), "rw: torch.from_file(shared=True)", wanted, w.mnt)
            answers(by_numpy, f"{options}: numpy.memmap", wanted, w.mnt)
    w.judge("reading changed nothing", model.state_dict())
done()
