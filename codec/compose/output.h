/* SPDX-License-Identifier: MIT */
/* Commits to an output whose name asks for another format than the checkpoint has: x.safetensors, written as wfctl export writes it; but
 * what has no place there is never left out: the commit is refused and names it.
 *
 * Threads: wf_output_choose while the checkpoint is opened, behind the edits; what it sets runs inside a commit.
 */
#pragma once

#include "codec/edit/state.h"

/* Sets ck->output, and ck->output_set where a checkpoint in several files is written into a directory, which is made where ck is writable. The output
 * need not exist. Returns: 0; -EOPNOTSUPP, -ENOTDIR, -ENOMEM, or mkdir's error. */
int wf_output_find(struct wf_checkpoint *ck, const char *output, struct wf_error *err);
/* Before the overlay is closed: what is left of an output that is a directory. */
void wf_output_end(struct wf_checkpoint *ck);

/* Sets ck->write_other where the output's suffix asks for it, and tells the log what a commit would be refused for as things are.
 * Returns: 0, also without an output; -EOPNOTSUPP a format that no commit writes; -ENOMEM. */
int wf_output_choose(struct wf_checkpoint *ck, struct wf_error *err);
