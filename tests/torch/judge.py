# SPDX-License-Identifier: MIT
"""torch as the judge of a checkpoint: the ways in which a file loads, and whether two objects are the same bit for bit.

    how = modes(path)                        before the edit
    for options in how:                      after it
        same(expected, load(path, **options))

A way is a dict of torch.load's options, or {"how": ...}: "fake" (FakeTensorMode), "jit" (torch.jit.load), "C++" (torch::pickle_load) and
"pickle" (pickle.load, which needs no torch where the file does not). What those, and encoding='latin1' or 'bytes', give has the tensors
and numbers of torch.load under keys of other types: same() compares what both can say.
"""
import pickle
import pickletools
import warnings
import zipfile

import numpy as np
import torch

COMPONENTS = {"torch.sparse_coo": ("_indices", "_values"), "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
              "torch.sparse_bsr": ("crow_indices", "col_indices", "values"), "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
              "torch.sparse_bsc": ("ccol_indices", "row_indices", "values")}
VERSION = tuple(int(x) for x in torch.__version__.split(".")[:2])


class Loose:
    """An object of which only keys, tensors, arrays and numbers count, or (fake) the shapes of the tensors alone."""

    def __init__(self, obj, fake=False):
        self.obj, self.fake = obj, fake

    def leaves(self, obj, path="", above=()):
        if isinstance(obj, torch.nn.Module):
            obj = obj.state_dict()
        if id(obj) in above or len(above) > 50:
            return  # it contains itself
        if isinstance(obj, dict):
            for k, v in obj.items():
                yield from self.leaves(v, f"{path}/{k.decode('latin1') if isinstance(k, bytes) else k}", (*above, id(obj)))
        elif isinstance(obj, (list, tuple)):
            for i, v in enumerate(obj):
                yield from self.leaves(v, f"{path}/{i}", (*above, id(obj)))
        elif isinstance(obj, torch.Tensor) and obj.layout == torch.strided:
            yield path, (obj.dtype, tuple(obj.shape)) if self.fake or obj.is_meta else bits(obj)
        elif isinstance(obj, np.ndarray):
            yield path, (obj.dtype, obj.shape, obj.tobytes())
        elif isinstance(obj, (bool, int, float)):
            yield path, obj


def bits(t):
    if t.is_quantized:
        t = t.int_repr()
    t = t.detach().resolve_conj().resolve_neg().contiguous()
    return t.dtype, tuple(t.shape), bytes(t.reshape(-1).view(torch.uint8).tolist()) if t.numel() else b""


def same(a, b, path=""):
    """Equal in type, value and bits; raises with the place."""
    def differ(why):
        raise AssertionError(f"{path or 'root'}: {why}")
    if isinstance(b, Loose):
        wanted, got = list(b.leaves(a)), list(b.leaves(b.obj))
        if [w[0] for w in wanted] != [g[0] for g in got]:
            differ(f"{[g[0] for g in got]} where {[w[0] for w in wanted]} should be")
        for (where, w), (_, g) in zip(wanted, got):
            if w != g:
                differ(f"{where}: {str(g)[:200]} where {str(w)[:200]} should be")
        return
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape, a.layout, a.requires_grad, type(a)) != (b.dtype, b.shape, b.layout, b.requires_grad, type(b)):
            differ(f"{a.dtype} {a.shape} {type(a)} against {b.dtype} {b.shape} {type(b)}")
        if a.layout == torch.strided:
            if a.stride() != b.stride() or a.storage_offset() != b.storage_offset():
                differ("stride or offset")
            if a.is_meta:
                return
            if a.is_quantized:
                a, b = a.int_repr(), b.int_repr()
            a, b = a.detach().resolve_conj().resolve_neg().contiguous(), b.detach().resolve_conj().resolve_neg().contiguous()
            if a.numel() and not torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
                differ("bytes")
        else:
            for component in COMPONENTS[str(a.layout)]:
                same(getattr(a, component)(), getattr(b, component)(), f"{path}.{component}")
    elif isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b) or [type(k) for k in a] != [type(k) for k in b] or type(a) is not type(b):
            differ(f"keys {list(a)} against {list(b)}")
        for k in a:
            same(a[k], b[k], f"{path}/{k}")
        if getattr(a, "_metadata", None) != getattr(b, "_metadata", None):
            differ("_metadata")
    elif isinstance(a, (list, tuple)) and type(a) is type(b):
        if len(a) != len(b):
            differ("length")
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{path}/{i}")
    elif isinstance(a, torch.nn.Module):
        same(a.state_dict(), b.state_dict(), path)
    elif isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            differ("array")
    elif hasattr(a, "data_ptr"):
        if type(a) is not type(b) or a.tolist() != b.tolist():
            differ("storage")
    elif type(a) is not type(b) or a != b:
        differ(f"{a!r} against {b!r}")


def load(path, how=None, **options):
    if how == "fake":
        from torch._subclasses import FakeTensorMode
        with FakeTensorMode():
            return Loose(torch.load(path, weights_only=False), fake=True)
    if how == "jit":
        return Loose(torch.jit.load(path))
    if how == "C++":
        with open(path, "rb") as f:
            return Loose(torch._C._pickle_load_obj(f.read()))
    if how == "pickle":
        with open(path, "rb") as f:
            return Loose(pickle.load(f, **options)) if options else pickle.load(f)
    if VERSION >= (1, 13):
        options.setdefault("weights_only", False)
    obj = torch.load(path, **options)
    return Loose(obj) if "encoding" in options else obj


def is_zip(path):
    with open(path, "rb") as f:
        return f.read(4) == b"PK\3\4"


def is_script(path):
    try:
        return any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist())
    except zipfile.BadZipFile:
        return False


def for_cpp(path):
    """Whether torch::pickle_load can be asked: of classes that it does not know it may crash."""
    with zipfile.ZipFile(path) as z:
        names = [n for n in z.namelist() if n.endswith("/data.pkl")]
        globals_ = {arg for op, arg, _ in pickletools.genops(z.read(names[0])) if op.name == "GLOBAL"} if len(names) == 1 else {"?"}
    return all(g in ("torch._utils _rebuild_tensor_v2", "collections OrderedDict") or g.startswith("torch.jit._pickle ") or
               g.startswith("torch ") and g.endswith("Storage") for g in globals_)


def modes(path):
    """Ways in which this file loads, and (of the loose ones) shows what torch.load does."""
    tries = [{}, {"encoding": "latin1"}, {"encoding": "bytes"}, {"how": "pickle"}, {"how": "pickle", "encoding": "latin1"},
             {"how": "pickle", "encoding": "bytes"}]
    if VERSION >= (1, 13):
        tries += [{"weights_only": True}]
    if VERSION >= (2, 1):
        tries += [{"mmap": True}, {"mmap": True, "weights_only": True}]
    if VERSION >= (2, 6) and not (is_zip(path) and is_script(path)):
        tries += [{"how": "fake"}]
    if is_zip(path) and hasattr(torch._C, "_pickle_load_obj") and not is_script(path) and for_cpp(path):
        tries += [{"how": "C++"}]
    if is_zip(path) and is_script(path):
        tries += [{"how": "jit"}]
    good, plain = [], None
    for options in tries:
        if options.get("how") == "pickle" and {} in good:
            continue  # a legacy stream begins with a pickle, too
        if options.get("how") == "C++" and any(again in repr(plain) for again in ("[...]", "{...}")):
            continue  # the C++ reader never ends on what contains itself
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                obj = load(path, **options)
            if isinstance(obj, Loose):
                same(plain, obj)
            elif plain is None:
                plain = obj
            good.append(options)
        except Exception:
            pass
    return good
