/* SPDX-License-Identifier: MIT */
/* A checkpoint in several files whose commits go to a directory (output=DIRECTORY): ck->output_set says which.
 *
 *   wf_output_set_settle      when it is opened, behind the overlay: nothing in the directory is anyone else's
 *   wf_commit_to_output_set   a commit, in place of the steps of commit/commit.c between the plan and the end
 *   wf_output_set_leave       when it is closed, before the overlay is
 */
#pragma once

#include "codec/edit/state.h"

struct wf_commit_run;

/* -ENOTEMPTY: somebody else's files are there, or a checkpoint. Removes what a crash left. */
int wf_output_set_settle(struct wf_checkpoint *ck, struct wf_error *err);
/* put_in_place: the mark and the rename. */
int wf_commit_to_output_set(struct wf_commit_run *c, int (*put_in_place)(struct wf_commit_run *c));
/* A directory that is still empty goes; where edits wait, what is theirs stays. */
void wf_output_set_leave(struct wf_checkpoint *ck);
