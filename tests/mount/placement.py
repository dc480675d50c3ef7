#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""map_location: storages on a device are read, written, moved and committed as those in the file are.

Usage: placement.py BUILD_DIRECTORY DEVICE      DEVICE is cpu or cuda:0; a driver (or its double) is found as the daemon finds it
Prints TAP. The daemon runs in the foreground, so that what the double of the driver finds at its end is seen.
"""
import errno
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict

import flatfile
from kit import World, done, error_of, floats, need_fuse, ok, read, run, same, skip, wait_mounted, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
BUILD, DEVICE = sys.argv[1:]
IS_DOUBLE = os.path.exists(os.path.join(BUILD, "tests/device/libcuda.so.1")) and \
    os.path.join(BUILD, "tests/device") in os.environ.get("LD_LIBRARY_PATH", "")
COLUMNS, ROWS = 300, 700


def matrix():
    return random.Random(1).randbytes(4 * ROWS * COLUMNS)


def transposed(data):
    return b"".join(data[4 * (r * COLUMNS + c):][:4] for c in range(COLUMNS) for r in range(ROWS))


def make(path):
    w = Storage("float32", matrix(), "cuda:1")
    save(path, OrderedDict([
        ("w", Tensor("float32", (ROWS, COLUMNS), b"", storage=w)), ("tied", Tensor("float32", (ROWS, COLUMNS), b"", storage=w)),
        ("t", Tensor("float32", (COLUMNS, ROWS), b"", storage=w, stride=(1, COLUMNS))),
        ("row", Tensor("float32", (COLUMNS,), b"", storage=w, offset=5 * COLUMNS)),
        ("opt", {"m": Tensor("int64", (4,), b"", storage=Storage("int64", bytes(range(32)), "cpu"))}),
        ("none", Tensor("uint8", (0,), b"")), ("epoch", 3),
        ("large", Tensor("uint8", (9_000_001,), random.Random(2).randbytes(9_000_001)))]))


class Mounted:
    """A daemon in the foreground; leaving waits for its end, which must be a good one."""

    def __init__(self, w, options, env=None):
        self.w = w
        self.daemon = subprocess.Popen([w.weightfs, "-f", "-o", options, w.file, w.mnt], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        wait_mounted(w)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        run("umount", self.w.mnt)
        err = self.daemon.communicate(timeout=120)[1].decode()
        self.log = err
        ok(self.daemon.returncode == 0, "the daemon ends well", (self.daemon.returncode, err))


def direct(path, offset=0, size=None):
    """Read past the kernel's cache: what the daemon says now."""
    size = os.path.getsize(path) - offset if size is None else size
    out, buf = b"", mmap.mmap(-1, 1 << 20)
    with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_DIRECT), buffering=0) as f:
        while len(out) < size:
            n = os.preadv(f.fileno(), [memoryview(buf)[:min(1 << 20, size - len(out))]], offset + len(out))
            if n == 0:
                break
            out += buf[:n]
    return out


def attr(path, name):
    return os.getxattr(path, name).decode()


def device(path):
    return attr(path, "user.torch.device")


def locations(w):
    return {row["path"]: row["location"] for row in map(json.loads, run(w.wfctl, "ls", "--json", w.file).stdout.splitlines())}


def bytes_on(w, where):
    return w.status()["devices"].get(where, 0)


def reading(w):
    data = matrix()
    with Mounted(w, f"map_location={DEVICE},ro"):
        same((device(f"{w.mnt}/w"), bytes_on(w, DEVICE)), ("file", 0), "nothing is placed before it is read")
        same(direct(f"{w.mnt}/w"), data, "a tensor reads the same")
        same(device(f"{w.mnt}/w"), DEVICE, "its storage is on the device")
        same(bytes_on(w, DEVICE), len(data), "and nothing else is")
        same(direct(f"{w.mnt}/t"), transposed(data), "a transposed view is gathered")
        same(direct(f"{w.mnt}/t", 4096, 8192), transposed(data)[4096:12288], "a part of it")
        same(direct(f"{w.mnt}/row"), data[4 * 5 * COLUMNS:][:4 * COLUMNS], "a row")
        same(direct(f"{w.mnt}/large"), random.Random(2).randbytes(9_000_001), "one that is larger than a window")
        same(read(f"{w.mnt}/none"), b"", "an empty one")
        same(direct(f"{w.mnt}/opt/m"), bytes(range(32)), "one in a mapping")
        same(attr(f"{w.mnt}/w", "user.torch.location"), DEVICE, "the tag is the mapped one")
        status = w.status()
        same((status["devices"]["file"], status["relocated"]), (0, True), "all bytes are there; the tags are news")
    same(locations(w)["w"], "cuda:1", "a read-only mount changes nothing in the file")


