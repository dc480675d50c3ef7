/* SPDX-License-Identifier: MIT */
/* Work of a load cut into pieces for several threads: a piece is a range of the memory, whatever the number of small
 * segments in it, so that the number of copies is bytes / piece size and not one for each small storage.
 *
 * Segments are sorted by their place in the memory; a piece goes on over gaps of at most DEV_SEGMENT_GAP (bytes between
 * two storages belong to nobody and become zeroes). Inside a piece, segments that lie in the file as they lie in the
 * memory are read with one call, short gaps included. Threads: dev_pieces_next and dev_piece_read from any.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"

#define DEV_SEGMENT_GAP (64u << 10)

struct dev_piece {
	uint64_t memory_offset, size_bytes;
	size_t first; /* index in `order` of the first segment that touches it */
};

struct dev_pieces {
	const struct dev_segment *segments; /* borrowed */
	size_t *order;                      /* indices sorted by memory_offset */
	size_t n;
	size_t at;           /* next segment to hand out ... */
	uint64_t done;       /* ... and how much of the run that starts there was handed out */
	int *files, *direct; /* [file_count]: the segments' descriptors and, beside them, those for direct reads */
	size_t file_count;
	pthread_mutex_t lock;
};

/* direct: what is not in the page cache is read past it (direct.h), where the file system can.
 * Returns: 0; -ERANGE a segment leaves [0, memory_bytes) or overlaps another; -ENOMEM. Segments stay borrowed. */
int dev_pieces_init(struct dev_pieces *p, const struct dev_segment *segments, size_t n, uint64_t memory_bytes,
		    bool direct);
void dev_pieces_free(struct dev_pieces *p);
/* The next piece of at most max bytes; false when all are handed out. */
bool dev_pieces_next(struct dev_pieces *p, uint64_t max, struct dev_piece *ret);
/* Reads a piece into buf and tells seen() of each segment's part of it.
 * Returns: 0; -EUCLEAN the file ended early; the error of pread; what seen() returned. */
int dev_piece_read(const struct dev_pieces *p, const struct dev_piece *piece, void *buf,
		   int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len), void *ctx);
/* The same into a window, which starts at a multiple of DIRECT_BLOCK_BYTES and has room for two blocks more than the piece:
 * *ret_data is where in it the piece is, so that direct reads can be made. */
int dev_piece_read_window(const struct dev_pieces *p, const struct dev_piece *piece, void *window,
			  int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len),
			  void *ctx, void **ret_data);
