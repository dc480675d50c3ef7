/* SPDX-License-Identifier: MIT */
/* From the objects of a `.metadata` to tables, in two passes: first state_dict_metadata makes the entries with their chunks, then
 * storage_data says of each chunk which slice holds it. A slice that no chunk asks for is no fault, as it is none for torch. */
#include "codec/directory/dcp_metadata.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_fill.h"
#include "codec/directory/dcp_object.h"
#include "codec/pickle/pickle.h"

struct dcp_reader {
	struct dcp_fill fill;
	struct wf_dcp_graph d;
	wf_ref path; /* the relative path that was met last, and its number */
	uint32_t path_file;
	wf_ref fqn; /* the same of an entry */
	uint32_t fqn_entry;
	struct wf_dcp_way *ways;
	uint32_t way_room;
};

static const char *text_of(const struct dcp_reader *r, wf_ref text, size_t *ret_len)
{
	return wf_is(r->d.g, text, WF_STR) ? wf_bytes(r->d.g, text, ret_len) : NULL;
}

/* ---- entries ---- */

static int add_chunk(struct dcp_reader *r, uint32_t entry, const uint64_t *box, uint32_t ndim)
{
	uint32_t i;
	int code = wf_dcp_add_chunk(r->fill.m, entry, box, ndim, &i, r->fill.err);
	return code < 0 ? code : dcp_fill_slot(&r->fill, i);
}

/* Adds the chunks, or gives the entry a problem and adds those before it. */
static int read_chunks(struct dcp_reader *r, wf_ref list, uint32_t entry)
{
	uint64_t box[2 * WF_MAX_NDIM];
	struct wf_dcp_metadata *m = r->fill.m;
	struct wf_dcp_entry *e = &m->entries[entry];
	uint32_t n = 0, ndim = e->ndim;
	if (!wf_is(r->d.g, list, WF_LIST) && !wf_is(r->d.g, list, WF_TUPLE))
		return wf_dcp_problem(m, e, "it has no list of chunks");
	wf_elements(r->d.g, list, &n);
	for (uint32_t i = 0; i < n; i++) {
		wf_ref chunk = wf_element(r->d.g, list, i);
		if (wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, chunk, WF_DCP_OFFSETS), box, ndim) != (int)ndim ||
		    wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, chunk, WF_DCP_SIZES), box + ndim, ndim) != (int)ndim)
			return wf_dcp_problem(
				m, e, "its chunk %" PRIu32 " has no offsets and sizes of %" PRIu32 " dimensions", i,
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
static int read_tensor(struct dcp_reader *r, wf_ref object, uint32_t entry, bool known)
{
	uint64_t sizes[WF_MAX_NDIM];
	wf_ref state = wf_call_state(r->d.g, wf_dcp_attribute(&r->d, object, WF_DCP_PROPERTIES));
	wf_ref dtype =
		wf_is(r->d.g, state, WF_DICT) ? wf_dict_get(r->d.g, state, "dtype") : wf_element(r->d.g, state, 0);
	const struct dcp_tensor t = {
		.dtype = wf_dtype_from_global(r->d.g, dtype),
		.dtype_name = wf_global_name(r->d.g, dtype),
		.strided = !wf_is(r->d.g, state, WF_TUPLE) || is_strided(r, wf_element(r->d.g, state, 1)),
		.ndim = wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, object, WF_DCP_SIZE), sizes, WF_MAX_NDIM),
		.sizes = sizes,
	};
	bool good;
	int code = dcp_fill_tensor(&r->fill, entry, known, &t, &good);
	return code < 0 || !good ? code : read_chunks(r, wf_dcp_attribute(&r->d, object, WF_DCP_CHUNKS), entry);
}