def remaps(w):
    with Mounted(w, f"map_location=cuda:1={DEVICE},ro"):
        read(f"{w.mnt}/w"), read(f"{w.mnt}/opt/m")
        same(attr(f"{w.mnt}/w", "user.torch.location"), DEVICE, "a remapped tag")
        same(device(f"{w.mnt}/w"), DEVICE, "its storage is placed")
        same(attr(f"{w.mnt}/opt/m", "user.torch.location"), "cpu", "another tag stays")
        same(device(f"{w.mnt}/opt/m"), "cpu" if DEVICE == "cpu" else "file", "its storage is where its tag leads")


def editing(w):
    data = bytearray(matrix())
    with Mounted(w, f"map_location={DEVICE},commit=replace"):
        read(f"{w.mnt}/w")
        fd = os.open(f"{w.mnt}/w", os.O_RDWR)
        for at, new in ((5, b"x"), (70_000, b"y" * 9000), (len(data) - 3, b"zzz")):
            os.pwrite(fd, new, at)
            data[at:at + len(new)] = new
        os.fsync(fd)
        os.close(fd)
        ok(device(f"{w.mnt}/w") == DEVICE and direct(f"{w.mnt}/w") == data, "a write reaches the device")
        same(direct(f"{w.mnt}/t"), transposed(data), "and every view")
        fd = os.open(f"{w.mnt}/t", os.O_RDWR)
        os.pwrite(fd, b"1234", 4)
        os.close(fd)
        data[4 * COLUMNS:4 * COLUMNS + 4] = b"1234"
        same(direct(f"{w.mnt}/w"), data, "a write through a transposed view")
        os.setxattr(f"{w.mnt}/w", "user.torch.device", b"file")
        same((device(f"{w.mnt}/w"), direct(f"{w.mnt}/w")), ("file", data), "moved back to the file, the same bytes")
        os.setxattr(f"{w.mnt}/w", "user.torch.device", DEVICE.encode())
        same((device(f"{w.mnt}/w"), direct(f"{w.mnt}/w")), (DEVICE, data), "and to the device again")
        for bad, wanted in (("tpu", errno.EINVAL), ("cuda:", errno.EINVAL), ("cuda:63", errno.ENODEV)):
            same(error_of(lambda: os.setxattr(f"{w.mnt}/w", "user.torch.device", bad.encode())), wanted, f"no device {bad}")
        same(error_of(lambda: os.setxattr(f"{w.mnt}/epoch", "user.torch.device", b"cpu")), errno.EOPNOTSUPP,
             "a number is on no device")
        write(f"{w.mnt}/opt/m", bytes(range(40)))
        same((attr(f"{w.mnt}/opt/m", "user.torch.shape"), direct(f"{w.mnt}/opt/m")), ("[5]", bytes(range(40))),
             "a tensor of another size in its place")
        same(device(f"{w.mnt}/opt/m"), DEVICE, "is placed when it is read")
        r = run(w.wfctl, "commit", w.mnt)
        ok(r.returncode == 0, "commits", r)
        same((w.status()["relocated"], direct(f"{w.mnt}/w")), (False, data), "goes on after a commit")
    ok(set(locations(w).values()) == {DEVICE}, "the commit has recorded the mapped location", locations(w))
    same(run(w.wfctl, "verify", w.file).returncode, 0, "the checkpoint is sound")
    with Mounted(w, "ro"):
        same((read(f"{w.mnt}/w"), read(f"{w.mnt}/opt/m")), (bytes(data), bytes(range(40))), "the edits are in it")


