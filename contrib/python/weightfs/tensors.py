# SPDX-License-Identifier: MIT
"""Lines of tensors as torch's tensors. Needs torch.

A tensor's bytes are a part of the one private mapping of the checkpoint, where they stand in it as they are; else a mapping of the mount's file, or
what wfctl printed. Where the bytes of one tensor lie inside those of another, both share the larger one's storage.
"""
from __future__ import annotations

import collections
from typing import Any, Dict, List, Optional, Tuple

import torch

from weightfs.cuda import Manifest, Mapping, Tensor
from weightfs.entries import Error, Line, Memory, Run

INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint8", "quint2x4": "uint8"}  # what stores them
ALIGN_BYTES = 16       # what torch's own memory has at least, and its kernels may rely on
SMALL_BYTES = 1 << 20  # storages up to here are copied many at a time


def untyped(tensor: Any) -> Any:
    if hasattr(tensor, "untyped_storage"):
        return tensor.untyped_storage()
    storage = tensor.storage()
    return storage.untyped() if hasattr(storage, "untyped") else storage._untyped()


KNOWN: Dict[str, Tuple[torch.dtype, int]] = {}  # dtypes that were met, and what an element takes


def _elements(line: Line) -> Tuple[torch.dtype, int]:
    """The dtype and the bytes of an element."""
    said: str = line["dtype"]
    if said not in KNOWN:
        name = INTEGERS.get(said, said)
        if not hasattr(torch, name):
            raise TypeError(f"{line['path']}: torch {torch.__version__} has no {name}")
        dtype: torch.dtype = getattr(torch, name)
        KNOWN[said] = dtype, torch.empty(0, dtype=dtype).element_size()
    return KNOWN[said]


def _dtype(line: Line) -> torch.dtype:
    return _elements(line)[0]


def _shape(line: Line) -> List[int]:
    packed = line["dtype"] in ("quint4x2", "quint2x4")
    shape: List[int] = [line["bytes"]] if packed else line["shape"]
    return shape


def is_meta(line: Line) -> bool:
    return line.get("location") == "meta"


