/* SPDX-License-Identifier: MIT */
/* Bounds-checked reading. The window always lies inside [0, end), so that a byte in the window may be read. */
#include "codec/bytes/cursor.h"

#include <errno.h>

void wf_cursor_init_memory(struct wf_cursor *c, const void *data, size_t len)
{
	*c = (struct wf_cursor){
		.window = (unsigned char *)data, /* never written: a cursor without a source does not fill its window */
		.window_len = len,
		.end = len,
		.ok = true,
	};
}

int wf_cursor_init_source(struct wf_cursor *c, struct wf_source *source, uint64_t offset, uint64_t len)
{
	uint64_t size = wf_source_size(source);
	if (offset > size || len > size - offset)
		return -EUCLEAN;
	unsigned char *window = malloc((size_t)WF_MAX(WF_MIN(len, (uint64_t)WF_CURSOR_WINDOW), 1u));
	if (!window)
		return -ENOMEM;
	*c = (struct wf_cursor){
		.source = source,
		.window = window,
		.window_start = offset,
		.pos = offset,
		.end = offset + len,
		.ok = true,
	};
	return 0;
}

void wf_cursor_free(struct wf_cursor *c)
{
	if (c->source)
		free(c->window);
	*c = (struct wf_cursor){.error = -EUCLEAN};
}

static void fail(struct wf_cursor *c, int error)
{
	if (!c->ok)
		return;
	c->ok = false;
	c->error = error;
}

/* Bytes of the window at pos. */
static size_t at_hand(const struct wf_cursor *c)
{
	uint64_t at = c->pos - c->window_start;
	return at <= c->window_len ? c->window_len - (size_t)at : 0;
}

const unsigned char *wf_cursor_fill(struct wf_cursor *c, size_t len)
{
	if (!c->ok)
		return NULL;
	if (len > c->end - c->pos || (c->source && len > WF_CURSOR_WINDOW)) {
		fail(c, -EUCLEAN);
		return NULL;
	}
	size_t have = at_hand(c);
	if (have < len) {
		/* What is at hand is moved, not read again: an inflating source would have to start over. */
		if (have > 0)
			memmove(c->window, c->window + c->window_len - have, have);
		c->window_start = c->pos;
		c->window_len = have;
		size_t more = (size_t)WF_MIN(c->end - c->pos, (uint64_t)WF_CURSOR_WINDOW) - have;
		int r = wf_source_read(c->source, c->pos + have, c->window + have, more);
		if (r < 0) {
			fail(c, r);
			return NULL;
		}
		c->window_len = have + more;
	}
	return c->window + (c->pos - c->window_start);
}

uint64_t wf_cursor_left(const struct wf_cursor *c)
{
	return c->ok ? c->end - c->pos : 0;
}

void wf_cursor_copy(struct wf_cursor *c, void *out, size_t len)
{
	size_t have = 0;
	int r = -EUCLEAN;
	if (c->ok && len <= c->end - c->pos) {
		have = WF_MIN(at_hand(c), len);
		if (have > 0)
			memcpy(out, c->window + (c->pos - c->window_start), have);
		r = have < len ? wf_source_read(c->source, c->pos + have, (char *)out + have, len - have) : 0;
	}
	if (r < 0) {
		fail(c, r);
		if (len > 0)
			memset(out, 0, len);
		return;
	}
	c->pos += len;
}

void wf_cursor_skip(struct wf_cursor *c, uint64_t len)
{
	if (!c->ok || len > c->end - c->pos)
		fail(c, -EUCLEAN);
	else
		c->pos += len;
}

const void *wf_cursor_view(struct wf_cursor *c, size_t len)
{
	return wf_cursor_take(c, len);
}

const char *wf_cursor_line(struct wf_cursor *c, size_t max, size_t *ret_len)
{
	if (!c->ok)
		return NULL;
	size_t limit = (size_t)WF_MIN(c->end - c->pos, (uint64_t)max + 1);
	if (c->source)
		limit = WF_MIN(limit, WF_CURSOR_WINDOW);
	/* What is at hand is searched first: a file of short lines would otherwise move the window for every one. */
	size_t n = WF_MIN(at_hand(c), limit);
	const unsigned char *p = c->window + (c->pos - c->window_start);
	const unsigned char *nl = n > 0 ? memchr(p, '\n', n) : NULL;
	if (!nl && n < limit) {
		p = wf_cursor_fill(c, limit);
		nl = p ? memchr(p, '\n', limit) : NULL;
	}
	if (!nl) {
		fail(c, -EUCLEAN);
		return NULL;
	}
	*ret_len = (size_t)(nl - p);
	c->pos += *ret_len + 1;
	return (const char *)p;
}
