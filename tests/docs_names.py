#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The documents of contrib/docs name only what exists: paths, functions, structs, constants.

Usage: docs_names.py SOURCE_DIR. Prints TAP.

What stands between backticks, outside of code blocks, is looked at. It is a path where it begins with a folder of the tree or of codec/, or ends as
a source does; capital words and stars in it stand for anything. It is a name of the code where it has an underscore or is followed by (), and
then it must be a word of the sources, outside of comments.
"""
import glob
import os
import re
import sys

from tap import done, ok

source = os.path.realpath(sys.argv[1])
FOLDERS = ("codec", "fs", "devices", "tests", "contrib")
ENDINGS = (".c", ".h", ".cu", ".py", ".sh", ".md", ".build")
OWN = "docs_names.py"  # its wrong names are in the sources nowhere else


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


files = [os.path.join(folder, f) for top in FOLDERS for folder, _, names in os.walk(os.path.join(source, top)) for f in names]
files += [os.path.join(source, f) for f in os.listdir(source) if os.path.isfile(os.path.join(source, f))]
basenames = {os.path.basename(f) for f in files}
codec_folders = {f for f in os.listdir(os.path.join(source, "codec")) if os.path.isdir(os.path.join(source, "codec", f))}
code = ""
for f in files:
    if f.endswith((".c", ".h", ".cu")):
        code += re.sub(r"/\*.*?\*/|//[^\n]*", " ", read(f), flags=re.S)
    elif f.endswith((".py", "meson.build")) and os.path.basename(f) != OWN:
        code += re.sub(r"(?m)#.*$", " ", read(f))
words = set(re.findall(r"\w+", code))
called = set(re.findall(r"(\w+)\s*\(", code))
tags = set(re.findall(r"\b((?:struct|enum|union) \w+)\s*\{", code))


def is_path(text):
    top = text.split("/")[0]
    return bool(re.fullmatch(r"[\w./*{},\[\]-]+", text)) and (
        "/" in text and (top in FOLDERS or top in codec_folders) or text.endswith(ENDINGS) and "/" not in text.strip("/") or
        text.endswith(ENDINGS) and "/" in text)


def exists(path):
    at = path.rstrip("/")
    if "/" not in at and at in basenames:
        return True
    pattern = re.sub(r"\b[A-Z]{2,}\b", "*", at)
    return any(os.path.exists(os.path.join(source, below, at)) or glob.glob(os.path.join(source, below, pattern)) for below in ("", "codec"))


def fault(text):
    """What is wrong with the name; None where it exists, "" where it is no name of ours."""
    tag = re.fullmatch(r"(struct|enum|union) \w+", text)
    if tag:
        return None if text in tags else "no such type"
    call = re.fullmatch(r"(\w+)\(\)", text)
    if call:
        return None if call[1] in called else "no such function"
    if is_path(text.split(" ")[0]):
        return None if exists(text.split(" ")[0]) else "no such path"
    if re.fullmatch(r"[A-Za-z]\w*_\w*", text):
        known = any(w.startswith(text) for w in words) if text.endswith("_") else text in words
        return None if known else "no such name"
    return ""


def faults_of(text):
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    results = [(span, fault(span)) for span in spans]
    return [f"{span}: {why}" for span, why in results if why], sum(why is None for _, why in results)


wrong = ["codec/pickle/nowhere.c", "edit/nowhere.c", "nowhere.h", "tests/nowhere/", "codec/nowhere/NAME.c", "wf_no_such_call", "nowhere()",
         "struct wf_nowhere", "WF_NO_SUCH_LIMIT", "wf_nowhere_"]
right = ["codec/pickle/read.c", "edit/state.h", "checkpoint.h", "tests/unit/", "tests/unit/test-NAME.c", "fs/ops_*.c", "wf_open", "wf_open()",
         "struct wf_checkpoint", "WF_MAX_NDIM", "wf_apply_"]
found, _ = faults_of(" ".join(f"`{w}`" for w in wrong + right))
ok([f.split(": ")[0] for f in found] == wrong, "wrong names of each kind are found, and no right ones", str(found))

documents = sorted(glob.glob(os.path.join(source, "contrib/docs/*.md")))
ok({"architecture.md", "contributing.md", "changelog.md"} <= {os.path.basename(d) for d in documents}, "the documents are there", str(documents))
for document in documents:
    text = read(document)
    name = os.path.relpath(document, source)
    found, known = faults_of(text)
    ok(not found, f"{name}: every path and name exists ({known} of them)", "; ".join(found))
    ok(text.count("\n") < 250, f"{name} has less than 250 lines")
    links = [t for t in re.findall(r"\]\(([^)#:]+)\)", text) if not os.path.exists(os.path.join(os.path.dirname(document), t))]
    ok(not links, f"{name}: links lead somewhere", str(links))
ok(faults_of(read(os.path.join(source, "contrib/docs/architecture.md")))[1] > 50, "architecture.md names what it tells of")
ok("(contrib/docs/" in read(os.path.join(source, "README.md")), "README.md links the documents")

# the words on disk: what overlay-format.md tells and what codec/overlay/format.h has
header, told = read(os.path.join(source, "codec/overlay/format.h")), read(os.path.join(source, "contrib/docs/overlay-format.md"))


def defined(name):
    return re.search(rf"#define {name} (\d+)u", header)[1]


types = {name: number for name, number in re.findall(r"\bEDIT_(\w+) = (\d+)", header)}
rows = {name: number for number, name in re.findall(r"(?m)^\| (\d+) \| (\w+) \|", told)}
ok(types and rows == types, "overlay-format.md has the records of format.h, and no others", str(set(rows.items()) ^ set(types.items())))
ok(f"| {defined('WF_RECORD_FAILURE')} | (failure) |" in told, "and the one of a failure")
missing = [name for name, words in {
    "WF_LOG_VERSION": "version of the log ({} is written)", "WF_NAMES_VERSION": "turns keys into names ({})", "WF_MARK_VERSION": "Version {} is\nwritten",
    "WF_NO_NUMBER": "{}"}.items() if words.format(defined(name)) not in told]
ok(not missing, "and the versions", str(missing))
wrong = [f"{name} {number}" for name, number in re.findall(r"\b(HOLD_\w+|SETTLE_\w+|MARK_\w+) = (\d+)", header)
         if not re.search(rf"(?s)(- {name.split('_')[0]}:|kind:)[^-]*\b{number}\b", told)]
ok(not wrong, "and the numbers of what a record says", str(wrong))

# the locks: each that is declared outside of a function has its row
locks, untold = read(os.path.join(source, "contrib/docs/locks.md")), []
for f in files:
    if f.endswith((".c", ".h")) and os.path.relpath(f, source).split(os.sep)[0] in ("codec", "fs", "devices"):
        for names in re.findall(r"(?m)^(?:\t|static )pthread_(?:mutex|rwlock)_t ([\w, ]+)(?:;| = )", read(f)):
            rows = [line for line in locks.splitlines() if line.startswith("|") and os.path.relpath(f, source) in line]
            untold += [f"{os.path.relpath(f, source)}: {name}" for name in names.split(", ") if not any(re.search(rf"[`.]{name}`", row) for row in rows)]
ok(not untold, "locks.md has every lock", str(untold))
done()
