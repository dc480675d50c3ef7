/* SPDX-License-Identifier: MIT */
/* From the objects of a `.metadata` to tables, in two passes: first state_dict_metadata makes the entries with their chunks, then
 * storage_data says of each chunk which slice holds it. A slice that no chunk asks for is no fault, as it is none for torch. */
#include "codec/directory/dcp_metadata.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_object.h"
#include "codec/pickle/pickle.h"

struct dcp_reader {
	struct wf_dcp_metadata *m;
	const char *folder;    /* that the file's checkpoint is in, below the directory; "" for none */
	struct wf_buffer name; /* of an entry or a file, with the folder before it */
	struct wf_dcp_graph d;
	struct wf_error *err;
	struct wf_map slots;  /* of the chunks of this file, by entry and offsets */
	uint32_t first_entry; /* of this file */
	wf_ref path;          /* the relative path that was met last, and its number */
	uint32_t path_file;
	wf_ref fqn; /* the same of an entry */
	uint32_t fqn_entry;
};

static int no_memory(const struct dcp_reader *r)
{
	return wf_fail(r->err, -ENOMEM, "out of memory");
}

/* ---- entries ---- */

static uint32_t slot_hash(const struct wf_map *map, uint32_t entry, const uint64_t *offsets, uint32_t ndim)
{
	uint64_t h = wf_map_mix(map, map->seed, entry);
	for (uint32_t i = 0; i < ndim; i++)
		h = wf_map_mix(map, h, offsets[i]);
	return wf_map_hash_u64(map, h);
}

static int add_chunk(struct dcp_reader *r, uint32_t entry, const uint64_t *box, uint32_t ndim)
{
	uint32_t i;
	int code = wf_dcp_add_chunk(r->m, entry, box, ndim, &i, r->err);
	if (code < 0)
		return code;
	if (wf_map_reserve(&r->slots, 1) < 0)
		return no_memory(r);
	wf_map_add(&r->slots, slot_hash(&r->slots, entry, box, ndim), i);
	return 0;
}

/* Adds the chunks, or gives the entry a problem and adds those before it. */
static int read_chunks(struct dcp_reader *r, wf_ref list, uint32_t entry)
{
	uint64_t box[2 * WF_MAX_NDIM];
	struct wf_dcp_entry *e = &r->m->entries[entry];
	uint32_t n = 0, ndim = e->ndim;
	if (!wf_is(r->d.g, list, WF_LIST) && !wf_is(r->d.g, list, WF_TUPLE))
		return wf_dcp_problem(r->m, e, "it has no list of chunks");
	wf_elements(r->d.g, list, &n);
	for (uint32_t i = 0; i < n; i++) {
		wf_ref chunk = wf_element(r->d.g, list, i);
		if (wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, chunk, WF_DCP_OFFSETS), box, ndim) != (int)ndim ||
		    wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, chunk, WF_DCP_SIZES), box + ndim, ndim) != (int)ndim)
			return wf_dcp_problem(
				r->m, e, "its chunk %" PRIu32 " has no offsets and sizes of %" PRIu32 " dimensions", i,
				ndim);
		int code = add_chunk(r, entry, box, ndim);
		if (code < 0)
			return code;
	}
	return 0;
}

static bool is_strided(struct dcp_reader *r, wf_ref layout)
{
	if (wf_call_is(r->d.g, layout, "torch.serialization", "_get_layout"))
		return wf_str_equal(r->d.g, wf_element(r->d.g, wf_call_args(r->d.g, layout), 0), "torch.strided");
	return layout == WF_NIL || wf_is_global(r->d.g, layout, "torch", "strided") || wf_is(r->d.g, layout, WF_NONE);
}

/* TensorProperties has a tuple for its state: (dtype, layout, requires_grad, ...). */
static int read_dtype(struct dcp_reader *r, wf_ref properties, struct wf_dcp_entry *e)
{
	wf_ref state = wf_call_state(r->d.g, properties), dtype = wf_element(r->d.g, state, 0);
	if (wf_is(r->d.g, state, WF_DICT))
		dtype = wf_dict_get(r->d.g, state, "dtype");
	e->dtype = (uint8_t)wf_dtype_from_global(r->d.g, dtype);
	if (e->dtype == WF_DTYPE_INVALID) {
		e->dtype = WF_UINT8;
		return wf_dcp_problem(r->m, e, "its dtype %.60s is not known", wf_global_name(r->d.g, dtype));
	}
	if (wf_dtype_info(e->dtype)->values_per_byte != 1)
		return wf_dcp_problem(r->m, e, "chunks of dtype %s are not put together",
				      wf_dtype_info(e->dtype)->name);
	if (wf_is(r->d.g, state, WF_TUPLE) && !is_strided(r, wf_element(r->d.g, state, 1)))
		return wf_dcp_problem(r->m, e, "its layout is not strided");
	return 0;
}

