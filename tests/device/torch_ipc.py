#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""torch maps the device memory of another process that is no torch: contrib/bench/device holds a checkpoint's storages, and what
contrib/python/weightfs/eager.py makes of its handle is what torch.load gives. No mount is needed.

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

import held  # noqa: E402
from storages import write_list  # noqa: E402
from weightfs import tensors  # noqa: E402
from weightfs.cuda import the_driver  # noqa: E402
from devkit import find_driver  # noqa: E402

count = failed = 0


def ok(good, what, detail=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {count} - {what}" + (f"\n#   {detail}" if not good else ""), flush=True)


def replace_torch():
    def open_storage(mapping, start, size):
        return tensors.untyped(torch.frombuffer(bytearray(mapping.read(start, size)), dtype=torch.uint8))

    tensors.open_storage = open_storage


def main():
    driver, why = find_driver()
    if why:
        print(f"1..0 # SKIP {why}")
        return
    with warnings.catch_warnings():  # what torch says of the double
        warnings.simplefilter("ignore")
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    print(f"# {'a GPU' if device != 'cpu' else 'the double of the driver'}, torch {torch.__version__}")
    if device == "cpu":
        replace_torch()
    with tempfile.TemporaryDirectory(prefix="weightfs-ipc-") as work:
        file, listed = os.path.join(work, "m.pt"), os.path.join(work, "list")
        torch.save({f"layer.{i}": torch.arange(i * 37 + 1).to(d).reshape(1, -1) for i, d in enumerate(
            [torch.float32, torch.int64, torch.bfloat16, torch.uint8, torch.float64, torch.int16] * 20)}, file)
        found = write_list(file, listed)
        wanted = torch.load(file, map_location=device)
        holder = subprocess.Popen([sys.argv[1], "cuda", listed, "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = next((text.split() for text in holder.stdout if text.startswith("hold ")), [])
        ok(len(line) == 6 and line[1] == driver.uuid(0), "another process holds the storages", line)
        storages = {key: (size, str(t.dtype).removeprefix("torch."), t.shape, t.stride())
                    for (_, _, size), (key, t) in zip(found, wanted.items())}
        for copy in (False, True):
            started = time.perf_counter()
            got = held.load(" ".join(line), storages, copy)
            print(f"# {len(got)} tensors, {'copied' if copy else 'shared'}, in {1000 * (time.perf_counter() - started):.1f} ms")
            bad = [key for key, t in wanted.items() if not torch.equal(got[key], t) or got[key].device != t.device]
            ok(not bad, f"torch finds the same tensors there ({'copied' if copy else 'shared'})", bad)
        if device != "cpu":
            got["layer.0"].fill_(3)
            ok(bool((got["layer.0"] == 3).all()), "a copy can be written")
        got.clear()
        the_driver().close()
        driver.close()
        holder.communicate()
        ok(holder.returncode == 0, "the other process ends well", holder.returncode)
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


main()
