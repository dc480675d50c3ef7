#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checkpoints whose root is no mapping: one value, one tensor, a list, a tuple. Edited through a mount, as they stand and after a kill,
and judged by torch.load.

Usage: test_roots.py BUILD_DIRECTORY. Prints TAP; skips itself where /dev/fuse is missing.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same, write  # noqa: E402

need_fuse()
import torch  # noqa: E402

ZERO = torch.zeros(2)
CASES = [
    ("an int", 7, {"value": b"11\n"}, 11),
    ("a str", "text", {"value": b"other"}, "other"),
    ("None", None, {"value": b"3\n"}, 3),
    ("a tensor", torch.arange(3), {"value": bytes(24)}, torch.zeros(3, dtype=torch.int64)),
    ("a list of numbers", [1, 2, 3], {"value": b"[4, 5]\n"}, [4, 5]),
    ("a tuple of numbers", (1, 2.5), {"value": b"[4, 5.5]\n"}, (4, 5.5)),
    ("a tuple", (1, {"a": torch.ones(2)}, "x"), {"0": b"5\n", "2": b"y", "1/a": bytes(8)}, (5, {"a": ZERO}, "y")),
    ("a tuple in a tuple", (torch.ones(2), (3, ZERO)), {"1/0": b"5\n"}, (torch.ones(2), (5, ZERO))),
    ("a list", [torch.ones(2), 3], {"1": b"4\n"}, [torch.ones(2), 4]),
]


def edit(w, obj, edits, legacy, kill):
    torch.save(obj, w.file, _use_new_zipfile_serialization=not legacy)
    w.mount()
    for name, content in edits.items():
        write(os.path.join(w.mnt, name), content)
    if kill:
        run("sync", w.mnt)
        daemon = w.daemon()
        daemon.kill(9)
        daemon.wait()
        run("umount", "-l", w.mnt)
        w.mount()
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0, "  is committed", r)
    return torch.load(w.file)


with World(sys.argv[1], lambda path: None) as world:
    for what, obj, edits, wanted in CASES:
        for legacy in (False, True):
            for kill in (False, True):
                got = edit(world, obj, edits, legacy, kill)
                ok(type(got) is type(wanted) and repr(got) == repr(wanted),
                   f"{what}, {'legacy' if legacy else 'zip'}{', after a kill' if kill else ''}", f"{got!r}, wanted {wanted!r}")
    torch.save(7, world.file)
    world.mount()
    for command in (["mv", f"{world.mnt}/value", f"{world.mnt}/other"], ["rm", f"{world.mnt}/value"], ["mkdir", f"{world.mnt}/d"]):
        r = run(*command)
        ok(r.returncode != 0 and "not permitted" in r.stderr, f"{command[0]} in a root that is one value is refused", r)
    world.umount()
    same(torch.load(world.file), 7, "and changes nothing")
done()
