# SPDX-License-Identifier: MIT
"""Directories of torch.distributed.checkpoint made without torch, every byte of them as one wants it: the classes of their metadata are made
up here under the names that torch gives them, and pickled.

    d = Directory(path)
    d.tensor("a.b", "float32", (7, 5), data, cuts=[((0, 0), (3, 5)), ((3, 0), (4, 5))], path=("a", "b"))
    d.value("epoch", craft.integer(3))
    d.write()

Standard library only.
"""
import os
import pickle
import struct
import sys
import types

import craft

ITEM = {"float32": 4, "float64": 8, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "uint8": 1, "bool": 1, "float8_e4m3fn": 1}
CLASS = {"float32": "Float", "float64": "Double", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int", "int16": "Short", "uint8": "Byte",
         "bool": "Bool"}


class Named:
    """What is pickled as a name in a module; there is one of each."""

    def __new__(cls, module, name):
        there = getattr(module_of(module), name, None)
        if isinstance(there, cls):
            return there
        made = super().__new__(cls)
        made.__module__, made.name = module, name
        setattr(module_of(module), name, made)
        return made

    def __reduce__(self):
        return self.name


def module_of(name):
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        if "." in name:
            setattr(module_of(name.rpartition(".")[0]), name.rpartition(".")[2], sys.modules[name])
    return sys.modules[name]


def function(module, name):
    def made(*args):
        raise RuntimeError
    made.__module__, made.__name__, made.__qualname__ = module, name, name
    setattr(module_of(module), name, made)
    return made


class Call:
    def __init__(self, func, *args):
        self.func, self.args = func, args

    def __reduce__(self):
        return self.func, self.args


class Classes:
    """The classes as a version of torch has them."""

    def __init__(self, package="torch.distributed.checkpoint", properties=None):
        meta, files = package + ".metadata", package + ".filesystem"
        self.properties_module = properties or meta
        for module, names in ((meta, ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "MetadataIndex",
                                      "StorageMeta")),
                              (files, ("_StorageInfo",)), (self.properties_module, ("TensorProperties",))):
            for name in names:
                setattr(self, name.lstrip("_"), self.make(module, name))
        self.Size = function("torch", "Size")
        self.layout = function("torch.serialization", "_get_layout")
        self.encoding = function(self.properties_module, "_MEM_FORMAT_ENCODING")

    def make(self, module, name):
        made = type(name, (), {"__module__": module, "__init__": lambda self, **members: vars(self).update(members)})
        setattr(module_of(module), name, made)
        return made

    def size(self, values):
        return Call(self.Size, tuple(values))

    def properties(self, dtype, layout="torch.strided"):
        p = self.TensorProperties()
        p_type = type(p)
        state = (Named("torch", dtype), Call(self.layout, layout), False, Call(self.encoding, 0), False)
        p_type.__getstate__ = lambda self: self.state
        p.state = state
        return p


def slice_of(dtype, shape, data, form="zip"):
    """What torch.save makes of one tensor."""
    cls, numel = CLASS[dtype], len(data) // ITEM[dtype]
    if form == "view":  # a part of a larger storage
        pad = bytes(ITEM[dtype] * 3)
        store = craft.storage(cls, "0", numel + 5)
        return craft.zip_file(craft.checkpoint(craft.tensor(store, shape, offset=3), [("0", pad + data + pad[:ITEM[dtype] * 2])]))
    if form == "turned":  # stored column by column
        stride, n = [], 1
        for s in shape:
            stride.append(n)
            n *= max(s, 1)
        turned = bytearray(len(data))
        for i in range(numel):
            rest, at = i, 0
            for d in range(len(shape) - 1, -1, -1):
                at += rest % shape[d] * stride[d]
                rest //= shape[d]
            turned[at * ITEM[dtype]:(at + 1) * ITEM[dtype]] = data[i * ITEM[dtype]:(i + 1) * ITEM[dtype]]
        return craft.zip_file(craft.checkpoint(craft.tensor(craft.storage(cls, "0", numel), shape, stride), [("0", bytes(turned))]))
    if form == "legacy":
        return craft.legacy(craft.tensor(craft.storage(cls, "94000000000000", numel, extra=(craft.NONE,)), shape), [("94000000000000", numel, data)])
    if form == "big":
        size = ITEM[dtype]
        swapped = b"".join(data[i:i + size][::-1] for i in range(0, len(data), size))
        return craft.zip_file(craft.checkpoint(craft.tensor(craft.storage(cls, "0", numel), shape), [("0", swapped)], byteorder=b"big"))
    return craft.zip_file(craft.checkpoint(craft.tensor(craft.storage(cls, "0", numel), shape), [("0", data)], deflate=("data",) if form == "deflated" else ()))


