#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The verbs of wfctl where there is no FUSE: killed at every call that changes something, what a terminal gets, and the names of a large
mapping for a shell. As root all of it runs in a name space in which /dev/fuse does not exist.

Usage: verbs.py BUILD_DIR DIE_AT. Prints TAP. tests/torch/test_verbs.py tries what each verb does.
"""
import filecmp
import os
import pty
import resource
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "mount")]
import craft  # noqa: E402
import dcpkit  # noqa: E402
from minicheckpoint import Storage, Tensor, save  # noqa: E402

build, die_at = map(os.path.abspath, sys.argv[1:3])
WFCTL = os.path.join(build, "fs", "wfctl")

sys.path.insert(0, os.path.join(HERE, ".."))
from parallel import memory as in_memory, side_by_side  # noqa: E402
from tap import done, ok, without_fuse  # noqa: E402

without_fuse()


def wfctl(*words, input=None, env=None):
    return subprocess.run([WFCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=input, env=env)


def bytes_of(top):
    """Files and what is in them; what a killed run leaves for the next one to clear away is no difference."""
    found = {}
    for where, _, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            if ".weightfs" not in os.path.relpath(path, top):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, top)] = f.read()
    return found


def make(top):
    shared = Storage("float32", bytes(range(64)))
    save(os.path.join(top, "m.pt"), {"a": Tensor("float32", (16,), b"", storage=shared), "half": Tensor("float32", (8,), b"", storage=shared), "n": 1,
                                     "s": "x", "sub": {"t": Tensor("int64", (2,), bytes(16)), "u": (1, 2)}})
    d = dcpkit.Directory(os.path.join(top, "d"))
    d.tensor("a", "float32", (4, 4), bytes(range(64)), [((0, 0), (4, 2)), ((0, 2), (4, 2))], files=("__0_0.distcp", "__1_0.distcp"))
    d.tensor("sub.half", "float32", (8,), bytes(32), path=("sub", "half"))
    d.value("n", craft.integer(1))
    d.write()
    save(os.path.join(top, "donor.pt"), {"enc": {"w": Tensor("float32", (4,), bytes(16)), "v": 2.5}})
    with open(os.path.join(top, "bytes"), "wb") as f:
        f.write(bytes(range(64, 128)))


RUNS = [  # words; what stands in them for a path is in the directory
    ["mv", "m.pt", "a", "b"],
    ["set", "m.pt", "n", "5"],
    ["set", "m.pt", "a", "--file", "bytes"],
    ["set", "m.pt", "half", "--file", "half", "--commit=append"],
    ["cp", "donor.pt:enc", "m.pt:sub"],
    ["rm", "-r", "m.pt", "sub", "--commit", "replace"],
    ["mv", "d", "a", "sub/b"],
    ["set", "d", "a", "--file", "bytes"],
    ["-f", "script"],
    ["new", "new.pt"],
]
SCRIPT = "set m.pt n 7\nmv m.pt a sub\ncp m.pt sub sub2\nln m.pt half tie\nset m.pt sub/t --file bytes16\n"


def run_in(top, words, plan=None):
    env = {**os.environ, "PWD": top}
    if plan:
        with open(os.path.join(top, "plan"), "w") as f:
            f.write(plan)
        env.update(LD_PRELOAD=die_at, DIE_AT=os.path.join(top, "plan"))
    return subprocess.run([WFCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=top, env=env)


def prepare(top):
    shutil.rmtree(top, ignore_errors=True)
    os.mkdir(top)
    make(top)
    with open(os.path.join(top, "script"), "w") as f:
        f.write(SCRIPT)
    for name, size in (("half", 32), ("bytes16", 16)):
        with open(os.path.join(top, name), "wb") as f:
            f.write(bytes(range(size))[::-1])


def told(top, name):
    """What a reader and a later writer are told: the entries, and that nothing waits."""
    r = run_in(top, ["ls", "-a", name])
    cat = run_in(top, ["cat", "--raw", name, "*"]) if name != "new.pt" else r
    return r.returncode, r.stdout, cat.stdout


def at_each_call(call, calls):
    """What is wrong, of all of them."""
    return [line for i, wrong, error in side_by_side(call, range(1, calls + 1)) for line in ([f"call {i}: {error}"] if error else wrong)]


def kill_everywhere(base, words):
    """Old or new, at each call; the next run finds nothing in its way."""
    top = os.path.join(base, "w")
    name = "new.pt" if words[0] == "new" else "d" if "d" in words else "m.pt"
    prepare(top)
    before, old = bytes_of(top), told(top, name)
    r = run_in(top, words, "count")
    with open(os.path.join(top, "plan.count")) as f:
        calls = int(f.read())
    new = told(top, name)
    ok(r.returncode == 0 and new != old and calls > 0, f"wfctl {' '.join(words)}: {calls} calls that change something", r.stderr)

    def killed(i):
        top = os.path.join(base, f"w{i}")
        prepare(top)
        r, wrong = run_in(top, words, f"{i} kill"), []
        status = run_in(top, ["status", name])
        state = told(top, name)
        again = run_in(top, ["set", "m.pt" if name == "new.pt" else name, "again", "1"])
        left = [e for where in (top, os.path.join(top, "d")) for e in os.listdir(where) if "weightfs" in e]
        if r.returncode >= 0 and i < calls or state not in (old, new) or b'"dirty": true' in status.stdout or again.returncode != 0:
            wrong.append(f"call {i}: exit {r.returncode}, {'old' if state == old else 'new' if state == new else state}, {again.stderr.decode()}")
        if name != "new.pt" and left:
            wrong.append(f"call {i}: left over after the next run: {left}")
        return wrong
    wrong = at_each_call(killed, calls)
    ok(not wrong, f"wfctl {' '.join(words)}: killed at each of them, old or new", "\n".join(wrong))
    if words[0] in ("-f", "new") or "--commit=append" in words:
        failing(base, words, calls, name, old)


def failing(base, words, calls, name, old):
    """A full disk at each call: exit 1 with the old state, or 0 with the new one."""
    def failed(i):
        top = os.path.join(base, f"w{i}")
        prepare(top)
        r = run_in(top, words, f"{i} ENOSPC")
        same = told(top, name) == old
        if r.returncode not in (0, 1) or (r.returncode == 1) != same or run_in(top, ["set", "m.pt", "again", "1"]).returncode != 0:
            return [f"call {i}: exit {r.returncode}, {'old' if same else 'other'}: {r.stderr.decode()}"]
        return []
    wrong = at_each_call(failed, calls)
    ok(not wrong, f"wfctl {' '.join(words)}: each of them fails, and it is all or nothing", "\n".join(wrong))


def on_terminal(*words):
    """What a terminal gets, and the exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(WFCTL, [WFCTL, *words])
    out = b""
    try:
        while chunk := os.read(fd, 65536):
            out += chunk
    except OSError:
        pass
    return out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def terminal(top):
    path = os.path.join(top, "odd.pt")
    evil = "\x1b[31mred\x07\u009b2J\u202e"
    save(path, {evil: 1, "s" + evil: evil, "t": Tensor("float32", (2,), bytes(8)), "d" + evil: {"x": 1}})
    controls = {*range(0, 9), 11, 12, *range(14, 32), 127}
    for words in (["ls", "-a", path], ["ls", "--json", "-a", path], ["cat", path, "s*"], ["attr", path, "*"], ["attr", "--json", path, "*"],
                  ["rename", "--dry-run", path, "s/t/" + evil + "/"], ["mv", path, "no" + evil, "x"], ["set", path, "t", "x"], ["complete", "keys", path, ""],
                  ["cat", path, "d*"], ["rm", path, "d*"], ["cp", path, evil, "nowhere/" + evil]):
        out, _ = on_terminal(*words)
        text = out.decode("utf-8", "replace")
        bad = [c for c in text if ord(c) in controls or c in "\u009b\u202e"]
        ok(out and not bad, f"no control character reaches a terminal: wfctl {words[0]} {len(words)}", repr(out))
    r = wfctl("cat", path, "s" + evil)
    ok(r.stdout.decode() == evil + "\n", "where it is no terminal, a text is as it is")
    printed = wfctl("ls", "-a", path).stdout.decode().split(" \t")[0]
    ok(wfctl("cat", path, printed).stdout == b"1\n", "a key as it is printed is a key", printed)


