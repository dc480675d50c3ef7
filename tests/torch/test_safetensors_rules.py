#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a safetensors file may be: for each rule of the format a file that keeps it or breaks it, and the library says which.

Usage: test_safetensors_rules.py BUILD_DIRECTORY. Prints TAP.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

from safetensors import deserialize

WFCTL = os.path.join(sys.argv[1], "fs", "wfctl")
WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "I16": 2, "U16": 2, "F16": 2,
          "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8}
# torch has none of these, so that a mount could not say what they are
NOT_OF_TORCH = {"six bits", "six bits, e3m2"}


def file(text, data=0, length=None):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def head(*tensors, metadata=""):
    """(name, dtype, shape, begin, end) each; shape as JSON."""
    parts = [f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}' for name, dtype, shape, begin, end in tensors]
    return "{" + ",".join(([f'"__metadata__":{metadata}'] if metadata else []) + parts) + "}"


ONE = head(("t", "I32", "[2,2]", 0, 16))
FILES = {
    "one tensor": file(ONE, 16), "no tensors": file("{}"), "nothing at all": b"", "three bytes": bytes(3),
    "more head than file": file(ONE, 16, length=60000), "more head than any file": file("{}", length=1 << 60), "no UTF-8": file(b'{"\xff":1}'),
    "a list": file("[]"), "no JSON": file("{"), "a space before": file(" " + ONE, 16), "spaces behind": file(ONE + "   ", 16),
    "bytes are missing": file(ONE, 8), "bytes are left": file(ONE, 20), "no elements": file(head(("t", "I32", "[2,0]", 0, 0))),
    "a scalar": file(head(("t", "I32", "[]", 0, 4)), 4), "fewer bytes than the shape": file(head(("t", "I32", "[2,2]", 0, 12)), 12),
    "a product past 2^64": file(head(("t", "I32", "[2,18446744073709551614]", 0, 16)), 16),
    "bytes past 2^64": file(head(("t", "I32", "[2,9223372036854775807]", 0, 16)), 16),
    "a hole": file(head(("a", "I32", "[2,2]", 0, 16), ("b", "I32", "[2,2]", 20, 36)), 36),
    "two tensors in one place": file(head(("a", "I32", "[2,2]", 0, 16), ("b", "I32", "[2,2]", 0, 16)), 16),
    "ten tensors in one place": file(head(*((f"w{i}", "F32", "[2,2]", 0, 16) for i in range(10))), 16),
    "an end before its begin": file(head(("t", "I32", "[]", 4, 0)), 4), "a begin that is not 0": file(head(("t", "I32", "[]", 4, 8)), 8),
    "another order than that of the bytes": file(head(("b", "U8", "[2]", 2, 4), ("a", "U8", "[2]", 0, 2)), 4),
    "no such dtype": file(head(("t", "I33", "[]", 0, 4)), 4), "no dtype": file('{"t":{"shape":[],"data_offsets":[0,4]}}', 4),
    "a member more": file('{"t":{"dtype":"I32","shape":[],"data_offsets":[0,4],"x":1}}', 4), "a negative size": file(head(("t", "I32", "[-1]", 0, 4)), 4),
    "a size with a point": file(head(("t", "I32", "[1.0]", 0, 4)), 4), "metadata": file(head(("t", "I32", "[]", 0, 4), metadata='{"a":"b"}'), 4),
    "metadata of numbers": file(head(("t", "I32", "[]", 0, 4), metadata='{"a":1}'), 4),
    "metadata of null": file(head(("t", "I32", "[]", 0, 4), metadata="null"), 4),
    "four bits": file(head(("t", "F4", "[1,2]", 0, 1)), 1), "four bits, half a byte": file(head(("t", "F4", "[1,3]", 0, 1)), 1),
    "six bits": file(head(("t", "F6_E2M3", "[4]", 0, 3)), 3), "six bits, e3m2": file(head(("t", "F6_E3M2", "[4]", 0, 3)), 3),
    "six bits, part of a byte": file(head(("t", "F6_E3M2", "[3]", 0, 3)), 3),
    **{f"dtype {name}": file(head(("t", name, "[3]", 0, 3 * width)), 3 * width) for name, width in WIDTHS.items()}}


def reference(content):
    try:
        return {name: (entry["dtype"], entry["shape"]) for name, entry in deserialize(content)}, ""
    except Exception as e:  # the library's own kind, which it does not always export
        return None, str(e)


count = 0


def ok(passed, what, *notes):
    global count
    count += 1
    print(f"{'' if passed else 'not '}ok {count} - {what}", flush=True)
    for note in () if passed else notes:
        print("#  ", ascii(note)[:600])


with tempfile.TemporaryDirectory(prefix="weightfs-rules-") as folder:
    path = os.path.join(folder, "t.safetensors")
    for what, content in FILES.items():
        with open(path, "wb") as f:
            f.write(content)
        wanted, why = reference(content)
        verify = subprocess.run([WFCTL, "verify", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if wanted is not None and what not in NOT_OF_TORCH:
            listed = subprocess.run([WFCTL, "ls", "--json", path], stdout=subprocess.PIPE, text=True).stdout.splitlines()
            ok(verify.returncode == 0 and {json.loads(line)["key"] for line in listed} == set(wanted), f"{what}: read", verify, listed)
        else:
            ok(verify.returncode == 1 and verify.stderr.count("\n") == 1 and "Traceback" not in verify.stderr, f"{what}: refused in one line", verify, why)
print(f"1..{count}")
