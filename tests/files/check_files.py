#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The corpus without torch: what manifest.json tells of the files in torch/, and what crafted.py tells of those in crafted/.

Usage: check_files.py BUILD_DIRECTORY [NAME...]      with names: those files alone
Prints TAP. Without /dev/fuse the mounts are left out, and the cases that are nothing else count as skipped.
"""
import errno
import json
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(HERE))

import crafted  # noqa: E402
from compare import compare  # noqa: E402
from parallel import side_by_side  # noqa: E402

with open(os.path.join(HERE, "torch", "manifest.json")) as _file:
    MANIFEST = json.load(_file)
BUILD, NAMES = sys.argv[1], sys.argv[2:]
SECONDS = 20           # for one command on one file; most take a few milliseconds
WALK_SECONDS = 90      # for 60,000 names, each asked for by itself: 4 s, and 14 beside four other tests. What expands without end takes days
PEAK_BYTES = 300 << 20  # resident, for files that are bombs
SANITIZED = b"__asan_init" in open(os.path.join(BUILD, "fs", "wfctl"), "rb").read()
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
count = failures = 0


def report(name, problems, skip=""):
    global count, failures
    count += 1
    failures += bool(problems)
    print(f"{'not ' if problems else ''}ok {count} - {name}{skip}", flush=True)
    for problem in problems[:10]:
        print("#   " + ascii(problem)[1:-1][:600])


def run(program, *arguments):
    """Exit status, output, error output. A run that takes too long or too much memory is an error of its own."""
    def limit():
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_DATA, (PEAK_BYTES, PEAK_BYTES))
            resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, 2 << 20)) # of each thread, which counts as data
    try:
        r = subprocess.run([os.path.join(BUILD, "fs", program), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=SECONDS * (4 if SANITIZED else 1), preexec_fn=limit)
    except subprocess.TimeoutExpired:
        return -1, "", f"{program} took more than {SECONDS} seconds"
    out, err = (text.decode("utf-8", "surrogateescape") for text in (r.stdout, r.stderr))
    for path in arguments:
        if os.path.isabs(path):  # the file's own name says nothing about what was found
            err = err.replace(path, "FILE")
    return r.returncode, out, err


class Mount:
    def __init__(self, file, mnt):
        self.mnt = mnt
        self.status, _, self.error = run("weightfs", "-o", "ro", file, mnt)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if self.status == 0:
            run("wfctl", "umount", self.mnt)


# ---- good files ----

def check_listing(file, entries):
    """wfctl ls --json has each tensor of the manifest."""
    status, out, err = run("wfctl", "ls", "--json", file)
    if status:
        return [f"wfctl ls: {err}"]
    rows = {row["path"]: row for row in map(json.loads, out.splitlines())}
    problems = []
    for e in entries:
        row = rows.get(e["path"])
        if e["type"] != "tensor" or e.get("kind") == "numpy":
            continue
        if not row:
            problems.append(f"wfctl ls has no {e['path']}")
        elif (row["dtype"], row["shape"], row["bytes"]) != (e["dtype"], e["shape"], e["size"]):
            problems.append(f"{e['path']} is {row}, not {e['dtype']} {e['shape']} of {e['size']} bytes")
    return problems


def check_good(directory, name, told, mnt):
    file = os.path.join(directory, name)
    status, _, err = run("wfctl", "verify", file)
    problems = [] if status == 0 else [f"wfctl verify: {err}"]
    if not told.get("keys_only"):
        problems += check_listing(file, told["entries"])
    if FUSE:
        with Mount(file, mnt) as m:
            # of a script module the mount says the class that the archive names, not that of the object torch makes for it
            problems += [m.error] if m.status else compare(mnt, [e for e in told["entries"] if e["path"] or not told.get("keys_only")])
    return problems


# ---- bad ones ----

def one_line(status, err, words):
    problems = []
    if status == 0:
        problems.append("is accepted")
    if status < 0 or status > 2:
        problems.append(f"ended with status {status}: {err}")
    if err.count("\n") != 1 or len(err) > 1000:
        problems.append(f"says not one line but {err!r}")
    return problems + [f"does not say {word!r} but {err!r}" for word in words if word not in err]


def check_refused(file, words, mnt):
    problems = []
    for arguments in (("ls", file), ("verify", file)):
        status, _, err = run("wfctl", *arguments)
        problems += [f"wfctl {arguments[0]}: {p}" for p in one_line(status, err, words)]
    if FUSE:
        with Mount(file, mnt) as m:
            problems += [f"weightfs: {p}" for p in one_line(m.status, m.error, words)]
            if os.path.ismount(mnt):
                problems.append("is mounted")
    return problems


def check_verify(file, wanted, words):
    """Its exit status, and what it has to say."""
    status, out, err = run("wfctl", "verify", file)
    problems = [] if status == wanted else [f"wfctl verify ended with {status}: {out + err}"]
    told, lines, _ = run("wfctl", "verify", "--json", file)
    says = json.loads(lines) if lines else {"sound": False, "faults": 1, "warnings": 0, "problems": [{"fault": True, "text": err}]}
    if told != status or says["sound"] != (status == 0) or len(says["problems"]) != says["faults"] + says["warnings"] or \
            any(p["text"] not in err for p in says["problems"]):
        problems.append(f"wfctl verify --json: {told} {lines}")
    return problems + [f"wfctl verify does not say {word!r} but {out + err!r}" for word in words if word not in out + err]


def check_damaged(file, case, mnt):
    """Some entries cannot be read, the rest can; wfctl verify tells each."""
    problems = check_verify(file, 1, case.words)
    if not FUSE:
        return problems
    with Mount(file, mnt) as m:
        if m.status:
            return problems + [m.error]
        for name in case.bad:
            try:
                with open(os.path.join(mnt, name), "rb") as f:
                    f.read()
                problems.append(f"{name} can be read")
            except OSError as e:
                if e.errno not in (errno.EIO, errno.EOPNOTSUPP):
                    problems.append(f"{name}: {e}")
        for name, content in (case.good or {}).items():
            with open(os.path.join(mnt, name), "rb") as f:
                if f.read() != content:
                    problems.append(f"{name} has other bytes")
    return problems


def walk(mnt):
    """Every name with its attributes; what may be shown at many places is to be so in a moment."""
    for what in (mnt, *(os.path.join(mnt, ".weightfs", name) for name in ("objects", "safetensors", "npy"))):
        try:
            r = subprocess.run(["find", what, "-printf", "%s\\n"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               timeout=WALK_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"a walk through {what} took more than {WALK_SECONDS} seconds"]
        if r.returncode:
            return [r.stderr]
    return []


def check_opens(file, case, mnt):
    """A file that torch does not write, and that opens: each name has its bytes, and nothing else is there."""
    problems = check_verify(file, 0, case.words)
    if case.walked:
        for options in ([], ["-a"]):
            status, _, err = run("wfctl", "ls", *options, file)
            problems += [] if status == 0 else [f"wfctl ls {options}: {err}"]
    if not FUSE:
        return problems
    with Mount(file, mnt) as m:
        if m.status:
            return problems + [m.error]
        seen = {}
        if case.walked:
            return problems + walk(mnt)
        if case.good is None:
            os.listdir(mnt)
            return problems
        for where, directories, files in os.walk(mnt):
            for name in files:
                path = os.path.join(where, name)
                with open(path, "rb") as f:
                    seen[os.path.relpath(path, mnt)] = f.read()
        if seen != case.good:
            problems.append(f"shows {dict(list(seen.items())[:6])!r}, not {dict(list(case.good.items())[:6])!r}")
    return problems


def check(job):
    """What is wrong with one file. job: the folder that it stands in, None of one that is made; and its name."""
    folder, name = job
    with tempfile.TemporaryDirectory(prefix="weightfs-files-") as work:
        mnt, file = os.path.join(work, "mnt"), os.path.join(work, name)
        os.mkdir(mnt)
        if folder:
            return check_good(folder, name, MANIFEST[name], mnt)
        case = crafted.CASES[name]
        with open(file, "wb") as f:
            f.write(case.make())
        by_verdict = {"good": check_opens, "damaged": check_damaged}.get(case.verdict)
        return by_verdict(file, case, mnt) if by_verdict else check_refused(file, case.words, mnt)


def main():
    jobs = [(os.path.join(HERE, "torch"), name) for name in MANIFEST] + [(None, name) for name in crafted.CASES]
    for (_, name), problems, error in side_by_side(check, [job for job in jobs if not NAMES or job[1] in NAMES], 4):
        report(name, [error] if error else problems)
    print(f"1..{count}")
    sys.exit(1 if failures else 0)


main()
