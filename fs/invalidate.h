/* SPDX-License-Identifier: MIT */
/* Tells the kernel which cached pages and names are stale, from a thread of its own; invalidate.c says why.
 *
 * Calling sequence: fs_invalidator_start once fs->session exists, the others from any thread, fs_invalidator_stop before it is destroyed.
 * Before the start and after the stop a change is dropped: nothing is mounted then.
 */
#pragma once

#include "fs.h"

int fs_invalidator_start(struct fs *fs); /* 0 or a negative errno */
void fs_invalidator_stop(struct fs *fs); /* accepts that it was never started */

/* Only queues. len 0: to the end, and the attributes. */
void fs_invalidate_node(struct fs *fs, fuse_ino_t ino, uint64_t offset, uint64_t len);
/* The same for a name of a directory: whether it is there, and which node it is. Returns 0 or -ENOMEM. */
int fs_invalidate_entry(struct fs *fs, fuse_ino_t dir, const char *name);

/* Waits until the kernel knows of the changes so far, for a moment at most. Before an edit is answered. */
void fs_settle(struct fs *fs);
/* Likewise, but of names alone: before a directory is shown under one that it may have had to leave another for. The kernel has each in
 * one place, and answers ESTALE where it cannot take it away from the old one at once. */
void fs_settle_names(struct fs *fs);
/* Likewise before a close or fsync is answered, for longer. */
void fs_settle_close(struct fs *fs);
