/* SPDX-License-Identifier: MIT */
/* Memory of the stream reader, and the memo in it. */
#include <errno.h>
#include <stdlib.h>

#include "codec/bytes/array.h"
#include "codec/directory/dcp_stream_inner.h"

int stream_reserve(struct dcp_stream *s, void *array, uint32_t *room, uint64_t need, size_t element_bytes)
{
	uint32_t before = *room;
	int r = wf_array_reserve(array, room, need, element_bytes, UINT32_MAX - 1);
	s->held += (uint64_t)(*room - before) * element_bytes;
	if (r == 0 && s->held > s->limit)
		r = -E2BIG;
	return r == 0        ? 0
	       : r == -E2BIG ? wf_fail(s->fill.err, r, "the metadata would take more than %llu bytes of memory",
				       (unsigned long long)s->limit)
			     : dcp_fill_no_memory(&s->fill);
}

/* ---- the memo ---- */

int stream_reserve_memo(struct dcp_stream *s, uint32_t n)
{
	struct stream_memo *m = &s->memo;
	int r = stream_reserve(s, &m->values, &m->value_room, (uint64_t)m->value_count + n, sizeof *m->values);
	return r < 0 ? r
		     : stream_reserve(s, &m->blocks, &m->block_room, ((uint64_t)m->count + n) / 64 + 1,
				      sizeof *m->blocks);
}

void stream_free_memo(struct stream_memo *m)
{
	free(m->blocks);
	free(m->values);
}

/* Where the value is; NULL: it was not remembered. */
static uint32_t *find(const struct stream_memo *m, uint32_t index)
{
	if (index >= m->count)
		return NULL;
	const struct stream_block *b = &m->blocks[index / 64];
	uint64_t bit = UINT64_C(1) << index % 64;
	return b->has & bit ? &m->values[b->first + (uint32_t)__builtin_popcountll(b->has & (bit - 1))] : NULL;
}

stream_value stream_get_slowly(struct stream_memo *m, uint32_t index)
{
	const uint32_t *v = find(m, index);
	if (!v)
		return 0;
	m->cached[index % STREAM_CACHED].index = index;
	m->cached[index % STREAM_CACHED].value = *v;
	return *v;
}

bool stream_put_at(struct stream_memo *m, uint32_t index, stream_value v)
{
	if (index == m->count) {
		stream_put(m, v);
		return true;
	}
	uint32_t *old = find(m, index);
	m->cached[index % STREAM_CACHED].value = 0;
	if (!old || !(STREAM_REMEMBERED >> stream_kind(v) & 1) || v > UINT32_MAX)
		return false;
	*old = (uint32_t)v;
	m->rewritten = true;
	return true;
}
