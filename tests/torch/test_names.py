#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Keys of every kind: their names are distinct, and lookup, listing, attributes, writes, removals and renames mean the same key.
torch.load says what an edit did.

Usage: test_names.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import collections
import datetime
import enum
import json
import os
import pathlib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same, write  # noqa: E402

need_fuse()
import numpy as np  # noqa: E402
import torch  # noqa: E402


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Number(enum.IntEnum):
    THREE = 3


class Thing:
    pass


def parameters():
    return [torch.nn.Parameter(torch.full((2,), float(i))) for i in range(4)]


LONG = "x" * 300
# Python 3.11 pickles a member by its name
MEMBERS = ["Colour.RED", "Colour.BLUE", "Number.THREE"] if Colour.RED.__reduce_ex__(2)[0] is getattr else \
    ["Colour(1)", "Colour('b')", "Number(3)"]
# keys, the names that they have, and user.torch.key where it is not the JSON of the name
CASES = [
    ("numpy integers", [np.int64(0), np.int64(1), np.int64(7)], ["0", "1", "7"], [0, 1, 7]),
    ("numpy integers of every size", [np.int8(-1), np.uint8(2), np.uint64(2**64 - 1)], ["-1", "2", str(2**64 - 1)], [-1, 2, 2**64 - 1]),
    ("numpy floats", [np.float64(0.1), np.float32(0.5), np.float16(2)], ["0.1", "0.5", "2.0"], [0.1, 0.5, 2.0]),
    ("numpy booleans", [np.bool_(True), np.bool_(False)], ["true", "false"], [True, False]),
    ("numpy texts", [np.str_("a"), np.str_("b/c")], ["a", "b%2Fc"], ["a", "b/c"]),
    ("numpy bytes", [np.bytes_(b"a"), np.bytes_(b"\xff")], ["b'a'", "b'\\xff'"], None),
    ("numpy dates", [np.datetime64("2024-01-01"), np.datetime64("2024-01-01T10:11:12.5")], ["2024-01-01", "2024-01-01T10:11:12.500"], None),
    ("numpy and text", [np.int64(5), "5", "x"], ["5", "%35", "x"], [5, "5", "x"]),
    ("bytes", [b"a", b"it's", b'"\'', b"\x00\n\xff", b"", "b'a'"],
     ["b'a'", "b\"it's\"", "b'\"\\'" + "'", "b'\\x00\\n\\xff'", "b''", "b'a'~2"], ["b'a'", "b\"it's\"", "b'\"\\''", "b'\\x00\\n\\xff'", "b''", "b'a'"]),
    ("members of an Enum", [Colour.RED, Colour.BLUE, Number.THREE], MEMBERS, None),
    ("devices and dtypes", [torch.device("cpu"), torch.device("cuda:1"), torch.float32, torch.int8, "cuda:1"],
     ["cpu", "cuda:1", "torch.float32", "torch.int8", "cuda:1~2"], ["cpu", "cuda:1", "torch.float32", "torch.int8", "cuda:1"]),
    ("paths", [pathlib.PurePosixPath("/a/b"), pathlib.PurePosixPath("c"), pathlib.PureWindowsPath("C:\\x")], ["%2Fa%2Fb", "c", "C:\\x"],
     ["/a/b", "c", "C:\\x"]),
    ("dates", [datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 3, 4, 5, 6), datetime.time(1, 2), datetime.timedelta(1, 2, 3),
               datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=-2))), datetime.timedelta(0), datetime.timedelta(-1)],
     ["2024-01-02", "2024-01-02T03:04:05.000006", "01:02:00", "P1DT2.000003S", "2024-01-02T00:00:00-02:00", "PT0S", "-P1D"], None),
    ("Parameters", parameters(), ["Parameter", "Parameter~2", "Parameter~3", "Parameter~4"], ["torch.nn.parameter.Parameter"] * 4),
    ("Parameters and texts", parameters()[:2] + ["Parameter~2", "Parameter"], ["Parameter", "Parameter~3", "Parameter~2", "Parameter~4"],
     ["torch.nn.parameter.Parameter"] * 2 + ["Parameter~2", "Parameter"]),
    ("tensors", [torch.ones(1), torch.ones(1)], ["Tensor", "Tensor~2"], ["torch.Tensor"] * 2),
    ("objects", [Thing(), Thing()], ["Thing", "Thing~2"], ["__main__.Thing"] * 2),
    ("classes", [int, Thing, torch.nn.Linear], ["int", "Thing", "Linear"], ["int", "__main__.Thing", "torch.nn.modules.linear.Linear"]),
    ("tuples", [(1, "a"), (1, 2), (), "[1, 2]"], ['[1, "a"]', "[1, 2]", "[]", "%5B1, 2]"], [[1, "a"], [1, 2], [], "[1, 2]"]),
    ("tuples with numpy", [(np.int64(1), 2)], ["[1, 2]"], [[1, 2]]),
    ("frozen sets and ranges", [frozenset([1]), frozenset([2]), range(3)], ["frozenset", "frozenset~2", "range"], None),
    ("not-a-numbers", [float("nan"), float("nan"), "NaN"], ["NaN", "NaN~2", "%4EaN"], None),
    ("scalars and texts", [1, "1", 2.5, "2.5", None, "null", True and False, "false"], ["1", "%31", "2.5", "%32.5", "null", "%6Eull", "false", "%66alse"],
     [1, "1", 2.5, "2.5", None, "null", False, "false"]),
    ("long texts", [LONG, LONG + "y", "short"], None, [LONG, LONG + "y", "short"]),
    ("complex", [1 + 2j, "1+2j"], ["1+2j", "1+2j~2"], ["1+2j", "1+2j"]),
]


