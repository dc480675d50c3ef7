#!/usr/bin/env python3
"""Random edit sequences, applied to a mount and to a Python dictionary of tensors: the two must always agree.

Usage: test_random_edits.py BUILD_DIR [--seconds N] [--from S | --seed S] [--steps N]

Each round makes a checkpoint with torch (zip or legacy), mounts it, and applies random edits with the system calls that
ordinary tools make. In between it syncs, kills the daemon, mounts again, commits (replace, append, auto) and unmounts.
After a kill the mount must show the state of the last fsync or of one of the edits after it, never less. After a commit
torch.load must return what the dictionary says, bit for bit, ties included. Entries are put aside under scratch names, too,
which no commit writes and only an unmount or wfctl discard forgets, and brought back. The seed of a failing round is printed; the
same seed repeats it. Prints TAP.
"""
import argparse
import copy
import ctypes
import errno
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict, namedtuple

try:
    import numpy
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)

if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    print("1..0 # SKIP /dev/fuse is missing, or not for this user")
    sys.exit(0)

LIBC, RENAME_EXCHANGE = ctypes.CDLL(None, use_errno=True), 2
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
OF_ITS_SIZE = {torch.float32: torch.int32, torch.int32: torch.float32, torch.float64: torch.int64, torch.int64: torch.float64,
               torch.float16: torch.bfloat16, torch.bfloat16: torch.float16}


def dtype_name(t):
    return t.dtype.name if isinstance(t, numpy.ndarray) else str(t.dtype).removeprefix("torch.")


def raw(t):
    """The bytes of the tensor's file: elements in row-major order."""
    if isinstance(t, numpy.ndarray):
        return t.tobytes()
    return t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


def from_raw(data, dtype, shape):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).clone().view(dtype).reshape(shape)


class Mismatch(Exception):
    pass


Opaque = namedtuple("Opaque", "number tensor")  # one text file, whose tensor no name shows
torch.serialization.add_safe_globals([Opaque, numpy.ndarray, numpy.dtype, type(numpy.dtype("f4")), type(numpy.dtype("i8")),
                                      numpy.zeros(1).__reduce__()[0]])


def tied(a, b):
    """Two tensors that are one file."""
    def key(t):
        return t.dtype, t.data_ptr(), t.shape, t.stride()
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.numel() > 0 and key(a) == key(b)


class Elements(OrderedDict):
    """A list that is a directory: names are positions, and stay while elements are removed until a commit numbers anew."""

    def __init__(self, values=()):
        super().__init__(enumerate(values))
        self.next = len(self)
        self.unsure = False  # after a kill: names say nothing of what was added at the end and removed again

    def number(self):
        values = list(self.values())
        self.clear()
        self.update(enumerate(values))
        self.next = len(values)
        self.unsure = False


class Fixed(OrderedDict):
    """A tuple that is a directory: its values can change, its names cannot."""

    def __init__(self, values=()):
        super().__init__(enumerate(values))


def stays(m, k):
    """A tuple's element, and the last in a list that makes it a directory: without it, it is text once it is read anew."""
    if isinstance(m, Elements):
        return not any(isinstance(v, (torch.Tensor, numpy.ndarray, dict)) for x, v in m.items() if x != k)
    return isinstance(m, Fixed)


def containers(v):
    """(path, container) of v and of everything in it, by every path that leads there."""
    found, todo = [], [((), v)] if isinstance(v, dict) else []
    while todo:
        where, m = todo.pop()
        found.append((where, m))
        todo.extend(((*where, k), x) for k, x in m.items() if isinstance(x, dict))
    return found


def distinct(v):
    return {id(m): (where, m) for where, m in containers(v)}.values()


def plain(v):
    """What torch.save is given."""
    if isinstance(v, Elements):
        return [plain(x) for x in v.values()]
    if isinstance(v, Fixed):
        return tuple(plain(x) for x in v.values())
    return type(v)((k, plain(x)) for k, x in v.items()) if isinstance(v, dict) else v


