"""A mounted checkpoint as the object that torch.load would give, without copying its tensors.

    import weightfs
    model.load_state_dict(weightfs.load("mnt"), assign=True)

Tensors on a CUDA device of the mount (-o map_location=cuda) are mapped from the daemon through CUDA IPC; every other tensor is mapped from
its file. A mapped storage holds the mount busy, and a device storage where it is (its lease), for as long as a tensor uses it; before torch
2.1, which cannot tell when that ends, until the process ends. Needs torch, and NumPy where the checkpoint holds NumPy objects.

What differs from torch.load: nothing is ever imported, so that a module is an OrderedDict of its state_dict, an object one of its attributes,
a tensor subclass a torch.Tensor, and what the mount shows as a description an Opaque. Sparse, nested and per-channel quantised tensors are a
Parts of their components. Names of the same tensor are one object. Lists inside a list of plain values are lists, also where they were
tuples. Quantised tensors of 2 and 4 bits are their packed bytes. A view whose bytes are not one piece of the file is contiguous and has a
storage of its own.
"""
import collections
import functools
import hashlib
import json
import mmap
import os
import weakref
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor

import torch

from weightfs_cuda import Driver, cuda_entries, open_entry

__all__ = ["load", "Parts", "Opaque", "cuda_entries"]

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # a private mapping counts against no memory limit until it is written to

Opaque = namedtuple("Opaque", "type text")
Opaque.__doc__ = """An object that weightfs can carry but not show: its class and a description."""


class Parts(OrderedDict):
    """The components of a tensor that has several, under torch's names: indices, values, crow_indices, int_repr, scales, ..."""


CONTAINERS = {"dict": dict, "collections.OrderedDict": OrderedDict, "collections.Counter": collections.Counter, "list": list, "tuple": list,
              "collections.defaultdict": dict, "collections.deque": collections.deque, "torch.Tensor": Parts,
              "torch.nn.parameter.Parameter": Parts}
INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint8", "quint2x4": "uint8"}  # what stores them
FOREVER = []  # leases, where nobody tells when a storage goes


def _attribute(path, name, default=None):
    try:
        return os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "surrogateescape")
    except OSError:
        return default


def _untyped(tensor):
    if hasattr(tensor, "untyped_storage"):
        return tensor.untyped_storage()
    storage = tensor.storage()
    return storage.untyped() if hasattr(storage, "untyped") else storage._untyped()


def _storages_tell_their_end():
    """Whether a storage's Python object lives as long as the storage does, as it does since torch 2.1."""
    tensor, ended = torch.zeros(1), []
    weakref.finalize(_untyped(tensor), ended.append, True).atexit = False
    return not ended


STORAGES_TELL_THEIR_END = _storages_tell_their_end()


def _keep(lease, storage):
    if STORAGES_TELL_THEIR_END:
        weakref.finalize(storage, lease.close).atexit = False
    else:
        FOREVER.append(lease)


# ---- plain values ----

def _hashable(value):
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


VALUES = {
    "int": int, "float": float, "bool": lambda text: text.strip() == "true", "NoneType": lambda text: None,
    "complex": lambda text: complex(text.strip()), "list": json.loads, "tuple": lambda text: tuple(json.loads(text)),
    "set": lambda text: set(map(_hashable, json.loads(text))), "frozenset": lambda text: frozenset(map(_hashable, json.loads(text))),
    "torch.Size": lambda text: torch.Size(json.loads(text)), "torch.device": lambda text: torch.device(text.strip()),
    "torch.dtype": lambda text: getattr(torch, text.strip().removeprefix("torch.")),
}


def _value(path, kind):
    with open(path, "rb") as f:
        data = f.read()
    if kind == "str":
        return data.decode("utf-8", "surrogatepass")
    if kind in ("bytes", "bytearray"):
        return data if kind == "bytes" else bytearray(data)
    text = data.decode("utf-8", "surrogateescape")
    if kind in VALUES:
        return VALUES[kind](text)
    if kind.startswith("numpy."):
        try:
            number = json.loads(text)
        except ValueError:
            return Opaque(kind, text)
        import numpy
        return getattr(numpy, kind.removeprefix("numpy."), numpy.asarray)(number)
    return Opaque(kind, text)


# ---- tensors in files ----

