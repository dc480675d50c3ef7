"""A mounted checkpoint as the object that torch.load would give.

    import weightfs
    model.load_state_dict(weightfs.load("mnt"), assign=True)

Tensors that stand unchanged in the checkpoint are one private mapping of that file, and all others mappings of the mount's files: pages are read
when they are used, and changes stay in this process. Tensors on a CUDA device of the mount (-o map_location=cuda) are copied from the daemon's
memory, on the device, and are then this process's own. With copy=False they share that memory: nothing is copied, the mount is busy and the
memory leased for as long as a tensor uses it, and it must not be written to (weightfs_cuda says what happens then). Needs torch, and NumPy where
the checkpoint holds NumPy objects.

What differs from torch.load: nothing is ever imported, so that a module is an OrderedDict of its state_dict, an object one of its attributes,
a tensor subclass a torch.Tensor, and what the mount shows as a description an Opaque. Sparse, nested and per-channel quantised tensors are a
Parts of their components. Names of the same tensor are one object. Lists inside a list of plain values are lists, also where they were
tuples. A NumPy array of objects that are no plain values is an OrderedDict of its elements. Quantised tensors of 2 and 4 bits are their packed bytes. A view whose bytes are not one piece of the file is contiguous and has a
storage of its own.
"""
import ast
import collections
import ctypes
import hashlib
import json
import mmap
import os
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor

import torch

from weightfs_cuda import Manifest, Tensor

__all__ = ["load", "Parts", "Opaque"]

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # a private mapping counts against no memory limit until it is written to

Opaque = namedtuple("Opaque", "type text")
Opaque.__doc__ = """An object that weightfs can carry but not show: its class and a description."""


class Parts(OrderedDict):
    """The components of a tensor that has several, under torch's names: indices, values, crow_indices, int_repr, scales, ..."""


CONTAINERS = {"dict": dict, "collections.OrderedDict": OrderedDict, "collections.Counter": collections.Counter, "list": list, "tuple": list,
              "collections.defaultdict": dict, "collections.deque": collections.deque, "torch.Tensor": Parts,
              "torch.nn.parameter.Parameter": Parts}
INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint8", "quint2x4": "uint8"}  # what stores them
ALIGN_BYTES = 16        # what torch's own memory has at least, and its kernels may rely on
SMALL_BYTES = 1 << 20  # storages up to here are copied many at a time


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


def _objects(path):
    """A NumPy array of objects: its file has all elements in one line of JSON."""
    import numpy
    with open(path, "rb") as f:
        elements = json.loads(f.read().decode("utf-8", "surrogateescape"))
    array = numpy.empty(len(elements), object)
    for i, element in enumerate(elements):
        array[i] = element  # a list is one element
    return array.reshape(json.loads(_attribute(path, "user.torch.shape")))


# ---- tensors in files ----

