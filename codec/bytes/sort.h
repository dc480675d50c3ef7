/* SPDX-License-Identifier: MIT */
/* A stable sort of numbers that stand for whatever the owner keeps elsewhere: a merge sort, which has no worst case that names can be made
 * for, and takes one pass of what is sorted already. Threads: pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* compare: as qsort's, of two of the numbers. 0 or -ENOMEM; then the order is as it was. */
int wf_sort_stable(uint32_t *order, size_t n, int (*compare)(const void *ctx, uint32_t a, uint32_t b), const void *ctx);
