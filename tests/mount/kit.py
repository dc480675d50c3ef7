# SPDX-License-Identifier: MIT
"""What the tests of the mount share: TAP lines, running programs, a mount that is gone at the end, checkpoints to mount."""
import atexit
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import tap  # noqa: E402
from minicheckpoint import Storage, Tensor, save  # noqa: E402
from parallel import memory, side_by_side  # noqa: E402, F401
from tap import let_go, name_space, need_fuse, ok, same, skip  # noqa: E402, F401

# a daemon in the background has no standard error: what a sanitizer finds goes to files, which done() looks at
REPORTS = tempfile.mkdtemp(prefix="weightfs-reports-")
atexit.register(shutil.rmtree, REPORTS, ignore_errors=True)
for _name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
    os.environ[_name] = ":".join(filter(None, [os.environ.get(_name), f"log_path={REPORTS}/report"]))


def done():
    for name in sorted(os.listdir(REPORTS)):
        ok(False, "a sanitizer's report", read(os.path.join(REPORTS, name)).decode(errors="replace"))
    tap.done()


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, **options)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def error_of(call):
    """The errno that it fails with, or 0."""
    try:
        call()
    except OSError as e:
        return e.errno
    return 0


def floats(n, start=0.0):
    return struct.pack(f"<{n}f", *(start + i for i in range(n)))


def small_checkpoint(path):
    """Two tensors, a view of the first one's storage, a tie, a number, a nested mapping."""
    base = Storage("float32", floats(6))
    tie = Tensor("float32", (2,), floats(2, 10))
    save(path, OrderedDict([("fc.weight", Tensor("float32", (2, 3), b"", storage=base)), ("fc.bias", tie), ("tied", tie),
                            ("row", Tensor("float32", (3,), b"", storage=base, offset=3)), ("epoch", 3),
                            ("opt", {"lr": 0.1})]))


class World:
    """A private directory with a checkpoint m.pt and an empty mount point; everything is gone afterwards."""

    def __init__(self, build, make=small_checkpoint, within=None):
        self.weightfs, self.wfctl = (os.path.join(build, "fs", name) for name in ("weightfs", "wfctl"))
        self.make, self.within = make, within

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="weightfs-test-", dir=self.within)
        self.file, self.mnt = os.path.join(self.dir, "m.pt"), os.path.join(self.dir, "mnt")
        os.mkdir(self.mnt)
        self.make(self.file)
        return self

    def __exit__(self, *why):
        while any(line.split()[1].startswith(self.dir) for line in open("/proc/self/mounts")):
            for line in open("/proc/self/mounts"):
                if line.split()[1].startswith(self.dir):
                    run("umount", "-l", line.split()[1])
        shutil.rmtree(self.dir, ignore_errors=True)

    def mount(self, *options, env=None):
        return run(self.weightfs, *options, self.file, self.mnt, env=env)

    def umount(self):
        """Unmounts and waits for the daemon's end."""
        daemon = self.daemon()
        result = run("umount", self.mnt)
        if result.returncode == 0:
            daemon.wait()
        else:
            ok(False, "umount", result)
        return result

    def crash(self, *options):
        """Kills the daemon and mounts again: no edit of the log may be left out."""
        daemon = self.daemon()
        daemon.kill(9)
        daemon.wait()
        run("umount", "-l", self.mnt)
        r = self.mount(*options)
        lines = [line for line in r.stderr.splitlines() if " wait since a commit failed " not in line]
        ok(r.returncode == 0 and not lines, "mounts after a kill, and leaves no edit out", r)

    def mounts(self):
        """The mount's lines of /proc/self/mounts, split."""
        return [line.split() for line in open("/proc/self/mounts") if line.split()[1] == self.mnt]

    def status(self):
        return json.loads(read(f"{self.mnt}/.weightfs/status"))

    def daemon(self):
        return Daemon(self.status()["pid"])


class Daemon:
    """A process whose end can be waited for, though it is no child."""

    def __init__(self, pid):
        self.pid, self.fd = pid, os.pidfd_open(pid)

    def kill(self, signal):
        os.kill(self.pid, signal)

    def wait(self, seconds=60):
        """Whether it has ended."""
        ended = bool(select.select([self.fd], [], [], seconds)[0])
        os.close(self.fd)
        return ended


def unmount(mnt):
    """As whoever does not know wfctl does, and until the daemon has ended: before that its edits may still be beside the file."""
    daemon = Daemon(json.loads(read(f"{mnt}/.weightfs/status"))["pid"])
    run("fusermount3", "-u", mnt)
    if not daemon.wait():
        raise TimeoutError(f"the daemon of {mnt} goes on")


def wait_for(condition):
    """The kernel tells of each change of the table of mounts; the condition is about that table."""
    with open("/proc/self/mounts") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        while not condition():
            if not poll.poll(20000):
                return False
    return True


def eventually(condition, seconds=60):
    """What the release of a file decides, which the kernel sends when close has returned; nobody tells of it."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def wait_mounted(w):
    """In the foreground nobody says when the mount is there."""
    wait_for(w.mounts)
    os.stat(w.mnt)
