# SPDX-License-Identifier: MIT
"""The Python module on files, beside torch.load and safetensors. Each figure is a ratio of two things measured in turns.

Usage: contrib/bench/run module [open] [load]        WEIGHTFS_BENCH_GIB: the size of the opened file (default 1)
"""
import os
import subprocess
import sys

from common import WFCTL, alternate, finish, report, scratch, timed
from views import PACKAGE, load, make, many

PYTHON = sys.executable
# framework: as where torch is not installed
OPEN = "import sys, weightfs; weightfs.open(sys.argv[1], framework='numpy')['k']"
TORCH = "import sys, torch; torch.load(sys.argv[1]{})['k']"


def bench_open(work):
    """Of one key: whole processes, as one would start them."""
    gib = float(os.environ.get("WEIGHTFS_BENCH_GIB", "1"))
    env = {**os.environ, "PYTHONPATH": PACKAGE, "WEIGHTFS_WFCTL": WFCTL}
    for what, tensors in (("one tensor", 1), ("64 tensors", 64)):
        n = int(gib * (1 << 28)) // tensors
        file = make(f"{work}/open-{tensors}.pt", f"torch.save({{**{{f'w{{i}}': torch.randn({n}) for i in range({tensors - 1})}}, 'k': torch.randn({n})}}, path)")
        subprocess.run(["cat", file], check=True, stdout=subprocess.DEVNULL)
        t = alternate(5, torch=lambda: timed(PYTHON, "-c", TORCH.format(""), file), mapped=lambda: timed(PYTHON, "-c", TORCH.format(", mmap=True"), file),
                      ours=lambda: timed(PYTHON, "-c", OPEN, file, env=env), numpy=lambda: timed(PYTHON, "-c", "import numpy"))
        report(f"{gib:g} GiB, {what}: torch.load time / weightfs.open time", t["torch"] / t["ours"], floor=20)
        print(f"    torch.load {t['torch']:.2f} s, with mmap {t['mapped']:.2f} s; weightfs.open {t['ours']:.3f} s, of which import numpy {t['numpy']:.3f} s")
        os.remove(file)


def bench_load(work):
    """All of 100,000 tensors, imports left out."""
    file = many(work)
    safe = f"{work}/many.safetensors"
    subprocess.run([WFCTL, "export", file, safe], check=True)
    os.environ["WEIGHTFS_WFCTL"] = WFCTL
    t = alternate(3, ours=lambda: load("torch, weightfs, weightfs.eager", "weightfs.load(sys.argv[1])", file),
                  torch=lambda: load("torch", "torch.load(sys.argv[1])", file),
                  safetensors=lambda: load("safetensors.torch", "safetensors.torch.load_file(sys.argv[1])", safe))
    report("100000 tensors: torch.load time / weightfs.load time", t["torch"] / t["ours"], floor=20)
    report("100000 tensors: safetensors load_file time / weightfs.load time", t["safetensors"] / t["ours"])
    print(f"    torch.load {t['torch']:.2f} s, safetensors {t['safetensors']:.2f} s, weightfs.load {t['ours']:.2f} s")


def main():
    with scratch() as work:
        for name in sys.argv[1:] or ("open", "load"):
            {"open": bench_open, "load": bench_load}[name](work)
    finish()


if __name__ == "__main__":
    main()
