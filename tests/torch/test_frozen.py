#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Constants of TorchScript: frozen modules, functions with tensors, the mobile format. They stand in constants/, their bytes are edited, and
everything else of the archive stays as it was, byte by byte. The oracle is torch.jit.load, of the same archive with the same bytes put into
its records by zipfile.

Usage: test_frozen.py BUILD_DIRECTORY
Prints TAP; skips itself where /dev/fuse is missing.
"""
import json
import os
import pickletools
import shutil
import struct
import sys
import warnings
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "mount"), os.path.join(HERE, "..", "files"), HERE]
from kit import World, done, need_fuse, ok, read, run, same, write  # noqa: E402

need_fuse()
warnings.filterwarnings("ignore")
import crafted  # noqa: E402
import torch  # noqa: E402
from scriptkit import unpickle  # noqa: E402
from torch import nn  # noqa: E402

torch.manual_seed(1)
FACTOR = torch.tensor([2.0, 3.0, 4.0])
DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64, torch.uint8, torch.int64]


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 5)
        self.register_buffer("idx", torch.arange(5))

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).flatten(1)) + self.idx + torch.tensor(0.5)


class Mixed(nn.Module):
    """Every dtype, an empty tensor, a number, a transposed view, two views of one storage, and texts beside them."""

    def __init__(self):
        super().__init__()
        for i, dtype in enumerate(DTYPES):
            self.register_buffer(f"b{i}", torch.ones(3).to(dtype))
        shared = torch.arange(20.0)
        self.register_buffer("t", torch.arange(12.0).reshape(3, 4).t())
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("number", torch.tensor(2.5))
        self.register_buffer("v", shared[2:6])
        self.register_buffer("w", shared[4:12].view(2, 4))
        self.text = "é€"

    def forward(self, x):
        return [self.b0, self.b1, self.b2, self.b3, self.b4, self.b5, self.b6, self.b7, self.t, self.empty, self.number, self.v,
                self.w], self.text, x


class Half(nn.Module):
    """Some of it stays an attribute."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.constants = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.b(self.a(x)) * self.constants


class Traced(Half):
    def forward(self, x):
        return super().forward(x) * FACTOR


def quantised():
    model = nn.Sequential(torch.quantization.QuantStub(), nn.Conv2d(3, 2, 1), nn.ReLU(), torch.quantization.DeQuantStub()).eval()
    model.qconfig = torch.quantization.get_default_qconfig("fbgemm")
    prepared = torch.quantization.prepare(model)
    prepared(torch.rand(1, 3, 4, 4))
    return torch.jit.freeze(torch.jit.script(torch.quantization.convert(prepared)))


def frozen(model):
    return torch.jit.freeze(torch.jit.script(model.eval()))


IMAGE, THREE = torch.rand(1, 3, 8, 8), torch.rand(2, 3)
KINDS = {
    "frozen convolution": (lambda: frozen(Convolution()), IMAGE),
    "frozen, of every dtype": (lambda: frozen(Mixed()), THREE),
    "frozen in part": (lambda: torch.jit.freeze(torch.jit.script(Half().eval()), preserved_attrs=["a", "constants"]), THREE),
    "frozen and quantised": (quantised, IMAGE),
    "traced with a constant": (lambda: torch.jit.trace(Traced().eval(), THREE), THREE),
    "a traced function": (lambda: torch.jit.trace(lambda x: x * FACTOR + FACTOR.double(), THREE), THREE),
    # what it fuses for oneDNN is no tensor that torch saves: the rest is
    "optimised for inference": (lambda: torch.jit.optimize_for_inference(frozen(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))), THREE),
}


