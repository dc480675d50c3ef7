/* SPDX-License-Identifier: MIT */
/* Sizes that were set without an opening are judged when no write follows, by a thread of its own.
 *
 * Calling sequence: fs_waiting_start on a writable mount, fs_waiting_begins from any thread, fs_waiting_stop before the checkpoint is
 * closed.
 */
#pragma once

#include "fs.h"

int fs_waiting_start(struct fs *fs); /* 0 or a negative errno */
void fs_waiting_stop(struct fs *fs); /* accepts that it was never started */
/* Such a size was set. */
void fs_waiting_begins(struct fs *fs);
