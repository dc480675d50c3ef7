/* SPDX-License-Identifier: MIT */
/* Knows the element types by their names and descriptions, and widens float8. */
#include "fs/wfctl/dtypes.h"

#include "fs/wfctl/float_text.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct wfctl_dtype dtypes[] = {
	{"bool", "|b1", WFCTL_BOOL, 1, 0, true},
	{"uint8", "|u1", WFCTL_UINT, 1, 0, true},
	{"uint16", "<u2", WFCTL_UINT, 2, 0, true},
	{"uint32", "<u4", WFCTL_UINT, 4, 0, true},
	{"uint64", "<u8", WFCTL_UINT, 8, 0, true},
	{"int8", "|i1", WFCTL_INT, 1, 0, true},
	{"int16", "<i2", WFCTL_INT, 2, 0, true},
	{"int32", "<i4", WFCTL_INT, 4, 0, true},
	{"int64", "<i8", WFCTL_INT, 8, 0, true},
	{"float16", "<f2", WFCTL_FLOAT, 2, 0, true},
	{"float32", "<f4", WFCTL_FLOAT, 4, 0, true},
	{"float64", "<f8", WFCTL_FLOAT, 8, 0, true},
	{"complex64", "<c8", WFCTL_COMPLEX, 8, 0, true},
	{"complex128", "<c16", WFCTL_COMPLEX, 16, 0, true},
	/* what NumPy has not */
	{"complex32", "<c8", WFCTL_COMPLEX, 4, 0, false},
	{"bfloat16", "<f4", WFCTL_BFLOAT, 2, 0, false},
	{"float8_e4m3fn", "<f4", WFCTL_FLOAT8, 1, 4, false},
	{"float8_e5m2", "<f4", WFCTL_FLOAT8, 1, 5, false},
	{"float8_e4m3fnuz", "<f4", WFCTL_FLOAT8, 1, 4, false},
	{"float8_e5m2fnuz", "<f4", WFCTL_FLOAT8, 1, 5, false},
	{"float8_e8m0fnu", "<f4", WFCTL_FLOAT8, 1, 8, false},
	{"float4_e2m1fn_x2", "|u1", WFCTL_UINT, 1, 0, false},
	{"quint8", "|u1", WFCTL_UINT, 1, 0, false},
	{"qint8", "|i1", WFCTL_INT, 1, 0, false},
	{"qint32", "<i4", WFCTL_INT, 4, 0, false},
	{"quint4x2", "|u1", WFCTL_UINT, 1, 0, false},
	{"quint2x4", "|u1", WFCTL_UINT, 1, 0, false},
	{"bits8", "|u1", WFCTL_UINT, 1, 0, false},
	{"bits16", "<u2", WFCTL_UINT, 2, 0, false},
	{"bits1x8", "|u1", WFCTL_UINT, 1, 0, false},
	{"bits2x4", "|u1", WFCTL_UINT, 1, 0, false},
	{"bits4x2", "|u1", WFCTL_UINT, 1, 0, false},
};

const struct wfctl_dtype *wfctl_dtype_of_name(const char *name)
{
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
		if (!strcmp(dtypes[i].name, name))
			return &dtypes[i];
	return NULL;
}

const struct wfctl_dtype *wfctl_dtype_of_descr(const char *descr)
{
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
		if (dtypes[i].own && !strcmp(dtypes[i].descr, descr))
			return &dtypes[i];
	return NULL;
}

/* ---- NumPy's own ---- */

const struct wfctl_unit wfctl_units[] = {
	{"Y", "years", 0, 0, 0},
	{"M", "months", 0, 0, 0},
	{"W", "weeks", 0, 1, 7 * 86400},
	{"D", "days", 0, 1, 86400},
	{"h", "hours", 0, 1, 3600},
	{"m", "minutes", 0, 1, 60},
	{"s", "seconds", 0, 1, 1},
	{"ms", "milliseconds", 3, 1000, 1},
	{"us", "microseconds", 6, 1000000, 1},
	{"ns", "nanoseconds", 9, 1000000000, 1},
	{"ps", "picoseconds", 12, 1000000000000, 1},
	{"fs", "femtoseconds", 15, 1000000000000000, 1},
	{"as", "attoseconds", 18, 1000000000000000000, 1},
};

