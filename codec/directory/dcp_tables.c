/* SPDX-License-Identifier: MIT */
/* The tables of a checkpoint: how they are filled, and their chunks put in order, entry by entry. */
#include "codec/directory/dcp_metadata.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

static int add_text(struct wf_dcp_metadata *m, const char *s, size_t len, uint64_t *ret)
{
	if (m->texts.len == 0)
		wf_buffer_putc(&m->texts, '\0');
	*ret = m->texts.len;
	wf_buffer_append(&m->texts, s, len);
	wf_buffer_putc(&m->texts, '\0');
	return wf_buffer_status(&m->texts);
}

int wf_dcp_add_numbers(struct wf_dcp_metadata *m, const uint64_t *v, uint32_t n, uint32_t *ret)
{
	int r = wf_array_reserve(&m->numbers, &m->number_room, (uint64_t)m->number_count + n, sizeof *v,
				 UINT32_MAX - 1);
	if (r < 0)
		return r;
	*ret = m->number_count;
	if (n > 0)
		memcpy(m->numbers + m->number_count, v, n * sizeof *v);
	m->number_count += n;
	return 0;
}

int wf_dcp_reserve_steps(struct wf_dcp_metadata *m, uint64_t n)
{
	return wf_array_reserve(&m->steps, &m->step_room, m->step_count + n, sizeof *m->steps, UINT32_MAX - 1);
}

int wf_dcp_problem(struct wf_dcp_metadata *m, struct wf_dcp_entry *e, const char *fmt, ...)
{
	char text[256];
	va_list args;
	if (e->problem)
		return 0;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return add_text(m, text, strlen(text), &e->problem);
}

uint32_t wf_dcp_find(const struct wf_dcp_metadata *m, const char *name, size_t len)
{
	struct wf_map_probe p = wf_map_probe(&m->names, m->names.size ? wf_map_hash(&m->names, name, len) : 0);
	uint32_t i;
	while (wf_map_next(&p, &i))
		if (m->entries[i].name_len == len && memcmp(wf_dcp_text(m, m->entries[i].name), name, len) == 0)
			return i;
	return UINT32_MAX;
}

int wf_dcp_add_entry(struct wf_dcp_metadata *m, const char *name, size_t len, uint32_t *ret, struct wf_error *err)
{
	int r = wf_array_reserve(&m->entries, &m->entry_room, (uint64_t)m->entry_count + 1, sizeof *m->entries,
				 WF_DCP_MAX_ENTRIES);
	if (r == -E2BIG)
		return wf_fail(err, r, "more than %u tensors and values", WF_DCP_MAX_ENTRIES);
	struct wf_dcp_entry e = {.name_len = (uint32_t)len};
	if (r < 0 || add_text(m, name, len, &e.name) < 0 || wf_map_reserve(&m->names, 1) < 0)
		return wf_fail(err, -ENOMEM, "out of memory");
	wf_map_add(&m->names, wf_map_hash(&m->names, name, len), m->entry_count);
	m->entries[m->entry_count] = e;
	*ret = m->entry_count++;
	return 0;
}

int wf_dcp_add_chunk(struct wf_dcp_metadata *m, uint32_t entry, const uint64_t *box, uint32_t ndim, uint32_t *ret,
		     struct wf_error *err)
{
	struct wf_dcp_chunk c = {.entry = entry};
	int r = wf_array_reserve(&m->chunks, &m->chunk_room, (uint64_t)m->chunk_count + 1, sizeof *m->chunks,
				 WF_DCP_MAX_CHUNKS);
	if (r == 0)
		r = wf_dcp_add_numbers(m, box, 2 * ndim, &c.offsets);
	c.sizes = c.offsets + ndim;
	if (r < 0)
		return wf_fail(err, r, r == -E2BIG ? "more than %u chunks" : "out of memory", WF_DCP_MAX_CHUNKS);
	m->chunks[m->chunk_count] = c;
	*ret = m->chunk_count++;
	return 0;
}

bool wf_dcp_size_fits(const uint64_t *sizes, uint32_t ndim, uint32_t element_bytes)
{
	uint64_t all = element_bytes;
	for (uint32_t i = 0; i < ndim; i++)
		if (wf_mul_u64(all, WF_MAX(sizes[i], UINT64_C(1)), &all) || all > INT64_MAX)
			return false;
	return true;
}

/* Elements in a chunk; UINT64_MAX when they are more than a number can say. */
static uint64_t elements(const struct wf_dcp_metadata *m, const struct wf_dcp_entry *e, const struct wf_dcp_chunk *c)
{
	uint64_t all = 1;
	bool fits = true;
	for (uint32_t k = 0; k < e->ndim; k++)
		if (m->numbers[c->sizes + k] == 0)
			return 0;
	for (uint32_t k = 0; k < e->ndim; k++)
		fits &= !wf_mul_u64(all, m->numbers[c->sizes + k], &all);
	return fits ? all : UINT64_MAX;
}

