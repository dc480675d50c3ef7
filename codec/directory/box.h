/* SPDX-License-Identifier: MIT */
/* A box of a tensor: which byte of it is which of the whole.
 *
 * Row by row, the bytes of a box come in the same order as in the whole. So what a range of the whole needs of a box is a range of the
 * box, whatever the number of dimensions.
 * The box lies inside the whole, and all sizes are larger than 0. Threads: pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct wf_box {
	uint32_t ndim, element_bytes;
	const uint64_t *whole;           /* [ndim] sizes of the tensor */
	const uint64_t *offsets, *sizes; /* [ndim] of the box in it */
};

uint64_t wf_box_bytes(const struct wf_box *b);
/* How many bytes of the box stand before byte `at` of the whole. */
uint64_t wf_box_before(const struct wf_box *b, uint64_t at);
/* The run of the whole that byte `local` of the box is in: where that byte stands, and how many of the box follow it there. */
uint64_t wf_box_place(const struct wf_box *b, uint64_t local, uint64_t *ret_run);
