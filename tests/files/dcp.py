#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Directories of torch.distributed.checkpoint without torch: those in dcp/ against what manifest.json tells of them, made ones with what no torch
writes, hostile ones, and random plans of chunks against a model of them.

Usage: dcp.py BUILD_DIRECTORY [SEED]. Prints TAP. Without /dev/fuse the mounts are left out.
"""
import hashlib
import json
import os
import pickle
import pickletools
import random
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import craft  # noqa: E402
import dcpkit  # noqa: E402
from compare import compare  # noqa: E402
from tap import done, ok  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
work = tempfile.mkdtemp(prefix="weightfs-dcp-")


def run(program, *words):
    r = subprocess.run([os.path.join(BUILD, "fs", program), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    return r.returncode, r.stdout, r.stderr.decode("utf-8", "replace")


def wfctl(*words):
    return run("wfctl", *words)


def rows(path):
    status, out, err = wfctl("ls", "--json", path)
    assert status == 0, err
    return {row["path"]: row for row in map(json.loads, out.splitlines())}


def in_files(row):
    """The tensor's bytes where its line says that they stand; None where it does not say."""
    data = b""
    for file, offset, size in row.get("runs") or ([[row["file"], row["file_offset"], row["bytes"]]] if "file" in row else []):
        with open(file, "rb") as f:
            f.seek(offset)
            data += f.read(size)
    return data if "runs" in row or "file" in row else None


# ---- what torch wrote ----

def check_fixture(name, entries):
    path = os.path.join(HERE, "dcp", name)
    status, out, err = wfctl("verify", path)
    problems = [] if status == 0 else [f"verify: {err}"]
    found = rows(path)
    for e in entries:
        if e["type"] == "tensor" and e.get("kind") != "numpy":
            row = found.pop(e["path"], None)
            if not row or (row["dtype"], row["shape"], row["bytes"]) != (e["dtype"], e["shape"], e["size"]):
                problems.append(f"{e['path']} is {row}, not {e['dtype']} {e['shape']}")
                continue
            status, data, err = wfctl("cat", "--raw", path, e["path"])
            if status or hashlib.sha256(data).hexdigest() != e["sha256"]:
                problems.append(f"{e['path']} has other bytes: {err}")
            if in_files(row) != (data if data and not e["path"].endswith("turned") else None):  # what was saved turned stands in another order
                problems.append(f"{e['path']} stands elsewhere than its line says: {row}")
    problems += [f"{p} is not in the manifest" for p in found]
    if FUSE:
        mnt = os.path.join(work, "mnt")
        os.makedirs(mnt, exist_ok=True)
        status, _, err = run("weightfs", "-o", "ro", path, mnt)
        problems += [err] if status else compare(mnt, entries)
        if not status:
            run("wfctl", "umount", mnt)
    ok(not problems, f"{name} is what torch says", "\n".join(problems))


def fixtures():
    with open(os.path.join(HERE, "dcp", "manifest.json")) as f:
        manifest = json.load(f)
    for name, told in manifest.items():
        check_fixture(name, told["entries"])


# ---- made ones ----

class Case:
    def __init__(self, what, make, good=(), bad=(), refused=None, says=(), rows=None):
        self.what, self.make, self.good, self.bad, self.refused, self.says, self.rows = what, make, dict(good), bad, refused, says, rows


A, B = dcpkit.numbers("float32", (4, 6)), dcpkit.numbers("int64", (5,))
HALVES = [((0, 0), (4, 3)), ((0, 3), (4, 3))]
BOTH = {"a": A, "b": B}


def plain(path, classes=None, protocol=4, change=None, **more):
    d = dcpkit.Directory(path, classes, protocol)
    d.tensor("a", "float32", (4, 6), A, HALVES, **more)
    d.tensor("b", "int64", (5,), B)
    if change:
        change(d)
    return d.write()


def changed(change, **more):
    return lambda path: plain(path, change=change, **more)


def edit_info(fqn, **members):
    def change(d):
        for index, info in d.storage.items():
            if index.fqn == fqn:
                vars(info).update(members)
                break
    return change


def edit_chunk(fqn, number, **members):
    def change(d):
        vars(d.state[fqn].chunks[number]).update({k: d.c.size(v) for k, v in members.items()})
    return change


def without(fqn):
    def change(d):
        index = next(i for i in d.storage if i.fqn == fqn)
        del d.storage[index]
    return change


