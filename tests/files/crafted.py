#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files that no torch writes: damaged, hostile, of other programs, or sound in ways that only other tools have. By hand, byte by byte.

Usage: crafted.py OUTPUT_DIRECTORY [NAME...]       writes them (seeds for a fuzzer, something to look at)

CASES maps a name to its case. The prefix of the name is the verdict:
  good-         opens; `good` says every file below the mount with its bytes (None: the root can be listed)
  damaged-      opens, but the entries in `bad` give EIO (EOPNOTSUPP for what is left out on purpose), those in `good` read, and wfctl verify fails and says `words`
  bad-          is refused with one line that says `words`: what, where, which rule
  unsupported-  the same for what is well formed and left out on purpose
check_files.py holds the programs to it.
"""
import hashlib
import io
import os
import struct
import sys
import zipfile
import zlib

import laughs
from craft import (FALSE, NONE, TRUE, Record, array, call, checkpoint, dictionary, get, glob, integer, legacy, long1, ordered, pickle, put,
                   py2, real, sequence, storage, tensor, text, zip_file)

F4 = struct.pack("<4f", 1, 2, 3, 4)
I3 = struct.pack("<3q", 7, 8, 9)
W = tensor(storage("Float", "0", 4), (2, 2))
V = tensor(storage("Long", "1", 3), (3,))
MODEL = dictionary((text("w"), W), (text("v"), V))
STORAGES = [("0", F4), ("1", I3)]
SHOWN = {"w": F4, "v": I3}
CASES = {}


class Case:
    def __init__(self, name, make, words=(), bad=(), good=None, walked=False):
        self.verdict = name.split("-")[0]
        self.make, self.words, self.bad, self.good, self.walked = make, words, bad, good, walked


def case(name, words=(), bad=(), good=None, walked=False):
    """Decorates a function that returns the file's bytes. walked: every name of the mount is asked for, no content."""
    def add(make):
        CASES[name] = Case(name, make, words, bad, good, walked)
        return make
    return add


def archive(expression=MODEL, storages=STORAGES, **options):
    return zip_file(checkpoint(expression, storages, **options))


def records():
    return checkpoint(MODEL, STORAGES, byteorder=b"little")


def changed(name, **fields):
    """The usual archive with one record laid out another way."""
    all_records = records()
    for r in all_records:
        if r.name == "archive/" + name:
            for field, value in fields.items():
                setattr(r, field, value)
    return zip_file(all_records)


