# SPDX-License-Identifier: MIT
"""Puts into a directory what contrib/bench/gpu --lease needs on a machine that has no compiler and no network."""
import os
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = ("fs/weightfs", "fs/wfctl", "tests/device/test-device", "tests/device/open-handle", "contrib/bench/device", "contrib/bench/io")
EVERYWHERE = ("linux-vdso", "libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux")
SOURCES = ("contrib/python", "contrib/bench", "tests/device", "tests/mount", "tests/parallel.py", "tests/tap.py",
           "tests/files/dcp", "tests/files/zero")

RUN = """#!/bin/sh
# Usage: run OUT      The tests and the figures of this directory's programs; results.jsonl and log.txt go to OUT.
here=$(cd "$(dirname "$0")" && pwd)
# libraries that this machine has are its own business
for library in "$here"/libraries/*; do
	ldconfig -p | grep -q "$(basename "$library") " || { mkdir -p "$here/used" && ln -sf "$library" "$here/used/"; }
done
export LD_LIBRARY_PATH="$here/used${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" PATH="$here/programs:$PATH"
export WEIGHTFS_BUILD="$here/build" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
if ls "$here"/wheels/*.whl >/dev/null 2>&1; then
	python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target /tmp/weightfs-wheels "$here"/wheels/*.whl
	export PYTHONPATH="/tmp/weightfs-wheels${PYTHONPATH:+:$PYTHONPATH}"
fi
exec python3 "$here/tree/contrib/bench/gpu" --lease "$1"
"""


def libraries(program):
    for line in subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        name, _, path = line.strip().partition(" => ")
        if path.startswith("/") and not name.startswith(EVERYWHERE):
            yield name, path.split()[0]


def pack(build, directory, *wheels):
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("libraries", "programs", "wheels"):
        os.makedirs(os.path.join(directory, name))
    for name in PROGRAMS:
        copy = os.path.join(directory, "build", name)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(os.path.join(build, name), copy)
        subprocess.run(["strip", copy], check=True)
        for library, path in libraries(copy):
            shutil.copy2(os.path.realpath(path), os.path.join(directory, "libraries", library))
    if fusermount := shutil.which("fusermount3"):
        shutil.copy2(fusermount, os.path.join(directory, "programs"))
    for name in SOURCES:
        source, copy = os.path.join(TOP, name), os.path.join(directory, "tree", name)
        if os.path.isdir(source):
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)
    for wheel in wheels:
        shutil.copy2(wheel, os.path.join(directory, "wheels"))
    run = os.path.join(directory, "run")
    with open(run, "w") as f:
        f.write(RUN)
    os.chmod(run, 0o755)
    size = sum(os.path.getsize(os.path.join(top, f)) for top, _, files in os.walk(directory) for f in files)
    print(f"{directory}: {size / 1e6:.1f} MB")
    return 0
