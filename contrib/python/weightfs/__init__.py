# SPDX-License-Identifier: MIT
"""PyTorch checkpoints without torch.load: nothing in a file is ever executed, and what is not asked for is not read.

    import weightfs
    checkpoint = weightfs.open("model.pt")              # a file; no mount, no torch needed
    checkpoint["epoch"]                                 # 10
    checkpoint["model_state_dict"]["fc.weight"]         # a tensor; a NumPy array where torch is not installed

    model.load_state_dict(weightfs.load("model.pt"), assign=True)     # all of it, of a file or of a mount
    model.load_state_dict(weightfs.load("mnt", device="cuda"), assign=True)

The bytes of a file are read by `wfctl`, which is found beside this package, as the wheel brings it, in $WEIGHTFS_WFCTL or in PATH.
"""
from __future__ import annotations

from typing import Any, Optional

from weightfs.entries import Error, Opaque, Parts, StrPath, has_torch
from weightfs.lazy import Checkpoint, Mapping, Sequence, open

__all__ = ["open", "load", "Checkpoint", "Mapping", "Sequence", "Parts", "Opaque", "Error"]
__version__ = "0.1.0"


def load(path: StrPath, prefix: str = "", *, device: Optional[str] = None, writable: bool = False, copy: bool = True) -> Any:
    """What torch.load gives for a checkpoint, or for the part of it at `prefix` (a path below the mount): weightfs.load explains what
    differs. Needs torch.

    path: a checkpoint file, or the mount point of one.
    device: where all tensors are to be ("cuda", "cuda:1", "cpu"); None: where the mount has them, for a file the CPU.
    writable: of a mount: tensors share their pages with it, so that changes become edits of the checkpoint; otherwise changes stay in
        this process.
    copy: tensors that a mount has on a device are copied there, one copy for each storage; otherwise they share the daemon's memory,
        which must not be changed, and hold the mount busy.

    Each tensor has the shape, dtype and values that torch.load would give it.

    Raises weightfs.Error for what is no checkpoint or cannot be read, KeyError for a prefix that is not there, ImportError where torch is not
    installed, TypeError for a dtype that this torch does not have.
    """
    if not has_torch():
        raise ImportError("weightfs.load gives torch's tensors, and torch is not installed; weightfs.open does without")
    from weightfs.eager import load as load_all
    return load_all(path, prefix, device=device, writable=writable, copy=copy)
