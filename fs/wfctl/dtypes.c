/* SPDX-License-Identifier: MIT */
#include "fs/wfctl/dtypes.h"

#include <math.h>
#include <stddef.h>
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
