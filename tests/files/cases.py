# SPDX-License-Identifier: MIT
"""Objects that torch.save is given for the corpus, one function a file; run with the newest torch and with 1.13.

Every number comes from integers, never from a random generator: the files must come out the same every time.
"""
import argparse
import collections
import datetime
import functools
import pathlib

import numpy as np
import torch
from torch import nn

import models

CASES = {}


def case(f):
    CASES[f.__name__.replace("_", "-")] = f
    return f


def only_zip(f):
    f.only_zip = True
    return f


def numbers(shape, dtype=torch.float32, start=0):
    n = 1
    for s in shape:
        n *= s
    values = (torch.arange(start, start + n, dtype=torch.int64) * 7) % 113
    if dtype == torch.bool:
        return (values % 2 == 1).reshape(shape)
    if dtype.is_complex:
        return torch.complex(values.to(torch.float64), -values.to(torch.float64)).to(dtype).reshape(shape)
    return values.to(dtype).reshape(shape) if dtype.is_floating_point else (values % 100).to(dtype).reshape(shape)


def has(name):
    return getattr(torch, name, None)


@case
def state_dict():
    return models.fill(models.Small()).state_dict()


@case
def general():
    """The tutorial's general checkpoint."""
    model = models.fill(models.Small())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    model(numbers((2, 1, 4, 4)) / 128).sum().backward()
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, (i + 1) / 16)
    optimizer.step()
    return {"epoch": 5, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": 0.4}


@case
def optimizer_fresh():
    return torch.optim.SGD(models.fill(models.Small()).parameters(), lr=0.001, momentum=0.9).state_dict()


@case
def optimizer_adam():
    model = models.fill(nn.Linear(3, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.999))
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    state = scheduler.state_dict()
    return {"optimizer": optimizer.state_dict(), "scheduler": {k: state[k] for k in sorted(state)}}


@case
def gan():
    a, b = models.fill(nn.Linear(4, 3)), models.fill(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    out = {}
    for name, model in (("A", a), ("B", b)):
        out[f"model{name}_state_dict"] = model.state_dict()
        out[f"optimizer{name}_state_dict"] = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()
    return out


@case
def module():
    return models.fill(models.Small())


@case
def module_tied():
    return {"model": models.fill(models.Tied()), "epoch": 3}


@case
def module_sequential():
    return nn.Sequential(collections.OrderedDict([("a", models.fill(nn.Linear(2, 2))), ("relu", nn.ReLU()), ("norm", nn.BatchNorm1d(2))]))


@case
def dtypes():
    names = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128"]
    return collections.OrderedDict((n, numbers((3, 5), getattr(torch, n))) for n in names)


@case
@only_zip
def dtypes_v3():
    """Types whose storages are untyped; the legacy stream cannot hold them. None of them has arithmetic: bytes are set."""
    out = collections.OrderedDict()
    for name in ("uint16", "uint32", "uint64", "complex32", "bcomplex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                 "float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"):
        if has(name) and hasattr(torch._utils, "_rebuild_tensor_v3"):
            raw = (torch.arange(24, dtype=torch.int64) * 5 % 251).to(torch.uint8)
            try:
                out[name] = raw.view(getattr(torch, name)).reshape(2, -1)
            except RuntimeError:
                out[name] = torch.empty(0)
    if "uint16" in out:
        both = torch.arange(16, dtype=torch.uint8)
        out["bytes"], out["words"] = both, both.view(torch.uint16)
    return out or {"none": 0}


@case
def shapes():
    return {"0-d": torch.tensor(1.5), "0-d int": torch.tensor(7), "empty": torch.zeros(0), "empty 2-d": torch.zeros(3, 0, 2), "one": torch.ones(1),
            "ones": torch.ones(1, 1, 1), "many dims": numbers((1, 2, 1, 2, 1, 2, 1, 2)), "long": numbers((300,), torch.int16),
            "wide": numbers((2, 3, 4, 5), torch.uint8)}


@case
def views():
    base = numbers((6, 10))
    line = numbers((100,), torch.int32)
    return collections.OrderedDict([
        ("base", base), ("transposed", base.t()), ("row", base[2]), ("column", base[:, 3]), ("block", base[1:4, 2:7]), ("every third", base[:, ::3]),
        ("scalar", base[4, 4]), ("permuted", base.reshape(2, 3, 10).permute(2, 0, 1)), ("expanded", base[0, :1].expand(4, 5)),
        ("overlapping", line.as_strided((5, 4), (3, 2), 7)), ("windows", line.unfold(0, 10, 5)), ("tail", line[90:]),
        ("diagonal", base.diagonal()), ("empty in the middle", line[50:50]), ("channels last", numbers((2, 3, 4, 4)).contiguous(
            memory_format=torch.channels_last)), ("one of a large storage", numbers((2000,), torch.int16)[1000:1001])])


@case
def ties():
    a, shared = numbers((3, 4)), numbers((5,), torch.int64)
    p = nn.Parameter(numbers((2, 2)))
    return {"a": a, "a again": a, "a as another object": a.view(3, 4), "a reshaped": a.reshape(4, 3), "p": p, "p data": p.data, "nested": {"a": a,
            "shared": shared}, "list": [shared, shared[1:], shared], "shared": shared, "equal but not tied": a.clone()}


@case
def nested():
    return {"dict": {"dict": {"dict": {"w": numbers((2,))}, "empty": {}}}, "ordered": collections.OrderedDict([("z", 1), ("a", numbers((1,)))]),
            "list of tensors": [numbers((2,)), numbers((3,), torch.int8)], "tuple": (numbers((1,)), "text", {"inner": None}), "empty list": [],
            "empty tuple": (), "list of lists": [[numbers((1,))], []], "list of dicts": [{}, {"a": 1}], "dict in tuple in list": [({"k": 2},)],
            "default": collections.defaultdict(list, {"x": [1, 2]}), "counter": collections.Counter("abca")}


@case
def values():
    return {
        "ints": {"zero": 0, "minus one": -1, "byte": 255, "word": 256, "i32": 2**31 - 1, "past i32": 2**31, "i64": 2**63 - 1, "min i64": -2**63,
                 "past i64": 2**63, "googol": 10**100, "minus googol": -10**100},
        "floats": {"tenth": 0.1, "lr": 0.001, "whole": 3.0, "minus zero": -0.0, "large": 1e16, "larger": 1.5e300, "plain": 123456789012345.0,
                   "small": 1e-4, "smaller": 1e-5, "least": 5e-324, "most": 1.7976931348623157e308, "third": 1 / 3, "inf": float("inf"),
                   "minus inf": float("-inf"), "nan": float("nan"), "2**53": 2.0**53, "long": 0.30000000000000004},
        "bools": {"yes": True, "no": False}, "none": None, "complex": {"1+2j": 1 + 2j, "j": 1j, "half": 0.5 - 0.25j},
        "text": {"empty": "", "line": "one line", "newline": "with\n", "lines": "a\nb\n", "unicode": "grüße, 世界 🙂", "nul": "a\0b", "quote": '"\\'},
        "bytes": {"empty": b"", "text": b"abc", "all": bytes(range(256)), "array": bytearray(b"xyz\xff")},
        "lists": {"ints": [1, 2, 3], "betas": (0.9, 0.999), "mixed": [1, 2.5, "three", None, True, "vier\n", float("inf")], "nested": [[1], [2, [3]]],
                  "tuples": ((1, 2), (3,)), "unicode": ["é", "\u2028", "\x7f", "\x01"], "big": [2**70], "one": [0], "long": list(range(500))},
        "sets": {"ints": {1, 2, 3}, "one": {"a"}, "empty": set(), "frozen": frozenset([4])},
        "torch": {"size": torch.Size([2, 3]), "device": torch.device("cpu"), "cuda": torch.device("cuda", 1), "dtype": torch.float16}}


@case
def keys():
    long = "layer." * 50
    return {"plain": 1, "a/b": 2, "/": 3, "": 4, ".": 5, "..": 6, "...": 7, ".hidden": 8, ".weightfs": 9, "%": 10, "100%": 11, "%2F": 12, "a\0b": 13,
            " ": 14, " lead": 15, "new\nline": 16, "tab\t": 17, "ünïcödé": 18, "世界": 19, "🙂": 20, "\ud800": 21, "-rf": 22, "*": 23, "\\": 24,
            '"': 25, "'": 26, "A": 27, "a": 28, "~": 29, "x" * 255: 30, "x" * 256: 31, long + "weight": 32, long + "bias": 33, "é" * 200: 34,
            "/" * 100: 35, "y" * 244 + "é" + "y" * 20: 36, "\x01\x1f\x7f": 37, "1": 38, "true": 39, "null": 40, "1.5": 41, ".swp": 42, "a.b.c": 43}


@case
def keys_of_other_types():
    return {"ints": {0: "a", 1: "b", -3: "c", 10**30: "d", 140231221: numbers((2,))},
            "mixed": {1: "int", "1": "str", "01": "no twin"},
            "bools": {True: 1, "true": 2, False: 3, "false": 4}, "none": {None: 1, "null": 2, "None": 3},
            "floats": {0.5: 1, "0.5": 2, 1e100: 3, float("inf"): 4, 2.0: 5}, "tuples": {(1, 2): 1, ("a", "b/c"): 2, (): 3, "[1, 2]": 4},
            "no twin": {"1": 1, "true": 2, "null": 3, "0.5": 4}}


@case
def sparse():
    dense = torch.zeros(4, 6)
    dense[0, 1], dense[2, 3], dense[3, 5] = 1, 2, 3
    out = {"coo": dense.to_sparse(), "coalesced": dense.to_sparse().coalesce(),
           "hybrid": torch.sparse_coo_tensor(torch.tensor([[0, 2]]), numbers((2, 3)), (4, 3)), "empty": torch.zeros(2, 2).to_sparse(),
           "csr": dense.to_sparse_csr()}
    if hasattr(torch._utils, "_rebuild_tensor_v3"):  # 1.13 makes these and cannot save them
        out.update(csc=dense.to_sparse_csc(), bsr=dense.to_sparse_bsr((2, 3)), bsc=dense.to_sparse_bsc((2, 3)))
    return out


@case
def quantised():
    t = numbers((4, 6)) / 8
    scales, zeros = torch.tensor([0.5, 0.25, 0.125, 1.0], dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    out = {t_name: torch.quantize_per_tensor(t, 0.25, 3, getattr(torch, t_name)) for t_name in ("quint8", "qint8", "qint32")}
    out["per channel"] = torch.quantize_per_channel(t, scales, zeros, 0, torch.qint8)
    out["float qparams"] = torch.quantize_per_channel(t, scales.float(), zeros.float(), 0, torch.quint4x2)
    out["transposed"] = out["qint8"].t()
    return out


@case
def meta():
    return {"meta": torch.empty(3, 4, device="meta"), "half": torch.empty(1000000, 1000000, dtype=torch.float16, device="meta"),
            "strided": torch.empty(4, 6, device="meta").t(), "parameter": nn.Parameter(torch.empty(2, device="meta")), "real": numbers((2,))}


class Labelled(torch.Tensor):
    pass


Labelled.__module__ = "models"
models.Labelled = Labelled


@case
def parameters():
    frozen = nn.Parameter(numbers((2, 3)), requires_grad=False)
    noted = nn.Parameter(numbers((3,)))
    noted.note = "kept"
    tensor = numbers((2,))
    tensor.note = [1, 2]
    out = {"parameter": nn.Parameter(numbers((2, 2))), "frozen": frozen, "with state": noted, "grad": numbers((2,)).requires_grad_(),
           "tensor with state": tensor, "subclass": numbers((2, 2)).as_subclass(Labelled), "subclass parameter": nn.Parameter(
               numbers((2,)).as_subclass(Labelled))}
    if hasattr(nn, "Buffer"):
        out["buffer"] = nn.Buffer(numbers((2,)))
    return out


@case
def numpy_arrays():
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    out = {name: (np.arange(6) % 2).astype(name).reshape(2, 3) for name in
           ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128")}
    out.update({"fortran": np.asfortranarray(a), "big endian": a.astype(">f4"), "big endian int": np.arange(5, dtype=">i8"), "0-d": np.array(3.5),
                "empty": np.zeros((0, 3)), "strided": a[:, ::2], "shared": a, "shared again": a, "text": np.array(["ab", "c"]),
                "objects": np.array([None, 1], dtype=object), "structured": np.zeros(2, dtype=[("x", "<i4"), ("y", "<f8")]),
                "dates": np.array(["2020-01-01"], dtype="datetime64[D]")})
    out["scalars"] = {"float64": np.float64(0.1), "float32": np.float32(0.1), "float16": np.float16(0.1), "int64": np.int64(-5), "int8": np.int8(-5),
                      "uint8": np.uint8(250), "uint64": np.uint64(2**64 - 1), "bool": np.bool_(True), "complex": np.complex64(1 + 2j),
                      "nan": np.float32("nan"), "inf": np.float64("-inf"), "big endian": np.array(7, dtype=">i4")[()]}
    out["list"] = [np.zeros(2), np.ones(2)]
    return out


@case
def storages():
    t = numbers((6,))
    typed = t.storage() if not hasattr(t, "_typed_storage") else t._typed_storage()
    return {"typed": typed, "tensor on it": t, "view of it": t[2:4], "ints": numbers((4,), torch.int16).storage(), "none": 0}


@case
@only_zip
def storage_untyped():
    t = numbers((6,), torch.uint8)
    return {"untyped": t.untyped_storage() if hasattr(t, "untyped_storage") else t.storage().untyped(), "t": t}


@case
def shared_containers():
    inner = {"w": numbers((2,)), "n": 1}
    items = [numbers((1,))]
    return {"first": inner, "second": inner, "deep": {"third": inner, "items": items}, "items": items, "in list": [inner, 5], "plain": [1],
            "empty": {}}


@case
def cycles():
    root = {"name": "root", "child": {"w": numbers((2,))}}
    root["self"] = root
    root["child"]["parent"] = root
    root["list"] = [root, numbers((1,))]
    root["list"].append(root["list"])
    return root


@case
def conjugates():
    c = numbers((2, 3), torch.complex64)
    return {"plain": c, "conj": c.conj(), "conj transposed": c.t().conj(), "neg": numbers((4,), torch.complex128).conj().imag,
            "real": numbers((4,), torch.complex128).real, "neg and strided": numbers((2, 3), torch.complex64).conj().imag.t()}


@case
@only_zip
def wide():
    """Items are pickled in batches of 1000."""
    base = torch.arange(1005, dtype=torch.int16)
    return collections.OrderedDict((f"layer.{i}.weight", base[i]) for i in range(1005))


@case
def objects():
    return {"namespace": argparse.Namespace(lr=0.1, name="run", weights=numbers((2,))), "path": pathlib.PurePosixPath("/tmp/x"),
            "range": range(3), "slice": slice(1, 2, None), "ellipsis": ..., "date": datetime.date(2020, 1, 2), "delta": datetime.timedelta(1, 2),
            "partial": functools.partial(int, base=2), "deque": collections.deque([1, 2]), "class": nn.Linear, "function": torch.nn.functional.relu, "return type": torch.max(numbers((2, 3)), 0), "module": nn.Dropout(0.5), "object": models.Plain(),
            "slots": models.Slots(), "point": models.Point(1, 2), "after": 1}


class Plain:
    def __init__(self):
        self.weight, self.name, self.inner = numbers((2,)), "plain", {"k": 1}


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, numbers((1,))


Point = collections.namedtuple("Point", "x y")
for cls in (Plain, Slots, Point):
    cls.__module__, cls.__qualname__ = "models", cls.__name__
    setattr(models, cls.__name__, cls)


@case
def random_state():
    return {"rng": (torch.arange(5056, dtype=torch.int64) % 251).to(torch.uint8)[:16], "lr": [0.1, 0.01]}


if hasattr(torch._utils, "_rebuild_tensor_v3"):  # 1.13 cannot save one
    @case
    @only_zip  # torch writes it to a legacy stream and cannot read that back
    def nested_tensor():
        return {"nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "w": numbers((1,))}


for name, root in (("tensor", lambda: numbers((2, 3))), ("parameter", lambda: nn.Parameter(numbers((2,)))), ("int", lambda: 7),
                   ("text", lambda: "hello"), ("none", lambda: None), ("plain-list", lambda: [1, 2, 3]), ("list", lambda: [numbers((2,)), {"a": 1}]),
                   ("tuple", lambda: (numbers((2,)), 3)), ("empty-dict", lambda: {}), ("sparse", lambda: torch.eye(2).to_sparse()),
                   ("numpy", lambda: np.arange(3, dtype=np.int16)), ("bytes", lambda: b"\x00\xff")):
    root.root = True
    CASES[f"root-{name}"] = root
