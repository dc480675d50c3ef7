/* SPDX-License-Identifier: MIT */
/* The checkpoint as its file says, without the edits: everything that they changed is made anew from the container. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/state.h"
#include "codec/edit/inner.h"

static int check(struct wf_checkpoint *ck, struct wf_error *err)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++)
		if (e->files[i] && e->files[i]->openers > 0)
			return wf_fail(err, -EBUSY, "a file of the mount is open");
	if (ck->placement && wf_placement_is_leased(ck->placement))
		return wf_fail(err, -EBUSY, "another process has a tensor mapped");
	if (wf_overlay_goes_on(ck->overlay))
		return wf_fail(
			err, -EOPNOTSUPP,
			"edits that were committed to %s and edits since then stand in one log: commit, unmount, and mount anew",
			wf_overlay_target(ck->overlay));
	return wf_overlay_check_base(ck->overlay, err);
}

/* From the moment when the log is gone nothing may fail. */
static int swap(struct wf_checkpoint *ck, struct wf_base *fresh, struct wf_edits *edits, struct wf_error *err)
{
	int r = wf_overlay_forget(ck->overlay);
	if (r < 0)
		return wf_fail(err, r, "the edits cannot be removed: %s", strerror(-r));
	edits->changes = ck->edits->changes + 1; /* goes on, for wf_edits_edition */
	wf_edits_close(ck);
	ck->edits = edits;
	wf_edits_start(ck, fresh->storages);
	if (ck->placement)
		wf_placement_start_over(ck->placement, fresh->storages);
	wf_base_swap(ck, fresh);
	ck->relocated = ck->placement && wf_placement_relocated(ck->placement) > 0 &&
			wf_container_keeps_locations(ck->container);
	ck->unseen_known = false;
	wf_archive_free(ck->archive);
	ck->archive = NULL;
	return 0;
}

int wf_revert(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_base fresh = {0};
	struct wf_edits *edits = NULL;
	if (!ck->writable || !ck->overlay)
		return wf_fail(err, -EROFS, "the checkpoint is mounted read-only");
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	int r = check(ck, err);
	if (r == 0 && !(edits = wf_edits_new()))
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = wf_base_read(&ck->place, ck->file, wf_tree_node_count(ck->tree), &fresh, err);
	if (r == 0 && (r = wf_edit_reserve_files(edits, wf_tree_node_count(fresh.tree))) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0 && ck->placement && (r = wf_placement_map(ck->placement, fresh.storages)) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0)
		r = swap(ck, &fresh, edits, err);
	if (r < 0 && edits) {
		free(edits->files);
		free(edits);
	}
	wf_base_free(&fresh);
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
	return r;
}
