/* SPDX-License-Identifier: MIT */
/* The memo of the pickle reader. */
#include "codec/pickle/inner.h"

#include <errno.h>

#include "codec/bytes/util.h"

#define DENSE_MIN 256u

int wf_pickle_memo_put(struct pickle_memo *m, uint32_t index, wf_ref value)
{
	uint32_t before;

	if (index >= m->dense_cap) {
		if (index / 4 >= m->count + DENSE_MIN) {
			m->count += !wf_map_get(&m->sparse, index, &before);
			return wf_map_set(&m->sparse, index, value);
		}
		uint32_t cap = WF_MAX(WF_MAX(index + 1, 2 * m->dense_cap), DENSE_MIN);
		wf_ref *dense = realloc(m->dense, cap * sizeof *dense);
		if (!dense)
			return -ENOMEM;
		memset(dense + m->dense_cap, 0, (cap - m->dense_cap) * sizeof *dense);
		m->dense = dense;
		m->dense_cap = cap;
	}
	if (!m->dense[index] && (m->sparse.count == 0 || !wf_map_get(&m->sparse, index, &before)))
		m->count++;
	m->dense[index] = value;
	return 0;
}

wf_ref wf_pickle_memo_get(const struct pickle_memo *m, uint64_t index)
{
	wf_ref r;

	if (index < m->dense_cap && m->dense[index])
		return m->dense[index];
	return index <= UINT32_MAX && wf_map_get(&m->sparse, (uint32_t)index, &r) ? r : WF_NIL;
}

void wf_pickle_memo_free(struct pickle_memo *m)
{
	free(m->dense);
	wf_map_free(&m->sparse);
}
