/* Edits of names: rename, unlink, mkdir, create, link. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "util.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2u
#endif

/* ---- keys ---- */

/* The directory that a new name goes into, and its key. old: the key that the entry has, which one that no name stands for
 * keeps when it moves under the same name. */
static int room_for(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref old, wf_ino *ret_dir,
		    wf_ref *ret_key)
{
	char back[WF_NAME_MAX + 1];
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	if (!d)
		return wf_tree_node(ck->tree, dir) ? -ENOTDIR : -ENOENT;
	if (wf_tree_node(ck->tree, dir)->nlink == 0)
		return -ENOENT; /* removed while somebody stood in it */
	if (wf_name_is_scratch(name) && !wf_edit_is_scratch(ck, dir)) {
		int r = wf_edit_make_shadow(ck, dir, &dir);
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
		return !wf_is(ck->graph, d->container, WF_LIST) ? -EPERM : strcmp(back, name) ? -EINVAL : 0;
	}
	if (wf_tree_keeps_key(ck->tree, old, name)) {
		*ret_key = old;
		return 0;
	}
	return wf_tree_new_key(ck->tree, dir, name, ret_key);
}

static bool pending_at(const struct wf_checkpoint *ck, wf_ino dir)
{
	return !wf_edit_is_scratch(ck, dir);
}

/* ---- removing ---- */

/* Takes an entry away. A file that somebody has open lives on without a name. */
static int remove_entry(struct wf_checkpoint *ck, const struct wf_place *p)
{
	int r = wf_edit_remove_entry(ck, p);
	if (r == 0)
		wf_edit_removed_in(ck, p->dir);
	return r;
}

static bool removable(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return wf_edits_one_by_one(ck, p->dir);
}

static bool is_empty(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino shadow = wf_edits_shadow(ck, dir);
	return wf_edits_shown(ck, dir) == 0 &&
	       (shadow == WF_NO_INO || wf_tree_dir(ck->tree, shadow)->live == 0);
}

int wf_apply_unlink(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (wf_edit_node(ck, &p)->type == WF_NODE_DIR && !ck->edits->replaying)
		return -EISDIR;
	if (!removable(ck, &p))
		return wf_edit_hide(ck, &p);
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, p.dir, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_UNLINK, pending_at(ck, p.dir));
	return r < 0 ? r : remove_entry(ck, &p);
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

int wf_apply_rmdir(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (wf_edit_node(ck, &p)->type != WF_NODE_DIR && !ck->edits->replaying)
		return -ENOTDIR;
	if (!ck->edits->replaying && !is_empty(ck, wf_edit_entry(ck, &p)->ino))
		return -ENOTEMPTY;
	if (!removable(ck, &p))
		return wf_edit_hide(ck, &p);
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, p.dir, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_RMDIR, pending_at(ck, p.dir));
	if (r == 0)
		r = remove_entry(ck, &p);
	ck->edits->generation++;
	return r;
}

/* ---- renaming ---- */

/* Moves an entry to another mapping's end. A directory gets its new place before it loses the old one: one without any
 * would give way to a link to it. A file the other way round, so that its node names the new directory. */
static int move_entry(struct wf_checkpoint *ck, const struct wf_place *from, wf_ino to, wf_ref key)
{
	struct wf_entry e = *wf_edit_entry(ck, from);
	bool is_dir = wf_edit_node(ck, from)->type == WF_NODE_DIR;
	int r = is_dir ? wf_tree_add(ck->tree, to, key, e.value, e.ino, NULL)
		       : wf_tree_remove(ck->tree, from->dir, from->position, NULL);
	if (r == 0)
		r = is_dir ? wf_tree_remove(ck->tree, from->dir, from->position, NULL)
			   : wf_tree_add(ck->tree, to, key, e.value, e.ino, NULL);
	if (r == 0)
		wf_edit_note_place(ck, e.ino, to, wf_tree_dir(ck->tree, to)->count - 1);
	return r;
}

static int check_replace(const struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	bool from_dir = wf_edit_node(ck, from)->type == WF_NODE_DIR, onto_dir = wf_edit_node(ck, onto)->type == WF_NODE_DIR;
	if (!removable(ck, onto) || wf_tree_dir(ck->tree, onto->dir)->kind == WF_DIR_SEQUENCE)
		return -EPERM;
	if (ck->edits->replaying)
		return 0;
	if (from_dir != onto_dir)
		return from_dir ? -ENOTDIR : -EISDIR;
	if (!onto_dir)
		return 0;
	if (wf_edit_is_within(ck, from->dir, wf_edit_entry(ck, onto)->ino))
		return -ENOTEMPTY;
	return is_empty(ck, wf_edit_entry(ck, onto)->ino) ? 0 : -ENOTEMPTY;
}

