# SPDX-License-Identifier: MIT
"""The checkpoint is not the one that the edits were made on, or not at first sight: touched, copied, moved, restored from a backup,
replaced, cut short by an append that was killed. Edits and recovery marks find their file by its content, and whatever is in doubt is
left alone.

Usage: stale.py BUILD_DIRECTORY DIE_AT_LIBRARY. Prints TAP.
"""
import io
import os
import shutil
import sys
import zipfile

from collections import OrderedDict

import kit
from kit import done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

BUILD, LIBRARY = sys.argv[1], sys.argv[2]


def World(build):
    return kit.World(build, checkpoint)


def edit(w):
    os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")
    with open(f"{w.mnt}/fc.weight", "r+b") as f:
        f.write(b"abcd" * (1 << 19))
    run("sync", w.mnt)


def kill(w):
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)


def is_edited(w):
    return "era" in os.listdir(w.mnt) and read(f"{w.mnt}/fc.weight")[:4] == b"abcd"


def committed(w):
    """Unmounts with a commit; the file alone has the edits then."""
    r = run(w.wfctl, "umount", w.mnt)
    if r.returncode:
        return ok(False, "umount", r)
    w.mount("-o", "ro")
    good = is_edited(w) and not os.path.exists(f"{w.file}.weightfs")
    w.umount()
    return good


# ---- an append that was killed

def killed_append(w, at):
    """A commit=append that dies at its Nth call. Returns the file of before; at 0: the number of calls."""
    old, plan = read(w.file), f"{w.dir}/plan"
    write(plan, b"0 setup")
    w.mount("-o", "commit=append", env=dict(os.environ, LD_PRELOAD=LIBRARY, DIE_AT=plan))
    edit(w)
    daemon = w.daemon()
    write(plan, f"{at} kill".encode() if at else b"0 commit")
    r = run(w.wfctl, "commit", w.mnt)
    if not at:
        return int(read(f"{plan}.count")) if ok(r.returncode == 0, "a commit", r) else 0
    daemon.wait()
    run("umount", "-l", w.mnt)
    return old


def is_whole(content):
    return content[-22:-18] == b"PK\5\6" and zipfile.ZipFile(io.BytesIO(content)).testzip() is None


def checkpoint(path):
    """The small one, with a tensor that is written in several calls."""
    save(path, OrderedDict([("fc.weight", Tensor("float32", (1 << 20,), bytes(1 << 22))), ("fc.bias", Tensor("float32", (2,), floats(2, 10))),
                            ("epoch", 3)]))


def torn_points():
    """A call at which the file is torn, and one at which the append is there whole, but not marked so."""
    torn = whole = 0
    with World(BUILD) as w:
        calls = killed_append(w, 0)
        w.umount()
    for at in range(1, calls + 1):
        with World(BUILD) as w:
            old = killed_append(w, at)
            if len(read(w.file)) > len(old) and os.path.exists(f"{w.file}.weightfs/commit"):
                torn, whole = (torn, whole or at) if is_whole(read(w.file)) else (at, whole)
    ok(torn and whole, "appends are killed where the file is torn, and where it is whole", (torn, whole))
    return torn, whole


def copy(w):
    shutil.copyfile(w.file, f"{w.dir}/copy")
    os.rename(f"{w.dir}/copy", w.file)


def move(w):
    for suffix in (".weightfs", ""):
        os.rename(w.file + suffix, f"{w.dir}/moved.pt{suffix}")
    w.file = f"{w.dir}/moved.pt"


def move_by_copy(w):
    run("cp", "-r", w.file, f"{w.dir}/moved.pt")
    run("cp", "-r", f"{w.file}.weightfs", f"{w.dir}/moved.pt.weightfs")
    w.file = f"{w.dir}/moved.pt"


def touch(w):
    os.utime(w.file, (1, 1))


def stay(w):
    pass


def mark(w):
    return read(f"{w.file}.weightfs/commit")


def after_killed_append(torn, whole):
    for name, at, change in [(f"{change.__name__}, {state}", at, change) for state, at in (("torn", torn), ("whole", whole))
                             for change in (stay, touch, copy, move, move_by_copy)]:
        # a copy that ends whole may be a later state: in doubt
        doubt = at == whole and change in (copy, move_by_copy)
        for verb in ("discard", "mount"):
            with World(BUILD) as w:
                old = killed_append(w, at)
                change(w)
                now = read(w.file)
                if verb == "discard":
                    r = run(w.wfctl, "discard", w.file)
                    gone = not os.path.exists(f"{w.file}.weightfs")
                    if doubt:
                        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and mark(w) and read(w.file) == now, f"{name}: discard leaves what is in doubt", r)
                    else:
                        ok(r.returncode == 0 and gone and read(w.file) == old, f"{name}: discard undoes the append", r)
                else:
                    r = w.mount()
                    if doubt:
                        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and mark(w) and read(w.file) == now, f"{name}: a mount leaves what is in doubt", r)
                        r = run(w.wfctl, "ls", w.file)
                        ok(r.returncode == 0 and "fc.weight" in r.stdout and r.stderr.count("\n") == 1, f"{name}: it can be listed", r)
                    else:
                        ok(r.returncode == 0 and is_edited(w) and read(w.file) == old, f"{name}: a mount has file and edits back", r)
                        same(committed(w), True, f"{name}: and commits them")


