# SPDX-License-Identifier: MIT
"""Checkpoints with the tags of GPUs, made where there is none, and what tags a file has."""
import torch.serialization

from common import load, torch


def saved_on(w, places, obj):
    """torch.save on a machine with GPUs: each storage gets the tag that its place says."""
    real = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: places.get(storage.data_ptr(), "cpu")
    try:
        w.save(obj)
    finally:
        torch.serialization.location_tag = real


def tags(w):
    """The tags in the file, as torch.load tells them, and its objects on the CPU."""
    found = []

    def place(storage, location):
        found.append(location)
        return storage
    obj = load(w.file, map_location=place)
    return found, obj
