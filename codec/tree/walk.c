/* SPDX-License-Identifier: MIT */
/* The walk that makes the tree: depth first, in order, with a stack of its own. The numbers that it gives are part of
 * the overlay's format (a log names files by them): a change here needs a new version there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/tree/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- ties ---- */

static wf_ino find_hashed_tie(const struct wf_tree *t, const struct wf_tensor *a, uint32_t hash)
{
	struct wf_tensor b;
	struct wf_map_probe p = wf_map_probe(&t->ties, hash);
	wf_ino ino;
	while (wf_map_next(&p, &ino)) {
		const struct wf_node *n = wf_tree_node(t, ino);
		if (n && n->nlink > 0 && n->type == WF_NODE_TENSOR &&
		    wf_tensor_decode(t->graph, t->storages, n->object, &b, NULL) == 0 && wf_tensor_tied(a, &b))
			return ino;
	}
	return WF_NO_INO;
}

wf_ino wf_tree_find_tie(const struct wf_tree *t, const struct wf_tensor *a)
{
	return find_hashed_tie(t, a, (uint32_t)wf_tensor_tie_hash(t->graph, a));
}

/* The node that shows the same data as this tensor, entering it when there is none: then *ret stays WF_NO_INO. */
static int find_tie(struct wf_tree *t, wf_ref object, wf_ino entering, wf_ino *ret)
{
	struct wf_tensor a;
	*ret = WF_NO_INO;
	if (wf_tensor_decode(t->graph, t->storages, object, &a, NULL) < 0) {
		t->doubtful = true;
		return 0;
	}
	if (a.kind == WF_TENSOR_META)
		return 0;
	int r = wf_map_reserve(&t->ties, 1);
	if (r < 0)
		return r;
	uint32_t hash = (uint32_t)wf_tensor_tie_hash(t->graph, &a);
	*ret = find_hashed_tie(t, &a, hash);
	if (*ret == WF_NO_INO)
		wf_map_add(&t->ties, hash, entering);
	return 0;
}

/* ---- nodes for values ---- */

/* Whether the entry of a directory that stands for the same object is its data. */
static bool is_data_of_itself(const struct wf_tree *t, wf_ref value)
{
	const char *names[5];
	wf_ref objects[5];
	return wf_is_tensor(t->graph, value) ||
	       (wf_tensor_components(t->graph, value, names, objects) > 0 && objects[0] == value);
}

static bool is_companion(const struct wf_tree *t, wf_ref value)
{
	for (uint32_t i = 0; i < WF_COMPANIONS; i++)
		if (t->companions[i].object != WF_NIL && t->companions[i].object == value)
			return true;
	return false;
}

bool wf_tree_has_companions(const struct wf_tree *t)
{
	for (uint32_t i = 0; i < WF_COMPANIONS; i++)
		if (t->companions[i].object != WF_NIL)
			return true;
	return false;
}

static int make_dir(struct wf_tree *t, wf_ino parent, wf_ref value, enum wf_shape shape, wf_ref container, wf_ino *ret)
{
	int64_t sizes[WF_MAX_NDIM];
	uint32_t ndim;
	int r = wf_tree_new_node(t, WF_NODE_DIR, value, parent, ret);
	if (r == 0)
		r = wf_tree_new_dir(t,
				    shape == WF_SHAPE_MAPPING    ? WF_DIR_MAPPING
				    : shape == WF_SHAPE_SEQUENCE ? WF_DIR_SEQUENCE
								 : WF_DIR_FIXED,
				    value, container, *ret);
	if (r == 0 && wf_is(t->graph, value, WF_CALL) && wf_numpy_objects(t->graph, value, sizes, &ndim) != WF_NIL)
		wf_tree_mutable_dir(t, *ret)->read_only_names = true; /* there are as many elements as its shape says */
	if (r == 0)
		r = wf_tree_map_object(t, value, *ret);
	if (r == 0 && container != value && container != WF_NIL)
		r = wf_tree_map_object(t, container, *ret);
	return r;
}

static int make_link(struct wf_tree *t, wf_ino parent, wf_ref container, wf_ino dir, wf_ino *ret)
{
	t->nodes[dir - t->base - 1].linked = true;
	return wf_tree_new_node(t, WF_NODE_LINK, container, parent, ret);
}

