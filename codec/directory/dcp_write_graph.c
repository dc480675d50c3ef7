/* SPDX-License-Identifier: MIT */
/* Makes the objects of a new `.metadata` in the graph of the old one. Objects of entries that stay are used again; the index of a slice,
 * which has the entry's name in it, is made anew where that changed. */
#include "codec/directory/dcp_write_graph.h"

#include <errno.h>

#include "codec/bytes/key_map.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_object.h"
#include "codec/pickle/pickle.h"

struct dcp_graph_writer {
	struct wf_dcp_graph d;
	wf_ref root, old_entries, old_slices;
	wf_ref entries, places, slices;     /* the new mappings; places WF_NIL: there is no planner data */
	wf_ref properties;                  /* an example of a tensor's */
	struct wf_key_map names;            /* of old entries: their positions */
	uint32_t *next_slice, *first_slice; /* lists of the old slices of each entry: positions + 1 */
};

static int full(const struct dcp_graph_writer *w, struct wf_error *err)
{
	int r = wf_graph_failed(w->d.g);
	return wf_fail(err, r < 0 ? r : -ENOMEM, "the new metadata do not fit the limit of %llu bytes",
		       WF_GRAPH_MAX_BYTES);
}

static int no_entry(const char *name, size_t len, struct wf_error *err)
{
	return wf_fail(err, -ENOENT, "the metadata do not have %.*s any more", (int)len, name);
}

/* ---- the old file ---- */

static int index_entries(struct dcp_graph_writer *w)
{
	uint32_t n = 0;
	const struct wf_item *items = wf_items(w->d.g, w->old_entries, &n);
	for (uint32_t i = 0; i < n; i++) {
		size_t len;
		const char *name = items[i].key == WF_NIL ? NULL : wf_bytes(w->d.g, items[i].key, &len);
		if (name && wf_key_map_put(&w->names, name, len, i) < 0)
			return -ENOMEM;
		wf_ref properties = wf_dcp_attribute(&w->d, items[i].value, WF_DCP_PROPERTIES);
		if (w->properties == WF_NIL && wf_is(w->d.g, wf_call_state(w->d.g, properties), WF_TUPLE))
			w->properties = properties;
	}
	w->first_slice = calloc((size_t)n + 1, sizeof *w->first_slice);
	return w->first_slice ? 0 : -ENOMEM;
}

/* Backwards, so that each list comes in the order of the file. */
static int index_slices(struct dcp_graph_writer *w)
{
	uint32_t n = 0;
	const struct wf_item *items = wf_items(w->d.g, w->old_slices, &n);
	w->next_slice = calloc((size_t)n + 1, sizeof *w->next_slice);
	if (!w->next_slice)
		return -ENOMEM;
	for (uint32_t i = n; i-- > 0;) {
		size_t len;
		wf_ref fqn = items[i].key == WF_NIL ? WF_NIL : wf_dcp_attribute(&w->d, items[i].key, WF_DCP_FQN);
		const char *name = fqn == WF_NIL ? NULL : wf_bytes(w->d.g, fqn, &len);
		const uint64_t *entry = name ? wf_key_map_get(&w->names, name, len) : NULL;
		if (!entry)
			continue;
		w->next_slice[i] = w->first_slice[*entry];
		w->first_slice[*entry] = i + 1;
	}
	return 0;
}

