/* SPDX-License-Identifier: MIT */
/* What the log knows of a file beside its object, its content and its name, for the files of this folder.
 *
 * What the next content of a file becomes depends on what is known of it: whether the file is new, whether it was judged, whether attributes
 * wait for content or have come true, and which state a failure brings back. After a replay all of that has to be as it was. Most of it
 * follows from the records, for a replay calls the functions that made them; the rest, which a judgement or the end of writing decides, is
 * said by the record KNOWN. The log of an older program has none until a commit begins another log: its replay infers (edit/replay.c).
 *
 * Calling sequence: a function that a replay calls, too, ends with wf_edit_knows; whoever changes is_new, judged, stand_in, declared_fits or
 * declared in any other way calls wf_edit_tell_known before the next record of the file. Before a record that changes the object,
 * wf_edit_tell_old, or the record says so itself. Threads: the checkpoint's lock is held exclusively.
 */
#pragma once

#include "codec/edit/state.h"

struct wf_file;

void wf_edit_knows(struct wf_file *f); /* NULL: nothing was changed */
/* 0, or what the log said. */
int wf_edit_tell_known(struct wf_checkpoint *ck, wf_ino ino);
bool wf_edit_log_tells_known(const struct wf_checkpoint *ck);
/* In a log that a commit begins, behind the record that makes the entry and those of what was declared. made_new: it is a CREATE. */
int wf_edit_log_known(struct wf_checkpoint *ck, wf_ino ino, bool made_new);

/* Whether a failure brings back a tensor of which no record says yet that what stands now is it. */
bool wf_edit_has_untold(const struct wf_checkpoint *ck, wf_ino ino);
void wf_edit_told_old(struct wf_file *f); /* a record has said it */
int wf_edit_tell_old(struct wf_checkpoint *ck, wf_ino ino);

/* edit/old.c: of a replay: what stands now is what a failure brings back, whatever was remembered before. */
int wf_edit_replay_old(struct wf_checkpoint *ck, wf_ino ino);
