/* SPDX-License-Identifier: MIT */
/* The life of a mount.
 *
 *   opened     the checkpoint is read: what is wrong with it is told before anything is mounted
 *   mounted    the kernel has the mount; the child runs, the parent waits
 *   ready      INIT was answered: the parent says so by its exit status (fs_session_ready)
 *   serving    requests, until the mount is gone or a signal comes
 *   closing    a writable checkpoint with edits is committed, the overlay kept where that fails
 *
 * In the background the process that serves is a child, forked before any thread exists; its parent waits for one byte
 * of success or one line of failure.
 */
#pragma once

#include "fs.h"

/* Runs all of it; returns the exit status. */
int fs_session_run(struct fs *fs);
