/* SPDX-License-Identifier: MIT */
/* Scratch directories: a mapping beside each directory that has scratch entries, which the checkpoint never sees. */
#include <errno.h>
#include <stdlib.h>

#include "codec/edit/inner.h"

wf_ino wf_edits_scratch_dir(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; e && i < e->scratch_dir_count; i++)
		if (e->scratch_dirs[i].owner == dir)
			return e->scratch_dirs[i].dir;
	return WF_NO_INO;
}

wf_ino wf_edits_scratch_owner(const struct wf_checkpoint *ck, wf_ino scratch_dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; e && i < e->scratch_dir_count; i++)
		if (e->scratch_dirs[i].dir == scratch_dir)
			return e->scratch_dirs[i].owner;
	return WF_NO_INO;
}

wf_ino wf_edits_visible_dir(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino owner = wf_edits_scratch_owner(ck, dir);
	return owner != WF_NO_INO ? owner : dir;
}

wf_ino wf_edit_parent_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino owner = wf_edits_scratch_owner(ck, dir);
	const struct wf_node *n = wf_tree_node(ck->tree, dir);
	return owner != WF_NO_INO ? owner : n ? n->parent : WF_INO_ROOT;
}

bool wf_edit_is_scratch(const struct wf_checkpoint *ck, wf_ino dir)
{
	while (dir != WF_INO_ROOT && ck->edits->scratch_dir_count > 0) {
		const struct wf_node *n = wf_tree_node(ck->tree, dir);
		if (!n || wf_edits_scratch_owner(ck, dir) != WF_NO_INO)
			return n != NULL;
		dir = n->parent;
	}
	return false;
}

bool wf_edit_is_within(const struct wf_checkpoint *ck, wf_ino dir, wf_ino above)
{
	for (; dir != above; dir = wf_edit_parent_of(ck, dir))
		if (dir == WF_INO_ROOT)
			return false;
	return true;
}

int wf_edit_make_scratch_dir(struct wf_checkpoint *ck, wf_ino dir, wf_ino *ret)
{
	struct wf_edits *e = ck->edits;
	*ret = wf_edits_scratch_dir(ck, dir);
	if (*ret != WF_NO_INO)
		return 0;
	struct wf_scratch_dir *p = reallocarray(e->scratch_dirs, e->scratch_dir_count + 1, sizeof *p);
	if (!p)
		return -ENOMEM;
	e->scratch_dirs = p;
	wf_ref dict = wf_dict(ck->graph);
	int r = dict == WF_NIL ? -ENOMEM : wf_tree_add_detached(ck->tree, dir, dict, ret);
	if (r == 0)
		e->scratch_dirs[e->scratch_dir_count++] = (struct wf_scratch_dir){dir, *ret};
	return r;
}
