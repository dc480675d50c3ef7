/* SPDX-License-Identifier: MIT */
/* Where entries are: by name, by file, in a directory or among its scratch entries. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

int wf_edit_find(struct wf_checkpoint *ck, wf_ino dir, const char *name, struct wf_place *ret)
{
	uint32_t position;
	int r = wf_tree_lookup(ck->tree, dir, name, &position);
	if (r == 0 && wf_edits_hides(ck, dir, position))
		r = -ENOENT;
	wf_ino scratch_dir = r == -ENOENT ? wf_edits_scratch_dir(ck, dir) : WF_NO_INO;
	if (scratch_dir != WF_NO_INO) {
		dir = scratch_dir;
		r = wf_tree_lookup(ck->tree, dir, name, &position);
	}
	if (r == 0)
		*ret = (struct wf_place){dir, position};
	return r;
}

int wf_edits_lookup(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r == 0)
		*ret = wf_edit_entry(ck, &p)->ino;
	return r;
}

const struct wf_entry *wf_edit_entry(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return &wf_tree_dir(ck->tree, p->dir)->entries[p->position];
}

const struct wf_node *wf_edit_node(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return wf_tree_node(ck->tree, wf_edit_entry(ck, p)->ino);
}

static bool holds_at(const struct wf_checkpoint *ck, wf_ino dir, uint32_t position, wf_ino ino)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	return d && position < d->count && d->entries[position].ino == ino;
}

int wf_edit_each_entry(struct wf_checkpoint *ck, wf_ino ino, int (*each)(void *ctx, wf_ino dir, uint32_t position),
		       void *ctx)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	uint32_t left = n ? n->nlink : 0;
	if (left == 1 && f && holds_at(ck, f->dir, f->position, ino))
		return each(ctx, f->dir, f->position);
	/* the directory that the node names first, from its end: what is edited was often made a moment ago */
	const struct wf_dir *first = n ? wf_tree_dir(ck->tree, n->parent) : NULL;
	for (uint32_t k = first ? first->count : 0; left > 0 && k-- > 0;)
		if (first->entries[k].ino == ino) {
			wf_ino dir = first->ino;
			int r = each(ctx, dir, k);
			if (r != 0)
				return r;
			first = wf_tree_dir(ck->tree, dir);
			left--;
		}
	for (uint32_t i = 0; left > 0 && i < wf_tree_dir_count(ck->tree); i++) {
		const struct wf_dir *d = wf_tree_dir_at(ck->tree, i);
		if (n->parent == d->ino)
			continue;
		for (uint32_t k = 0; left > 0 && k < d->count; k++)
			if (d->entries[k].ino == ino) {
				int r = each(ctx, d->ino, k);
				if (r != 0)
					return r;
				d = wf_tree_dir_at(ck->tree, i);
				left--;
			}
	}
	return 0;
}

static int first_place(void *ctx, wf_ino dir, uint32_t position)
{
	*(struct wf_place *)ctx = (struct wf_place){dir, position};
	return 1;
}

void wf_edit_note_place(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, uint32_t position)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f) {
		f->dir = dir;
		f->position = position;
	}
}

int wf_edit_place_of(struct wf_checkpoint *ck, wf_ino ino, struct wf_place *ret)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (f && holds_at(ck, f->dir, f->position, ino)) {
		*ret = (struct wf_place){f->dir, f->position};
		return 0;
	}
	if (wf_edit_each_entry(ck, ino, first_place, ret) != 1)
		return -ENOENT;
	wf_edit_note_place(ck, ino, ret->dir, ret->position);
	wf_tree_set_parent(ck->tree, ino, ret->dir);
	return 0;
}

bool wf_edit_leads_away(const struct wf_checkpoint *ck, wf_ino ino)
{
	for (wf_ino link = 1; wf_tree_has_links(ck->tree) && link <= wf_tree_node_count(ck->tree); link++) {
		const struct wf_node *n = wf_tree_node(ck->tree, link);
		if (!n || n->type != WF_NODE_LINK || n->nlink == 0 || !wf_is(ck->graph, n->object, WF_STR))
			continue;
		if (link == ino || (wf_tree_dir(ck->tree, ino) && wf_edit_is_within(ck, n->parent, ino)))
			return true;
	}
	return false;
}

