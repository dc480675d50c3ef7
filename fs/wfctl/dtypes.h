/* SPDX-License-Identifier: MIT */
/* Element types as cat prints them and .npy files name them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum wfctl_kind {
	WFCTL_BOOL,
	WFCTL_INT,
	WFCTL_UINT,
	WFCTL_FLOAT,
	WFCTL_COMPLEX,
	WFCTL_BFLOAT,
	WFCTL_FLOAT8,
	WFCTL_TEXT,  /* characters of four bytes, zeros behind them */
	WFCTL_BYTES, /* zeros behind them */
	WFCTL_VOID,
	WFCTL_DATE, /* int64 since 1970 */
	WFCTL_SPAN, /* int64 */
	WFCTL_RECORD
};

struct wfctl_dtype {
	const char *name;  /* torch's */
	const char *descr; /* NumPy's; of what NumPy has not: that of the type that it is printed as */
	enum wfctl_kind kind;
	uint32_t bytes;
	uint8_t exponent_bits; /* of FLOAT8 */
	bool own;              /* descr is its own */
	bool swapped;          /* big-endian; of those that are made */
	int8_t unit;           /* of DATE and SPAN: wfctl_units[unit]; -1: none */
	int64_t multiple;      /* of the unit */
};

struct wfctl_unit {
	const char *name, *word;
	int digits;     /* behind the second */
	int64_t second; /* of them are a second; 0: it is none's part */
	int64_t seconds;
};
extern const struct wfctl_unit wfctl_units[];

/* One of NumPy's that have no name of torch's: long doubles, text, bytes, void, dates, spans and records (of a size that the caller knows). descr is
 * borrowed as long as *ret is used. Returns whether it is one. */
bool wfctl_dtype_make(const char *descr, uint32_t record_bytes, struct wfctl_dtype *ret);
/* NULL: there is none. */
const struct wfctl_dtype *wfctl_dtype_of_descr(const char *descr);
const struct wfctl_dtype *wfctl_dtype_of_name(const char *name);
/* The value of a float8 or bfloat16 as float32. */
float wfctl_small_float(const struct wfctl_dtype *dtype, const void *element);
