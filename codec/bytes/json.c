/* SPDX-License-Identifier: MIT */
/* Reads JSON token by token, and writes its strings. */
#include "codec/bytes/json.h"

#include <errno.h>
#include <string.h>

#include "codec/bytes/utf8.h"
#include "codec/bytes/util.h"

enum expects { A_VALUE, A_VALUE_OR_END, A_KEY, A_KEY_OR_END, A_COMMA_OR_END, NOTHING };

/* So much of a string that is passed over is checked at a time. */
#define PIECE (64u << 10)

void wf_json_init(struct wf_json *j, struct wf_cursor *cursor, unsigned int flags)
{
	*j = (struct wf_json){.cursor = cursor, .flags = flags, .expects = A_VALUE, .text = ""};
}

void wf_json_init_memory(struct wf_json *j, const void *text, size_t len, unsigned int flags)
{
	wf_json_init(j, NULL, flags);
	wf_cursor_init_memory(&j->memory, text, len);
	j->cursor = &j->memory;
}

void wf_json_free(struct wf_json *j)
{
	wf_buffer_free(&j->text_buffer);
}

/* The first reason stays: what failed inside is closer to the fault than who finds out. */
static enum wf_json_kind broken(struct wf_json *j, int code, const char *why)
{
	if (!j->error) {
		j->code = j->cursor->ok ? code : j->cursor->error;
		j->error = j->cursor->ok ? why : "it cannot be read";
	}
	return WF_JSON_BROKEN;
}

/* The next byte, which stays; -1 at the end. */
static inline int peek(struct wf_json *j)
{
	size_t n;
	const unsigned char *p = wf_cursor_peek(j->cursor, &n);
	return p ? *p : -1;
}

static inline void pass(struct wf_json *j)
{
	j->cursor->pos++;
}

static int peek_past_space(struct wf_json *j)
{
	int c;
	while ((c = peek(j)) == ' ' || c == '\t' || c == '\n' || c == '\r')
		pass(j);
	return c;
}

static bool in_object(const struct wf_json *j)
{
	uint32_t level = j->depth - 1;
	return j->depth > 0 && j->objects[level / 8] >> level % 8 & 1;
}

static void after_value(struct wf_json *j)
{
	j->expects = j->depth ? A_COMMA_OR_END : NOTHING;
}

/* ---- strings ---- */

static int hex_digit(int c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static bool take_hex4(struct wf_json *j, uint32_t *ret)
{
	uint32_t v = 0;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(peek(j));
		if (digit < 0)
			return false;
		pass(j);
		v = v << 4 | (uint32_t)digit;
	}
	*ret = v;
	return true;
}

static void put_character(struct wf_json *j, uint32_t c)
{
	char utf8[WF_UTF8_MAX];
	wf_buffer_append(&j->text_buffer, utf8, wf_utf8_put(utf8, c));
}

/* Writes the high half of a surrogate pair that has stayed alone. */
static bool settle_high(struct wf_json *j, uint32_t *high)
{
	if (*high == 0)
		return true;
	put_character(j, *high);
	*high = 0;
	return j->flags & WF_JSON_SURROGATES || (broken(j, -EUCLEAN, "half of a surrogate pair"), false);
}

/* What stands behind \u. A high surrogate waits in *high for its low one. */
static bool take_unicode(struct wf_json *j, uint32_t *high)
{
	uint32_t c;
	if (!take_hex4(j, &c))
		return broken(j, -EUCLEAN, "an escape that does not exist"), false;
	if (c >= 0xdc00 && c < 0xe000 && *high) {
		c = 0x10000 + ((*high - 0xd800) << 10) + (c - 0xdc00);
		*high = 0;
	} else if (!settle_high(j, high)) {
		return false;
	}
	if (c >= 0xd800 && c < 0xe000) {
		*high = c;
		return c < 0xdc00 || settle_high(j, high); /* a low one has nothing to wait for */
	}
	put_character(j, c);
	return true;
}

static bool take_escape(struct wf_json *j, uint32_t *high)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	pass(j);
	int c = peek(j);
	if (c == 'u')
		return pass(j), take_unicode(j, high);
	const char *at = c > 0 ? strchr(from, c) : NULL;
	if (!at)
		return broken(j, -EUCLEAN, "an escape that does not exist"), false;
	pass(j);
	if (!settle_high(j, high))
		return false;
	wf_buffer_putc(&j->text_buffer, to[at - from]);
	return true;
}

/* A run of characters that stand for themselves. */
static bool take_run(struct wf_json *j)
{
	size_t n, len = 0;
	const unsigned char *p = wf_cursor_peek(j->cursor, &n);
	unsigned int least = j->flags & WF_JSON_CONTROLS ? 0 : 0x20;
	while (p && len < n && p[len] != '"' && p[len] != '\\' && p[len] >= least)
		len++;
	if (len == 0)
		return broken(j, -EUCLEAN, p ? "a control character in a string" : "a string that does not end"), false;
	wf_buffer_append(&j->text_buffer, p, len);
	j->cursor->pos += len;
	return true;
}

