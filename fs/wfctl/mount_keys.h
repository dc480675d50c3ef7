/* SPDX-License-Identifier: MIT */
/* The keys of a mount's names out of .weightfs/entries.json: of those that no extended attribute tells, which belongs to a file and not to
 * one of its names. Read at the first question.
 *
 * Calling sequence: a zeroed struct; wfctl_mount_key; wfctl_mount_keys_free, which leaves it zeroed: the next question reads anew. */
#pragma once

#include <stddef.h>

#include "codec/bytes/buffer.h"

struct wfctl_mount_keys {
	struct wf_buffer text; /* "path NUL key NUL" of each entry */
	const char **entries;  /* sorted by path */
	size_t count;
};

/* Appends the key of the name at a path as JSON. It leads over no link. -ENODATA: no entry has it; -EUCLEAN; or the
 * system's error. */
int wfctl_mount_key(struct wfctl_mount_keys *k, const char *mount, const char *path, struct wf_buffer *ret);
void wfctl_mount_keys_free(struct wfctl_mount_keys *k);