/* The node of one value; a directory's entries are still to be made: *ret_open is then true. */
static int make_node(struct wf_tree *t, wf_ino parent, wf_ref value, wf_ino *ret, bool *ret_open)
{
	wf_ref container;
	wf_ino tie;
	*ret_open = false;
	const struct wf_dir *above = wf_tree_dir(t, parent);
	bool companion = (above && above->companion) || is_companion(t, value);
	/* int_repr of a tensor that is quantised per channel, or a tensor beside its attributes: the same object */
	if (above && above->kind == WF_DIR_FIXED && above->object == value && is_data_of_itself(t, value)) {
		t->doubtful = true;
		return wf_tree_new_node(t, WF_NODE_TENSOR, value, parent, ret);
	}
	wf_ino known = wf_tree_ino_of(t, value);
	if (known != WF_NO_INO && wf_tree_dir(t, known))
		return make_link(t, parent, value, known, ret);
	if (known != WF_NO_INO && wf_tree_node(t, known)->nlink > 0) {
		*ret = known;
		return 0;
	}
	if (wf_tree_is_known_plain(t, value))
		return wf_tree_new_node(t, WF_NODE_VALUE, value, parent, ret);
	enum wf_shape shape = wf_tree_shape(t, value, &container);
	if (is_companion(t, value) && shape == WF_SHAPE_VALUE)
		shape = WF_SHAPE_SEQUENCE; /* texts alone: a directory all the same */
	/* what another directory has already is linked to: a state that several objects share is never copied */
	known = container != value ? wf_tree_ino_of(t, container) : WF_NO_INO;
	if (known != WF_NO_INO && wf_tree_dir(t, known))
		return make_link(t, parent, container, known, ret);
	if (shape == WF_SHAPE_TENSOR) {
		int r = find_tie(t, value, t->base + t->node_count + 1, &tie);
		if (r == 0 && tie == WF_NO_INO)
			r = wf_tree_new_node(t, WF_NODE_TENSOR, value, parent, &tie);
		if (r == 0)
			r = wf_tree_map_object(t, value, tie);
		*ret = tie;
		return r;
	}
	if (shape == WF_SHAPE_VALUE && wf_tree_is_long(t->graph, value)) {
		int r = wf_tree_map_object(t, value, WF_INO_PLAIN);
		if (r < 0)
			return r;
	}
	if (shape == WF_SHAPE_VALUE || shape == WF_SHAPE_OPAQUE)
		return wf_tree_new_node(t, shape == WF_SHAPE_VALUE ? WF_NODE_VALUE : WF_NODE_OPAQUE, value, parent,
					ret);
	int r = make_dir(t, parent, value, shape, container, ret);
	if (r == 0 && companion) {
		struct wf_dir *d = wf_tree_mutable_dir(t, *ret);
		d->companion = d->read_only_names = true;
	}
	*ret_open = r == 0;
	return r;
}

/* ---- entries of a directory: first all positions with their values, nodes afterwards ---- */

struct fixed {
	struct wf_tree *t;
	wf_ino dir;
};

static int push_state(void *ctx, const char *key, size_t key_len, wf_ref value)
{
	struct fixed *f = ctx;
	wf_ref name = wf_string(f->t->graph, WF_STR, key, key_len);
	return name == WF_NIL ? -ENOMEM : wf_tree_push(f->t, f->dir, name, value, WF_NO_INO);
}

/* The entries of a state_dict; of a module that would give too many, its parts. */
static int push_module(struct wf_tree *t, wf_ino dir, wf_ref object)
{
	struct fixed f = {t, dir};
	int r = wf_module_state_dict(&t->state_dicts, object, push_state, &f);
	if (r != -E2BIG)
		return r;
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	d->count = d->live = 0;
	return wf_tree_push_parts(t, dir, object);
}

/* Behind all that is the root's own, which keeps its names and numbers. What the mobile interpreter has for itself stands in the unabridged
 * tree alone. */
static int push_companions(struct fixed *f)
{
	int r = 0;
	for (uint32_t i = 0; i < (f->t->unabridged ? WF_COMPANIONS : 1) && r == 0; i++) {
		const struct wf_tree_companion *c = &f->t->companions[i];
		if (c->object != WF_NIL)
			r = push_state(f, c->name, strlen(c->name), c->object);
	}
	return r;
}

