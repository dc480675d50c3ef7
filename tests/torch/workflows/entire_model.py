#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 4: a model saved whole shows its state_dict keys; bytes are edited in place; torch finds the class, nobody else does."""
import sys

from common import KEYS, Net, batch, fill, load, ok, read, rows, same, torch

# A class that leaves a mark when its module is imported.
MARKED = """open({mark!r}, "a").write("imported\\n")
import torch
class Marked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
"""


def edited_in_place(w):
    model = fill(Net())
    w.save(model)
    with w.mounted():
        same(w.sh("ls -U mnt").split(), KEYS, "the module's state_dict keys, in order")
        same([read(w.path(f"mnt/{k}")) for k in KEYS], [v.numpy().tobytes() for v in model.state_dict().values()], "and their bytes")
        ok("models.Net\n" in w.sh("cat mnt/.weightfs/globals"), "the class is only named")
        # 1.0 into fc3.bias[7], two numbers into conv1.weight
        w.sh("printf '\\000\\000\\200\\077' | dd of=mnt/fc3.bias bs=4 seek=7 conv=notrunc status=none")
        w.sh("printf '0000004000004040' | xxd -r -p | dd of=mnt/conv1.weight bs=4 seek=100 conv=notrunc status=none")
        for line in ("mv mnt/fc3.bias mnt/other", "rm mnt/fc3.bias", "cp mnt/fc3.bias mnt/new", "mkdir mnt/new", "ln mnt/fc3.bias mnt/new"):
            w.refused(line, "Operation not permitted")
    with torch.no_grad():
        model.fc3.bias[7] = 1.0
        model.conv1.weight.view(-1)[100:102] = torch.tensor([2.0, 3.0])
    w.judge("the module with the edit", model)
    loaded = load(w.file)
    ok(type(loaded) is Net and torch.equal(loaded(batch()), model(batch())), "torch.load gives a Net whose outputs follow the edit")


def nothing_is_imported(w):
    mark = w.path("mark")
    with open(w.path("marked.py"), "w") as f:
        f.write(MARKED.format(mark=mark))
    sys.path.insert(0, w.dir)
    import marked
    model = marked.Marked()
    w.save(model)
    open(mark, "w").close()
    with w.mounted():
        w.sh("ls -lR mnt; cat mnt/* mnt/.weightfs/summary mnt/.weightfs/globals > /dev/null")
        w.sh("printf '0000803f0000803f' | xxd -r -p > mnt/fc.bias")
    same(read(mark), b"", "the module of the class was not imported")
    with torch.no_grad():
        model.fc.bias.copy_(torch.ones(2))
    w.judge("a bias that was replaced whole", model)


rows(edited_in_place, nothing_is_imported)