def properties(d):
    d.state["a"].properties.state = d.state["a"].properties.state + ((3, 1),)


def no_members(*names):
    def change(d):
        for name in names:
            d.more.pop(name, None)
    return change


def remove(name):
    def make(path):
        plain(path, files=("__0_0.distcp", "__1_0.distcp"))
        os.unlink(os.path.join(path, name))
        return path
    return make


def cut(path):
    plain(path, files=("__0_0.distcp", "__1_0.distcp"))
    with open(os.path.join(path, "__1_0.distcp"), "r+b") as f:
        f.truncate(100)
    return path


def metadata_of(data):
    def make(path):
        os.makedirs(path)
        with open(os.path.join(path, ".metadata"), "wb") as f:
            f.write(data)
        return path
    return make


def other_object(d):
    return d.c.StorageMeta(checkpoint_id="x")


def root_is(what):
    def make(path):
        d = dcpkit.Directory(path)
        d.metadata = lambda: what(d)
        return d.write()
    return make


def places(*paths):
    def make(path):
        d = dcpkit.Directory(path)
        for i, (fqn, steps) in enumerate(paths):
            d.tensor(fqn, "int64", (5,), dcpkit.numbers("int64", (5,), i), path=steps)
        return d.write()
    return make


def beside(name):
    def make(path):
        plain(path)
        with open(os.path.join(path, name), "wb") as f:
            f.write(craft.zip_file(craft.checkpoint(craft.dictionary((craft.text("epoch"), craft.integer(7)),
                                                                     (craft.text("t"), craft.tensor(craft.storage("Long", "0", 5), (5,)))), [("0", B)])))
        return path
    return make


def ranks(path, agree=True):
    """Each rank tells of its own chunks, and of what all of them have."""
    for rank in range(2):
        d = dcpkit.Directory(path)
        d.tensor("a", "float32", (4, 6), A, HALVES[rank:rank + 1], files=(f"__{rank}_0.distcp",))
        d.tensor("b", "int64" if agree or not rank else "float64", (5,), B, files=(f"__{rank}_0.distcp",))
        d.write(f"__{rank}.metadata")
    return path


def three_ranks_of_four(path):
    for rank in (0, 1, 3):
        d = dcpkit.Directory(path)
        d.tensor("b", "int64", (5,), B, files=(f"__{rank}_0.distcp",))
        d.write(f"__{rank}.metadata")
    return path


def swapped_slices(d):
    """The chunks of two tensors of as many bytes, of other dtypes."""
    d.tensor("c", "float64", (5,), B)
    infos = {i.fqn: (i, info) for i, info in d.storage.items()}
    for x, y in (("b", "c"), ("c", "b")):
        d.storage[infos[x][0]] = infos[y][1]


def a_value(d):
    d.value("v", craft.dictionary((craft.text("x"), craft.integer(1)), (craft.text("t"), craft.tensor(craft.storage("Long", "0", 5), (5,)))),
            storages=[("0", B)])


def broken_value(d):
    a_value(d)
    for index, info in d.storage.items():
        if index.fqn == "v":
            info.length -= 30


def half_a_value(d):
    """Its pickle ends in an opcode that there is not, behind a tensor."""
    d.value("v", craft.sequence(craft.tensor(craft.storage("Long", "0", 5), (5,)), b"\xff"), storages=[("0", B)])


def no_rows(stored, lost=False):
    """A rank has no row of one tensor, and another tensor has no elements: their chunks have slices or not, in files that are there or not."""
    def make(path):
        d = dcpkit.Directory(path)
        d.tensor("a", "float32", (4, 6), A, [((0, 0), (4, 6)), ((4, 0), (0, 6))], files=("__0_0.distcp", "__1_0.distcp"))
        d.tensor("b", "int64", (5,), B)
        d.tensor("e", "float32", (0, 4), b"", files=("__1_0.distcp",))
        d.tensor("f", "float32", (3, 0, 4), b"", [((0, 0, 0), (3, 0, 4)), ((3, 0, 0), (0, 0, 4))], files=("__1_0.distcp",))
        for index in list(d.storage):
            if d.storage[index].relative_path == "__1_0.distcp" and not stored:
                del d.storage[index]
        d.write()
        if lost:
            os.unlink(os.path.join(path, "__1_0.distcp"))
        return path
    return make


