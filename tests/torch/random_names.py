# SPDX-License-Identifier: MIT
"""Random edits of names: each changes the mount and the model."""
import ctypes
import errno
import os

import numpy
import torch

from random_model import Elements, Fixed, Mismatch, containers, is_dir, raw, stays

LIBC, RENAME_EXCHANGE = ctypes.CDLL(None, use_errno=True), 2


class NameEdits:
    def edit_rename(self):
        p = self.pick(None)
        if not p:
            return
        where, m, k = p
        if isinstance(m, Elements):
            return
        new = self.rng.choice([x for x in m if x != k and not is_dir(m[x]) and not is_dir(m[k])] or [None]) \
            if self.rng.random() < 0.3 else None
        new = self.fresh(m) if new is None else new
        tied = new in m and os.path.samefile(self.path(where, k), self.path(where, new))
        try:
            os.rename(self.path(where, k), self.path(where, new))
        except OSError as e:
            # of a file made since the last commit, whose text is none of a tensor's contents: both stay, as the next comparison sees
            values = [not isinstance(m[x], (torch.Tensor, numpy.ndarray)) for x in (k, new) if x in m]
            if e.errno != errno.EINVAL or values not in ([True, False], [False, True]):
                raise
            self.trace.append(f"rename {where} {k} -> {new} refused")
            return
        if tied:  # two names of one file: rename(2) leaves both
            self.trace.append(f"rename {where} {k} -> {new}, which is the same file")
            return
        items = [(new if x == k else x, v) for x, v in m.items() if x != new or x == k]
        if new in m:  # a file that was made since the last commit takes the place of what it replaces, as after sed -i
            taken = [(x, m[k] if x == new else v) for x, v in m.items() if x != k]
            names = [x for x in os.listdir(self.path(where, "")) if where or x not in self.aside]
            if names == [str(x) for x, _ in taken]:
                items = taken
        m.clear()
        m.update(items)
        self.trace.append(f"rename {where} {k} -> {new}")

    def edit_rename_over_element(self):
        """A file of a mapping comes in place of an element of a list or a tuple."""
        p = self.pick((torch.Tensor, numpy.ndarray, int, float, str))
        places = [(w, m, k) for w, m in self.mappings() if isinstance(m, (Elements, Fixed)) and not getattr(m, "unsure", False)
                  for k, v in m.items() if not is_dir(v) and not (isinstance(m, Elements) and stays(m, k))]
        if not p or isinstance(p[1], Elements) or not places:
            return
        (where, m, k), (there, n, j) = p, self.rng.choice(places)
        if os.path.samefile(self.path(where, k), self.path(there, j)):
            return
        os.rename(self.path(where, k), self.path(there, j))
        n[j] = m.pop(k)
        self.trace.append(f"rename {where} {k} -> element {there} {j}")

    def edit_move(self):
        p = self.pick((torch.Tensor, int, float))
        q = self.place()
        if not p or p[1] is q[1]:
            return
        where, m, k = p
        new = self.fresh(q[1])
        os.rename(self.path(where, k), self.path(q[0], new))
        q[1][new] = m.pop(k)
        self.trace.append(f"move {where} {k} -> {q[0]} {new}")

    def edit_remove(self):
        p = self.pick((torch.Tensor, numpy.ndarray, int, float, str, list))
        if not p or len(p[1]) < 2:
            return
        where, m, k = p
        os.unlink(self.path(where, k))
        del m[k]
        self.trace.append(f"rm {where} {k}")

    def edit_symlink(self):
        (there, target), (where, m) = self.rng.choice(self.mappings()), self.place()
        if target is self.model or any(x is m for _, x in containers(target)):
            return  # it would contain itself
        k, real = self.fresh(m), os.path.realpath(self.path(there, ""))
        os.symlink(os.path.relpath(real, os.path.realpath(self.path(where, ""))), self.path(where, k))
        m[k] = target
        self.trace.append(f"symlink {where} {k} -> {there}")

    def edit_put_aside(self):
        p = self.pick(None)
        if not p or len(p[1]) < 2 or self.holds_shared(p[1][p[2]], itself=False):
            return
        where, m, k = p
        self.counter += 1
        name = f"{self.counter}~"
        os.rename(self.path(where, k), self.path((), name))
        self.aside[name] = m.pop(k)
        self.trace.append(f"aside {where} {k} -> {name}")

    def edit_bring_back(self):
        if not self.aside:
            return
        name = self.rng.choice(list(self.aside))
        where, m = self.place()
        if any(x is m for _, x in containers(self.aside[name])):
            return
        k = self.fresh(m)
        os.rename(self.path((), name), self.path(where, k))
        m[k] = self.aside.pop(name)
        self.trace.append(f"back {name} -> {where} {k}")

    def edit_back_up(self):
        """A tensor goes to a backup's name, and content that does not fit is refused in its place: two files of the same bytes."""
        p = self.pick_alone() if self.rng.random() < 0.7 else self.pick(numpy.ndarray)
        if not p or stays(p[1], p[2]) or isinstance(p[1], (Elements, Fixed)) or \
                sum(v is p[1][p[2]] for _, m in self.everywhere() for v in m.values()) != 1:
            return
        where, m, k = p
        row = len(raw(m[k])) // m[k].shape[0] if len(m[k].shape) and m[k].shape[0] else self.item(m[k])
        if row == 1 or not len(raw(m[k])):
            return  # whatever comes fits; or there is nothing to write into
        self.counter += 1
        name = f"{self.counter}~"
        os.rename(self.path(where, k), self.path((), name))
        try:
            with open(self.path(where, k), "wb") as f:
                f.write(raw(m[k]) + b"\1")
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
        else:
            raise Mismatch(f"{where} {k}: bytes that do not fit were accepted in place of a backup")
        self.aside[name] = m[k].copy() if isinstance(m[k], numpy.ndarray) else m[k].detach().clone()
        self.trace.append(f"backup {where} {k} -> {name}")
        if self.rng.random() < 0.7:
            self.edit_write(self.rng.choice([p, ((), self.aside, name)]))

    def edit_mkdir(self):
        where, m = self.place()
        k = self.fresh(m)
        os.mkdir(self.path(where, k))
        m[k] = {} if isinstance(m, Elements) else type(m)()
        self.trace.append(f"mkdir {where} {k}")

    def edit_rmdir(self):
        p = self.pick(dict)
        if not p:
            return
        if os.path.islink(self.path(p[0], p[2])):
            os.unlink(self.path(p[0], p[2]))
        elif p[1][p[2]] or isinstance(p[1][p[2]], Fixed):
            return
        else:
            os.rmdir(self.path(p[0], p[2]))
        del p[1][p[2]]
        self.trace.append(f"rmdir {p[0]} {p[2]}")

    def edit_link(self):
        p = self.pick(torch.Tensor, names=False)
        q = self.place()
        if not p:
            return
        k = self.fresh(q[1])
        os.link(self.path(p[0], p[2]), self.path(q[0], k))
        q[1][k] = p[1][p[2]]
        self.trace.append(f"link {p[0]} {p[2]} -> {q[0]} {k}")

    def edit_exchange(self):
        p, q = self.pick(None), self.pick(None)
        if not p or not q or isinstance(p[1], Elements) or isinstance(q[1], Elements):
            return
        a, b = p[1][p[2]], q[1][q[2]]
        if os.path.samefile(self.path(p[0], p[2]), self.path(q[0], q[2])) or \
                any(x is q[1] for _, x in containers(a)) or any(x is p[1] for _, x in containers(b)):
            return
        if LIBC.renameat2(-100, os.fsencode(self.path(p[0], p[2])), -100, os.fsencode(self.path(q[0], q[2])), RENAME_EXCHANGE) < 0:
            raise OSError(ctypes.get_errno(), f"exchange {p[0]} {p[2]} and {q[0]} {q[2]}")
        if p[1] is q[1]:  # names change, and values stay where they are
            swap = {p[2]: q[2], q[2]: p[2]}
            items = [(swap.get(k, k), v) for k, v in p[1].items()]
            p[1].clear()
            p[1].update(items)
        else:
            del p[1][p[2]], q[1][q[2]]
            q[1][q[2]], p[1][p[2]] = a, b
        self.trace.append(f"exchange {p[0]} {p[2]} and {q[0]} {q[2]}")

    def edit_orphan(self):
        """A file that is removed while it is open."""
        p = self.pick_alone()
        if not p or stays(p[1], p[2]) or sum(v is p[1][p[2]] for _, m in self.everywhere() for v in m.values()) != 1:
            return
        where, m, k = p
        fd = os.open(self.path(where, k), os.O_RDWR)
        os.unlink(self.path(where, k))
        self.orphans.append((fd, bytearray(raw(m.pop(k)))))
        self.trace.append(f"orphan {where} {k}")

    def edit_write_orphan(self):
        for fd, data in self.orphans:
            if data and self.rng.random() < 0.5:
                at = self.rng.randrange(len(data))
                os.pwrite(fd, b"\1", at)
                data[at] = 1
            if os.pread(fd, len(data) + 1, 0) != data:
                raise Mismatch("a file without a name has other bytes")

    def close_orphans(self):
        self.edit_write_orphan()
        while self.orphans:
            os.close(self.orphans.pop()[0])