def unmounting(w):
    before = read(w.file)
    with Mounted(w, f"map_location={DEVICE}"):
        read(f"{w.mnt}/w")
    same(read(w.file), before, "a plain unmount after reading writes nothing")
    m = Mounted(w, f"map_location={DEVICE}")
    r = run(w.wfctl, "umount", w.mnt)
    same((r.returncode, m.daemon.wait(60)), (0, 0), "wfctl umount")
    same(set(locations(w).values()), {DEVICE}, "records the mapped location")


def preloading(w):
    with Mounted(w, f"map_location={DEVICE},preload,verify,ro"):
        status = w.status()["devices"]
        ok(status["file"] == 0 and status[DEVICE] == 4 * ROWS * COLUMNS + 32 + 9_000_001, "preload places all", status)
        same(direct(f"{w.mnt}/large"), random.Random(2).randbytes(9_000_001), "and reads it back")
    content = bytearray(read(w.file))
    at = content.index(random.Random(2).randbytes(100))
    content[at + 1234567] ^= 1
    write(w.file, content)
    r = run(w.weightfs, "-o", f"map_location={DEVICE},preload,verify", w.file, w.mnt)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "CRC" in r.stderr and not w.mounts(),
       "preload of a damaged record fails in one line", r)
    with Mounted(w, f"map_location={DEVICE},verify,ro"):
        same(error_of(lambda: direct(f"{w.mnt}/large")), errno.EIO, "a damaged record gives EIO at its first read")
        same(direct(f"{w.mnt}/w"), matrix(), "the others read")


def deflated(w):
    again = f"{w.dir}/deflated.pt"
    with zipfile.ZipFile(w.file) as old, zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    os.rename(again, w.file)
    for more in ("", ",preload,verify"):
        with Mounted(w, f"map_location={DEVICE},ro{more}"):
            same(direct(f"{w.mnt}/t"), transposed(matrix()), f"deflated records {more}")
            same(device(f"{w.mnt}/t"), DEVICE, "are placed")


def leasing(w):
    if DEVICE == "cpu":
        with Mounted(w, "map_location=cpu,ro"):
            same(os.listdir(f"{w.mnt}/.weightfs/cuda"), ["opt"], "host memory is not shared")
        return
    with Mounted(w, f"map_location={DEVICE}"):
        same(sorted(os.listdir(f"{w.mnt}/.weightfs/cuda")), ["large.json", "none.json", "opt", "row.json", "t.json", "tied.json",
                                                             "w.json"], "one file a tensor")
        same(os.listdir(f"{w.mnt}/.weightfs/cuda/opt"), ["m.json"], "directories as in the tree")
        with open(f"{w.mnt}/.weightfs/cuda/t.json") as lease:
            told = json.load(lease)
            ok(told["device"] == DEVICE and len(told["handle"]) == 128 and told["uuid"].startswith("GPU-") and
               told["dtype"] == "float32" and told["shape"] == [COLUMNS, ROWS] and told["stride"] == [1, COLUMNS] and
               told["bytes"] == 4 * ROWS * COLUMNS and told["offset"] == told["storage_start"], "it tells how to map it", told)
            same(device(f"{w.mnt}/w"), DEVICE, "opening it has placed the storage")
            same(error_of(lambda: os.setxattr(f"{w.mnt}/w", "user.torch.device", b"file")), errno.EBUSY,
                 "a leased storage stays where it is")
            write(f"{w.mnt}/w", matrix()[:100 * 4 * COLUMNS])
            same(direct(f"{w.mnt}/w"), matrix()[:100 * 4 * COLUMNS], "content of another size takes another place")
        os.setxattr(f"{w.mnt}/row", "user.torch.device", b"file")
        same(device(f"{w.mnt}/row"), "file", "a released one moves")
        same(error_of(lambda: open(f"{w.mnt}/.weightfs/cuda/row.json")), errno.ENOENT, "and has no file any more")
        same(error_of(lambda: open(f"{w.mnt}/.weightfs/cuda/epoch.json")), errno.ENOENT, "nor has a number")
    with Mounted(w, f"map_location={DEVICE}"):
        whole, lease = direct(f"{w.mnt}/large"), open(f"{w.mnt}/.weightfs/cuda/large.json")
        os.truncate(f"{w.mnt}/large", 4 * COLUMNS)
        same(error_of(lambda: write(f"{w.mnt}/.weightfs/discard", b"1")), errno.EBUSY, "what is leased cannot be discarded, also where it is cut")
        lease.close()
        until(lambda: error_of(lambda: write(f"{w.mnt}/.weightfs/discard", b"1")) == 0, "afterwards it can")
        ok(direct(f"{w.mnt}/large") == whole, "and is whole again")
    with Mounted(w, f"map_location={DEVICE},ro") as m:
        lease = open(f"{w.mnt}/.weightfs/cuda/w.json")
        run("umount", "-l", w.mnt)
        lease.close()
        m.daemon.wait(60)
    for file in ("cuda/w.json", "tensors.json"):
        with Mounted(w, f"map_location={DEVICE},ro") as m:
            lease = open(f"{w.mnt}/.weightfs/{file}")
            m.daemon.send_signal(signal.SIGTERM)
            until(lambda: b"leased no more" in read(f"{w.mnt}/.weightfs/log"), f"{file}: SIGTERM waits for the lease, and the log says so")
            ok(direct(f"{w.mnt}/large") == whole, "meanwhile all goes on")
            lease.close()
            same(m.daemon.wait(60), 0, "the daemon ends with the lease")
    with Mounted(w, f"map_location={DEVICE},ro") as m:
        lease = open(f"{w.mnt}/.weightfs/tensors.json")
        m.daemon.send_signal(signal.SIGTERM)
        until(lambda: b"leased no more" in read(f"{w.mnt}/.weightfs/log"), "a lease is waited for")
        m.daemon.send_signal(signal.SIGTERM)
        same(m.daemon.wait(60), 0, "but not after a second signal")
        lease.close()


