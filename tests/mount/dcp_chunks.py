# SPDX-License-Identifier: MIT
"""Commits of distributed checkpoints write the chunks that were touched, and no other: plans of chunks and edits as tables, held against a
model of bytes. What is committed is read from .metadata and the slices by nothing of weightfs.

Usage: dcp_chunks.py BUILD_DIRECTORY. Prints TAP. tests/torch/test_dcp.py reads the same kind with torch.
"""
import io
import itertools
import os
import pickle
import sys
import zipfile

import kit
from kit import done, need_fuse, ok, run, same

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "files"))
import dcpkit  # noqa: E402
from dcpkit import ITEM, numbers, take  # noqa: E402

BUILD = sys.argv[1]
# what a slice has beside its data: a small archive
SLICE_BYTES = 1400


# ---- what a directory says, without torch ----

class Any:
    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})

    def __hash__(self):
        return id(self)


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return (lambda values: tuple(values)) if (module, name) == ("torch", "Size") else type(name, (Any,), {})

    def persistent_load(self, pid):
        return pid


def data_of(path, info):
    with open(os.path.join(path, info.relative_path), "rb") as f:
        f.seek(info.offset)
        z = zipfile.ZipFile(io.BytesIO(f.read(info.length)))
    assert not z.testzip(), "a sum is wrong"
    return z.read(next(n for n in z.namelist() if n.endswith("/data/0")))


def load(path):
    """{fqn: (shape, {offsets: (sizes, place)}, bytes)} of the tensors."""
    with open(os.path.join(path, ".metadata"), "rb") as f:
        m = Unpickler(f).load()
    found = {}
    for fqn, entry in m.state_dict_metadata.items():
        if not hasattr(entry, "size"):
            continue
        item = ITEM[type(entry.properties.state[0]).__name__ if not isinstance(entry.properties.state[0], type) else entry.properties.state[0].__name__]
        infos = {i.offset: v for i, v in m.storage_data.items() if i.fqn == fqn}
        chunks = {c.offsets: (c.sizes, infos[c.offsets]) for c in entry.chunks if all(c.sizes)}
        whole = bytearray(item * product(entry.size))
        for offsets, (sizes, info) in chunks.items():
            put(whole, entry.size, item, offsets, sizes, data_of(path, info))
        found[fqn] = entry.size, {o: (s, (i.relative_path, i.offset)) for o, (s, i) in chunks.items()}, bytes(whole)
    return found


def product(shape):
    n = 1
    for s in shape:
        n *= s
    return n


def put(whole, shape, item, offsets, sizes, data):
    assert len(data) == item * product(sizes), "a slice has another size than its chunk"
    at = 0
    for i in places(shape, offsets, sizes):
        whole[i * item:(i + 1) * item] = data[at:at + item]
        at += item


def places(shape, offsets, sizes):
    """Numbers of the elements of a box, row by row."""
    for i in itertools.product(*(range(o, o + s) for o, s in zip(offsets, sizes))):
        n = 0
        for d, k in zip(shape, i):
            n = n * d + k
        yield n


# ---- plans ----

