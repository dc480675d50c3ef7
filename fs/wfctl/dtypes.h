/* SPDX-License-Identifier: MIT */
/* Element types as cat prints them and .npy files name them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum wfctl_kind { WFCTL_BOOL, WFCTL_INT, WFCTL_UINT, WFCTL_FLOAT, WFCTL_COMPLEX, WFCTL_BFLOAT, WFCTL_FLOAT8 };

struct wfctl_dtype {
	const char *name;  /* torch's */
	const char *descr; /* NumPy's; of what NumPy has not: that of the type that it is printed as */
	enum wfctl_kind kind;
	uint8_t bytes;
	uint8_t exponent_bits; /* of FLOAT8 */
	bool own;              /* descr is its own */
};

/* NULL: there is none. */
const struct wfctl_dtype *wfctl_dtype_of_descr(const char *descr);
const struct wfctl_dtype *wfctl_dtype_of_name(const char *name);
/* The value of a float8 or bfloat16 as float32. */
float wfctl_small_float(const struct wfctl_dtype *dtype, const void *element);
