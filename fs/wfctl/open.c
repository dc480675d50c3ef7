/* SPDX-License-Identifier: MIT */
/* Opens a checkpoint for reading, and says so where it cannot. */
#include "fs/wfctl/open.h"

#include "codec/checkpoint.h"
#include "fs/wfctl/fail.h"

struct wf_checkpoint *wfctl_open(const char *path, bool plain)
{
	/* who looks at the checkpoint alone is told everything by wf_verify */
	struct wf_open_options options = {
		.ignore_overlay = plain, .tells_unread = true, .log = plain ? NULL : wfctl_note};
	struct wf_checkpoint *ck;
	struct wf_error err = {0};
	int r = wf_open(path, &options, &ck, &err);
	if (r == 0)
		return ck;
	wfctl_fail_error(path, r, &err);
	return NULL;
}
