/* SPDX-License-Identifier: MIT */
/* Arrays that grow. No state; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Makes room for `need` elements of element_bytes each in an array of *capacity of them: at least half as many again as
 * there were, at most `max`. array: the address of the pointer to its first element; both stay as they are on failure.
 * Returns 0; -E2BIG need > max; -ENOMEM. */
int wf_array_reserve(void *array, uint32_t *capacity, uint64_t need, size_t element_bytes, uint32_t max);
