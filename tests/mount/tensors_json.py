#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
""".weightfs/tensors.json: a line a tensor, which says what the entry's attributes say, and where its bytes stand in the checkpoint.

Usage: tensors_json.py BUILD_DIRECTORY    Prints TAP.
"""
import json
import mmap
import os
import sys
from collections import OrderedDict

from kit import World, done, eventually, floats, need_fuse, ok, read, same
from minicheckpoint import Storage, Tensor, save

need_fuse()
BUILD = sys.argv[1]
ATTRIBUTES = ("dtype", "storage", "location", "device", "class")
NUMBERS = ("shape", "stride", "storage_offset")


def make(path):
    base, tie = Storage("float32", floats(12)), Tensor("float32", (2,), floats(2, 10))
    save(path, OrderedDict([
        ("w", Tensor("float32", (3, 4), b"", storage=base)), ("t", Tensor("float32", (4, 3), b"", storage=base, stride=(1, 4))),
        ("row", Tensor("float32", (4,), b"", storage=base, offset=4)), ("bias", tie), ("tied", tie), ("epoch", 3),
        ("none", Tensor("int64", (0, 3), b"")), ("0-d", Tensor("float64", (), bytes(range(8)))),
        ('a/b "\n%', Tensor("uint8", (5,), b"12345")), ("list", [Tensor("int32", (1,), b"abcd"), 1.5]),
        ("by number", {7: Tensor("bool", (1,), b"\1"), "x": {}})]))


def manifest(w):
    with open(f"{w.mnt}/.weightfs/tensors.json", encoding="utf-8") as f:
        return {line["path"]: line for line in map(json.loads, f)}


def text(w, name):
    with open(f"{w.mnt}/.weightfs/{name}", encoding="utf-8") as f:
        return list(map(json.loads, f))


def from_columns(lines):
    """The lines of entries.json that they stand for."""
    forms = []
    for line in lines:
        if "run" in line:
            for i, key in enumerate(line["key"]):
                form = forms[line["form"] if isinstance(line["form"], int) else line["form"][i]]
                yield {**form, "path": f"{line['run']}/{key}" if line["run"] else key, "key": key, "storage": line["storage"][i], "file_offset": line["file_offset"][i]}
        elif "form" in line:
            forms.append(line["form"])
        else:
            yield line


def columns(w, how, least):
    """At least so many tensors stand in columns."""
    lines = text(w, "columns.json")
    same(list(from_columns(lines)), text(w, "entries.json"), f"{how}: columns say what lines say")
    ok(sum(len(line["key"]) for line in lines if "run" in line) >= least, f"{how}: some are columns", lines)


def attr(path, name):
    try:
        return os.getxattr(path, name).decode()
    except OSError:
        return None


def wrong(w, lines):
    """What a line says other than the attributes of its entry."""
    for path, line in lines.items():
        entry = f"{w.mnt}/{path}"
        for name in ATTRIBUTES:
            if line[name] != attr(entry, f"user.torch.{name}"):
                yield path, name
        for name in NUMBERS:
            if line[name] != json.loads(attr(entry, f"user.torch.{name}")):
                yield path, name
        if line["bytes"] != os.path.getsize(entry):
            yield path, "bytes"
        if str(line.get("file_offset")) != str(attr(entry, "user.torch.file_offset")):
            yield path, "file_offset"


def check(w, options):
    w.mount("-o", options)
    lines, data, st = manifest(w), read(w.file), os.stat(w.file)
    same(list(lines), ["w", "t", "row", "bias", "tied", "none", "0-d", 'a%2Fb "\n%25', "list/0", "by number/7"], f"{options}: every tensor in order")
    same(list(wrong(w, lines)), [], "lines and attributes agree")
    same([lines[p]["key"] for p in ('a%2Fb "\n%25', "tied", "list/0", "by number/7")], ['a/b "\n%', "tied", 0, 7], "keys are exact, of each name")
    same({p for p, line in lines.items() if "file" not in line}, {"t", "none"}, "what stands in the file in one piece says where")
    same({tuple(line["file_id"]) for line in lines.values() if "file" in line}, {(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns)},
         "and which file that is")
    same([p for p, line in lines.items() if "file" in line and
          data[line["file_offset"]:line["file_offset"] + line["bytes"]] != read(f"{w.mnt}/{p}")], [], "the bytes there are the tensor's")
    same({line["file"] for line in lines.values() if "file" in line}, {os.path.realpath(w.file)}, "by its absolute path")
    columns(w, options, 3)


