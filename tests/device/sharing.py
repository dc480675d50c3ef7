#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Another process maps what a mount has on a device: this one, through contrib/python/weightfs/cuda.py, without torch.

Usage: sharing.py BUILD_DIRECTORY      a driver (or its double) is found as the daemon finds it
Prints TAP.
"""
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import OrderedDict

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path += [os.path.join(TOP, "tests", "mount"), os.path.join(TOP, "contrib", "python")]  # behind the library: a test has the name of a module of it

from kit import World, done, let_go, need_fuse, ok, read, run, same, skip, wait_mounted  # noqa: E402
from minicheckpoint import Storage, Tensor, save  # noqa: E402
import weightfs.cuda  # noqa: E402
from weightfs.cuda import CudaError, Driver, Manifest  # noqa: E402
from devkit import find_driver  # noqa: E402

need_fuse()
BUILD = sys.argv[1]
SMALL = 300  # storages


def make(path):
    base = Storage("float32", random.Random(1).randbytes(4 * 70 * 30), "cuda:7")
    items = [("w", Tensor("float32", (70, 30), b"", storage=base)), ("tied", Tensor("float32", (70, 30), b"", storage=base)),
             ("t", Tensor("float32", (30, 70), b"", storage=base, stride=(1, 30))),
             ("row", Tensor("float32", (30,), b"", storage=base, offset=5 * 30)), ("none", Tensor("int64", (0, 3), b"")),
             ("0-d", Tensor("float64", (), bytes(range(8)))), ("a/b", Tensor("uint8", (5,), b"12345")), ("epoch", 3),
             ("sub", {"x" * 252: Tensor("uint8", (3,), b"abc"), "large": Tensor("uint8", (6_000_001,), random.Random(2).randbytes(6_000_001))})]
    items += [(f"layer.{i}", Tensor("int32", (i % 7, 2), random.Random(i).randbytes(4 * 2 * (i % 7)))) for i in range(SMALL)]
    save(path, OrderedDict(items))


class Mounted:
    """A daemon in the foreground; leaving waits for its end, which must be a good one: the double looks for what was left."""

    def __init__(self, w, options, **env):
        self.w = w
        self.daemon = subprocess.Popen([w.weightfs, "-f", "-o", options, w.file, w.mnt], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
        wait_mounted(w)

    def __enter__(self):
        return self.w.mnt

    def __exit__(self, *why):
        run("umount", self.w.mnt)
        self.w.said = self.log = self.daemon.communicate(timeout=120)[1]
        ok(self.daemon.returncode == 0, "the daemon ends well", (self.daemon.returncode, self.log))


def storage_start(line):
    return line["cuda"]["offset"] - line["storage_offset"] * element_bytes(line)


def element_bytes(line):
    return {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "uint8": 1}[line["dtype"]]


def device_bytes(manifest, line):
    """The elements of a tensor in row-major order."""
    at, sizes, size = [0], line["shape"], element_bytes(line)
    if 0 in sizes:
        return b""
    for n, step in zip(sizes, line["stride"]):
        at = [a + i * step for a in at for i in range(n)]
    data = manifest.mapping(line["cuda"]).read(line["cuda"]["offset"], (max(at) + 1) * size)
    return b"".join(data[a * size:(a + 1) * size] for a in at) if len(at) > 1 else data


def everything(w, way):
    with Mounted(w, "map_location=cuda:0,ro", WEIGHTFS_SHARE=way) as mnt:
        same(w.status()["devices"].get("cuda:0"), 0, "nothing is on the device before it is used")
        with Manifest(mnt) as m:
            lines = {line["path"]: line for line in m.lines}
            same(len(lines), 9 + SMALL, "every tensor has a line")
            same([p for p, line in lines.items() if line["device"] != "cuda:0" or "cuda" not in line], [], "opening the manifest has loaded all")
            same(len({line["cuda"]["handle"] for line in m.lines}), 1, "all are in one slab")
            same({"socket" in line["cuda"] for line in m.lines}, {way != "ipc"}, f"which is shared the way it was asked for ({way})")
            same({line["cuda"]["uuid"] for line in m.lines}, {Driver().uuid(0)}, "its device is the driver's first")
            same([p for p, line in lines.items() if device_bytes(m, line) != read(f"{mnt}/{p}")], [], "the mapped bytes are those of the files")
            same({storage_start(lines[n]) for n in ("w", "tied", "t")}, {storage_start(lines["row"])}, "views are in one storage")
            ranges = sorted({(storage_start(x), storage_start(x) + x["storage_bytes"]) for x in m.lines if x["storage_bytes"]})
            ok(all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:])), "storages do not overlap")
            refused = m.mapping(m.lines[0]["cuda"]).driver.cu.cuMemcpyHtoD_v2
            refused.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t]
            written = refused(m.mapping(m.lines[0]["cuda"]).address, b"x", 0 if way == "ipc" else 1)
            ok(way == "ipc" or written != 0, "memory that came by a descriptor cannot be written", written)
    ok(("by CUDA IPC handles" if way == "ipc" else "by descriptors") in w.said, "the log says which way", w.said)


def unshared(w):
    with Mounted(w, "map_location=cuda:0,ro", WEIGHTFS_SHARE="none") as mnt, Manifest(mnt) as m:
        same([line["path"] for line in m.lines if "cuda" in line], [], "nothing tells how to map it where it is not shared")
        same({line["device"] for line in m.lines}, {"cuda:0"}, "though it is on the device")
    ok("WEIGHTFS_SHARE=none" in w.said, "and the log says why", w.said)


def writing(w):
    with Mounted(w, "map_location=cuda:0") as mnt:
        with Manifest(mnt) as m:
            lines = {line["path"]: line for line in m.lines}
            with open(f"{mnt}/w", "r+b", buffering=0) as f:
                f.write(b"changed!")
                os.fsync(f.fileno())
            same(device_bytes(m, lines["w"])[:12], read(f"{mnt}/w")[:12], "a write through the mount is seen by who has mapped the tensor")
            same(device_bytes(m, lines["t"]), read(f"{mnt}/t"), "also where it is a view")
            ok("file" not in next(x for x in Manifest(mnt).lines if x["path"] == "w"), "which stands in the file no more")
        with open(f"{mnt}/.weightfs/cuda/w.json") as lease:
            entry = json.load(lease)
            same(set(entry) >= {"device", "uuid", "handle", "offset", "bytes", "dtype", "shape", "stride", "storage_start"}, True,
                 "one tensor alone can be leased")
        same(os.path.exists(f"{mnt}/.weightfs/cuda/epoch.json"), False, "a number has no entry")


def objects(w):
    """What CuPy, JAX and torch are given."""
    with Mounted(w, "map_location=cuda:0,ro") as mnt:
        tensors = weightfs.cuda.open_tensors(mnt)
        same((len(tensors), tensors["row"].shape, tensors["row"].dtype), (9 + SMALL, (30,), "float32"), "all tensors as objects")
        told = tensors["t"].__cuda_array_interface__
        same((told["typestr"], told["shape"], told["strides"], told["data"]), ("<f4", (30, 70), (4, 120), (tensors["w"].address, False)),
             "__cuda_array_interface__")
        same(tensors["none"].__cuda_array_interface__["data"][0], 0, "an empty one has no address")
        same(tensors["w"].__dlpack_device__(), (2, 0), "__dlpack_device__")
        capsule = tensors["w"].__dlpack__(stream=1)
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
        t = ctypes.cast(get(capsule, b"dltensor"), ctypes.POINTER(weightfs.cuda._DLManaged)).contents.tensor
        same((t.data, t.ndim, t.code, t.bits, t.shape[0], t.shape[1], t.strides[0]), (tensors["w"].address, 2, 2, 32, 70, 30, 30), "__dlpack__")
        same(len(weightfs.cuda.ALIVE), 1, "it is kept while somebody has it")
        del capsule
        same(len(weightfs.cuda.ALIVE), 0, "and let go of with the capsule that nobody took")
        row = tensors["row"]
        tensors.clear()
        same(run("umount", mnt).returncode != 0, True, "one tensor is enough to hold the mount")
        del row
        told = None


def visible(w):
    """The daemon's cuda:0 may be this process's cuda:1."""
    if Driver().device_count() < 2:
        return skip("two devices", "the driver has one")
    with Mounted(w, "map_location=cuda:0,ro", CUDA_VISIBLE_DEVICES="1,0") as mnt, Manifest(mnt) as m:
        line = next(x for x in m.lines if x["path"] == "w")
        same((line["device"], line["cuda"]["uuid"], m.mapping(line["cuda"]).ordinal), ("cuda:0", Driver().uuid(1), 1), "devices are known by UUID")
        same(device_bytes(m, line), read(f"{mnt}/w"), "and the bytes are the tensor's")
        try:
            m.mapping({**line["cuda"], "uuid": "GPU-00000000-0000-0000-0000-000000000000", "handle": "00" * 64})
            ok(False, "an unknown device is refused")
        except CudaError as e:
            ok("not visible" in str(e), "an unknown device is refused", e)


def side_by_side(w):
    if Driver().device_count() < 2:
        return skip("two devices side by side", "the driver has one")
    with Mounted(w, "map_location=cuda:7=cuda:1;cpu=cuda:0,preload,ro") as mnt, Manifest(mnt) as m:
        same({(line["device"], line["cuda"]["uuid"]) for line in m.lines}, {(f"cuda:{i}", Driver().uuid(i)) for i in (0, 1)}, "two devices are loaded")
        same([x["path"] for x in m.lines if device_bytes(m, x) != read(f"{mnt}/{x['path']}")], [], "with the right bytes")


def a_killed_consumer(w):
    with Mounted(w, "map_location=cuda:0") as mnt:
        code = "import sys, weightfs.cuda; t = weightfs.cuda.open_tensors(sys.argv[1]); print(len(t), flush=True); sys.stdin.read()"
        consumer = subprocess.Popen([sys.executable, "-c", code, mnt], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                    env={**os.environ, "PYTHONPATH": os.path.join(TOP, "contrib", "python")})
        same(int(consumer.stdout.readline()), 9 + SMALL, "another process maps all")
        ok(run("setfattr", "-n", "user.torch.device", "-v", "file", f"{mnt}/w").returncode != 0 if shutil.which("setfattr") else True, "it holds them")
        consumer.send_signal(signal.SIGKILL)
        consumer.wait()
        until = time.monotonic() + 20
        while True:
            try:
                os.setxattr(f"{mnt}/w", "user.torch.device", b"file")
                break
            except OSError:
                if time.monotonic() > until:
                    return ok(False, "its end is noticed")
                time.sleep(0.01)
        ok(True, "its end is noticed")


def a_container(w):
    """A consumer with a PID namespace of its own."""
    enter = ["unshare", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or run(*enter, "true").returncode:
        return skip("a PID namespace of its own", "unshare does not work here")
    with Mounted(w, "map_location=cuda:0,ro") as mnt:
        code = ("import sys, weightfs.cuda; m = weightfs.cuda.Manifest(sys.argv[1]); line = m.lines[0]; "
                "print(m.mapping(line['cuda']).read(line['cuda']['offset'], 16).hex())")
        r = run(*enter, *let_go(w.dir), sys.executable, "-c", code, mnt, env={**os.environ, "PYTHONPATH": os.path.join(TOP, "contrib", "python"),
                                                              "FAKE_CUDA_NO_LEAK_CHECK": "1"})
        same(r.stdout.strip(), read(f"{mnt}/w")[:16].hex(), "maps the memory, too")
        if r.returncode:
            print("# " + r.stderr.replace("\n", "\n# "))
    with Mounted(w, "map_location=cuda:0,ro") as mnt, Manifest(mnt) as m:
        try:
            m.mapping({**m.lines[0]["cuda"], "socket": "/nowhere/weightfs.sock"})
            ok(False, "one that does not see the socket is told so")
        except CudaError as e:
            ok("WEIGHTFS_SOCKET_DIR" in str(e), "one that does not see the socket is told so", e)


def counted(report):
    """What the double has counted, which it writes when its process ends."""
    return {name: int(n) for name, n in map(str.split, read(report).decode().splitlines())}


def many(w):
    """10,000 tensors: the driver is called a few times, however many there are."""
    report = os.path.join(w.dir, "consumer.report")
    with Mounted(w, "map_location=cuda:0,preload,ro", FAKE_CUDA="") as mnt:
        code = ("import sys, weightfs.cuda; t = weightfs.cuda.open_tensors(sys.argv[1]); "
                "print(len(t), len(__import__('os').listdir('/proc/self/fd')))")
        r = run(sys.executable, "-c", code, mnt, env={**os.environ, "PYTHONPATH": os.path.join(TOP, "contrib", "python"),
                                                      "FAKE_CUDA": f"report={report}", "FAKE_CUDA_NO_LEAK_CHECK": "1"})
        tensors, files = map(int, r.stdout.split())
        same(tensors, 10000, "10,000 tensors are mapped")
        ok(files < (12 if os.path.exists(report) else 100), "with a few descriptors (of which a real driver has some)", files)
        if not os.path.exists(report):
            return skip("calls of the driver", "only its double counts")
        calls = sum(n for name, n in counted(report).items() if name.startswith("cu"))
        ok(calls <= 20, "and at most 20 calls of the driver", counted(report))


def make_many(path):
    save(path, OrderedDict((f"layer.{i}", Tensor("int32", (3,), random.Random(i).randbytes(12))) for i in range(10000)))


def main():
    driver, why = find_driver()
    if why:
        skip("sharing device memory", why)
        done()
    print(f"# {driver.uuid(0)}")
    cases = [(everything, make, "descriptor"), (everything, make, "ipc"), *((case, make) for case in (
        unshared, writing, objects, visible, side_by_side, a_killed_consumer, a_container)), (many, make_many)]
    for case, maker, *more in cases:
        print(f"# {case.__name__} {' '.join(more)}", flush=True)
        with World(BUILD, maker) as w:
            case(w, *more)
    weightfs.cuda.the_driver().close()
    done()


main()
