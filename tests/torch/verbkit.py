# SPDX-License-Identifier: MIT
"""How the tests of the verbs of wfctl run them. The first argument of the program is the build directory."""
import os
import subprocess
import sys

WFCTL = os.path.join(os.path.abspath(sys.argv[1]), "fs", "wfctl")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from tap import ok  # noqa: E402


def wfctl(*words, input=None):
    return subprocess.run([WFCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=input)


def text(*words):
    r = wfctl(*words)
    return r.stdout.decode() if r.returncode == 0 else f"exit {r.returncode}: {r.stderr.decode()}"


def done(*words, input=None):
    r = wfctl(*words, input=input)
    ok(r.returncode == 0 and not r.stderr, "wfctl " + " ".join(words), r.stderr.decode())


def refused(word, *words, status=1, input=None):
    r = wfctl(*words, input=input)
    ok(r.returncode == status and word in r.stderr.decode() and r.stderr.count(b"\n") == 1, f"refused with one line: wfctl {' '.join(words)}",
       f"exit {r.returncode}: {r.stderr.decode()}")
