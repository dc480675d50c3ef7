/* SPDX-License-Identifier: MIT */
/* Errors of the codec as a caller sees them, and why a call was refused.
 *
 * Calling sequence: the codec notes the reason (fs_note_reason) on the thread that makes the call, fs_outcome takes it from there. A call
 * that only looks has fs_errno.
 */
#pragma once

#include "fs.h"

/* The positive errno. Classes of our own become EIO, and are logged. */
int fs_errno(struct fs *fs, fuse_ino_t ino, int error);
/* The same for a call that edits, with 0 (or more) for one that was done: a refused one is told in .weightfs/log with
 * its name (NULL: the node alone), its errno and the codec's reason. Once for each such call, on the thread that made it. */
int fs_outcome(struct fs *fs, fuse_ino_t ino, const char *call, const char *name, int r);
/* For struct wf_open_options.refused. */
void fs_note_reason(void *ctx, int code, const char *reason);
/* Whether it has told one for this error since this thread's last answer. */
bool fs_knows_reason(int code);
