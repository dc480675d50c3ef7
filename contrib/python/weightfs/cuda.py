# SPDX-License-Identifier: MIT
"""The tensors that a mount holds on CUDA devices, for any program that takes CUDA arrays. Standard library only.

    import weightfs.cuda, torch, cupy
    tensors = weightfs.cuda.open_tensors("mnt")      # {"model/conv1.weight": Tensor, ...}
    torch.from_dlpack(tensors["fc.weight"])          # or torch.as_tensor(..., device="cuda"), cupy.asarray(...), jax.dlpack.from_dlpack(...)

A Tensor has __cuda_array_interface__ (where NumPy has its dtype) and __dlpack__, and shares the memory of the mount's daemon: nothing is
copied. The memory is leased while a Tensor of it, or an array made of one, lives; the mount is busy until then. Do not write to it: memory
that came by a descriptor is mapped read-only, and a kernel that writes there ends this process's context; memory that came by a CUDA IPC
handle is writable, and a write changes what the mount shows, and not what it commits.

Manifest is the lease and the lines of .weightfs/tensors.json; Driver the calls of the CUDA driver behind all this.
"""
from __future__ import annotations

import array
import ctypes
import functools
import json
import os
import socket
import struct
from typing import IO, Any, Dict, List, Optional, Sequence, Tuple

__all__ = ["open_tensors", "Tensor", "Manifest", "Driver", "CudaError"]


class CudaError(RuntimeError):
    """What the CUDA driver, or the daemon that has the memory, refused."""


# ---- the driver ----

class _Handle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_char * 64)]


class _Access(ctypes.Structure):
    _fields_ = [("location_type", ctypes.c_int), ("location", ctypes.c_int), ("flags", ctypes.c_int)]


LAZY_PEER_ACCESS, A_DEVICE, READ_ONLY, POSIX_FD = 1, 1, 1, 1
u64, pointer = ctypes.c_uint64, ctypes.c_void_p
SIGNATURES: Dict[str, List[Any]] = {
    "cuIpcOpenMemHandle_v2": [pointer, _Handle, ctypes.c_uint], "cuIpcCloseMemHandle": [u64], "cuMemcpyDtoH_v2": [pointer, u64, ctypes.c_size_t],
    "cuMemImportFromShareableHandle": [pointer, pointer, ctypes.c_int], "cuMemRelease": [u64],
    "cuMemAddressReserve": [pointer, ctypes.c_size_t, ctypes.c_size_t, u64, ctypes.c_ulonglong], "cuMemAddressFree": [u64, ctypes.c_size_t],
    "cuMemMap": [u64, ctypes.c_size_t, ctypes.c_size_t, u64, ctypes.c_ulonglong], "cuMemUnmap": [u64, ctypes.c_size_t],
    "cuMemSetAccess": [u64, ctypes.c_size_t, pointer, ctypes.c_size_t],
}


