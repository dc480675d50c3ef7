/* SPDX-License-Identifier: MIT */
/* The new metadata, attribute by attribute: three of them mappings that are made anew, of pairs that stay and fresh ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_object.h"
#include "codec/directory/dcp_write_ranges_inner.h"
#include "codec/pickle/opcodes.h"

#define BATCH 1000u /* as CPython */
#define RECENT 256u

struct emitter {
	struct dcp_range_writer *w;
	struct dcp_replay *p;
	enum dcp_emit what;
	struct dcp_range_leaf *one;
	uint32_t pairs; /* of the mapping at hand */
	uint32_t *seen; /* by old entry: slices so far */
	struct {
		const char *text;
		uint32_t len, made;
	} recent[RECENT]; /* steps of ways, which repeat */
};

static int put_op(struct emitter *e, uint8_t op)
{
	return dcp_replay_bytes(e->p, &op, 1);
}

/* ---- pairs ---- */

static int begin_pair(struct emitter *e)
{
	int r = 0;
	if (e->pairs % BATCH == 0) {
		r = e->pairs > 0 ? put_op(e, OP_SETITEMS) : 0;
		r = r < 0 ? r : put_op(e, OP_MARK);
	}
	e->pairs++;
	return r;
}

static int end_pairs(struct emitter *e)
{
	int r = e->pairs > 0 ? put_op(e, OP_SETITEMS) : 0;
	e->pairs = 0;
	return r;
}

/* The value of a pair whose key was not written. */
static int copy_value(struct emitter *e, struct dcp_ranges *r, const struct dcp_pair *at)
{
	uint32_t memo = at->memo;
	int code = dcp_replay_skip(e->p, r, at->key, at->value, &memo);
	return code < 0 ? code : dcp_replay_range(e->p, r, at->value, at->end, false, &memo);
}

/* ---- entries ---- */

static int emit_leaf(struct emitter *e, struct dcp_range_leaf *l)
{
	struct dcp_range_writer *w = e->w;
	bool kept = l->entry != DCP_NONE, same = kept && !l->renamed;
	struct dcp_ranges *from = kept ? &w->old : &w->fresh;
	const struct dcp_named *named = &from->entries[kept ? l->entry : l->fresh];
	const char *name = same ? w->old.names.keys[l->entry].bytes : w->texts.data + l->name;
	int r = begin_pair(e);
	if (r == 0)
		r = dcp_replay_text(e->p, name, same ? w->old.names.keys[l->entry].len : l->name_len);
	if (r == 0)
		r = dcp_replay_put(e->p, &l->name_made);
	if (r == 0 && same && named->def != DCP_NONE)
		r = dcp_replay_note(e->p, &w->old, &w->old.defs[named->def], l->name_made);
	return r < 0 ? r : copy_value(e, from, &named->at);
}

/* An object that has nothing but the properties. */
static int emit_sample(struct emitter *e)
{
	static const char begin[] = "ctorch.distributed.checkpoint.metadata\nTensorStorageMetadata\n)\x81}";
	static const char end[] = "sb";
	struct dcp_ranges *old = &e->w->old;
	const char *name = wf_dcp_attribute_name(WF_DCP_PROPERTIES);
	if (old->properties.end == 0)
		return 0;
	uint32_t memo = old->properties.memo;
	int r = begin_pair(e);
	if (r == 0)
		r = dcp_replay_text(e->p, "", 0);
	if (r == 0)
		r = dcp_replay_bytes(e->p, begin, sizeof begin - 1);
	if (r == 0)
		r = dcp_replay_text(e->p, name, strlen(name));
	if (r == 0)
		r = dcp_replay_range(e->p, old, old->properties.value, old->properties.end, false, &memo);
	return r < 0 ? r : dcp_replay_bytes(e->p, end, sizeof end - 1);
}

static int emit_entries(struct emitter *e)
{
	int r = 0;
	if (e->what == DCP_EMIT_SAMPLE)
		return emit_sample(e);
	if (e->what == DCP_EMIT_ONE)
		return emit_leaf(e, e->one);
	for (uint32_t i = 0; i < e->w->leaf_count && r == 0; i++)
		r = emit_leaf(e, &e->w->leaves[i]);
	return r;
}

/* ---- places ---- */

static int emit_step_text(struct emitter *e, const char *text, uint32_t len)
{
	uint32_t hash = len, index;
	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 16777619u;
	hash = (hash ^ hash >> 16) % RECENT;
	if (e->recent[hash].text && e->recent[hash].len == len && memcmp(e->recent[hash].text, text, len) == 0)
		return dcp_replay_get(e->p, e->recent[hash].made);
	int r = dcp_replay_text(e->p, text, len);
	if (r == 0)
		r = dcp_replay_put(e->p, &index);
	if (r == 0) {
		e->recent[hash].text = text;
		e->recent[hash].len = len;
		e->recent[hash].made = index;
	}
	return r;
}

static int emit_place(struct emitter *e, const struct dcp_range_leaf *l)
{
	const struct dcp_range_way *ways = e->w->ways + l->ways;
	bool marked = l->way_count > 3;
	uint32_t index, n = l->way_count;
	int r = begin_pair(e);
	if (r == 0)
		r = dcp_replay_get(e->p, l->name_made);
	if (r == 0 && marked)
		r = put_op(e, OP_MARK);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = ways[i].position ? dcp_replay_int(e->p, ways[i].text)
				     : emit_step_text(e, e->w->texts.data + ways[i].text, ways[i].len);
	if (r == 0)
		r = put_op(e, marked ? OP_TUPLE : n == 0 ? OP_EMPTY_TUPLE : (uint8_t)(OP_TUPLE1 + n - 1));
	return r < 0 || n == 0 ? r : dcp_replay_put(e->p, &index);
}

