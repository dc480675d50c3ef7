#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where a mount may be and where its edits go: what cannot work is refused, or read-only, when it is mounted, and never hangs at
the first edit.

A mount that would hide the directory in which its own edits are kept is refused; one that comes to be hidden goes on. Usage: places.py BUILD_DIR. Prints TAP.
"""
import os
import subprocess
import sys

from kit import World, done, name_space, need_fuse, ok, read, run, same, skip, small_checkpoint, write

need_fuse()
BUILD = sys.argv[1]
ROOT = os.geteuid() == 0


def prepare(w):
    """w.dir/d/m.pt, the empty directories out/sub, and links to d and out."""
    for name in ("d", "d/inside", "out", "out/sub", "bind"):
        os.mkdir(f"{w.dir}/{name}")
    os.rename(w.file, f"{w.dir}/d/m.pt")
    w.file = f"{w.dir}/d/m.pt"
    os.symlink("d", f"{w.dir}/link")
    os.symlink("out", f"{w.dir}/outlink")


def mounted(w):
    return [line.split()[1] for line in open("/proc/self/mounts") if line.split()[1].startswith(w.dir) and " fuse.weightfs " in line]


def refused(w, what, where, *args, names=""):
    before = {n: read(f"{w.dir}/d/{n}") for n in os.listdir(f"{w.dir}/d") if n.endswith(".pt")}
    r = run(w.weightfs, *args, cwd=where)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and names in r.stderr and not mounted(w), f"{what}: refused with one line", r)
    same({n: read(f"{w.dir}/d/{n}") for n in before}, before, f"{what}: nothing has changed")


def hidden(w):
    d, m = w.dir, "m.pt"
    refused(w, "weightfs m.pt .", f"{d}/d", m, ".", names=m)
    refused(w, "above the checkpoint", d, "d/m.pt", d, names=m)
    refused(w, "through a link", d, f"{d}/d/m.pt", f"{d}/link", names=m)
    refused(w, "the checkpoint through a link", d, f"{d}/link/m.pt", "d", names=m)
    refused(w, "output= in the mount", d, "-o", "output=out/o.pt", "d/m.pt", "out", names="out/o.pt")
    refused(w, "output= deeper in the mount", d, "-o", f"output={d}/outlink/sub/o.pt", "d/m.pt", "out", names="o.pt")
    refused(w, "the source in the mount, output= elsewhere", d, "-o", "output=out/o.pt", "d/m.pt", "d", names=m)
    write(f"{d}/out/o.pt", b"")
    os.symlink("../out/o.pt", f"{d}/d/o.pt")
    refused(w, "output= is a link into the mount", d, "-o", "output=d/o.pt", "d/m.pt", "out", names="o.pt")
    w.mount()
    write(f"{w.mnt}/epoch", b"4\n")
    os.sync()
    fd = os.open(w.mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    w.crash()
    os.kill(w.daemon().pid, 9)
    run("umount", "-l", w.mnt)
    overlay = f"{w.file}.weightfs"
    refused(w, "over its own overlay", d, "d/m.pt", overlay, names=m)
    refused(w, "in its own overlay", d, "d/m.pt", f"{overlay}/data", names=m)
    if ROOT:
        run("mount", "--bind", f"{d}/d", f"{d}/bind")
        refused(w, "a bind mount of the checkpoint's directory", d, "bind/m.pt", "d", names=m)
        refused(w, "over a bind mount of it", d, "d/m.pt", "bind", names=m)
        run("umount", f"{d}/bind")
    w.mount()
    same(read(f"{w.mnt}/epoch"), b"4\n", "a directory beside it is none of these, and the edits are still there")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "unmounts")


def bounded(w, device, what, *command):
    """A command on a mount that may wait for itself: after a minute that is a failure, and the mount is taken down."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = child.communicate(timeout=60)
        return ok(child.returncode == 0, what, out)
    except subprocess.TimeoutExpired:
        ok(False, what, "it waits for ever")
        if not os.path.exists(f"/sys/fs/fuse/connections/{device}"):
            run("mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections")
        write(f"/sys/fs/fuse/connections/{device}/abort", b"1")
        child.wait()
        return False


