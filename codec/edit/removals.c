/* SPDX-License-Identifier: MIT */
/* Removals that were put off are made. edit/hide.c tells why one is. */
#include "codec/edit/inner.h"

int wf_edits_settle_removals(struct wf_checkpoint *ck)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (!ck->edits || ck->edits->put_off_count == 0)
		return 0;
	int r = wf_overlay_prepare_removal(ck->overlay);
	while (r == 0 && wf_edit_next_put_off(ck, &p)) {
		if (!wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name))
			continue;
		r = wf_edit_remove_now(ck, &p, name);
		if (r < 0) /* no room: it is as far as it was, and whoever comes next tries again */
			wf_edit_put_off(ck, &p);
	}
	return r;
}

/* commit_lock is held, and let go of. ended: whoever removed has. */
static void settle_and_unlock(struct wf_checkpoint *ck, bool ended)
{
	pthread_rwlock_wrlock(&ck->lock);
	if (ended)
		wf_edits_leave_hidden(ck);
	wf_edits_settle_removals(ck);
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
}

static void try_to_settle(struct wf_checkpoint *ck, bool ended)
{
	if (!ck->writable || !ck->overlay || pthread_mutex_trylock(&ck->commit_lock) != 0)
		return; /* a commit or an edit, which makes them itself */
	settle_and_unlock(ck, ended);
}

void wf_settle_removals(struct wf_checkpoint *ck)
{
	try_to_settle(ck, false);
}

void wf_end_removals(struct wf_checkpoint *ck)
{
	try_to_settle(ck, true);
}

void wf_edits_wait_and_settle(struct wf_checkpoint *ck)
{
	pthread_mutex_lock(&ck->commit_lock);
	settle_and_unlock(ck, false);
}
