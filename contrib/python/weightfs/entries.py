# SPDX-License-Identifier: MIT
"""The entries of a checkpoint, and where their bytes come from: a file through wfctl, or a mount. Standard library only.

What is imported here is few and small: subprocess and shutil alone would double the time that opening a file takes.

Both say the same lines, those of .weightfs/entries.json (weightfs(1)): a dict an entry, in the order of the tree, with its path, key and class.
A line is a container's (it has "container"), a link's ("link"), a tensor's ("stride", or "error" and "dtype"), or a value's. They come as
.weightfs/columns.json, in which lines of many tensors are one Run: making 100,000 dicts takes longer than making the tensors.
"""
from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import functools
import gc
import json
import mmap
import os
import posixpath
import signal
import struct
import sys
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

if TYPE_CHECKING:
    import numpy

    from weightfs.cuda import Manifest

Line = Dict[str, Any]
Pages = Union[mmap.mmap, bytearray]
StrPath = Union[str, "os.PathLike[str]"]

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # a private mapping counts against no memory limit until it is written to
# a shared lock of the open file (F_OFD_SETLK): l_type F_RDLCK, l_whence SEEK_SET, l_start 2^62, l_len 1, l_pid 0; struct flock of 64-bit Linux
OFD_SETLK, HOLD = 37, struct.pack("hhqqi0q", 0, 0, 1 << 62, 1, 0)
NO_EDITS_MEANWHILE = 5  # attempts at it

class Run(NamedTuple):
    """Lines of tensors that stand one after the other in a container, and in the checkpoint's file as they are."""

    path: str
    """Of the container."""
    keys: List[str]
    """Which are their names, too."""
    forms: List[Line]
    """What all lines with that form have in common: everything but path, key, storage and file_offset."""
    form: Union[int, List[int]]
    """Which each has; an int: all have that."""
    storages: List[str]
    offsets: List[int]
    """In the file."""

    def form_of(self, i: int) -> Line:
        return self.forms[self.form if isinstance(self.form, int) else self.form[i]]

    def line(self, i: int) -> Line:
        """As entries.json has it."""
        key = self.keys[i]
        return {"path": f"{self.path}/{key}" if self.path else key, "key": key, **self.form_of(i), "storage": self.storages[i],
                "file_offset": self.offsets[i]}


Item = Union[Line, Run]


class Opaque(NamedTuple):
    """An object that weightfs can carry but not show."""

    type: str
    """The name of its class."""
    text: str
    """A description."""


class Parts(OrderedDict[str, Any]):
    """The components of a tensor that has several, under torch's names: indices, values, crow_indices, int_repr, scales, ..."""


class Error(ValueError):
    """A checkpoint, or a tensor of it, that cannot be read; the text is that of wfctl."""


# ---- where lines and bytes come from ----

@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """A million objects are made inside, and all are kept: looking through them for garbage, again and again, takes longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parsed(text: bytes) -> List[Line]:
    lines = text.decode("utf-8", "surrogateescape").rstrip("\n").replace("\n", ",")
    with uncollected():
        parsed: List[Line] = json.loads(f"[{lines}]")
    return parsed


def _items(text: bytes) -> Tuple[List[Item], bool]:
    """Of columns.json; and whether tensors may have a place on a device, which a lease gives them."""
    forms: List[Line] = []
    items: List[Item] = []
    leases = False
    for line in _parsed(text):
        if "run" in line:
            items.append(Run(line["run"], line["key"], forms, line["form"], line["storage"], line["file_offset"]))
        elif "form" in line:
            forms.append(line["form"])
        elif "leases" in line:
            leases = line["leases"]
        else:
            items.append(line)
    return items, leases


def lines_of(items: List[Item]) -> List[Line]:
    """All of them, each by itself."""
    lines: List[Line] = []
    for item in items:
        if isinstance(item, Run):
            lines.extend(map(item.line, range(len(item.keys))))
        else:
            lines.append(item)
    return lines


def private_mapping(fd: int, size: int = 0) -> mmap.mmap:
    """Pages of the file, which can be written to and stay this process's."""
    return mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE | MAP_NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def raw_path(line: Line) -> bytes:
    """The path of an entry as a file system has it: keys may have halves of surrogate pairs."""
    path: str = line["path"]
    return path.encode("utf-8", "surrogatepass")