int dcp_graph_writer_open(struct wf_source *file, struct dcp_graph_writer **ret, struct wf_error *err)
{
	struct dcp_graph_writer *w = calloc(1, sizeof *w);
	uint64_t end;
	if (!w || wf_graph_new(&w->d.g) < 0) {
		free(w);
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	int r = wf_pickle_read(w->d.g, file, 0, wf_source_size(file), NULL, &w->root, &end, err);
	w->old_entries = wf_dcp_attribute(&w->d, w->root, WF_DCP_STATE_DICT_METADATA);
	w->old_slices = wf_dcp_attribute(&w->d, w->root, WF_DCP_STORAGE_DATA);
	if (r == 0 && (index_entries(w) < 0 || index_slices(w) < 0))
		r = wf_fail(err, -ENOMEM, "out of memory");
	w->entries = wf_dict(w->d.g);
	w->slices = wf_dict(w->d.g);
	if (wf_is(w->d.g, wf_dcp_attribute(&w->d, w->root, WF_DCP_PLANNER_DATA), WF_DICT))
		w->places = wf_dict(w->d.g);
	if (r == 0 && wf_graph_failed(w->d.g) < 0)
		r = full(w, err);
	if (r < 0)
		dcp_graph_writer_free(w);
	else
		*ret = w;
	return r;
}

void dcp_graph_writer_free(struct dcp_graph_writer *w)
{
	if (!w)
		return;
	wf_graph_free(w->d.g);
	wf_key_map_free(&w->names);
	free(w->next_slice);
	free(w->first_slice);
	free(w);
}

bool dcp_graph_writer_is_nested(const struct dcp_graph_writer *w)
{
	return w->places != WF_NIL;
}

bool dcp_graph_writer_knows(const struct dcp_graph_writer *w, const char *name, size_t len)
{
	return wf_key_map_get(&w->names, name, len) != NULL;
}

/* ---- boxes ---- */

/* By the offsets of each chunk that has elements: its number. */
static int index_chunks(struct dcp_graph_writer *w, wf_ref chunks, uint32_t ndim, struct wf_key_map *ret)
{
	uint64_t at[WF_MAX_NDIM], sizes[WF_MAX_NDIM];
	uint32_t n = 0;
	wf_elements(w->d.g, chunks, &n);
	for (uint32_t i = 0; i < n; i++) {
		wf_ref chunk = wf_element(w->d.g, chunks, i);
		if (wf_dcp_size(&w->d, wf_dcp_attribute(&w->d, chunk, WF_DCP_OFFSETS), at, ndim) != (int)ndim ||
		    wf_dcp_size(&w->d, wf_dcp_attribute(&w->d, chunk, WF_DCP_SIZES), sizes, ndim) != (int)ndim)
			continue;
		bool empty = false;
		for (uint32_t d = 0; d < ndim; d++)
			empty |= sizes[d] == 0;
		if (!empty && wf_key_map_put(ret, at, ndim * sizeof *at, i) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* The chunk that a slice says it holds, by its offset. */
static void find_box(struct dcp_graph_writer *w, uint32_t slice, wf_ref chunks, const struct wf_key_map *by_offset,
		     uint32_t ndim, uint64_t *box)
{
	uint32_t n;
	wf_ref index = wf_items(w->d.g, w->old_slices, &n)[slice].key;
	const uint64_t *chunk = NULL;
	if (wf_dcp_size(&w->d, wf_dcp_attribute(&w->d, index, WF_DCP_OFFSET), box, ndim) == (int)ndim)
		chunk = wf_key_map_get(by_offset, box, ndim * sizeof *box);
	memset(box + ndim, 0, ndim * sizeof *box);
	if (chunk) /* their number was asked for before */
		wf_dcp_size(&w->d, wf_dcp_attribute(&w->d, wf_element(w->d.g, chunks, (uint32_t)*chunk), WF_DCP_SIZES),
			    box + ndim, ndim);
}

int dcp_graph_writer_boxes(struct dcp_graph_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			   uint32_t *ret_count, struct wf_error *err)
{
	struct wf_key_map by_offset = {0};
	const uint64_t *at = wf_key_map_get(&w->names, name, len);
	uint32_t count = 0, n;
	if (!at)
		return no_entry(name, len, err);
	wf_ref entry = wf_items(w->d.g, w->old_entries, &n)[*at].value;
	wf_ref chunks = wf_dcp_attribute(&w->d, entry, WF_DCP_CHUNKS);
	for (uint32_t i = w->first_slice[*at]; i > 0; i = w->next_slice[i - 1])
		count++;
	cleanup_free uint64_t *boxes = calloc((size_t)count * 2 * ndim + 1, sizeof *boxes);
	int r = boxes ? index_chunks(w, chunks, ndim, &by_offset) : -ENOMEM;
	uint64_t *box = boxes;
	for (uint32_t i = w->first_slice[*at]; i > 0 && r == 0; i = w->next_slice[i - 1], box += 2 * (size_t)ndim)
		find_box(w, i - 1, chunks, &by_offset, ndim, box);
	wf_key_map_free(&by_offset);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	*ret = steal_pointer(&boxes);
	*ret_count = count;
	return 0;
}

/* ---- objects ---- */

/* The module that the file has its classes of a kind in: where torch keeps them moved. */
static const char *module_of(struct dcp_graph_writer *w, bool filesystem)
{
	const char *module = wf_global_module(w->d.g, wf_call_func(w->d.g, w->root));
	bool old = strncmp(module, "torch.distributed._shard.", strlen("torch.distributed._shard.")) == 0;
	if (filesystem)
		return old ? "torch.distributed._shard.checkpoint.filesystem"
			   : "torch.distributed.checkpoint.filesystem";
	return old ? "torch.distributed._shard.checkpoint.metadata" : "torch.distributed.checkpoint.metadata";
}

static wf_ref new_object(struct dcp_graph_writer *w, const char *module, const char *class, wf_ref state)
{
	struct wf_graph *g = w->d.g;
	wf_ref func = wf_global_named(g, module, class), none = wf_tuple(g, NULL, 0);
	wf_ref object = func == WF_NIL || state == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_NEWOBJ, func, none, WF_NIL);
	return object == WF_NIL || wf_call_build(g, object, state) < 0 ? WF_NIL : object;
}

struct dcp_member {
	enum wf_dcp_attribute name;
	wf_ref value;
};

static wf_ref new_state(struct dcp_graph_writer *w, const struct dcp_member *members, size_t n)
{
	wf_ref dict = wf_dict(w->d.g);
	for (size_t i = 0; i < n && dict != WF_NIL; i++) {
		wf_ref key = w->d.names[members[i].name];
		if (key == WF_NIL)
			key = w->d.names[members[i].name] = wf_str(w->d.g, wf_dcp_attribute_name(members[i].name));
		if (key == WF_NIL || members[i].value == WF_NIL ||
		    wf_dict_append(w->d.g, dict, key, members[i].value) < 0)
			return WF_NIL;
	}
	return dict;
}

static wf_ref int_tuple(struct wf_graph *g, const int64_t *v, uint32_t n)
{
	wf_ref items[WF_MAX_NDIM];
	for (uint32_t i = 0; i < n; i++)
		if ((items[i] = wf_int(g, v[i])) == WF_NIL)
			return WF_NIL;
	return wf_tuple(g, items, n);
}

static wf_ref new_size(struct dcp_graph_writer *w, const int64_t *sizes, uint32_t ndim)
{
	wf_ref func = wf_global_named(w->d.g, "torch", "Size"), numbers = int_tuple(w->d.g, sizes, ndim);
	wf_ref args = numbers == WF_NIL ? WF_NIL : wf_tuple(w->d.g, &numbers, 1);
	return func == WF_NIL || args == WF_NIL ? WF_NIL : wf_call(w->d.g, WF_CALL_REDUCE, func, args, WF_NIL);
}

static wf_ref strides_of(struct wf_graph *g, const int64_t *sizes, uint32_t ndim)
{
	int64_t strides[WF_MAX_NDIM], step = 1;
	for (uint32_t i = ndim; i-- > 0;) {
		strides[i] = step;
		step *= WF_MAX(sizes[i], 1);
	}
	return int_tuple(g, strides, ndim);
}

/* (dtype, layout, requires_grad, memory format, pin_memory[, strides]): as the file has those of other tensors, else as torch 2.3 to 2.9. */
static wf_ref new_properties(struct dcp_graph_writer *w, const struct wf_dcp_content *c)
{
	struct wf_graph *g = w->d.g;
	const char *module = module_of(w, false);
	wf_ref items[6] = {WF_NIL};
	uint32_t n = 5;
	if (w->properties != WF_NIL) {
		const wf_ref *old = wf_elements(g, wf_call_state(g, w->properties), &n);
		n = WF_MIN(n, 6u);
		memcpy(items, old, n * sizeof *items);
		module = wf_global_module(g, wf_call_func(g, w->properties));
	} else {
		wf_ref text = wf_str(g, "torch.strided"), zero = wf_int(g, 0);
		wf_ref layout = text == WF_NIL ? WF_NIL : wf_tuple(g, &text, 1), format = wf_tuple(g, &zero, 1);
		wf_ref get = wf_global_named(g, "torch.serialization", "_get_layout");
		wf_ref enumeration = wf_global_named(g, module, "_MEM_FORMAT_ENCODING");
		if (layout == WF_NIL || format == WF_NIL || get == WF_NIL || enumeration == WF_NIL)
			return WF_NIL;
		items[1] = wf_call(g, WF_CALL_REDUCE, get, layout, WF_NIL);
		items[2] = items[4] = wf_bool(g, false);
		items[3] = wf_call(g, WF_CALL_REDUCE, enumeration, format, WF_NIL);
	}
	items[0] = wf_global_named(g, "torch", wf_dtype_info(c->dtype)->name);
	if (n == 6)
		items[5] = strides_of(g, c->sizes, c->ndim);
	for (uint32_t i = 0; i < n; i++)
		if (items[i] == WF_NIL)
			return WF_NIL;
	return new_object(w, module, "TensorProperties", wf_tuple(g, items, n));
}

static wf_ref new_entry(struct dcp_graph_writer *w, const struct wf_dcp_content *c, wf_ref offset, wf_ref size)
{
	struct wf_graph *g = w->d.g;
	const char *module = module_of(w, false);
	if (!c->tensor)
		return new_object(w, module, "BytesStorageMetadata", wf_dict(g));
	const struct dcp_member box[] = {{WF_DCP_OFFSETS, offset}, {WF_DCP_SIZES, size}};
	wf_ref chunk = new_object(w, module, "ChunkStorageMetadata", new_state(w, box, WF_ARRAY_SIZE(box)));
	wf_ref chunks = wf_list(g);
	if (chunk == WF_NIL || chunks == WF_NIL || wf_list_append(g, chunks, chunk) < 0)
		return WF_NIL;
	const struct dcp_member members[] = {
		{WF_DCP_PROPERTIES, new_properties(w, c)}, {WF_DCP_SIZE, size}, {WF_DCP_CHUNKS, chunks}};
	return new_object(w, module, "TensorStorageMetadata", new_state(w, members, WF_ARRAY_SIZE(members)));
}

static wf_ref new_index(struct dcp_graph_writer *w, wf_ref fqn, wf_ref offset, wf_ref number)
{
	struct wf_graph *g = w->d.g;
	wf_ref key = wf_str(g, "index");
	const struct dcp_member members[] = {{WF_DCP_FQN, fqn}, {WF_DCP_OFFSET, offset}};
	wf_ref state = new_state(w, members, WF_ARRAY_SIZE(members));
	if (state == WF_NIL || key == WF_NIL || number == WF_NIL || wf_dict_append(g, state, key, number) < 0)
		return WF_NIL;
	return new_object(w, module_of(w, false), "MetadataIndex", state);
}

static wf_ref renamed_index(struct dcp_graph_writer *w, wf_ref fqn, wf_ref old)
{
	struct wf_graph *g = w->d.g;
	wf_ref offset = wf_dcp_attribute(&w->d, old, WF_DCP_OFFSET);
	wf_ref number = wf_dict_get(g, wf_call_state(g, old), "index");
	return new_index(w, fqn, offset == WF_NIL ? wf_none(g) : offset, number == WF_NIL ? wf_none(g) : number);
}

static wf_ref new_info(struct dcp_graph_writer *w, const char *file, uint64_t offset, uint64_t length)
{
	struct wf_graph *g = w->d.g;
	const struct dcp_member members[] = {{WF_DCP_RELATIVE_PATH, wf_str(g, file)},
					     {WF_DCP_OFFSET, wf_int(g, (int64_t)offset)},
					     {WF_DCP_LENGTH, wf_int(g, (int64_t)length)}};
	return new_object(w, module_of(w, true), "_StorageInfo", new_state(w, members, WF_ARRAY_SIZE(members)));
}

/* ---- entries ---- */

static bool add_place(struct dcp_graph_writer *w, wf_ref name, const struct wf_dcp_place *place)
{
	struct wf_graph *g = w->d.g;
	cleanup_free wf_ref *items = calloc((size_t)place->count + 1, sizeof *items);
	if (w->places == WF_NIL)
		return true;
	for (uint32_t i = 0; items && i < place->count; i++) {
		const struct wf_dcp_way *way = &place->ways[i];
		items[i] = way->text ? wf_string(g, WF_STR, way->text, way->number) : wf_int(g, (int64_t)way->number);
		if (items[i] == WF_NIL)
			return false;
	}
	wf_ref path = items ? wf_tuple(g, items, place->count) : WF_NIL;
	return path != WF_NIL && wf_dict_append(g, w->places, name, path) == 0;
}

int dcp_graph_writer_keep(struct dcp_graph_writer *w, const char *old_name, size_t len,
			  const struct wf_dcp_place *place, const struct wf_dcp_news *news, uint32_t count,
			  struct wf_error *err)
{
	struct wf_graph *g = w->d.g;
	uint32_t n, at_news = 0, number = 0;
	const uint64_t *at = wf_key_map_get(&w->names, old_name, len);
	if (!at)
		return no_entry(old_name, len, err);
	const struct wf_item entry = wf_items(g, w->old_entries, &n)[*at];
	bool renamed = len != place->name_len || memcmp(old_name, place->name, len) != 0;
	wf_ref name = renamed ? wf_string(g, WF_STR, place->name, place->name_len) : entry.key;
	if (name == WF_NIL || wf_dict_append(g, w->entries, name, entry.value) < 0 || !add_place(w, name, place))
		return full(w, err);
	for (uint32_t i = w->first_slice[*at]; i > 0; i = w->next_slice[i - 1], number++) {
		const struct wf_item slice = wf_items(g, w->old_slices, &n)[i - 1];
		wf_ref key = renamed ? renamed_index(w, name, slice.key) : slice.key, info = slice.value;
		if (at_news < count && news[at_news].old == number) {
			info = new_info(w, news[at_news].file, news[at_news].offset, news[at_news].length);
			at_news++;
		}
		if (key == WF_NIL || info == WF_NIL || wf_dict_append(g, w->slices, key, info) < 0)
			return full(w, err);
	}
	return 0;
}

int dcp_graph_writer_add(struct dcp_graph_writer *w, const struct wf_dcp_place *place, const struct wf_dcp_content *c,
			 struct wf_error *err)
{
	static const int64_t zeroes[WF_MAX_NDIM];
	struct wf_graph *g = w->d.g;
	wf_ref name = wf_string(g, WF_STR, place->name, place->name_len), none = wf_none(g);
	wf_ref offset = c->tensor ? new_size(w, zeroes, c->ndim) : none,
	       size = c->tensor ? new_size(w, c->sizes, c->ndim) : none;
	if (name == WF_NIL || offset == WF_NIL || size == WF_NIL)
		return full(w, err);
	wf_ref entry = new_entry(w, c, offset, size),
	       index = new_index(w, name, offset, c->tensor ? wf_int(g, 0) : none),
	       info = new_info(w, c->file, c->offset, c->length);
	if (entry == WF_NIL || index == WF_NIL || info == WF_NIL || wf_dict_append(g, w->entries, name, entry) < 0 ||
	    wf_dict_append(g, w->slices, index, info) < 0 || !add_place(w, name, place))
		return full(w, err);
	return 0;
}

/* ---- the new file ---- */

static int put(struct dcp_graph_writer *w, enum wf_dcp_attribute which, wf_ref value)
{
	uint32_t n = 0;
	wf_ref state = wf_call_state(w->d.g, w->root);
	const struct wf_item *items = wf_items(w->d.g, state, &n);
	for (uint32_t i = 0; i < n; i++)
		if (items[i].key != WF_NIL && wf_str_equal(w->d.g, items[i].key, wf_dcp_attribute_name(which)))
			return wf_dict_set_at(w->d.g, state, i, items[i].key, value);
	return -EINVAL;
}

int dcp_graph_writer_write(struct dcp_graph_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			   struct wf_error *err)
{
	const struct wf_pickle_writer hooks = {.write = write, .ctx = ctx, .as_read = true};
	int r = put(w, WF_DCP_STATE_DICT_METADATA, w->entries);
	if (r == 0)
		r = put(w, WF_DCP_STORAGE_DATA, w->slices);
	if (r == 0 && w->places != WF_NIL)
		r = put(w, WF_DCP_PLANNER_DATA, w->places);
	if (r < 0)
		return wf_fail(err, r, "the metadata cannot be changed: %s", strerror(-r));
	return wf_pickle_write(w->d.g, w->root, &hooks, err);
}
