# SPDX-License-Identifier: MIT
"""An overlay directory is used only when it is ours. What somebody else put there is neither followed, waited for, used nor destroyed;
one line says so, and the checkpoint can be read.

Usage: strangers.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import shutil
import stat
import sys

from kit import World, done, need_fuse, ok, read, run, same, skip, write

BUILD = sys.argv[1]
NOBODY = 65534


def overlay_of_edits(w):
    """Leaves an overlay with a pending edit beside the checkpoint, as a kill does."""
    w.mount()
    os.rename(f"{w.mnt}/epoch", f"{w.mnt}/era")
    run("sync", w.mnt)
    with open(f"{w.mnt}/fc.weight", "r+b") as f:
        f.write(b"abcd")
        os.fsync(f.fileno())
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)
    return f"{w.file}.weightfs"


def photograph(directory):
    """Everything in it: kind, owner, links and, of regular files, the content."""
    seen = {}
    for where, dirs, files in os.walk(directory):
        for name in [""] + dirs + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            seen[path] = (stat.S_IFMT(st.st_mode), st.st_uid, st.st_nlink, st.st_ino,
                          read(path) if stat.S_ISREG(st.st_mode) else os.readlink(path) if stat.S_ISLNK(st.st_mode) else "")
    return seen


def left_alone(w, what):
    """No verb uses, waits for or changes it, and the file is shown."""
    overlay, file = f"{w.file}.weightfs", read(w.file)
    before = photograph(overlay)
    r = run(w.wfctl, "ls", w.file)
    ok(r.returncode == 0 and "fc.weight" in r.stdout and r.stderr.count("\n") == 1 and overlay in r.stderr, f"{what}: ls shows the file alone and says so", r)
    r = run(w.wfctl, "status", w.file)
    ok(r.returncode == 0 and '"dirty": false' in r.stdout, f"{what}: status", r)
    for verb in ("commit", "discard"):
        r = run(w.wfctl, verb, w.file)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and overlay in r.stderr, f"{what}: {verb} is refused in one line", r)
    r = w.mount("-o", "rw")
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and not w.mounts(), f"{what}: -o rw is refused in one line", r)
    for options in ((), ("-o", "ro")):
        r = w.mount(*options)
        if ok(r.returncode == 0 and overlay in r.stderr, f"{what}: a mount {' '.join(options)} says so", r):
            same((read(f"{w.mnt}/epoch"), w.status()["writable"]), (b"3\n", False), f"{what}: shows the file, read-only")
            w.umount()
    same(read(w.file) == file, True, f"{what}: the checkpoint is as it was")
    same(photograph(overlay), before, f"{what}: nothing in it was touched")


def replace(path, make):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    make(path)


def odd_files():
    kinds = {
        "FIFO": os.mkfifo,
        "symbolic link": lambda p: os.symlink(os.path.join(os.path.dirname(p.replace("/data/", "/")), "..", "victim"), p),
        "hard link": lambda p: os.link(os.path.join(os.path.dirname(p.replace("/data/", "/")), "..", "victim"), p),
        "directory": os.mkdir,
    }
    if os.geteuid() == 0:
        kinds["device"] = lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in ("log", "lock", "commit", "commit.new", "data", "data/0", "log.cut.1"):
        for kind, make in kinds.items():
            if name == "data" and kind == "directory":
                continue
            with World(BUILD) as w:
                overlay = overlay_of_edits(w)
                write(f"{w.dir}/victim", b"somebody's work")
                replace(f"{overlay}/{name}", make)
                left_alone(w, f"{name} is a {kind}")
                same(read(f"{w.dir}/victim"), b"somebody's work", f"{name} is a {kind}: what it points to is whole")


def odd_directories():
    for what, change in (("the overlay is a symbolic link", lambda p: (os.rename(p, p + ".real"), os.symlink(p + ".real", p))),
                         ("the overlay is a FIFO", lambda p: (shutil.rmtree(p), os.mkfifo(p))),
                         ("the overlay is a file", lambda p: (shutil.rmtree(p), write(p, b"x"))),
                         ("others can write to it", lambda p: os.chmod(p, 0o777)),
                         ("a group can write to it", lambda p: os.chmod(p, 0o770)),
                         ("others can write to data", lambda p: os.chmod(f"{p}/data", 0o707)),
                         ("others can write to the log", lambda p: os.chmod(f"{p}/log", 0o602))):
        with World(BUILD) as w:
            change(overlay_of_edits(w))
            left_alone(w, what)


def other_users():
    """A sticky directory where another user was first: root, and a third user, do not commit his edits."""
    if os.geteuid() != 0:
        return skip("other users", "not root")
    with World(BUILD) as w:
        overlay = overlay_of_edits(w)
        os.chmod(w.dir, 0o1777)
        for where, dirs, files in os.walk(overlay):
            for name in [""] + dirs + files:
                os.chown(os.path.join(where, name), NOBODY, -1)
        left_alone(w, "nobody's overlay")
        os.chown(f"{overlay}", 0, 0)
        left_alone(w, "nobody's log in a directory of ours")
    with World(BUILD) as w: # the checkpoint's owner and root are trusted, whoever asks
        overlay = overlay_of_edits(w)
        os.chmod(w.dir, 0o755)
        os.chown(w.file, NOBODY, -1)
        r = run(w.wfctl, "ls", w.file)
        ok(not r.stderr and run(w.wfctl, "status", w.file).stdout.count('"dirty": true') == 1, "root's overlay beside nobody's file is used", r)
        for where, dirs, files in os.walk(overlay):
            for name in [""] + dirs + files:
                os.chown(os.path.join(where, name), NOBODY, -1)
        r = run(w.wfctl, "commit", w.file)
        ok(r.returncode == 0, "the owner's overlay is used by root", r)
        w.mount("-o", "ro")
        same("era" in os.listdir(w.mnt), True, "and committed")
        w.umount()
    with World(BUILD) as w:
        overlay_of_edits(w)
        os.chmod(w.dir, 0o755)
        os.chmod(w.file, 0o644)
        r = run("setpriv", f"--reuid={NOBODY}", "--clear-groups", w.wfctl, "ls", w.file)
        ok(r.returncode == 0 and "fc.weight" in r.stdout and r.stderr.count("\n") == 1, "who may not look into it reads the file alone, with one line", r)


def our_own():
    """What we make ourselves is ours under every umask."""
    for umask in (0o022, 0o002, 0o000, 0o077):
        with World(BUILD) as w:
            old = os.umask(umask)
            try:
                overlay = overlay_of_edits(w)
                modes = {os.lstat(os.path.join(where, name)).st_mode & 0o077 for where, dirs, files in os.walk(overlay) for name in [""] + files}
                same(modes, {0}, f"umask {umask:03o}: nobody else gets at it")
                r = w.mount()
                ok(r.returncode == 0 and not r.stderr and "era" in os.listdir(w.mnt), f"umask {umask:03o}: the next mount has the edit", r)
                w.umount()
            finally:
                os.umask(old)


need_fuse()
odd_files()
odd_directories()
other_users()
our_own()
done()