/* "[5m]"; nothing: no unit. */
static bool read_unit(const char *text, struct wfctl_dtype *ret)
{
	ret->unit = -1;
	ret->multiple = 1;
	if (!*text)
		return true;
	char *end;
	long long multiple = *text == '[' ? strtoll(text + 1, &end, 10) : 0;
	if (*text != '[' || multiple < 0)
		return false;
	ret->multiple = end == text + 1 ? 1 : multiple;
	for (size_t i = 0; i < sizeof wfctl_units / sizeof *wfctl_units; i++) {
		size_t len = strlen(wfctl_units[i].name);
		if (!strncmp(end, wfctl_units[i].name, len) && !strcmp(end + len, "]"))
			ret->unit = (int8_t)i;
	}
	return ret->unit >= 0 || !strcmp(text, "[generic]");
}

bool wfctl_dtype_make(const char *descr, uint32_t record_bytes, struct wfctl_dtype *ret)
{
	*ret = (struct wfctl_dtype){.name = descr, .descr = descr, .own = true};
	if (descr[0] == '[') {
		ret->kind = WFCTL_RECORD;
		ret->bytes = record_bytes;
		return true;
	}
	if (!descr[0] || !strchr("<>|=", descr[0]) || !descr[1])
		return false;
	char *end;
	unsigned long long n = strtoull(descr + 2, &end, 10);
	ret->swapped = descr[0] == '>';
	if (end == descr + 2 || n > INT32_MAX / 4)
		return false;
	if (descr[1] == 'M' || descr[1] == 'm') {
		ret->kind = descr[1] == 'M' ? WFCTL_DATE : WFCTL_SPAN;
		ret->bytes = 8;
		return n == 8 && read_unit(end, ret);
	}
	if (WFCTL_HAS_EXTENDED && !*end && !ret->swapped && (descr[1] == 'f' ? n == 16 : descr[1] == 'c' && n == 32)) {
		ret->kind = descr[1] == 'f' ? WFCTL_FLOAT : WFCTL_COMPLEX;
		ret->bytes = (uint32_t)n;
		return true;
	}
	ret->kind = descr[1] == 'U' ? WFCTL_TEXT : descr[1] == 'S' ? WFCTL_BYTES : WFCTL_VOID;
	ret->bytes = (uint32_t)n * (descr[1] == 'U' ? 4 : 1);
	return strchr("USV", descr[1]) && !*end;
}

/* ---- small floats ---- */

/* OCP's and the IEEE-like forms; those that end in fnuz have one NaN, 0x80, no infinity and a bias that is one more. */
static float float8(const struct wfctl_dtype *dtype, unsigned char x)
{
	int exponent_bits = dtype->exponent_bits, mantissa_bits = 7 - exponent_bits;
	size_t len = strlen(dtype->name);
	bool fnuz = !strcmp(dtype->name + len - 4, "fnuz");
	if (exponent_bits == 8)
		return x == 0xff ? NAN : ldexpf(1, x - 127);
	int bias = (1 << (exponent_bits - 1)) - !fnuz;
	int exponent = x >> mantissa_bits & ((1 << exponent_bits) - 1), mantissa = x & ((1 << mantissa_bits) - 1);
	bool ones = exponent == (1 << exponent_bits) - 1;
	float value;
	if (fnuz && x == 0x80)
		return NAN;
	if (!fnuz && ones && exponent_bits == 5)
		value = mantissa ? NAN : INFINITY;
	else if (!fnuz && ones && mantissa == (1 << mantissa_bits) - 1)
		value = NAN;
	else if (exponent == 0)
		value = ldexpf((float)mantissa, 1 - bias - mantissa_bits);
	else
		value = ldexpf((float)(mantissa | 1 << mantissa_bits), exponent - bias - mantissa_bits);
	return x & 0x80 ? -value : value;
}

float wfctl_small_float(const struct wfctl_dtype *dtype, const void *element)
{
	uint16_t half;
	if (dtype->kind == WFCTL_FLOAT8)
		return float8(dtype, *(const unsigned char *)element);
	memcpy(&half, element, sizeof half);
	uint32_t bits = (uint32_t)half << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}
