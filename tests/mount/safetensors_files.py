#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A safetensors file, mounted: what is read, every edit that the format can say, and each that it cannot, with its reason. The file is made
and read here by the rules of the format, so that nothing but Python is needed; tests/torch holds the same against the library.

Usage: safetensors_files.py BUILD_DIRECTORY. Prints TAP.
"""
import errno
import json
import os
import struct
import sys
import time

from flatfile import load, make
from kit import World, done, floats, need_fuse, ok, read, run, same, write

need_fuse()

FILE = {"n": ("I64", [], struct.pack("<q", 3)), "a.w": ("F32", [2, 3], floats(6)), "b": ("F32", [4], floats(4)),
        "z/\xe9": ("BF16", [5], b"0123456789"), "e": ("U8", [0, 7], b"")}


def small(path):
    make(path, FILE, {"format": "pt", "note": "two\nlines\n"})


def xattr(path, name):
    return os.getxattr(path, "user.torch." + name).decode()


def refused(code, what, call, *args):
    try:
        call(*args)
        ok(False, f"{what} was not refused")
    except OSError as e:
        same(errno.errorcode[e.errno], errno.errorcode[code], what)


def gone(path):
    """A new file that was refused goes with the release, which comes a moment after the close."""
    until = time.monotonic() + 20
    while os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
    ok(not os.path.exists(path) and os.path.basename(path) not in os.listdir(os.path.dirname(path)), f"{os.path.basename(path)} is gone")


# what torch.distributed.checkpoint says of the tensors in a file: what it says, edits, and what it says then (None: the commit is refused)
SHARDING = (
    ({"a": [0, 0], "b": [0], "n": []}, ["mv a c"], {"c": [0, 0], "b": [0], "n": []}),
    ({"a": [0, 0], "b": [0], "n": []}, ["rm b"], {"a": [0, 0], "b": [0], "n": []}),  # as it is: nobody looks for what is not there
    ({"a": [0, 0], "b": [0], "n": []}, ["ln a d"], {"a": [0, 0], "b": [0], "n": [], "d": [0, 0]}),
    ({"a": [0, 0], "b": [0], "n": []}, ["mv a c", "mv c a"], {"a": [0, 0], "b": [0], "n": []}),
    ({"a": [0, 0], "b": [0], "n": []}, ["attr a shape=[3,2,1]"], {"a": [0, 0, 0], "b": [0], "n": []}),
    ({"a": [0, 0]}, ["mv b \u00e9"], {"a": [0, 0], "\u00e9": [0], "n": []}),  # torch could not read that before
    ({"a": [2, 0], "b": [0], "n": []}, ["rm n"], {"a": [2, 0], "b": [0], "n": []}),
    ({"a": [2, 0], "b": [0], "n": []}, ["mv a c"], None),
    ({"a": [2, 0], "b": [0], "n": []}, ["mv b c"], None),
    ({"a": [2, 0], "b": [0], "n": []}, ["attr a shape=[6]"], None),
    ({"a": [0, 0], "elsewhere": [1]}, ["mv a c"], None),
    ("no JSON", ["mv a c"], "no JSON"),
    ({"a": "text"}, ["mv a c"], {"a": "text"}),
)


def sharding(w):
    """DCP_SHARDING_INFO has an entry for each tensor, or torch's reader fails."""
    def text(info):
        return info if isinstance(info, str) else json.dumps({k: {"saved_offsets": v} for k, v in info.items()})
    for before, edits, after in SHARDING:
        what = f"DCP_SHARDING_INFO {text(before)}: {', '.join(edits)}"
        make(w.file, {"a": ("F32", [2, 3], floats(6)), "b": ("F32", [4], floats(4)), "n": ("I64", [], bytes(8))}, {"format": "pt", "DCP_SHARDING_INFO": text(before)})
        old = read(w.file)
        runs = [run(w.wfctl, edit.split()[0], w.file, *edit.split()[1:]) for edit in edits]
        if after is None:
            ok(runs[0].returncode == 1 and "which part of a whole" in runs[0].stderr and runs[0].stderr.count("\n") == 1 and read(w.file) == old, f"{what}: refused", runs)
            continue
        metadata = load(w.file)[1]
        same(([r.returncode for r in runs], metadata), ([0] * len(edits), {"format": "pt", "DCP_SHARDING_INFO": text(after)} if isinstance(after, str) or text(after) == text(before)
                                                        else {"format": "pt", "DCP_SHARDING_INFO": metadata["DCP_SHARDING_INFO"]}), what)
        if not isinstance(after, str):
            same({k: v["saved_offsets"] for k, v in json.loads(metadata["DCP_SHARDING_INFO"]).items()}, after, f"{what}: what it says")
    # several commits of a mount, and the view of what is not committed
    make(w.file, {"a": ("F32", [2, 3], floats(6)), "b": ("F32", [4], floats(4))}, {"DCP_SHARDING_INFO": text({"a": [0, 0], "b": [0]})})
    w.mount()
    for i, (old, new) in enumerate((("a", "c"), ("b", "a"), ("c", "b"))):
        os.rename(f"{w.mnt}/{old}", f"{w.mnt}/{new}")
        write(w.file + ".view", read(f"{w.mnt}/.weightfs/model.safetensors"))
        r = run(w.wfctl, "commit", w.mnt)
        for file in (w.file + ".view", w.file):
            tensors, metadata = load(file)
            said = {k: len(v["saved_offsets"]) for k, v in json.loads(metadata["DCP_SHARDING_INFO"]).items()}
            same((r.returncode, said), (0, {k: len(t[1]) for k, t in tensors.items()}), f"rename {i + 1} of a mount: {'the file' if file == w.file else 'the view'}")
    os.unlink(w.file + ".view")
    w.umount()


