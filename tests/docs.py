#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Man pages and completions offer exactly what --help prints.

Usage: docs.py SOURCE_DIR WEIGHTFS WFCTL. Prints TAP.
"""
import json
import os
import re
import shutil
import subprocess
import sys

from tap import done, ok

source, weightfs, wfctl = sys.argv[1:4]


def same(a, b, what):
    ok(a == b, what, f"only in the first: {sorted(a - b)}; only in the second: {sorted(b - a)}")


def read(*path):
    with open(os.path.join(source, "contrib", *path)) as f:
        return f.read()


def help_of(program, *arguments):
    return subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def of_help(program, *verb):
    """What --help offers: the words that open its indented lines, before the explanation."""
    text = help_of(program, *verb, "--help").split("\nexample:\n")[0]
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


def of_verbs_on_page():
    """The options that wfctl.1 lists below each verb."""
    found, verb = {}, None
    for line in read("man", "wfctl.1").splitlines():
        if line.startswith(".It Cm "):
            verb = line.split()[2]
            found[verb] = set()
        elif line.startswith(".Ss "):
            verb = None
        elif line.startswith(".It Fl ") and verb:
            found[verb].update("-" + word for kind, word in zip(line.split(), line.split()[1:]) if kind == "Fl")
    return found


def bash_completes(*words):
    """What bash would offer for the last of the words."""
    script = """
        _init_completion() { cur=${words[cword]}; prev=${words[cword - 1]}; }
        _filedir() { COMPREPLY=(a-file); }
        . "$1"; shift
        words=("$@"); cword=$((${#words[@]} - 1))
        complete_it() { local cur prev; eval "$(declare -f _wfctl | sed 's/local cur prev words cword/local cur prev/')"; _wfctl; }
        complete_it; printf '%s\\n' "${COMPREPLY[@]}" """
    env = {**os.environ, "PATH": os.path.dirname(wfctl) + ":" + os.environ["PATH"]}
    r = subprocess.run(["bash", "-c", script, "bash", os.path.join(source, "contrib/completion/wfctl.bash"), *words],
                       stdout=subprocess.PIPE, text=True, env=env)
    return set(r.stdout.split("\n")) - {""}


def zsh_completes(*words):
    """What zsh would offer for the last of the words."""
    script = """
        _describe() { local a=$@[-1]; print -rl -- ${${(P)a}%%:*} }
        compadd() { local a=$@[-1]; print -rl -- ${(P)a} }
        _files() { print a-file }
        compset() { }
        file=$1; shift; words=("$@"); CURRENT=$#words; PREFIX=$words[-1]
        complete_it() { eval "$(<$file)" }
        complete_it """
    env = {**os.environ, "PATH": os.path.dirname(wfctl) + ":" + os.environ["PATH"]}
    r = subprocess.run(["zsh", "-f", "-c", script, "zsh", os.path.join(source, "contrib/completion/_wfctl"), *words],
                       stdout=subprocess.PIPE, text=True, env=env)
    return set(r.stdout.split("\n")) - {""}


def offered(words):
    """Completions end the name of an option with = where an argument follows."""
    return {word.rstrip("=") for word in words}


def mount_points():
    with open("/proc/self/mounts") as f:
        return {line.split()[1] for line in f if " fuse.weightfs " in line}


def verbs_of_wfctl():
    described = json.loads(help_of(wfctl, "help", "--json"))
    shells = [(shell, completes) for shell, completes in (("bash", bash_completes), ("zsh", zsh_completes)) if shutil.which(shell)]
    verbs = sorted(w for w in of_help(wfctl) if not w.startswith("-"))
    on_page = of_verbs_on_page()
    same(set(verbs), set(on_page), "wfctl --help and wfctl.1 have the same verbs")
    for verb in verbs:
        text = help_of(wfctl, verb, "--help")
        ok(text.startswith(f"usage: wfctl {verb} ") and "\noptions:\n" in text and f"\nexample:\n  wfctl {verb} " in text and
           "Exit status: 0 " in text, f"wfctl {verb} --help: usage, options, an example, the exit statuses", text)
        ok(text == help_of(wfctl, verb, "-h") == help_of(wfctl, "help", verb), f"wfctl {verb} -h and wfctl help {verb} are the same")
        options = of_help(wfctl, verb)
        same(options - {"-h", "--help"}, on_page[verb], f"wfctl {verb} --help and wfctl.1 list the same")
        listed = next(v for v in described["verbs"] if v["name"] == verb)
        same({"--" + o["name"] for o in listed["options"]} | {"-" + o["letter"] for o in listed["options"] if o["letter"]} | {"-h", "--help"},
             options, f"wfctl help --json tells the options of wfctl {verb}")
        for shell, completes in shells:
            same(offered(completes("wfctl", verb, "-")), options, f"{shell} completes the options of wfctl {verb}")
    for shell, completes in shells:
        same(offered(completes("wfctl", "")), set(verbs) | {"help", "-f", "--file", "-h", "--help", "-V", "--version"}, f"{shell} completes verbs")
        model = os.path.join(source, "tests/files/torch/good-general.pt")
        same(completes("wfctl", "cat", model, "lo"), {"loss"}, f"{shell} completes keys behind a checkpoint")
        same(completes("wfctl", "attr", model, "loss", "cl") & {"class"}, {"class"}, f"{shell} completes attributes")
        before = mount_points()
        found, after = completes("wfctl", "umount", ""), mount_points() # others mount and unmount meanwhile
        ok(before & after <= found <= before | after, f"{shell} completes mount points", found)
    if shutil.which("bash"):
        same(bash_completes("wfctl", "help", "um"), {"umount"}, "bash completes wfctl help")
        model = os.path.join(source, "tests/files/torch/good-general.pt")
        same(bash_completes("wfctl", "ls", "-l", model, "lo"), {"loss"}, "bash completes keys, values too")
        same(bash_completes("wfctl", "ls", ""), {"a-file"}, "and files before them")


for program, page in ((weightfs, "weightfs.1"), (wfctl, "wfctl.1")):
    name = os.path.basename(program)
    words = of_help(program)
    if program == wfctl:
        words = words.union(*(of_help(program, verb) for verb in words if not verb.startswith("-")))
    ok(len(words) > 8 and {"-h", "--help", "-V", "--version"} <= words, f"{name} --help can be read", str(words))
    same(words, of_page(page), f"{name} --help and {page} list the same")
    if program == weightfs: # what wfctl offers it tells its completions itself
        in_completion(f"{name}.bash", words)
        in_completion(f"_{name}", words)
verbs_of_wfctl()
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
done()
