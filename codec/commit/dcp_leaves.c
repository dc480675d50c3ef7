/* SPDX-License-Identifier: MIT */
/* Flattens a tree as torch.distributed.checkpoint does: mappings are walked through, lists where a tensor or a mapping stands in them,
 * everything else is an entry of its own. What was read as one value, a mapping too, stays one. */
#include "codec/commit/dcp_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"

#define MAX_DEPTH 1000u
#define MAX_PLACES (1u << 24)

/* A container under way. */
struct dcp_level {
	wf_ref container; /* the DICT or LIST */
	uint32_t next;
	size_t name_len; /* of its name in the path */
	uint32_t ways;
};

struct dcp_walk {
	struct wf_dcp_plan *p;
	struct dcp_level *levels;
	uint32_t depth, room;
	struct wf_buffer path; /* names joined with dots, of the object at hand */
	struct dcp_way *ways;  /* the way to it; texts in `path` */
	uint32_t way_count, way_room;
	uint32_t places;
	struct wf_key_map names; /* of leaves */
	struct dcp_tensors *tensors;
};

static int no_memory(const struct dcp_walk *w)
{
	return wf_fail(w->p->err, -ENOMEM, "out of memory");
}

/* Whether a list has a tensor or a mapping in it, or a list that has, to a depth that real ones stay below. */
static bool is_walked(const struct wf_graph *g, wf_ref list, unsigned int depth)
{
	uint32_t n = 0;
	const wf_ref *items = wf_elements(g, list, &n);
	for (uint32_t i = 0; i < n; i++)
		if (wf_is_tensor(g, items[i]) || wf_dcp_mapping(g, items[i]) != WF_NIL ||
		    (wf_is(g, items[i], WF_LIST) && depth < 16 && is_walked(g, items[i], depth + 1)))
			return true;
	return false;
}

/* ---- values ---- */

/* The storages that a value names. */
struct namer {
	struct wf_dcp_plan *p;
	struct dcp_leaf *leaf;
	bool clean;
	wf_ref *persids; /* as they were met */
	uint32_t count, room;
	struct wf_map ids; /* what is written in place of the id of each */
	int failed;
};

static wf_ref look_at_storage(void *ctx, wf_ref persid, wf_ref id)
{
	struct namer *n = ctx;
	uint32_t i = wf_storage_of(n->p->in.storages, persid);
	if (i == WF_NO_STORAGE)
		return id;
	n->p->live[i] = true;
	n->clean &= dcp_is_clean(n->p, i);
	if (wf_array_reserve(&n->persids, &n->room, (uint64_t)n->count + 1, sizeof *n->persids, UINT32_MAX - 1) < 0)
		n->failed = -ENOMEM;
	else
		n->persids[n->count++] = persid;
	return id;
}

static wf_ref numbered_id(void *ctx, wf_ref persid, wf_ref id)
{
	struct namer *n = ctx;
	uint32_t to;
	return wf_map_get(&n->ids, persid, &to) ? (wf_ref)to : id;
}

/* ('storage', class, key, location, numel) with a key that counts the storages of this value. */
static int number_storage(struct namer *n, wf_ref persid)
{
	struct wf_dcp_plan *p = n->p;
	uint32_t i = wf_storage_of(p->in.storages, persid), k = 0, len = 0;
	char key[12];
	wf_ref items[5];
	const wf_ref *old = wf_elements(p->in.graph, wf_persid_id(p->in.graph, persid), &len);
	if (len < WF_ARRAY_SIZE(items))
		return 0;
	while (k < n->leaf->storage_count && p->storages[n->leaf->storages + k] != i)
		k++;
	if (k == n->leaf->storage_count) {
		if (dcp_add_storage(p, i) < 0)
			return -ENOMEM;
		n->leaf->storage_count++;
	}
	snprintf(key, sizeof key, "%" PRIu32, k);
	memcpy(items, old, sizeof items);
	items[2] = wf_str(p->in.graph, key);
	wf_ref tuple = items[2] == WF_NIL ? WF_NIL : wf_tuple(p->in.graph, items, WF_ARRAY_SIZE(items));
	return tuple == WF_NIL ? -ENOMEM : wf_map_set(&n->ids, persid, tuple);
}

