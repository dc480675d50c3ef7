#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Entries under a scratch name, which no commit writes, outlive commits and kills, whatever they are: values, links,
mappings, tensors, views, arrays, and tensors inside of what is only described.

Usage: scratch.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import sys
from collections import OrderedDict, namedtuple

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

need_fuse()
Described = namedtuple("Described", "number tensor")
ASIDE = ".aside~"  # no editor's backup of the name before it: a commit leaves it where it is
MOVED = ("epoch", "name", "betas", "again", "d", "t", "row", "tied", "pair", "pair2", "both", "both2")


def make(path):
    shared, pair = {"lr": 0.1}, {"x": 1}
    base, tie = Storage("float32", floats(6)), Tensor("float32", (2,), floats(2, 20))
    own = Tensor("float32", (4,), floats(4, 30))
    save(path, OrderedDict([
        ("w", Tensor("float32", (2,), floats(2))), ("whole", Tensor("float32", (6,), b"", storage=base)), ("tie", tie),
        ("epoch", 3), ("name", "x" * 70000), ("betas", (0.9, 0.999)), ("opt", shared), ("again", shared),
        ("d", {"k": 1, "t": Tensor("float32", (2,), floats(2, 5)), "list": [1, own], "about": Described(2, own)}),
        ("t", Tensor("float32", (1, 3), floats(3, 7))), ("row", Tensor("float32", (3,), b"", storage=base, offset=3)),
        ("tied", tie), ("pair", pair), ("pair2", pair),
        ("both", Described(1, Tensor("float32", (2,), floats(2, 40)))), ("both2", Described(3, base_view(base)))]))


def base_view(base):
    return Tensor("float32", (2,), b"", storage=base, offset=1)


def three_views(path):
    base = Storage("float32", floats(6))
    save(path, OrderedDict([("first", Tensor("float32", (2,), floats(2))), ("view", Tensor("float32", (3,), b"", storage=base)),
                            ("aside", Tensor("float32", (3,), b"", storage=base, offset=3)), ("c", Tensor("float32", (1,), floats(1, 9)))]))


def shown(mnt, where="", suffix=""):
    """Everything below a directory. Of a container with two names the first that was put aside becomes the link."""
    at, found = f"{mnt}/{where}", []
    for name in os.listdir(at):
        path = f"{at}/{name}"
        plain = name.removesuffix(ASIDE)
        if plain in ("pair", "pair2"):
            found.append((plain, "pair", read(f"{path}/x")))
        elif os.path.islink(path):
            found.append((plain, "link", os.readlink(path).replace(ASIDE, "")))
        elif os.path.isdir(path):
            found.append((plain, os.getxattr(path, "user.torch.class"), shown(mnt, f"{where}/{name}")))
        else:
            shape = os.getxattr(path, "user.torch.shape") if "user.torch.shape" in os.listxattr(path) else None
            found.append((plain, shape, read(path)))
    return found


def aside(w, names=MOVED):
    for name in names:
        os.rename(f"{w.mnt}/{name}", f"{w.mnt}/{name}{ASIDE}")


def back(w, names=MOVED):
    for name in names:
        os.rename(f"{w.mnt}/{name}{ASIDE}", f"{w.mnt}/{name}")


def commit(w, what="commits"):
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 0, what, r)
    r = run(w.wfctl, "verify", w.file)
    ok(r.returncode == 0, "and the checkpoint is whole", r)