class Round:
    def __init__(self, build, seed, steps):
        self.rng = random.Random(seed)
        self.seed, self.steps = seed, steps
        self.weightfs = os.path.join(build, "fs", "weightfs")
        self.wfctl = os.path.join(build, "fs", "wfctl")
        self.dir = tempfile.mkdtemp(prefix="weightfs-random-")
        self.file = os.path.join(self.dir, "model.pt")
        self.mnt = os.path.join(self.dir, "mnt")
        os.mkdir(self.mnt)
        self.legacy = self.rng.random() < 0.25
        self.model = self.make()
        self.aside = OrderedDict()  # scratch name in the root -> what is put aside there
        self.counter = 0
        self.trace = []
        self.orphans = []  # (descriptor, bytes) of files that have no name any more
        self.committed = copy.deepcopy(self.model)
        torch.save(plain(self.model), self.file, _use_new_zipfile_serialization=not self.legacy)
        self.synced = None    # states that a kill may leave: the last synced one and each since

    # ---- the two sides ----
    def tensor(self):
        dtype = self.rng.choice(DTYPES)
        shape = self.rng.choice([(), (0,), (3,), (4, 5), (2, 3, 4), (1000,), (64, 65)])
        n = 1
        for s in shape:
            n *= s
        if dtype == torch.bool:
            return torch.tensor([self.rng.random() < 0.5 for _ in range(n)], dtype=dtype).reshape(shape)
        return torch.tensor([self.rng.randrange(100) for _ in range(n)]).to(dtype).reshape(shape)

    def value(self):
        return self.rng.choice([self.rng.randrange(-5, 1 << 40), self.rng.random(), True, None, "text", [0.9, 0.999], [1, 2, 3]])

    def make(self):
        root = OrderedDict() if self.rng.random() < 0.5 else {}
        for i in range(self.rng.randrange(2, 8)):
            root[f"layer{i}.weight"] = self.tensor()
        base = torch.arange(60, dtype=torch.float32)
        root["tie.a"] = base[:20]
        root["tie.b"] = base[:20]
        root["view"] = base.reshape(6, 10).t()
        root["epoch"] = 3
        root["optimizer"] = {"state": {i: {"step": i, "exp_avg": self.tensor()} for i in range(2)}, "lr": 0.1}
        root["sub"] = OrderedDict((f"k{i}", self.tensor()) for i in range(3))
        root["list"] = Elements([self.tensor(), {"x": self.tensor()}, 5, self.tensor()])
        root["sub"]["tuple"] = Fixed([self.tensor(), 7, Elements([self.tensor()])])
        root["array"] = numpy.arange(12, dtype=self.rng.choice(["f4", "i8"])).reshape(3, 4)
        root["param"] = torch.nn.Parameter(torch.randn(5), requires_grad=self.rng.random() < 0.5)
        root["opaque"] = Opaque(1, self.tensor())
        root["sub"]["opaque"] = Opaque(2, base[10:30])
        return root

    def mount(self):
        mode = self.rng.choice(["auto", "replace"] if self.legacy else ["auto", "replace", "append"])
        subprocess.run([self.weightfs, "-o", f"commit={mode}", self.file, self.mnt], check=True)
        with open(os.path.join(self.mnt, ".weightfs", "status")) as f:
            self.pid = json.load(f)["pid"]
        self.trace.append(f"mount commit={mode}")
        self.synced = None

    def umount(self):
        self.close_orphans()
        subprocess.run([self.wfctl, "umount", self.mnt], check=True)
        self.aside.clear()
        self.trace.append("umount")
        self.is_committed()

    def is_committed(self):
        for _, m in self.mappings() + self.mappings(aside=True):
            if isinstance(m, Elements):
                m.number()
        self.committed = copy.deepcopy(self.model)

    def path(self, where, name):
        return os.path.join(self.mnt, *[str(w) for w in where], str(name))

    def mappings(self, aside=False):
        return containers(self.aside if aside else self.model)

    def holds_shared(self, v):
        """Whether v or a container inside it stands elsewhere, too. Aside, an inner one is a copy once a log is replayed; and v
        itself changes places with a link, of which the kernel is told a moment later (tests/mount/links.py)."""
        inside = [x for _, x in containers(v)]
        places = [id(x) for root in (self.model, self.aside) for _, m in distinct(root) for x in m.values() if isinstance(x, dict)]
        return any(places.count(id(x)) > 1 for x in inside)

    def pick(self, kind, names=True):
        """A place with a value of that kind; names: one whose name can change."""
        choices = [(w, m, k) for w, m in self.mappings() for k, v in m.items() if not (names and stays(m, k))
                   if (kind is None or isinstance(v, kind)) and not (kind is int and isinstance(v, bool))]
        return self.rng.choice(choices) if choices else None

    def place(self):
        """A directory that takes new names."""
        return self.rng.choice([x for x in self.mappings() if not isinstance(x[1], Fixed) and not getattr(x[1], "unsure", False)])

    def fresh(self, m):
        self.counter += 1
        if isinstance(m, Elements):
            m.next += 1
            return m.next - 1
        if m and all(isinstance(k, int) for k in m):
            return 1000 + self.counter
        return f"new.{self.counter}"

    # ---- edits: each changes both sides ----
    def edit_write(self):
        p = self.pick((torch.Tensor, numpy.ndarray), names=False)
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

    def edit_rename(self):
        p = self.pick(None)
        if not p:
            return
        where, m, k = p
        if isinstance(m, Elements):
            return
        new = self.rng.choice([x for x in m if x != k and not isinstance(m[x], dict) and not isinstance(m[k], dict)] or [None]) \
            if self.rng.random() < 0.3 else None
        new = self.fresh(m) if new is None else new
        tied = new in m and os.path.samefile(self.path(where, k), self.path(where, new))
        os.rename(self.path(where, k), self.path(where, new))
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
        if not p or len(p[1]) < 2 or self.holds_shared(p[1][p[2]]):
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

    def edit_create(self):
        where, m = self.place()
        k, t = self.fresh(m), self.tensor()
        with open(self.path(where, k), "wb") as f:
            f.write(raw(t))
        os.setxattr(self.path(where, k), "user.torch.dtype", dtype_name(t).encode())
        os.setxattr(self.path(where, k), "user.torch.shape", json.dumps(list(t.shape)).encode())
        m[k] = t
        self.trace.append(f"create {where} {k} {dtype_name(t)} {tuple(t.shape)}")

    def edit_link(self):
        p = self.pick(torch.Tensor, names=False)
        q = self.place()
        if not p:
            return
        k = self.fresh(q[1])
        os.link(self.path(p[0], p[2]), self.path(q[0], k))
        q[1][k] = p[1][p[2]]
        self.trace.append(f"link {p[0]} {p[2]} -> {q[0]} {k}")

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

    def everywhere(self):
        return self.mappings() + self.mappings(aside=True)

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

    # ---- comparing ----
    def compare_mount(self):
        todo = [((), self.model | self.aside)]
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
                elif isinstance(v, (torch.Tensor, numpy.ndarray)):
                    with open(path, "rb") as f:
                        got = f.read()
                    said = (os.getxattr(path, "user.torch.dtype").decode(), json.loads(os.getxattr(path, "user.torch.shape")))
                    if said != (dtype_name(v), list(v.shape)):
                        raise Mismatch(f"{where} {k}: mount says {said}, model {dtype_name(v)} {list(v.shape)}")
                    if got != raw(v):
                        raise Mismatch(f"{where} {k}: bytes differ")
                else:
                    with open(path, errors="replace") as f:
                        text = f.read()
                    if isinstance(v, Opaque):
                        ok = "Opaque" in text
                    elif v is None or isinstance(v, bool):
                        ok = text == {None: "null\n", True: "true\n", False: "false\n"}[v]
                    elif isinstance(v, str):
                        ok = text == v
                    elif isinstance(v, list):
                        ok = json.loads(text) == v
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

    # ---- life and death ----
    def snapshot(self):
        return copy.deepcopy((self.model, self.aside))  # in one go: what is put aside may share a storage with what is not

    def sync(self):
        fd = os.open(self.mnt, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.synced = [self.snapshot()]
        self.trace.append("fsync")

    def kill(self):
        if self.synced is None:
            self.sync()
        self.close_orphans()
        process = os.pidfd_open(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        select.select([process], [], [])  # until it has ended, it holds the checkpoint's lock
        os.close(process)
        subprocess.run(["umount", "-l", self.mnt], check=True)
        states = self.synced + [self.snapshot()]
        self.trace.append("kill")
        self.mount()
        errors = []
        for state in reversed(states):
            self.model, self.aside = state
            try:
                self.compare_mount()
                for _, m in self.everywhere():
                    if isinstance(m, Elements):
                        m.unsure = True
                return
            except (Mismatch, OSError) as e:
                errors.append(str(e))
        raise Mismatch("after a kill the mount shows none of the allowed states: " + errors[-1])

    def run(self):
        # writes inside a tensor reach the extent file before their record: only edits of names may follow an fsync that
        # a kill is to be compared with exactly
        names_only = [self.edit_rename, self.edit_move, self.edit_remove, self.edit_mkdir, self.edit_rmdir, self.edit_link,
                      self.edit_symlink, self.edit_exchange,
                      self.edit_value, self.edit_put_aside, self.edit_bring_back]
        every = names_only + [self.edit_write, self.edit_write, self.edit_create, self.edit_replace, self.edit_reshape,
                              self.edit_bad_value, self.edit_retype, self.edit_resize, self.edit_orphan, self.edit_write_orphan]
        self.mount()
        self.compare_mount()
        for step in range(self.steps):
            dice = self.rng.random()
            if dice < 0.03:
                self.sync()
                for _ in range(self.rng.randrange(4)):
                    self.rng.choice(names_only)()
                    self.synced.append(self.snapshot())
                self.kill()
            elif dice < 0.06:
                subprocess.run([self.wfctl, "commit", self.mnt], check=True)
                self.trace.append("commit")
                self.is_committed()
                self.compare_mount()
                self.compare_file()
            elif dice < 0.065:
                self.close_orphans()
                subprocess.run([self.wfctl, "discard", self.mnt], check=True)
                self.trace.append("discard")
                self.model, self.aside = copy.deepcopy(self.committed), OrderedDict()
            elif dice < 0.08:
                self.umount()
                self.compare_file()
                self.mount()
            else:
                self.rng.choice(every)()
            if step % 10 == 0:
                self.compare_mount()
        self.compare_mount()
        self.umount()
        self.compare_file()

    def cleanup(self):
        while self.orphans:
            os.close(self.orphans.pop()[0])
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--seconds", type=float, default=60)
    args.add_argument("--seed", type=int, help="this round alone")
    args.add_argument("--from", type=int, dest="first", help="the first round's seed; by default another one each time")
    args.add_argument("--steps", type=int, default=120)
    args = args.parse_args()
    first = args.seed if args.seed is not None else args.first
    first = random.SystemRandom().randrange(1 << 32) if first is None else first
    end = time.monotonic() + args.seconds
    n = failed = 0
    while n == 0 or (args.seed is None and time.monotonic() < end):
        seed = first + n
        n += 1
        round_ = Round(args.build, seed, args.steps)
        try:
            round_.run()
            print(f"ok {n} - seed {seed}, {len(round_.trace)} steps, {'legacy' if round_.legacy else 'zip'}", flush=True)
        except (Mismatch, OSError, subprocess.CalledProcessError, RuntimeError) as e:
            failed += 1
            print(f"not ok {n} - seed {seed}: {type(e).__name__}: {e}")
            for line in round_.trace[-12:]:
                print(f"#   {line}")
            sys.stdout.flush()
        finally:
            round_.cleanup()
        if failed >= 3:
            break
    print(f"1..{n}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
