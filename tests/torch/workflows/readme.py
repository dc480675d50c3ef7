#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The terminal sessions of the README, replayed: torch makes the checkpoints, sh runs each command, its output must be what stands there.

`...` in a session stands for any lines. Owner and date of `ls -l` may differ.
"""
import os
import re
import sys

from common import HERE, Net, Workflow, done, fill, ok, other, sgd, train
from kit import run

README = os.path.join(HERE, "..", "..", "..", "README.md")


def sessions():
    """[[(command, [output line])]] of the README's blocks that begin with a prompt."""
    with open(README) as f:
        blocks = re.findall(r"^```\n(\$ .*?)^```$", f.read(), re.M | re.S)
    return [[(lines[0], lines[1:]) for lines in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.M)[1:])]
            for block in blocks]


def prepare(w):
    """What the sessions speak of."""
    model = fill(Net())
    w.save(model.state_dict())
    w.save(other(Net()).state_dict(), "donor.pt")
    optimizer = sgd(model)
    loss = train(model, optimizer)
    w.save({"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss},
           "checkpoint.pt")
    w.sh("mkdir donor bin")
    with open(w.path("bin/python3"), "w") as f:
        f.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(w.path("bin/python3"), 0o755)
    w.env.update(PATH=w.path("bin") + ":" + w.env["PATH"], PYTHONPATH=os.path.dirname(HERE), PYTHONWARNINGS="ignore")


def without_owner_and_date(line):
    return re.sub(r"^(-[rwx-]{9} +\d+) +\S+ +\S+ +(\d+) +\S+ +\d+ +\S+ ", r"\1 \2 ", line)


def matches(lines, printed):
    """Blank lines do not count."""
    wanted = "".join("(?:.*\n)*" if line == "..." else re.escape(without_owner_and_date(line)) + "\n" for line in lines if line.strip())
    got = "".join(without_owner_and_date(line) + "\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch(wanted, got)


found = sessions()
ok(len(found) >= 3, f"the README has {len(found)} sessions")
for session in found:
    with Workflow() as w:
        prepare(w)
        for command, lines in session:
            result = run("sh", "-c", command, cwd=w.dir, env=w.env)
            printed = result.stdout + result.stderr
            ok(result.returncode == 0 and matches(lines, printed), f"README: {command}", printed)
done()
