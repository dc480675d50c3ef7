# SPDX-License-Identifier: MIT
"""What a mount of a checkpoint must show, said by torch: a second implementation of the contract, over torch.load's result.

    root, locations = load(path)
    for entry in describe(root, locations): ...

An entry is a dict with `path` (names joined with '/'; bytes that are no UTF-8 as surrogateescape), `type` (dir, tensor, value, link,
opaque), `class`, `key` (JSON, absent where the name is no key), and
    tensor   dtype, shape, stride, offset, size, sha256 (of the file's bytes; absent for meta), requires_grad, location, kind (dense, meta,
             storage, numpy), tie (a number shared by names of the same data), and qscheme, scale, zero_point of quantised ones
    value    bytes (the file's content, surrogateescape text)
    link     target (path from the root)
Entries come depth first, a directory before what is in it. Works with torch 1.13 and every later one.
"""
import ctypes
import hashlib
import json
import os
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")

NUMPY_DTYPES = {"float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
                "complex128"}
MAX_JSON_DEPTH = 64  # of lists shown as one text; value/text.c has the same
PACKED = {"quint4x2": 2, "quint2x4": 4}
LAYOUTS = {torch.sparse_coo: ("indices", "values")}
for names, components in ((("sparse_csr", "sparse_bsr"), ("crow_indices", "col_indices", "values")),
                          (("sparse_csc", "sparse_bsc"), ("ccol_indices", "row_indices", "values"))):
    for name in names:
        if hasattr(torch, name):
            LAYOUTS[getattr(torch, name)] = components


def load(path, **kwargs):
    """(object, {id of a StorageImpl: location tag}); every storage is put on the CPU."""
    locations = {}

    def place(storage, location):
        locations[storage._cdata if hasattr(storage, "_cdata") else storage._storage._cdata] = location
        return storage

    kwargs.setdefault("weights_only", False)
    return torch.load(path, map_location=place, **kwargs), locations


# ---- names ----

def json_text(value):
    return json.dumps(value, ensure_ascii=False)


