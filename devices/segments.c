#include "segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_memory(const void *a, const void *b, void *ctx)
{
	const struct dev_segment *s = ctx;
	const struct dev_segment *x = &s[*(const size_t *)a], *y = &s[*(const size_t *)b];
	return x->memory_offset < y->memory_offset ? -1 : x->memory_offset > y->memory_offset;
}

int dev_pieces_init(struct dev_pieces *p, const struct dev_segment *segments, size_t n, uint64_t memory_bytes)
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
	return 0;
}

void dev_pieces_free(struct dev_pieces *p)
{
	pthread_mutex_destroy(&p->lock);
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

static int read_exactly(int fd, uint64_t offset, char *buf, uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EUCLEAN;
		if (n > 0) {
			buf += n;
			offset += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	return 0;
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

int dev_piece_read(const struct dev_pieces *p, const struct dev_piece *piece, void *buf,
		   int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	char *out = buf;
	uint64_t from, to, next_from, next_to, filled = piece->memory_offset;
	for (size_t i = piece->first; part(p, i, piece, &from, &to); i++) {
		const struct dev_segment *s = segment(p, i);
		uint64_t delta = s->file_offset - s->memory_offset; /* modulo 2^64 */
		memset(out + (filled - piece->memory_offset), 0, from - filled);
		while (part(p, i + 1, piece, &next_from, &next_to) && segment(p, i + 1)->fd == s->fd &&
		       segment(p, i + 1)->file_offset - segment(p, i + 1)->memory_offset == delta) {
			to = next_to;
			i++;
		}
		int r = read_exactly(s->fd, from + delta, out + (from - piece->memory_offset), to - from);
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
