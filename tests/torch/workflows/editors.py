#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that edit: sed -i, editors that write and rename, perl, dd, truncate, setfattr, mappings; torch reads what they did."""
import os
import shutil

import numpy as np

from common import LEGACY, VERSION, Net, fill, load, ok, rows, same, sgd, skip, torch, train


def checkpoint():
    model = fill(Net())
    optimizer = sgd(model)
    train(model, optimizer)
    return {"epoch": 10, "name": "first\nsecond\n", "rate": 0.5, "sizes": [3, 6, 16], "model": model.state_dict(),
            "optimizer": optimizer.state_dict()}


def text_editors(w):
    """All of them write another file and rename it, or write over the old one; the value keeps its type."""
    saved = checkpoint()
    w.save(saved)
    with w.mounted():
        w.sh("sed -i s/10/11/ mnt/epoch")
        same(w.sh("cat mnt/epoch"), "11\n", "sed -i")
        w.sh("sed -i 's/second/2nd/' mnt/name")
        w.sh("perl -pi -e 's/0\\.001/0.01/' mnt/optimizer/param_groups/0/lr")
        w.sh("cd mnt; awk '{print $1 * 3}' rate > new; mv new rate")
        w.sh("printf '[3, 6, 32]\\n' > mnt/sizes~; mv mnt/sizes~ mnt/sizes")
        same(w.sh("ls -U mnt").split(), list(saved), "every entry is where it was")
    saved.update(epoch=11, name="first\n2nd\n", rate=1.5, sizes=[3, 6, 32])
    saved["optimizer"]["param_groups"][0]["lr"] = 0.01
    w.judge("values edited by sed -i, perl -pi, awk and mv; types kept", saved)


def vim(w):
    if not shutil.which("vim"):
        return skip("vim", "vim is missing")
    for copies in ("no", "yes"): # a new file renamed over the old one; the old one written over
        saved = checkpoint()
        w.save(saved)
        with w.mounted():
            w.sh(f"TERM=dumb vim -u NONE -es -c 'set backup writebackup backupcopy={copies} nofsync' -c '%s/10/12/' -c 'wq' mnt/epoch")
            w.sh(f"TERM=dumb vim -u NONE -es -c 'set backupcopy={copies}' -c '%s/first/1st/' -c 'wq' mnt/name")
            same(w.sh("cat mnt/epoch mnt/name"), "12\n1st\nsecond\n", f"vim, backupcopy={copies}")
        saved.update(epoch=12, name="1st\nsecond\n")
        w.judge(f"vim, backupcopy={copies}: the backup and the swap file are no keys", saved)


def dd_and_truncate(w):
    saved = checkpoint()
    w.save(saved)
    state = saved["model"]
    with w.mounted():
        w.sh("printf 0000803f | xxd -r -p | dd of=mnt/model/fc3.bias bs=4 seek=9 conv=notrunc status=none")
        w.sh("dd if=/dev/zero of=mnt/model/fc1.weight bs=1000 count=3 seek=7 conv=notrunc,fsync status=none")
        w.sh("dd if=mnt/model/conv1.weight of=mnt/model/conv1.bias bs=24 count=1 status=none")
        w.sh("truncate -s 80 mnt/model/fc2.bias; truncate -s +8 mnt/model/conv2.bias; truncate -s 0 mnt/name")
        same(w.sh("getfattr --only-values -n user.torch.shape mnt/model/fc2.bias"), "[20]", "the shape follows the size")
        w.sh("fallocate -l 1400 mnt/model/fc1.bias")
    state["fc3.bias"][9] = 1.0
    state["fc1.weight"].view(-1)[1750:2500] = 0
    state["conv1.bias"].copy_(state["conv1.weight"].view(-1)[:6])
    state["fc2.bias"] = state["fc2.bias"][:20].clone()
    state["conv2.bias"] = torch.cat([state["conv2.bias"], torch.zeros(2)])
    state["fc1.bias"] = torch.cat([state["fc1.bias"], torch.zeros(230)])
    saved["name"] = ""
    w.judge("dd, truncate and fallocate", saved)