OLD = ("torch.distributed._shard.checkpoint", "torch.distributed._shard.sharded_tensor.metadata")
CASES = [
    Case("as torch 2.3 and later", plain, BOTH),
    Case("as torch 1.13", lambda p: plain(p, dcpkit.Classes(*OLD)), BOTH),
    Case("as torch 2.0 to 2.2", lambda p: plain(p, dcpkit.Classes(properties=OLD[1])), BOTH),
    Case("protocol 2", lambda p: plain(p, protocol=2), BOTH), Case("protocol 5", lambda p: plain(p, protocol=5), BOTH),
    Case("strides of 2.15, which are not to be trusted", changed(properties), BOTH),
    Case("without storage_meta and version", changed(no_members("storage_meta", "version")), BOTH),
    Case("without planner data", changed(lambda d: setattr(d, "planner", None)), BOTH),
    Case("transform_descriptors that are None", changed(edit_info("a", transform_descriptors=None)), BOTH),
    Case("an empty list of them", changed(edit_info("b", transform_descriptors=[])), BOTH),
    Case("a file of another name, in a folder, behind other bytes", lambda p: plain(p, files=("sub/x.bin",), before=b"12345"), BOTH),
    *[Case(f"slices that are {form}", lambda p, form=form: plain(p, forms=(form,)), BOTH)
      for form in ("legacy", "view", "turned", "big", "deflated")],
    Case("a rank's own metadata", ranks, BOTH),
    Case("a slice of the wrong dtype", changed(swapped_slices), {"a": A}, bad=("b", "c"), says=("where the metadata says",)),
    Case("a missing file", remove("__1_0.distcp"), {"b": B}, bad=("a",), says=("__1_0.distcp",)),
    Case("a file that ends early", cut, {"b": B}, bad=("a",), says=("__1_0.distcp",)),
    Case("a chunk without a slice", changed(without("a")), {"b": B}, bad=("a",), says=("where a chunk of it is stored",)),
    *[Case(f"chunks of no elements {what}", make, {**BOTH, "e": b"", "f": b""}, rows={"a", "b", "e", "f"})
      for what, make in (("with slices", no_rows(True)), ("without slices", no_rows(False)), ("in a file that is missing", no_rows(True, True)))],
    Case("a transform", changed(edit_info("b", transform_descriptors=["zstd"])), {"a": A}, bad=("b",), says=("transform",)),
    Case("a slice that is no slice", changed(edit_info("b", offset=1)), {"a": A}, bad=("b",)),
    Case("a slice smaller than its data", changed(edit_info("b", length=40)), {"a": A}, bad=("b",), says=("no room",)),
    Case("an offset of 2^63", changed(edit_info("b", offset=1 << 63)), {"a": A}, bad=("b",)),
    Case("an offset and length whose sum is no number", changed(edit_info("b", offset=(1 << 63) - 1, length=(1 << 63) - 1)), {"a": A}, bad=("b",)),
    Case("a negative offset", changed(edit_info("b", offset=-1)), {"a": A}, bad=("b",)),
    Case("a gap", changed(edit_chunk("a", 1, sizes=(4, 2))), {"b": B}, bad=("a",), says=("cover",)),
    Case("an overlap", changed(edit_chunk("a", 1, offsets=(0, 2))), {"b": B}, bad=("a",)),
    Case("a chunk outside", changed(edit_chunk("a", 1, sizes=(4, 4))), {"b": B}, bad=("a",)),
    Case("a chunk of 2^62 rows", changed(edit_chunk("a", 1, sizes=(1 << 62, 3))), {"b": B}, bad=("a",)),
    Case("a chunk of another number of dimensions", changed(edit_chunk("a", 1, sizes=(4, 3, 1))), {"b": B}, bad=("a",)),
    Case("a size of 2^60 elements", changed(lambda d: vars(d.state["b"]).update(size=d.c.size((1 << 60,)))), {"a": A}, bad=("b",)),
    Case("a size that no tensor has", changed(lambda d: vars(d.state["b"]).update(size=d.c.size((1 << 40, 1 << 40)))), {"a": A}, bad=("b",)),
    Case("a negative size", changed(lambda d: vars(d.state["b"]).update(size=d.c.size((-5,)))), {"a": A}, bad=("b",)),
    Case("a dtype of tomorrow", changed(lambda d: vars(d.state["b"]).update(properties=d.c.properties("float3"))), {"a": A}, bad=("b",), says=("float3",)),
    Case("a sparse layout", lambda p: plain(p, layout="torch.sparse_coo"), {"b": B}, bad=("a",), says=("strided",)),
    Case("ranks that disagree", lambda p: ranks(p, False), {"a": A}, bad=("b",), says=("disagree",)),
    Case("a rank that is missing", three_ranks_of_four, refused="__2.metadata"),
    Case("a path upwards", changed(edit_info("b", relative_path="../__0_0.distcp")), refused=".."),
    Case("an absolute path", changed(edit_info("b", relative_path="/etc/passwd")), refused="/etc/passwd"),
    Case("a path that is no text", changed(edit_info("b", relative_path=3)), refused="relative_path"),
    Case("another object", root_is(other_object), refused="StorageMeta"),
    Case("a mapping", root_is(lambda d: {"a": 1}), refused="torch.distributed.checkpoint"),
    Case("state_dict_metadata that is a list", root_is(lambda d: d.c.Metadata(state_dict_metadata=[], storage_data={})), refused="state_dict_metadata"),
    Case("storage_data that is a list", root_is(lambda d: d.c.Metadata(state_dict_metadata={}, storage_data=[])), refused="storage_data"),
    Case("an empty file", metadata_of(b""), refused=".metadata"),
    Case("text", metadata_of(b"hello, this is a text\n" * 10), refused=".metadata"),
    Case("half a pickle", metadata_of(pickle.dumps(list(range(1000)))[:-50]), refused=".metadata"),
    Case("a mapping and a list", places(("m.x", ("m", "x")), ("l.0", ("l", 0)), ("l.2", ("l", 2))), rows={"m/x", "l/0", "l/2"}),
    Case("digits below state", places(("o.state.0.m", ("o", "state", "0", "m")), ("o.state.10.m", ("o", "state", "10", "m"))),
         rows={"o/state/0/m", "o/state/10/m"}),
    Case("a way through another tensor", places(("a", ("a",)), ("a.b", ("a", "b"))), rows={"a", "a.b"}),
    Case("a way that is not the name", places(("a.b", ("x", "y"))), rows={"a.b"}),
    Case("a position of 2^40", places(("l.1099511627776", ("l", 1 << 40))), rows={"l.1099511627776"}),
    Case("a position at the root", places(("0", (0,))), rows={"0"}),
    Case("positions and texts in one", places(("l.0", ("l", 0)), ("l.x", ("l", "x"))), rows={"l/0", "l/x"}),
    Case("meta.pt", beside("meta.pt"), {**BOTH, "t": B}, rows={"a", "b", "t"}), Case("common.pt", beside("common.pt"), {**BOTH, "t": B}),
    Case("a value with a tensor", changed(a_value), {**BOTH, "v/t": B}),
    Case("a value that is broken behind a tensor", changed(half_a_value), BOTH, rows={"a", "b", "v"}),
    Case("a value that cannot be read is its bytes", changed(broken_value), BOTH, rows={"a", "b", "v"}),
]