def completion(top):
    path = os.path.join(top, "large.pt")
    save(path, {f"layer{i // 100}.block{i % 100}": i for i in range(5000)})
    env = {**os.environ, "XDG_CACHE_HOME": os.path.join(top, "cache")}
    first = wfctl("complete", "keys", path, "layer4", env=env).stdout.split()
    ok(first == [b"layer4."] + [b"layer%d." % i for i in range(40, 50)], "hundreds of keys are offered by their parts", first)
    kept = os.listdir(os.path.join(top, "cache/weightfs"))
    ok(len(kept) == 1 and wfctl("complete", "keys", path, "layer4", env=env).stdout.split() == first, "the names are kept, and are the same again", kept)
    ok(len(wfctl("complete", "keys", path, "layer44.", env=env).stdout.split()) == 100, "a hundred are offered as they are")
    wfctl("mv", path, "layer0.block0", "other")
    ok(wfctl("complete", "keys", path, "oth", env=env).stdout == b"other\n", "an edit is seen")
    said = os.path.join(top, "said")
    os.mkfifo(said)
    source = os.path.join(HERE, "..", "..", "contrib", "completion", "wfctl.bash")
    script = '. "$1"; wfctl() { echo "$*" >"$SAID"; }; _filedir() { COMPREPLY=("$FOUND"); }; _wfctl_checkpoint'
    subprocess.run(["bash", "-c", script, "bash", source], env={**os.environ, "SAID": said, "FOUND": path})
    with open(said) as f:
        ok(f.read() == f"complete keys {path} \n", "bash has the keys read while the line is typed on")
    unwritable = {**os.environ, "XDG_CACHE_HOME": "/proc/nowhere", "HOME": "/proc"}
    r = wfctl("complete", "keys", path, "oth", env=unwritable)
    ok(r.stdout == b"other\n" and not r.stderr, "without a cache it is slower, and no other")