/* Checks what was gathered; where the string is passed over, only the beginning of a character stays. */
static bool check_text(struct wf_json *j, bool end)
{
	struct wf_buffer *b = &j->text_buffer;
	bool surrogates = j->flags & WF_JSON_SURROGATES;
	size_t cut = end ? 0 : wf_utf8_cut(b->data, b->len, surrogates);
	if (b->failed)
		return broken(j, -ENOMEM, "no memory"), false;
	if (!wf_utf8_valid(b->data, b->len - cut, surrogates))
		return broken(j, -EUCLEAN, "a string that is not UTF-8"), false;
	if (j->skipping && b->len > 0) {
		memmove(b->data, b->data + b->len - cut, cut);
		b->len = cut;
	}
	return true;
}

/* A string from its first quote on goes to text_buffer. */
static bool take_string(struct wf_json *j)
{
	uint32_t high = 0;
	pass(j);
	for (;;) {
		int c = peek(j);
		if (c == '"')
			break;
		if (c == '\\' ? !take_escape(j, &high) : !settle_high(j, &high) || !take_run(j))
			return false;
		if (j->skipping && j->text_buffer.len >= PIECE && !check_text(j, false))
			return false;
		if (j->text_buffer.len > WF_JSON_MAX_STRING)
			return broken(j, -E2BIG, "a string that is too long"), false;
	}
	pass(j);
	return settle_high(j, &high) && check_text(j, true);
}

/* ---- words and numbers ---- */

static bool digits(const char **p)
{
	const char *start = *p;
	while (**p >= '0' && **p <= '9')
		++*p;
	return *p > start;
}

/* No plus, no leading zero, digits on both sides of a point. */
static bool is_number(const char *p)
{
	p += *p == '-';
	if (*p == '0')
		p++;
	else if (!digits(&p))
		return false;
	if (*p == '.' && (p++, !digits(&p)))
		return false;
	if ((*p | 32) == 'e') {
		p++;
		p += *p == '+' || *p == '-';
		if (!digits(&p))
			return false;
	}
	return *p == '\0';
}

static bool is_word_character(int c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '+' || c == '-' || c == '.';
}