def until(condition, what):
    """The kernel tells of a closed file some moments after its close, and a signal takes its time."""
    end = time.monotonic() + 20
    while not (good := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    ok(good, what)


def memory_used(w):
    return sum(d["total"] - d["free"] for d in w.status()["device_memory"].values())


def giving_back(w):
    """What goes to the file gives its bytes on the device back, one by one, though all came in one piece."""
    if DEVICE == "cpu":
        return
    with Mounted(w, f"map_location={DEVICE},preload"):
        before, freed = memory_used(w), []
        for name in ("large", "w"):
            os.setxattr(f"{w.mnt}/{name}", "user.torch.device", b"file")
            freed.append(before - memory_used(w))
        ok(8_000_000 <= freed[0] <= 12_000_000, "a storage that is moved to the file frees its bytes", (before, freed))
        same((direct(f"{w.mnt}/w"), device(f"{w.mnt}/w")), (matrix(), "file"), "and is read from there")
        same((direct(f"{w.mnt}/opt/m"), device(f"{w.mnt}/opt/m")), (read(f"{w.mnt}/opt/m"), DEVICE), "the others stay, with their bytes")
        lease = open(f"{w.mnt}/.weightfs/cuda/opt/m.json")
        os.setxattr(f"{w.mnt}/large", "user.torch.device", DEVICE.encode())
        same(direct(f"{w.mnt}/large"), random.Random(2).randbytes(9_000_001), "it can come back")
        lease.close()


def troubles(w):
    if not IS_DOUBLE:
        skip("a device that is full or fails", "only the double of the driver can be told to")
        return
    r = run(w.weightfs, "-o", f"map_location={DEVICE},preload", w.file, w.mnt, env={**os.environ, "FAKE_CUDA": "memory=4"})
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "bytes" in r.stderr and not w.mounts(),
       "preload that does not fit fails in one line", r)
    with Mounted(w, f"map_location={DEVICE},ro", {"FAKE_CUDA": "memory=4"}) as m:
        same(direct(f"{w.mnt}/w"), matrix(), "a storage that fits alone")
        same(device(f"{w.mnt}/w"), DEVICE, "is placed alone")
        same(direct(f"{w.mnt}/large"), random.Random(2).randbytes(9_000_001), "one that does not fit is read from the file")
        same(device(f"{w.mnt}/large"), "file", "where it stays")
    ok("large" not in m.log and "stays in the file" in m.log, "and the log says so", m.log)
    with Mounted(w, f"map_location={DEVICE},preload,ro", {"FAKE_CUDA": "memory=12"}):
        same(direct(f"{w.mnt}/t"), transposed(matrix()), "a strided view where the storages have left no room to gather it in")
        same((device(f"{w.mnt}/t"), direct(f"{w.mnt}/w")), (DEVICE, matrix()), "its storage stays on the device")
    with Mounted(w, f"map_location={DEVICE}", {"FAKE_CUDA": "delay=0,fail=cuMemcpyDtoHAsync_v2:3:719"}) as m:
        same(direct(f"{w.mnt}/w"), matrix(), "before the device fails for good")
        lease = open(f"{w.mnt}/.weightfs/cuda/w.json")
        same([direct(f"{w.mnt}/w") for _ in range(4)], [matrix()] * 4, "and after it")
        same(device(f"{w.mnt}/w"), "file", "its storages are in the file then")
        same(error_of(lambda: os.setxattr(f"{w.mnt}/large", "user.torch.device", DEVICE.encode())), errno.EBUSY,
             "it is not started anew while a lease is held")
        lease.close()
        until(lambda: error_of(lambda: os.setxattr(f"{w.mnt}/large", "user.torch.device", DEVICE.encode())) == 0, "afterwards it is")
        same((device(f"{w.mnt}/large"), direct(f"{w.mnt}/large")), (DEVICE, random.Random(2).randbytes(9_000_001)), "and works")
    ok(m.log.count("CUDA_ERROR_LAUNCH_FAILED") == 1 and "leased" in m.log, "the log says it once, and that something was leased", m.log)
    with Mounted(w, f"map_location={DEVICE}", {"FAKE_CUDA": "delay=0,fail=cuMemcpyDtoHAsync_v2:3:700"}) as m:
        same([direct(f"{w.mnt}/w") for _ in range(4)], [matrix()] * 4, "a failure that the process does not survive on the device")
        move = lambda: error_of(lambda: os.setxattr(f"{w.mnt}/large", "user.torch.device", DEVICE.encode()))  # noqa: E731
        same([move() for _ in range(3)], [errno.EIO, errno.ENODEV, errno.ENODEV], "is tried anew once")
        ok(direct(f"{w.mnt}/large") == random.Random(2).randbytes(9_000_001), "and everything is read from the file")
    ok("does not work again in this process" in m.log, "which the log says", m.log)
    for call in ("cuMemcpyDtoHAsync_v2:2", "cuLaunchKernel:1", "cuMemcpyHtoDAsync_v2:2", "cuMemCreate:1",
                 "cuStreamSynchronize:1"):
        with Mounted(w, f"map_location={DEVICE}", {"FAKE_CUDA": f"delay=0,fail={call}:719"}) as m:
            good = direct(f"{w.mnt}/w") == matrix() and direct(f"{w.mnt}/t") == transposed(matrix())
            fd = os.open(f"{w.mnt}/w", os.O_RDWR)
            os.pwrite(fd, matrix()[:8], 0)
            os.close(fd)
            ok(good and direct(f"{w.mnt}/w") == matrix() and
               direct(f"{w.mnt}/large") == random.Random(2).randbytes(9_000_001), f"{call} fails, and no byte is wrong")
        ok("CUDA_ERROR_LAUNCH_FAILED" in m.log, "the log has the driver's name for it", m.log)
    env = {**os.environ, "FAKE_CUDA": "devices=0"}
    r = run(w.weightfs, "-o", "map_location=cuda", w.file, w.mnt, env=env)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "CUDA_ERROR_NO_DEVICE" in r.stderr and not w.mounts(),
       "no device: one line with the driver's name for it", r)


