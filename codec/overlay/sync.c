/* SPDX-License-Identifier: MIT */
/* Room for an edit before it is made, and what makes edits durable after. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"

int wf_overlay_sync(struct wf_overlay *ov)
{
	ov->wants_room = false;
	if (!ov->writable || ov->dir_fd < 0 || ov->unlogged)
		return 0;
	int r = wf_overlay_sync_files(ov);
	if (r == 0 && ov->new_data_name)
		r = wf_overlay_sync_names(ov->data_fd, &ov->data_names_failed);
	if (r < 0)
		return r;
	ov->new_data_name = false;
	r = wf_overlay_sync_log(ov);
	if (r < 0)
		return r;
	if (ov->new_directory) {
		r = wf_overlay_sync_parent(ov);
		if (r < 0)
			return r;
		ov->new_directory = false;
	}
	ov->unsynced = 0;
	wf_overlay_unlink_dropped(ov);
	return 0;
}

bool wf_overlay_wants_room(const struct wf_overlay *ov)
{
	return ov->wants_room;
}

/* ---- before an edit ---- */

static int make_directory(struct wf_overlay *ov)
{
	int r = wf_overlay_make_directory(ov);
	if (r == 0)
		r = wf_overlay_lock_directory(ov, NULL);
	if (r < 0)
		return r;
	wf_overlay_note_pid(ov);
	return wf_overlay_make_data(ov);
}

static int prepare(struct wf_overlay *ov, bool removes)
{
	if (!ov->writable)
		return -EROFS;
	if (ov->uncleared) {
		/* with the mark of a finished commit beside it, a new log would be taken for that commit's */
		int left = wf_overlay_clear(ov, ov->keep, ov->keep_ctx);
		if (left < 0)
			return left;
		ov->uncleared = false;
	}
	if (ov->written) {
		/* with the mark beside it, the log would be taken for the commit's */
		if (unlinkat(ov->dir_fd, "commit", 0) < 0 && errno != ENOENT)
			return -errno;
		int gone = wf_sync_directory(ov->dir_fd);
		if (gone < 0)
			return gone;
		ov->written = false;
	}
	int r = make_directory(ov);
	if (ov->unlogged)
		return r;
	/* here and not with the record: a full disk refuses an edit, and never loses one that was made */
	if (r == 0)
		r = wf_overlay_reserve_log(ov, removes);
	if (r < 0 && ov->dropped_count > 0 && wf_overlay_sync(ov) == 0)
		r = wf_overlay_reserve_log(ov, removes);
	return r == 0 && ov->buffer.len >= WF_OVERLAY_BUFFER ? wf_overlay_write_log(ov) : r;
}

int wf_overlay_prepare(struct wf_overlay *ov)
{
	return prepare(ov, false);
}

int wf_overlay_prepare_removal(struct wf_overlay *ov)
{
	return prepare(ov, true);
}

/* ---- why a commit failed ---- */

void wf_overlay_note_failure(struct wf_overlay *ov, const char *why)
{
	int64_t now = time(NULL);
	char payload[8 + sizeof ov->failure];
	snprintf(ov->failure, sizeof ov->failure, "%s", why);
	ov->failure_time = now;
	if (!ov->writable || ov->log_fd < 0 || ov->uncleared || ov->unlogged)
		return;
	size_t len = strlen(ov->failure);
	memcpy(payload, &now, 8);
	memcpy(payload + 8, ov->failure, len);
	if (wf_overlay_record(ov, WF_RECORD_FAILURE, payload, 8 + len, false) == 0)
		wf_overlay_sync(ov);
}

const char *wf_overlay_failure(const struct wf_overlay *ov, int64_t *ret_time)
{
	*ret_time = ov->failure_time;
	return ov->failure[0] ? ov->failure : NULL;
}
