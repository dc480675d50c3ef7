/* SPDX-License-Identifier: MIT */
/* Counts how many entries a directory's files would have where containers are entered at each of their places. */
#include "codec/compose/crossed.h"

#include <stdlib.h>

#include "codec/bytes/util.h"

#define MOST_AGAIN 4000000u /* entries met again by the files of all directories together */

struct sizes {
	const struct wf_tree *tree;
	uint32_t count;   /* nodes */
	uint32_t *depth;  /* of directories, the root's is 1 */
	uint64_t *within; /* entries of a directory and of those in it, links not followed */
	uint32_t *order;  /* directories by depth, then where each depth begins */
	uint32_t deepest;
};

static wf_ino parent_of(const struct sizes *s, wf_ino dir)
{
	return wf_tree_node(s->tree, dir)->parent;
}

/* Up to a directory that is known, and down again. */
static void find_depth(struct sizes *s, wf_ino dir)
{
	uint32_t steps = 0;
	wf_ino at = dir;
	while (s->depth[at] == 0 && at != WF_INO_ROOT && wf_tree_dir(s->tree, parent_of(s, at)) && steps < s->count) {
		at = parent_of(s, at);
		steps++;
	}
	uint32_t depth = s->depth[at] ? s->depth[at] : 1;
	s->depth[at] = depth;
	for (at = dir; steps > 0; steps--, at = parent_of(s, at))
		s->depth[at] = depth + steps;
	s->deepest = WF_MAX(s->deepest, s->depth[dir]);
}

/* Deepest first, so that each has its own size when it is added to what holds it. */
static int add_up(struct sizes *s)
{
	uint32_t directories = 0;
	for (wf_ino i = 1; i <= s->count; i++)
		if (wf_tree_dir(s->tree, i)) {
			find_depth(s, i);
			s->within[i] = wf_tree_dir(s->tree, i)->live;
			directories++;
		}
	cleanup_free uint32_t *start = calloc((size_t)s->deepest + 2, sizeof *start);
	if (!start)
		return -1;
	for (wf_ino i = 1; i <= s->count; i++)
		if (s->depth[i])
			start[s->deepest - s->depth[i] + 1]++;
	for (uint32_t k = 1; k <= s->deepest; k++)
		start[k] += start[k - 1];
	for (wf_ino i = 1; i <= s->count; i++)
		if (s->depth[i])
			s->order[start[s->deepest - s->depth[i]]++] = i;
	for (uint32_t k = 0; k < directories; k++) {
		wf_ino dir = s->order[k];
		if (dir != WF_INO_ROOT && s->depth[dir] > 1)
			s->within[parent_of(s, dir)] += s->within[dir];
	}
	return 0;
}

/* A link is entered by the file of each directory that it is below. */
static uint64_t again_at(const struct sizes *s, wf_ino dir)
{
	uint64_t again = 0;
	const struct wf_dir *d = wf_tree_dir(s->tree, dir);
	for (uint32_t i = 0; i < d->count && again <= MOST_AGAIN; i++) {
		const struct wf_node *n =
			d->entries[i].value == WF_NIL ? NULL : wf_tree_node(s->tree, d->entries[i].ino);
		wf_ino target = n && n->type == WF_NODE_LINK && n->object != WF_NIL ? wf_tree_ino_of(s->tree, n->object)
										    : WF_NO_INO;
		if (target != WF_NO_INO && target <= s->count)
			again += WF_MIN(s->within[target], (uint64_t)WF_NAMES_AGAIN) * s->depth[dir];
	}
	return again;
}

static bool look(const struct wf_tree *tree)
{
	uint32_t count = wf_tree_node_count(tree);
	cleanup_free uint32_t *depth = calloc((size_t)count + 1, sizeof *depth),
			      *order = calloc((size_t)count + 1, sizeof *order);
	cleanup_free uint64_t *within = calloc((size_t)count + 1, sizeof *within);
	struct sizes s = {tree, count, depth, within, order, 0};
	uint64_t again = 0;
	if (!depth || !order || !within || add_up(&s) < 0)
		return true; /* then less is entered */
	for (wf_ino i = 1; i <= count && again <= MOST_AGAIN; i++)
		if (wf_tree_dir(tree, i))
			again += again_at(&s, i);
	return again > MOST_AGAIN;
}

bool wf_names_crossed(struct wf_checkpoint *ck)
{
	if (!wf_tree_has_links(ck->tree))
		return false;
	uint64_t now = (wf_edits_edition(ck) + 1) << 1, known = atomic_load(&ck->crossed);
	if ((known & ~UINT64_C(1)) != now) {
		/* several threads may find the same at once */
		known = now | look(ck->tree);
		atomic_store(&ck->crossed, known);
	}
	return known & 1;
}
