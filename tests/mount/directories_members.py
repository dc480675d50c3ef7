#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One file of a checkpoint that is a directory is missing, cut, another one, a pipe, a directory, a link that leads nowhere or elsewhere, or
cannot be read; before it is opened, and while it is mounted. Its tensors fail and the file is named, or they read right; all others read
right, and nobody waits. And hundreds of files with few descriptors.

Usage: directories_members.py BUILD_DIR. Prints TAP; mounts are left out without /dev/fuse.
"""
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

import directories
from kit import done, memory, ok, read, run, same, side_by_side, write

BUILD = os.path.abspath(sys.argv[1])
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
TOP = tempfile.mkdtemp(prefix="weightfs-members-", dir=memory())
SECONDS = 30


def instead(make):
    def spoil(path):
        os.unlink(path)
        make(path)
    return spoil


def another(path):
    """A whole file of the same size with other bytes, in its place."""
    content = bytearray(read(path))
    content[len(content) // 2] ^= 1
    write(path + ".new", content)
    os.rename(path + ".new", path)


def elsewhere(path):
    shutil.move(path, path + ".away")
    outside = tempfile.mkdtemp(dir=TOP, prefix="blobs-")
    shutil.move(path + ".away", outside + "/blob")
    os.symlink(outside + "/blob", path)


def touch(path):
    os.utime(path, (5, 5))


def grow(path):
    with open(path, "ab") as f:
        f.write(b"more")


# before it is opened: (what is done, whether its tensors read all the same: None of some kinds)
BEFORE = {
    "missing": (os.unlink, False),
    "empty": (lambda path: os.truncate(path, 0), False),
    "cut": (lambda path: os.truncate(path, os.path.getsize(path) // 2), None),
    "a pipe": (instead(os.mkfifo), False),
    "a directory": (instead(os.mkdir), False),
    "a link to itself": (instead(lambda path: os.symlink(os.path.basename(path), path)), False),
    "a link to nowhere": (instead(lambda path: os.symlink("gone", path)), False),
    "a link to a device": (instead(lambda path: os.symlink("/dev/zero", path)), False),
    "a link to another place": (elsewhere, True),
    "touched": (touch, True),
}
# while it is mounted and was read before; of a file that is open the old bytes may go on
DURING = {
    "missing": (os.unlink, {errno.EIO, None}),
    "cut": (lambda path: os.truncate(path, os.path.getsize(path) // 2), {errno.EIO, errno.ESTALE}),
    "another one": (another, {errno.ESTALE, None}),
    "longer": (grow, {errno.ESTALE, None}),
    "a pipe": (instead(os.mkfifo), {errno.EIO, errno.ESTALE, None}),
    "a directory": (instead(os.mkdir), {errno.EIO, errno.ESTALE, None}),
    "a link to itself": (instead(lambda path: os.symlink(os.path.basename(path), path)), {errno.EIO, errno.ESTALE, None}),
    "touched": (touch, {None}),
}


def wfctl(*words, **options):
    r = subprocess.run([WFCTL, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, **options)
    return r.returncode, r.stdout, r.stderr.decode(errors="replace")


def new(kind, files=3, **how):
    return directories.make(kind, tempfile.mkdtemp(dir=TOP, prefix=f"{kind}-") + "/set", files, **how)


def before(case):
    """What is wrong."""
    kind, what = case
    spoil, reads = BEFORE[what]
    d, wrong = new(kind, elements=400), []
    victim = d.file_of(list(d.want)[2])[0]
    name = os.path.basename(victim)
    spoil(victim)
    status, _, err = wfctl("verify", d.path)
    if reads is not None and (status == 0) != reads or status and name not in err:
        wrong.append(f"verify: {status} {err}")
    for key, content in d.want.items():
        status, out, err = wfctl("cat", "--raw", d.path, key)
        held = victim in d.file_of(key)
        if status == 0 and out == content and (not held or reads is not False):
            continue
        if not held or reads or status != 1 or out or err.count("\n") > 3 or name not in err:
            wrong.append(f"cat {key}: {status} {out[:40]} {err}")
    if FUSE:
        mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
        r = run(WEIGHTFS, "-o", "ro", d.path, mnt)
        if r.returncode:
            return wrong + [r.stderr]
        for key, content in d.want.items():
            got = content_of(f"{mnt}/{key}")
            if got != content and not (got == errno.EIO and victim in d.file_of(key) and not reads):
                wrong.append(f"mounted: {key}: {got}")
        run(WFCTL, "umount", mnt)
    return wrong


def content_of(path):
    """The bytes, or the number of the error; past the kernel's cache."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)
    except OSError as e:
        return e.errno


