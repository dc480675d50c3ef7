/* SPDX-License-Identifier: MIT */
/* Puts what a `.metadata` says into the tables, and judges it. What is wrong with one tensor is its problem. */
#include "codec/directory/dcp_fill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"

int dcp_fill_no_memory(const struct dcp_fill *f)
{
	return wf_fail(f->err, -ENOMEM, "out of memory");
}

void dcp_fill_free(struct dcp_fill *f)
{
	wf_map_free(&f->slots);
	wf_buffer_free(&f->name);
}

/* ---- entries ---- */

const char *dcp_fill_below(struct dcp_fill *f, const char *text, size_t len, size_t *ret_len)
{
	*ret_len = len;
	if (!f->folder[0])
		return text;
	f->name.len = 0;
	wf_buffer_puts(&f->name, f->folder);
	wf_buffer_putc(&f->name, '/');
	wf_buffer_append(&f->name, text, len);
	*ret_len = f->name.len;
	return wf_buffer_status(&f->name) < 0 ? NULL : f->name.data;
}

int dcp_fill_entry(struct dcp_fill *f, const char *text, size_t text_len, uint32_t *ret, bool *ret_known)
{
	size_t len;
	const char *name = dcp_fill_below(f, text, text_len, &len);
	if (!name)
		return dcp_fill_no_memory(f);
	*ret = wf_dcp_find(f->m, name, len);
	*ret_known = *ret != UINT32_MAX;
	return *ret_known ? 0 : wf_dcp_add_entry(f->m, name, len, ret, f->err);
}

static int set_dtype(struct dcp_fill *f, struct wf_dcp_entry *e, const struct dcp_tensor *t)
{
	e->dtype = (uint8_t)t->dtype;
	if (e->dtype == WF_DTYPE_INVALID) {
		e->dtype = WF_UINT8;
		return wf_dcp_problem(f->m, e, "its dtype %.60s is not known", t->dtype_name);
	}
	if (wf_dtype_info(e->dtype)->values_per_byte != 1)
		return wf_dcp_problem(f->m, e, "chunks of dtype %s are not put together",
				      wf_dtype_info(e->dtype)->name);
	return t->strided ? 0 : wf_dcp_problem(f->m, e, "its layout is not strided");
}

int dcp_fill_tensor(struct dcp_fill *f, uint32_t entry, bool known, const struct dcp_tensor *t, bool *ret_good)
{
	struct wf_dcp_entry *e = &f->m->entries[entry], was = *e;
	*ret_good = false;
	if (set_dtype(f, e, t) < 0)
		return dcp_fill_no_memory(f);
	if (known && (!was.tensor || t->ndim != (int)was.ndim || e->dtype != was.dtype ||
		      memcmp(t->sizes, f->m->numbers + was.sizes, was.ndim * sizeof *t->sizes) != 0))
		return wf_dcp_problem(f->m, e, "two ranks disagree about what it is");
	e->tensor = true;
	if (t->ndim < 0 || !wf_dcp_size_fits(t->sizes, (uint32_t)t->ndim, wf_dtype_info(e->dtype)->size_bytes))
		return wf_dcp_problem(f->m, e, "its size is none that a tensor has");
	e->ndim = (uint32_t)t->ndim;
	if (!known && wf_dcp_add_numbers(f->m, t->sizes, e->ndim, &e->sizes) < 0)
		return dcp_fill_no_memory(f);
	*ret_good = true;
	return 0;
}

/* ---- slices ---- */

static uint32_t slot_hash(const struct dcp_fill *f, uint32_t entry, const uint64_t *offsets)
{
	uint64_t h = wf_map_mix(&f->slots, f->slots.seed, entry);
	for (uint32_t i = 0; i < f->m->entries[entry].ndim; i++)
		h = wf_map_mix(&f->slots, h, offsets[i]);
	return wf_map_hash_u64(&f->slots, h);
}

int dcp_fill_slot(struct dcp_fill *f, uint32_t chunk)
{
	const struct wf_dcp_chunk *c = &f->m->chunks[chunk];
	const uint64_t *offsets = f->m->numbers ? f->m->numbers + c->offsets : NULL; /* there are none of 0-d tensors */
	if (wf_map_reserve(&f->slots, 1) < 0)
		return dcp_fill_no_memory(f);
	wf_map_add(&f->slots, slot_hash(f, c->entry, offsets), chunk);
	return 0;
}

struct wf_map_probe dcp_fill_probe(const struct dcp_fill *f, uint32_t entry, const uint64_t *offsets)
{
	return wf_map_probe(&f->slots, f->slots.size ? slot_hash(f, entry, offsets) : 0);
}

