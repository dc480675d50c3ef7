/* SPDX-License-Identifier: MIT */
/* Opcodes that push a number or a string.
 *
 *   BININT i32   BININT1 u8   BININT2 u16   LONG1 u8 n, bytes   LONG4 i32 n, bytes     little endian, two's complement
 *   BINFLOAT     f64 big endian
 *   SHORT_BINUNICODE u8 n   BINUNICODE u32 n   BINUNICODE8 u64 n     UTF-8, lone surrogates as three bytes
 *   SHORT_BINSTRING u8 n    BINSTRING i32 n                         Python 2 str
 *   SHORT_BINBYTES u8 n     BINBYTES u32 n     BINBYTES8 u64 n      BYTEARRAY8 u64 n
 *   INT LONG FLOAT STRING UNICODE                                   one line of text (protocol 0)
 */
#include "codec/pickle/inner.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/number.h"
#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"

/* A line of a number, which must fit the cursor's window. */
#define MAX_LINE (128u << 10)
/* A line of text, which is decoded into memory. */
#define MAX_TEXT_LINE (256u << 20)
/* What Python itself converts from text unless told otherwise (sys.set_int_max_str_digits). */
#define MAX_DIGITS 4300
#define MAX_NAME 4096

/* ---- binary numbers ---- */

static int long_bytes(struct pickle_machine *m, int64_t n)
{
	if (n < 0)
		return wf_pickle_broken(m, "%s with a negative length (%" PRId64 ")", m->op_name, n);
	if (n > WF_PICKLE_MAX_LONG)
		return wf_pickle_refused(m, -E2BIG, "an int of %" PRId64 " bytes; the limit is %u", n,
					 WF_PICKLE_MAX_LONG);
	const void *bytes = wf_cursor_view(&m->in, (size_t)n);
	if (!bytes)
		return wf_pickle_cut(m);
	return wf_pickle_push(m, wf_long(m->g, bytes, (size_t)n));
}

static double be_double(uint64_t bits)
{
	double v;

	bits = __builtin_bswap64(bits);
	memcpy(&v, &bits, sizeof v);
	return v;
}

int wf_pickle_number(struct pickle_machine *m, uint8_t op)
{
	struct wf_cursor *in = &m->in;
	int64_t v = 0;
	double f = 0.0;

	switch (op) {
	case OP_BININT:
		v = (int32_t)wf_cursor_u32(in);
		break;
	case OP_BININT1:
		v = wf_cursor_u8(in);
		break;
	case OP_BININT2:
		v = wf_cursor_u16(in);
		break;
	case OP_LONG1:
		v = wf_cursor_u8(in);
		return in->ok ? long_bytes(m, v) : wf_pickle_cut(m);
	case OP_LONG4:
		v = (int32_t)wf_cursor_u32(in);
		return in->ok ? long_bytes(m, v) : wf_pickle_cut(m);
	default:
		f = be_double(wf_cursor_u64(in));
	}
	if (!in->ok)
		return wf_pickle_cut(m);
	m->binary = true;
	return wf_pickle_push(m, op == OP_BINFLOAT ? wf_float(m->g, f) : wf_int(m->g, v));
}

/* ---- text numbers ---- */

static int line(struct pickle_machine *m, size_t max, const char **ret, size_t *ret_len)
{
	uint64_t left = wf_cursor_left(&m->in);
	const char *s = wf_cursor_line(&m->in, max, ret_len);

	if (s) {
		*ret = s;
		return 0;
	}
	if (left > max && m->in.error == -EUCLEAN)
		return wf_pickle_refused(m, -E2BIG, "%s with a line of more than %zu bytes", m->op_name, max);
	return wf_pickle_cut(m);
}