def check_refused(case, path):
    for verb in ("ls", "verify"):
        status, _, err = wfctl(verb, path)
        if status != 1 or err.count("\n") != 1 or case.refused not in err:
            return [f"{verb}: {status} {err!r}"]
    return []


def check_case(number, case):
    path = case.make(os.path.join(work, f"case-{number}"))
    if case.refused is not None:
        return ok(not (problems := check_refused(case, path)), f"{case.what}: refused", "\n".join(problems))
    problems = []
    status, out, err = wfctl("verify", path)
    if (status != 0) != bool(case.bad):
        problems.append(f"verify: {status} {err}")
    problems += [f"verify does not say {word!r}: {err}" for word in case.says if word not in err]
    status, out, err = wfctl("ls", "--json", path)
    if status and not case.bad:
        return ok(False, case.what, err)
    found = {json.loads(line)["path"] for line in out.splitlines()}
    if case.rows is not None and found != case.rows:
        problems.append(f"lists {found}")
    problems += [f"{name} is not listed" for name in (*case.good, *case.bad) if name not in found]
    for name, data in case.good.items():
        status, got, err = wfctl("cat", "--raw", path, name)
        if status or got != data:
            problems.append(f"{name}: {status} {got[:40]!r} {err}")
    for name in case.bad:
        status, got, err = wfctl("cat", "--raw", path, name)
        if status != 1 or name not in err or err.count("\n") > 2:
            problems.append(f"{name} can be read: {status} {got[:40]!r} {err!r}")
    ok(not problems, case.what, "\n".join(problems))
    shutil.rmtree(path)