static int exchange(struct wf_checkpoint *ck, const struct wf_place *a, const struct wf_place *b)
{
	struct wf_entry x = *wf_edit_entry(ck, a), y = *wf_edit_entry(ck, b);
	if (!removable(ck, a) || !removable(ck, b) || wf_tree_dir(ck->tree, a->dir)->kind != WF_DIR_MAPPING ||
	    wf_tree_dir(ck->tree, b->dir)->kind != WF_DIR_MAPPING)
		return -EPERM;
	if ((wf_tree_dir(ck->tree, x.ino) && wf_edit_is_within(ck, b->dir, x.ino)) ||
	    (wf_tree_dir(ck->tree, y.ino) && wf_edit_is_within(ck, a->dir, y.ino)))
		return -EINVAL;
	int r = wf_edit_record(ck, EDIT_RENAME, pending_at(ck, a->dir) || pending_at(ck, b->dir));
	if (r < 0 || x.ino == y.ino)
		return r;
	ck->edits->generation++;
	if (a->dir == b->dir) {
		r = wf_tree_set_key(ck->tree, a->dir, a->position, y.key);
		return r < 0 ? r : wf_tree_set_key(ck->tree, b->dir, b->position, x.key);
	}
	r = move_entry(ck, a, b->dir, y.key);
	if (r == 0)
		r = move_entry(ck, b, a->dir, x.key);
	if (r == 0 && pending_at(ck, a->dir) != pending_at(ck, b->dir))
		wf_edit_keep_places(ck);
	return r;
}

static int take_place(struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	struct wf_entry e = *wf_edit_entry(ck, from);
	wf_ino old = wf_edit_entry(ck, onto)->ino;
	int r = wf_tree_replace(ck->tree, onto->dir, onto->position, e.value, e.ino);
	if (r == 0)
		r = wf_tree_remove(ck->tree, from->dir, from->position, NULL);
	wf_edit_note_place(ck, e.ino, onto->dir, onto->position);
	wf_edit_forget(ck, old);
	return r;
}

static int rename_checked(struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto, wf_ino to,
			  wf_ref key)
{
	wf_ino ino = wf_edit_entry(ck, from)->ino;
	bool is_dir = wf_edit_node(ck, from)->type == WF_NODE_DIR;
	int r = wf_edit_record(ck, EDIT_RENAME, pending_at(ck, from->dir) || pending_at(ck, to));
	if (r < 0)
		return r;
	if (is_dir)
		ck->edits->generation++;
	if (onto) {
		const struct wf_file *f = wf_edit_known(ck, ino);
		/* a new file takes the type and the place of what it replaces, as sed -i and editors expect */
		r = is_dir ? 0 : wf_edit_take_type(ck, ino, wf_edit_node(ck, onto)->object);
		if (r == 0 && !is_dir && f && f->is_new && wf_tree_dir(ck->tree, to)->kind == WF_DIR_MAPPING)
			return take_place(ck, from, onto);
		if (r == 0)
			r = remove_entry(ck, onto);
		if (r < 0)
			return r;
	}
	if (from->dir != to) {
		r = move_entry(ck, from, to, key);
		if (r == 0 && pending_at(ck, from->dir) != pending_at(ck, to))
			wf_edit_keep_places(ck);
		return r;
	}
	return wf_tree_set_key(ck->tree, to, from->position, key);
}

int wf_apply_rename(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir, const char *new_name,
		    unsigned int flags)
{
	struct wf_place from, onto = {0};
	wf_ino to;
	wf_ref key;
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	int r = wf_edit_find(ck, dir, name, &from);
	if (r < 0)
		return r;
	r = wf_edit_find(ck, new_dir, new_name, &onto);
	bool replace = r == 0;
	if (r < 0 && r != -ENOENT)
		return r;
	if (replace && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!replace && (flags & RENAME_EXCHANGE))
		return -ENOENT;
	struct wf_entry e = *wf_edit_entry(ck, &from);
	if (wf_tree_dir(ck->tree, e.ino) && wf_edit_is_within(ck, new_dir, e.ino))
		return -EINVAL;
	if (!removable(ck, &from))
		return -EPERM;
	/* content that still waits for its meaning gets it under the name that it has */
	struct wf_file *f = wf_edit_known(ck, e.ino);
	if (f && f->loose != LOOSE_NOT)
		wf_edit_settle(ck, e.ino, true);
	if (replace && flags != RENAME_EXCHANGE && wf_edit_entry(ck, &onto)->ino == e.ino)
		return 0; /* two names of one file: rename(2) does nothing */
	if (replace && flags != RENAME_EXCHANGE && (r = check_replace(ck, &from, &onto)) < 0)
		return r;
	if (replace) {
		to = onto.dir;
		key = wf_edit_entry(ck, &onto)->key;
	} else {
		r = room_for(ck, new_dir, new_name,
			     wf_tree_dir(ck->tree, from.dir)->kind == WF_DIR_MAPPING ? e.key : WF_NIL, &to, &key);
		if (r == 0 && to == from.dir && wf_tree_dir(ck->tree, to)->kind == WF_DIR_SEQUENCE)
			r = -EPERM; /* names of a list are its positions */
		if (r < 0)
			return r;
	}
	struct wf_buffer *b = wf_edit_payload(ck);
	wf_put_u32(b, flags);
	r = wf_put_path(ck, b, from.dir, name);
	if (r == 0)
		r = wf_put_path(ck, b, to, new_name);
	if (r == 0 && ((!wf_edit_is_scratch(ck, to) && wf_edit_leads_away(ck, e.ino)) ||
		       (flags & RENAME_EXCHANGE && !wf_edit_is_scratch(ck, from.dir) &&
			wf_edit_leads_away(ck, wf_edit_entry(ck, &onto)->ino))))
		r = -EPERM;
	if (r < 0)
		return r;
	return flags & RENAME_EXCHANGE ? exchange(ck, &from, &onto)
				       : rename_checked(ck, &from, replace ? &onto : NULL, to, key);
}