static int push_fixed(struct wf_tree *t, wf_ino dir, wf_ref object)
{
	const char *names[5];
	wf_ref objects[5];
	struct fixed f = {t, dir};
	uint32_t n = wf_tensor_components(t->graph, object, names, objects);
	int r = 0;
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = push_state(&f, names[i], strlen(names[i]), objects[i]);
	if (object == WF_NIL) /* the root of what is no container */
		r = push_state(&f, "value", strlen("value"), t->root);
	else if (n == 0 && !t->unabridged && wf_is_module(t->graph, t->container, object))
		r = push_module(t, dir, object);
	else if (n == 0)
		r = wf_tree_push_parts(t, dir, object);
	if (r == 0 && dir == t->base + WF_INO_ROOT)
		r = push_companions(&f);
	return r < 0 ? r : wf_tree_name_entries(t, wf_tree_mutable_dir(t, dir));
}

static int push_mapping(struct wf_tree *t, wf_ino dir)
{
	uint32_t n;
	wf_ref container = wf_tree_dir(t, dir)->container;
	const struct wf_item *items = wf_items(t->graph, container, &n);
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	int r = wf_array_reserve(&d->entries, &d->capacity, n, sizeof *d->entries, UINT32_MAX);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = wf_tree_push(t, dir, items[i].key, items[i].value, WF_NO_INO);
	}
	if (r < 0)
		return r;
	return wf_tree_name_entries(t, d);
}

static int push_sequence(struct wf_tree *t, wf_ino dir)
{
	uint32_t n;
	const wf_ref *e = wf_elements(t->graph, wf_tree_dir(t, dir)->container, &n);
	int r = 0;
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = wf_tree_push(t, dir, WF_NIL, e[i], WF_NO_INO);
	return r;
}

static int push_entries(struct wf_tree *t, wf_ino dir)
{
	const struct wf_dir *d = wf_tree_dir(t, dir);
	return d->kind == WF_DIR_MAPPING    ? push_mapping(t, dir)
	       : d->kind == WF_DIR_SEQUENCE ? push_sequence(t, dir)
					    : push_fixed(t, dir, d->object);
}

/* ---- the walk ---- */

struct walk_frame {
	wf_ino dir;
	uint32_t position;
};

/* Makes the nodes of all entries below dir. */
static int walk(struct wf_tree *t, wf_ino dir)
{
	struct walk_frame *stack = NULL;
	uint32_t capacity = 0, depth = 0;
	bool open;
	int r = push_entries(t, dir);
	if (r == 0)
		r = wf_array_reserve(&stack, &capacity, 1, sizeof *stack, UINT32_MAX);
	if (r == 0)
		stack[depth++] = (struct walk_frame){dir, 0};
	while (r == 0 && depth > 0) {
		struct walk_frame *f = &stack[depth - 1];
		const struct wf_dir *d = wf_tree_dir(t, f->dir);
		if (f->position == d->count) {
			depth--;
			continue;
		}
		uint32_t position = f->position++;
		wf_ino ino, parent = f->dir;
		r = make_node(t, parent, d->entries[position].value, &ino, &open);
		if (r < 0)
			break;
		wf_tree_mutable_dir(t, parent)->entries[position].ino = ino;
		t->nodes[ino - t->base - 1].nlink++;
		if (!open)
			continue;
		r = push_entries(t, ino);
		if (r == 0)
			r = wf_array_reserve(&stack, &capacity, (uint64_t)depth + 1, sizeof *stack, UINT32_MAX);
		if (r == 0)
			stack[depth++] = (struct walk_frame){ino, 0};
	}
	free(stack);
	return r;
}

int wf_tree_grow(struct wf_tree *t, wf_ino parent, wf_ref value, wf_ino *ret)
{
	bool open;
	int r = make_node(t, parent, value, ret, &open);
	return r == 0 && open ? walk(t, *ret) : r;
}

int wf_tree_expand(struct wf_tree *t, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(t, ino);
	if (!n || n->type != WF_NODE_VALUE ||
	    !(wf_is(t->graph, n->object, WF_LIST) || wf_is(t->graph, n->object, WF_TUPLE)))
		return -ENOTDIR;
	wf_ref object = n->object;
	int r = wf_tree_new_dir(t, WF_DIR_SEQUENCE, object, object, ino);
	if (r == 0)
		r = wf_tree_map_object(t, object, ino);
	if (r < 0)
		return r;
	t->nodes[ino - t->base - 1].type = WF_NODE_DIR;
	return walk(t, ino);
}

