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

/* ---- where ---- */

int wf_edit_find(struct wf_checkpoint *ck, wf_ino dir, const char *name, struct wf_place *ret)
{
	uint32_t position;
	int r = wf_tree_lookup(ck->tree, dir, name, &position);
	wf_ino shadow = r == -ENOENT ? wf_edits_shadow(ck, dir) : WF_NO_INO;
	if (shadow != WF_NO_INO) {
		dir = shadow;
		r = wf_tree_lookup(ck->tree, dir, name, &position);
	}
	if (r == 0)
		*ret = (struct wf_place){dir, position};
	return r;
}

static const struct wf_entry *entry_at(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return &wf_tree_dir(ck->tree, p->dir)->entries[p->position];
}

static const struct wf_node *node_at(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	return wf_tree_node(ck->tree, entry_at(ck, p)->ino);
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

static void note_place(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, uint32_t position)
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
	note_place(ck, ino, ret->dir, ret->position);
	wf_tree_set_parent(ck->tree, ino, ret->dir);
	return 0;
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

static bool is_within(const struct wf_checkpoint *ck, wf_ino dir, wf_ino above)
{
	for (; dir != above; dir = wf_edit_root_of(ck, dir))
		if (dir == WF_INO_ROOT)
			return false;
	return true;
}

static int shadow_of(struct wf_checkpoint *ck, wf_ino dir, wf_ino *ret)
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

/* ---- keys ---- */

static bool all_keys_int(const struct wf_checkpoint *ck, const struct wf_dir *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (d->entries[i].ino != WF_NO_INO && !wf_is(ck->graph, d->entries[i].key, WF_INT))
			return false;
	return d->live > 0;
}

/* The directory that a new name goes into, and its key. old: the key that the entry has, which a long name that was cut
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
		int r = shadow_of(ck, dir, &dir);
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
	bool digits = name[0] && strspn(name, "0123456789") == strlen(name);
	int r = wf_key_from_name(ck->graph, name, digits && all_keys_int(ck, d), ret_key);
	if (r == 0) {
		/* a name that another spelling of the same key has would not be found again */
		wf_name_from_key(ck->graph, *ret_key, false, back);
		return strcmp(back, name) ? -EINVAL : 0;
	}
	if ((r == -EINVAL || r == -ENAMETOOLONG) && old != WF_NIL) {
		wf_name_from_key(ck->graph, old, false, back);
		if (!strcmp(back, name)) {
			*ret_key = old;
			return 0;
		}
	}
	return r;
}

static bool pending_at(const struct wf_checkpoint *ck, wf_ino dir)
{
	return !wf_edit_is_scratch(ck, dir);
}

/* ---- removing ---- */

/* Takes an entry away. A file that somebody has open lives on without a name. */
static int remove_entry(struct wf_checkpoint *ck, const struct wf_place *p)
{
	wf_ino ino = entry_at(ck, p)->ino;
	int r = wf_tree_remove(ck->tree, p->dir, p->position);
	if (r == 0)
		wf_edit_forget(ck, ino);
	return r;
}

static bool removable(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, p->dir);
	return !d->read_only_names && (d->kind != WF_DIR_SEQUENCE || wf_is(ck->graph, d->container, WF_LIST));
}

static bool is_empty(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino shadow = wf_edits_shadow(ck, dir);
	return wf_tree_dir(ck->tree, dir)->live == 0 &&
	       (shadow == WF_NO_INO || wf_tree_dir(ck->tree, shadow)->live == 0);
}

int wf_apply_unlink(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (node_at(ck, &p)->type == WF_NODE_DIR)
		return -EISDIR;
	if (!removable(ck, &p))
		return -EPERM;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, p.dir, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_UNLINK, pending_at(ck, p.dir));
	return r < 0 ? r : remove_entry(ck, &p);
}

