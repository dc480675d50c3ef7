# SPDX-License-Identifier: MIT
"""What the tests against torch begin with: they are skipped where torch, NumPy or FUSE is missing.

The folder of the oracles and those of the other kits can be imported from afterwards.
"""
import os
import sys
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, *(os.path.join(TOP, "tests", name) for name in ("", "files")), os.path.join(TOP, "contrib", "python")]

from tap import done, need_fuse, ok, skip, skip_all  # noqa: E402, F401

try:
    import numpy  # noqa: F401
    import torch  # noqa: F401
except ImportError:
    skip_all("torch is not installed")
need_fuse()
warnings.simplefilter("ignore")


def programs(build):
    """(weightfs, wfctl)"""
    return tuple(os.path.join(build, "fs", name) for name in ("weightfs", "wfctl"))
