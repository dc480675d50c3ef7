#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""weightfs.load of a mount whose tensors are on a CUDA device, in another process than the mount's: this one.

On a GPU, torch takes the daemon's memory. On the double of the driver, which torch cannot use, only that call is replaced: by one that copies
the storage's bytes out of the same mapping; the rest is what runs on a GPU.

Usage: module.py BUILD_DIRECTORY      Prints TAP.
"""
import errno
import os
import sys
import time
import warnings
from collections import OrderedDict

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path += [os.path.join(TOP, "tests", "mount"), os.path.join(TOP, "contrib", "python")]  # behind the library: a test has the name of a module of it
try:
    import torch
except ImportError:
    print("1..0 # SKIP torch is not installed")
    sys.exit(0)

import weightfs  # noqa: E402
from kit import World, done, need_fuse, ok, run, same, skip  # noqa: E402
from weightfs import tensors  # noqa: E402
from weightfs.cuda import the_driver  # noqa: E402
from devkit import find_driver  # noqa: E402

need_fuse()
BUILD = sys.argv[1]


def objects():
    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    c, other = (torch.complex(torch.arange(6.0), -torch.arange(6.0)).reshape(2, 3) for _ in range(2))
    tied = torch.nn.Parameter(torch.ones(3, 4))
    return OrderedDict([
        ("base", base), ("row", base[2]), ("transposed", base.t()), ("again", base), ("half", torch.full((5,), 0.5, dtype=torch.bfloat16)),
        ("parameter", tied), ("tied", tied), ("frozen", torch.nn.Parameter(torch.zeros(2), requires_grad=False)), ("complex", c),
        ("conj", c.conj()), ("neg", other.conj().imag), ("empty", torch.empty(0, 3)), ("0-d", torch.tensor(7)), ("epoch", 3),
        ("nested", {"list": [torch.ones(2, dtype=torch.int16), 1.5], 4: (torch.zeros(1), "x")})])


def leaves(obj, path=""):
    if isinstance(obj, (dict, list, tuple)):
        for key, value in obj.items() if isinstance(obj, dict) else enumerate(obj):
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, obj


class Held(bytearray):
    """Bytes that hold a mapping, as the storage does that they stand for."""


def replace_torch():
    def open_storage(mapping, start, size):
        held = Held(mapping.read(start, size))
        held.mapping = mapping
        return tensors.untyped(torch.frombuffer(held, dtype=torch.uint8) if size else torch.empty(0))

    tensors.open_storage = open_storage


def move(path):
    try:
        os.setxattr(path, "user.torch.device", b"file")
    except OSError as e:
        return e.errno
    return 0


def moves(path):
    """The kernel tells the daemon of a closed file some moments after its close."""
    until = time.monotonic() + 20
    while (result := move(path)) == errno.EBUSY and time.monotonic() < until:
        time.sleep(0.01)
    return result


def compare(got, want, device, how):
    """{path: tensor} of what was loaded and what torch.load gives."""
    same(list(got), list(want), f"{how}: the same keys in the same order")
    same([p for p in want if type(got[p]) is not type(want[p])], [], "of the same types")
    tensors = [p for p in want if isinstance(want[p], torch.Tensor)]
    same([p for p in tensors if got[p].device.type != device.split(":")[0]], [], f"on {device}")
    same([p for p in tensors if (got[p].dtype, got[p].shape, got[p].stride(), got[p].storage_offset(), got[p].requires_grad, got[p].is_conj(),
                                 got[p].is_neg()) != (want[p].dtype, want[p].shape, want[p].stride(), want[p].storage_offset(),
                                                      want[p].requires_grad, want[p].is_conj(), want[p].is_neg())], [],
         "with dtype, shape, stride, offset, requires_grad and conjugation")
    same([p for p in tensors if not torch.equal(got[p], want[p])], [], "and equal")
    ok(got["/base"] is got["/again"] and got["/parameter"] is got["/tied"], "ties are one tensor")
    ok(got["/row"].data_ptr() == got["/base"].data_ptr() + 80 and got["/transposed"].data_ptr() == got["/base"].data_ptr(),
       "views share their storage")


def check(w, device):
    r = w.mount("-o", "map_location=cuda:0")
    if not ok(r.returncode == 0, "a mount with map_location=cuda:0", r):
        return
    wanted = torch.load(w.file, map_location=device, weights_only=False)
    state = weightfs.load(w.mnt)
    compare(dict(leaves(state)), dict(leaves(wanted)), device, "a copy")
    same(moves(f"{w.mnt}/half"), 0, "what was copied is leased no more")
    os.setxattr(f"{w.mnt}/half", "user.torch.device", b"cuda:0")
    state["base"].fill_(9)
    same(float(weightfs.load(w.mnt)["base"][0, 1]), 1.0, "and is this process's own")
    state = weightfs.load(w.mnt, copy=False)
    compare(dict(leaves(state)), dict(leaves(wanted)), device if device != "cpu" else "cpu", "shared")
    same(move(f"{w.mnt}/base"), errno.EBUSY, "a storage that is used here is leased")
    row = state["row"]
    state.clear()
    same(move(f"{w.mnt}/base"), errno.EBUSY, "as long as a view of it is left")
    del row
    same(moves(f"{w.mnt}/base"), 0, "and no longer")


def many(w, device):
    """A second process has all tensors soon, however many there are."""
    w.mount("-o", "map_location=cuda:0,preload,ro")
    start = time.perf_counter()
    state = weightfs.load(w.mnt)
    print(f"# 3,000 small tensors in {time.perf_counter() - start:.3f} s")
    same([i for i in range(3000) if state[f"layer.{i}"].tolist() != [float(i)] * (i % 5)], [], "many small tensors are copied, each to its place")


def main():
    driver, why = find_driver()
    if why:
        skip("the Python module on a device", why)
        done()
    with warnings.catch_warnings():  # what torch says of the double
        warnings.simplefilter("ignore")
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    print(f"# {'a GPU' if device != 'cpu' else 'the double of the driver'}, torch {torch.__version__}")
    if device == "cpu":
        replace_torch()
    for case, make in ((check, objects), (many, lambda: {f"layer.{i}": torch.full((i % 5,), float(i)) for i in range(3000)})):
        with World(BUILD, lambda path: torch.save(make(), path)) as w:
            case(w, device)
            r = run(w.wfctl, "umount", w.mnt)
            ok(r.returncode == 0, "nothing holds the mount afterwards", r)
    driver.close()
    the_driver().close()
    done()


main()