def runs(w, how, wanted=("w", "row")):
    """{path: runs} of the tensors that have some: what a program finds there that reads the files itself."""
    # a file that is open for writing is not to be read past the mount, nor is one that was closed just now
    eventually(lambda: set(wanted) <= {p for p, line in manifest(w).items() if "runs" in line})
    lines, st = manifest(w), os.stat(w.file)
    found = {p: line["runs"] for p, line in lines.items() if "runs" in line}
    ok(set(found) >= {"w", "row"} and not set(found) & {"t", "bias"}, f"{how}: what stands in several places has runs", found)
    for path, parts in found.items():
        data = b""
        for file, offset, size in parts:
            with open(file, "rb") as f:
                f.seek(offset)
                data += f.read(size)
        ok(data == read(f"{w.mnt}/{path}"), f"{how}: {path} is all of them", (parts, data))
        ok(lines[path]["file_id"] == [st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns], f"{how}: of this checkpoint", lines[path])
    same(len(found["w"]), 3, f"{how}: before, in and behind the written bytes")
    same({file for file, *_ in found["w"]} - {os.path.realpath(w.file)}, {file for file, *_ in found["row"][:1]}, "which are in the edits beside it")
    return found


def editing(w):
    with open(f"{w.mnt}/row", "r+b") as f:
        f.write(b"new!")
    same({p for p, line in manifest(w).items() if "file" not in line}, {"w", "t", "row", "none"}, "edited bytes stand in the file no more")
    runs(w, "a part was written")
    columns(w, "a part was written", 2)
    with open(f"{w.mnt}/0-d", "r+b") as f:
        f.write(b"all anew")
    with open(f"{w.mnt}/none", "ab") as f:  # has no bytes, and gets a place of its own
        f.write(bytes(range(24)))
    found = runs(w, "all was written", ("w", "row", "0-d"))
    same(len(found.get("0-d", [])), 1, "in one run")
    os.rename(f"{w.mnt}/bias", f"{w.mnt}/bias2")
    lines = manifest(w)
    columns(w, "a tensor was renamed", 2)
    ok("bias" not in lines and lines["bias2"]["key"] == "bias2" and "file" in lines["bias2"], "a renamed tensor has its new name", lines)
    with open(f"{w.mnt}/.weightfs/commit", "w") as f:
        f.write("1")
    lines, data, st = manifest(w), read(w.file), os.stat(w.file)
    same(lines["row"]["file_id"], [st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns], "after a commit they stand in the new file")
    same(data[lines["row"]["file_offset"]:][:4], b"new!", "at their place")
    same([p for p, line in lines.items() if "runs" in line], [], "in one piece each")


def in_writing(w):
    """What is written through a mapping is in the kernel's memory at first, so that the file's bytes are not to be trusted then."""
    for name, views in (("t", {"t"}), ("row", {"w", "t", "row"})):
        before = {p for p in views if "file" in manifest(w)[p]}
        f = os.open(f"{w.mnt}/{name}", os.O_RDWR)
        view = mmap.mmap(f, 4, mmap.MAP_SHARED)
        os.close(f)
        same({p for p in views if "file" in manifest(w)[p]}, set(), f"nothing that views {name}'s storage stands in the file while it is mapped for writing")
        view.close()
        eventually(lambda: {p for p in views if "file" in manifest(w)[p]} == before)
        same({p for p in views if "file" in manifest(w)[p]}, before, "and all of it does afterwards")


def main():
    with World(BUILD, make) as w:
        check(w, "ro")
        w.umount()
        check(w, "rw")
        in_writing(w)
        editing(w)
        w.umount()
        w.mount("-o", "ro,map_location=cpu")
        same(text(w, "columns.json")[0], {"leases": True}, "where there is a device, columns say so")
        same(text(w, "columns.json")[1:], text(w, "entries.json"), "and all else are lines")
        w.umount()
    done()


main()
