/* SPDX-License-Identifier: MIT */
/* New nodes, directories and entries: the arrays of a tree as they grow. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/tree/inner.h"

int wf_tree_new_node(struct wf_tree *t, enum wf_node_type type, wf_ref object, wf_ino parent, wf_ino *ret)
{
	int r = wf_array_reserve(&t->nodes, &t->node_capacity, (uint64_t)t->node_count + 1, sizeof *t->nodes,
				 UINT32_MAX);
	if (r < 0)
		return r;
	t->nodes[t->node_count++] = (struct wf_node){.type = (uint8_t)type, .object = object, .parent = parent};
	t->links += type == WF_NODE_LINK;
	*ret = t->base + t->node_count;
	return 0;
}

int wf_tree_new_dir(struct wf_tree *t, enum wf_dir_kind kind, wf_ref object, wf_ref container, wf_ino ino)
{
	int r = wf_array_reserve(&t->dirs, &t->dir_capacity, (uint64_t)t->dir_count + 1, sizeof *t->dirs, UINT32_MAX);
	if (r < 0)
		return r;
	t->nodes[ino - t->base - 1].dir = t->dir_count;
	t->dirs[t->dir_count++] = (struct wf_dir){.kind = (uint8_t)kind,
						  .ino = ino,
						  .object = object,
						  .container = container,
						  .read_only_names = kind == WF_DIR_FIXED};
	return 0;
}

int wf_tree_push(struct wf_tree *t, wf_ino dir, wf_ref key, wf_ref value, wf_ino ino)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	int r = wf_array_reserve(&d->entries, &d->capacity, (uint64_t)d->count + 1, sizeof *d->entries, UINT32_MAX);
	if (r < 0)
		return r;
	d->entries[d->count++] = (struct wf_entry){key, value, ino};
	d->live++;
	return 0;
}

int wf_tree_retie(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ino ino, wf_ino *ret)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d || position >= d->count || d->entries[position].ino == WF_NO_INO)
		return -ENOENT;
	struct wf_entry *e = &d->entries[position];
	wf_ino old = e->ino;
	int r = 0;
	if (ino == WF_NO_INO)
		r = wf_tree_new_node(t, t->nodes[old - 1].type, e->value, dir, &ino);
	if (r == 0 && t->nodes[ino - 1].type == WF_NODE_TENSOR)
		r = wf_tree_map_object(t, e->value, ino);
	if (r < 0)
		return r;
	t->nodes[old - 1].nlink--;
	t->nodes[ino - 1].nlink++;
	e->ino = ino;
	*ret = ino;
	return 0;
}
