#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wfctl repack --align: where the bytes of every record begin, what torch, zipfile and unzip read, and that later commits keep it.

Usage: test_align.py BUILD_DIRECTORY. Prints TAP.
"""
import json
import os
import pickle
import shutil
import sys
import warnings
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, ok, read, run, same, skip  # noqa: E402

warnings.filterwarnings("ignore")
import torch  # noqa: E402

try:
    from safetensors.torch import load_file, save_file
except ImportError:
    load_file = save_file = None

BUILD = sys.argv[1]
MODERN = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 7)


def tensors():
    torch.manual_seed(1)
    x = torch.randn(300, 100)
    return {"a": x, "row": x[3:5], "t": x.t(), "odd": torch.arange(7, dtype=torch.uint8), "none": torch.empty(0), "日/n": torch.ones(3, dtype=torch.bfloat16),
            "epoch": 3}


def places(path):
    """{name: where its bytes begin}"""
    raw, found = read(path), {}
    for e in zipfile.ZipFile(path).infolist():
        n, m = (int.from_bytes(raw[e.header_offset + at:e.header_offset + at + 2], "little") for at in (26, 28))
        found[e.filename] = e.header_offset + 30 + n + m
    return found


def loads(path):
    """As every reader has it: with what a plain dictionary allows, and where torch computes places, too."""
    ways = [{}, {"weights_only": True}] if hasattr(torch, "_weights_only_unpickler") else [{}]
    if MODERN:
        ways += [{"mmap": True}, {"weights_only": True, "mmap": True}, {"weights_only": False}]
        torch.utils.serialization.config.load.calculate_storage_offsets = True
        os.environ["TORCH_SERIALIZATION_DEBUG"] = "1"  # what it computes is what it would have read
    return [torch.load(path, **way) for way in ways]


def equal(got, wanted):
    return list(got) == list(wanted) and all(torch.equal(got[k], v) and got[k].stride() == v.stride() if torch.is_tensor(v) else got[k] == v
                                             for k, v in wanted.items())


def check_file(path, n, wanted, what):
    ok(all(at % n == 0 for at in places(path).values()), f"{what}: every record begins at a multiple of {n}", places(path))
    ok(zipfile.ZipFile(path).testzip() is None, f"{what}: zipfile")
    if shutil.which("unzip"):
        p = run("unzip", "-tq", path)
        ok(p.returncode == 0, f"{what}: unzip", p)
    ok(all(equal(got, wanted) for got in loads(path)), f"{what}: torch in every way")


def check_alignments(w):
    d = tensors()
    for n in (1, 64, 128, 4096, 32768):
        torch.save(d, w.file)
        p = run(w.wfctl, "repack", f"--align={n}", w.file)
        ok(p.returncode == 0, f"--align={n}", p)
        check_file(w.file, n, d, f"--align={n}")
        said = [e for e in zipfile.ZipFile(w.file).namelist() if e.endswith(".storage_alignment")]
        same([read_record(w.file, name) for name in said], [str(max(n, 64)).encode()] * len(said), "what torch is told is so")
        same(run(w.wfctl, "verify", w.file).returncode, 0, "wfctl verify")
    for mode in ("replace", "append", "auto"):
        torch.save(d, w.file)
        run(w.wfctl, "repack", "--align=4096", w.file)
        p = run(w.wfctl, "set", f"--commit={mode}", w.file, "epoch", "9")
        ok(p.returncode == 0, f"a commit of mode {mode}", p)
        check_file(w.file, 4096, {**d, "epoch": 9}, f"after a commit of mode {mode}")
    p = run(w.wfctl, "repack", "--trim", "--align=4096", w.file)
    ok(p.returncode == 0 and all(at % 4096 == 0 for at in places(w.file).values()), "--trim and --align", p)


def read_record(path, name):
    return zipfile.ZipFile(path).read(name)


def check_script(w):
    model = torch.nn.Linear(5, 7)
    torch.jit.script(model).save(w.file)
    p = run(w.wfctl, "repack", "--align=4096", w.file)
    ok(p.returncode == 0 and all(at % 4096 == 0 for at in places(w.file).values()), "a TorchScript archive", (p, places(w.file)))
    ok(torch.equal(torch.jit.load(w.file).state_dict()["weight"], model.weight), "  which torch.jit.load reads")


def check_safetensors(w):
    """The data begin behind a longer header; one tensor may end between two multiples, and is the last."""
    if save_file is None:
        skip("safetensors", "the library is not installed for this Python")
        return
    d = {"odd": torch.arange(5, dtype=torch.int64), "a": torch.arange(3 * 4096, dtype=torch.uint8), "b": torch.arange(1024.0).reshape(2, -1),
         "empty": torch.zeros(0, 3), "h": torch.arange(2048, dtype=torch.bfloat16)}
    for n in (8, 64, 4096):
        save_file(d, w.file, metadata={"format": "pt"})
        p = run(w.wfctl, "repack", f"--align={n}", w.file)
        content = read(w.file)
        start = 8 + int.from_bytes(content[:8], "little")
        head = json.loads(content[8:start])
        at = {k: start + head[k]["data_offsets"][0] for k in d if d[k].numel()}
        ok(p.returncode == 0 and all(x % n == 0 for x in at.values()), f"safetensors, --align={n}", (p, at))
        got = load_file(w.file)
        ok(all(torch.equal(got[k], d[k]) for k in d) and len(got) == len(d), "  which the library reads")
        ok(run(w.wfctl, "verify", w.file).returncode == 0, "  and verify")
    for n in (1, 2, 4, 8):  # less than an archive has anyway
        save_file({"x": torch.ones(3), "y": torch.ones(5), "z": torch.ones(3, dtype=torch.uint8)}, w.file)
        p = run(w.wfctl, "repack", f"--align={n}", w.file)
        ok((p.returncode == 0 and len(load_file(w.file)) == 3) if n < 8 else (p.returncode == 1 and "of 8 bytes" in p.stderr), f"small tensors, --align={n}", p)
    save_file({**d, "also": torch.zeros(3)}, w.file)
    before = read(w.file)
    p = run(w.wfctl, "repack", "--align=4096", w.file)
    ok(p.returncode == 1 and "1 of its tensors" in p.stderr and "holes" in p.stderr and read(w.file) == before, "what cannot be is refused, and says why", p)


def check_refused(w):
    for what, save in (("a legacy file", lambda: torch.save(tensors(), w.file, _use_new_zipfile_serialization=False)),
                       ("a plain pickle", lambda: pickle.dump({"a": 1}, open(w.file, "wb")))):
        save()
        before = read(w.file)
        p = run(w.wfctl, "repack", "--align=4096", w.file)
        ok(p.returncode == 1 and "padding" in p.stderr and read(w.file) == before, f"{what} has no room for padding", p)
    torch.save(tensors(), w.file)
    before = read(w.file)
    for word in ("0", "-64", "100", "65536", "4k", "", "0x1000", "18446744073709555712"):
        p = run(w.wfctl, "repack", f"--align={word}", w.file)
        ok(p.returncode == 2 and p.stderr and read(w.file) == before, f"--align={word} is no such number", p)


with World(BUILD) as world:
    for check in (check_alignments, check_script, check_safetensors, check_refused):
        check(world)
done()
