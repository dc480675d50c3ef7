/* SPDX-License-Identifier: MIT */
/* The element types of torch, and the ways to name them. */
#include "codec/object/dtype.h"

#include <stdio.h>
#include <string.h>

#include "codec/bytes/util.h"

/* name, storage class, tensor class, NumPy, element bytes, swap unit, values a byte, quantised, element, part */
static const struct wf_dtype_info table[WF_DTYPE_COUNT] = {
	[WF_DTYPE_INVALID] = {"invalid", NULL, NULL, NULL, 0, 1, 1, false, WF_ELEMENT_BITS},
	[WF_FLOAT32] = {"float32", "FloatStorage", "FloatTensor", "<f4", 4, 4, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT64] = {"float64", "DoubleStorage", "DoubleTensor", "<f8", 8, 8, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT16] = {"float16", "HalfStorage", "HalfTensor", "<f2", 2, 2, 1, false, WF_ELEMENT_FLOAT},
	[WF_BFLOAT16] = {"bfloat16", "BFloat16Storage", "BFloat16Tensor", NULL, 2, 2, 1, false, WF_ELEMENT_FLOAT},
	[WF_INT64] = {"int64", "LongStorage", "LongTensor", "<i8", 8, 8, 1, false, WF_ELEMENT_SIGNED},
	[WF_INT32] = {"int32", "IntStorage", "IntTensor", "<i4", 4, 4, 1, false, WF_ELEMENT_SIGNED},
	[WF_INT16] = {"int16", "ShortStorage", "ShortTensor", "<i2", 2, 2, 1, false, WF_ELEMENT_SIGNED},
	[WF_INT8] = {"int8", "CharStorage", "CharTensor", "|i1", 1, 1, 1, false, WF_ELEMENT_SIGNED},
	[WF_UINT8] = {"uint8", "ByteStorage", "ByteTensor", "|u1", 1, 1, 1, false, WF_ELEMENT_UNSIGNED},
	[WF_BOOL8] = {"bool", "BoolStorage", "BoolTensor", "|b1", 1, 1, 1, false, WF_ELEMENT_BOOL},
	[WF_COMPLEX64] = {"complex64", "ComplexFloatStorage", NULL, "<c8", 8, 4, 1, false, WF_ELEMENT_COMPLEX,
			  WF_FLOAT32},
	[WF_COMPLEX128] = {"complex128", "ComplexDoubleStorage", NULL, "<c16", 16, 8, 1, false, WF_ELEMENT_COMPLEX,
			   WF_FLOAT64},
	[WF_COMPLEX32] = {"complex32", NULL, NULL, NULL, 4, 2, 1, false, WF_ELEMENT_COMPLEX, WF_FLOAT16},
	[WF_BCOMPLEX32] = {"bcomplex32", NULL, NULL, NULL, 4, 2, 1, false, WF_ELEMENT_COMPLEX, WF_BFLOAT16},
	[WF_UINT16] = {"uint16", NULL, NULL, "<u2", 2, 2, 1, false, WF_ELEMENT_UNSIGNED},
	[WF_UINT32] = {"uint32", NULL, NULL, "<u4", 4, 4, 1, false, WF_ELEMENT_UNSIGNED},
	[WF_UINT64] = {"uint64", NULL, NULL, "<u8", 8, 8, 1, false, WF_ELEMENT_UNSIGNED},
	[WF_FLOAT8_E4M3FN] = {"float8_e4m3fn", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT8_E5M2] = {"float8_e5m2", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT8_E4M3FNUZ] = {"float8_e4m3fnuz", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT8_E5M2FNUZ] = {"float8_e5m2fnuz", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT8_E8M0FNU] = {"float8_e8m0fnu", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_FLOAT4_E2M1FN_X2] = {"float4_e2m1fn_x2", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_FLOAT},
	[WF_QINT8] = {"qint8", "QInt8Storage", NULL, "|i1", 1, 1, 1, true, WF_ELEMENT_SIGNED},
	[WF_QUINT8] = {"quint8", "QUInt8Storage", NULL, "|u1", 1, 1, 1, true, WF_ELEMENT_UNSIGNED},
	[WF_QINT32] = {"qint32", "QInt32Storage", NULL, "<i4", 4, 4, 1, true, WF_ELEMENT_SIGNED},
	[WF_QUINT4X2] = {"quint4x2", "QUInt4x2Storage", NULL, "|u1", 1, 1, 2, true, WF_ELEMENT_BITS},
	[WF_QUINT2X4] = {"quint2x4", "QUInt2x4Storage", NULL, "|u1", 1, 1, 4, true, WF_ELEMENT_BITS},
	[WF_BITS8] = {"bits8", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_BITS},
	[WF_BITS16] = {"bits16", NULL, NULL, NULL, 2, 2, 1, false, WF_ELEMENT_BITS},
	[WF_BITS1X8] = {"bits1x8", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_BITS},
	[WF_BITS2X4] = {"bits2x4", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_BITS},
	[WF_BITS4X2] = {"bits4x2", NULL, NULL, NULL, 1, 1, 1, false, WF_ELEMENT_BITS},
};

