#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A backup is a file of its own: what is written into it changes no key, and no key changes it, also where the key shows the backup's bytes since
other content was refused. Ways in which a backup comes to be, ways to write, formats; what the page cache has and what the mount says are both
looked at.

Usage: backups.py BUILD_DIRECTORY. Prints TAP. tests/unit/test-twins.c has the table of the codec alone.
"""
import errno
import mmap
import os
import shutil
import sys
from collections import OrderedDict

import flatfile
from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "files"))
import dcpkit  # noqa: E402

need_fuse()
BUILD = sys.argv[1]
OLD, NEW = floats(6), floats(6, 50)
NOT_ITS_OWN = b"abcde"


# ---- formats: `x` is six floats ----

def torch_file(path):
    base = Storage("float32", floats(6, 20))
    save(path, OrderedDict([("x", Tensor("float32", (6,), OLD)), ("whole", Tensor("float32", (6,), b"", storage=base)),
                            ("row", Tensor("float32", (3,), b"", storage=base, offset=3)), ("n", 3)]))


def tied_file(path):
    tie = Tensor("float32", (6,), OLD)
    save(path, OrderedDict([("x", tie), ("tie", tie)]))


def safetensors(path):
    flatfile.make(path, {"x": ("F32", [6], OLD), "y": ("F32", [3], floats(3))})


def shards(path):
    os.mkdir(path)
    for name, tensor, content in (("1", "x", OLD), ("2", "y", floats(6, 9))):
        flatfile.make(f"{path}/model-0000{name}-of-00002.safetensors", {tensor: ("F32", [6], content)}, {"format": "pt"})
    write(f"{path}/model.safetensors.index.json", b'{"metadata": {"total_size": 48}, "weight_map": {"x": "model-00001-of-00002.safetensors", '
          b'"y": "model-00002-of-00002.safetensors"}}')


def distributed(path):
    d = dcpkit.Directory(path)
    d.tensor("x", "float32", (6,), OLD, cuts=[((0,), (4,)), ((4,), (2,))])
    d.tensor("y", "float32", (2,), floats(2))
    d.write()


FORMATS = {"a torch file": torch_file, "a tied tensor": tied_file, "safetensors": safetensors, "shards": shards, "a distributed checkpoint": distributed}


# ---- how the backup comes to be ----

def refused(path, content=NOT_ITS_OWN):
    try:
        write(path, content)
    except OSError as e:
        return e.errno
    return 0


def renamed(mnt, backup="x~"):
    os.rename(f"{mnt}/x", f"{mnt}/{backup}")
    same(refused(f"{mnt}/x"), errno.EINVAL, "content that does not fit is refused")
    return backup


def twice(mnt):
    renamed(mnt, "x.~1~")
    return renamed(mnt, "x.~2~")


def elsewhere(mnt):
    """The stand-in is put aside itself."""
    renamed(mnt)
    os.rename(f"{mnt}/x", f"{mnt}/.x.swp")
    same(refused(f"{mnt}/x"), errno.EINVAL, "and again, under a name that remembers the stand-in")
    return ".x.swp"


PAIRS = {"renamed": renamed, "a swap file": lambda mnt: renamed(mnt, ".x.swp"), "two backups": twice, "a stand-in put aside": elsewhere}


# ---- how one of the two is written ----

def in_place(path):
    with open(path, "r+b") as f:
        f.seek(4)
        f.write(NEW[4:12])


def mapped(path):
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[8:12] = NEW[8:12]


def holes(path):
    run("fallocate", "--punch-hole", "--offset", "4", "--length", "8", path)


def longer(path):
    with open(path, "r+b") as f:
        f.truncate(32)


WRITES = {"inside": in_place, "a mapping": mapped, "a hole": holes, "rows": longer, "all of it": lambda path: write(path, NEW),
          "a type": lambda path: os.setxattr(path, "user.torch.dtype", b"int32"),
          "a shape": lambda path: os.setxattr(path, "user.torch.shape", b"[2, 3]")}


def uncached(path):
    """What the mount says, whatever pages the kernel has."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as buffer:
            return bytes(buffer[:os.preadv(fd, [buffer], 0)])
    finally:
        os.close(fd)


def shown(mnt):
    return {name: (uncached(f"{mnt}/{name}"), read(f"{mnt}/{name}"), os.listxattr(f"{mnt}/{name}") and
                   [os.getxattr(f"{mnt}/{name}", f"user.torch.{a}") for a in ("dtype", "shape") if f"user.torch.{a}" in os.listxattr(f"{mnt}/{name}")])
            for name in sorted(os.listdir(mnt))}


def others(before, now, written, inos):
    """Those that changed, but for names of the file that was written."""
    return {name: now.get(name) for name in before if inos[name] != inos[written] and before[name] != now.get(name)}


def try_write(w, label, name, act):
    before, inos = shown(w.mnt), {n: os.stat(f"{w.mnt}/{n}").st_ino for n in os.listdir(w.mnt)}
    act(f"{w.mnt}/{name}")
    now = shown(w.mnt)
    same(others(before, now, name, inos), {}, f"{label}: into {name}, and no other file changes")
    ok(now[name] != before[name], f"{label}: {name} has it")