# ---- metadata that are too large for the graph ----

LARGE = (256 << 20) + 1


class Thing:
    """Whatever a class makes of its arguments and its state."""

    def __new__(cls, *args):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


class Unpickler(pickle.Unpickler):
    classes = {}

    def find_class(self, module, name):
        return self.classes.setdefault((module, name), type(name, (Thing,), {"__module__": module}))


def said(value, way=()):
    """All that an unpickled object says. Slices are in no order."""
    if isinstance(value, Thing):
        if value in way:
            return "itself"
        if type(value).__name__ == "MetadataIndex":  # its attributes are None where they are not there
            return ["MetadataIndex", sorted((k, repr(said(v, way))) for k, v in value.state.items() if v is not None)]
        return [type(value).__module__, type(value).__name__, said(value.args, (*way, value)), said(value.state, (*way, value))]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__name__}"
    if isinstance(value, dict):
        found = [(said(k, way), said(v, (*way, k) if k == "storage_data" else way)) for k, v in value.items()]
        return sorted(found, key=repr) if way[-1:] == ("storage_data",) else found
    return [type(value).__name__, *(said(v, way) for v in value)] if isinstance(value, (list, tuple)) else value


def first_difference(a, b, way=""):
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return next((f for i, (x, y) in enumerate(zip(a, b)) if (f := first_difference(x, y, f"{way}.{i}"))), None)
    return None if a == b else f"{way}: {str(a)[:600]} and {str(b)[:600]}"


def metadata_of(path):
    with open(os.path.join(path, ".metadata"), "rb") as f:
        return said(Unpickler(f).load())


def widen(path):
    """Whatever follows the pickle is no part of it: a hole makes it as large as is wanted."""
    os.truncate(os.path.join(path, ".metadata"), LARGE)


def random_edit(rng, path, number):
    found = {k: v for k, v in rows(path).items() if "%" not in k}
    listed = wfctl("ls", "-a", path)[1].decode().splitlines()
    values = [line.split("\t")[0].strip() for line in listed if "torch.Size" not in line]
    values = [v for v in values if v and "%" not in v and v not in found and " " not in v]
    tensors = [k for k, v in found.items() if v["bytes"] and "class" in v and v["class"] == "torch.Tensor"]
    new = f"new{number}.ü"
    if len(found) < 2:
        return "set", new, "0.5"
    key = rng.choice(sorted(found))
    above = key.rpartition("/")[0]
    what = rng.choice(("mv", "mv", "away", "rm", "cp", "ln", "value", "bytes", "new", "dtype", "shape"))
    if what in ("bytes", "dtype", "shape", "cp", "ln") and not tensors:
        what = "new"
    tensor = rng.choice(sorted(tensors)) if tensors else None
    if what == "mv":
        return "mv", key, f"{above}/{new}" if above else new
    if what == "away":
        return "mv", key, new
    if what == "rm":
        return "rm", "-r", rng.choice(values) if values and rng.randrange(2) else key
    if what in ("cp", "ln"):
        return what, tensor, new
    if what == "value":
        return ("set", rng.choice(values), str(rng.randrange(100))) if values else ("set", new, "[1, 2]")
    if what == "bytes":
        file = os.path.join(work, "bytes")
        with open(file, "wb") as f:
            f.write(bytes(rng.randrange(2) for _ in range(found[tensor]["bytes"])))
        return "set", tensor, "--file", file
    if what == "dtype":
        return "attr", tensor, "user.torch.dtype=uint8"
    return ("attr", tensor, "user.torch.shape=[-1]") if what == "shape" else ("set", new, "0.5")


def on(path, words):
    verb, *rest = words
    options = [w for w in rest if w.startswith("-") and w != "--file"]
    return wfctl(verb, *options, path, *(w for w in rest if w not in options))


