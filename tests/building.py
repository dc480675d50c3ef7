#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Building: what a build is made of by default and without cmocka, what contrib/ says where something is missing, and the
total of a test run, which names the cause of a failure.

Usage: building.py SOURCE_DIR. Prints TAP. Configures, but compiles nothing.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from tap import done, ok

source = sys.argv[1]


def run(*command, env=None, cwd=None):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)


def program(path, script):
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o755)


def setup(folder, *options, env=None):
    r = run("meson", "setup", folder, source, *options, env={**os.environ, **(env or {})})
    ok(r.returncode == 0, f"meson setup {' '.join(options)}", r.stdout[-2000:])
    return r.stdout, [target["name"] for target in json.loads(run("meson", "introspect", "--targets", folder).stdout)]


def what_is_built(work):
    said, targets = setup(f"{work}/default")
    ok({"weightfs", "wfctl"} <= set(targets) and not [t for t in targets if re.match("test-|fuzz-|pickle-roundtrip|io$", t)],
       "by default the programs are built, no tests, fuzzers or benchmarks", targets)
    ok("-Dtests=enabled" in said, "and the summary says how they would be")
    options = {o["name"]: o["value"] for o in json.loads(run("meson", "introspect", "--buildoptions", f"{work}/default").stdout)}
    ok(options["buildtype"] == "release" and options["b_ndebug"] == "false", "a release build, with its assertions",
       {name: options[name] for name in ("buildtype", "b_ndebug")})
    # cmocka is hidden from both who know it
    real = shutil.which("pkg-config")
    os.mkdir(f"{work}/bin")
    program(f"{work}/bin/cmake", "exit 1")
    program(f"{work}/bin/pkg-config", f'case "$*" in *cmocka*) exit 1 ;; esac\nexec {real} "$@"')
    said, targets = setup(f"{work}/without", "-Dtests=enabled", env={"PATH": f"{work}/bin:{os.environ['PATH']}"})
    ok("weightfs" in targets and "test-device" in targets and "test-buffer" not in targets, "without cmocka the unit tests are left out", targets)
    ok(len(re.findall(r"unit tests +: no \(cmocka was not found\)", said)) == 1, "the summary says so in one line", said[-1500:])
    tests = {t["name"] for t in json.loads(run("meson", "introspect", "--tests", f"{work}/without").stdout)}
    ok("unit" in tests and "buffer" not in tests, "and one test is there to be counted as skipped", tests)


def path_without(work, *missing, also=()):
    """A folder with every program that the scripts of contrib/ need, but for these; and programs that do nothing."""
    folder = tempfile.mkdtemp(dir=work)
    os.chmod(folder, 0o755)
    for name in ("sh", "awk", "sed", "grep", "cut", "dirname", "id", "cat", "echo", "cc", "gcc", "as", "ld", "pkg-config", "meson", "ninja",
                 "python3", "fusermount3", "getfattr"):
        if name not in missing and shutil.which(name):
            os.symlink(os.path.realpath(shutil.which(name)), f"{folder}/{name}")
    for name in also:
        program(f"{folder}/{name}", "exit 0")
    return {"PATH": folder, "LC_ALL": "C"}


def what_is_missing(work):
    script = f"{source}/contrib/install-packages"
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if user and not shutil.which("setpriv"):
        print("# setpriv is missing: what an ordinary user reads is not tried")
        user = None

    def says(what, words, *arguments, user=user, **path):
        if user is None:
            return
        env = path_without(work, "ninja", **path)
        r = run(*([shutil.which(user[0]), *user[1:]] if user else []), shutil.which("sh"), script, *arguments, env=env)
        ok(r.returncode == 1 and not r.stdout and all(word in r.stderr for word in words) and "not found" not in r.stderr,
           f"install-packages {what}", r)

    os.chmod(work, 0o755)
    root = [] if os.geteuid() == 0 else None
    says("tells people with sudo the line", ["missing: ninja-build\n", "sudo apt-get install ninja-build"], "build", also=("apt-get", "sudo"))
    says("tells people without sudo whom to ask", ["as root: apt-get install ninja-build", "ask who runs this machine", "pip"], "build",
         also=("apt-get",))
    for tool, line in (("dnf", "dnf install ninja-build"), ("pacman", "pacman -S --needed ninja"), ("zypper", "zypper install ninja")):
        says(f"speaks {tool}", [line], "build", user=root, also=(tool,))
    says("names Debian's packages elsewhere", ["missing: ninja-build", "what your system calls them"], "build", user=root)
    r = run(shutil.which("sh"), script, "build", "run", env=path_without(work))
    ok(r.returncode == 0 and not r.stdout + r.stderr, "what is there counts, wherever it came from: no apt or dpkg is asked", r)
    r = run(shutil.which("sh"), script, "--list", "build", env=path_without(work, "meson", "ninja"))
    ok((r.returncode, r.stdout) == (0, "meson\nninja-build\n"), "install-packages --list only lists", r)
    r = run("sh", script, "--help")
    ok(r.returncode == 0 and "contrib/install-packages [--list]" in r.stdout, "install-packages --help", r)