def completion_of_all(top):
    """What is offered from the outline of a file is what its opening shows: with a directory for edits beside it, it is opened."""
    env = {**os.environ, "XDG_CACHE_HOME": "/proc/nowhere", "HOME": "/proc"}
    folder, wrong, asked = os.path.join(HERE, "torch"), [], 0
    for name in sorted(os.listdir(folder)):
        opened = os.path.join(top, name)
        shutil.copy(os.path.join(folder, name), opened)
        os.mkdir(opened + ".weightfs", mode=0o700)
        todo = [b""]
        while todo and len(todo) < 12:
            word = todo.pop()
            offers = [wfctl("complete", "keys", path, word, env=env).stdout for path in (os.path.join(folder, name), opened)]
            todo += [line for line in offers[1].splitlines() if line.endswith(b"/")]
            asked += bool(offers[1])
            if offers[0] != offers[1]:
                wrong.append((name, word, *offers))
    ok(asked > 100 and not wrong, "keys are offered without opening as they are with it", wrong)


def renames(top):
    """Expressions go over the keys of mappings that hold tensors. Who means those of another is told how to name it, and nothing changes."""
    save(os.path.join(top, "nested.pt"), {"model": {"sub": {"w": Tensor("float32", (2,), bytes(8))}, "sub2": {"w": Tensor("float32", (2,), bytes(8))}},
                                          "epoch": 3, "state": {0: {"step": 1}}})
    d = dcpkit.Directory(os.path.join(top, "nested"))
    for name in ("sub", "sub2"):
        d.tensor(f"model.{name}.w", "float32", (2,), bytes(8), path=("model", name, "w"))
    d.value("epoch", craft.integer(3), path=("epoch",))
    d.write()
    for path in (os.path.join(top, "nested.pt"), os.path.join(top, "nested")):
        before = bytes_of(top)
        for expression, key, prefix in (("s/^model/net/", "model → net", "/"), ("s/^sub/other/", "sub → other", "model"), ("s/^epoch/step/", "epoch → step", "/")):
            for options in ([], ["--dry-run"], ["--dry-run", "--json"]):
                r = wfctl("rename", *options, path, expression)
                told = f"{key} would, with the mapping that it stands in as KEY-PREFIX: {prefix}\n"
                ok(r.returncode == 1 and r.stderr.decode().endswith(told) and r.stderr.count(b"\n") == 1 and not r.stdout and bytes_of(top) == before,
                   f"wfctl rename {' '.join(options)} {os.path.basename(path)} {expression} is no mapping's of tensors", r)
        for words, says in ((["s/^nothing/x/"], "no key changes"), (["s/^0$/x/"], "no key changes")):
            r = wfctl("rename", path, *words)
            ok(r.returncode == 0 and r.stderr.decode().endswith(f"{says}\n"), f"wfctl rename {os.path.basename(path)} {words}: {says}", r)
        for words, want in ((["s/^sub/other/", "model"], "model/other/w model/other2/w epoch"), (["s/^model/net/", "/"], "net/other/w net/other2/w epoch"),
                            (["s/^w/v/"], "net/other/v net/other2/v epoch")):
            r = wfctl("rename", path, *words)
            keys = [line.split(" \t ")[0] for line in wfctl("ls", "-a", path).stdout.decode().splitlines()]
            ok(r.returncode == 0 and not r.stderr and [k for k in keys if "state" not in k] == want.split(), f"wfctl rename {os.path.basename(path)} {words}", (r, keys))