struct outside {
	const struct wf_checkpoint *ck;
	struct wf_place place;
};

static int is_outside(void *ctx, wf_ino dir, uint32_t position)
{
	struct outside *o = ctx;
	o->place = (struct wf_place){dir, position};
	return !wf_edit_is_scratch(o->ck, dir);
}

struct first_key {
	const struct wf_checkpoint *ck;
	wf_ino parent;
	bool found;
	struct wf_place place;
};

static int note_first(void *ctx, wf_ino dir, uint32_t position)
{
	struct first_key *k = ctx;
	bool here = dir == k->parent, before = k->found && k->place.dir == k->parent;
	if (wf_edit_is_scratch(k->ck, dir) || (k->found && (before ? !here || position > k->place.position : !here)))
		return 0;
	k->place = (struct wf_place){dir, position};
	k->found = true;
	return 0;
}

bool wf_edit_first_key(struct wf_checkpoint *ck, wf_ino ino, struct wf_place *ret)
{
	struct first_key k = {.ck = ck, .parent = wf_tree_node(ck->tree, ino)->parent};
	wf_edit_each_entry(ck, ino, note_first, &k);
	if (k.found)
		*ret = k.place;
	return k.found;
}

static int notify_entry(void *ctx, wf_ino dir, uint32_t position)
{
	struct wf_checkpoint *ck = ctx;
	char name[WF_NAME_MAX + 1];
	if (wf_tree_name(ck->tree, wf_tree_dir(ck->tree, dir), position, name))
		ck->renamed(ck->changed_ctx, wf_edits_visible_dir(ck, dir), name);
	return 0;
}

void wf_edit_notify_renamed(struct wf_checkpoint *ck, wf_ino ino)
{
	if (ck->renamed && !ck->edits->replaying)
		wf_edit_each_entry(ck, ino, notify_entry, ck);
}

void wf_edit_keep_places(struct wf_checkpoint *ck)
{
	struct wf_place at;
	for (wf_ino link = 1; wf_tree_has_links(ck->tree) && link <= wf_tree_node_count(ck->tree); link++) {
		struct outside o = {.ck = ck};
		const struct wf_node *n = wf_tree_node(ck->tree, link);
		wf_ino dir =
			n && n->type == WF_NODE_LINK && n->nlink > 0 ? wf_tree_ino_of(ck->tree, n->object) : WF_NO_INO;
		if (dir == WF_NO_INO || !wf_edit_is_scratch(ck, dir) ||
		    wf_edit_each_entry(ck, link, is_outside, &o) != 1 ||
		    wf_edit_each_entry(ck, dir, first_place, &at) != 1)
			continue;
		wf_tree_swap_places(ck->tree, at.dir, at.position, o.place.dir, o.place.position);
		ck->edits->generation++;
		/* first the name under which the kernel has the directory: it gives one no second place while it has the first */
		wf_edit_notify_renamed(ck, link);
		wf_edit_notify_renamed(ck, dir);
	}
}

static int in_checkpoint(void *ctx, wf_ino dir, uint32_t position)
{
	return !wf_edit_is_scratch(ctx, dir);
}

bool wf_edit_pending(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	return ck->edits->scratch_dir_count == 0 || !n || n->nlink == 0 ||
	       wf_edit_each_entry(ck, ino, in_checkpoint, ck) == 1;
}

bool wf_edit_is_scratch_file(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_place p;
	return ck->edits->scratch_dir_count > 0 && wf_edit_place_of(ck, ino, &p) == 0 &&
	       wf_edit_is_scratch(ck, p.dir) && (n->nlink == 1 || !wf_edit_pending(ck, ino));
}

static int is_part(void *ctx, wf_ino dir, uint32_t position)
{
	const struct wf_checkpoint *ck = ctx;
	const char *names[5];
	wf_ref parts[5];
	return wf_tensor_components(ck->graph, wf_tree_dir(ck->tree, dir)->object, names, parts) > 0;
}

/* By any of its names: what is written under another one is written into the part. */
bool wf_edit_is_component(struct wf_checkpoint *ck, wf_ino ino)
{
	return wf_edit_each_entry(ck, ino, is_part, ck) == 1;
}
