/* SPDX-License-Identifier: MIT */
/* Keeps byte ranges sorted and merged. */
#include "codec/bytes/extents.h"
#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wf_extents {
	struct wf_extent *all;
	uint32_t count, capacity;
};

int wf_extents_new(struct wf_extents **ret)
{
	struct wf_extents *x = calloc(1, sizeof *x);
	if (!x)
		return -ENOMEM;
	*ret = x;
	return 0;
}

void wf_extents_free(struct wf_extents *x)
{
	if (x)
		free(x->all);
	free(x);
}

/* The first extent that ends after `at`. */
static uint32_t first_ending_after(const struct wf_extents *x, uint64_t at)
{
	return wf_first_not(i, x->count, x->all[i].end <= at);
}

int wf_extents_add(struct wf_extents *x, uint64_t start, uint64_t end)
{
	if (start >= end)
		return 0;
	/* [from, to) are the extents that overlap or adjoin the new one */
	uint32_t from = start ? first_ending_after(x, start - 1) : 0, to = from;
	while (to < x->count && x->all[to].start <= end)
		to++;
	if (from < to) {
		start = start < x->all[from].start ? start : x->all[from].start;
		end = end > x->all[to - 1].end ? end : x->all[to - 1].end;
	} else if (wf_array_reserve(&x->all, &x->capacity, (uint64_t)x->count + 1, sizeof *x->all, UINT32_MAX) < 0) {
		return -ENOMEM;
	}
	memmove(x->all + from + 1, x->all + to, (x->count - to) * sizeof *x->all);
	x->all[from] = (struct wf_extent){start, end};
	x->count = x->count - (to - from) + 1;
	return 0;
}

void wf_extents_truncate(struct wf_extents *x, uint64_t end)
{
	uint32_t i = first_ending_after(x, end);
	if (i < x->count && x->all[i].start < end)
		x->all[i++].end = end;
	x->count = i < x->count ? i : x->count;
}

bool wf_extents_find(const struct wf_extents *x, uint64_t at, uint64_t *ret_end)
{
	uint32_t i = x ? first_ending_after(x, at) : 0;
	if (!x || i == x->count) {
		*ret_end = UINT64_MAX;
		return false;
	}
	bool inside = x->all[i].start <= at;
	*ret_end = inside ? x->all[i].end : x->all[i].start;
	return inside;
}

const struct wf_extent *wf_extents_all(const struct wf_extents *x, uint32_t *ret_n)
{
	*ret_n = x ? x->count : 0;
	return x ? x->all : NULL;
}

uint64_t wf_extents_bytes(const struct wf_extents *x)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; x && i < x->count; i++)
		sum += x->all[i].end - x->all[i].start;
	return sum;
}
