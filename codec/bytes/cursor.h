/* SPDX-License-Identifier: MIT */
/* Bounds-checked reads, front to back, from untrusted bytes with a sticky ok flag: a parser reads a whole header
 * straight down and tests once. After a failed check every read returns zeroes and ok stays false.
 *
 * Two forms behind one interface: over memory, and over a source through a window of WF_CURSOR_WINDOW bytes, so
 * that a pickle of any size is read with bounded memory. Nothing else in the codec does pointer arithmetic on file
 * data. Threads: one owner. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/source.h"
#include "codec/bytes/util.h"

#define WF_CURSOR_WINDOW (256u << 10)

struct wf_cursor {
	struct wf_source *source; /* borrowed; NULL for memory */
	unsigned char *window;    /* owned for a source, borrowed memory otherwise */
	uint64_t window_start;    /* offset of window[0] */
	size_t window_len;
	uint64_t pos; /* offset of the next byte */
	uint64_t end; /* first offset not to be read */
	bool ok;
	int error; /* the negative errno of a failed read, -EUCLEAN when bytes ran out; 0 while ok */
};

void wf_cursor_init_memory(struct wf_cursor *c, const void *data, size_t len);
/* Reads [offset, offset + len) of source, which must outlive the cursor. Returns 0, -EUCLEAN, -ENOMEM. */
int wf_cursor_init_source(struct wf_cursor *c, struct wf_source *source, uint64_t offset, uint64_t len);
void wf_cursor_free(struct wf_cursor *c);

/* The slow half of the readers below: brings len bytes at pos into the window. NULL (and ok is false) when they are not
 * there. len <= WF_CURSOR_WINDOW. */
const unsigned char *wf_cursor_fill(struct wf_cursor *c, size_t len);

/* Inline because a pickle of 100,000 tensors makes about twenty million of these calls. */
static inline const unsigned char *wf_cursor_take(struct wf_cursor *c, size_t len)
{
	uint64_t at = c->pos - c->window_start;
	const unsigned char *p;
	if (__builtin_expect(c->ok && at <= c->window_len && len <= c->window_len - at, 1))
		p = c->window + at;
	else if (!(p = wf_cursor_fill(c, len)))
		return NULL;
	c->pos += len;
	return p;
}

/* The bytes at pos that no read is needed for, at least one, without advancing; NULL at the end, and when reading fails (ok is then
 * false). Valid until the next call on c; pos may be moved over them. */
static inline const unsigned char *wf_cursor_peek(struct wf_cursor *c, size_t *ret_len)
{
	uint64_t at = c->pos - c->window_start;
	if (__builtin_expect(!c->ok || at >= c->window_len, 0)) {
		if (!c->ok || c->pos == c->end || !wf_cursor_fill(c, 1))
			return NULL;
		at = c->pos - c->window_start;
	}
	*ret_len = c->window_len - (size_t)at;
	return c->window + at;
}

static inline uint8_t wf_cursor_u8(struct wf_cursor *c)
{
	const unsigned char *p = wf_cursor_take(c, 1);
	return p ? *p : 0;
}

static inline uint16_t wf_cursor_u16(struct wf_cursor *c)
{
	const unsigned char *p = wf_cursor_take(c, 2);
	return p ? wf_le16(p) : 0;
}

static inline uint32_t wf_cursor_u32(struct wf_cursor *c)
{
	const unsigned char *p = wf_cursor_take(c, 4);
	return p ? wf_le32(p) : 0;
}

static inline uint64_t wf_cursor_u64(struct wf_cursor *c)
{
	const unsigned char *p = wf_cursor_take(c, 8);
	return p ? wf_le64(p) : 0;
}

/* Bytes between pos and the end; 0 once ok is false. */
uint64_t wf_cursor_left(const struct wf_cursor *c);
/* Copies len bytes to out (which is zeroed when they are not there). */
void wf_cursor_copy(struct wf_cursor *c, void *out, size_t len);
void wf_cursor_skip(struct wf_cursor *c, uint64_t len);
/* A borrowed view of the next len bytes, len <= WF_CURSOR_WINDOW for a source; valid until the next call on c.
 * Returns NULL (and ok becomes false) when they are not there. Advances. */
const void *wf_cursor_view(struct wf_cursor *c, size_t len);
/* The next line without its newline, at most max bytes (else ok becomes false); view as above. */
const char *wf_cursor_line(struct wf_cursor *c, size_t max, size_t *ret_len);
