/* SPDX-License-Identifier: MIT */
/* New entries: mappings, files, links. */
#include <errno.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/bytes/util.h"

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

static int mark_new(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *at)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f)
		return -ENOMEM;
	f->is_new = true;
	wf_edit_knows(f);
	wf_edit_note_place(ck, ino, at->dir, at->position);
	return 0;
}

/* Appends the record whose payload was put together, and adds the entry. */
static int add_new(struct wf_checkpoint *ck, wf_ino to, const char *name, enum wf_edit_record record, wf_ref key,
		   wf_ref object, wf_ino *ret)
{
	struct wf_place at;
	int r = wf_edit_record(ck, record, wf_edit_pending_at(ck, to));
	if (r == 0)
		r = wf_edit_add_entry(ck, to, name, key, object, WF_NO_INO, &at);
	if (r < 0)
		return r;
	*ret = wf_edit_entry(ck, &at)->ino;
	return mark_new(ck, *ret, &at);
}

int wf_apply_mkdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r < 0)
		return r;
	r = wf_edit_check_directory(ck, to);
	if (r < 0)
		return r;
	wf_ref object = same_class(ck, wf_tree_dir(ck->tree, to)->object);
	if (object == WF_NIL)
		return -ENOMEM;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, to, name);
	return r < 0 ? r : add_new(ck, to, name, EDIT_MKDIR, key, object, ret);
}

/* In place of a backup: until its content fits, it is what it replaces. */
static int stand_for(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage, const struct wf_past *past)
{
	struct wf_tensor t;
	wf_ref object;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (wf_is_tensor(ck->graph, past->object) &&
	    wf_tensor_decode(ck->graph, ck->storages, past->object, &t, NULL) < 0)
		return 0; /* the backup is gone, too */
	int r = wf_edit_make_twin(ck, ino, past, &object);
	if (r < 0)
		return r;
	f->storage = storage;
	f->stand_in = f->anew = true;
	wf_edit_set_pending(ck, f, PENDING_BYTES);
	r = wf_edit_set_object(ck, ino, object);
	if (r == 0)
		r = wf_edit_take_place(ck, ino);
	wf_edit_knows(f);
	return r;
}

int wf_apply_create(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint32_t number, wf_ino *ret)
{
	wf_ino to;
	wf_ref key, object;
	uint32_t storage;
	static const int64_t empty[1] = {0};
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
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
		r = add_new(ck, to, name, EDIT_CREATE, key, object, ret);
	if (r < 0)
		return r;
	const struct wf_past *past = wf_past_of(ck, to, name);
	return past && past->scratch ? stand_for(ck, *ret, storage, past) : 0;
}

int wf_apply_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object)
{
	wf_ino to, ino;
	wf_ref key;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, object, WF_NO_INO, &ino);
}

int wf_apply_link(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n || n->nlink == 0)
		return -ENOENT;
	if (n->type == WF_NODE_DIR)
		return -EPERM;
	*ret = ino;
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r == 0)
		r = wf_edit_check_shard(ck, wf_tree_node(ck->tree, ino)->object, to);
	if (r == 0 && !wf_edit_is_scratch(ck, to) && wf_edit_leads_away(ck, ino))
		r = -EPERM;
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_file(ck, b, ino);
	if (r == 0)
		r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_LINK, wf_edit_pending_at(ck, to));
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
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
	if (r == 0)
		r = wf_edit_check_directory(ck, to);
	if (r == 0 && !ck->edits->replaying && wf_edit_names_entries(ck, to))
		r = wf_refuse(ck, -EPERM, "a distributed checkpoint has each mapping once, and no links to it");
	if (r == 0 && (object == WF_NIL || (wf_edit_is_scratch(ck, target) && !wf_edit_is_scratch(ck, to))))
		r = -EPERM; /* a commit would write what is not part of the checkpoint */
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_dir(ck, b, target);
	if (r == 0)
		r = wf_put_path(ck, b, to, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SYMLINK, wf_edit_pending_at(ck, to));
	return r < 0 ? r : wf_tree_add(ck->tree, to, key, object, WF_NO_INO, ret);
}

int wf_apply_symlink_to(struct wf_checkpoint *ck, const char *target, wf_ino dir, const char *name, wf_ino *ret)
{
	wf_ino to;
	wf_ref key;
	if (!wf_name_is_scratch(name) && !wf_edit_is_scratch(ck, dir))
		return wf_refuse(ck, -EPERM, "a link leads to a directory of the mount: %s is none", target);
	int r = name_is_free(ck, dir, name);
	if (r == 0)
		r = wf_edit_room_for(ck, dir, name, WF_NIL, &to, &key);
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
