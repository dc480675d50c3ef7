/* SPDX-License-Identifier: MIT */
/* Cuts the work of a load into pieces, and reads a piece of it. */
#include "segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "direct.h"

#define MAX_DIRECT_FILES 64

static int by_memory(const void *a, const void *b, void *ctx)
{
	const struct dev_segment *s = ctx;
	const struct dev_segment *x = &s[*(const size_t *)a], *y = &s[*(const size_t *)b];
	return x->memory_offset < y->memory_offset ? -1 : x->memory_offset > y->memory_offset;
}

/* Most segments are of one file, and all of a shard stand together: only neighbours are compared. */
static int open_direct(struct dev_pieces *p)
{
	p->files = calloc(p->n ? p->n : 1, sizeof *p->files);
	p->direct = calloc(p->n ? p->n : 1, sizeof *p->direct);
	if (!p->files || !p->direct)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		int fd = p->segments[p->order[i]].fd;
		size_t k = p->file_count;
		while (k > 0 && p->files[k - 1] != fd)
			k--;
		if (k > 0 || p->file_count == MAX_DIRECT_FILES)
			continue;
		p->files[p->file_count] = fd;
		p->direct[p->file_count++] = dev_direct_open(fd);
	}
	return 0;
}

static int direct_of(const struct dev_pieces *p, int fd)
{
	for (size_t k = 0; k < p->file_count; k++)
		if (p->files[k] == fd)
			return p->direct[k];
	return -1;
}

int dev_pieces_init(struct dev_pieces *p, const struct dev_segment *segments, size_t n, uint64_t memory_bytes,
		    bool direct)
{
	size_t *order = calloc(n ? n : 1, sizeof *order);
	if (!order)
		return -ENOMEM;
	size_t used = 0;
	for (size_t i = 0; i < n; i++)
		if (segments[i].size_bytes)
			order[used++] = i;
	qsort_r(order, used, sizeof *order, by_memory, (void *)segments);
	uint64_t end = 0;
	for (size_t i = 0; i < used; i++) {
		const struct dev_segment *s = &segments[order[i]];
		if (s->memory_offset < end || s->memory_offset > memory_bytes ||
		    s->size_bytes > memory_bytes - s->memory_offset) {
			free(order);
			return -ERANGE;
		}
		end = s->memory_offset + s->size_bytes;
	}
	*p = (struct dev_pieces){.segments = segments, .order = order, .n = used};
	pthread_mutex_init(&p->lock, NULL);
	int r = direct ? open_direct(p) : 0;
	if (r < 0)
		dev_pieces_free(p);
	return r;
}

void dev_pieces_free(struct dev_pieces *p)
{
	for (size_t k = 0; k < p->file_count; k++)
		if (p->direct[k] >= 0)
			close(p->direct[k]);
	pthread_mutex_destroy(&p->lock);
	free(p->files);
	free(p->direct);
	free(p->order);
}

static const struct dev_segment *segment(const struct dev_pieces *p, size_t i)
{
	return &p->segments[p->order[i]];
}

bool dev_pieces_next(struct dev_pieces *p, uint64_t max, struct dev_piece *ret)
{
	pthread_mutex_lock(&p->lock);
	bool more = p->at < p->n;
	if (more) {
		struct dev_piece piece = {.memory_offset = segment(p, p->at)->memory_offset + p->done, .first = p->at};
		uint64_t limit = piece.memory_offset + max, end = piece.memory_offset;
		while (p->at < p->n) {
			const struct dev_segment *s = segment(p, p->at);
			if (s->memory_offset >= limit ||
			    (s->memory_offset > end && s->memory_offset - end > DEV_SEGMENT_GAP))
				break;
			end = s->memory_offset + s->size_bytes;
			if (end > limit) {
				end = limit;
				p->done = limit - s->memory_offset;
				break;
			}
			p->at++;
			p->done = 0;
		}
		piece.size_bytes = end - piece.memory_offset;
		*ret = piece;
	}
	pthread_mutex_unlock(&p->lock);
	return more;
}

/* The part [*from, *to) of segment i that lies in the piece; false when none does. */
static bool part(const struct dev_pieces *p, size_t i, const struct dev_piece *piece, uint64_t *from, uint64_t *to)
{
	uint64_t end = piece->memory_offset + piece->size_bytes;
	if (i >= p->n || segment(p, i)->memory_offset >= end)
		return false;
	const struct dev_segment *s = segment(p, i);
	*from = s->memory_offset > piece->memory_offset ? s->memory_offset : piece->memory_offset;
	*to = s->memory_offset + s->size_bytes < end ? s->memory_offset + s->size_bytes : end;
	return true;
}

/* The segments from i on that lie in the file as they lie in the memory are one run, its short gaps included: [*from, *to) of
 * the memory. Returns the last of them. */
static size_t run_from(const struct dev_pieces *p, size_t i, const struct dev_piece *piece, uint64_t *to)
{
	const struct dev_segment *s = segment(p, i);
	uint64_t delta = s->file_offset - s->memory_offset /* modulo 2^64 */, next_from, next_to;
	while (part(p, i + 1, piece, &next_from, &next_to) && segment(p, i + 1)->fd == s->fd &&
	       segment(p, i + 1)->file_offset - segment(p, i + 1)->memory_offset == delta) {
		*to = next_to;
		i++;
	}
	return i;
}

int dev_piece_read(const struct dev_pieces *p, const struct dev_piece *piece, void *buf,
		   int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	char *out = buf;
	uint64_t from, to, filled = piece->memory_offset;
	for (size_t i = piece->first; part(p, i, piece, &from, &to); i++) {
		const struct dev_segment *s = segment(p, i);
		uint64_t delta = s->file_offset - s->memory_offset;
		memset(out + (filled - piece->memory_offset), 0, from - filled);
		i = run_from(p, i, piece, &to);
		int r = dev_direct_read(s->fd, direct_of(p, s->fd), from + delta, out + (from - piece->memory_offset),
					to - from);
		if (r < 0)
			return r;
		filled = to;
	}
	for (size_t i = piece->first; seen && part(p, i, piece, &from, &to); i++) {
		int r = seen(ctx, p->order[i], from - segment(p, i)->memory_offset, out + (from - piece->memory_offset),
			     to - from);
		if (r != 0)
			return r;
	}
	return 0;
}

int dev_piece_read_window(const struct dev_pieces *p, const struct dev_piece *piece, void *window,
			  int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx, void **ret_data)
{
	uint64_t from, to, shift = 0;
	/* So that the first run that is worth it stands at the place of its block; others may not, and are read as ever. What is
	 * cached starts where the window does: the engine is slower from addresses that are not aligned. */
	for (size_t i = piece->first; part(p, i, piece, &from, &to); i++) {
		const struct dev_segment *s = segment(p, i);
		i = run_from(p, i, piece, &to);
		if (to - from >= DIRECT_LEAST_BYTES && direct_of(p, s->fd) >= 0) {
			uint64_t offset = s->file_offset + (from - s->memory_offset);
			if (!dev_direct_is_cold(s->fd, offset, to - from))
				break;
			shift = (offset - (from - piece->memory_offset)) % DIRECT_BLOCK_BYTES;
			break;
		}
	}
	*ret_data = (char *)window + shift;
	return dev_piece_read(p, piece, *ret_data, seen, ctx);
}