def zipped(compression=zipfile.ZIP_STORED, names=None, comment=b""):
    """As Python's zipfile writes it: no padding, real sums, its own order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for r in records() if names is None else names:
            z.writestr(zipfile.ZipInfo(r.name), r.data, compression)
        z.comment = comment
    return out.getvalue()


# ---- sound zips of other writers ----

case("good-zipfile.pt", good=SHOWN)(zipped)
case("good-zipfile-deflated.pt", good=SHOWN)(lambda: zipped(zipfile.ZIP_DEFLATED))
case("good-comment.pt", good=SHOWN)(lambda: zipped(comment=b"made by hand"))
case("good-version-first.pt", good=SHOWN)(lambda: zip_file(sorted(records(), key=lambda r: r.name != "archive/version")))
case("good-no-byteorder.pt", good=SHOWN)(archive)
case("good-dead-bytes.pt", good=SHOWN)(lambda: changed("data/1", before=b"\xab" * 1000))
case("good-bytes-in-front.pt", good=SHOWN)(lambda: zip_file([Record("archive/data.pkl", pickle(MODEL), before=b"")] + records()[1:],
                                                             before_directory=b"dead" * 50))
case("good-address-keys.pt", good={"w": F4})(
    lambda: archive(dictionary((text("w"), tensor(storage("Float", "94307853805056", 4), (2, 2)))), [("94307853805056", F4)]))
case("good-info-zip-directories.pt", good=SHOWN)(
    lambda: zip_file([Record("archive/", b"", pad=False), Record("archive/data/", b"", pad=False)] + records()))
case("good-extra-records.pt", good=SHOWN)(lambda: archive(extra=[("notes.txt", b"hello"), (".data/serialization_id", b"0" * 40)]))
case("good-zero-crc.pt", words=["CRC"], good=SHOWN)(lambda: changed("data/0", crc=0))


@case("good-big-endian.pt", good=SHOWN)
def big_endian():
    return archive(storages=[("0", struct.pack(">4f", 1, 2, 3, 4)), ("1", struct.pack(">3q", 7, 8, 9))], byteorder=b"big")


# ---- pickles that Python 3 does not write ----

@case("good-python-2.pt", good={"w": F4, "name": b"caf\xe9"})
def python_2():
    w = tensor(storage("Float", "0", 4, string=py2), (2, 2), form="v1")
    return legacy(dictionary((py2("w"), w), (py2("name"), py2(b"caf\xe9"))), [("0", 4, F4)], string=py2)


@case("good-legacy-view.pt", good={"root": F4, "view": F4[4:12]})
def legacy_view():
    view = storage("Float", "0", 4, extra=[sequence(text("5"), integer(1), integer(2))])
    return legacy(dictionary((text("root"), tensor(storage("Float", "0", 4, extra=[NONE]), (4,))), (text("view"), tensor(view, (2,)))),
                  [("0", 4, F4)])


@case("good-memo-by-put.pt", good={"a": b"x", "b": b"x"})
def memo_by_put():
    return archive(dictionary((text("a"), put(text("x"), 300)), (text("b"), get(300))), [])


@case("good-cycle.pt", good={"n": b"1\n"})
def cycle():
    body = put(b"}", 0) + b"(" + text("n") + integer(1) + text("self") + get(0) + b"u"
    return archive(body, [])


@case("good-hostile-keys.pt", good={"%2E": b"a", "%2E.": b"b", "a%2Fb": b"c", "%": b"d", "nul%00": b"e", "per%25": b"f",
                                    "%2Eweightfs": b"g", "line\nbreak": b"h", "-rf": b"i",
                                    "x" * 245 + "%~" + hashlib.sha256(b"x" * 300).hexdigest()[:8]: b"j"})
def hostile_keys():
    keys = [".", "..", "a/b", "", "nul\0", "per%", ".weightfs", "line\nbreak", "-rf", "x" * 300]
    return archive(dictionary(*[(text(k), text(chr(97 + i))) for i, k in enumerate(keys)]), [])


@case("good-billion-laughs.pt")
def billion_laughs():
    """Lists of ten times the list before: 10^30 values when written out, 31 objects in memory."""
    body = b"]" + b"q\0" + b"("+ text("lol") * 10 + b"e"
    for level in range(1, 30):
        body = b"](" + put(body, level) + get(level) * 9 + b"e"
    return archive(dictionary((text("laughs"), body)), [])


for laugh in laughs.LAUGHS:
    case(f"good-laughs-{laugh.__name__.replace('_', '-')}.pt", walked=True)(lambda laugh=laugh: laughs.make(laugh()))
case("good-laughs-scripts.pt", walked=True)(laughs.make_script)


# ---- one entry is bad, the rest works ----

OTHER = {"v": I3}
case("damaged-record-missing.pt", words=["no record", "0"], bad=["w"], good=OTHER)(lambda: archive(storages=STORAGES[1:]))
case("damaged-record-short.pt", words=["data/0", "12", "16"], bad=["w"], good=OTHER)(
    lambda: archive(storages=[("0", F4[:12]), STORAGES[1]]))
case("damaged-record-long.pt", words=["data/0", "20", "16"], bad=["w"], good=OTHER)(
    lambda: archive(storages=[("0", F4 + b"more"), STORAGES[1]]))
case("damaged-crc.pt", words=["data/0", "CRC"], good=SHOWN)(lambda: changed("data/0", crc=0x12345678))
case("damaged-deflate.pt", words=["data/0"], bad=["w"], good=OTHER)(
    lambda: changed("data/0", data=b"\xff" * 16, method=8, size=16, stored=16, descriptor=False))
case("damaged-deflate-bomb.pt", words=["data/0"], bad=["w"], good=OTHER)(
    lambda: changed("data/0", data=bytes(1 << 26), deflate=True, size=16))
case("damaged-method.pt", words=["data/0"], bad=["w"], good=OTHER)(lambda: changed("data/0", method=99))
case("damaged-encrypted.pt", words=["data/0"], bad=["w"], good=OTHER)(lambda: changed("data/0", flags=0x0809))


def broken(name, words, expression, **options):
    """A tensor that breaks a rule beside one that keeps all."""
    CASES["damaged-" + name] = Case("damaged-" + name,
                                    lambda: archive(dictionary((text("w"), expression), (text("v"), V)), **options), words, ["w"], OTHER)


FLOATS = storage("Float", "0", 4)
broken("view-past-end.pt", ["w: ", "byte 20", "16"], tensor(FLOATS, (2, 2), offset=1))
broken("view-huge.pt", ["w: ", "past any storage"], tensor(FLOATS, (2, 2), offset=2**62))
broken("size-overflow.pt", ["w: ", "multiply past"], tensor(FLOATS, (2**62, 8)))
broken("size-negative.pt", ["w: ", "size", "0 or more"], tensor(FLOATS, (-2, 2), stride=(2, 1)))
broken("stride-negative.pt", ["w: ", "stride"], tensor(FLOATS, (2, 2), stride=(-2, 1)))
broken("stride-overflow.pt", ["w: ", "past any storage"], tensor(FLOATS, (3, 2), stride=(2**62, 1)))
broken("dimensions-differ.pt", ["w: ", "stride", "one for each size"], tensor(FLOATS, (2, 2), stride=(1,)))
broken("numel-negative.pt", ["storage 0", "element count"], tensor(storage("Float", "0", -4), (2, 2)))
broken("numel-overflow.pt", ["storage 0", "larger than any file"], tensor(storage("Double", "0", 2**61), (2, 2)))
broken("storage-class.pt", ["storage 0", "class"], tensor(storage("Quaternion", "0", 4), (2, 2)))


@case("damaged-two-sizes.pt", words=["storage 0"], bad=["a", "b"], good=OTHER)
def two_sizes():
    return archive(dictionary((text("a"), tensor(storage("Float", "0", 4), (4,))), (text("b"), tensor(storage("Float", "0", 2), (2,))),
                              (text("v"), V)))


@case("damaged-overlap.pt", words=["overlap"], bad=["v"])
def overlap():
    """Two records over the same bytes: the directory sends the second into the first."""
    all_records = records()
    for r in all_records:
        if r.name == "archive/data/1":
            r.data, r.at, r.size, r.stored, r.crc = None, "archive/data/0", 24, 24, 1
    return zip_file(all_records)


# ---- broken zips ----

case("bad-truncated.pt", ["truncated"])(lambda: archive()[:-60])
case("bad-half.pt", ["truncated"])(lambda: archive()[:400])
case("bad-duplicate-records.pt", ["data/0"])(lambda: zip_file(records() + [Record("archive/data/0", F4)]))
case("bad-no-version.pt", ["version"])(lambda: archive(version=None))
case("bad-no-pickle.pt", ["data.pkl"])(lambda: zip_file(records()[1:]))
case("bad-directory-outside.pt", ["directory"])(lambda: zip_file(records(), directory_offset=1 << 40))
case("bad-directory-count.pt", ["directory"])(lambda: zip_file(records(), entries=1 << 40))
case("bad-directory-count-small.pt", ["version"])(lambda: zip_file(records(), entries=2))
case("bad-pickle-record-outside.pt", ["data.pkl"])(lambda: changed("data.pkl", at=0xfffffff0))
case("bad-pickle-bomb.pt", ["data.pkl"])(lambda: zip_file([Record("archive/data.pkl", bytes(1 << 27), deflate=True, size=0xfffffff0)] + records()[1:]))


# ---- broken pickles ----

def refused(name, words, body, **options):
    CASES["bad-" + name] = Case("bad-" + name, lambda: zip_file(checkpoint(b"", **options)[1:] + [Record("archive/data.pkl", body() if callable(body) else body)]),
                                ["data.pkl", *words])


P = b"\x80\x02"
refused("empty-pickle.pt", [], b"")
refused("pickle-no-stop.pt", ["offset"], P + b"}")
refused("pickle-cut.pt", ["offset"], pickle(MODEL)[:40])
refused("pickle-opcode.pt", ["offset", "opcode"], P + b"\xff.")
refused("pickle-stack-empty.pt", ["offset"], P + b"R.")
refused("pickle-no-mark.pt", ["offset"], P + b"}u.")
refused("pickle-memo-unset.pt", ["offset", "memo"], P + b"h\x07.")
refused("pickle-memo-bomb.pt", ["offset", "memo"], P + b"}r" + struct.pack("<I", 0xfffffff0) + b".")
refused("pickle-string-outside.pt", ["offset"], P + b"X" + struct.pack("<I", 0x7fffffff) + b"abc.")
refused("pickle-string-utf-8.pt", ["offset"], P + b"X\x02\0\0\0\xff\xfe.")
refused("pickle-long-huge.pt", ["offset"], P + b"\x8b" + struct.pack("<I", 0x7fffffff) + b"\x01.")
refused("pickle-frame.pt", ["offset"], b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.")
refused("pickle-protocol.pt", ["protocol"], b"\x80\x63}.")
refused("pickle-odd-setitems.pt", ["offset"], P + b"}(" + text("a") + b"u.")
refused("pickle-buffer.pt", ["offset"], b"\x80\x05\x97.")
refused("pickle-global-name.pt", ["offset"], P + b"c" + b"m" * 5000 + b"\n")

case("good-pickle-ext.pt")(lambda: archive(dictionary((text("w"), W), (text("e"), b"\x82\x01)R"), (text("f"), b"\x84\x01\0\0\1)R")), STORAGES[:1]))
# as Python's own reader: what is left on the stack does not matter, and what would be made is only told
case("good-pickle-two-objects.pt", good={})(lambda: archive(b"}}", []))
case("good-pickle-inst.pt")(lambda: archive(b"(ios\nsystem\n", []))
case("good-pickle-obj.pt")(lambda: archive(b"(" + glob("os", "system") + b"o", []))
case("good-code.pt", good={"run": b'posix.system("touch /tmp/weightfs-was-here")\n'})(
    lambda: archive(dictionary((text("run"), call(glob("posix", "system"), text("touch /tmp/weightfs-was-here")))), []))


@case("good-deep.pt")
def deep():
    """100,000 lists, each in the one before."""
    return archive(dictionary((text("deep"), b"]" * 100_000 + b"a" * 99_999)), [])


@case("good-deep-dicts.pt")
def deep_dicts():
    return archive(dictionary((text("deep"), b"}" + (text("d") + b"}") * 5_000 + b"s" * 5_000)), [])


# ---- the legacy stream ----

LEGACY = dictionary((text("w"), tensor(storage("Float", "0", 4), (2, 2))))
case("bad-legacy-cut.pt", ["storage"])(lambda: legacy(LEGACY, [("0", 4, F4)])[:-9])
case("bad-legacy-count.pt", ["storage"])(lambda: legacy(LEGACY, [("0", 1 << 60, F4)]))
case("bad-legacy-keys.pt", ["key"])(lambda: legacy(LEGACY, [("0", 4, F4)], keys=["0", "9"]))
case("unsupported-legacy-version.pt", ["version"])(lambda: legacy(LEGACY, [("0", 4, F4)], version=9))


# ---- other programs' files ----

def look_alike(name, words, content):
    CASES["bad-" + name] = Case("bad-" + name, lambda: content() if callable(content) else content, words)


look_alike("empty.pt", ["empty"], b"")
look_alike("html.pt", ["HTML"], b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n")
look_alike("git-lfs.pt", ["git-lfs", "pointer"], b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n")
look_alike("gguf.pt", ["GGUF"], b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
look_alike("7z.pt", ["7z"], b"7z\xbc\xaf\x27\x1c\0\4" + bytes(32))
look_alike("gzip.pt", ["gzip"], lambda: zlib.compress(b"x", wbits=31))
look_alike("zip-of-checkpoint.pt", ["zip"], lambda: zip_file([Record("model.pth", archive(), pad=False)]))
look_alike("text.pt", [], b"hello world, this is no checkpoint\n")
look_alike("zeroes.pt", [], bytes(4096))
look_alike("json.pt", ["JSON"], b'{"model_type": "bert"}\n')
look_alike("npy.pt", ["NumPy"], b"\x93NUMPY\x01\0" + struct.pack("<H", 54) + b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}\n" + F4)
look_alike("hdf5.pt", ["HDF5"], b"\x89HDF\r\n\x1a\n" + bytes(64))


# ---- safetensors ----

def safetensors(json, data=F4, length=None):
    json = json.encode()
    return struct.pack("<Q", len(json) if length is None else length) + json + data


ONE = '"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
case("good-safetensors.pt", good={"w": F4})(lambda: safetensors('{"__metadata__":{"format":"pt"},%s}' % ONE))
case("bad-safetensors-cut.safetensors", ["truncated"])(lambda: safetensors("{%s}" % ONE)[:-1])
case("bad-safetensors-behind.safetensors", ["1 bytes", "no tensor"])(lambda: safetensors("{%s}" % ONE, F4 + b"x"))
case("bad-safetensors-twice.safetensors", ["w", "two tensors"])(lambda: safetensors("{%s,%s}" % (ONE, ONE.replace("0,16", "16,32")), F4 + F4))
case("bad-safetensors-dtype.safetensors", ["F99"])(lambda: safetensors("{%s}" % ONE.replace("F32", "F99")))
case("bad-safetensors-length.safetensors", ["header", "100000000"])(lambda: safetensors("{%s}" % ONE, length=100000001))
case("unsupported-safetensors-f6.safetensors", ["F6_E2M3"])(lambda: safetensors('{"w":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}', b"abc"))


# ---- plain pickles ----

case("good-plain-pickle.pt", good={"a": b"1\n"})(lambda: pickle(dictionary((text("a"), integer(1)))))
case("good-plain-pickle-followed.pt", good={"a": b"1\n"})(lambda: pickle(dictionary((text("a"), integer(1)))) * 2 + b"and more")
case("good-plain-pickle-0.pt", good={"a": b"1\n", "text": "x\u20ac\n".encode()})(lambda: b"(dp0\nVa\np1\nI1\nsVtext\np2\nVx\\u20ac\\u000a\np3\ns.")
case("good-plain-pickle-1.pt", good={"a": b"1\n"})(lambda: b"}q\0" + text("a") + b"q\1K\1s.")
case("bad-plain-pickle-cut.pt", ["truncated", "pickle"])(lambda: pickle(dictionary((text("a"), integer(1))))[:-3])
case("bad-plain-pickle-damaged.pt", ["damaged", "pickle"])(lambda: P + b"}" + text("a") + b"\xff.")


def numpy_array(data, shape=(4,), form="f4"):
    """An ndarray as NumPy pickles it; data is the expression for its bytes."""
    zero, minus = integer(0), b"J\xff\xff\xff\xff"
    state = b"(" + integer(3) + text("<") + NONE * 3 + minus * 2 + zero + b"t"
    return (call(glob("numpy.core.multiarray", "_reconstruct"), glob("numpy", "ndarray"), sequence(zero), py2("b")) + b"(" + integer(1) +
            sequence(*map(integer, shape)) + call(glob("numpy", "dtype"), text(form), FALSE, TRUE) + state + b"b" + FALSE + data + b"tb")


case("good-plain-pickle-python2.pt", good={"w": F4})(lambda: pickle(dictionary((py2("w"), numpy_array(py2(F4.decode("latin1")))))))
case("good-plain-pickle-latin1.pt", good={"w": F4})(
    lambda: pickle(dictionary((text("w"), numpy_array(call(glob("_codecs", "encode"), text(F4.decode("latin1")), text("latin1")))))))
case("bad-plain-pickle-ids.pt", ["data.pkl", "archive"])(lambda: pickle(dictionary((text("w"), W))))


# ---- constants of TorchScript, in a pickle of their own ----

SCRIPT_CODE = (b"class M(Module):\n  __parameters__ = [\"w\", ]\n  __buffers__ = []\n  w : Tensor\n"
               b"  def forward(self, x):\n    return torch.add(x, CONSTANTS.c0)\n")
CONSTANT, SECOND = tensor(storage("Float", "0", 2), (2,)), tensor(storage("Long", "1", 1), (1,))
C0, C1 = struct.pack("<2f", 5, 6), struct.pack("<q", 7)
SCRIPT = glob("__torch__", "M") + b")\x81" + dictionary((text("w"), W)) + b"b"
BOTH = {"w": F4, "constants/0": C0, "constants/1": C1}


def script(constants, root=SCRIPT, records=(("0", C0), ("1", C1)), extra=(), names=("w",)):
    """constants: the bytes of constants.pkl, None for none. names: the module's parameters."""
    code = SCRIPT_CODE.replace(b'"w", ', b"".join(b'"%s", ' % n.encode() for n in names))
    more = [("code/__torch__.py", code), *((f"constants/{key}", data) for key, data in records), *extra]
    return zip_file(checkpoint(root, [("0", F4)], extra=more + ([("constants.pkl", constants)] if constants is not None else [])))


