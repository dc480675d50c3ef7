/* SPDX-License-Identifier: MIT */
/* Memory of the stream reader, and the memo in it. */
#include <errno.h>
#include <stdlib.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
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
	/* with those that the last block may have to spell out */
	int r = stream_reserve(s, &m->values, &m->value_room, (uint64_t)m->value_count + n + 64, sizeof *m->values);
	return r < 0 ? r
		     : stream_reserve(s, &m->blocks, &m->block_room, ((uint64_t)m->count + n) / 64 + 1,
				      sizeof *m->blocks);
}

void stream_free_memo(struct stream_memo *m)
{
	free(m->blocks);
	free(m->values);
}

/* The k-th value of a block of pairs. */
static stream_value value_of_pair(const struct stream_memo *m, uint64_t first, uint32_t k)
{
	uint64_t low = (UINT64_C(1) << STREAM_PAIR_BITS) - 1;
	k += (first & STREAM_SECOND) != 0;
	uint64_t item = (first & low) + k / 2;
	bool second = k % 2;
	if ((first & STREAM_PAIRS) == STREAM_PAIRS_OF_INDICES)
		return second ? stream_make(S_SIZE, first >> STREAM_PAIR_BITS & low) : stream_make(S_TEXT, item);
	if (!m->tables)
		return 0;
	const struct wf_dcp_chunk *c = &m->tables->chunks[item];
	return stream_make(S_SIZE, (second ? c->sizes : c->offsets) - 1);
}

void stream_spell_out(struct stream_memo *m, struct stream_block *b)
{
	uint64_t first = b->first;
	uint32_t n = (uint32_t)__builtin_popcountll(b->has);
	b->first = m->value_count;
	for (uint32_t k = 0; k < n; k++)
		m->values[m->value_count++] = (uint32_t)value_of_pair(m, first, k);
}

/* The block that has a value under the index, and the how manieth it is there; NULL: it was not remembered. */
static const struct stream_block *find(const struct stream_memo *m, uint32_t index, uint32_t *ret_k)
{
	if (index >= m->count)
		return NULL;
	const struct stream_block *b = &m->blocks[index / 64];
	uint64_t bit = UINT64_C(1) << index % 64;
	*ret_k = (uint32_t)__builtin_popcountll(b->has & (bit - 1));
	return b->has & bit ? b : NULL;
}

/* An info, if it is one of the last. They were put there in the order of their indices. */
static stream_value find_info(const struct stream_memo *m, uint32_t index)
{
	uint64_t n = WF_MIN(m->info_count, (uint64_t)STREAM_BATCH), first = m->info_count - n;
	uint64_t i = wf_first_not(k, n, m->infos[(first + k) % STREAM_BATCH].index < index);
	return i < n && m->infos[(first + i) % STREAM_BATCH].index == index
		       ? stream_make(S_INFO, m->infos[(first + i) % STREAM_BATCH].info)
		       : 0;
}

stream_value stream_get_slowly(struct stream_memo *m, uint32_t index)
{
	uint32_t k;
	const struct stream_block *b = find(m, index, &k);
	if (!b)
		return find_info(m, index);
	stream_value v = b->first & STREAM_PAIRS ? value_of_pair(m, b->first, k) : m->values[b->first + k];
	m->cached[index % STREAM_CACHED].index = index;
	m->cached[index % STREAM_CACHED].value = v;
	return v;
}

bool stream_put_at(struct stream_memo *m, uint32_t index, stream_value v)
{
	uint32_t k;
	if (index == m->count) {
		stream_put(m, v);
		return true;
	}
	const struct stream_block *old = find(m, index, &k);
	m->cached[index % STREAM_CACHED].value = 0;
	/* no pickler gives the index of what is in a block of pairs to something else */
	if (!old || old->first & STREAM_PAIRS || !(STREAM_REMEMBERED >> stream_kind(v) & 1) || v > UINT32_MAX)
		return false;
	m->values[old->first + k] = (uint32_t)v;
	m->rewritten = true;
	return true;
}
