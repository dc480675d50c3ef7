/* SPDX-License-Identifier: MIT */
/* The beginning and the end of every edit: its locks and its place in the log. And what makes edits durable. */
#include <errno.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"

static int begin(struct wf_checkpoint *ck, bool removes)
{
	if (!ck->writable || !ck->overlay)
		return -EROFS;
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	int r = removes ? wf_overlay_prepare_removal(ck->overlay) : wf_overlay_prepare(ck->overlay);
	if (r == 0 && !removes)
		r = wf_edits_settle_removals(ck);
	if (r < 0) {
		wf_refuse(ck, r, "%s takes no edit: %s", wf_overlay_directory(ck->overlay), strerror(-r));
		wf_edit_end(ck);
	}
	return r;
}

int wf_edit_begin(struct wf_checkpoint *ck)
{
	return begin(ck, false);
}

int wf_edit_begin_removal(struct wf_checkpoint *ck)
{
	return begin(ck, true);
}

void wf_edit_begin_untold(struct wf_checkpoint *ck)
{
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
}

void wf_edit_end(struct wf_checkpoint *ck)
{
	if (wf_overlay_wants_room(ck->overlay))
		wf_overlay_sync(ck->overlay); /* the next one says what is wrong */
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
}

/* ---- durability ---- */

static int settle_and_sync(struct wf_checkpoint *ck)
{
	int r = wf_edits_settle_removals(ck);
	return r < 0 ? r : wf_overlay_sync(ck->overlay);
}

int wf_sync(struct wf_checkpoint *ck)
{
	if (!ck->writable || !ck->overlay)
		return 0;
	pthread_mutex_lock(&ck->commit_lock);
	/* reads go on while the disk is waited for; what is left then is little */
	int r = wf_checkpoint_flush(ck);
	pthread_rwlock_wrlock(&ck->lock);
	if (r == 0)
		r = settle_and_sync(ck);
	wf_edit_end(ck);
	return r;
}

int wf_sync_behind(struct wf_checkpoint *ck)
{
	int r = 0;
	if (!ck->writable || !ck->overlay)
		return 0;
	if (atomic_load(&ck->progress.running))
		return -EAGAIN; /* it makes all of them durable, and edits wait for it */
	/* without keeping edits away: what is written meanwhile is less each time */
	for (int i = 0; r == 0 && i < 2; i++)
		r = wf_checkpoint_flush(ck);
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	bool removing = wf_edit_is_removing(ck);
	if (r == 0)
		r = removing ? wf_overlay_sync(ck->overlay) : settle_and_sync(ck);
	if (r == 0 && removing)
		r = -EAGAIN; /* in the middle of an rm -r */
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
	return r;
}

bool wf_is_dirty(struct wf_checkpoint *ck)
{
	struct wf_overlay_usage usage;
	if (!ck->overlay)
		return false;
	pthread_rwlock_rdlock(&ck->lock);
	wf_checkpoint_usage(ck, &usage);
	bool dirty = usage.edits > 0 || wf_edits_is_hiding(ck);
	for (uint32_t i = 0; !dirty && ck->edits->pending_count > 0 && i < ck->edits->files_count; i++)
		dirty = ck->edits->files[i] && ck->edits->files[i]->touched;
	pthread_rwlock_unlock(&ck->lock);
	return dirty;
}