def content(t):
    t = t.int_repr() if t.is_quantized else t
    return bytes(t.contiguous().reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


def records(path):
    with zipfile.ZipFile(path) as z:
        return {n.split("/", 1)[1]: z.read(n) for n in z.namelist()}


def changed(before, after):
    return sorted(n for n in {*before, *after} if n != ".data/serialization_id" and before.get(n) != after.get(n))


def output(path, x):
    return torch.jit.load(path)(x)


def equal(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


def attribute(path, name):
    return os.getxattr(path, "user.torch." + name).decode()


def other_bytes(data, elements):
    """The elements in another order, or, where they are all the same, others that are numbers as well."""
    size = len(data) // elements
    turned = b"".join(data[at:at + size] for at in range(len(data) - size, -1, -size))
    return turned if turned != data else bytes(b ^ 1 for b in data)


def elements_of(file):
    n = 1
    for size in json.loads(attribute(file, "shape")):
        n *= size
    return n


def top_of(mnt):
    """Another entry may have the name."""
    return next(n for n in ("constants~2", "constants") if os.path.isdir(os.path.join(mnt, n)))


def files_below(top):
    return sorted(os.path.join(where, name) for where, _, names in os.walk(top) for name in names)


def put(path, x, edits):
    """The same edit in Python: bytes of records, and what torch makes of them."""
    with zipfile.ZipFile(path) as z:
        entries = [(i, z.read(i)) for i in z.infolist()]
    with zipfile.ZipFile(path + ".python", "w") as z:
        for i, data in entries:
            for offset, new in edits.get(i.filename.split("/", 1)[1], []):
                data = data[:offset] + new + data[offset + len(new):]
            z.writestr(i.filename, data)
    return output(path + ".python", x)


# ---- reading ----

def shows(file, path, constant):
    if isinstance(constant, str):
        return read(file) == constant.encode()
    if not torch.is_tensor(constant):  # packed weights
        return bool(files_below(file))
    good = read(file) == content(constant) and attribute(file, "dtype") == str(constant.dtype)[6:]
    good &= json.loads(attribute(file, "shape")) == list(constant.shape) and attribute(file, "storage").startswith("constants/")
    if good and constant.is_contiguous() and constant.numel():
        at = int(attribute(file, "file_offset"))
        good = read(path)[at:at + len(content(constant))] == content(constant)
    return good


def check_reading(w, name):
    constants = unpickle(w.file)
    w.mount("-o", "ro")
    top = top_of(w.mnt)
    names = os.listdir(os.path.join(w.mnt, top))
    ok(sorted(names, key=int) == [str(i) for i in range(len(constants))], f"{name}: all {len(constants)} constants are there", names)
    wrong = [i for i, c in enumerate(constants) if not shows(os.path.join(w.mnt, top, str(i)), w.file, c)]
    ok(not wrong, "  with dtype, shape, bytes and place in the file", wrong)
    rows = [json.loads(line)["path"] for line in read(os.path.join(w.mnt, ".weightfs/tensors.json")).splitlines()]
    tensors = {f"{top}/{i}" for i, c in enumerate(constants) if torch.is_tensor(c)}
    ok(tensors <= set(rows), "  tensors.json lists them", rows)
    same(sorted(os.listdir(os.path.join(w.mnt, ".weightfs/objects", top_of(os.path.join(w.mnt, ".weightfs/objects"))))), sorted(names), "  .weightfs/objects has them, too")
    w.umount()
    ok("only in .weightfs" not in run(w.wfctl, "ls", w.file).stdout, "  wfctl ls leaves none out")
    return constants


# ---- edits ----

def contiguous(file):
    step = 1
    for size, stride in reversed(list(zip(json.loads(attribute(file, "shape")), json.loads(attribute(file, "stride"))))):
        if stride != step:
            return False
        step *= max(1, size)
    return True


def is_tensor(file):
    return "user.torch.dtype" in os.listxattr(file)


def editable(file):
    """Not what says sizes and flags of packed weights."""
    return is_tensor(file) and read(file) and contiguous(file) and not ("/state/" in file and attribute(file, "dtype") not in ("qint8", "float32"))


def check_edits(w, name, x, mode):
    """Other bytes for each constant whose elements lie in a row, in place and by another file; the daemon is killed on the way."""
    before, edits, seen = records(w.file), {}, set()
    w.mount("-o", f"commit={mode}")
    for k, file in enumerate(filter(is_tensor, files_below(os.path.join(w.mnt, top_of(w.mnt))))):
        data = read(file)
        if os.stat(file).st_ino in seen or not editable(file):
            continue
        seen.add(os.stat(file).st_ino)
        elements = elements_of(file)
        new = other_bytes(data, elements)
        edits.setdefault(attribute(file, "storage"), []).append((int(attribute(file, "storage_offset")) * len(data) // elements, new))
        if k % 2:
            write(file, new)
        else:
            with open(file, "r+b") as f:
                f.write(new)
        if k == 0:
            run("sync", w.mnt)
            w.crash("-o", f"commit={mode}")
    r = run(w.wfctl, "umount", w.mnt)
    want = dict(before)
    for record, parts in edits.items():
        for at, new in parts:
            want[record] = want[record][:at] + new + want[record][at + len(new):]
    same((r.returncode, changed(want, records(w.file))), (0, []), f"{name}, {mode}: {len(edits)} records are written, and nothing else")
    ok(edits and equal(output(w.file, x), put(w.file, x, edits)), "  torch.jit.load runs it with the new bytes", r)
    r = run(w.wfctl, "verify", w.file)
    ok(r.returncode == 0, "  wfctl verify", r)


REFUSED = ["rm {c}/0", "mv {c}/0 {c}/x", "mv {c}/0 x", "mkdir {c}/d", "rmdir {c}", "rm -r {c}", "mv {c} c", "cp {o} {c}/99", "ln {c}/0 {c}/99",
           "cp {o} {c}/{t}", "truncate -s +1 {c}/{t}", "setfattr -n user.torch.dtype -v int8 {c}/{t}",
           "setfattr -n user.torch.shape -v '[1, -1]' {c}/{t}", "setfattr -n user.torch.location -v cuda:0 {c}/{t}",
           "setfattr -n user.torch.requires_grad -v true {c}/{t}", "setfattr -n user.torch.class -v torch.nn.parameter.Parameter {c}/{t}",
           "cp {o}.npy .weightfs/npy/{c}/{t}.npy", "cp {o} {c}/.{t}.swp && mv {c}/.{t}.swp {c}/{t}"]


def npy(shape):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(11 + len(head)) % 64) + "\n"
    count = 1
    for size in shape:
        count *= size
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(4 * count)


def check_refused(w, name, constants):
    before, other = read(w.file), os.path.join(w.dir, "other")
    t = next(i for i, c in enumerate(constants) if torch.is_tensor(c) and c.dtype == torch.float32 and c.numel() > 1)
    write(other, b"abc")
    write(other + ".npy", npy((7, 7, 7)))
    w.mount()
    top = top_of(w.mnt)
    shown = {f: read(f) for f in files_below(os.path.join(w.mnt, top))}
    for command in REFUSED:
        r = run("sh", "-c", command.format(c=top, t=t, o=other), cwd=w.mnt)
        ok(r.returncode != 0, f"  {command.format(c=top, t=t, o='other')} is refused", r)
    for i in (i for i, c in enumerate(constants) if isinstance(c, str)):
        r = run("sh", "-c", f"printf x > {top}/{i}", cwd=w.mnt)
        ok(r.returncode != 0 and "not permitted" in r.stderr, "  so is another text", r)
    log = read(os.path.join(w.mnt, ".weightfs/log")).decode()
    ok("constants.pkl is kept as it is" in log and "names its constants by their places" in log, "  with the reasons", log)
    same({f: read(f) for f in files_below(os.path.join(w.mnt, top))}, shown, "  and all are as they were")
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and read(w.file) == before, "  so is the archive", r)


# ---- files made of it ----

def check_repacks(w, name, x):
    before, wanted = records(w.file), output(w.file, x)
    for words in ([], ["--trim"], ["--align=4096"], ["--trim", "--align=128"]):
        shutil.copyfile(w.file, w.file + ".pt")
        r = run(w.wfctl, "repack", *words, w.file + ".pt")
        after = records(w.file + ".pt")
        kept = [n for n in changed(before, after) if n.startswith(("constants", "code/"))]
        ok(r.returncode == 0 and not kept and equal(output(w.file + ".pt", x), wanted) and run(w.wfctl, "verify", w.file + ".pt").returncode == 0,
           f"{name}: repack {' '.join(words)}", (r, kept))


def check_exports(w, name, model, constants):
    """The state_dict alone where there is one, as torch has it; of what is frozen the constants. What is left out is told."""
    tensors = {str(i): c for i, c in enumerate(constants) if torch.is_tensor(c) and not c.is_quantized}
    state = dict(torch.jit.load(w.file).state_dict()) if isinstance(model, nn.Module) else {}
    top = "constants~2" if "constants" in state else "constants"
    formats = {"pt": torch.load}
    try:
        from safetensors.torch import load_file
        formats["safetensors"] = load_file
    except ImportError:
        pass
    for kind, load in formats.items():
        for words, wanted in (([], state or {f"constants.{k}": v for k, v in tensors.items()}), ([f"--prefix={top}"], tensors)):
            r = run(w.wfctl, "export", "--skip", f"--format={kind}", *words, w.file, f"{w.file}.{kind}")
            got = load(f"{w.file}.{kind}") if r.returncode == 0 else {}
            extra = {k for k in got.keys() - wanted.keys() if ".state." not in k}  # packed weights
            ok(r.returncode == 0 and not extra and all(k in got and torch.equal(got[k], v) for k, v in wanted.items()),
               f"{name}: export {kind} {' '.join(words)}", (r, sorted(got), sorted(wanted)))
            if state and not words:
                ok("left out" in r.stderr and "constants" in r.stderr, "  the constants are told to be left out", r)


# ---- constants beside a pickle that is written anew; the mobile format ----

def check_both(w):
    for mode in ("replace", "append"):
        torch.jit.save(KINDS["traced with a constant"][0](), w.file)
        before = records(w.file)
        w.mount("-o", f"commit={mode}")
        top = top_of(w.mnt)
        write(os.path.join(w.mnt, top, "0"), struct.pack("<3f", 5, 6, 7))
        os.setxattr(os.path.join(w.mnt, "a.bias"), "user.torch.requires_grad", b"false")
        r = run(w.wfctl, "umount", w.mnt)
        after = records(w.file)
        m = torch.jit.load(w.file)
        ok(r.returncode == 0 and changed(before, after) == ["constants/0", "data.pkl"] and not m.a.bias.requires_grad, f"both pickles' tensors, {mode}",
           (r, changed(before, after)))
        with torch.no_grad():
            ok(torch.allclose(m(THREE), m.b(m.a(THREE)) * torch.tensor([5.0, 6, 7]) * m.constants), "  and the output follows")


def check_output(w):
    """A commit to another format writes the state_dict, and says what is no part of it."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        return
    out = w.file + ".safetensors"
    for name, said in (("frozen in part", True), ("frozen convolution", False)):
        torch.jit.save(KINDS[name][0](), w.file)
        state, constants = torch.jit.load(w.file).state_dict(), unpickle(w.file)
        wanted = dict(state) or {f"constants.{i}": c for i, c in enumerate(constants)}
        first = next(iter(wanted))
        r = w.mount("-o", f"output={out}")
        write(os.path.join(w.mnt, first if state else first.replace(".", "/", 1)), bytes(wanted[first].numel() * 4))
        wanted[first] = torch.zeros_like(wanted[first])
        r = run(w.wfctl, "commit", w.mnt)
        log = read(os.path.join(w.mnt, ".weightfs/log")).decode()
        run(w.wfctl, "umount", w.mnt)
        got = load_file(out) if r.returncode == 0 else {}
        ok(sorted(got) == sorted(wanted) and all(torch.equal(got[k], v) for k, v in wanted.items()), f"output=x.safetensors, {name}", (r, sorted(got)))
        same("left out of" in log, said, "  what is left out is in the log")
        os.unlink(out)


def check_verbs(w):
    """What brings its own type along, and has that of the constant: copies between archives, .npy files, by wfctl and through a mount."""
    import numpy
    torch.jit.save(KINDS["frozen convolution"][0](), w.file)
    constants = unpickle(w.file)
    i = next(i for i, c in enumerate(constants) if c.dtype == torch.float32 and c.dim() == 1)
    key, n, donor = f"constants/{i}", constants[i].numel(), w.file + ".donor"
    shutil.copyfile(w.file, donor)
    npy = os.path.join(w.dir, "own.npy")
    for k, words in enumerate((["set", w.file, key, "--file", npy], ["cp", f"{donor}:{key}", f"{w.file}:{key}"])):
        value = numpy.arange(n, dtype="<f4") + k
        numpy.save(npy, value)
        if k:
            run(w.wfctl, "set", donor, key, "--file", npy)
        r = run(w.wfctl, *words)
        same((r.returncode, content(unpickle(w.file)[i])), (0, value.tobytes()), f"wfctl {words[0]} of the same type")
    w.mount()
    for command in (f"cp {npy} mnt/.weightfs/npy/{key}.npy", f"cp -a from/{key} mnt/{key}"):
        os.makedirs(f"{w.dir}/from", exist_ok=True)
        if "from" in command:
            run(w.weightfs, "-o", "ro", donor, f"{w.dir}/from")
            value = numpy.arange(n, dtype="<f4") + 1
        else:
            value = numpy.arange(n, dtype="<f4") + 5
            numpy.save(npy, value)
        r = run("sh", "-c", command, cwd=w.dir)
        same((r.returncode, read(f"{w.mnt}/{key}")), (0, value.tobytes()), f"  {command.replace(w.dir, '.')}")
    run("umount", f"{w.dir}/from")
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and content(unpickle(w.file)[i]) == value.tobytes(), "  and committed", r)


def check_array(w):
    """Bytes that stand inside constants.pkl, which torch makes of none, cannot be written."""
    data = struct.pack("<4f", 1, 2, 3, 4)
    write(w.file, crafted.script(crafted.constants_of(crafted.CONSTANT, crafted.numpy_array(crafted.py2(data)))))
    before = read(w.file)
    w.mount()
    same(read(f"{w.mnt}/constants/1"), data, "an array inside constants.pkl is shown")
    write(os.path.join(w.dir, "other"), bytes(16))
    for command in ("cp other mnt/constants/1", "dd if=other of=mnt/constants/1 bs=4 count=1 conv=notrunc", "truncate -s 8 mnt/constants/1"):
        r = run("sh", "-c", command, cwd=w.dir)
        ok(r.returncode != 0 and "not permitted" in r.stderr, f"  {command} is refused", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(r.returncode == 0 and read(w.file) == before, "  and the archive is as it was", r)


def check_mobile(w):
    from torch.jit.mobile import _load_for_lite_interpreter as load
    for name in ("frozen convolution", "frozen, of every dtype", "frozen and quantised"):
        make, x = KINDS[name]
        make()._save_for_lite_interpreter(w.file)
        before, edits = records(w.file), {}
        own = unpickle(w.file, "bytecode")
        rest = {n for n in before if n.startswith("constants/")} - {f"constants/{k}" for k in keys_of(before["constants.pkl"])}
        said = run(w.wfctl, "ls", w.file).stdout
        same("only in .weightfs" in said, bool(rest), f"mobile, {name}: what only the interpreter has is told")
        w.mount()
        have = {read(f) for f in files_below(os.path.join(w.mnt, ".weightfs/objects/bytecode")) if is_tensor(f)}
        ok(own and all(before[n] in have for n in rest), "  and stands in .weightfs/objects")
        file = next(f for f in files_below(os.path.join(w.mnt, "constants")) if editable(f))
        new = other_bytes(read(file), elements_of(file))
        edits = {attribute(file, "storage"): [(0, new)]}
        write(file, new)
        r = run(w.wfctl, "umount", w.mnt)
        ok(r.returncode == 0 and changed(before, records(w.file)) == list(edits), "  one is written, and nothing else", (r, changed(before, records(w.file))))
        wanted = put(w.file, x, edits)
        ok(equal(load(w.file)(x), load(w.file + ".python")(x)) and equal(output(w.file, x), wanted), "  and both loaders run it")


def keys_of(data):
    texts = [arg for op, arg, _ in pickletools.genops(data) if op.name == "BINUNICODE"]
    return [t for t in texts if t.endswith(".storage") or t.isdigit()]


def main():
    with World(sys.argv[1], lambda path: None) as w:
        for name, (make, x) in KINDS.items():
            model = make()
            torch.jit.save(model, w.file)
            constants = check_reading(w, name)
            check_exports(w, name, model, constants)
            check_repacks(w, name, x)
            for mode in ("replace", "append", "auto"):
                torch.jit.save(model, w.file)
                check_edits(w, name, x, mode)
            if name in ("frozen, of every dtype", "frozen in part", "traced with a constant"):
                check_refused(w, name, constants)
        check_both(w)
        check_array(w)
        check_verbs(w)
        check_output(w)
        check_mobile(w)
    done()


main()
