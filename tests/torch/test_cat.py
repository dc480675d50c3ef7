#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What wfctl cat prints is what print(array) of NumPy does, and its --raw and --npy are the array.

Usage: test_cat.py BUILD_DIR. Prints TAP; needs no FUSE.
"""
import os
import random
import tempfile

import numpy as np
import torch

import verbkit
from verbkit import ok, refused, text, wfctl


# ---- cat as NumPy prints ----

def shown(t):
    """As NumPy would have it: what it has no type for is float32, or the integers behind."""
    if t.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
        return t.to(torch.float32).numpy()
    return t.numpy()


def arrays(rng):
    """Tensors of all kinds of numbers, small and large, round and not, with and without what is no number."""
    special = [0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 0.1, 1e-5, 1e5, 1e8, 123456789.0, 1e-300, 1e300, 0.5, 100.0,
               999.5, 1000.25, 16777216.0, 2.0**-24, 2.0**-14, 2.0**-126, 65504.0, 3.4e38]
    floats = [torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
              torch.float8_e5m2fnuz]
    for i in range(420):
        shape = rng.choice([(), (1,), (2,), (7,), (3, 4), (2, 2, 3), (1, 5), (30,), (40, 2), (11, 100), (1001,), (0,), (2, 0), (5, 7, 40), (2, 3, 2, 2)])
        count = int(np.prod(shape))
        kind = rng.randrange(7)
        if kind == 0:
            values = [rng.choice(special) for _ in range(count)]
        elif kind == 1:
            values = [rng.gauss(0, 1) for _ in range(count)]
        elif kind == 2:
            values = [rng.gauss(0, 1) * 10 ** rng.randint(-8, 9) for _ in range(count)]
        elif kind == 3:
            values = [2.0 ** rng.randint(-20, 20) * rng.choice([1, -1]) for _ in range(count)]
        elif kind == 4:
            values = [float(rng.randint(-1000, 1000)) for _ in range(count)]
        elif kind == 5:
            values = [rng.choice([0.1, 0.25, 0.5, 1.5, 3.0]) for _ in range(count)]
        else:
            values = [rng.choice([1.0, float("nan"), float("inf"), -float("inf")]) for _ in range(count)]
        base = torch.tensor(values, dtype=torch.float64).reshape(shape)
        dtype = rng.choice(floats + ["int", "bool", "complex"])
        if dtype == "int":
            dtype = rng.choice([torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
            yield torch.nan_to_num(base).clamp(-100 if dtype != torch.uint8 else 0, 100).to(dtype) * (1 if dtype in (torch.int8, torch.uint8) else 321)
        elif dtype == "bool":
            yield base > 0
        elif dtype == "complex":
            yield torch.complex(base, base.flip(0) if shape else base * 2).to(rng.choice([torch.complex64, torch.complex128]))
        else:
            yield base.to(dtype)


def cat(top):
    rng = random.Random(1)
    tensors = {f"t{i}": t for i, t in enumerate(arrays(rng))}
    path = os.path.join(top, "arrays.pt")
    torch.save(tensors, path)
    script = "".join(f"cat {path} {key}\n" for key in tensors)
    got = wfctl("-f", "-", input=script.encode()).stdout.decode()
    wrong = []
    with np.errstate(all="ignore"):
        for key, t in tensors.items():
            want = str(shown(t)) + "\n"
            if not got.startswith(want):
                alone = text("cat", path, key)
                if alone != want:
                    wrong.append(f"{key} {t.dtype} {tuple(t.shape)}\nwant:\n{want}got:\n{alone}")
                got = got[len(alone):]
            else:
                got = got[len(want):]
    ok(not wrong, f"cat prints {len(tensors)} tensors as NumPy does ({len(wrong)} otherwise)", "\n".join(wrong[:5]))
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.float16)
    torch.save({"halves": every.reshape(-1, 64)}, os.path.join(top, "halves.pt"))
    script = "".join(f"cat {top}/halves.pt halves[{i}]\n" for i in range(1024))
    got = wfctl("-f", "-", input=script.encode()).stdout.decode()
    with np.errstate(all="ignore"):
        want = "".join(str(row) + "\n" for row in every.reshape(-1, 64).numpy())
    differs = [f"{a!r} {b!r}" for a, b in zip(want.splitlines(), got.splitlines()) if a != b]
    ok(got == want, "cat prints every half as NumPy does", "\n".join(differs[:10]))
    t = torch.arange(2 * 3 * 40 * 5).reshape(2, 3, 40, 5)
    torch.save({"t": t, "t[0]": torch.ones(2), "f": t.to(torch.bfloat16)}, path)
    slices = ["0", "-1", "0:2", "1,2", ":,1:3", "...,0", "0,...,::2", "::-1,0", "1,2,3,4", "0:0", ":, ::-2, 5:1:-2", "-1:, -2:, :, ::3", "5:", "..., -7:9:2, 1"]
    for s in slices:
        want = str(eval(f"t.numpy()[{s}]")) + "\n"
        if s != "0":
            got = text("cat", path, f"t[{s}]")
            ok(got == want, f"cat t[{s}]", f"want:\n{want}got:\n{got}")
        raw = wfctl("cat", "--raw", path, f"f[{s}]").stdout
        ok(raw == eval(f"t.to(torch.bfloat16).view(torch.int16).numpy()[{s}]").tobytes(), f"cat --raw f[{s}]")
    ok(text("cat", path, "t[0]") == "[1. 1.]\n", "an exact key goes before a slice", text("cat", path, "t[0]"))
    refused("more indices", "cat", path, "t[0,0,0,0,0]")
    refused("outside", "cat", path, "t[7]")
    refused("no such key", "cat", path, "u")
    refused("NumPy has no dtype", "cat", "--npy", path, "f")
    for key in ("t", "t[:, 1]"):
        file = os.path.join(top, "out.npy")
        with open(file, "wb") as f:
            f.write(wfctl("cat", "--npy", path, key).stdout)
        want = t.numpy() if key == "t" else t.numpy()[:, 1]
        ok(np.array_equal(np.load(file), want), f"np.load reads cat --npy {key}")
        np.save(os.path.join(top, "want.npy"), want)
        with open(file, "rb") as a, open(os.path.join(top, "want.npy"), "rb") as b:
            ok(a.read() == b.read(), f"cat --npy {key} is what np.save writes")


def words_array(rng, dtype, shape):
    """Any values, and those that are written in another way."""
    a = np.zeros(shape, dtype=dtype)
    parts = [a[name] for name in a.dtype.names] if a.dtype.names else [a]
    while parts:
        part = parts.pop()
        count, kind = part.size, part.dtype.kind
        if part.dtype.names:
            parts += [part[name] for name in part.dtype.names]
        elif kind == "U":
            part.flat = np.array(["".join(rng.choice("ab'\"\\\né\t\x07中😀") for _ in range(rng.randrange(6))) for _ in range(count)], dtype=part.dtype)
        elif kind in "SV":
            part.flat = np.frombuffer(bytes(rng.choice(b"ab'\"\\ \0\xff") for _ in range(part.nbytes)), dtype=part.dtype)
        elif kind in "Mm":
            part.flat = np.array([rng.choice([0, -1, rng.randrange(-9000, 9000), rng.randrange(-10**7, 10**7), -2**63]) for _ in range(count)]).view(part.dtype)
        else:
            part.flat = np.array([rng.choice([0, 1.5, -2.25, 100, 0.1]) for _ in range(count)]).astype(part.dtype)
    return a


WORDS = ["<U3", ">U2", "S4", "V3", "M8[D]", "M8[Y]", "M8[M]", "M8[W]", "M8[h]", "M8[5m]", "M8[s]", "M8[ms]", "M8[ns]", "m8[s]", "m8[3D]", "m8",
         [("a", "i4"), ("b", "f8")], [("a", "U3")], [("a", "f4", (2, 2)), ("b", [("c", "M8[s]"), ("d", "?")]), ("e", "S3")],
         np.dtype([("a", "i1"), ("b", "f8"), ("c", "c8")], align=True), [(("title", "name"), "f2"), ("x y'", ">i4")], "g", "G",
         [("x", "g"), ("n", "i4"), ("z", "G", (2,))]]


def words(top):
    """Arrays of texts, dates and records."""
    rng, arrays = random.Random(1), {}
    for i, dtype in enumerate(WORDS):
        for k, shape in enumerate([(3,), (2, 3), (40,), (0,), (1200,)] + ([()] if dtype != "m8" else [])):
            arrays[f"{i} {k}"] = words_array(rng, dtype, shape)
    path = os.path.join(top, "words.pt")
    torch.save(arrays, path)
    wrong = []
    for key, a in arrays.items():
        want, got = str(a) + "\n", text("cat", path, key)
        with open(os.path.join(top, "out.npy"), "wb") as f:
            f.write(wfctl("cat", "--npy", path, key).stdout)
        loaded = np.load(f.name)
        stored = torch.load(path, weights_only=False)[key]
        if got != want or (loaded if loaded.dtype == stored.dtype else loaded.astype(stored.dtype)).tobytes() != stored.tobytes() or \
                loaded.shape != stored.shape or wfctl("cat", "--raw", path, key).stdout != loaded.tobytes():
            wrong.append(f"{key} {a.dtype} {a.shape}\nwant:\n{want}got:\n{got}\nnpy {loaded.dtype}")
    ok(not wrong, f"cat prints {len(arrays)} arrays of texts, dates and records as NumPy does ({len(wrong)} otherwise)", "\n".join(wrong[:5]))


def extended(top):
    """The x87's long double: of every size, near powers of two, and what no processor makes."""
    if np.finfo(np.longdouble).nmant != 63:
        verbkit.tap.skip("long doubles", "this machine has others")
        return
    rng = np.random.default_rng(1)

    def any_of(count, first, last):
        a = np.zeros((count, 16), np.uint8)
        a[:, :8] = (rng.integers(0, 2**63, (count, 1), dtype=np.uint64) | np.uint64(1 << 63)).view(np.uint8)
        a[:, 8:10] = (rng.integers(first, last, (count, 1)).astype(np.uint16) | (rng.integers(0, 2, (count, 1)).astype(np.uint16) << 15)).view(np.uint8)
        return a.view(np.longdouble).reshape(count)

    arrays, one = {"zeros": np.array([0, -0.0, np.nan, np.inf, -np.inf, 1], dtype=np.longdouble), "large": any_of(3000, 16380, 16386).reshape(30, 100)}, 16383
    small = np.zeros((3, 16), np.uint8)
    small[:, 0] = [1, 2, 255]
    arrays["denormal"] = small.view(np.longdouble).reshape(3)
    for i in range(60):
        low = int(rng.integers(1, 32700))
        arrays |= {f"any {i}": any_of(4, low, low + 50), f"near {i}": any_of(5, one - 12, one + 20), f"one {i}": any_of(1, one - 60, one + 70).reshape(()),
                   f"power {i}": np.longdouble(2) ** rng.integers(-200, 200, 2), f"few {i}": np.array([np.longdouble(f"{rng.integers(1, 10**5)}e{rng.integers(-8, 8)}")]),
                   f"complex {i}": (any_of(2, one - 5, one + 5) + 1j * any_of(2, one - 5, one + 5)).astype(np.clongdouble).reshape((2,) if i % 2 else (1, 2))}
    path = os.path.join(top, "extended.pt")
    torch.save(arrays, path)
    got = wfctl("-f", "-", input="".join(f"cat {path} '{key}'\n" for key in arrays).encode()).stdout.decode()
    want = [str(a) for a in arrays.values()]
    wrong = [f"{key}\nwant:\n{w}\ngot:\n{text('cat', path, key)}" for key, w in zip(arrays, want) if text("cat", path, key) != w + "\n"] \
        if got != "\n".join(want) + "\n" else []
    ok(got == "\n".join(want) + "\n", f"cat prints {len(arrays)} arrays of long doubles as NumPy does", "\n".join(wrong[:5]))
    odd = np.zeros((2, 16), np.uint8)
    odd[0, 8], odd[1, 7:10] = 1, [0, 255, 127]  # exponents with a mantissa that does not begin with 1
    torch.save({"odd": odd.view(np.longdouble), "objects": np.array([1, "x", None], dtype=object)}, path)
    ok(text("cat", path, "odd") == "[[nan]\n [nan]]\n", "what is no number is none", text("cat", path, "odd"))
    ok(text("cat", path, "objects") == '[1, "x", null]\n', "an array of objects is shown as its file is", text("cat", path, "objects"))


with tempfile.TemporaryDirectory(prefix="weightfs-cat-") as top:
    cat(top)
    extended(top)
    words(top)
verbkit.tap.done()