static int read_entry(struct dcp_reader *r, wf_ref key, wf_ref object)
{
	size_t len;
	const char *name = text_of(r, key, &len);
	uint32_t entry;
	bool known;
	if (!name)
		return wf_fail(r->fill.err, -EUCLEAN, "a name in state_dict_metadata is no text");
	int code = dcp_fill_entry(&r->fill, name, len, &entry, &known);
	if (code < 0)
		return code;
	struct wf_dcp_metadata *m = r->fill.m;
	if (wf_dcp_is(&r->d, object, WF_DCP_TENSOR))
		return read_tensor(r, object, entry, known);
	if (!wf_dcp_is(&r->d, object, WF_DCP_BYTES))
		return wf_dcp_problem(m, &m->entries[entry], "the metadata has neither a tensor nor bytes for it");
	if (known && m->entries[entry].tensor)
		return wf_dcp_problem(m, &m->entries[entry], "two ranks disagree about what it is");
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
	const char *name = text_of(r, path, &len);
	if (!name)
		return wf_fail(r->fill.err, -EUCLEAN, "a relative_path in storage_data is no text");
	int code = dcp_fill_file(&r->fill, name, len, ret);
	r->path = path;
	r->path_file = *ret;
	return code;
}

static uint32_t entry_of(struct dcp_reader *r, wf_ref fqn)
{
	size_t len;
	if (fqn == r->fqn && fqn != WF_NIL)
		return r->fqn_entry;
	const char *name = text_of(r, fqn, &len);
	name = name ? dcp_fill_below(&r->fill, name, len, &len) : NULL;
	r->fqn = fqn;
	r->fqn_entry = name ? wf_dcp_find(r->fill.m, name, len) : UINT32_MAX;
	return r->fqn_entry;
}

static bool is_plain(struct dcp_reader *r, wf_ref info)
{
	wf_ref transforms = wf_dcp_attribute(&r->d, info, WF_DCP_TRANSFORMS);
	uint32_t n = 0;
	if (transforms == WF_NIL || wf_is(r->d.g, transforms, WF_NONE))
		return true;
	wf_elements(r->d.g, transforms, &n);
	return (wf_is(r->d.g, transforms, WF_LIST) || wf_is(r->d.g, transforms, WF_TUPLE)) && n == 0;
}

static int read_info(struct dcp_reader *r, wf_ref info, uint32_t chunk)
{
	struct wf_dcp_metadata *m = r->fill.m;
	struct dcp_stored s = {.plain = is_plain(r, info)};
	if (!wf_dcp_is(&r->d, info, WF_DCP_INFO))
		return wf_dcp_problem(m, &m->entries[m->chunks[chunk].entry],
				      "the metadata does not say where it is stored");
	int code = s.plain ? read_file_name(r, wf_dcp_attribute(&r->d, info, WF_DCP_RELATIVE_PATH), &s.file) : 0;
	if (code < 0)
		return code;
	if (!wf_dcp_number(&r->d, wf_dcp_attribute(&r->d, info, WF_DCP_OFFSET), &s.offset) ||
	    !wf_dcp_number(&r->d, wf_dcp_attribute(&r->d, info, WF_DCP_LENGTH), &s.length))
		s.length = 0;
	return dcp_fill_slice(&r->fill, chunk, &s);
}

static int read_slice(struct dcp_reader *r, wf_ref index, wf_ref info)
{
	uint64_t offsets[WF_MAX_NDIM];
	uint32_t entry = entry_of(r, wf_dcp_attribute(&r->d, index, WF_DCP_FQN)), chunk;
	if (entry == UINT32_MAX)
		return 0;
	const struct wf_dcp_entry *e = &r->fill.m->entries[entry];
	if (e->tensor &&
	    wf_dcp_size(&r->d, wf_dcp_attribute(&r->d, index, WF_DCP_OFFSET), offsets, e->ndim) != (int)e->ndim)
		return 0; /* the chunk that it may mean is without a slice then, and says so */
	struct wf_map_probe p = dcp_fill_probe(&r->fill, entry, offsets);
	while (dcp_fill_next(&r->fill, &p, entry, offsets, &chunk)) {
		int code = read_info(r, info, chunk);
		if (code < 0)
			return code;
	}
	return 0;
}

