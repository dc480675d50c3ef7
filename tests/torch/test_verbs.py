#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The verbs of wfctl without a mount, judged by torch: what they leave behind is what torch.load reads, and a script of them is one commit.
test_cat.py has what cat prints.

Usage: test_verbs.py BUILD_DIR. Prints TAP; needs no FUSE.
"""
import os
import shutil
import subprocess
import tempfile
import time
from collections import OrderedDict

import numpy as np
import torch

import verbkit
from verbkit import done, ok, refused, text, wfctl


# ---- edits, each a row: what there is, words, what Python has then ----

def same(a, b):
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(b, torch.Tensor) and type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(
            a.to(torch.float64) if a.is_floating_point() else a, b.to(torch.float64) if b.is_floating_point() else b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


def model():
    return {"model": {"module.a": torch.arange(6.).reshape(2, 3), "module.b": torch.ones(2, dtype=torch.bfloat16)},
            "opt": {"lr": 0.1, "betas": (0.9, 0.999), "state": {0: {"step": torch.tensor(3.), "m": torch.zeros(2)}}}, "epoch": 3, "name": "x", "flag": True,
            "none": None, "loss": torch.tensor(0.5)}


def without(d, *keys):
    return {k: v for k, v in d.items() if k not in keys}


M = model()
EDITS = [  # words behind the path, what changes
    ("set epoch 11", lambda m: m.update(epoch=11)),
    ("set epoch 0.9", lambda m: m.update(epoch=0.9)),
    ("set epoch -1", lambda m: m.update(epoch=-1)),
    ("set opt/lr -1e-3", lambda m: m["opt"].update(lr=-1e-3)),
    ("set opt/lr 1", lambda m: m["opt"].update(lr=1.0)),
    ("set name -x", lambda m: m.update(name="-x")),
    ("set name 5", lambda m: m.update(name="5")),
    ("set name ''", lambda m: m.update(name="")),
    ("set flag false", lambda m: m.update(flag=False)),
    ("set none 3", lambda m: m.update(none=3)),
    ("set loss -2.5", lambda m: m.update(loss=torch.tensor(-2.5))),
    ("set opt/betas '[0.5, 0.25]'", lambda m: m["opt"].update(betas=(0.5, 0.25))),
    ("set new 5", lambda m: m.update(new=5)),
    ("set new 5.0", lambda m: m.update(new=5.0)),
    ("set new 1e3", lambda m: m.update(new=1e3)),
    ("set new true", lambda m: m.update(new=True)),
    ("set new null", lambda m: m.update(new=None)),
    ("set new '[1, [2.5, \"x\"]]'", lambda m: m.update(new=[1, [2.5, "x"]])),
    ("set new '\"5\\u00e9\\n\"'", lambda m: m.update(new="5é\n")),
    ("set new '{\"a\": 1}'", lambda m: m.update(new='{"a": 1}')),
    ("set new True", lambda m: m.update(new="True")),
    ("set new +5", lambda m: m.update(new="+5")),
    ("set new ''", lambda m: m.update(new="")),
    ("set new 'two words'", lambda m: m.update(new="two words")),
    ("set new 5 --type str", lambda m: m.update(new="5")),
    ("set new 5 --type=float", lambda m: m.update(new=5.0)),
    ("set --type tuple new '[1, 2]'", lambda m: m.update(new=(1, 2))),
    ("set new ab --type bytes", lambda m: m.update(new=b"ab")),
    ("set epoch 7 --type str", lambda m: m.update(epoch="7")),
    ("set opt/state/0/new 1", lambda m: m["opt"]["state"][0].update(new=1)),
    ("mv epoch step", lambda m: rename(m, "epoch", "step")),
    ("mv epoch name", lambda m: (m.update(name=3), rename(m, "epoch", "name"))),
    ("mv epoch opt", lambda m: m["opt"].update(epoch=m.pop("epoch"))),
    ("mv epoch name opt", lambda m: m["opt"].update(epoch=m.pop("epoch"), name=m.pop("name"))),
    ("mv -n epoch name", lambda m: None),
    ("mv opt model", lambda m: m["model"].update(opt=m.pop("opt"))),
    ("mv 'model/module.*' .", None),
    ("mv model/module.? opt/state", lambda m: m["opt"]["state"].update({k: m["model"].pop(k) for k in ("module.a", "module.b")})),
    ("rm epoch name", lambda m: (m.pop("epoch"), m.pop("name"))),
    ("rm -r opt", lambda m: m.pop("opt")),
    ("rm -rf nowhere epoch 'none*'", lambda m: (m.pop("epoch"), m.pop("none"))),
    ("rm -r opt/betas", lambda m: m["opt"].pop("betas")),
    ("rm 'model/*'", lambda m: m["model"].clear()),
    ("cp epoch epoch2", lambda m: m.update(epoch2=3)),
    ("cp model m2", lambda m: m.update(m2=dict(m["model"]))),
    ("cp model opt", lambda m: m["opt"].update(model=dict(m["model"]))),
    ("cp -T model opt/state", lambda m: m["opt"]["state"].update(m["model"])),
    ("cp model/. opt/state", lambda m: m["opt"]["state"].update(m["model"])),
    ("cp 'model/*' opt/state", lambda m: m["opt"]["state"].update(m["model"])),
    ("cp loss epoch", lambda m: m.update(epoch=m["loss"])),
    ("cp opt/betas name", lambda m: m.update(name=(0.9, 0.999))),
    ("ln loss loss2", lambda m: m.update(loss2=m["loss"])),
    ("mkdir a", lambda m: m.update(a={})),
    ("mkdir -p a/b/c model", lambda m: m.update(a={"b": {"c": {}}})),
    ("rename 's/^module\\.//'", lambda m: m.update(model={"a": m["model"]["module.a"], "b": m["model"]["module.b"]})),
    ("rename s,^,net/, model", lambda m: m.update(model={"net/" + k: v for k, v in m["model"].items()})),
    ("rename 's/a$/T/' 's/b$/a/' 's/T$/b/' model", lambda m: m.update(model={"module.b": m["model"]["module.a"], "module.a": m["model"]["module.b"]})),
    ("rename 's/(m[a-z]+)\\.(.)/\\2.\\1&/;s/L/x/gi' model/module.b", lambda m: m.update(
        model={"module.a": m["model"]["module.a"], "b.moduxemoduxe.b": m["model"]["module.b"]})),
    ("rename 's/^/x/' opt", lambda m: m.update(opt={"x" + k: v for k, v in m["opt"].items()})),
    ("attr model/module.a shape='[3, 2]'", lambda m: m["model"].update({"module.a": m["model"]["module.a"].reshape(3, 2)})),
    ("attr 'model/module.*' dtype=uint8", lambda m: m["model"].update({k: v.view(torch.uint8) for k, v in m["model"].items()})),
]


def rename(d, old, new):
    items = [(new if k == old else k, v) for k, v in d.items() if k != new or k == old]
    d.clear()
    d.update(items)


def words_of(line):
    import shlex
    return shlex.split(line)


def edits(top, legacy):
    path = os.path.join(top, "m.pt")
    for line, change in EDITS:
        if change is None:
            continue
        want = model()
        torch.save(want, path, _use_new_zipfile_serialization=not legacy)
        change(want)
        verb, *words = words_of(line)
        r = wfctl(verb, path, *words)
        got = torch.load(path, weights_only=False)
        ok(r.returncode == 0 and not r.stderr and same(want, got) and os.listdir(top).count("m.pt.weightfs") == 0,
           f"{'legacy: ' if legacy else ''}{line}", f"exit {r.returncode}: {r.stderr.decode()}\nwant {want}\ngot {got}")


def tied_model():
    """Names of one tensor, and places of one mapping, under different keys."""
    t, shared = torch.arange(6.), {"x.w": torch.ones(2)}
    return {"m.a": t, "m.b": t, "n": {"m.c": t, 0: t}, "m.at": {"deep": {"er": shared}}, "m.sh": shared}


def with_keys(d, change):
    return {change(k) if isinstance(k, str) else k: v for k, v in d.items()}


TIES = [
    ("rename 's/^m\\.//' /", lambda m: with_keys(m, lambda k: k.removeprefix("m."))),
    ("rename s/a/A/ n", lambda m: m),
    ("rename s/m.c/z/ n", lambda m: {**m, "n": {"z": m["m.a"], 0: m["m.a"]}}),
    ("rename 's/m\\.(.)/\\1/'", lambda m: {**with_keys({k: m[k] for k in ("m.a", "m.b")}, lambda k: k[2:]), "n": {"c": m["m.a"], 0: m["m.a"]},
                                          "m.at": m["m.at"], "m.sh": m["m.sh"]}),
    ("cp n/0 n/1", lambda m: {**m, "n": {**m["n"], "1": m["m.a"]}}),
    ("cp n/m.c ''", lambda m: {**m, "m.c": m["m.a"]}),
    ("ln -s n m.sh/new", lambda m: m["m.sh"].update(new=m["n"]) or m),
    ("ln -s m.sh n/new", lambda m: {**m, "n": {**m["n"], "new": m["m.sh"]}}),
    ("ln m.a m.sh/new", lambda m: m["m.sh"].update(new=m["m.a"]) or m),
]


def ties(top):
    path = os.path.join(top, "m.pt")
    for line, change in TIES:
        want = tied_model()
        torch.save(want, path)
        verb, *words = words_of(line)
        r = wfctl(verb, path, *words)
        want, got = change(want), torch.load(path)
        ok(same(want, got), f"ties: {line}", f"exit {r.returncode}: {r.stderr.decode()}\nwant {want}\ngot {got}")
    torch.save(tied_model(), path)
    for key in ("m.a", "m.b", "n/m.c", "n/0", "m.sh"):
        name = key.rpartition("/")[2]
        ok(text("attr", path, key, "key") == (name if name == "0" else f'"{name}"') + "\n", f"attr tells the key of {key}", text("attr", path, key, "key"))


def objects(top):
    """A copy is of the same class, or refused; the entries can be copied into a mapping."""
    path = os.path.join(top, "m.pt")
    torch.save({"sparse": torch.eye(3).to_sparse(), "objects": np.array([{}, 1], dtype=object), "linear": torch.nn.Linear(2, 2),
                "list": [torch.ones(1), {"x": torch.ones(1)}], "tuple": (torch.ones(1), 5), "od": OrderedDict(a=torch.ones(1))}, path)
    for key in ("objects", "linear"):
        refused("an object of class", "cp", path, key, "new")
    for key in ("list", "tuple", "od"):
        done("cp", path, key, "new")
        got = torch.load(path, weights_only=False)
        ok(same(got[key], got["new"]), f"cp of a {key} is one", got)
        done("rm", "-r", path, "new")
    done("-f", "-", input=f"mkdir {path} new\ncp {path} linear/. new\n".encode())
    got = torch.load(path, weights_only=False)
    ok(all(torch.equal(v, got["new"][k]) for k, v in got["linear"].state_dict().items()), "a module's tensors can be copied into a mapping", got)


def typed(top):
    """What set has made has its type at once: one script is what its lines are one by one."""
    path = os.path.join(top, "m.pt")
    for value in ("5", "0.5", "true", "null", "1e3", "NaN", "word"):
        results = []
        for lines in ([f"set m.pt new {value}", "mv m.pt new loss"], [f"set m.pt new {value}\nmv m.pt new loss"]):
            torch.save(model(), path)
            for line in lines:
                done("-f", "-", input=line.replace("m.pt", path).encode())
            results.append(torch.load(path)["loss"])
        ok(same(*results), f"set new {value}, mv new loss: one script or two runs", results)


REFUSED = [  # words behind the path, a word of the line
    ("set opt 5", "a mapping"), ("set model/module.a 5", "--file"), ("set flag maybe", "not set"), ("set 'nix*' 5", "no key fits"),
    ("set nowhere/x 5", "no such key"), ("set new x --type int", "not set"), ("set new x --type thing", "--type"),
    ("mv nothing x", "no such key"), ("mv epoch nowhere/x", "no such key"), ("mv epoch epoch", "the same key"), ("mv opt opt/state", "into itself"),
    ("mv epoch name nowhere", "no such mapping"), ("mv epoch flag name", "not a mapping"), ("mv -T epoch opt", "a mapping is there"),
    ("mv -T model opt", "not empty"), ("mv model epoch", "not replaced"), ("mv epoch x/", "no such mapping"),
    ("mv opt/lr model/module.a .", ". or .."), ("rm opt", "a mapping"), ("rm nothing", "no such key"), ("rm epoch nothing", "no such key"),
    ("rm -d opt", "not empty"), ("rm -r /", "root"), ("rm ../x", ".."), ("cp nothing x", "no such key"), ("cp opt opt/x", "into itself"),
    ("cp epoch epoch", "the same key"), ("cp opt epoch", "mapping"), ("ln opt opt2", "-s"), ("ln loss epoch", "already"), ("mkdir opt", "already"),
    ("mkdir a/b", "no such"), ("rename 's/a$/b/' model", "two keys"), ("rename 's/(/x/'", "s/(/x/"), ("rename s/a/b", "delimiter"),
    ("rename 's/a/\\1/'", "group"), ("rename s/a/b/x", "flags"), ("attr model/module.a shape=[5]", "shape"), ("attr loss nothing=1", "nothing"),
    ("attr loss nothing", "no attribute"), ("attr loss key='\"x\"'", "only tells"), ("attr model/module.a stride='[1, 2]'", "only tells"),
    ("attr opt dtype=int8", "no such attribute"), ("attr opt location=cuda:0", "no such attribute"), ("attr epoch class=list", "class"),
    # names of editors' files, which a commit would forget
    ("set 'new~' 5", "editors"), ("set opt/.DS_Store 5", "editors"), ("mv epoch '.#x'", "editors"), ("mv model .Trash-0", "editors"), ("cp epoch '#x#'", "editors"),
    ("mkdir -p 'a~/b'", "editors"), ("ln loss ._loss", "editors"), ("ln -s opt opt~", "editors"), ("rename s/$/~/", "editors"), ("rename 's/^/.nfs/' opt", "editors"),
]


def refusals(top):
    path = os.path.join(top, "m.pt")
    torch.save(model(), path)
    with open(path, "rb") as f:
        before = f.read()
    for line, word in REFUSED:
        verb, *words = words_of(line)
        refused(word, verb, path, *words)
    with open(path, "rb") as f:
        ok(f.read() == before and sorted(os.listdir(top)).count("m.pt.weightfs") == 0, "what was refused changed nothing")
    for words in (["set", path, "epoch"], ["mv", path, "epoch"], ["rm", path], ["cat", path], ["cat", "--what", path, "epoch"], ["mkdir", path],
                  ["attr", path], ["attr", path, "loss", "a=1", "b"], ["rename", path], ["new"], ["cp", path, "epoch"], ["cat", "--raw", "--npy", path, "x"]):
        r = wfctl(*words)
        ok(r.returncode == 2 and b"usage" in r.stderr, f"used wrongly: wfctl {' '.join(words)}", r)
    refused("pipe", "cat", "-", "epoch")
    refused("such a file already", "new", path)


def between(top):
    a, b = os.path.join(top, "a.pt"), os.path.join(top, "b:c.pt")
    t = torch.nn.Parameter(torch.randn(3, 5))
    v = torch.arange(10)
    torch.save({"enc": {"w": t, "tied": t, "v": v, "half": v[:5], "s": "text\n", "b": b"\x00\xff", "i": 5, "f": 1.0, "n": None, "l": [1, "x"], "t": (1, 2.5),
                        "d": {0: torch.ones(2).to(torch.bfloat16), "é/%": torch.tensor(True)}, "e": torch.zeros(0, 3), "c": v.reshape(2, 5).T}}, a)
    done("new", b)
    done("cp", f"{a}:enc", f"{b}:enc")
    got, want = torch.load(b)["enc"], torch.load(a)["enc"]
    ok(same(got, want), "a mapping copied between checkpoints is equal", f"{want}\n{got}")
    ok(got["w"].data_ptr() == got["tied"].data_ptr(), "and tied where it was tied")
    done("cp", "--from", a, "--to", b, "enc/*", "")
    ok(same(without(torch.load(b), "enc"), want), "the entries of a mapping copied to the root are equal")
    done("rm", "-r", b, "enc")
    refused("one run edits one", "-f", "-", input=f"set {a} x 1\nset {b} x 1\n".encode())


def scripts(top):
    path = os.path.join(top, "m.pt")
    torch.save(model(), path)
    done("-f", "-", input=f"""# a comment
