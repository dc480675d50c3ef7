#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every kind of object that tests/files/cases.py makes, saved by this torch as zip and as legacy stream: what the mount shows must be
what torch.load returns, entry by entry (tests/torch/oracle.py says what that is).

Usage: test_compare_mount.py BUILD_DIR [FILE...]     with files: those instead. Prints TAP.
"""
import os
import subprocess
import sys
import tempfile

import torchkit  # noqa: F401

import torch

import cases
import oracle
from compare import compare


class NoOracle(Exception):
    pass


def check(build, file, mnt):
    try:
        root, locations = oracle.load(file)
        entries = oracle.describe(root, locations, 20000)
    except Exception as e: # torch 1.13 cannot load or look into some of what it wrote itself
        raise NoOracle(f"{type(e).__name__}: {e}") from e
    result = subprocess.run([os.path.join(build, "fs", "weightfs"), "-o", "ro", file, mnt], stderr=subprocess.PIPE, text=True)
    if result.returncode:
        return [result.stderr.strip()]
    try:
        return compare(mnt, entries)
    finally:
        subprocess.run([os.path.join(build, "fs", "wfctl"), "umount", mnt], check=True)


def main():
    build, files = sys.argv[1], sys.argv[2:]
    n = failed = 0
    with tempfile.TemporaryDirectory(prefix="weightfs-compare-") as work:
        mnt = os.path.join(work, "mnt")
        os.mkdir(mnt)
        jobs = [(f, f) for f in files]
        for name, make in [] if files else cases.CASES.items():
            for legacy in (False, True):
                if legacy and getattr(make, "only_zip", False):
                    continue
                jobs.append((f"{name} ({'legacy' if legacy else 'zip'})", (make, legacy)))
        for name, job in jobs:
            n += 1
            skip = ""
            try:
                file = job
                if not isinstance(job, str):
                    file = os.path.join(work, "case.pt")
                    torch.save(job[0](), file, _use_new_zipfile_serialization=not job[1])
                problems = check(build, file, mnt)
            except NoOracle as e:
                problems, skip = [], " # SKIP this torch cannot say: " + ascii(str(e).splitlines()[0])[1:-1]
            except Exception as e:
                problems = [f"{type(e).__name__}: {e}"]
            failed += bool(problems)
            print(f"{'not ' if problems else ''}ok {n} - {name}{skip}", flush=True)
            for p in problems[:12]:
                print("#   " + ascii(p)[1:-1])
    print(f"1..{n}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
