# SPDX-License-Identifier: MIT
"""Small files in which few objects are many when they are written out: submodules shared by submodules, one state of many objects, one
list at many places. crafted.py makes them with the rest; each walk over the graph has its own.
"""
import struct

from craft import NONE, TRUE, Record, call, checkpoint, dictionary, get, glob, integer, put, sequence, storage, tensor, text, zip_file

PLACES = 30_000


def build(state, cls=("laughs", "Thing"), args=b")"):
    return glob(*cls) + args + b"\x81" + state + b"b"


def module(parameters, modules, cls=("torch.nn.modules.module", "Module")):
    return build(dictionary((text("_parameters"), parameters), (text("_buffers"), dictionary()), (text("_modules"), modules)), cls)


def doubled(first, outer, levels):
    """An expression in which each level holds the one before twice."""
    body = put(first, 0)
    for level in range(1, levels):
        body = put(outer(body, get(level - 1)), level)
    return body


def many(expression, index=9999, places=PLACES):
    """A list of one object at many places."""
    return b"](" + put(expression, index) + get(index) * (places - 1) + b"e"


def numbers(n):
    return b"](" + b"".join(integer(i) for i in range(n)) + b"e"


W = tensor(storage("Float", "0", 4), (2, 2))
F4 = struct.pack("<4f", 1, 2, 3, 4)


def modules():
    return doubled(module(dictionary((text("w"), W)), dictionary()),
                   lambda a, b: module(dictionary(), dictionary((text("a"), a), (text("b"), b))), 60)


def module_cycle():
    return glob("torch.nn.modules.module", "Module") + b")\x81q\0" + dictionary(
        (text("_parameters"), dictionary((text("w"), W))), (text("_buffers"), dictionary()),
        (text("_modules"), dictionary((text("a"), get(0)), (text("b"), get(0))))) + b"b"


def scripts():
    return doubled(build(dictionary((text("weight"), W)), ("__torch__", "Leaf")),
                   lambda a, b: build(dictionary((text("a"), a), (text("b"), b)), ("__torch__", "Node")), 60)


def one_state():
    """50,000 attributes, which 5,000 objects have for their own."""
    state = b"}(" + b"".join(text(f"a{i}") + integer(i) for i in range(50_000)) + b"u"
    things = build(put(state, 0)) + b"".join(build(get(0)) for i in range(5_000))
    return b"](" + things + b"e"


def one_list():
    return many(numbers(60_000))


def one_set():
    return many(call(glob("__builtin__", "set"), numbers(60_000)))


def doubled_list():
    return many(doubled(numbers(2), lambda a, b: b"](" + a + b + b"e", 15))


def one_key():
    """A tuple of 30,000 numbers, key of 3,000 mappings, each with two keys."""
    key = b"(" + b"".join(integer(i) for i in range(30_000)) + b"t"
    first = b"}(" + put(key, 0) + NONE + NONE + NONE + b"u"
    return b"](" + first + (b"}(" + get(0) + NONE + NONE + NONE + b"u") * 3_000 + b"e"


def one_argument():
    """An object that holds nothing, whose argument takes time to look through, at many places."""
    return many(call(glob("laughs", "Thing"), doubled(numbers(2), lambda a, b: b"](" + a + b + b"e", 12)))


def doubled_objects():
    return doubled(build(dictionary((text("w"), W))),
                   lambda a, b: call(glob("laughs", "Pair"), a, b) + dictionary((text("a"), get(0))) + b"b", 60)


def wrapped(state):
    return call(glob("torch._tensor", "_rebuild_from_type_v2"), glob("torch._utils", "_rebuild_wrapper_subclass"), glob("laughs", "Wrapper"),
                sequence(glob("laughs", "Wrapper"), glob("torch", "float32"), sequence(integer(2)), sequence(integer(1)), integer(0), NONE, NONE, TRUE),
                state)


def wrappers():
    return doubled(wrapped(dictionary((text("a"), W))), lambda a, b: wrapped(dictionary((text("a"), a), (text("b"), b))), 60)


def wrapper_cycle():
    return many(put(b"}", 1) + text("a") + wrapped(get(1)) + b"s")


def dtypes():
    def dtype(name, *state):
        return call(glob("numpy", "dtype"), text(name), TRUE, TRUE) + sequence(integer(3), text("|"), NONE, *state) + b"b"
    base = call(glob("numpy", "dtype"), text("i4"), TRUE, TRUE)
    nested = doubled(base, lambda a, b: dtype("V8", sequence(text("a"), text("b")), dictionary(
        (text("a"), sequence(a, integer(0))), (text("b"), sequence(b, integer(4)))), integer(8), integer(1), integer(16)), 40)
    return call(glob("numpy.core.multiarray", "_reconstruct"), glob("numpy", "ndarray"), sequence(integer(0)), text("b")) + sequence(
        integer(1), sequence(integer(1)), nested, TRUE, call(glob("_codecs", "encode"), text("12345678"), text("latin1"))) + b"b"


def tags():
    return doubled(b"]", lambda a, b: call(glob("torch.jit._pickle", "restore_type_tag"), b"](" + a + b + b"e", text("List[Any]")), 60)


LAUGHS = [modules, module_cycle, one_state, one_list, doubled_list, one_set, one_key, one_argument, doubled_objects, wrappers, wrapper_cycle, dtypes, tags]


def make(expression):
    return zip_file(checkpoint(dictionary((text("x"), expression), (text("plain"), W)), [("0", F4)]))


def make_script():
    code = b"class Leaf(Module):\n  __parameters__ = [\"weight\", ]\n  __buffers__ = []\nclass Node(Module):\n  __parameters__ = []\n"
    return zip_file(checkpoint(scripts(), [("0", F4)]) +
                    [Record("archive/code/__torch__.py", code), Record("archive/constants.pkl", b"\x80\x02).")])
