#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The verbs of wfctl where a mount takes part: on a mount they edit the mount; beside one they are refused with its place and process;
edits that a mount left wait, and go along when asked; wfctl mount makes its directory, and wfctl umount removes it.

Usage: verbs.py BUILD_DIR. Prints TAP; skips itself where /dev/fuse is missing.
"""
import os
import shlex
import shutil
import sys

from minicheckpoint import Tensor, save
from kit import World, done, floats, need_fuse, ok, read, run, same, write

need_fuse()
BUILD = os.path.abspath(sys.argv[1])


def names(path):
    return [line.split(" \t ")[0] for line in run(w.wfctl, "ls", "-a", path).stdout.splitlines()]


def verb(*words, status=0, word=""):
    r = run(w.wfctl, *words)
    ok(r.returncode == status and word in r.stderr and r.stderr.count("\n") == (status != 0), f"wfctl {' '.join(words)}: exit {status} {word}", r)
    return r


def on_a_mount():
    before = open(w.file, "rb").read()
    w.mount()
    verb("set", w.mnt, "epoch", "0.5")
    same(read(f"{w.mnt}/epoch"), b"0.5\n", "the mount has the value")
    verb("set", w.mnt, "new", "text\nof two lines")
    verb("set", w.mnt, "nothing", "null")
    verb("set", w.mnt, "nothing", "5")
    verb("set", w.mnt, "nothing", "words", status=1, word="not set")
    verb("rm", w.mnt, "nothing")
    verb("set", w.mnt, "new", "--file", "/dev/null")
    same(read(f"{w.mnt}/new"), b"", "an empty file is an empty text")
    for key in ("fc.weight", "epoch", "opt/lr"):
        verb("set", w.mnt, key, "--file", "/dev/null", status=1, word="empty")
    for value in ("x", "", "y", ""):
        verb("set", w.mnt, "new", value)
        same(read(f"{w.mnt}/new"), value.encode(), "it is set")
    verb("set", w.mnt, "empty", "")
    verb("set", w.mnt, "new", "", "--type=bytes")
    same(os.getxattr(f"{w.mnt}/new", "user.torch.class"), b"bytes", "set has set a type")
    verb("cp", w.mnt, "empty", "new")
    same((os.getxattr(f"{w.mnt}/new", "user.torch.class"), read(f"{w.mnt}/new"), read(f"{w.mnt}/empty")), (b"str", b"", b""), "cp of an empty text")
    verb("rm", w.mnt, "empty")
    for words in (["set", "new~", "5"], ["mv", "epoch", "epoch~"], ["cp", "epoch", ".#x"], ["mkdir", "#x#"], ["ln", "fc.bias", "._b"], ["ln", "-s", "opt", "opt~"],
                  ["rename", "s/$/~/"]):
        verb(words[0], w.mnt, *words[1:], status=1, word="editors")
    verb("mv", w.mnt, "opt/lr", "rate")
    verb("cp", w.mnt, "fc.*", "opt")
    verb("ln", w.mnt, "fc.bias", "third")
    verb("rename", w.mnt, "s/^fc\\.//", "opt")
    verb("attr", w.mnt, "opt/weight", "shape=[3, 2]")
    verb("mkdir", "-p", w.mnt, "a/b")
    verb("rm", w.mnt, "row")
    same(sorted(os.listdir(w.mnt)), sorted(["fc.weight", "fc.bias", "tied", "epoch", "opt", "new", "rate", "third", "a"]), "the mount has the names")
    same(os.stat(f"{w.mnt}/third").st_nlink, 3, "ln has made a tie")
    same(os.getxattr(f"{w.mnt}/opt/weight", "user.torch.shape"), b"[3, 2]", "attr has set a shape")
    same(run(w.wfctl, "cat", w.mnt, "opt/weight", "rate").stdout, "[[0. 1.]\n [2. 3.]\n [4. 5.]]\n0.1\n", "cat reads the mount")
    verb("rm", w.mnt, "opt", status=1, word="a mapping")
    verb("set", w.mnt, "fc.weight", "5", status=1, word="--file")
    same(open(w.file, "rb").read(), before, "the checkpoint is what it was")
    verb("set", w.file, "epoch", "1", status=1, word=f"process {w.status()['pid']}, and mounted on {w.mnt}")
    verb("cp", f"{w.mnt}:opt", f"{w.dir}/other.pt:opt", status=1, word="colon")
    verb("new", f"{w.dir}/other.pt")
    verb("cp", f"{w.mnt}:opt", f"{w.dir}/other.pt:opt")
    same(names(f"{w.dir}/other.pt"), ["opt/weight", "opt/bias"], "a mount is a donor")
    verb("commit", w.mnt)
    verb("umount", w.mnt)
    same(names(w.file), ["fc.weight", "fc.bias", "tied", "epoch", "opt/weight", "opt/bias", "new", "rate", "third", "a/b"], "wfctl commit has committed")


def ties():
    """The kernel's attributes belong to a file or to what a link leads to; keys to names."""
    w.mount()
    verb("rename", w.mnt, "s/tied/second/", "/")
    verb("ln", w.mnt, "fc.bias", "opt/b")
    verb("ln", "-s", w.mnt, "opt", "sh")
    verb("rename", w.mnt, "s/b/B/;s/s/S/", "sh")
    verb("mkdir", w.mnt, "opt/deep", "deep")
    verb("ln", "-s", w.mnt, "sh/deep", "d")
    verb("ln", "-s", w.mnt, "deep", "d/back")
    verb("rename", w.mnt, "s/^sh/SH/;s/^opt/o/", "/")
    same(sorted(os.listdir(w.mnt)), sorted(["fc.weight", "fc.bias", "second", "row", "epoch", "o", "SH", "deep", "d"]), "each name by its own key")
    same([run(w.wfctl, "attr", w.mnt, k, "key").stdout for k in ("fc.bias", "second", "o/B", "SH")], [f'"{k}"\n' for k in ("fc.bias", "second", "B", "SH")],
         "attr tells the key of each name")
    verb("mkdir", w.mnt, "elsewhere")
    verb("ln", w.mnt, "fc.bias", "elsewhere/left")
    verb("rm", w.mnt, "fc.bias", "second", "o/B")
    same(run(w.wfctl, "attr", w.mnt, "elsewhere/left", "key").stdout, '"left"\n', "the name that is left has its key")
    same(os.path.realpath(f"{w.mnt}/d/back"), f"{w.mnt}/deep", "ln -s finds its way from behind a link")
    verb("umount", w.mnt)


