# SPDX-License-Identifier: MIT
"""weightfs.load: a checkpoint, or a mount of one, as the object that torch.load would give. Needs torch; NumPy where it holds NumPy objects.

Tensors that stand unchanged in the checkpoint are one private mapping of that file, and all others mappings of the mount's files: pages are read
when they are used, and changes stay in this process. Tensors on a CUDA device of the mount (-o map_location=cuda) are copied from the daemon's
memory, on the device, and are then this process's own. With copy=False they share that memory: nothing is copied, the mount is busy and the
memory leased for as long as a tensor uses it, and it must not be written to (weightfs.cuda says what happens then).

What differs from torch.load: nothing is ever imported, so that a module is an OrderedDict of its state_dict, an object one of its attributes,
a tensor subclass a torch.Tensor, a defaultdict a dict, and what the mount shows as a description an Opaque. Sparse, nested and per-channel
quantised tensors are a Parts of their components. Names of the same tensor are one object. Lists inside a list of plain values are lists, also
where they were tuples. A NumPy array of objects that are no plain values is an OrderedDict of its elements. Quantised tensors of 2 and 4 bits
are their packed bytes. A view whose bytes are not one piece of the file is contiguous and has a storage of its own.
"""
from __future__ import annotations

import collections
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Tuple

from weightfs import arrays, tensors
from weightfs.entries import (CONTAINERS, Error, Item, Line, Run, Source, StrPath, check_keys, is_tensor, items_in, key_of, source_of, target_of,
                              uncollected, value_of)


def _identity(line: Line) -> Any:
    """Lines with the same are one tensor: they have one inode in a mount."""
    if "ino" in line:
        return line["ino"]
    if not line.get("storage") or "error" in line:
        return line["path"]
    return (line["storage"], line["storage_offset"], tuple(line["shape"]), tuple(line["stride"]), line["dtype"], "Storage" in line["class"],
            line.get("conj"), line.get("neg"))


