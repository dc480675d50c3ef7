#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Row 13: tools that map or stream: they find in the mount, and at user.torch.file_offset of the checkpoint itself, the tensors' bytes."""
import json
import os

import numpy as np

from common import BUILD, KEYS, Net, fill, ok, rows, same

MAP = os.path.join(BUILD, "tests", "torch", "workflows", "map-bytes")


def equals_memmap(p, tensor):
    shape = tuple(json.loads(os.getxattr(p, "user.torch.shape")))
    mapped = np.memmap(p, np.dtype(os.getxattr(p, 'user.numpy.descr').decode()), 'r', shape=shape)
    return mapped.shape == tuple(tensor.shape) and mapped.dtype == np.float32 and np.array_equal(mapped, tensor.numpy())


def streams(w):
    """Whole files, by programs that know nothing of tensors."""
    state = fill(Net()).state_dict()
    w.save(state)
    w.sh("mkdir raw")
    for k, v in state.items():
        with open(w.path(f"raw/{k}"), "wb") as f:
            f.write(v.numpy().tobytes())
    for options in ("ro", "rw"):
        with w.mounted(options=options):
            same(w.sh("for f in raw/*; do cmp $f mnt/${f##*/} && echo same; done"), "same\n" * 10, f"{options}: cmp")
            for tool in ("sha256sum *", "for f in *; do xxd $f; done", "od -A d -t f4 *", "for f in *; do MAP $f | sha256sum; done"):
                tool = tool.replace("MAP", MAP)
                got = w.sh(f"cd mnt; {tool}")
                ok(got and got == w.sh(f"cd raw; {tool}"), f"{options}: {tool.replace(MAP, 'mmap in C')}")
            part = "fc1.weight 100000 5000 | xxd"
            same(w.sh(f"{MAP} mnt/{part}"), w.sh(f"{MAP} raw/{part}"), f"{options}: a part, mapped")
            wrong = [k for k, v in state.items() if not equals_memmap(os.path.join(w.mnt, k), v)]
            same(wrong, [], f"{options}: np.memmap with the README's line")
    w.judge("reading changed nothing", state)


def in_the_checkpoint(w):
    """Each tensor whose bytes stand in the file says where; others do not."""
    state = fill(Net()).state_dict()
    state["turned"] = state["fc1.weight"].t()
    state["row"] = state["fc1.weight"][7]
    w.save(state)

    def place(key):
        return int(w.sh(f"getfattr --only-values -n user.torch.file_offset mnt/{key}"))

    def wrong(keys):
        return [k for k in keys if w.sh(f"{MAP} model.pt {place(k)} {os.stat(w.path('mnt/' + k)).st_size} | cmp - mnt/{k} || echo differs")]

    with w.mounted():
        same(wrong(KEYS + ["row"]), [], "user.torch.file_offset in the checkpoint itself: the same bytes")
        same(place("row") - place("fc1.weight"), 7 * 400 * 4, "a row of a matrix is in it")
        w.refused("getfattr -n user.torch.file_offset mnt/turned", "No such attribute")
        w.sh("printf 0000803f | xxd -r -p | dd of=mnt/fc3.bias conv=notrunc status=none")
        w.refused("getfattr -n user.torch.file_offset mnt/fc3.bias", "No such attribute")
    state["fc3.bias"][0] = 1.0
    w.judge("one number changed", state)
    with w.mounted(options="ro"):
        same(wrong(KEYS + ["row"]), [], "after a commit: the offsets of the new file")


def written_through_a_mapping(w):
    state = fill(Net()).state_dict()
    w.save(state)
    with w.mounted():
        w.sh(f"{MAP} -w mnt/fc2.weight")
        p = w.path("mnt/conv2.weight")
        mapped = np.memmap(p, np.dtype(os.getxattr(p, 'user.numpy.descr').decode()), 'r+', shape=(16, 6, 5, 5))
        mapped[3] *= 2
        mapped.flush()
        del mapped
    state["fc2.weight"].numpy().view(np.int32)[...] ^= -1
    state["conv2.weight"][3] *= 2
    w.judge("bytes written through shared mappings", state)


rows(streams, in_the_checkpoint, written_through_a_mapping)