/* ---- making ---- */

/* A mapping of the same class as the one that it goes into. */
static wf_ref same_class(struct wf_checkpoint *ck, wf_ref parent)
{
	struct wf_graph *g = ck->graph;
	wf_ref func = wf_call_func(g, parent);
	const char *module = wf_global_module(g, func), *name = wf_global_name(g, func);
	if (wf_is(g, parent, WF_CALL) && !strcmp(module, "collections") &&
	    (!strcmp(name, "OrderedDict") || !strcmp(name, "defaultdict")))
		return wf_call(g, WF_CALL_REDUCE, func,
			       strcmp(name, "OrderedDict") ? wf_call_args(g, parent) : wf_tuple(g, NULL, 0), WF_NIL);
	return wf_dict(g);
}

static int name_is_free(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

static int mark_new(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, bool untyped)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f)
		return -ENOMEM;
	f->is_new = true;
	f->untyped = untyped;
	wf_edit_note_place(ck, ino, dir, wf_tree_dir(ck->tree, dir)->count - 1);
	return 0;
}

int wf_apply_mkdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r < 0)
		return r;
	wf_ref object = same_class(ck, wf_tree_dir(ck->tree, to)->object);
	if (object == WF_NIL)
		return -ENOMEM;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_MKDIR, pending_at(ck, to));
	if (r == 0)
		r = wf_tree_add(ck->tree, to, key, object, WF_NO_INO, ret);
	return r < 0 ? r : mark_new(ck, *ret, to, false);
}

int wf_apply_create(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint32_t number, wf_ino *ret)
{
	wf_ino to;
	wf_ref key, object;
	uint32_t storage;
	static const int64_t empty[1] = {0};
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r == 0)
		r = wf_edit_new_storage(ck, 0, "cpu", number, &storage);
	if (r == 0)
		r = wf_tensor_make(ck->graph, wf_storage_get(ck->storages, storage)->persid, WF_UINT8, 0, empty, 1,
				   false, &object);
	if (r < 0)
		return r;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, to, name);
	wf_put_u32(b, number);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_CREATE, pending_at(ck, to));
	if (r == 0)
		r = wf_tree_add(ck->tree, to, key, object, WF_NO_INO, ret);
	return r < 0 ? r : mark_new(ck, *ret, to, true);
}

int wf_apply_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object)
{
	wf_ino to, ino;
	wf_ref key;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, object, WF_NO_INO, &ino);
}

int wf_apply_link(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name)
{
	wf_ino to;
	wf_ref key;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n || n->nlink == 0)
		return -ENOENT;
	if (n->type == WF_NODE_DIR)
		return -EPERM;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r == 0 && !wf_edit_is_scratch(ck, to) && wf_edit_leads_away(ck, ino))
		r = -EPERM;
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_file(ck, b, ino);
	if (r == 0)
		r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_LINK, pending_at(ck, to));
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, wf_tree_node(ck->tree, ino)->object, ino, NULL);
}

int wf_apply_symlink(struct wf_checkpoint *ck, wf_ino target, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	const struct wf_dir *d = wf_tree_dir(ck->tree, target);
	wf_ref object = d ? d->object : WF_NIL;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r == 0 && (object == WF_NIL || (wf_edit_is_scratch(ck, target) && !wf_edit_is_scratch(ck, to))))
		r = -EPERM; /* a commit would write what is not part of the checkpoint */
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_dir(ck, b, target);
	if (r == 0)
		r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SYMLINK, pending_at(ck, to));
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, object, WF_NO_INO, ret);
}

int wf_apply_symlink_to(struct wf_checkpoint *ck, const char *target, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	if (!wf_name_is_scratch(name) && !wf_edit_is_scratch(ck, dir))
		return -EPERM;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	wf_ref text = r == 0 ? wf_str(ck->graph, target) : WF_NIL;
	if (r < 0 || text == WF_NIL)
		return r < 0 ? r : -ENOMEM;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, to, name);
	wf_put_text(b, target, strlen(target));
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SYMLINK_TO, false);
	if (r == 0)
		r = wf_tree_new_link(ck->tree, to, text, ret);
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, text, *ret, NULL);
}