int wf_apply_rmdir(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return r;
	if (node_at(ck, &p)->type != WF_NODE_DIR)
		return -ENOTDIR;
	if (!removable(ck, &p))
		return -EPERM;
	if (!is_empty(ck, entry_at(ck, &p)->ino))
		return -ENOTEMPTY;
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
	struct wf_entry e = *entry_at(ck, from);
	bool is_dir = node_at(ck, from)->type == WF_NODE_DIR;
	int r = is_dir ? wf_tree_add(ck->tree, to, key, e.value, e.ino, NULL)
		       : wf_tree_remove(ck->tree, from->dir, from->position);
	if (r == 0)
		r = is_dir ? wf_tree_remove(ck->tree, from->dir, from->position)
			   : wf_tree_add(ck->tree, to, key, e.value, e.ino, NULL);
	if (r == 0)
		note_place(ck, e.ino, to, wf_tree_dir(ck->tree, to)->count - 1);
	return r;
}

static int check_replace(const struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	bool from_dir = node_at(ck, from)->type == WF_NODE_DIR, onto_dir = node_at(ck, onto)->type == WF_NODE_DIR;
	if (from_dir && !onto_dir)
		return -ENOTDIR;
	if (!from_dir && onto_dir)
		return -EISDIR;
	if (!removable(ck, onto) || wf_tree_dir(ck->tree, onto->dir)->kind == WF_DIR_SEQUENCE)
		return -EPERM;
	if (!onto_dir)
		return 0;
	if (is_within(ck, from->dir, entry_at(ck, onto)->ino))
		return -ENOTEMPTY;
	return is_empty(ck, entry_at(ck, onto)->ino) ? 0 : -ENOTEMPTY;
}

static int exchange(struct wf_checkpoint *ck, const struct wf_place *a, const struct wf_place *b)
{
	struct wf_entry x = *entry_at(ck, a), y = *entry_at(ck, b);
	if (!removable(ck, a) || !removable(ck, b) || wf_tree_dir(ck->tree, a->dir)->kind != WF_DIR_MAPPING ||
	    wf_tree_dir(ck->tree, b->dir)->kind != WF_DIR_MAPPING)
		return -EPERM;
	if ((wf_tree_dir(ck->tree, x.ino) && is_within(ck, b->dir, x.ino)) ||
	    (wf_tree_dir(ck->tree, y.ino) && is_within(ck, a->dir, y.ino)))
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
	return r < 0 ? r : move_entry(ck, b, a->dir, x.key);
}

static int take_place(struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	struct wf_entry e = *entry_at(ck, from);
	wf_ino old = entry_at(ck, onto)->ino;
	int r = wf_tree_replace(ck->tree, onto->dir, onto->position, e.value, e.ino);
	if (r == 0)
		r = wf_tree_remove(ck->tree, from->dir, from->position);
	note_place(ck, e.ino, onto->dir, onto->position);
	wf_edit_forget(ck, old);
	return r;
}

static int rename_checked(struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto, wf_ino to,
			  wf_ref key)
{
	wf_ino ino = entry_at(ck, from)->ino;
	bool is_dir = node_at(ck, from)->type == WF_NODE_DIR;
	int r = wf_edit_record(ck, EDIT_RENAME, pending_at(ck, from->dir) || pending_at(ck, to));
	if (r < 0)
		return r;
	if (is_dir)
		ck->edits->generation++;
	if (onto) {
		const struct wf_file *f = wf_edit_known(ck, ino);
		/* a new file takes the type and the place of what it replaces, as sed -i and editors expect */
		r = is_dir ? 0 : wf_edit_take_type(ck, ino, node_at(ck, onto)->object);
		if (r == 0 && !is_dir && f && f->is_new && wf_tree_dir(ck->tree, to)->kind == WF_DIR_MAPPING)
			return take_place(ck, from, onto);
		if (r == 0)
			r = remove_entry(ck, onto);
		if (r < 0)
			return r;
	}
	if (from->dir != to)
		return move_entry(ck, from, to, key);
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
	struct wf_entry e = *entry_at(ck, &from);
	if (wf_tree_dir(ck->tree, e.ino) && is_within(ck, new_dir, e.ino))
		return -EINVAL;
	if (!removable(ck, &from))
		return -EPERM;
	/* content that still waits for its meaning gets it under the name that it has */
	struct wf_file *f = wf_edit_known(ck, e.ino);
	if (f && f->loose != LOOSE_NOT)
		wf_edit_settle(ck, e.ino, true);
	if (replace && flags != RENAME_EXCHANGE && entry_at(ck, &onto)->ino == e.ino)
		return 0; /* two names of one file: rename(2) does nothing */
	if (replace && flags != RENAME_EXCHANGE && (r = check_replace(ck, &from, &onto)) < 0)
		return r;
	if (replace) {
		to = onto.dir;
		key = entry_at(ck, &onto)->key;
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
	note_place(ck, ino, dir, wf_tree_dir(ck->tree, dir)->count - 1);
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
	if (!d || d->object == WF_NIL || wf_edit_is_scratch(ck, target))
		return -EPERM;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = room_for(ck, dir, name, WF_NIL, &to, &key);
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_dir(ck, b, target);
	if (r == 0)
		r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SYMLINK, pending_at(ck, to));
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, wf_tree_dir(ck->tree, target)->object, WF_NO_INO, ret);
}

