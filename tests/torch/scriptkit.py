# SPDX-License-Identifier: MIT
"""The pickles of a TorchScript archive by Python's own unpickler, which torch.load leaves to torch.jit."""
import io
import pickle
import sys
import zipfile

import torch


class Anything:
    """An object of a class of the archive, packed weights for example."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


def find_class(module, name, find):
    if module.startswith("__torch__"):
        return Anything
    if module == "torch.jit._pickle":
        return lambda value, *more: value
    return find(module, name)


def unpickle(path, name="constants", folder="constants", find_class=find_class):
    """What NAME.pkl holds, whose storages are the records FOLDER/KEY. None: there is none."""
    z = zipfile.ZipFile(path)
    top = z.namelist()[0].split("/")[0]
    if f"{top}/{name}.pkl" not in z.namelist():
        return None

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return find_class(module, name, super().find_class)

        def persistent_load(self, pid):
            data = z.read(f"{top}/{folder}/{pid[2]}")
            dtype = pid[1].dtype if hasattr(pid[1], "dtype") else torch.uint8
            untyped = torch.UntypedStorage if hasattr(torch, "UntypedStorage") else torch._UntypedStorage
            raw = untyped.from_buffer(data, byte_order=sys.byteorder, dtype=torch.uint8) if data else untyped(0)
            typed = torch.storage.TypedStorage
            internal = {"_internal": True} if "_internal" in typed.__new__.__code__.co_varnames else {}
            return typed(wrap_storage=raw, dtype=dtype, **internal)
    return Unpickler(io.BytesIO(z.read(f"{top}/{name}.pkl"))).load()
