#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the corpus and its manifest: torch/good-* and torch/manifest.json.

Usage: generate.py [OUTPUT_DIRECTORY]      run by the newest torch (tests/torch/requirements.txt); runs itself again with
                                           the Python of Debian's torch 1.13 (WEIGHTFS_OLD_PYTHON, default /usr/bin/python3)
       generate.py --dialect NAME OUTPUT   only what this interpreter's torch writes

A file's prefix is the verdict. What a good file holds is said by torch (tests/torch/oracle.py), never by weightfs. The
output is the same every time with the same versions of torch.
"""
import importlib.machinery
import io
import json
import linecache
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
TORCH_TESTS = os.path.join(os.path.dirname(HERE), "torch")
sys.path[:0] = [HERE, TORCH_TESTS]
warnings.filterwarnings("ignore")

import torch  # noqa: E402

import craft  # noqa: E402


def import_without_path(name, directory):
    """Legacy files carry a class's file name and source: no path of this machine may come in."""
    module = type(sys)(name)
    with open(os.path.join(directory, name + ".py")) as f:
        source = f.read()
    module.__file__ = name + ".py"
    module.__loader__ = None
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    linecache.cache[module.__file__] = (len(source), None, source.splitlines(True), module.__file__)
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), module.__dict__)


STARTED_IN = os.getcwd()
os.chdir(TORCH_TESTS)  # inspect looks for models.py here
import_without_path("models", TORCH_TESTS)
import cases  # noqa: E402
import oracle  # noqa: E402


# ---- what torch writes ----

class StorageIds(pickle.Unpickler):
    """Runs through a legacy stream's object without making any."""

    def __init__(self, file):
        super().__init__(file)
        self.ids = []

    def persistent_load(self, pid):
        if pid[0] == "storage":
            self.ids.append((pid[2], pid[1], pid[4]))
            return Anything()
        return pid[1]

    def find_class(self, module, name):
        if module.startswith("torch") and name.endswith("Storage"):
            return name
        return type(name, (Anything,), {})


class Anything(dict):
    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def __hash__(self):
        return id(self)

    def __call__(self, *args, **kwargs):
        return Anything()


SIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "ComplexFloat": 8,
         "ComplexDouble": 16, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1, "Untyped": 1}


def steady_legacy(data):
    """Keys of the legacy stream are addresses: replaced by numbers of the same length in order of appearance, and the
    storages sorted by them as torch does."""
    f = io.BytesIO(data)
    for _ in range(3):
        pickle.load(f)
    start = f.tell()
    reader = StorageIds(f)
    reader.load()
    end = f.tell()
    keys = pickle.load(f)
    order, sizes = [], {}
    for key, cls, _ in reader.ids:
        if key not in sizes:
            order.append(key)
            sizes[key] = SIZES[cls.replace("Storage", "")]
    blocks = {}
    for key in keys:
        count = f.read(8)
        blocks[key] = count + f.read(struct.unpack("<q", count)[0] * sizes[key])
    assert not f.read(), "bytes after the last storage"
    new = {key: str(94000000000000 + 64 * i) for i, key in enumerate(order)}
    body = data[start:end]
    for key in order:
        body = body.replace(craft.text(key), craft.text(new[key]))
        if len(key) == len(new[key]):  # protocols 4 and 5, whose frames have lengths
            body = body.replace(key.encode(), new[key].encode())
        assert key.encode() not in body, "the key of a storage is still there"
    out = data[:start] + body
    listed = io.BytesIO()
    pickle.dump(sorted(new[k] for k in order), listed, 2)
    out += listed.getvalue()
    old = {v: k for k, v in new.items()}
    return out + b"".join(blocks[old[k]] for k in sorted(old))


def source_without_path(obj):
    lines, number, file = real_source(obj)
    return lines, number, file[file.index("torch/nn"):] if file and "torch/nn" in file else file


real_source = torch.serialization.get_source_lines_and_file
torch.serialization.get_source_lines_and_file = source_without_path


def save_zip(obj, path, **kwargs):
    torch.save(obj, path, **kwargs)


def save_legacy(obj, path, **kwargs):
    out = io.BytesIO()
    torch.save(obj, out, _use_new_zipfile_serialization=False, **kwargs)
    with open(path, "wb") as f:
        f.write(steady_legacy(out.getvalue()))


