# SPDX-License-Identifier: MIT
"""Safetensors files by the rules of the format, without its library."""
import json
import struct

from kit import read, write

WIDTHS = {"F32": 4, "I32": 4, "F64": 8, "I64": 8, "U8": 1, "BF16": 2, "I8": 1}


def make(path, tensors=None, metadata=None):
    """As save_file writes it, in the order given. tensors: name -> (dtype, shape, bytes)."""
    head, at, data = {}, 0, b""
    if metadata is not None:
        head["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
        data += content
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write(path, struct.pack("<Q", len(text)) + text + data)


def load(path):
    """name -> (dtype, shape, bytes) in the header's order, and the metadata; every rule of the format is checked."""
    content = read(path)
    n, = struct.unpack_from("<Q", content)
    head = json.loads(content[8:8 + n])
    metadata = head.pop("__metadata__", {})
    data, covered = content[8 + n:], 0
    for begin, end in sorted(e["data_offsets"] for e in head.values()):
        assert begin == covered, "a hole or an overlap"
        covered = end
    assert covered == len(data) and n % 8 == 0, "bytes that belong to nothing"
    for name, e in head.items():
        assert (8 + n + e["data_offsets"][0]) % WIDTHS[e["dtype"]] == 0, f"{name} is not aligned"
    return {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in head.items()}, metadata
