/* SPDX-License-Identifier: MIT */
/* JSON: one writer, and one reader, a lexer that its user pulls.
 *
 *	struct wf_json j;
 *	wf_json_init(&j, &cursor, 0);                    (or wf_json_init_memory)
 *	while ((kind = wf_json_next(&j)) > WF_JSON_END)
 *		...                                      (j.text, j.text_len: of KEY, STRING, NUMBER and WORD)
 *	if (kind == WF_JSON_BROKEN)
 *		r = wf_fail(err, j.code, "...: %s", j.error);    (j.at: where)
 *	wf_json_free(&j);
 *
 * The text is read once, front to back, through a cursor, so that it may be a file of any size: the lexer holds one
 * string at a time, of at most WF_JSON_MAX_STRING bytes, and one bit a level. It checks the whole grammar of RFC 8259
 * and that strings are UTF-8: what comes back is balanced, a KEY is followed by its value, and WF_JSON_END comes after
 * one value with nothing but white space behind it. Numbers are text: what they mean is for the user to say. Neither
 * does the lexer look for a key that an object has twice.
 *
 * Threads: one owner.
 */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/bytes/cursor.h"

#define WF_JSON_MAX_DEPTH 128u
#define WF_JSON_MAX_STRING (64u << 20)

enum wf_json_kind {
	WF_JSON_BROKEN, /* stays; see `error` */
	WF_JSON_END,    /* stays */
	WF_JSON_OBJECT,
	WF_JSON_OBJECT_END,
	WF_JSON_ARRAY,
	WF_JSON_ARRAY_END,
	WF_JSON_KEY,    /* text without its escapes */
	WF_JSON_STRING, /* likewise */
	WF_JSON_NUMBER, /* text as it stands */
	WF_JSON_TRUE,
	WF_JSON_FALSE,
	WF_JSON_NULL,
	WF_JSON_WORD, /* WF_JSON_WORDS: text as it stands */
};

/* What may stand in the text beyond RFC 8259. */
#define WF_JSON_WORDS \
	1u /* runs of letters, digits, '+', '-' and '.', as True, NaN, +1 and .5: the user judges them \
			  */
#define WF_JSON_SURROGATES 2u /* half of a surrogate pair; it comes back as three bytes (bytes/utf8.h) */
#define WF_JSON_CONTROLS 4u   /* control characters in strings */

struct wf_json {
	struct wf_cursor *cursor; /* borrowed */
	unsigned int flags;
	uint32_t depth;
	uint8_t expects;                         /* of json.c */
	bool skipping;                           /* strings are checked, and not held */
	uint8_t objects[WF_JSON_MAX_DEPTH / 8u]; /* a bit a level: whether it is an object */
	struct wf_buffer text_buffer;
	const char *text; /* NUL-terminated; valid until the next call */
	size_t text_len;
	const char *error; /* what is wrong; NULL: nothing */
	int code;          /* 0 while nothing is; -EUCLEAN the grammar, -E2BIG a limit, -ENOMEM, or that of reading */
	uint64_t at;       /* offset of the first byte that was not taken */
	struct wf_cursor memory;
};

/* The cursor must outlive j. */
void wf_json_init(struct wf_json *j, struct wf_cursor *cursor, unsigned int flags);
/* The text must outlive j. j is not to be copied. */
void wf_json_init_memory(struct wf_json *j, const void *text, size_t len, unsigned int flags);
void wf_json_free(struct wf_json *j);
enum wf_json_kind wf_json_next(struct wf_json *j);
/* Passes over what the last kind began, strings of any length in it: after KEY its value, after OBJECT and ARRAY the
 * rest of it, its end included, after any other nothing. Returns false when the text is broken. */
bool wf_json_skip(struct wf_json *j, enum wf_json_kind last);

/* Appends s in quotes. s is UTF-8 that may hold lone surrogates: these, quotes, backslashes and control characters
 * below space are escaped. */
void wf_json_string(struct wf_buffer *out, const char *s, size_t len);
/* Appends [1, 2, 3]. */
void wf_json_ints(struct wf_buffer *out, const int64_t *values, uint32_t n);
