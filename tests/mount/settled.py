#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What everybody sees from the moment when close returns.

The daemon hears of the last close only with the release, which the kernel sends some time later and for which nobody waits. Until then
it cannot tell a file that was closed from one that a shell holds over the commands of a group. Each test here holds a copy of the
descriptor, so that no release comes: what is written and closed has to be there for readers, for other writers and for attributes as if
it had come, and who holds the copy has to go on from its own bytes.

Usage: settled.py BUILD_DIR. Prints TAP.
"""
import errno
import os
import sys
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same
from minicheckpoint import Tensor, save

need_fuse()
HELD = []


def checkpoint(path):
    save(path, OrderedDict([("i", 10), ("f", 0.5), ("l", [1, 2]), ("s", "resnet"), ("none", None), ("w", Tensor("float32", (4,), floats(4))),
                            ("zero", Tensor("float32", (), floats(1)))]))


def put(path, content, flags=os.O_TRUNC):
    """Writes and closes; a copy of the descriptor stays open. Returns the errno of the close, or 0, and the copy."""
    fd = os.open(path, os.O_WRONLY | flags)
    copy = os.dup(fd)
    HELD.append(copy)
    error = 0
    try:
        if content is not None:
            os.write(fd, content)
    except OSError as e:
        error = e.errno
    try:
        os.close(fd)
    except OSError as e:
        error = error or e.errno
    return error, copy


def let_go():
    while HELD:
        try:
            os.close(HELD.pop())
        except OSError:
            pass


def shown(path):
    return os.stat(path).st_size, read(path)


def whole(data):
    return len(data), data


def readers(m):
    for name, content, error, wanted in (
            ("i", b"  0011 \n\n", 0, b"11\n"), ("f", b"1e-3", 0, b"0.001\n"), ("l", b"[1,2 ,3]", 0, b"[1, 2, 3]\n"), ("s", b"vgg\n", 0, b"vgg\n"),
            ("i", b"ten", errno.EINVAL, b"11\n"), ("i", b"ten\n", errno.EINVAL, b"11\n"), ("l", b"[1", errno.EINVAL, b"[1, 2, 3]\n"),
            ("s", b"\xff", errno.EINVAL, b"vgg\n"), ("i", None, 0, b"11\n"), ("w", None, 0, floats(4)), ("w", floats(5, 7), 0, floats(5, 7)),
            ("w", b"abc", errno.EINVAL, floats(5, 7)), ("w", floats(1), 0, floats(1)), ("zero", b"7\n", 0, floats(1, 7)),
            ("zero", b"no number\n", errno.EINVAL, floats(1, 7)), ("none", b"5\n", 0, b"5\n"), ("none", b"[1,2]\n", 0, b"[1,2]\n")):
        before = shown(f"{m}/{name}")
        got, _ = put(f"{m}/{name}", content)
        same((got, shown(f"{m}/{name}")), (error, whole(wanted)), f"{name}: {before[1]!r}, then {content!r}")


def way_back(m):
    """The state that a refusal leaves is the last one that was judged, whoever still holds the file."""
    put(f"{m}/i", b"11\n")
    same((put(f"{m}/i", b"many")[0], shown(f"{m}/i")), (errno.EINVAL, whole(b"11\n")), "a refusal after an edit takes back itself alone")
    put(f"{m}/w", floats(5, 7))
    same((put(f"{m}/w", b"abc")[0], shown(f"{m}/w")), (errno.EINVAL, whole(floats(5, 7))), "the same for a tensor")
    put(f"{m}/i", b"bad\n")
    same((put(f"{m}/i", b"12\n")[0], shown(f"{m}/i")), (0, whole(b"12\n")), "an edit after a refused one")
    let_go()
    same((shown(f"{m}/i"), shown(f"{m}/w")), (whole(b"12\n"), whole(floats(5, 7))), "stands when all descriptors are closed, in whatever order")
    put(f"{m}/i", b"13\n")
    os.truncate(f"{m}/w", 8)
    put(f"{m}/w", None, 0)
    same(shown(f"{m}/w"), whole(floats(2, 7)), "a size that truncate set is not what an open with O_TRUNC leaves")


def attributes(m):
    put(f"{m}/i", b"11\n")
    os.setxattr(f"{m}/i", "user.torch.class", b"float")
    same((shown(f"{m}/i"), os.getxattr(f"{m}/i", "user.torch.class")), (whole(b"11.0\n"), b"float"), "a class that is set after the close")
    put(f"{m}/w", floats(6))
    os.setxattr(f"{m}/w", "user.torch.shape", b"[2, 3]")
    let_go()
    same((shown(f"{m}/i"), os.getxattr(f"{m}/i", "user.torch.class"), os.getxattr(f"{m}/w", "user.torch.shape")), (whole(b"11.0\n"), b"float", b"[2, 3]"),
         "and what attributes said stays when the release comes")
    os.truncate(f"{m}/w", 0)
    put(f"{m}/w", None, 0)
    os.setxattr(f"{m}/w", "user.torch.dtype", b"int64")
    let_go()
    same(os.getxattr(f"{m}/w", "user.torch.dtype"), b"int64", "a dtype set on what was emptied")


def goes_on(m):
    """Who holds the file goes on from its own bytes, though readers looked in between and saw something else."""
    _, fd = put(f"{m}/i", b"-")
    same(shown(f"{m}/i"), whole(b"10\n"), "a minus alone is refused, and readers see the old value")
    os.pwrite(fd, b"25\n", 1)
    same((os.close(os.dup(fd)), shown(f"{m}/i")), (None, whole(b"-25\n")), "the number goes on from the minus")
    _, fd = put(f"{m}/l", b" [1,", os.O_TRUNC | os.O_APPEND)
    same(shown(f"{m}/l"), whole(b"[1, 2]\n"), "the beginning of a list is refused")
    os.write(fd, b"7]")
    same((os.close(os.dup(fd)), shown(f"{m}/l")), (None, whole(b"[1, 7]\n")), "what is appended goes behind it")
    _, fd = put(f"{m}/f", b" 2  \n", os.O_TRUNC | os.O_APPEND)
    same(shown(f"{m}/f"), whole(b"2.0\n"), "text in another form")
    try:
        os.write(fd, b"5")
        os.close(os.dup(fd))
        ok(False, "a second line in a float is refused")
    except OSError as e:
        same((e.errno, shown(f"{m}/f")), (errno.EINVAL, whole(b"0.5\n")), "what goes on from it is judged as a whole, against the old state")
    _, fd = put(f"{m}/w", floats(2, 30))
    os.pwrite(fd, floats(2, 40), 8)
    same((os.close(os.dup(fd)), shown(f"{m}/w")), (None, whole(floats(2, 30) + floats(2, 40))), "a tensor that was written in two parts")
    _, fd = put(f"{m}/s", b"a", os.O_TRUNC | os.O_APPEND)
    put(f"{m}/s", b"bc", os.O_TRUNC)
    os.write(fd, b"d")
    same((os.close(os.dup(fd)), shown(f"{m}/s")), (None, whole(b"bcd")), "after another writer an old descriptor goes on from what that one left")


def replaced(m):
    """New files that take an entry's name before their release comes: so write editors and sed -i."""
    for name, content, error, wanted in (("i", b"11\n", 0, b"11\n"), ("i", b" 12 \n", 0, b"12\n"), ("i", b"ten\n", errno.EINVAL, b"12\n"), ("l", b"[3]", 0, b"[3]\n"),
                                         ("w", floats(4, 5), 0, floats(4, 5)), ("w", floats(2), 0, floats(2)), ("s", b"x\n", 0, b"x\n")):
        kind, got = os.getxattr(f"{m}/{name}", "user.torch.class"), 0
        put(f"{m}/new", content, os.O_CREAT | os.O_EXCL)
        try:
            os.rename(f"{m}/new", f"{m}/{name}")
        except OSError as e:
            got = e.errno
            os.unlink(f"{m}/new")
        seen = got, shown(f"{m}/{name}"), os.getxattr(f"{m}/{name}", "user.torch.class")
        let_go()
        same((seen, shown(f"{m}/{name}")), ((error, whole(wanted), kind), whole(wanted)), f"{name} is replaced by {content!r}")
    put(f"{m}/i", b"13\n")
    os.rename(f"{m}/i", f"{m}/j")
    put(f"{m}/i", b"14\n", os.O_CREAT | os.O_EXCL)
    let_go()
    same((shown(f"{m}/j"), shown(f"{m}/i")), (whole(b"13\n"), whole(b"14\n")), "one that moves away and another in its place")
    put(f"{m}/s", b"gone")
    os.unlink(f"{m}/s")
    put(f"{m}/s", b"here", os.O_CREAT | os.O_EXCL)
    let_go()
    same(shown(f"{m}/s"), whole(b"here"), "one that is removed and made again")


