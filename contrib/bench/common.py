# SPDX-License-Identifier: MIT
"""What the benchmarks share: finding the programs, mounting, timing two things side by side, printing ratios."""
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["WEIGHTFS_BUILD"]
WEIGHTFS = os.path.join(BUILD, "fs", "weightfs")
WFCTL = os.path.join(BUILD, "fs", "wfctl")
IO = os.path.join(BUILD, "contrib", "bench", "io")

missed = []


def run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


def timed(*args, **kw):
    start = time.perf_counter()
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, **kw)
    return time.perf_counter() - start


@contextlib.contextmanager
def scratch():
    path = tempfile.mkdtemp(prefix="weightfs-bench-", dir=os.environ.get("WEIGHTFS_BENCH_DIR"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def mounted(checkpoint, options="ro"):
    point = tempfile.mkdtemp(prefix="weightfs-mnt-")
    try:
        subprocess.run([WEIGHTFS, "-o", options, checkpoint, point], check=True)
        try:
            yield point
        finally:
            subprocess.run([WFCTL, "umount", point], check=True)
    finally:
        os.rmdir(point)


def daemon_rss_kib(point):
    """Resident memory of the daemon behind a mount: VmRSS and its peak, in KiB."""
    import json
    with open(os.path.join(point, ".weightfs", "status")) as f:
        pid = json.load(f)["pid"]
    with open(f"/proc/{pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])


def alternate(runs, **sides):
    """Runs each side in turn, `runs` times after one warm-up, another one first each time, since what a side wrote is in the way of the next;
    returns {side: median seconds}."""
    samples, names = {name: [] for name in sides}, list(sides)
    for i in range(runs + 1):
        for name in names[i % len(names):] + names[:i % len(names)]:
            seconds = sides[name]()
            if i:
                samples[name].append(seconds)
    return {name: statistics.median(s) for name, s in samples.items()}


def report(what, value, floor=None, ceiling=None, unit=""):
    """One line: the figure, the target it is held against, and whether it was met."""
    target, met = "", True
    if floor is not None:
        target, met = f"at least {floor}", value >= floor
    if ceiling is not None:
        target, met = f"at most {ceiling}", value <= ceiling
    if not met:
        missed.append(what)
    print(f"{what:<64} {value:>12.3f}{unit:<4} {target:<16} {'' if not target else 'met' if met else 'MISSED'}", flush=True)


def finish():
    if missed:
        print(f"{len(missed)} targets missed: " + "; ".join(missed))
    sys.exit(1 if missed else 0)