def cut(shape, *counts):
    """Boxes as torch cuts: chunks of the size rounded up, the last ones smaller or empty."""
    edges = []
    for size, n in itertools.zip_longest(shape, counts, fillvalue=1):
        step = -(-size // n)
        edges.append([(min(i * step, size), min(step, max(size - i * step, 0))) for i in range(n)])
    return [(tuple(e[0] for e in box), tuple(e[1] for e in box)) for box in itertools.product(*edges)]


PLANS = {
    "rows": ("float32", (8, 6), cut((8, 6), 4)),
    "uneven rows": ("int64", (7, 3), cut((7, 3), 4)),
    "an empty chunk": ("float32", (4, 5), cut((4, 5), 3)),
    "columns": ("float32", (6, 8), cut((6, 8), 1, 4)),
    "uneven columns": ("int16", (5, 7), cut((5, 7), 1, 3)),
    "a mesh": ("float32", (6, 8), cut((6, 8), 2, 2)),
    "an uneven mesh": ("uint8", (7, 9), cut((7, 9), 3, 2)),
    "three dimensions": ("int32", (4, 6, 5), cut((4, 6, 5), 2, 1, 3)),
    "a middle one": ("bfloat16", (3, 8, 4), cut((3, 8, 4), 1, 4)),
    "one dimension": ("float64", (23,), cut((23,), 4)),
    "replicated": ("float32", (5, 4), None),
    "no dimension": ("float32", (), None),
    "wide rows in columns": ("uint8", (3, 70000), cut((3, 70000), 1, 2)),
    "columns far from each other": ("uint8", (5, 40000), cut((5, 40000), 1, 8)),
}


def edits_of(dtype, shape, cuts):
    """{what: [(first element, how many)]}"""
    n, cuts = product(shape), [c for c in cuts or [((0,) * len(shape), shape)] if all(c[1])]
    boxes = [list(places(shape, *c)) for c in cuts]
    border = max(b[0] for b in boxes)
    return {"an element": [(boxes[-1][0], 1)], "first and last": [(0, 1), (n - 1, 1)], "over a border": [(max(border - 1, 0), min(2, n))],
            "all": [(0, n)], "all of one chunk": [(i, 1) for i in boxes[len(boxes) // 2]] if len(boxes[0]) < 100 else [(boxes[0][0], 9)]}


def checkpoint(path):
    d = dcpkit.Directory(path)
    for name, (dtype, shape, cuts) in PLANS.items():
        for what in edits_of(dtype, shape, cuts):
            d.tensor(f"{name}, {what}", dtype, shape, numbers(dtype, shape), cuts, files=("__0_0.distcp", "__1_0.distcp"))
    d.tensor("untouched", "float32", (6, 8), numbers("float32", (6, 8)), cut((6, 8), 2, 2))
    d.write()


def expected(old, edits):
    """The offsets of the chunks that an edit touches."""
    shape, chunks, _ = old
    written = {i for first, n in edits for i in range(first, first + n)}
    return {o for o, (s, _) in chunks.items() if not written.isdisjoint(places(shape, o, s))}


def write_elements(w, name, dtype, edits, value):
    item = ITEM[dtype]
    with open(f"{w.mnt}/{name}", "r+b") as f:
        for first, n in edits:
            f.seek(first * item)
            f.write(bytes([value]) * (n * item))


def edited(data, item, edits, value):
    data = bytearray(data)
    for first, n in edits:
        data[first * item:(first + n) * item] = bytes([value]) * (n * item)
    return bytes(data)


def compare(w, old, changes, what, renamed=lambda name: name):
    """changes: {name: (dtype, edits, value)}. What was written stands in one new file."""
    now = load(w.file)
    wrong, new_bytes, slices = [], 0, 0
    for name, (shape, chunks, data) in old.items():
        dtype, edits, value = changes.get(name, ("uint8", [], 0))
        wanted = edited(data, ITEM[dtype], edits, value)
        touched = expected((shape, chunks, data), edits)
        got = now[renamed(name)]
        moved = {o for o, (s, place) in got[1].items() if chunks.get(o) != (s, place)}
        if got[0] != shape or got[2] != wanted:
            wrong.append(f"{name}: other bytes")
        if moved != touched or got[1].keys() != chunks.keys():
            wrong.append(f"{name}: written are {sorted(moved)}, touched were {sorted(touched)}")
        new_bytes += sum(ITEM[dtype] * product(chunks[o][0]) for o in touched)
        slices += len(touched)
    files = {place[0] for name in now for o, (_, place) in now[name][1].items() if place not in [c[1] for c in old.get(name, (0, {}))[1].values()]}
    own = [f for f in os.listdir(w.file) if f.startswith("__w_")]
    size = max((os.path.getsize(os.path.join(w.file, f)) for f in own), default=0)
    ok(not wrong and now.keys() == set(map(renamed, old)), f"{what}: {slices} of {sum(len(c) for _, c, _ in old.values())} chunks are written", "\n".join(wrong))
    return now, files, size, new_bytes + slices * SLICE_BYTES


def check_table():
    with kit.World(BUILD, checkpoint) as w:
        old = load(w.file)
        same(len(old), sum(len(edits_of(*p)) for p in PLANS.values()) + 1, "the model reads what it wrote")
        r = w.mount()
        ok(r.returncode == 0 and not r.stderr, "mounts", r)
        for turn, value in (("a commit", 1), ("another one of the same mount", 2)):
            changes = {}
            for name, (dtype, shape, cuts) in PLANS.items():
                for what, edits in edits_of(dtype, shape, cuts).items():
                    changes[f"{name}, {what}"] = dtype, edits, value
                    write_elements(w, f"{name}, {what}", dtype, edits, value)
            r = run(w.wfctl, "commit", w.mnt)
            ok(r.returncode == 0, turn, r)
            old, files, size, most = compare(w, old, changes, turn)
            ok(len(files) == 1 and size <= most, f"{turn}: into one file of no more than they need", (files, size, most))
            wrong = [n for n, (_, _, data) in old.items() if kit.read(f"{w.mnt}/{n}") != data]
            same(wrong, [], f"{turn}: the mount reads them")
        name = "a mesh, an element"
        write_elements(w, name, "float32", [(0, 1)], 7)
        os.rename(f"{w.mnt}/{name}", f"{w.mnt}/renamed")
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0, "a renamed tensor is edited, too", r)
        compare(w, old, {name: ("float32", [(0, 1)], 7)}, "renamed", lambda n: "renamed" if n == name else n)
        r = run(w.wfctl, "verify", w.file)
        ok(r.returncode == 0, "verify", r)


def small(path):
    d = dcpkit.Directory(path)
    d.tensor("a", "float32", (6, 8), numbers("float32", (6, 8)), cut((6, 8), 2, 2))
    d.tensor("b", "float32", (6, 8), numbers("float32", (6, 8)), cut((6, 8), 1, 4))
    d.write()


def check_whole():
    """A tensor of another shape or dtype is one chunk, and so is a new one."""
    with kit.World(BUILD, small) as w:
        w.mount()
        os.setxattr(f"{w.mnt}/a", "user.torch.shape", b"[48]")
        os.truncate(f"{w.mnt}/b", 7 * 8 * 4)
        kit.write(f"{w.mnt}/c", b"12345")
        r = run(w.wfctl, "umount", w.mnt)
        now = load(w.file)
        same((r.returncode, {k: (v[0], [s for s, _ in v[1].values()]) for k, v in now.items()}),
             (0, {"a": ((48,), [(48,)]), "b": ((7, 8), [(7, 8)]), "c": ((5,), [(5,)])}), "of another shape, with a row more, and new: one chunk each")
        same([v[2] for v in now.values()], [numbers("float32", (48,)), numbers("float32", (6, 8)) + bytes(32), b"12345"], "and have their bytes")


def check_ties():
    """Two names of one storage become entries by themselves; each commit of the mount writes what is touched in both."""
    with kit.World(BUILD, small) as w:
        w.mount()
        os.link(f"{w.mnt}/a", f"{w.mnt}/tied")
        r = run(w.wfctl, "commit", w.mnt)
        old = load(w.file)
        said = kit.read(f"{w.mnt}/.weightfs/log").decode()
        ok(r.returncode == 0 and old["tied"][2] == old["a"][2] and said.count("tied shares its bytes with a:") == 1, "a tie is committed, and told", (r, said))
        write_elements(w, "tied", "float32", [(5, 2)], 3)
        r = run(w.wfctl, "commit", w.mnt)
        same(kit.read(f"{w.mnt}/.weightfs/log").decode().count("shares its bytes"), 1, "and not told again")
        now, _, _, _ = compare(w, old, {"a": ("float32", [(5, 2)], 3), "tied": ("float32", [(5, 2)], 3)}, "a write to one of them is in both")
        os.rename(f"{w.mnt}/b", f"{w.mnt}/bb")
        r = run(w.wfctl, "umount", w.mnt)
        compare(w, now, {}, "and a rename then writes nothing of them", lambda n: "bb" if n == "b" else n)


if __name__ == "__main__":
    need_fuse()
    check_table()
    check_whole()
    check_ties()
    done()
