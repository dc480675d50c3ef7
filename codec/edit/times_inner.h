/* SPDX-License-Identifier: MIT */
/* When each entry was edited (edit/times.c), and which of them no commit takes (edit/outside.c). Part of codec/edit/inner.h, which brings
 * it. The checkpoint's lock is held exclusively. */
#pragma once

#include "codec/edit/state.h"

/* The entry was edited now. content: what reading it gives (a directory: its names), so that mtime follows, too. */
void wf_edit_stamp(struct wf_checkpoint *ck, wf_ino ino, bool content);
/* The same of one that changed because it looks at the bytes of another. */
void wf_edit_stamp_viewer(struct wf_checkpoint *ck, wf_ino ino);
/* edit/outside.c; called by wf_edit_stamp. */
void wf_edit_note_outside(struct wf_checkpoint *ck, wf_ino ino);
/* The order of the directory's entries is another, though no edit named it: a listing that somebody keeps is stale. */
void wf_edit_reordered(struct wf_checkpoint *ck, wf_ino dir);
void wf_edit_stamp_made(struct wf_checkpoint *ck, wf_ino dir, wf_ino ino); /* a new entry of the directory */
/* An edit of one or two names: the directories, and the files that stood there before it. */
struct wf_names_edit {
	wf_ino dir, new_dir, file, replaced; /* WF_NO_INO: none */
};
struct wf_names_edit wf_edit_before(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir,
				    const char *new_name);                         /* new_name may be NULL */
void wf_edit_stamp_names(struct wf_checkpoint *ck, const struct wf_names_edit *e); /* it is done */
void wf_edit_replay_time(struct wf_checkpoint *ck);                                /* before a replay */