def check_both_ways(name, make, rng, edits):
    """The same edits where the metadata are small, and where they are too large for the graph: Python finds the same in both."""
    small, wide = (os.path.join(work, f"{name}-{which}") for which in ("small", "wide"))
    make(small)
    shutil.copytree(small, wide)
    problems, done_edits, before = [], 0, metadata_of(small)
    for number in range(edits):
        words = random_edit(rng, small, number)
        widen(wide)
        results = [on(small, words), on(wide, words)]
        if results[0][0] != results[1][0]:
            problems.append(f"{words}: {results}")
        done_edits += results[0][0] == 0
        now = metadata_of(small)
        changed, before = now != before, now
        if changed and os.path.getsize(os.path.join(wide, ".metadata")) >= LARGE:
            problems.append(f"{words}: no new metadata")
        if difference := first_difference(now, metadata_of(wide)):
            problems.append(f"{words}: the metadata differ: {difference}")
        if problems:
            break
    widen(wide)
    status, _, err = wfctl("verify", wide)
    if status or rows(small).keys() != rows(wide).keys():
        problems.append(err)
    ok(not problems and done_edits > 0, f"{name}: {edits} edits of large metadata are those of small ones (seed {SEED})", "\n".join([*problems, str(done_edits)]))
    shutil.rmtree(small)
    shutil.rmtree(wide)


def shared(path, protocol):
    """Objects that several entries have, names of attributes as names of entries, several batches, long names, a way back to the whole."""
    d = dcpkit.Directory(path, protocol=protocol)
    names = ["fqn", "storage_data", "planner_data", "state_dict_metadata", "properties", "x" * 300, *(f"n{i}" for i in range(1100))]
    data = dcpkit.numbers("float32", (2, 2))
    for i, name in enumerate(names):
        if i % 7 == 3:
            d.value(name, craft.integer(i))
        else:
            d.tensor(name, "float32", (2, 2), data, cuts=[((0, 0), (1, 2)), ((1, 0), (1, 2))])
    first = d.state["fqn"]
    for name, entry in d.state.items():
        if hasattr(entry, "properties"):
            entry.properties, entry.size = first.properties, first.size
    d.state["n2"] = d.state["n1"]
    indices = list(d.storage)
    d.more["extra"] = {"entries": [d.state["n5"], d.state["fqn"]], "index": indices[9], "info": d.storage[indices[9]], "bytes": b"x" * 70000}
    d.write()


def check_large():
    with open(os.path.join(HERE, "dcp", "manifest.json"), encoding="utf-8") as f:
        names = sorted(json.load(f))
    rng = random.Random(SEED)
    for name in names:
        where = os.path.join(HERE, "dcp", name)
        if os.path.exists(os.path.join(where, ".metadata")):
            check_both_ways(name, lambda path, where=where: shutil.copytree(where, path), rng, 9)
    for protocol in (2, 3, 4, 5):
        check_both_ways(f"objects that are shared, protocol {protocol}", lambda path, protocol=protocol: shared(path, protocol), rng, 4)
    check_not_written_so()


def twice_from_stack(d):
    whole = pickle.dumps(d.metadata(), 2)
    assert whole.endswith(b"ub.")
    return whole[:-3] + b"X\x05\x00\x00\x00extra}20ub."


def index_again(d):
    """MEMOIZE counts the values of the memo, not the PUTs."""
    whole = b"".join(whole_opcodes(pickle.dumps(d.metadata(), 4)))
    at = whole.index(b"storage_data\x94") + len(b"storage_data\x94")
    return whole[:at] + b"q\x01" + whole[at:]


def whole_opcodes(data):
    """All but frames."""
    starts = [(o.name, at) for o, _, at in pickletools.genops(data)] + [(None, len(data))]
    return [data[at:starts[i + 1][1]] for i, (name, at) in enumerate(starts[:-1]) if name != "FRAME"]


def in_order(*names):
    def make(d):
        m = d.metadata()
        members = dict(vars(m))
        vars(m).clear()
        vars(m).update({name: members[name] for name in (*names, *members)})
        return pickle.dumps(m, 4)
    return make


NOT_WRITTEN_SO = [("a value that is taken twice from the stack", twice_from_stack), ("a PUT of an index that there is", index_again),
                  ("planner_data before the entries", in_order("planner_data")), ("storage_data before the entries", in_order("storage_data"))]


