/* SPDX-License-Identifier: MIT */
/* Gives an array room for more elements. */
#include "codec/bytes/array.h"

#include <errno.h>

#include "codec/bytes/util.h"

int wf_array_reserve(void *array, uint32_t *capacity, uint64_t need, size_t element_bytes, uint32_t max)
{
	void *p;
	if (need <= *capacity)
		return 0;
	if (need > max)
		return -E2BIG;
	uint64_t more = WF_MIN(WF_MAX(need, (uint64_t)*capacity + *capacity / 2 + 8), (uint64_t)max);
	memcpy(&p, array, sizeof p);
	p = reallocarray(p, more, element_bytes);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof p);
	*capacity = (uint32_t)more;
	return 0;
}