def readme_and_table_agree():
    with open(f"{source}/contrib/packages") as f:
        sections = re.split(r"^# (build|run|test)$", f.read(), flags=re.M)
    rows = [line.split() for name, text in zip(sections[1::2], sections[2::2]) if name in ("build", "run")
            for line in text.splitlines() if line and line[0] != "#"]
    with open(f"{source}/README.md") as f:
        readme = f.read()
    for system, column in (("Debian", 0), ("Fedora", 2), ("Arch", 3), ("openSUSE", 4)):
        wanted = " ".join(dict.fromkeys(row[column] for row in rows))
        line = next((line for line in readme.splitlines() if line.startswith(f"| {system}")), "")
        ok(set(re.search("`(.*)`", line)[1].split()) == set(wanted.split()), f"README and contrib/packages agree on {system}", f"{line}\n{wanted}")


LOG = """<testsuites><testsuite name="weightfs:mount / daemon" tests="3" errors="0" failures="1" skipped="1">
<testcase name="1 - starts"/><testcase name="2 - reads"><failure/></testcase><testcase name="3 - as nobody"><skipped/></testcase>
<system-out>1..3
# starting
ok 1 - starts
# of no failure
not ok 2 - reads
#   got    b'\\x01'
#   wanted b'\\x02'
ok 3 - as nobody # SKIP not root
# after it
</system-out><system-err>Traceback
ValueError: the last line</system-err></testsuite>
<testsuite name="weightfs:unit / buffer" tests="1" errors="1" failures="0"><system-out>half a line</system-out><system-err>Segmentation fault
</system-err></testsuite></testsuites>
"""


def totals(work):
    with open(f"{work}/log.xml", "w") as f:
        f.write(LOG)
    r = run(sys.executable, f"{source}/contrib/totals.py", "--skipped=a build: no compiler", f"{work}/log.xml")
    for what in ("failed: weightfs:mount / daemon: 2 - reads\n    #   got    b'\\x01'\n    #   wanted b'\\x02'\n", "    ValueError: the last line\n",
                 "failed: weightfs:unit / buffer: ended badly\n", "    Segmentation fault\n", "skipped: a build: no compiler\n"):
        ok(what in r.stdout, f"the total shows {what.splitlines()[-1].strip()!r}", r.stdout)
    ok("of no failure" not in r.stdout and "after it" not in r.stdout, "and no line of what went well", r.stdout)
    ok(r.returncode == 1 and r.stdout.endswith("\n1 passed, 2 failed, 2 skipped\n"), "counts all of it", r.stdout)


def totals_of_the_dead(work):
    with open(f"{work}/died.junit.xml", "w") as f:
        f.write('<testsuites><testsuite name="weightfs.weightfs:mount / x" tests="1" errors="0" failures="0"><testcase name="1 - a"/></testsuite></testsuites>')
    with open(f"{work}/died.json", "w") as f:
        f.write('{"name": "weightfs:mount / x", "result": "ERROR"}\n')
    r = run(sys.executable, f"{source}/contrib/totals.py", f"{work}/died.junit.xml")
    ok(r.returncode == 1 and "failed: weightfs.weightfs:mount / x: ended badly" in r.stdout and r.stdout.endswith("\n1 passed, 1 failed, 0 skipped\n"), "a test that died before its plan is a failure", r.stdout)


with tempfile.TemporaryDirectory(prefix="weightfs-building-") as folder:
    what_is_built(folder)
    what_is_missing(folder)
    readme_and_table_agree()
    totals(folder)
    totals_of_the_dead(folder)
done()
