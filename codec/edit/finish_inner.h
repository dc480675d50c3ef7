/* SPDX-License-Identifier: MIT */
/* The life of content in a writer's hands: from an opening over its closes to the release.
 *
 * wf_open_file and wf_release (open.c) count the openings; each edit of content (content.c) first says wf_edit_resume. A close judges
 * what was written and settles it. Threads: the checkpoint's lock is held exclusively.
 */
#pragma once

#include <errno.h>

#include "codec/edit/inner.h"

/* Whether an error of judging says that the content does not fit. Any other one says that judging it failed: no room, no memory. After
 * either the entry is what it was. */
static inline bool wf_edit_is_refusal(int r)
{
	return r == -EINVAL || r == -EPERM || r == -EFBIG || r == -EOPNOTSUPP || r == -EROFS;
}

/* An opening for writing. */
struct wf_opening {
	/* A copy of its descriptor was closed: so shells redirect, who then hear no error of the last close. Noted without the lock. */
	_Atomic bool flushed;
	bool appends; /* O_APPEND */
	int failed;   /* what the last write that failed gave, or 0 */
	uint32_t
		round; /* of the file: the next one, where it found settled content; one of an earlier round is taken for closed */
};

/* edit/begin.c: an edit of what needs no record begins: no log is made for it. */
void wf_edit_begin_untold(struct wf_checkpoint *ck);

/* Nobody writes any more: what was pending is judged if need be, and goes. */
int wf_edit_end_writing(struct wf_checkpoint *ck, wf_ino ino);
/* Content was judged for something else than the end of writing: where nobody writes, what a writer would go back to is forgotten. */
void wf_edit_rest(struct wf_checkpoint *ck, wf_ino ino);
/* What stands was judged: it is what a failure brings back from now on, whoever has the file open. */
void wf_edit_keep_as_judged(struct wf_checkpoint *ck, wf_ino ino);
/* Content of the file was refused, and writing has ended. A new file that nobody writes any more never was an entry of a format that has no
 * place for it, and goes: an empty one would be an empty tensor at the commit. */
void wf_edit_take_away(struct wf_checkpoint *ck, wf_ino ino);
/* Between the last close and the release. All that was written is judged: readers see the entry, and the writers' bytes stand aside. */
void wf_edit_settle(struct wf_checkpoint *ck, wf_ino ino);
/* An edit of content begins, by that opening (NULL: by its path): a writer of this round goes on from its bytes, any other one from the
 * entry. Returns 0, or what ending the round came to. */
int wf_edit_resume(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o);
/* Somebody else edits the file: where it is settled, its writers are taken for closed, and what their release has to do is done. */
int wf_edit_end_round(struct wf_checkpoint *ck, wf_ino ino);
/* Nobody writes any more, but for those that have opened the file since it was settled. Returns what wf_edit_end_writing did. */
int wf_edit_next_round(struct wf_checkpoint *ck, wf_ino ino);
/* After a rename: a new file is judged by its new name. */
int wf_edit_judge_again(struct wf_checkpoint *ck, wf_ino ino);
int wf_edit_judge_all(struct wf_checkpoint *ck); /* what nobody has open for writing */
