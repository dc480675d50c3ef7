/* SPDX-License-Identifier: MIT */
/* Counts elements of boxes, dimension by dimension. */
#include "codec/directory/box.h"

#include "codec/bytes/util.h"

uint64_t wf_box_bytes(const struct wf_box *b)
{
	uint64_t bytes = b->element_bytes;
	for (uint32_t d = 0; d < b->ndim; d++)
		bytes *= b->sizes[d];
	return bytes;
}

uint64_t wf_box_before(const struct wf_box *b, uint64_t at)
{
	uint64_t rest = at / b->element_bytes, skip = at % b->element_bytes, before = 0, step = 1, local_step = 1;
	if (b->ndim == 0)
		return WF_MIN(at, (uint64_t)b->element_bytes);
	for (uint32_t d = 0; d < b->ndim; d++) {
		step *= b->whole[d];
		local_step *= b->sizes[d];
	}
	for (uint32_t d = 0; d < b->ndim; d++) {
		step /= b->whole[d];
		local_step /= b->sizes[d];
		uint64_t i = rest / step;
		rest %= step;
		if (i < b->offsets[d])
			return before * b->element_bytes;
		if (i - b->offsets[d] >= b->sizes[d])
			return (before + b->sizes[d] * local_step) * b->element_bytes;
		before += (i - b->offsets[d]) * local_step;
	}
	return before * b->element_bytes + skip;
}

uint64_t wf_box_place(const struct wf_box *b, uint64_t local, uint64_t *ret_run)
{
	uint64_t rest = local / b->element_bytes, place = 0, step = 1, run = 1;
	bool whole = true; /* the dimensions behind d are */
	for (uint32_t d = b->ndim; d-- > 0;) {
		place += (b->offsets[d] + rest % b->sizes[d]) * step;
		rest /= b->sizes[d];
		step *= b->whole[d];
		if (whole)
			run *= b->sizes[d];
		whole &= b->sizes[d] == b->whole[d];
	}
	run *= b->element_bytes;
	*ret_run = run - local % run;
	return place * b->element_bytes + local % b->element_bytes;
}