def during(case):
    kind, what = case
    spoil, errors = DURING[what]
    d, wrong = new(kind, elements=400), []
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    r = run(WEIGHTFS, "-o", "ro", d.path, mnt)
    if r.returncode:
        return [r.stderr]
    victim = d.file_of(list(d.want)[2])[0]
    for key, content in d.want.items():
        if content_of(f"{mnt}/{key}") != content:
            wrong.append(f"at first: {key}")
    spoil(victim)
    for key, content in d.want.items():
        got = content_of(f"{mnt}/{key}")
        allowed = {None} | (errors if victim in d.file_of(key) else set())
        if got != content and got not in allowed:
            wrong.append(f"{key}: {got}")
        if victim in d.file_of(key) and None not in errors and got == content:
            wrong.append(f"{key}: reads")
        told = [line for line in read(f"{mnt}/.weightfs/log").decode().splitlines() if f" {key}: " in line]
        if isinstance(got, int) and not any(os.path.basename(victim) in line for line in told):
            wrong.append(f"{key}: the log does not name the file: {told}")
    r = run(WFCTL, "umount", mnt)
    return wrong if r.returncode == 0 else wrong + [r.stderr]


def unreadable(kind):
    """As somebody who may not read it."""
    d = new(kind)
    victim = d.file_of(list(d.want)[2])[0]
    os.chmod(victim, 0)
    for path in (TOP, os.path.dirname(d.path)):
        os.chmod(path, 0o755)
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    wrong = []
    for key, content in d.want.items():
        status, out, err = wfctl("cat", "--raw", d.path, key, **as_nobody)
        held = victim in d.file_of(key)
        if (status, out) != (0, content) and not (held and status == 1 and "denied" in err and os.path.basename(victim) in err):
            wrong.append(f"{key}: {status} {err}")
        if held and status == 0:
            wrong.append(f"{key} reads")
    return wrong


def many(kind):
    """Hundreds of files with 64 descriptors: in order and from the end, twice."""
    d = new(kind, 500, tensors=1)

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    wrong = []
    for words in (["verify", d.path], ["export", "--skip", d.path, d.path + ".safetensors"]):
        status, _, err = wfctl(*words, preexec_fn=limited)
        if status:
            wrong.append(f"{words[0]}: {err}")
    if kind in directories.EDITED:
        status, _, err = wfctl("set", d.path, "layer.3.0", "--file", d.path + ".bytes", preexec_fn=limited) if write(d.path + ".bytes", bytes(24)) is None else None
        d.want["layer.3.0"] = bytes(24)
        if status or directories.load(d) != d.want:
            wrong.append(f"set: {err}")
    if not FUSE:
        return wrong
    mnt = tempfile.mkdtemp(dir=TOP, prefix="mnt-")
    subprocess.run([WEIGHTFS, d.path, mnt] if kind in directories.EDITED else [WEIGHTFS, "-o", "ro", d.path, mnt], preexec_fn=limited, check=True)
    pid = json.loads(read(f"{mnt}/.weightfs/status"))["pid"]
    for keys in (list(d.want), list(d.want)[::-1]):
        wrong += [key for key in keys if content_of(f"{mnt}/{key}") != d.want[key]]
    if len(os.listdir(f"/proc/{pid}/fd")) > 50:
        wrong.append(f"{len(os.listdir(f'/proc/{pid}/fd'))} are open")
    r = run(WFCTL, "umount", mnt)
    return wrong if r.returncode == 0 else wrong + [r.stderr]


def all_of(call, cases, what):
    for case, problems, error in side_by_side(call, cases):
        same([error] if error else problems, [], what.format(*(case if isinstance(case, tuple) else (case,))))


try:
    all_of(before, [(kind, what) for kind in directories.KINDS for what in BEFORE], "{}: a file is {}")
    if FUSE:
        all_of(during, [(kind, what) for kind in directories.KINDS for what in DURING], "{}: a file becomes {} while it is mounted")
    all_of(unreadable, directories.KINDS, "{}: a file that may not be read")
    all_of(many, directories.KINDS, "{}: 500 files with 64 descriptors")
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