class _File:
    """A tensor's file, and what is known of it: by its line of the manifest, or by its attributes where it has none."""

    def __init__(self, said):
        path, line = said.path, said.line
        self.path, self.kind, self.dtype = path, said.kind, said.dtype
        if line:
            self.shape, self.stride, self.requires_grad = line["shape"], line["stride"], line.get("requires_grad", False)
            self.is_meta = line.get("location") == "meta"
            self.size = 0 if self.is_meta else line["bytes"]
            self.start, self.checkpoint = line.get("file_offset"), (line["file"], tuple(line["file_id"])) if "file" in line else None
        else:
            self.shape, self.stride = (json.loads(_attribute(path, f"user.torch.{name}")) for name in ("shape", "stride"))
            self.requires_grad = _attribute(path, "user.torch.requires_grad") == "true"
            offset = _attribute(path, "user.torch.file_offset")
            self.is_meta = offset is None and _attribute(path, "user.torch.location") == "meta"
            self.size = 0 if self.is_meta else os.path.getsize(path)
            self.start, self.checkpoint = int(offset) if offset else None, None

    def holds(self, other):
        return self.checkpoint == other.checkpoint and self.start <= other.start and other.start + other.size <= self.start + self.size

    def map(self, writable):
        with open(self.path, "r+b" if writable else "rb") as f:
            # shared: writes reach the mount; private: they stay in this process
            flags = mmap.MAP_SHARED if writable else mmap.MAP_PRIVATE | MAP_NORESERVE
            return mmap.mmap(f.fileno(), self.size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _map_checkpoint(file, file_id):
    """All of the checkpoint, privately; None where this process cannot reach that file, or a commit has replaced it since."""
    try:
        with open(file, "rb") as f:
            st = os.fstat(f.fileno())
            if (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns) != file_id:
                return None
            return mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE | MAP_NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError:
        return None


class _Memory:
    """The bytes behind files: of the checkpoint, which is mapped once, or of the mount."""

    def __init__(self, writable):
        self.writable, self.checkpoints = writable, {}

    def bytes(self, file):
        """A uint8 tensor of them."""
        if file.checkpoint and not self.writable and file.start % ALIGN_BYTES == 0:  # legacy files put tensors anywhere
            if file.checkpoint not in self.checkpoints:
                self.checkpoints[file.checkpoint] = _map_checkpoint(*file.checkpoint)
            if self.checkpoints[file.checkpoint]:
                return torch.frombuffer(self.checkpoints[file.checkpoint], dtype=torch.uint8, count=file.size, offset=file.start)
        return torch.frombuffer(file.map(self.writable), dtype=torch.uint8)


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


def _numpy_dtype(descr):
    """Of the text of user.numpy.descr: a name, or the list of a structured one."""
    import numpy
    return numpy.dtype(ast.literal_eval(descr) if descr.startswith("[") else descr)


def _array(file, writable):
    import numpy
    dtype = _numpy_dtype(_attribute(file.path, "user.numpy.descr"))
    if file.size == 0:
        return numpy.empty(file.shape, dtype)
    return numpy.frombuffer(file.map(writable), dtype).reshape(file.shape)


def _tensors(files, writable):
    """{path: tensor}. Where the bytes of one file lie inside those of another, both share the larger one's storage."""
    result, memory = {}, _Memory(writable)
    standing = sorted((f for f in files if f.start is not None and f.size), key=lambda f: (str(f.checkpoint), f.start, -f.size))
    holder, inside = None, {}
    for file in standing:
        if holder is None or not holder.holds(file):
            holder = file
        inside[file.path] = holder
    storages = {}
    for file in files:
        if file.is_meta:
            dtype = _torch_dtype(file.dtype, file.path)
            result[file.path] = _dressed(torch.empty_strided(file.shape, file.stride, dtype=dtype, device="meta"), file.kind, file.requires_grad)
            continue
        if file.kind == "numpy.ndarray":
            result[file.path] = _array(file, writable)
            continue
        base, storage = inside.get(file.path, file), None
        if file.size:
            if base.path not in storages:
                storages[base.path] = _untyped(memory.bytes(base))
            storage = storages[base.path]
        result[file.path] = _finished(file, _view(file, storage, file.start - base.start if base is not file else 0))
    return result


# ---- tensors on a device ----

def _open_storage(mapping, start, size):
    """A storage over a part of the daemon's memory, which stays mapped and leased as long as the storage lives."""
    device = f"cuda:{mapping.ordinal}"
    if size == 0:
        return _untyped(torch.empty(0, dtype=torch.uint8, device=device))
    return _untyped(torch.from_dlpack(Tensor(mapping, mapping.address + start, mapping.ordinal, "uint8", [size], [1])))


def _copy_storages(shared):
    """Storages of this process's own with the same bytes. All copies are complete on return."""
    def of(storage):
        return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, [storage.nbytes()], [1])

    sources = [of(storage) for storage in shared]
    copies, small = [], []
    for source in sources:
        copy = torch.empty_like(source)
        copies.append(copy)
        if source.numel() <= SMALL_BYTES:
            small.append((copy, source))
        else:  # on its way while there is memory made for the next
            copy.copy_(source, non_blocking=True)
    if small and hasattr(torch, "_foreach_copy_"):  # one launch for many; else one each
        for device in {copy.device for copy, _ in small}:
            pairs = [pair for pair in small if pair[0].device == device]
            torch._foreach_copy_([copy for copy, _ in pairs], [source for _, source in pairs])
        small = []
    for copy, source in small:
        copy.copy_(source, non_blocking=True)
    for device in {copy.device for copy in copies if copy.is_cuda}:
        torch.cuda.synchronize(device)
    return [_untyped(copy) for copy in copies]


def _storage_of(line):
    """What is one storage: an empty one starts where the next does."""
    start = line["cuda"]["offset"] - line["storage_offset"] * _element_bytes(line)
    return line["cuda"]["uuid"], line["cuda"]["handle"], start, line["storage_bytes"]


def _element_bytes(line):
    numel = 1
    for size in line["shape"]:
        numel *= size
    return line["bytes"] // numel if numel else torch.empty(0, dtype=_torch_dtype(line["dtype"], line["path"])).element_size()


