/* SPDX-License-Identifier: MIT */
/* Numbers as the elements of tensors and arrays: a text becomes the bytes that a dtype has for it. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"
#include "codec/value/inner.h"

/* ---- floating point ---- */

/* A sign, an exponent and a mantissa. Where there is no infinity the largest exponent holds numbers, too. */
struct float_format {
	uint8_t size_bytes, mantissa_bits;
	int16_t bias;
	double max;
	bool infinity;
	uint16_t nan;
};

static const struct float_format formats[WF_DTYPE_COUNT] = {
	[WF_FLOAT16] = {2, 10, 15, 65504, true, 0x7e00},       [WF_BFLOAT16] = {2, 7, 127, 0x1.fep127, true, 0x7fc0},
	[WF_FLOAT8_E5M2] = {1, 2, 15, 57344, true, 0x7f},      [WF_FLOAT8_E4M3FN] = {1, 3, 7, 448, false, 0x7f},
	[WF_FLOAT8_E5M2FNUZ] = {1, 2, 16, 57344, false, 0x80}, [WF_FLOAT8_E4M3FNUZ] = {1, 3, 8, 240, false, 0x80},
};

static double nearest(double a)
{
	uint64_t n = (uint64_t)a;
	double rest = a - (double)n;
	return (double)(n + (rest > 0.5 || (rest == 0.5 && n % 2)));
}

/* To the nearest, ties to even. */
static bool encode_small(const struct float_format *f, double v, unsigned char *ret)
{
	unsigned int m = f->mantissa_bits, sign = signbit(v) ? 1u << (8u * f->size_bytes - 1) : 0, code;
	double a = fabs(v), unit = ldexp(1, 1 - f->bias - (int)m);
	if (isnan(v)) {
		code = f->nan;
	} else if (isinf(v)) {
		if (!f->infinity)
			return false;
		code = f->nan & ~((1u << m) - 1u);
	} else {
		int exponent = 1 - f->bias;
		if (a >= unit * (double)(1u << m)) {
			(void)frexp(a, &exponent);
			exponent--;
			unit = ldexp(1, exponent - (int)m);
		}
		double n = a > f->max * 2 ? a : nearest(a / unit);
		if (n * unit > f->max)
			return false;
		/* the carry of rounding goes into the exponent by itself */
		code = (unsigned int)((exponent + f->bias - 1) << m) + (unsigned int)n;
		if (code == 0 && !f->infinity && f->nan == 0x80)
			sign = 0; /* the formats with one zero only */
	}
	code |= isnan(v) ? 0 : sign;
	ret[0] = (unsigned char)code;
	if (f->size_bytes == 2)
		ret[1] = (unsigned char)(code >> 8);
	return true;
}

static bool encode_float(enum wf_dtype dtype, double v, unsigned char *ret)
{
	float f = (float)v;
	if (dtype == WF_FLOAT64)
		memcpy(ret, &v, 8);
	else if (dtype == WF_FLOAT32 && isinf(f) == isinf(v))
		memcpy(ret, &f, 4);
	else if (dtype == WF_FLOAT32 || formats[dtype].size_bytes == 0)
		return false;
	else
		return encode_small(&formats[dtype], v, ret);
	return true;
}

/* ---- whole numbers ---- */

static bool encode_int(const char *s, size_t len, unsigned int bits, bool is_signed, unsigned char *ret)
{
	double d;
	uint64_t v = 0, limit = bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
	bool negative = len > 0 && s[0] == '-';
	size_t at = len > 0 && (s[0] == '-' || s[0] == '+');
	if (at < len && strspn(s + at, "0123456789") >= len - at) {
		for (; at < len; at++)
			if (wf_mul_u64(v, 10, &v) || wf_add_u64(v, (uint64_t)(s[at] - '0'), &v))
				return false;
	} else {
		/* 1e3 and 3.0 are whole, too */
		if (!wf_double_parse(s, len, &d) || !(fabs(d) < 0x1p63) || d != (double)(int64_t)d)
			return false;
		v = (uint64_t)fabs(d);
	}
	if (is_signed)
		limit = limit / 2 + negative;
	else if (negative && v > 0)
		return false;
	if (v > limit)
		return false;
	v = negative ? 0 - v : v;
	for (unsigned int i = 0; i < bits / 8; i++)
		ret[i] = (unsigned char)(v >> (8 * i));
	return true;
}

