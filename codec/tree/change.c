/* SPDX-License-Identifier: MIT */
/* Changes of the tree: graph, entries, index, ties and link counts in step. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tree/inner.h"
#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

static struct wf_entry *entry(struct wf_tree *t, wf_ino dir, uint32_t position, struct wf_dir **ret)
{
	*ret = wf_tree_mutable_dir(t, dir);
	if (!*ret || position >= (*ret)->count || (*ret)->entries[position].ino == WF_NO_INO)
		return NULL;
	return &(*ret)->entries[position];
}

/* An OrderedDict without items has no DICT yet. */
static int need_container(struct wf_tree *t, struct wf_dir *d)
{
	if (d->kind == WF_DIR_MAPPING && d->container == WF_NIL)
		d->container = wf_dict_target(t->graph, d->object);
	return d->kind == WF_DIR_MAPPING && d->container == WF_NIL ? -ENOMEM : 0;
}

int wf_tree_set_key(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref new_key)
{
	t->changes++;
	struct wf_dir *d;
	struct wf_entry *e = entry(t, dir, position, &d);
	if (!e)
		return -ENOENT;
	if (d->read_only_names || d->kind != WF_DIR_MAPPING)
		return -EPERM;
	int r = wf_dict_set_at(t->graph, d->container, position, new_key, e->value);
	if (r < 0)
		return r;
	e->key = new_key;
	r = wf_tree_name_entry(t, d, position);
	return r < 0 ? r : wf_tree_index_add(t, d, position);
}

int wf_tree_exchange(struct wf_tree *t, wf_ino dir, uint32_t a, uint32_t b)
{
	t->changes++;
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d || a >= d->count || b >= d->count)
		return -ENOENT;
	if (d->read_only_names || d->kind != WF_DIR_MAPPING)
		return -EPERM;
	struct wf_entry x = d->entries[a], y = d->entries[b];
	int r = wf_dict_set_at(t->graph, d->container, a, y.key, y.value);
	if (r == 0)
		r = wf_dict_set_at(t->graph, d->container, b, x.key, x.value);
	if (r < 0)
		return r;
	d->entries[a] = y;
	d->entries[b] = x;
	wf_tree_index_drop(d);
	return 0;
}

int wf_tree_fill(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value, wf_ino ino, wf_ino *ret)
{
	t->changes++;
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d || position >= d->count || d->entries[position].ino != WF_NO_INO)
		return -ENOENT;
	if (d->read_only_names || d->kind != WF_DIR_SEQUENCE || !wf_is(t->graph, d->container, WF_LIST))
		return -EPERM;
	int r = ino == WF_NO_INO ? wf_tree_grow(t, dir, value, &ino) : 0;
	if (r == 0)
		r = wf_list_set(t->graph, d->container, position, value);
	if (r < 0)
		return r;
	d = wf_tree_mutable_dir(t, dir); /* growing may have moved the table */
	d->entries[position] = (struct wf_entry){WF_NIL, value, ino};
	d->live++;
	t->nodes[ino - 1].nlink++;
	t->nodes[ino - 1].parent = dir;
	wf_tree_index_drop(d);
	if (ret)
		*ret = ino;
	return 0;
}

/* The positions of a sequence are its names: a value goes to the one given, or behind the last. */
static int add_to_sequence(struct wf_tree *t, wf_ino dir, wf_ref value, wf_ino ino)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!wf_is(t->graph, d->container, WF_LIST))
		return -EPERM;
	int r = wf_tree_push(t, dir, WF_NIL, value, ino);
	if (r == 0)
		r = wf_list_append(t->graph, d->container, value);
	return r;
}