def _device_tensors(manifest, said, copy):
    """{path: tensor} of what the manifest has on devices."""
    if not said:
        return {}
    if torch.cuda.is_available():
        torch.cuda.init()
    keys = {entry.path: _storage_of(entry.line) for entry in said}
    shared = {}
    for entry in said:
        key = keys[entry.path]
        if key not in shared:
            shared[key] = _open_storage(manifest.mapping(entry.line["cuda"]), key[2], key[3])
    if copy:
        shared = dict(zip(shared, _copy_storages(list(shared.values()))))
    result = {}
    for entry in said:
        line, storage = entry.line, shared[keys[entry.path]]
        tensor = torch.empty(0, dtype=_torch_dtype(line["dtype"], entry.path), device=storage.device)
        tensor.set_(storage, line["storage_offset"], line["shape"], line["stride"])
        tensor = tensor.conj() if line.get("conj") else tensor
        tensor = torch._neg_view(tensor) if line.get("neg") else tensor
        result[entry.path] = _dressed(tensor, entry.kind, line.get("requires_grad", False))
    return result


def _placed(tensor, line):
    """Of a device whose memory is not shared: read through the mount, and put there."""
    device = line.get("device", "file") if line else "file"
    return tensor.to(device) if device.startswith("cuda") and torch.cuda.is_available() else tensor


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
    """What is known of one entry of a directory: by its line of the manifest where it is a tensor, else by its attributes; the value itself
    where it is a plain one."""

    def __init__(self, entry, line):
        self.path, self.inode, self.line = entry.path, entry.inode(), line
        if line:
            if "error" in line:
                raise ValueError(f"{entry.path}: {line['error']}")
            self.is_link = self.is_dir = False
            self.key, self.kind, self.dtype = _hashable(line["key"]), line["class"], line["dtype"]
            return
        self.is_link = entry.is_symlink()
        self.is_dir = not self.is_link and entry.is_dir()
        self.key = _said_key(entry)
        self.kind = "" if self.is_link else _attribute(self.path, "user.torch.class", "")
        is_plain = self.is_link or self.is_dir or self.kind in VALUES or self.kind in ("str", "bytes", "bytearray")
        self.dtype = None if is_plain else _attribute(self.path, "user.torch.dtype")
        if self.dtype == "object":
            self.dtype, self.value = None, _objects(self.path)
        elif not (self.is_link or self.is_dir or self.dtype):
            self.value = _value(self.path, self.kind)


class _Tree:
    """One loading of a mount: containers first, then what their names lead to."""

    SLICE = 64  # what one thread asks the mount about at a time

    def __init__(self, mount, writable, copy, pool, manifest):
        self.root, self.writable, self.copy, self.pool, self.manifest = os.path.realpath(mount), writable, copy, pool, manifest
        self.lines = {line["path"]: line for line in manifest.lines}
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

    def line(self, path):
        return self.lines.get(path[len(self.root):].lstrip("/"))

    def describe(self, entry):
        return _Said(entry, self.line(entry.path))

    def enter(self, directory):
        container, first_link, first_wanted = self.places[directory], len(self.links), len(self.wanted)
        is_sequence = isinstance(container, (list, collections.deque))
        with os.scandir(directory) as entries:
            described = self.each(self.describe, list(entries))
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

    def tensors(self):
        """{path: tensor}"""
        on_devices = [said for said in self.files.values() if said.line and "cuda" in said.line]
        result = _device_tensors(self.manifest, on_devices, self.copy)
        in_files = self.each(_File, [said for said in self.files.values() if said.path not in result])
        for path, tensor in _tensors(in_files, self.writable).items():
            result[path] = _placed(tensor, self.line(path)) if isinstance(tensor, torch.Tensor) else tensor
        return result

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
            self.place(result, "value", self.describe(entry))
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


def _write_back(mount):
    """What is written through mappings, in whatever process, is in the kernel's memory until then; the manifest knows of it afterwards."""
    if os.statvfs(mount).f_flag & os.ST_RDONLY:
        return
    directory = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ctypes.CDLL(None, use_errno=True).syncfs(directory)
    finally:
        os.close(directory)


def load(mount, prefix="", writable=False, copy=True):
    """What torch.load gives for the checkpoint mounted there, or for the part at `prefix` (a path below the mount).

    writable: tensors in files share their pages with the mount, so that changes become edits of the checkpoint; otherwise changes stay
    in this process. copy: tensors on a device are copied there, one copy for each storage; otherwise they share the daemon's memory, which
    must not be changed, and hold the mount busy.
    """
    mount = os.path.realpath(mount)
    _write_back(mount)
    with ThreadPoolExecutor(8) as pool, Manifest(mount) as manifest:
        return _Tree(mount, writable, copy, pool, manifest).load(os.path.join(mount, prefix) if prefix else mount)