/* names that torch has beside the canonical ones */
static const struct {
	const char *alias;
	enum wf_dtype dtype;
} aliases[] = {
	{"float", WF_FLOAT32},    {"double", WF_FLOAT64},     {"half", WF_FLOAT16},
	{"long", WF_INT64},       {"int", WF_INT32},          {"short", WF_INT16},
	{"cfloat", WF_COMPLEX64}, {"cdouble", WF_COMPLEX128}, {"chalf", WF_COMPLEX32},
};

const struct wf_dtype_info *wf_dtype_info(enum wf_dtype d)
{
	return &table[d > WF_DTYPE_INVALID && d < WF_DTYPE_COUNT ? d : WF_DTYPE_INVALID];
}

bool wf_dtype_takes_grad(enum wf_dtype d)
{
	enum wf_element element = wf_dtype_info(d)->element;
	return element == WF_ELEMENT_FLOAT || element == WF_ELEMENT_COMPLEX;
}

enum wf_dtype wf_dtype_from_name(const char *name)
{
	if (!strncmp(name, "torch.", 6))
		name += 6;
	for (int d = 1; d < WF_DTYPE_COUNT; d++)
		if (!strcmp(table[d].name, name))
			return d;
	for (size_t i = 0; i < WF_ARRAY_SIZE(aliases); i++)
		if (!strcmp(aliases[i].alias, name))
			return aliases[i].dtype;
	return WF_DTYPE_INVALID;
}

/* The C++ pickler names a storage class after the scalar type: "UInt16Storage", "Float8_e4m3fnStorage". */
static enum wf_dtype from_scalar_type(const char *name, size_t len)
{
	static const struct {
		const char *scalar;
		enum wf_dtype dtype;
	} scalars[] = {
		{"ComplexHalf", WF_COMPLEX32}, {"UInt16", WF_UINT16},   {"UInt32", WF_UINT32},
		{"UInt64", WF_UINT64},         {"Bits8", WF_BITS8},     {"Bits16", WF_BITS16},
		{"Bits1x8", WF_BITS1X8},       {"Bits2x4", WF_BITS2X4}, {"Bits4x2", WF_BITS4X2},
	};
	char lower[32];
	for (size_t i = 0; i < WF_ARRAY_SIZE(scalars); i++)
		if (strlen(scalars[i].scalar) == len && !strncmp(scalars[i].scalar, name, len))
			return scalars[i].dtype;
	if (len >= sizeof lower || strncmp(name, "Float", 5) != 0)
		return WF_DTYPE_INVALID;
	snprintf(lower, sizeof lower, "f%.*s", (int)len - 1, name + 1); /* Float8_e4m3fn -> float8_e4m3fn */
	return !strncmp(lower, "float8_", 7) || !strncmp(lower, "float4_", 7) ? wf_dtype_from_name(lower)
									      : WF_DTYPE_INVALID;
}

enum wf_dtype wf_dtype_from_storage_class(const char *name, bool *ret_untyped)
{
	*ret_untyped = !strcmp(name, "UntypedStorage") || !strcmp(name, "_UntypedStorage"); /* the latter in 1.12 */
	if (*ret_untyped)
		return WF_UINT8;
	for (int d = 1; d < WF_DTYPE_COUNT; d++)
		if (table[d].storage_class && !strcmp(table[d].storage_class, name))
			return d;
	size_t len = strlen(name);
	return len > 7 && !strcmp(name + len - 7, "Storage") ? from_scalar_type(name, len - 7) : WF_DTYPE_INVALID;
}

enum wf_dtype wf_dtype_from_tensor_class(const char *name)
{
	for (int d = 1; d < WF_DTYPE_COUNT; d++)
		if (table[d].tensor_class && !strcmp(table[d].tensor_class, name))
			return d;
	return WF_DTYPE_INVALID;
}

enum wf_dtype wf_dtype_from_global(const struct wf_graph *g, wf_ref r)
{
	if (!wf_is(g, r, WF_GLOBAL) || strcmp(wf_global_module(g, r), "torch") != 0)
		return WF_DTYPE_INVALID;
	return wf_dtype_from_name(wf_global_name(g, r));
}

enum wf_dtype wf_dtype_from_numpy(const char *descr, bool *ret_big_endian)
{
	*ret_big_endian = descr[0] == '>';
	if (strchr("<>|=", descr[0]) && descr[0])
		descr++;
	for (int d = 1; d < WF_DTYPE_COUNT; d++)
		if (table[d].numpy_descr && !table[d].quantised && !strcmp(table[d].numpy_descr + 1, descr))
			return d;
	return WF_DTYPE_INVALID;
}