def later(w):
    """The directory is covered, or renamed, while the checkpoint is mounted: it is still the one where edits go."""
    d, other = w.dir, f"{w.dir}/other.pt"
    small_checkpoint(other)

    def own():
        run("mount", "--bind", w.mnt, f"{d}/d")
        return lambda: run("umount", f"{d}/d")

    def foreign():
        r = run(w.weightfs, other, f"{d}/d")
        ok(r.returncode == 0, "another checkpoint is mounted over the directory", r)
        return lambda: same(run(w.wfctl, "umount", f"{d}/d").returncode, 0, "the other one unmounts")

    def renamed():
        os.rename(f"{d}/d", f"{d}/e")
        return lambda: os.rename(f"{d}/e", f"{d}/d")

    number = 20
    for what, cover in (("our own mount over it", own), ("another mount over it", foreign), ("renamed", renamed)):
        for options in ((), ("-o", "commit=append"), ("-o", f"output={d}/d/o.pt")):
            number += 1
            name = " ".join((what,) + tuple(o.replace(d, "") for o in options if o != "-o"))
            w.mount(*options)
            daemon, device = w.daemon(), os.minor(os.stat(w.mnt).st_dev)
            uncover = cover()
            good = bounded(w, device, f"{name}: the first edit", "sh", "-c", f"echo {number} > {w.mnt}/epoch && sync {w.mnt}")
            good = good and bounded(w, device, f"{name}: a commit", w.wfctl, "commit", w.mnt)
            good = good and bounded(w, device, f"{name}: an edit after it", "sh", "-c", f"echo {number + 100} > {w.mnt}/epoch")
            uncover()
            if good:
                r = run(w.wfctl, "umount", w.mnt)
                ok(r.returncode == 0, f"{name}: unmounts", r)
            daemon.wait(20)
            target = f"{d}/d/o.pt" if "output" in name else w.file
            run(w.weightfs, "-o", "ro", target, w.mnt)
            same(read(f"{w.mnt}/epoch"), f"{number + 100}\n".encode(), f"{name}: the file has it")
            run("umount", w.mnt)
            same(sorted(os.listdir(f"{d}/d")), sorted({"m.pt", "inside"} | ({"o.pt"} if "output" in name else set())), f"{name}: nothing else is left")
            if "output" in name:
                os.unlink(f"{d}/d/o.pt")
    run(w.weightfs, "-o", "ro", other, w.mnt)
    same([n for n in os.listdir(w.mnt) if "weightfs" in n], [], "the other checkpoint has got no keys")
    run("umount", w.mnt)


def allowed(w):
    """What looks like it."""
    d = w.dir
    for what, args in (("read-only over its own directory", ("-o", "ro", f"{d}/d/m.pt", f"{d}/d")),
                       ("in the checkpoint's directory", (f"{d}/d/m.pt", f"{d}/d/inside"))):
        r = run(w.weightfs, *args, cwd=f"{d}/d")
        ok(r.returncode == 0 and not r.stderr and read(f"{args[-1]}/epoch") == b"3\n", what, r)
        if "-o" not in args:
            write(f"{args[-1]}/epoch", b"4\n")
        r = run(w.wfctl, "umount", args[-1])
        ok(r.returncode == 0 and not mounted(w), f"{what}: unmounts", r)
    same(read(f"{d}/d/m.pt")[:2], b"PK", "the file is there again")