def reading(w):
    w.mount("-o", "ro")
    same(os.listdir(w.mnt), ["n", "a.w", "b", "z%2F\xe9", "e"], "the names, in the order of the header")
    for name, (dtype, shape, content) in FILE.items():
        path = f"{w.mnt}/{name.replace('/', '%2F')}"
        same((read(path), json.loads(xattr(path, "shape"))), (content, shape), name)
    same((xattr(f"{w.mnt}/z%2F\xe9", "dtype"), xattr(f"{w.mnt}/n", "location"), xattr(w.mnt, "class")), ("bfloat16", "cpu", "dict"), "attributes")
    same({k: read(f"{w.mnt}/.weightfs/metadata/{k}") for k in os.listdir(f"{w.mnt}/.weightfs/metadata")},
         {"format": b"pt", "note": b"two\nlines\n"}, "the metadata")
    for path in (w.file, w.mnt):
        p = run(w.wfctl, "ls", "-a", "--json", path, ".weightfs/metadata")
        same([json.loads(line) for line in p.stdout.splitlines()],
             [{"path": f".weightfs/metadata/{k}", "value": v} for k, v in (("format", "pt"), ("note", "two\nlines\n"))], "wfctl ls -a has them, too")
        same(len(run(w.wfctl, "ls", path).stdout.splitlines()), len(FILE), "and wfctl ls the tensors alone")
    same(read(f"{w.mnt}/.weightfs/model.safetensors"), read(w.file), "the view is the file")
    lines = [json.loads(line) for line in read(f"{w.mnt}/.weightfs/tensors.json").splitlines()]
    whole = read(w.file)
    same([whole[t.get("file_offset", 0):][:t["bytes"]] for t in lines], [t[2] for t in FILE.values()], "tensors.json tells where")
    same((w.status()["format"], read(f"{w.mnt}/.weightfs/globals")), ("safetensors", b""), "status and globals")
    refused(errno.EROFS, "a write", write, f"{w.mnt}/n", b"4\n")
    w.umount()


def edit(w):
    m = w.mnt
    os.rename(f"{m}/a.w", f"{m}/layer.weight")
    os.unlink(f"{m}/b")
    write(f"{m}/n", b"41\n")
    with open(f"{m}/z%2F\xe9", "r+b") as f:
        f.seek(2)
        f.write(b"xx")
    write(f"{m}/raw", b"\1\2\3")
    os.setxattr(f"{m}/raw", "user.torch.dtype", b"int8")
    os.link(f"{m}/n", f"{m}/twin")
    write(f"{m}/twin", b"7\n")
    os.truncate(f"{m}/layer.weight", 12)
    write(f"{m}/.weightfs/metadata/format", b"np\n")
    write(f"{m}/.weightfs/metadata/epoch", b"12\n")
    os.rename(f"{m}/.weightfs/metadata/note", f"{m}/.weightfs/metadata/text")


