#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An overlay with every record of the log in it, byte by byte, for tests/unit/test-overlay-replay.c.

    generate.py DIRECTORY          writes model.pt, log.v1, log.v2, log.v3 and data.N there
    generate.py --check DIRECTORY  TAP: whether what is there is what this makes

What it makes is kept in this folder: it stands for the files of users. So the numbers are written out here, and nothing is taken from the
sources of the program. To a record that is new, a case is added at the end; what is here stays. Standard library only.
"""
import os
import struct
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "files"))
from craft import (array, call, checkpoint, dictionary, glob, integer, ints, ordered, pickle, real, sequence, storage, tensor, text,  # noqa: E402
                   FALSE, zip_file)

MTIME = 1700000000, 123456789  # of model.pt: what a log of version 1 knows it by

NUMBERS = dict(RENAME=1, UNLINK=2, RMDIR=3, MKDIR=4, CREATE=5, LINK=6, SYMLINK=7, BIND=8, WRITE=9, RESIZE=10, HOLD=11, SETTLE=12, VALUE=13,
               ATTRIBUTE=14, COMPACT=15, SCRATCH=16, PIECE=17, OBJECT=18, SET=19, DECLARE=20, HEIR=21, SYMLINK_TO=22, KNOWN=23, TOUCH=40, FAILURE=41)
SWITCH, WRITE_BACK, ABANDON, RESTORE = 0, 1, 2, 3
IN_PLACE, FIRST, SIZED = 1, 2, 4
NEW, JUDGED, STANDS_IN, DECLARED, CAME_TRUE, KNOWN_FIRST = 1, 2, 4, 8, 16, 32
PLACE, SET_FIRST, SET_BACK = 1, 2, 4
FLOAT32, FLOAT64, INT32, INT16, UINT8, BFLOAT16 = 1, 2, 6, 7, 9, 4
EXCHANGE = 2


def model():
    return zip_file(checkpoint(ordered(
        (text("a"), tensor(storage("Float", "0", 4), (2, 2))), (text("b"), tensor(storage("Float", "1", 4), (4,))),
        (text("c"), tensor(storage("Int", "2", 2), (2,))), (text("n"), integer(10)), (text("s"), text("text")), (text("lr"), real(0.5)),
        (text("d"), dictionary((text("x"), tensor(storage("Byte", "3", 4), (4,))), (text("y"), integer(1)))),
        (text("e"), dictionary((text("z"), tensor(storage("Byte", "3", 4), (4,))))),
        (text("l"), array(tensor(storage("Float", "4", 2), (2,)), tensor(storage("Float", "0", 4), (4,)), integer(8))),
        (text("g"), integer(1)), (text("v"), integer(3))),
        [("0", struct.pack("<4f", 1, 2, 3, 4)), ("1", struct.pack("<4f", 5, 6, 7, 8)), ("2", struct.pack("<2i", -1, 9)), ("3", b"wxyz"),
         ("4", struct.pack("<2f", 0.25, 0.5))], byteorder=b"little"))


# ---- records ----

def string(s):
    raw = s.encode()
    return struct.pack("<I", len(raw)) + raw


def u8(*values):
    return bytes(values)


def u32(n):
    return struct.pack("<I", n)


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def logged(number, cls, numel):
    """A tensor over a data file, as SET and OBJECT have it."""
    where = sequence(text("data file"), glob("torch", cls + "Storage"), integer(number), text("cpu"), integer(numel)) + b"Q"
    return call(glob("torch._utils", "_rebuild_tensor_v2"), where, integer(0), ints([numel]), ints([1]), FALSE, ordered())


def records():
    """[(name, payload, whether a commit writes it)], how many of them a log of version 1 or 2 has, and {number: bytes of its data file}."""
    made, data = [], {}

    def record(name, payload=b"", pending=True):
        made.append((name, payload, pending))

    def write(number, raw, at=0, pending=True):
        old = data.get(number, b"")
        data[number] = old[:at].ljust(at, b"\0") + raw + old[at + len(raw):]
        record("WRITE", u32(number) + u64(at, len(raw)), pending)

    def settle(path, how, dtype, shape, pending=True):
        record("SETTLE", string(path) + u8(how, dtype, len(shape)) + struct.pack(f"<{len(shape)}q", *shape), pending)

    # what a commit before left of scratch entries
    record("SCRATCH", pending=False)
    object_pickle = pickle(logged(0, "Byte", 8))
    record("PIECE", u64(0) + object_pickle[:20], False)
    record("PIECE", u64(20) + object_pickle[20:50], False)
    record("OBJECT", string(".bin.swp") + u64(50) + object_pickle[50:], False)
    write(0, b"scratch!", pending=False)
    record("SYMLINK_TO", string("lnk~") + string("/etc/x"), False)
    # names
    record("TOUCH", string("b") + string("float32 [4], stride [1], offset 0 of 16 bytes"), False)
    record("RENAME", u32(0) + string("b") + string("bb"))
    record("UNLINK", string("s"))
    record("UNLINK", string("e/z"))
    record("RMDIR", string("e"))
    record("MKDIR", string("m"))
    record("LINK", string("a") + string("tie"))
    record("SYMLINK", string("d/") + string("again"))
    record("RENAME", u32(EXCHANGE) + string("n") + string("d/y"))
    # bytes
    record("BIND", string("d/x") + u32(1))
    write(1, b"ab", 1)
    # content: a new file; one that attributes had been set on before; another length; what was given up, twice
    record("CREATE", string("new") + u32(2))
    record("HOLD", string("new") + u32(2) + u8(IN_PLACE | FIRST))
    write(2, struct.pack("<3h", 1, 2, -3))
    settle("new", SWITCH, INT16, [3])
    record("CREATE", string("m/said") + u32(3))
    record("DECLARE", string("m/said") + string("user.torch.dtype") + string("float64"))
    record("DECLARE", string("m/said") + string("user.torch.shape") + string("[1, 2]"))
    record("HOLD", string("m/said") + u32(3) + u8(IN_PLACE | FIRST))
    write(3, struct.pack("<2d", 1.5, -2.5))
    settle("m/said", SWITCH, FLOAT64, [1, 2])
    record("HOLD", string("bb") + u32(4) + u8(FIRST))
    write(4, struct.pack("<5f", 10, 11, 12, 13, 14))
    record("RESIZE", u32(4) + u64(24))
    settle("bb", SWITCH, FLOAT32, [6])
    record("HOLD", string("c") + u32(5) + u8(FIRST))
    write(5, b"no")
    settle("c", ABANDON, UINT8, [])
    record("HOLD", string("c") + u32(6) + u8(FIRST | SIZED))
    write(6, struct.pack("<i", 77))
    settle("c", SWITCH, INT32, [1])
    settle("c", RESTORE, UINT8, [])
    # values, the last one by way of a file that was renamed over it
    record("VALUE", string("v") + string("42"))
    record("SET", string("g") + u8(0) + pickle(real(2.5)))
    record("CREATE", string(".lr.swp") + u32(7), False)
    record("HOLD", string(".lr.swp") + u32(7) + u8(IN_PLACE | FIRST), False)
    write(7, b"0.125\n", pending=False)
    record("SET", string(".lr.swp") + u8(0) + pickle(real(0.125)), False)
    record("HEIR", u32(0) + string(".lr.swp") + string("lr"))
    record("CREATE", string("typed") + u32(8))
    write(8, b"\x80\x3f\x00\x40")
    record("SET", string("typed") + u8(1) + pickle(logged(8, "BFloat16", 2)))
    record("ATTRIBUTE", string("tie") + string("user.torch.shape") + string("[4]"))
    record("UNLINK", string("l/0"))
    record("COMPACT", pending=False)
    record("FAILURE", struct.pack("<q", 1700000001) + b"no space left", False)
    before_version_3 = len(made)
    # an int that was declared and came true, and then was given a point: it is a float, and takes nothing but numbers
    record("CREATE", string("told") + u32(9))
    record("DECLARE", string("told") + string("user.torch.class") + string("int"))
    record("HOLD", string("told") + u32(9) + u8(IN_PLACE | FIRST))
    write(9, b"7\n")
    record("SET", string("told") + u8(0) + pickle(integer(7)))
    record("KNOWN", string("told") + u8(NEW | JUDGED | DECLARED | CAME_TRUE), False)
    settle("told", ABANDON, UINT8, [])
    record("SET", string("told") + u8(0) + pickle(real(0.5)))
    # what was declared of earlier content counts no more
    record("DECLARE", string("told") + string("user.torch.shape") + string("[3]"))
    record("KNOWN", string("told") + u8(NEW | JUDGED), False)
    record("DECLARE", string("told") + string("user.torch.class") + string("float"))
    record("KNOWN", string("told") + u8(NEW | JUDGED | DECLARED | CAME_TRUE), False)
    # what comes back is what stood before the SET, or the ATTRIBUTE, that says so
    record("CREATE", string("back") + u32(10))
    write(10, b"\x05\0\x06\0")
    record("SET", string("back") + u8(0) + pickle(logged(10, "Short", 2)))
    record("KNOWN", string("back") + u8(NEW | JUDGED | KNOWN_FIRST), False)
    record("ATTRIBUTE", string("back") + string("user.torch.shape") + string("[1, 2]"))
    settle("back", RESTORE, UINT8, [])
    record("SET", string("back") + u8(SET_FIRST) + pickle(integer(1)))
    settle("back", RESTORE, UINT8, [])
    # and not what was written meanwhile
    record("CREATE", string("typed text") + u32(11))
    record("HOLD", string("typed text") + u32(11) + u8(IN_PLACE | FIRST))
    write(11, b"1e1\n")
    record("SET", string("typed text") + u8(0) + pickle(real(10.0)))
    settle("typed text", ABANDON, UINT8, [])
    record("HOLD", string("typed text") + u32(12) + u8(FIRST))
    write(12, b"1e2\nx")
    record("SET", string("typed text") + u8(0) + pickle(real(100.0)))
    record("SET", string("typed text") + u8(SET_BACK) + pickle(real(10.0)))
    assert {name for name, _, _ in made} == set(NUMBERS), "every record"
    return made, before_version_3, data


# ---- files ----

def content_crc(file):
    """As contrib/docs/overlay-format.md tells it, of a zip that ends in its directory."""
    size, start = struct.unpack("<II", file[-10:-2])
    crc = zlib.crc32(file[start:start + size])
    for i in range(64):
        at = len(file) // 64 * i
        crc = zlib.crc32(file[at:at + 4096], crc)
    return crc


def log(file, version, made):
    edges = zlib.crc32(file)  # of a file that is not longer than 64 KiB
    known = (1, content_crc(file)) if version >= 2 else (0, 0)
    header = b"weightfs edits\r\n" + struct.pack("<IIQQQqqIIII12x", version, 96, 11, 22, len(file), *MTIME, edges, 1, *known)
    out = header + struct.pack("<I", zlib.crc32(header))
    for sequence_number, (name, payload, pending) in enumerate(made, 1):
        body = struct.pack("<QBBH", sequence_number, NUMBERS[name], int(pending), 0) + payload
        out += struct.pack("<II", len(payload), zlib.crc32(body)) + body
    return out


def files():
    file = model()
    made, before_version_3, data = records()
    old = made[:before_version_3]
    assert len(file) <= 65536
    return {"model.pt": file, "log.v1": log(file, 1, old), "log.v2": log(file, 2, old), "log.v3": log(file, 3, made),
            **{f"data.{n}": raw for n, raw in data.items()}}


def main():
    check, folder = sys.argv[1] == "--check", sys.argv[-1]
    if check:
        print(f"1..{len(files())}")
    failed = False
    for n, (name, raw) in enumerate(files().items(), 1):
        path = os.path.join(folder, name)
        if not check:
            with open(path, "wb") as f:
                f.write(raw)
            continue
        with open(path, "rb") as f:
            good = f.read() == raw
        failed |= not good
        print(f"{'' if good else 'not '}ok {n} - {name} is what the generator makes")
    sys.exit(failed)


if __name__ == "__main__":
    main()
