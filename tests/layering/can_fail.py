#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each check of checks.py finds the fault that it is there for, and is silent without it. Prints TAP."""
import os
import subprocess
import sys
import tempfile

import checks
import rules
import tree

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tap import done, ok  # noqa: E402



def finds(faults, word, what):
    ok(len(faults) == 1 and word in faults[0], what, faults)


def silent(faults, what):
    ok(not faults, what, faults)


def write(top, files):
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
        with open(os.path.join(top, path), "w", encoding="utf-8") as f:
            f.write(text)


def objects(top, files):
    write(top, files)
    made = []
    for path in files:
        made.append(os.path.join(top, path[:-2] + ".o"))
        subprocess.run(["cc", "-c", "-o", made[-1], os.path.join(top, path)], check=True)
    return made


INCLUDES = [  # file, header, a word of the fault or None
    ("codec/pickle/read.c", "codec/object/object.h", None),
    ("codec/pickle/read.c", "codec/pickle/inner.h", None),
    ("codec/checkpoint.c", "codec/commit/commit.h", None),
    ("codec/pickle/read.c", "codec/container/container.h", "level 2 uses level 3"),
    ("codec/value/text.c", "codec/placement/placement.h", "level 5 uses level 5"),
    ("codec/bytes/io.c", "codec/checkpoint.h", "level 0 uses level 10"),
    ("codec/commit/commit.c", "codec/edit/inner.h", "inner.h belongs to its folder"),
    ("codec/odd/thing.c", "codec/bytes/err.h", "on no level"),
    ("codec/placement/load.c", "devices/device.h", None),
    ("codec/placement/load.c", "devices/cuda_ring.h", "devices/device.h alone"),
    ("codec/share.c", "fs/fs.h", "outwards"),
    ("devices/cuda.c", "codec/bytes/err.h", "outwards"),
    ("fs/control.c", "codec/checkpoint.h", None),
    ("fs/control.c", "codec/bytes/buffer.h", None),
    ("fs/control.c", "codec/tree/tree.h", "door alone"),
    ("fs/main.c", "devices/cuda.h", None),
    ("fs/wfctl/ls.c", "fs/wfctl/rows.h", None),
    ("fs/wfctl/fail.c", "fs/say.h", None),
    ("fs/wfctl/ls.c", "fs/fs.h", "a program of its own"),
    ("fs/control.c", "fs/wfctl/rows.h", "a program of its own"),
]
for source, target, word in INCLUDES:
    faults = checks.include_faults([(source, target)])
    if word:
        finds(faults, word, f"{source} includes {target}")
    else:
        silent(faults, f"{source} may include {target}")

BROUGHT = [("codec/checkpoint.h", header) for header in sorted(checks.rules.DOOR)]
silent(checks.door_faults(BROUGHT), "the door brings what fs/ may see")
finds(checks.door_faults(BROUGHT[:-2]), "does not bring", "a header that fs/ may see and the door does not bring is found")

silent(checks.call_faults({"codec/edit/names": {"codec/edit/places", "codec/tree/tree"}, "codec/checkpoint": {"codec/edit/life"}}),
       "calls of lower folders, and of one's own, are no fault")
finds(checks.call_faults({"codec/edit/names": {"codec/checkpoint"}}), "level 7 uses level 10", "a call of the door from below is found")

with tempfile.TemporaryDirectory() as top:
    write(top, {"codec/a.h": "", "codec/a.c": '#include "a.h"\n#include "codec/b.h"\n', "codec/b.h": "", "codec/b.c": '#include "b.h"\n'})
    pairs = tree.includes(top, tree.sources(top, "codec"))
    ok(("codec/a.c", "codec/b.h") in pairs and ("codec/a.c", "codec/a.h") in pairs, "includes are found, beside the file and from the root", pairs)
    silent(checks.circle_faults(tree.file_graph(pairs)), "a.c above b.c is no circle")
    write(top, {"codec/a.h": '#include "b.h"\n', "codec/b.h": '#include "a.h"\n'})
    graph = tree.file_graph(tree.includes(top, tree.sources(top, "codec")))
    finds(checks.circle_faults(graph), "codec/a.h, codec/b.h", "a.h and b.h that include each other are one")

chain = {f"u{i}": {f"u{i + 1}"} for i in range(50)} | {"u50": set()}
ok(tree.storeys(chain)["u0"] == 51, "a chain of 51 units has 51 storeys", tree.storeys(chain)["u0"])

