# SPDX-License-Identifier: MIT
"""Holds a mount against what torch says of a checkpoint: entries as tests/torch/oracle.py describes them, alive or in a manifest."""
import hashlib
import json
import os

ATTRIBUTES = {"dtype": "dtype", "shape": "shape", "stride": "stride", "offset": "storage_offset", "location": "location",
              "requires_grad": "requires_grad", "class": "class", "key": "key", "qscheme": "qscheme", "scale": "scale",
              "zero_point": "zero_point"}


def attribute(path, name):
    try:
        return os.fsdecode(os.getxattr(path, name, follow_symlinks=False))
    except OSError:
        return None


def text(value):
    return value if isinstance(value, str) else json.dumps(value)


def same_json(a, b):
    """Lone surrogates are escaped in the file, for UTF-8 has none."""
    try:
        return b"\\ud" in a and json.loads(a) == json.loads(b)
    except ValueError:
        return False


def compare_entry(mnt, e, tied, inodes, problems):
    path = os.path.join(mnt, e["path"]) if e["path"] else mnt

    def wrong(what):
        problems.append(f"{e['path']}: {what}")
    if not os.path.lexists(path):
        return wrong("missing")
    if e["type"] == "dir" and (os.path.islink(path) or not os.path.isdir(path)):
        return wrong("is no directory")
    if e["type"] == "link":
        if not os.path.islink(path):
            return wrong("is no link")
        if os.path.realpath(path) != os.path.realpath(os.path.join(mnt, e["target"])):
            wrong(f"links to {os.readlink(path)}, not {e['target']}")
        return
    for field, name in ATTRIBUTES.items():
        if field in e and not (field in ("stride",) and e.get("kind") == "meta"):
            said = attribute(path, "user.torch." + name)
            # attributes belong to the inode: names tied to each other answer with those of one of them
            wanted = [text(x[field]) if field != "key" else x[field] for x in tied.get(e.get("tie"), [e]) if field in x]
            if field == "key" and said is not None: # escapes may differ: the same JSON value is meant
                said, wanted = json.loads(said), [json.loads(w) for w in wanted]
            if field == "stride" and e["size"] == 0: # NumPy has zeroes there
                continue
            if said not in wanted:
                wrong(f"user.torch.{name} is {said}, torch says {wanted[0]}")
    if e["type"] == "value":
        with open(path, "rb") as f:
            data = f.read()
        if data != e["bytes"].encode("utf-8", "surrogateescape") and not same_json(data, e["bytes"]):
            wrong(f"is {data[:60]!r}, torch says {e['bytes'][:60]!r}")
    if e["type"] == "tensor":
        if os.stat(path).st_size != e["size"]:
            wrong(f"has {os.stat(path).st_size} bytes, torch says {e['size']}")
        if attribute(path, "user.numpy.descr") != e.get("descr") and e.get("kind") != "meta" and \
                not e["dtype"].startswith("q"):
            wrong(f"user.numpy.descr is {attribute(path, 'user.numpy.descr')}, not {e.get('descr')}")
        if "sha256" in e:
            with open(path, "rb") as f:
                if hashlib.sha256(f.read()).hexdigest() != e["sha256"]:
                    wrong("has other bytes")
        inodes.setdefault(os.stat(path).st_ino, []).append(e)


def compare(mnt, entries):
    problems, inodes = [], {}
    skip = tuple(e["path"] + "/" for e in entries if e["type"] == "opaque" or e.get("partial"))
    tied = {}
    for e in entries:
        if "tie" in e:
            tied.setdefault(e["tie"], []).append(e)
    for e in entries:
        compare_entry(mnt, e, tied, inodes, problems)
    for same in inodes.values():
        if len({e.get("tie", e["path"]) for e in same}) > 1:
            problems.append("one inode for different data: " + ", ".join(e["path"] for e in same))
    ties = {}
    for e in entries:
        if "tie" in e:
            ties.setdefault(e["tie"], set()).add(os.stat(os.path.join(mnt, e["path"])).st_ino)
    problems += [f"tie {t} has several inodes" for t, i in ties.items() if len(i) > 1]
    # names and their order, directory by directory
    want = {}
    for e in entries:
        if e["path"]:
            want.setdefault(os.path.dirname(e["path"]), []).append(os.path.basename(e["path"]))
    for where, names in want.items():
        if any((where + "/").startswith(s) for s in skip):
            continue
        seen = os.listdir(os.path.join(mnt, where))
        if seen != names and "unnamed" not in [e["type"] for e in entries]:
            problems.append(f"{where or 'the root'} lists {seen[:8]}, torch has {names[:8]}")
    return problems