static int write_value(struct namer *n)
{
	struct wf_dcp_plan *p = n->p;
	int r = n->failed;
	n->leaf->storages = p->storage_count;
	for (uint32_t i = 0; i < n->count && r == 0; i++)
		r = number_storage(n, n->persids[i]);
	if (r < 0)
		return wf_fail(p->err, r, "out of memory");
	r = wf_pickle_write_buffer(p->in.graph, n->leaf->object, numbered_id, n, &n->leaf->pickle, p->err);
	if (r < 0)
		wf_error_where(p->err, p->names.data + n->leaf->name);
	return r < 0 ? r : dcp_add_slice(p, n->leaf);
}

/* A value that stays: where its tensors stand is looked up again when the new metadata were read. */
static int keep_storages(struct namer *n)
{
	struct wf_dcp_plan *p = n->p;
	int r = n->failed;
	n->leaf->storages = p->storage_count;
	for (uint32_t i = 0; i < n->count && r == 0; i++)
		r = dcp_add_storage(p, wf_storage_of(p->in.storages, n->persids[i]));
	n->leaf->storage_count = p->storage_count - n->leaf->storages;
	return r < 0 ? wf_fail(p->err, r, "out of memory") : 0;
}

static int take_value(struct wf_dcp_plan *p, struct dcp_leaf *leaf)
{
	const struct wf_container *c = p->in.container;
	struct namer n = {.p = p, .leaf = leaf, .clean = true};
	struct wf_buffer ignored = WF_BUFFER_INIT;
	uint32_t entry = wf_dcp_entry_of(c, leaf->object);
	wf_pickle_write_buffer(p->in.graph, leaf->object, look_at_storage, &n, &ignored, NULL);
	wf_buffer_free(&ignored);
	leaf->sum = wf_dcp_value_sum(p->in.graph, leaf->object);
	bool stays = entry != UINT32_MAX && n.clean && wf_dcp_entry_sum(c, entry) == leaf->sum;
	if (stays)
		leaf->entry = entry;
	int r = stays ? keep_storages(&n) : write_value(&n);
	free(n.persids);
	wf_map_free(&n.ids);
	return r;
}

/* ---- the walk ---- */

static int add_leaf(struct dcp_walk *w, wf_ref object)
{
	struct wf_dcp_plan *p = w->p;
	struct dcp_leaf leaf = {.object = object,
				.entry = UINT32_MAX,
				.name = p->names.len,
				.name_len = w->path.len,
				.ways = p->way_count,
				.way_count = w->way_count};
	if (wf_key_map_get(&w->names, w->path.data, w->path.len))
		return wf_fail(p->err, -EOPNOTSUPP,
			       "two entries would have the name %.100s, which such a directory cannot hold",
			       w->path.data);
	if (wf_key_map_put(&w->names, w->path.data, w->path.len, 1) < 0 ||
	    wf_array_reserve(&p->leaves, &p->room, (uint64_t)p->count + 1, sizeof *p->leaves, MAX_PLACES) < 0 ||
	    wf_array_reserve(&p->ways, &p->way_room, (uint64_t)p->way_count + w->way_count, sizeof *p->ways,
			     UINT32_MAX - 1) < 0)
		return no_memory(w);
	for (uint32_t i = 0; i < w->way_count; i++) {
		struct dcp_way way = w->ways[i];
		way.text += way.position ? 0 : leaf.name;
		p->ways[p->way_count++] = way;
	}
	wf_buffer_append(&p->names, w->path.data, w->path.len);
	wf_buffer_putc(&p->names, '\0');
	if (wf_buffer_status(&p->names) < 0)
		return no_memory(w);
	bool tensor = false;
	int r = wf_is_tensor(p->in.graph, object) ? dcp_take_tensor(p, w->tensors, &leaf, &tensor) : 0;
	if (r == 0 && !tensor)
		r = take_value(p, &leaf);
	if (r < 0) {
		wf_buffer_free(&leaf.pickle);
		return r;
	}
	p->leaves[p->count++] = leaf;
	return 0;
}

static int go_in(struct dcp_walk *w, wf_ref container)
{
	if (w->depth >= MAX_DEPTH)
		return wf_fail(w->p->err, -EOPNOTSUPP, "%.100s is nested too deep for such a directory",
			       w->path.data ? w->path.data : "it");
	if (wf_array_reserve(&w->levels, &w->room, (uint64_t)w->depth + 1, sizeof *w->levels, MAX_DEPTH) < 0)
		return no_memory(w);
	w->levels[w->depth++] =
		(struct dcp_level){.container = container, .name_len = w->path.len, .ways = w->way_count};
	return 0;
}

