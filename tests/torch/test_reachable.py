#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every tensor and array that torch's own unpickling makes stands in the mount or in .weightfs/objects, with dtype, shape and bytes; and
what stands in the mount can be written, whatever holds it: torch then reads the new bytes out of the same objects.

The oracle is torch.load over classes of nobody: the functions that make tensors and arrays are the real ones, and note what they made.

Usage: test_reachable.py BUILD_DIRECTORY [FILE...]. Prints TAP; skips itself where /dev/fuse is missing.
"""
import collections
import functools
import glob
import os
import pickle
import shutil
import sys
import types
import warnings
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "mount"), os.path.join(HERE, "..", "files"), HERE]
from kit import World, done, need_fuse, ok, run  # noqa: E402

need_fuse()
warnings.filterwarnings("ignore")
import numpy as np  # noqa: E402
import torch  # noqa: E402
from scriptkit import unpickle  # noqa: E402
from torch import nn  # noqa: E402

# ---- what torch makes ----

REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
REAL = {"collections", "builtins", "__builtin__", "_codecs", "copyreg", "copy_reg"}


class Anything(dict):
    """An object of any class: takes what a pickle does to it, and keeps it."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.__dict__["kept"] = [args, kwargs]

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    dump_patches = False # asked of modules in legacy streams

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args, **kwargs):
        return Anything(self, *args, **kwargs)

    def __setstate__(self, state):
        self.__dict__.setdefault("kept", []).append(state)

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other

    def append(self, item):
        self.__dict__.setdefault("kept", []).append(item)

    def extend(self, items):
        self.__dict__.setdefault("kept", []).extend(items)

    add = append


class Noted:
    def __init__(self):
        self.tensors, self.arrays, self.names = [], [], []

    def tensor(self, make):
        @functools.wraps(make)
        def noting(*args):
            t = make(*args)
            self.tensors.append(t)
            return t
        return noting

    def array(self, make):
        def noting(*args):
            a = make(*args)
            self.arrays.append(a)
            return a
        return noting

    def find_class(self, module, name, find):
        self.names.append((module, name))
        if module == "torch._utils" and name in REBUILD:
            return self.tensor(getattr(torch._utils, name))
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return lambda data, *more: Anything(data, *more) if not isinstance(data, torch.Tensor) else data
        if name in ("_rebuild_from_type_v2", "_rebuild_from_type"):
            return lambda make, cls, args, state: (make(*args), Anything(state))[0]
        if name in ("_reconstruct", "_frombuffer", "_mareconstruct"):
            return self.array(find(module, name))
        if module in REAL or module.split(".")[0] == "numpy" or (module == "torch" and (isinstance(getattr(torch, name, None), torch.dtype) or name in ("Size", "device"))) or \
                (module == "torch" and name.endswith("Storage")) or module == "torch.storage" or name.endswith("_affine"):
            try:
                return find(module, name)
            except (ImportError, AttributeError):
                return Anything
        if module == "torch" and name.startswith("per_"):
            return find(module, name)
        return Anything


def unpickler(noted):
    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return noted.find_class(module, name, super().find_class)
    return Unpickler


def load_script(path, noted):
    """The pickles of a TorchScript archive: the object, what its code calls constants, and what the mobile interpreter has."""
    for name, folder in (("data", "data"), ("constants", "constants"), ("bytecode", "constants")):
        unpickle(path, name, folder, noted.find_class)


def noted_in(path):
    noted = Noted()
    if zipfile.is_zipfile(path) and any(n.endswith("/constants.pkl") for n in zipfile.ZipFile(path).namelist()):
        load_script(path, noted)
        return noted
    module = types.ModuleType("stubs")
    module.Unpickler = unpickler(noted)
    module.load = lambda f, **more: module.Unpickler(f).load()
    torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
    return noted


