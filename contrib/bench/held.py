# SPDX-License-Identifier: MIT
"""What contrib/bench/device holds for another process, as weightfs.load would find it in a mount.

    load(line, {"key": (bytes, dtype, shape, stride)}, copy)      line: what it printed, "hold UUID HANDLE SOCKET OFFSET BYTES"
"""
import os

from weightfs import tensors
from weightfs.cuda import Manifest

ALIGN_BYTES = 512  # contrib/bench/device.c


def lines(line, storages):
    """A line of a manifest for each storage, which are one behind the other."""
    _, uuid, handle, socket, start, _ = line.split()
    start = int(start)
    for key, (size, dtype, shape, stride) in storages.items():
        cuda = {"uuid": uuid, "handle": handle, "offset": start, **({"socket": socket} if socket != "-" else {})}
        yield {"path": key, "class": "torch.Tensor", "dtype": dtype, "shape": list(shape), "stride": list(stride), "storage_offset": 0,
               "storage_bytes": size, "bytes": size, "cuda": cuda}
        start += -(-size // ALIGN_BYTES) * ALIGN_BYTES


def load(line, storages, copy):
    manifest = Manifest.__new__(Manifest)
    manifest.lease, manifest.mappings, manifest.lines = open(os.devnull, "rb"), {}, list(lines(line, storages))
    try:
        return tensors.of_devices(manifest.lines, manifest, copy)
    finally:
        manifest.close()