/* Where a value was expected: a mark that some editors and exporters put before a text, and nobody sees. */
static const char *what_is_there(struct wf_json *j)
{
	size_t len;
	const unsigned char *p = wf_cursor_peek(j->cursor, &len);
	if (p && len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		return "a byte-order mark (BOM, the bytes ef bb bf) stands there, which JSON does not allow: save the text as UTF-8 without BOM";
	if (p && len >= 2 && (!memcmp(p, "\xff\xfe", 2) || !memcmp(p, "\xfe\xff", 2)))
		return "a byte-order mark (BOM) of UTF-16 stands there, and JSON is UTF-8: save the text as UTF-8 without BOM";
	return "a value was expected";
}

static enum wf_json_kind take_word(struct wf_json *j)
{
	int c;
	while (is_word_character(c = peek(j))) {
		if (j->text_buffer.len >= WF_JSON_MAX_STRING)
			return broken(j, -E2BIG, "a number that is too long");
		wf_buffer_putc(&j->text_buffer, (char)c);
		pass(j);
	}
	if (j->text_buffer.failed)
		return broken(j, -ENOMEM, "no memory");
	if (j->text_buffer.len == 0)
		return broken(j, -EUCLEAN, c < 0 ? "the text ends too early" : what_is_there(j));
	const char *word = j->text_buffer.data;
	after_value(j);
	if (is_number(word))
		return WF_JSON_NUMBER;
	if (!strcmp(word, "true") || !strcmp(word, "false"))
		return word[0] == 't' ? WF_JSON_TRUE : WF_JSON_FALSE;
	if (!strcmp(word, "null"))
		return WF_JSON_NULL;
	return j->flags & WF_JSON_WORDS ? WF_JSON_WORD : broken(j, -EUCLEAN, "a word that is no value");
}

/* ---- the grammar ---- */

static enum wf_json_kind open_level(struct wf_json *j, bool object)
{
	if (j->depth == WF_JSON_MAX_DEPTH)
		return broken(j, -E2BIG, "it is nested too deeply");
	uint8_t bit = (uint8_t)(1u << j->depth % 8);
	if (object)
		j->objects[j->depth / 8] |= bit;
	else
		j->objects[j->depth / 8] &= (uint8_t)~bit;
	pass(j);
	j->depth++;
	j->expects = object ? A_KEY_OR_END : A_VALUE_OR_END;
	return object ? WF_JSON_OBJECT : WF_JSON_ARRAY;
}

static enum wf_json_kind close_level(struct wf_json *j)
{
	enum wf_json_kind kind = in_object(j) ? WF_JSON_OBJECT_END : WF_JSON_ARRAY_END;
	pass(j);
	j->depth--;
	after_value(j);
	return kind;
}

static enum wf_json_kind take_key(struct wf_json *j, int c)
{
	if (c != '"')
		return broken(j, -EUCLEAN, c < 0 ? "the text ends too early" : "a key was expected");
	if (!take_string(j))
		return WF_JSON_BROKEN;
	if (peek_past_space(j) != ':')
		return broken(j, -EUCLEAN, "a colon was expected");
	pass(j);
	j->expects = A_VALUE;
	return WF_JSON_KEY;
}

static enum wf_json_kind take_value(struct wf_json *j, int c)
{
	if (c == '{' || c == '[')
		return open_level(j, c == '{');
	if (c != '"')
		return take_word(j);
	if (!take_string(j))
		return WF_JSON_BROKEN;
	after_value(j);
	return WF_JSON_STRING;
}

static enum wf_json_kind step(struct wf_json *j)
{
	int c = peek_past_space(j);
	char end = in_object(j) ? '}' : ']';
	if (j->expects == A_COMMA_OR_END && c != end) {
		if (c != ',')
			return broken(j, -EUCLEAN, c < 0 ? "the text ends too early" : "a comma was expected");
		pass(j);
		j->expects = in_object(j) ? A_KEY : A_VALUE;
		c = peek_past_space(j);
	}
	switch ((enum expects)j->expects) {
	case A_COMMA_OR_END:
		return close_level(j);
	case A_KEY_OR_END:
		return c == end ? close_level(j) : take_key(j, c);
	case A_VALUE_OR_END:
		return c == end ? close_level(j) : take_value(j, c);
	case A_KEY:
		return take_key(j, c);
	case A_VALUE:
		return take_value(j, c);
	case NOTHING:
		break;
	}
	if (c >= 0)
		return broken(j, -EUCLEAN, "something stands behind the value");
	return j->cursor->ok ? WF_JSON_END : broken(j, -EUCLEAN, NULL);
}

enum wf_json_kind wf_json_next(struct wf_json *j)
{
	j->text_buffer.len = 0;
	enum wf_json_kind kind = j->error ? WF_JSON_BROKEN : step(j);
	j->at = j->cursor->pos;
	j->text = j->text_buffer.len ? j->text_buffer.data : "";
	j->text_len = j->text_buffer.len;
	return kind;
}

bool wf_json_skip(struct wf_json *j, enum wf_json_kind last)
{
	bool opened = last == WF_JSON_OBJECT || last == WF_JSON_ARRAY;
	uint32_t level = j->depth - opened;
	j->skipping = true;
	if (last == WF_JSON_KEY)
		wf_json_next(j);
	while (!j->error && j->depth > level)
		wf_json_next(j);
	j->skipping = false;
	return !j->error;
}

/* ---- writing ---- */

/* Stands for itself in a string, and begins nothing that does not: names are long runs of these. */
static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c != 0xed;
}

/* Eight at once, of those that are ASCII. */
static bool are_plain(const char *s)
{
	const uint64_t ones = 0x0101010101010101u, highest = ones << 7;
	uint64_t eight = wf_le64(s), quote = eight ^ ones * '"', backslash = eight ^ ones * '\\';
	return !((eight | (eight - ones * 0x20) | (quote - ones) | (backslash - ones)) & highest);
}

static size_t plain_run(const char *s, size_t len)
{
	size_t n = 0;
	while (len - n >= 8 && are_plain(s + n))
		n += 8;
	while (n < len && is_plain((unsigned char)s[n]))
		n++;
	return n;
}

void wf_json_string(struct wf_buffer *out, const char *s, size_t len)
{
	static const char special[] = "\"\\\n\t\r", letter[] = "\"\\ntr";
	wf_buffer_putc(out, '"');
	for (size_t i = 0; i < len; i++) {
		size_t run = i + plain_run(s + i, len - i);
		uint32_t c;
		wf_buffer_append(out, s + i, run - i);
		if ((i = run) == len)
			break;
		const char *at = s[i] ? strchr(special, s[i]) : NULL;
		if (at) {
			wf_buffer_putc(out, '\\');
			wf_buffer_putc(out, letter[at - special]);
		} else if ((unsigned char)s[i] < 0x20) {
			wf_buffer_printf(out, "\\u%04x", (unsigned char)s[i]);
		} else if (wf_utf8_get(s + i, len - i, true, &c) == 3 && c >= 0xd800 && c < 0xe000) {
			/* UTF-8 does not have it, so that only the escape can say it */
			wf_buffer_printf(out, "\\u%04x", c);
			i += 2;
		} else {
			wf_buffer_putc(out, s[i]);
		}
	}
	wf_buffer_putc(out, '"');
}

void wf_json_ints(struct wf_buffer *out, const int64_t *values, uint32_t n)
{
	wf_buffer_putc(out, '[');
	for (uint32_t i = 0; i < n; i++) {
		wf_buffer_puts(out, i ? ", " : "");
		wf_buffer_put_int(out, values[i]);
	}
	wf_buffer_putc(out, ']');
}
