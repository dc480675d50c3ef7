# SPDX-License-Identifier: MIT
"""The Python side of the random edits: what a checkpoint holds, and what a mount shows of it."""
import json
from collections import OrderedDict, namedtuple

import numpy
import torch

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
OF_ITS_SIZE = {torch.float32: torch.int32, torch.int32: torch.float32, torch.float64: torch.int64, torch.int64: torch.float64,
               torch.float16: torch.bfloat16, torch.bfloat16: torch.float16}


def dtype_name(t):
    return t.dtype.name if isinstance(t, numpy.ndarray) else str(t.dtype).removeprefix("torch.")


def raw(t):
    """The bytes of the tensor's file: elements in row-major order."""
    if isinstance(t, numpy.ndarray):
        return t.tobytes()
    return t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


def from_raw(data, dtype, shape):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).clone().view(dtype).reshape(shape)


class Mismatch(Exception):
    pass


Opaque = namedtuple("Opaque", "number tensor")  # a directory of its arguments
torch.serialization.add_safe_globals([Opaque, numpy.ndarray, numpy.dtype, type(numpy.dtype("f4")), type(numpy.dtype("i8")),
                                      numpy.zeros(1).__reduce__()[0]])


def tied(a, b):
    """Two tensors that are one file."""
    def key(t):
        return t.dtype, t.data_ptr(), t.shape, t.stride()
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.numel() > 0 and key(a) == key(b)


class Elements(OrderedDict):
    """A list that is a directory: names are positions, and stay while elements are removed until a commit numbers anew."""

    def __init__(self, values=()):
        super().__init__(enumerate(values))
        self.next = len(self)
        self.unsure = False  # after a kill: names say nothing of what was added at the end and removed again

    def number(self):
        values = list(self.values())
        self.clear()
        self.update(enumerate(values))
        self.next = len(values)
        self.unsure = False


class Fixed(OrderedDict):
    """A tuple that is a directory: its values can change, its names cannot."""

    def __init__(self, values=()):
        super().__init__(enumerate(values))


def stays(m, k):
    """A tuple's element, and the last in a list that makes it a directory: without it, it is text once it is read anew."""
    if isinstance(m, Elements):
        return not any(isinstance(v, (torch.Tensor, numpy.ndarray, dict)) for x, v in m.items() if x != k)
    return isinstance(m, Fixed)


def containers(v):
    """(path, container) of v and of everything in it, by every path that leads there."""
    found, todo = [], [((), v)] if isinstance(v, dict) else []
    while todo:
        where, m = todo.pop()
        found.append((where, m))
        todo.extend(((*where, k), x) for k, x in m.items() if isinstance(x, dict))
    return found


def is_dir(v):
    return isinstance(v, (dict, Opaque))


def distinct(v):
    return {id(m): (where, m) for where, m in containers(v)}.values()


def plain(v):
    """What torch.save is given."""
    if isinstance(v, Elements):
        return [plain(x) for x in v.values()]
    if isinstance(v, Fixed):
        return tuple(plain(x) for x in v.values())
    return type(v)((k, plain(x)) for k, x in v.items()) if isinstance(v, dict) else v