def take(shape, item, data, offsets, sizes):
    """The bytes of a box of the whole, row by row."""
    if not shape:
        return data
    pitch = item
    for s in shape[1:]:
        pitch *= s
    rows = [take(shape[1:], item, data[(offsets[0] + i) * pitch:(offsets[0] + i + 1) * pitch], offsets[1:], sizes[1:]) for i in range(sizes[0])]
    return b"".join(rows)


class Directory:
    def __init__(self, path, classes=None, protocol=4):
        self.path, self.c, self.protocol = path, classes or Classes(), protocol
        self.files, self.state, self.planner, self.storage = {}, {}, {}, {}
        self.more = {"storage_meta": None, "version": "1.0.0"}

    def put(self, name, data, before=b""):
        whole = self.files.setdefault(name, bytearray())
        whole += before
        whole += data
        return len(whole) - len(data), len(data)

    def index(self, fqn, offset=None, number=None):
        return self.c.MetadataIndex(fqn=fqn, offset=None if offset is None else self.c.size(offset), index=number)

    def info(self, name, at, length, **more):
        return self.c.StorageInfo(relative_path=name, offset=at, length=length, **more)

    def tensor(self, fqn, dtype, shape, data, cuts=None, path=None, files=("__0_0.distcp",), forms=("zip",), layout="torch.strided", before=b"", **more):
        cuts = cuts if cuts is not None else [((0,) * len(shape), shape)]
        chunks = []
        for k, (offsets, sizes) in enumerate(cuts):
            inside = take(shape, ITEM[dtype], data, offsets, sizes)
            name = files[k % len(files)]
            at, length = self.put(name, slice_of(dtype, sizes, inside, forms[k % len(forms)]), before)
            chunks.append(self.c.ChunkStorageMetadata(offsets=self.c.size(offsets), sizes=self.c.size(sizes)))
            self.storage[self.index(fqn, offsets, k)] = self.info(name, at, length, **more)
        self.state[fqn] = self.c.TensorStorageMetadata(properties=self.c.properties(dtype, layout), size=self.c.size(shape), chunks=chunks)
        self.planner[fqn] = path or (fqn,)

    def value(self, fqn, expression, path=None, storages=(), name="__0_0.distcp"):
        at, length = self.put(name, craft.zip_file(craft.checkpoint(expression, storages)))
        self.state[fqn] = self.c.BytesStorageMetadata()
        self.storage[self.index(fqn)] = self.info(name, at, length)
        self.planner[fqn] = path or (fqn,)

    def metadata(self):
        return self.c.Metadata(state_dict_metadata=self.state, planner_data=self.planner, storage_data=self.storage, **self.more)

    def write(self, name=".metadata"):
        os.makedirs(self.path, exist_ok=True)
        for file, data in self.files.items():
            os.makedirs(os.path.dirname(os.path.join(self.path, file)), exist_ok=True)
            with open(os.path.join(self.path, file), "wb") as f:
                f.write(data)
        with open(os.path.join(self.path, name), "wb") as f:
            pickle.dump(self.metadata(), f, self.protocol)
        return self.path


def numbers(dtype, shape, start=0):
    numel = 1
    for s in shape:
        numel *= s
    if dtype in ("float32", "float64"):
        return struct.pack(f"<{numel}{'f' if dtype == 'float32' else 'd'}", *range(start, start + numel))
    size = ITEM[dtype]
    if dtype == "bool":
        return bytes((start + i) % 2 for i in range(numel))
    return b"".join(((start + i * 7 + 1) & (1 << 8 * size - 1) - 1).to_bytes(size, "little") for i in range(numel))