/* ---- the front door ---- */

int wf_rename(struct wf_checkpoint *ck, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
	      unsigned int flags)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_rename(ck, dir, name, new_dir, new_name, flags);
	wf_edit_end(ck);
	return r;
}

int wf_unlink(struct wf_checkpoint *ck, uint32_t dir, const char *name)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_unlink(ck, dir, name);
	wf_edit_end(ck);
	return r;
}

int wf_rmdir(struct wf_checkpoint *ck, uint32_t dir, const char *name)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_rmdir(ck, dir, name);
	wf_edit_end(ck);
	return r;
}

static int stat_and_end(struct wf_checkpoint *ck, int r, wf_ino ino, struct wf_stat *ret)
{
	if (r == 0)
		r = wf_checkpoint_stat(ck, ino, ret);
	wf_edit_end(ck);
	return r;
}

int wf_mkdir(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_mkdir(ck, dir, name, &ino); /* before ino is passed on */
	return stat_and_end(ck, r, ino, ret);
}

int wf_create(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_create(ck, dir, name, wf_overlay_new_number(ck->overlay), &ino);
	return stat_and_end(ck, r, ino, ret);
}

int wf_link(struct wf_checkpoint *ck, uint32_t ino, uint32_t new_dir, const char *new_name, struct wf_stat *ret)
{
	int r = wf_edit_begin(ck);
	return r < 0 ? r : stat_and_end(ck, wf_apply_link(ck, ino, new_dir, new_name), ino, ret);
}

/* Follows a relative target, symbolic links excepted. An absolute one names no place that this library knows. */
static int resolve_target(struct wf_checkpoint *ck, wf_ino dir, const char *target, wf_ino *ret)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (target[0] == '/' || !target[0])
		return -EPERM;
	while (*target) {
		size_t len = strcspn(target, "/");
		if (len > WF_NAME_MAX)
			return -EPERM;
		memcpy(name, target, len);
		name[len] = '\0';
		target += len + strspn(target + len, "/");
		if (!strcmp(name, "."))
			continue;
		if (!strcmp(name, "..")) {
			if (dir == WF_INO_ROOT)
				return -EPERM;
			dir = wf_edit_root_of(ck, dir);
			continue;
		}
		if (wf_edit_find(ck, dir, name, &p) < 0 || !wf_tree_dir(ck->tree, entry_at(ck, &p)->ino))
			return -EPERM;
		dir = entry_at(ck, &p)->ino;
	}
	*ret = dir;
	return 0;
}

int wf_symlink(struct wf_checkpoint *ck, const char *target, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO, to;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = resolve_target(ck, dir, target, &to);
	if (r == 0)
		r = wf_apply_symlink(ck, to, dir, name, &ino);
	return stat_and_end(ck, r, ino, ret);
}
