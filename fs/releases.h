/* SPDX-License-Identifier: MIT */
/* The ends of openings, for requests that need files closed. The kernel tells of the last close of a file when close(2) has returned, and
 * another thread of the daemon hears of it: whoever closes all and then discards, say, must not be told that a file is open.
 *
 * Calling sequence: fs_releases_start before the first request, fs_releases_free after the last one. Threads: any.
 */
#pragma once

#include <stdbool.h>

#include "fs.h"

int fs_releases_start(struct fs *fs); /* 0 or -ENOMEM */
void fs_releases_free(struct fs *fs);

/* An opening has ended, and all that its end does is done. */
void fs_released(struct fs *fs);

/* Waits while it is in the way, as long as releases may be on their way. With a single thread none is: they come in their order. */
void fs_wait_for_releases(struct fs *fs, bool (*in_the_way)(struct fs *fs));
/* Does it, again when something was released for as long as it says -EBUSY, or -ENOSPC: what was removed while it was open gives its room
 * back in the end. Returns what it said last. */
int fs_do_after_releases(struct fs *fs, int (*attempt)(struct fs *fs, struct wf_error *err), struct wf_error *err);
