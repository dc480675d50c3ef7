#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copies with their attributes from one mount into another, over entries of every other type, and to new names: what the
attributes say is what arrives, whatever stood there and whatever order a tool sets them in.

Usage: test_copying.py BUILD_DIR. Prints TAP.
"""
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict

from torchkit import done, ok, programs

import numpy
import torch

import judge

WEIGHTFS, WFCTL = programs(sys.argv[1])


def values():
    """One of each kind."""
    return OrderedDict([
        ("int", 7), ("float", 2.5), ("bool", False), ("none", None), ("str", "no newline"), ("bytes", b"\xff\0x"), ("list", [1, 2.5, "x"]),
        ("tuple", (0.9, 0.999)), ("complex", 1 + 2j), ("np_float", numpy.float64(0.25)), ("np_int", numpy.int32(-4)), ("np_bool", numpy.bool_(True)),
        ("zero_d", torch.tensor(7.0)), ("tensor", torch.arange(6, dtype=torch.int64).reshape(2, 3)), ("half", torch.arange(4).to(torch.bfloat16)),
        ("empty", torch.zeros(0, 3)), ("uint16", torch.arange(3).to(torch.uint16) if hasattr(torch, "uint16") else torch.arange(3)),
        ("param", torch.nn.Parameter(torch.ones(2, 2))), ("frozen", torch.nn.Parameter(torch.ones(3), requires_grad=False)),
        ("grad", torch.ones(2).requires_grad_()), ("array", numpy.arange(6, dtype="f8").reshape(3, 2)),
        ("quantised", torch.quantize_per_tensor(torch.tensor([1.0, 2.0, 3.0]), 0.5, 3, torch.quint8))])


# what is refused aloud: a whole line of text that a shell could have written as well, over a value that it cannot be
CP = {"cp -a": 'cp -a "$S" "$T"', "tar --xattrs": 'tar -C "$SD" --xattrs --xattrs-include="user.*" -cf - "$SB" | tar -C "$TD" --xattrs --xattrs-include="user.*" --transform "s/.*/$TB/" -xf -',
      "bsdtar": 'bsdtar -C "$SD" --xattrs -cf - "$SB" | bsdtar -C "$TD" -s ",.*,$TB," --xattrs -xf -', "rsync -aX": 'rsync -aXI "$S" "$T"'}


class Mounts:
    def __init__(self, work, target):
        self.dir = tempfile.mkdtemp(dir=work)
        for name, what in (("donor", values()), ("target", target)):
            os.mkdir(os.path.join(self.dir, name))
            torch.save(what, os.path.join(self.dir, f"{name}.pt"))
        subprocess.run([WEIGHTFS, "-o", "ro", "donor.pt", "donor"], cwd=self.dir, check=True)
        subprocess.run([WEIGHTFS, "target.pt", "target"], cwd=self.dir, check=True)

    def copy(self, command, source, target):
        s, t = os.path.join(self.dir, "donor", source), os.path.join(self.dir, "target", target)
        env = {**os.environ, "S": s, "T": t, "SD": os.path.dirname(s), "SB": source, "TD": os.path.dirname(t), "TB": target}
        return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)

    def end(self):
        for name in ("donor", "target"):
            r = subprocess.run([WFCTL, "umount", name], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if r.returncode:
                raise AssertionError(f"umount: {r.stdout}")
        return judge.load(os.path.join(self.dir, "target.pt"))


def difference(got, wanted):
    if list(got) != list(wanted):
        return f"keys {list(got)}, not {list(wanted)}"
    bad = []
    for k in wanted:
        try:
            judge.same(got[k], wanted[k], k)
        except AssertionError as e:
            bad.append(str(e))
    return "\n".join(bad)


def over_everything(work, tool, command):
    """Each kind over each kind."""
    kinds = values()
    target = OrderedDict((f"{old}.{new}", value) for old, value in kinds.items() for new in kinds)
    m = Mounts(work, target)
    wanted, refused = OrderedDict(target), []
    for name in target:
        new = name.split(".")[1]
        r = m.copy(command, new, name)
        if r.returncode and not os.path.exists(os.path.join(m.dir, "target", name)):
            refused.append(f"{name}: gone; {r.stdout}")
        if r.returncode:
            refused.append(name)
        else:
            wanted[name] = kinds[new]
    ok(not refused, f"{tool}: nothing is refused", "\n".join(f"{x}" for x in refused))
    found = difference(m.end(), wanted)
    ok(not found, f"{tool}: each kind over each kind", found)


def to_new_names(work, tool, command):
    m = Mounts(work, {"first": 1})
    said = []
    for name in values():
        r = m.copy(command, name, name)
        if r.returncode:
            said.append(f"{name}: {r.stdout}")
    found = difference(m.end(), {"first": 1, **values()})
    ok(not found and not said, f"{tool}: to new names", f"{found}\n{said}")


def over_gradients(work):
    """The attributes in several orders, before the content, over a name that had any class and requires_grad."""
    kinds = OrderedDict([("param", torch.nn.Parameter(torch.ones(3))), ("frozen", torch.nn.Parameter(torch.ones(3), requires_grad=False)),
                         ("grad", torch.ones(3).requires_grad_()), ("plain", torch.ones(3))])
    said = ["dtype", "shape", "location", "requires_grad", "class"]
    orders = [said, said[::-1], sorted(said), ["shape", "requires_grad", "location", "dtype", "class"], ["class", "shape", "dtype", "requires_grad"]]
    target = OrderedDict((f"{old}.{new}.{i}", value) for old, value in kinds.items() for new in kinds for i in range(len(orders)))
    m, wanted = Mounts(work, target), OrderedDict()
    for name in target:
        _, new, i = name.split(".")
        kind, path = kinds[new], os.path.join(m.dir, "target", name)
        value = {"dtype": "float32", "shape": "[3]", "location": "cpu", "requires_grad": str(kind.requires_grad).lower(),
                 "class": "torch.nn.parameter.Parameter" if isinstance(kind, torch.nn.Parameter) else "torch.Tensor"}
        os.unlink(path)
        os.mknod(path, 0o600)
        for attribute in orders[int(i)]:
            os.setxattr(path, f"user.torch.{attribute}", value[attribute].encode())
        with open(path, "wb") as f:
            f.write(kind.detach().numpy().tobytes())
        wanted[name] = kind
    found = difference(m.end(), wanted)
    ok(not found, "requires_grad and class in any order", found)


def composites():
    """Tensors that are directories of their parts."""
    dense, blocks = torch.tensor([[0, 1.], [2, 0]]), torch.arange(16.).reshape(4, 4)
    made = OrderedDict([
        ("coo", dense.to_sparse()), ("uncoalesced", torch.sparse_coo_tensor([[0, 0], [1, 1]], torch.ones(2), (2, 2))), ("csr", dense.to_sparse_csr()), ("csc", dense.to_sparse_csc()),
        ("hybrid", torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 3), (4, 3))), ("empty", torch.zeros(3, 2).to_sparse()), ("bsr", blocks.to_sparse_bsr((2, 1))),
        ("bsc", blocks.to_sparse_bsc((2, 4))), ("batch", torch.stack([dense, dense.t()]).to_sparse_csr()), ("parameter", torch.nn.Parameter(dense.to_sparse())),
        ("frozen", torch.nn.Parameter(dense.to_sparse_csr(), requires_grad=False)), ("nested", torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(1, 3)])),
        ("channels", torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([.1, .2]), torch.tensor([0, 1]), 0, torch.qint8)),
        ("across", torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([.1, .2, .3]), torch.tensor([0, 1, 2]), 1, torch.quint8)),
        ("wide", torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([.1, .2]), torch.tensor([0, 1]), 0, torch.qint32))])
    made["shares"] = torch.sparse_coo_tensor(made["coo"].indices(), torch.ones(2), (2, 2), is_coalesced=True)
    return made


def words_of(t):
    """All that PyTorch tells of it."""
    coalesced = isinstance(t, torch.Tensor) and t.layout == torch.sparse_coo and t.is_coalesced()
    return type(t), repr(t), coalesced, t.is_nested or str(t.layout) if isinstance(t, torch.Tensor) else None


TREES = {"cp -a": 'cp -a "$S" "$T"', "rsync -aX": 'rsync -aX "$S/" "$T/"', "tar --xattrs": CP["tar --xattrs"].replace("s/.*/$TB/", "s/^$SB/$TB/"),
         "bsdtar": CP["bsdtar"].replace(",.*,$TB,", ",^$SB,$TB,")}


class Parts(Mounts):
    def __init__(self, work, donor):
        super().__init__(work, {"first": 1})
        subprocess.run([WFCTL, "umount", "donor"], cwd=self.dir, check=True)
        torch.save(donor, os.path.join(self.dir, "donor.pt"))
        subprocess.run([WEIGHTFS, "-o", "ro", "donor.pt", "donor"], cwd=self.dir, check=True)

    def kill(self):
        target = os.path.join(self.dir, "target")
        fd = os.open(target, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        with open(os.path.join(target, ".weightfs", "status")) as f:
            pid = json.load(f)["pid"]
        os.kill(pid, signal.SIGKILL)
        subprocess.run(["fusermount3", "-u", "-z", target], check=True)
        subprocess.run([WEIGHTFS, "target.pt", "target"], cwd=self.dir, check=True)

    def commit(self):
        return subprocess.run([WFCTL, "commit", "target"], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def parts(work, tool, command, kill):
    m, said = Parts(work, composites()), []
    for name in composites():
        r = m.copy(command, name, f"new {name}")
        if r.returncode:
            said.append(f"{name}: {r.stdout}")
    if kill:
        m.kill()
    got = m.end()
    found = [f"{name}: {got.get(f'new {name}')} for {value}" for name, value in composites().items() if words_of(got.get(f"new {name}")) != words_of(value)]
    ok(not found and not said and list(got) == ["first"] + [f"new {name}" for name in composites()], f"{tool}{', and a kill' if kill else ''}: a directory of parts becomes the tensor", f"{found}\n{said}")


def spoil(directory, how):
    part = lambda name: os.path.join(directory, name)  # noqa: E731
    if how == "one is missing":
        os.unlink(part("values"))
    elif how == "one more":
        os.link(part("values"), part("more"))
    elif how == "another name":
        os.rename(part("values"), part("data"))
    elif how == "another dtype":
        os.setxattr(part("indices"), "user.torch.dtype", b"float64")
    elif how == "another shape":
        os.setxattr(part("indices"), "user.torch.shape", b"[4]")
    elif how == "a number":
        os.unlink(part("values"))
        with open(part("values"), "w") as f:
            f.write("5\n")


def parts_that_do_not_fit(work):
    """Said by whoever makes it: setxattr, cp -a by the mode that it sets last, and a commit where all came too late."""
    text = b'["torch.sparse_coo", [2, 2], true]'
    for how in ("one is missing", "one more", "another name", "another dtype", "another shape", "a number"):
        m = Parts(work, composites())
        at = os.path.join(m.dir, "target", "new")
        os.mkdir(at + "2")
        for name in ("indices", "values"):
            subprocess.run(["cp", "-a", os.path.join(m.dir, "donor", "coo", name), at + "2"], check=True)
        spoil(at + "2", how)
        try:
            os.setxattr(at + "2", "user.torch.assembly", text)
            refused = False
        except OSError as e:
            refused = e.errno == errno.EINVAL
        with open(os.path.join(m.dir, "target", ".weightfs", "log")) as f:
            why = f.read().strip().split("\n")[-1]
        os.mkdir(at + "3")
        os.setxattr(at + "3", "user.torch.assembly", text)  # they may still come
        for name in os.listdir(at + "2"):
            subprocess.run(["cp", "-a", os.path.join(at + "2", name), at + "3"], check=True)
        r = m.commit()
        ok(refused and ("its parts" in why or "it has not" in why or "no tensor" in why), f"{how}: EINVAL, and the log says why", why)
        ok(r.returncode == 1 and b"new3" in r.stderr and b"new2" not in r.stderr, f"{how}: a commit names the one that waited", r)
        got = m.end()
        ok(type(got["new3"]) is dict and type(got["new2"]) is dict and list(got["new2"]) == list(got["new3"]), f"{how}: both are mappings", got)


def objects(work):
    """What has a class that no directory becomes: cp -a ends with 1, and what it made is a plain mapping."""
    m = Parts(work, {"module": torch.nn.Linear(2, 2), "jagged": torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), "dict": {"a": 1}})
    r = {name: m.copy(TREES["cp -a"], name, name) for name in ("module", "jagged", "dict")}
    ok([x.returncode for x in r.values()] == [1, 1, 0] and b"module" in r["module"].stdout, "cp -a of an object says that it is none", r)
    subprocess.run(["chmod", "755", os.path.join(m.dir, "target", "module")], check=True)
    got = m.end()
    ok(type(got["module"]) is dict and torch.equal(got["module"]["weight"], torch.load(f"{m.dir}/donor.pt", weights_only=False)["module"].weight), "and has its tensors", got)


def described(work):
    """A new file that attributes made a tensor, renamed over each kind: it takes the place, and stays what it is."""
    m, new = Mounts(work, values()), torch.tensor([[3, 4]], dtype=torch.int32)
    for name in values():
        path = os.path.join(m.dir, "target", "made")
        with open(path, "wb") as f:
            f.write(new.numpy().tobytes())
        os.setxattr(path, "user.torch.dtype", b"int32")
        os.setxattr(path, "user.torch.shape", b"[1, 2]")
        os.rename(path, os.path.join(m.dir, "target", name))
    found = difference(m.end(), OrderedDict((name, new) for name in values()))
    ok(not found, "a described file renamed over each kind", found)


def whole(work, command, what):
    m = Mounts(work, {"int": "other", "tensor": 5, "param": torch.zeros(7), "array": None})
    r = subprocess.run(["bash", "-c", command], cwd=m.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ok(r.returncode == 0, f"{what}: exit status", r)
    got = m.end()
    found = difference({k: got.get(k) for k in values()}, dict(values()))
    ok(not found and len(got) == len(values()), f"{what}: all of it", found)


def inplace(work):
    """Over entries of the same type the data changes, and the attributes are the same."""
    m = Mounts(work, OrderedDict((k, torch.nn.Parameter(torch.zeros_like(v), requires_grad=v.requires_grad) if isinstance(v, torch.nn.Parameter)
                                  else numpy.zeros_like(v) if isinstance(v, numpy.ndarray) else True if v is False else 1 if isinstance(v, int) else v) for k, v in values().items()))
    r = subprocess.run(["rsync", "-aX", "-I", "--inplace", "donor/", "target/"], cwd=m.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ok(r.returncode == 0, "rsync -aX --inplace: exit status", r)
    found = difference(m.end(), values())
    ok(not found, "rsync -aX --inplace: all of it", found)


def main():
    work = tempfile.mkdtemp(prefix="weightfs-copying-", dir="/var/tmp")
    try:
        for tool, command in CP.items():
            if not shutil.which(tool.split()[0]):
                global count
                count += 1
                print(f"ok {count} - {tool} # SKIP it is not installed")
                continue
            to_new_names(work, tool, command)
            over_everything(work, tool, command)
        over_gradients(work)
        for tool, command in TREES.items():
            for kill in (False, True) if shutil.which(tool.split()[0]) else ():
                parts(work, tool, command, kill)
        parts_that_do_not_fit(work)
        objects(work)
        described(work)
        whole(work, "cp -a donor/. target/", "cp -a of the whole mount")
        whole(work, "tar -C donor --xattrs --xattrs-include='user.*' -cf - . | tar -C target --xattrs --xattrs-include='user.*' -xf -", "tar of the whole mount")
        if shutil.which("rsync"):
            whole(work, "rsync -aX -I donor/ target/", "rsync -aX of the whole mount")
            inplace(work)
    finally:
        for line in open("/proc/self/mounts").read().splitlines():
            if line.split()[1].startswith(work):
                subprocess.run(["umount", "-l", line.split()[1]])
        shutil.rmtree(work, ignore_errors=True)
    done()


main()
