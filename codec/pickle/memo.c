/* The memo table of the pickle reader. */
#include "codec/pickle/inner.h"

#include <errno.h>
#include <sys/random.h>

#include "codec/bytes/util.h"

#define DENSE_MIN 256u

static struct pickle_memo_slot *find(const struct pickle_memo *m, uint32_t index)
{
	uint32_t mask = m->sparse_cap - 1;
	uint32_t at = (index * m->factor) >> (__builtin_clz(mask));

	while (m->sparse[at & mask].key && m->sparse[at & mask].key != index + 1)
		at++;
	return &m->sparse[at & mask];
}

static int grow_sparse(struct pickle_memo *m)
{
	struct pickle_memo_slot *old = m->sparse;
	uint32_t old_cap = m->sparse_cap;

	if (!m->factor) {
		if (getrandom(&m->factor, sizeof m->factor, GRND_NONBLOCK) != sizeof m->factor)
			m->factor = (uint32_t)((uintptr_t)m >> 4);
		m->factor |= 1;
	}
	struct pickle_memo_slot *slots = calloc(old_cap ? 2 * (size_t)old_cap : DENSE_MIN, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	m->sparse = slots;
	m->sparse_cap = old_cap ? 2 * old_cap : DENSE_MIN;
	for (uint32_t i = 0; i < old_cap; i++)
		if (old[i].key)
			*find(m, old[i].key - 1) = old[i];
	free(old);
	return 0;
}

static int put_sparse(struct pickle_memo *m, uint32_t index, wf_ref value)
{
	if (2 * m->sparse_count >= m->sparse_cap) {
		int rc = grow_sparse(m);
		if (rc < 0)
			return rc;
	}
	struct pickle_memo_slot *slot = find(m, index);
	if (!slot->key) {
		m->sparse_count++;
		m->count++;
	}
	*slot = (struct pickle_memo_slot){index + 1, value};
	return 0;
}

int wf_pickle_memo_put(struct pickle_memo *m, uint32_t index, wf_ref value)
{
	if (index >= m->dense_cap) {
		if (index / 4 >= m->count + DENSE_MIN)
			return put_sparse(m, index, value);
		uint32_t cap = WF_MAX(WF_MAX(index + 1, 2 * m->dense_cap), DENSE_MIN);
		wf_ref *dense = realloc(m->dense, cap * sizeof *dense);
		if (!dense)
			return -ENOMEM;
		memset(dense + m->dense_cap, 0, (cap - m->dense_cap) * sizeof *dense);
		m->dense = dense;
		m->dense_cap = cap;
	}
	if (!m->dense[index] && !(m->sparse_count && wf_pickle_memo_get(m, index)))
		m->count++;
	m->dense[index] = value;
	return 0;
}

wf_ref wf_pickle_memo_get(const struct pickle_memo *m, uint64_t index)
{
	if (index < m->dense_cap && m->dense[index])
		return m->dense[index];
	return m->sparse_count && index < UINT32_MAX ? find(m, (uint32_t)index)->value : WF_NIL;
}

void wf_pickle_memo_free(struct pickle_memo *m)
{
	free(m->dense);
	free(m->sparse);
}
