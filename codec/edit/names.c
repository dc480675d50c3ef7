/* SPDX-License-Identifier: MIT */
/* Edits of names: where a new one goes, and removing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

/* ---- keys ---- */

/* The hole of a list whose name remembers what stood there. */
static const struct wf_past *hole_of(const struct wf_checkpoint *ck, const struct wf_dir *d, const char *name)
{
	const struct wf_past *past = wf_past_of(ck, d->ino, name);
	return past && past->position < d->count && d->entries[past->position].ino == WF_NO_INO ? past : NULL;
}

int wf_edit_add_entry(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref key, wf_ref value, wf_ino ino,
		      struct wf_place *ret)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	const struct wf_past *hole = d->kind == WF_DIR_SEQUENCE ? hole_of(ck, d, name) : NULL;
	int r = hole ? wf_tree_fill(ck->tree, dir, hole->position, value, ino, &ino)
		     : wf_tree_add(ck->tree, dir, key, value, ino, &ino);
	if (r < 0)
		return r;
	*ret = (struct wf_place){dir, hole ? hole->position : wf_tree_dir(ck->tree, dir)->count - 1};
	wf_edit_note_place(ck, ino, ret->dir, ret->position);
	return 0;
}

int wf_edit_room_for(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref old, wf_ino *ret_dir,
		     wf_ref *ret_key)
{
	char back[WF_NAME_MAX + 1];
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	if (!d)
		return wf_tree_node(ck->tree, dir) ? -ENOTDIR : -ENOENT;
	if (wf_tree_node(ck->tree, dir)->nlink == 0)
		return -ENOENT; /* removed while somebody stood in it */
	bool outside = wf_name_is_scratch(name) ? !wf_edit_was_key(ck, dir, name)
						: d->kind == WF_DIR_SEQUENCE && wf_name_is_temporary(name);
	if (outside && ck->at_once &&
	    !ck->edits->replaying) /* a scratch entry lives as long as a mount: here it would be lost */
		return wf_refuse(ck, -EINVAL, "%s is a name that editors leave behind, which never becomes a key",
				 name);
	if (outside && !wf_edit_is_scratch(ck, dir)) {
		int r = wf_edit_make_scratch_dir(ck, dir, &dir);
		if (r < 0)
			return r;
		d = wf_tree_dir(ck->tree, dir);
	}
	*ret_dir = dir;
	if (d->read_only_names)
		return -EPERM;
	if (d->kind == WF_DIR_SEQUENCE) {
		snprintf(back, sizeof back, "%u", d->count);
		*ret_key = WF_NIL;
		if (!wf_is(ck->graph, d->container, WF_LIST))
			return -EPERM;
		/* behind the last, or where an element was */
		if (!strcmp(back, name) || hole_of(ck, d, name))
			return 0;
		return wf_refuse(ck, -EINVAL, "%s is no name in a list: the next element is %s", name, back);
	}
	const struct wf_past *past = wf_past_of(ck, dir, name);
	int r = 0;
	if (past && past->key != WF_NIL)
		*ret_key = past->key; /* the name alone does not tell 7 from "7" */
	else if (wf_tree_keeps_key(ck->tree, old, name))
		*ret_key = old;
	else
		r = wf_tree_new_key(ck->tree, dir, name, ret_key);
	return r < 0 ? r : wf_edit_check_key(ck, dir, name, ret_key);
}

bool wf_edit_pending_at(const struct wf_checkpoint *ck, wf_ino dir)
{
	return !wf_edit_is_scratch(ck, dir);
}

/* ---- removing ---- */

static void entry_gone(void *ctx, wf_ino ino)
{
	wf_edit_forget(ctx, ino);
}

static void now_directory(void *ctx, wf_ino gone, wf_ino ino)
{
	struct wf_checkpoint *ck = ctx;
	wf_edit_renumber(ck, gone, ino);
	wf_edit_notify_renamed(ck, ino);
	if (ck->became_directory && !ck->edits->replaying)
		ck->became_directory(ck->changed_ctx, ino);
}