/* Numbers up to `after` are nobody's. */
static int skip_numbers(struct wf_tree *t, uint32_t after)
{
	if (after <= t->node_count)
		return 0;
	int r = wf_array_reserve(&t->nodes, &t->node_capacity, after, sizeof *t->nodes, UINT32_MAX);
	for (; r == 0 && t->node_count < after; t->node_count++)
		t->nodes[t->node_count] = (struct wf_node){.type = WF_NODE_GONE};
	return r;
}

struct wf_tree *wf_tree_blank(struct wf_graph *g, struct wf_storages *ss, struct wf_container *c, wf_ref root)
{
	struct wf_tree *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->graph = g;
	t->storages = ss;
	t->container = c;
	t->root = root;
	t->looks = (16u << 20) + wf_graph_bytes(g) / 4;
	wf_state_dicts_init(&t->state_dicts, g, c);
	pthread_mutex_init(&t->index_lock, NULL);
	return t;
}

/* Whether the root's directory is that of the root object; else it has the single entry `value`. */
static bool is_whole(const struct wf_tree *t, enum wf_shape shape, bool beside)
{
	return shape == WF_SHAPE_OBJECT || shape == WF_SHAPE_MAPPING || (shape == WF_SHAPE_SEQUENCE && !beside) ||
	       shape == WF_SHAPE_MODULE || shape == WF_SHAPE_COMPONENTS;
}

int wf_tree_make_nodes(struct wf_tree *t, uint32_t after)
{
	wf_ref container, root = t->root;
	wf_ino ino;
	enum wf_shape shape = wf_tree_shape(t, root, &container);
	/* the unabridged tree has room for companions whatever the root is */
	bool beside = t->unabridged && wf_tree_has_companions(t), open = true;
	int r;
	if (is_whole(t, shape, beside)) {
		r = make_node(t, t->base + WF_INO_ROOT, root, &ino, &open);
		if (r == 0 && beside)
			wf_tree_mutable_dir(t, ino)->kind = WF_DIR_FIXED;
	} else {
		r = wf_tree_new_node(t, WF_NODE_DIR, WF_NIL, t->base + WF_INO_ROOT, &ino);
		if (r == 0)
			r = wf_tree_new_dir(t, WF_DIR_FIXED, WF_NIL, WF_NIL, ino);
	}
	if (r == 0)
		r = skip_numbers(t, after);
	if (r == 0 && open)
		r = walk(t, ino);
	wf_state_dicts_free(&t->state_dicts);
	if (r == 0)
		t->nodes[WF_INO_ROOT - 1].nlink = 1;
	return r == 0 ? wf_graph_failed(t->graph) : r;
}

static void find_companions(struct wf_tree *t, const struct wf_container *c)
{
	const struct wf_companion *companion;
	for (uint32_t i = 0, n; (companion = wf_container_companion(c, i)) && i < WF_COMPANIONS; i++) {
		wf_elements(t->graph, companion->object, &n);
		bool sequence =
			wf_is(t->graph, companion->object, WF_TUPLE) || wf_is(t->graph, companion->object, WF_LIST);
		t->companions[i] =
			(struct wf_tree_companion){companion->name, sequence && n > 0 ? companion->object : WF_NIL};
	}
}

int wf_tree_new(struct wf_graph *g, struct wf_storages *ss, struct wf_container *c, wf_ref root, uint32_t after,
		struct wf_tree **ret, struct wf_error *err)
{
	struct wf_tree *t = wf_tree_blank(g, ss, c, root);
	if (t && c)
		find_companions(t, c);
	/* as a rule there is a tensor for each storage */
	uint32_t tensors = ss ? wf_storages_count(ss) : 0;
	int r = t ? wf_map_reserve(&t->by_object, tensors + 1) : -ENOMEM;
	if (r == 0)
		r = wf_map_reserve(&t->ties, tensors + 1);
	if (r == 0)
		r = wf_tree_make_nodes(t, after);
	if (r < 0) {
		wf_tree_free(t);
		return wf_fail(err, r, "the tree of names: %s", strerror(-r));
	}
	*ret = t;
	return 0;
}
