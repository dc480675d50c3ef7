# SPDX-License-Identifier: MIT
"""Makes inputs for the fuzz target `zero` out of real directories of DeepSpeed: zero_seeds.py OUT_DIRECTORY DIRECTORY...

zero.c says what an input is. Of a file of torch.save it has the pickle and how large each storage is; the bytes of the storages it makes up.
"""
import os
import struct
import sys
import zipfile


def archive(path):
    with zipfile.ZipFile(path) as z:
        folder = z.namelist()[0].split("/")[0]
        sizes = {int(i.filename.rsplit("/", 1)[1]): i.file_size for i in z.infolist() if i.filename.startswith(folder + "/data/")}
        return [min(sizes.get(i, 0), 0xffff) for i in range(max(sizes, default=-1) + 1)][:255], z.read(folder + "/data.pkl")


def part(name, path):
    flags, sizes = 0, []
    if zipfile.is_zipfile(path):
        flags = 1
        sizes, content = archive(path)
    else:
        with open(path, "rb") as f:
            content = f.read()
    return struct.pack("<BBBI", flags, len(name), len(sizes), len(content)) + name.encode() + struct.pack(f"<{len(sizes)}H", *sizes) + content


def main(out, *directories):
    for directory in directories:
        with open(os.path.join(out, os.path.basename(os.path.normpath(directory))), "wb") as f:
            for folder, folders, names in os.walk(directory):
                folders.sort()
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    f.write(part(os.path.relpath(path, directory), path))


main(*sys.argv[1:])
