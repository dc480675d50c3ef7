/* SPDX-License-Identifier: MIT */
/* Dropping what waits: after a commit that has it in the file, or because nothing was edited. */
#include <errno.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"

static int drop_log(struct wf_overlay *ov)
{
	wf_overlay_forget_log(ov);
	wf_overlay_drop_next(ov);
	return unlinkat(ov->dir_fd, "log", 0) < 0 && errno != ENOENT ? -errno : 0;
}

int wf_overlay_clear(struct wf_overlay *ov, bool (*keep)(void *ctx, uint32_t number), void *ctx)
{
	int gone = 0;
	ov->written = ov->goes_on = false;
	if (ov->dir_fd < 0) {
		wf_overlay_forget_log(ov);
		return 0;
	}
	/* the mark last: with it, and without the old log, an opening still knows that the edits are in the file */
	unlinkat(ov->dir_fd, "log.new", 0);
	unlinkat(ov->dir_fd, "commit.new", 0); /* a kill left it before it was the mark */
	if (!keep || ov->next_state == WF_NEXT_NONE)
		gone = drop_log(ov);
	else if (ov->next_state == WF_NEXT_READY)
		gone = wf_overlay_use_next(ov);
	if (gone < 0)
		return gone;
	wf_overlay_remove_files(ov, keep, ctx);
	int r = wf_sync_directory(ov->dir_fd);
	if (r < 0)
		return r;
	if (unlinkat(ov->dir_fd, "commit", 0) < 0 && errno != ENOENT)
		return -errno;
	wf_overlay_remove_undo(ov); /* what a mark still needs is never dropped before it */
	ov->new_log_name = true;
	ov->next_state = WF_NEXT_NONE;
	return 0;
}

int wf_overlay_forget(struct wf_overlay *ov)
{
	/* once the log's name is gone the edits are: what else cannot be removed is tried again before the next edit */
	if (ov->dir_fd >= 0 && unlinkat(ov->dir_fd, "log", 0) < 0 && errno != ENOENT)
		return -errno;
	ov->keep = NULL;
	ov->uncleared = wf_overlay_clear(ov, NULL, NULL) < 0;
	return 0;
}
