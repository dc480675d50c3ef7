#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The terminal sessions of the README, replayed: torch makes the checkpoints, sh runs each command, its output must be what stands there.

tests/packages/readme_sessions.py replays the same where no torch is installed.
"""
import os
import shutil
import sys

from common import HERE, Net, Workflow, done, fill, ok, other, sgd, train
from kit import run

SOURCE = os.path.join(HERE, "..", "..", "..")
sys.path.append(os.path.join(SOURCE, "tests", "packages"))
from readme_sessions import matches, sessions  # noqa: E402


def prepare(w):
    """What the sessions speak of."""
    model = fill(Net())
    w.save(model.state_dict())
    w.save(other(Net()).state_dict(), "donor.pt")
    optimizer = sgd(model)
    loss = train(model, optimizer)
    w.save({"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss},
           "checkpoint.pt")
    w.save({"state_dict": model.state_dict()}, "last.ckpt")
    shutil.copytree(os.path.join(SOURCE, "tests", "files", "zero", "stage3-bf16"), w.path("outputs/checkpoint-500"))
    w.sh("mkdir donor bin")
    with open(w.path("bin/python3"), "w") as f:
        f.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(w.path("bin/python3"), 0o755)
    w.env.update(PATH=w.path("bin") + ":" + w.env["PATH"], PYTHONPATH=os.path.dirname(HERE), PYTHONWARNINGS="ignore")


found = sessions(os.path.join(SOURCE, "README.md"))
ok(len(found) >= 4, f"the README has {len(found)} sessions")
for session in found:
    with Workflow() as w:
        prepare(w)
        for command, lines in session:
            result = run("sh", "-c", command, cwd=w.dir, env=w.env)
            printed = result.stdout + result.stderr
            ok(result.returncode == 0 and matches(lines, printed), f"README: {command}", printed)
done()