def memory(top):
    """Tensors of any size pass through a piece at a time."""
    size, limit = 100 << 20, 32 << 20
    donor, model, raw = (os.path.join(top, name) for name in ("big.pt", "copy.pt", "big.raw"))
    with open(raw, "wb") as f:
        f.truncate(size)
        f.seek(size // 2)
        f.write(b"half")
    save(donor, {"big": Tensor("uint8", (size,), bytes(size // 2) + b"half" + bytes(size - size // 2 - 4))})

    def limited(*words, out=subprocess.DEVNULL):
        return subprocess.run([WFCTL, *words], stdout=out, stderr=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))

    for words in (["new", model], ["cp", donor + ":big", model + ":big"], ["cp", model, "big", "twin"], ["set", model, "big", "--file", raw],
                  ["set", model, "new", "--file", raw], ["export", "--prefix=", model, os.path.join(top, "big.safetensors")], ["verify", model]):
        r = limited(*words)
        ok(r.returncode == 0, f"wfctl {words[0]} of 100 MiB in {limit >> 20} MiB of memory", r)
    for key in ("big", "twin", "new"):
        with open(os.path.join(top, "out"), "wb") as f:
            r = limited("cat", "--raw", model, key, out=f)
        ok(r.returncode == 0 and filecmp.cmp(raw, f.name, False), f"{key} is what it was", r)


with tempfile.TemporaryDirectory(prefix="weightfs-verbs-") as base:
    if "WEIGHTFS_NO_FUSE" in os.environ:
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR))
            usable = subprocess.run([os.path.join(build, "fs", "weightfs"), "/nonexistent", base], stderr=subprocess.DEVNULL).returncode == 0
        except OSError:
            usable = False
        ok(not usable, "nothing can be mounted here")
    with tempfile.TemporaryDirectory(prefix="weightfs-verbs-", dir=in_memory()) as small:
        for words in RUNS:
            kill_everywhere(small, words)
    terminal(base)
    completion(base)
    completion_of_all(base)
    memory(base)
    with tempfile.TemporaryDirectory(dir=base) as own:
        renames(own)
done()
