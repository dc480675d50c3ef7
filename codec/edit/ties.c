/* SPDX-License-Identifier: MIT */
/* After a commit names are one file where they are one in what was written. Whoever opens that, after a kill with a log of what was edited since, sees
 * it so; and the records of that log mean it so.
 *
 * Two names of a plain value (ln) were one file until then: a checkpoint holds no such ties, and each name has a value of its own.
 * Two views of one storage that attributes made identical were two files: they are ties. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/map.h"
#include "codec/bytes/util.h"
#include "codec/edit/inner.h"

struct ties {
	struct wf_checkpoint *ck;
	struct wf_map seen;    /* by data: the first file that shows it */
	wf_ino *file_of;       /* [ino - 1]: what its names are to show; WF_NO_INO: it stays */
	struct wf_place *kept; /* [ino - 1], of a value with several names: the one that keeps the file */
	uint32_t count;
	bool views, values; /* whether there are any of them */
};

static void notify(struct wf_checkpoint *ck, wf_ino dir, uint32_t position)
{
	char name[WF_NAME_MAX + 1];
	if (ck->renamed && wf_tree_name(ck->tree, wf_tree_dir(ck->tree, dir), position, name))
		ck->renamed(ck->changed_ctx, wf_edits_visible_dir(ck, dir), name);
}

/* ---- which ---- */

static bool is_value_with_names(const struct wf_node *n)
{
	return n && n->type == WF_NODE_VALUE && n->nlink > 1;
}

/* A view that a new opening may show as a tie. */
static bool is_view(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!n || n->type != WF_NODE_TENSOR || n->nlink == 0 || (f && (f->aside || f->pending != PENDING_NOT)) ||
	    wf_edit_is_scratch_file(ck, ino) || wf_edit_tensor(ck, ino, ret) < 0)
		return false;
	/* the integers of a tensor that is quantised per channel are the tensor itself */
	const struct wf_dir *d = wf_tree_dir(ck->tree, n->parent);
	return ret->kind == WF_TENSOR_DENSE && !(d && d->object == n->object);
}

static int find_views(struct ties *s)
{
	struct wf_checkpoint *ck = s->ck;
	struct wf_tensor t, other;
	int r = 0;
	for (wf_ino ino = 1; r == 0 && ino <= s->count; ino++) {
		if (!is_view(ck, ino, &t) || (r = wf_map_reserve(&s->seen, 1)) < 0)
			continue;
		uint32_t hash = (uint32_t)wf_tensor_tie_hash(ck->graph, &t);
		struct wf_map_probe p = wf_map_probe(&s->seen, hash);
		wf_ino first = WF_NO_INO, found;
		while (first == WF_NO_INO && wf_map_next(&p, &found))
			if (wf_edit_tensor(ck, found, &other) == 0 && wf_tensor_tied(&t, &other))
				first = found;
		if (first == WF_NO_INO) {
			wf_map_add(&s->seen, hash, ino);
			continue;
		}
		/* whoever has a file open goes on with it; where both are open they are two until a later commit */
		const struct wf_file *a = wf_edit_known(ck, first), *b = wf_edit_known(ck, ino);
		wf_ino stays = b && b->openers > 0 ? ino : first, goes = stays == ino ? first : ino;
		if (a && b && a->openers > 0 && b->openers > 0)
			continue;
		s->file_of[goes - 1] = stays;
		s->views = true;
	}
	return r;
}

/* ---- the entries ---- */

static int copy_looks(struct wf_checkpoint *ck, wf_ino from, wf_ino to)
{
	const struct wf_file *old = wf_edit_known(ck, from);
	if (!old || !old->looks)
		return 0;
	struct wf_file *f = wf_edit_file(ck, to);
	if (!f || !(f->looks = malloc(sizeof *f->looks)))
		return -ENOMEM;
	*f->looks = *old->looks;
	return 0;
}

static int settle_entry(struct ties *s, wf_ino dir, uint32_t position)
{
	struct wf_checkpoint *ck = s->ck;
	wf_ino ino = wf_tree_dir(ck->tree, dir)->entries[position].ino, now;
	if (ino == WF_NO_INO || ino > s->count)
		return 0;
	const struct wf_place *kept = &s->kept[ino - 1];
	bool alone = is_value_with_names(wf_tree_node(ck->tree, ino)) && kept->dir != WF_NO_INO &&
		     (kept->dir != dir || kept->position != position);
	wf_ino to = s->file_of[ino - 1];
	while (to != WF_NO_INO && s->file_of[to - 1] != WF_NO_INO)
		to = s->file_of[to - 1];
	if (!alone && to == WF_NO_INO)
		return 0;
	int r = wf_tree_retie(ck->tree, dir, position, to, &now);
	if (r < 0)
		return r;
	if (alone)
		r = copy_looks(ck, ino, now);
	notify(ck, dir, position);
	if (wf_tree_node(ck->tree, ino)->nlink == 0)
		wf_edit_forget(ck, ino);
	return r;
}

static void settle(struct ties *s)
{
	const struct wf_tree *t = s->ck->tree;
	for (wf_ino ino = 1; s->values && ino <= s->count; ino++)
		if (is_value_with_names(wf_tree_node(t, ino)))
			wf_edit_first_key(s->ck, ino, &s->kept[ino - 1]);
	for (uint32_t i = 0; (s->values || s->views) && i < wf_tree_dir_count(t); i++) {
		const wf_ino dir = wf_tree_dir_at(t, i)->ino;
		/* without memory an entry stays what it is */
		for (uint32_t k = 0; !wf_edit_is_scratch(s->ck, dir) && k < wf_tree_dir_at(t, i)->count; k++)
			settle_entry(s, dir, k);
	}
	wf_edit_reserve_files(s->ck->edits, wf_tree_node_count(t));
}

void wf_edits_settle_ties(struct wf_checkpoint *ck, bool types_changed)
{
	uint32_t n = wf_tree_node_count(ck->tree);
	struct ties s = {.ck = ck, .count = n};
	for (wf_ino ino = 1; !s.values && ino <= n; ino++)
		s.values = is_value_with_names(wf_tree_node(ck->tree, ino));
	if (!s.values && !types_changed)
		return;
	s.file_of = calloc(n, sizeof *s.file_of);
	s.kept = calloc(n, sizeof *s.kept);
	if (s.file_of && s.kept) {
		if (types_changed)
			find_views(&s);
		settle(&s);
	}
	free(s.file_of);
	free(s.kept);
	wf_map_free(&s.seen);
}
