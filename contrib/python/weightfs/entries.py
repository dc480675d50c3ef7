# SPDX-License-Identifier: MIT
"""The entries of a checkpoint, and where their bytes come from: a file through wfctl, or a mount. Standard library only.

Both say the same lines, those of .weightfs/entries.json (weightfs(1)): a dict an entry, in the order of the tree, with its path, key and class.
A line is a container's (it has "container"), a link's ("link"), a tensor's ("stride", or "error" and "dtype"), or a value's.
"""
import ast
import collections
import ctypes
import errno
import json
import mmap
import os
import posixpath
import shutil
import subprocess
from collections import OrderedDict, namedtuple

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # a private mapping counts against no memory limit until it is written to
NO_EDITS_MEANWHILE = 5  # attempts at it

Opaque = namedtuple("Opaque", "type text")
Opaque.__doc__ = """An object that weightfs can carry but not show: its class and a description."""


class Parts(OrderedDict):
    """The components of a tensor that has several, under torch's names: indices, values, crow_indices, int_repr, scales, ..."""


class Error(ValueError):
    """A checkpoint, or a tensor of it, that cannot be read; the text is that of wfctl."""


# ---- where lines and bytes come from ----

def _parsed(text):
    lines = text.decode("utf-8", "surrogateescape").rstrip("\n").replace("\n", ",")
    return json.loads(f"[{lines}]")


def private_mapping(fd, size=0):
    """Pages of the file, which can be written to and stay this process's."""
    return mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE | MAP_NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def raw_path(line):
    """The path of an entry as a file system has it: keys may have halves of surrogate pairs."""
    return line["path"].encode("utf-8", "surrogatepass")


def wfctl():
    """The program that reads files."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "wfctl")
    found = os.environ.get("WEIGHTFS_WFCTL") or (beside if os.path.exists(beside) else shutil.which("wfctl"))
    if not found:
        raise Error("wfctl is not found: install weightfs, or name the program in WEIGHTFS_WFCTL")
    return found


def _run(*arguments):
    r = subprocess.run([wfctl(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if r.returncode:
        raise Error(r.stderr.decode("utf-8", "replace").strip().removeprefix("wfctl: ") or f"wfctl ended with {r.returncode}")
    return r.stdout


class FileSource:
    """A checkpoint that is not mounted. Edits that wait beside it are seen as made."""

    manifest = None

    def __init__(self, path):
        self.path = os.fspath(path)
        self.lines = _parsed(_run("ls", "--entries", "--", self.path))

    def content(self, line):
        """All bytes that the file of this entry would have in a mount."""
        raw = ["--raw"] if "stride" in line else []
        return _run("cat", *raw, "--", self.path, raw_path(line))

    def pages(self, line, writable):
        """The same, of a tensor, as a buffer that can be written to; the writes stay in this process."""
        if writable:
            raise Error(f"{self.path}: writable needs a mount")
        data = bytearray(self.content(line))
        if len(data) != line["bytes"]:
            raise Error(f"{self.path}: {line['path']} has {len(data)} bytes now, not {line['bytes']}")
        return data


class MountSource:
    """A mount. Its manifest is held, and with it what is on a device, until close()."""

    def __init__(self, mount):
        from weightfs.cuda import Manifest
        self.path = os.path.realpath(mount)
        self._write_back()
        for _ in range(NO_EDITS_MEANWHILE):
            self.manifest = Manifest(self.path)
            with open(os.path.join(self.path, ".weightfs", "entries.json"), "rb") as f:
                self.lines = _parsed(f.read())
            tensors = {line["path"]: line for line in self.manifest.lines}
            if tensors.keys() == {line["path"] for line in self.lines if is_tensor(line)}:
                break
            self.manifest.close()
        else:
            raise Error(f"{mount}: is edited all the time: try again")
        self.lines = [tensors.get(line["path"], line) for line in self.lines]  # leased: these say where, on which device

    def _write_back(self):
        """What is written through mappings, in whatever process, is in the kernel's memory until then; the manifest knows of it afterwards."""
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:
            return
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ctypes.CDLL(None, use_errno=True).syncfs(directory)
        finally:
            os.close(directory)

    def _file(self, line):
        return os.path.join(os.fsencode(self.path), raw_path(line))

    def content(self, line):
        with open(self._file(line), "rb") as f:
            return f.read()

    def pages(self, line, writable):
        with open(self._file(line), "r+b" if writable else "rb") as f:
            if writable:  # shared: writes reach the mount
                return self._shared_mapping(f.fileno(), line["bytes"])
            return private_mapping(f.fileno(), line["bytes"])

    def _shared_mapping(self, fd, size):
        try:
            return mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise
            raise Error(f"{self.path}: is mounted with direct_io, and its tensors cannot be mapped for writing here: .weightfs/log says why") from e

    def close(self):
        self.manifest.close()


def source_of(path):
    """path: a checkpoint file or a mount point; a path inside a mount gives (source, prefix), any other (source, "")."""
    path = os.path.realpath(path)
    at, prefix = path, ""
    while True:
        if os.path.exists(os.path.join(at, ".weightfs", "status")):
            return MountSource(at), prefix
        parent, name = os.path.split(at)
        if parent == at:
            return FileSource(path), ""
        at, prefix = parent, posixpath.join(name, prefix) if prefix else name