/* Decimal digits to little-endian two's complement, sign included. Returns the number of bytes. */
static size_t decimal_to_bytes(const char *digits, size_t n, bool negative, uint32_t *words)
{
	size_t used = 1;

	words[0] = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t carry = (uint64_t)(digits[i] - '0');
		for (size_t w = 0; w < used; w++) {
			carry += (uint64_t)words[w] * 10;
			words[w] = (uint32_t)carry;
			carry >>= 32;
		}
		if (carry)
			words[used++] = (uint32_t)carry;
	}
	words[used++] = 0; /* room for the sign */
	uint64_t carry = 1;
	for (size_t w = 0; negative && w < used; w++) {
		carry += (uint32_t)~words[w];
		words[w] = (uint32_t)carry;
		carry >>= 32;
	}
	return used * sizeof *words;
}

static bool all_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

static int text_int(struct pickle_machine *m, uint8_t op, const char *s, size_t n)
{
	uint32_t words[MAX_DIGITS / 9 + 3];
	bool negative = false;

	if (op == OP_INT && n == 2 && s[0] == '0' && (s[1] == '0' || s[1] == '1'))
		return wf_pickle_push(m, wf_bool(m->g, s[1] == '1'));
	if (op == OP_LONG && n && s[n - 1] == 'L')
		n--;
	if (n && (s[0] == '-' || s[0] == '+')) {
		negative = s[0] == '-';
		s++, n--;
	}
	if (!all_digits(s, n))
		return wf_pickle_broken(m, "%s with a line that is no decimal number", m->op_name);
	if (n > MAX_DIGITS)
		return wf_pickle_refused(m, -E2BIG, "%s of %zu digits; the limit is %d", m->op_name, n, MAX_DIGITS);
	size_t bytes = decimal_to_bytes(s, n, negative, words);
	return wf_pickle_push(m, wf_long(m->g, words, bytes));
}

static int text_float(struct pickle_machine *m, const char *s, size_t n)
{
	char text[512], *end;

	/* strtod would take hexadecimal, leading space and nan(...) too, which Python's float does not. */
	if (n == 0 || n >= sizeof text || strspn(s, "0123456789+-.eEinfINFatyATY") < n)
		return wf_pickle_broken(m, "FLOAT with a line that is no number");
	memcpy(text, s, n);
	text[n] = '\0';
	double v = wf_strtod(text, &end);
	if (end != text + n)
		return wf_pickle_broken(m, "FLOAT with a line that is no number");
	return wf_pickle_push(m, wf_float(m->g, v));
}

int wf_pickle_text_number(struct pickle_machine *m, uint8_t op)
{
	const char *s;
	size_t n;
	int rc = line(m, MAX_LINE, &s, &n);

	if (rc < 0)
		return rc;
	return op == OP_FLOAT ? text_float(m, s, n) : text_int(m, op, s, n);
}

int wf_pickle_text_index(struct pickle_machine *m, uint64_t *ret)
{
	const char *s;
	size_t n;
	uint64_t v = 0;
	int rc = line(m, MAX_LINE, &s, &n);

	if (rc < 0)
		return rc;
	if (!all_digits(s, n) || n > 18)
		return wf_pickle_broken(m, "%s with a line that is no memo index", m->op_name);
	for (size_t i = 0; i < n; i++)
		v = 10 * v + (uint64_t)(s[i] - '0');
	*ret = v;
	return 0;
}

/* ---- strings ---- */

static int push_text(struct pickle_machine *m, enum wf_kind kind, const void *data, size_t n)
{
	if (kind == WF_STR && !wf_utf8_valid(data, n, true))
		return wf_pickle_broken(m, "%s whose bytes are not UTF-8", m->op_name);
	return wf_pickle_push(m, wf_string(m->g, kind, data, n));
}

/* A long string: left where it is, and only counted off here. */
static int long_string(struct pickle_machine *m, enum wf_kind kind, uint64_t n)
{
	if (m->external) {
		uint64_t at = m->in.pos;
		wf_cursor_skip(&m->in, n);
		return m->in.ok ? wf_pickle_push(m, wf_string_external(m->g, kind, at, n)) : wf_pickle_cut(m);
	}
	if (n > WF_GRAPH_MAX_BYTES)
		return wf_pickle_refused(m, -E2BIG, "%s of %" PRIu64 " bytes; the limit is %llu", m->op_name, n,
					 WF_GRAPH_MAX_BYTES);
	cleanup_free void *data = malloc((size_t)n);
	if (!data)
		return wf_pickle_no_room(m);
	wf_cursor_copy(&m->in, data, (size_t)n);
	return m->in.ok ? push_text(m, kind, data, (size_t)n) : wf_pickle_cut(m);
}

