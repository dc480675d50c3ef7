/* SPDX-License-Identifier: MIT */
/* Merges runs of twice the length, from one array into another and back. */
#include "codec/bytes/sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"

struct sorting {
	int (*compare)(const void *ctx, uint32_t a, uint32_t b);
	const void *ctx;
};

static void merge(const struct sorting *s, const uint32_t *from, uint32_t *to, size_t start, size_t middle, size_t end)
{
	size_t a = start, b = middle;
	if (middle >= end || s->compare(s->ctx, from[middle - 1], from[middle]) <= 0) { /* in order as they stand */
		memcpy(to + start, from + start, (end - start) * sizeof *to);
		return;
	}
	for (size_t i = start; i < end; i++)
		to[i] = a < middle && (b >= end || s->compare(s->ctx, from[a], from[b]) <= 0) ? from[a++] : from[b++];
}

int wf_sort_stable(uint32_t *order, size_t n, int (*compare)(const void *ctx, uint32_t a, uint32_t b), const void *ctx)
{
	const struct sorting s = {compare, ctx};
	cleanup_free uint32_t *other = reallocarray(NULL, n + 1, sizeof *other);
	if (!other)
		return -ENOMEM;
	uint32_t *from = order, *to = other;
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width)
			merge(&s, from, to, at, WF_MIN(at + width, n), WF_MIN(at + 2 * width, n));
		uint32_t *swap = from;
		from = to;
		to = swap;
	}
	if (from != order)
		memcpy(order, from, n * sizeof *order);
	return 0;
}