def check_not_written_so():
    """What no pickler writes. It is read; where it is large it is not edited, for ranges of it cannot be told."""
    path = os.path.join(work, "large")
    file = os.path.join(path, ".metadata")
    for what, make in NOT_WRITTEN_SO:
        d = dcpkit.Directory(path, protocol=2)
        for i in range(4):
            d.tensor(f"a{i}", "float32", (2,), dcpkit.numbers("float32", (2,)))
        d.value("b", craft.integer(3))
        d.write()
        with open(file, "wb") as f:
            f.write(make(d))
        widen(path)
        with open(file, "rb") as f:
            before = f.read(4096)
        status, _, err = wfctl("mv", path, "a1", "c")
        with open(file, "rb") as f:
            same = f.read(4096) == before and os.path.getsize(file) == LARGE and "a1" in rows(path)
        ok(status == 1 and same and err.count("\n") == 1 and "as picklers write" in err and "output=FILE" in err,
           f"{what}: large metadata are read, and not edited", err)
        os.truncate(file, LARGE - 1)
        status, _, err = wfctl("mv", path, "a1", "c")
        ok(status == 0 and "c" in rows(path) and wfctl("verify", path)[0] == 0, f"{what}: those that are not large are", err)
        shutil.rmtree(path)
    os.makedirs(path)
    with open(file, "wb") as f:
        f.write(b"\x80\x04" + b"}" * (48 << 20))
    widen(path)
    status, _, err = wfctl("ls", path)
    ok(status == 1 and err.count("\n") == 1 and "cut short" in err, "large metadata that no torch writes are refused", err)


# ---- random plans ----

def cuts_of(rng, shape):
    """Cuts boxes in two as often as it likes."""
    boxes = [((0,) * len(shape), tuple(shape))]
    for _ in range(rng.randrange(12)):
        k = rng.randrange(len(boxes))
        offsets, sizes = boxes[k]
        d = rng.randrange(len(shape)) if shape else 0
        if not shape or sizes[d] < 2:
            continue
        at = rng.randrange(1, sizes[d])
        boxes[k] = (offsets, sizes[:d] + (at,) + sizes[d + 1:])
        boxes.append((offsets[:d] + (offsets[d] + at,) + offsets[d + 1:], sizes[:d] + (sizes[d] - at,) + sizes[d + 1:]))
    rng.shuffle(boxes)
    return boxes


def random_plan(number, rng):
    d = dcpkit.Directory(os.path.join(work, f"plan-{number}"))
    wanted = {}
    for i in range(25):
        dtype = rng.choice(sorted(dcpkit.CLASS))
        shape = tuple(rng.randrange(0 if rng.random() < 0.1 else 1, 9) for _ in range(rng.randrange(5)))
        wanted[f"t{i}"] = (shape, dtype, dcpkit.numbers(dtype, shape, i))
        d.tensor(f"t{i}", dtype, shape, wanted[f"t{i}"][2], cuts_of(rng, shape), files=[f"__{rng.randrange(4)}_{rng.randrange(2)}.distcp" for _ in range(3)],
                 forms=[rng.choice(("zip", "zip", "zip", "legacy", "view", "turned", "big")) for _ in range(4)], before=bytes(rng.randrange(9)))
    d.write()
    out = os.path.join(work, f"plan-{number}.safetensors")
    status, _, err = wfctl("export", d.path, out)
    problems = [err] if status else []
    if not status:
        with open(out, "rb") as f:
            head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            rest = f.read()
        for name, (shape, dtype, data) in wanted.items():
            at, end = head[name]["data_offsets"]
            if tuple(head[name]["shape"]) != shape or rest[at:end] != data:
                problems.append(f"{name} {dtype} {shape}")
        for name, row in rows(d.path).items():
            if in_files(row) not in (None, wanted[name][2]):
                problems.append(f"{name} {dtype} {shape} stands elsewhere than its line says")
    status, _, err = wfctl("verify", d.path)
    ok(not problems and not status, f"a random plan of chunks (seed {SEED}, number {number})", "\n".join([*problems, err]))


# ---- keys ----

def optimizer(path):
    """Numbers below state, digits that are texts beside it, a list, a value with numbers for keys."""
    d, t = dcpkit.Directory(path), dcpkit.numbers("float32", (2,))
    for way in (("optim", "state", "0", "exp"), ("optim", "state", "1", "exp"), ("optim", "plain", "0"), ("list", 0), ("list", 1), ("w",)):
        d.tensor(".".join(map(str, way)), "float32", (2,), t, path=way)
    d.value("epoch", craft.integer(3))
    d.value("value", craft.dictionary((craft.integer(1), craft.integer(2))))
    return d.write()