class Corpus:
    def __init__(self, directory, dialect):
        self.directory, self.dialect, self.manifest = directory, dialect, {}

    def path(self, name):
        return os.path.join(self.directory, name)

    def describe(self, name, made_by=None, expect=None, limit=1 << 60, **more):
        """Asks torch (or takes the object as it was saved, where torch cannot load its own file)."""
        entry = {"made_by": made_by or f"torch {torch.__version__.split('+')[0]}"}
        if expect is None:
            obj, locations = oracle.load(self.path(name))
        else:
            obj, locations = expect, {}
        entries = oracle.describe(obj, locations, limit)
        self.manifest[name] = {**entry, **more, "entries": entries}

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def torch_cases(self):
        suffix = "" if self.dialect == "new" else "-113"
        for name, make in cases.CASES.items():
            if self.dialect == "new" and name in ("dtypes-v3",) and not hasattr(torch, "uint16"):
                continue
            if self.dialect == "old" and name in ("dtypes-v3", "nested-tensor"):
                continue
            for form, save in (("", save_zip), ("-legacy", save_legacy)):
                if form and (getattr(make, "only_zip", False) or (self.dialect == "old" and getattr(make, "root", False))):
                    continue
                file = f"good-{name}{form}{suffix}.pt"
                obj = make()
                save(obj, self.path(file))
                # 1.13 writes tensors with Python attributes that it cannot read again
                self.describe(file, expect=obj if self.dialect == "old" and name == "parameters" else None)
        if self.dialect == "new":
            self.tutorial()
            self.protocols()
            self.options()
        self.torchscript(suffix)

    def tutorial(self):
        import models
        save_zip(models.fill(models.Net()).state_dict(), self.path("good-tutorial.pt"))
        self.describe("good-tutorial.pt")

    def protocols(self):
        for protocol in (1, 3, 4, 5):
            for form, save in (("", save_zip), ("-legacy", save_legacy)):
                obj = {"w": cases.numbers((2, 3)), "b": b"\x00\xff", "bytes": bytearray(b"ab"), "set": {1, 2}, "text": "é", "frozen": frozenset([1]),
                       "list": list(range(5)), "big": 2**40, "array": cases.np.arange(3), "long text": "x" * 300, "empty": b"",
                       "nested": {"f": 0.5, "t": (1, 2, 3, 4)}}
                name = f"good-protocol-{protocol}{form}.pt"
                save(obj, self.path(name), pickle_protocol=protocol)
                self.describe(name)

    def options(self):
        obj = {"w": cases.numbers((2, 3)), "v": cases.numbers((5,), torch.int64)}
        torch.serialization.set_crc32_options(False)
        save_zip(obj, self.path("good-crc-zero-everywhere.pt"))
        torch.serialization.set_crc32_options(True)
        self.describe("good-crc-zero-everywhere.pt", warns=True)
        with torch.serialization.skip_data():
            save_zip(obj, self.path("good-skip-data.pt"))
        zeros = {k: torch.zeros_like(v) for k, v in obj.items()}
        self.describe("good-skip-data.pt", expect=zeros, warns=True)
        from torch.utils.serialization import config
        with config.patch("save.storage_alignment", 4096):
            save_zip(obj, self.path("good-alignment-4096.pt"))
        self.describe("good-alignment-4096.pt")
        save_zip(obj, self.path("good-ünïcödé ζ.v2.pt"))
        self.describe("good-ünïcödé ζ.v2.pt")

    def torchscript(self, suffix):
        """Debug records hold paths of this machine and are left out; torch.jit.load does without."""
        import models
        from scriptkit import unpickle
        makes = {"scripted": torch.jit.script, "traced": lambda m: torch.jit.trace(m, torch.zeros(2, 1, 4, 4)),
                 "frozen": lambda m: torch.jit.freeze(torch.jit.script(m)),
                 "frozen-in-part": lambda m: torch.jit.freeze(torch.jit.script(m), preserved_attrs=["fc"]),
                 "frozen-mobile": lambda m: torch.jit.freeze(torch.jit.script(m))}
        for name, make in makes.items():
            model = models.fill(models.Small()).eval()
            file = f"good-torchscript-{name}{suffix}.pt"
            path = self.path(file)
            made = make(model)
            if name == "frozen-mobile":
                made._save_for_lite_interpreter(path)
            else:
                torch.jit.save(made, path)
            records = [craft.Record(n, data, deflate=deflated) for n, data, deflated in craft.read_zip(path)
                       if not n.endswith(".debug_pkl") and "serialization_id" not in n]
            self.write(file, craft.zip_file(records))
            loaded, constants = torch.jit.load(path), unpickle(path)
            if constants:
                loaded = {**loaded.state_dict(keep_vars=True), "constants": constants}
            self.describe(file, expect=loaded, keys_only=True)


def main():
    arguments = sys.argv[1:]
    dialect = "new"
    if arguments[:1] == ["--dialect"]:
        dialect, arguments = arguments[1], arguments[2:]
    out = os.path.abspath(os.path.join(STARTED_IN, arguments[0])) if arguments else os.path.join(HERE, "torch")
    os.makedirs(out, exist_ok=True)
    torch.set_num_threads(1)
    corpus = Corpus(out, dialect)
    if dialect == "old":
        corpus.torch_cases()
        with open(os.path.join(out, "manifest-old.json"), "w") as f:
            json.dump(corpus.manifest, f)
        return
    for old in os.listdir(out):
        if re.match(r"(good|bad|unsupported)-", old):
            os.unlink(os.path.join(out, old))
    corpus.torch_cases()
    old_python = os.environ.get("WEIGHTFS_OLD_PYTHON", "/usr/bin/python3")
    subprocess.run([old_python, os.path.abspath(__file__), "--dialect", "old", out], check=True)
    with open(os.path.join(out, "manifest-old.json")) as f:
        corpus.manifest.update(json.load(f))
    os.unlink(os.path.join(out, "manifest-old.json"))
    lines = []
    for name in sorted(corpus.manifest):
        entry = corpus.manifest[name]
        head = {k: v for k, v in entry.items() if k != "entries"}
        lines.append(f"{json.dumps(name)}: {json.dumps(head)[:-1]}" + (", \"entries\": [\n" + ",\n".join(json.dumps(e) for e in entry["entries"]) + "]}"
                                                                       if "entries" in entry else "}"))
    with open(os.path.join(out, "manifest.json"), "w") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # torch.jit writes constants in the order of a set
        os.chdir(STARTED_IN)
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    main()
