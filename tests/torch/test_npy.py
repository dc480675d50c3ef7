#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
""".npy files that are written into a mount: every way in which NumPy and tools write them, judged by np.load of the mount, by the bytes of the
tensor's own file and, after a commit, by torch.load.

Usage: test_npy.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import io
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, read, run, same, write  # noqa: E402

need_fuse()
import numpy as np  # noqa: E402
import torch  # noqa: E402

ARRAYS = {
    "rows": np.random.default_rng(1).normal(size=(5, 6)), "big endian": np.arange(10, dtype=">i8").reshape(2, 5),
    "columns": np.asfortranarray(np.arange(24.).reshape(2, 3, 4)), "big endian columns": np.asfortranarray(np.arange(6, dtype=">c8").reshape(2, 3)),
    "0-d": np.float32(7.5), "empty": np.zeros((0, 3), "f2"), "bool": np.array([True, False]), "uint16": np.arange(4, dtype="u2"),
    "bytes that read as a number": np.frombuffer(b"1234567\n", "i8")[0], "bytes that read as a line": np.frombuffer(b"12345\n", "u1"),
    "complex": np.array([1 + 2j], ">c16"), "large": np.arange(3000000, dtype="f4").reshape(1000, 3000),
    "large columns": np.asfortranarray(np.arange(600000, dtype=">f4").reshape(200, 3000))}


def saved(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version=version)
    return buffer.getvalue()


def native(array):
    a = np.asarray(array)
    return a.astype(a.dtype.newbyteorder("="))


def check(w, name, array, what):
    npy, wanted = f"{w.npy}/{name}.npy", native(array)
    got = np.load(npy)
    return ok(got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes() and
              read(f"{w.mnt}/{name}") == wanted.tobytes() and read(npy) == saved(np.ascontiguousarray(wanted).reshape(wanted.shape)), what,
              (got.dtype, got.shape, got))


def refused(what, call):
    try:
        call()
        ok(False, f"{what} is refused")
    except OSError as e:
        ok(True, f"{what} is refused ({e.strerror})")


def save(w):
    for what, array in ARRAYS.items():
        for name in (what, "old"):
            np.save(f"{w.npy}/{name}.npy", array)
            check(w, name, array, f"np.save of {what}, {'onto another tensor' if name == 'old' else 'new'}")
    for version in ((1, 0), (2, 0), (3, 0)):
        write(f"{w.npy}/v.npy", saved(np.arange(4.), version))
        check(w, "v", np.arange(4.), f"version {version[0]}")
    np.save(f"{w.npy}/epoch.npy", np.arange(3))
    check(w, "epoch", np.arange(3), "over a value")
    np.save(f"{w.npy}/m/k.npy", np.arange(6.).reshape(2, 3))
    check(w, "m/k", np.arange(6.).reshape(2, 3), "below a mapping")
    np.save(f"{w.npy}/tie.npy", np.zeros(3, "f4"))
    check(w, "tied", np.zeros(3, "f4"), "a tie stays one where the form does")


def tools(w):
    source, array = os.path.join(w.dir, "f.npy"), np.asfortranarray(np.arange(6.).reshape(2, 3))
    np.save(source, array)
    for what, command in {"cp": 'cp "$1" "$2"', "cat": 'cat "$1" > "$2"', "dd in pieces of 7 bytes": 'dd if="$1" of="$2" bs=7 status=none',
                          "tee": 'tee "$2" < "$1" > /dev/null', "cp over it": 'cp "$1" "$2" && cp "$1" "$2"'}.items():
        r = run("sh", "-c", command, "sh", source, f"{w.npy}/{what}.npy")
        if ok(r.returncode == 0, what, r):
            check(w, what, array, f"  is the tensor")


def mappings(w):
    np.save(f"{w.npy}/map.npy", np.zeros((30, 40)))
    a = np.load(f"{w.npy}/map.npy", mmap_mode="r+")
    a[2, 3] = 42
    a.flush()
    ok(np.load(f"{w.npy}/map.npy")[2, 3] == 42 and np.frombuffer(read(f"{w.mnt}/map"))[83] == 42, "np.load(mmap_mode='r+') writes the tensor")
    with open(f"{w.mnt}/map", "r+b") as f:
        f.write(np.float64(-1).tobytes())
    same(a[0, 0], -1.0, "and sees what is written into the tensor's own file")
    del a
    a = np.lib.format.open_memmap(f"{w.npy}/new map.npy", "w+", dtype="f4", shape=(100, 100))
    a[:] = np.arange(10000).reshape(100, 100)
    a.flush()
    del a
    check(w, "new map", np.arange(10000, dtype="f4").reshape(100, 100), "open_memmap makes a tensor")
    a = np.load(f"{w.npy}/columns of torch.npy", mmap_mode="r+")
    ok(a.flags.f_contiguous and not a.flags.c_contiguous, "a transposed tensor is shown by columns")
    a[0, 1] = 99
    a.flush()
    del a
    same(np.load(f"{w.npy}/columns of torch.npy")[0, 1], 99.0, "and can be mapped and written")


def held(w):
    """The head that was written is in force until the last writer is gone."""
    columns = saved(np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)), (2, 0))
    with open(f"{w.npy}/held.npy", "w+b", buffering=0) as f:
        f.write(columns[:70])
        f.write(columns[70:])
        os.fsync(f.fileno())
        same(np.frombuffer(read(f"{w.mnt}/held")).tolist(), [0, 1, 2, 3, 4, 5], "an fsync makes it the tensor")
        ok(os.pread(f.fileno(), 1000, 0) == columns == read(f"{w.npy}/held.npy"), "it reads back as it was written")
    ok(read(f"{w.npy}/held.npy") == saved(np.arange(6.).reshape(2, 3)), "and as np.save writes it when it is closed")


def refusals(w):
    array = np.arange(6.).reshape(2, 3)
    np.save(f"{w.npy}/kept.npy", array)
    good = saved(np.arange(8.))
    for what, content in {"an array of objects": saved(np.array([{}], dtype=object)), "an array of texts": saved(np.array(["x"])),
                          "what is no .npy file": b"root:x:0:0\n" * 20, "a file that is cut off": good[:-8], "half a head": good[:50],
                          "a file with more behind it": good + b"12345678"}.items():
        for name in ("kept", "none"):
            refused(f"{what}, {'onto a tensor' if name == 'kept' else 'new'}", lambda: write(f"{w.npy}/{name}.npy", content))
        check(w, "kept", array, "  and the old tensor stays")
        ok(not os.path.lexists(f"{w.mnt}/none") and not os.path.exists(f"{w.npy}/none.npy"), "  and no new one is there")
    lines = read(f"{w.mnt}/.weightfs/log").decode()
    ok("pickles, which are never run" in lines, "the log says why", lines[-500:])
    told = [line.split(" ", 3)[2:] for line in lines.splitlines() if "not taken as" in line]
    ok(told and all(call == "close" and rest.startswith(".weightfs/npy/") for call, rest in told), "  and of which file", told)
    ok("..." not in lines, "  which has its name", lines[-500:])
    refused("a name without .npy", lambda: write(f"{w.npy}/x", good))
    refused("truncate(2)", lambda: os.truncate(f"{w.npy}/kept.npy", 10))
    refused("rm", lambda: os.remove(f"{w.npy}/kept.npy"))
    open(f"{w.npy}/kept.npy", "r+b").close()
    open(f"{w.npy}/kept.npy", "wb").close()
    check(w, "kept", array, "an opening that writes nothing, or only empties, changes nothing")


with World(sys.argv[1], lambda path: None) as world:
    tie = torch.ones(3)
    torch.save({"old": torch.arange(12.).reshape(3, 4), "columns of torch": torch.randn(3, 4).t(), "epoch": 3, "m": {"k": torch.ones(2)}, "tie": tie,
                "tied": tie}, world.file)
    world.mount()
    world.npy = f"{world.mnt}/.weightfs/npy"
    for step in (save, tools, mappings, held, refusals):
        step(world)
    arrays = {name[:-4]: np.load(f"{world.npy}/{name}") for name in os.listdir(world.npy) if name.endswith(".npy")}
    r = run(world.wfctl, "umount", world.mnt)
    ok(r.returncode == 0, "committed", r)
    loaded = torch.load(world.file, weights_only=True)
    wrong = [name for name, array in arrays.items() if not np.array_equal(loaded[name].numpy(), array) or loaded[name].numpy().dtype != array.dtype]
    same(wrong, [], "torch.load has every array")
    ok(loaded["tie"].data_ptr() == loaded["tied"].data_ptr(), "and the tie")
    world.mount("-o", "ro")
    refused("a write on a read-only mount", lambda: write(f"{world.npy}/old.npy", b""))
    world.umount()
done()