def scalar_text(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return json.dumps(value)
    return str(value)


def key_json(key):
    """user.torch.key; None where the oracle has no opinion."""
    if key is None or isinstance(key, (str, bool, int, float)):
        return json_text(key)
    if isinstance(key, tuple) and is_plain(key):
        return json_text(list_of(key))
    return None


def twins_of(mapping):
    return {scalar_text(k) for k in mapping if not isinstance(k, str) and (k is None or isinstance(k, (bool, int, float)))} | \
        {key_json(k) for k in mapping if isinstance(k, tuple)}


def name_of(key, twins=()):
    """The file name of a key, as bytes; None where the oracle has no opinion."""
    if isinstance(key, str):
        raw = key.encode("utf-8", "surrogatepass")
        first = key in (".", "..", ".weightfs") or key in twins
        name = b"".join(b"%%%02X" % c if c in b"/\0%" or (i == 0 and first) else bytes([c]) for i, c in enumerate(raw)) or b"%"
    else:
        text = key_json(key)
        if text is None:
            return None
        name = text.encode().replace(b"%", b"%25").replace(b"/", b"%2F")
    if len(name) <= 255:
        return name
    keep = 245
    while name[keep] & 0xc0 == 0x80:
        keep -= 1
    for back in (1, 2):
        if name[keep - back:keep - back + 1] == b"%":
            keep -= back
            break
    return name[:keep] + b"%~" + hashlib.sha256(name).hexdigest()[:8].encode()


# ---- values ----

def is_plain(value, depth=0, done=None):
    """Shown as one JSON text, when it stands in a list. One nested too deep, as a list that holds itself is, is a directory."""
    done = set() if done is None else done
    if type(value) not in (list, tuple, set, frozenset, torch.Size):
        return value is None or type(value) in (bool, int, float, str)
    if id(value) in done:
        return True
    if depth == MAX_JSON_DEPTH or not all(is_plain(v, depth + 1, done) for v in value):
        return False
    done.add(id(value))
    return True


def list_of(value):
    if isinstance(value, (list, tuple, set, frozenset)):
        return [list_of(v) for v in value]
    return value


def value_bytes(value):
    """The content of the file of a plain value; None for anything else."""
    if isinstance(value, str) and type(value) is str:
        return value.encode("utf-8", "surrogatepass")
    if type(value) in (bytes, bytearray):
        return bytes(value)
    if value is None or type(value) in (bool, int, float):
        return scalar_text(value).encode() + b"\n"
    if type(value) is complex:
        return str(value).strip("()").encode() + b"\n"
    if type(value) in (list, tuple, set, frozenset, torch.Size):
        return json_text(list_of(value)).encode() + b"\n" if is_plain(value) else None
    if isinstance(value, torch.device) or isinstance(value, torch.dtype):
        return str(value).encode() + b"\n"
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return scalar_text(float(value) if value.dtype.kind == "f" else value.item()).encode() + b"\n"
    return None


def class_name(obj):
    cls = type(obj)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


# ---- tensors ----

def untyped(storage):
    for name in ("_untyped_storage", "_storage"):
        if hasattr(storage, name):
            return getattr(storage, name)
    return storage


def storage_of(t):
    return t.untyped_storage() if hasattr(t, "untyped_storage") else untyped(t.storage())


def storage_bytes(storage):
    return ctypes.string_at(storage.data_ptr(), storage.nbytes()) if storage.nbytes() else b""


def dtype_name(dtype):
    return str(dtype).replace("torch.", "")


def tensor_bytes(t):
    """The elements in row-major order, as the logical value has them."""
    if t.is_conj() or t.is_neg():
        t = t.resolve_conj().resolve_neg()
    name = dtype_name(t.dtype)
    raw = storage_bytes(storage_of(t))
    if name in PACKED:
        n = -(-t.numel() // PACKED[name])
        return raw[t.storage_offset() // PACKED[name]:][:n]
    size = t.element_size()
    if not t.numel():
        return b""
    elements = np.frombuffer(raw, dtype=f"V{size}", count=len(raw) // size)[t.storage_offset():]
    view = np.lib.stride_tricks.as_strided(elements, tuple(t.shape), tuple(s * size for s in t.stride()))
    return np.ascontiguousarray(view).tobytes()


def numpy_descr(name):
    return np.dtype(name).newbyteorder("<").str if name in NUMPY_DTYPES else None


def digest(data):
    return hashlib.sha256(data).hexdigest()


class IntRepr:
    """A tensor quantised per channel, this time as its integers."""

    def __init__(self, tensor):
        self.tensor = tensor


class Walk:
    def __init__(self, locations):
        self.locations, self.ties, self.places, self.out = locations, {}, {}, []

    def tie(self, *identity):
        return self.ties.setdefault(identity, len(self.ties))

    def dense(self, t):
        """Attributes of a torch.Tensor of the strided layout."""
        name = dtype_name(t.dtype)
        e = {"type": "tensor", "class": class_name(t), "kind": "dense", "dtype": name, "shape": list(t.shape), "stride": list(t.stride()),
             "offset": t.storage_offset(), "requires_grad": t.requires_grad}
        if t.device.type == "meta":
            e.update(kind="meta", location="meta", size=t.numel() * t.element_size())
            return e
        storage = storage_of(t)
        data = tensor_bytes(t)
        if len(data) != -(-t.numel() // PACKED.get(name, 1)) * t.element_size():
            raise AssertionError(f"the oracle gathered {len(data)} bytes of {t.shape} {name}")
        if t.is_quantized:
            e["qscheme"] = str(t.qscheme()).replace("torch.", "")
            if t.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
                e.update(scale=t.q_scale(), zero_point=t.q_zero_point())
        e.update(size=len(data), sha256=digest(data), location=self.locations.get(storage._cdata, "cpu"))
        e["tie"] = self.tie(storage._cdata, e["offset"], tuple(e["shape"]), tuple(e["stride"]), name, t.is_conj(), t.is_neg())
        if numpy_descr(name):
            e["descr"] = numpy_descr(name)
        return e

    def array(self, a):
        native = a.astype(a.dtype.newbyteorder("<"))
        order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
        name = "bool" if a.dtype.kind == "b" else a.dtype.newbyteorder("=").name
        stride = [s // a.dtype.itemsize for s in np.empty(a.shape, a.dtype, order=order).strides]
        data = np.ascontiguousarray(native).tobytes()
        return {"type": "tensor", "class": "numpy.ndarray", "kind": "numpy", "dtype": name, "shape": list(a.shape), "stride": stride,
                "size": len(data), "sha256": digest(data), "descr": numpy_descr(name), "tie": self.tie("numpy", id(a))}

    def storage(self, s):
        raw = untyped(s)
        name = dtype_name(s.dtype) if hasattr(s, "dtype") else "uint8"
        data = storage_bytes(raw)
        n = s.size() if hasattr(s, "dtype") else len(data)
        e = {"type": "tensor", "kind": "storage", "dtype": name, "shape": [n], "stride": [1], "offset": 0, "size": len(data),
             "sha256": digest(data), "location": self.locations.get(raw._cdata, "cpu"), "tie": self.tie("storage", raw._cdata, name)}
        if numpy_descr(name):
            e["descr"] = numpy_descr(name)
        return e

    def components(self, t):
        """[(name, tensor)] of what is shown as a directory, or None."""
        if t.layout in LAYOUTS:
            if t.layout == torch.sparse_coo:
                return [("indices", t._indices()), ("values", t._values())]
            return [(n, getattr(t, n)()) for n in LAYOUTS[t.layout]]
        if t.is_quantized and t.qscheme() not in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            return [("int_repr", IntRepr(t)), ("scales", t.q_per_channel_scales()), ("zero_points", t.q_per_channel_zero_points())]
        if getattr(t, "is_nested", False):
            return []
        return None

    def children(self, obj):
        """(type of directory, [(name bytes, key JSON or None, child)]) of a container, or None."""
        if isinstance(obj, torch.nn.Module):
            return [(name_of(k), json_text(k), v) for k, v in obj.state_dict(keep_vars=True).items()]
        if isinstance(obj, dict):
            twins = twins_of(obj)
            return [(name_of(k, twins), key_json(k), v) for k, v in obj.items()]
        if type(obj) in (list, tuple):
            return [(b"%d" % i, None, v) for i, v in enumerate(obj)]
        if isinstance(obj, torch.Tensor):
            return [(name.encode(), None, v) for name, v in self.components(obj)]
        return [(name_of(k), json_text(k), v) for k, v in vars(obj).items()]

    def entry(self, obj, path):
        """The entry of obj itself, and whether to go into it."""
        if isinstance(obj, IntRepr):
            e = self.dense(obj.tensor)
            del e["qscheme"]
            return e, False
        if isinstance(obj, torch.Tensor):
            parts = self.components(obj)
            if parts is None:
                return self.dense(obj), False
            return {"type": "dir", "class": class_name(obj), **({"partial": True} if not parts else {})}, bool(parts)
        if isinstance(obj, np.ndarray):
            name = "bool" if obj.dtype.kind == "b" else obj.dtype.newbyteorder("=").name
            return (self.array(obj) if name in NUMPY_DTYPES else {"type": "opaque"}), False
        if "Storage" in type(obj).__name__ and hasattr(obj, "nbytes"):
            return self.storage(obj), False
        content = value_bytes(obj)
        if content is not None:
            return {"type": "value", "class": class_name(obj), "bytes": content.decode("utf-8", "surrogateescape")}, False
        if isinstance(obj, (dict, torch.nn.Module)) or type(obj) in (list, tuple):
            if id(obj) in self.places:
                return {"type": "link", "target": self.places[id(obj)]}, False
            self.places[id(obj)] = path
            return {"type": "dir", "class": class_name(obj)}, True
        state = getattr(obj, "__dict__", None)
        if isinstance(state, dict) and state and not isinstance(obj, type) and type(obj).__reduce_ex__ is object.__reduce_ex__ and \
                not hasattr(obj, "_fields") and not isinstance(obj, (list, set)):
            if id(obj) in self.places:
                return {"type": "link", "target": self.places[id(obj)]}, False
            self.places[id(obj)] = path
            return {"type": "dir", "class": class_name(obj)}, True
        return {"type": "opaque"}, False

    def run(self, root, limit):
        first, inside = self.entry(root, "")
        if not inside:
            first["path"] = "value"
            self.out.append(first)
            return self.out
        self.out.append({"path": "", **first})
        todo = [("", c) for c in reversed(self.children(root))]
        while todo and len(self.out) < limit:
            parent, (name, key, obj) = todo.pop()
            path = None if name is None else (parent + "/" if parent else "") + os.fsdecode(name)
            e, inside = self.entry(obj, path)
            if path is None:
                self.out.append({"path": parent, "type": "unnamed"})
                continue
            self.out.append({"path": path, **({"key": key} if key is not None else {}), **e})
            if inside:
                todo.extend((path, c) for c in reversed(self.children(obj)))
        return self.out


def describe(root, locations=None, limit=1 << 60):
    walk = Walk(locations or {})
    entries = walk.run(root, limit)
    names = {}
    for e in entries:  # a tie of one name is none
        if "tie" in e:
            names[e["tie"]] = names.get(e["tie"], 0) + 1
    for e in entries:
        if "tie" in e and names[e["tie"]] == 1:
            del e["tie"]
    return entries