WANTED = {"n": ("I64", [], struct.pack("<q", 41)), "layer.weight": ("F32", [1, 3], floats(3)), "z/\xe9": ("BF16", [5], b"01xx456789"),
          "e": ("U8", [0, 7], b""), "raw": ("I8", [3], b"\1\2\3"), "twin": ("I64", [], struct.pack("<q", 7))}
NOTES = {"format": "np", "text": "two\nlines\n", "epoch": "12"}


def editing(w, options):
    w.mount(*options)
    edit(w)
    os.link(f"{w.mnt}/.weightfs/metadata/epoch", f"{w.mnt}/.weightfs/metadata/again")
    same(read(f"{w.mnt}/.weightfs/metadata/again"), b"12", "a text can be copied, too")
    os.unlink(f"{w.mnt}/.weightfs/metadata/again")
    same((os.stat(f"{w.mnt}/n").st_nlink, read(f"{w.mnt}/n")), (1, struct.pack("<q", 41)), "a link is a copy")
    ok("copy of n" in read(f"{w.mnt}/.weightfs/log").decode(), "and the log says so")
    os.rename(f"{w.mnt}/raw", f"{w.mnt}/raw~")
    os.link(f"{w.mnt}/n", f"{w.mnt}/raw")
    same((read(f"{w.mnt}/raw"), xattr(f"{w.mnt}/raw", "dtype"), read(f"{w.mnt}/raw~"), xattr(f"{w.mnt}/raw~", "dtype")),
         (struct.pack("<q", 41), "int64", b"\1\2\3", "int8"), "a copy in place of a backup leaves the backup as it is")
    os.rename(f"{w.mnt}/raw~", f"{w.mnt}/raw")
    before = read(w.file)
    run("sync", w.mnt)
    w.crash(*options)
    same(read(w.file), before, "the file is untouched until the commit")
    same(sorted(os.listdir(w.mnt)), sorted(k.replace("/", "%2F") for k in WANTED), "edits survive a kill")
    same(read(f"{w.mnt}/.weightfs/metadata/epoch"), b"12\n", "the metadata's, too")
    r = run(w.wfctl, "commit", w.mnt)
    ok(r.returncode == 0, "a commit", r)
    got, notes = load(w.file)
    same((got, list(got)), (WANTED, list(WANTED)), "what was committed, in its order")
    same(notes, NOTES, "and the metadata")
    write(f"{w.mnt}/n", b"42\n")
    write(f"{w.mnt}/.weightfs/metadata/epoch", b"13\n")
    same(xattr(f"{w.mnt}/raw", "storage"), "4", "storages are counted in the order of the entries")
    w.umount()
    got, notes = load(w.file)
    same((got["n"][2], notes["epoch"], got["twin"]), (struct.pack("<q", 42), "13", WANTED["twin"]), "and again")


def refusing(w):
    w.mount()
    m = w.mnt
    before = read(f"{m}/.weightfs/tensors.json")
    refused(errno.EPERM, "a directory", os.mkdir, f"{m}/d")
    refused(errno.EPERM, "a symbolic link", os.symlink, "n", f"{m}/l")
    refused(errno.EINVAL, "a value", write, f"{m}/v", b"3\n")
    refused(errno.EINVAL, "complex128", os.setxattr, f"{m}/n", "user.torch.dtype", b"complex128")
    refused(errno.EINVAL, "gradients", os.setxattr, f"{m}/b", "user.torch.requires_grad", b"true")
    refused(errno.EINVAL, "a location", os.setxattr, f"{m}/b", "user.torch.location", b"cuda:0")
    refused(errno.EPERM, "the name of the metadata", write, f"{m}/__metadata__", b"abcd")
    refused(errno.EPERM, "the same for what is there", os.rename, f"{m}/n", f"{m}/__metadata__")
    refused(errno.EPERM, "a tensor among the metadata", os.rename, f"{m}/n", f"{m}/.weightfs/metadata/n")
    refused(errno.EPERM, "metadata among the tensors", os.rename, f"{m}/.weightfs/metadata/format", f"{m}/format")
    refused(errno.EPERM, "a directory among the metadata", os.mkdir, f"{m}/.weightfs/metadata/d")
    refused(errno.EINVAL, "metadata that are no text", write, f"{m}/.weightfs/metadata/x", b"\xff\xfe")
    shell = run("sh", "-c", f"echo 3 > {m}/s")
    ok(shell.returncode == 1, "a shell hears of it", shell)
    for path in (f"{m}/v", f"{m}/s", f"{m}/.weightfs/metadata/x"):
        gone(path)
    with open(f"{m}/again", "wb") as f:  # refused, and then made good before the last close
        f.write(b"3\n")
        f.flush()
        refused(errno.EINVAL, "an fsync of text", os.fsync, f.fileno())
        f.write(b"\0\1")
    same(read(f"{m}/again"), b"3\n\0\1", "what was refused first, and then fits, stays")
    os.unlink(f"{m}/again")
    other = open(f"{m}/t", "wb")
    refused(errno.EINVAL, "text, while somebody else has the file open", write, f"{m}/t", b"4\n")
    other.close()
    gone(f"{m}/t")
    log = read(f"{m}/.weightfs/log").decode()
    for word in ("no directories", "tensors alone", "complex128", "gradients", "keeps that name for itself", "texts alone"):
        ok(word in log, f"the log tells: {word}", log)
    same(read(f"{m}/.weightfs/tensors.json"), before, "nothing of it is there")
    w.umount()
    same(load(w.file), (FILE, {"format": "pt", "note": "two\nlines\n"}), "or in the file")


