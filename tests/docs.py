#!/usr/bin/env python3
"""Man pages and completions offer exactly what --help prints.

Usage: docs.py SOURCE_DIR WEIGHTFS WFCTL. Prints TAP.
"""
import os
import re
import shutil
import subprocess
import sys

source, weightfs, wfctl = sys.argv[1:4]
n = failed = 0


def ok(good, what, detail=""):
    global n, failed
    n += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {n} - {what}")
    if not good and detail:
        print(f"#   {detail}")


def same(a, b, what):
    ok(a == b, what, f"only in the first: {sorted(a - b)}; only in the second: {sorted(b - a)}")


def read(*path):
    with open(os.path.join(source, "contrib", *path)) as f:
        return f.read()


def of_help(program):
    """What --help offers: the words that open its indented lines, before the explanation."""
    text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    words = set()
    for line in text.splitlines():
        entry = re.match(r"  (?=\S)(.*?)(?:  |$)", line)
        if not entry:
            continue
        if os.path.basename(program) == "wfctl" and not entry[1].startswith("-"):
            words.add(entry[1].split()[0])
        else:
            words.update(re.sub(r"[= ].*", "", word) for word in entry[1].split(", "))
    return words


def of_page(name):
    """What the man page lists: the flags and command words of its .It lines."""
    words = set()
    for line in read("man", name).splitlines():
        if not line.startswith(".It "):
            continue
        tokens = line.split()[1:]
        if tokens[0] == "Cm" and name == "wfctl.1":
            words.add(tokens[1])
            continue
        for kind, word in zip(tokens, tokens[1:]):
            if kind in ("Fl", "Cm"):
                words.add("-" + word if kind == "Fl" else word)
            elif kind == "," and tokens[0] == "Cm" and re.match(r"[a-z]", word):
                words.add(word)
    return words


def in_completion(path, words):
    text = read("completion", path)
    missing = {w for w in words if not re.search(r"(?<![\w-])" + re.escape(w) + r"(?![\w-])", text)}
    ok(not missing, f"completion/{path} offers everything", f"missing: {sorted(missing)}")


for program, page in ((weightfs, "weightfs.1"), (wfctl, "wfctl.1")):
    name = os.path.basename(program)
    words = of_help(program)
    ok(len(words) > 8 and {"-h", "--help", "-V", "--version"} <= words, f"{name} --help can be read", str(words))
    same(words, of_page(page), f"{name} --help and {page} list the same")
    in_completion(f"{name}.bash", words)
    in_completion(f"_{name}", words)
for page in ("weightfs.1", "wfctl.1", "mount.fuse.weightfs.8"):
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(source, "contrib/man", page)],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ok(lint.returncode == 0, f"mandoc has no warning about {page}", lint.stdout)
    else:
        ok(True, f"{page} # SKIP mandoc is missing")
for shell in ("bash", "zsh"):
    files = [f"{p}.bash" if shell == "bash" else f"_{p}" for p in ("weightfs", "wfctl")]
    if shutil.which(shell):
        ok(all(subprocess.run([shell, "-n", os.path.join(source, "contrib/completion", f)]).returncode == 0 for f in files),
           f"{shell} can read {' and '.join(files)}")
    else:
        ok(True, f"{' and '.join(files)} # SKIP {shell} is missing")
print(f"1..{n}")
sys.exit(1 if failed else 0)