def unwritable(w):
    """Read-only, and the reason told; or refused where it was asked for."""
    d = w.dir
    refused(w, "output= in a directory that is not there", d, "-o", "output=nowhere/o.pt", "d/m.pt", "mnt", names="nowhere")
    refused(w, "output= is a directory", d, "-o", "output=out", "d/m.pt", "mnt", names="out")
    os.mkfifo(f"{d}/fifo")
    refused(w, "output= is a FIFO", d, "-o", "output=fifo", "d/m.pt", "mnt", names="fifo")
    cases = []
    if ROOT:
        run("mount", "-t", "tmpfs", "-o", "size=1m", "none", f"{d}/bind")
        small_checkpoint(f"{d}/bind/m.pt")
        run("mount", "-o", "remount,ro", f"{d}/bind")
        cases.append(("a read-only file system", f"{d}/bind/m.pt", "Read-only", (), None))
        if run("chattr", "+i", f"{d}/out").returncode == 0:
            run("chattr", "-i", f"{d}/out")
            cases.append(("a directory that nobody may change", f"{d}/d/m.pt", "not permitted", (), ("chattr", "{}i", f"{d}/d")))
        else:
            skip("a directory that nobody may change", "no chattr here")
        if run("sh", "-c", "command -v setpriv").returncode == 0:
            for path in (d, f"{d}/d"):
                os.chmod(path, 0o755)
            small_checkpoint(f"{d}/out/m.pt")
            os.chown(f"{d}/out/m.pt", 65534, 65534)
            os.chown(w.mnt, 65534, 65534)
            run("sh", "-c", f"cp -r {os.path.dirname(w.weightfs)} {d}/bin; mknod {d}/fuse c 10 229; chmod 666 {d}/fuse")
            user = (*name_space(), "sh", "-c", f'mount --bind {d}/fuse /dev/fuse && exec setpriv --reuid=65534 --regid=65534 '
                    '--clear-groups "$@"', "sh")
            cases.append(("a file of ours in somebody else's directory", f"{d}/out/m.pt", "out cannot be written: Permission", user, None))
            cases.append(("somebody else's file", f"{d}/d/m.pt", "it cannot be written: Permission", user, None))
        else:
            skip("somebody else's directory", "setpriv is missing")
    else:
        cases.append(("a directory that is not writable", f"{d}/d/m.pt", "Permission", (), ("chmod", "u{}w", f"{d}/d")))
    for what, file, reason, how, lock in cases:
        if lock:
            run(*(word.replace("{}", "+" if lock[0] == "chattr" else "-") for word in lock))
        program, tool = (f"{d}/bin/{n}" if how else f"{BUILD}/fs/{n}" for n in ("weightfs", "wfctl"))
        script = f"{program} {file} mnt && cat mnt/epoch && cat mnt/.weightfs/log && stat -c %a mnt/epoch; {tool} umount mnt"
        r = run(*how, "sh", "-c", script, cwd=d)
        if how and "/dev/fuse" in r.stderr:
            skip(what, r.stderr.strip())
            continue
        lines = r.stdout.splitlines()
        ok(r.returncode == 0 and r.stderr.count("\n") == 1 and "mounted read-only: " in r.stderr and reason in r.stderr,
           f"{what}: mounted read-only, and one line says why", r)
        ok(lines[0] == "3" and reason in lines[1] and lines[-1] == "444", f"{what}: read, with the reason in .weightfs/log", r)
        r = run(*how, program, "-o", "rw", file, "mnt", cwd=d)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and reason in r.stderr and not mounted(w), f"{what}: -o rw is refused", r)
        r = run(*how, "sh", "-c", f"{program} -o ro {file} mnt && cat mnt/epoch; {tool} umount mnt", cwd=d)
        ok((r.returncode, r.stdout, r.stderr) == (0, "3\n", ""), f"{what}: -o ro needs no line", r)
        if lock:
            run(*(word.replace("{}", "-" if lock[0] == "chattr" else "+") for word in lock))


for case in (hidden, allowed, unwritable) + ((later,) if ROOT else ()):
    with World(BUILD) as world:
        print(f"# {case.__name__}", flush=True)
        prepare(world)
        case(world)
        if ROOT:
            run("chattr", "-i", f"{world.dir}/d")
done()
