/* SPDX-License-Identifier: MIT */
/* Taking an entry away. A directory may go with all that it holds, and a container in it that is linked to from elsewhere
 * has its place there from then on: what is left of the tree is found as from the root, through its links. */
#include <errno.h>
#include <stdlib.h>

#include "codec/tree/inner.h"
#include "codec/bytes/util.h"

/* The directories that go: those below the one that was removed. */
struct going {
	struct wf_tree *t;
	const struct wf_tree_watcher *watcher;
	bool *marked; /* by node->dir */
	wf_ino *dirs;
	uint32_t count;
};

static bool is_going(const struct going *g, wf_ino dir)
{
	const struct wf_node *n = &g->t->nodes[dir - 1];
	return n->type == WF_NODE_DIR && g->marked[n->dir];
}

/* Marks a directory and those below it, or takes the marks away. The list grows behind `from`. */
static void mark(struct going *g, wf_ino dir, bool marked, wf_ino *list, uint32_t *count)
{
	const struct wf_tree *t = g->t;
	uint32_t from = *count;
	g->marked[t->nodes[dir - 1].dir] = marked;
	list[(*count)++] = dir;
	for (; from < *count; from++) {
		const struct wf_dir *d = &t->dirs[t->nodes[list[from] - 1].dir];
		for (uint32_t k = 0; k < d->count; k++) {
			wf_ino child = d->entries[k].ino;
			if (child == WF_NO_INO || t->nodes[child - 1].type != WF_NODE_DIR ||
			    g->marked[t->nodes[child - 1].dir] == marked)
				continue;
			g->marked[t->nodes[child - 1].dir] = marked;
			list[(*count)++] = child;
		}
	}
}

/* The link becomes the directory that it pointed to. The old place becomes a link: what is around it may stay, too, when that
 * is found by a later link. */
static void take_over(struct wf_tree *t, wf_ino link, wf_ino gone)
{
	struct wf_node *old = &t->nodes[gone - 1], *n = &t->nodes[link - 1];
	n->type = WF_NODE_DIR;
	n->dir = old->dir;
	n->linked = true;
	struct wf_dir *d = &t->dirs[n->dir];
	d->ino = link;
	for (uint32_t k = 0; k < d->count; k++) {
		wf_ino child = d->entries[k].ino;
		if (child != WF_NO_INO && t->nodes[child - 1].parent == gone)
			t->nodes[child - 1].parent = link;
	}
	old->type = old->nlink > 0 ? WF_NODE_LINK : WF_NODE_GONE;
	if (old->type == WF_NODE_GONE)
		t->links--;
	wf_tree_map_object(t, n->object, link);
}

/* Containers that a link outside still shows stay, with what is below them; that may show others. */
static void keep_linked(struct going *g, wf_ino *list)
{
	struct wf_tree *t = g->t;
	for (uint32_t i = 0; t->links > 0 && i < t->node_count; i++) {
		const struct wf_node *n = &t->nodes[i];
		wf_ino dir = n->type == WF_NODE_LINK && n->nlink > 0 ? wf_tree_ino_of(t, n->object) : WF_NO_INO;
		if (dir == WF_NO_INO || !is_going(g, dir) || is_going(g, n->parent))
			continue;
		uint32_t count = 0;
		take_over(t, i + 1, dir);
		mark(g, i + 1, false, list, &count);
		if (g->watcher && g->watcher->directory)
			g->watcher->directory(g->watcher->ctx, dir, i + 1);
		i = UINT32_MAX; /* from the start again */
	}
}

static void tell_gone(const struct going *g, wf_ino ino)
{
	if (g->t->nodes[ino - 1].nlink == 0 && g->t->nodes[ino - 1].type != WF_NODE_GONE && g->watcher &&
	    g->watcher->gone)
		g->watcher->gone(g->watcher->ctx, ino);
}

/* Entries of what goes are entries of nothing. Their nodes may have others. */
static void drop_entries(struct going *g, wf_ino dir)
{
	struct wf_tree *t = g->t;
	struct wf_dir *d = &t->dirs[t->nodes[dir - 1].dir];
	for (uint32_t k = 0; k < d->count; k++) {
		wf_ino ino = d->entries[k].ino;
		if (ino == WF_NO_INO)
			continue;
		d->entries[k] = (struct wf_entry){WF_NIL, WF_NIL, WF_NO_INO};
		d->live--;
		t->nodes[ino - 1].nlink--;
		tell_gone(g, ino);
	}
}

static int prepare(struct going *g, struct wf_tree *t, wf_ino dir)
{
	g->t = t;
	g->marked = calloc(t->dir_count, sizeof *g->marked);
	g->dirs = calloc(2 * (size_t)t->dir_count, sizeof *g->dirs); /* the second half: a list for keep_linked */
	if (!g->marked || !g->dirs)
		return -ENOMEM;
	mark(g, dir, true, g->dirs, &g->count);
	return 0;
}

static void finish(struct going *g, wf_ino dir)
{
	struct wf_tree *t = g->t;
	if (t->links > 0)
		keep_linked(g, g->dirs + t->dir_count);
	for (uint32_t i = 0; i < g->count; i++)
		if (is_going(g, g->dirs[i]))
			drop_entries(g, g->dirs[i]);
	tell_gone(g, dir);
}

int wf_tree_remove(struct wf_tree *t, wf_ino dir, uint32_t position, const struct wf_tree_watcher *watcher)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d || position >= d->count || d->entries[position].ino == WF_NO_INO)
		return -ENOENT;
	if (d->read_only_names || (d->kind == WF_DIR_SEQUENCE && !wf_is(t->graph, d->container, WF_LIST)))
		return -EPERM;
	t->changes++;
	wf_ino ino = d->entries[position].ino;
	const struct wf_node *n = &t->nodes[ino - 1];
	struct going g = {.t = t, .watcher = watcher};
	/* a directory that moves has another entry by now */
	bool whole = n->type == WF_NODE_DIR && n->nlink == 1 && (t->links > 0 || t->dirs[n->dir].live > 0);
	int r = whole ? prepare(&g, t, ino) : 0;
	if (r == 0 && d->kind == WF_DIR_MAPPING)
		r = wf_dict_set_at(t->graph, d->container, position, WF_NIL, WF_NIL);
	if (r == 0) {
		d->entries[position] = (struct wf_entry){WF_NIL, WF_NIL, WF_NO_INO};
		d->live--;
		t->nodes[ino - 1].nlink--;
		if (whole)
			finish(&g, ino);
		else
			tell_gone(&g, ino);
	}
	free(g.marked);
	free(g.dirs);
	return r;
}