def constants_of(*items):
    return pickle(b"(" + b"".join(items) + b"t")


def script_case(name, good, constants, words=(), bad=(), **options):
    case(name + ".pt", words=words, bad=bad, good=good)(lambda: script(constants, **options))


script_case("good-constants", BOTH, constants_of(CONSTANT, SECOND))
script_case("good-constants-list", BOTH, pickle(array(CONSTANT, SECOND)))
script_case("good-constants-texts", {"w": F4, "constants/0": b"a"}, constants_of(text("a")), records=())
script_case("good-constants-others", {"w": F4, "constants/0": b"[1]\n", "constants/1/a": C0, "constants/2": b"null\n"},
            constants_of(array(integer(1)), dictionary((text("a"), CONSTANT)), NONE))
script_case("good-constants-name", {"constants": F4, "constants~2/0": C0}, constants_of(CONSTANT),
            root=glob("__torch__", "M") + b")\x81" + dictionary((text("constants"), W)) + b"b", names=["constants"])
script_case("good-constants-value", {"value": b"5\n", "constants/0": C0}, constants_of(CONSTANT), root=integer(5))
script_case("good-constants-beside-a-mapping", {"a": b"1\n"}, constants_of(CONSTANT), root=dictionary((text("a"), integer(1))))
script_case("good-constants-twice-named", {"w": F4, "constants/0": C0, "constants/1": C0}, constants_of(put(CONSTANT, 9), get(9)))
script_case("good-constants-bytecode", BOTH, constants_of(CONSTANT, SECOND), extra=[("bytecode.pkl", constants_of(
    integer(9), tensor(storage("Float", "0", 2), (2,)), tensor(storage("Float", "7", 1), (1,)))), ("bytecode/7", b"1234")])
