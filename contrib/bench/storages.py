# SPDX-License-Identifier: MIT
"""Where the storages of a zip checkpoint lie in its file, without torch: for contrib/bench/device, which needs no mount.

    storages("model.pt")            [(key, offset, bytes)] in the file's order
    write_list("model.pt", path)    the same as contrib/bench/device reads it
"""
import os
import struct
import zipfile


def storages(path):
    found = []
    with zipfile.ZipFile(path) as archive, open(path, "rb") as f:
        for record in archive.infolist():
            parts = record.filename.split("/")
            if len(parts) != 3 or parts[1] != "data":
                continue
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path}: {record.filename} is compressed")
            f.seek(record.header_offset + 26)
            name, extra = struct.unpack("<HH", f.read(4))
            found.append((parts[2], record.header_offset + 30 + name + extra, record.file_size))
    return sorted(found, key=lambda s: s[1])


def write_list(checkpoint, path):
    found = storages(checkpoint)
    with open(path, "w") as f:
        f.write(os.path.abspath(checkpoint) + "\n")
        f.writelines(f"{offset} {size}\n" for _, offset, size in found)
    return found