static int emit_places(struct emitter *e)
{
	int r = 0;
	for (uint32_t i = 0; e->what == DCP_EMIT_ALL && i < e->w->leaf_count && r == 0; i++)
		r = emit_place(e, &e->w->leaves[i]);
	return r;
}

/* ---- slices ---- */

/* The index of a slice, which has the leaf's name. *memo: PUTs before it, and then before its info. */
static int emit_index(struct emitter *e, struct dcp_ranges *r, const struct dcp_stored_slice *s,
		      const struct dcp_range_leaf *l, uint32_t *memo)
{
	uint64_t fqn = (uint64_t)s->at.key + s->fqn, behind = fqn + s->fqn_length;
	if (r == &e->w->old && !l->renamed)
		return dcp_replay_range(e->p, r, s->at.key, s->at.value, false, memo);
	int code = dcp_replay_range(e->p, r, s->at.key, fqn, false, memo);
	if (code == 0)
		code = dcp_replay_get(e->p, l->name_made);
	if (code == 0)
		code = dcp_replay_skip(e->p, r, fqn, behind, memo);
	return code < 0 ? code : dcp_replay_range(e->p, r, behind, s->at.value, false, memo);
}

static int emit_slice(struct emitter *e, const struct dcp_stored_slice *s, const struct dcp_range_leaf *l,
		      uint32_t number)
{
	struct dcp_range_writer *w = e->w;
	const struct dcp_range_news *news = w->news + l->news;
	uint32_t memo = s->at.memo, low = 0, high = l->news_count;
	int r = begin_pair(e);
	if (r == 0)
		r = emit_index(e, l->entry != DCP_NONE ? &w->old : &w->fresh, s, l, &memo);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (news[middle].old < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (r < 0)
		return r;
	if (low < l->news_count && news[low].old == number)
		return copy_value(e, &w->fresh, &w->fresh.slices[news[low].fresh].at);
	return dcp_replay_range(e->p, l->entry != DCP_NONE ? &w->old : &w->fresh, s->at.value, s->at.end, false, &memo);
}

/* In the order of the old file. */
static int emit_old_slices(struct emitter *e)
{
	const struct dcp_range_writer *w = e->w;
	int r = 0;
	e->seen = calloc((size_t)w->old.entry_count + 1, sizeof *e->seen);
	if (!e->seen)
		return wf_fail(e->p->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < w->old.slice_count && r == 0; i++) {
		const struct dcp_stored_slice *s = &w->old.slices[i];
		if (s->entry == DCP_NONE)
			continue;
		uint32_t number = e->seen[s->entry]++;
		for (uint32_t k = w->first_leaf[s->entry]; k != DCP_NONE && r == 0; k = w->leaves[k].next)
			r = emit_slice(e, s, &w->leaves[k], number);
	}
	free(e->seen);
	return r;
}

static int emit_slices(struct emitter *e)
{
	const struct dcp_range_writer *w = e->w;
	int r = e->what == DCP_EMIT_ALL ? emit_old_slices(e) : 0;
	for (uint32_t i = 0; e->what == DCP_EMIT_ALL && i < w->leaf_count && r == 0; i++)
		if (w->leaves[i].entry == DCP_NONE)
			r = emit_slice(e, &w->fresh.slices[w->leaves[i].fresh], &w->leaves[i], 0);
	for (uint32_t i = e->what == DCP_EMIT_ONE ? w->first_slice[e->one->entry] : 0; i > 0 && r == 0;
	     i = w->next_slice[i - 1])
		r = emit_slice(e, &w->old.slices[i - 1], e->one, 0);
	return r;
}

/* ---- attributes ---- */

static int emit_mapping(struct emitter *e, const struct dcp_attribute_range *a)
{
	uint32_t index;
	int r = put_op(e, OP_EMPTY_DICT);
	if (r == 0)
		r = dcp_replay_put(e->p, &index);
	if (r == 0 && a->dict && a->def != DCP_NONE)
		r = dcp_replay_note(e->p, &e->w->old, &e->w->old.defs[a->def], index);
	if (r == 0)
		r = a->role == DCP_ENTRIES ? emit_entries(e) : a->role == DCP_PLACES ? emit_places(e) : emit_slices(e);
	return r < 0 ? r : end_pairs(e);
}

static int emit_attribute(struct emitter *e, const struct dcp_attribute_range *a)
{
	uint32_t memo = a->at.memo;
	if (e->what != DCP_EMIT_ALL && a->role == DCP_OTHER)
		return 0;
	int r = dcp_replay_range(e->p, &e->w->old, a->at.key, a->at.value, false, &memo);
	if (r < 0)
		return r;
	bool anew = a->role == DCP_ENTRIES || a->role == DCP_SLICES || (a->role == DCP_PLACES && a->dict);
	return anew ? emit_mapping(e, a) : dcp_replay_range(e->p, &e->w->old, a->at.value, a->at.end, false, &memo);
}

int dcp_emit(struct dcp_range_writer *w, struct dcp_replay *p, enum dcp_emit what, struct dcp_range_leaf *one)
{
	static const char end[] = "ub.";
	struct emitter e = {.w = w, .p = p, .what = what, .one = one};
	uint32_t memo = 0;
	int r = dcp_replay_range(p, &w->old, 0, w->old.state, true, &memo);
	if (r == 0)
		r = put_op(&e, OP_MARK);
	for (uint32_t i = 0; i < w->old.attribute_count && r == 0; i++)
		r = emit_attribute(&e, &w->old.attributes[i]);
	return r < 0 ? r : dcp_replay_bytes(p, end, sizeof end - 1);
}
