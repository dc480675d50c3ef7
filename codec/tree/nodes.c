/* SPDX-License-Identifier: MIT */
/* New nodes, directories and entries: the arrays of a tree as they grow. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/tree/inner.h"

int wf_tree_reserve(void **array, uint32_t *capacity, uint32_t need, size_t size)
{
	if (need <= *capacity)
		return 0;
	uint32_t bigger = *capacity ? *capacity + *capacity / 2 + 1 : 8;
	bigger = bigger < need ? need : bigger;
	void *p = reallocarray(*array, bigger, size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*capacity = bigger;
	return 0;
}

int wf_tree_new_node(struct wf_tree *t, enum wf_node_type type, wf_ref object, wf_ino parent, wf_ino *ret)
{
	int r = wf_tree_reserve((void **)&t->nodes, &t->node_capacity, t->node_count + 1, sizeof *t->nodes);
	if (r < 0)
		return r;
	t->nodes[t->node_count++] = (struct wf_node){.type = (uint8_t)type, .object = object, .parent = parent};
	t->links += type == WF_NODE_LINK;
	*ret = t->base + t->node_count;
	return 0;
}

int wf_tree_new_dir(struct wf_tree *t, enum wf_dir_kind kind, wf_ref object, wf_ref container, wf_ino ino)
{
	int r = wf_tree_reserve((void **)&t->dirs, &t->dir_capacity, t->dir_count + 1, sizeof *t->dirs);
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
	int r = wf_tree_reserve((void **)&d->entries, &d->capacity, d->count + 1, sizeof *d->entries);
	if (r < 0)
		return r;
	d->entries[d->count++] = (struct wf_entry){key, value, ino};
	d->live++;
	return 0;
}
