/* SPDX-License-Identifier: MIT */
/* zlib's sums with 64-bit lengths. */
#include "codec/bytes/crc32.h"

#include <zlib.h>

_Static_assert(sizeof(z_off_t) == 8, "crc32_combine must take lengths of more than 2 GiB");

uint32_t wf_crc32(uint32_t crc, const void *data, size_t len)
{
	return (uint32_t)crc32_z(crc, data, len);
}

uint32_t wf_crc32_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
	return (uint32_t)crc32_combine(crc_a, crc_b, (z_off_t)len_b);
}

uint32_t wf_crc32_patch(uint32_t crc, uint64_t size, uint64_t end, uint32_t old_part, uint32_t new_part)
{
	/* joining with an empty sum is the move over zeroes alone */
	return crc ^ wf_crc32_join(old_part ^ new_part, 0, size - end);
}

uint32_t wf_crc32_zeroes(uint64_t len)
{
	uint32_t sum = 0, piece = wf_crc32(0, "", 1);
	for (uint64_t piece_len = 1; len > 0; len >>= 1, piece_len <<= 1) {
		if (len & 1)
			sum = wf_crc32_join(sum, piece, piece_len);
		piece = wf_crc32_join(piece, piece, piece_len);
	}
	return sum;
}
