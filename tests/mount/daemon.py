#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon's life: starting, failing to start, options, signals, ends good and bad.

Usage: daemon.py BUILD_DIR. Prints TAP.
"""
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

from kit import World, done, name_space, need_fuse, ok, read, run, same, skip, wait_mounted, write

need_fuse()
BUILD = sys.argv[1]
ROOT = os.geteuid() == 0


def refused(world, what, status, *command, names=None):
    """One line on stderr, the exit status, nothing mounted."""
    r = run(*command)
    good = r.returncode == status and r.stderr.count("\n") == 1 and not world.mounts() and not r.stdout
    ok(good and (names is None or names in r.stderr), f"refused in one line: {what}", f"{r} {world.mounts()}")


def start_and_stop(w):
    r = w.mount()
    ok(r.returncode == 0 and r.stderr == "" and r.stdout == "", "mounting returns 0 and says nothing", r)
    ok(os.listdir(w.mnt) == ["fc.weight", "fc.bias", "tied", "row", "epoch", "opt"], "the mount answers when the command returns",
       os.listdir(w.mnt))
    source, _, kind, options = w.mounts()[0][:4]
    same((source, kind), (w.file, "fuse.weightfs"), "source and type of the mount")
    ok({"rw", "nosuid", "nodev", "noexec"} <= set(options.split(",")), "nosuid, nodev, noexec; writable as the file is", options)
    d = w.daemon()
    same(os.readlink(f"/proc/{d.pid}/cwd"), "/", "the daemon holds no directory")
    same({os.readlink(f"/proc/{d.pid}/fd/{fd}") for fd in (0, 1, 2)}, {"/dev/null"}, "its standard files are /dev/null")
    same(os.getsid(d.pid), d.pid, "it leads a session of its own")
    ok(run("umount", w.mnt).returncode == 0 and d.wait(), "umount ends the daemon")
    same(sorted(os.listdir(w.dir)), ["m.pt", "mnt"], "nothing is left beside the checkpoint")


def failures(w):
    m = w.weightfs
    broken = f"{w.dir}/broken.pt"
    write(broken, read(w.file)[:-40])
    write(f"{w.dir}/page.pt", b"<!DOCTYPE html><html></html>")
    refused(w, "no checkpoint of that name", 1, m, f"{w.dir}/none.pt", w.mnt, names="none.pt")
    refused(w, "a truncated checkpoint", 1, m, broken, w.mnt, names="broken.pt")
    refused(w, "a web page", 1, m, f"{w.dir}/page.pt", w.mnt, names="HTML")
    refused(w, "a directory as the checkpoint", 1, m, w.dir, w.mnt)
    refused(w, "no such mount point", 1, m, w.file, f"{w.dir}/nowhere", names="nowhere")
    refused(w, "a file as the mount point", 1, m, w.file, w.file, names=w.file)
    refused(w, "an unknown mount option", 2, m, "-o", "bogus", w.file, w.mnt, names="bogus")
    refused(w, "an unknown flag", 2, m, "-x", w.file, w.mnt, names="-x")
    refused(w, "one argument", 2, m, w.file)
    refused(w, "three arguments", 2, m, w.file, w.mnt, w.mnt)
    refused(w, "ro and rw at once", 2, m, "-o", "ro,rw", w.file, w.mnt)
    refused(w, "a commit mode that does not exist", 2, m, "-o", "commit=maybe", w.file, w.mnt, names="commit")
    refused(w, "uid that is no number", 2, m, "-o", "uid=me", w.file, w.mnt, names="uid")
    refused(w, "a device that does not exist", 1, m, "-o", "map_location=tpu", w.file, w.mnt, names="map_location")
    for options, names in (([], "MOUNTPOINT"), (["-o", "ro"], "MOUNTPOINT")):
        refused(w, f"an empty name as the mount point, {options}", 2, m, *options, w.file, "", names=names)
    refused(w, "an empty name for the output", 2, m, "-o", "output=", w.file, w.mnt, names="output")
    refused(w, "preload without map_location", 2, m, "-o", "preload", w.file, w.mnt, names="preload")
    for flag in ("-h", "--help"):
        r = run(m, flag)
        ok(r.returncode == 0 and r.stdout.startswith("usage: weightfs") and not r.stderr, f"{flag} goes to standard output", r)
    for flag in ("-V", "--version"):
        ok(run(m, flag).stdout.startswith("weightfs "), f"{flag} prints the version")


def no_descriptors(w):
    """A caller that closed its standard files must not find a checkpoint behind them."""
    r = run("sh", "-c", f"exec <&- >&- 2>&-; {w.weightfs} '{w.file}' '{w.mnt}'")
    ok(r.returncode == 0 and read(f"{w.mnt}/epoch") == b"3\n", "mounts with closed standard files", r)
    w.umount()


def odd_paths(w):
    odd = f"{w.dir}/a b,c\\d\n.pt"
    os.rename(w.file, odd)
    r = run(w.weightfs, os.path.basename(odd), "mnt", cwd=w.dir)
    ok(r.returncode == 0 and w.status()["checkpoint"] == odd, "relative paths; blank, comma, backslash and newline in a name", r)
    odd_mnt = f"{w.dir}/m n\\040#"
    os.mkdir(odd_mnt)
    r = run(w.weightfs, odd, odd_mnt)
    ok(r.returncode == 1 and f"mounted on {w.mnt}" in r.stderr, "the table of mounts says where it is mounted", r)
    r = run(w.weightfs, "-o", "ro", odd, odd_mnt)
    told = run(w.wfctl, "umount", f"{odd_mnt}/opt")
    ok(r.returncode == 0 and told.returncode == 1 and f"inside the one on {odd_mnt}" in told.stderr, "and what a directory is in", told)
    same(run(w.wfctl, "umount", odd_mnt).returncode, 0, "both unmount")
    w.umount()
    os.rename(odd, w.file)
    os.symlink("m.pt", f"{w.dir}/link.pt")
    r = run(w.weightfs, f"{w.dir}/link.pt", w.mnt)
    ok(r.returncode == 0 and w.status()["checkpoint"] == w.file, "a symbolic link to the checkpoint is resolved", r)
    w.umount()


def options(w):
    w.mount("-o", "ro")
    ok("ro" in w.mounts()[0][3].split(",") and not w.status()["writable"], "-o ro")
    same(stat.S_IMODE(os.stat(f"{w.mnt}/epoch").st_mode), 0o444, "files of a read-only mount have no write bits")
    w.umount()
    w.mount("-o", "uid=1234,gid=2345,umask=077")
    st = os.stat(f"{w.mnt}/epoch")
    same((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (1234, 2345, 0o600), "uid, gid and umask of files")
    same(stat.S_IMODE(os.stat(f"{w.mnt}/opt").st_mode), 0o700, "umask of directories")
    w.umount()
    w.mount("-s")
    same(len(os.listdir(f"/proc/{w.daemon().pid}/task")) <= 4, True, "-s serves from one thread (the others tell the kernel of changes, write the log, and wait for signals)")
    same(read(f"{w.mnt}/opt/lr"), b"0.1\n", "-s reads")
    w.umount()
    if ROOT:
        w.mount("-o", "allow_other")
        ok({"allow_other", "default_permissions"} <= set(w.mounts()[0][3].split(",")), "allow_other brings default_permissions")
        w.umount()
        for limit, wanted in ((None, None), ("noatime", "noatime")):
            if limit:
                w.mount("-o", limit)
                ok(wanted in w.mounts()[0][3], f"-o {limit} reaches the kernel", w.mounts())
                w.umount()
        os.chmod(w.file, 0o444)
    # options of mount(8) and fstab that are not for a file system
    r = w.mount("-o", "rw,nofail,noauto,user,x-systemd.automount,_netdev,exec,suid,dev")
    ok(r.returncode == 0 and {"nosuid", "nodev", "noexec"} <= set(w.mounts()[0][3].split(",")),
       "options of fstab are taken, and cannot make the mount less safe", r)
    w.umount()
    os.chmod(w.file, 0o644)


def foreground(w):
    child = subprocess.Popen([w.weightfs, "-f", w.file, w.mnt], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_mounted(w)
    ok(w.status()["pid"] == child.pid, "-f stays in the foreground")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    ok(child.returncode == 0 and not err and not w.mounts(), "SIGINT unmounts, exit 0", (child.returncode, err))
    child = subprocess.Popen([w.weightfs, "-d", w.file, w.mnt], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_mounted(w)
    read(f"{w.mnt}/fc.weight")
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    ok(child.returncode == 0 and b"LOOKUP" in err and b"READ" in err, "-d traces requests in the foreground", err[-500:])
    r = subprocess.run([w.weightfs, "-f", f"{w.dir}/none", w.mnt], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ok(r.returncode == 1 and r.stderr.count(b"\n") == 1, "-f fails in one line", r)


def read_ahead(w):
    """The kernel takes what it may read ahead from the answer to its first message: more is asked for after that, at every start."""
    setting = "/sys/class/bdi/{}:{}/read_ahead_kb"
    if not ROOT or not os.access("/sys/class/bdi", os.W_OK):
        return skip("what the kernel reads ahead", "only root sets it, where /sys can be written to")

    def of_mount():
        w.status()  # it serves
        device = os.stat(w.mnt).st_dev
        return int(read(setting.format(os.major(device), os.minor(device))))
    for option in ((), ("-s",), ("-o", "ro")):
        seen = set()
        for _ in range(8):
            w.mount(*option)
            seen.add(of_mount())
            w.umount()
        same(seen, {1024}, f"KiB that the kernel reads ahead, weightfs {' '.join(option)}")
    child = subprocess.Popen([w.weightfs, "-f", w.file, w.mnt])
    wait_mounted(w)
    same(of_mount(), 1024, "KiB that the kernel reads ahead, weightfs -f")
    w.umount()
    same(child.wait(60), 0, "... which ends well")


def signals(w):
    for sig in (signal.SIGTERM, signal.SIGINT):
        w.mount()
        d = w.daemon()
        d.kill(sig)
        ok(d.wait() and not w.mounts(), f"{sig.name} unmounts in the background")
    w.mount("-s")
    d = w.daemon()
    d.kill(signal.SIGTERM)
    ok(d.wait() and not w.mounts(), "SIGTERM unmounts with one thread")
    w.mount()
    d = w.daemon()
    held = open(f"{w.mnt}/fc.weight", "rb")
    d.kill(signal.SIGTERM)
    ok(d.wait() and not w.mounts(), "SIGTERM unmounts while a file is open")
    try:
        held.read()
        ok(False, "a read after that fails")
    except OSError as e:
        ok(e.errno in (errno.ENOTCONN, errno.ECONNABORTED), "a read after that fails", e)
    try:
        held.close()
    except OSError:
        pass  # its flush is refused as well
    w.mount()
    d = w.daemon()
    d.kill(signal.SIGHUP)
    d.kill(signal.SIGHUP)
    ok(read(f"{w.mnt}/epoch") == b"3\n" and w.mounts(), "SIGHUP changes nothing")
    w.umount()


def killed(w):
    w.mount()
    d = w.daemon()
    d.kill(signal.SIGKILL)
    d.wait()
    try:
        os.listdir(w.mnt)
        ok(False, "after SIGKILL the mount point is dead")
    except OSError as e:
        ok(e.errno == errno.ENOTCONN, "after SIGKILL the mount point is dead", e)
    r = w.mount()
    ok(r.returncode == 0 and len(w.mounts()) == 1 and read(f"{w.mnt}/epoch") == b"3\n", "mounting again frees it first", (r, w.mounts()))
    w.umount()
    w.mount()
    d = w.daemon()
    d.kill(signal.SIGKILL)
    d.wait()
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 1 and "daemon" in r.stderr and r.stderr.count("\n") == 1 and not w.mounts(),
       "wfctl umount frees it too, and says that the daemon had died", r)


def mounted_twice(w):
    w.mount("-o", "ro")
    r = w.mount("-o", "ro")
    ok(r.returncode == 0 and len(w.mounts()) == 2, "a mount over a mount, as everywhere", r)
    run("umount", w.mnt)
    same(read(f"{w.mnt}/epoch"), b"3\n", "the lower one is untouched")
    w.umount()
    w.mount()
    os.mkdir(f"{w.dir}/second")
    started = time.monotonic()
    r = run(w.weightfs, w.file, f"{w.dir}/second")
    ok(r.returncode == 1 and str(w.status()["pid"]) in r.stderr and time.monotonic() - started < 9,  # who waits for a commit has ten
       "a second writer is refused at once, with the first one's process number", r)
    for i in range(20):
        write(f"{w.mnt}/epoch", f"{i}\n".encode())
        run("umount", w.mnt)
        r = w.mount()
        if r.returncode != 0 or read(f"{w.mnt}/epoch") != f"{i}\n".encode():
            break
    ok(i == 19 and r.returncode == 0, "a mount right after an umount waits for the commit that follows it", r)
    w.umount()


def mount_8(w):
    if not ROOT:
        return skip("mount -t fuse.weightfs", "not root")
    # mount.fuse looks for the program in the system's directories: in a name space of its own the build becomes one of them
    def inside(script):
        return run(*name_space(), "sh", "-c", f"mount --bind {os.path.dirname(w.weightfs)} /usr/local/bin && cd {w.dir} && {script}")

    if run("unshare", "-m", "true").returncode != 0 or run("sh", "-c", "command -v mount.fuse3").returncode != 0:
        return skip("mount -t fuse.weightfs", "unshare -m or mount.fuse3 is missing")
    r = inside("mount -t fuse.weightfs -o ro,allow_other m.pt mnt && cat mnt/epoch && grep fuse.weightfs /proc/self/mounts; wfctl umount mnt")
    ok(r.returncode == 0 and r.stdout.startswith("3\n"), "mount -t fuse.weightfs", r)
    ok(all(o in r.stdout for o in ("ro,", "nosuid", "nodev", "noexec", "allow_other", "default_permissions")), "its options arrive", r)
    write(f"{w.dir}/fstab", f"{w.file} {w.mnt} fuse.weightfs rw,noauto,nofail,x-systemd.automount 0 0\n".encode())
    r = inside("mount --fstab fstab $PWD/mnt && cat mnt/.weightfs/status; wfctl umount mnt")
    ok(r.returncode == 0 and json.loads(r.stdout)["writable"], "mounted from a line of fstab", r)
    r = inside("mount -t fuse.weightfs -o commit=never m.pt mnt")
    ok(r.returncode != 0 and "commit: is auto, replace or append" in r.stderr, "what is wrong is told through mount(8)", r)


def mount_helper(w):
    """weightfs under the names by which mount(8) runs it."""
    helper = f"{w.dir}/mount.weightfs"
    os.symlink(w.weightfs, helper)
    for what, options, writable in (("-n -s -v", ["-o", "rw,noauto"], True), ("-sv", ["-t", "weightfs.x", "-o", "ro"], False), ("-v", ["-o", "nodev,rw"], True)):
        r = run(helper, w.file, w.mnt, *what.split(), *options)
        ok(r.returncode == 0 and w.mounts(), f"mount.weightfs {what} {' '.join(options)}", r)
        ok(json.loads(read(f"{w.mnt}/.weightfs/status"))["writable"] == writable, "is writable as it was said")
        w.umount()
    r = run(helper, w.file, w.mnt, "-f", "-o", "rw")
    ok(r.returncode == 0 and not w.mounts(), "mount.weightfs -f mounts nothing", r)
    r = run(helper, w.file, w.mnt, "-N", "/proc/1/ns/mnt", "-o", "rw")
    ok(r.returncode == 1 and not w.mounts() and "nsenter" in r.stderr, "mount.weightfs -N is refused", r)
    r = run(helper, "/nonexistent", w.mnt, "-o", "rw")
    ok(r.returncode == 1 and "/nonexistent" in r.stderr, "what is wrong is told", r)
    os.unlink(helper)


def runs(pid):
    """A process that has ended can still wait for its parent to take note."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def wfctl_umount(w):
    w.mount()
    pid = w.daemon().pid
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and not w.mounts() and not runs(pid), "wfctl umount returns after the daemon's end", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 1 and "not a weightfs mount" in r.stderr, "wfctl umount of a directory", r)
    w.mount()
    with open(f"{w.mnt}/epoch"):
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and w.mounts(), "wfctl umount of a busy mount leaves it", r)
    ok(run(w.wfctl, "umount", f"{w.mnt}/").returncode == 0, "wfctl umount with a slash at the end")