def in_checkpoint(w, before, what):
    """Unmounts, and looks at the new checkpoint in a mount of its own."""
    same((run(w.wfctl, "umount", w.mnt).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "commits at the end")
    w.mount("-o", "ro")
    same(sorted(shown(w.mnt)), sorted(before), what)
    same(os.stat(f"{w.mnt}/tie").st_ino, os.stat(f"{w.mnt}/tied").st_ino, "ties hold")
    same(read(f"{w.mnt}/row"), read(f"{w.mnt}/whole")[12:], "views of one storage, too")
    w.umount()


for mode in ("replace", "append"):
    with World(sys.argv[1], make) as w:
        w.mount("-o", f"commit={mode}")
        original = shown(w.mnt)
        aside(w)
        parked = shown(w.mnt)
        same(sorted(parked), sorted(original), f"{mode}: everything can be read under its scratch name")
        commit(w)
        same(shown(w.mnt), parked, "after a commit it is there as before")
        commit(w, "a second commit with nothing to do")
        write(f"{w.mnt}/w", floats(2, 9))
        commit(w, "and one with")
        os.truncate(f"{w.mnt}/t{ASIDE}", 12)
        write(f"{w.mnt}/w", floats(2))
        same(shown(w.mnt), parked, "after that one, too")
        back(w)
        same(sorted(shown(w.mnt)), sorted(original), "what was moved back is there again")
        in_checkpoint(w, original, "and the checkpoint has it")

with World(sys.argv[1], make) as w:
    w.mount()
    original = shown(w.mnt)
    aside(w)
    commit(w)
    parked = shown(w.mnt)
    w.crash()
    same(sorted(shown(w.mnt)), sorted(parked), "a kill right after the commit loses none of it")
    back(w)
    os.rename(f"{w.mnt}/w", f"{w.mnt}/last")
    before = shown(w.mnt)
    same(sorted(before), sorted([("last", *e[1:]) if e[0] == "w" else e for e in original]), "moved back")
    run("sync", w.mnt)
    w.crash()
    same(shown(w.mnt), before, "everything is there after another kill, and what was edited last")
    in_checkpoint(w, before, "and the checkpoint has it")

with World(sys.argv[1], make) as w:
    w.mount()
    os.mkdir(f"{w.mnt}/d/inner")
    write(f"{w.mnt}/d/note~", b"in a directory's own scratch")
    aside(w, ("d", "w"))
    commit(w)
    with open(f"{w.mnt}/w{ASIDE}", "r+b") as f, open(f"{w.mnt}/t", "r+b") as orphan:
        f.write(floats(1, 77))
        os.unlink(f"{w.mnt}/t")
        commit(w, "commits with a file open that has no name")
        same(orphan.read(), floats(3, 7), "which can still be read")
        orphan.seek(0)
        orphan.write(floats(5, 50))
        orphan.flush()
        os.ftruncate(orphan.fileno(), 40)
        write(f"{w.mnt}/epoch", b"4\n")
        run("sync", w.mnt)
        same((os.fstat(orphan.fileno()).st_size, os.pread(orphan.fileno(), 20, 0)), (40, floats(5, 50)), "written and resized")
    w.crash()
    same((read(f"{w.mnt}/w{ASIDE}"), read(f"{w.mnt}/epoch"), read(f"{w.mnt}/d{ASIDE}/note~")),
         (floats(1, 77) + floats(1, 1), b"4\n", b"in a directory's own scratch"), "edits of what is under scratch names are replayed")
    same(os.getxattr(f"{w.mnt}/d{ASIDE}/list", "user.torch.class"), b"list", "a list is a list")
    run(w.wfctl, "umount", w.mnt)
    same(run(w.wfctl, "verify", w.file).returncode, 0, "an unmount forgets what is under scratch names")

# torch wants the key 0 for the storage that the pickle names first: a commit may give storages other keys, and what was
# aside then must be written with them by the next
with World(sys.argv[1], three_views) as w:
    w.mount("-o", "commit=replace")
    os.unlink(f"{w.mnt}/first")
    aside(w, ("aside",))
    commit(w)
    back(w, ("aside",))
    commit(w)
    w.umount()
    w.mount("-o", "ro")
    same([read(f"{w.mnt}/{name}") for name in ("view", "aside", "c")], [floats(3), floats(3, 3), floats(1, 9)],
         "a view that was aside while its storage got another key")
    same(*[os.getxattr(f"{w.mnt}/{name}", "user.torch.storage") for name in ("view", "aside")], "is of that storage")
    w.umount()
with World(sys.argv[1], three_views) as w:
    w.mount("-o", "commit=replace")
    os.link(f"{w.mnt}/c", f"{w.mnt}/c~")
    commit(w)
    os.setxattr(f"{w.mnt}/c", "user.torch.shape", b"[1, 1]")
    w.umount()
    w.mount("-o", "ro")
    same(os.getxattr(f"{w.mnt}/c", "user.torch.shape"), b"[1, 1]", "an edit of a file that has a scratch name, too, is committed")
    w.umount()
done()