def attributes(w):
    saved = checkpoint()
    w.save(saved)
    state = saved["model"]
    with w.mounted():
        w.sh("setfattr -n user.torch.shape -v '[6, -1]' mnt/model/conv1.weight")
        w.sh("setfattr -n user.torch.dtype -v int32 mnt/model/fc1.bias; setfattr -n user.torch.dtype -v bfloat16 mnt/model/fc2.weight")
        w.sh("setfattr -n user.torch.requires_grad -v true mnt/model/fc3.weight")
        w.sh("head -c 24 /dev/zero > mnt/model/new; setfattr -n user.torch.dtype -v int64 mnt/model/new")
        for name, value in (("shape", "[7, 7]"), ("dtype", "float33"), ("dtype", "complex128"), ("requires_grad", "perhaps")):
            w.refused(f"setfattr -n user.torch.{name} -v '{value}' mnt/model/conv1.bias", "Invalid argument")
        same(w.sh("getfattr --only-values -n user.torch.shape mnt/model/conv1.weight mnt/model/fc2.weight"), "[6, 75][84, 240]",
             "shapes as Tensor.view gives them")
    state["conv1.weight"] = state["conv1.weight"].view(6, -1)
    state["fc1.bias"] = state["fc1.bias"].view(torch.int32)
    state["fc2.weight"] = state["fc2.weight"].view(torch.bfloat16)
    state["fc3.weight"].requires_grad_()
    state["new"] = torch.zeros(3, dtype=torch.int64)
    w.judge("setfattr", saved)


def links(w):
    """ln makes a tie; an edit through one name shows in the other; a name that is replaced goes its own way."""
    saved = checkpoint()
    w.save(saved)
    state = saved["model"]
    with w.mounted():
        w.sh("ln mnt/model/fc1.bias mnt/model/tied; ln -f mnt/model/fc2.bias mnt/model/fc2.copy; ln -s model mnt/alias")
        w.sh("printf 0000803f | xxd -r -p | dd of=mnt/model/tied bs=4 seek=3 conv=notrunc status=none")
        same(w.sh("cmp mnt/model/tied mnt/model/fc1.bias; stat -c %h mnt/model/fc1.bias"), "2\n", "one tensor with two names")
        w.sh("cp -a mnt/model/fc2.copy mnt/model/t; mv mnt/model/t mnt/model/fc2.copy; head -c 336 /dev/zero > mnt/model/fc2.copy")
    state["fc1.bias"][3] = 1.0
    state["tied"] = state["fc1.bias"]
    state["fc2.copy"] = torch.zeros(84)
    saved["alias"] = state
    w.judge("hard links and a symbolic one", saved)
    got = load(w.file)
    ok(got["alias"] is got["model"] and got["model"]["tied"].data_ptr() == got["model"]["fc1.bias"].data_ptr(), "tied for torch too")


def writable_mappings(w):
    saved = checkpoint()
    w.save(saved)
    state = saved["model"]
    with w.mounted():
        for key in ("fc1.weight", "fc3.bias"):
            path = w.path(f"mnt/model/{key}")
            shape = tuple(state[key].shape)
            mapped = np.memmap(path, np.dtype(os.getxattr(path, "user.numpy.descr").decode()), "r+", shape=shape)
            mapped *= 2
            mapped[-1] = 3
            del mapped # without a flush: the pages are written when the mount is committed
            state[key].mul_(2)
            state[key][-1] = 3
    w.judge("np.memmap('r+')", saved)


def folders(w):
    saved = checkpoint()
    w.save(saved)
    with w.mounted():
        w.sh("mkdir -p mnt/best/of; mv mnt/epoch mnt/best; cp mnt/rate mnt/best/of/rate; "
             "cp mnt/model/fc3.bias mnt/best/of/bytes; mv mnt/model mnt/best/of")
        w.refused("rmdir mnt/optimizer/state/0", "not empty")
        w.sh("rm -r mnt/optimizer/state; mkdir mnt/empty")
    saved["best"] = {"of": {"rate": 0.5, "bytes": None, "model": saved.pop("model")}, "epoch": saved.pop("epoch")}
    del saved["optimizer"]["state"]
    saved["empty"] = {}
    bias = saved["best"]["of"]["model"]["fc3.bias"].numpy().tobytes()
    saved["best"]["of"]["bytes"] = torch.tensor(list(bias), dtype=torch.uint8)
    w.judge("mkdir, mv and rm of folders; an untyped copy is a number where it reads as one, else bytes", saved)


def whole_objects(w):
    """What has parts that cannot be removed by themselves is removed whole; under a name that no commit writes it can come back."""
    # torch 1.13 looks at the indices of a sparse tensor in a legacy stream before it has read them
    sparse = torch.ones(1) if LEGACY and VERSION < (2, 0) else torch.eye(3).to_sparse()
    saved = {"epoch": 1, "pair": (torch.ones(2), 3), "sparse": (sparse, 0), "net": fill(Net())}
    w.save(saved)
    with w.mounted():
        w.sh("rm -r mnt/sparse mnt/net; mv mnt/pair mnt/aside~; wfctl commit mnt; mv mnt/aside~ mnt/pair")
    saved = {"epoch": 1, "pair": saved["pair"]}
    w.judge("a sparse tensor and a module are gone, a tuple came back", saved)


rows(text_editors, vim, dd_and_truncate, attributes, links, writable_mappings, folders, whole_objects)
