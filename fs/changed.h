/* SPDX-License-Identifier: MIT */
/* What an edit leaves stale in the kernel: the pages of a tensor's own file, and those of its .npy while that is open.
 *
 * Threads: any; both only queue (invalidate.h).
 */
#pragma once

#include "fs.h"

/* For struct wf_open_options.changed; ctx is the struct fs. */
void fs_changed(void *ctx, uint32_t ino, uint64_t offset, uint64_t len);
/* The tensor was written through its own file. */
void fs_changed_npy(struct fs *fs, uint32_t ino);
