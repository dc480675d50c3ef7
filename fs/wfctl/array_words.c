/* SPDX-License-Identifier: MIT */
/* Writes texts, bytes, dates and spans as NumPy does. */
#include "fs/wfctl/array_words.h"

#include <string.h>

/* ---- texts ---- */

static bool is_shown(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} hidden[] = {{0, 0x1f},          {0x7f, 0xa0},     {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
		      {0x6dd, 0x6dd},     {0x70f, 0x70f},   {0x1680, 0x1680},   {0x180e, 0x180e},   {0x2000, 0x200f},
		      {0x2028, 0x202f},   {0x205f, 0x206f}, {0x3000, 0x3000},   {0xd800, 0xf8ff},   {0xfeff, 0xfeff},
		      {0xfff0, 0xfffb},   {0xfffe, 0xffff}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
		      {0xf0000, 0x10ffff}};
	for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
		if (c >= hidden[i].first && c <= hidden[i].last)
			return false;
	return true;
}

static void put_utf8(struct wf_buffer *out, uint32_t c)
{
	static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
	int len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	wf_buffer_putc(out, (char)(first[len] | c >> 6 * (len - 1)));
	for (int i = len - 2; i >= 0; i--)
		wf_buffer_putc(out, (char)(0x80 | (c >> 6 * i & 0x3f)));
}

static void put_character(struct wf_buffer *out, uint32_t c, bool is_byte, char quote)
{
	if (c == (uint32_t)quote || c == '\\')
		wf_buffer_printf(out, "\\%c", (char)c);
	else if (c == '\n' || c == '\r' || c == '\t')
		wf_buffer_printf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	else if (is_byte ? c < 0x20 || c > 0x7e : !is_shown(c))
		wf_buffer_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
	else
		put_utf8(out, c);
}

static uint32_t character(const struct wfctl_dtype *t, const unsigned char *at, uint32_t i)
{
	uint32_t c;
	if (t->kind != WFCTL_TEXT)
		return at[i];
	memcpy(&c, at + 4 * (size_t)i, 4);
	return c;
}

static void put_text(const struct wfctl_dtype *t, const unsigned char *at, bool alone, struct wf_buffer *out)
{
	uint32_t n = t->kind == WFCTL_TEXT ? t->bytes / 4 : t->bytes;
	bool single = false, twice = false;
	while (t->kind != WFCTL_VOID && n > 0 && character(t, at, n - 1) == 0)
		n--;
	for (uint32_t i = 0; i < n; i++) {
		single |= character(t, at, i) == '\'';
		twice |= character(t, at, i) == '"';
	}
	char quote = t->kind != WFCTL_VOID && single && !twice ? '"' : '\'';
	bool bare = alone && t->kind == WFCTL_TEXT, named = alone && t->kind == WFCTL_BYTES;
	wf_buffer_puts(out, named ? "np.bytes_(" : "");
	if (!bare)
		wf_buffer_printf(out, t->kind == WFCTL_TEXT ? "%c" : "b%c", quote);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t c = character(t, at, i);
		if (t->kind == WFCTL_VOID && c != 0) /* NumPy escapes every byte of these */
			wf_buffer_printf(out, "\\x%02X", c);
		else if (t->kind == WFCTL_VOID)
			wf_buffer_puts(out, "\\x00");
		else if (bare && c <= 0x10ffff)
			put_utf8(out, c);
		else
			put_character(out, c, t->kind != WFCTL_TEXT, quote);
	}
	if (!bare)
		wf_buffer_putc(out, quote);
	wf_buffer_puts(out, named ? ")" : "");
}

/* ---- dates ---- */

static int64_t floor_divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Days since 1970 as a date, by years of 365.2425 days that begin in March. */
static void put_day(struct wf_buffer *out, int64_t day)
{
	int64_t era = floor_divide(day + 719468, 146097), of_era = day + 719468 - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
	int d = (int)(of_year - (153 * month + 2) / 5 + 1), m = (int)(month < 10 ? month + 3 : month - 9);
	wf_buffer_printf(out, "%04lld-%02d-%02d", (long long)(year + era * 400 + (m <= 2)), m, d);
}

static bool put_date(const struct wfctl_dtype *t, int64_t v, struct wf_buffer *out)
{
	const struct wfctl_unit *u = t->unit < 0 ? NULL : &wfctl_units[t->unit];
	if (!u || __builtin_mul_overflow(v, t->multiple, &v))
		return false;
	if (u->second == 0) { /* years, months */
		int64_t months = u->name[0] == 'M', year = months ? floor_divide(v, 12) : v;
		wf_buffer_printf(out, "%04lld", (long long)year + 1970);
		if (months)
			wf_buffer_printf(out, "-%02d", (int)(v - year * 12) + 1);
		return true;
	}
	int64_t seconds = floor_divide(v, u->second), part = v - seconds * u->second;
	if (__builtin_mul_overflow(seconds, u->seconds, &seconds))
		return false;
	int64_t day = floor_divide(seconds, 86400);
	int of_day = (int)(seconds - day * 86400);
	if (day > INT64_MAX - 719468)
		return false;
	put_day(out, day);
	if (u->seconds >= 86400)
		return true;
	wf_buffer_printf(out, "T%02d", of_day / 3600);
	if (u->seconds <= 60)
		wf_buffer_printf(out, ":%02d", of_day / 60 % 60);
	if (u->seconds == 1)
		wf_buffer_printf(out, ":%02d", of_day % 60);
	if (u->digits > 0)
		wf_buffer_printf(out, ".%0*lld", u->digits, (long long)part);
	return true;
}

static void put_time(const struct wfctl_dtype *t, int64_t v, bool alone, struct wf_buffer *out)
{
	const char *quote = alone ? "" : "'";
	int64_t whole;
	if (v == INT64_MIN) {
		wf_buffer_printf(out, "%sNaT%s", quote, quote);
	} else if (t->kind == WFCTL_SPAN && alone && !__builtin_mul_overflow(v, t->multiple, &whole)) {
		wf_buffer_printf(out, "%lld %s", (long long)whole,
				 t->unit < 0 ? "generic time units" : wfctl_units[t->unit].word);
	} else if (t->kind == WFCTL_SPAN) {
		wf_buffer_printf(out, "%lld", (long long)v);
	} else {
		size_t before = out->len;
		wf_buffer_puts(out, quote);
		if (!put_date(t, v, out)) {
			out->len = before;
			wf_buffer_printf(out, "%s%lld", quote, (long long)v);
		}
		wf_buffer_puts(out, quote);
	}
}

void wfctl_word_put(const struct wfctl_dtype *dtype, const void *element, bool alone, struct wf_buffer *out)
{
	int64_t v;
	if (dtype->kind != WFCTL_DATE && dtype->kind != WFCTL_SPAN) {
		put_text(dtype, element, alone, out);
		return;
	}
	memcpy(&v, element, sizeof v);
	put_time(dtype, v, alone, out);
}