def unprivileged(w):
    """As a user who is not root, through fusermount3."""
    if not ROOT:
        return skip("unprivileged", "is what runs anyway")
    if run("sh", "-c", "command -v setpriv && command -v fusermount3").returncode != 0:
        return skip("unprivileged", "setpriv or fusermount3 is missing")
    for path in (w.dir, w.file, w.mnt):
        os.chown(path, 65534, 65534)
    os.chmod(w.dir, 0o755)
    run("sh", "-c", f"cp -r {os.path.dirname(w.weightfs)} {w.dir}/bin; mknod {w.dir}/fuse c 10 229; chmod 666 {w.dir}/fuse")

    def user(script):
        """As nobody, in a name space where /dev/fuse is everybody's."""
        return run(*name_space(), "sh", "-c", f"mount --bind {w.dir}/fuse /dev/fuse && "
                   f"exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'PATH={w.dir}/bin:$PATH; cd {w.dir}; {script}'")

    r = user("weightfs m.pt mnt && cat mnt/epoch && stat -c %u mnt/epoch && wfctl umount mnt && ls mnt && grep $PWD/mnt /proc/self/mounts")
    if "fuse device not found" in r.stderr or "/dev/fuse" in r.stderr:
        return skip("unprivileged", r.stderr.strip())
    ok(r.stdout == "3\n65534\n" and not r.stderr, "mounted, read and unmounted by nobody", r)
    r = user("weightfs m.pt mnt; pid=$(grep -o \"pid.*[0-9]\" mnt/.weightfs/status | tr -cd 0-9); kill -9 $pid; "
             "tail --pid=$pid -s 0.01 -f /dev/null; weightfs m.pt mnt && cat mnt/epoch && wfctl umount mnt")
    ok(r.returncode == 0 and r.stdout == "3\n", "a dead mount is freed through fusermount3", r)
    r = user("weightfs -o auto_unmount m.pt mnt && cat mnt/epoch && wfctl umount mnt")
    ok(r.returncode == 0 and r.stdout == "3\n", "-o auto_unmount, which keeps a second process waiting", r)


for case in (start_and_stop, failures, no_descriptors, odd_paths, options, foreground, read_ahead, signals, killed, mounted_twice, mount_8, mount_helper,
             wfctl_umount, unprivileged):
    with World(BUILD) as world:
        print(f"# {case.__name__}")
        case(world)
done()