def commit(w):
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 0, "commits", r)


PHASES = {"live": lambda w: None, "committed": commit, "committed and killed": lambda w: (commit(w), w.crash()),
          "killed": lambda w: (run("sync", w.mnt), w.crash())}


def table(form, pair, phase, every=1):
    """Each way to write the backup, or the key, of a mount of its own; or every so many of them, others with each format and phase."""
    start = list(FORMATS).index(form) + list(PHASES).index(phase)
    for i, (way, act) in enumerate(WRITES.items()):
        if (i + start) % every:
            continue
        with World(BUILD, FORMATS[form]) as w:
            w.mount()
            backup = PAIRS[pair](w.mnt)
            PHASES[phase](w)
            label = f"{form}, {pair}, {phase}: {way}"
            first, second = (backup, "x") if i % 2 == 0 else ("x", backup)
            try_write(w, label, first, act)
            try_write(w, label, second, in_place)
            now = shown(w.mnt)
            run("sync", w.mnt)
            w.crash()
            same(shown(w.mnt), now, f"{label}: the same after a kill")
            w.umount()
            w.mount("-o", "ro")
            same(uncached(f"{w.mnt}/x"), now["x"][0], f"{label}: and in the checkpoint")
            w.umount()


def of_tools():
    """Whatever an editor leaves behind."""
    emacs = '(let ((make-backup-files t) (backup-inhibited nil) %s) (find-file-literally "x") (insert "abcde") (save-buffer))'
    for tool, command in {
            "sed": ["sed", "-i~", "1s/^/abcde/", "x"], "perl": ["perl", "-i~", "-pe", "s/^/abcde/", "x"],
            "vim": ["vim", "-N", "-b", "-u", "NONE", "-i", "NONE", "-es", "-c", "set backupskip= backup backupcopy=no", "-c", "1s/^/abcde/", "-c", "wq", "x"],
            "emacs": ["emacs", "-Q", "--batch", "--eval", emacs % ""],
            "emacs, by copying": ["emacs", "-Q", "--batch", "--eval", emacs % "(backup-by-copying t)"]}.items():
        if not shutil.which(command[0]):
            ok(True, f"{tool} # SKIP it is not installed")
            continue
        with World(BUILD, torch_file) as w:
            w.mount()
            run(*command, cwd=w.mnt)
            # perl makes the backup a second name; sed leaves nothing but the backup, which is the entry then
            apart = os.path.exists(f"{w.mnt}/x") and not (os.path.exists(f"{w.mnt}/x~") and os.path.samefile(f"{w.mnt}/x", f"{w.mnt}/x~"))
            want = OLD if apart else NEW
            left = [n for n in os.listdir(w.mnt) if n.startswith("x") and n != "x"]
            for name in left:
                try_write(w, f"{tool} left {name}", name, lambda path: write(path, NEW))
            commit(w)
            same(uncached(f"{w.mnt}/x"), want, f"{tool}: the key in the checkpoint")
            w.umount()


def gone_backup():
    """The backup is removed, or given to somebody else; one that is open stays as it was."""
    with World(BUILD, torch_file) as w:
        w.mount()
        renamed(w.mnt)
        with open(f"{w.mnt}/x~", "r+b") as orphan:
            os.unlink(f"{w.mnt}/x~")
            orphan.write(NEW)
            orphan.flush()
            same((os.pread(orphan.fileno(), 99, 0), uncached(f"{w.mnt}/x")), (NEW, OLD), "a backup without a name is written")
            in_place(f"{w.mnt}/x")
            same(os.pread(orphan.fileno(), 99, 0), NEW, "and the key behind it")
        commit(w)
        same(uncached(f"{w.mnt}/x"), OLD[:4] + NEW[4:12] + OLD[12:], "and committed")
        w.umount()
    with World(BUILD, torch_file) as w:
        w.mount()
        renamed(w.mnt)
        os.rename(f"{w.mnt}/x~", f"{w.mnt}/y")
        commit(w)
        same(os.stat(f"{w.mnt}/x").st_nlink, 1, "a backup that became a key is another key")
        w.umount()
        w.mount()
        in_place(f"{w.mnt}/y")
        same((uncached(f"{w.mnt}/x"), os.stat(f"{w.mnt}/x").st_nlink), (OLD, 1), "and it is that when it is opened again")
        w.umount()


def settled(w, label, x, backup):
    """After a kill, after a commit and another kill, and in the checkpoint."""
    for phase in ("killed", "committed and killed"):
        PHASES[phase](w)
        same((uncached(f"{w.mnt}/x"), uncached(f"{w.mnt}/x~")), (x, backup), f"{label}: {phase}")
    w.umount()
    w.mount("-o", "ro")
    same(uncached(f"{w.mnt}/x"), x, f"{label}: in the checkpoint")
    w.umount()