static const struct {
	uint8_t op, length_bytes;
	enum wf_kind kind;
} forms[] = {
	{OP_SHORT_BINUNICODE, 1, WF_STR},  {OP_BINUNICODE, 4, WF_STR},  {OP_BINUNICODE8, 8, WF_STR},
	{OP_SHORT_BINSTRING, 1, WF_PYSTR}, {OP_BINSTRING, 4, WF_PYSTR}, {OP_SHORT_BINBYTES, 1, WF_BYTES},
	{OP_BINBYTES, 4, WF_BYTES},        {OP_BINBYTES8, 8, WF_BYTES}, {OP_BYTEARRAY8, 8, WF_BYTEARRAY},
};

int wf_pickle_string(struct pickle_machine *m, uint8_t op)
{
	struct wf_cursor *in = &m->in;
	unsigned f = 0;

	while (f + 1 < WF_ARRAY_SIZE(forms) && forms[f].op != op)
		f++;
	uint64_t n = forms[f].length_bytes == 1   ? wf_cursor_u8(in)
		     : forms[f].length_bytes == 4 ? wf_cursor_u32(in)
						  : wf_cursor_u64(in);
	if (!in->ok)
		return wf_pickle_cut(m);
	if (op == OP_BINSTRING && n > INT32_MAX)
		return wf_pickle_broken(m, "BINSTRING with a negative length (%" PRId32 ")", (int32_t)n);
	m->binary = true;
	if (n > wf_cursor_left(in))
		return wf_pickle_short(m, n);
	if (n > WF_INLINE_MAX)
		return long_string(m, forms[f].kind, n);
	const void *data = wf_cursor_view(in, (size_t)n);
	return data ? push_text(m, forms[f].kind, data, (size_t)n) : wf_pickle_cut(m);
}

/* ---- text strings ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly n hexadecimal digits. */
static bool hex_number(const char *s, const char *end, unsigned n, uint32_t *ret)
{
	uint32_t v = 0;

	if ((size_t)(end - s) < n)
		return false;
	for (unsigned i = 0; i < n; i++) {
		int d = hex_digit(s[i]);
		if (d < 0)
			return false;
		v = v << 4 | (uint32_t)d;
	}
	*ret = v;
	return true;
}

/* raw-unicode-escape: Latin-1, with \uXXXX and \UXXXXXXXX; a backslash before anything else stands for itself. */
static int unicode_line(struct pickle_machine *m, const char *s, size_t n)
{
	const char *end = s + n;
	size_t len = 0;
	cleanup_free char *out = malloc(2 * n + 4);

	if (!out)
		return wf_pickle_no_room(m);
	while (s < end) {
		unsigned char c = (unsigned char)*s++;
		uint32_t v = c;
		if (c == '\\' && s < end) {
			char kind = *s++;
			unsigned digits = kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
			if (digits && (!hex_number(s, end, digits, &v) || v > 0x10ffff))
				return wf_pickle_broken(m, "UNICODE with a bad \\%c escape", kind);
			s += digits;
			if (!digits) {
				out[len++] = '\\';
				v = (unsigned char)kind;
			}
		}
		len += wf_utf8_put(out + len, v);
	}
	return wf_pickle_push(m, wf_string(m->g, WF_STR, out, len));
}