script_case("good-constants-none", {"w": F4}, pickle(b")"), records=())
case("good-constants-nest.pt", walked=True)(lambda: script(pickle(b"](" + b"](" * 3000 + CONSTANT + b"e" * 3000 + b"e")))
case("good-constants-cycle.pt", walked=True)(lambda: script(pickle(b"]" + put(b"", 9)[-2:] + b"(" + get(9) + CONSTANT + b"e")))
case("good-constants-many.pt", walked=True)(lambda: script(constants_of(put(CONSTANT, 9), get(9) * 5000)))
script_case("damaged-constants-missing", {"w": F4}, None, ["constants.pkl", "missing"])
script_case("damaged-constants-empty", {"w": F4}, b"", ["constants.pkl", "STOP"])
script_case("damaged-constants-cut", {"w": F4}, constants_of(CONSTANT, SECOND)[:-9], ["constants.pkl", "ends"])
script_case("damaged-constants-dict", {"w": F4}, pickle(dictionary((text("a"), CONSTANT))), ["constants.pkl", "no tuple"])
script_case("damaged-constants-none", {"w": F4}, pickle(NONE), ["constants.pkl", "no tuple"])
script_case("damaged-constants-id", {"w": F4}, constants_of(integer(5) + b"Q"), ["constants.pkl", "persistent id"])
script_case("damaged-constants-int-key", {"w": F4}, constants_of(CONSTANT.replace(text("0"), integer(0))), ["constants.pkl", "key"])
script_case("damaged-constants-long-key", {"w": F4}, constants_of(CONSTANT.replace(text("0"), text("0" * 300))), ["constants.pkl", "key"])
script_case("damaged-constants-record", {"w": F4, "constants/1": C1}, constants_of(CONSTANT, SECOND), ["constants/0", "no record"], ["constants/0"],
            records=[("1", C1)])
