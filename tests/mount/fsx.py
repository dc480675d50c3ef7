#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mixed reads, writes, mapped reads and writes, truncates and fsyncs on one tensor file, against a bytearray.

Usage: fsx.py BUILD_DIR [--operations N] [--seed S]

A strided view of a second storage and a tie get the same treatment. fio with verification follows on a large tensor where fio is
installed. Prints TAP; the seed of a failing run is printed and repeats it.
"""
import argparse
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

from minicheckpoint import Storage, Tensor, save

if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    print("1..0 # SKIP /dev/fuse is missing, or not for this user")
    sys.exit(0)

args = argparse.ArgumentParser()
args.add_argument("build")
args.add_argument("--operations", type=int, default=2000)
args.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
args = args.parse_args()
WEIGHTFS, WFCTL = (os.path.join(args.build, "fs", name) for name in ("weightfs", "wfctl"))
SIZE = 400_000


def differ(path, model):
    with open(path, "rb") as f:
        data = f.read()
    if data == model:
        return None
    if len(data) != len(model):
        return f"size {len(data)}, expected {len(model)}"
    at = next(i for i in range(len(data)) if data[i] != model[i])
    return f"byte {at} is {data[at]}, expected {model[at]}"


def operate(path, rng, operations, resizable):
    """Random operations on one file; returns a sentence on the first difference, or None."""
    with open(path, "rb") as f:
        model = bytearray(f.read())
    fd = os.open(path, os.O_RDWR)
    history = []
    try:
        for step in range(operations):
            kind = rng.choice(["read", "write", "mapread", "mapwrite", "write", "fsync"] + ["truncate", "grow"] * resizable)
            at = rng.randrange(len(model) or 1)
            n = min(rng.choice([1, 10, 511, 4096, 65536]), max(len(model) - at, 0))
            data = rng.randbytes(n)
            history.append(f"{kind} {at}+{n} of {len(model)}")
            if kind == "read":
                if os.pread(fd, n, at) != model[at:at + n]:
                    return f"step {step}: read differs; " + "; ".join(history[-6:])
            elif kind == "write":
                os.pwrite(fd, data, at)
                model[at:at + n] = data
            elif kind in ("mapread", "mapwrite") and model:
                with mmap.mmap(fd, len(model)) as m:
                    if kind == "mapwrite":
                        m[at:at + n] = data
                        model[at:at + n] = data
                        if rng.random() < 0.5:
                            m.flush()
                    elif m[at:at + n] != model[at:at + n]:
                        return f"step {step}: mapped read differs; " + "; ".join(history[-6:])
            elif kind == "fsync":
                os.fsync(fd)
            elif kind == "truncate":
                os.ftruncate(fd, at)
                del model[at:]
            elif kind == "grow":
                size = rng.randrange(len(model), SIZE + 1) if len(model) <= SIZE else len(model)
                os.ftruncate(fd, size)
                model.extend(bytes(size - len(model)))
            if step % 50 == 0:
                wrong = differ(path, model)
                if wrong:
                    return f"step {step}: {wrong}; " + "; ".join(history[-6:])
        if resizable:
            os.ftruncate(fd, SIZE)
            model.extend(bytes(max(SIZE - len(model), 0)))
    finally:
        os.close(fd)
    return differ(path, model[:SIZE] if resizable else model)


def fio(mnt):
    if not shutil.which("fio"):
        return "SKIP fio is not installed"
    result = subprocess.run(["fio", "--name=verify", f"--filename={mnt}/large", "--rw=randrw", "--bs=4k-128k", "--size=64m",
                             "--io_size=64m", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--fsync=50", "--overwrite=1",
                             "--allow_file_create=0", "--minimal"], cwd=os.path.dirname(mnt), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if result.returncode == 0 else result.stdout.strip().splitlines()[-1]


def main():
    work = tempfile.mkdtemp(prefix="weightfs-fsx-")
    mnt, file = f"{work}/mnt", f"{work}/m.pt"
    os.mkdir(mnt)
    base = Storage("float32", struct.pack("<60000f", *range(60000)))
    save(file, {"w": Tensor("uint8", (SIZE,), bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)),
                "view": Tensor("float32", (200, 300), b"", storage=base, stride=(1, 200)),
                "tie": Tensor("float32", (200, 300), b"", storage=base, stride=(1, 200)),
                "large": Tensor("uint8", (64 << 20,), bytes(64 << 20))})
    rng = random.Random(args.seed)
    results = []
    try:
        subprocess.run([WEIGHTFS, file, mnt], check=True)
        results.append(("a plain tensor, resized and back", operate(f"{mnt}/w", rng, args.operations, True)))
        results.append(("a strided view", operate(f"{mnt}/view", rng, args.operations // 4, False)))
        results.append(("its tie", operate(f"{mnt}/tie", rng, args.operations // 4, False)))
        results.append(("fio with verification", fio(mnt)))
        sums = [subprocess.run(["sha256sum", "w", "view", "tie", "large"], cwd=mnt, check=True, stdout=subprocess.PIPE).stdout]
        subprocess.run([WFCTL, "umount", mnt], check=True)
        subprocess.run([WEIGHTFS, "-o", "ro", file, mnt], check=True)
        sums.append(subprocess.run(["sha256sum", "w", "view", "tie", "large"], cwd=mnt, check=True, stdout=subprocess.PIPE).stdout)
        results.append(("the committed checkpoint holds the same bytes", None if sums[0] == sums[1] else "sums differ"))
    finally:
        subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL)
        shutil.rmtree(work)
    for i, (name, wrong) in enumerate(results, 1):
        skip = f" # {wrong}" if wrong and wrong.startswith("SKIP") else ""
        print(f"{'not ' if wrong and not skip else ''}ok {i} - {name}{skip}")
        if wrong and not skip:
            print(f"#   seed {args.seed}: {wrong}")
    print(f"1..{len(results)}")
    sys.exit(any(w and not w.startswith("SKIP") for _, w in results))


if __name__ == "__main__":
    main()