def refused(m):
    """A rename that is refused leaves both files: the new one as it was judged, or still to be judged."""
    for content, klass in ((b"text\n", b"str"), (b"[1, 2]\n", b"list"), (b"raw", b"torch.Tensor"), (floats(4), b"torch.Tensor")):
        for judged in (True, False):
            if judged:
                put(f"{m}/new", content, os.O_CREAT | os.O_EXCL)
            else:
                fd = os.open(f"{m}/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                os.write(fd, content)
            try:
                os.rename(f"{m}/new", f"{m}/f")
                got = 0
            except OSError as e:
                got = e.errno
            if not judged:
                os.close(fd)
            seen = [shown(f"{m}/new"), os.getxattr(f"{m}/new", "user.torch.class"), shown(f"{m}/f")]
            let_go()
            then = [shown(f"{m}/new"), os.getxattr(f"{m}/new", "user.torch.class"), shown(f"{m}/f")]
            wanted = [whole(content), klass, whole(b"0.5\n")]
            same((got, seen, then), (errno.EINVAL, wanted, wanted), f"{content!r}, {'closed' if judged else 'open'}, in place of a float")
            os.unlink(f"{m}/new")
    put(f"{m}/new", b"raw", os.O_CREAT | os.O_EXCL)
    same(run("mv", f"{m}/new", f"{m}/f").returncode, 1, "refused, and committed before the release")


def idle(m):
    """An opening for writing that wrote nothing, and was closed, holds nothing back."""
    for name, which, value in (("i", "shape", b"[2, 2]"), ("i", "dtype", b"int32"), ("w", "shape", b"[3]"), ("zero", "dtype", b"int64"), ("i", "class", b"dict")):
        put(f"{m}/{name}", None, 0)
        before, got = shown(f"{m}/{name}"), 0
        try:
            os.setxattr(f"{m}/{name}", f"user.torch.{which}", value)
        except OSError as e:
            got = e.errno
        seen = shown(f"{m}/{name}")
        let_go()
        same((got, seen, shown(f"{m}/{name}")), (errno.EINVAL, before, before), f"{which} {value} of {name}")


def second(m):
    """An opening that edits nothing ends nobody's text."""
    _, fd = put(f"{m}/i", b"79", os.O_TRUNC)
    other = os.open(f"{m}/i", os.O_WRONLY)
    os.close(os.dup(other))
    os.write(fd, b"15\n")
    same((os.close(os.dup(fd)), shown(f"{m}/i")), (None, whole(b"7915\n")), "between two writes a second descriptor was opened and closed")
    os.close(other)
    os.write(fd, b"x")
    try:
        os.close(os.dup(fd))
        ok(False, "a line behind the number is refused")
    except OSError as e:
        same((e.errno, shown(f"{m}/i")), (errno.EINVAL, whole(b"10\n")), "the way back is that of the whole opening")
    _, fd = put(f"{m}/l", b"[1]", os.O_TRUNC)
    other = os.open(f"{m}/l", os.O_WRONLY | os.O_APPEND)
    os.close(fd)
    HELD.remove(fd)
    os.write(other, b"x")
    try:
        os.close(other)
        ok(False, "what is no list is refused")
    except OSError as e:
        same((e.errno, shown(f"{m}/l")), (errno.EINVAL, whole(b"[1]\n")), "one that stays when the first is closed has what that one left to go back to")


def shells(w):
    m = w.mnt
    for line, name, wanted in (("{ /bin/echo -n -; cat i >/dev/null; /bin/echo 25; } > i", "i", b"-25\n"),
                               ("{ /bin/echo -n '[1'; stat l >/dev/null; cat l >/dev/null; /bin/echo ', 9]'; } >> l", "l", None),
                               ("{ /bin/echo -n '[1'; stat l >/dev/null; cat l >/dev/null; /bin/echo ', 9]'; } > l", "l", b"[1, 9]\n"),
                               ("{ /bin/true; cat s; } > f.copy; : > f; cat f > f.copy; rm f.copy", "f", b"0.5\n")):
        run("bash", "-c", line, cwd=m)
        if wanted is not None:
            same(shown(f"{m}/{name}"), whole(wanted), line)
    same(shown(f"{m}/l"), whole(b"[1, 9]\n"), "a list")


def commits(w):
    """A commit right behind the close has all of it, and the release that comes afterwards leaves nothing for the next one."""
    m = w.mnt
    for name, content, error, wanted in (
            ("i", b"11\n", 0, b"11\n"), ("i", b" 012 ", 0, b"12\n"), ("i", b"ten", errno.EINVAL, b"12\n"), ("i", None, 0, b"12\n"), ("s", b"vgg\n", 0, b"vgg\n"),
            ("none", b" [5,6]\n", 0, b"[5, 6]\n"), ("w", floats(4, 5), 0, floats(4, 5)), ("w", floats(6), 0, floats(6)), ("w", b"abc", errno.EINVAL, floats(6)),
            ("zero", b"7\n", 0, floats(1, 7)), ("zero", b"abcde", errno.EINVAL, floats(1, 7)), ("n1", b"5\n", 0, b"5\n"), ("n2", b"3.50\n", 0, b"3.5\n"),
            ("n3", b"text\n", 0, b"text"), ("n4", b"raw", 0, b"raw"), ("n5", floats(4), 0, floats(4))):
        got, _ = put(f"{m}/{name}", content, os.O_TRUNC | os.O_CREAT)
        shown(f"{m}/{name}")  # as it is typed: the kernel has it
        edits = bool(content) and not error  # else there is nothing to commit, and the log stays as it was
        seen = [run(w.wfctl, "commit", m).returncode]
        for step in (lambda: None, let_go):
            step()
            seen.append((shown(f"{m}/{name}"), w.status()["dirty"], edits and os.path.exists(f"{w.file}.weightfs/log")))
        same((got, *seen), (error, 0, *[(whole(wanted), False, False)] * 2), f"{name}: {content!r}, and a commit")


for case in (readers, way_back, attributes, goes_on, second, replaced, refused, idle, commits, shells):
    with World(sys.argv[1], checkpoint) as world:
        print(f"# {case.__name__}", flush=True)
        world.mount()
        case(world if case in (commits, shells) else world.mnt)
        let_go()
        before = {n: read(f"{world.mnt}/{n}") for n in os.listdir(world.mnt)}
        same(run(world.wfctl, "commit", world.mnt).returncode, 0, "commits")
        same({n: read(f"{world.mnt}/{n}").replace(b"[1,2]", b"[1, 2]") for n in os.listdir(world.mnt)}, {n: v.replace(b"[1,2]", b"[1, 2]") for n, v in before.items()},
             "what was seen is what the checkpoint has")
        world.umount()
done()
