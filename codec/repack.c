/* SPDX-License-Identifier: MIT */
/* A checkpoint without dead bytes. */
#include "codec/checkpoint.h"

#include <errno.h>

int wf_repack(const char *path, bool trim, uint32_t alignment, bool with_pending, struct wf_error *err)
{
	const struct wf_open_options options = {.writable = true};
	struct wf_checkpoint *ck = NULL;
	int r = wf_open(path, &options, &ck, err);
	if (r == 0 && !with_pending && wf_is_dirty(ck))
		r = wf_fail(err, -EBUSY, WF_EDITS_WAIT);
	if (r == 0)
		r = wf_commit_whole(ck, trim, alignment, err);
	wf_close(ck);
	return r;
}