static int read_tensor(struct dcp_reader *r, wf_ref object, uint32_t entry, bool known)
{
	uint64_t sizes[WF_MAX_NDIM];
	struct wf_dcp_entry *e = &r->m->entries[entry], was = *e;
	int n = wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, object, WF_DCP_SIZE), sizes, WF_MAX_NDIM);
	int code = read_dtype(r, wf_dcp_attribute(&r->d, object, WF_DCP_PROPERTIES), e);
	if (code < 0)
		return no_memory(r);
	if (known && (!was.tensor || n != (int)was.ndim || e->dtype != was.dtype ||
		      memcmp(sizes, r->m->numbers + was.sizes, was.ndim * sizeof *sizes) != 0))
		return wf_dcp_problem(r->m, e, "two ranks disagree about what it is");
	e->tensor = true;
	if (n < 0 || !wf_dcp_size_fits(sizes, (uint32_t)n, wf_dtype_info(e->dtype)->size_bytes))
		return wf_dcp_problem(r->m, e, "its size is none that a tensor has");
	e->ndim = (uint32_t)n;
	if (!known && wf_dcp_add_numbers(r->m, sizes, e->ndim, &e->sizes) < 0)
		return no_memory(r);
	return read_chunks(r, wf_dcp_attribute(&r->d, object, WF_DCP_CHUNKS), entry);
}

/* The text with the folder before it, valid until the next one; NULL: it is no text, or without memory. */
static const char *text_below(struct dcp_reader *r, wf_ref text, size_t *ret_len)
{
	const char *bytes = wf_is(r->d.g, text, WF_STR) ? wf_bytes(r->d.g, text, ret_len) : NULL;
	if (!bytes || !r->folder[0])
		return bytes;
	r->name.len = 0;
	wf_buffer_puts(&r->name, r->folder);
	wf_buffer_putc(&r->name, '/');
	wf_buffer_append(&r->name, bytes, *ret_len);
	*ret_len = r->name.len;
	return wf_buffer_status(&r->name) < 0 ? NULL : r->name.data;
}

static int read_entry(struct dcp_reader *r, wf_ref key, wf_ref object)
{
	size_t len;
	const char *name = text_below(r, key, &len);
	if (!name)
		return wf_fail(r->err, -EUCLEAN, "a name in state_dict_metadata is no text");
	uint32_t entry = wf_dcp_find(r->m, name, len);
	bool known = entry != UINT32_MAX;
	int code = known ? 0 : wf_dcp_add_entry(r->m, name, len, &entry, r->err);
	if (code < 0)
		return code;
	if (wf_dcp_is(&r->d, object, WF_DCP_TENSOR))
		return read_tensor(r, object, entry, known);
	if (!wf_dcp_is(&r->d, object, WF_DCP_BYTES))
		return wf_dcp_problem(r->m, &r->m->entries[entry],
				      "the metadata has neither a tensor nor bytes for it");
	if (known && r->m->entries[entry].tensor)
		return wf_dcp_problem(r->m, &r->m->entries[entry], "two ranks disagree about what it is");
	return known ? 0 : add_chunk(r, entry, NULL, 0); /* ranks write a value each, and torch reads one */
}

/* ---- slices ---- */

static int read_file_name(struct dcp_reader *r, wf_ref path, uint32_t *ret)
{
	size_t len;
	if (path == r->path && path != WF_NIL) {
		*ret = r->path_file;
		return 0;
	}
	const char *name = text_below(r, path, &len);
	if (!name)
		return wf_fail(r->err, -EUCLEAN, "a relative_path in storage_data is no text");
	const uint64_t *known = wf_key_map_get(&r->m->files, name, len);
	*ret = known ? (uint32_t)*known : r->m->files.count;
	int code = known ? 0 : wf_key_map_put(&r->m->files, name, len, *ret);
	if (code < 0)
		return wf_fail(r->err, code, code == -E2BIG ? "too many files" : "out of memory");
	r->path = path;
	r->path_file = *ret;
	return 0;
}

