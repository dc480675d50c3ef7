/* SPDX-License-Identifier: MIT */
/* A checkpoint that another process holds for writing although nothing is mounted any more: after umount(8) the daemon
 * commits, and until it is done nobody else may write.
 *
 * Threads: any.
 */
#pragma once

/* Calls attempt(ctx), and again after a little while as long as it says -EBUSY, no mount shows the checkpoint, and less than ten seconds
 * were waited in all. Returns what the last one said. An attempt may have filled its struct wf_error; the next one overwrites it. */
int fs_when_free(const char *checkpoint, int (*attempt)(void *ctx), void *ctx);
