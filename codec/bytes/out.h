/* SPDX-License-Identifier: MIT */
/* The file under construction: small pieces are gathered in a buffer, long runs of unchanged bytes move inside the
 * kernel.
 *
 * A run is cloned (FICLONERANGE) where the file system shares blocks and both places agree within a block, else moved
 * by copy_file_range where that is a gain, else by reading and writing; holes stay holes. Writeback starts while the copy goes on, so that
 * the fsync at the end does not begin with the whole file dirty.
 *
 * Calling sequence: wf_out_init, wf_out_reserve, any number of writes and copies, wf_out_finish (fsync is the
 * caller's); wf_out_free always. Threads: one owner; the counter `done_bytes` may be read by others.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wf_out {
	int fd;                /* borrowed */
	uint64_t at;           /* where the next byte goes */
	unsigned char *buffer; /* the last `used` bytes before `at`, not in the file yet */
	size_t used, buffer_bytes;
	uint64_t writeback;   /* what lies before was given to the disk already */
	bool no_copy_range;   /* copy_file_range has refused once, or is no gain */
	uint64_t clone_block; /* block size where the source's file system clones into this file; 0: it does not */
	_Atomic uint64_t *done_bytes; /* progress; may be NULL */
};

int wf_out_init(struct wf_out *o, int fd, uint64_t at, _Atomic uint64_t *done_bytes);
void wf_out_free(struct wf_out *o);

/* Finds out whether runs of src_fd can be cloned into this file: shares one block with it and takes it away again.
 * Before the first byte is written. */
void wf_out_probe_clone(struct wf_out *o, int src_fd);

/* Makes sure that there is room for `bytes` more: allocates them where that is possible and wanted (a sparse source
 * would lose its holes), else asks how much is free. Returns 0, -ENOSPC, -EFBIG, -EDQUOT, ... */
int wf_out_reserve(struct wf_out *o, uint64_t bytes, bool allocate);

int wf_out_write(struct wf_out *o, const void *data, size_t len);
/* Leaves a hole of len bytes, which reads as zeroes. */
int wf_out_skip(struct wf_out *o, uint64_t len);
/* The bytes [offset, offset + len) of another file (or of a part of this one that is finished).
 * Returns 0; -EIO the source is shorter; or the error of reading or writing. */
int wf_out_copy(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len);
int wf_out_flush(struct wf_out *o);
/* Flushes and makes the file end here. */
int wf_out_finish(struct wf_out *o);