def _in_path(name: str) -> Optional[str]:
    paths = (os.path.join(folder, name) for folder in os.get_exec_path())
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def wfctl() -> str:
    """The program that reads files."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "wfctl")
    found = os.environ.get("WEIGHTFS_WFCTL") or (beside if os.path.exists(beside) else _in_path("wfctl"))
    if not found:
        raise Error("wfctl is not found: install weightfs, or name the program in WEIGHTFS_WFCTL")
    return found


def _memory() -> IO[bytes]:
    """A file of this process's, which is none of its standard streams where those are closed."""
    fd = os.memfd_create("wfctl")
    if fd <= 2:
        low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(low)
    return os.fdopen(fd, "w+b", buffering=0)


def _wait_for(pid: int) -> int:
    """Its exit status."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # SIGCHLD is ignored in this process: nobody knows
        return 0


def _run(*arguments: Union[str, bytes]) -> bytes:
    program = wfctl()
    with _memory() as out, _memory() as said:
        streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
                   (os.POSIX_SPAWN_DUP2, said.fileno(), 2)]
        try:
            # Python ignores these; a program does not expect it
            pid = os.posix_spawn(program, [program, *arguments], os.environ, file_actions=streams, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ))
        except (OSError, ValueError) as e:  # a program that is none; a path with a NUL
            raise Error(f"{program} cannot be run: {getattr(e, 'strerror', None) or e}") from e
        status = _wait_for(pid)
        said.seek(0)
        text = said.read().decode("utf-8", "replace").strip()
        if status:
            raise Error(text.removeprefix("wfctl: ") or f"wfctl ended with {status}")
        out.seek(0)
        return out.read()


class _Source:
    """What both have."""

    items: List[Item]

    @functools.cached_property
    def lines(self) -> List[Line]:
        """All entries, each by itself; whoever can does with items."""
        with uncollected():
            return lines_of(self.items)


class FileSource(_Source):
    """A checkpoint that is not mounted. Edits that wait beside it are seen as made."""

    manifest: Optional[Manifest] = None

    def __init__(self, path: StrPath) -> None:
        self.path: str = os.fspath(path)
        self.items, _ = _items(_run("ls", "--columns", "--", self.path))

    def content(self, line: Line) -> bytes:
        """All bytes that the file of this entry would have in a mount."""
        raw: List[Union[str, bytes]] = ["--raw"] if "stride" in line else []
        return _run("cat", *raw, "--", self.path, raw_path(line))

    def pages(self, line: Line, writable: bool) -> Pages:
        """The same, of a tensor, as a buffer that can be written to; the writes stay in this process."""
        if writable:
            raise Error(f"{self.path}: writable needs a mount")
        data = bytearray(self.content(line))
        if len(data) != line["bytes"]:
            raise Error(f"{self.path}: {line['path']} has {len(data)} bytes now, not {line['bytes']}")
        return data

    def close(self) -> None:
        """A file is held by what was mapped of it alone."""


class MountSource(_Source):
    """A mount. What it has on a device is held until close(), by its manifest."""

    manifest: Optional[Manifest] = None

    def __init__(self, mount: str) -> None:
        self.path = os.path.realpath(mount)
        self._write_back()
        self.items, leases = self._read_items()
        if leases:
            self._lease(mount)

    def _read_items(self) -> Tuple[List[Item], bool]:
        with open(os.path.join(self.path, ".weightfs", "columns.json"), "rb") as f:
            return _items(f.read())

    def _lease(self, mount: str) -> None:
        """Once more, while everything stays on its device: leased lines say where, and on which."""
        from weightfs.cuda import Manifest
        for _ in range(NO_EDITS_MEANWHILE):
            self.manifest = Manifest(self.path)
            lines = lines_of(self._read_items()[0])
            tensors: Dict[str, Line] = {line["path"]: line for line in self.manifest.lines}
            if tensors.keys() == {line["path"] for line in lines if is_tensor(line)}:
                self.items = [tensors.get(line["path"], line) for line in lines]
                return
            self.manifest.close()
        raise Error(f"{mount}: is edited all the time: try again")

    def _write_back(self) -> None:
        """What is written through mappings, in whatever process, is in the kernel's memory until then; the manifest knows of it afterwards."""
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:
            return
        import ctypes
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ctypes.CDLL(None, use_errno=True).syncfs(directory)
        finally:
            os.close(directory)

    def _file(self, line: Line) -> bytes:
        return os.path.join(os.fsencode(self.path), raw_path(line))

    def content(self, line: Line) -> bytes:
        with open(self._file(line), "rb") as f:
            return f.read()

    def pages(self, line: Line, writable: bool) -> Pages:
        with open(self._file(line), "r+b" if writable else "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size != line["bytes"]:  # emptied, and not written yet
                raise Error(f"{self.path}: {line['path']} has {size} bytes now, not {line['bytes']}: somebody writes it")
            if writable:  # shared: writes reach the mount
                return self._shared_mapping(f.fileno(), line["bytes"])
            return private_mapping(f.fileno(), line["bytes"])

    def _shared_mapping(self, fd: int, size: int) -> mmap.mmap:
        try:
            return mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise
            raise Error(f"{self.path}: is mounted with direct_io, and its tensors cannot be mapped for writing here: .weightfs/log says why") from e

    def close(self) -> None:
        if self.manifest is not None:
            self.manifest.close()


Source = Union[FileSource, MountSource]


def source_of(path: StrPath) -> Tuple[Source, str]:
    """path: a checkpoint file or a mount point; a path inside a mount gives (source, prefix), any other (source, "")."""
    if not os.fspath(path):
        raise Error("the path of the checkpoint is empty")  # it would be that of the working directory
    path = os.path.realpath(path)
    at, prefix = path, ""
    while True:
        if os.path.exists(os.path.join(at, ".weightfs", "status")):
            return MountSource(at), prefix
        parent, name = os.path.split(at)
        if parent == at:
            return FileSource(path), ""
        at, prefix = parent, posixpath.join(name, prefix) if prefix else name


def _stay(fd: int) -> None:
    """Its bytes do not move while this descriptor lives, or a mapping made of it, which has a copy: no commit=append changes the file in its
    place. Raises BlockingIOError where one does at the moment."""
    try:
        fcntl.fcntl(fd, OFD_SETLK, HOLD)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without such locks


class CheckpointPages:
    """The checkpoint's own file, mapped once for all tensors whose elements stand in it one after the other."""

    def __init__(self) -> None:
        self.mapped: Dict[Tuple[str, Tuple[int, ...]], Optional[mmap.mmap]] = {}

    def of(self, line: Line) -> Optional[mmap.mmap]:
        """All of the file, privately; None where the tensor does not stand there, this process cannot reach it, or a commit has replaced
        it since."""
        if "file" not in line:
            return None
        key = line["file"], tuple(line["file_id"])
        if key not in self.mapped:
            self.mapped[key] = self._map(*key)
        return self.mapped[key]

    @staticmethod
    def _map(file: str, file_id: Tuple[int, ...]) -> Optional[mmap.mmap]:
        try:
            with open(file, "rb") as f:
                _stay(f.fileno())
                st = os.fstat(f.fileno())
                return private_mapping(f.fileno()) if (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns) == file_id else None
        except OSError:
            return None


class Memory:
    """Of the tensors of one source: shared among all that are made of the same object."""

    def __init__(self, source: Source, writable: bool = False) -> None:
        self.source, self.writable, self.pages = source, writable, CheckpointPages()

    def of(self, line: Line) -> Tuple[Any, int]:
        """A buffer, and at which of its bytes the tensor begins: the one mapping of the checkpoint, or the tensor's own pages."""
        pages = None if self.writable else self.pages.of(line)
        return (self.source.pages(line, self.writable), 0) if pages is None else (pages, line["file_offset"])


# ---- the tree ----

def is_tensor(line: Line) -> bool:
    return "stride" in line or ("error" in line and "dtype" in line)


def parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def target_of(line: Line) -> str:
    """The path that a link leads to."""
    path = posixpath.normpath(posixpath.join(parent_of(line["path"]), line["link"]))
    return "" if path == "." else path


def children_of(lines: List[Line]) -> Dict[str, List[Line]]:
    """{path of a container: its entries' lines, in their order}"""
    children: Dict[str, List[Line]] = {line["path"]: [] for line in lines if "container" in line}
    for line in lines:
        if line["path"]:
            children[parent_of(line["path"])].append(line)
    return children


def items_in(items: List[Item]) -> Dict[str, List[Item]]:
    """The same, where many tensors are one Run."""
    children: Dict[str, List[Item]] = {item["path"]: [] for item in items if not isinstance(item, Run) and "container" in item}
    for item in items:
        if isinstance(item, Run):
            children[item.path].append(item)
        elif item["path"]:
            children[parent_of(item["path"])].append(item)
    return children


def key_of(line: Line) -> Any:
    if line.get("key_class") != "bytes":
        return hashable(line["key"])
    import ast
    return ast.literal_eval(line["key"])


def check_keys(path: str, found: int, entries: int) -> None:
    """Keys of classes that this module does not make, a device or a path, are texts, and another key may be that text."""
    if found != entries:
        raise Error(f"{path or 'the checkpoint'}: {entries - found} of its keys cannot be told from others by their text (a path, a date, a device, "
                    "..., beside the str): weightfs.open(...).tensor(path) has each tensor")


def hashable(value: Any) -> Any:
    return tuple(map(hashable, value)) if isinstance(value, list) else value


# ---- plain values ----

def has_torch() -> bool:
    """Whether it is installed: a folder of that name in the working directory is no torch."""
    if "torch" in sys.modules:
        return getattr(sys.modules["torch"], "__file__", None) is not None
    found = (finder.find_spec("torch", None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    spec = next((spec for spec in found if spec is not None), None)
    return spec is not None and spec.origin is not None


def _torch() -> Any:
    import torch
    return torch


def _size(sizes: List[int]) -> Any:
    return _torch().Size(sizes) if has_torch() else tuple(sizes)


def _of_torch(make: Callable[[Any, str], Any]) -> Callable[[str, str], Any]:
    """Opaque where torch is not installed."""
    def value(text: str, kind: str) -> Any:
        return make(_torch(), text.strip()) if has_torch() else Opaque(kind, text)
    return value


FROM_JSON: Dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool, "NoneType": lambda _: None, "str": str, "list": list, "tuple": tuple,
             "set": lambda v: set(map(hashable, v)), "frozenset": lambda v: frozenset(map(hashable, v)), "torch.Size": _size}
FROM_TEXT: Dict[str, Callable[[str, str], Any]] = {"complex": lambda text, _: complex(text.strip()), "torch.device": _of_torch(lambda torch, text: torch.device(text)),
             "torch.dtype": _of_torch(lambda torch, text: getattr(torch, text.removeprefix("torch."))),
             "bytes": lambda text, _: text.encode("utf-8", "surrogatepass"),
             "bytearray": lambda text, _: bytearray(text.encode("utf-8", "surrogatepass"))}


def _numpy_scalar(kind: str, number: Any) -> Any:
    import numpy
    return getattr(numpy, kind.removeprefix("numpy."), numpy.asarray)(number)


def _object_array(line: Line, elements: List[Any]) -> numpy.ndarray[Any, Any]:
    """A NumPy array of objects: its file has all elements in one line of JSON."""
    import numpy
    array = numpy.empty(len(elements), object)
    for i, element in enumerate(elements):
        array[i] = element  # a list is one element
    shaped: numpy.ndarray[Any, Any] = array.reshape(line["shape"])
    return shaped


def _of_json(line: Line, value: Any) -> Any:
    kind: str = line["class"]
    if "shape" in line:
        return _object_array(line, value)
    if kind in FROM_JSON:
        return FROM_JSON[kind](value)
    if kind.startswith("numpy."):
        return _numpy_scalar(kind, value)
    return FROM_TEXT[kind](json.dumps(value), kind) if kind in FROM_TEXT else Opaque(kind, json.dumps(value))


def _of_text(line: Line, text: str) -> Any:
    kind: str = line["class"]
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


def value_of(line: Line, source: Source) -> Any:
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


def numpy_dtype(descr: str) -> numpy.dtype[Any]:
    """Of the text of user.numpy.descr: a name, or the list of a structured one."""
    import ast

    import numpy
    return numpy.dtype(ast.literal_eval(descr) if descr.startswith("[") else descr)


CONTAINERS: Dict[str, Callable[[], Any]] = {"dict": dict, "collections.OrderedDict": OrderedDict, "collections.Counter": collections.Counter, "list": list, "tuple": list,
              "collections.defaultdict": dict, "collections.deque": collections.deque, "torch.Tensor": Parts,
              "torch.nn.parameter.Parameter": Parts}
