/* SPDX-License-Identifier: MIT */
/* What tells two states of a file apart without reading all of it, where its times say nothing: it was copied, restored
 * from a backup, touched. Knows of formats only where a zip keeps its directory.
 *
 * Threads: no state. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRC-32 of the first and the last 64 KiB of the first size_bytes. Cheap: openings of a checkpoint read both anyway.
 * Returns 0, -EIO (the file is shorter), -ENOMEM or pread's error. */
int wf_edges_crc32(int fd, uint64_t size_bytes, uint32_t *ret);
/* The same of edges of 4 KiB: for files of which there are thousands. */
int wf_small_edges_crc32(int fd, uint64_t size_bytes, uint32_t *ret);
/* CRC-32 of a zip's directory, which holds that of every record, and of pieces spread over the first size_bytes: for the
 * moment when edits begin to depend on the file. As above. */
int wf_content_crc32(int fd, uint64_t size_bytes, uint32_t *ret);

/* The same of bytes that no file has as they are. read: exactly len bytes, 0 or a negative errno. */
struct wf_edges_reader {
	int (*read)(void *ctx, void *buf, size_t len, uint64_t offset);
	void *ctx;
};
int wf_edges_crc32_of(const struct wf_edges_reader *f, uint64_t size_bytes, uint32_t *ret);
int wf_content_crc32_of(const struct wf_edges_reader *f, uint64_t size_bytes, uint32_t *ret);