with tempfile.TemporaryDirectory() as top:
    made = objects(top, {"codec/low.c": "int low(void) { return 1; }\n", "codec/high.c": "int low(void); int high(void) { return low(); }\n",
                         "fs/main.c": "int high(void); int main(void) { return high(); }\n", "tests/t.c": "int low(void); int t(void) { return low(); }\n"})
    defined, needed = tree.symbols(made)
    product = set(made[:3])
    silent(checks.circle_faults(tree.object_graph(defined, needed)), "objects in order have no loop")
    silent(checks.unused_exports(defined, needed, product), "every export is used")
with tempfile.TemporaryDirectory() as top:
    made = objects(top, {"codec/low.c": "int high(void); int low(void) { return high(); } int extra(void) { return 0; } int probe(void) { return 0; }\n",
                         "codec/high.c": "int low(void); int high(void) { return low(); }\n",
                         "tests/t.c": "int probe(void); int main(void) { return probe(); }\n"})
    defined, needed = tree.symbols(made)
    product = set(made[:2])
    finds(checks.circle_faults(tree.object_graph(defined, needed)), "high.o", "two objects that need each other are a loop")
    faults = checks.unused_exports(defined, needed, product)
    ok(len(faults) == 2 and "extra" in faults[0] and "probe" in faults[1], "an export that nobody uses, and one that tests use alone", faults)
    finds(checks.unused_exports(defined, needed, product, {"probe"}), "extra", "a known one is passed over")
    finds(checks.unused_exports(defined, needed, product, {"probe", "extra", "high"}), "high need not", "what is used need not be known")
    loop = tree.object_graph(defined, needed)
    silent(checks.circle_faults(loop, [set(made[:2])]), "a known loop is passed over")
    finds(checks.circle_faults(loop, [{made[0]}]), "high.o", "a known loop that grows is found")
with tempfile.TemporaryDirectory() as top:
    made = objects(top, {"codec/a.c": "int fuse_reply(void); int a(void) { return fuse_reply(); }\n",
                         "devices/b.c": "int wf_read(void); int b(void) { return wf_read(); }\n"})
    faults = checks.foreign_faults(tree.symbols(made)[1], made)
    ok(len(faults) == 2, "a call of FUSE from the codec, and one of the codec from devices/, are found", faults)

LINKED = {"fs/wfctl": ["libzip.so.4", "libfuse3.so.3"], "fs/weightfs": ["libfuse3.so.3"]}
finds(checks.linked_faults(LINKED, {"fs/wfctl": ("fuse",)}), "libfuse3", "a program that is linked with what it can do without")
ok("libc.so.6" in checks.libraries_of(sys.executable), "the libraries of a program are found", checks.libraries_of(sys.executable))

finds(checks.twice_defined({"a.c": "struct frame {\n};\n", "b.c": "struct frame {\n};\n"}), "struct frame", "a tag that two files define")
silent(checks.twice_defined({"a.c": "struct frame {\n};\n", "b.c": "struct frame;\nstruct other {\n};\n"}), "a forward declaration is none")

long = "int f(void)\n{\n" + "\t;\n" * rules.FUNCTION_LINES + "}\n"
finds(checks.size_faults({"a.c": long}), "f has", "a function that is too long")
silent(checks.size_faults({"a.c": long}, {"f": rules.FUNCTION_LINES + 2}), "a known one is passed over")
finds(checks.size_faults({"a.c": long}, {"f": rules.FUNCTION_LINES}), "f has", "unless it grows")
finds(checks.size_faults({"a.h": "\n" * (rules.FILE_LINES + 1)}), "a.h", "a file that is too long")
silent(checks.size_faults({"a.c": "int f(void)\n{\n" + "\t;\n" * (rules.FUNCTION_LINES - 2) + "}\n"}), "a function of the greatest length")

with tempfile.TemporaryDirectory() as top:
    write(top, {"codec/good.h": "#include <stddef.h>\nsize_t f(void);\n", "codec/bad.h": "size_t f(void);\n"})
    silent(checks.alone_faults(top, ["codec/good.h"]), "a header that brings what it needs compiles alone")
    finds(checks.alone_faults(top, ["codec/bad.h"]), "codec/bad.h", "one that does not is found")

done()
