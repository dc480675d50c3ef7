# SPDX-License-Identifier: MIT
"""Writes checkpoints in torch's zip layout without torch, for tests of the mount that must run everywhere.

    save(path, {"a": Tensor("float32", (2, 3), data), "epoch": 3, "sub": {...}})

The pickle is made by Python's own pickler over stand-ins with torch's names, so it is what torch would write; the zip has
torch's alignment padding and data descriptors. tests/torch proves the same things with real torch.
"""
import io
import pickle
import struct
import sys
import types
import zlib
from collections import OrderedDict

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage", "int32": "IntStorage",
            "uint8": "ByteStorage", "bool": "BoolStorage", "float16": "HalfStorage", "complex128": "ComplexDoubleStorage"}
ITEMSIZE = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "uint8": 1, "bool": 1, "float16": 2, "complex128": 16}


def _stand_in(module, name):
    """A class that pickles as GLOBAL module name."""
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[:i + 1]), types.ModuleType(".".join(parts[:i + 1])))
    cls = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, cls)
    return cls


class Storage:
    def __init__(self, dtype, data, location="cpu"):
        self.dtype, self.data, self.location = dtype, bytes(data), location


class Tensor:
    def __init__(self, dtype, shape, data, storage=None, offset=0, stride=None):
        self.dtype, self.shape = dtype, tuple(shape)
        self.storage = storage or Storage(dtype, data)
        self.offset = offset
        if stride is None:
            stride, n = [], 1
            for s in reversed(self.shape):
                stride.insert(0, n)
                n *= max(s, 1)
        self.stride = tuple(stride)

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, self.offset, self.shape, self.stride, False, OrderedDict())


class _Pickler(pickle._Pickler):
    def __init__(self, file):
        super().__init__(file, 2)
        self.storages = []

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            self.storages.append(obj)
        return ("storage", self.classes[obj.dtype], str(self.storages.index(obj)), obj.location, len(obj.data) // ITEMSIZE[obj.dtype])


def _record(out, name, data, directory):
    """One record in torch's layout: no date, padding field 'FB' up to a multiple of 64, a data descriptor behind the bytes."""
    at, raw = out.tell(), name.encode()
    pad = -(at + 30 + len(raw) + 4) % 64
    crc = zlib.crc32(data)
    flags = 0x0808 if data else 0x0800
    out.write(struct.pack("<IHHHHHIIIHH", 0x04034b50, 0, flags, 0, 0, 0, 0, 0, 0, len(raw), 4 + pad) + raw)
    out.write(b"FB" + struct.pack("<H", pad) + b"Z" * pad + data)
    if data:
        out.write(struct.pack("<IIII", 0x08074b50, crc, len(data), len(data)))
    directory.append(struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 0, 0, flags, 0, 0, 0, crc, len(data), len(data), len(raw), 0, 0,
                                 0, 0, 0, at) + raw)


def save(path, obj, prefix="archive"):
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    for name in before:
        sys.modules.pop(name, None)
    try:
        _Pickler.classes = {d: _stand_in("torch", s) for d, s in STORAGES.items()}
        _stand_in("torch._utils", "_rebuild_tensor_v2")
        sys.modules["torch"]._utils = sys.modules["torch._utils"]
        body = io.BytesIO()
        pickler = _Pickler(body)
        pickler.dump(obj)
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    directory = []
    with open(path, "wb") as out:
        _record(out, f"{prefix}/data.pkl", body.getvalue(), directory)
        _record(out, f"{prefix}/byteorder", b"little", directory)
        for key, storage in enumerate(pickler.storages):
            _record(out, f"{prefix}/data/{key}", storage.data, directory)
        _record(out, f"{prefix}/version", b"3\n", directory)
        start = out.tell()
        cd = b"".join(directory)
        out.write(cd)
        eocd64 = out.tell()
        n = len(directory)
        out.write(struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 0x031e, 45, 0, 0, n, n, len(cd), start))
        out.write(struct.pack("<IIQI", 0x07064b50, 0, eocd64, 1))
        out.write(struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, n, n, len(cd), start, 0))