def kinds_over_kinds():
    """A value that set made has its type; a tool that copies another kind over it says so behind the content, wfctl before it."""
    w.mount()
    values = {"an_int": "5", "a_float": "0.5", "a_flag": "true", "a_list": "[1, 2]", "a_text": "words", "nothing": "null"}
    for key, value in values.items():
        verb("set", w.mnt, key, value)
    sources = [*values, "fc.weight", "fc.bias"]
    for tool in (["cp", "-a"], [w.wfctl, "cp", w.mnt]):
        bad = []
        for key, value in values.items():
            for source in sources:
                run(w.wfctl, "set", w.mnt, f"to_{key}_{source}", value)
                at = f"{w.mnt}/" if tool[0] == "cp" else ""
                r = run(*tool, f"{at}{source}", f"{at}to_{key}_{source}")
                a, b = f"{w.mnt}/{source}", f"{w.mnt}/to_{key}_{source}"
                if r.returncode or (read(a), os.getxattr(a, "user.torch.class")) != (read(b), os.getxattr(b, "user.torch.class")):
                    bad.append((source, key, r.stderr, read(b)))
                run(w.wfctl, "rm", w.mnt, f"to_{key}_{source}")
        same(bad, [], f"{os.path.basename(tool[0])} of each kind over what set made")
    w.umount()


