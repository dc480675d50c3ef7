#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""New text for values that have a form of their own: sets, tuples and sizes at any depth, devices; another class for what is there;
copies of what no text can make; and the parts of composite tensors. The same by wfctl and through a mount, with the edit in Python as the oracle.

Usage: test_forms.py BUILD_DIR. Prints TAP; what needs /dev/fuse is skipped without it.
"""
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from collections import OrderedDict

from torchkit import done, ok, programs, skip

import torch

WEIGHTFS, WFCTL = programs(sys.argv[1])
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
REFUSED = object()
SIZE = torch.Size

VALUES = OrderedDict([
    ("set", {1, 2}), ("frozen", frozenset({1, 2})), ("pairs", {(1, 2), (3, 4)}), ("sets", {frozenset({1})}), ("none", set()), ("size", SIZE([1, 2])),
    ("list", [{1, 2}, 3, (4, 5), [6], frozenset({7}), SIZE([8])]), ("tuple", ((1, 2), [3])), ("device", torch.device("cuda:0")), ("number", 10),
    ("real", 0.5), ("flag", True), ("text", "true"), ("names", ["a", 1]), ("date", datetime.date(2024, 1, 2)), ("stamp", datetime.datetime(2024, 1, 2, 3)),
])

TEXTS = [  # an entry, its new text, and what Python has then
    ("set", "[1, [2, 3]]", {1, (2, 3)}), ("set", "[[1, [2, [3]]]]", {(1, (2, (3,)))}), ("frozen", "[3, [4]]", frozenset({3, (4,)})),
    ("pairs", "[[1, 2], [5, 6], [7, [8]]]", {(1, 2), (5, 6), (7, (8,))}), ("sets", "[[1, 2]]", {frozenset({1, 2})}), ("none", "[[1]]", {(1,)}),
    ("size", "[4, 5, 6]", SIZE([4, 5, 6])), ("size", "[1.5]", REFUSED), ("size", '["a"]', REFUSED),
    ("list", "[[1, 9], 3, [4], [6, [7]], [8], [9, 9]]", [{1, 9}, 3, (4,), [6, [7]], frozenset({8}), SIZE([9, 9])]),
    ("list", '[[1], 3, [4], [6], [8], ["x"]]', REFUSED), ("tuple", "[[1, [2]], [3, [4]]]", ((1, [2]), [3, [4]])),
    ("device", "cuda:3", torch.device("cuda:3")), ("device", "cuda:127", torch.device("cuda:127")), ("device", "mps", torch.device("mps")),
    ("device", "cpu", torch.device("cpu")), ("device", "cuda", torch.device("cuda")), ("device", "true", REFUSED), ("device", "npu", REFUSED),
    ("device", "cuda:01", REFUSED), ("device", "cuda:128", REFUSED), ("device", "cuda:300", REFUSED), ("device", "cuda:", REFUSED), ("device", "", REFUSED),
]
CLASSES = [  # an entry, its new class
    ("number", "str", "10"), ("number", "bytes", b"10"), ("real", "str", "0.5"), ("flag", "str", "true"), ("text", "bool", True),
    ("names", "str", '["a", 1]'), ("names", "tuple", ("a", 1)), ("names", "set", {"a", 1}), ("number", "datetime.date", REFUSED),
    ("names", "collections.OrderedDict", REFUSED),
]


def alike(a, b):
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, (set, frozenset)):
        return a == b and all(any(alike(x, y) for y in b) for x in a)
    return a == b


def judge(path, key, want, refused, what):
    want = {**VALUES, key: want} if want is not REFUSED else VALUES
    got = torch.load(path, weights_only=False)
    ok(list(got) == list(want) and all(alike(got[k], want[k]) for k in want), what, {k: got.get(k) for k in want if not alike(got.get(k), want[k])})
    ok(refused == (want is VALUES), f"{what}: {'refused' if want is VALUES else 'done'}", refused)


def verbs(top, protocol):
    base, path = os.path.join(top, "base.pt"), os.path.join(top, "m.pt")
    torch.save(VALUES, base, pickle_protocol=protocol)
    for words in [("set", path, key, text, want) for key, text, want in TEXTS] + [("attr", path, key, f"class={klass}", want) for key, klass, want in CLASSES]:
        shutil.copy(base, path)
        r = subprocess.run([WFCTL, *words[:-1]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        judge(path, words[2], words[-1], r.returncode == 1 and r.stderr.count(b"\n") == 1, f"protocol {protocol}: wfctl {words[0]} {words[2]} {words[3]}")


def attempt(call):
    try:
        call()
        return False
    except OSError:
        return True


def put(path, content):
    with open(path, "wb", buffering=0) as f:
        if content:
            f.write(content)


def mounted(top, protocol):
    base, path, mnt = os.path.join(top, "base.pt"), os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    cases = [(key, want, "writes " + text, lambda at, text=text: put(at, text.encode() + b"\n")) for key, text, want in TEXTS]
    cases += [(key, want, "says " + klass, lambda at, klass=klass: os.setxattr(at, "user.torch.class", klass.encode())) for key, klass, want in CLASSES]
    for key, want, what, call in cases:
        shutil.copy(base, path)
        subprocess.run([WEIGHTFS, path, mnt], check=True)
        refused = attempt(lambda: call(os.path.join(mnt, key)))
        subprocess.run([WFCTL, "umount", mnt], check=True)
        judge(path, key, want, refused, f"protocol {protocol}: {key}: a mount {what}")


def copies(top):
    """What only its own program makes is not copied as something else without a word."""
    path, mnt = os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    torch.save(VALUES, path)
    subprocess.run([WEIGHTFS, path, mnt], check=True)
    for tool in ("cp -a", "cp --preserve=all", "rsync -aX", "rsync -aX --inplace", WFCTL + " cp"):
        for key in ("date", "stamp"):
            words = [mnt, key, "new"] if tool.startswith(WFCTL) else [f"{mnt}/{key}", f"{mnt}/new"]
            r = subprocess.run([*tool.split(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            with open(f"{mnt}/.weightfs/log") as f:
                log = f.read()
            ok(r.returncode != 0 and ("no content becomes a datetime." in log or "copy would be" in r.stderr), f"{tool} of a {key} is refused, and why", (r, log))
            if os.path.exists(f"{mnt}/new"):
                os.unlink(f"{mnt}/new")
    subprocess.run([WFCTL, "umount", mnt], check=True)
    got = torch.load(path, weights_only=False)
    ok(list(got) == list(VALUES), "and nothing of it stays", list(got))


def composites(top):
    """The parts of one tensor keep their sizes: of another size the file would not load, or would read beyond them."""
    path, mnt = os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    tensors = OrderedDict([
        ("coo", torch.eye(3).to_sparse()), ("csr", torch.eye(3).to_sparse_csr()), ("nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        ("channels", torch.quantize_per_channel(torch.ones(2, 2), torch.tensor([.1, .2]), torch.tensor([0, 0]), 0, torch.qint8))])
    torch.save(tensors, path)
    subprocess.run([WEIGHTFS, path, mnt], check=True)
    for name in tensors:
        for part in sorted(os.listdir(f"{mnt}/{name}")):
            at = f"{mnt}/{name}/{part}"
            size = os.stat(at).st_size
            with open(at, "rb") as f:
                old = f.read()
            ways = {"more rows": lambda: put(at, bytes([1]) * size * 2), "less": lambda: put(at, b"\1" * (size // 2)), "truncate": lambda: os.truncate(at, size * 2),
                    "a shape": lambda: os.setxattr(at, "user.torch.shape", b"[1, -1]"), "a dtype": lambda: os.setxattr(at, "user.torch.dtype", b"uint8")}
            said = {what: attempt(way) for what, way in ways.items() if what != "truncate"}
            ok(all(said.values()), f"{name}/{part} keeps its size", said)
            attempt(ways["truncate"])
            r = subprocess.run([WFCTL, "attr", mnt, f"{name}/{part}", "shape=[1, -1]"], stderr=subprocess.PIPE, text=True)
            ok(r.returncode == 1, f"{name}/{part}: wfctl attr as well", r)
            put(at, old)
    values = torch.full((3,), 7.0)
    put(f"{mnt}/coo/values", values.numpy().tobytes())
    subprocess.run([WFCTL, "umount", mnt], check=True)
    tensors["coo"] = torch.sparse_coo_tensor(tensors["coo"].indices(), values, (3, 3))
    got = torch.load(path, weights_only=False)
    same = {k: torch.equal(got[k].to_dense(), v.to_dense()) if k in ("coo", "csr") else all(torch.equal(a, b) for a, b in zip(got[k].unbind(), v.unbind())) if k == "nested"
            else torch.equal(got[k].int_repr(), v.int_repr()) for k, v in tensors.items()}
    ok(all(same.values()), "it loads, and new values of the same size are there", same)


def tied_parts(top):
    """A part that has another name, before the tensor's or behind it: under that it is a part as well."""
    path, mnt = os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    indices, values = torch.tensor([[0, 1], [1, 0]]), torch.ones(2)
    torch.save({"before": values, "coo": torch.sparse_coo_tensor(indices, values, (2, 2), is_coalesced=True), "d": {"behind": indices}}, path)
    subprocess.run([WEIGHTFS, path, mnt], check=True)
    os.link(f"{mnt}/coo/values", f"{mnt}/d/third")
    for name in ("before", "d/behind", "d/third", "coo/values", "coo/indices"):
        at = f"{mnt}/{name}"
        said = {"rows": attempt(lambda: put(at, bytes(2 * os.stat(at).st_size))), "a shape": attempt(lambda: os.setxattr(at, "user.torch.shape", b"[-1, 1]"))}
        ok(all(said.values()), f"{name} keeps its size: it is a part of coo", said)
    put(f"{mnt}/before", torch.full((2,), 5.0).numpy().tobytes())
    subprocess.run([WFCTL, "umount", mnt], check=True)
    got = torch.load(path, weights_only=False)
    ok(got["coo"].to_dense().tolist() == [[0, 5], [5, 0]] and got["before"].tolist() == [5, 5], "new values of the same size are there", got)


