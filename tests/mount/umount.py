#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl umount while somebody else holds the mount: what is edited is committed, what can go goes, one line says who holds the rest.

Never without an end: each call has a minute. Usage: umount.py BUILD_DIR. Prints TAP.
"""
import mmap
import os
import subprocess
import sys

from kit import World, done, name_space, need_fuse, ok, read, run, same, skip, write

need_fuse()
BUILD = sys.argv[1]
ROOT = os.geteuid() == 0


def umount(w, path=None, cwd=None):
    try:
        return subprocess.run([w.wfctl, "umount", path or w.mnt], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=60, cwd=cwd)
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(e.cmd, 124, "", "does not end")


def went(r):
    """A test beside this one can have a mount name space at this moment, and with it the mount: its daemon ends later then."""
    return r.returncode == 0 or "unmounted here, but its daemon goes on" in r.stderr


def committed(w, value):
    """What the checkpoint itself says."""
    os.makedirs(f"{w.dir}/look", exist_ok=True)
    r = run(w.weightfs, "-o", "ro", w.file, f"{w.dir}/look")
    got = read(f"{w.dir}/look/epoch") if r.returncode == 0 else r
    run("umount", f"{w.dir}/look")
    return got == value


def waiting(w, *command, **options):
    """A process that holds the mount until its standard input is closed, and has said so."""
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    p.stdout.readline()
    return p


def end(p):
    p.stdin.close()
    p.wait()
    p.stdout.close()


def bind(w):
    os.mkdir(f"{w.dir}/b")
    run("mount", "--bind", w.mnt, f"{w.dir}/b")
    return f"{w.dir}/b", f"is mounted at {w.mnt}", lambda: None


def under_bind(w):
    os.mkdir(f"{w.dir}/b")
    run("mount", "--bind", f"{w.mnt}/opt", f"{w.dir}/b")
    return w.mnt, f"is mounted at {w.dir}/b", lambda: run("umount", f"{w.dir}/b")


def another_name_space(w):
    p = waiting(w, *name_space(w.dir), "sh", "-c", "echo; read x")
    return w.mnt, f"process {p.pid} (sh) has it at {w.mnt} in another mount name space", lambda: end(p)


def detached(w):
    """Elsewhere it was unmounted lazily, with a file open."""
    os.mkdir(f"{w.dir}/b")
    run("mount", "--bind", w.mnt, f"{w.dir}/b")
    p = waiting(w, "sh", "-c", f"exec 3<{w.dir}/b/epoch; echo; read x")
    run("umount", "-l", f"{w.dir}/b")
    return w.mnt, f"process {p.pid} (sh) has a file of it open", lambda: end(p)


def working(w):
    p = waiting(w, "sh", "-c", "echo; read x", cwd=f"{w.mnt}/opt")
    return w.mnt, f"process {p.pid} (sh) works in it", lambda: end(p)


def opened(w):
    p = waiting(w, "sh", "-c", f"exec 3<{w.mnt}/fc.bias; echo; read x")
    return w.mnt, f"process {p.pid} (sh) has a file of it open", lambda: end(p)


def mapped(w):
    code = (f"import mmap, sys\nwith open('{w.mnt}/fc.weight', 'rb') as f:\n    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
            "import os; os.closerange(3, 10)\nprint(flush=True)\nsys.stdin.read()")
    p = waiting(w, sys.executable, "-c", code)
    return w.mnt, f"process {p.pid} (python3", lambda: end(p)


def covered(w):
    run("mount", "-t", "tmpfs", "none", f"{w.mnt}/opt")
    return w.mnt, f"{w.mnt}/opt is mounted in it", lambda: run("umount", f"{w.mnt}/opt")


# what holds the mount; whether it goes all the same; whether it needs root
HOLDERS = ((bind, True, True), (under_bind, True, True), (another_name_space, True, True), (detached, True, True), (working, False, False),
           (opened, False, False), (mapped, False, False), (covered, False, True))


def table(w, prepare, goes):
    what = prepare.__name__
    w.mount()
    daemon = w.daemon()
    path, who, release = prepare(w)
    write(f"{w.mnt}/epoch", b"12\n")
    r = umount(w, path)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1, f"{what}: ends with one line", r)
    ok(who in r.stderr and ("committed and unmounted here" if goes else "committed, but not unmounted") in r.stderr,
       f"{what}: it says who holds the mount", r)
    ok(committed(w, b"12\n"), f"{what}: the edit is committed")
    still = {line.split()[1] for line in open("/proc/self/mounts") if line.split()[1].startswith(w.dir)}
    same(path in still, not goes, f"{what}: {'gone from there' if goes else 'left where it is'}")
    release()
    if not goes or path != w.mnt:
        r = umount(w)
        ok(went(r), f"{what}: afterwards it unmounts", r)
    ok(daemon.wait(60) and not w.mounts(), f"{what}: and the daemon ends")


def itself(w):
    w.mount()
    write(f"{w.mnt}/epoch", b"5\n")
    r = umount(w, ".", cwd=w.mnt)
    ok((r.returncode == 0 or "daemon goes on" in r.stderr) and not w.mounts(), "wfctl umount . unmounts: it does not stand in its own way", r)
    w.mount("-o", "ro")
    w.mount("-o", "ro")
    r = umount(w)
    ok(went(r) and len(w.mounts()) == 1 and read(f"{w.mnt}/epoch") == b"5\n", "of two mounts on one directory the upper one goes", r)
    p = waiting(w, "sh", "-c", f"exec 3<{w.mnt}/epoch; echo; read x")
    r = umount(w)
    ok(r.returncode == 1 and ": not unmounted: process" in r.stderr, "a read-only mount has nothing to commit", r)
    end(p)
    daemon = w.daemon()
    r = umount(w)
    ok(went(r) and not w.mounts() and daemon.wait(20), "and goes", r)


for holder, goes_all_the_same, needs_root in HOLDERS:
    if needs_root and (not ROOT or run("unshare", "-m", "true").returncode != 0):
        skip(holder.__name__, "needs root and mount name spaces")
        continue
    with World(BUILD) as world:
        print(f"# {holder.__name__}", flush=True)
        table(world, holder, goes_all_the_same)
with World(BUILD) as world:
    print("# itself", flush=True)
    itself(world)
done()
