/* SPDX-License-Identifier: MIT */
/* Puts together the sentence that a person reads when something failed. */
#include "codec/bytes/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/printable.h"

/* Record names come from the file, so they may be long and may hold anything. */
static void set_record(struct wf_error *err, const char *record)
{
	size_t len = record ? strlen(record) : 0;
	if (len < sizeof err->record) {
		memmove(err->record, record ? record : "", len + 1);
		return;
	}
	/* The end tells records apart better than the common prefix does. */
	size_t keep = sizeof err->record - 4;
	memcpy(err->record, "...", 3);
	memcpy(err->record + 3, record + len - keep, keep + 1);
}

static int fail_v(struct wf_error *err, int code, const char *record, uint64_t offset, const char *fmt, va_list ap)
{
	char text[sizeof err->text]; /* an argument may be the present err->text */

	if (!err)
		return code;
	if (vsnprintf(text, sizeof text, fmt, ap) < 0)
		text[0] = '\0';
	err->code = code;
	err->offset = offset;
	err->cut = false;
	set_record(err, record);
	memcpy(err->text, text, sizeof text);
	return code;
}

int wf_fail(struct wf_error *err, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail_v(err, code, NULL, WF_ERROR_NO_OFFSET, fmt, ap);
	va_end(ap);
	return code;
}

int wf_fail_at(struct wf_error *err, int code, const char *record, uint64_t offset, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail_v(err, code, record, offset, fmt, ap);
	va_end(ap);
	return code;
}

void wf_error_where(struct wf_error *err, const char *record)
{
	if (err && !err->record[0])
		set_record(err, record);
}

struct sink {
	char *buf;
	size_t size;
	size_t len;
	bool full;
};

/* All or nothing, so that an escape is never cut in the middle. */
static void put(struct sink *s, const char *bytes, size_t n)
{
	if (s->full || n >= s->size - s->len) {
		s->full = true;
		return;
	}
	memcpy(s->buf + s->len, bytes, n);
	s->len += n;
}

/* A line for a terminal: names out of a hostile file must not move the cursor or add lines. */
static void put_escaped(struct sink *s, const char *text)
{
	for (size_t len = strlen(text), n; len > 0; text += n, len -= n) {
		bool plain;
		uint32_t code;
		n = wf_character(text, len, &code, &plain);
		if (plain)
			put(s, text, n);
		for (size_t i = 0; !plain && i < n; i++) {
			char hex[4];
			snprintf(hex, sizeof hex, "%%%02X", (unsigned char)text[i]);
			put(s, hex, 3);
		}
	}
}

const char *wf_error_format(const struct wf_error *err, char *buf, unsigned long size)
{
	char number[24];
	struct sink s = {.buf = buf, .size = size};

	if (size == 0)
		return buf;
	if (err->record[0]) {
		put_escaped(&s, err->record);
		put(&s, err->offset != WF_ERROR_NO_OFFSET ? ", " : ": ", 2);
	}
	if (err->offset != WF_ERROR_NO_OFFSET) {
		int n = snprintf(number, sizeof number, "%llu", (unsigned long long)err->offset);
		put(&s, "offset ", 7);
		put(&s, number, (size_t)n);
		put(&s, ": ", 2);
	}
	put_escaped(&s, err->text[0] ? err->text : strerrordesc_np(err->code < 0 ? -err->code : err->code));
	buf[s.len] = '\0';
	return buf;
}
