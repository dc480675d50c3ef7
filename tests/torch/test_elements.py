#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Elements of lists and tuples, replaced by files that are renamed over them: by sed -i, rsync, mv, GLib's way; in a list, a tuple, a tuple
in a tuple, one that stands in two places. The same edit in Python, and torch.load, as the oracle, before and after a kill.

Usage: test_elements.py BUILD_DIRECTORY. Prints TAP.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same, write  # noqa: E402

need_fuse()
import numpy  # noqa: E402
import torch  # noqa: E402
import judge  # noqa: E402

KEPT = torch.ones(2)


def elements(changed=False):
    """Each kind, and what it becomes; its content as a file."""
    return {"int": (5, 6, b"6\n"), "float": (0.5, 0.6, b"0.6\n"), "str": ("line 5", "line 6", b"line 6"), "bool": (True, False, b"false\n"),
            "tensor": (KEPT.clone(), torch.tensor([7.0, 8.0]), torch.tensor([7.0, 8.0]).numpy().tobytes()),
            "rows": (torch.arange(4).reshape(2, 2), torch.arange(6).reshape(3, 2), torch.arange(6).numpy().tobytes()),
            "array": (numpy.arange(3), numpy.arange(3, 6), numpy.arange(3, 6).tobytes())}


def make(new=()):
    """new: the places whose elements have the other value."""
    def row(where):
        return [v[1] if (where, k) in new else v[0] for k, v in elements().items()] + [KEPT]
    twice = tuple(row("twice"))
    return {"list": row("list"), "tuple": tuple(row("tuple")), "deep": (1, (2, tuple(row("deep/1/1")))), "twice": twice, "again": {"x": twice}}


PLACES = {"list": "list", "tuple": "tuple", "deep/1/1": "deep/1/1", "twice": "again/x"}  # the last through the link
WAYS = {
    "sed -i": (("int", "float", "str"), 'sed -i s/5/6/ "$K"'),
    "mv from a key": ((), 'cp "$N" "$M/made" && mv "$M/made" "$K"'),
    "GLib": ((), 'cp "$N" "$(dirname "$K")/.goutputstream-A1B2C3" && mv "$(dirname "$K")/.goutputstream-A1B2C3" "$K"'),
    "rsync": ((), 'cp "$N" "$D/$(basename "$K")" && rsync -I "$D/$(basename "$K")" "$(dirname "$K")/"'),
}


def replace(w):
    names = list(elements())
    for way, (only, command) in WAYS.items():
        if not shutil.which(command.split()[0]):
            print(f"# {way}: {command.split()[0]} is not installed")
            continue
        new, bad = set(), []
        torch.save(make(), w.file)
        w.mount()
        for where, shown in PLACES.items():
            for name in only or names:
                n = os.path.join(w.dir, "content")
                write(n, elements()[name][2])
                env = {**os.environ, "K": f"{w.mnt}/{shown}/{names.index(name)}", "N": n, "M": w.mnt, "D": w.dir}
                r = subprocess.run(["bash", "-c", command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if r.returncode:
                    bad.append(f"{where} {name}: {r.stdout}")
                new.add((where, name))
        ok(not bad, f"{way}: nothing is refused", "\n".join(bad))
        run("sync", w.mnt)
        w.crash()
        r = run(w.wfctl, "umount", w.mnt)
        try:
            judge.same(judge.load(w.file), make(new))
            ok(r.returncode == 0, f"{way}: all of it after a kill and a commit", r)
        except AssertionError as e:
            ok(False, f"{way}: all of it after a kill and a commit", e)


def refused(w):
    """What does not fit, what is no file, what no list holds."""
    torch.save(make(), w.file)
    w.mount()
    m, before = w.mnt, os.listdir(f"{w.mnt}/list")
    os.mkdir(f"{m}/folder")
    write(f"{m}/words", b"no number\n")
    for command, why in (("perl -e 'rename q(words), q(list/0) or die $!'", "Invalid argument"), ("perl -e 'rename q(words), q(tuple/0) or die $!'", "Invalid argument"), ('mv -T folder list/0', "cannot overwrite"),
                         ('echo 5 > list/name', "Invalid argument"), ('echo 5 > tuple/name', "not permitted"), ("mv tuple/0 list/0", "not permitted")):
        r = subprocess.run(["bash", "-c", command], cwd=m, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ok(r.returncode != 0 and why in r.stdout, command, r)
    same(os.listdir(f"{m}/list"), before, "the list is as it was")
    run("rm", "-r", f"{m}/folder", f"{m}/words")
    os.rename(f"{m}/list/0", f"{m}/list/1")
    same(run(w.wfctl, "umount", m).returncode, 0, "an element over another")
    wanted = make()
    wanted["list"][0:2] = wanted["list"][0:1]
    judge.same(judge.load(w.file), wanted)


for test in replace, refused:
    with World(sys.argv[1], lambda path: None) as world:
        test(world)
done()
