#!/usr/bin/env python3
"""torch maps the device memory of another process that is no torch: contrib/bench/device holds a checkpoint's storages, and what
contrib/python/weightfs.py makes of its handle is what torch.load gives. No mount is needed.

On the double of the driver, which torch cannot use, its own opening of the handle is replaced by a copy out of the same handle.

Usage: torch_ipc.py DEVICE_PROGRAM      Prints TAP.
"""
import os
import subprocess
import sys
import tempfile
import time
import warnings

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(TOP, "contrib", name) for name in ("python", "bench")]
try:
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)

import weightfs  # noqa: E402
from storages import write_list  # noqa: E402
from weightfs_cuda import CudaError, Driver  # noqa: E402

ALIGN_BYTES = 512  # contrib/bench/device.c
count = failed = 0


def ok(good, what, detail=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {count} - {what}" + (f"\n#   {detail}" if not good else ""), flush=True)


def entries(found, wanted, uuid, handle, start):
    """An entry as .weightfs/cuda has them for each tensor: they have a storage each, in the order of the file."""
    for (_, _, size), (key, tensor) in zip(found, wanted.items()):
        yield key, {"uuid": uuid, "handle": handle, "offset": start, "bytes": size, "storage_start": start, "storage_bytes": size,
                    "storage_offset": 0, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape),
                    "stride": list(tensor.stride()), "conj": False, "neg": False, "requires_grad": False}
        start += -(-size // ALIGN_BYTES) * ALIGN_BYTES


def replace_torch(driver):
    def open_storage(entry):
        if weightfs._device_index(entry["uuid"]) != driver.ordinal(entry["uuid"]):
            raise AssertionError("another device")
        raw = driver.read({**entry, "offset": entry["storage_start"], "bytes": entry["storage_bytes"], "shape": [entry["storage_bytes"]],
                           "stride": [1]})
        return weightfs._untyped(torch.frombuffer(bytearray(raw), dtype=torch.uint8))

    weightfs._open_storage = open_storage


def main():
    try:
        driver = Driver()
        why = "" if driver.device_count() else "the CUDA driver has no device"
    except CudaError as e:
        why = str(e)
    if why:
        print(f"1..0 # SKIP {why}")
        return
    with warnings.catch_warnings():  # what torch says of the double
        warnings.simplefilter("ignore")
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    print(f"# {'a GPU' if device != 'cpu' else 'the double of the driver'}, torch {torch.__version__}")
    if device == "cpu":
        replace_torch(driver)
    with tempfile.TemporaryDirectory(prefix="weightfs-ipc-") as work:
        file, listed = os.path.join(work, "m.pt"), os.path.join(work, "list")
        torch.save({f"layer.{i}": torch.arange(i * 37 + 1).to(d).reshape(1, -1) for i, d in enumerate(
            [torch.float32, torch.int64, torch.bfloat16, torch.uint8, torch.float64, torch.int16] * 20)}, file)
        found = write_list(file, listed)
        wanted = torch.load(file, map_location=device)
        holder = subprocess.Popen([sys.argv[1], "cuda", listed, "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = next((text.split() for text in holder.stdout if text.startswith("hold ")), [])
        ok(len(line) == 5 and line[1] == driver.uuid(0), "another process holds the storages", line)
        started, storages = time.perf_counter(), {}
        got = {key: weightfs._from_device(entry, open(os.devnull), storages)
               for key, entry in entries(found, wanted, line[1], line[2], int(line[3]))}
        print(f"# {len(got)} tensors in {1000 * (time.perf_counter() - started):.1f} ms")
        bad = [key for key, t in wanted.items() if not torch.equal(got[key], t) or got[key].device != t.device]
        ok(not bad, "torch finds the same tensors there", bad)
        if device != "cpu":
            got["layer.0"].fill_(3)
            ok(bool((got["layer.0"] == 3).all()), "it is memory, not a copy that is made on reading")
        got.clear()
        storages.clear()
        driver.close()
        holder.communicate()
        ok(holder.returncode == 0, "the other process ends well", holder.returncode)
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


main()