/* ---- places ---- */

/* False: a part of it is neither a text nor a number. */
static bool read_way(struct dcp_reader *r, wf_ref path, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		wf_ref item = wf_element(r->d.g, path, i);
		size_t len = 0;
		r->ways[i] = (struct wf_dcp_way){.text = text_of(r, item, &len)};
		r->ways[i].number = len;
		if (!r->ways[i].text && !wf_dcp_number(&r->d, item, &r->ways[i].number))
			return false;
	}
	return true;
}

static int read_place(struct dcp_reader *r, wf_ref key, wf_ref path)
{
	uint32_t entry = entry_of(r, key), n = 0;
	if (entry == UINT32_MAX)
		return 0;
	if (wf_is(r->d.g, path, WF_TUPLE))
		wf_elements(r->d.g, path, &n);
	if (wf_array_reserve(&r->ways, &r->way_room, n, sizeof *r->ways, UINT32_MAX) < 0)
		return -ENOMEM;
	return dcp_fill_place(&r->fill, entry, r->ways, read_way(r, path, n) ? n : 0);
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
			return code == -ENOMEM ? dcp_fill_no_memory(&r->fill) : code;
	}
	return 0;
}

static int read_all(struct dcp_reader *r, wf_ref root)
{
	if (!wf_dcp_is(&r->d, root, WF_DCP_METADATA)) {
		const char *name =
			wf_is(r->d.g, root, WF_CALL) ? wf_global_name(r->d.g, wf_call_func(r->d.g, root)) : "";
		return wf_fail(r->fill.err, -EMEDIUMTYPE,
			       "this is no metadata of torch.distributed.checkpoint but a pickle of %s",
			       *name ? name : "something else");
	}
	wf_ref entries = wf_dcp_attribute(&r->d, root, WF_DCP_STATE_DICT_METADATA);
	wf_ref slices = wf_dcp_attribute(&r->d, root, WF_DCP_STORAGE_DATA);
	if (!wf_is(r->d.g, entries, WF_DICT) || (!wf_is(r->d.g, slices, WF_DICT) && !wf_is(r->d.g, slices, WF_NONE)))
		return wf_fail(r->fill.err, -EUCLEAN, "its %s is no mapping",
			       wf_dcp_attribute_name(wf_is(r->d.g, entries, WF_DICT) ? WF_DCP_STORAGE_DATA
										     : WF_DCP_STATE_DICT_METADATA));
	int code = each_item(r, entries, read_entry);
	if (code == 0)
		code = each_item(r, slices, read_slice);
	if (code == 0)
		code = each_item(r, wf_dcp_attribute(&r->d, root, WF_DCP_PLANNER_DATA), read_place);
	if (code == 0)
		code = dcp_fill_rest(&r->fill);
	return code;
}

int wf_dcp_metadata_read(struct wf_dcp_metadata *m, struct wf_source *file, const char *folder, struct wf_error *err)
{
	struct dcp_reader r = {.fill = {.m = m, .folder = folder, .first_entry = m->entry_count, .err = err}};
	uint64_t end;
	wf_ref root = WF_NIL;
	if (wf_source_size(file) > WF_DCP_MAX_METADATA_BYTES)
		return wf_fail(err, -E2BIG, "the metadata has more than %llu bytes", WF_DCP_MAX_METADATA_BYTES);
	int code = wf_graph_new(&r.d.g);
	if (code < 0)
		return dcp_fill_no_memory(&r.fill);
	code = wf_pickle_read(r.d.g, file, 0, wf_source_size(file), NULL, &root, &end, err);
	if (code == 0)
		code = read_all(&r, root);
	dcp_fill_free(&r.fill);
	free(r.ways);
	wf_graph_free(r.d.g);
	return code;
}
