# SPDX-License-Identifier: MIT
"""Reading: listing, opening, scanning, finding, small files. Each figure is a ratio of two things measured in turns.

Usage: contrib/bench/run reading [list] [open] [scan] [ceiling] [find] [small]
"""
import contextlib
import os
import subprocess
import sys
import tempfile

from common import BUILD, IO, WFCTL, alternate, daemon_rss_kib, finish, mounted, report, run, scratch, timed

PYTHON = sys.executable


def make(path, code):
    subprocess.run([PYTHON, "-c", "import sys, torch\npath = sys.argv[1]\n" + code, path], check=True)
    return path


def keys(path, n):
    return make(path, f"torch.save({{f'layers.{{i // 16}}.block.{{i % 16}}.weight': torch.full((8, 8), float(i)) "
                      f"for i in range({n})}}, path)")


TORCH_LIST = ("import sys, torch\nfor k, v in torch.load(sys.argv[1], mmap=True).items(): print(k, '\\t', v.size())")


def bench_list(work):
    for n, floor in ((256, 100), (100_000, 50)):
        file = keys(f"{work}/keys-{n}.pt", n)
        ours = run(WFCTL, "ls", file).splitlines()
        theirs = run(PYTHON, "-c", TORCH_LIST, file).splitlines()
        assert ours == theirs, "the two listings differ"
        t = alternate(3, torch=lambda: timed(PYTHON, "-c", TORCH_LIST, file), wfctl=lambda: timed(WFCTL, "ls", file))
        report(f"list {n} keys: torch.load(mmap) time / wfctl ls time", t["torch"] / t["wfctl"], floor=floor)

    def mount_and_ls():
        import time
        start = time.perf_counter()
        with mounted(file) as mnt:
            subprocess.run(["ls", "-l", mnt], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
        return seconds
    t = alternate(3, torch=lambda: timed(PYTHON, "-c", TORCH_LIST, file), mount=mount_and_ls)
    report("100000 keys: torch.load(mmap) time / (mount and ls -l) time", t["torch"] / t["mount"], floor=20)
    with mounted(file) as mnt:
        subprocess.run(["ls", "-l", mnt], check=True, stdout=subprocess.DEVNULL)
        rss, _ = daemon_rss_kib(mnt)
    report("100000 keys listed: resident bytes a tensor above 20 MiB", (rss - 20480) * 1024 / 100_000, ceiling=300, unit=" B")


SPARSE = """
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    sd = {f'k{i}': torch.empty(SIZE // 64, dtype=torch.uint8) for i in range(64)}
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(sd, path)
"""


def bench_open(work):
    big = make(f"{work}/big.pt", SPARSE.replace("SIZE", "1 << 40"))
    little = make(f"{work}/little.pt", SPARSE.replace("SIZE", "1 << 20"))

    def mount(file):
        import time
        start = time.perf_counter()
        with mounted(file):
            return time.perf_counter() - start
    t = alternate(9, big=lambda: mount(big), little=lambda: mount(little))
    report("mount: 1 TB sparse time / 1 MB time, same keys", t["big"] / t["little"], ceiling=1.5)
    with mounted(big) as mnt:
        rss, _ = daemon_rss_kib(mnt)
    report("1 TB sparse mounted: resident memory", rss / 1024, ceiling=20, unit=" MiB")


def bench_scan(work):
    file = make(f"{work}/scan.pt", "torch.save({'w': torch.arange(1 << 27, dtype=torch.int64)}, path)")
    native = f"{work}/native.bin"
    with mounted(file) as mnt:
        subprocess.run(["cp", f"{mnt}/w", native], check=True)
    subprocess.run(["cat", file, native], check=True, stdout=subprocess.DEVNULL)
    gib = os.path.getsize(native) / 2**30

    def cold(args):
        with mounted(file) as mnt:
            return float(run(IO, args, f"{mnt}/w", *(["1"] if args == "scan" else [])).split()[0])
    t = alternate(5, native=lambda: float(run(IO, "dd", native)), fuse=lambda: cold("dd"))
    report("dd 1 MiB, mount's cache cold: ratio to native", t["native"] / t["fuse"], floor=0.2)
    print(f"    native {gib / t['native']:.2f} GiB/s, mount {gib / t['fuse']:.2f} GiB/s")
    with mounted(file) as mnt:
        t = alternate(5, native=lambda: float(run(IO, "dd", native)), fuse=lambda: float(run(IO, "dd", f"{mnt}/w")))
    report("dd 1 MiB, mount's cache warm: ratio to native", t["native"] / t["fuse"], floor=0.6)
    t = alternate(3, native=lambda: float(run(IO, "scan", native, "1")), fuse=lambda: cold("scan"))
    report("mapped scan, mount's cache cold: ratio to native", t["native"] / t["fuse"], floor=0.2)
    print(f"    native {gib / t['native']:.2f} GiB/s, mount {gib / t['fuse']:.2f} GiB/s")
    with mounted(file) as mnt:
        def passes(path, which):
            return float(run(IO, "scan", path, "2").split()[which])
        run(IO, "scan", f"{mnt}/w", "1")
        t = alternate(5, native=lambda: passes(native, 0), fuse=lambda: passes(f"{mnt}/w", 0))
        report("mapped scan, mount's cache warm: ratio to native", t["native"] / t["fuse"], floor=0.6)
        t = alternate(5, native=lambda: passes(native, 1), fuse=lambda: passes(f"{mnt}/w", 1))
        report("second scan of a held mapping: ratio to native", t["native"] / t["fuse"], floor=0.9)


@contextlib.contextmanager
def one_buffer(size, options):
    """The peer that answers from one buffer, read ahead as the mount is."""
    point = tempfile.mkdtemp(prefix="weightfs-mnt-")
    subprocess.run([os.path.join(BUILD, "contrib", "bench", "one-buffer"), "-o", options, str(size), point], check=True)
    try:
        device = os.stat(point).st_dev
        if os.geteuid() == 0:
            with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb", "w") as f:
                f.write("1024\n")
        yield point
    finally:
        subprocess.run(["fusermount3", "-u", point], check=True)
        os.rmdir(point)


def bench_ceiling(work):
    file = make(f"{work}/ceiling.pt", "torch.save({'w': torch.arange(1 << 27, dtype=torch.int64)}, path)")
    size = 1 << 30
    subprocess.run(["cat", file], check=True, stdout=subprocess.DEVNULL)

    def ours(options):
        with mounted(file, options) as mnt:
            return float(run(IO, "dd", f"{mnt}/w"))

    def peer(options):
        with one_buffer(size, options) as mnt:
            return float(run(IO, "dd", f"{mnt}/w"))
    for what, options in (("cold", "ro"), ("direct_io", "ro,direct_io")):
        t = alternate(7, mount=lambda o=options: ours(o), peer=lambda o=options: peer(o), reader=lambda o=options: peer(f"{o},file={file}"))
        report(f"dd 1 MiB, {what}: ratio to a program that answers from one buffer", t["peer"] / t["mount"], floor=0.85)
        # it copies once more: how far the mount is from it is the mount's own work
        report(f"dd 1 MiB, {what}: ratio to the least program that reads a file", t["reader"] / t["mount"], floor=0.9)
        print(f"    one buffer {size / 2**30 / t['peer']:.2f} GiB/s, reading a file {size / 2**30 / t['reader']:.2f} GiB/s, "
              f"mount {size / 2**30 / t['mount']:.2f} GiB/s")


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


def bench_find(work):
    file = keys(f"{work}/find.pt", 100_000)
    native = f"{work}/tree"
    with mounted(file) as mnt:
        subprocess.run(["cp", "-r", mnt, native], check=True)

    def ext4():
        subprocess.run(["sync"], check=True)
        drop_caches()
        return timed("find", native, "-size", "+1k")

    def ours():
        with mounted(file) as mnt:
            return timed("find", mnt, "-size", "+1k")
    t = alternate(3, native=ext4, fuse=ours)
    report("find -size over 100000 entries: cold native time / ours", t["native"] / t["fuse"], floor=1.0)


def bench_small(work):
    file = keys(f"{work}/small.pt", 20_000)
    native = f"{work}/files"
    with mounted(file) as mnt:
        subprocess.run(["cp", "-r", mnt, native], check=True)
        run(IO, "small", mnt, "2")
        t = alternate(5, native=lambda: float(run(IO, "small", native, "2").split()[1]),
                      fuse=lambda: float(run(IO, "small", mnt, "2").split()[1]))
    report("cached open-read-close of 20000 tensors, ro: ratio to native", t["native"] / t["fuse"], floor=0.8)


ALL = {"list": bench_list, "open": bench_open, "scan": bench_scan, "ceiling": bench_ceiling, "find": bench_find, "small": bench_small}

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        with scratch() as work_dir:
            ALL[name](work_dir)
    finish()
