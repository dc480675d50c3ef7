/* SPDX-License-Identifier: MIT */
/* Removals inside objects whose entries cannot go one by one (edit/hide.c tells what becomes of them), for the files of this folder. With the
 * checkpoint's lock held exclusively. */
#pragma once

#include "codec/edit/state.h"

struct wf_file;

struct wf_place {
	wf_ino dir; /* the one that holds the entry: a scratch directory for scratch names */
	uint32_t position;
};

/* edit/hide.c */
/* Whether an object around the directory, or the directory itself, can be removed whole. */
bool wf_edit_can_go(const struct wf_checkpoint *ck, wf_ino dir);
/* Hides an entry of a directory whose entries cannot go one by one. -EPERM: what is around it cannot be removed either. */
int wf_edit_hide(struct wf_checkpoint *ck, const struct wf_place *p);
/* Of an entry of a directory that wf_edits_is_held: its removal is put off. */
int wf_edit_put_off(struct wf_checkpoint *ck, const struct wf_place *p);
/* The directory goes whole: removals in it that were put off are none, and what the same program hid inside of it is not hidden. */
void wf_edit_call_off(struct wf_checkpoint *ck, wf_ino dir);
/* What is hidden now stays no part of what is removed around it from now on. */
void wf_edits_leave_hidden(struct wf_checkpoint *ck);
/* The first one, which is shown again: it is to be made now, or put off anew. */
bool wf_edit_next_put_off(struct wf_checkpoint *ck, struct wf_place *ret);
bool wf_edit_is_removing(const struct wf_checkpoint *ck); /* whoever removes may still be at it */
/* Something was removed there: whoever removes an object around it is still at work. */
void wf_edit_removed_in(struct wf_checkpoint *ck, wf_ino dir);
void wf_edit_forget_hidden(struct wf_checkpoint *ck, struct wf_file *f);
/* The object has gone, or stands whole at another place. */
void wf_edit_end_hiding(struct wf_checkpoint *ck, wf_ino top);