/* A rank that has no row of a tensor writes a chunk of none, with a slice or without one: nothing of the tensor depends on it, nor on its
 * file. Returns the elements in the others. Mostly their sizes are those of the one before. */
static uint64_t drop_empty(struct wf_dcp_metadata *m, struct wf_dcp_entry *e)
{
	struct wf_dcp_chunk *c = m->chunks + e->chunks;
	uint64_t all = 0, one = 0;
	uint32_t kept = 0;
	for (uint32_t i = 0, sizes = UINT32_MAX; i < e->chunk_count; i++) {
		if (c[i].sizes != sizes)
			one = elements(m, e, &c[i]);
		sizes = c[i].sizes;
		if (one == 0)
			continue;
		if (kept++ != i)
			c[kept - 1] = c[i];
		if (wf_add_u64(all, one, &all))
			all = UINT64_MAX;
	}
	e->chunk_count = kept;
	return all;
}

struct order {
	const uint64_t *numbers;
	uint32_t ndim;
};

static int compare_numbers(const uint64_t *a, const uint64_t *b, uint32_t n)
{
	for (uint32_t i = 0; a != b && i < n; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

static int compare_boxes(const struct order *o, const struct wf_dcp_chunk *x, const struct wf_dcp_chunk *y)
{
	int r = compare_numbers(o->numbers + x->offsets, o->numbers + y->offsets, o->ndim);
	return r != 0 ? r : compare_numbers(o->numbers + x->sizes, o->numbers + y->sizes, o->ndim);
}

static int compare(const void *a, const void *b, void *order)
{
	const struct wf_dcp_chunk *x = a, *y = b;
	int r = compare_boxes(order, x, y);
	return r != 0 ? r : x->file < y->file ? -1 : x->file > y->file;
}

/* Ranks that have a tensor whole write it each, where nothing brings them together. */
static void drop_twins(struct wf_dcp_metadata *m, struct wf_dcp_entry *e)
{
	struct order order = {.numbers = m->numbers, .ndim = e->ndim};
	struct wf_dcp_chunk *c = m->chunks + e->chunks;
	uint32_t kept = 0;
	qsort_r(c, e->chunk_count, sizeof *c, compare, &order);
	for (uint32_t i = 0; i < e->chunk_count; i++) {
		struct wf_dcp_chunk one = c[i], *last = kept ? &c[kept - 1] : NULL;
		if (last && compare_boxes(&order, last, &one) == 0) {
			if (last->length == 0)
				*last = one;
			continue;
		}
		c[kept++] = one;
	}
	e->chunk_count = kept;
}

static int judge(struct wf_dcp_metadata *m, struct wf_dcp_entry *e)
{
	uint64_t whole = 1;
	for (uint32_t i = 0; i < e->ndim; i++)
		whole *= m->numbers[e->sizes + i]; /* no overflow: the reader has seen to it */
	if (e->tensor && drop_empty(m, e) > whole)
		drop_twins(m, e);
	for (uint32_t i = 0; i < e->chunk_count; i++)
		if (m->chunks[e->chunks + i].length == 0 &&
		    wf_dcp_problem(m, e, "the metadata does not say where a chunk of it is stored") < 0)
			return -ENOMEM;
	return 0;
}

/* Into the order of the entries, which one file has already. */
static int sort_chunks(struct wf_dcp_metadata *m)
{
	struct wf_dcp_chunk *sorted = malloc(m->chunk_count * sizeof *sorted + 1);
	if (!sorted)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->entry_count; i++)
		m->entries[i].chunk_count = 0;
	for (uint32_t i = 0; i < m->chunk_count; i++) {
		struct wf_dcp_entry *e = &m->entries[m->chunks[i].entry];
		sorted[e->chunks + e->chunk_count++] = m->chunks[i];
	}
	free(m->chunks);
	m->chunks = sorted;
	m->chunk_room = m->chunk_count;
	return 0;
}

int wf_dcp_metadata_finish(struct wf_dcp_metadata *m)
{
	bool sorted = true;
	for (uint32_t i = 0, first = 0; i < m->chunk_count; first = i) {
		uint32_t entry = m->chunks[i].entry;
		sorted &= i == 0 || m->chunks[i - 1].entry <= entry;
		while (i < m->chunk_count && m->chunks[i].entry == entry)
			i++;
		m->entries[entry].chunk_count += i - first;
	}
	for (uint32_t i = 0, at = 0; i < m->entry_count; i++) {
		m->entries[i].chunks = at;
		at += m->entries[i].chunk_count;
	}
	if (!sorted && sort_chunks(m) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->entry_count; i++)
		if (judge(m, &m->entries[i]) < 0)
			return -ENOMEM;
	return 0;
}

void wf_dcp_metadata_free(struct wf_dcp_metadata *m)
{
	free(m->entries);
	free(m->chunks);
	free(m->steps);
	free(m->numbers);
	wf_buffer_free(&m->texts);
	wf_map_free(&m->names);
	wf_key_map_free(&m->files);
	*m = (struct wf_dcp_metadata){0};
}