class _File:
    """A tensor's file, and what its attributes say."""

    def __init__(self, said):
        path = self.path = said.path
        self.kind, self.dtype = said.kind, said.dtype
        self.shape = json.loads(_attribute(path, "user.torch.shape"))
        self.requires_grad = _attribute(path, "user.torch.requires_grad") == "true"
        offset = _attribute(path, "user.torch.file_offset")
        self.start = int(offset) if offset else None  # in the checkpoint: where the bytes stand there as they are
        self.is_meta = offset is None and _attribute(path, "user.torch.location") == "meta"
        self.size = 0 if self.is_meta else os.path.getsize(path)

    def holds(self, other):
        return self.start <= other.start and other.start + other.size <= self.start + self.size

    def map(self, writable):
        with open(self.path, "r+b" if writable else "rb") as f:
            # shared: writes reach the mount; private: they stay in this process
            flags = mmap.MAP_SHARED if writable else mmap.MAP_PRIVATE | MAP_NORESERVE
            return mmap.mmap(f.fileno(), self.size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _torch_dtype(name, path):
    if not hasattr(torch, name):
        raise TypeError(f"{path}: torch {torch.__version__} has no {name}")
    return getattr(torch, name)


def _view(file, storage, offset_bytes):
    """The tensor of a file whose bytes start there in the storage (None: it has no bytes)."""
    packed = file.dtype in ("quint4x2", "quint2x4")
    dtype = _torch_dtype(INTEGERS.get(file.dtype, file.dtype), file.path)
    shape = [file.size] if packed else file.shape
    tensor = torch.empty(0, dtype=dtype)
    if storage is None:
        return tensor.reshape(shape)
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return tensor.set_(storage, offset_bytes // tensor.element_size(), shape, strides)


def _dressed(tensor, kind, requires_grad):
    if kind == "torch.nn.parameter.Parameter":
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor


def _finished(file, tensor):
    """What the checkpoint has there: a tensor, a quantised one, a parameter, a storage."""
    if "Storage" in file.kind:
        untyped = _untyped(tensor)
        if file.kind.rpartition(".")[2] in ("UntypedStorage", "_UntypedStorage"):
            return untyped
        return tensor._typed_storage() if hasattr(tensor, "_typed_storage") else tensor.storage()
    scale = _attribute(file.path, "user.torch.scale") if file.dtype in ("qint8", "quint8", "qint32") else None
    if scale is not None:
        zero_point = int(_attribute(file.path, "user.torch.zero_point"))
        return torch._make_per_tensor_quantized_tensor(tensor, float(scale), zero_point)  # torch makes these by copying alone
    return _dressed(tensor, file.kind, file.requires_grad)


def _array(file, writable):
    import numpy
    dtype = numpy.dtype(_attribute(file.path, "user.numpy.descr"))
    if file.size == 0:
        return numpy.empty(file.shape, dtype)
    return numpy.frombuffer(file.map(writable), dtype).reshape(file.shape)


def _tensors(files, writable):
    """{path: tensor}. Where the bytes of one file lie inside those of another, both share the larger one's storage."""
    result = {}
    standing = sorted((f for f in files if f.start is not None and f.size), key=lambda f: (f.start, -f.size))
    holder, inside = None, {}
    for file in standing:
        if holder is None or not holder.holds(file):
            holder = file
        inside[file.path] = holder
    storages = {}
    for file in files:
        if file.is_meta:
            dtype = _torch_dtype(file.dtype, file.path)
            stride = json.loads(_attribute(file.path, "user.torch.stride"))
            result[file.path] = _dressed(torch.empty_strided(file.shape, stride, dtype=dtype, device="meta"), file.kind, file.requires_grad)
            continue
        if file.kind == "numpy.ndarray":
            result[file.path] = _array(file, writable)
            continue
        base, storage = inside.get(file.path, file), None
        if file.size:
            if base.path not in storages:
                storages[base.path] = _untyped(torch.frombuffer(base.map(writable), dtype=torch.uint8))
            storage = storages[base.path]
        result[file.path] = _finished(file, _view(file, storage, file.start - base.start if base is not file else 0))
    return result


# ---- tensors on a device ----

@functools.lru_cache(maxsize=None)
def _device_index(uuid):
    """The number of a GPU in this process. The driver is asked and not torch, for it is the daemon's source as well."""
    return Driver().ordinal(uuid)


def _open_storage(entry):
    index = _device_index(entry["uuid"])
    torch.cuda.init()
    if entry["storage_bytes"] == 0:
        return torch.UntypedStorage(0, device=f"cuda:{index}")
    # The bare 64-byte handle is understood by every torch; the reference counter's name is one that no counter has, and
    # without event_sync the event handle is never opened.
    return torch.UntypedStorage._new_shared_cuda(index, bytes.fromhex(entry["handle"]), entry["storage_bytes"], entry["storage_start"],
                                                 b"weightfs-none", 0, b"", False)


def _from_device(entry, lease, storages):
    """A tensor over the daemon's device memory. The storage's first lease stays open as long as the storage lives."""
    key = entry["uuid"], entry["handle"], entry["storage_start"], entry["storage_bytes"]  # an empty one starts where the next does
    if key in storages:
        lease.close()
    else:
        try:
            storages[key] = _open_storage(entry)
        except BaseException:
            lease.close()
            raise
        _keep(lease, storages[key])
    storage = storages[key]
    tensor = torch.empty(0, dtype=_torch_dtype(entry["dtype"], lease.name), device=storage.device)
    tensor.set_(storage, entry["storage_offset"], entry["shape"], entry["stride"])
    if entry["conj"]:
        tensor = tensor.conj()
    return torch._neg_view(tensor) if entry["neg"] else tensor


# ---- the tree ----

def _unescaped(name):
    raw, out = os.fsencode(name), bytearray()
    while raw and raw != b"%":
        escaped = raw[:1] == b"%"
        out += bytes.fromhex(raw[1:3].decode()) if escaped else raw[:1]
        raw = raw[3 if escaped else 1:]
    return out.decode("utf-8", "surrogatepass")


def _is_cut_from(name, key):
    """Whether a name that was cut, for a key that is too long, is this key's: it ends in a sum of the whole name."""
    full = b"".join(b"%%%02X" % c if c in b"/\0%" else bytes([c]) for c in str(key).encode("utf-8", "surrogatepass"))
    return hashlib.sha256(full).hexdigest()[:8] == name[-8:]


def _said_key(entry):
    """The key that the mount says, or an _Unnamed: a link has no attributes, and names of one tensor have those of one of them."""
    text = _attribute(entry.path, "user.torch.key")
    if text is None:
        return _Unnamed(entry.name)
    key = _hashable(json.loads(text))
    if entry.is_dir() or entry.stat().st_nlink == 1:
        return key
    if "%~" in entry.name:
        if _is_cut_from(entry.name, key):
            return key
        raise LookupError(f"{entry.path}: the mount does not say the key of this name")
    return key if _unescaped(entry.name) == (key if isinstance(key, str) else text) else _Unnamed(entry.name)


def _key_of(name, others):
    """As the mount makes a key of a new name: all digits become an int where all the other keys are ints."""
    if name.lstrip("-").isdigit() and others and all(type(k) is int for k in others):
        return int(name)
    return _unescaped(name)


class _Unnamed:
    """Stands for a key that is not known yet."""

    def __init__(self, name):
        self.name = name


class _Said:
    """What the mount says of one entry of a directory; the value itself where it is a plain one."""

    def __init__(self, entry):
        self.path, self.inode, self.is_link = entry.path, entry.inode(), entry.is_symlink()
        self.is_dir = not self.is_link and entry.is_dir()
        self.key = _said_key(entry)
        self.kind = "" if self.is_link else _attribute(self.path, "user.torch.class", "")
        is_plain = self.is_link or self.is_dir or self.kind in VALUES or self.kind in ("str", "bytes", "bytearray")
        self.dtype = None if is_plain else _attribute(self.path, "user.torch.dtype")
        if not (self.is_link or self.is_dir or self.dtype):
            self.value = _value(self.path, self.kind)


class _Tree:
    """One loading of a mount: containers first, then what their names lead to."""

    SLICE = 64  # what one thread asks the mount about at a time

    def __init__(self, mount, writable, pool):
        self.root, self.writable, self.pool = os.path.realpath(mount), writable, pool
        self.has_devices = os.path.isdir(os.path.join(self.root, ".weightfs", "cuda"))
        self.places = {}                           # directory -> its container
        self.todo, self.links, self.tuples = [], [], []
        self.used_at = {}                          # id of a list that becomes a tuple -> [(container, key)]
        self.files, self.wanted = {}, []           # inode -> _Said, [(container, key, inode)]

    def each(self, function, items):
        """[function(item)], by several threads: most of the time goes by waiting for the mount."""
        slices = [items[i:i + self.SLICE] for i in range(0, len(items), self.SLICE)]
        return [x for part in self.pool.map(lambda part: [function(item) for item in part], slices) for x in part]

    def container(self, path, kind=None):
        if path not in self.places:
            kind = _attribute(path, "user.torch.class", "") if kind is None else kind
            self.places[path] = CONTAINERS.get(kind, OrderedDict)()
            if kind == "tuple":
                self.tuples.append(self.places[path])
            self.todo.append(path)
        return self.places[path]

    def put(self, container, key, value):
        container[key] = value
        self.used_at.setdefault(id(value), []).append((container, key))

    def enter(self, directory):
        container, first_link, first_wanted = self.places[directory], len(self.links), len(self.wanted)
        is_sequence = isinstance(container, (list, collections.deque))
        with os.scandir(directory) as entries:
            described = self.each(_Said, list(entries))
        for said in described:
            key = said.key
            if is_sequence:
                key = len(container)
                container.append(None)
            else:
                container[key] = None
            self.place(container, key, said)
        if not is_sequence and any(isinstance(key, _Unnamed) for key in container):
            self.name(container, first_link, first_wanted)

    def name(self, container, *first):
        """Keys for the entries whose own key is not said, now that the others are known."""
        others = [key for key in container if not isinstance(key, _Unnamed)]
        named = {key: _key_of(key.name, others) if isinstance(key, _Unnamed) else key for key in container}
        items = [(named[key], value) for key, value in container.items()]
        container.clear()
        container.update(items)
        for waiting, start in zip((self.links, self.wanted), first):
            waiting[start:] = [(c, named[key], target) for c, key, target in waiting[start:]]

    def place(self, container, key, said):
        if said.is_link:
            self.links.append((container, key, os.path.realpath(said.path)))
        elif said.is_dir:
            self.put(container, key, self.container(said.path, said.kind))
        elif said.dtype:
            self.files.setdefault(said.inode, said)
            self.wanted.append((container, key, said.inode))
        else:
            container[key] = said.value

    def find(self, said):
        """(what the tensor's entry on a device says, its lease), or its file."""
        if self.has_devices:
            entry, lease = open_entry(self.root, os.path.relpath(said.path, self.root))
            if entry:
                return entry, lease
        return _File(said)

    def tensors(self):
        """{path: tensor}"""
        result, in_files, storages = {}, [], {}
        for said, found in zip(self.files.values(), self.each(self.find, list(self.files.values()))):
            if isinstance(found, _File):
                in_files.append(found)
            else:
                result[said.path] = _dressed(_from_device(*found, storages), said.kind, found[0]["requires_grad"])
        return {**result, **_tensors(in_files, self.writable)}

    def load(self, start):
        if os.path.isdir(start):
            start = os.path.realpath(start)
            self.container(start)
            while self.todo or self.links:
                if self.todo:
                    self.enter(self.todo.pop())
                else:
                    container, key, target = self.links.pop()
                    self.put(container, key, self.container(target))
            result = self.places[start]
        else:
            with os.scandir(os.path.dirname(start)) as entries:
                entry = next(e for e in entries if e.name == os.path.basename(start))
            result = {}
            self.place(result, "value", _Said(entry))
        tensors = self.tensors()
        for container, key, inode in self.wanted:
            container[key] = tensors[self.files[inode].path]
        final = {}
        for temporary in reversed(self.tuples):  # what is inside a tuple was found after it
            final[id(temporary)] = tuple(temporary)
            for container, key in self.used_at.get(id(temporary), ()):
                container[key] = final[id(temporary)]
        if not os.path.isdir(start) or (start == self.root and _attribute(start, "user.torch.class") is None):
            return result["value"]  # the root is no container
        return final.get(id(result), result)


def load(mount, prefix="", writable=False):
    """What torch.load gives for the checkpoint mounted there, or for the part at `prefix` (a path below the mount).

    writable: tensors in files share their pages with the mount, so that changes become edits of the checkpoint; otherwise changes stay
    in this process. Tensors on a device share the daemon's memory, which is a copy: they must not be changed.
    """
    mount = os.path.realpath(mount)
    with ThreadPoolExecutor(8) as pool:
        return _Tree(mount, writable, pool).load(os.path.join(mount, prefix) if prefix else mount)
