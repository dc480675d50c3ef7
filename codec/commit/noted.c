/* SPDX-License-Identifier: MIT */
/* The names of files that a commit makes and removes, where a crash is found out about. */
#include <errno.h>
#include <string.h>

#include "codec/commit/run_inner.h"

int wf_commit_note_files(struct wf_commit_run *c, const struct wf_buffer *names)
{
	wf_commit_take_overlay(c->ck);
	int r = wf_buffer_status(names);
	if (r == 0)
		r = wf_overlay_note_files(c->ck->overlay, names->data, names->len);
	wf_commit_leave_overlay(c->ck);
	return r < 0 ? wf_fail(c->err, r, "%s: %s", wf_overlay_directory(c->ck->overlay), strerror(-r)) : 0;
}
