"""A mounted checkpoint as a state_dict, without copying it.

    import weightfs
    model.load_state_dict(weightfs.load("mnt"), assign=True)

CPU tensors are mapped from the files of the mount; tensors that the mount holds on a CUDA device are mapped from the daemon through
CUDA IPC. Keep the result alive as long as the tensors are used: it holds the leases that keep the storages on the device.
Needs torch; NumPy is not needed.
"""
import json
import os
from collections import OrderedDict

import torch

__all__ = ["load", "StateDict"]


class StateDict(OrderedDict):
    """The loaded mapping; `leases` are the open files that keep device memory resident."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.leases = []


def _attribute(path, name, default=None):
    try:
        return os.getxattr(path, name, follow_symlinks=False).decode()
    except OSError:
        return default


def _from_file(path, dtype, shape, writable):
    """A tensor over the mapped file. An empty file cannot be mapped."""
    numel = 1
    for size in shape:
        numel *= size
    if numel == 0:
        return torch.empty(shape, dtype=dtype)
    n_bytes = os.path.getsize(path)
    # shared: writes reach the mount; private: they stay in this process
    storage = torch.UntypedStorage.from_file(path, writable, n_bytes)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


def _device_index(uuid):
    """The number of a GPU in this process: CUDA_VISIBLE_DEVICES may order them differently from the daemon's."""
    for i in range(torch.cuda.device_count()):
        if str(torch.cuda.get_device_properties(i).uuid).lower() == uuid.removeprefix("GPU-").lower():
            return i
    raise RuntimeError(f"the GPU {uuid} of the mount is not visible to this process")


def _from_device(lease, leases):
    """A tensor over the daemon's device memory, as the lease file describes it."""
    entry = json.load(lease)
    leases.append(lease)
    # The bare 64-byte handle is understood by every torch; the reference counter's name is one that no counter has, and
    # without event_sync the event handle is never opened.
    storage = torch.UntypedStorage._new_shared_cuda(_device_index(entry["uuid"]), bytes.fromhex(entry["handle"]),
                                                    entry["storage_bytes"], entry["storage_offset_bytes"], b"weightfs-none", 0,
                                                    b"", False)
    tensor = torch.empty(0, dtype=getattr(torch, entry["dtype"]), device=storage.device)
    return tensor.set_(storage, entry["offset_elems"], entry["shape"], entry["stride"])


def _tensor(root, where, path, writable, leases):
    device = _attribute(path, "user.torch.device", "file")
    if device.startswith("cuda"):
        lease = open(os.path.join(root, ".weightfs", "cuda", where + ".json"))
        try:
            return _from_device(lease, leases)
        except BaseException:
            lease.close()
            raise
    dtype = getattr(torch, _attribute(path, "user.torch.dtype"))
    shape = json.loads(_attribute(path, "user.torch.shape"))
    tensor = _from_file(path, dtype, shape, writable)
    if _attribute(path, "user.torch.requires_grad") == "true":
        tensor = tensor.requires_grad_()
    return tensor


def _value(path):
    with open(path, "rb") as f:
        data = f.read()
    kind = _attribute(path, "user.torch.class", "")
    if kind == "str":
        return data.decode("utf-8", "surrogatepass")
    if kind in ("bytes", "bytearray"):
        return data
    text = data.decode()
    if kind == "complex":
        return complex(text.strip())
    try:
        value = json.loads(text)
    except ValueError:
        return float(text) if kind == "float" else text.rstrip("\n")
    if kind == "tuple":
        return tuple(value)
    return set(value) if kind == "set" else value


def load(mount, prefix="", writable=False):
    """The mapping at `mount`/`prefix` as a StateDict: keys in the checkpoint's order, directories as nested mappings.

    writable: tensors of a file share its pages with the mount, so that changes become edits of the checkpoint; otherwise they
    stay private to this process.
    """
    root = os.path.abspath(mount)
    result = StateDict()
    tied = {}
    todo = [(os.path.normpath(prefix) if prefix else "", result)]
    while todo:
        where, mapping = todo.pop()
        for name in os.listdir(os.path.join(root, where)):
            path = os.path.join(root, where, name)
            here = os.path.join(where, name)
            key = json.loads(_attribute(path, "user.torch.key", json.dumps(name)))
            key = tuple(key) if isinstance(key, list) else key
            if os.path.isdir(path):
                mapping[key] = OrderedDict()
                if not os.path.islink(path):
                    todo.append((here, mapping[key]))
            elif _attribute(path, "user.torch.dtype"):
                inode = os.stat(path).st_ino
                if inode not in tied:
                    tied[inode] = _tensor(root, here, path, writable, result.leases)
                mapping[key] = tied[inode]
            else:
                mapping[key] = _value(path)
    return result
