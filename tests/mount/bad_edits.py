#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Edits that cannot be expressed are refused with the right errno, and nothing is lost.

Usage: bad_edits.py BUILD_DIR. Prints TAP.
"""
import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import OrderedDict

from minicheckpoint import Storage, Tensor, save

if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    print("1..0 # SKIP /dev/fuse is missing, or not for this user")
    sys.exit(0)

WEIGHTFS, WFCTL = (os.path.join(sys.argv[1], "fs", name) for name in ("weightfs", "wfctl"))
n = failed = 0


def ok(good, what, detail=""):
    global n, failed
    n += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {n} - {what}", flush=True)
    if not good and detail:
        print(f"#   {detail}")


def refused(code, what, call):
    try:
        call()
    except OSError as e:
        ok(e.errno == code, f"{what}: {errno.errorcode[code]}", f"got {errno.errorcode.get(e.errno)}")
    else:
        ok(False, f"{what}: {errno.errorcode[code]}", "it was accepted")


def text(path, content):
    with open(path, "w") as f:
        f.write(content)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def make(path, epoch=3):
    base = Storage("float32", struct.pack("<10f", *range(10)))
    save(path, OrderedDict([("w", Tensor("float32", (2, 3), struct.pack("<6f", *range(6)))),
                            ("overlap", Tensor("float32", (5, 5), b"", storage=base, stride=(1, 1))),
                            ("epoch", epoch), ("lr", 0.1), ("flag", True), ("betas", [0.9, 0.999]),
                            ("sub", OrderedDict(x=Tensor("float32", (5,), bytes(20)), inner={"y": 1})),
                            ("state", {0: Tensor("float32", (1,), bytes(4)), 1: Tensor("float32", (1,), bytes(4))})]))


def one_mount(file, mnt):
    run(WEIGHTFS, file, mnt)
    refused(errno.EINVAL, "a directory into itself", lambda: os.rename(f"{mnt}/sub", f"{mnt}/sub/inner/sub"))
    refused(errno.ENAMETOOLONG, "a name of 256 bytes", lambda: os.rename(f"{mnt}/w", f"{mnt}/{'x' * 256}"))
    refused(errno.EPERM, ".weightfs as a name", lambda: os.rename(f"{mnt}/w", f"{mnt}/sub/.weightfs"))
    refused(errno.ENOTEMPTY, "rmdir of a mapping with keys", lambda: os.rmdir(f"{mnt}/sub"))
    refused(errno.EINVAL, "text for an int that does not parse", lambda: text(f"{mnt}/epoch", "eleven\n"))
    ok(read(f"{mnt}/epoch") == b"3\n", "the old int stays")
    refused(errno.EINVAL, "text for a float that does not parse", lambda: text(f"{mnt}/lr", "\n"))
    refused(errno.EINVAL, "text for a bool that does not parse", lambda: text(f"{mnt}/flag", "maybe\n"))
    refused(errno.EINVAL, "JSON that does not parse", lambda: text(f"{mnt}/betas", "[1, 2"))
    ok(read(f"{mnt}/lr") + read(f"{mnt}/flag") + read(f"{mnt}/betas") == b"0.1\ntrue\n[0.9, 0.999]\n", "the old values stay")
    refused(errno.EINVAL, "a dtype that does not exist", lambda: os.setxattr(f"{mnt}/w", "user.torch.dtype", b"float33"))
    refused(errno.EINVAL, "a dtype that does not fit", lambda: os.setxattr(f"{mnt}/sub/x", "user.torch.dtype", b"float64"))
    refused(errno.EINVAL, "a shape that does not fit", lambda: os.setxattr(f"{mnt}/w", "user.torch.shape", b"[7]"))
    refused(errno.EINVAL, "a shape that is no shape", lambda: os.setxattr(f"{mnt}/w", "user.torch.shape", b"[2, -3]"))
    refused(errno.EINVAL, "requires_grad that is no bool", lambda: os.setxattr(f"{mnt}/w", "user.torch.requires_grad", b"2"))
    ok(os.getxattr(f"{mnt}/w", "user.torch.shape") == b"[2, 3]" and os.getxattr(f"{mnt}/w", "user.torch.dtype") == b"float32",
       "refused attributes change nothing")
    os.setxattr(f"{mnt}/w", "user.torch.stride", b"[1, 2]")
    ok(os.getxattr(f"{mnt}/w", "user.torch.stride") == b"[3, 1]", "an attribute that only reports is accepted, and changes nothing")
    overlap = os.open(f"{mnt}/overlap", os.O_RDWR)
    refused(errno.EOPNOTSUPP, "a write into a view that overlaps itself", lambda: os.pwrite(overlap, b"\1" * 100, 0))
    os.close(overlap)
    refused(errno.EINVAL, "a key that is no escape", lambda: os.mkdir(f"{mnt}/bad%zz"))
    refused(errno.EPERM, "a symbolic link out of the mount", lambda: os.symlink("/etc/passwd", f"{mnt}/link"))
    second = f"{mnt}2"
    os.mkdir(second)
    with open(f"{mnt}/.weightfs/status") as f:
        pid = json.load(f)["pid"]
    result = run(WEIGHTFS, "-o", "rw", file, second)
    ok(result.returncode != 0 and str(pid) in result.stderr and result.stderr.count("\n") == 1,
       "a second writer is refused in one line that names the holder", result.stderr)
    ok(run(WEIGHTFS, "-o", "ro", file, second).returncode == 0, "a second reader is welcome")
    run("umount", second)
    text(f"{mnt}/.swap.swp", "scratch")
    ok(read(f"{mnt}/.swap.swp") == b"scratch", "an editor's scratch file works")
    ok(run(WFCTL, "umount", mnt).returncode == 0, "unmounts")
    run(WEIGHTFS, "-o", "ro", file, mnt)
    ok(sorted(os.listdir(mnt)) == sorted(["w", "overlap", "epoch", "lr", "flag", "betas", "sub", "state"]),
       "the scratch file became no key")
    refused(errno.EROFS, "an edit of a read-only mount", lambda: os.rename(f"{mnt}/w", f"{mnt}/v"))
    run("umount", mnt)


def changed_underneath(file, mnt):
    run(WEIGHTFS, file, mnt)
    os.rename(f"{mnt}/w", f"{mnt}/renamed")
    other = file + ".new"
    make(other, 4)
    os.rename(other, file)
    result = run(WFCTL, "commit", mnt)
    ok(result.returncode != 0 and result.stderr.strip(), "a commit over a file that someone else replaced fails", result.stderr)
    ok(os.path.exists(file + ".weightfs") and os.path.exists(f"{mnt}/renamed"), "the overlay and the edit stay")
    refused(errno.ESTALE, "a write to .weightfs/commit", lambda: text(f"{mnt}/.weightfs/commit", "1"))
    run("umount", mnt)
    wait_gone(file)
    result = run(WEIGHTFS, file, mnt)
    ok(result.returncode != 0 and result.stderr.count("\n") == 1, "an overlay of another file is refused in one line", result.stderr)
    ok(run(WFCTL, "discard", file).returncode == 0 and not os.path.exists(file + ".weightfs"), "wfctl discard drops it")
    ok(run(WEIGHTFS, file, mnt).returncode == 0 and "w" in os.listdir(mnt), "then it mounts")
    run(WFCTL, "umount", mnt)


def wait_gone(file):
    """Waits until no daemon holds the checkpoint: wfctl status then says that nobody has it mounted."""
    import time
    for _ in range(100):
        holders = subprocess.run(["fuser", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if shutil.which("fuser") else None
        if holders is None or holders.returncode != 0:
            return
        time.sleep(0.05)


def other_version(file, mnt):
    run(WEIGHTFS, file, mnt)
    os.rename(f"{mnt}/w", f"{mnt}/renamed")
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    with open(f"{mnt}/.weightfs/status") as f:
        pid = json.load(f)["pid"]
    os.kill(pid, 9)
    run("umount", "-l", mnt)
    log = f"{file}.weightfs/log"
    before = read(log)
    with open(log, "r+b") as f:
        f.seek(8)
        f.write(b"\xff\xff")
    result = run(WEIGHTFS, file, mnt)
    ok(result.returncode != 0 and result.stderr.count("\n") == 1, "an overlay of another version is refused in one line", result.stderr)
    with open(log, "wb") as f:
        f.write(before)
    ok(run(WEIGHTFS, file, mnt).returncode == 0 and os.path.exists(f"{mnt}/renamed"), "the overlay was not harmed")
    run(WFCTL, "umount", mnt)


def full_disk(work):
    disk, mnt = f"{work}/disk", f"{work}/mnt"
    os.mkdir(disk)
    if run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk).returncode != 0:
        return print(f"# full disk: not tried, no tmpfs")
    try:
        file = f"{disk}/m.pt"
        save(file, {"big": Tensor("uint8", (600_000,), bytes(600_000)), "w": Tensor("uint8", (4,), b"abcd")})
        before = read(file)
        run(WEIGHTFS, "-o", "commit=replace", file, mnt)
        os.rename(f"{mnt}/w", f"{mnt}/v")
        result = run(WFCTL, "commit", mnt)
        ok(result.returncode != 0 and "space" in result.stderr.lower(), "a commit to a full disk says so", result.stderr)
        ok(read(file) == before and os.listdir(mnt) == ["big", "v"], "checkpoint and mount are as they were")
        ok(sorted(os.listdir(disk)) == ["m.pt", "m.pt.weightfs"], "no half-written file is left", str(os.listdir(disk)))
        refused(errno.ENOSPC, "a write that finds no room",
                lambda: [text(f"{mnt}/new{i}", "x" * 300_000) for i in range(4)])
        ok(read(f"{mnt}/v") == b"abcd", "the rest goes on")
        run("mount", "-o", "remount,size=8m", disk)
        for i in range(4):
            if os.path.exists(f"{mnt}/new{i}"):
                os.unlink(f"{mnt}/new{i}")
        ok(run(WFCTL, "umount", mnt).returncode == 0, "with room again the commit works")
    finally:
        run("umount", "-l", mnt)
        run("umount", "-l", disk)


def main():
    work = tempfile.mkdtemp(prefix="weightfs-bad-")
    try:
        for name, case in (("plain", one_mount), ("changed", changed_underneath), ("version", other_version)):
            os.makedirs(f"{work}/{name}/mnt")
            make(f"{work}/{name}/m.pt")
            try:
                case(f"{work}/{name}/m.pt", f"{work}/{name}/mnt")
            finally:
                run("umount", "-l", f"{work}/{name}/mnt")
        os.mkdir(f"{work}/mnt")
        if os.geteuid() == 0:
            full_disk(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"1..{n}")
    sys.exit(1 if failed else 0)


main()
