#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What contrib/bench/gpu pack puts together for a machine that has nothing else: its tests find each of their modules there.

The tests run to the point at which they look for /dev/fuse, which is hidden; a module that was left behind fails before it.

Usage: packed.py BUILD_DIRECTORY      Prints TAP.
"""
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests"))
from tap import done, ok  # noqa: E402

BUILD = sys.argv[1]
AFTER_IMPORTS = "import os, runpy, sys; os.access = lambda *a, **k: False; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
TORCH = os.environ.get("WEIGHTFS_TEST_PYTHON", sys.executable)  # without torch, module.py skips before its imports
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
ENV["PYTHONDONTWRITEBYTECODE"] = "1"

with tempfile.TemporaryDirectory(prefix="weightfs-packed-") as directory:
    r = subprocess.run([sys.executable, os.path.join(TOP, "contrib", "bench", "gpu"), "pack", os.path.join(directory, "pack")],
                       env={**ENV, "WEIGHTFS_BUILD": BUILD}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ok(r.returncode == 0, "pack", r.stdout)
    tree = os.path.join(directory, "pack", "tree")
    for python, name in ((sys.executable, "mount/placement.py"), (sys.executable, "device/sharing.py"), (TORCH, "device/module.py")):
        test = os.path.join(tree, "tests", name)
        r = subprocess.run([python, "-c", AFTER_IMPORTS, test, BUILD, "cuda:0"], cwd=directory, env={**ENV, "PYTHONPATH": os.path.dirname(test)},
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ok(r.returncode == 0 and r.stdout.startswith("1..0 # SKIP"), f"{name} finds its modules", r.stdout)
    paths = os.pathsep.join(os.path.join(tree, "contrib", name) for name in ("bench", "python"))
    r = subprocess.run([TORCH, "-c", "import lease, storages, weightfs, weightfs.cuda"], cwd=directory,
                       env={**ENV, "WEIGHTFS_BUILD": BUILD, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ok(r.returncode == 0, "the figures find their modules", r.stdout)
done()
