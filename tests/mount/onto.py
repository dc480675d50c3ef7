# SPDX-License-Identifier: MIT
"""wfctl commit --onto FILE: edits whose checkpoint was changed go to another file, all or none of them.

Usage: onto.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import shutil
import sys
from collections import OrderedDict

import kit
from kit import done, floats, memory, need_fuse, ok, read, run, same, side_by_side, write
from minicheckpoint import Storage, Tensor, save

BUILD = sys.argv[1]


def checkpoint(path, change=None):
    """change: what is different in it, of values and tensors that have other content anyway."""
    start = 0 if change is None else 100
    base = Storage("float32", floats(6, start))
    content = OrderedDict([
        ("fc.weight", Tensor("float32", (2, 3), b"", storage=base)),
        ("row", Tensor("float32", (3,), b"", storage=base, offset=3)),
        ("fc.bias", Tensor("float32", (2,), floats(2, start))),
        ("epoch", 3 + start), ("lr", 0.1), ("name", "x"), ("list", [1, 2]),
        ("sub", OrderedDict(x=Tensor("float32", (5,), floats(5, start)), inner={"y": 1})),
        ("items", [Tensor("float32", (2,), floats(2, start)), {"z": 1}]),
    ])
    if change:
        change(content)
    save(path, content)


def World():
    return kit.World(BUILD, checkpoint, within=memory())


EDITS = {
    "rename": lambda m: os.rename(f"{m}/fc.bias", f"{m}/b"),
    "rename a directory": lambda m: os.rename(f"{m}/sub", f"{m}/deeper"),
    "rename twice": lambda m: (os.rename(f"{m}/fc.bias", f"{m}/b"), os.rename(f"{m}/b", f"{m}/sub/b")),
    "remove": lambda m: os.unlink(f"{m}/fc.bias"),
    "write": lambda m: patch(f"{m}/fc.weight", 4, b"abcd"),
    "write through a view": lambda m: patch(f"{m}/row", 4, b"abcd"),
    "write deep down": lambda m: patch(f"{m}/sub/x", 8, b"abcd"),
    "write in a list": lambda m: patch(f"{m}/items/0", 0, b"abcd"),
    "set a number": lambda m: write(f"{m}/epoch", b"7\n"),
    "set a float": lambda m: write(f"{m}/lr", b"0.5\n"),
    "set text": lambda m: write(f"{m}/name", b"y"),
    "replace a tensor": lambda m: write(f"{m}/fc.bias", floats(2, 50)),
    "a shape": lambda m: os.setxattr(f"{m}/fc.weight", "user.torch.shape", b"[3, 2]"),
    "new": lambda m: (write(f"{m}/new", b"\1\2\3"), os.mkdir(f"{m}/more"), write(f"{m}/more/n", b"5\n")),
    "tie": lambda m: os.link(f"{m}/fc.bias", f"{m}/tied"),
    "exchange names": lambda m: (os.rename(f"{m}/fc.bias", f"{m}/t"), os.rename(f"{m}/row", f"{m}/fc.bias"), os.rename(f"{m}/t", f"{m}/row")),
}

# what is different in the other file: which edits it is in the way of
CHANGES = {
    "nothing but the content": (lambda c: None, set()),
    "more names": (lambda c: c.update(extra=1), set()),
    "another shape": (lambda c: c.update({"fc.bias": Tensor("float32", (4,), floats(4))}),
                      {"rename", "rename twice", "remove", "replace a tensor", "tie", "exchange names"}),
    "another dtype": (lambda c: c.update({"fc.bias": Tensor("int32", (2,), bytes(8))}),
                      {"rename", "rename twice", "remove", "replace a tensor", "tie", "exchange names"}),
    "a name that is gone": (lambda c: c.pop("fc.bias"), {"rename", "rename twice", "remove", "replace a tensor", "tie", "exchange names"}),
    "a directory that is gone": (lambda c: c.pop("sub"), {"rename a directory", "rename twice", "write deep down"}),
    "a number that is text": (lambda c: c.update(epoch="three"), {"set a number"}),
    "a float that is an int": (lambda c: c.update(lr=1), {"set a float"}),
    "a tensor that is a number": (lambda c: c.update({"fc.bias": 1}), {"rename", "rename twice", "remove", "replace a tensor", "tie", "exchange names"}),
    "another place in the storage": (lambda c: c.update(row=Tensor("float32", (3,), floats(3))), {"write through a view", "exchange names"}),
    "a new name that is taken": (lambda c: c.update(new=1), {"new"}),
    "a shorter list": (lambda c: c.update(items=[{"z": 1}]), {"write in a list"}),
}


def patch(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def tree(mnt):
    return {os.path.relpath(os.path.join(where, name), mnt): None if name in dirs else read(os.path.join(where, name))
            for where, dirs, files in os.walk(mnt) for name in dirs + files}


def expected(change, edit):
    """The same edits made on the other file."""
    with kit.World(BUILD, lambda path: checkpoint(path, change), within=memory()) as w:
        w.mount()
        try:
            edit(w.mnt)
        except OSError:
            pass # where the test says that it is refused
        seen = tree(w.mnt)
        run(w.wfctl, "discard", w.mnt)
        w.umount()
        return seen


def leave(w, edit):
    """Edits wait, and nobody has the checkpoint."""
    w.mount()
    edit(w.mnt)
    run("sync", w.mnt)
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)


def each_edit():
    def with_change(what):
        (change, conflicts), wrong = CHANGES[what], []
        for name, edit in EDITS.items():
            with World() as w:
                leave(w, edit)
                other = f"{w.dir}/other.pt"
                checkpoint(other, change)
                before, log = read(other), read(f"{w.file}.weightfs/log")
                r = run(w.wfctl, "commit", "--onto", other, w.file)
                if name in conflicts:
                    if r.returncode != 1 or r.stderr.count("\n") != 1 or read(other) != before or read(f"{w.file}.weightfs/log")[:len(log)] != log:
                        wrong.append((name, r))
                    if os.path.exists(f"{other}.weightfs"):
                        wrong.append((name, "an overlay beside the other file"))
                    continue
                if r.returncode or r.stderr or os.path.exists(f"{w.file}.weightfs"):
                    wrong.append((name, r))
                    continue
                w.file = other
                w.mount("-o", "ro")
                if tree(w.mnt) != expected(change, edit):
                    wrong.append((name, tree(w.mnt)))
                w.umount()
        return wrong
    for what, wrong, error in side_by_side(with_change, CHANGES):
        same(error or wrong, [], f"{what}: each edit is applied, or none")


def all_or_nothing():
    def edits(m):
        EDITS["rename"](m)
        EDITS["set a number"](m)
        EDITS["write"](m)
    with World() as w:
        leave(w, edits)
        checkpoint(w.file, lambda c: c.update(epoch="three"))
        before = read(w.file)
        r = run(w.wfctl, "commit", "--onto", w.file, w.file)
        ok(r.returncode == 1 and "epoch" in r.stderr and "int" in r.stderr and "str" in r.stderr, "the line says what is different", r)
        same(read(w.file) == before, True, "one edit that does not fit: none is made")
        checkpoint(w.file, lambda c: None)
        r = run(w.wfctl, "commit", f"--onto={w.file}", w.file)
        ok(r.returncode == 0 and not os.path.exists(f"{w.file}.weightfs"), "onto the changed file itself, where all fit", r)
        w.mount("-o", "ro")
        same((read(f"{w.mnt}/epoch"), read(f"{w.mnt}/fc.weight"), "b" in os.listdir(w.mnt)), (b"7\n", floats(1, 100) + b"abcd" + floats(4, 102), True), "they are all there")
        w.umount()


def other_states():
    with World() as w:
        other = f"{w.dir}/other.pt"
        checkpoint(other, lambda c: None)
        r = run(w.wfctl, "commit", "--onto", other, w.file)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1, "there are no edits", r)
        leave(w, EDITS["rename"])
        r = run(w.wfctl, "commit", "--onto", f"{w.dir}/nowhere.pt", w.file)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1, "there is no such file", r)
        with kit.World(BUILD, lambda path: None) as v:
            v.file = other
            leave(v, EDITS["set a number"])
        r = run(w.wfctl, "commit", "--onto", other, w.file)
        ok(r.returncode == 1 and "edits of its own" in r.stderr, "the file has edits of its own", r)
        run(w.wfctl, "discard", other)
        w.mount()
        r = run(w.wfctl, "commit", "--onto", other, w.file)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and str(w.daemon().pid) in r.stderr, "the edits are somebody's who mounted them", r)
        r = run(w.wfctl, "commit", "--onto", other, w.mnt)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1, "a mount is no overlay", r)
        os.rename(w.file, f"{w.file}.away")
        w.umount()
        os.mkdir(f"{w.dir}/elsewhere")
        os.rename(other, f"{w.dir}/elsewhere/other.pt")
        other = f"{w.dir}/elsewhere/other.pt"
        r = run(w.wfctl, "commit", "--onto", other, w.file)
        ok(r.returncode == 0 and not os.path.exists(f"{w.file}.weightfs"), "their own file may be gone, and the other one elsewhere", r)
        same(os.listdir(f"{w.dir}/elsewhere"), ["other.pt"], "nothing is left beside that")
    for name, edit in EDITS.items(): # after a commit and a second mount the log says what it touches, too
        with World() as w:
            w.mount()
            EDITS["set text"](w.mnt)
            run(w.wfctl, "commit", w.mnt)
            edit(w.mnt)
            run("sync", w.mnt)
            w.crash()
            patch(f"{w.mnt}/fc.weight", 0, b"efgh")
            run("sync", w.mnt)
            daemon = w.daemon()
            daemon.kill(9)
            daemon.wait()
            run("umount", "-l", w.mnt)
            checkpoint(w.file, lambda c: c.update({"fc.weight": Tensor("float32", (2, 4), floats(8))}))
            r = run(w.wfctl, "commit", "--onto", w.file, w.file)
            if r.returncode != 1 or "fc.weight" not in r.stderr:
                return ok(False, f"what a later mount touched is known, {name}", r)
    ok(True, "what a later mount touched is known")


need_fuse()
each_edit()
all_or_nothing()
other_states()
done()
