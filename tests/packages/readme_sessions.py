#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The terminal sessions of the README: what they are, and a replay of them where no torch need be installed.

A session is a block whose commands stand behind `$ `; below each is what it prints, where `...` stands for any lines. Owner and date of `ls -l`
may differ. A block of `wfctl rename` lines is one, too: each takes away a prefix that all keys had.

Usage: readme_sessions.py SOURCE_DIR [LABEL]. Replays them in the working directory with the programs and the python3 of PATH; files of
tests/files stand for the reader's own. Prints TAP. A command that needs torch is skipped where torch is missing.
"""
import os
import re
import shutil
import subprocess
import sys


def sessions(readme):
    """[[(command, [output line])]]"""
    with open(readme, encoding="utf-8") as f:
        text = f.read()
    indented = ["".join(line[4:] for line in block.splitlines(True)) for block in re.findall(r"(?m)(?:^ {4}\$ .*\n(?: {4}.*\n)*)", text)]
    blocks = re.findall(r"^```\n(\$ .*?)^```$", text, re.M | re.S) + indented
    return [[(lines[0], lines[1:]) for lines in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.M)[1:])]
            for block in blocks]


def prefixes(readme):
    """[(command, checkpoint, the prefix that it takes away, the mapping that it is taken from or "")] of the wfctl rename lines."""
    with open(readme, encoding="utf-8") as f:
        lines = re.findall(r"(?m)^ {4}(wfctl rename (\S+) 's/\^(\S+)//'(?: (\w+))?)(?: +#.*)?$", f.read())
    return [(command, file, re.sub(r"\\(.)", r"\1", prefix), mapping) for command, file, prefix, mapping in lines]


def _without_owner_and_date(line):
    return re.sub(r"^(-[rwx-]{9} +\d+) +\S+ +\S+ +(\d+) +\S+ +\d+ +\S+ ", r"\1 \2 ", line)


def matches(lines, printed):
    """Whether the output is what stands there. Blank lines do not count."""
    wanted = "".join("(?:.*\n)*" if line == "..." else re.escape(_without_owner_and_date(line)) + "\n" for line in lines if line.strip())
    got = "".join(_without_owner_and_date(line) + "\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch(wanted, got)


def shell(command, **options):
    r = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return r.returncode, r.stdout


def _files(source):
    """What the sessions speak of, made of the files of the tests by wfctl."""
    files = os.path.join(source, "tests", "files", "torch")
    for name in ("model.pt", "donor.pt"):
        shutil.copyfile(os.path.join(files, "good-tutorial.pt"), name)
    for name in ("checkpoint.pt", "last.ckpt"):
        shutil.copyfile(os.path.join(files, "good-general.pt"), name)
    shutil.copytree(os.path.join(source, "tests", "files", "zero", "stage3-bf16"), "outputs/checkpoint-500")
    for command in ("wfctl set checkpoint.pt epoch 10", "wfctl mv last.ckpt model_state_dict state_dict"):
        code, printed = shell(command)
        assert code == 0, f"{command}: {printed}"
    for directory in ("mnt", "donor"):
        os.mkdir(directory)


def _needs_torch(command):
    return "import torch" in command


def _replay(source, label, ok, skip):
    has_torch = shell("python3 -c 'import torch'")[0] == 0
    readme = os.path.join(source, "README.md")
    found = sessions(readme)
    ok(len(found) >= 4, f"{label}the README has {len(found)} sessions")
    for number, session in enumerate(found):
        folder = f"session-{number}"
        os.mkdir(folder)
        os.chdir(folder)
        _files(source)
        for command, lines in session:
            if _needs_torch(command) and not has_torch:
                skip(f"{label}README: {command}", "torch is missing")
                continue
            code, printed = shell(command)
            ok(code == 0 and matches(lines, printed), f"{label}README: {command}", printed)
        if os.path.ismount("donor"):  # its session leaves it
            shell("wfctl umount donor")
        os.chdir("..")
    for command, file, prefix, mapping in prefixes(readme):
        source_file = "good-general.pt" if mapping else "good-tutorial.pt"
        shutil.copyfile(os.path.join(source, "tests", "files", "torch", source_file), file)
        if mapping:
            shell(f"wfctl mv {file} model_state_dict {mapping}")
        before = shell(f"wfctl ls {file}")
        code, printed = shell(f"wfctl rename {file} 's/^/{prefix}/' {mapping}")
        prefixed = shell(f"wfctl ls {file}")
        ok(code == 0 and prefixed != before and prefix in prefixed[1], f"{label}README: {file} with keys that begin with {prefix}", printed)
        code, printed = shell(command)
        ok(code == 0 and shell(f"wfctl ls {file}") == before, f"{label}README: {command}", printed)


if __name__ == "__main__":
    SOURCE = os.path.realpath(sys.argv[1])
    sys.path.append(os.path.join(SOURCE, "tests"))
    import tap
    _replay(SOURCE, f"{sys.argv[2]}: " if len(sys.argv) > 2 else "", tap.ok, tap.skip)
    tap.done()