def killed(w):
    """A new file that the format has no place for is no entry after a kill either, however far its refusal came; what fits stays."""
    w.mount()
    before, opened = read(w.file), []
    for name, content, calls in (("never", b"3\n", ()), ("fsync", b"4\n", ("fsync",)), ("closed", b"text\n", ("close",)),
                                 ("fits", b"\0\1", ("fsync",)), (".weightfs/metadata/x", b"\xff\n", ("close",)), (".weightfs/metadata/y", b"y\n", ("close",))):
        opened.append(open(f"{w.mnt}/{name}", "wb", buffering=0))
        opened[-1].write(content)
        good = "fits" in name or "/y" in name
        for call in calls:
            try:
                os.fsync(opened[-1].fileno()) if call == "fsync" else os.close(os.dup(opened[-1].fileno()))
                ok(good, f"{call} of {name} tells nothing")
            except OSError as e:
                same((e.errno, good), (errno.EINVAL, False), f"{call} of {name}")
    run("sync", w.mnt)
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)
    for path in ([w.file], ["--json", w.file]):
        p = run(w.wfctl, "ls", *path)
        ok(p.returncode == 0 and len(p.stdout.splitlines()) == len(FILE) + 1, "a reader finds what fits, and nothing of the others", p)
    r = w.mount()
    ok(r.returncode == 0 and "never: the content does not fit" in r.stderr, "the mount says what was refused", r)
    same((os.listdir(w.mnt), sorted(os.listdir(f"{w.mnt}/.weightfs/metadata"))),
         ([*os.listdir(w.mnt)[:5], "fits"], ["format", "note", "y"]), "the names after a kill")
    same((read(f"{w.mnt}/fits"), read(w.file)), (b"\0\1", before), "what fits is there")
    w.umount()
    got, notes = load(w.file)
    same((list(got), got["fits"][2], notes), ([*FILE, "fits"], b"\0\1", {"format": "pt", "note": "two\nlines\n", "y": "y"}), "and in the file")
    for f in opened:
        try:
            f.close()
        except OSError:
            pass


def discarding(w):
    w.mount()
    edit(w)
    r = run(w.wfctl, "discard", w.mnt)
    ok(r.returncode == 0, "discarded", r)
    same((os.listdir(w.mnt)[:2], sorted(os.listdir(f"{w.mnt}/.weightfs/metadata"))), (["n", "a.w"], ["format", "note"]), "all is as it was")
    same(read(f"{w.mnt}/.weightfs/model.safetensors"), read(w.file), "to the last byte")
    w.umount()


