/* SPDX-License-Identifier: MIT */
/* Scalars as text: whole numbers of any length, strings, complex numbers. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/value/inner.h"

/* A little-endian two's complement number in decimal. Quadratic in its length, which the pickle reader bounds. */
static int long_text(const unsigned char *le, size_t len, struct wf_buffer *out)
{
	size_t words = len / 4 + 1;
	bool negative = len > 0 && (le[len - 1] & 0x80);
	cleanup_free uint32_t *w = calloc(words, sizeof *w);
	cleanup_free char *digits = malloc(len * 3 + 16);
	if (!w || !digits)
		return -ENOMEM;
	unsigned int carry = negative;
	for (size_t i = 0; i < words * 4; i++) {
		unsigned int byte = i < len ? le[i] : negative ? 0xff : 0;
		if (negative) {
			byte = (~byte & 0xff) + carry;
			carry = byte >> 8;
		}
		w[i / 4] |= (uint32_t)(byte & 0xff) << (8 * (i % 4));
	}
	size_t n = 0, top = words;
	while (top > 0) {
		uint64_t rest = 0;
		for (size_t i = top; i-- > 0;) {
			rest = rest << 32 | w[i];
			w[i] = (uint32_t)(rest / 1000000000u);
			rest %= 1000000000u;
		}
		while (top > 0 && w[top - 1] == 0)
			top--;
		for (int k = 0; k < 9 && (top > 0 || rest > 0); k++, rest /= 10)
			digits[n++] = (char)('0' + rest % 10);
	}
	if (negative)
		wf_buffer_putc(out, '-');
	while (n > 0)
		wf_buffer_putc(out, digits[--n]);
	return 0;
}

int wf_value_string(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	char chunk[8192];
	uint64_t size = wf_string_size(g, r);
	if (size > WF_VALUE_MAX_BYTES)
		return -E2BIG;
	for (uint64_t at = 0; at < size; at += sizeof chunk) {
		size_t n = WF_MIN(sizeof chunk, size - at);
		int failed = wf_string_read(g, r, at, chunk, n);
		if (failed < 0)
			return failed;
		wf_buffer_append(out, chunk, n);
	}
	return wf_buffer_status(out);
}

int wf_value_scalar(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	char number[32];
	int64_t v;
	size_t len;
	const char *bytes;
	switch (wf_kind_of(g, r)) {
	case WF_NONE:
		wf_buffer_puts(out, "null");
		return 0;
	case WF_BOOL:
		wf_buffer_puts(out, wf_bool_value(g, r) ? "true" : "false");
		return 0;
	case WF_INT:
		wf_int_value(g, r, &v);
		wf_buffer_printf(out, "%lld", (long long)v);
		return 0;
	case WF_LONG:
		bytes = wf_bytes(g, r, &len);
		return long_text((const unsigned char *)bytes, len, out);
	case WF_FLOAT:
		wf_double_text(wf_float_value(g, r), number);
		wf_buffer_puts(out, number);
		return 0;
	case WF_STR:
	case WF_PYSTR: {
		struct wf_buffer raw = WF_BUFFER_INIT;
		int failed = wf_value_string(g, r, &raw);
		if (failed == 0)
			wf_json_string(out, raw.data ? raw.data : "", raw.len);
		wf_buffer_free(&raw);
		return failed;
	}
	default:
		return -EINVAL;
	}
}

void wf_value_complex_text(double x, double y, struct wf_buffer *out)
{
	char re[32], im[32];
	/* Python's repr without its parentheses: a zero real part is left out, whole numbers lose their ".0" */
	wf_double_text(x, re);
	wf_double_text(y, im);
	for (int i = 0; i < 2; i++) {
		char *s = i ? im : re, *dot = strstr(s, ".0");
		if (dot && !dot[2])
			*dot = '\0';
		if (!strcmp(s, "NaN"))
			strcpy(s, "nan");
		else if (strstr(s, "Infinity"))
			strcpy(s, s[0] == '-' ? "-inf" : "inf");
	}
	if (x == 0 && !signbit(x))
		wf_buffer_printf(out, "%sj", im);
	else
		wf_buffer_printf(out, "%s%s%sj", re, im[0] == '-' ? "" : "+", im);
}
