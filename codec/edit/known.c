/* SPDX-License-Identifier: MIT */
/* What is known of a file beside its object, its content and its name decides what is made of the next content: whether the file is new,
 * whether it was judged, whether attributes wait or have come true. Most of it follows from the records, which change it in a replay as they
 * did when they were made; what a judgement or the end of writing changed does not, and has a record of its own (KNOWN).
 *
 * f->known is what a replay of the log so far would know. Whoever changes one of those words without a record says so to wf_edit_tell_known
 * before the next record that concerns the file; a function that a record replays ends with wf_edit_knows. */
#include <errno.h>

#include "codec/edit/inner.h"

/* Older logs have no such record: their replay infers what it can (edit/replay.c), and they go on without it until a commit. */
#define FIRST_VERSION 3u

static uint8_t now(const struct wf_file *f)
{
	return (uint8_t)((f->is_new ? KNOWN_NEW : 0) | (f->is_new && f->judged ? KNOWN_JUDGED : 0) |
			 (f->stand_in ? KNOWN_STANDS_IN : 0) | (f->declared ? KNOWN_DECLARED : 0) |
			 (f->declared_fits ? KNOWN_CAME_TRUE : 0));
}

void wf_edit_knows(struct wf_file *f)
{
	if (f)
		f->known = now(f);
}

bool wf_edit_log_tells_known(const struct wf_checkpoint *ck)
{
	return wf_overlay_log_version(ck->overlay) >= FIRST_VERSION;
}

static int record_known(struct wf_checkpoint *ck, wf_ino ino, uint8_t known)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_u8(b, known);
	return r < 0 ? r : wf_edit_record(ck, EDIT_KNOWN, false);
}

int wf_edit_tell_known(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = 0;
	if (!f || f->known == now(f))
		return 0;
	if (!ck->edits->replaying && wf_edit_log_tells_known(ck) && wf_tree_node(ck->tree, ino)->nlink > 0)
		r = record_known(ck, ino, now(f));
	if (r == 0)
		f->known = now(f);
	return r;
}

/* ---- what a failure brings back ---- */

bool wf_edit_has_untold(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && f->old && f->old->is_tensor && !f->old->told && wf_edit_log_tells_known(ck);
}

void wf_edit_told_old(struct wf_file *f)
{
	if (f->old)
		f->old->told = true;
}

int wf_edit_tell_old(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (ck->edits->replaying || !wf_edit_has_untold(ck, ino))
		return 0;
	int r = wf_tree_node(ck->tree, ino)->nlink > 0 ? record_known(ck, ino, now(f) | KNOWN_FIRST) : 0;
	if (r == 0)
		wf_edit_told_old(f);
	return r;
}

int wf_edit_log_known(struct wf_checkpoint *ck, wf_ino ino, bool made_new)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	uint8_t told = (uint8_t)((made_new ? KNOWN_NEW : 0) | (f && f->declared ? KNOWN_DECLARED : 0));
	return !f || now(f) == told ? 0 : record_known(ck, ino, now(f));
}
