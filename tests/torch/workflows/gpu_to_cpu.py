#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 10: a checkpoint saved on two GPUs opens where there is none; bytes, tags and types read right, edits keep the tags. With
map_location=cpu a commit makes it one that torch.load takes without a GPU."""
from common import Net, equal, fill, modes, ok, other, read, rows, same, torch
from locations import saved_on, tags


def two_gpus(w):
    a, b = fill(Net()).state_dict(), other(Net()).state_dict()
    places = {**{t.data_ptr(): "cuda:0" for t in a.values()}, **{t.data_ptr(): "cuda:1" for t in b.values()}}
    loss = torch.tensor(0.5)
    saved_on(w, places, {"a": a, "b": b, "loss": loss})
    before, _ = tags(w)
    same(sorted(set(before)), ["cpu", "cuda:0", "cuda:1"], "the file has tags of two GPUs and of the CPU")
    if not torch.cuda.is_available():
        # a legacy stream begins with a pickle of a number, which pickle.load reads
        same([way for way in w.loads["model.pt"] if way.get("how") != "pickle"], [], "torch.load without map_location refuses it here")
    with w.mounted():
        for name, state, tag in (("a", a, "cuda:0"), ("b", b, "cuda:1")):
            said = w.sh(f"cd mnt/{name}; getfattr --only-values -n user.torch.location *")
            same(said, tag * 10, f"{name}: each location is {tag}")
            same([read(w.path(f"mnt/{name}/{k}")) for k in state], [v.numpy().tobytes() for v in state.values()], f"{name}: the bytes")
        same(w.sh("getfattr --only-values -n user.torch.location mnt/loss"), "cpu", "a tensor of the CPU")
        same(w.sh("getfattr --only-values -n user.torch.device mnt/loss mnt/*/fc1.bias"), "filefilefile", "all bytes are in the file")
        long = w.sh("wfctl ls -l model.pt").splitlines()[1:]
        same(sorted({line.split()[-1] for line in long}), ["cpu", "cuda:0", "cuda:1"], "wfctl ls -l")
        w.sh("mv mnt/a/fc3.weight mnt/a/head.weight; rm mnt/loss")
        w.sh("printf 0000803f | xxd -r -p | dd of=mnt/b/fc3.bias conv=notrunc status=none")
    after, obj = tags(w)
    same(sorted(set(after)), ["cuda:0", "cuda:1"], "after an edit: the tags as they were")
    same((after.count("cuda:0"), after.count("cuda:1")), (before.count("cuda:0"), before.count("cuda:1")), "as many of each")
    b["fc3.bias"][0] = 1.0
    equal(obj["b"], b, "the edited model, by torch.load with a map_location")
    ok(list(obj) == ["a", "b"] and "head.weight" in obj["a"], "and the names")


def mapped_to_cpu(w):
    a, b = fill(Net()).state_dict(), other(Net()).state_dict()
    places = {**{t.data_ptr(): "cuda:0" for t in a.values()}, **{t.data_ptr(): "cuda:1" for t in b.values()}}
    for options, wanted in (("map_location=cpu", ["cpu"] * 20), ("map_location=cuda:1=cpu", ["cuda:0"] * 10 + ["cpu"] * 10),
                            ("map_location=cpu,preload,verify", ["cpu"] * 20)):
        saved_on(w, places, {"a": a, "b": b})
        with w.mounted(options=options):
            same([read(w.path(f"mnt/b/{k}")) for k in b], [v.numpy().tobytes() for v in b.values()], f"{options}: the bytes")
            same(w.sh("getfattr --only-values -n user.torch.device mnt/b/*"), "cpu" * 10, "which are in memory")
        found, obj = tags(w)
        same(found, wanted, "the commit's tags")
        equal(obj, {"a": a, "b": b}, "and the same models")
        if set(wanted) == {"cpu"}:
            ok(modes(w.file), "torch.load without a map_location takes it where there is no GPU")
            equal(torch.load(w.file), {"a": a, "b": b}, "and gives the models")


rows(two_gpus, mapped_to_cpu)