def put_index(directory, base, files):
    write(f"{directory}/{base}.index.json", json.dumps({"metadata": {}, "weight_map": {k: f for f, keys in files.items() for k in keys}}).encode())


def sets(w):
    """Checkpoints in several files, placed as a file is: what is read is the same, and .bin shards alone say where their storages were."""
    data = {f"{c}{i}": floats(1000, i) for c in "ab" for i in range(2)}
    w.file = f"{w.dir}/bin"
    os.mkdir(w.file)
    for i, where in ((0, "cuda:1"), (1, DEVICE)):
        save(f"{w.file}/pytorch_model-{i}.bin", {f"{c}{i}": Tensor("float32", (1000,), b"", storage=Storage("float32", data[f"{c}{i}"], where)) for c in "ab"})
    put_index(w.file, "pytorch_model.bin", {f"pytorch_model-{i}.bin": [f"a{i}", f"b{i}"] for i in range(2)})
    with Mounted(w, f"map_location={DEVICE},preload"):
        same({k: direct(f"{w.mnt}/{k}") for k in data}, data, "a set of .bin shards reads the same")
        status = w.status()
        same((status["devices"]["file"], status["relocated"]), (0, True), "all of it is on the device; the tags are news")
        r = run(w.wfctl, "commit", w.mnt)
        same((r.returncode, w.status()["relocated"]), (0, False), "which a commit records")
        same({k: direct(f"{w.mnt}/{k}") for k in data}, data, "and it reads the same")
    same((set(locations(w).values()), sorted(f for f in os.listdir(w.file) if f.endswith("bin"))), ({DEVICE}, ["pytorch_model-0.w1.bin", "pytorch_model-1.bin"]),
         "in the shards that said another place, and no other")
    w.file = f"{w.dir}/flat"
    os.mkdir(w.file)
    for i in range(2):
        flatfile.make(f"{w.file}/model-{i}.safetensors", {f"{c}{i}": ("F32", [1000], data[f"{c}{i}"]) for c in "ab"}, {"format": "pt"})
    put_index(w.file, "model.safetensors", {f"model-{i}.safetensors": [f"a{i}", f"b{i}"] for i in range(2)})
    with Mounted(w, f"map_location={DEVICE},preload"):
        same({k: direct(f"{w.mnt}/{k}") for k in data}, data, "a set of safetensors shards reads the same")
        same((bytes_on(w, DEVICE) > 0, w.status()["relocated"]), (True, False), "and has no tags")
        os.rename(f"{w.mnt}/a0", f"{w.mnt}/moved")
    same(sorted(os.listdir(w.file)), ["model-0.w1.safetensors", "model-1.safetensors", "model.safetensors.index.json"], "a rename writes the shard that it is in, and no other")
    for kind, fixture, move in (("distributed", "dcp/dtensor-2", "rows"), ("DeepSpeed", "zero/stage2-bf16", None)):
        w.file = f"{w.dir}/{kind}"
        shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "files", fixture), w.file)
        rows = [json.loads(line) for line in run(w.wfctl, "ls", "--json", w.file).stdout.splitlines()]
        want = {row["path"]: subprocess.run([w.wfctl, "cat", "--raw", w.file, row["path"]], stdout=subprocess.PIPE).stdout for row in rows if not row["path"].startswith("files/")}
        with Mounted(w, f"map_location={DEVICE},preload"):
            same({k: direct(f"{w.mnt}/{k}") for k in want}, want, f"a {kind} checkpoint reads the same")
            same((bytes_on(w, DEVICE) > 0, w.status()["relocated"]), (True, False), "and has no tags")
            if move:
                os.rename(f"{w.mnt}/{move}", f"{w.mnt}/moved")
        if move:
            r = subprocess.run([w.wfctl, "cat", "--raw", w.file, "moved"], stdout=subprocess.PIPE)
            same(r.stdout, want[move], "and is edited")


def main():
    if DEVICE != "cpu":
        with World(BUILD, make) as w:
            r = run(w.weightfs, "-o", f"map_location={DEVICE},ro", w.file, w.mnt)
            if r.returncode == 1 and "map_location" in r.stderr:
                skip("placement on a GPU", r.stderr.strip().split(": ", 2)[-1])
                done()
            w.umount()
    for case in (reading, remaps, editing, unmounting, preloading, deflated, leasing, giving_back, troubles, sets):
        print(f"# {case.__name__}", flush=True)
        with World(BUILD, make) as w:
            case(w)
    done()


main()