int wf_tree_add(struct wf_tree *t, wf_ino dir, wf_ref key, wf_ref value, wf_ino ino, wf_ino *ret)
{
	t->changes++;
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d)
		return -ENOTDIR;
	if (d->read_only_names)
		return -EPERM;
	int r = need_container(t, d);
	if (r == 0 && ino == WF_NO_INO)
		r = wf_tree_grow(t, dir, value, &ino);
	if (r < 0)
		return r;
	d = wf_tree_mutable_dir(t, dir); /* growing may have moved the table */
	if (d->kind == WF_DIR_SEQUENCE) {
		r = add_to_sequence(t, dir, value, ino);
	} else {
		r = wf_dict_append(t->graph, d->container, key, value);
		if (r == 0)
			r = wf_tree_push(t, dir, key, value, ino);
	}
	if (r < 0)
		return r;
	struct wf_node *n = &t->nodes[ino - 1];
	if (n->nlink++ == 0 || n->type == WF_NODE_DIR)
		n->parent = dir;
	if (ret)
		*ret = ino;
	d = wf_tree_mutable_dir(t, dir);
	r = wf_tree_name_entry(t, d, d->count - 1);
	return r < 0 ? r : wf_tree_index_add(t, d, d->count - 1);
}

void wf_tree_swap_places(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ino link_dir, uint32_t link_position)
{
	t->changes++;
	struct wf_entry *a = &wf_tree_mutable_dir(t, dir)->entries[position];
	struct wf_entry *b = &wf_tree_mutable_dir(t, link_dir)->entries[link_position];
	wf_ino ino = a->ino;
	a->ino = b->ino;
	b->ino = ino;
	t->nodes[a->ino - 1].parent = dir;
	t->nodes[b->ino - 1].parent = link_dir;
}

int wf_tree_new_link(struct wf_tree *t, wf_ino parent, wf_ref target, wf_ino *ret)
{
	return wf_tree_new_node(t, WF_NODE_LINK, target, parent, ret);
}

int wf_tree_add_detached(struct wf_tree *t, wf_ino parent, wf_ref container, wf_ino *ret)
{
	int r = wf_tree_grow(t, parent, container, ret);
	if (r == 0) {
		t->nodes[*ret - 1].nlink = 1;
		t->nodes[*ret - 1].detached = true;
	}
	return r;
}

int wf_tree_add_metadata(struct wf_tree *t, wf_ref mapping)
{
	return wf_tree_add_detached(t, WF_INO_ROOT, mapping, &t->metadata);
}

wf_ino wf_tree_metadata(const struct wf_tree *t)
{
	return t->metadata;
}

void wf_tree_set_parent(struct wf_tree *t, wf_ino ino, wf_ino parent)
{
	if (wf_tree_node(t, ino))
		t->nodes[ino - 1].parent = parent;
}

bool wf_tree_has_links(const struct wf_tree *t)
{
	return t->links > 0;
}

uint32_t wf_tree_dir_count(const struct wf_tree *t)
{
	return t->dir_count;
}

const struct wf_dir *wf_tree_dir_at(const struct wf_tree *t, uint32_t i)
{
	return i < t->dir_count ? &t->dirs[i] : NULL;
}

wf_ref wf_tree_root(const struct wf_tree *t)
{
	return t->root;
}

/* The root directory of a checkpoint that is one value. */
static bool is_value_root(const struct wf_dir *d)
{
	return d->ino == WF_INO_ROOT && d->kind == WF_DIR_FIXED && d->object == WF_NIL;
}

/* Whether the containers from this directory up to the first that can change are such that put_value can do it. */
static bool can_put(const struct wf_tree *t, wf_ino dir)
{
	for (;; dir = t->nodes[dir - 1].parent) {
		const struct wf_dir *d = wf_tree_dir(t, dir);
		if (d->kind == WF_DIR_MAPPING || is_value_root(d))
			return true;
		if (d->kind == WF_DIR_SEQUENCE && wf_is(t->graph, d->container, WF_LIST))
			return true;
		if (d->kind == WF_DIR_FIXED || d->container != d->object || !wf_is(t->graph, d->container, WF_TUPLE))
			return false;
		if (dir == WF_INO_ROOT)
			return true;
	}
}

