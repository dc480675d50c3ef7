/* SPDX-License-Identifier: MIT */
/* Reading the head of an .npy file, versions 1 to 3 (compose/npy.c draws it). Any writer's: members in any order, either quote, spaces
 * anywhere. Pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/object/dtype.h"
#include "codec/tensor/tensor.h"

#define WF_NPY_HEAD_MAX (64u << 10) /* NumPy itself refuses to read more than 10,000 bytes unasked */

struct wf_npy_head {
	enum wf_dtype dtype;
	bool big_endian;
	bool by_columns;
	uint32_t ndim;
	int64_t shape[WF_MAX_NDIM];
	uint64_t data_offset; /* where the elements start */
	uint64_t size_bytes;  /* of all elements */
};

/* data: as much of the file's beginning as there is, WF_NPY_HEAD_MAX at most.
 * Returns 0; -ENODATA it is shorter than the head; -EINVAL with a sentence in *ret_why. */
int wf_npy_head_parse(const void *data, size_t len, struct wf_npy_head *ret, const char **ret_why);