class CheckpointPages:
    """The checkpoint's own file, mapped once for all tensors whose elements stand in it one after the other."""

    def __init__(self):
        self.mapped = {}

    def of(self, line):
        """All of the file, privately; None where the tensor does not stand there, this process cannot reach it, or a commit has replaced
        it since."""
        if "file" not in line:
            return None
        key = line["file"], tuple(line["file_id"])
        if key not in self.mapped:
            self.mapped[key] = self._map(*key)
        return self.mapped[key]

    @staticmethod
    def _map(file, file_id):
        try:
            with open(file, "rb") as f:
                st = os.fstat(f.fileno())
                return private_mapping(f.fileno()) if (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns) == file_id else None
        except OSError:
            return None


# ---- the tree ----

def is_tensor(line):
    return "stride" in line or ("error" in line and "dtype" in line)


def parent_of(path):
    return path.rpartition("/")[0]


def target_of(line):
    """The path that a link leads to."""
    path = posixpath.normpath(posixpath.join(parent_of(line["path"]), line["link"]))
    return "" if path == "." else path


def children_of(lines):
    """{path of a container: its entries' lines, in their order}"""
    children = {line["path"]: [] for line in lines if "container" in line}
    for line in lines:
        if line["path"]:
            children[parent_of(line["path"])].append(line)
    return children


def key_of(line):
    return hashable(line["key"])


def hashable(value):
    return tuple(map(hashable, value)) if isinstance(value, list) else value


# ---- plain values ----

def _torch():
    import torch
    return torch


def _size(sizes):
    try:
        return _torch().Size(sizes)
    except ImportError:
        return tuple(sizes)


def _of_torch(make):
    """Opaque where torch is not installed."""
    def value(text, kind):
        try:
            return make(_torch(), text.strip())
        except ImportError:
            return Opaque(kind, text)
    return value


FROM_JSON = {"int": int, "float": float, "bool": bool, "NoneType": lambda _: None, "str": str, "list": list, "tuple": tuple,
             "set": lambda v: set(map(hashable, v)), "frozenset": lambda v: frozenset(map(hashable, v)), "torch.Size": _size}
FROM_TEXT = {"complex": lambda text, _: complex(text.strip()), "torch.device": _of_torch(lambda torch, text: torch.device(text)),
             "torch.dtype": _of_torch(lambda torch, text: getattr(torch, text.removeprefix("torch."))),
             "bytes": lambda text, _: text.encode("utf-8", "surrogatepass"),
             "bytearray": lambda text, _: bytearray(text.encode("utf-8", "surrogatepass"))}


def _numpy_scalar(kind, number):
    import numpy
    return getattr(numpy, kind.removeprefix("numpy."), numpy.asarray)(number)


def _object_array(line, elements):
    """A NumPy array of objects: its file has all elements in one line of JSON."""
    import numpy
    array = numpy.empty(len(elements), object)
    for i, element in enumerate(elements):
        array[i] = element  # a list is one element
    return array.reshape(line["shape"])


def _of_json(line, value):
    kind = line["class"]
    if "shape" in line:
        return _object_array(line, value)
    if kind in FROM_JSON:
        return FROM_JSON[kind](value)
    if kind.startswith("numpy."):
        return _numpy_scalar(kind, value)
    return FROM_TEXT[kind](json.dumps(value), kind) if kind in FROM_TEXT else Opaque(kind, json.dumps(value))


def _of_text(line, text):
    kind = line["class"]
    if kind == "str":
        return text
    if kind in FROM_TEXT:
        return FROM_TEXT[kind](text, kind)
    if kind in FROM_JSON or kind.startswith("numpy.") or "shape" in line:
        try:
            return _of_json(line, json.loads(text))  # NaN and Infinity among it
        except ValueError:
            pass
    return Opaque(kind, text)


def value_of(line, source):
    """The value of a line that is no container's, link's or tensor's."""
    if "error" in line:
        raise Error(f"{line['path']}: {line['error']}")
    if "value" in line:
        return _of_json(line, line["value"])
    if "text" in line:
        return _of_text(line, line["text"])
    data = bytes.fromhex(line["hex"]) if "hex" in line else source.content(line)
    if line["class"] in ("bytes", "bytearray"):
        return data if line["class"] == "bytes" else bytearray(data)
    errors = "surrogatepass" if line["class"] == "str" else "surrogateescape"
    return _of_text(line, data.decode("utf-8", errors))


def numpy_dtype(descr):
    """Of the text of user.numpy.descr: a name, or the list of a structured one."""
    import numpy
    return numpy.dtype(ast.literal_eval(descr) if descr.startswith("[") else descr)


CONTAINERS = {"dict": dict, "collections.OrderedDict": OrderedDict, "collections.Counter": collections.Counter, "list": list, "tuple": list,
              "collections.defaultdict": dict, "collections.deque": collections.deque, "torch.Tensor": Parts,
              "torch.nn.parameter.Parameter": Parts}
