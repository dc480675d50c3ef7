#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl umount of a daemon that takes its time, while others mount: the number of its file system is theirs at once.

Usage: umount_slow.py BUILD_DIR LIBSLOW_END. Prints TAP. Not for builds with a sanitizer: its run-time does not like the library.
"""
import os
import subprocess
import sys

from kit import World, done, need_fuse, ok, read, same, skip, wait_for, write

need_fuse()
BUILD, LIBRARY = sys.argv[1:]

for ms in (600, 3500):  # below the time that wfctl gives whoever holds a mount in passing, and above
    for edits in (False, True):
        with World(BUILD) as w, World(BUILD) as other:
            w.mount(env={**os.environ, "LD_PRELOAD": LIBRARY, "SLOW_END": str(ms)})
            device = os.stat(w.mnt).st_dev
            if edits:
                write(f"{w.mnt}/epoch", b"12\n")
            p = subprocess.Popen([w.wfctl, "umount", w.mnt], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            ok(wait_for(lambda: not w.mounts()), "it is unmounted")
            same(other.mount().returncode, 0, "and another checkpoint is mounted")
            what = f"{ms} ms later, {'with' if edits else 'without'} edits: it waits for its own daemon"
            out, err = p.communicate(timeout=60)
            if os.stat(other.mnt).st_dev != device:
                skip(what, "a third one took the number")
            else:
                same((p.returncode, out, err), (0, "", ""), what)
            other.umount()
            w.mount("-o", "ro")
            same(read(f"{w.mnt}/epoch"), b"12\n" if edits else b"3\n", "and the checkpoint has what was edited")
            w.umount()
done()
