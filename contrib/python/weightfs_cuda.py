"""The tensors that a mount holds on CUDA devices, and a way to reach their bytes without torch.

    for where, entry, lease in cuda_entries("mnt"):     # where: the path below the mount, "model/conv1.weight"
        ...                                             # the tensor's storage stays on the device until lease.close()

An entry is what mnt/.weightfs/cuda/PATH.json says: device, uuid, handle (a CUDA IPC handle, 128 hex digits), offset and bytes of the
tensor in what the handle opens, dtype, shape, stride, storage_start, storage_bytes, storage_offset, conj, neg, requires_grad.

Driver opens such handles through the CUDA driver and copies bytes to the host: for programs that have no torch. Standard library only.
"""
import ctypes
import errno
import json
import os
import resource

__all__ = ["cuda_entries", "open_entry", "Driver", "CudaError"]


def _entries_of(mount):
    return os.path.join(mount, ".weightfs", "cuda")


def _open(path):
    """A lease is an open file, and there may be more of them than a shell's usual limit: it is raised as far as allowed."""
    try:
        return open(path, encoding="utf-8")
    except OSError as e:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if e.errno != errno.EMFILE or soft == hard:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return open(path, encoding="utf-8")


def open_entry(mount, where):
    """(entry, lease) of one tensor, which is placed on its device by this; (None, None) where it is on none, or finds no room there."""
    try:
        lease = _open(os.path.join(_entries_of(mount), where + ".json"))
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOMEM, errno.ENAMETOOLONG):
            return None, None
        raise
    try:
        return json.load(lease), lease
    except BaseException:
        lease.close()
        raise


def cuda_entries(mount):
    """Yields (path below the mount, entry, lease) of every tensor that the mount has, or is to have, on a CUDA device."""
    todo = [""]
    while todo:
        where = todo.pop()
        try:
            names = os.scandir(os.path.join(_entries_of(mount), where))
        except FileNotFoundError:
            continue
        with names:
            for name in names:
                path = os.path.join(where, name.name)
                if name.is_dir(follow_symlinks=False):
                    todo.append(path)
                    continue
                path = path.removesuffix(".json")
                entry, lease = open_entry(mount, path)
                if entry:
                    yield path, entry, lease


class CudaError(RuntimeError):
    pass


class _Handle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_char * 64)]


class Driver:
    """libcuda.so.1, with a device's primary context for each device that is used. Use it as a context manager, from one thread."""

    LAZY_PEER_ACCESS = 1

    def __init__(self):
        try:
            self.cu = ctypes.CDLL("libcuda.so.1")
        except OSError as e:
            raise CudaError(f"no CUDA driver ({e})") from e
        self.cu.cuIpcOpenMemHandle_v2.argtypes = [ctypes.c_void_p, _Handle, ctypes.c_uint]
        self.cu.cuIpcCloseMemHandle.argtypes = [ctypes.c_uint64]
        self.cu.cuMemcpyDtoH_v2.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t]
        self.contexts, self.opened = {}, {}
        self._call("cuInit", 0)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()

    def _call(self, name, *args):
        result = getattr(self.cu, name)(*args)
        if result:
            text = ctypes.c_char_p()
            self.cu.cuGetErrorName(result, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown CUDA error').decode()}")

    def device_count(self):
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def uuid(self, ordinal):
        """As the vendor's tools print it: GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx."""
        device, raw = ctypes.c_int(), ctypes.create_string_buffer(16)
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        self._call("cuDeviceGetUuid_v2", raw, device)
        digits = raw.raw.hex()
        return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def ordinal(self, uuid):
        """This process's number of a GPU: CUDA_VISIBLE_DEVICES may order them differently from the mount's daemon."""
        for i in range(self.device_count()):
            if self.uuid(i) == uuid:
                return i
        raise CudaError(f"the GPU {uuid} of the mount is not visible to this process")

    def _enter(self, ordinal):
        if ordinal not in self.contexts:
            device, context = ctypes.c_int(), ctypes.c_void_p()
            self._call("cuDeviceGet", ctypes.byref(device), ordinal)
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.contexts[ordinal] = device, context
        self._call("cuCtxSetCurrent", self.contexts[ordinal][1])

    def open(self, entry):
        """The address of the tensor's first element in this process. One handle is opened once, however many tensors are in it."""
        key = entry["uuid"], entry["handle"]
        if key not in self.opened:
            ordinal, address = self.ordinal(entry["uuid"]), ctypes.c_uint64()
            handle = _Handle.from_buffer_copy(bytes.fromhex(entry["handle"]))
            self._enter(ordinal)
            self._call("cuIpcOpenMemHandle_v2", ctypes.byref(address), handle, self.LAZY_PEER_ACCESS)
            self.opened[key] = ordinal, address.value
        return self.opened[key][1] + entry["offset"]

    def read(self, entry):
        """The bytes from the tensor's first element to its last one, as they lie on the device."""
        reach = sum((size - 1) * step for size, step in zip(entry["shape"], entry["stride"]))
        numel = 1
        for size in entry["shape"]:
            numel *= size
        if numel == 0:
            return b""
        size = (reach + 1) * (entry["bytes"] // numel)
        address = self.open(entry)
        self._enter(self.opened[entry["uuid"], entry["handle"]][0])
        data = ctypes.create_string_buffer(size)
        self._call("cuMemcpyDtoH_v2", data, address, size)
        return data.raw

    def close(self):
        for ordinal, address in self.opened.values():
            self._enter(ordinal)
            self._call("cuIpcCloseMemHandle", address)
        for device, _ in self.contexts.values():
            self._call("cuCtxSetCurrent", None)
            self._call("cuDevicePrimaryCtxRelease_v2", device)
        self.opened, self.contexts = {}, {}