static uint32_t entry_of(struct dcp_reader *r, wf_ref fqn)
{
	size_t len;
	if (fqn == r->fqn && fqn != WF_NIL)
		return r->fqn_entry;
	const char *name = text_below(r, fqn, &len);
	r->fqn = fqn;
	r->fqn_entry = name ? wf_dcp_find(r->m, name, len) : UINT32_MAX;
	return r->fqn_entry;
}

/* Stream extensions (compression) change the bytes of a slice. */
static bool is_plain(struct dcp_reader *r, wf_ref info)
{
	wf_ref transforms = wf_dcp_attribute(&r->d, info, WF_DCP_TRANSFORMS);
	uint32_t n = 0;
	if (transforms == WF_NIL || wf_is(r->d.g, transforms, WF_NONE))
		return true;
	wf_elements(r->d.g, transforms, &n);
	return (wf_is(r->d.g, transforms, WF_LIST) || wf_is(r->d.g, transforms, WF_TUPLE)) && n == 0;
}

static int read_info(struct dcp_reader *r, wf_ref info, struct wf_dcp_chunk *chunk)
{
	struct wf_dcp_entry *e = &r->m->entries[chunk->entry];
	uint64_t end;
	if (!wf_dcp_is(&r->d, info, WF_DCP_INFO))
		return wf_dcp_problem(r->m, e, "the metadata does not say where it is stored");
	if (!is_plain(r, info))
		return wf_dcp_problem(
			r->m, e,
			"its bytes went through a transform when they were written, which this program does not undo");
	int code = read_file_name(r, wf_dcp_attribute(&r->d, info, WF_DCP_RELATIVE_PATH), &chunk->file);
	if (code < 0)
		return code;
	if (!wf_dcp_number(&r->d, wf_dcp_attribute(&r->d, info, WF_DCP_OFFSET), &chunk->offset) ||
	    !wf_dcp_number(&r->d, wf_dcp_attribute(&r->d, info, WF_DCP_LENGTH), &chunk->length) ||
	    wf_add_u64(chunk->offset, chunk->length, &end) || chunk->length == 0) {
		chunk->length = 0;
		return wf_dcp_problem(r->m, e, "a slice of it has no offset and length");
	}
	return 0;
}

static int read_slice(struct dcp_reader *r, wf_ref index, wf_ref info)
{
	uint64_t offsets[WF_MAX_NDIM];
	uint32_t entry = entry_of(r, wf_dcp_attribute(&r->d, index, WF_DCP_FQN)), i;
	if (entry == UINT32_MAX)
		return 0;
	const struct wf_dcp_entry *e = &r->m->entries[entry];
	if (e->tensor &&
	    wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, index, WF_DCP_OFFSET), offsets, e->ndim) != (int)e->ndim)
		return 0; /* the chunk that it may mean is without a slice then, and says so */
	struct wf_map_probe p =
		wf_map_probe(&r->slots, r->slots.size ? slot_hash(&r->slots, entry, offsets, e->ndim) : 0);
	while (wf_map_next(&p, &i)) {
		struct wf_dcp_chunk *c = &r->m->chunks[i];
		if (c->entry != entry ||
		    (e->ndim > 0 && memcmp(r->m->numbers + c->box, offsets, e->ndim * sizeof *offsets) != 0))
			continue;
		int code = read_info(r, info, c);
		if (code < 0)
			return code;
	}
	return 0;
}

/* ---- places ---- */