script_case("damaged-constants-short", {"w": F4, "constants/1": C1}, constants_of(CONSTANT, SECOND), ["constants/0", "4", "8"], ["constants/0"],
            records=[("0", C0[:4]), ("1", C1)])
script_case("damaged-constants-path", {"w": F4}, constants_of(CONSTANT.replace(text("0"), text("../data/0"))), ["no record"], ["constants/0"])
script_case("damaged-constants-two-sizes", {"w": F4}, constants_of(CONSTANT, tensor(storage("Float", "0", 1), (1,))), ["constants/0"],
            ["constants/0", "constants/1"])
script_case("damaged-bytecode", BOTH, constants_of(CONSTANT, SECOND), ["bytecode.pkl", "STOP"], extra=[("bytecode.pkl", b"\x80\x02(")])
script_case("bad-constants-key-of-data", None, constants_of(CONSTANT), ["data.pkl", "key of a constant"],
            root=SCRIPT.replace(text("0"), text("constants/0")))
script_case("bad-constants-record-twice", None, constants_of(CONSTANT), ["constants/0", "two records"], records=[("0", C0), ("0", C0)])


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    for name, one in CASES.items():
        if len(sys.argv) < 3 or name in sys.argv[2:]:
            with open(os.path.join(out, name), "wb") as f:
                f.write(one.make())


if __name__ == "__main__":
    main()
