# SPDX-License-Identifier: MIT
"""Whether the mount shows, and the checkpoint holds, what the model says."""
import json
import os
from collections import OrderedDict

import numpy
import torch

from random_model import Elements, Fixed, Mismatch, Opaque, dtype_name, raw


def as_json(text):
    """None: it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


class Comparing:
    def compare_mount(self):
        todo = [((), self.model | self.aside)]
        inodes, containers = {}, {}
        while todo:
            where, m = todo.pop()
            names = [e.decode() for e in os.listdir(os.fsencode(os.path.join(self.mnt, *map(str, where))))]
            if where == () and set(names) == set(map(str, m)):  # scratch names follow the keys, in whatever order
                names = [x for x in names if x not in self.aside] + list(self.aside)
            if names != [str(k) for k in m]:
                raise Mismatch(f"names of {where}: mount {names}, model {list(m)}")
            for k, v in m.items():
                path = self.path(where, k)
                if isinstance(v, dict):
                    todo.append(((*where, k), v))
                    # two empty ones look alike, and after a kill nothing else tells which of them a link leads to
                    inode = os.stat(path).st_ino
                    if inodes.setdefault(id(v), inode) != inode or containers.setdefault(inode, id(v)) != id(v):
                        raise Mismatch(f"{where} {k}: another container")
                    kind = {dict: b"dict", OrderedDict: b"collections.OrderedDict"}.get(type(v))
                    if kind and os.getxattr(path, "user.torch.class") != kind:  # empty ones look alike in all else
                        raise Mismatch(f"{where} {k}: a mapping that is no {kind.decode()}")
                elif isinstance(v, (torch.Tensor, numpy.ndarray)):
                    with open(path, "rb") as f:
                        got = f.read()
                    said = (os.getxattr(path, "user.torch.dtype").decode(), json.loads(os.getxattr(path, "user.torch.shape")))
                    if said != (dtype_name(v), list(v.shape)):
                        raise Mismatch(f"{where} {k}: mount says {said}, model {dtype_name(v)} {list(v.shape)}")
                    if got != raw(v):
                        raise Mismatch(f"{where} {k}: bytes differ")
                else:
                    with open(f"{path}/args/0" if isinstance(v, Opaque) else path, errors="replace") as f:
                        text = f.read()
                    if isinstance(v, Opaque):
                        with open(f"{path}/args/1", "rb") as f:
                            ok = text == f"{v.number}\n" and f.read() == raw(v.tensor)
                    elif v is None or isinstance(v, bool):
                        ok = text == {None: "null\n", True: "true\n", False: "false\n"}[v]
                    elif isinstance(v, str):
                        ok = text == v
                    elif isinstance(v, list):
                        ok = as_json(text) == v
                    else:
                        ok = text == f"{v!r}\n"
                    if not ok:
                        raise Mismatch(f"{where} {k}: mount says {text!r}, model {v!r}")

    def compare_file(self):
        loads = [dict(weights_only=True), dict(weights_only=False)] + ([] if self.legacy else [dict(weights_only=True, mmap=True)])
        for mode in loads:
            loaded = torch.load(self.file, **mode)
            todo = [((), self.model, loaded)]
            pointers, same = {}, {}

            def compare_tensor(where, k, v, got):
                if (got.dtype, got.shape) != (v.dtype, v.shape) or raw(got) != raw(v):
                    raise Mismatch(f"{mode} {where} {k}: tensors differ")
                if v.numel() and pointers.setdefault(v.data_ptr(), got.data_ptr()) != got.data_ptr():
                    raise Mismatch(f"{mode} {where} {k}: a tie is gone")

            while todo:
                where, m, got = todo.pop()
                if isinstance(m, (Elements, Fixed)) and type(got) is (tuple if isinstance(m, Fixed) else list):
                    m, got = dict(enumerate(m.values())), dict(enumerate(got))
                if type(m) is not type(got) or list(m) != list(got):
                    raise Mismatch(f"{mode} {where}: {type(got).__name__} {list(got)}, model {type(m).__name__} {list(m)}")
                for k, v in m.items():
                    if isinstance(v, dict):
                        if same.setdefault(id(v), got[k]) is not got[k]:
                            raise Mismatch(f"{mode} {where} {k}: it is not the same container any more")
                        todo.append(((*where, k), v, got[k]))
                    elif isinstance(v, torch.Tensor):
                        compare_tensor(where, k, v, got[k])
                        if type(got[k]) is not type(v) or got[k].requires_grad != v.requires_grad:
                            raise Mismatch(f"{mode} {where} {k}: {got[k]!r}, model {v!r}")
                    elif isinstance(v, numpy.ndarray):
                        if got[k].dtype != v.dtype or got[k].shape != v.shape or raw(got[k]) != raw(v):
                            raise Mismatch(f"{mode} {where} {k}: arrays differ")
                    elif isinstance(v, Opaque):
                        compare_tensor(where, k, v.tensor, got[k].tensor)
                        if type(got[k]) is not Opaque or got[k].number != v.number:
                            raise Mismatch(f"{mode} {where} {k}: {got[k]!r}, model {v!r}")
                    elif type(got[k]) is not type(v) or got[k] != v:
                        raise Mismatch(f"{mode} {where} {k}: {got[k]!r}, model {v!r}")
        if not self.legacy:
            import zipfile
            with zipfile.ZipFile(self.file) as z:
                if z.testzip():
                    raise Mismatch("zipfile.testzip finds a bad record")
