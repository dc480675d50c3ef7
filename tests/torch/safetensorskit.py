# SPDX-License-Identifier: MIT
"""What the tests against the safetensors library begin with: their arguments, and every dtype that the format and this torch have.

Usage of each: BUILD_DIRECTORY [ROUNDS [FIRST]]. What needs a mount is skipped where FUSE is false.
"""
import os
import sys
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
warnings.filterwarnings("ignore")
import torch  # noqa: E402

BUILD = sys.argv[1]
ROUNDS, FIRST = (int(n) for n in (sys.argv[2:] + ["40", "1"][len(sys.argv[2:]):])[:2])
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
DTYPES = [getattr(torch, name) for name in (
    "bool uint8 int8 float8_e5m2 float8_e4m3fn float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz int16 uint16 float16 bfloat16 int32 uint32 "
    "float32 complex64 float64 int64 uint64 float4_e2m1fn_x2").split() if hasattr(torch, name)]