def _view(line: Line, storage: Any, offset_bytes: int) -> torch.Tensor:
    """The contiguous tensor whose bytes start there in the storage (None: it has no bytes)."""
    shape = _shape(line)
    tensor = torch.empty(0, dtype=_dtype(line))
    if storage is None:
        return tensor.reshape(shape)
    strides: List[int] = []
    step = 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return tensor.set_(storage, offset_bytes // tensor.element_size(), shape, strides)


def _dressed(tensor: torch.Tensor, line: Line) -> torch.Tensor:
    requires_grad = line.get("requires_grad", False)
    if line["class"] == "torch.nn.parameter.Parameter":
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor


def _finished(line: Line, tensor: torch.Tensor) -> Any:
    """What the checkpoint has there: a tensor, a quantised one, a parameter, a storage."""
    if "Storage" in line["class"]:
        if line["class"].rpartition(".")[2] in ("UntypedStorage", "_UntypedStorage"):
            return untyped(tensor)
        return tensor._typed_storage() if hasattr(tensor, "_typed_storage") else tensor.storage()
    if "scale" in line:  # torch makes these by copying alone
        return torch._make_per_tensor_quantized_tensor(tensor, float(line["scale"]), int(line["zero_point"]))
    return _dressed(tensor, line)


# ---- in files ----

class Files(Memory):
    """Tensors of one source."""

    def flat(self, line: Line, dtype: torch.dtype, element_bytes: int) -> torch.Tensor:
        """All its bytes as elements of that dtype: a tensor with a storage of its own."""
        memory, start = self.of(line)
        size = line["bytes"]
        if start % ALIGN_BYTES:  # legacy files put tensors anywhere
            return torch.frombuffer(bytearray(memoryview(memory)[start:start + size]), dtype=dtype)
        return torch.frombuffer(memory, dtype=dtype, count=size // element_bytes, offset=start)

    def tensor(self, line: Line, base: Optional[Line] = None, storage: Any = None) -> Any:
        """One tensor; base: the line of the tensor whose storage has its bytes, storage: where others use it, too. Raises Error where the bytes cannot be read, TypeError where
        this torch has no such dtype."""
        if "error" in line:
            raise Error(f"{line['path']}: {line['error']}")
        if is_meta(line):
            return _dressed(torch.empty_strided(line["shape"], line["stride"], dtype=_dtype(line), device="meta"), line)
        if line["bytes"] and storage is None:  # a reshaped tensor would be a view
            return _finished(line, self.flat(line, *_elements(line)).resize_(_shape(line)))
        offset = line["file_offset"] - base["file_offset"] if base is not None and base is not line else 0
        return _finished(line, _view(line, storage if line["bytes"] else None, offset))


class _Maker:
    """Tensors like that of a line."""

    def __init__(self, line: Line, files: Files) -> None:
        self.line, self.memory = line, files.pages.of(line)
        self.dtype, element_bytes = _elements(line)
        self.count = line["bytes"] // element_bytes
        self.shape: Optional[List[int]] = line["shape"] if len(line["shape"]) != 1 else None
        self.is_dressed = line["class"] == "torch.nn.parameter.Parameter" or line.get("requires_grad", False)

    def make(self, offset: int) -> torch.Tensor:
        tensor = torch.frombuffer(self.memory, dtype=self.dtype, count=self.count, offset=offset)
        if self.shape is not None:
            tensor.resize_(self.shape)  # a reshaped tensor would be a view
        return _dressed(tensor, self.line) if self.is_dressed else tensor


def of_run(run: Run, files: Files) -> Optional[List[torch.Tensor]]:
    """Its tensors, each with a storage of its own in the one mapping of the checkpoint; None where they are to be made line by line."""
    first = {run.form: 0} if isinstance(run.form, int) else {number: i for i, number in reversed(list(enumerate(run.form)))}
    makers = {number: _Maker(run.line(i), files) for number, i in first.items()}
    if any(maker.memory is None for maker in makers.values()) or any(offset % ALIGN_BYTES for offset in run.offsets):
        return None
    if isinstance(run.form, int):
        return list(map(makers[run.form].make, run.offsets))
    return [makers[number].make(offset) for number, offset in zip(run.form, run.offsets)]


def _holders(lines: List[Line]) -> Dict[str, Line]:
    """{path: the line of the tensor whose bytes hold those of this one}, of what stands in the file."""
    standing = sorted((line for line in lines if "file_offset" in line and line["bytes"] and not is_meta(line)),
                      key=lambda line: (line["file"], line["file_offset"], -line["bytes"]))
    result: Dict[str, Line] = {}
    holder: Optional[Line] = None
    for line in standing:
        end = line["file_offset"] + line["bytes"]
        if holder is None or holder["file"] != line["file"] or end > holder["file_offset"] + holder["bytes"]:
            holder = line
        result[line["path"]] = holder
    return result


def of_files(lines: List[Line], files: Files) -> Dict[str, Any]:
    """{path: tensor}"""
    holders = _holders(lines)
    users = collections.Counter(base["path"] for base in holders.values())
    storages: Dict[str, Any] = {}
    result: Dict[str, Any] = {}
    for line in lines:
        base, storage = holders.get(line["path"], line), None
        if users[base["path"]] > 1 and "error" not in line and line["bytes"] and not is_meta(line):
            if base["path"] not in storages:
                storages[base["path"]] = untyped(files.flat(base, torch.uint8, 1))
            storage = storages[base["path"]]
        result[line["path"]] = files.tensor(line, base, storage)
    return result


# ---- on a device ----

def open_storage(mapping: Mapping, start: int, size: int) -> Any:
    """A storage over a part of the daemon's memory, which stays mapped and leased as long as the storage lives."""
    device = f"cuda:{mapping.ordinal}"
    if size == 0:
        return untyped(torch.empty(0, dtype=torch.uint8, device=device))
    return untyped(torch.from_dlpack(Tensor(mapping, mapping.address + start, mapping.ordinal, "uint8", [size], [1])))


def _copy_storages(shared: List[Any]) -> List[Any]:
    """Storages of this process's own with the same bytes. All copies are complete on return."""
    def of(storage: Any) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, [storage.nbytes()], [1])

    sources = [of(storage) for storage in shared]
    copies: List[torch.Tensor] = []
    small: List[Tuple[torch.Tensor, torch.Tensor]] = []
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
    return [untyped(copy) for copy in copies]


def _element_bytes(line: Line) -> int:
    numel, size_bytes = 1, int(line["bytes"])
    for size in line["shape"]:
        numel *= size
    return size_bytes // numel if numel else _elements(line)[1]


def _storage_of(line: Line) -> Tuple[str, str, int, int]:
    """What is one storage: an empty one starts where the next does."""
    start = line["cuda"]["offset"] - line["storage_offset"] * _element_bytes(line)
    return line["cuda"]["uuid"], line["cuda"]["handle"], start, line["storage_bytes"]


def of_devices(lines: List[Line], manifest: Optional[Manifest], copy: bool) -> Dict[str, Any]:
    """{path: tensor} of what the manifest has on devices."""
    if not lines:
        return {}
    assert manifest is not None  # a file has no tensor there
    if torch.cuda.is_available():
        torch.cuda.init()
    keys = {line["path"]: _storage_of(line) for line in lines}
    shared: Dict[Tuple[str, str, int, int], Any] = {}
    for line in lines:
        key = keys[line["path"]]
        if key not in shared:
            shared[key] = open_storage(manifest.mapping(line["cuda"]), key[2], key[3])
    if copy:
        shared = dict(zip(shared, _copy_storages(list(shared.values()))))
    result: Dict[str, Any] = {}
    for line in lines:
        storage = shared[keys[line["path"]]]
        tensor = torch.empty(0, dtype=_dtype(line), device=storage.device)
        tensor.set_(storage, line["storage_offset"], line["shape"], line["stride"])
        tensor = tensor.conj() if line.get("conj") else tensor
        tensor = torch._neg_view(tensor) if line.get("neg") else tensor
        result[line["path"]] = _dressed(tensor, line)
    return result


def moved(tensor: Any, device: str) -> Any:
    """The same kind of tensor on a device. Storages and meta tensors have none to be on."""
    if not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta":
        return tensor
    there = tensor.detach().to(device)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(there, requires_grad=tensor.requires_grad)
    return there.requires_grad_() if tensor.requires_grad else there


def placed(tensor: Any, line: Line) -> Any:
    """Of a device whose memory is not shared: read through the mount, and put there."""
    device = line.get("device", "file")
    return moved(tensor, device) if device.startswith("cuda") and torch.cuda.is_available() else tensor