static bool encode_complex(const char *s, size_t len, enum wf_dtype part, unsigned char *ret)
{
	double re, im;
	size_t half = wf_dtype_info(part)->size_bytes;
	return wf_complex_parse(s, len, &re, &im) && encode_float(part, re, ret) && encode_float(part, im, ret + half);
}

bool wf_number_encode(enum wf_dtype dtype, const char *s, size_t len, unsigned char ret[16])
{
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		len--;
	while (len > 0 && isspace((unsigned char)s[0])) {
		s++;
		len--;
	}
	double d;
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	switch ((enum wf_element)info->element) {
	case WF_ELEMENT_BOOL:
		ret[0] = (len == 4 && !memcmp(s, "true", 4)) || (len == 1 && s[0] == '1');
		return ret[0] || (len == 5 && !memcmp(s, "false", 5)) || (len == 1 && s[0] == '0');
	case WF_ELEMENT_SIGNED:
	case WF_ELEMENT_UNSIGNED:
		return encode_int(s, len, 8u * info->size_bytes, info->element == WF_ELEMENT_SIGNED, ret);
	case WF_ELEMENT_COMPLEX:
		return encode_complex(s, len, (enum wf_dtype)info->part, ret);
	case WF_ELEMENT_FLOAT:
		return wf_double_parse(s, len, &d) && encode_float(dtype, d, ret);
	case WF_ELEMENT_BITS:
		break;
	}
	return false;
}

bool wf_number_parse(const char *text, double *ret)
{
	return wf_double_parse(text, strlen(text), ret);
}

/* ---- NumPy's scalars ---- */

/* scalar(dtype, bytes) of the same dtype with another number. */
wf_ref wf_value_parse_numpy(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	unsigned char bytes[16] = {0}, swapped[16];
	struct wf_numpy_dtype d;
	wf_ref dtype = wf_element(g, wf_call_args(g, like), 0), data = wf_element(g, wf_call_args(g, like), 1);
	*error = 0;
	if (!wf_value_numpy_dtype(g, like, &d) || d.dtype == WF_DTYPE_INVALID)
		*error = -EROFS;
	else if (!wf_number_encode(d.dtype, s, len, bytes))
		*error = -EINVAL;
	if (*error < 0)
		return WF_NIL;
	size_t size = wf_dtype_info(d.dtype)->size_bytes;
	size_t unit = d.big_endian ? wf_dtype_info(d.dtype)->swap_bytes : 1;
	for (size_t i = 0; i < size; i++)
		swapped[i] = bytes[i / unit * unit + (unit - 1 - i % unit)];
	wf_ref args[2] = {dtype, wf_value_bytes_like(g, data, (const char *)swapped, size, error)};
	wf_ref tuple = *error < 0 ? WF_NIL : wf_tuple(g, args, 2);
	wf_ref r = tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL);
	if (*error == 0 && r == WF_NIL)
		*error = -ENOMEM;
	return r;
}

wf_ref wf_value_numpy_example(struct wf_graph *g, const char *name)
{
	enum wf_dtype d = !strcmp(name, "bool_") ? WF_BOOL8 : wf_dtype_from_name(name);
	const struct wf_dtype_info *info = wf_dtype_info(d);
	if (!info->numpy_descr || info->quantised || (strcmp(info->name, name) && strcmp(name, "bool_")))
		return WF_NIL;
	int error = 0;
	char zero[16] = {0};
	/* as in protocol 2 */
	wf_ref args[2] = {wf_numpy_dtype_object(g, d), wf_value_bytes_like(g, WF_NIL, zero, info->size_bytes, &error)};
	wf_ref func = wf_global_named(g, wf_numpy_module(g), "scalar");
	wf_ref tuple = args[0] == WF_NIL || args[1] == WF_NIL || func == WF_NIL ? WF_NIL : wf_tuple(g, args, 2);
	return tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, func, tuple, WF_NIL);
}