def left_edits():
    """Edits of a mount that was killed."""
    w.mount()
    write(f"{w.mnt}/epoch", b"7\n")
    with open(f"{w.mnt}/fc.weight", "r+b") as f:
        f.write(floats(2, 90))
    write(f"{w.mnt}/scratch~", b"x")
    run("sync", w.mnt)
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)
    overlay = w.file + ".weightfs"
    before = {name: open(os.path.join(overlay, "data", name), "rb").read() for name in os.listdir(f"{overlay}/data")}
    log = open(f"{overlay}/log", "rb").read().rstrip(b"\0")
    verb("set", w.file, "opt/lr", "1", status=1, word="--with-pending")
    same(verb("rename", "--dry-run", w.file, "s/opt/o/", "/").stdout, "opt → o\n", "a scratch entry has no key that could be renamed")
    write(f"{w.dir}/bytes", floats(3, 50))
    write(f"{w.dir}/script", f"set {w.file} row --file {w.dir}/bytes\nmv {w.file} nothing x\n".encode())
    verb("-f", f"{w.dir}/script", "--with-pending", status=1, word="line 2")
    kept = read(w.file)
    for words in ([], ["--trim"], ["--align=4096"]):
        verb("repack", *words, w.file, status=1, word="--with-pending")
    same(read(w.file), kept, "a repack that they refuse leaves the file")
    after = {name: open(os.path.join(overlay, "data", name), "rb").read() for name in os.listdir(f"{overlay}/data")}
    ok(before == after and open(f"{overlay}/log", "rb").read().rstrip(b"\0") == log, "a run that fails leaves the edits that wait as they were", (before, after))
    same(run(w.wfctl, "cat", w.file, "epoch", "fc.weight").stdout, "7\n[[90. 91.  2.]\n [ 3.  4.  5.]]\n", "a reader sees them")
    shutil.copy(w.file, f"{w.dir}/packed.pt")
    shutil.copytree(overlay, f"{w.dir}/packed.pt.weightfs")
    verb("repack", "--with-pending", f"{w.dir}/packed.pt")
    same((run(w.wfctl, "cat", f"{w.dir}/packed.pt", "epoch").stdout, os.path.exists(f"{w.dir}/packed.pt.weightfs")), ("7\n", False), "with it they go along")
    verb("set", w.file, "row", "--file", f"{w.dir}/bytes", "--with-pending")
    same(run(w.wfctl, "cat", w.file, "epoch", "fc.weight", "row").stdout, "7\n[[90. 91.  2.]\n [50. 51. 52.]]\n[50. 51. 52.]\n", "all of them are committed")
    ok(not os.path.exists(overlay), "nothing waits any more")


def made_directory():
    directory = w.file[:-3]
    verb("mount", w.file)
    ok(os.path.exists(f"{directory}/.weightfs/status"), "wfctl mount makes a directory of the checkpoint's name")
    verb("umount", directory)
    ok(not os.path.exists(directory), "wfctl umount removes it")
    verb("mount", "-o", "ro", w.file, w.mnt)
    verb("umount", w.mnt)
    ok(os.path.isdir(w.mnt), "one that was there stays")
    shutil.copy(w.file, f"{w.dir}/plain")
    verb("mount", f"{w.dir}/plain", status=1, word="no suffix")
    write(f"{w.dir}/bad.pt", b"no checkpoint")
    r = run(w.wfctl, "mount", f"{w.dir}/bad.pt")
    ok(r.returncode == 1 and not os.path.exists(f"{w.dir}/bad"), "a mount that fails leaves no directory", r)
    verb("mount", f"{w.dir}/none.pt", status=1, word="No such file")


