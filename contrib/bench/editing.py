# SPDX-License-Identifier: MIT
"""Editing: rename one key, overwrite one tensor, many renames; against torch.load -> edit -> torch.save and against cp.

Usage: contrib/bench/run editing [rename] [overwrite] [many] [clone]
"clone" makes XFS and btrfs on loop-mounted images (as root) and shows what a file system that clones gives.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from common import WFCTL, WEIGHTFS, alternate, daemon_rss_kib, finish, report, run, scratch, timed

PYTHON = sys.executable
MAKE = """
import sys, torch
torch.manual_seed(0)
torch.save({f'layer{i}.weight': torch.randint(0, 255, (1 << 22,), dtype=torch.uint8) for i in range(256)}, sys.argv[1])
"""
TORCH_RENAME = """
import sys, torch
sd = torch.load(sys.argv[1])
sd = {('renamed' if k == 'layer7.weight' else k): v for k, v in sd.items()}
torch.save(sd, sys.argv[2])
"""
TORCH_OVERWRITE = """
import sys, torch
sd = torch.load(sys.argv[1])
sd['layer7.weight'].fill_(7)
torch.save(sd, sys.argv[2])
"""


def disk_bytes(pid):
    with open(f"/proc/{pid}/io") as f:
        return int(dict(line.split(": ") for line in f)["write_bytes"])


def through_mount(file, mode, edit, look=None):
    """Seconds of mount, edit and unmount, which commits and returns when all is on the disk. look(point) is called after a
    commit of its own."""
    point = file + ".mnt"
    os.mkdir(point)
    start = time.perf_counter()
    subprocess.run([WEIGHTFS, "-o", f"commit={mode}", file, point], check=True)
    edit(point)
    if look:
        subprocess.run([WFCTL, "commit", point], check=True)
        look(point)
    subprocess.run([WFCTL, "umount", point], check=True)
    seconds = time.perf_counter() - start
    os.rmdir(point)
    return seconds


def cost(file, mode, edit):
    """Bytes that the daemon of such an edit gave to the disk, and its peak memory in KiB."""
    found = []

    def look(point):
        with open(f"{point}/.weightfs/status") as f:
            found.extend((disk_bytes(json.load(f)["pid"]), daemon_rss_kib(point)[1]))
    through_mount(file, mode, edit, look)
    return found


def alone(call):
    """With nothing left to be written that another side made: an fsync waits for that, too."""
    def settled():
        os.sync()
        return call()
    return settled


names = ["layer7.weight", "renamed"]


def rename(point):
    os.rename(f"{point}/{names[0]}", f"{point}/{names[1]}")
    names.reverse()


def overwrite(point):
    with open(f"{point}/layer7.weight", "r+b") as f:
        f.write(os.urandom(1 << 22))


def compare(work, what, edit, torch_code, extra_bytes):
    file = f"{work}/big.pt"
    subprocess.run([PYTHON, "-c", MAKE, file], check=True)
    names[:] = ["layer7.weight", "renamed"]
    for mode, rounds in (("append", 5), ("replace", 1)):
        def copy():
            start = time.perf_counter()
            subprocess.run(["cp", "--reflink=never", file, f"{work}/copy.pt"], check=True)
            subprocess.run(["sync", f"{work}/copy.pt"], check=True)
            return time.perf_counter() - start
        sides = {"torch": lambda: timed(PYTHON, "-c", torch_code, f"{work}/copy.pt", f"{work}/torch.pt"), "cp": copy,
                 "ours": lambda: statistics.median(through_mount(file, mode, edit) for _ in range(rounds))}
        sides["cp"]()
        t = alternate(3, **{name: alone(call) for name, call in sides.items()})
        written, peak = cost(file, mode, edit)
        if mode == "append":
            report(f"{what}, 1 GiB, append: torch time / ours", t["torch"] / t["ours"], floor=200 if extra_bytes == 0 else None)
            report(f"{what}, append: MiB written", written / 2**20, ceiling=1 + extra_bytes / 2**20)
        else:
            report(f"{what}, 1 GiB, replace: ours / cp and sync", t["ours"] / t["cp"], ceiling=1.2)
        report(f"{what}, {mode}: peak resident memory", peak / 1024, ceiling=32, unit=" MiB")
        print(f"    torch {t['torch']:.3f} s, cp {t['cp']:.3f} s, ours {t['ours']:.4f} s")


def bench_rename(work):
    compare(work, "rename one key", rename, TORCH_RENAME, 0)


def bench_overwrite(work):
    compare(work, "overwrite 4 MiB", overwrite, TORCH_OVERWRITE, 2 * (1 << 22))


def bench_many(work):
    n = 100_000
    file = f"{work}/many.pt"
    subprocess.run([PYTHON, "-c", f"import sys, torch\ntorch.save({{f'module.k{{i}}': torch.zeros(1) for i in range({n})}}, sys.argv[1])",
                    file], check=True)
    point = f"{work}/mnt"
    os.mkdir(point)
    subprocess.run([WEIGHTFS, file, point], check=True)
    os.chdir(point)
    keys = os.listdir(".")
    start = time.perf_counter()
    for k in keys:
        os.rename(k, k[7:])
    seconds = time.perf_counter() - start
    os.chdir("/")
    report(f"{n} renames in one mount: a second", n / seconds, floor=20_000)
    start = time.perf_counter()
    subprocess.run([WFCTL, "umount", point], check=True)
    print(f"    one commit and unmount: {time.perf_counter() - start:.3f} s")
    left = run(PYTHON, "-c", "import sys, torch; sd = torch.load(sys.argv[1]); print(len(sd), sum(k.startswith('module.') for k in sd))", file)
    assert left.split() == [str(n), "0"], left


def bench_clone(work):
    for kind, options in (("xfs", ["-m", "reflink=1"]), ("btrfs", [])):
        if os.geteuid() or not shutil.which(f"mkfs.{kind}"):
            print(f"clone on {kind}: skipped, needs root and mkfs.{kind}")
            continue
        image, point = f"{work}/{kind}.img", f"{work}/{kind}"
        with open(image, "wb") as f:
            f.truncate(4 << 30)
        os.mkdir(point)
        subprocess.run([f"mkfs.{kind}", "-q", *options, image], check=True, stdout=subprocess.DEVNULL)
        if subprocess.run(["mount", "-o", "loop", image, point]).returncode:
            print(f"clone on {kind}: skipped, its image cannot be mounted here")
            continue
        clone_on(kind, point)


def clone_on(kind, point):
    try:
        file = f"{point}/big.pt"
        subprocess.run([PYTHON, "-c", MAKE, file], check=True)
        subprocess.run(["sync", file], check=True)
        names[:] = ["layer7.weight", "renamed"]
        for mode in ("auto", "replace"):
            t = alternate(5, ours=lambda: through_mount(file, mode, rename))
            report(f"rename one key, 1 GiB on {kind}, {mode}", t["ours"] * 1000, ceiling=100, unit=" ms")
    finally:
        subprocess.run(["umount", point], check=True)


ALL = {"rename": bench_rename, "overwrite": bench_overwrite, "many": bench_many, "clone": bench_clone}

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        with scratch() as work_dir:
            ALL[name](work_dir)
    finish()
