# SPDX-License-Identifier: MIT
"""The verbs of wfctl without a mount, as ratios: a rename against the mount and against torch, cat against ls, many verbs, a shell's keys.

Usage: contrib/bench/run verbs [rename] [cat] [many] [complete]
"""
import os
import subprocess
import sys
import time

from common import WEIGHTFS, WFCTL, alternate, finish, report, scratch, timed

PYTHON = sys.executable
MAKE_LARGE = """
import sys, torch
torch.save({f'layer{i}.weight': torch.randint(0, 255, (1 << 22,), dtype=torch.uint8) for i in range(256)}, sys.argv[1])
"""
MAKE_MANY = """
import sys, torch
torch.save({f'layer{i // 100}.block{i % 100}.weight': torch.zeros(1) for i in range(100000)} | {'epoch': 3}, sys.argv[1])
"""
TORCH_RENAME = """
import os, sys, torch
sd = torch.load(sys.argv[1])
torch.save({('renamed' if k == 'layer7.weight' else k): v for k, v in sd.items()}, sys.argv[1] + '.new')
fd = os.open(sys.argv[1] + '.new', os.O_RDWR)
os.fsync(fd)
os.rename(sys.argv[1] + '.new', sys.argv[1])
"""


def make(program, path):
    subprocess.run([PYTHON, "-c", program, path], check=True)


def back_and_forth(rename):
    """Renames one key, and the next time back."""
    names = ["layer9.weight", "other.weight"]

    def call():
        names.reverse()
        return rename(names[1], names[0])
    return call


def through_mount(file, mode):
    point = file + ".mnt"

    def rename(old, new):
        os.makedirs(point, exist_ok=True)
        start = time.perf_counter()
        subprocess.run([WEIGHTFS, "-o", f"commit={mode}", file, point], check=True)
        os.rename(f"{point}/{old}", f"{point}/{new}")
        subprocess.run([WFCTL, "umount", point], check=True)
        return time.perf_counter() - start
    return rename


def rename(top):
    files = {}
    for side in ("verb", "mount"):
        files[side] = os.path.join(top, side + ".pt")
        make(MAKE_LARGE, files[side])
    for mode in ("append", "replace"):
        sides = alternate(3, verb=back_and_forth(lambda old, new: timed(WFCTL, "mv", f"--commit={mode}", files["verb"], old, new)),
                          mount=back_and_forth(through_mount(files["mount"], mode)))
        report(f"wfctl mv in 1 GiB, commit={mode}: time of the mount / its own", sides["mount"] / sides["verb"], floor=1)
        if mode == "append":
            torch = timed(PYTHON, "-c", TORCH_RENAME, files["mount"])
            report("wfctl mv in 1 GiB, commit=append: time of torch / its own", torch / sides["verb"], floor=200)


def cat(top):
    path = os.path.join(top, "many.pt")
    make(MAKE_MANY, path)
    sides = alternate(5, ls=lambda: timed(WFCTL, "ls", path), cat=lambda: timed(WFCTL, "cat", path, "epoch"))
    report("wfctl cat of a value among 100,000 keys / wfctl ls", sides["cat"] / sides["ls"], ceiling=1.3)


def many(top):
    path, script = os.path.join(top, "verbs.pt"), os.path.join(top, "script")
    subprocess.run([PYTHON, "-c", "import sys, torch; torch.save({f'v{i}': i for i in range(5000)}, sys.argv[1])", path], check=True)
    with open(script, "w") as f:
        for i in range(5000):
            f.write(f"set {path} v{i} {i + 1}\nmv {path} v{i} w{i}\nmv {path} w{i} v{i}\n")
    sides = alternate(3, script=lambda: timed(WFCTL, "-f", script))
    report("verbs of a script, one commit, a second", 15000 / sides["script"], floor=20000)


def complete(top):
    path = os.path.join(top, "many.pt")
    if not os.path.exists(path):
        make(MAKE_MANY, path)
    os.environ["XDG_CACHE_HOME"] = os.path.join(top, "cache")
    first = timed(WFCTL, "complete", "keys", path, "layer99")
    sides = alternate(5, keys=lambda: timed(WFCTL, "complete", "keys", path, "layer99"))
    report("keys of 100,000 for a shell, the first time, ms", first * 1000)
    report("keys of 100,000 for a shell, from then on, ms", sides["keys"] * 1000, ceiling=50)


chosen = sys.argv[1:] or ["rename", "cat", "many", "complete"]
with scratch() as top:
    for name in chosen:
        {"rename": rename, "cat": cat, "many": many, "complete": complete}[name](top)
finish()