def _receive(path: str, handle: bytes) -> Tuple[int, int]:
    """(descriptor, bytes) of the memory that the mount's daemon has published under a handle."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        try:
            s.connect(path)
        except OSError as e:
            raise CudaError(f"the mount's daemon cannot be asked for its memory ({path}: {e.strerror}): in a container, mount the directory of that "
                            "socket as well; WEIGHTFS_SOCKET_DIR says which one the daemon uses") from e
        s.send(handle)
        data, control, _, _ = s.recvmsg(8, socket.CMSG_SPACE(4))
    received = array.array("i")
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(content[:4])
    if not received:
        raise CudaError("the mount's daemon has no memory of that handle any more")
    return received[0], struct.unpack("=Q", data)[0]


class Driver:
    """libcuda.so.1 with the primary context of each device that is used. Threads: one at a time."""

    def __init__(self) -> None:
        try:
            self.cu = ctypes.CDLL("libcuda.so.1")
        except OSError as e:
            raise CudaError(f"no CUDA driver ({e})") from e
        for name, types in SIGNATURES.items():
            getattr(self.cu, name).argtypes = types
        self.contexts: Dict[int, Tuple[ctypes.c_int, ctypes.c_void_p]] = {}
        self.call("cuInit", 0)

    def call(self, name: str, *args: Any) -> None:
        """Raises CudaError with the driver's name of what went wrong."""
        result = getattr(self.cu, name)(*args)
        if result:
            text = ctypes.c_char_p()
            self.cu.cuGetErrorName(result, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown CUDA error').decode()}")

    def device_count(self) -> int:
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def uuid(self, ordinal: int) -> str:
        """As the vendor's tools print it: GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx."""
        device, raw = ctypes.c_int(), ctypes.create_string_buffer(16)
        self.call("cuDeviceGet", ctypes.byref(device), ordinal)
        self.call("cuDeviceGetUuid_v2", raw, device)
        digits = raw.raw.hex()
        return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    @functools.lru_cache(maxsize=None)
    def ordinal(self, uuid: str) -> int:
        """This process's number of a GPU: CUDA_VISIBLE_DEVICES may order them differently from the mount's daemon."""
        for i in range(self.device_count()):
            if self.uuid(i) == uuid:
                return i
        raise CudaError(f"the GPU {uuid} of the mount is not visible to this process")

    def enter(self, ordinal: int) -> None:
        """Makes the primary context of that device the current one."""
        if ordinal not in self.contexts:
            device, context = ctypes.c_int(), ctypes.c_void_p()
            self.call("cuDeviceGet", ctypes.byref(device), ordinal)
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.contexts[ordinal] = device, context
        self.call("cuCtxSetCurrent", self.contexts[ordinal][1])

    def close(self) -> None:
        """Gives the contexts back. No Mapping may be left."""
        for device, _ in self.contexts.values():
            self.call("cuCtxSetCurrent", None)
            self.call("cuDevicePrimaryCtxRelease_v2", device)
        self.contexts = {}


class Mapping:
    """Memory of the daemon in this process, and the lease that keeps it: both end with the last reference."""

    def __init__(self, driver: Driver, cuda: Dict[str, Any], lease: Optional[IO[bytes]]) -> None:
        self.driver, self.lease, self.bytes = driver, lease, 0
        self.address = 0  # where it is mapped
        self.ordinal = driver.ordinal(cuda["uuid"])
        self.by_descriptor = "socket" in cuda
        handle = bytes.fromhex(cuda["handle"])
        driver.enter(self.ordinal)
        if self.by_descriptor:
            self.address = self._import(*_receive(cuda["socket"], handle))
        else:
            address = u64()
            driver.call("cuIpcOpenMemHandle_v2", ctypes.byref(address), _Handle.from_buffer_copy(handle), LAZY_PEER_ACCESS)
            self.address = address.value or 0

    def _import(self, fd: int, size: int) -> int:
        call, memory, address = self.driver.call, u64(), u64()
        try:
            call("cuMemImportFromShareableHandle", ctypes.byref(memory), fd, POSIX_FD)
        finally:
            os.close(fd)
        try:
            call("cuMemAddressReserve", ctypes.byref(address), size, 0, 0, 0)
            try:
                call("cuMemMap", address, size, 0, memory, 0)
            except CudaError:
                call("cuMemAddressFree", address, size)
                raise
        finally:
            call("cuMemRelease", memory)
        self.address, self.bytes = address.value, size
        device = self.driver.contexts[self.ordinal][0].value
        call("cuMemSetAccess", address, size, ctypes.byref(_Access(A_DEVICE, device, READ_ONLY)), 1)
        return address.value

    def close(self) -> None:
        """Waits for what this process does with the memory, unmaps it, and then lets the lease go."""
        address, self.address = self.address, 0
        if not address:
            return
        try:
            self.driver.enter(self.ordinal)
            self.driver.call("cuCtxSynchronize")
            if self.by_descriptor:
                self.driver.call("cuMemUnmap", address, self.bytes)
                self.driver.call("cuMemAddressFree", address, self.bytes)
            else:
                self.driver.call("cuIpcCloseMemHandle", address)
        except CudaError:
            pass  # a context that has failed has let go of everything
        self.lease = None

    def __del__(self) -> None:
        try:
            self.close()
        except (AttributeError, TypeError):
            pass  # the interpreter ends: so do its mappings

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the memory, copied to the host."""
        data = ctypes.create_string_buffer(size)
        self.driver.enter(self.ordinal)
        if size:
            self.driver.call("cuMemcpyDtoH_v2", data, self.address + offset, size)
        return data.raw


@functools.lru_cache(maxsize=None)
def the_driver() -> Driver:
    return Driver()


class Manifest:
    """The lines of .weightfs/tensors.json. While it is open, or a Mapping made by it lives, what is on a device stays there."""

    def __init__(self, mount: str) -> None:
        opened = open(os.path.join(mount, ".weightfs", "tensors.json"), "rb", buffering=0)
        self.lease: Optional[IO[bytes]] = opened
        lines = opened.readall().decode("utf-8", "surrogateescape").rstrip("\n").replace("\n", ",")
        self.lines: List[Dict[str, Any]] = json.loads(f"[{lines}]")
        self.mappings: Dict[Tuple[str, str], Mapping] = {}

    def mapping(self, cuda: Dict[str, Any]) -> Mapping:
        """The memory that a line's `cuda` is in: mapped once, however many tensors are in it."""
        key = cuda["uuid"], cuda["handle"]
        if key not in self.mappings:
            self.mappings[key] = Mapping(the_driver(), cuda, self.lease)
        return self.mappings[key]

    def close(self) -> None:
        """What was mapped lives on with its users, and with it the lease."""
        if self.lease is not None and not self.mappings:
            self.lease.close()
        self.mappings, self.lease = {}, None

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()


# ---- DLPack ----

class _DLTensor(ctypes.Structure):
    _fields_ = [("data", pointer), ("device_type", ctypes.c_int32), ("device", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", u64)]


class _DLManaged(ctypes.Structure):
    _fields_ = [("tensor", _DLTensor), ("context", pointer), ("deleter", pointer)]


CUDA_DEVICE = 2
NAME = ctypes.c_char_p(b"dltensor")
ALIVE: Dict[int, Any] = {}  # address of a _DLManaged -> all that it needs
CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "complex": 5, "bool": 6}
EIGHT_BITS = {"float8_e4m3fn": 10, "float8_e4m3fnuz": 11, "float8_e5m2": 12, "float8_e5m2fnuz": 13, "float8_e8m0fnu": 14}
NUMPY = {"bool": "|b1", "uint8": "|u1", "int8": "|i1", "float16": "<f2", "float32": "<f4", "float64": "<f8", "complex64": "<c8",
         "complex128": "<c16", **{f"{kind}int{n}": f"<{kind or 'i'}{n // 8}" for kind in ("", "u") for n in (16, 32, 64)}}


def _api(name: str, result: Any, *types: Any) -> Any:
    """A function of Python itself; what others do to ctypes.pythonapi does not touch it."""
    return ctypes.PYFUNCTYPE(result, *types)((name, ctypes.pythonapi))


new_capsule = _api("PyCapsule_New", ctypes.py_object, pointer, ctypes.c_char_p, pointer)
is_capsule = _api("PyCapsule_IsValid", ctypes.c_int, pointer, ctypes.c_char_p)
pointer_of = _api("PyCapsule_GetPointer", pointer, pointer, ctypes.c_char_p)


def _delete(address: int) -> None:
    ALIVE.pop(address, None)


def _drop_capsule(capsule: int) -> None:
    """A capsule that nobody took: who takes it renames it."""
    if is_capsule(capsule, NAME):
        ALIVE.pop(pointer_of(capsule, NAME), None)


DELETE, DROP_CAPSULE = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(f) for f in (_delete, _drop_capsule))  # as long as this module


def _dlpack_type(dtype: str) -> Tuple[int, int]:
    if dtype in EIGHT_BITS:
        return EIGHT_BITS[dtype], 8
    if dtype == "bool":
        return CODES["bool"], 8
    kind = dtype.rstrip("0123456789")
    if kind not in CODES or kind == dtype:
        raise BufferError(f"DLPack has no {dtype}")
    return CODES[kind], int(dtype[len(kind):])


class Tensor:
    """A tensor on a device. `owner` lives as long as this, and as what is made of it."""

    def __init__(self, owner: Any, address: int, ordinal: int, dtype: str, shape: Sequence[int], stride: Sequence[int], path: str = "") -> None:
        self.owner, self.address, self.ordinal, self.path = owner, address, ordinal, path
        self.dtype, self.shape, self.stride = dtype, tuple(shape), tuple(stride)

    def __repr__(self) -> str:
        return f"<{self.path or 'tensor'}: {self.dtype}, {list(self.shape)}, cuda:{self.ordinal}>"

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        if self.dtype not in NUMPY:
            raise AttributeError(f"__cuda_array_interface__: NumPy has no {self.dtype}; __dlpack__ does it")
        descr = NUMPY[self.dtype]
        # "read-only" would be true where it is mapped so, but torch takes nothing that says it
        return {"version": 3, "typestr": descr, "shape": self.shape, "strides": tuple(s * int(descr[2:]) for s in self.stride),
                "data": (self.address if 0 not in self.shape else 0, False), "stream": None}

    def __dlpack_device__(self) -> Tuple[int, int]:
        return CUDA_DEVICE, self.ordinal

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Optional[bool] = None) -> Any:
        """The bytes were complete before this process heard of them, so that no stream has to wait."""
        if copy or (dl_device and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("the memory is where it is")
        n = len(self.shape)
        numbers = (ctypes.c_int64 * n)
        shape, stride = numbers(*self.shape), numbers(*self.stride)
        managed = _DLManaged(_DLTensor(self.address, CUDA_DEVICE, self.ordinal, n, *_dlpack_type(self.dtype), 1, shape, stride, 0), None,
                             ctypes.cast(DELETE, pointer))
        address = ctypes.addressof(managed)
        ALIVE[address] = managed, shape, stride, self.owner
        return new_capsule(address, NAME, ctypes.cast(DROP_CAPSULE, pointer))


def open_tensors(mount: str) -> Dict[str, Tensor]:
    """{path below the mount: Tensor} of all tensors that the mount has on CUDA devices, without copying them."""
    with Manifest(mount) as manifest:
        result: Dict[str, Tensor] = {}
        for line in manifest.lines:
            if "cuda" in line and not (line.get("conj") or line.get("neg")):
                mapping = manifest.mapping(line["cuda"])
                result[line["path"]] = Tensor(mapping, mapping.address + line["cuda"]["offset"], mapping.ordinal, line["dtype"], line["shape"],
                                              line["stride"], line["path"])
        return result
