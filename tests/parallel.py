# SPDX-License-Identifier: MIT
"""Checks side by side: most of them wait for programs and for the disk nearly all of their time."""
import multiprocessing
import os

_work = None


def _one(i):
    call, items = _work
    try:
        return items[i], call(items[i]), None
    except Exception as e:
        return items[i], None, str(e) or repr(e)


def side_by_side(call, items, processes=6):
    """Yields (item, what the call returned, None or why it failed) in the order of the items, each as soon as it is there. The calls are made
    in processes of their own: with threads, a program that another thread starts holds this one's open files for a moment. They print
    nothing; what they return has to be picklable, what they are given has not."""
    global _work
    _work = call, list(items)
    with multiprocessing.get_context("fork").Pool(min(processes, len(_work[1]) or 1)) as pool:
        yield from pool.imap(_one, range(len(_work[1])))


def memory():
    """A place for many small files whose durability nobody tests, where an fsync takes no time; None, the usual one, where there is none."""
    try:
        st = os.statvfs("/dev/shm")
        return "/dev/shm" if st.f_bavail * st.f_frsize > 32 << 20 and os.access("/dev/shm", os.W_OK) else None
    except OSError:
        return None