def reasons():
    """A verb on a mount tells what it tells of the file, though the system call of the mount has no more than an errno."""
    save(w.file, {"e": 3, "s": "x", "n": None, "t": Tensor("float32", (2, 2), floats(4)), "un": Tensor("float32", (3,), floats(3)), "tup": (Tensor("float32", (1,), floats(1)), 2),
                  "d": {"a": 1, "f": True}, "l": [Tensor("float32", (1,), floats(1))]})
    shutil.copy(w.file, f"{w.dir}/same.pt")
    w.mount()
    refused = [("mv", "s", "tup/5"), ("mv", "tup/0", "x"), ("set", "e", "foo"), ("set", "e", "foo"), ("set", "d/f", "5"), ("attr", "t", "shape=[3]"), ("attr", "n", "class=foo"),
               ("attr", "n", "class=str2"), ("attr", "e", "class=foo"), ("mkdir", "tup/x"), ("ln", "t", "tup/7"), ("ln", "-s", "d", "tup/7"), ("cp", "e", "tup/7"), ("attr", "d", "class=list"),
               ("mv", "l", "d/a"), ("set", "l/7", "4"), ("set", "un", "--file", __file__), ("set", "e", "--type=int", "1.5"), ("rm", "d"), ("set", "new/key", "5"), ("rm", "none")]
    for verb_name, *words in refused:
        at = 1 if words[0] == "-s" else 0
        told = []
        for path in (w.mnt, f"{w.dir}/same.pt"):
            r = run(w.wfctl, verb_name, *words[:at], path, *words[at:])
            told.append((r.returncode, r.stderr.replace(path, "FILE")))
        ok(told[0] == told[1] and told[0][0] == 1 and (verb_name != "mv" or "Invalid" not in told[0][1]), f"wfctl {verb_name} {' '.join(words[:3])}: one line for both", told)
    run(w.wfctl, "set", w.mnt, "e", "foo")
    r = run(w.wfctl, "set", w.mnt, "e", "x" * 5000)
    ok(r.returncode == 1 and "this text is no int" in r.stderr, "a reason that was told before", r)
    os.mkdir(f"{w.mnt}/other\t")
    r = run(w.wfctl, "mv", w.mnt, "other\t", "tup/8")
    ok(r.returncode == 1 and "a tuple cannot change" in r.stderr, "of a name that no terminal shows", r)
    w.umount()


def as_a_mount_reads():
    """What a new key and None become: with space around it, too, and one rule for set and for a line that is written."""
    words = [" 5", "5 ", "\t5", "5", "+5", ".5", "5.", "05", "-0", "1e5", "1_000", "0x10", "nan", "NaN", "inf", "-Infinity", "true", " true", "True", "null", "None", " null", "[1, 2]", " [1, 2]",
             "[1,2] ", "(1, 2)", '["a"]', "['a']", "1j", '{"a":1}', "[{}]", " ", "5 6", "[1, null]", "[]", "1e400", "5\r", "[1,]", "--5", "[NaN]", "[None]", "[True]", "[+1]", "\u0663", " word ", "a b"]
    save(w.file, {f"k{i}": None for i in range(len(words))})
    shutil.copy(w.file, f"{w.dir}/same.pt")
    script = "".join(f"set {w.dir}/same.pt {kind}{i} {shlex.quote(word)}\n" for i, word in enumerate(words) for kind in ("k", "new"))
    same(run(w.wfctl, f"--file={write_script(script)}").returncode, 0, "set")
    w.mount()
    for i, word in enumerate(words):
        for kind in ("k", "new"):
            write(f"{w.mnt}/{kind}{i}", f"{word}\n".encode())
    w.umount()
    both = [{key: run(w.wfctl, "cat", path, key).stdout + run(w.wfctl, "attr", path, key, "class").stdout for key in [f"{kind}{i}" for i in range(len(words)) for kind in ("k", "new")]}
            for path in (w.file, f"{w.dir}/same.pt")]
    same({words[int(key.strip("knew"))]: (both[0][key], both[1][key]) for key in both[0] if both[0][key] != both[1][key]}, {}, "each word is the same by both ways")
    same((both[1]["k0"], both[1]["new0"]), ("5\nint\n", "5\nint\n"), "' 5' is a number")


def write_script(text):
    write(f"{w.dir}/script", text.encode())
    return f"{w.dir}/script"


for case in (on_a_mount, kinds_over_kinds, ties, left_edits, made_directory, reasons, as_a_mount_reads):
    with World(BUILD) as w:
        case()
done()