/* Adds the steps of a path as long as they are the name joined with dots, of which they are pieces. Whether all of them were. */
static bool add_steps(struct dcp_reader *r, const struct wf_dcp_entry *e, wf_ref path, uint32_t at)
{
	struct wf_dcp_metadata *m = r->m;
	const char *name = wf_dcp_text(m, e->name);
	uint32_t n = 0;
	wf_elements(r->d.g, path, &n);
	for (uint32_t i = 0; i < n; i++) {
		wf_ref item = wf_element(r->d.g, path, i);
		struct wf_dcp_step s = {.text = 0};
		char digits[24];
		size_t len = 0;
		const char *text = wf_is(r->d.g, item, WF_STR) ? wf_bytes(r->d.g, item, &len) : NULL;
		s.position = !text;
		if (!text && (i == 0 || !wf_dcp_number(&r->d, item, &s.text)))
			return false;
		if (!text)
			len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, s.text);
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
static int read_steps(struct dcp_reader *r, struct wf_dcp_entry *e, wf_ref path)
{
	struct wf_dcp_metadata *m = r->m;
	uint32_t n = 0, first = m->step_count, below = (uint32_t)strlen(r->folder);
	wf_elements(r->d.g, path, &n);
	if (wf_dcp_reserve_steps(m, (uint64_t)n + 2) < 0)
		return no_memory(r);
	if (below > 0)
		m->steps[m->step_count++] = (struct wf_dcp_step){.text = e->name, .len = below++};
	uint32_t inside = m->step_count;
	if (!wf_is(r->d.g, path, WF_TUPLE) || n == 0 || !add_steps(r, e, path, below)) {
		m->step_count = below > 0 ? inside : first;
		if (below > 0)
			m->steps[m->step_count++] =
				(struct wf_dcp_step){.text = e->name + below, .len = e->name_len - below};
	}
	e->steps = first;
	e->step_count = m->step_count - first;
	return 0;
}

static int read_place(struct dcp_reader *r, wf_ref key, wf_ref path)
{
	uint32_t entry = entry_of(r, key);
	if (entry == UINT32_MAX || r->m->entries[entry].step_count > 0)
		return 0;
	return read_steps(r, &r->m->entries[entry], path);
}

/* ---- all of it ---- */

static int each_item(struct dcp_reader *r, wf_ref dict, int (*take)(struct dcp_reader *r, wf_ref key, wf_ref value))
{
	uint32_t n = 0;
	wf_items(r->d.g, dict, &n);
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_item item = wf_items(r->d.g, dict, &n)[i];
		int code = item.key == WF_NIL ? 0 : take(r, item.key, item.value);
		if (code < 0)
			return code == -ENOMEM ? no_memory(r) : code;
	}
	return 0;
}

static int read_all(struct dcp_reader *r, wf_ref root)
{
	if (!wf_dcp_is(&r->d, root, WF_DCP_METADATA)) {
		const char *name =
			wf_is(r->d.g, root, WF_CALL) ? wf_global_name(r->d.g, wf_call_func(r->d.g, root)) : "";
		return wf_fail(r->err, -EMEDIUMTYPE,
			       "this is no metadata of torch.distributed.checkpoint but a pickle of %s",
			       *name ? name : "something else");
	}
	wf_ref entries = wf_dcp_attribute(&r->d, root, WF_DCP_STATE_DICT_METADATA);
	wf_ref slices = wf_dcp_attribute(&r->d, root, WF_DCP_STORAGE_DATA);
	if (!wf_is(r->d.g, entries, WF_DICT) || (!wf_is(r->d.g, slices, WF_DICT) && !wf_is(r->d.g, slices, WF_NONE)))
		return wf_fail(r->err, -EUCLEAN, "its %s is no mapping",
			       wf_dcp_attribute_name(wf_is(r->d.g, entries, WF_DICT) ? WF_DCP_STORAGE_DATA
										     : WF_DCP_STATE_DICT_METADATA));
	int code = each_item(r, entries, read_entry);
	if (code == 0)
		code = each_item(r, slices, read_slice);
	if (code == 0)
		code = each_item(r, wf_dcp_attribute(&r->d, root, WF_DCP_PLANNER_DATA), read_place);
	for (uint32_t i = r->first_entry; r->folder[0] && i < r->m->entry_count && code == 0; i++)
		if (r->m->entries[i].step_count == 0)
			code = read_steps(r, &r->m->entries[i], WF_NIL);
	return code;
}

int wf_dcp_metadata_read(struct wf_dcp_metadata *m, struct wf_source *file, const char *folder, struct wf_error *err)
{
	struct dcp_reader r = {.m = m, .folder = folder, .first_entry = m->entry_count, .err = err};
	uint64_t end;
	wf_ref root = WF_NIL;
	if (wf_source_size(file) > WF_DCP_MAX_METADATA_BYTES)
		return wf_fail(err, -E2BIG, "the metadata has more than %llu bytes", WF_DCP_MAX_METADATA_BYTES);
	int code = wf_graph_new(&r.d.g);
	if (code < 0)
		return no_memory(&r);
	code = wf_pickle_read(r.d.g, file, 0, wf_source_size(file), NULL, &root, &end, err);
	if (code == 0)
		code = read_all(&r, root);
	wf_map_free(&r.slots);
	wf_buffer_free(&r.name);
	wf_graph_free(r.d.g);
	return code;
}