def another_file_there(torn):
    """The torn file is elsewhere: the mark that can mend it must stay."""
    def restore(w, old):
        write(w.file, old)

    def other(w, old):
        with World(BUILD) as v:
            v.mount()
            write(f"{v.mnt}/epoch", b"77\n")
            run(v.wfctl, "umount", v.mnt)
            shutil.copyfile(v.file, w.file)

    def later(w, old):
        """What a backup of a later day may have: the same file, with an append that was finished."""
        write(w.file, old)
        with kit.World(BUILD, lambda path: write(path, old)) as v:
            v.mount("-o", "commit=append")
            write(f"{v.mnt}/epoch", b"78\n")
            run(v.wfctl, "umount", v.mnt)
            ok(read(v.file)[:len(old)] == old and len(read(v.file)) > len(old), "a finished append to the same file")
            shutil.copyfile(v.file, w.file)

    for name, put, doubt in (("a restored backup", restore, False), ("another checkpoint", other, True), ("a later state", later, True),
                             ("nothing", None, True)):
        with World(BUILD) as w:
            old = killed_append(w, torn)
            os.rename(w.file, f"{w.dir}/torn.pt")
            if put:
                put(w, old)
            now = read(w.file) if put else None
            r = run(w.wfctl, "discard", w.file)
            if not doubt:
                ok(r.returncode == 0 and read(w.file) == old and not os.path.exists(f"{w.file}.weightfs"), f"{name} is there: the edits are dropped", r)
                continue
            ok(r.returncode == 1 and r.stderr.count("\n") == 1 and mark(w), f"{name} is there: discard is refused", r)
            if put:
                r = run(w.wfctl, "ls", w.file)
                ok(r.returncode == 0 and "fc.weight" in r.stdout and r.stderr.count("\n") == 1, f"{name} is there: and can be read", r)
                r = w.mount("-o", "ro")
                ok(r.returncode == 0 and "epoch" in os.listdir(w.mnt) and r.stderr.count("\n") == 1, f"{name} is there: a read-only mount shows it", r)
                w.umount()
                r = w.mount()
                ok(r.returncode == 1 and r.stderr.count("\n") == 1, f"{name} is there: no writer", r)
                same(read(w.file), now, f"{name} is there: and stays as it is")
            os.rename(f"{w.dir}/torn.pt", w.file)
            r = w.mount()
            ok(r.returncode == 0 and is_edited(w) and read(w.file) == old, f"{name} was there: with the torn file back all is well", r)
            w.umount()


# ---- touched, copied, replaced

def touched():
    with World(BUILD) as w:
        w.mount("-o", "rw")
        edit(w)
        os.utime(w.file, (5, 5))
        same((read(f"{w.mnt}/fc.bias"), is_edited(w)), (floats(2, 10), True), "a touched checkpoint can be read")
        r = run(w.wfctl, "commit", w.mnt)
        ok(r.returncode == 0, "and committed to", r)
        edit2 = f"{w.mnt}/fc.bias"
        with open(edit2, "r+b") as f:
            f.write(b"efgh")
        os.utime(w.file)
        same(committed(w), True, "twice, at the unmount, too")
    for change in (touch, copy, move, move_by_copy):
        with World(BUILD) as w:
            w.mount()
            edit(w)
            kill(w)
            change(w)
            r = w.mount()
            ok(r.returncode == 0 and not r.stderr and is_edited(w), f"{change.__name__}: the next mount has the edits", r)
            same(committed(w), True, f"{change.__name__}: and commits them")


def changed(w):
    """The same size and times, and another tensor."""
    st, content = os.stat(w.file), bytearray(read(w.file))
    at = content.find(floats(2, 10))
    content[at:at + 8] = floats(2, 20)
    write(w.file, content)
    os.utime(w.file, ns=(st.st_atime_ns, st.st_mtime_ns))


def underneath():
    for live in (True, False):
        with World(BUILD) as w:
            w.mount()
            edit(w)
            if live:
                changed(w)
                os.utime(w.file)
                r = run(w.wfctl, "commit", w.mnt)
                ok(r.returncode == 1 and "--onto" in r.stderr and r.stderr.count("\n") == 1, "changed underneath: the commit is refused with a way out", r)
                w.umount()
            else:
                kill(w)
                changed(w)
            log = read(f"{w.file}.weightfs/log")
            r = run(w.wfctl, "ls", w.file)
            ok(r.returncode == 0 and "fc.weight" in r.stdout and f"{w.file}.weightfs" in r.stderr and r.stderr.count("\n") == 1, "ls shows the file alone and says that edits wait", r)
            r = w.mount("-o", "ro")
            ok(r.returncode == 0 and r.stderr.count("\n") == 1 and "--onto" in r.stderr, "a read-only mount as well", r)
            same((read(f"{w.mnt}/fc.bias"), "epoch" in os.listdir(w.mnt)), (floats(2, 20), True), "it has the new content")
            w.umount()
            r = w.mount()
            ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "--onto" in r.stderr, "no writer", r)
            same(read(f"{w.file}.weightfs/log") == log, True, "the edits are kept")
            r = run(w.wfctl, "discard", w.file)
            ok(r.returncode == 0 and not os.path.exists(f"{w.file}.weightfs"), "and can be dropped", r)


need_fuse()
points = torn_points()
after_killed_append(*points)
another_file_there(points[0])
touched()
underneath()
done()
