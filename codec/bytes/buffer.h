/* SPDX-License-Identifier: MIT */
/* A growing byte buffer for text and pickles under construction. It remembers the first allocation failure
 * ("sticky"), so that a writer appends straight down and checks once at the end.
 * Ownership: wf_buffer_free releases it, wf_buffer_steal hands the bytes on. Threads: one owner at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wf_buffer {
	char *data; /* NUL-terminated whenever non-NULL, the NUL not counted */
	size_t len;
	size_t cap;  /* of a failed one no more than len, so that nothing fits */
	bool failed; /* an append ran out of memory; the content is then incomplete */
};

#define WF_BUFFER_INIT \
	{              \
		0      \
	}

void wf_buffer_free(struct wf_buffer *b);
/* wf_buffer_append where there is no room yet. */
void wf_buffer_append_slowly(struct wf_buffer *b, const void *data, size_t len);

/* These three are inline because a listing of 100,000 tensors calls them four million times, mostly with a length that the compiler knows. */
static inline void wf_buffer_append(struct wf_buffer *b, const void *data, size_t len)
{
	if (len >= b->cap - b->len) {
		wf_buffer_append_slowly(b, data, len);
		return;
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

static inline void wf_buffer_puts(struct wf_buffer *b, const char *s)
{
	wf_buffer_append(b, s, strlen(s));
}

static inline void wf_buffer_putc(struct wf_buffer *b, char c)
{
	wf_buffer_append(b, &c, 1);
}

/* In decimal, as printf("%lld"): listings write millions of these. */
void wf_buffer_put_int(struct wf_buffer *b, int64_t v);
void wf_buffer_printf(struct wf_buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A text for a terminal: what must not get there as it is is written as %XX (bytes/printable.h). */
void wf_buffer_printable(struct wf_buffer *b, const char *s, size_t len);
/* The same for what is JSON already, without line breaks: as \uXXXX, a byte that is no UTF-8 as Python's surrogateescape. */
void wf_buffer_printable_json(struct wf_buffer *b, const char *s, size_t len);
/* Returns: 0, or -ENOMEM when any append failed. */
int wf_buffer_status(const struct wf_buffer *b);
/* Hands the bytes to the caller (free()); the buffer is empty afterwards. NULL when nothing was appended. */
char *wf_buffer_steal(struct wf_buffer *b);