/* A mapping's keys have to be what they are when their texts are read again. */
static int check_keys(struct dcp_walk *w, wf_ref dict, wf_ref own_key)
{
	const char *why = wf_dcp_refuses_keys(w->p->in.graph, dict, own_key);
	return why ? wf_fail(w->p->err, -EOPNOTSUPP, "%.100s: %s", w->path.len > 0 ? w->path.data : "the root", why)
		   : 0;
}

/* key: of the object in its mapping; WF_NIL in a list. */
static int take(struct dcp_walk *w, wf_ref key, wf_ref object)
{
	const struct wf_graph *g = w->p->in.graph;
	wf_ref dict = wf_dcp_mapping(g, object);
	if (++w->places > MAX_PLACES)
		return wf_fail(w->p->err, -E2BIG, "more than %u places", MAX_PLACES);
	if (wf_dcp_is_value(w->p->in.container, object) || !wf_dcp_writer_is_nested(w->p->writer))
		return add_leaf(w, object);
	if (dict != WF_NIL && !wf_dcp_is_empty_mapping(g, dict)) {
		int r = check_keys(w, dict, key);
		return r < 0 ? r : go_in(w, dict);
	}
	if (wf_is(g, object, WF_LIST) && is_walked(g, object, 0))
		return go_in(w, object);
	return add_leaf(w, object);
}

/* Appends the key or position to path and way. */
static int step_to(struct dcp_walk *w, struct dcp_level *l, wf_ref key, uint32_t position)
{
	const struct wf_graph *g = w->p->in.graph;
	struct dcp_way way = {.text = position, .position = key == WF_NIL};
	size_t len = 0;
	int64_t number;
	const char *text = key != WF_NIL && wf_is(g, key, WF_STR) ? wf_bytes(g, key, &len) : NULL;
	w->path.len = l->name_len;
	w->way_count = l->ways;
	if (l->ways > 0)
		wf_buffer_putc(&w->path, '.');
	size_t start = w->path.len;
	if (text)
		wf_buffer_append(&w->path, text, len);
	else if (key == WF_NIL)
		wf_buffer_put_int(&w->path, position);
	else if (wf_int_value(g, key, &number)) /* check_keys has seen to it */
		wf_buffer_put_int(&w->path, number);
	if (!way.position) {
		way.text = start;
		way.len = (uint32_t)(w->path.len - start);
	}
	if (wf_buffer_status(&w->path) < 0 ||
	    wf_array_reserve(&w->ways, &w->way_room, (uint64_t)w->way_count + 1, sizeof *w->ways, MAX_DEPTH + 1) < 0)
		return no_memory(w);
	w->ways[w->way_count++] = way;
	return 0;
}

static int walk_on(struct dcp_walk *w)
{
	const struct wf_graph *g = w->p->in.graph;
	while (w->depth > 0) {
		struct dcp_level *l = &w->levels[w->depth - 1];
		bool list = wf_is(g, l->container, WF_LIST);
		uint32_t n = 0, i = l->next++;
		const struct wf_item *items = list ? NULL : wf_items(g, l->container, &n);
		const wf_ref *elements = list ? wf_elements(g, l->container, &n) : NULL;
		if (i >= n) {
			w->depth--;
			continue;
		}
		if (!list && items[i].key == WF_NIL)
			continue;
		wf_ref object = list ? elements[i] : items[i].value;
		int r = step_to(w, l, list ? WF_NIL : items[i].key, i);
		if (r == 0)
			r = take(w, list ? WF_NIL : items[i].key, object);
		if (r < 0)
			return r;
	}
	return 0;
}

int dcp_find_leaves(struct wf_dcp_plan *p)
{
	struct dcp_tensors tensors = {0};
	struct dcp_walk w = {.p = p, .tensors = &tensors};
	wf_ref root = wf_dcp_mapping(p->in.graph, p->in.root);
	wf_buffer_puts(&w.path, "");
	int r = root == WF_NIL ? wf_fail(p->err, -EOPNOTSUPP, "such a directory holds a mapping")
			       : check_keys(&w, root, WF_NIL);
	if (r == 0)
		r = go_in(&w, root);
	if (r == 0)
		r = walk_on(&w);
	free(w.levels);
	free(w.ways);
	wf_buffer_free(&w.path);
	wf_key_map_free(&w.names);
	dcp_tensors_free(&tensors);
	return r;
}
