#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The files of the tree have the form that .editorconfig and contrib/format say.

Usage: habits.py SOURCE_DIR. Prints TAP.
"""
import fnmatch
import importlib.machinery
import importlib.util
import os
import re
import sys

from tap import done, ok

sys.dont_write_bytecode = True
source = os.path.realpath(sys.argv[1])
path = os.path.join(source, "contrib/format")
loader = importlib.machinery.SourceFileLoader("formatting", path)
formatting = importlib.util.module_from_spec(importlib.util.spec_from_loader("formatting", loader))
loader.exec_module(formatting)
TEXT = formatting.C + formatting.ROFF + (".py", ".sh", ".bash", ".md", ".build", "meson_options.txt", "LICENSE")


def alternatives(pattern):
    """*.{c,h} as *.c and *.h."""
    group = re.search(r"\{([^{}]*)\}", pattern)
    return [pattern] if not group else [p for one in group[1].split(",") for p in alternatives(pattern[:group.start()] + one + pattern[group.end():])]


def rules_for(name, sections):
    """What .editorconfig says of a file: a later section goes before an earlier one."""
    said = {}
    for pattern, settings in sections:
        if any(fnmatch.fnmatch(name if "/" in p else os.path.basename(name), p) for p in alternatives(pattern)):
            said.update(settings)
    return said


def read_config(text):
    sections = []
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(.*)\]", line.strip()):
            sections.append((header[1], {}))
        elif sections and "=" in line and line.strip()[0] not in "#;":
            key, value = (part.strip() for part in line.split("=", 1))
            sections[-1][1][key] = value
    return sections


def form_faults(name, data, said):
    """What of the file's bytes is not as said."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8"]
    faults = [f"{name}: a carriage return"] if "\r\n" in text else []
    faults += [f"{name}: no newline at the end"] if text and not text.endswith("\n") else []
    bad = {"tab": r"^ +(?![ *])", "space": r"^\t"}.get(said.get("indent_style"))  # a block comment goes on with a blank and a star
    if name.endswith(".py"):  # a string of several lines has its own form
        text = re.sub(r'"""(?s:.*?)"""', lambda m: "\n" * m[0].count("\n"), text)
    at = re.search(bad, text, re.M) if bad else None
    return faults + ([f"{name}:{text.count(chr(10), 0, at.start()) + 1}: not indented with {said['indent_style']}s"] if at else [])


with open(os.path.join(source, ".editorconfig"), encoding="utf-8") as f:
    config = read_config(f.read())

cases = [("a.c", b"int x;\n", 0), ("a.c", b"int x;", 1), ("a.c", b"int x;\r\n", 1), ("a.c", b"  int x;\n", 1), ("a.c", b"\xff\n", 1),
         ("a.c", b"/* a\n * b\n */\n", 0), ("a.c", b"int f(int a,\n\t      int b);\n", 0), ("d/a.py", b"if x:\n\ty\n", 1), ("a.sh", b"if x; then\n  y\nfi\n", 1),
         ("meson.build", b"if x\n\ty\nendif\n", 1), ("a.md", b"\tcode\n", 0)]
wrong = [case for case in cases if len(form_faults(case[0], case[1], rules_for(case[0], config))) != case[2]]
ok(not wrong, "a wrong form of each kind is found, and no right one", wrong)
lines = [("a.c", "int x;\n"), ("a.py", "#!/usr/bin/env python3\n"), ("run", "#!/bin/sh\n"), ("_x", "#compdef x\n"), ("contrib/man/x.1", ".Dd 2026\n")]
wrong = []
for name, first in lines:
    missing = formatting.licence_line(name, [first])
    text = [first]
    if missing:
        text.insert(missing[1], missing[0])
    if not missing or formatting.licence_line(name, text) or text[0] != first and first.startswith("#"):
        wrong.append(name)
ok(not wrong and not formatting.licence_line("README.md", ["# weightfs\n"]), "a missing licence line of each kind is found, and its place", wrong)

names = [name for name in formatting.sources() if name.endswith(TEXT) and (not name.endswith(formatting.ROFF) or name.startswith("contrib/man/"))]
faults = []
for name in names:
    with open(os.path.join(source, name), "rb") as f:
        faults += form_faults(name, f.read(), rules_for(name, config))
ok(len(names) > 200, f"{len(names)} files are looked at")
ok(not faults, "they are as .editorconfig says", "\n".join(faults))


def silent(name, text):
    """Whether a file of the programs does not begin with what it does."""
    return name.startswith(("codec/", "fs/", "devices/")) and name.endswith(".c") and not re.match(r"/\* SPDX[^\n]*\n/\* \S", text)


found = [name for name in names if silent(name, open(os.path.join(source, name), encoding="utf-8").read())]
ok(not found, "every .c opens with a sentence on what it does", "\n".join(found))
ok(silent("fs/a.c", "/* SPDX-License-Identifier: MIT */\n#include <a.h>\n") and not silent("fs/a.c", "/* SPDX-License-Identifier: MIT */\n/* Reads. */\n"),
   "and one that does not is found")
done()
