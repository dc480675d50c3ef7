#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 11: a checkpoint saved on a GPU or on the CPU is loaded on a GPU. The bytes are there and read back equal; a commit records the tags
that torch.load's map_location gives. On a GPU, or on the double of the driver where LD_LIBRARY_PATH leads to it."""
import json

from common import KEYS, Net, Workflow, done, equal, fill, keys_of, load, ok, other, read, rows, run, same, skip, torch
from locations import saved_on, tags


def values(*states):
    """What the files of state dicts must hold."""
    return [t.numpy().tobytes() for state in states for t in state.values()]


def files(w, where=""):
    return [read(w.path(f"mnt/{where}{key}")) for key in KEYS]


def on(w):
    """Bytes by device, as the mount's status has them; what has nothing is left out."""
    return {name: n for name, n in json.loads(read(w.path("mnt/.weightfs/status")))["devices"].items() if n}


def size(*states):
    return sum(t.numel() * t.element_size() for state in states for t in state.values())


def places(**states):
    """The tags of a checkpoint made of state dicts: by the address of each storage."""
    return {t.data_ptr(): place for place, state in states.items() for t in state.values()}


def cpu_to_gpu(w):
    state = fill(Net()).state_dict()
    w.save(state)
    with w.mounted(options="map_location=cuda"):
        same(on(w), {"file": size(state)}, "nothing is on the GPU before it is used")
        same(w.sh("getfattr --only-values -n user.torch.location mnt/fc1.bias"), "cuda:0", "cuda is cuda:0")
        same(files(w), values(state), "the bytes, read from the GPU")
        same(w.sh("getfattr --only-values -n user.torch.device mnt/*"), "cuda:0" * 10, "where they are")
        same(on(w), {"cuda:0": size(state)}, "all of them")
    found, obj = tags(w)
    same(found, ["cuda:0"] * 10, "the commit has recorded it for every storage")
    equal(obj, state, "torch.load with a map_location gives the same model")
    if not torch.cuda.is_available():
        try:
            load(w.file)
            ok(False, "torch.load without a map_location refuses it where there is no GPU")
        except RuntimeError as e:
            ok("CUDA" in str(e), "torch.load without a map_location refuses it where there is no GPU", e)


def gpu_to_other_gpu(w):
    a, b = fill(Net()).state_dict(), other(Net()).state_dict()
    tag = places(**{"cuda:0": a, "cuda:1": b})
    loss = torch.tensor(0.5)
    for rules, wanted in (("cuda:1=cuda:0", {"a": "cuda:0", "b": "cuda:0", "loss": "cpu"}),
                          ("cuda:1=cuda:0;cuda:0=cpu", {"a": "cpu", "b": "cuda:0", "loss": "cpu"}),
                          ("cpu=cuda:0;cuda:0=cpu", {"a": "cpu", "b": "cuda:1", "loss": "cuda:0"})):
        saved_on(w, tag, {"a": a, "b": b, "loss": loss})
        with w.mounted(options=f"'map_location={rules}'"):
            same(files(w, "a/") + files(w, "b/"), values(a, b), f"{rules}: the bytes of both models")
            read(w.path("mnt/loss"))
            said = {n: w.sh(f"getfattr --only-values -n user.torch.location mnt/{n}{'' if n == 'loss' else '/fc2.bias'}") for n in wanted}
            same(said, wanted, "the tags in the mount")
            moved = size(*(s for n, s in (("a", a), ("b", b)) if wanted[n] == "cuda:0")) + 4 * (wanted["loss"] == "cuda:0")
            same(on(w).get("cuda:0", 0), moved, "and the bytes on the GPU: those whose tag was mapped")
        found, obj = tags(w)
        # torch's own reading of the rules: a tag is looked up once
        mapping = dict(rule.split("=") for rule in rules.split(";"))
        same(found, [mapping.get(t, t) for t in ["cuda:0"] * 10 + ["cuda:1"] * 10 + ["cpu"]], "the commit's tags, one for each storage")
        equal(obj, {"a": a, "b": b, "loss": loss}, "torch.load gives the same models")


def edited_on_the_gpu(w):
    model = fill(Net())
    state = model.state_dict()
    w.save({"model": state, "epoch": 3})
    with w.mounted(options="map_location=cuda:0,preload"):
        same(on(w), {"cuda:0": size(state)}, "preload: all is on the GPU when the mount is there")
        w.sh("printf 0000803f0000003f | xxd -r -p | dd of=mnt/model/fc3.bias bs=4 seek=3 conv=notrunc status=none")
        w.sh("mv mnt/model/fc2.weight mnt/model/middle.weight; rm mnt/model/fc1.bias; echo 4 > mnt/epoch")
        state["fc3.bias"][3:5] = torch.tensor([1.0, 0.5])
        same(read(w.path("mnt/model/fc3.bias")), state["fc3.bias"].numpy().tobytes(), "what was written is read back")
        w.sh("setfattr -n user.torch.device -v file mnt/model/conv1.weight")
        same(read(w.path("mnt/model/conv1.weight")), state["conv1.weight"].numpy().tobytes(), "a tensor moved back to the file")
        w.sh("wfctl commit mnt")
        same(read(w.path("mnt/model/middle.weight")), state["fc2.weight"].numpy().tobytes(), "after a commit: the same bytes")
    found, obj = tags(w)
    same(set(found), {"cuda:0"}, "the tags")
    del state["fc1.bias"]
    equal(obj, {"model": keys_of(state, lambda key: "middle.weight" if key == "fc2.weight" else key), "epoch": 4}, "the edited model")


def only_looked_at(w):
    state = fill(Net()).state_dict()
    w.save(state)
    before = read(w.file)
    with w.mounted(options="map_location=cuda:0,preload,verify,ro"):
        same(files(w), values(state), "read-only: the bytes")
    same(read(w.file), before, "and the checkpoint is as it was")


with Workflow() as probe:
    probe.save({"t": torch.zeros(1)})
    refused = run("weightfs", "-o", "map_location=cuda:0,ro", "model.pt", "mnt", cwd=probe.dir, env=probe.env)
    if refused.returncode == 0:
        probe.sh("wfctl umount mnt")
if refused.returncode:
    ok(refused.stderr.count("\n") == 1 and "map_location" in refused.stderr, "map_location=cuda is refused in one line that says why")
    skip("loading on a GPU", refused.stderr.strip().split(": ", 2)[-1])
    done()
rows(cpu_to_gpu, gpu_to_other_gpu, edited_on_the_gpu, only_looked_at)