def verbs(w):
    """Without a mount, and a file of nothing to begin with."""
    new = f"{w.dir}/new.safetensors"
    r = run(w.wfctl, "new", new)
    ok(r.returncode == 0 and load(new) == ({}, {}), "an empty file", r)
    write(f"{w.dir}/raw", floats(6))
    for command in (["set", new, "w", "--file", f"{w.dir}/raw"], ["attr", new, "w", "user.torch.dtype=float32"], ["attr", new, "w", "user.torch.shape=[3,2]"],
                    ["cp", new, "w", "x"], ["mv", new, "x", "y"], ["cp", "--from", w.file, "--to", new, "b", "b"], ["rename", new, "s/^/p./"],
                    ["rm", new, "p.b"], ["set", new, ".weightfs/metadata/format", "pt"]):
        r = run(w.wfctl, *command)
        ok(r.returncode == 0, " ".join(command[:1] + command[2:3]), r)
    same(load(new), ({"p.w": ("F32", [3, 2], floats(6)), "p.y": ("F32", [3, 2], floats(6))}, {"format": "pt"}), "what they made")
    for command in (["mkdir", new, "d"], ["set", new, "v", "3"], ["attr", new, "p.w", "user.torch.dtype=complex128"]):
        before = read(new)
        r = run(w.wfctl, *command)
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "safetensors" in r.stderr, f"{command[0]} is refused with its reason", r)
        same(read(new), before, "and nothing changed")
    r = run(w.wfctl, "repack", w.file)
    ok(r.returncode == 0 and list(load(w.file)[0]) == ["n", "a.w", "b", "z/\xe9", "e"], "a repack has the order of save_file", r)
    r = run(w.wfctl, "verify", w.file)
    ok(r.returncode == 0, "verified", r)


def metadata_keys(w):
    """The texts of the metadata by verbs and their patterns."""
    def verb(*words):
        r = run(w.wfctl, *words)
        ok(r.returncode == 0, " ".join(words), r)
        return r.stdout
    for name in ("epoch", "step", "stage"):
        verb("set", w.file, f".weightfs/metadata/{name}", f"{name} 1")
    same(verb("cat", w.file, ".weightfs/metadata/step"), "step 1\n", "one, as it is")
    verb("mv", w.file, ".weightfs/metadata/epoch", ".weightfs/metadata/round")
    verb("rm", w.file, ".weightfs/metadata/st*")
    verb("cp", w.file, ".weightfs/metadata/ro[tu]nd", ".weightfs/metadata/again")
    verb("rename", w.file, "s/^no/the no/", ".weightfs/metadata")
    same(load(w.file), (FILE, {"format": "pt", "the note": "two\nlines\n", "round": "epoch 1", "again": "epoch 1"}), "what they made")
    r = run(w.wfctl, "rm", w.file, ".weightfs/metadata/x*")
    ok(r.returncode == 1 and "no such key" in r.stderr, "a pattern that fits none", r)
    w.mount()
    for words in (("rm", w.mnt, ".weightfs/metadata/a*"), ("mv", w.mnt, ".weightfs/metadata/r*", ".weightfs/metadata/epoch")):
        verb(*words)
    w.umount()
    same(load(w.file)[1], {"format": "pt", "the note": "two\nlines\n", "epoch": "epoch 1"}, "and on a mount")


def empty_metadata(w):
    """{} is not none: it stays until something is in it, and is shown as it is."""
    for mode in ("replace", "append"):
        make(w.file, FILE, {})
        w.mount("-o", f"commit={mode}")
        same(read(f"{w.mnt}/.weightfs/model.safetensors"), read(w.file), "the view is the file")
        os.rename(f"{w.mnt}/b", f"{w.mnt}/c")
        write(f"{w.mnt}/.weightfs/metadata/x", b"y")
        os.unlink(f"{w.mnt}/.weightfs/metadata/x")
        r = run(w.wfctl, "commit", w.mnt)
        ok(r.returncode == 0 and b'{"__metadata__":{},"n"' in read(w.file), f"{mode}: {{}} stays", r)
        write(f"{w.mnt}/.weightfs/metadata/x", b"y")
        run(w.wfctl, "commit", w.mnt)
        same(load(w.file)[1], {"x": "y"}, f"{mode}: until there is something")
        os.unlink(f"{w.mnt}/.weightfs/metadata/x")
        w.umount()
        ok(b"__metadata__" not in read(w.file), f"{mode}: and goes with it")
    make(w.file, {"w": ("F32", [2], floats(2))}, {})
    before = read(w.file)
    for words in (["repack", w.file], ["export", w.file, f"{w.dir}/out.safetensors"]):
        r = run(w.wfctl, *words)
        same((r.returncode, read(words[-1])), (0, before), f"{words[0]} keeps it")


for options in ((), ("-o", "commit=replace"), ("-o", "commit=append"), ("-s",)):
    with World(sys.argv[1], small) as world:
        print(f"# {' '.join(options)}")
        editing(world, options)
for case in (reading, refusing, killed, discarding, verbs, metadata_keys, sharding, empty_metadata):
    with World(sys.argv[1], small) as world:
        case(world)
done()
