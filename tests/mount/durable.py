# SPDX-License-Identifier: MIT
"""When edits are safe: within five seconds without being asked, and never on the word of an fdatasync that follows a failed one.

Usage: durable.py BUILD_DIRECTORY DIE_AT_LIBRARY. Prints TAP.
"""
import errno
import os
import sys
import time

from kit import World, done, floats, need_fuse, ok, read, run, same, write

BUILD, LIBRARY = sys.argv[1], sys.argv[2]


def edit(w):
    os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")
    with open(f"{w.mnt}/fc.weight", "r+b") as f:
        f.write(b"abcd")
    write(f"{w.mnt}/new", floats(3))


def edited(w):
    return sorted(os.listdir(w.mnt)) == ["era", "fc.bias", "fc.weight", "new", "opt", "row", "tied"] and \
        read(f"{w.mnt}/fc.weight")[:4] == b"abcd" and read(f"{w.mnt}/new") == floats(3)


def fsync(w):
    fd = os.open(w.mnt, os.O_RDONLY)
    try:
        os.fsync(fd)
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)


def plan(w, text):
    write(f"{w.dir}/plan.new", text.encode())
    os.rename(f"{w.dir}/plan.new", f"{w.dir}/plan")


def mount_with_faults(w):
    plan(w, "0 setup")
    w.mount(env=dict(os.environ, LD_PRELOAD=LIBRARY, DIE_AT=f"{w.dir}/plan"))


def synced(w):
    """Waits for it, as long as a busy machine may take: the clock of the daemon is five seconds, and that of its disk is not."""
    end = time.monotonic() + 60
    while w.status()["pending"]["unsynced"] and time.monotonic() < end:
        time.sleep(0.05)  # nothing tells of it
    return not w.status()["pending"]["unsynced"]


def within_five_seconds():
    with World(BUILD) as w:
        w.mount()
        edit(w)
        same(synced(w), True, "edits are in the log after some seconds, unasked")
        w.crash()
        same(edited(w), True, "a kill after that loses none")
        os.unlink(f"{w.mnt}/new")
        same(synced(w), True, "later edits, too")
        same(sorted(os.listdir(f"{w.file}.weightfs/data")), ["0"], "and what nobody needs any more is gone")
        same(run(w.wfctl, "umount", w.mnt).returncode, 0, "committed")


def inodes(w):
    where = f"{w.file}.weightfs"
    return {name: os.stat(f"{where}/{name}").st_ino for name in ["log"] + [f"data/{n}" for n in os.listdir(f"{where}/data")]}


def failed_once():
    """The file whose fdatasync failed is another one when fsync says yes again. A third file is not: its word is good."""
    for at in (1, 2, 3):
        for first, error in (("fsync", "EIO"), ("commit", "EIO"), ("fsync", "ENOSPC")):
            with World(BUILD) as w:
                mount_with_faults(w)
                edit(w)
                before = inodes(w)
                plan(w, f"{at} {error} fdatasync")
                if first == "fsync":
                    same(errno.errorcode.get(fsync(w)), error, f"{first}, fdatasync {at} fails with {error}: reported")
                else:
                    r = run(w.wfctl, "commit", w.mnt)
                    ok(r.returncode == 1 and r.stderr.count("\n") == 1, f"{first}, fdatasync {at} fails: reported", r)
                same(edited(w), True, "the mount goes on")
                same(fsync(w), 0, "the next fsync works")
                after = inodes(w)
                same(sum(before[name] != after[name] for name in before), 1, "for the file was written anew")
                w.crash()
                same(edited(w), True, "and all is there after a kill")
                r = run(w.wfctl, "umount", w.mnt)
                ok(r.returncode == 0 and not os.path.exists(f"{w.file}.weightfs"), "and committed", r)


def failing_on():
    with World(BUILD) as w:
        mount_with_faults(w)
        edit(w)
        plan(w, "all EIO fdatasync")
        same([fsync(w) for _ in range(4)], [errno.EIO] * 4, "while fdatasync fails, each fsync does")
        r = run(w.wfctl, "commit", w.mnt)
        ok(r.returncode == 1 and "durable" in r.stderr, "and a commit", r)
        same([name for name in os.listdir(f"{w.file}.weightfs/data") if name.endswith(".new")], [], "no half-made copy is left")
        plan(w, "0 again")
        same(fsync(w), 0, "then it works")
        w.crash()
        same(edited(w), True, "and nothing was lost")
        w.umount()


need_fuse()
within_five_seconds()
failed_once()
failing_on()
done()
