/* SPDX-License-Identifier: MIT */
/* NumPy scalars: numpy.core.multiarray.scalar(dtype, bytes), as text. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/value/inner.h"

#define MAX_BYTES (1u << 20) /* of a text or a record */

static double half_to_double(unsigned int v)
{
	unsigned int exponent = v >> 10 & 31, mantissa = v & 1023;
	double x = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
		   : exponent     ? ldexp(1024 + mantissa, (int)exponent - 25)
				  : ldexp(mantissa, -24);
	return v & 0x8000 ? -x : x;
}

static double read_float(const unsigned char *b, uint32_t size)
{
	double d;
	float f;
	if (size == 2)
		return half_to_double(wf_le16(b));
	if (size == 4) {
		memcpy(&f, b, 4);
		return (double)f;
	}
	memcpy(&d, b, 8);
	return d;
}

/* x87's 80 bits, as NumPy has them on x86; elsewhere a long double is something else. */
static int put_long_double(const unsigned char *b, uint32_t size, struct wf_buffer *out)
{
#if LDBL_MANT_DIG == 64
	long double v = 0;
	char text[64];
	if (size != 16 && size != 12)
		return -EINVAL;
	memcpy(&v, b, 10);
	wf_long_double_text(v, text);
	wf_buffer_puts(out, text);
	return 0;
#else
	return -EINVAL;
#endif
}

/* UTF-32 to UTF-8; NumPy leaves out the NULs at the end. Lone surrogates as three bytes. */
static int put_utf32(const unsigned char *b, size_t len, bool big, struct wf_buffer *out)
{
	while (len >= 4 && !(b[len - 4] | b[len - 3] | b[len - 2] | b[len - 1]))
		len -= 4;
	for (size_t i = 0; i + 3 < len; i += 4) {
		uint32_t c = big ? (uint32_t)b[i] << 24 | (uint32_t)b[i + 1] << 16 | (uint32_t)b[i + 2] << 8 | b[i + 3]
				 : wf_le32(b + i);
		if (c > 0x10ffff)
			return -EUCLEAN;
		if (c < 0x80) {
			wf_buffer_putc(out, (char)c);
			continue;
		}
		if (c < 0x800) {
			wf_buffer_putc(out, (char)(0xc0 | c >> 6));
		} else {
			wf_buffer_putc(out, (char)(c < 0x10000 ? 0xe0 | c >> 12 : 0xf0 | c >> 18));
			if (c >= 0x10000)
				wf_buffer_putc(out, (char)(0x80 | (c >> 12 & 63)));
			wf_buffer_putc(out, (char)(0x80 | (c >> 6 & 63)));
		}
		wf_buffer_putc(out, (char)(0x80 | (c & 63)));
	}
	return 0;
}

/* The elements of a number little endian: complex ones have two parts. */
static void swap_number(unsigned char *b, uint32_t size, bool complex)
{
	uint32_t unit = complex ? size / 2 : size;
	for (uint32_t at = 0; at < size; at += unit)
		for (uint32_t i = 0; i < unit / 2; i++) {
			unsigned char c = b[at + i];
			b[at + i] = b[at + unit - 1 - i];
			b[at + unit - 1 - i] = c;
		}
}

static int put_number(const struct wf_numpy_dtype *d, unsigned char *b, struct wf_buffer *out)
{
	char number[40];
	uint64_t u = 0;
	int shift = 64 - 8 * (int)WF_MIN(d->item_bytes, 8u);
	if (d->big_endian)
		swap_number(b, d->item_bytes, d->kind == 'c');
	memcpy(&u, b, WF_MIN(d->item_bytes, 8u));
	switch (d->kind) {
	case 'b':
		wf_buffer_puts(out, b[0] ? "true" : "false");
		return 0;
	case 'i':
		wf_buffer_put_int(out, (int64_t)(u << shift) >> shift);
		return 0;
	case 'u':
		wf_buffer_printf(out, "%llu", (unsigned long long)u);
		return 0;
	case 'M':
	case 'm':
		return d->item_bytes == 8 ? wf_value_time64_text(d, (int64_t)u, out) : -EINVAL;
	case 'f':
		if (d->item_bytes > 8)
			return put_long_double(b, d->item_bytes, out);
		wf_double_text(read_float(b, d->item_bytes), number);
		wf_buffer_puts(out, number);
		return 0;
	case 'c':
		if (d->item_bytes > 16)
			return -EINVAL;
		wf_value_complex_text(read_float(b, d->item_bytes / 2),
				      read_float(b + d->item_bytes / 2, d->item_bytes / 2), out);
		return 0;
	default:
		return -EINVAL;
	}
}

bool wf_value_numpy_dtype(const struct wf_graph *g, wf_ref r, struct wf_numpy_dtype *ret)
{
	struct wf_numpy_dtype d;
	wf_ref dtype = wf_element(g, wf_call_args(g, r), 0), data = wf_element(g, wf_call_args(g, r), 1);
	if (!wf_numpy_dtype_of(g, dtype, &d) || d.kind == 'O' || wf_bytes_object(g, data) == WF_NIL ||
	    d.item_bytes > MAX_BYTES)
		return false;
	*ret = d;
	return strchr("USV", d.kind) || (d.item_bytes > 0 && d.item_bytes <= 16) || d.kind == 'c';
}

int wf_value_numpy_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct wf_buffer raw = WF_BUFFER_INIT;
	struct wf_numpy_dtype d;
	if (!wf_value_numpy_dtype(g, r, &d))
		return -EINVAL;
	int failed = wf_bytes_read(g, wf_element(g, wf_call_args(g, r), 1), MAX_BYTES, &raw);
	if (failed == 0 && raw.len != d.item_bytes)
		failed = -EINVAL;
	if (failed < 0) {
		wf_buffer_free(&raw);
		return failed;
	}
	unsigned char *b = (unsigned char *)raw.data;
	if (raw.len == 0) {
		failed = 0;
	} else if (d.kind == 'U') {
		failed = put_utf32(b, raw.len, d.big_endian, out);
	} else if (d.kind == 'S' || d.kind == 'V') {
		while (d.kind == 'S' && raw.len > 0 && b[raw.len - 1] == 0)
			raw.len--;
		wf_buffer_append(out, b, raw.len);
	} else {
		failed = put_number(&d, b, out);
	}
	wf_buffer_free(&raw);
	return failed < 0 ? failed : wf_buffer_status(out);
}
