#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that look at a mount and copy from it: find, diff, getfattr, cp -a, rsync, tar, NumPy and torch, on every kind of entry."""
import json
import os
import shutil
from collections import OrderedDict

import numpy as np

from common import Net, fill, in_order_of, load, ok, rows, run, same, sgd, skip, torch, train


def checkpoint():
    """Every dtype that a file can have here, views, ties, a shared mapping, plain values."""
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    base = torch.arange(24.0).reshape(4, 6)
    shared = {"a": 1}
    net = fill(Net())
    optimizer = sgd(net)
    train(net, optimizer)
    model = OrderedDict([("weight", weight), ("bias", torch.ones(3)), ("learned", torch.full((2,), 0.5, requires_grad=True)),
                         ("scalar", torch.tensor(1.5)), ("empty", torch.empty(0, 3))])
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
                  torch.complex64):
        model[str(dtype)[6:]] = torch.arange(6).reshape(2, 3).to(dtype)
    return {"model": model, "tied": weight, "whole": base, "row": base[1], "turned": base.t(), "epoch": 3, "lr": 0.1, "name": "résumé",
            "betas": (0.9, 0.999), "list": [1, [2, None]], "none": None, "yes": True, "raw": b"ab\0c", "one": shared, "two": shared,
            "mixed": [torch.ones(1), 2], "pair": (torch.zeros(2), None), "optimizer": optimizer.state_dict()}


def as_copied(saved):
    """What a checkpoint gets by copies of all files: tensors have a storage of their own, where they are not tied."""
    def own(t):
        return t.detach().clone(memory_format=torch.contiguous_format)
    return {k: own(v) if k in ("whole", "row", "turned") else v for k, v in saved.items()}


def looking(w):
    saved = checkpoint()
    w.save(saved)
    with w.mounted(options="ro"), w.mounted(mnt="again", options="ro"):
        same(w.sh("diff -r mnt again && echo same"), "same\n", "diff -r of two mounts of a file")
        same(w.sh("find mnt/model -type f | wc -l; find mnt -type l -printf '%f -> %l\\n'; find mnt -maxdepth 1 -type d -printf '%f '"),
             f"{len(saved['model'])}\ntwo -> one\nmnt model one mixed pair optimizer ", "find by type")
        same(sorted(w.sh("find mnt -links +1 -type f -printf '%P\\n'").split()), ["model/weight", "tied"], "find -links +1: the ties")
        same(sorted(w.sh("find mnt -samefile mnt/tied -printf '%P\\n'").split()), ["model/weight", "tied"], "find -samefile")
        same(w.sh("find mnt/model -size +47c -size -49c -printf '%f '"), "weight float64 int64 complex64 ", "find -size, in order")
        same(w.sh("grep -rlx 3 mnt"), "mnt/epoch\n", "grep -r")
        same(w.sh("cd mnt; md5sum $(find . -type f) | md5sum"), w.sh("cd again; md5sum $(find . -type f) | md5sum"), "md5sum of all files")
        said = w.sh("getfattr -d mnt/model/bfloat16 | grep -v -e file_offset -e storage=")
        same(said, """# file: mnt/model/bfloat16
user.torch.class="torch.Tensor"
user.torch.device="file"
user.torch.dtype="bfloat16"
user.torch.key="\\"bfloat16\\""
user.torch.location="cpu"
user.torch.requires_grad="false"
user.torch.shape="[2, 3]"
user.torch.storage_offset="0"
user.torch.stride="[3, 1]"

""", "getfattr -d")
        same(w.sh("getfattr -h -d mnt/two"), "", "a symbolic link has no attributes that could not be read")
    w.judge("looking changed nothing", saved)