def close_refused(f):
    try:
        f.close()
    except OSError as e:
        return e.errno
    return 0


def open_files(form):
    """One of the two is in a writer's hands when the other one comes to be, is written, or is committed."""
    mixed = OLD[:4] + NEW[4:12] + OLD[12:]
    for mode, first, then in (("r+b", NEW[:4] + OLD[4:], NEW[:12] + OLD[12:]), ("wb", OLD, NEW)):
        with World(BUILD, FORMATS[form]) as w:
            w.mount()
            label = f"{form}, opened before, {mode}"
            with open(f"{w.mnt}/x", mode, buffering=0) as f:
                f.write(NEW[:4])
                renamed(w.mnt)
                same(uncached(f"{w.mnt}/x"), first, f"{label}: the key shows what was there")
                f.write(NEW[4:12] if mode == "r+b" else NEW[4:])
            same((uncached(f"{w.mnt}/x"), uncached(f"{w.mnt}/x~")), (first, then), f"{label}: the rest goes to the backup alone")
            settled(w, label, first, then)
    for held, other in (("x", "x~"), ("x~", "x")):
        with World(BUILD, FORMATS[form]) as w:
            w.mount()
            renamed(w.mnt)
            f = open(f"{w.mnt}/{held}", "wb", buffering=0)
            f.write(NEW[:9])
            in_place(f"{w.mnt}/{other}")
            commit(w)
            f.write(b"12")
            same(close_refused(f), errno.EINVAL, f"{form}, {held} is being written: what does not fit is refused")
            same((uncached(f"{w.mnt}/{held}"), uncached(f"{w.mnt}/{other}")), (OLD, mixed), f"{form}, {held} is being written: each has its own")
            settled(w, f"{form}, {held} was being written", *((OLD, mixed) if held == "x" else (mixed, OLD)))
    with World(BUILD, FORMATS[form]) as w:
        w.mount()
        renamed(w.mnt)
        f = open(f"{w.mnt}/x~", "wb", buffering=0)
        f.write(NEW[:9])
        PHASES["committed and killed"](w)
        close_refused(f)
        in_place(f"{w.mnt}/x~")
        same((uncached(f"{w.mnt}/x"), uncached(f"{w.mnt}/x~")), (OLD, mixed), f"{form}: a backup that somebody wrote at a commit is a file of its own")
        w.umount()


def failed_writers(form):
    """Somebody who wrote inside one of the two, or has only opened it, makes a bad end of it when the other one has changed."""
    mixed = OLD[:4] + NEW[4:12] + OLD[12:]
    for held, other in (("x", "x~"), ("x~", "x")):
        for inside in (b"", NEW[:4]):
            with World(BUILD, FORMATS[form]) as w:
                w.mount()
                renamed(w.mnt)
                f = open(f"{w.mnt}/{held}", "r+b", buffering=0)
                f.write(inside)
                in_place(f"{w.mnt}/{other}")
                f.seek(22)
                f.write(b"12345")
                label = f"{form}, {held} {'was written inside' if inside else 'is open'}"
                same(close_refused(f), errno.EINVAL, f"{label}: a size that does not fit is refused")
                same((uncached(f"{w.mnt}/{held}"), uncached(f"{w.mnt}/{other}")), (OLD, mixed), f"{label}: its own old bytes come back")
                settled(w, label, *((OLD, mixed) if held == "x" else (mixed, OLD)))


def links():
    """A second name is the same file, whatever it is called, as long as the count of links says so."""
    with World(BUILD, torch_file) as w:
        w.mount()
        for name in ("x", "n"):
            os.link(f"{w.mnt}/{name}", f"{w.mnt}/{name}~")
        for phase in PHASES:
            PHASES[phase](w)
            write(f"{w.mnt}/n~", b"%d\n" % len(phase))
            in_place(f"{w.mnt}/x~")
            same((uncached(f"{w.mnt}/n"), uncached(f"{w.mnt}/x"), *[os.stat(f"{w.mnt}/{n}").st_nlink for n in ("x", "x~", "n", "n~")]),
                 (b"%d\n" % len(phase), OLD[:4] + NEW[4:12] + OLD[12:], 2, 2, 2, 2), f"names of one file, {phase}")
        os.rename(f"{w.mnt}/whole", f"{w.mnt}/.new.swp")
        os.rename(f"{w.mnt}/.new.swp", f"{w.mnt}/x")
        in_place(f"{w.mnt}/x~")
        same(uncached(f"{w.mnt}/x"), floats(6, 20), "until another file has one of the names")
        w.umount()


# every form with one pair, every pair with one form
for at, form_ in enumerate(FORMATS):
    for phase_ in PHASES:
        table(form_, list(PAIRS)[at % len(PAIRS)], phase_, 1 if at == 0 else 3)
for pair_ in list(PAIRS)[1:]:
    table("a torch file", pair_, "committed and killed")
for form_ in ("a torch file", "a tied tensor", "safetensors"):
    open_files(form_)
    failed_writers(form_)
of_tools()
gone_backup()
links()
done()
