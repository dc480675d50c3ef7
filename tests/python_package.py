#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tests of contrib/python/tests, which pytest runs as well, as lines of TAP; and, where mypy is installed, that it has nothing to say.

Usage: python_package.py SOURCE_DIR BUILD_DIR
"""
import importlib.util
import os
import subprocess
import sys
import unittest

from tap import done, ok, skip

SOURCE, BUILD = (os.path.abspath(path) for path in sys.argv[1:])
PACKAGE = os.path.join(SOURCE, "contrib", "python")
os.environ["WEIGHTFS_WFCTL"] = os.path.join(BUILD, "fs", "wfctl")
sys.dont_write_bytecode = True
sys.path[0] = PACKAGE  # no longer the folder of this script, in which a folder is called torch


class Lines(unittest.TestResult):
    def addSuccess(self, test):
        ok(True, test.id())

    def addFailure(self, test, error):
        ok(False, test.id(), "\n".join(self._exc_info_to_string(error, test).splitlines()[-12:]))

    addError = addFailure

    def addSkip(self, test, reason):
        skip(test.id(), " ".join(reason.split()))


found = unittest.TestLoader().discover(os.path.join(PACKAGE, "tests"))
ok(found.countTestCases() > 20, f"{found.countTestCases()} tests are found")
found.run(Lines())
ok(os.path.exists(os.path.join(PACKAGE, "weightfs", "py.typed")), "the package says that it has types")
if importlib.util.find_spec("mypy"):
    r = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", os.devnull], cwd=PACKAGE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ok(r.returncode == 0, "mypy --strict has nothing to say", r.stdout)
else:
    skip("mypy --strict", "mypy is missing")
done()
