# SPDX-License-Identifier: MIT
"""What .weightfs/log shows: what the daemon logged, and each refused call with its name, errno and reason."""
import os
import sys

from kit import World, done, need_fuse, ok, read, run, same, write

BUILD = sys.argv[1]


def log(w):
    return read(f"{w.mnt}/.weightfs/log").decode()


def refused(what):
    try:
        what()
    except OSError as e:
        return e.errno
    return 0


def read_write():
    with World(BUILD) as w:
        w.mount()
        same(log(w), "", "the log is empty at first")
        same(refused(lambda: os.rename(f"{w.mnt}/opt", f"{w.mnt}/.weightfs/x")) != 0, True, "a rename into .weightfs is refused")
        ok("rename opt: EPERM (Operation not permitted)" in log(w), "the refused call with its name and errno", log(w))
        for _ in range(3):
            refused(lambda: os.setxattr(f"{w.mnt}/fc.weight", "user.torch.shape", b"[5]"))
        text = log(w)
        ok("setxattr fc.weight/user.torch.shape: EINVAL" in text and text.endswith("(the last line 2 more times)\n"),
           "the same line again is counted", text)
        refused(lambda: os.unlink(f"{w.mnt}/not there"))
        same(log(w), text, "a name that is not there is no refusal")
        refused(lambda: os.rename(f"{w.mnt}/opt", f"{w.mnt}/.weightfs/a\x1b[31m\n\u0085b"))
        ok(all(c.isprintable() for c in log(w).replace("\n", "")), "control characters are escaped", repr(log(w)))
        same(len(log(w).splitlines()), 3, "one line for each call")
        for i in range(400):
            refused(lambda: os.setxattr(f"{w.mnt}/fc.bias", "user.torch.shape", f"[{i + 3}]".encode()) or
                    os.setxattr(f"{w.mnt}/tied", "user.torch.dtype", b"nonsense"))
            refused(lambda: os.setxattr(f"{w.mnt}/fc.weight", "user.torch.dtype", b"nonsense"))
        ok(200 < len(log(w).splitlines()) < 300, "the log has an end", len(log(w).splitlines()))


def reasons():
    """A directory that takes no edit: the reason is told."""
    with World(BUILD) as w:
        w.mount()
        write(f"{w.file}.weightfs", b"somebody's file")
        ok(refused(lambda: os.rename(f"{w.mnt}/opt", f"{w.mnt}/o")) != 0, "an edit that cannot be kept is refused")
        ok(f"rename opt: " in log(w) and f"{w.file}.weightfs takes no edit" in log(w), "the log says which directory", log(w))
        os.unlink(f"{w.file}.weightfs")


def read_only():
    with World(BUILD) as w:
        w.mount("-o", "ro")
        same(log(w), "", "a read-only mount has a log")
        read(f"{w.mnt}/fc.weight")
        same(log(w), "", "and after other files were opened")
        ok("log" in os.listdir(f"{w.mnt}/.weightfs"), "it is listed in .weightfs")
        same(run("cp", f"{w.mnt}/.weightfs/log", f"{w.dir}/copy").returncode, 0, "it can be copied")


need_fuse()
read_write()
reasons()
read_only()
done()