NUMBERS = "keys beside it are numbers"
OF_STATE = 'only of a mapping called "state"'
# words; what is said when it is refused; else some keys and what they are then
KEYS = [
    ("set optim/state/more 1", NUMBERS),
    ("set optim/state/007 1", NUMBERS),
    ("mv w optim/state/w", NUMBERS),
    ("mv optim/state/0 optim/state/first", NUMBERS),
    ("mv optim/state optim/other", OF_STATE),
    ("mv optim/plain state", "has all digits for numbers"),
    ("ln -s optim linked", "no links"),
    ("cp -r optim/state optim/copied", OF_STATE),
    ("set optim/state/2 1", {"optim/state/2": 2, "optim/state/0": 0}),
    ("mkdir optim/state/2", {"optim/state/2": 2, "optim/state/0": 0}),
    ("mv optim/plain/0 optim/state/7", {"optim/state/7": 7, "optim/state/1": 1}),
    ("mv optim/state/0 optim/plain/5", {"optim/plain/5": "5", "optim/plain/0": "0", "optim/state/1": 1}),
    ("set optim/plain/4 1", {"optim/plain/4": "4"}),
    ("mv optim/plain optim/x", {"optim/x/0": "0"}),
    ("cp -r optim/state optim/plain/state", {"optim/plain/state/0": 0, "optim/plain/state/1": 1}),
    ("mv optim moved", {"moved/state/0": 0, "moved/plain/0": "0"}),
    ("rm list/0", {"list/0": 0}),
    ("mv list optim/state/9", {"optim/state/9/1": 1, "optim/state/9": 9}),
    ("set value/5 1", {"value/5": 5, "value/1": 1}),
    ("mv value/1 value/3", {"value/3": 3}),
]


def check_keys(number, words, wanted):
    path = optimizer(os.path.join(work, f"keys-{number}"))
    before = rows(path)
    verb, *rest = words.split()
    options = [w for w in rest if w.startswith("-")]
    status, _, err = wfctl(verb, *options, path, *(w for w in rest if w not in options))
    if isinstance(wanted, str):
        return ok(status == 1 and wanted in err and err.count("\n") == 1 and rows(path) == before, f"{words}: refused, and nothing changes", err)
    got = {k: json.loads(wfctl("attr", path, k, "user.torch.key")[1] or b"null") for k in wanted}
    return ok(status == 0 and got == wanted, f"{words}: keys keep their types", (err, got))


def check_last_text():
    """What is removed is no other key's concern until the commit: digits alone would be numbers."""
    path = optimizer(os.path.join(work, "last-text"))
    for words in (("mkdir", path, "state"), ("set", path, "state/a", "1"), ("set", path, "state/5", "1")):
        status, _, err = wfctl(*words)
        ok(status == 0, f"{words[0]} {words[2]}", err)
    status, _, err = wfctl("rm", path, "state/a")
    listed = wfctl("ls", "-a", path)[1].decode()
    ok(status == 1 and "has all digits for numbers" in err and err.count("\n") == 1 and "state/a" in listed and "state/5" in listed,
       "the last text beside digits that are texts is not removed", (err, listed))


def columns(count):
    """A tensor in columns: its rows are so many runs, each of two tiles."""
    d = dcpkit.Directory(os.path.join(work, f"columns-{count}"))
    data = dcpkit.numbers("float32", (count, 6))
    d.tensor("a", "float32", (count, 6), data, [((0, 0), (count, 4)), ((0, 4), (count, 2))], files=["__0_0.distcp", "__1_0.distcp"])
    d.write()
    row = rows(d.path)["a"]
    told = len(row.get("runs", []))
    ok((told == 2 * count and in_files(row) == data) if 2 * count <= 256 else told == 0, f"{2 * count} runs of a tensor are told, unless they are more than 256", row)


try:
    fixtures()
    for count in (1, 7, 128, 129, 5000):
        columns(count)
    for number, case in enumerate(CASES):
        check_case(number, case)
    check_large()
    rng = random.Random(SEED)
    for number in range(12):
        random_plan(number, rng)
    for number, (words, wanted) in enumerate(KEYS):
        check_keys(number, words, wanted)
    check_last_text()
finally:
    shutil.rmtree(work, ignore_errors=True)
done()
