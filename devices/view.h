/* SPDX-License-Identifier: MIT */
/* Bounds of ranges and strided views inside a device's memory; every device checks with these before it touches a byte.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "device.h"

static inline bool dev_range_inside(const struct dev_memory *m, uint64_t offset, uint64_t len)
{
	return offset <= m->size_bytes && len <= m->size_bytes - offset;
}

/* Whether elements [first_elem, first_elem + n_elems) exist in the view and all of the view lies in the memory. An
 * empty view holds no elements and fits everywhere. */
static inline bool dev_view_inside(const struct dev_view *v, const struct dev_memory *m, uint64_t first_elem,
				   uint64_t n_elems)
{
	uint64_t last = 0, numel = 1, step, end;
	if (v->ndim > DEV_MAX_NDIM || v->element_bytes == 0)
		return false;
	for (uint32_t i = 0; i < v->ndim; i++)
		if (__builtin_mul_overflow(numel, v->shape[i], &numel))
			return false;
	if (first_elem > numel || n_elems > numel - first_elem)
		return false;
	if (numel == 0)
		return true;
	for (uint32_t i = 0; i < v->ndim; i++)
		if (__builtin_mul_overflow(v->shape[i] - 1, v->stride_elems[i], &step) ||
		    __builtin_add_overflow(last, step, &last))
			return false;
	return !__builtin_add_overflow(last, 1, &last) && !__builtin_mul_overflow(last, v->element_bytes, &last) &&
	       !__builtin_add_overflow(last, v->offset_bytes, &end) && end <= m->size_bytes;
}
