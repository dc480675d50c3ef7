# SPDX-License-Identifier: MIT
"""weightfs.open: a checkpoint as the mapping that it is, of which nothing is read before it is asked for. torch and NumPy are optional.

    with weightfs.open("model.pt") as checkpoint:
        list(checkpoint)                                  # the keys
        checkpoint["optimizer_state_dict"]["param_groups"][0]["lr"]
        checkpoint.tensor("model_state_dict/fc.weight")   # by its path in a mount; paths() has all of them
        checkpoint.info("model_state_dict/fc.weight")     # its line of .weightfs/tensors.json: dtype, shape, file_offset, ...

Tensors are torch's where torch is installed, else NumPy's; open(path, framework="numpy") says it. Their bytes are private mappings of the
file: read when they are used; what is changed in this process stays in it. An object of a class is a Mapping of its attributes, a module
one of its state_dict: nothing is imported.
"""
from __future__ import annotations

import collections.abc
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union, overload

from weightfs import arrays
from weightfs.entries import Line, StrPath, check_keys, children_of, has_torch, is_tensor, key_of, source_of, target_of, value_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Type

    import numpy
    import torch

    from weightfs import tensors

FRAMEWORKS = {"torch": "torch", "pt": "torch", "numpy": "numpy", "np": "numpy"}


class _Reader:
    """What all views of one checkpoint share."""

    def __init__(self, path: StrPath, framework: Optional[str]) -> None:
        if framework is None:
            framework = "torch" if has_torch() else "numpy"
        if framework not in FRAMEWORKS:
            raise ValueError(f"framework is torch or numpy, not {framework!r}")
        self.framework = FRAMEWORKS[framework]
        self.source, self.prefix = source_of(path)
        self.lines: Dict[str, Line] = {line["path"]: line for line in self.source.lines}
        self.children = children_of(self.source.lines)
        self.arrays = arrays.Files(self.source)
        self.tensors: Optional[tensors.Files] = None

    def tensor(self, line: Line) -> Union[numpy.ndarray[Any, Any], torch.Tensor]:
        if self.framework == "numpy" or line["class"] == "numpy.ndarray":
            return self.arrays.array(line)
        if self.tensors is None:
            from weightfs import tensors
            self.tensors = tensors.Files(self.source)
        return self.tensors.tensor(line)

    def value(self, line: Line) -> Any:
        """What stands at a line: a view of a container, a tensor, a value."""
        if "link" in line:
            line = self.lines[target_of(line)]
        if "container" in line:
            return (Sequence if line["container"] == "sequence" else Mapping)(self, line)
        return self.tensor(line) if is_tensor(line) else value_of(line, self.source)


class _View:
    """A container of the checkpoint."""

    def __init__(self, reader: _Reader, line: Line) -> None:
        self._reader, self._line = reader, line

    @property
    def type(self) -> str:
        """The name of its class: "dict", "collections.OrderedDict", "torch.nn.modules.conv.Conv2d", ..."""
        name: str = self._line.get("class", "")
        return name

    @property
    def path(self) -> str:
        """Where it stands in a mount; "" is the root."""
        path: str = self._line["path"]
        return path

    def _lines(self) -> List[Line]:
        return self._reader.children[self._line["path"]]

    def __len__(self) -> int:
        return len(self._lines())

    def __repr__(self) -> str:
        return f"<{self.path or 'checkpoint'}: {self.type}, {len(self)} entries>"


class Mapping(_View, collections.abc.Mapping[Any, Any]):
    """A dict or another mapping, the state_dict of a module, the attributes of an object: keys in their order."""

    _by_key: Optional[Dict[Any, Line]] = None

    def _index(self) -> Dict[Any, Line]:
        if self._by_key is None:
            by_key = {key_of(line): line for line in self._lines()}
            check_keys(self.path, len(by_key), len(self))
            self._by_key = by_key
        return self._by_key

    def __getitem__(self, key: Any) -> Any:
        return self._reader.value(self._index()[key])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._index())

    def __contains__(self, key: object) -> bool:
        return key in self._index()


class Sequence(_View, collections.abc.Sequence[Any]):
    """A list or tuple that holds more than plain values; one of plain values alone is a list or tuple."""

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> List[Any]: ...

    def __getitem__(self, index: Union[int, slice]) -> Any:
        if isinstance(index, slice):
            return [self._reader.value(line) for line in self._lines()[index]]
        return self._reader.value(self._lines()[index])


class Checkpoint(Mapping):
    """The root. Of a checkpoint that is no container, a mapping with the one key "value"."""

    def tensor(self, path: str) -> Union[numpy.ndarray[Any, Any], torch.Tensor]:
        """The tensor or array at a path as a mount has it ("model/fc.weight"): of the shape, dtype and values that the checkpoint has there,
        contiguous. KeyError: there is none."""
        return self._reader.tensor(self.info(path))

    def info(self, path: str) -> Line:
        """What is known of that tensor without reading it: a dict with dtype ("float32"), shape ([6, 3, 5, 5]; [] of a scalar), stride (in
        elements), bytes, location, file, file_offset, ... KeyError: there is none."""
        line = self._reader.lines[path]
        if not is_tensor(line):
            raise KeyError(path)
        return dict(line)

    def paths(self) -> List[str]:
        """The paths of all tensors, in their order."""
        return [path for path, line in self._reader.lines.items() if is_tensor(line)]

    def close(self) -> None:
        """Lets go of a mount. Tensors that were given out live on."""
        self._reader.source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()


def open(path: StrPath, framework: Optional[str] = None) -> Checkpoint:
    """A Checkpoint of the file (or mount point) at path. framework: "torch" or "numpy"; None: torch where it is installed.

    Nothing of a tensor is read before it is asked for; a tensor has the shape that the checkpoint has there ([] of a scalar).
    Raises weightfs.Error with wfctl's line for what is no checkpoint or where wfctl is missing; ValueError for another framework; a tensor
    that cannot be read raises weightfs.Error when it is asked for, TypeError where the framework has no such dtype.
    """
    reader = _Reader(path, framework)
    return Checkpoint(reader, reader.lines[reader.prefix])