def mapped(w):
    saved = checkpoint()
    w.save(saved)
    with w.mounted():
        for key, t in saved["model"].items():
            path = w.path(f"mnt/model/{key}")
            if t.numel() == 0 or key == "bfloat16": # nothing to map; a type that NumPy does not have
                continue
            check_maps(path, key, t.detach())
        shared = torch.from_file(w.path("mnt/model/bias"), shared=True, size=3, dtype=torch.float32)
        private = torch.from_file(w.path("mnt/model/float64"), shared=False, size=6, dtype=torch.float64)
        shared[1] = 7.0
        private[1] = 7.0
        w.sh("sync mnt/model/bias")
        same(w.sh("od -A n -t f4 mnt/model/bias").split(), ["1", "7", "1"], "torch.from_file(shared=True): a write is an edit")
        same(w.sh("od -A n -t f8 mnt/model/float64").split()[1], "1", "torch.from_file(shared=False): a write is private")
        del shared, private
    saved["model"]["bias"][1] = 7.0
    w.judge("the edit that went through torch.from_file", saved)


def check_maps(path, key, t):
    shape = tuple(json.loads(os.getxattr(path, "user.torch.shape")))
    array = np.memmap(path, np.dtype(os.getxattr(path, "user.numpy.descr").decode()), "r", shape=shape)
    ok(np.array_equal(array, t.numpy()) and array.dtype == t.numpy().dtype, f"np.memmap: {key}")
    for shared in (False, True):
        got = torch.from_file(path, shared=shared, size=t.numel(), dtype=t.dtype).reshape(shape)
        ok(torch.equal(got, t), f"torch.from_file(shared={shared}): {key}")


def to_disk(w):
    saved = checkpoint()
    w.save(saved)
    attributes = "find . -type f | sort | xargs getfattr -d -m 'user.(torch.(dtype|shape|class|requires_grad)|numpy)'"
    with w.mounted(options="ro"):
        copies = {"cp -a": "cp -a mnt copy",
                  "tar": "mkdir copy; tar -C mnt --xattrs -cf - . | tar -C copy --xattrs --xattrs-include='user.*' -xf -"}
        if shutil.which("rsync"):
            copies["rsync -aHX"] = "rsync -aHX mnt/ copy"
        else:
            skip("rsync", "rsync is missing")
        w.sh("touch probe")
        keeps = run("setfattr", "-n", "user.probe", "-v", "1", w.path("probe")).returncode == 0
        for name, command in copies.items():
            w.sh(command)
            same(w.sh("diff -r mnt copy && echo same"), "same\n", f"{name} to disk: the same files")
            same(w.sh("stat -c %h copy/tied; readlink copy/two"), "2\none\n", f"{name}: ties are hard links, the link is a link")
            if keeps:
                ok(w.sh(f"cd mnt; {attributes}") == w.sh(f"cd copy; {attributes}"), f"{name}: the attributes came along")
            else:
                skip(f"{name}: the attributes", "the file system of the temporary directory keeps no attributes of users")
            w.sh("rm -r copy")
    w.judge("copying changed nothing", saved)


def between_mounts(w):
    saved = checkpoint()
    w.save(saved)
    wanted = as_copied(saved)
    copies = {"cp -a": "cp -a mnt/. new/", "tar": "tar -C mnt --xattrs -cf - . | tar -C new --xattrs --xattrs-include='user.*' -xf -"}
    if shutil.which("rsync"):
        # rsync makes links before what they point to: those are done by the second run. A list has no place for temporary names.
        copies["rsync -aHX --inplace"] = "rsync -aHX --inplace mnt/ new 2> /dev/null || rsync -aHX --inplace mnt/ new"
    else:
        skip("rsync", "rsync is missing")
    for name, command in copies.items():
        w.save({}, "new.pt")
        with w.mounted(options="ro"), w.mounted("new.pt", "new"):
            w.sh(command)
            same(w.sh("diff -r mnt new && echo same"), "same\n", f"{name} between two mounts: the same files")
        got = load(w.path("new.pt"))
        w.judge(f"{name}: dtype, shape, requires_grad, types of values", in_order_of(got, wanted), "new.pt", "model.pt")
        ok(got["two"] is got["one"] and got["tied"].data_ptr() == got["model"]["weight"].data_ptr(), f"{name}: tied and shared as before")
    w.judge("the source is as it was", saved)
    if shutil.which("rsync"):
        w.save({}, "new.pt")
        with w.mounted(options="ro"), w.mounted("new.pt", "new"):
            w.sh("rsync -aX mnt/model new; rsync -aX mnt/model new")
        wanted = {"model": saved["model"]}
        w.judge("rsync with temporary names, twice", in_order_of(load(w.path("new.pt")), wanted), "new.pt", "model.pt")