def flags(top):
    """A bool of one letter, without a newline: 0 is False, and no byte of 48, which would be True; of other bytes a letter is that byte."""
    path, mnt = os.path.join(top, "m.pt"), os.path.join(top, "mnt")
    for content, want in ((b"0", False), (b"1", True), (b"\0", False), (b"\1", True), (b"0\n", False), (b"false", False)):
        torch.save({"flag": torch.tensor(not want), "byte": torch.tensor(7, dtype=torch.uint8)}, path)
        subprocess.run([WEIGHTFS, path, mnt], check=True)
        put(f"{mnt}/flag", content)
        put(f"{mnt}/byte", content[:1])
        subprocess.run([WFCTL, "umount", mnt], check=True)
        got = torch.load(path, weights_only=True)
        ok(got["flag"].view(torch.uint8).item() == want and got["byte"].item() == content[0], f"a bool given {content} is {want}", got)


def main():
    top = tempfile.mkdtemp(prefix="weightfs-forms-")
    os.mkdir(os.path.join(top, "mnt"))
    try:
        for protocol in (2, 4):
            verbs(top, protocol)
            if FUSE:
                mounted(top, protocol)
        if FUSE:
            copies(top)
            composites(top)
            tied_parts(top)
            flags(top)
        else:
            skip("through a mount", "no /dev/fuse")
    finally:
        subprocess.run(["umount", "-l", os.path.join(top, "mnt")], stderr=subprocess.DEVNULL)
        shutil.rmtree(top, ignore_errors=True)
    done()


if __name__ == "__main__":
    main()
