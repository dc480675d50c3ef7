# SPDX-License-Identifier: MIT
"""Files made of tensors, beside what one would use without them. Each figure is a ratio of two things measured in turns.

Usage: contrib/bench/run views [export] [heads] [open] [load] [names]        WEIGHTFS_BENCH_GIB: the size of the exported file (default 1)
"""
import itertools
import os
import subprocess
import sys
import time

from common import WFCTL, alternate, finish, mounted, report, scratch

PYTHON = sys.executable
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python")


def make(path, code):
    subprocess.run([PYTHON, "-c", "import sys, torch\npath = sys.argv[1]\n" + code, path], check=True)
    return path


def synced(command, *paths):
    """Seconds until it is done and on the disk."""
    for path in paths:
        if os.path.exists(path):
            os.remove(path)
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in paths:
        subprocess.run(["sync", path], check=True)
    return time.perf_counter() - start


def resident_kib(command):
    r = subprocess.run(["/usr/bin/env", "time", "-f", "%M", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return int(r.stderr.split()[-1])


def inside(code, *arguments):
    """Seconds that the script says it took, imports left out."""
    return float(subprocess.run([PYTHON, "-c", "import sys, time\n" + code, *arguments], check=True, stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": PACKAGE}).stdout)


CONVERT = """
import sys, torch
from safetensors.torch import save_file
save_file(torch.load(sys.argv[1]), sys.argv[2], metadata={"format": "pt"})
"""


def bench_export(work):
    count = int(float(os.environ.get("WEIGHTFS_BENCH_GIB", "1")) * 64)
    file = make(f"{work}/m.pt", f"torch.save({{f'w{{i}}': torch.randn(1 << 22) for i in range({count})}}, path)")
    copy, ours, theirs = f"{work}/copy.pt", f"{work}/ours.safetensors", f"{work}/theirs.safetensors"
    t = alternate(3, cp=lambda: synced(["cp", "--reflink=never", file, copy], copy), wfctl=lambda: synced([WFCTL, "export", file, ours], ours),
                  python=lambda: synced([PYTHON, "-c", CONVERT, file, theirs], theirs))
    subprocess.run(["cmp", ours, theirs], check=True)
    report("export to safetensors: time / cp --reflink=never time", t["wfctl"] / t["cp"], ceiling=1.1)
    report("torch.load and save_file time / export time", t["python"] / t["wfctl"], floor=1)
    ours_kib, theirs_kib = resident_kib([WFCTL, "export", file, ours]), resident_kib([PYTHON, "-c", CONVERT, file, theirs])
    report("export: resident memory", ours_kib / 1024, ceiling=32, unit=" MiB")
    print(f"    torch.load and save_file: {theirs_kib / 1024:.0f} MiB")
    for name in ("safetensors", "pt", "npz"):
        kib = resident_kib([WFCTL, "export", f"--format={name}", many(work), f"{work}/many-out.{name}"])
        report(f"export of 100000 tensors to {name}: resident memory", kib / 1024, ceiling=32, unit=" MiB")


HEAD = """
start = time.perf_counter()
with open(sys.argv[1], "rb") as f:
    f.read(int.from_bytes(f.read(8), "little"))
print(time.perf_counter() - start)
"""


def many(work):
    return make(f"{work}/many.pt", "torch.save({f'layers.{i // 16}.block.{i % 16}.weight': torch.full((8,), float(i)) for i in range(100_000)}, path)")


def bench_heads(work):
    with mounted(many(work), "rw") as mnt:
        def touched():
            os.utime(f"{mnt}/layers.0.block.0.weight")
            with open(f"{mnt}/layers.0.block.0.weight", "r+b") as f:
                f.write(b"\0\0\0\0")  # so that the file is made anew
            return inside(HEAD, f"{mnt}/.weightfs/model.safetensors")
        t = alternate(5, head=touched)
        report("safetensors head of 100000 tensors, made and read: seconds", t["head"], ceiling=0.1)
        lines = HEAD.replace("f.read(int.from_bytes(f.read(8), \"little\"))", "f.read()")
        t = alternate(5, lines=lambda: inside(lines, f"{mnt}/.weightfs/tensors.json"))
        report("tensors.json of 100000 tensors: seconds", t["lines"], ceiling=0.1)


OPEN = """
import torch  # which safe_open would do, and be timed with it
from safetensors import safe_open
def once(total=0):
    with safe_open(sys.argv[1], "pt") as f:
        for name in f.keys():
            total += int(f.get_tensor(name).view(-1)[::1024].long().sum())
"""
FILES = """
import mmap, os, torch
def once(total=0):
    for name in os.listdir(sys.argv[1]):
        with open(os.path.join(sys.argv[1], name), "rb") as f:
            total += int(torch.frombuffer(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.float32)[::1024].long().sum())
"""
EACH = """
import statistics
def seconds():
    start = time.perf_counter()
    once()
    return time.perf_counter() - start
print(statistics.median([seconds() for _ in range(int(sys.argv[2]))]))
"""


def bench_open(work):
    file = make(f"{work}/m.pt", "torch.save({f'w{i}': torch.randn(1 << 22) for i in range(16)}, path)")
    subprocess.run(["cat", file], check=True, stdout=subprocess.DEVNULL)

    def fresh(code, path, times):
        """In a mount of its own: of two that stand in one page cache the second, whose pages the kernel finds in longer runs, is read up to 15 % faster."""
        with mounted(file) as mnt:
            return inside(code + EACH, mnt + path, str(times))
    for what, times in ("cold", 1), ("warm", 21):
        t = alternate(7, view=lambda: fresh(OPEN, "/.weightfs/model.safetensors", times), files=lambda: fresh(FILES, "", times))
        report(f"safe_open of the mount, all tensors, {what}: time / mapping the tensors' files", t["view"] / t["files"], ceiling=1.05)


LOAD = """
import {module}
{prepare}
start = time.perf_counter()
loaded = {call}
print(time.perf_counter() - start)
"""


def load(module, call, *arguments, prepare=""):
    return inside(LOAD.format(module=module, call=call, prepare=prepare), *arguments)


def bench_load(work):
    file = make(f"{work}/m.pt", "torch.save({f'w{i}': torch.randn(1 << 20) for i in range(256)}, path)")
    with mounted(file) as mnt:
        t = alternate(5, ours=lambda: load("torch, weightfs", "weightfs.load(sys.argv[1])", mnt),
                      torch=lambda: load("torch", "torch.load(sys.argv[1], mmap=True)", file))
    report("weightfs.load of 256 tensors: time / torch.load(mmap=True) time", t["ours"] / t["torch"], ceiling=1.2)
    file = many(work)
    with mounted(file) as mnt:
        t = alternate(3, ours=lambda: load("torch, weightfs", "weightfs.load(sys.argv[1])", mnt), torch=lambda: load("torch", "torch.load(sys.argv[1])", file))
    report("100000 tensors: torch.load time / weightfs.load time", t["torch"] / t["ours"], floor=20)


RENAME = """
import os, torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
os.sync()
start = time.perf_counter()
with safe_open(sys.argv[1], "pt") as f:
    metadata = f.metadata()
save_file({"model.layers." + k: v for k, v in load_file(sys.argv[1]).items()}, sys.argv[2], metadata)
with open(sys.argv[2], "rb") as f:
    os.fsync(f.fileno())
print(time.perf_counter() - start)
"""


def cost(command):
    """Seconds until it is done and on the disk, and the bytes that it wrote. What the kernel says of the disk (ru_oublock, write_bytes) is whole
    folios: of a file that is cached in folios of 1 MiB, so much for each byte that changes, of which the disk gets the blocks that changed."""
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    pid = os.spawnv(os.P_NOWAIT, command[0], command)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - start
    with open(f"/proc/{pid}/io") as f:
        written = int(dict(line.split(": ") for line in f)["wchar"])
    assert os.waitpid(pid, 0)[1] == 0, command
    return seconds, written


def bench_names(work):
    """256 names in a safetensors file, in its place. Where the header has to grow, the kernel drops the file from its cache, which takes most of
    the time; the header has room for some more then."""
    file = make(f"{work}/names.safetensors", "from safetensors.torch import save_file\n"
                "save_file({f'layer{i}.weight': torch.randn(1 << 20) for i in range(256)}, path, {'format': 'pt'})")
    theirs, written = f"{work}/theirs.safetensors", []
    letters = itertools.cycle("ab")

    def in_place(expression):
        subprocess.run(["cat", file], check=True, stdout=subprocess.DEVNULL)
        seconds, bytes_ = cost([WFCTL, "rename", "--commit=append", file, expression])
        written.append(bytes_)
        return seconds
    t = alternate(5, longer=lambda: in_place("s/^/model.layers.of.a.name.of.50.letters................/"),
                  same=lambda: in_place(f"s/^./{next(letters)}/"), theirs=lambda: inside(RENAME, file, theirs),
                  replace=lambda: synced([WFCTL, "rename", "--commit=replace", file, "s/^.*ayer/layer/"]))
    report("256 names of 1 GiB of safetensors, longer: load and save time / commit=append", t["theirs"] / t["longer"], floor=20)
    report("the same, as long as before", t["theirs"] / t["same"], floor=20)
    report("the same: MiB written at most", max(written) / 2**20, ceiling=1)
    print(f"    load_file and save_file {t['theirs']:.3f} s, longer {t['longer']:.4f} s, as long {t['same']:.4f} s, a new file {t['replace']:.3f} s")


if __name__ == "__main__":
    with scratch() as directory:
        for name in sys.argv[1:] or ["export", "heads", "open", "load", "names"]:
            globals()[f"bench_{name}"](directory)
    finish()