def values_between_mounts(w):
    """cp -a of every class of value that a text stands for; what is written into them keeps the class."""
    saved = {"complex": 1 + 2j, "imaginary": complex(0, -1.5), "size": torch.Size([1, 2]), "no_size": torch.Size([]), "set": {1, 2},
             "no_set": set(), "bytearray": bytearray(b"ab\xff"), "no_bytearray": bytearray(), "bytes": b"x\xfe", "no_bytes": b"",
             "dtype": torch.bfloat16, "device": torch.device("cuda:1"), "cpu": torch.device("cpu"), "long": 1 << 80, "text": "",
             "inf": float("inf"), "no_list": [], "no_tuple": (), "nested": {"x": {"y": 2j}}}
    w.save(saved)
    w.save({}, "new.pt")
    with w.mounted(options="ro"), w.mounted("new.pt", "new"):
        w.sh("cp -a mnt/. new/")
        same(w.sh("diff -r mnt new && echo same"), "same\n", "cp -a of values between two mounts: the same files")
    w.judge("the same values", in_order_of(load(w.path("new.pt")), saved), "new.pt", "model.pt")
    w.save({"scalar": np.float64(1.5), "count": np.int32(-4), "flag": np.bool_(True)}, "numpy.pt")
    w.save({}, "new.pt")
    with w.mounted("numpy.pt", "mnt", options="ro"), w.mounted("new.pt", "new"):
        w.sh("cp -a mnt/. new/")
    got = load(w.path("new.pt"))
    same((got, {type(v) for v in got.values()}), ({"scalar": 1.5, "count": -4, "flag": True}, {np.float64, np.int32, np.bool_}),
         "NumPy's scalars keep their classes")
    with w.mounted():
        w.sh("echo torch.float16 > mnt/dtype; echo cuda:0 > mnt/device; echo cpu > mnt/cpu; echo 3-1j > mnt/complex")
        for name, text in (("dtype", "float16"), ("dtype", "torch.nothing"), ("device", "cuda:"), ("device", "cuda:-1"), ("device", ":0")):
            w.refused(f"printf {text} | dd status=none of=mnt/{name}", "Invalid argument")
    saved |= {"dtype": torch.float16, "device": torch.device("cuda:0"), "complex": 3 - 1j}
    w.judge("a dtype and a device are edited as text", saved)


def attributes_of_copies(w):
    """What rsync does with attributes, by itself: a type takes others with it, whose removal is no error then."""
    w.save({"a": torch.ones(2), "n": 1})
    with w.mounted():
        w.sh("printf 12 > mnt/new; setfattr -n user.torch.class -v int mnt/new; setfattr -x user.torch.dtype mnt/new")
        w.sh("setfattr -n user.torch.class -v torch.Tensor mnt/a; setfattr -n user.torch.class -v dict mnt")
        w.refused("setfattr -n user.torch.class -v list mnt", "Operation not permitted")
        w.refused("setfattr -x user.torch.scale mnt/a", "No such attribute")
        w.refused("setfattr -x user.torch.dtype mnt/a", "Operation not permitted")
    w.judge("a value made from a file", {"a": torch.ones(2), "n": 1, "new": 12})


rows(looking, mapped, to_disk, between_mounts, values_between_mounts, attributes_of_copies)
