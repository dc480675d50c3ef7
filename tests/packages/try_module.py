#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a new user tries with the module weightfs: try_module.py file|refused|mount PATH. Ends with a traceback where it is not as it should be."""
import sys

import weightfs


def file(path):
    """A copy of good-general.pt whose epoch was set to 41. torch need not be installed, and is not imported for values and NumPy's arrays."""
    with weightfs.open(path, framework="numpy") as checkpoint:
        assert list(checkpoint)[0] == "epoch" and checkpoint["epoch"] == 41, list(checkpoint)
        assert checkpoint["optimizer_state_dict"]["param_groups"][0]["lr"] == 0.001
        weight = checkpoint["model_state_dict"]["conv.weight"]
        assert weight.shape == (2, 1, 3, 3) and weight.dtype == "float32" and "torch" not in sys.modules, weight
    weight = weightfs.open(path)["model_state_dict"]["conv.weight"]  # torch's where torch is
    assert tuple(weight.shape) == (2, 1, 3, 3), weight


def refused(path):
    try:
        weightfs.open(path)
    except weightfs.Error as e:
        assert len(str(e).splitlines()) == 1 and path in str(e), e
    else:
        raise AssertionError(f"{path} was opened")


def mount(path):
    with weightfs.open(path, framework="numpy") as checkpoint:
        assert checkpoint["epoch"] == 41


{"file": file, "refused": refused, "mount": mount}[sys.argv[1]](sys.argv[2])
