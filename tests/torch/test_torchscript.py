#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Edits of TorchScript archives through a mount, judged by torch.jit.load: bytes in place, and what has to change the pickle.

Usage: test_torchscript.py BUILD_DIRECTORY
Prints TAP; skips itself where /dev/fuse is missing.
"""
import json
import os
import subprocess
import sys
import warnings
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same, write  # noqa: E402

need_fuse()
warnings.filterwarnings("ignore")
import torch  # noqa: E402

INPUT = torch.ones(1, 3)
FACTOR = torch.tensor([2.0, 3.0, 4.0, 5.0])


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = torch.nn.Linear(3, 4)
        self.q = torch.nn.Parameter(torch.ones(2, 2))
        self.register_buffer("counts", torch.arange(3))

    def forward(self, x):
        return self.f(x) * self.q.sum() + self.counts.sum()


class Traced(Scripted):
    """Its factor becomes a constant of the archive: a storage that the module's pickle does not name."""

    def forward(self, x):
        return super().forward(x) * FACTOR


def zero(path):
    write(path, bytes(48))


def poke(path):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, bytes(48), 0)
    os.close(fd)


def attribute(name, value):
    return lambda path: os.setxattr(path, "user.torch." + name, value.encode())


def check(w, model, what, key, edit, judge):
    torch.jit.save(model, w.file)
    before = zipfile.ZipFile(w.file).namelist()
    w.mount()
    edit(os.path.join(w.mnt, key))
    r = run(w.wfctl, "umount", w.mnt)
    loaded = torch.jit.load(w.file, map_location="cpu")
    missing = [n for n in before if ("/code/" in n or "/constants" in n) and n not in zipfile.ZipFile(w.file).namelist()]
    ok(r.returncode == 0 and judge(loaded) and not missing and run(w.wfctl, "verify", w.file).returncode == 0, what, (r, missing))
    state = {k: v for k, v in model.state_dict().items() if k != key}
    ok(all(torch.equal(v, loaded.state_dict()[k]) for k, v in state.items()), "  and the rest is equal")
    return loaded


def refused(w, model):
    torch.jit.save(model, w.file)
    w.mount()
    for command in ("rm {0}/q", "mv {0}/q {0}/r", "cp {0}/q {0}/r", "mkdir {0}/d", "ln {0}/q {0}/r"):
        r = subprocess.run(command.format(w.mnt), shell=True, stderr=subprocess.PIPE)
        ok(r.returncode != 0 and b"not permitted" in r.stderr, command.format("mnt") + " is refused", r)
    w.umount()


class Views(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("v", torch.arange(100.0)[10:20])

    def forward(self, x):
        return x + self.v


def trim(w):
    """The pickle says the new size of the storage, in opcodes that every torch.jit.load reads. What cannot be cut stays as it is."""
    x = torch.zeros(10)
    for how, model in (("scripted", torch.jit.script(Views().eval())), ("traced", torch.jit.trace(Views().eval(), x))):
        torch.jit.save(model, w.file)
        for size, what in ((48, "is cut"), (48, "is not cut again")):
            r = run(w.wfctl, "repack", "--trim", w.file)
            with zipfile.ZipFile(w.file) as z:
                sizes = [i.file_size for i in z.infolist() if i.filename.endswith("data/0")]
            ok(r.returncode == 0 and sizes == [size] and torch.equal(torch.jit.load(w.file)(x), torch.arange(10.0, 20)),
               f"{how}: a storage of which a view uses a part {what}", (r, sizes))
            ok(run(w.wfctl, "verify", w.file).returncode == 0, "  wfctl verify")


def damaged(w):
    """A storage that is cut off, or gone: an edit of another one is committed all the same."""
    for what, change in (("cut off", lambda data: data[:-4]), ("gone", lambda data: None)):
        torch.jit.save(torch.jit.script(Scripted().eval()), w.file)
        with zipfile.ZipFile(w.file) as z:
            entries = [(i, z.read(i)) for i in z.infolist()]
        last = max((i.filename for i, data in entries if "/data/" in i.filename), key=lambda n: int(n.rsplit("/", 1)[1]))
        with zipfile.ZipFile(w.file, "w") as z:
            for i, data in entries:
                data = change(data) if i.filename == last else data
                if data is not None:
                    z.writestr(i.filename, data)
        lost = [row["path"] for row in map(json.loads, run(w.wfctl, "ls", "--json", w.file).stdout.splitlines()) if "error" in row]
        key = next(k for k in ("q", "f.bias") if k not in lost)
        w.mount()
        write(os.path.join(w.mnt, key), bytes(16))
        r = run(w.wfctl, "umount", w.mnt)
        same((r.returncode, run(w.wfctl, "cat", "--raw", w.file, key).stdout, len(lost)), (0, "\0" * 16, 1), f"a storage is {what}: another is written")


def main():
    with World(sys.argv[1], lambda path: None) as w:
        for how, model in (("scripted", torch.jit.script(Scripted().eval())), ("traced", torch.jit.trace(Traced().eval(), INPUT))):
            want = model(INPUT)
            for name, edit in (("written in place", poke), ("replaced", zero)):
                got = check(w, model, f"{how}: {name}", "f.weight", edit, lambda m: not m.f.weight.any())
                with torch.no_grad():
                    model_bias = model.f.bias * model.q.sum() + model.counts.sum()
                    wanted = model_bias * FACTOR if how == "traced" else model_bias
                ok(torch.allclose(got(INPUT), wanted), "  and the output follows")
            check(w, model, f"{how}: location", "q", attribute("location", "cuda:0"), lambda m: True)
            rows = {row["path"]: row["location"] for row in map(json.loads, run(w.wfctl, "ls", "--json", w.file).stdout.splitlines())}
            constant = {"constants/0": "cpu"} if how == "traced" else {}
            same(rows, {"f.weight": "cpu", "f.bias": "cpu", "q": "cuda:0", "counts": "cpu", **constant}, "  is recorded")
            check(w, model, f"{how}: requires_grad", "q", attribute("requires_grad", "false"), lambda m: not m.q.requires_grad)
            got = check(w, model, f"{how}: shape", "q", attribute("shape", "[4, -1]"), lambda m: tuple(m.q.shape) == (4, 1))
            same(torch.allclose(got(INPUT), want), True, "  and it still runs")
            refused(w, model)
        trim(w)
        damaged(w)
    done()


main()
