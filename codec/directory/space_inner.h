/* SPDX-License-Identifier: MIT */
/* Tensors in tiles, between directory/space.c, which knows where they lie, and directory/tiles.c, which knows their geometry. Nobody else
 * includes it. */
#pragma once

#include "codec/directory/space.h"

struct space_tile {
	uint64_t first, last; /* bytes of the whole: of the first byte, and behind the last */
	uint64_t slice, slice_bytes;
	_Atomic uint64_t at; /* where the data is in the member; UINT64_MAX: not known yet; WF_SPACE_SCATTERED */
	uint32_t member;
	uint32_t box; /* number of the caller's order */
};

struct space_tiling {
	uint32_t ndim, element_bytes, tile_count;
	bool runs;                /* every tile is one run of the whole */
	uint64_t start;           /* in the space */
	uint64_t size_bytes;      /* of the whole */
	struct space_tile *tiles; /* by `first` */
	uint64_t *sizes;          /* [ndim], and where they are no runs the boxes behind */
};

/* Copies and checks. On failure *ret is empty. */
int space_tiling_make(const struct wf_tiling *t, struct space_tiling *ret, struct wf_error *err);
/* Whether it can be made, and the bytes of the whole; keeps nothing. Errors as of making it. */
int space_tiling_check(const struct wf_tiling *t, uint64_t *ret_size_bytes, struct wf_error *err);
void space_tiling_free(struct space_tiling *t);

uint64_t space_tile_bytes(const struct space_tiling *t, const struct space_tile *tile);
/* How many bytes of the tile stand before byte `at` of the whole. */
uint64_t space_tile_before(const struct space_tiling *t, const struct space_tile *tile, uint64_t at);
/* The run of the whole that the tile's byte `local` is in: where that byte stands, and how many of the tile follow it there. */
uint64_t space_tile_place(const struct space_tiling *t, const struct space_tile *tile, uint64_t local,
			  uint64_t *ret_run);
/* The tile that has byte `at` of the whole. */
struct space_tile *space_tiling_find(const struct space_tiling *t, uint64_t at);