/* What follows a backslash in a Python 2 string literal; *s stands after the backslash and is moved on. */
static bool string_escape(const char **s, const char *end, char *out, size_t *len)
{
	static const char plain[] = "\\\\''\"\"b\bf\ft\tn\nr\rv\va\a";
	uint32_t v;
	char c = *(*s)++;

	for (size_t i = 0; i + 1 < sizeof plain; i += 2) {
		if (plain[i] == c) {
			out[(*len)++] = plain[i + 1];
			return true;
		}
	}
	if (c == 'x') {
		if (!hex_number(*s, end, 2, &v))
			return false;
		*s += 2;
		out[(*len)++] = (char)v;
		return true;
	}
	if (c >= '0' && c <= '7') {
		v = (uint32_t)(c - '0');
		for (int i = 0; i < 2 && *s < end && **s >= '0' && **s <= '7'; i++)
			v = v << 3 | (uint32_t)(*(*s)++ - '0');
		out[(*len)++] = (char)v;
		return true;
	}
	out[(*len)++] = '\\';
	out[(*len)++] = c;
	return true;
}

static int string_line(struct pickle_machine *m, const char *s, size_t n)
{
	size_t len = 0;

	while (n && (s[n - 1] == '\r' || s[n - 1] == ' '))
		n--;
	if (n < 2 || s[0] != s[n - 1] || (s[0] != '\'' && s[0] != '"'))
		return wf_pickle_broken(m, "STRING with a line that is not in quotes");
	const char *end = s + n - 1;
	cleanup_free char *out = malloc(n);
	if (!out)
		return wf_pickle_no_room(m);
	for (s++; s < end;) {
		if (*s != '\\')
			out[len++] = *s++;
		else if (++s == end || !string_escape(&s, end, out, &len))
			return wf_pickle_broken(m, "STRING with a bad escape");
	}
	return wf_pickle_push(m, wf_string(m->g, WF_PYSTR, out, len));
}

/* The bytes of an array are one line: it may be far longer than the cursor's window. */
static int text_line(struct pickle_machine *m, struct wf_buffer *text)
{
	size_t step = 4096;

	for (;;) {
		size_t n = (size_t)WF_MIN(wf_cursor_left(&m->in), step);
		const char *p = n ? wf_cursor_view(&m->in, n) : NULL;
		if (!p)
			return wf_pickle_cut(m);
		const char *end = memchr(p, '\n', n);
		wf_buffer_append(text, p, end ? (size_t)(end - p) : n);
		if (wf_buffer_status(text) < 0)
			return wf_pickle_no_room(m);
		if (end) {
			m->in.pos -= n - (size_t)(end - p) - 1; /* inside the window */
			return 0;
		}
		if (text->len > MAX_TEXT_LINE)
			return wf_pickle_refused(m, -E2BIG, "%s with a line of more than %u MiB", m->op_name,
						 MAX_TEXT_LINE >> 20);
		step = 64u << 10;
	}
}

int wf_pickle_text_string(struct pickle_machine *m, uint8_t op)
{
	cleanup_with(wf_buffer_free) struct wf_buffer text = WF_BUFFER_INIT;
	int rc = text_line(m, &text);

	if (rc < 0)
		return rc;
	return op == OP_STRING ? string_line(m, text.data, text.len) : unicode_line(m, text.data, text.len);
}

int wf_pickle_check_name(struct pickle_machine *m, const char *name, size_t len)
{
	if (memchr(name, '\0', len) || memchr(name, '\n', len))
		return wf_pickle_broken(m, "%s with a name that holds a NUL or a newline", m->op_name);
	return 0;
}

static int text_name(struct pickle_machine *m, wf_ref *ret)
{
	const char *s;
	size_t n;
	int rc = line(m, MAX_NAME, &s, &n);

	if (rc < 0 || (rc = wf_pickle_check_name(m, s, n)) < 0)
		return rc;
	if (!wf_utf8_valid(s, n, true))
		return wf_pickle_broken(m, "%s with a name that is not UTF-8", m->op_name);
	*ret = wf_string(m->g, WF_STR, s, n);
	return *ret ? 0 : wf_pickle_no_room(m);
}

int wf_pickle_text_global(struct pickle_machine *m, wf_ref *ret)
{
	wf_ref module, name;
	int rc = text_name(m, &module);

	if (rc < 0 || (rc = text_name(m, &name)) < 0)
		return rc;
	*ret = wf_global(m->g, module, name);
	return *ret ? 0 : wf_pickle_no_room(m);
}
