"""torch as the judge of a checkpoint: the ways in which a file loads, and whether two objects are the same bit for bit."""
import numpy as np
import torch

COMPONENTS = {"torch.sparse_coo": ("_indices", "_values"), "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
              "torch.sparse_bsr": ("crow_indices", "col_indices", "values"), "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
              "torch.sparse_bsc": ("ccol_indices", "row_indices", "values")}
VERSION = tuple(int(x) for x in torch.__version__.split(".")[:2])


def same(a, b, path=""):
    """Equal in type, value and bits; raises with the place."""
    def differ(why):
        raise AssertionError(f"{path or 'root'}: {why}")
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


def load(path, **options):
    if VERSION >= (1, 13):
        options.setdefault("weights_only", False)
    return torch.load(path, **options)


def modes(path):
    """Ways in which this file loads."""
    tries = [{}]
    if VERSION >= (1, 13):
        tries += [{"weights_only": True}]
    if VERSION >= (2, 1):
        tries += [{"mmap": True}, {"mmap": True, "weights_only": True}]
    good = []
    for options in tries:
        try:
            load(path, **options)
            good.append(options)
        except Exception:
            pass
    return good
