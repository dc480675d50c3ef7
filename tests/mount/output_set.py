# SPDX-License-Identifier: MIT
"""-o output=DIRECTORY: the edits of a checkpoint in several files are committed to a directory of its own. What stays is copied, the main file
comes last, and the checkpoint is never touched; a directory that has something of others is refused.

Usage: output_set.py BUILD_DIR [DIE_AT]. With the library that kills, the daemon is killed and fails at each call of such commits, and
nothing else is tried. Prints TAP.
"""
import os
import shutil
import sys
import tempfile

import directories
import kit
from kit import done, floats, memory, need_fuse, ok, read, run, same, side_by_side, write
from minicheckpoint import Tensor, save

BUILD, DIE_AT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]) if sys.argv[2:] else None
WEIGHTFS, WFCTL = (os.path.join(BUILD, "fs", name) for name in ("weightfs", "wfctl"))
TOP = tempfile.mkdtemp(prefix="weightfs-output-", dir=memory())


def everything(path):
    return {os.path.relpath(os.path.join(where, n), path): read(os.path.join(where, n)) for where, _, names in os.walk(path) for n in names}


def put(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write(path, content)


class Work:
    """A set, the directory that it is written to, and a mount point."""

    def __init__(self, kind, name, fault=None):
        self.top = os.path.join(TOP, f"{kind}-{name}")
        self.set = directories.make(kind, os.path.join(self.top, "set"))
        # what stands beside an index and goes along, and what does not
        self.beside = {} if kind == "dcp" else {"config.json": b'{"model_type": "x"}', "tokenizer.json": b"{}" * 3000, "README.md": b"# x", "1_Pooling/config.json": b"{}"}
        if DIE_AT:  # one tells as much, at fewer calls
            self.beside = {name: content for name, content in self.beside.items() if name == "1_Pooling/config.json"}
        others = {"config.json": b"{}"} if kind == "dcp" else {"model.fp16.safetensors": b"x", "training_args.bin": b"x", "other.safetensors.index.json": b"{}", ".hidden": b"x"}
        for name, content in {**others, **self.beside}.items():
            put(os.path.join(self.set.path, name), content)
        self.out = self.set.copy(os.path.join(self.top, "out"))
        self.mnt, self.plan = os.path.join(self.top, "mnt"), os.path.join(self.top, "plan")
        os.mkdir(self.mnt)
        self.want, self.source = dict(self.set.want), everything(self.set.path)
        self.fault = fault

    def say(self, text):
        write(self.plan + ".new", text.encode())
        os.rename(self.plan + ".new", self.plan)

    def mount(self, *more, faults=False):
        env = {**os.environ, "LD_PRELOAD": DIE_AT, "DIE_AT": self.plan} if faults else None
        return run(WEIGHTFS, "-o", ",".join([f"output={self.out.path}", *more]), self.set.path, self.mnt, env=env)

    def mount_again(self):
        """What was killed may hold its lock for a moment longer."""
        for _ in range(50):
            r = self.mount()
            if r.returncode == 0:
                break
        return r

    def edit(self, n):
        """One more of each kind; `want` is what the tree has then."""
        old = next(k for k in self.want if k.startswith("layer.0.0") or k.startswith("zero"))
        os.rename(f"{self.mnt}/{old}", f"{self.mnt}/zero.{n}")
        self.want = {(f"zero.{n}" if k == old else k): v for k, v in self.want.items()}
        with open(f"{self.mnt}/layer.1.1", "r+b") as f:
            f.write(floats(1, n + 50))
        self.want["layer.1.1"] = floats(1, n + 50) + self.want["layer.1.1"][4:]
        write(f"{self.mnt}/new.{n}", floats(3, n))
        os.setxattr(f"{self.mnt}/new.{n}", "user.torch.dtype", b"float32")
        self.want[f"new.{n}"] = floats(3, n)

    def commit(self):
        return run(WFCTL, "commit", self.mnt)

    def umount(self):
        return run(WFCTL, "umount", self.mnt)

    def end(self):
        run("umount", "-l", self.mnt)
        shutil.rmtree(self.top, ignore_errors=True)

    def written(self):
        """None: there is no checkpoint in the directory; its tensors; or what is wrong with it."""
        if not os.path.exists(self.out.main):
            return None
        try:
            return directories.load(self.out)
        except (AssertionError, OSError, KeyError, AttributeError) as e:
            return f"torn: {e!r}"

    def left(self):
        """What is nobody's, and the overlay; slices of others that the new metadata do not name are not even copied."""
        named = (directories.load_distributed if self.out.kind == "dcp" else directories.load_shards)(self.out)[1]
        there = set(everything(self.out.path)) - named - {os.path.basename(self.out.main)}
        there -= {n for n in self.beside if n in there and read(os.path.join(self.out.path, n)) == self.beside[n]}
        return sorted(there) + ([self.out.path + ".weightfs"] if os.path.exists(self.out.path + ".weightfs") else [])


def check_commits(kind):
    w = Work(kind, "commits")
    try:
        r = w.mount()
        ok(r.returncode == 0 and not r.stderr, f"{kind}: mounts", r)
        same((os.listdir(w.out.path), w.commit().returncode), ([], 0), f"{kind}: nothing is written before an edit")
        w.edit(1)
        r = w.commit()
        ok(r.returncode == 0 and w.written() == w.want, f"{kind}: a commit is the whole set", (r, w.written()))
        status = json_status(w)
        same((status["pending"]["edits"], status["dirty"], status["last_error"]), (0, False, None), f"{kind}: nothing waits")
        same(set(w.left()) - {w.out.path + ".weightfs"}, set(), f"{kind}: and there is nothing else")
        told = [s for s in read(f"{w.mnt}/.weightfs/log").decode().splitlines() if "not copied" in s]
        ok(len(told) == 1 and ("config.json" if kind == "dcp" else "training_args.bin (other weights)") in told[0] and ".hidden" not in told[0] and ".distcp" not in told[0],
           f"{kind}: the log says what is not copied", told)
        kept = {n: os.stat(os.path.join(w.out.path, n)).st_ino for n in everything(w.out.path) if n in w.source and n != os.path.basename(w.out.main)}
        same({n: read(os.path.join(w.out.path, n)) for n in kept}, {n: w.source[n] for n in kept}, f"{kind}: {len(kept)} files are as they were")
        w.edit(2)
        r = w.commit()
        ok(r.returncode == 0 and w.written() == w.want, f"{kind}: a second commit of the same mount", r)
        same({n: os.stat(os.path.join(w.out.path, n)).st_ino for n in kept}, kept, f"{kind}: does not copy again")
        for name in [k for k in w.want if k.startswith("layer.2")]:
            os.unlink(f"{w.mnt}/{name}")
            del w.want[name]
        r = w.umount()
        ok(r.returncode == 0 and w.written() == w.want and w.left() == [], f"{kind}: unmounting commits, and leaves the set alone", (r, w.left()))
        same(everything(w.set.path), w.source, f"{kind}: the checkpoint is never touched")
        same(sorted(os.listdir(w.top)), ["mnt", "out", "set"], f"{kind}: nothing is beside it")
        r = run(WFCTL, "verify", w.out.path)
        ok(r.returncode == 0, f"{kind}: verify", r)
        r = run(WEIGHTFS, w.out.path, w.mnt)
        os.rename(f"{w.mnt}/layer.1.0", f"{w.mnt}/again")
        u = w.umount()
        ok(r.returncode == 0 and u.returncode == 0 and "again" in w.written() and w.left() == [], f"{kind}: it is a checkpoint as any other", (r, u))
        before = everything(w.out.path)
        r = w.mount()
        ok(r.returncode == 1 and "is not empty" in r.stderr and r.stderr.count("\n") == 1 and everything(w.out.path) == before,
           f"{kind}: a directory with a checkpoint is refused", r)
    finally:
        w.end()


def check_beside(kind):
    """The files that a library wants beside an index: as they are, never over what is there, and never in the way of the edits."""
    w = Work(kind, "beside")
    try:
        os.rename(f"{w.set.path}/tokenizer.json", f"{w.top}/blob")
        os.symlink("../blob", f"{w.set.path}/tokenizer.json")  # as the hub's cache has it
        os.mkdir(f"{w.set.path}/onnx")
        os.mkfifo(f"{w.set.path}/fifo")
        os.symlink("nowhere", f"{w.set.path}/dangling.json")
        with open(f"{w.set.path}/corpus.txt", "wb") as f:
            f.truncate(65 << 20)
        os.chmod(f"{w.set.path}/README.md", 0o640)
        w.mount()
        w.edit(1)
        r = w.commit()
        named = directories.load_shards(w.out)[1] | {os.path.basename(w.out.main)}
        there = {n: content for n, content in everything(w.out.path).items() if n not in named}
        same((r.returncode, there), (0, w.beside), f"{kind}: what belongs to the model goes along, and nothing else")
        same((os.path.islink(f"{w.out.path}/tokenizer.json"), os.stat(f"{w.out.path}/README.md").st_mode & 0o777), (False, 0o640), f"{kind}: as files, with their modes")
        write(f"{w.out.path}/config.json", b"mine")
        os.unlink(f"{w.out.path}/README.md")
        write(f"{w.set.path}/late.json", b"late")
        w.edit(2)
        r = w.umount()
        there = {n: content for n, content in everything(w.out.path).items() if not n.startswith(("model", "pytorch"))}
        same((r.returncode, w.written() == w.want, there), (0, True, {**w.beside, "config.json": b"mine", "late.json": b"late"}), f"{kind}: nothing is written over, what is missing comes")
    finally:
        w.end()


# what stands in folders beside an index, and what of it goes along
FOLDERS = (
    ("1_Pooling/config.json", b"{}", True),
    ("2_Dense/config.json", b"{}", True),
    ("2_Dense/model.safetensors", b"dense", True),  # of a module that modules.json has: no other file has these weights
    ("query_0_Transformer/pytorch_model.bin", b"q", True),
    ("2_Dense/onnx/model.onnx", b"x", False),
    ("additional_chat_templates/tool.jinja", b"{{ x }}", True),
    ("a/b/c.txt", b"deep", True),
    ("onnx/config.json", b"{}", False),
    ("onnx/model.onnx", b"x", False),
    ("openvino/openvino_model.xml", b"x", False),
    ("openvino/openvino_model.bin", b"x", False),
    ("checkpoint-500/config.json", b"{}", False),
    ("checkpoint-500/model.safetensors", b"x", False),
    ("3_Dense-old/model.safetensors", b"x", True),
    ("model.fp16.safetensors.index.json.weightfs/log", b"x", False),
    (".git/config", b"x", False),
    ("__pycache__/m.pyc", b"x", False),
    ("1/2/3/4/5/6/7/8/9/deep.txt", b"x", False),
)


def check_folders(modules):
    """Folders go along where they belong to the model, and the log says what does not; links lead nowhere else."""
    w, what = Work("safetensors", "folders" + "-modules" * modules), "with modules.json" if modules else "without modules.json"
    try:
        for name, content, _ in FOLDERS:
            put(f"{w.set.path}/{name}", content)
        want = {n: content for n, content, takes in FOLDERS if takes and (modules or n.startswith(("1_Pooling", "additional", "a/")))}
        want.update({n: content for n, content in w.beside.items() if n not in want})
        if modules:
            write(f"{w.set.path}/modules.json", b"[]")
            want["modules.json"] = b"[]"
        os.makedirs(f"{w.top}/secret")
        write(f"{w.top}/secret/key", b"secret")
        os.symlink(f"{w.top}/secret", f"{w.set.path}/a/folder")  # a link to a folder
        os.symlink("../../secret/key", f"{w.set.path}/a/key.txt")
        os.symlink("../config.json", f"{w.set.path}/a/config.json")
        os.symlink("a", f"{w.set.path}/again")
        os.mkfifo(f"{w.set.path}/a/fifo")
        os.mkdir(f"{w.set.path}/empty")
        with open(f"{w.set.path}/a/corpus.txt", "wb") as f:
            f.truncate(65 << 20)
        want["a/config.json"] = w.beside["config.json"]
        w.mount()
        w.edit(1)
        r = w.commit()
        named = directories.load_shards(w.out)[1] | {os.path.basename(w.out.main)}
        there = {n: content for n, content in everything(w.out.path).items() if n not in named}
        same((r.returncode, sorted(there.items())), (0, sorted(want.items())), f"folders {what}: what belongs to the model")
        same(sorted(n for n in os.listdir(w.out.path) if os.path.isdir(f"{w.out.path}/{n}")), sorted({n.split("/")[0] for n in want if "/" in n}), f"folders {what}: no others are made")
        line = "\n".join(s for s in read(f"{w.mnt}/.weightfs/log").decode().splitlines() if "not copied" in s)
        said = ["onnx/ (other weights)", "openvino/ (", "checkpoint-500/ (", "training_args.bin (other", "a/folder (a link", "a/key.txt (a link", "a/corpus.txt (too large)", "a/fifo (no file", "1/2/3/4/5/6/7/8/9/ (too deep)"]
        ok(not [s for s in said if s not in line], f"folders {what}: the log says what is left behind", line)
        ok(not any(n in line for n in (".git", "weightfs/,", "pycache", "00001-of", os.path.basename(w.out.main) + " ")), f"folders {what}: and nothing else", line)
        w.edit(2)
        r = w.umount()
        ok(r.returncode == 0 and w.written() == w.want, f"folders {what}: a second commit", r)
    finally:
        w.end()


def check_hub_cache():
    """A snapshot of the hub's cache: each file is a link to a blob beside it, in folders, too."""
    w = Work("safetensors", "cache")
    try:
        repo = f"{w.top}/models--x"
        os.makedirs(f"{repo}/snapshots")
        os.makedirs(f"{repo}/blobs")
        os.rename(w.set.path, f"{repo}/snapshots/1")
        w.set = w.set.copy(f"{repo}/snapshots/1")
        for i, name in enumerate(sorted(everything(w.set.path))):
            os.rename(f"{w.set.path}/{name}", f"{repo}/blobs/{i}")
            os.symlink("../" * (2 + name.count("/")) + f"blobs/{i}", f"{w.set.path}/{name}")
        put(f"{repo}/blobs/x/y", b"x")
        os.symlink("../../../blobs/x/y", f"{w.set.path}/1_Pooling/other.json")
        w.mount()
        w.edit(1)
        r = w.umount()
        there = everything(w.out.path)
        same((r.returncode, w.written() == w.want, {n: there.get(n) for n in w.beside}, "1_Pooling/other.json" in there, [n for n in there if os.path.islink(f"{w.out.path}/{n}")]),
             (0, True, w.beside, False, []), "a snapshot of the hub's cache")
    finally:
        w.end()


def check_in_the_way():
    """What the output has already stays, also where it is no folder, or a link to one."""
    w = Work("safetensors", "way")
    try:
        write(f"{w.set.path}/modules.json", b"[]")
        for name in ("3_A/config.json", "4_B/config.json", "5_C/config.json"):
            put(f"{w.set.path}/{name}", b"{}")
        os.makedirs(f"{w.top}/elsewhere")
        w.mount()
        w.edit(1)
        write(f"{w.out.path}/3_A", b"mine")
        os.symlink("../elsewhere", f"{w.out.path}/4_B")
        put(f"{w.out.path}/5_C/config.json", b"mine")
        r = w.umount()
        there = everything(w.out.path)
        same((r.returncode, w.written() == w.want, there.get("3_A"), there.get("5_C/config.json"), os.listdir(f"{w.top}/elsewhere"), os.path.islink(f"{w.out.path}/4_B")),
             (0, True, b"mine", b"mine", [], True), "what is in the way stays")
    finally:
        w.end()


def json_status(w):
    import json
    return json.loads(read(f"{w.mnt}/.weightfs/status"))


def check_directory(kind):
    """Which directories are taken, and what becomes of them."""
    w = Work(kind, "directory")
    try:
        w.mount()
        r = w.umount()
        ok(r.returncode == 0 and not os.path.exists(w.out.path), f"{kind}: nothing was edited: no directory is left", r)
        os.mkdir(w.out.path)
        w.mount()
        w.umount()
        ok(os.path.isdir(w.out.path), f"{kind}: one that was there stays")
        write(os.path.join(w.out.path, "notes"), b"mine")
        r = w.mount()
        ok(r.returncode == 1 and "(notes is in it)" in r.stderr and read(os.path.join(w.out.path, "notes")) == b"mine", f"{kind}: one with a file is refused", r)
        os.unlink(os.path.join(w.out.path, "notes"))
        os.rmdir(w.out.path)
        write(w.out.path, b"mine")
        r = w.mount()
        ok(r.returncode == 1 and "this is a file" in r.stderr and read(w.out.path) == b"mine", f"{kind}: a file is refused", r)
        os.unlink(w.out.path)
        for name in ("o.npz", "missing/out"):
            r = run(WEIGHTFS, "-o", f"output={w.top}/{name}", w.set.path, w.mnt)
            ok(r.returncode == 1 and r.stderr.count("\n") == 1, f"{kind}: {name} is refused", r)
        r = run(WEIGHTFS, "-o", f"output={w.set.path}", w.set.path, w.mnt)
        ok(r.returncode == 1 and everything(w.set.path) == w.source, f"{kind}: its own directory is refused", r)
        os.mkdir(w.top + "/real")
        os.symlink("real", w.top + "/link")
        for name, path in (("slash/", "slash"), ("link", "real")):
            r = run(WEIGHTFS, "-o", f"output={w.top}/{name}", w.set.main, w.mnt)
            os.rename(f"{w.mnt}/layer.0.0", f"{w.mnt}/x")
            u = w.umount()
            got = directories.load(w.set.copy(os.path.join(w.top, path))) if u.returncode == 0 else {}
            ok(r.returncode == 0 and "x" in got and not [n for n in os.listdir(w.top) if n.endswith(".weightfs")], f"{kind}: output={name}", (r, u))
        # edits that nobody committed: dropped, or lost with the directory
        w.mount()
        w.edit(1)
        r = run(WFCTL, "discard", w.mnt)
        u = w.umount()
        ok((r.returncode, u.returncode) == (0, 0) and not os.path.exists(w.out.path), f"{kind}: edits are discarded", (r, u, os.listdir(w.top)))
        # somebody else's file comes meanwhile, and stays
        w.mount()
        w.want = dict(w.set.want)
        w.edit(3)
        write(os.path.join(w.out.path, "README.md"), b"mine")
        r = w.umount()
        ok(r.returncode == 0 and w.written() == w.want and w.left() == ["README.md"], f"{kind}: a file that comes meanwhile stays", r)
        shutil.rmtree(w.out.path)
        # a member that somebody changed, and one that is missing
        member = w.set.file_of("layer.2.0")[0]
        os.rename(member, member + ".away")
        w.mount()
        os.rename(f"{w.mnt}/layer.0.0", f"{w.mnt}/zero.4")
        w.want = {("zero.4" if k == "layer.0.0" else k): v for k, v in w.set.want.items()}
        r = w.commit()
        ok(r.returncode == 1 and os.path.basename(member) in r.stderr and w.written() is None, f"{kind}: a missing file is told, and nothing is half there", r)
        os.rename(member + ".away", member)
        r = w.umount()
        if r.returncode:  # what could not be read at the opening is so for this mount
            daemon = kit.Daemon(json_status(w)["pid"])
            run("umount", w.mnt)
            daemon.wait()
            w.mount_again()
            r = w.umount()
        ok(r.returncode == 0 and w.written() == w.want and w.left() == [], f"{kind}: with it back the edits are committed", (r, w.written()))
    finally:
        w.end()


def check_told():
    """What an output's format has no place for is told when it is mounted."""
    import dcpkit
    sys.path.append(os.path.dirname(dcpkit.__file__))
    import craft
    top = os.path.join(TOP, "told")
    os.makedirs(top + "/mnt")
    d = dcpkit.Directory(top + "/dcp")
    d.tensor("w", "float32", (4,), floats(4))
    d.value("epoch", craft.integer(3))
    d.write()
    directories.make("zero", top + "/zero")
    save(top + "/one.pt", {"w": Tensor("float32", (2,), floats(2))})
    os.mkdir(top + "/dir")
    for source, output, said, refused in (("dcp", "x.safetensors", "epoch", False), ("dcp", "x.pt", "epoch", False), ("dcp", "x.ckpt", "epoch", False),
                                          ("zero", "x.safetensors", "", False), ("zero", "x.pt", "", False), ("zero", "new", "one .safetensors or .pt", True),
                                          ("one.pt", "dir", "irectory", True)):
        r = run(WEIGHTFS, "-o", f"output={top}/{output}", f"{top}/{source}", f"{top}/mnt")
        ok((r.returncode == 1) == refused and said in r.stderr and r.stderr.count("\n") == bool(said), f"{source} with output={output}", r)
        if r.returncode == 0 and source == "dcp":
            os.rename(f"{top}/mnt/w", f"{top}/mnt/v")
            r = run(WFCTL, "commit", f"{top}/mnt")
            ok(r.returncode == 1 and said in r.stderr and not os.path.exists(f"{top}/{output}"), f"{source} with output={output}: and so by the commit", r)
            os.unlink(f"{top}/mnt/epoch")
            r = run(WFCTL, "commit", f"{top}/mnt")
            ok(r.returncode == 0 and os.path.isfile(f"{top}/{output}"), f"{source} with output={output}: without it, it is written", r)
        if not refused:
            run(WFCTL, "umount", f"{top}/mnt")
        run("umount", "-l", f"{top}/mnt")
        same(os.path.exists(top + "/new"), False, "no directory is made for nothing") if refused else None


# ---- killed ----

def begin(w, second):
    w.say("0 setup")
    r = w.mount(faults=True)
    assert r.returncode == 0, r
    if second:
        w.edit(1)
        assert w.commit().returncode == 0
    w.edit(2)
    run("sync", w.mnt)


def at_call(kind, second, failure, i):
    """What is wrong, and how many calls the commit made."""
    w, wrong = Work(kind, f"{'second' if second else 'first'}-{failure}-{i}"), []
    try:
        begin(w, second)
        old = w.written()
        w.say(f"{i} {failure}")
        r = w.commit()
        calls = int(read(w.plan + ".count"))
        now = w.written()
        if now not in (old, w.want):
            wrong.append(f"call {i}: neither old nor new: {now}")
        if now is None and run(WFCTL, "ls", w.out.path).returncode == 0:
            wrong.append(f"call {i}: half a set is taken for a whole one: {os.listdir(w.out.path)}")
        if failure == "kill" and i:
            run("umount", "-l", w.mnt)
            m = w.mount_again()
            if m.returncode or {k: read(f"{w.mnt}/{k}") for k in os.listdir(w.mnt)} != w.want:
                wrong.append(f"call {i}: the next mount: {m.stderr}")
        elif i:
            w.say("0 again")
            if (r.returncode == 0) != (now == w.want) or r.stderr.count("\n") != (r.returncode != 0):
                wrong.append(f"call {i}: {r}")
            r = w.commit()
            if r.returncode or w.written() != w.want:
                wrong.append(f"call {i}: then {r.stderr}")
        r = w.umount()
        if r.returncode or w.written() != w.want or w.left() or everything(w.set.path) != w.source:
            wrong.append(f"call {i}: at last {r.stderr} {w.written()} {w.left()}")
    except Exception as e:  # noqa: BLE001
        wrong.append(f"call {i}: {e!r}")
        calls = 0
    finally:
        w.end()
    return wrong, calls


def check_elsewhere(kind):
    """Edits that a killed commit has left beside the output, taken to another set, dropped, or met by who opens the output itself."""
    for what in ("onto", "discard"):
        w = Work(kind, what)
        try:
            begin(w, False)
            w.say("24 kill")
            w.commit()
            run("umount", "-l", w.mnt)
            ok(w.written() is None and os.listdir(w.out.path), f"{kind}: {what}: a commit is cut short")
            other = w.set.copy(os.path.join(w.top, "other"))
            shutil.copytree(w.set.path, other.path)
            r = run(WFCTL, *(["commit", f"--onto={other.path}"] if what == "onto" else ["discard"]), w.out.path)
            ok(r.returncode == 0 and directories.load(other) == (w.want if what == "onto" else w.set.want), f"{kind}: {what}", (r, os.listdir(other.path)))
            same(everything(w.set.path), w.source, f"{kind}: {what}: the checkpoint is as it was")
            if what == "discard":
                same((os.listdir(w.out.path), os.path.exists(w.out.path + ".weightfs")), ([], False), f"{kind}: {what}: and nothing is left in the output")
        finally:
            w.end()
    w = Work(kind, "opened")
    try:
        begin(w, False)
        r = w.commit()
        daemon = kit.Daemon(json_status(w)["pid"])
        daemon.kill(9)
        daemon.wait()
        run("umount", "-l", w.mnt)
        write(os.path.join(w.out.path, "README.md"), b"mine")
        u = run(WFCTL, "mv", w.out.path, "layer.2.0", "moved")
        w.want["moved"] = w.want.pop("layer.2.0")
        ok(r.returncode == 0 and u.returncode == 0 and w.written() == w.want and w.left() == ["README.md"],
           f"{kind}: killed after a commit, the output is opened by itself", (u, w.written(), w.left()))
    finally:
        w.end()


def check_killed(kind, second, failure, every):
    what = f"{kind}: {'a second commit' if second else 'the first commit'}"
    wrong, calls = at_call(kind, second, failure, 0)
    ok(not wrong and calls > 20, f"{what}: {calls} calls change files", "\n".join(wrong))
    runs = list(side_by_side(lambda i: at_call(kind, second, failure, i), range(1, calls + 1, every)))
    wrong = [line for i, result, error in runs for line in (result[0] if result else [f"call {i}: {error}"])]
    ok(not wrong, f"{what}: {failure} at {len(runs)} of them", "\n".join(wrong))


need_fuse()
try:
    if DIE_AT:
        for each in directories.EDITED:
            check_elsewhere(each)
        check_killed("safetensors", False, "kill", 1)
        check_killed("dcp", False, "kill", 1)
        check_killed("bin", True, "kill", 2)
        check_killed("dcp", True, "kill", 2)
        check_killed("safetensors", False, "ENOSPC", 2)
        check_killed("dcp", False, "EIO", 2)
    else:
        for each in directories.EDITED:
            check_commits(each)
            check_directory(each)
        check_beside("safetensors")
        check_beside("bin")
        for each in (False, True):
            check_folders(each)
        check_hub_cache()
        check_in_the_way()
        check_told()
finally:
    shutil.rmtree(TOP, ignore_errors=True)
done()
