#!/usr/bin/env python3
"""Row 10, reading: a checkpoint saved on two GPUs opens where there is none; bytes, tags and types read right, edits keep the tags."""
import torch.serialization

from common import Net, equal, fill, load, ok, other, read, rows, same, torch


def saved_on(w, places, obj):
    """torch.save on a machine with GPUs: each storage gets the tag that its place says."""
    real = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: places.get(storage.data_ptr(), "cpu")
    try:
        w.save(obj)
    finally:
        torch.serialization.location_tag = real


def tags(w):
    """The tags in the file, as torch.load tells them, and its objects on the CPU."""
    found = []

    def place(storage, location):
        found.append(location)
        return storage
    obj = load(w.file, map_location=place)
    return found, obj


def two_gpus(w):
    a, b = fill(Net()).state_dict(), other(Net()).state_dict()
    places = {**{t.data_ptr(): "cuda:0" for t in a.values()}, **{t.data_ptr(): "cuda:1" for t in b.values()}}
    loss = torch.tensor(0.5)
    saved_on(w, places, {"a": a, "b": b, "loss": loss})
    before, _ = tags(w)
    same(sorted(set(before)), ["cpu", "cuda:0", "cuda:1"], "the file has tags of two GPUs and of the CPU")
    if not torch.cuda.is_available():
        same(w.loads["model.pt"], [], "torch.load without map_location refuses it here")
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


rows(two_gpus)
