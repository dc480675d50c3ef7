/* SPDX-License-Identifier: MIT */
/* Open files of .weightfs: a text that was made when the file was opened, the same for every read of that handle, and the lease that
 * holding it open means.
 *
 * Ownership: fs_handle_new takes text and lease. The kernel need not release what is open when the session ends, so that
 * fs_handles_free gives back the rest; the checkpoint is still open then.
 *
 * Threads: any; one mutex inside.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fs;
struct fs_handles;
struct wf_buffer;
struct wf_lease;

struct fs_handles *fs_handles_new(void); /* NULL: out of memory */
void fs_handles_free(struct fs *fs);     /* accepts that there are none */

/* *ret: for fuse_file_info.fh, never 0. Returns 0 or -ENOMEM, which frees text and lease. */
int fs_handle_new(struct fs *fs, pid_t opener, struct wf_buffer *text, struct wf_lease *lease, uint64_t *ret);
const struct wf_buffer *fs_handle_text(uint64_t handle); /* borrowed until it is released; NULL for 0 */
/* Returns whether it held a lease. */
bool fs_handle_release(struct fs *fs, uint64_t handle); /* accepts 0 */

/* The numbers of the processes that hold leases, for people. */
void fs_handles_lease_holders(struct fs *fs, char *buf, size_t size);
