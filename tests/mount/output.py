# SPDX-License-Identifier: MIT
"""-o output=: commits that write another format than the checkpoint has. A safetensors file, whole or refused, and the edits that wait
beside it; .pt from a plain pickle; the daemon killed at each call of such a commit.

Usage: output.py BUILD_DIRECTORY DIE_AT_LIBRARY. Prints TAP.
"""
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import kit
from kit import done, floats, need_fuse, ok, read, run, same, write
from minicheckpoint import Storage, Tensor, save

BUILD, DIE_AT = sys.argv[1:3]
KILLS = 24


def checkpoint(path):
    base = Storage("float32", floats(6))
    tie = Tensor("float32", (2,), floats(2, 10))
    save(path, OrderedDict([("w", Tensor("float32", (2, 3), b"", storage=base)), ("t", Tensor("float32", (3, 2), b"", storage=base, stride=(1, 3))),
                            ("a", tie), ("tied", tie), ("sub", {"x": Tensor("int64", (), bytes(8)), "deep": {"y": Tensor("uint8", (5,), b"hello")}})]))


def World(make=checkpoint):
    w = kit.World(BUILD, make)
    return w


def parse(path):
    """{name: (dtype, shape, bytes)} and the metadata; every byte has a place."""
    raw = read(path)
    end = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:end])
    notes = head.pop("__metadata__", {})
    at, found = 0, {}
    for name, e in sorted(head.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = e["data_offsets"]
        if start != at:
            raise ValueError("a hole")
        at = stop
        found[name] = (e["dtype"], tuple(e["shape"]), raw[end + start:end + stop])
    if at != len(raw) - end:
        raise ValueError("bytes that belong to nothing")
    return found, notes


START = {"w": ("F32", (2, 3), floats(6)), "t": ("F32", (3, 2), b"".join(floats(1, v) for v in (0, 3, 1, 4, 2, 5))), "a": ("F32", (2,), floats(2, 10)),
         "sub.x": ("I64", (), bytes(8)), "sub.deep.y": ("U8", (5,), b"hello")}


def output_of(w, name="o.safetensors"):
    return os.path.join(w.dir, name)


def mount(w, *more, name="o.safetensors", env=None):
    return w.mount("-o", ",".join([f"output={output_of(w, name)}", *more]), env=env)


def killed(w):
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    run("umount", "-l", w.mnt)


def commit(w):
    return run(w.wfctl, "commit", w.mnt)


def with_changes(**changes):
    return {**{k: v for k, v in START.items() if k not in changes}, **{k: v for k, v in changes.items() if v}}


def patch(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def check_commits():
    """Edit by edit: the file is the tree's tensors, the source never changes, the mount goes on, and the file is what model.safetensors is."""
    with World() as w:
        out, source = output_of(w), read(w.file)
        r = mount(w)
        ok(r.returncode == 0 and not r.stderr, "mounts, and has nothing to say", r)
        same(os.path.exists(out), False, "nothing is written before a commit")
        view = f"{w.mnt}/.weightfs/model.safetensors"
        before = os.stat(view)
        ok(commit(w).returncode == 0 and not os.path.exists(out), "a commit of no edit writes nothing")
        now = os.stat(view)
        same((now.st_ino, now.st_mtime_ns), (before.st_ino, before.st_mtime_ns), "and leaves model.safetensors the file that it was")
        steps = [("a rename", lambda m: os.rename(f"{m}/a", f"{m}/b")), ("a write", lambda m: patch(f"{m}/w", 4, floats(1, 9))),
                 ("a removal", lambda m: os.unlink(f"{m}/t")), ("a new tensor", lambda m: write(f"{m}/new", b"\1\2\3")),
                 ("its dtype", lambda m: (write(f"{m}/new", b"\1\2\3\4"), os.setxattr(f"{m}/new", "user.torch.dtype", b"int32"))),
                 ("a mapping", lambda m: os.rename(f"{m}/sub", f"{m}/moved")), ("a name in it", lambda m: os.rename(f"{m}/moved/x", f"{m}/x"))]
        for what, step in steps:
            step(w.mnt)
            same(w.status()["dirty"], True, f"{what}: there is something to commit")
            r = commit(w)
            ok(r.returncode == 0 and read(out) == read(f"{w.mnt}/.weightfs/model.safetensors"), f"{what}: the output is model.safetensors", r)
            found, _ = parse(out)
            same((w.status()["pending"]["edits"], w.status()["dirty"]), (0, False), f"{what}: nothing waits")
            same(commit(w).returncode, 0, f"{what}: a second commit has nothing to do")
        same(found, {"w": ("F32", (2, 3), floats(1) + floats(1, 9) + floats(4, 2)), "b": START["a"], "x": START["sub.x"],
                     "moved.deep.y": START["sub.deep.y"], "new": ("I32", (1,), b"\1\2\3\4")}, "at the end it has every edit")
        same(parse(out)[1], {"format": "pt", "tied": "b"}, "a tie is told as save_model tells it")
        same(os.stat(out).st_mode & 0o777, os.stat(w.file).st_mode & 0o777, "it has the checkpoint's mode")
        os.unlink(f"{w.mnt}/new")
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0 and "new" not in parse(out)[0], "unmounting commits", r)
        same(sorted(os.listdir(w.dir)), ["m.pt", "mnt", "o.safetensors"], "nothing is left beside it")
        same(read(w.file), source, "the checkpoint is never touched")
        mount(w)
        same(sorted(os.listdir(w.mnt)), ["a", "sub", "t", "tied", "w"], "another mount begins with the checkpoint")
        os.unlink(f"{w.mnt}/w")
        w.umount()
        same(sorted(parse(out)[0]), ["a", "sub.deep.y", "sub.x", "t"], "and its output takes the other's place")


def check_open_files():
    """A file that nobody has judged yet waits; what is unlinked and open goes on."""
    with World() as w:
        out = output_of(w)
        mount(w)
        fd = os.open(f"{w.mnt}/late", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"abc")
        gone = os.open(f"{w.mnt}/w", os.O_RDONLY)
        os.unlink(f"{w.mnt}/w")
        write(f"{w.mnt}/.weightfs/commit", b"1")  # a child's exec would close the file
        ok("late" not in parse(out)[0] and "w" not in parse(out)[0], "a file that is being written waits", parse(out))
        same(os.pread(gone, 24, 0), floats(6), "an open file that was removed is still read")
        os.write(fd, b"def")
        os.close(fd)
        os.close(gone)
        r = commit(w)
        ok(r.returncode == 0 and parse(out)[0].get("late") == ("U8", (6,), b"abcdef"), "the next commit has it", r)
        w.umount()


REFUSED = {
    "a value": (lambda c: c.update(epoch=3), "epoch", "epoch"),
    "a value in a mapping": (lambda c: c["sub"].update(lr=0.5), "sub.lr", "sub/lr"),
    "a dtype": (lambda c: c.update(c=Tensor("complex128", (1,), bytes(16))), "c", "c"),
    "an empty mapping": (lambda c: c.update(empty={}), "empty", "empty"),
    "one name twice": (lambda c: c.update({"sub.x": Tensor("uint8", (1,), b"1")}), "sub.x", "sub.x"),
}


def check_refused():
    for what, (change, name, path) in REFUSED.items():
        def make(file):
            content = OrderedDict([("w", Tensor("float32", (6,), floats(6))), ("sub", {"x": Tensor("int64", (), bytes(8))})])
            change(content)
            save(file, content)
        with World(make) as w:
            out = output_of(w)
            r = mount(w)
            ok(r.returncode == 0 and name in r.stderr and "refused" in r.stderr, f"{what}: the mount says what has to go", r)
            os.rename(f"{w.mnt}/w", f"{w.mnt}/v")
            r = commit(w)
            ok(r.returncode == 1 and name in r.stderr and not os.path.exists(out), f"{what}: a commit is refused and names it", r)
            ok(name in w.status()["last_error"] and name in read(f"{w.mnt}/.weightfs/log").decode(), f"{what}: so do status and log", w.status())
            r = run(w.wfctl, "umount", w.mnt)
            ok(r.returncode == 1 and w.mounts(), f"{what}: it is not unmounted", r)
            full = f"{w.mnt}/{path}"
            (os.rmdir if os.path.isdir(full) else os.unlink)(full)
            r = run(w.wfctl, "umount", w.mnt)
            ok(r.returncode == 0 and "v" in parse(out)[0], f"{what}: without it, it is", r)
            same([n for n in os.listdir(w.dir) if n.startswith((".", "o.safetensors."))], [], f"{what}: nothing is left")
    with World() as w:
        for name in ("o.npz", "o.gguf", "o.npy"):
            r = mount(w, name=name)
            ok(r.returncode == 1 and name in r.stderr and not w.mounts(), f"{name} is refused at the mount", r)


def check_aside():
    """What stands under scratch names, which no output holds, outlives a kill right after a commit, and so does what was committed."""
    def shown(w):
        return {os.path.relpath(os.path.join(where, n), w.mnt): read(os.path.join(where, n)) for where, _, names in os.walk(w.mnt) for n in names}
    with World() as w:
        os.rename(w.file, w.file + ".old")
        r = run(w.wfctl, "export", "--format=safetensors", w.file + ".old", w.file)
        flat = read(w.file) if r.returncode == 0 else b""
        old = read(w.file + ".old")
    for name, source, top in (("o.safetensors", old, "sub"), ("o.pt", flat, "")):
        with World() as w:
            write(w.file, source)
            mount(w, name=name)
            if top:
                os.rename(f"{w.mnt}/{top}", f"{w.mnt}/renamed")
                top = "renamed/"
                os.mkdir(f"{w.mnt}/{top}made")
                write(f"{w.mnt}/{top}made/z", b"zzz")
                write(f"{w.mnt}/{top}made/.z.swp", b"in a new directory")
            else:
                os.unlink(f"{w.mnt}/.weightfs/metadata/tied")  # a text that has no place in such a file
            os.rename(f"{w.mnt}/a", f"{w.mnt}/b")
            os.rename(f"{w.mnt}/t", f"{w.mnt}/t.aside~")
            write(f"{w.mnt}/{top}.note.swp", b"of an editor")
            patch(f"{w.mnt}/w", 0, floats(1, 7))
            r = commit(w)
            before = shown(w)
            for again in ("a kill right after the commit", "another one"):
                killed(w)
                m = mount(w, name=name)
                ok(r.returncode == 0 and m.returncode == 0 and "complete" in m.stderr, f"{name}: {again}", (r, m))
                same((shown(w), w.status()["pending"]["edits"]), (before, 0), "  loses nothing, and nothing waits")
            written = read(output_of(w, name))
            ok(commit(w).returncode == 0 and read(output_of(w, name)) == written, "  a commit has nothing to do")
            os.rename(f"{w.mnt}/t.aside~", f"{w.mnt}/t")
            run("sync", w.mnt)
            before = shown(w)
            killed(w)
            mount(w, name=name)
            same((shown(w), w.status()["pending"]["edits"] > 0), (before, True), "  what is edited then waits, and a kill does not lose it")
            r = run(w.wfctl, "umount", w.mnt)
            listed = run(w.wfctl, "ls", output_of(w, name)).stdout.split()
            ok(r.returncode == 0 and "t" in listed and "b" in listed and "a" not in listed, "  the next commit has all of it", (r, listed))
            same(os.path.exists(output_of(w, name) + ".weightfs"), False, "  and nothing is left")


def check_left():
    """Edits that wait beside an output that cannot be opened itself."""
    with World() as w:
        out = output_of(w)
        mount(w)
        os.rename(f"{w.mnt}/a", f"{w.mnt}/b")
        commit(w)
        killed(w)
        r = mount(w)
        ok(r.returncode == 0 and "the last commit is complete" in r.stderr, "killed after a commit: the next mount says that it is complete", r)
        same((sorted(os.listdir(w.mnt)), w.status()["pending"]["edits"]), (["b", "sub", "t", "tied", "w"], 0), "and goes on from there")
        patch(f"{w.mnt}/w", 0, floats(1, 7))
        run("sync", w.mnt)
        w.crash("-o", f"output={out}")
        ok("b" in os.listdir(w.mnt) and read(f"{w.mnt}/w")[:4] == floats(1, 7), "killed after a commit and an edit: both are there", os.listdir(w.mnt))
        r = run(w.wfctl, "discard", w.mnt)
        ok(r.returncode == 0 and "a" in os.listdir(w.mnt), "what a log holds when it is opened can be discarded", r)
        os.rename(f"{w.mnt}/t", f"{w.mnt}/tt")
        ok(commit(w).returncode == 0, "a commit")
        os.rename(f"{w.mnt}/tt", f"{w.mnt}/ttt")
        r = run(w.wfctl, "discard", w.mnt)
        ok(r.returncode == 1 and r.stderr and "ttt" in os.listdir(w.mnt), "what follows a commit to another format cannot be", r)
        run("sync", w.mnt)
        killed(w)
        r = run(w.wfctl, "status", out)
        ok(r.returncode == 0 and "--onto" in json.loads(r.stdout)["edits_not_shown"], "wfctl status OUTPUT tells of them", r)
        os.rename(out, out + ".away")
        r = run(w.wfctl, "status", out)
        ok(r.returncode == 0 and json.loads(r.stdout)["pending"]["edits"] > 0, "also where the output is not there", r)
        os.rename(out + ".away", out)
        other = os.path.join(w.dir, "other.pt")
        checkpoint(other)
        r = run(w.wfctl, "commit", f"--onto={other}", out)
        ok(r.returncode == 0 and "ttt" in run(w.wfctl, "ls", other).stdout, "--onto takes them to another checkpoint", r)
        ok(not os.path.exists(out + ".weightfs") and "tt" in parse(out)[0], "and from the output, which stays", os.listdir(w.dir))


def check_stale():
    with World() as w:
        out = output_of(w)
        mount(w)
        os.rename(f"{w.mnt}/a", f"{w.mnt}/b")
        run("cp", w.file, w.file + ".new")
        patch(w.file + ".new", os.path.getsize(w.file) - 1, b"\0")
        os.rename(w.file + ".new", w.file)
        r = commit(w)
        ok(r.returncode == 1 and "changed by someone else" in r.stderr and not os.path.exists(out), "a checkpoint that was changed: refused", r)
        w.umount()


def check_pickle():
    """A plain pickle with output=x.pt becomes an archive with the same object."""
    values = {"list": [1, 2, {"k": "v"}], "epoch": 3, "text": "é", "bytes": b"\0\1"}
    for protocol in (2, 4, 5):
        with World(lambda path: write(path, pickle.dumps(values, protocol))) as w:
            out = output_of(w, "o.pt")
            mount(w, name="o.pt")
            write(f"{w.mnt}/epoch", b"4\n")
            ok(commit(w).returncode == 0 and zipfile.ZipFile(out).testzip() is None, f"protocol {protocol}: an archive")
            write(f"{w.mnt}/new", b"\1\2\3")
            r = run(w.wfctl, "umount", w.mnt)
            ok(r.returncode == 0 and run(w.wfctl, "verify", out).returncode == 0, f"protocol {protocol}: a second commit", r)
            listed = run(w.wfctl, "ls", "-a", out).stdout.split()
            ok("epoch" in listed and "4" in listed and "new" in listed, f"protocol {protocol}: both edits are in it", listed)


def check_killed():
    """Killed at the calls of a commit that change files: the output is the old one, the new one or none; the next mount has all edits, and
    can commit."""
    def begin(w):
        r = mount(w, env={**os.environ, "LD_PRELOAD": DIE_AT, "DIE_AT": plan})
        os.rename(f"{w.mnt}/a", f"{w.mnt}/b")
        ok(commit(w).returncode == 0, "a first commit") if r.returncode == 0 else ok(False, "mounts", r)
        os.unlink(f"{w.mnt}/t")
        run("sync", w.mnt)

    def say(text):
        write(plan + ".new", text.encode())
        os.rename(plan + ".new", plan)
    new, old = with_changes(a=None, t=None, b=START["a"]), with_changes(a=None, b=START["a"])
    with World() as w:
        plan = os.path.join(w.dir, "plan")
        say("0 setup")
        begin(w)
        say("0 commit")
        commit(w)
        calls = int(read(plan + ".count"))
        w.umount()
    bad = []
    for at in sorted({1 + round(i * (calls - 1) / (KILLS - 1)) for i in range(KILLS)}):
        with World() as w:
            plan = os.path.join(w.dir, "plan")
            say("0 setup")
            begin(w)
            say(f"{at} kill")
            committed = commit(w).returncode == 0
            run("umount", "-l", w.mnt)
            now = parse(output_of(w))[0]
            r = mount(w)
            for _ in range(50):  # what was killed may hold its lock for a moment longer
                if r.returncode == 0:
                    break
                r = mount(w)
            names = sorted(os.listdir(w.mnt))
            whole, edited = now in (old, new), names == ["b", "sub", "tied", "w"]
            if not whole or r.returncode or committed or not edited:
                bad.append((at, names, list(now), r.stderr))
            if edited and (commit(w).returncode or parse(output_of(w))[0] != new):
                bad.append((at, "the next commit"))
            w.umount()
    ok(calls > 5 and not bad, f"killed at {KILLS} of {calls} calls of a commit", bad)


need_fuse()
for check in (check_commits, check_open_files, check_refused, check_aside, check_left, check_stale, check_pickle, check_killed):
    check()
done()