def content(t):
    """dtype, shape and bytes, as the contract says a file has them."""
    if isinstance(t, np.ndarray):
        plain = t.dtype.kind in "biufc" and t.dtype.itemsize <= (16 if t.dtype.kind == "c" else 8)
        data = np.asarray(t.data if isinstance(t, np.ma.MaskedArray) else t)
        return t.dtype.name, list(t.shape), (data.astype(t.dtype.newbyteorder("<")) if plain else data).tobytes()
    shape = list(t.shape)
    if t.is_quantized:
        dtype, t = str(t.dtype)[6:], t.detach().int_repr()
        if dtype in ("quint4x2", "quint2x4"):
            return dtype, shape, None
    else:
        dtype, t = str(t.dtype)[6:], t.detach()
    t = t.resolve_conj().resolve_neg() if hasattr(t, "resolve_neg") else t
    t = t.contiguous()
    return dtype, shape, bytes(t.reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


def wanted_of(path):
    noted = noted_in(path)
    out = [content(t) for t in noted.tensors if t.device.type != "meta"]
    out += [content(a) for a in noted.arrays if a.dtype.kind != "O"]
    objects = [("object", list(a.shape)) for a in noted.arrays if a.dtype.kind == "O"]
    return out, objects, noted.names


# ---- what the mount shows ----

def attribute(path, name):
    try:
        return os.fsdecode(os.getxattr(path, name))
    except OSError:
        return None


def shown_below(top):
    for where, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(where, name)
            dtype = attribute(path, "user.torch.dtype") if not os.path.islink(path) else None
            if dtype is None or attribute(path, "user.torch.location") == "meta":
                continue
            shape = [int(n) for n in attribute(path, "user.torch.shape").strip("[]").split(",") if n.strip()]
            data = None
            if os.path.isfile(path) and dtype != "object":
                with open(path, "rb") as f:
                    data = f.read()
            yield path, dtype, shape, data


def key(dtype, shape, data):
    return dtype, tuple(shape), None if dtype in ("quint4x2", "quint2x4", "object") else data


def missing(mnt, wanted, objects):
    seen = {key(*entry[1:]) for top in (mnt, os.path.join(mnt, ".weightfs/objects")) for entry in shown_below(top)}
    return [f"{d} {s}" for d, s, b in wanted if key(d, s, b) not in seen] + \
        [f"object {s}" for d, s in objects if key(d, s, None) not in seen]


def check(w, what, path, edits):
    wanted, objects, names = wanted_of(path)
    shutil.copyfile(path, w.file)
    os.chmod(w.file, 0o600)
    r = w.mount()
    if not ok(r.returncode == 0, f"{what}: mounts", r):
        return
    gone = missing(w.mnt, wanted, objects)
    ok(not gone, f"{what}: all {len(wanted)} tensors and arrays are there", "\n".join(gone))
    if not edits:
        w.umount()
        return
    # every tensor in the tree gets other bytes, each of an inode once
    new, done_already = [], set()
    for file, dtype, shape, data in list(shown_below(w.mnt)):
        if not data or os.stat(file).st_ino in done_already or dtype.startswith(("float8", "quint4", "quint2")):
            continue
        done_already.add(os.stat(file).st_ino)
        other = bytes((b + 1) % 2 for b in data) if dtype == "bool" else data[::-1] if len(set(data)) > 1 else bytes(b ^ 1 for b in data)
        with open(file, "r+b") as f:
            f.write(other)
        new.append((dtype, shape, other))
    r = run(w.wfctl, "umount", w.mnt)
    if not ok(r.returncode == 0, f"{what}: bytes of all are written, and committed", r):
        run("umount", "-l", w.mnt)
        return
    after, objects, names_after = wanted_of(w.file)
    have = {key(*c) for c in after}
    ok(all(key(*c) in have for c in new), f"{what}: torch reads the new bytes", [c[:2] for c in new if key(*c) not in have])
    ok(set(names_after) == set(names) and [c[:2] for c in after] == [c[:2] for c in wanted], f"{what}: out of the same objects")


# ---- kinds that this torch makes ----

class Slots:
    __slots__ = ("w", "n")

    def __init__(self):
        self.w, self.n = torch.ones(3), 1


class Both:
    __slots__ = ("w", "__dict__")

    def __init__(self):
        self.w, self.other = torch.ones(3) * 2, torch.ones(2) * 3


class State:
    def __getstate__(self):
        return torch.ones(2) * 4, {"k": torch.ones(1) * 5}, 3


class Arguments:
    def __reduce__(self):
        return Arguments, (torch.ones(2) * 6, 3, [torch.ones(1) * 7]), {"args": torch.ones(1) * 9}

    def __init__(self, *args):
        pass


class Mapping(dict):
    pass


class Sequence(list):
    pass


Point = collections.namedtuple("Point", "x y")


def kinds():
    mapping, sequence = Mapping(a=torch.ones(1) * 10), Sequence([torch.ones(1) * 12])
    mapping.attr, sequence.attr = torch.ones(1) * 11, torch.ones(1) * 13
    hidden = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    hidden.extra, hidden.list = torch.ones(7), [torch.ones(5)]
    hidden.register_buffer("transient", torch.ones(4), persistent=False)
    noted = nn.Parameter(torch.ones(2))
    noted.grad_of, noted.more = torch.ones(2) * 3, {"a": torch.ones(1) * 21}
    yield "slots", Slots()
    yield "attributes and slots", Both()
    yield "a state that is a tuple", State()
    yield "arguments and a state", Arguments()
    yield "a mapping with attributes", {"m": mapping, "s": sequence}
    yield "named tuples", {"p": Point(torch.ones(1) * 14, 2), "max": torch.max(torch.arange(6.).reshape(2, 3), 1),
                           "packed": nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])}
    yield "partials and deques", {"p": functools.partial(slice, torch.ones(1) * 15), "d": collections.deque([torch.ones(1) * 16], 3)}
    yield "a module with more", hidden
    yield "tensors with attributes", {"p": noted}
    yield "keys that are tensors", {torch.ones(3) * 30: 1, nn.Parameter(torch.ones(2) * 31): {"m": torch.ones(1) * 32}, (torch.ones(1) * 33, 1): 2}
    yield "arrays", {"t": np.array(["cat", "dog"]), "d": np.array(["2024-01-01"], "M8[D]"), "l": np.array([1, 2], np.longdouble),
                     "r": np.array([(1, 2.5)], [("a", "<i4"), ("b", ">f8")]), "o": np.array([torch.ones(2), {"w": torch.ones(3)}, None], object),
                     "m": np.ma.masked_array([1.0, 2.0], [0, 1]), "b": np.arange(3, dtype=">f4"), "f": np.asfortranarray([[1.0, 2], [3, 4]])}
    yield "a sum of all", [{"x": (Slots(), [Both()])}, State()]