def load(path):
    try:
        return torch.load(path, weights_only=False)
    except TypeError: # 1.x
        return torch.load(path)


def tells(key):
    """How a key of one load is told from that of another."""
    return key if not isinstance(key, (torch.Tensor, Thing)) and key == key else type(key)


def values_of(mapping):
    return [(tells(k), v) for k, v in mapping.items()]


def check(w, what, keys, names, told, outer):
    mapping = outer((k, i) for i, k in enumerate(keys))
    torch.save({"m": mapping}, w.file)
    w.mount()
    here = os.path.join(w.mnt, "m")
    listed = os.listdir(here)
    if names:
        same(listed, names, f"{what}: names")
    ok(len(set(listed)) == len(keys), f"{what}: as many names as keys", listed)
    same([int(open(os.path.join(here, n)).read()) for n in listed], list(range(len(keys))), f"{what}: each shows its own value")
    json_keys = [json.loads(os.getxattr(os.path.join(here, n), "user.torch.key")) for n in listed]
    if told:
        same(json_keys, told, f"{what}: user.torch.key")
    # each is written, one is removed, one renamed: under its name, and no other changes
    for i, n in enumerate(listed):
        write(os.path.join(here, n), f"{100 + i}\n".encode())
    wanted = [(tells(k), 100 + i) for i, k in enumerate(keys)]
    gone = len(keys) // 2
    os.unlink(os.path.join(here, listed[gone]))
    del wanted[gone]
    if len(keys) > 2:
        last = listed[-1] if gone != len(keys) - 1 else listed[0]
        at = -1 if gone != len(keys) - 1 else 0
        os.rename(os.path.join(here, last), os.path.join(here, "renamed"))
        wanted[at] = ("renamed", wanted[at][1])
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, f"{what}: is committed", r)
    got = load(w.file)["m"]
    # the same values under the same keys, but for NaN, which equals nothing
    same(values_of(got), wanted, f"{what}: the edits hit the keys whose names they were given") if "not-a" not in what else \
        same([v for k, v in values_of(got)], [v for k, v in wanted], f"{what}: the edits hit the keys whose names they were given")


def more(w):
    torch.save({"a": {b"k": 1, np.int64(3): 2}, "b": {}, "ints": {np.int64(0): 1, np.int64(1): 2}, "twins": {0: 1, 1: 2, "x": 3}}, w.file)
    w.mount()
    a, b, ints, twins = (os.path.join(w.mnt, n) for n in ("a", "b", "ints", "twins"))
    os.rename(os.path.join(a, "b'k'"), os.path.join(b, "b'k'"))
    write(os.path.join(ints, "5"), b"9\n")
    write(os.path.join(twins, "%30"), b"4\n")
    for bad in ("%31x", "%32", "%78"):
        r = run("sh", "-c", f"echo 1 > '{twins}/{bad}'")
        ok(r.returncode != 0, f"no new name {bad}: it is not what its key is called", r)
    same(sorted(os.listdir(twins)), ["%30", "0", "1", "x"], "a str beside the int of the same text has its own name")
    # as long as it is mounted an entry keeps its name, whatever becomes of the others
    os.unlink(os.path.join(twins, "0"))
    same(sorted(os.listdir(twins)), ["%30", "1", "x"], "which stays when the int goes")
    w.umount()
    got = load(w.file)
    same(got["b"], {b"k": 1}, "a key that no name stands for moves as what it is")
    ok(5 in got["ints"] and len(got["ints"]) == 3, "beside NumPy's ints a name of digits is an int", got["ints"])
    same(list(got["twins"].items())[:2], [(1, 2), ("x", 3)], "the others are as they were")
    ok("0" in got["twins"] and 0 not in got["twins"], "and the str is there", got["twins"])


with World(sys.argv[1], lambda path: None) as world:
    for case in CASES:
        for outer in (dict, collections.OrderedDict):
            check(world, *case, outer)
    more(world)
done()