bool dcp_fill_next(const struct dcp_fill *f, struct wf_map_probe *p, uint32_t entry, const uint64_t *offsets,
		   uint32_t *ret_chunk)
{
	size_t bytes = f->m->entries[entry].ndim * sizeof *offsets;
	while (wf_map_next(p, ret_chunk)) {
		const struct wf_dcp_chunk *c = &f->m->chunks[*ret_chunk];
		if (c->entry == entry && (bytes == 0 || memcmp(f->m->numbers + c->offsets, offsets, bytes) == 0))
			return true;
	}
	return false;
}

int dcp_fill_file(struct dcp_fill *f, const char *text, size_t text_len, uint32_t *ret)
{
	size_t len;
	const char *name = dcp_fill_below(f, text, text_len, &len);
	if (!name)
		return dcp_fill_no_memory(f);
	const uint64_t *known = wf_key_map_get(&f->m->files, name, len);
	*ret = known ? (uint32_t)*known : f->m->files.count;
	int code = known ? 0 : wf_key_map_put(&f->m->files, name, len, *ret);
	return code < 0 ? wf_fail(f->err, code, code == -E2BIG ? "too many files" : "out of memory") : 0;
}

/* Stream extensions (compression) change the bytes of a slice. */
int dcp_fill_slice(struct dcp_fill *f, uint32_t chunk, const struct dcp_stored *s)
{
	struct wf_dcp_chunk *c = &f->m->chunks[chunk];
	struct wf_dcp_entry *e = &f->m->entries[c->entry];
	uint64_t end;
	if (!s->plain)
		return wf_dcp_problem(
			f->m, e,
			"its bytes went through a transform when they were written, which this program does not undo");
	c->file = s->file;
	c->offset = s->offset;
	c->length = s->length;
	if (s->length == 0 || wf_add_u64(s->offset, s->length, &end)) {
		c->length = 0;
		return wf_dcp_problem(f->m, e, "a slice of it has no offset and length");
	}
	return 0;
}

/* ---- places ---- */

/* Adds the steps of a way as long as they are the name joined with dots, of which they are pieces. Whether all of them were. */
static bool add_steps(struct wf_dcp_metadata *m, const struct wf_dcp_entry *e, const struct wf_dcp_way *ways,
		      uint32_t count, uint32_t at)
{
	const char *name = wf_dcp_text(m, e->name);
	for (uint32_t i = 0; i < count; i++) {
		const char *text = ways[i].text;
		struct wf_dcp_step s = {.position = !text, .text = ways[i].number};
		char digits[24];
		size_t len = text ? ways[i].number : (size_t)snprintf(digits, sizeof digits, "%" PRIu64, s.text);
		if (!text && i == 0)
			return false;
		if (i > 0 && (at >= e->name_len || name[at++] != '.'))
			return false;
		if (len > e->name_len - at || memcmp(name + at, text ? text : digits, len) != 0)
			return false;
		if (text) {
			s.text = e->name + at;
			s.len = (uint32_t)len;
		}
		m->steps[m->step_count++] = s;
		at += (uint32_t)len;
	}
	return at == e->name_len;
}

/* Torch joins the steps with dots; where it does not hold, its loader would fail, and the name itself is the key. */
int dcp_fill_place(struct dcp_fill *f, uint32_t entry, const struct wf_dcp_way *ways, uint32_t count)
{
	struct wf_dcp_metadata *m = f->m;
	struct wf_dcp_entry *e = &m->entries[entry];
	uint32_t first = m->step_count, below = (uint32_t)strlen(f->folder);
	if (e->step_count > 0)
		return 0;
	if (wf_dcp_reserve_steps(m, (uint64_t)count + 2) < 0)
		return dcp_fill_no_memory(f);
	if (below > 0)
		m->steps[m->step_count++] = (struct wf_dcp_step){.text = e->name, .len = below++};
	uint32_t inside = m->step_count;
	if (count == 0 || !add_steps(m, e, ways, count, below)) {
		m->step_count = below > 0 ? inside : first;
		if (below > 0)
			m->steps[m->step_count++] =
				(struct wf_dcp_step){.text = e->name + below, .len = e->name_len - below};
	}
	e->steps = first;
	e->step_count = m->step_count - first;
	return 0;
}

int dcp_fill_rest(struct dcp_fill *f)
{
	int code = 0;
	for (uint32_t i = f->first_entry; f->folder[0] && i < f->m->entry_count && code == 0; i++)
		code = dcp_fill_place(f, i, NULL, 0);
	return code;
}