def scripts(directory):
    class Script(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.t, self.d, self.l = nn.Linear(2, 2), torch.ones(3), {"a": torch.ones(2) * 3}, [torch.ones(1) * 4]

        def forward(self, x):
            return self.lin(x) + self.t[0] + self.d["a"][0] + self.l[0]
    class Code(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.lin = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 3)

        def forward(self, x):
            return self.lin(torch.relu(self.bn(self.conv(x))).reshape(-1, 8))
    factor, image = torch.rand(3), torch.rand(2, 1, 4, 4)
    packed = torch.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, torch.qint8)
    scripted = torch.jit.script(Code().eval())
    made = {"a script's attributes": torch.jit.script(Script()), "a trace with a constant": torch.jit.trace(lambda x: x * factor, torch.rand(3)),
            "a frozen script": torch.jit.freeze(scripted), "a frozen trace": torch.jit.freeze(torch.jit.trace(Code().eval(), image)),
            "frozen in part": torch.jit.freeze(scripted, preserved_attrs=["lin"]), "frozen, of packed weights": torch.jit.freeze(torch.jit.script(packed.eval())),
            "optimised for inference": torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(3, 3)).eval())))}
    path = os.path.join(directory, "script.pt")
    for name, model in made.items():
        torch.jit.save(model, path)
        yield name, path
        if hasattr(model, "_save_for_lite_interpreter"):
            model._save_for_lite_interpreter(path)
            yield f"{name}, mobile", path
    if hasattr(torch._C, "_pickle_save"):
        path = os.path.join(directory, "cpp.pt")
        with open(path, "wb") as f:
            f.write(torch._C._pickle_save([torch.ones(2), torch.ones(3) * 2]))
        yield "pickle_save of C++", path


with World(sys.argv[1], lambda path: None) as world:
    for file in sys.argv[2:] or sorted(glob.glob(os.path.join(HERE, "..", "files", "kinds", "*.pt"))):
        check(world, os.path.basename(file), file, True)
    if not sys.argv[2:]:
        for name, obj in kinds():
            torch.save(obj, os.path.join(world.dir, "kind.pt"))
            check(world, name, os.path.join(world.dir, "kind.pt"), True)
        for name, file in scripts(world.dir):
            check(world, name, file, True)
        for file in sorted(glob.glob(os.path.join(HERE, "..", "files", "torch", "good-*.pt"))):
            check(world, os.path.basename(file), file, False)
done()
