/* SPDX-License-Identifier: MIT */
/* The mappings of a `.metadata`: attributes, which wait for their object, and the three that make the tables. */
#include <errno.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"

/* Slices for which the numbers that their chunks have are fetched into the processor's cache together, where they are not those that they have
 * themselves. */
#define TOGETHER 64u

/* ---- entries ---- */

static int add_entry(struct dcp_stream *s, uint32_t text, struct stream_entry **ret, bool *ret_known)
{
	struct stream_entry e = {.text = text};
	struct stream_text *t = &s->texts[text];
	int r = t->entry != STREAM_NONE ? STREAM_NOT_KNOWN
					: dcp_fill_entry(&s->fill, s->bytes.data + t->at, t->len, &e.entry, ret_known);
	if (r == 0)
		r = stream_reserve(s, &s->entries, &s->entry_room, (uint64_t)s->entry_count + 1, sizeof *s->entries);
	if (r != 0)
		return r;
	s->held += sizeof(struct wf_dcp_entry) + t->len;
	t->entry = s->entry_count;
	s->entries[s->entry_count] = e;
	*ret = &s->entries[s->entry_count++];
	return 0;
}

struct offsets_order {
	const uint64_t *numbers;
	uint32_t ndim;
};

static int compare_offsets(const void *a, const void *b, void *order)
{
	const struct offsets_order *o = order;
	const uint64_t *x = o->numbers + *(const uint32_t *)a, *y = o->numbers + *(const uint32_t *)b;
	for (uint32_t i = 0; x != y && i < o->ndim; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

/* Whether no two chunks have the same offsets. Mostly they ascend. */
static int are_distinct(struct dcp_stream *s, const struct wf_dcp_chunk *c, struct stream_entry *e)
{
	struct offsets_order order = {.numbers = s->fill.m->numbers, .ndim = e->ndim};
	uint32_t i = 1;
	while (i < e->count && compare_offsets(&c[i - 1].offsets, &c[i].offsets, &order) < 0)
		i++;
	e->distinct = i >= e->count;
	if (e->distinct)
		return 0;
	cleanup_free uint32_t *sorted = calloc(e->count, sizeof *sorted);
	if (!sorted)
		return dcp_fill_no_memory(&s->fill);
	for (i = 0; i < e->count; i++)
		sorted[i] = c[i].offsets;
	qsort_r(sorted, e->count, sizeof *sorted, compare_offsets, &order);
	for (i = 1; i < e->count && compare_offsets(&sorted[i - 1], &sorted[i], &order) < 0; i++)
		;
	e->distinct = i >= e->count;
	return 0;
}

/* What we write ourselves has one object for several entries that are the same: each gets chunks of its own. */
static int copy_chunks(struct dcp_stream *s, struct stream_entry *e)
{
	uint32_t from = e->first;
	e->first = s->fill.m->chunk_count;
	for (uint32_t i = 0; i < e->count; i++) {
		stream_value v;
		struct wf_dcp_chunk copy = s->fill.m->chunks[from + i];
		copy = (struct wf_dcp_chunk){.offsets = copy.offsets, .sizes = copy.sizes, .entry = STREAM_UNOWNED};
		int r = stream_new_chunk(s, S_CHUNK, copy, &v);
		if (r != 0)
			return r;
	}
	return 0;
}

static int own_chunks(struct dcp_stream *s, struct stream_entry *e)
{
	const uint64_t *numbers = s->fill.m->numbers;
	struct wf_dcp_chunk *c = s->fill.m->chunks + e->first;
	for (uint32_t i = 0; i < e->count; i++) {
		if (c[i].entry != STREAM_UNOWNED || numbers[c[i].offsets - 1] != e->ndim ||
		    numbers[c[i].sizes - 1] != e->ndim)
			return STREAM_NOT_KNOWN;
		c[i].entry = e->entry;
	}
	s->owned += e->count;
	return are_distinct(s, c, e);
}

static int set_tensor(struct dcp_stream *s, struct stream_entry *e, bool known, struct stream_tensor *t)
{
	uint64_t sizes[WF_MAX_NDIM];
	const struct stream_properties *p = &s->properties[stream_number(t->properties)];
	if (!t->built || !p->built)
		return STREAM_NOT_KNOWN;
	const struct stream_global_name *dtype = &s->globals[stream_number(p->dtype)];
	const char *name = s->bytes.data + s->texts[dtype->name].at;
	e->ndim = (uint32_t)s->fill.m->numbers[t->size];
	memcpy(sizes, s->fill.m->numbers + t->size + 1, e->ndim * sizeof *sizes);
	const struct dcp_tensor tensor = {
		.dtype = dtype->module == s->torch ? wf_dtype_from_name(name) : WF_DTYPE_INVALID,
		.dtype_name = name,
		.strided = p->strided,
		.ndim = (int)e->ndim,
		.sizes = sizes,
	};
	bool good;
	int r = dcp_fill_tensor(&s->fill, e->entry, known, &tensor, &good);
	if (r < 0 || !good)
		return r < 0 ? r : STREAM_NOT_KNOWN;
	e->tensor = true;
	e->first = t->first;
	e->count = t->count;
	r = t->used ? copy_chunks(s, e) : 0;
	t->used = true;
	return r == 0 ? own_chunks(s, e) : r;
}

/* A value that another rank told of is not told of again. */
static int set_value(struct dcp_stream *s, struct stream_entry *e, bool known, uint32_t chunk)
{
	if (known && s->fill.m->entries[e->entry].tensor)
		return STREAM_NOT_KNOWN;
	e->first = chunk;
	e->count = 1;
	int r = s->fill.m->chunks[chunk].entry != STREAM_UNOWNED ? copy_chunks(s, e) : 0;
	if (r != 0)
		return r;
	s->fill.m->chunks[e->first].entry = known ? STREAM_DEAD : e->entry;
	s->dead += known;
	s->owned += !known;
	e->count = !known;
	return 0;
}

static int set_entries(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n)
{
	if (s->has_slices || (stream_kind(*dict) == S_NO_DICT && s->has_entries))
		return STREAM_NOT_KNOWN;
	for (size_t i = 0; i < n; i += 2) {
		struct stream_entry *e;
		bool known;
		enum stream_kind kind = stream_kind(from[i + 1]);
		if (stream_kind(from[i]) != S_TEXT || (kind != S_TENSOR && kind != S_BYTES))
			return STREAM_NOT_KNOWN;
		int r = add_entry(s, (uint32_t)stream_number(from[i]), &e, &known);
		if (r == 0)
			r = kind == S_TENSOR ? set_tensor(s, e, known, &s->tensors[stream_number(from[i + 1])])
					     : set_value(s, e, known, (uint32_t)stream_number(from[i + 1]));
		if (r != 0)
			return r;
	}
	s->has_entries = true;
	*dict = stream_make(S_ENTRIES, 0);
	return 0;
}

/* ---- slices ---- */

/* Of one slice: what it says, and the chunk that it is likely to mean. */
struct guess {
	const struct stream_index *index;
	struct stream_info *info;
	const struct stream_entry *entry; /* NULL: of nothing that there is */
	uint32_t chunk;                   /* STREAM_NONE: it is to be looked up */
};

static int guess(const struct dcp_stream *s, const stream_value *from, struct guess *ret)
{
	uint64_t i = stream_number(from[0]), k = stream_number(from[1]);
	*ret = (struct guess){
		.index = &s->indices[i % STREAM_BATCH], .info = &s->infos[k % STREAM_BATCH], .chunk = STREAM_NONE};
	if (stream_kind(from[0]) != S_INDEX || stream_kind(from[1]) != S_INFO || ret->index->number != i ||
	    ret->info->number != k)
		return STREAM_NOT_KNOWN;
	uint32_t entry = s->texts[ret->index->fqn].entry;
	if (entry == STREAM_NONE)
		return 0;
	const struct stream_entry *e = ret->entry = &s->entries[entry];
	if (!e->tensor && e->count > 0)
		ret->chunk = e->first;
	else if (e->distinct && ret->index->hint < e->count)
		ret->chunk = e->first + (uint32_t)ret->index->hint;
	if (ret->chunk != STREAM_NONE && s->fill.m->chunks[ret->chunk].offsets != ret->index->offsets + 1)
		__builtin_prefetch(s->fill.m->numbers + s->fill.m->chunks[ret->chunk].offsets);
	return 0;
}

static int put_slice(struct dcp_stream *s, uint32_t chunk, struct stream_info *info)
{
	struct stream_text *path = &s->texts[info->path];
	if (s->fill.m->chunks[chunk].length != 0)
		return STREAM_NOT_KNOWN; /* told of twice: no mapping of Python has that */
	int r = 0;
	if (info->slice.plain && path->file == STREAM_NONE)
		r = dcp_fill_file(&s->fill, s->bytes.data + path->at, path->len, &path->file);
	info->slice.file = path->file;
	return r < 0 ? r : dcp_fill_slice(&s->fill, chunk, &info->slice);
}

/* All chunks that have an entry, for slices that do not say which chunk of it they mean. */
static int make_slots(struct dcp_stream *s)
{
	s->has_slots = true;
	for (uint32_t i = s->first_chunk; i < s->fill.m->chunk_count; i++) {
		int r = s->fill.m->chunks[i].entry < STREAM_DEAD ? dcp_fill_slot(&s->fill, i) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int look_up(struct dcp_stream *s, const struct guess *g, const uint64_t *offsets)
{
	uint32_t chunk;
	int r = s->has_slots ? 0 : make_slots(s);
	struct wf_map_probe p = dcp_fill_probe(&s->fill, g->entry->entry, offsets);
	while (r == 0 && dcp_fill_next(&s->fill, &p, g->entry->entry, offsets, &chunk))
		r = put_slice(s, chunk, g->info);
	return r;
}

/* A slice whose index has no offsets in the tensor means no chunk, which then is without a slice, and says so. */
static int take(struct dcp_stream *s, const struct guess *g)
{
	if (!g->entry)
		return 0;
	if (!g->entry->tensor)
		return g->chunk == STREAM_NONE ? 0 : put_slice(s, g->chunk, g->info);
	uint32_t at = g->index->offsets, ndim = g->entry->ndim;
	const uint64_t *numbers = s->fill.m->numbers, *offsets = numbers + at + 1;
	if (at == STREAM_NONE || numbers[at] != ndim)
		return 0;
	if (g->chunk == STREAM_NONE)
		return look_up(s, g, offsets);
	const uint64_t *there = numbers + s->fill.m->chunks[g->chunk].offsets;
	for (uint32_t i = 0; there != offsets && i < ndim; i++)
		if (there[i] != offsets[i])
			return look_up(s, g, offsets);
	return put_slice(s, g->chunk, g->info);
}

static int set_slices(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n)
{
	struct guess g[TOGETHER];
	if (!s->has_entries || (stream_kind(*dict) == S_NO_DICT && s->has_slices))
		return STREAM_NOT_KNOWN;
	s->has_slices = true;
	*dict = stream_make(S_SLICES, 0);
	for (size_t start = 0; start < n; start += 2 * TOGETHER) {
		size_t count = WF_MIN(n - start, (size_t)2 * TOGETHER) / 2;
		int r = 0;
		for (size_t i = 0; i < count && r == 0; i++)
			r = guess(s, from + start + 2 * i, &g[i]);
		for (size_t i = 0; i < count && r == 0; i++)
			r = take(s, &g[i]);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- places ---- */

static bool is_way(stream_value v)
{
	enum stream_kind kind = stream_kind(v);
	return kind == S_TUPLE || kind == S_NO_TUPLE || kind == S_NUMBERS || kind == S_ONE_NUMBERS;
}

/* They wait for the end: only then it is known which mapping is planner_data. */
static int add_places(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n)
{
	bool new = stream_kind(*dict) == S_NO_DICT;
	uint64_t first = new ? s->place_count : stream_first(*dict), count = new ? 0 : stream_count(*dict);
	if (first + count != s->place_count || s->place_count + n > STREAM_RUN_MAX)
		return STREAM_NOT_KNOWN;
	for (size_t i = 0; i < n; i += 2)
		if (stream_kind(from[i]) != S_TEXT || !is_way(from[i + 1]))
			return STREAM_NOT_KNOWN;
	int r = stream_reserve(s, &s->places, &s->place_room, (uint64_t)s->place_count + n, sizeof *s->places);
	if (r < 0)
		return r;
	memcpy(s->places + s->place_count, from, n * sizeof *from);
	s->place_count += (uint32_t)n;
	*dict = stream_run(S_PLACES, first, count + n);
	return 0;
}

static int set_place(struct dcp_stream *s, uint32_t entry, stream_value way)
{
	const stream_value *t = s->tuples + stream_number(way);
	uint64_t n = stream_kind(way) == S_TUPLE ? t[0] : 0;
	cleanup_free struct wf_dcp_way *ways = calloc(n + 1, sizeof *ways);
	if (!ways)
		return dcp_fill_no_memory(&s->fill);
	for (uint64_t i = 0; i < n; i++) {
		const struct stream_text *text = &s->texts[stream_number(t[1 + i])];
		switch (stream_kind(t[1 + i])) {
		case S_TEXT:
			ways[i] = (struct wf_dcp_way){.text = s->bytes.data + text->at, .number = text->len};
			break;
		case S_INT:
			ways[i].number = stream_number(t[1 + i]);
			break;
		default:
			return STREAM_NOT_KNOWN;
		}
	}
	return dcp_fill_place(&s->fill, entry, ways, (uint32_t)n);
}

/* An entry of this file, or of another one that was read before. */
static int entry_of(struct dcp_stream *s, const struct stream_text *t, uint32_t *ret)
{
	size_t len;
	*ret = t->entry != STREAM_NONE ? s->entries[t->entry].entry : STREAM_NONE;
	if (t->entry != STREAM_NONE || s->fill.first_entry == 0)
		return 0;
	const char *name = dcp_fill_below(&s->fill, s->bytes.data + t->at, t->len, &len);
	if (!name)
		return dcp_fill_no_memory(&s->fill);
	*ret = wf_dcp_find(s->fill.m, name, len);
	return 0;
}

static int set_places(struct dcp_stream *s, stream_value dict)
{
	const stream_value *p = s->places + stream_first(dict);
	uint64_t n = stream_count(dict);
	for (uint64_t i = 0; i < n; i += 2) {
		struct stream_text *t = &s->texts[stream_number(p[i])];
		uint32_t entry;
		int r = t->placed ? STREAM_NOT_KNOWN : entry_of(s, t, &entry);
		t->placed = true;
		if (r == 0 && entry != STREAM_NONE)
			r = set_place(s, entry, p[i + 1]);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- attributes ---- */

static int set_fields(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n)
{
	s->fields_set = 0;
	for (size_t i = 0; i < n; i += 2) {
		uint64_t which = stream_number(from[i]);
		if (stream_kind(from[i]) != S_TEXT)
			return STREAM_NOT_KNOWN;
		if (which >= STREAM_ATTRIBUTES)
			continue;
		if (s->fields_set & 1u << which)
			return STREAM_NOT_KNOWN;
		s->fields_set |= 1u << which;
		s->fields[which] = from[i + 1];
	}
	*dict = stream_make(S_FIELDS, ++s->fields_number);
	return 0;
}

/* A mapping that nothing is asked of. */
static int forget(stream_value *dict, const stream_value *from, size_t n)
{
	for (size_t i = 0; i < n; i += 2) {
		enum stream_kind key = stream_kind(from[i]), value = stream_kind(from[i + 1]);
		if (key >= STREAM_CAN_CHANGE || value == S_TENSOR || value == S_CHUNK || value == S_BYTES ||
		    value == S_INFO)
			return STREAM_NOT_KNOWN;
	}
	*dict = stream_make(S_DICT, 0);
	return 0;
}

int stream_set(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n)
{
	enum stream_kind kind = stream_kind(*dict), key = stream_kind(from[0]);
	if (n % 2 != 0)
		return STREAM_NOT_KNOWN;
	bool new = kind == S_NO_DICT, text = key == S_TEXT;
	bool entries = stream_kind(from[1]) == S_TENSOR || stream_kind(from[1]) == S_BYTES;
	if (new &&text && stream_number(from[0]) < STREAM_ATTRIBUTES &&n <= 2 * STREAM_MAX_FIELDS && !entries)
		return set_fields(s, dict, from, n);
	if ((new || kind == S_ENTRIES) && text && entries)
		return set_entries(s, dict, from, n);
	if ((new || kind == S_SLICES) && key == S_INDEX)
		return set_slices(s, dict, from, n);
	if ((new || kind == S_PLACES) && text && is_way(from[1]))
		return add_places(s, dict, from, n);
	return new || kind == S_DICT ? forget(dict, from, n) : STREAM_NOT_KNOWN;
}

/* ---- the end ---- */

static void drop_dead(struct dcp_stream *s)
{
	struct wf_dcp_metadata *m = s->fill.m;
	uint32_t kept = s->first_chunk;
	s->memo.tables = NULL; /* chunks are not where they were */
	for (uint32_t i = s->first_chunk; i < m->chunk_count; i++)
		if (m->chunks[i].entry != STREAM_DEAD)
			m->chunks[kept++] = m->chunks[i];
	m->chunk_count = kept;
}

int stream_finish(struct dcp_stream *s, stream_value entries, stream_value slices, stream_value places)
{
	enum stream_kind e = stream_kind(entries), l = stream_kind(slices), p = stream_kind(places);
	if ((e != S_ENTRIES && (e != S_NO_DICT || s->has_entries)) ||
	    (l != S_SLICES && ((l != S_NO_DICT && l != S_NONE) || s->has_slices)) ||
	    (p != S_PLACES && p != S_NO_DICT && p != S_NONE) ||
	    s->owned + s->dead != s->fill.m->chunk_count - s->first_chunk)
		return STREAM_NOT_KNOWN;
	if (s->dead > 0)
		drop_dead(s);
	return p == S_PLACES ? set_places(s, places) : 0;
}
