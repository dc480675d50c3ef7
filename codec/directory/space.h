/* SPDX-License-Identifier: MIT */
/* The address space of a checkpoint that is a directory: one source whose offsets are mapped to pieces of member files. A record of
 * such a container lies in it as a record of any other lies in its file.
 *
 *   0          first file          first + its size                                          end
 *   |  the main file, whole  |  another file, whole  |  a tensor put together of tiles  |  ...  |
 *
 * A tensor in tiles (chunks of torch.distributed.checkpoint, partitions of ZeRO) reads row by row, as if it had been written whole.
 * Where every tile is a run of the whole (shards of dimension 0), the tiles are runs of bytes in files and can be found there
 * (wf_source_locate); otherwise a read takes from each tile the bytes that it needs as one piece, and spreads them in memory.
 *
 * Calling sequence: wf_space_new, wf_space_add_file for the main file (the index, .metadata) and others, wf_space_add_tiles,
 * wf_space_source once. Threads: adding has one owner; reading, as of any source, any thread.
 */
#pragma once

#include "codec/directory/members.h"

struct wf_space;

/* The slice of a tile whose data is somewhere inside. */
struct wf_space_slice {
	uint64_t whole; /* where the tensor of the tile begins in the space */
	uint64_t offset, size_bytes;
	uint64_t want_bytes; /* of the tile */
	uint32_t member;
};

/* The elements stand in another order than in the tile, or are not there as they are. */
#define WF_SPACE_SCATTERED (UINT64_MAX - 1)

struct wf_tiling;

/* What knows slices from inside. Any thread, two at once for one tile, too. An error is that of the read. */
struct wf_space_ops {
	/* Tells at the tile's first read where its data begins: *ret_at is an offset in the member file, from which want_bytes lie one
	 * after the other, inside the slice; or WF_SPACE_SCATTERED. */
	int (*resolve)(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t *ret_at,
		       struct wf_error *err);
	/* Bytes [at, at + len) of the tile, row by row, of a slice that is WF_SPACE_SCATTERED. */
	int (*read)(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t at, void *buf,
		    size_t len, struct wf_error *err);
	/* Gives the tiles of a whole that were added as those of that number to `take`, and returns what that does; or -ENOMEM. NULL: none
	 * were added so. */
	int (*tiles)(void *ctx, uint32_t number, int (*take)(void *arg, const struct wf_tiling *t), void *arg);
};

/* The reference on m is taken over on success. ops: NULL where every slice is the data itself. ctx is
 * borrowed for as long as the source lives. 0, -ENOMEM. */
int wf_space_new(struct wf_members *m, const struct wf_space_ops *ops, void *ctx, struct wf_space **ret,
		 struct wf_error *err);
void wf_space_free(struct wf_space *s); /* with its members; accepts NULL */
struct wf_members *wf_space_members(struct wf_space *s);
uint64_t wf_space_size(const struct wf_space *s);

/* The whole member at *ret_start and on. The first file is the main one: its fingerprint is that of the source. */
int wf_space_add_file(struct wf_space *s, uint32_t member, uint64_t *ret_start, struct wf_error *err);

/* The same of a file that is open, whatever has its name: its reference is held. */
int wf_space_add_source(struct wf_space *s, struct wf_source *file, uint64_t *ret_start, struct wf_error *err);

struct wf_tile {
	uint32_t member;
	/* Part of the member that holds the tile's elements, packed row by row, somewhere inside; all of it where it has just their
	 * size. */
	uint64_t slice, slice_bytes;
};

struct wf_tiling {
	uint32_t ndim, element_bytes, tile_count;
	const uint64_t *sizes; /* [ndim] of the whole */
	const struct wf_tile *tiles;
	const uint64_t *boxes; /* a tile after the other: ndim offsets, ndim sizes */
};

/* The whole at *ret_start and on. Copies what it needs; tiles without elements are left out. -EUCLEAN with a text: the tiles do not cover
 * the whole once and exactly, or a slice is smaller than its tile (then nothing was added); -E2BIG, -ENOMEM. */
int wf_space_add_tiles(struct wf_space *s, const struct wf_tiling *t, uint64_t *ret_start, struct wf_error *err);
/* The same, but nothing of t is kept: ops->tiles gives it again, when something of the whole is read first. Of a checkpoint of millions of tiles
 * mostly few are read. */
int wf_space_add_tiles_later(struct wf_space *s, const struct wf_tiling *t, uint32_t number, uint64_t *ret_start,
			     struct wf_error *err);

/* The members that hold bytes of [start, start + len), in the order of the bytes: the k-th, or UINT32_MAX. A member is told once for
 * each piece it has there in a row. */
uint32_t wf_space_member_of(struct wf_space *s, uint64_t start, uint64_t len, uint32_t k);

/* Opens what [start, start + len) is made of, as its reading does. 0, or the first error with its text. Any thread. */
int wf_space_why(struct wf_space *s, uint64_t start, uint64_t len, struct wf_error *err);

/* A source over the space, which it takes over on success. */
int wf_space_source(struct wf_space *s, struct wf_source **ret);