class _Builder:
    """Containers first, then the tensors that they hold."""

    def __init__(self, source: Source, prefix: str, writable: bool, copy: bool, device: Optional[str]) -> None:
        self.source, self.prefix, self.writable, self.copy, self.device = source, prefix, writable, copy, device
        items: List[Item] = source.items
        self.lines: Dict[str, Line] = {item["path"]: item for item in items if not isinstance(item, Run)}
        # a tensor by itself has a line; and for writing each is a file by itself
        if writable or prefix not in self.lines or "class" not in self.lines[""]:
            items = list(source.lines)
            self.lines = {line["path"]: line for line in source.lines}
        self.children = items_in(items)
        self.places: Dict[str, Any] = {}  # path of a container -> the object
        self.todo: List[str] = []         # paths whose entries are still to be put into it
        self.tuples: List[List[Any]] = []  # lists that become tuples
        self.used_at: Dict[int, List[Tuple[Any, Any]]] = {}  # id of an object -> [(container, key)]
        self.wanted: List[Tuple[Any, Any, Any]] = []         # [(container, key, identity)]
        self.first: Dict[Any, Line] = {}                     # identity -> line
        self.runs: List[Tuple[Any, Run]] = []                # (container, what is to be put into it)
        self.files = tensors.Files(source, writable)

    def container(self, path: str) -> Any:
        if path not in self.places:
            kind = self.lines[path].get("class", "")
            self.places[path] = CONTAINERS.get(kind, OrderedDict)()
            if kind == "tuple":
                self.tuples.append(self.places[path])
            self.todo.append(path)
        return self.places[path]

    def put(self, container: Any, key: Any, value: Any) -> None:
        container[key] = value
        self.used_at.setdefault(id(value), []).append((container, key))

    def place(self, container: Any, key: Any, line: Line) -> None:
        if "link" in line:
            self.put(container, key, self.container(target_of(line)))
        elif "container" in line:
            self.put(container, key, self.container(line["path"]))
        elif is_tensor(line):
            identity = _identity(line)
            self.first.setdefault(identity, line)
            self.wanted.append((container, key, identity))
        else:
            container[key] = value_of(line, self.source)

    def enter(self, path: str) -> None:
        container = self.places[path]
        is_sequence = isinstance(container, (list, collections.deque))
        for line in self.children[path]:
            if isinstance(line, Run):
                for key in line.keys:
                    container[key] = None  # at its place; an update of a Counter would count
                self.runs.append((container, line))
                continue
            key = len(container) if is_sequence else key_of(line)
            if is_sequence:
                container.append(None)
            else:
                container[key] = None
            self.place(container, key, line)
        check_keys(path, len(container), sum(len(line.keys) if isinstance(line, Run) else 1 for line in self.children[path]))

    def put_runs(self) -> None:
        """What of them is a tensor with a storage of its own is made at once; what may be tied, or a view of the same bytes, is a line like others."""
        storages = [storage for _, run in self.runs for storage in run.storages]
        counts = collections.Counter(storages) if len(set(storages)) < len(storages) else {}
        shared = {storage for storage, n in counts.items() if n > 1} | {line["storage"] for line in self.first.values() if "storage" in line}
        for container, run in self.runs:
            alone = tensors.of_run(run, self.files)
            if alone is None or not shared.isdisjoint(run.storages):
                for i, storage in enumerate(run.storages):
                    if alone is None or storage in shared:
                        self.place(container, run.keys[i], run.line(i))
            for key, tensor in zip(run.keys, alone or ()):
                container[key] = tensor if self.device is None else tensors.moved(tensor, self.device)

    def tensors(self) -> Dict[Any, Any]:
        """{identity: tensor}"""
        all_lines = list(self.first.values())
        on_devices = [line for line in all_lines if "cuda" in line]
        result = tensors.of_devices(on_devices, self.source.manifest, self.copy)
        in_files = [line for line in all_lines if "cuda" not in line]
        array_files = arrays.Files(self.source, self.writable)
        result.update((str(line["path"]), array_files.array(line)) for line in in_files if line["class"] == "numpy.ndarray")
        in_files = [line for line in in_files if line["class"] != "numpy.ndarray"]
        made = tensors.of_files(in_files, self.files)
        result.update((line["path"], tensors.placed(made[line["path"]], line) if self.device is None else made[line["path"]]) for line in in_files)
        if self.device is not None:
            result = {path: tensors.moved(tensor, self.device) for path, tensor in result.items()}
        return {identity: result[line["path"]] for identity, line in self.first.items()}

    def untupled(self) -> Dict[int, Tuple[Any, ...]]:
        """{id of a list: the tuple that it stood for}; what is inside a tuple was found after it."""
        final: Dict[int, Tuple[Any, ...]] = {}
        for temporary in reversed(self.tuples):
            final[id(temporary)] = tuple(temporary)
            for container, key in self.used_at.get(id(temporary), ()):
                container[key] = final[id(temporary)]
        return final

    def build(self) -> Any:
        start = self.lines.get(self.prefix)
        if start is None:
            raise KeyError(self.prefix)
        if not self.prefix and "class" not in start:  # the root is no container
            start = self.lines["value"]
        holder: Dict[str, Any] = {}
        self.place(holder, "value", start)
        while self.todo:
            self.enter(self.todo.pop())
        self.put_runs()
        found = self.tensors()
        for container, key, identity in self.wanted:
            container[key] = found[identity]
        final = self.untupled()
        return final.get(id(holder["value"]), holder["value"])


def load(path: StrPath, prefix: str = "", *, device: Optional[str] = None, writable: bool = False, copy: bool = True) -> Any:
    """weightfs.load, whose docstring says all of it."""
    source, inside = source_of(path)
    try:
        parts = [part for part in (inside, prefix.strip("/")) if part]
        with uncollected():
            return _Builder(source, "/".join(parts), writable, copy, device).build()
    except FileNotFoundError as e:
        raise Error(f"{path}: is edited meanwhile ({e})") from e
    finally:
        source.close()
