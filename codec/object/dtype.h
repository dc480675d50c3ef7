/* SPDX-License-Identifier: MIT */
/* Element types: one table from torch's names to sizes, storage classes and NumPy's names.
 * Source: torch/csrc/utils/tensor_dtypes, torch/storage.py (_dtype_to_storage_type_map). Immutable. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/object/object.h"

#define WF_MAX_NDIM 64 /* of a tensor: torch's own limit */

/* The numbers stand in the logs of edits (codec/overlay/format.h): append only, each keeps its meaning for ever. */
enum wf_dtype {
	WF_DTYPE_INVALID = 0,
	WF_FLOAT32 = 1,
	WF_FLOAT64 = 2,
	WF_FLOAT16 = 3,
	WF_BFLOAT16 = 4,
	WF_INT64 = 5,
	WF_INT32 = 6,
	WF_INT16 = 7,
	WF_INT8 = 8,
	WF_UINT8 = 9,
	WF_BOOL8 = 10,
	WF_COMPLEX64 = 11,
	WF_COMPLEX128 = 12,
	WF_COMPLEX32 = 13,
	WF_BCOMPLEX32 = 14,
	WF_UINT16 = 15,
	WF_UINT32 = 16,
	WF_UINT64 = 17,
	WF_FLOAT8_E4M3FN = 18,
	WF_FLOAT8_E5M2 = 19,
	WF_FLOAT8_E4M3FNUZ = 20,
	WF_FLOAT8_E5M2FNUZ = 21,
	WF_FLOAT8_E8M0FNU = 22,
	WF_FLOAT4_E2M1FN_X2 = 23,
	WF_QINT8 = 24,
	WF_QUINT8 = 25,
	WF_QINT32 = 26,
	WF_QUINT4X2 = 27,
	WF_QUINT2X4 = 28,
	WF_BITS8 = 29,
	WF_BITS16 = 30,
	WF_BITS1X8 = 31,
	WF_BITS2X4 = 32,
	WF_BITS4X2 = 33,
	WF_DTYPE_COUNT
};

/* What an element is. */
enum wf_element {
	WF_ELEMENT_BITS, /* no number by itself */
	WF_ELEMENT_BOOL,
	WF_ELEMENT_SIGNED,
	WF_ELEMENT_UNSIGNED,
	WF_ELEMENT_FLOAT,
	WF_ELEMENT_COMPLEX,
};

struct wf_dtype_info {
	const char *name;          /* torch's, without "torch." */
	const char *storage_class; /* "FloatStorage"; NULL where tensors use torch.storage.UntypedStorage (v3) */
	const char *tensor_class;  /* "FloatTensor"; NULL where there is none */
	const char *numpy_descr;   /* "<f4"; NULL where NumPy has none */
	uint8_t size_bytes;        /* of one storage element */
	uint8_t swap_bytes;        /* unit to swap in big-endian files: 1 (no swap), 2, 4, 8; halves of complex ones */
	uint8_t values_per_byte;   /* 1, or 4/2 for the packed quint2x4/quint4x2, whose shapes count values */
	bool quantised;
	uint8_t element; /* enum wf_element */
	uint8_t part;    /* of complex ones: the dtype of a real or imaginary part */
};

const struct wf_dtype_info *wf_dtype_info(enum wf_dtype d); /* of WF_DTYPE_INVALID: name "invalid", size 0 */
/* Whether torch lets a tensor of it require gradients. */
bool wf_dtype_takes_grad(enum wf_dtype d);
/* By torch's name with or without "torch.", aliases ("float", "half", "long" ...) included. */
enum wf_dtype wf_dtype_from_name(const char *name);
/* "FloatStorage" and the C++ pickler's names ("UInt16Storage"); *ret_untyped for UntypedStorage (then WF_UINT8). */
enum wf_dtype wf_dtype_from_storage_class(const char *name, bool *ret_untyped);
enum wf_dtype wf_dtype_from_tensor_class(const char *name);
/* A GLOBAL torch.float32. */
enum wf_dtype wf_dtype_from_global(const struct wf_graph *g, wf_ref r);
/* "<f4", ">i8", "|b1", "f4" as NumPy pickles them; *ret_big_endian tells the order. */
enum wf_dtype wf_dtype_from_numpy(const char *descr, bool *ret_big_endian);
