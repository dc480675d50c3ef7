#!/usr/bin/env python3
"""Another process maps what a mount has on a device: this one, through contrib/python/weightfs_cuda.py, without torch.

Usage: sharing.py BUILD_DIRECTORY      a driver (or its double) is found as the daemon finds it
Prints TAP.
"""
import os
import random
import subprocess
import sys
from collections import OrderedDict

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(TOP, "tests", "mount"), os.path.join(TOP, "contrib", "python")]

from kit import World, done, need_fuse, ok, read, run, same, skip, wait_mounted  # noqa: E402
from minicheckpoint import Storage, Tensor, save  # noqa: E402
from weightfs_cuda import CudaError, Driver, cuda_entries, open_entry  # noqa: E402

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

    def __init__(self, w, options):
        self.w = w
        self.daemon = subprocess.Popen([w.weightfs, "-f", "-o", options, w.file, w.mnt], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)
        wait_mounted(w)

    def __enter__(self):
        return self.w.mnt

    def __exit__(self, *why):
        run("umount", self.w.mnt)
        err = self.daemon.communicate(timeout=120)[1]
        ok(self.daemon.returncode == 0, "the daemon ends well", (self.daemon.returncode, err))


def row_major(entry, data):
    """The elements of a view in row-major order, from the bytes between its first element and its last."""
    at, sizes = [0], entry["shape"]
    if 0 in sizes:
        return b""
    for size, step in zip(sizes, entry["stride"]):
        at = [a + i * step for a in at for i in range(size)]
    element = entry["bytes"] // len(at)
    return b"".join(data[a * element:(a + 1) * element] for a in at)


def attr(path, name):
    return os.getxattr(path, "user.torch." + name).decode()


def everything(w, driver):
    with Mounted(w, "map_location=cuda:0,ro") as mnt:
        same(w.status()["devices"].get("cuda:0"), 0, "nothing is on the device before it is used")
        found = list(cuda_entries(mnt))
        names = sorted(where for where, _, _ in found)
        wanted = sorted(["w", "tied", "t", "row", "none", "0-d", "a%2Fb", "sub/large", *(f"layer.{i}" for i in range(SMALL))])
        same(names, wanted, "every tensor whose name leaves room for .json is listed")
        ok(w.status()["devices"]["cuda:0"] > 6_000_000, "opening the entries has loaded them", w.status())
        same(len({e["handle"] for _, e, _ in found}), 1, "all are in one slab")
        same({e["uuid"] for _, e, _ in found}, {driver.uuid(0)}, "its device is the driver's first")
        bad = [where for where, e, _ in found if row_major(e, driver.read(e)) != read(f"{mnt}/{where}")]
        same(bad, [], "the mapped bytes are those of the files")
        bad = [where for where, e, _ in found if e["dtype"] != attr(f"{mnt}/{where}", "dtype") or
               str(e["shape"]) != attr(f"{mnt}/{where}", "shape") or str(e["stride"]) != attr(f"{mnt}/{where}", "stride") or
               str(e["storage_offset"]) != attr(f"{mnt}/{where}", "storage_offset")]
        same(bad, [], "and what is said of them is what the attributes say")
        entries = {where: e for where, e, _ in found}
        same({entries[n]["storage_start"] for n in ("w", "tied", "t")}, {entries["row"]["storage_start"]}, "views are in one storage")
        same(entries["row"]["offset"] - entries["w"]["offset"], 4 * 5 * 30, "where their offsets say")
        ranges = sorted({(e["storage_start"], e["storage_start"] + e["storage_bytes"]) for e in entries.values() if e["storage_bytes"]})
        ok(all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:])), "storages do not overlap")
        for _, _, lease in found:
            lease.close()
        driver.close()


def writing(w, driver):
    with Mounted(w, "map_location=cuda:0") as mnt:
        entry, lease = open_entry(mnt, "w")
        view, lease_of_view = open_entry(mnt, "t")
        with open(f"{mnt}/w", "r+b", buffering=0) as f:
            f.write(b"changed!")
            os.fsync(f.fileno())
        same(driver.read(entry)[:12], read(f"{mnt}/w")[:12], "a write through the mount is seen by who has mapped the tensor")
        same(row_major(view, driver.read(view)), read(f"{mnt}/t"), "also where it is a view")
        same(open_entry(mnt, "epoch"), (None, None), "a number has no entry")
        lease.close()
        lease_of_view.close()
        driver.close()


def numbering(w, driver):
    """The daemon's cuda:0 may be this process's cuda:1."""
    if driver.device_count() < 2:
        return skip("two devices", "the driver has one")
    with Mounted(w, "map_location=cuda:1,ro") as mnt:
        entry, lease = open_entry(mnt, "w")
        same((entry["device"], entry["uuid"]), ("cuda:1", driver.uuid(1)), "the entry names its device")
        same(row_major(entry, driver.read(entry)), read(f"{mnt}/w"), "which is found by its UUID")
        try:
            driver.open({**entry, "uuid": "GPU-00000000-0000-0000-0000-000000000000", "handle": "00" * 64})
            ok(False, "an unknown device is refused")
        except CudaError as e:
            ok("not visible" in str(e), "an unknown device is refused", e)
        lease.close()
        driver.close()


def main():
    try:
        driver = Driver()
        why = "" if driver.device_count() else "the CUDA driver has no device"
    except CudaError as e:
        why = str(e)
    if why:
        skip("sharing through CUDA IPC", why)
        done()
    print(f"# {driver.uuid(0)}")
    for case in (everything, writing, numbering):
        print(f"# {case.__name__}", flush=True)
        with World(BUILD, make) as w:
            case(w, driver)
    done()


main()