/* Values that are to be put at positions. */
struct puts {
	struct put {
		wf_ino dir;
		uint32_t position;
		wf_ref value;
	} * all;
	uint32_t count, capacity;
};

static int push_put(struct puts *p, wf_ino dir, uint32_t position, wf_ref value)
{
	int r = wf_array_reserve(&p->all, &p->capacity, (uint64_t)p->count + 1, sizeof *p->all, UINT32_MAX);
	if (r < 0)
		return r;
	p->all[p->count++] = (struct put){dir, position, value};
	return 0;
}

/* Wherever a container stood, another object is to stand: in its own place and, where there are links, in theirs. The last
 * entries are looked at first: a directory that was just made is one of them. */
static int push_everywhere(struct wf_tree *t, struct puts *p, wf_ino ino, wf_ref old, wf_ref object)
{
	wf_ino parent = t->nodes[ino - 1].parent;
	for (uint32_t i = 0; i < (t->links ? t->dir_count : 1); i++) {
		wf_ino dir = t->links ? t->dirs[i].ino : parent;
		const struct wf_dir *d = wf_tree_dir(t, dir);
		for (uint32_t k = d ? d->count : 0; k-- > 0;) {
			const struct wf_entry *e = &d->entries[k];
			if (e->ino == WF_NO_INO || e->value != old || (e->ino != ino && !can_put(t, dir)))
				continue;
			t->nodes[e->ino - 1].object = object;
			int r = push_put(p, dir, k, object);
			if (r < 0 || t->links == 0)
				return r;
		}
	}
	return 0;
}

/* A tuple cannot change: a new one takes its place wherever it stood. */
static int replace_tuple(struct wf_tree *t, struct puts *p, struct wf_dir *d, uint32_t position, wf_ref value)
{
	uint32_t n;
	wf_ino ino = d->ino;
	wf_ref old = d->container;
	wf_elements(t->graph, old, &n);
	cleanup_free wf_ref *copy = reallocarray(NULL, n ? n : 1, sizeof *copy);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, wf_elements(t->graph, old, &n), n * sizeof *copy);
	copy[position] = value;
	wf_ref tuple = wf_tuple(t->graph, copy, n);
	if (tuple == WF_NIL)
		return -ENOMEM;
	d->container = d->object = tuple;
	t->nodes[ino - 1].object = tuple;
	int r = wf_tree_map_object(t, tuple, ino);
	if (ino == WF_INO_ROOT)
		t->root = tuple;
	if (r < 0 || (ino == WF_INO_ROOT && t->links == 0))
		return r;
	return push_everywhere(t, p, ino, old, tuple);
}

static int put_one(struct wf_tree *t, struct puts *p, const struct put *what)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, what->dir);
	struct wf_entry *e = &d->entries[what->position];
	bool list = d->kind == WF_DIR_SEQUENCE && wf_is(t->graph, d->container, WF_LIST);
	int r = 0;
	if (d->kind == WF_DIR_MAPPING)
		r = wf_dict_set_at(t->graph, d->container, what->position, e->key, what->value);
	else if (list)
		r = wf_list_set(t->graph, d->container, what->position, what->value);
	if (r < 0)
		return r;
	e->value = what->value;
	if (is_value_root(d))
		t->root = what->value;
	return is_value_root(d) || list || d->kind == WF_DIR_MAPPING
		       ? 0
		       : replace_tuple(t, p, d, what->position, what->value);
}

static int put_all(struct wf_tree *t, struct puts *p)
{
	int r = 0;
	while (r == 0 && p->count > 0) {
		struct put next = p->all[--p->count];
		r = put_one(t, p, &next);
	}
	free(p->all);
	return r;
}

static int put_value(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value)
{
	struct puts p = {0};
	if (!can_put(t, dir))
		return -EPERM;
	int r = push_put(&p, dir, position, value);
	return r < 0 ? r : put_all(t, &p);
}

