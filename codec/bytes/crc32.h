/* SPDX-License-Identifier: MIT */
/* CRC-32 as zip archives use it, and its algebra: the sum of a long record whose few changed bytes are known follows
 * from the old sum and those bytes alone, so that a 4-byte edit of a 10 GB tensor reads 4 bytes. Pure functions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc (0 at the start). */
uint32_t wf_crc32(uint32_t crc, const void *data, size_t len);

/* The sum of A followed by B from those of A and B. */
uint32_t wf_crc32_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

/* The sum of `size` bytes of which a part ending at `end` changed: old_part and new_part are the sums of that part's
 * bytes alone, before and after. Parts may be patched in any order. CRC is linear over equal lengths: the difference of
 * two messages is that of their sums, moved over the bytes that follow. */
uint32_t wf_crc32_patch(uint32_t crc, uint64_t size, uint64_t end, uint32_t old_part, uint32_t new_part);

/* The sum of len zero bytes. */
uint32_t wf_crc32_zeroes(uint64_t len);
