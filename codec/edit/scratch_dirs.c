/* Scratch directories: a mapping beside each directory that has scratch entries, which the checkpoint never sees. */
#include <errno.h>
#include <stdlib.h>

#include "codec/edit/inner.h"

wf_ino wf_edits_shadow(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->shadow_count; i++)
		if (e->shadows[i].dir == dir)
			return e->shadows[i].shadow;
	return WF_NO_INO;
}

wf_ino wf_edits_shadowed(const struct wf_checkpoint *ck, wf_ino shadow)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->shadow_count; i++)
		if (e->shadows[i].shadow == shadow)
			return e->shadows[i].dir;
	return WF_NO_INO;
}

wf_ino wf_edit_root_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino shadowed = wf_edits_shadowed(ck, dir);
	const struct wf_node *n = wf_tree_node(ck->tree, dir);
	return shadowed != WF_NO_INO ? shadowed : n ? n->parent : WF_INO_ROOT;
}

bool wf_edit_is_scratch(const struct wf_checkpoint *ck, wf_ino dir)
{
	while (dir != WF_INO_ROOT && ck->edits->shadow_count > 0) {
		const struct wf_node *n = wf_tree_node(ck->tree, dir);
		if (!n || wf_edits_shadowed(ck, dir) != WF_NO_INO)
			return n != NULL;
		dir = n->parent;
	}
	return false;
}

bool wf_edit_is_within(const struct wf_checkpoint *ck, wf_ino dir, wf_ino above)
{
	for (; dir != above; dir = wf_edit_root_of(ck, dir))
		if (dir == WF_INO_ROOT)
			return false;
	return true;
}

int wf_edit_make_shadow(struct wf_checkpoint *ck, wf_ino dir, wf_ino *ret)
{
	struct wf_edits *e = ck->edits;
	*ret = wf_edits_shadow(ck, dir);
	if (*ret != WF_NO_INO)
		return 0;
	struct wf_shadow *p = reallocarray(e->shadows, e->shadow_count + 1, sizeof *p);
	if (!p)
		return -ENOMEM;
	e->shadows = p;
	wf_ref dict = wf_dict(ck->graph);
	int r = dict == WF_NIL ? -ENOMEM : wf_tree_add_detached(ck->tree, dir, dict, ret);
	if (r == 0)
		e->shadows[e->shadow_count++] = (struct wf_shadow){dir, *ret};
	return r;
}