int wf_tree_replace(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value, wf_ino ino)
{
	t->changes++;
	struct wf_dir *d;
	const struct wf_entry *there = entry(t, dir, position, &d);
	if (!there)
		return -ENOENT;
	if (d->read_only_names || (d->kind != WF_DIR_MAPPING && d->kind != WF_DIR_SEQUENCE))
		return -EPERM;
	int r = put_value(t, dir, position, value);
	if (r < 0)
		return r;
	struct wf_entry *e = entry(t, dir, position, &d);
	t->nodes[e->ino - 1].nlink--;
	t->nodes[ino - 1].nlink++;
	t->nodes[ino - 1].parent = dir;
	e->ino = ino;
	return 0;
}

int wf_tree_set_value(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value)
{
	t->changes++;
	struct wf_dir *d;
	struct wf_entry *e = entry(t, dir, position, &d);
	if (!e)
		return -ENOENT;
	wf_ino ino = e->ino;
	int r = put_value(t, dir, position, value);
	if (r < 0)
		return r;
	struct wf_node *n = &t->nodes[ino - 1];
	n->object = value;
	if (n->type == WF_NODE_TENSOR || n->type == WF_NODE_VALUE)
		n->type = wf_is_tensor(t->graph, value) ? WF_NODE_TENSOR : WF_NODE_VALUE;
	return n->type == WF_NODE_TENSOR ? wf_tree_map_object(t, value, ino) : 0;
}

int wf_tree_recast(struct wf_tree *t, wf_ino ino, enum wf_dir_kind kind, wf_ref object, wf_ref container,
		   const struct wf_entry *entries, uint32_t count)
{
	t->changes++;
	struct wf_dir *d = wf_tree_mutable_dir(t, ino);
	if (!d || count != d->live)
		return -EINVAL;
	struct puts p = {0};
	int r = wf_tree_map_object(t, object, ino);
	if (r == 0)
		r = push_everywhere(t, &p, ino, d->object, object);
	if (r == 0)
		r = put_all(t, &p);
	else
		free(p.all);
	if (r < 0)
		return r;
	t->nodes[ino - 1].object = object;
	if (ino == WF_INO_ROOT)
		t->root = object;
	d = wf_tree_mutable_dir(t, ino);
	d->kind = (uint8_t)kind;
	d->object = object;
	d->container = container;
	if (count)
		memcpy(d->entries, entries, count * sizeof *entries);
	d->count = count;
	wf_tree_index_drop(d);
	d->read_only_names |= kind == WF_DIR_FIXED;
	/* of a tensor that is quantised per channel the data are the tensor itself */
	for (uint32_t i = 0; kind == WF_DIR_FIXED && i < count; i++)
		t->nodes[entries[i].ino - 1].object = entries[i].value;
	t->doubtful |= kind == WF_DIR_FIXED;
	return 0;
}

/* ---- before a commit ---- */

static bool has_holes(const struct wf_tree *t, const struct wf_dir *d)
{
	return d->kind == WF_DIR_SEQUENCE && d->live != d->count && wf_is(t->graph, d->container, WF_LIST);
}

bool wf_tree_has_holes(const struct wf_tree *t)
{
	for (uint32_t i = 0; i < t->dir_count; i++)
		if (has_holes(t, &t->dirs[i]))
			return true;
	return false;
}

static int compact_list(struct wf_tree *t, struct wf_dir *d)
{
	uint32_t to = 0;
	if (!has_holes(t, d))
		return 0;
	for (uint32_t i = 0; i < d->count; i++) {
		if (d->entries[i].ino == WF_NO_INO)
			continue;
		int r = wf_list_set(t->graph, d->container, to, d->entries[i].value);
		if (r < 0)
			return r;
		d->entries[to++] = d->entries[i];
	}
	d->count = to;
	wf_tree_index_drop(d);
	return wf_list_truncate(t->graph, d->container, to);
}

int wf_tree_compact(struct wf_tree *t)
{
	t->changes++;
	for (uint32_t i = 0; i < t->dir_count; i++) {
		int r = compact_list(t, &t->dirs[i]);
		if (r < 0)
			return r;
	}
	return 0;
}
