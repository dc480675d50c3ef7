#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How content is judged: whole lines, closes of writers and readers, copies of descriptors, fsync, commits in the middle, sizes
without an opening, failures, kills. Without torch; what torch reads is tests/torch/replacing.py.

Usage: judging.py BUILD_DIRECTORY. Prints TAP.
"""
import ctypes
import errno
import json
import os
import struct
import subprocess
import sys
from collections import OrderedDict

from kit import World, done, eventually, floats, need_fuse, ok, read, run, same
from minicheckpoint import Tensor, save

need_fuse()
LIST = list(range(10000, 13000))


def make(path):
    save(path, OrderedDict([
        ("i", 10), ("f", 0.5), ("b", True), ("n", None), ("s", "text"), ("l", [1, 2]), ("params", LIST),
        ("loss", Tensor("float32", (), floats(1, 2))), ("count", Tensor("int64", (), struct.pack("<q", 7))),
        ("byte", Tensor("uint8", (), b"\5")), ("w", Tensor("float32", (4, 2), floats(8))), ("v", Tensor("float32", (3,), floats(3))),
        ("none", Tensor("float32", (3, 0), b"")), ("u", Tensor("uint8", (4,), b"abcd")), ("z", 1)]))


def attempt(action):
    try:
        action()
        return 0
    except OSError as e:
        return e.errno


def shell(w, command):
    return subprocess.run(["bash", "-c", command], cwd=w.mnt, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60)


def attribute(w, name, which):
    try:
        return os.getxattr(f"{w.mnt}/{name}", f"user.torch.{which}").decode()
    except OSError as e:
        return e.errno


def put(path, content, flags=os.O_WRONLY | os.O_TRUNC):
    fd = os.open(path, flags)
    try:
        while content:
            content = content[os.write(fd, content):]
    finally:
        os.close(fd)


# name, what is written by a shell, exit status 0, what reads then, user.torch.class
LINES = [
    ("i", "11\n", True, b"11\n", "int"), ("i", "0.9\n", True, b"0.9\n", "float"), ("i", "1e3\n", True, b"1000.0\n", "float"),
    ("i", "ten\n", False, b"10\n", "int"), ("i", "true\n", False, b"10\n", "int"), ("i", "[1]\n", False, b"10\n", "int"),
    ("i", "nan\n", False, b"10\n", "int"), ("i", "0x10\n", False, b"10\n", "int"),
    ("f", "3\n", True, b"3.0\n", "float"), ("f", "inf\n", True, b"Infinity\n", "float"), ("f", "x\n", False, b"0.5\n", "float"),
    ("b", "false\n", True, b"false\n", "bool"), ("b", "1\n", False, b"true\n", "bool"), ("b", "False\n", False, b"true\n", "bool"),
    ("s", "a\nb\n", True, b"a\nb\n", "str"), ("l", "[3, 4.5]\n", True, b"[3, 4.5]\n", "list"), ("l", "[3, \n", False, b"[1, 2]\n", "list"),
    ("loss", "0.25\n", True, floats(1, 0.25), "torch.Tensor"), ("loss", "hello\n", False, floats(1, 2), "torch.Tensor"),
    ("loss", "abc\n", False, floats(1, 2), "torch.Tensor"), ("loss", "1e99\n", False, floats(1, 2), "torch.Tensor"),
    ("count", "-3\n", True, struct.pack("<q", -3), "torch.Tensor"), ("count", "2.5\n", False, struct.pack("<q", 7), "torch.Tensor"),
    ("byte", "200\n", True, b"\xc8", "torch.Tensor"), ("w", "0.5\n", False, floats(8), "torch.Tensor"),
    ("v", "1234567\n", False, floats(3), "torch.Tensor"), ("u", "abc\n", True, b"abc\n", "torch.Tensor"),
    ("n", "3\n", True, b"3\n", "int"), ("n", "[1, true]\n", True, b"[1, true]\n", "list"), ("n", "hello you\n", True, b"hello you\n", "str"),
    # new keys
    ("new1", "3\n", True, b"3\n", "int"), ("new2", "3.5e2\n", True, b"3.5e2\n", "float"), ("new3", "true\n", True, b"true\n", "bool"),
    ("new4", "null\n", True, b"null\n", "NoneType"), ("new5", "[1, [2, \"x\"]]\n", True, b"[1, [2, \"x\"]]\n", "list"),
    ("new6", "some text\n", True, b"some text\n", "str"), ("new7", "[1, x]\n", True, b"[1, x]\n", "str"), ("new8", "\n", True, b"\n", "str"),
    ("new9", "007\n", True, b"007\n", "str"), ("new10", "True\n", True, b"True\n", "str"), ("new11", "no newline", True, b"no newline", "torch.Tensor"),
    ("new12", "two\nlines\n", True, b"two\nlines\n", "torch.Tensor"), ("new13", "1 2\n", True, b"1 2\n", "str"),
    ("new14", "{\"a\": 1}\n", True, b"{\"a\": 1}\n", "str"), ("new15", "-0.0\n", True, b"-0.0\n", "float"),
]
AFTER_COMMIT = {"new2": b"350.0\n", "new6": b"some text", "new7": b"[1, x]", "new8": b"", "new9": b"007", "new10": b"True", "new13": b"1 2",
                "new14": b"{\"a\": 1}"}


def lines(w):
    # the shell that writes hears of it: write(2) itself refuses, for the error of close is lost
    for name, text, good, then, klass in LINES:
        r = shell(w, f"printf %b {json.dumps(text).replace('$', '')} > {name}" if "\"" not in text else f"printf %s '{text}' > {name}")
        same((r.returncode == 0, read(f"{w.mnt}/{name}"), attribute(w, name, "class")), (good, then, klass), f"{text!r} into {name}")
        if not name.startswith("new"):
            w.again()
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "commits")
    wrong = {name: (read(f"{w.mnt}/{name}"), attribute(w, name, "class")) for name, _, _, then, klass in LINES if name.startswith("new")
             and (read(f"{w.mnt}/{name}"), attribute(w, name, "class")) != (AFTER_COMMIT.get(name, then), klass)}
    same(wrong, {}, "the new keys have their types, and texts no newline, after it")
    same(os.listdir(w.mnt)[-15:], [f"new{i}" for i in range(1, 16)], "in the order in which they were made")


def closes(w):
    m = w.mnt
    r = shell(w, "{ /bin/echo -n -; /bin/echo 25; } > i")
    same((r.returncode, r.stderr.count("Invalid argument"), read(f"{m}/i")), (0, 1, b"-25\n"), "a half that does not parse: one complaint, and the whole counts")
    text = (json.dumps([x + 40000 for x in LIST]) + "\n").encode()
    for what, between in (("a reader", lambda fd: read(f"{m}/params")), ("a reader that opens for reading and writing elsewhere", lambda fd: read(f"{m}/i")),
                          ("a copy of the descriptor", lambda fd: attempt(lambda: os.close(os.dup(fd)))),
                          ("a child", lambda fd: subprocess.run(["true"], pass_fds=[fd])), ("sync", lambda fd: run("sync", m)),
                          ("a commit", lambda fd: run(w.wfctl, "commit", m)), ("a second writer", lambda fd: attempt(lambda: os.close(os.open(f"{m}/params", os.O_WRONLY))))):
        fd = os.open(f"{m}/params", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text[:8192])
        between(fd)
        os.write(fd, text[8192:])
        same((attempt(lambda: os.close(fd)), read(f"{m}/params") == text), (0, True), f"{what} between two writes ends nobody's text")
        w.again()
    fd = os.open(f"{m}/i", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"1")
    same((attempt(lambda: os.fsync(fd)), attribute(w, "i", "class")), (0, "int"), "fsync judges")
    os.write(fd, b"x")
    same(attempt(lambda: os.fsync(fd)), errno.EINVAL, "and refuses")
    same(read(f"{m}/i"), b"10\n", "readers see the old value, which is that of before the opening")
    os.pwrite(fd, b"2", 1)
    same((attempt(lambda: os.fsync(fd)), read(f"{m}/i")), (0, b"12\n"), "the writer's bytes stay as they are, and it goes on from them")
    os.write(fd, b"x")
    same((attempt(lambda: os.fsync(fd)), attempt(lambda: os.close(fd)), read(f"{m}/i")), (errno.EINVAL, 0, b"10\n"),
         "what was judged is not judged again")
    fd = os.open(f"{m}/s", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, "ü".encode()[:1])
    same((os.write(fd, "ü".encode()[1:]), attempt(lambda: os.close(fd)), read(f"{m}/s")), (1, 0, "ü".encode()), "half a character is not yet invalid")
    for name, old, bad in (("s", "ü".encode(), b"a\xffb"), ("f", b"0.5\n", b"\xff")):
        r = attempt(lambda: put(f"{m}/{name}", bad))
        same((r, read(f"{m}/{name}")), (errno.EINVAL, old), f"bytes that are no UTF-8 in {name}")
    r = shell(w, "printf 'a\\xff' > s").returncode
    same((r != 0, read(f"{m}/s")), (True, "ü".encode()), "and a shell hears of it")
    before = {n: read(f"{m}/{n}") for n in ("i", "f", "s", "l", "w", "loss", "n")}
    for name in before:
        os.close(os.open(f"{m}/{name}", os.O_WRONLY | os.O_TRUNC))
    same({n: read(f"{m}/{n}") for n in before}, before, "an opening that only emptied changes nothing")
    fd = os.open(f"{m}/i", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"12")
    failed = attempt(lambda: os.pwrite(fd, b"ten\n", 0))
    r = attempt(lambda: os.close(fd))
    same((failed, r, read(f"{m}/i")), (errno.EINVAL, errno.EINVAL, b"10\n"), "an opening in which a write failed changes nothing")
    run("cp", "-a", f"{m}/i", f"{m}/copied")
    for halves, r, shown in (((b"75350", b"!x"), errno.EINVAL, b"10\n"), ((b"75350", b"\n"), 0, b"75350\n"), ((b"!x",), errno.EINVAL, b"75350\n"), ((b"1", b"2"), 0, b"12")):
        fd = os.open(f"{m}/copied", os.O_WRONLY | os.O_TRUNC)
        for half in halves:
            os.write(fd, half)
        closed = attempt(lambda: os.close(fd))
        same((closed, read(f"{m}/copied")), (r, shown), f"a value that is a copy, given {halves}")
    fd = os.open(f"{m}/kept", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"half")
    put(f"{m}/.weightfs/commit", b"1", os.O_WRONLY)  # no program is started: its copy of the descriptor would be closed, and judged
    os.write(fd, b" and half\n")
    os.close(fd)
    same((read(f"{m}/kept"), attribute(w, "kept", "class")), (b"half and half\n", "str"), "it waits, and is judged at the end")
    w.kill()
    same((read(f"{m}/kept"), attribute(w, "kept", "class")), (b"half and half\n", "str"), "after a kill as well")


def rows(w):
    m = w.mnt
    for name, content, good, shape in (("w", floats(6, 9), True, "[3, 2]"), ("w", floats(20), True, "[10, 2]"), ("w", floats(3), False, None),
                                       ("w", b"abc", False, None), ("v", floats(7), True, "[7]"), ("v", b"", None, None), ("v", floats(1)[:3], False, None),
                                       ("none", floats(3), False, None), ("loss", floats(2), False, None), ("loss", floats(1, 8), True, "[]"),
                                       ("u", b"ab", True, "[2]"), ("u", b"ab\ncd\n", True, "[6]")):
        old = read(f"{m}/{name}"), attribute(w, name, "shape")
        r = attempt(lambda: put(f"{m}/{name}", content))
        wanted = (0, content, shape) if good else (0 if good is None else errno.EINVAL, *old)
        same((r, read(f"{m}/{name}"), attribute(w, name, "shape")), wanted, f"{len(content)} bytes for {name}")
        if good and shape != old[1]:
            changed = json.loads(read(f"{m}/.weightfs/status"))["shapes"]
            same(changed, [{"path": name, "from": json.loads(old[1]), "to": json.loads(shape)}], "status lists the shape that changed")
            w.kill()
            same((read(f"{m}/{name}"), attribute(w, name, "shape")), (content, shape), "after a kill it is there")
        w.again()
    put(f"{m}/rows", floats(6), os.O_WRONLY | os.O_CREAT)
    for which, text in (("dtype", b"float32"), ("shape", b"[3, 2]")):
        os.setxattr(f"{m}/rows", f"user.torch.{which}", text)
    put(f"{m}/rows", floats(20))
    w.kill()
    with open(f"{m}/rows", "r+b") as f:
        f.write(floats(1, 7))
    same((read(f"{m}/rows"), attribute(w, "rows", "shape")), (floats(1, 7) + floats(20)[4:], "[10, 2]"), "rows of a new tensor are there after a kill")
    fd = os.open(f"{m}/rows", os.O_RDWR)
    os.unlink(f"{m}/rows")
    os.pwrite(fd, floats(1, 9), 0)
    same((os.pread(fd, 4, 0), attempt(lambda: os.close(fd))), (floats(1, 9), 0), "and when its name is gone, what is written inside fits as well")
    with open(f"{m}/w", "ab") as f:
        f.write(floats(2, 70))
    same((attribute(w, "w", "shape"), read(f"{m}/w")), ("[5, 2]", floats(8) + floats(2, 70)), "a row behind")
    r = attempt(lambda: put(f"{m}/w", b"x", os.O_WRONLY | os.O_APPEND))
    same((r, len(read(f"{m}/w")), attribute(w, "w", "shape")), (errno.EINVAL, 40, "[5, 2]"), "half a row behind")
    same(run("truncate", "-s", "16", f"{m}/w").returncode, 0, "truncate")
    same((attribute(w, "w", "shape"), read(f"{m}/w")), ("[2, 2]", floats(4)), "rows cut")
    r = run("truncate", "-s", "15", f"{m}/w").returncode
    same((r != 0, read(f"{m}/w")), (True, floats(4)), "truncate to no rows is refused")
    os.truncate(f"{m}/v", 8)
    os.truncate(f"{m}/i", 1)
    os.truncate(f"{m}/w", 7)
    same((len(read(f"{m}/w")), attribute(w, "v", "shape")), (7, "[2]"), "sizes without an opening wait")
    eventually(lambda: len(read(f"{m}/w")) != 7)
    same((read(f"{m}/w"), read(f"{m}/i"), read(f"{m}/v")), (floats(4), b"1\n", floats(2)), "and are judged")
    same(json.loads(read(f"{m}/.weightfs/status"))["refused"], ["w"], "status says what was refused")
    ok(b"w: " in read(f"{m}/.weightfs/log"), "and so does the log")


def names(w):
    """What a name remembers, across kills."""
    m = w.mnt
    order = os.listdir(m)
    for name, content, then in (("i", b"12\n", b"12\n"), ("w", floats(8, 3), floats(8, 3)), ("loss", b"0.5\n", floats(1, 0.5)), ("s", b"x\ny\n", b"x\ny\n")):
        for way in ("rm", "away", "backup"):
            if way == "rm":
                os.unlink(f"{m}/{name}")
            else:
                os.rename(f"{m}/{name}", f"{m}/{name}{'~' if way == 'backup' else '.bak'}")
            kinds = attribute(w, f"{name}~", "class") if way == "backup" else None
            w.kill()
            put(f"{m}/{name}", content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            w.kill()
            listed = [x for x in os.listdir(m) if x != f"{name}.bak" and not x.endswith("~")]
            same((read(f"{m}/{name}"), attribute(w, name, "dtype"), listed), (then, attribute(w, name, "dtype"), order), f"{name} made anew after {way}")
            ok(attribute(w, name, "shape") == {"w": "[4, 2]", "loss": "[]"}.get(name, errno.ENODATA), "with its shape", attribute(w, name, "shape"))
            w.again()
    os.rename(f"{m}/i", f"{m}/i~")
    r = attempt(lambda: put(f"{m}/i", b"twelve", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    same((r, read(f"{m}/i"), read(f"{m}/i~")), (errno.EINVAL, b"10\n", b"10\n"), "in place of a backup: what does not fit is refused")
    os.unlink(f"{m}/i~")
    same((run(w.wfctl, "commit", m).returncode, read(f"{m}/i"), attribute(w, "i", "class")), (0, b"10\n", "int"), "and at a commit the old value stands")
    os.unlink(f"{m}/f")
    put(f"{m}/f", b"some text\n", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    same((attribute(w, "f", "class"), os.listdir(m)[-1]), ("str", "f"), "removed before: what does not fit is new content, at the end")
    put(f"{m}/tmp", b"nonsense\n", os.O_WRONLY | os.O_CREAT)
    same((attempt(lambda: os.rename(f"{m}/tmp", f"{m}/b")), read(f"{m}/b"), read(f"{m}/tmp")), (errno.EINVAL, b"true\n", b"nonsense\n"),
         "renamed over: what does not fit is refused, and both stay")
    os.rename(f"{m}/z", f"{m}/b")
    same((read(f"{m}/b"), attribute(w, "b", "class")), (b"1\n", "int"), "another key renamed over it replaces it as it is")
    os.rename(f"{m}/i", f"{m}/x")
    os.rename(f"{m}/s", f"{m}/i")
    same(read(f"{m}/i"), b"text", "another key renamed to a name that is free stays what it is")


def said(w):
    m = w.mnt
    put(f"{m}/n1", floats(6), os.O_WRONLY | os.O_CREAT)
    for name, value in (("shape", b"[2, 3]"), ("stride", b"[3, 1]"), ("storage", b"7"), ("file_offset", b"64"), ("dtype", b"float32"), ("device", b"file")):
        os.setxattr(f"{m}/n1", f"user.torch.{name}", value)
    same((attribute(w, "n1", "dtype"), attribute(w, "n1", "shape")), ("float32", "[2, 3]"), "shape before dtype, through a path")
    fd = os.open(f"{m}/i", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, floats(2))
    os.setxattr(fd, "user.torch.shape", b"[2, 1]")
    os.setxattr(f"{m}/i", "user.torch.dtype", b"float32")
    same((attempt(lambda: os.close(fd)), attribute(w, "i", "shape"), read(f"{m}/i")), (0, "[2, 1]", floats(2)), "a tensor over an int")
    fd = os.open(f"{m}/w", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"2.5\n")
    os.setxattr(fd, "user.torch.class", b"float")
    same((attempt(lambda: os.close(fd)), attribute(w, "w", "class"), read(f"{m}/w")), (0, "float", b"2.5\n"), "a float over a tensor")
    fd = os.open(f"{m}/v", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, floats(5))
    os.setxattr(fd, "user.torch.shape", b"[2, 2]")
    r = attempt(lambda: os.close(fd))
    same((r, attribute(w, "v", "shape"), read(f"{m}/v")), (errno.EINVAL, "[3]", floats(3)), "a shape that does not come true is told at the close")
    for name, klass, text in (("l", "tuple", b"[1, 2]\n"), ("b", "str", b"true"), ("f", "numpy.float64", b"0.5\n"), ("z", "float", b"1.0\n"), ("z", "numpy.int64", b"1\n"), ("f", "int", None),
                              ("s", "bytes", b"text"), ("s", "int", None)):
        r, old = attempt(lambda: os.setxattr(f"{m}/{name}", "user.torch.class", klass.encode())), attribute(w, name, "class")
        same((r, old == klass, read(f"{m}/{name}") == text if text else r), (0, True, True) if text else (errno.EINVAL, False, errno.EINVAL), f"class {klass} for {name}")
    os.setxattr(m, "user.torch.class", b"dict")
    same(attribute(w, "", "class"), "dict", "the root as a dict")
    before = {n: read(f"{m}/{n}") for n in os.listdir(m)}, os.listdir(m)
    w.kill()
    same(({n: read(f"{m}/{n}") for n in os.listdir(m)}, os.listdir(m)), before, "all of it after a kill")
    same(attribute(w, "", "class"), "dict", "the root, too")
    same((run(w.wfctl, "umount", m).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "and committed")
    w.mount("-o", "ro")
    same(({n: read(f"{m}/{n}") for n in os.listdir(m)}, os.listdir(m)), before, "and in the checkpoint")


def killed(w):
    """New values that are in the log, and are written again before a kill: each is the one or the other, never half of both."""
    m, texts = w.mnt, {"number": (b"0.25\n", b"0.125\n"), "line": (b"a line\n", b"an\n"), "list": (b"[1,  2]\n", b"[3,  4, 5]\n"), "copy": (b"10\n", b"77777\n")}
    run("cp", "-a", f"{m}/i", f"{m}/copy")
    for name, (one, _) in texts.items():
        put(f"{m}/{name}", one, os.O_WRONLY | os.O_CREAT)
    w.kill()
    for name, (_, two) in texts.items():
        put(f"{m}/{name}", two)
    same([read(f"{m}/{n}") for n in texts], [t[1] for t in texts.values()], "written again")
    w.crash()
    shown = {name: read(f"{m}/{name}") for name in texts}
    ok(all(shown[n] in texts[n] for n in texts), "after a kill each is one or the other", shown)
    r = [attempt(lambda: put(f"{m}/{name}", b"x", os.O_WRONLY | os.O_APPEND)) for name in ("copy", "number", "line")]
    same((r, read(f"{m}/copy"), read(f"{m}/number"), read(f"{m}/line")),
               ([errno.EINVAL, 0, 0], shown["copy"], shown["number"] + b"x", shown["line"] + b"x"), "something behind: no number, and other new content")
    same((run(w.wfctl, "umount", m).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "and committed")


def exchanged(w):
    """A new file that got a remembered name by an exchange has come as itself: what is written to it later moves it nowhere."""
    m = w.mnt
    os.mkdir(f"{m}/d")
    put(f"{m}/d/new", bytes(range(12)), os.O_WRONLY | os.O_CREAT)
    for which, text in (("dtype", b"uint8"), ("shape", b"[3, 4]")):
        os.setxattr(f"{m}/d/new", f"user.torch.{which}", text)
    os.rename(f"{m}/w", f"{m}/w~")
    put(f"{m}/temporary", floats(8, 5), os.O_WRONLY | os.O_CREAT)
    os.rename(f"{m}/temporary", f"{m}/w")
    exchange = ctypes.CDLL(None).renameat2(-100, os.fsencode(f"{m}/d/new"), -100, os.fsencode(f"{m}/w"), 2)
    put(f"{m}/w", bytes(12))
    wanted = [x for x in os.listdir(m) if x not in ("w", "w~")] + ["w"]
    same((exchange, run(w.wfctl, "umount", m).returncode), (0, 0), "an exchange, and a commit")
    w.mount()
    same((os.listdir(m), read(f"{m}/w"), read(f"{m}/d/new"), attribute(w, "w", "shape")), (wanted, bytes(12), floats(8, 5), "[3, 4]"),
         "the exchange put it at the end, and there it stays")


def empties(path):
    save(path, {f"{kind}{i}": make_one() for i in range(3) for kind, make_one in
                (("text", str), ("flags", lambda: Tensor("bool", (0,), b"")), ("rows", lambda: Tensor("float32", (0, 3), b"")))})


def what(w, name):
    return [attribute(w, name, a) for a in (("class",) if name.startswith("text") else ("class", "dtype", "shape"))]


def copied_empties(w):
    """Of what has no bytes the attributes alone say what it becomes, also where nothing was there before."""
    for by, copy in (("cp -a", lambda a, b: run("cp", "-a", f"{w.mnt}/{a}", f"{w.mnt}/{b}")), ("wfctl cp", lambda a, b: run(w.wfctl, "cp", w.mnt, a, b))):
        w.mount()
        for a, b in (("text0", "flags1"), ("text0", "rows1"), ("flags0", "text1"), ("flags0", "rows2"), ("rows0", "text2"), ("rows0", "flags2")):
            r = copy(a, b)
            wanted = what(w, a), os.stat(f"{w.mnt}/{a}").st_size
            for phase in ("now", "killed", "committed"):
                if phase == "killed":
                    w.kill()
                elif phase == "committed":
                    run(w.wfctl, "commit", w.mnt)
                shown = [attribute(w, b, x) for x in ("class", "dtype", "shape")[:len(wanted[0])]], os.stat(f"{w.mnt}/{b}").st_size
                same((r.returncode, shown), (0, wanted), f"{by} of {a} over {b}, {phase}")
        w.umount()
        empties(w.file)


class Anew(World):
    def kill(self):
        """With what the log has been promised in it."""
        run("sync", self.mnt)
        self.crash()

    def again(self):
        """As at the start, cheaply: the edits are dropped."""
        r = run(self.wfctl, "discard", self.mnt)
        ok(r.returncode == 0, "discard", r) if r.returncode else None


for case in (lines, closes, rows, names, said, killed, exchanged):
    print(f"# {case.__name__}", flush=True)
    with Anew(sys.argv[1], make) as world:
        world.mount()
        try:
            case(world)
        except Exception as e:  # the next cases are worth running
            import traceback
            ok(False, f"{case.__name__}: {e!r}", traceback.format_exc())
with Anew(sys.argv[1], empties) as world:
    copied_empties(world)
done()