set {path} 'a key' 'two words' # and another
mv {path} "a key" k
cp {path} k k2\n\n  rm {path} epoch
rename {path} 's/module\\.//'
""".encode())
    want = model()
    want.update(k="two words", k2="two words")
    want.pop("epoch")
    want["model"] = {"a": want["model"]["module.a"], "b": want["model"]["module.b"]}
    ok(same(torch.load(path), want), "a script is one commit of all its verbs", torch.load(path))
    with open(path, "rb") as f:
        before = f.read()
    for line, word in (("mv {} nothing x", "line 2"), ("frob {}", "no verb"), ("verify {}", "no verb for a script"), ("set {} 'x", "quote"), ("mv {}", "usage"),
                       ("set {} --commit=append x 1", "belong")):
        refused(word, "-f", "-", input=f"set {path} k 5\n{line.format(path)}\n".encode())
    with open(path, "rb") as f:
        ok(f.read() == before and "m.pt.weightfs" not in os.listdir(top), "a script that fails changes nothing")
    count = 10000
    with open("/dev/full", "wb") as full:
        r = subprocess.run([verbkit.WFCTL, "-f", "-"], input=f"cat {path} loss\nset {path} epoch 5\n".encode(), stdout=full, stderr=subprocess.PIPE)
    with open(path, "rb") as f:
        ok(r.returncode == 1 and r.stderr.count(b"\n") == 1 and f.read() == before, "a script whose output cannot be written commits nothing", r)
    done("-f", "-", input=f"set {path} crlf 6\r\nset {path} l '[1, [2.5]]'\r\n".encode())
    ok((torch.load(path)["crlf"], torch.load(path)["l"]) == (6, [1, [2.5]]), "lines of a script may end in CR and newline")
    lines = "".join(f"mv {path} v{i} w{i}\nset {path} w{i} {i + 1}\n" for i in range(count // 2))
    torch.save({f"v{i}": i for i in range(count // 2)}, path)
    start = time.perf_counter()
    r = wfctl("-f", "-", input=lines.encode())
    took = time.perf_counter() - start
    ok(r.returncode == 0 and same(torch.load(path), {f"w{i}": i + 1 for i in range(count // 2)}), f"{count} verbs are one commit: {count / took:.0f} a second")


def files(top):
    path = os.path.join(top, "m.pt")
    for array in (np.arange(12, dtype=">i4").reshape(3, 4), np.asfortranarray(np.random.rand(3, 4, 2)), np.array(2.5, dtype=np.float16),
                  np.zeros((0, 3), dtype=np.uint8), np.array([1 + 2j, 3]), np.array([True, False])):
        torch.save(model(), path)
        np.save(os.path.join(top, "x.npy"), array)
        for key in ("new", "model/module.a", "loss", "epoch"):
            done("set", path, key, "--file", os.path.join(top, "x.npy"))
        m = torch.load(path)
        for got in (m["new"], m["model"]["module.a"], m["loss"], m["epoch"]):
            ok(np.array_equal(got.numpy(), array) and got.numpy().dtype == array.dtype.newbyteorder("="), f"set --file of {array.dtype} {array.shape}", got)
    torch.save(model(), path)
    done("set", path, "model/module.a", "--file", "-", input=np.arange(6, dtype="<f4")[::-1].tobytes())
    ok(torch.equal(torch.load(path)["model"]["module.a"], torch.arange(6.).flip(0).reshape(2, 3)), "set --file - of raw bytes keeps dtype and shape")
    done("set", path, "raw", "--file", "-", input=b"5\n")
    ok(torch.equal(torch.load(path)["raw"], torch.tensor([53, 10], dtype=torch.uint8)), "raw bytes of a new key are uint8, whatever they look like")
    refused("not set", "set", path, "model/module.a", "--file", "-", input=b"12345")
    for key in ("model/module.a", "epoch", "flag", "none", "loss"):
        refused("is empty", "set", path, key, "--file", "/dev/null")
    done("set", path, "name", "--file", "/dev/null")
    ok(torch.load(path)["name"] == "", "an empty file is an empty text")


def protected(top):
    """Who may write in a directory could replace any file; a verb does not replace one that nobody may write."""
    path = os.path.join(top, "m.pt")
    torch.save(model(), path)
    os.chmod(top, 0o777)
    os.chmod(path, 0o444)
    before = open(path, "rb").read()
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []  # root is kept from writing by no mode
    for words in (["set", path, "epoch", "5"], ["repack", path], ["repack", "--align=4096", path]):
        r = subprocess.run([*user, shutil.copy(verbkit.WFCTL, top), *words], stderr=subprocess.PIPE)
        ok(r.returncode == 1 and b"Permission denied" in r.stderr and open(path, "rb").read() == before,
           f"{words[0]}: a file without the right to write is left alone", r)
    os.chmod(path, 0o644)


def pending(top):
    path = os.path.join(top, "m.pt")
    t = torch.zeros(1000)
    torch.save({"w": t, "v": t[10:20], "n": 1}, path)
    r = wfctl("set", path, "n", "2", "--commit", "append")
    size = os.path.getsize(path)
    ok(r.returncode == 0 and torch.load(path)["n"] == 2, "--commit=append", r.stderr)
    refused("--commit", "set", path, "n", "2", "--commit=x")
    ok(size == os.path.getsize(path), "what was refused appended nothing")


with tempfile.TemporaryDirectory(prefix="weightfs-verbs-") as top:
    edits(top, False)
    edits(top, True)
    ties(top)
    objects(top)
    typed(top)
    refusals(top)
    between(top)
    scripts(top)
    files(top)
    protected(top)
    pending(top)
verbkit.tap.done()
