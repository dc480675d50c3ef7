/* SPDX-License-Identifier: MIT */
/* The unabridged tree: what the tree leaves out stands there, too. */
#include <errno.h>
#include <string.h>

#include "codec/tree/inner.h"

bool wf_tree_has_objects(const struct wf_tree *t, wf_ino *ret_root)
{
	if (!t->objects || t->objects_of != t->changes)
		return false;
	*ret_root = t->objects->base + WF_INO_ROOT;
	return true;
}

uint32_t wf_tree_changes(const struct wf_tree *t)
{
	return t->changes;
}

void wf_tree_drop_objects(struct wf_tree *t)
{
	wf_tree_free(t->objects);
	t->objects = NULL;
}

int wf_tree_objects(struct wf_tree *t, uint32_t *after, wf_ino *ret_root)
{
	if (wf_tree_has_objects(t, ret_root))
		return 0;
	struct wf_tree *o = wf_tree_blank(t->graph, t->storages, t->container, t->root);
	if (!o)
		return -ENOMEM;
	o->unabridged = true;
	memcpy(o->companions, t->companions, sizeof o->companions);
	o->base = WF_INO_OBJECTS | *after;
	/* what the tree has stands here, too */
	int r = wf_map_reserve(&o->by_object, t->by_object.count);
	if (r == 0)
		r = wf_map_reserve(&o->ties, t->ties.count);
	if (r == 0)
		r = wf_tree_make_nodes(o, 0);
	if (r == 0 && o->node_count > UINT32_MAX - o->base)
		r = -E2BIG;
	if (r < 0) {
		wf_tree_free(o);
		return r;
	}
	wf_tree_drop_objects(t);
	t->objects = o;
	t->objects_of = t->changes;
	*after = (o->base + o->node_count) & ~WF_INO_OBJECTS;
	if (*after > WF_INO_OBJECTS / 2)
		*after = 0; /* nobody holds a number of so long ago */
	*ret_root = o->base + WF_INO_ROOT;
	return 0;
}

void wf_tree_count_unseen(const struct wf_tree *t, uint64_t *ret_tensors, uint64_t *ret_bytes)
{
	struct wf_tensor a;
	const struct wf_tree *o = t->objects;
	*ret_tensors = *ret_bytes = 0;
	for (uint32_t i = 0; o && i < o->node_count; i++) {
		const struct wf_node *n = &o->nodes[i];
		if (n->type != WF_NODE_TENSOR || n->nlink == 0 || wf_tree_ino_of(t, n->object) != WF_NO_INO)
			continue;
		bool known = wf_tensor_decode(t->graph, t->storages, n->object, &a, NULL) == 0;
		if (known && a.kind != WF_TENSOR_META && wf_tree_find_tie(t, &a) != WF_NO_INO)
			continue;
		++*ret_tensors;
		*ret_bytes += known && a.kind != WF_TENSOR_META ? a.size_bytes : 0;
	}
}
