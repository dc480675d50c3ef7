/* SPDX-License-Identifier: MIT */
/* Grows a text or a pickle under construction, and remembers the first failure. */
#include "codec/bytes/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/printable.h"

static bool fail(struct wf_buffer *b)
{
	b->failed = true;
	b->cap = b->len;
	return false;
}

/* Room for extra bytes and a NUL. */
static bool reserve(struct wf_buffer *b, size_t extra)
{
	size_t need;

	if (b->failed)
		return false;
	if (__builtin_add_overflow(b->len, extra, &need) || need >= SIZE_MAX / 2)
		return fail(b);
	if (need < b->cap)
		return true;
	size_t cap = b->cap ? b->cap : 64;
	while (cap <= need)
		cap *= 2;
	char *data = realloc(b->data, cap);
	if (!data)
		return fail(b);
	b->data = data;
	b->cap = cap;
	return true;
}

void wf_buffer_free(struct wf_buffer *b)
{
	free(b->data);
	*b = (struct wf_buffer)WF_BUFFER_INIT;
}

void wf_buffer_append_slowly(struct wf_buffer *b, const void *data, size_t len)
{
	if (!reserve(b, len))
		return;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void wf_buffer_put_int(struct wf_buffer *b, int64_t v)
{
	char digits[20], *p = digits + sizeof digits;
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do {
		*--p = (char)('0' + u % 10);
		u /= 10;
	} while (u > 0);
	if (v < 0)
		*--p = '-';
	wf_buffer_append(b, p, (size_t)(digits + sizeof digits - p));
}

void wf_buffer_printf(struct wf_buffer *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		fail(b);
		return;
	}
	if (!reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

int wf_buffer_status(const struct wf_buffer *b)
{
	return b->failed ? -ENOMEM : 0;
}

char *wf_buffer_steal(struct wf_buffer *b)
{
	char *data = b->data;
	*b = (struct wf_buffer)WF_BUFFER_INIT;
	return data;
}

/* What stands as it is, and what does not, in turns. */
static void put_printable(struct wf_buffer *b, const char *s, size_t len, bool json)
{
	for (size_t at = 0; at < len;) {
		size_t plain = wf_plain_span(s + at, len - at);
		bool unused;
		uint32_t code;
		wf_buffer_append(b, s + at, plain);
		at += plain;
		size_t n = at < len ? wf_character(s + at, len - at, &code, &unused) : 0;
		if (n > 0 && json)
			wf_buffer_printf(b, "\\u%04x", code);
		for (size_t i = 0; i < n && !json; i++)
			wf_buffer_printf(b, "%%%02X", (unsigned char)s[at + i]);
		at += n;
	}
}

void wf_buffer_printable(struct wf_buffer *b, const char *s, size_t len)
{
	put_printable(b, s, len, false);
}

void wf_buffer_printable_json(struct wf_buffer *b, const char *s, size_t len)
{
	put_printable(b, s, len, true);
}