/* Takes an entry away, with all that it holds. */
static int remove_entry(struct wf_checkpoint *ck, const struct wf_place *p)
{
	const struct wf_tree_watcher watcher = {.gone = entry_gone, .directory = now_directory, .ctx = ck};
	wf_ino ino = wf_edit_entry(ck, p)->ino;
	int r = wf_tree_remove(ck->tree, p->dir, p->position, &watcher);
	if (r == 0)
		wf_edit_end_hiding(ck, ino);
	return r;
}

int wf_edit_take_entry(struct wf_checkpoint *ck, const struct wf_place *p)
{
	int r = remove_entry(ck, p);
	if (r == 0)
		wf_edit_removed_in(ck, p->dir);
	return r;
}

bool wf_edit_removable(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return wf_edits_one_by_one(ck, p->dir);
}

bool wf_edit_is_empty(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino scratch_dir = wf_edits_scratch_dir(ck, dir);
	return wf_edits_shown(ck, dir) == 0 &&
	       (scratch_dir == WF_NO_INO || wf_tree_dir(ck->tree, scratch_dir)->live == 0);
}

static int remove_file(struct wf_checkpoint *ck, const struct wf_place *p, const char *name)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_path(ck, b, p->dir, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_UNLINK, wf_edit_pending_at(ck, p->dir));
	if (r == 0)
		r = wf_past_keep(ck, p, name, false);
	return r < 0 ? r : wf_edit_take_entry(ck, p);
}

static int remove_directory(struct wf_checkpoint *ck, const struct wf_place *p, const char *name)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_path(ck, b, p->dir, name);
	wf_edit_call_off(ck, wf_edit_entry(ck, p)->ino);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_RMDIR, wf_edit_pending_at(ck, p->dir));
	if (r == 0)
		r = wf_edit_take_entry(ck, p);
	ck->edits->generation++;
	return r;
}

int wf_edit_remove_now(struct wf_checkpoint *ck, const struct wf_place *p, const char *name)
{
	return wf_edit_node(ck, p)->type == WF_NODE_DIR ? remove_directory(ck, p, name) : remove_file(ck, p, name);
}

/* What no rule of names or types speaks against. */
static int remove_or_put_off(struct wf_checkpoint *ck, const struct wf_place *p, const char *name)
{
	if (!wf_edit_removable(ck, p))
		return wf_edit_hide(ck, p);
	if (!wf_edits_is_held(ck, p->dir))
		return wf_edit_remove_now(ck, p, name);
	int r = wf_edit_pending_at(ck, p->dir) ? wf_edit_check_names(ck) : 0;
	return r < 0 ? r : wf_edit_put_off(ck, p);
}

int wf_apply_unlink(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (wf_edit_node(ck, &p)->type != WF_NODE_DIR)
		return remove_or_put_off(ck, &p, name);
	return ck->edits->replaying ? remove_file(ck, &p, name) : -EISDIR;
}

int wf_edit_compact(struct wf_checkpoint *ck)
{
	if (!wf_tree_has_holes(ck->tree))
		return 0;
	wf_edit_payload(ck);
	int r = ck->edits->replaying ? 0 : wf_overlay_prepare(ck->overlay);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_COMPACT, false);
	ck->edits->generation++;
	return r < 0 ? r : wf_tree_compact(ck->tree);
}

int wf_apply_rmdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, bool whole)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (wf_edit_node(ck, &p)->type != WF_NODE_DIR && !ck->edits->replaying)
		return -ENOTDIR;
	if (!whole && !wf_edit_is_empty(ck, wf_edit_entry(ck, &p)->ino))
		return -ENOTEMPTY;
	return ck->edits->replaying ? remove_directory(ck, &p, name) : remove_or_put_off(ck, &p, name);
}
