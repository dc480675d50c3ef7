/* SPDX-License-Identifier: MIT */
/* Makes edits durable without being asked, from a thread of its own.
 *
 * Calling sequence: fs_write_behind_start on a writable mount, fs_edited from any thread, fs_write_behind_stop before the checkpoint is
 * closed.
 */
#pragma once

#include "fs.h"

int fs_write_behind_start(struct fs *fs); /* 0 or a negative errno */
void fs_write_behind_stop(struct fs *fs); /* accepts that it was never started */
/* An edit was made, or may have been. */
void fs_edited(struct fs *fs);
