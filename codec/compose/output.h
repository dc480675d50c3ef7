/* SPDX-License-Identifier: MIT */
/* Commits to an output whose name asks for another format than the checkpoint has: x.safetensors, written as wfctl export writes it; but
 * what has no place there is never left out: the commit is refused and names it.
 *
 * Threads: wf_output_choose while the checkpoint is opened, behind the edits; what it sets runs inside a commit.
 */
#pragma once

#include "codec/edit/state.h"

/* Sets ck->write_other where the output's suffix asks for it, and tells the log what a commit would be refused for as things are.
 * Returns: 0, also without an output; -EOPNOTSUPP a format that no commit writes; -ENOMEM. */
int wf_output_choose(struct wf_checkpoint *ck, struct wf_error *err);
