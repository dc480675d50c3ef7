#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names that file managers and editors leave behind: files, directories and links of such names work while mounted, and never become keys.

Usage: leftovers.py BUILD_DIRECTORY. Prints TAP.
"""
import ctypes
import errno
import os
import shutil
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()
LEFTOVERS = [".Trash-1000", ".Trash-0", ".DS_Store", "._epoch", "._.DS_Store", "epoch~", "e.txt~", "epoch.~1~", "~", ".epoch.swp", ".epoch.swo", ".epoch.swx",
             ".w.bin.swn", ".epoch.kate-swp", ".#epoch", ".#a b", "#epoch#", "##", ".nfs000000000123abcd00000001", ".fuse_hidden0000000500000001",
             ".goutputstream-X7QKT3", "...swp"]
KEYS = ["epoch.swp", "DS_Store", ".DS_Store2", "#epoch", "epoch#", "#", "Trash-1000", "x.kate-swp", ".epoch.sw", ".epoch.swap", "nfs1", "a~b", ".goutputstream",
        "4913", ".hidden"]


def make(path):
    save(path, OrderedDict([("w", Tensor("float32", (2,), floats(2))), ("epoch", 3), ("d", {"k": 1, "old~": 5}), (".#kept", 7), ("#kept#", 8),
                            ("._w", Tensor("float32", (1,), floats(1, 4)))]))


FIRST = ["w", "epoch", "d", ".#kept", "#kept#", "._w"]


def refusal(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "done"


def exchange(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, a.encode(), -100, b.encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), a)


def keys(w):
    """Of the checkpoint as it is on the disk."""
    r = run(w.weightfs, "-o", "ro", w.file, w.mnt)
    ok(r.returncode == 0, "mounts", r)
    found = os.listdir(w.mnt), sorted(os.listdir(f"{w.mnt}/d"))
    w.umount()
    return found


def made(w, how):
    """Each name at the root and in a directory."""
    for at in (w.mnt, f"{w.mnt}/d"):
        for name in LEFTOVERS:
            how(f"{at}/{name}")


def as_file(path):
    write(path, b"x\n")
    with open(path, "ab") as f:
        f.write(b"more")
    os.truncate(path, 4)


def as_link(path):
    os.symlink("user@host.example.1234:1700000000", path)


FORMS = {"files": (as_file, lambda p: read(p) == b"x\nmo"),
         "directories": (os.mkdir, lambda p: os.path.isdir(p) and os.listdir(p) == []),
         "links to nowhere": (as_link, lambda p: os.readlink(p) == "user@host.example.1234:1700000000" and os.path.islink(p)),
         "absolute links": (lambda p: os.symlink("/no/such/place", p), lambda p: os.readlink(p) == "/no/such/place")}


def each_form():
    for form, (how, is_there) in FORMS.items():
        with World(sys.argv[1], make) as w:
            w.mount()
            made(w, how)
            everything = [f"{at}/{name}" for at in (w.mnt, f"{w.mnt}/d") for name in LEFTOVERS]
            same([p for p in everything if not is_there(p)], [], f"{form} can be made under all of the names")
            same(set(LEFTOVERS) - set(os.listdir(w.mnt)), set(), "and are listed")
            same(w.status()["dirty"], False, "which is no edit of the checkpoint")
            run("sync", w.mnt)
            w.crash()
            same([p for p in everything if not is_there(p)], [], "they outlive a kill")
            write(f"{w.mnt}/epoch", b"4\n")
            same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
            same([p for p in everything if not is_there(p)], [], "and a commit")
            run("sync", w.mnt)
            w.crash()
            same([p for p in everything if not is_there(p)], [], "and a kill after it")
            for p in everything[::2]:
                os.rmdir(p) if form == "directories" else os.unlink(p)
            same([p for p in everything[::2] if os.path.lexists(p)], [], "and can be removed")
            same(run(w.wfctl, "umount", w.mnt).returncode, 0, "unmounts")
            same(keys(w), (FIRST, ["k", "old~"]), "none is a key; those of the file are")


def other_names():
    with World(sys.argv[1], make) as w:
        w.mount()
        for name in KEYS:
            write(f"{w.mnt}/{name}", b"1\n")
        same(run(w.wfctl, "umount", w.mnt).returncode, 0, "commits")
        same(keys(w)[0], FIRST + KEYS, "names that only look like them are keys")


def keys_of_the_file():
    with World(sys.argv[1], make) as w:
        w.mount()
        write(f"{w.mnt}/#kept#", b"9\n")
        write(f"{w.mnt}/._w", floats(1, 5))
        os.rename(f"{w.mnt}/epoch", f"{w.mnt}/.#kept")
        os.rename(f"{w.mnt}/d/old~", f"{w.mnt}/d/new")
        same(run(w.wfctl, "umount", w.mnt).returncode, 0, "commits")
        same(keys(w), (["w", ".#kept", "d", "#kept#", "._w"], ["k", "new"]), "a key of the file is one whatever it is called")
        w.mount("-o", "ro")
        same((read(f"{w.mnt}/#kept#"), read(f"{w.mnt}/.#kept"), read(f"{w.mnt}/._w")), (b"9\n", b"3\n", floats(1, 5)), "with its content")
        w.umount()


def links_stay_outside():
    """What no checkpoint can hold does not get into one."""
    with World(sys.argv[1], make) as w:
        w.mount()
        as_link(f"{w.mnt}/.#w")
        os.makedirs(f"{w.mnt}/.Trash-1/files")
        as_link(f"{w.mnt}/.Trash-1/files/link")
        as_link(f"{w.mnt}/.Trash-1/files/second")
        got = [refusal(os.symlink, "nowhere", f"{w.mnt}/new"), refusal(os.rename, f"{w.mnt}/.#w", f"{w.mnt}/new"),
               refusal(os.link, f"{w.mnt}/.#w", f"{w.mnt}/new"), refusal(os.rename, f"{w.mnt}/.Trash-1/files", f"{w.mnt}/new"),
               refusal(exchange, f"{w.mnt}/.#w", f"{w.mnt}/w"), refusal(exchange, f"{w.mnt}/w", f"{w.mnt}/.#w")]
        same(got, ["EPERM"] * 6, "a link to nowhere becomes no key, alone or in a directory")
        os.rename(f"{w.mnt}/.#w", f"{w.mnt}/.Trash-1/w")
        os.unlink(f"{w.mnt}/.Trash-1/files/second")
        os.symlink("../../d", f"{w.mnt}/.Trash-1/files/d")
        same((os.readlink(f"{w.mnt}/.Trash-1/w")[:4], os.listdir(f"{w.mnt}/.Trash-1/files")), ("user", ["link", "d"]), "among themselves they move")
        same(sorted(os.listdir(f"{w.mnt}/.Trash-1/files/d")), ["k", "old~"], "and may lead into the checkpoint")
        shutil.rmtree(f"{w.mnt}/.Trash-1")
        same((run(w.wfctl, "umount", w.mnt).returncode, keys(w)), (0, (FIRST, ["k", "old~"])), "nothing of it is left")


def trash():
    """As a file manager deletes, looks, restores and empties."""
    with World(sys.argv[1], make) as w:
        w.mount()
        for part in ("files", "info"):
            os.makedirs(f"{w.mnt}/.Trash-1000/{part}")
        for name in ("w", "d", "epoch"):
            write(f"{w.mnt}/.Trash-1000/info/{name}.trashinfo", b"[Trash Info]\nPath=" + name.encode() + b"\nDeletionDate=2026-01-01T00:00:00\n")
            os.rename(f"{w.mnt}/{name}", f"{w.mnt}/.Trash-1000/files/{name}")
        write(f"{w.mnt}/.Trash-1000/directorysizes", b"16 1700000000 d\n")
        same(run(w.wfctl, "commit", w.mnt).returncode, 0, "a commit")
        same((read(f"{w.mnt}/.Trash-1000/files/w"), sorted(os.listdir(f"{w.mnt}/.Trash-1000/files/d"))), (floats(2), ["k", "old~"]),
             "leaves in the trash what is there")
        os.rename(f"{w.mnt}/.Trash-1000/files/w", f"{w.mnt}/w")
        os.unlink(f"{w.mnt}/.Trash-1000/info/w.trashinfo")
        r = run("rm", "-rf", f"{w.mnt}/.Trash-1000")
        ok(r.returncode == 0 and not r.stderr, "which can be emptied", r)
        same(run(w.wfctl, "umount", w.mnt).returncode, 0, "commits")
        w.mount("-o", "ro")
        same((sorted(os.listdir(w.mnt)), read(f"{w.mnt}/w")), (sorted(["w", ".#kept", "#kept#", "._w"]), floats(2)), "and only what was restored is a key")
        w.umount()


def committed(w, how):
    """The checkpoint after some edits, as (name, content) in order, and what the log says; by each way to commit."""
    if how == "kill":
        run("sync", w.mnt)
        w.crash()
    r = w.umount() if how == "umount" else run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 0 and not r.stderr, f"  {how}", r)
    log = "" if how == "umount" else read(f"{w.mnt}/.weightfs/log").decode()
    live = None if how == "umount" else shown(w)
    if how != "umount":
        w.umount()
    w.mount("-o", "ro")
    found = shown(w)
    w.umount()
    if live is not None:
        same(live, found, "  the mount says the same as the file")
    return found, log


def shown(w):
    """All but what is under a scratch name."""
    names = [n for n in os.listdir(w.mnt) if n in FIRST + ["v"]]
    return [(n, sorted(set(os.listdir(f"{w.mnt}/{n}")) - {"w~"}) if os.path.isdir(f"{w.mnt}/{n}") else read(f"{w.mnt}/{n}")) for n in names]


START = [("w", floats(2)), ("epoch", b"3\n"), ("d", ["k", "old~"]), (".#kept", b"7\n"), ("#kept#", b"8\n"), ("._w", floats(1, 4))]


def replaced(name, content):
    return [(n, content if n == name else c) for n, c in START]


def without(*names):
    return [e for e in START if e[0] not in names]


# what, edits, the checkpoint then, of which names the log speaks
INTERRUPTED = [
    ("a tensor whose only name is its backup", [("mv", "w", "w~")], START, ["w"]),
    ("a value", [("mv", "epoch", "epoch~")], START, ["epoch"]),
    ("a directory", [("mv", "d", "d~")], START, ["d"]),
    ("all of them", [("mv", "w", "w~"), ("mv", "epoch", "epoch~"), ("mv", "d", "d~"), ("mv", "._w", "._w~")], START, ["w", "epoch", "d", "._w"]),
    ("a numbered backup", [("mv", "w", "w.~1~")], START, ["w"]),
    ("a backup that was edited", [("mv", "epoch", "epoch~"), ("write", "epoch~", b"4\n")], replaced("epoch", b"4\n"), ["epoch"]),
    ("a backup by way of another name", [("mv", "w", ".#w"), ("mv", ".#w", "w~")], START, ["w"]),
    ("a backup of what replaced it", [("mv", "epoch", "epoch~"), ("write", "epoch", b"5\n")], replaced("epoch", b"5\n"), []),
    ("no backup of that name", [("mv", "w", "v~")], without("w"), []),
    ("another scratch name", [("mv", "w", ".#w"), ("mv", "epoch", "#epoch#")], without("w", "epoch"), []),
    ("a backup in another directory", [("mv", "w", "d/w~")], without("w"), []),
    ("a new file's backup", [("write", "new", b"1\n"), ("mv", "new", "new~")], START, []),
    ("one that was removed", [("mv", "w", "w~"), ("rm", "w~")], without("w"), []),
    ("one with another name", [("ln", "w", "v"), ("mv", "w", "w~")], [*without("w"), ("v", floats(2))], []),
    ("a key with such a name", [("mv", "._w", "x"), ("mv", "x", "._w"), ("mv", "#kept#", ".#kept"), ("mv", ".#kept", "#kept#")], without(".#kept"), []),
    ("one that is made anew", [("rm", "._w"), ("write", "._w", floats(1, 4))], START, []),
    ("one that was moved back", [("mv", "w", "w~"), ("mv", "w~", "w"), ("mv", "d", "d~"), ("mv", "d~", "d")], START, []),
    ("one whose name another entry took", [("mv", "epoch", "epoch~"), ("mv", "w", "epoch")], [("epoch", floats(2)), *without("w", "epoch")], []),
]


def backups():
    for what, edits, wanted, names in INTERRUPTED:
        for how in ("commit", "umount", "kill"):
            with World(sys.argv[1], make) as w:
                w.mount()
                for call, name, *more in edits:
                    path = f"{w.mnt}/{name}"
                    {"mv": lambda: os.rename(path, f"{w.mnt}/{more[0]}"), "ln": lambda: os.link(path, f"{w.mnt}/{more[0]}"),
                     "write": lambda: write(path, more[0]), "rm": lambda: os.unlink(path)}[call]()
                found, log = committed(w, how)
                same(found, wanted, f"{what}: {how}")
                if how == "commit":
                    same([n for n in names if f" is {n} again" not in log], [], "  the log says so")
                    same(log.count(" again: "), len(names), "  and nothing else")


each_form()
backups()
other_names()
keys_of_the_file()
links_stay_outside()
trash()
done()
