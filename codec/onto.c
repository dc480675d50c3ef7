/* SPDX-License-Identifier: MIT */
/* Edits that were made on one file, committed to another one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"
#include "codec/bytes/util.h"

/* Two sets of edits for one file cannot be told apart afterwards. */
static int check_own_edits(const char *from, const char *to, struct wf_error *err)
{
	uint64_t edits = 0;
	char why[64];
	if (access(to, F_OK) < 0)
		return wf_fail(err, -errno, "%s: %s", to, strerror(errno));
	if (!strcmp(from, to))
		return 0;
	int r = wf_overlay_look(to, &edits, why, sizeof why, err);
	if (r == 0 && edits > 0)
		r = wf_fail(err, -EEXIST, "%s has edits of its own that wait for a commit", to);
	return r;
}

int wf_commit_onto(const char *path, const char *onto, struct wf_error *err)
{
	cleanup_free char *from = wf_edited_path(path), *to = wf_edited_path(onto);
	const struct wf_open_options options = {.writable = true, .edits_of = from};
	struct wf_checkpoint *ck = NULL;
	int r = from && to ? check_own_edits(from, to, err) : wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = wf_open(onto, &options, &ck, err);
	if (r == 0)
		r = wf_commit(ck, err);
	wf_close(ck);
	return r;
}
