# SPDX-License-Identifier: MIT
"""Random edits of content: each changes the mount and the model."""
import errno
import json
import os

import numpy
import torch

from random_model import OF_ITS_SIZE, Elements, Fixed, Mismatch, Opaque, dtype_name, from_raw, raw, stays, tied


class ContentEdits:
    def edit_write(self, p=None):
        backups = [k for k, v in self.aside.items() if isinstance(v, (torch.Tensor, numpy.ndarray))]
        if not p and backups and self.rng.random() < 0.3:
            p = (), self.aside, self.rng.choice(backups)
        p = p or self.pick((torch.Tensor, numpy.ndarray), names=False)
        if not p or not len(raw(p[1][p[2]])):
            return
        where, m, k = p
        t = m[k]
        data = bytearray(raw(t))
        start = self.rng.randrange(len(data))
        new = bytes(self.rng.randrange(2) for _ in range(min(len(data) - start, self.rng.choice([1, 4, 100, 5000]))))
        data[start:start + len(new)] = new
        if isinstance(t, numpy.ndarray):
            t[:] = numpy.frombuffer(bytes(data), t.dtype).reshape(t.shape)
        else:
            with torch.no_grad():
                t.copy_(from_raw(data, t.dtype, t.shape))
        if self.rng.random() < 0.5:
            with open(self.path(where, k), "r+b") as f:
                f.seek(start)
                f.write(new)
        else:
            import mmap
            with open(self.path(where, k), "r+b") as f, mmap.mmap(f.fileno(), 0) as mapped:
                mapped[start:start + len(new)] = new
                mapped.flush()
        self.trace.append(f"write {where} {k} {start}+{len(new)}")

    def edit_create(self):
        where, m = self.place()
        k, t = self.fresh(m), self.tensor()
        with open(self.path(where, k), "wb") as f:
            f.write(raw(t))
        os.setxattr(self.path(where, k), "user.torch.dtype", dtype_name(t).encode())
        os.setxattr(self.path(where, k), "user.torch.shape", json.dumps(list(t.shape)).encode())
        m[k] = t
        self.trace.append(f"create {where} {k} {dtype_name(t)} {tuple(t.shape)}")

    def edit_value(self):
        p = self.pick((int, float), names=False)
        if not p or isinstance(p[1][p[2]], bool):
            return
        where, m, k = p
        new = self.rng.randrange(1 << 20) if isinstance(m[k], int) else self.rng.random()
        with open(self.path(where, k), "w") as f:
            f.write(f"{new!r}\n")
        m[k] = new
        self.trace.append(f"value {where} {k} = {new!r}")

    def edit_bad_value(self):
        p = self.pick(int)
        if not p or isinstance(p[1][p[2]], bool):
            return
        try:
            with open(self.path(p[0], p[2]), "w") as f:
                f.write("not a number\n")
        except OSError:
            pass
        else:
            raise Mismatch("text that does not parse was accepted")
        self.trace.append(f"bad value {p[0]} {p[2]}")

    def edit_replace(self):
        """New bytes of the same size under the same name keep dtype and shape; only where nothing else sees the storage."""
        p = self.pick(torch.Tensor)
        if not p:
            return
        where, m, k = p
        t = m[k]
        data = bytes(self.rng.randrange(2) for _ in range(len(raw(t))))
        with open(self.path(where, k), "wb") as f:
            f.write(data)
        with torch.no_grad():
            t.copy_(from_raw(data, t.dtype, t.shape) if data else t.clone())
        self.trace.append(f"replace {where} {k}")

    def becomes(self, old, new):
        """All names of the file show another tensor."""
        for _, m in self.everywhere():
            for k, v in m.items():
                if v is old or tied(v, old):
                    m[k] = new

    def pick_alone(self):
        """A tensor that is its whole storage, which no other tensor views."""
        p = self.pick(torch.Tensor, names=False)
        t = p[1][p[2]] if p else None
        if t is None or isinstance(t, torch.nn.Parameter) or not t.is_contiguous() or \
                t.numel() != t.untyped_storage().nbytes() // t.element_size():
            return None
        others = [v.tensor if isinstance(v, Opaque) else v for _, m in self.everywhere() for v in m.values()]
        alone = all(v is t or v.untyped_storage().data_ptr() != t.untyped_storage().data_ptr() for v in others
                    if isinstance(v, torch.Tensor) and v.numel())
        return p if alone else None

    def edit_reshape(self):
        p = self.pick_alone()
        if not p:
            return
        where, m, k = p
        os.setxattr(self.path(where, k), "user.torch.shape", b"[-1]")
        self.becomes(m[k], m[k].reshape(-1))
        self.trace.append(f"reshape {where} {k}")

    def edit_retype(self):
        p = self.pick_alone()
        if not p or p[1][p[2]].dtype not in OF_ITS_SIZE:
            return
        where, m, k = p
        new = m[k].view(OF_ITS_SIZE[m[k].dtype])
        os.setxattr(self.path(where, k), "user.torch.dtype", dtype_name(new).encode())
        self.becomes(m[k], new)
        self.trace.append(f"retype {where} {k} {new.dtype}")

    def edit_resize(self):
        """Content of another size, as a shell's redirection writes it: rows are added or cut, in a storage of its own; a size
        that is no whole number of rows is refused."""
        p = self.pick((torch.Tensor, numpy.ndarray), names=False)
        if not p or isinstance(p[1][p[2]], torch.nn.Parameter):
            return
        where, m, k = p
        t = m[k]
        row = (t.numel() if isinstance(t, torch.Tensor) else t.size) // t.shape[0] * self.item(t) if len(t.shape) and t.shape[0] else \
            self.item(t) if len(t.shape) == 1 else 0
        n = self.rng.choice([1, 7, 300])
        data = bytes(self.rng.randrange(2) for _ in range(n * row + (self.rng.random() < 0.3) if row else n * 40 + 3))
        if len(data) == len(raw(t)):
            return
        try:
            with open(self.path(where, k), "wb") as f:
                f.write(data)
        except OSError as e:
            if e.errno != errno.EINVAL or (row and len(data) % row == 0):
                raise
            self.trace.append(f"resize {where} {k} {len(data)} refused")
            return
        if not row or len(data) % row:
            raise Mismatch(f"{where} {k}: {len(data)} bytes were accepted for {list(t.shape)}")
        shape = (len(data) // row, *t.shape[1:])
        self.becomes(t, from_raw(data, t.dtype, shape) if isinstance(t, torch.Tensor) else numpy.frombuffer(data, t.dtype).reshape(shape).copy())
        self.trace.append(f"resize {where} {k} {n}")

    @staticmethod
    def item(t):
        return t.element_size() if isinstance(t, torch.Tensor) else t.itemsize
