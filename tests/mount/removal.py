#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What happens to objects whose entries cannot go one by one when entries are removed: rm -r takes the object; where only a part was
removed it is back soon, a commit names it, and nothing else of the edits is lost.

Usage: removal.py BUILD_DIRECTORY. Prints TAP.
"""
import errno
import os
import shutil
import sys
import time
from collections import OrderedDict

from kit import World, done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Tensor, save

need_fuse()


def tensor(n, start=0):
    return Tensor("float32", (n,), floats(n, start))


class Linear:
    """Pickled as torch pickles a module."""

    def __init__(self, **parameters):
        self.__dict__.update(training=True, _parameters=OrderedDict(parameters), _buffers=OrderedDict(), _modules=OrderedDict())


def make(path):
    shared, module = (tensor(2, 5), 7), Linear(weight=tensor(4), bias=tensor(2, 50))
    cycle = (tensor(1), {})
    cycle[1]["self"] = cycle
    tie = tensor(3, 80)
    save(path, OrderedDict([
        ("w", tensor(2)), ("pair", (tensor(2), 3, "x")), ("module", module), ("nested", [(tensor(1), (tensor(2), {"k": 1}))]),
        ("shared", shared), ("again", shared), ("holder", (shared, module, tensor(1, 9))), ("tied", (tie, 1)), ("tie", tie), ("cycle", cycle),
        ("epoch", 3), ("other", (tensor(2, 30), tensor(2, 40)))]))


def tuple_root(path):
    save(path, (tensor(2), (tensor(1), 3), {"k": 1}))


def missing(path):
    return not os.path.lexists(path)


def back(path, start=None):
    """When the entry is there again: the time that it took, on a busy machine longer than the 5 seconds of the mount."""
    start = start or time.monotonic()
    while missing(path) and time.monotonic() < start + 60:
        time.sleep(0.02)
    return time.monotonic() - start if not missing(path) else None


def where_another_follows(w):
    """Whether both are away when the first would be back, were it not for the second. Once more where the machine was too slow to see it."""
    for _ in range(8):
        first = time.monotonic()
        os.unlink(f"{w.mnt}/other/0")
        while time.monotonic() < first + 3:
            time.sleep(0.02)
        second = time.monotonic()
        os.unlink(f"{w.mnt}/other/1")  # three seconds later: whoever does it is still at work
        while time.monotonic() < first + 6:
            time.sleep(0.02)
        seen = missing(f"{w.mnt}/other/0"), missing(f"{w.mnt}/other/1")
        if time.monotonic() < second + 4.9:
            return seen
        back(f"{w.mnt}/other/0")
        back(f"{w.mnt}/other/1")
    return "the machine was too slow eight times"


def refusal(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "done"


def in_part(w):
    w.mount()
    start = time.monotonic()
    for name in ("pair/0", "pair/2"):
        os.unlink(f"{w.mnt}/{name}")
    same((os.listdir(f"{w.mnt}/pair"), os.stat(f"{w.mnt}/pair").st_size), (["1"], 1), "a removed entry is not listed")
    same([refusal(os.stat, f"{w.mnt}/pair/0"), refusal(os.unlink, f"{w.mnt}/pair/0"), refusal(open, f"{w.mnt}/pair/2"),
          refusal(os.rename, f"{w.mnt}/pair/0", f"{w.mnt}/n"), refusal(os.rmdir, f"{w.mnt}/pair")],
         ["ENOENT"] * 4 + ["ENOTEMPTY"], "nor found")
    write(f"{w.mnt}/pair/1", b"4\n")
    same(read(f"{w.mnt}/pair/1"), b"4\n", "its neighbours can be written")
    took = back(f"{w.mnt}/pair/0", start)
    ok(took is not None and took > 4.5, "it is there again after some 5 seconds", took)
    same(where_another_follows(w), (True, True), "but not where another removal followed")
    same((os.listdir(f"{w.mnt}/pair"), read(f"{w.mnt}/pair/0"), read(f"{w.mnt}/pair/2")), (["0", "1", "2"], floats(2), b"x"), "with all it had")
    os.unlink(f"{w.mnt}/pair/1")
    same((os.listdir(f"{w.mnt}/pair"), read(f"{w.mnt}/pair/0")), (["0", "2"], floats(2)), "another removal hides only its own entry")
    ok(back(f"{w.mnt}/other/1") is not None, "and those are there again, too")
    os.rename(f"{w.mnt}/w", f"{w.mnt}/v")
    r = run(w.wfctl, "commit", w.mnt)
    named = [name for name in ("pair/0", "pair/1", "pair/2", "other/0", "other/1") if name in r.stderr]
    ok(r.returncode == 1 and len(named) == 5 and "committed, but" in r.stderr, "a commit names them and exits 1", r)
    ok("pair/0 was removed and is back" in read(f"{w.mnt}/.weightfs/log").decode(), "the log as well", read(f"{w.mnt}/.weightfs/log").decode())
    same((os.listdir(f"{w.mnt}/pair"), w.status()["dirty"]), (["0", "1", "2"], False), "all is there, and all else is committed")
    r = run(w.wfctl, "commit", w.mnt)
    same((r.returncode, r.stderr), (0, ""), "the next one has nothing to tell")
    same(run("rm", "-r", f"{w.mnt}/pair", f"{w.mnt}/other").returncode, 0, "and the objects can be removed")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "and committed")
    w.mount("-o", "ro")
    same([missing(f"{w.mnt}/{n}") for n in ("pair", "other", "w", "v")], [True, True, True, False], "as they should be")
    w.umount()


def tuple_of_mappings(path):
    save(path, OrderedDict([("tup", (tensor(1, 7), {"k": 5, "t": tensor(3)}, {"only": {"deep": tensor(2)}}, [tensor(1), tensor(1, 2)],
                                     ({"x": 1}, (tensor(1), {"y": 2})))), ("n", 3)]))


def tree(w, where="tup"):
    return sorted(os.path.relpath(os.path.join(at, name), f"{w.mnt}/{where}") for at, dirs, files in os.walk(f"{w.mnt}/{where}") for name in dirs + files)


def mappings_inside(w):
    """What rm -r took out of a mapping, whose tuple then stays, is back with it; what was removed for itself is removed."""
    w.mount()
    everything = tree(w)
    for rows, gone in [(["1"], []), (["2"], []), (["3"], []), (["4"], []), (["1", "0"], []), (["4/1", "4/0"], []), (["1/k"], ["1/k"]), (["2/only"], ["2/only", "2/only/deep"]),
                       (["0", "1/t"], ["1/t"]), (["3/0"], ["3/1"]), (["4/0/x"], ["4/0/x"])]:
        before, contents = tree(w), {name: read(f"{w.mnt}/tup/{name}") for name in everything if os.path.isfile(f"{w.mnt}/tup/{name}")}
        r = run("rm", "-r", *rows, cwd=f"{w.mnt}/tup")
        left = [name for name in before if not any(f"{name}/".startswith(f"{x}/") for x in rows)]
        same((r.returncode, r.stderr, tree(w)), (0, "", left), f"rm -r {rows}")
        r = run(w.wfctl, "commit", w.mnt)
        named = [x for x in rows if f"tup/{x}" in r.stderr]
        whole = [x for x in rows if x not in gone and not x.startswith("3/")]
        same((r.returncode, named), (1 if whole else 0, whole), "a commit names what is back")
        same(tree(w), [name for name in before if name not in gone], "which is all of it")
        if gone != ["3/1"]:
            same({name: read(f"{w.mnt}/tup/{name}") for name in contents if name not in gone},
                 {name: content for name, content in contents.items() if name not in gone}, "with what it was")
        same(run(w.wfctl, "umount", w.mnt).returncode, 0, "unmounts")
        tuple_of_mappings(w.file)
        w.mount()
    shutil.rmtree(f"{w.mnt}/tup/1")
    took = back(f"{w.mnt}/tup/1/t")
    same((took is not None and took > 4, read(f"{w.mnt}/tup/1/t"), os.listdir(f"{w.mnt}/tup/1")), (True, floats(3), ["k", "t"]),
         "after 5 seconds, too")
    os.unlink(f"{w.mnt}/tup/1/t")
    same((run("sync", w.mnt).returncode, os.listdir(f"{w.mnt}/tup/1")), (0, ["k"]), "what was removed for itself is in the log with a sync")
    w.crash()
    same(os.listdir(f"{w.mnt}/tup/1"), ["k"], "and after a kill")
    os.unlink(f"{w.mnt}/tup/2/only/deep")
    same("only/deep" in read(f"{w.mnt}/.weightfs/tensors.json").decode(), False, "no list of all tensors has it a moment longer")
    os.unlink(f"{w.mnt}/tup/1/k")
    write(f"{w.mnt}/tup/1/k", b"6\n")
    same((read(f"{w.mnt}/tup/1/k"), os.getxattr(f"{w.mnt}/tup/1/k", "user.torch.class")), (b"6\n", b"int"), "and its name can be made anew at once")
    same((run(w.wfctl, "umount", w.mnt).returncode, run("rm", "-r", f"{w.mnt}/x").returncode), (0, 1), "unmounts")
    w.mount()
    same((read(f"{w.mnt}/tup/1/k"), os.listdir(f"{w.mnt}/tup/1"), os.listdir(f"{w.mnt}/tup/2/only")), (b"6\n", ["k"], []), "as committed")
    same((run("rm", "-r", f"{w.mnt}/tup").returncode, os.listdir(w.mnt)), (0, ["n"]), "and the whole goes")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "for good")


def at_the_end(w):
    w.mount()
    os.unlink(f"{w.mnt}/module/weight")
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 1 and "module/weight" in r.stderr and not w.mounts(), "wfctl umount names it, unmounts and exits 1", r)
    w.mount()
    same(read(f"{w.mnt}/module/weight"), floats(4), "it is in the checkpoint")
    os.unlink(f"{w.mnt}/module/weight")
    write(f"{w.mnt}/epoch", b"4\n")
    run("sync", w.mnt)
    w.crash()
    same((read(f"{w.mnt}/module/weight"), read(f"{w.mnt}/epoch")), (floats(4), b"4\n"), "a kill brings it back at once, and keeps the edits")
    os.unlink(f"{w.mnt}/module/weight")
    w.umount()
    w.mount()
    same((read(f"{w.mnt}/module/weight"), read(f"{w.mnt}/epoch")), (floats(4), b"4\n"), "so does a plain unmount, which commits them")
    os.unlink(f"{w.mnt}/pair/0")
    same(run(w.wfctl, "discard", w.mnt).returncode, 0, "and a discard")
    same(os.listdir(f"{w.mnt}/pair"), ["0", "1", "2"], "brings it back")
    same(run(w.wfctl, "commit", w.mnt).returncode, 0, "of which a commit has nothing to tell")
    w.umount()


def shared_ones(w):
    """del of a key in Python leaves what other keys hold."""
    w.mount()
    run("rm", "-r", f"{w.mnt}/shared")
    same((os.path.islink(f"{w.mnt}/again"), os.listdir(f"{w.mnt}/again"), os.readlink(f"{w.mnt}/holder/0")), (False, ["0", "1"], "../again"),
         "a tuple that another key holds is whole there")
    run("rm", "-r", f"{w.mnt}/module")
    same((os.path.islink(f"{w.mnt}/holder/1"), read(f"{w.mnt}/holder/1/weight")), (False, floats(4)), "a module that a tuple holds, too")
    run("rm", "-r", f"{w.mnt}/again")
    same(read(f"{w.mnt}/holder/0/0"), floats(2, 5), "and again")
    run("sync", w.mnt)
    w.crash()
    same((read(f"{w.mnt}/holder/0/0"), read(f"{w.mnt}/holder/1/weight")), (floats(2, 5), floats(4)), "after a kill")
    run("rm", "-r", f"{w.mnt}/tied")
    same((os.stat(f"{w.mnt}/tie").st_nlink, read(f"{w.mnt}/tie")), (1, floats(3, 80)), "a tie has one name less")
    r = run("rm", "-r", f"{w.mnt}/cycle", f"{w.mnt}/holder", f"{w.mnt}/nested")
    ok(r.returncode == 0 and not r.stderr, "a cycle, nested ones, what got its place there", r)
    names = os.listdir(w.mnt)
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "committed")
    w.mount("-o", "ro")
    same(os.listdir(w.mnt), names, "and gone")
    w.umount()


def links_on_the_way(w):
    """rm has seen a link that becomes the directory while it goes on."""
    both, empty, pair = {"t": tensor(1)}, {}, (tensor(1), 2)
    save(w.file, OrderedDict([("d", {"a": both, "b": both, "e": empty, "f": empty, "p": pair, "q": pair}), ("x", both), ("y", {"p": pair}),
                              ("t", (both, pair, tensor(1))), ("keep", 1)]))
    w.mount()
    r = run("rm", "-r", f"{w.mnt}/d")
    ok(r.returncode == 0 and not r.stderr, "containers that are held twice inside", r)
    same((os.path.islink(f"{w.mnt}/x"), read(f"{w.mnt}/y/p/0")), (False, floats(1)), "others see the directories at once")
    r = run("rm", "-r", f"{w.mnt}/x", f"{w.mnt}/t", f"{w.mnt}/y")
    ok(r.returncode == 0 and not r.stderr and os.listdir(w.mnt) == ["keep"], "and outside", r)
    run("sync", w.mnt)
    w.crash()
    same(os.listdir(w.mnt), ["keep"], "the log says the same")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "and a commit")
    save(w.file, OrderedDict([("a", empty), ("b", empty), ("c", pair), ("d", pair)]))
    w.mount()
    os.rmdir(f"{w.mnt}/a")
    same((os.listdir(f"{w.mnt}/b"), os.path.isdir(f"{w.mnt}/b")), ([], True), "who removed one and looks into the other finds the directory")
    write(f"{w.mnt}/b/new", b"1\n")
    same((os.path.islink(f"{w.mnt}/b"), read(f"{w.mnt}/b/new")), (False, b"1\n"), "which it is from then on")
    w.umount()


def links_inside_links(w):
    """A container in one that stays elsewhere, and itself is elsewhere."""
    inner = (tensor(1), 2)
    outer = (tensor(1, 3), 7, inner)
    save(w.file, OrderedDict([("a", outer), ("b", inner), ("c", {"x": (outer, tensor(1))}), ("keep", 1)]))
    w.mount()
    r = run("rm", "-r", f"{w.mnt}/a")
    ok(r.returncode == 0 and not r.stderr, "rm -r", r)
    same((run("ls", f"{w.mnt}/c/x/0").stdout.split(), read(f"{w.mnt}/c/x/0/2/0"), read(f"{w.mnt}/b/0")), (["0", "1", "2"], floats(1), floats(1)),
         "both are whole where they stay")
    run("sync", w.mnt)
    w.crash()
    same((run("ls", f"{w.mnt}/c/x/0").stdout.split(), read(f"{w.mnt}/c/x/0/2/0")), (["0", "1", "2"], floats(1)), "after a kill")
    write(f"{w.mnt}/b/0", floats(1, 40))
    same(read(f"{w.mnt}/c/x/0/2/0"), floats(1, 40), "one tuple")
    r = run("rm", "-r", f"{w.mnt}/c")
    ok(r.returncode == 0 and sorted(os.listdir(w.mnt)) == ["b", "keep"], "the other place of the outer one goes", r)
    same((read(f"{w.mnt}/b/0"), run(w.wfctl, "umount", w.mnt).returncode), (floats(1, 40), 0), "and the inner one stays")


def links_that_others_see(w):
    """Who removed the directory sees a link for a while, and nobody else does, whichever of them looked last."""
    one, two, three, pair = {"t": tensor(1)}, {"t": tensor(2)}, {"t": tensor(3)}, (tensor(1), 2)
    save(w.file, OrderedDict([("a", one), ("b", two), ("c", three), ("p", pair), ("in", {"one": one}), ("on", {"two": two}), ("at", [three]),
                              ("off", {"p": pair}), ("keep", 1)]))
    w.mount()
    for top in ("in", "on", "at", "off"):
        os.listdir(f"{w.mnt}/{top}")  # as it is before
    for name in ("a", "b", "c", "p"):
        shutil.rmtree(f"{w.mnt}/{name}")
    same([[e.is_symlink() for e in os.scandir(f"{w.mnt}/{top}")] for top in ("in", "on", "at", "off")], [[True]] * 4, "who removed it lists a link")
    r = run("rm", "-r", f"{w.mnt}/in")
    ok(r.returncode == 0 and not r.stderr and missing(f"{w.mnt}/in"), "rm -r, by another, of a directory that was listed so", r)
    r = run("sh", "-c", f"ls {w.mnt}/on/two {w.mnt}/at/0 {w.mnt}/off/p && find {w.mnt}/on {w.mnt}/at {w.mnt}/off -mindepth 1 -type d")
    same(r.stdout.split()[-3:], [f"{w.mnt}/on/two", f"{w.mnt}/at/0", f"{w.mnt}/off/p"], "others find directories")
    for top in ("on", "at", "off"):
        same((refusal(shutil.rmtree, f"{w.mnt}/{top}"), missing(f"{w.mnt}/{top}")), ("done", True), f"who removed the first, after others looked: {top}")
    same((run(w.wfctl, "umount", w.mnt).returncode, run(w.wfctl, "verify", w.file).returncode), (0, 0), "and a commit")
    w.mount("-o", "ro")
    same(os.listdir(w.mnt), ["keep"], "leaves the rest")
    w.umount()


def links_from_elsewhere(w):
    """A link from elsewhere to a directory that rm took out of a mapping inside a tuple, which may still go as a whole, leads to it."""
    kept, deep, late = {"t": tensor(1)}, {"a": {"b": {"t": tensor(2)}}}, {"t": tensor(3)}
    content = OrderedDict([("tup", ({"kept": kept, "deep": deep, "late": late}, tensor(1))), ("x", kept), ("y", deep["a"]["b"]), ("z", late), ("keep", 1)])
    save(w.file, content)
    w.mount()
    for top in ("x", "y", "z"):
        same(os.path.islink(f"{w.mnt}/{top}"), True, f"{top} is a link at first")
    same(run("rm", "-r", f"{w.mnt}/tup/0/kept").returncode, 0, "rm -r of its directory")
    same((os.listdir(f"{w.mnt}/x"), os.path.islink(f"{w.mnt}/x")), (["t"], False), "the other place is the directory at once, with all of it")
    write(f"{w.mnt}/x/new", b"1\n")
    same((read(f"{w.mnt}/x/new"), missing(f"{w.mnt}/tup/0/kept")), (b"1\n", True), "which takes entries")
    same((run("rm", "-r", f"{w.mnt}/tup/0/deep").returncode, run("ls", f"{w.mnt}/y").returncode), (0, 0), "rm -r of one further up, and another program looks")
    same(run("rm", "-r", f"{w.mnt}/tup/0/late").returncode, 0, "rm -r once more")
    try:
        there = os.readlink(f"{w.mnt}/z")
    except OSError as e:
        there = errno.errorcode[e.errno]
    same((there, os.path.isdir(f"{w.mnt}/z")), ("EINVAL", True), "readlink says that it is none")
    same("ESTALE" in read(f"{w.mnt}/.weightfs/log").decode(), False, "nothing of it is a fault for the log")
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "committed")
    w.mount()
    same((os.listdir(w.mnt), os.listdir(f"{w.mnt}/x"), os.listdir(f"{w.mnt}/y"), os.listdir(f"{w.mnt}/z"), os.listdir(f"{w.mnt}/tup/0")),
         (list(content), ["t", "new"], ["t"], ["t"], []), "as it was seen")
    same((run("rm", "-r", f"{w.mnt}/tup").returncode, run(w.wfctl, "umount", w.mnt).returncode), (0, 0), "and the tuple goes")
    save(w.file, content)
    save(w.file, content)
    write(f"{w.dir}/script", f"rm -r {w.file} tup/0/kept\nset {w.file} x/new 5\n".encode())
    r = run(w.wfctl, f"--file={w.dir}/script")
    w.mount()
    same((r.returncode, r.stderr, read(f"{w.mnt}/x/new"), os.listdir(f"{w.mnt}/x")), (0, "", b"5\n", ["t", "new"]), "wfctl finds it there in one script, too")
    w.umount()


def while_in_use(w):
    w.mount()
    with open(f"{w.mnt}/pair/0", "r+b") as f, open(f"{w.mnt}/holder/2", "rb") as g:
        fd = os.open(f"{w.mnt}/pair", os.O_RDONLY)
        run("rm", "-r", f"{w.mnt}/pair", f"{w.mnt}/holder")
        same((f.read(), g.read(), os.listdir(fd)), (floats(2), floats(1, 9), []), "files that are open live on")
        f.seek(0)
        f.write(floats(2, 66))
        f.flush()
        same(run(w.wfctl, "commit", w.mnt).returncode, 0, "over a commit")
        same((os.pread(f.fileno(), 8, 0), os.pread(g.fileno(), 4, 0)), (floats(2, 66), floats(1, 9)), "with what is written to them")
        os.close(fd)
    with World(sys.argv[1], make) as reader:
        reader.mount()
        os.unlink(f"{reader.mnt}/module/weight")
        run("sync", reader.mnt)
        r = run(reader.wfctl, "ls", reader.file)
        ok("module/weight" in r.stdout, "who reads the file sees the entry all the time", r)
    w.umount()


def the_root(w):
    w.mount()
    same([refusal(os.unlink, f"{w.mnt}/0"), refusal(os.unlink, f"{w.mnt}/1/0"), refusal(os.unlink, f"{w.mnt}/2/k")], ["EPERM", "EPERM", "done"],
         "in a checkpoint that is a tuple itself entries are refused, for nothing can remove it")
    r = run("rm", "-rf", f"{w.mnt}/0", f"{w.mnt}/1")
    ok(r.returncode == 1 and len(os.listdir(w.mnt)) == 3, "so does rm -r", r)
    log = read(f"{w.mnt}/.weightfs/log").decode()
    ok("unlink 0: EPERM" in log and "a tuple cannot change" in log and "rm -r" not in log, "the log says why", log)
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "nothing else happened")


def reasons(w):
    w.mount()
    for call, args, reason in [(os.rename, ("module/weight", "module/w"), "the class of a whole module"), (os.rename, ("w", "module/w"), "state_dict()"),
                               (os.mkdir, ("module/new",), "the class of a whole module"), (os.rename, ("pair/0", "v"), "a tuple cannot change"),
                               (os.link, ("w", "pair/3"), "a tuple cannot change"), (os.symlink, ("module", "pair/3"), "save a list in its place"),
                               (os.mkdir, ("pair/3",), "remove it whole with rm -r")]:
        before = len(read(f"{w.mnt}/.weightfs/log"))
        args = [args[0]] + [f"{w.mnt}/{args[-1]}"] if call is os.symlink else [f"{w.mnt}/{a}" for a in args]
        got = refusal(call, *args)
        log = read(f"{w.mnt}/.weightfs/log").decode()[before:]
        ok(got == "EPERM" and reason in log, f"{call.__name__} {os.path.basename(args[-1])}: the log says why", f"{got} {log}")
    r = run("rm", "-r", f"{w.mnt}/module")
    ok(r.returncode == 0 and missing(f"{w.mnt}/module"), "what it says to do works", r)
    w.umount()


def many_entries(w):
    count = 5000
    save(w.file, {"big": Linear(**{f"p{i}": i for i in range(10)}), "t": tuple(tensor(1, i) for i in range(count)), "keep": 1})
    w.mount()
    start = time.monotonic()
    r = run("rm", "-r", f"{w.mnt}/t", f"{w.mnt}/big")
    ok(r.returncode == 0 and os.listdir(w.mnt) == ["keep"], f"a tuple of {count} tensors", r)
    ok(time.monotonic() - start < 60, "in seconds", time.monotonic() - start)
    same(run(w.wfctl, "umount", w.mnt).returncode, 0, "is committed")


for test, content in [(in_part, make), (mappings_inside, tuple_of_mappings), (at_the_end, make), (shared_ones, make), (links_on_the_way, make), (links_inside_links, make), (links_that_others_see, make), (links_from_elsewhere, make),
                      (while_in_use, make), (the_root, tuple_root), (reasons, make), (many_entries, make)]:
    with World(sys.argv[1], content) as world:
        test(world)
done()
