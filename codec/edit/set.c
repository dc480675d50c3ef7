/* SPDX-License-Identifier: MIT */
/* An object for content that was judged, and its record: the object as a pickle, so that a replay need not judge again.
 * A storage stands in it as its data file. */
#include <errno.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"

struct set_id {
	wf_ref persid, id;
};

static wf_ref logged_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct set_id *s = ctx;
	return persid == s->persid ? s->id : id;
}

/* Made before the pickle is written: the writer only reads the graph. */
static int make_id(struct wf_checkpoint *ck, wf_ref object, struct set_id *ret)
{
	struct wf_graph *g = ck->graph;
	struct wf_tensor t;
	wf_ref copy[6];
	uint32_t n;
	*ret = (struct set_id){WF_NIL, WF_NIL};
	if (!wf_is_tensor(g, object) || wf_tensor_decode(g, ck->storages, object, &t, NULL) < 0 ||
	    t.kind == WF_TENSOR_NUMPY)
		return 0;
	uint32_t number = wf_edit_number(ck, t.storage);
	ret->persid = wf_storage_get(ck->storages, t.storage)->persid;
	const wf_ref *e = wf_elements(g, wf_persid_id(g, ret->persid), &n);
	if (n < 5 || n > WF_ARRAY_SIZE(copy) || number == WF_NO_NUMBER)
		return -EINVAL;
	memcpy(copy, e, n * sizeof *e);
	copy[0] = wf_str(g, WF_DATA_FILE_ID);
	copy[2] = wf_int(g, number);
	ret->id = copy[0] == WF_NIL || copy[2] == WF_NIL ? WF_NIL : wf_tuple(g, copy, n);
	return ret->id == WF_NIL ? -ENOMEM : 0;
}

int wf_edit_record_set(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how)
{
	struct set_id id;
	struct wf_buffer pickle = WF_BUFFER_INIT;
	struct wf_file *f = wf_edit_known(ck, ino);
	bool first = wf_edit_has_untold(ck, ino);
	int r = 0;
	if (f && f->pending == PENDING_BYTES && ck->edits->unnamed[f->storage])
		r = wf_edit_log_pending(ck, ino);
	if (r == 0)
		r = make_id(ck, object, &id);
	if (r == 0)
		r = wf_pickle_write_buffer(ck->graph, object, logged_id, &id, &pickle, NULL);
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_file(ck, b, ino);
	how &= wf_edit_log_tells_known(ck) ? 0xff : SET_PLACE;
	wf_put_u8(b, (uint8_t)(how | (first ? SET_FIRST : 0)));
	wf_buffer_append(b, pickle.data, pickle.len);
	wf_buffer_free(&pickle);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SET, wf_edit_pending(ck, ino));
	if (r == 0 && first)
		wf_edit_told_old(f);
	return r;
}

/* Where the name's old entry stood in the order: what stands there now, the old entry under its new name, goes to the end. */
int wf_edit_take_place(struct wf_checkpoint *ck, wf_ino ino)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f->is_new || wf_edit_place_of(ck, ino, &p) < 0)
		return 0;
	const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
	struct wf_past *past = wf_tree_name(ck->tree, d, p.position, name) ? wf_past_of(ck, p.dir, name) : NULL;
	if (!past)
		return 0;
	/* None takes anything, each time */
	f->is_new = wf_is(ck->graph, past->object, WF_NONE);
	if (!f->is_new && !f->was)
		f->was = steal_pointer(&past->type);
	if (d->kind != WF_DIR_MAPPING || past->position >= d->count || past->position == p.position)
		return 0;
	wf_ino there = d->entries[past->position].ino;
	int r = wf_tree_exchange(ck->tree, p.dir, past->position, p.position);
	if (r < 0)
		return r;
	wf_edit_note_place(ck, ino, p.dir, past->position);
	if (there != WF_NO_INO)
		wf_edit_note_place(ck, there, p.dir, p.position);
	wf_edit_reordered(ck, p.dir);
	return 0;
}

int wf_apply_set(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_file(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!f)
		return -ENOMEM;
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return -EINVAL;
	bool was_none = wf_is(ck->graph, n->object, WF_NONE);
	int r = wf_edit_set_object(ck, ino, object);
	if (r == 0 && how & SET_PLACE)
		r = wf_edit_take_place(ck, ino);
	if (r < 0)
		return r;
	f->is_new |= was_none && !wf_is(ck->graph, object, WF_NONE);
	f->judged = true;
	f->stand_in = f->sized = false;
	f->text_judged = !(how & SET_BACK);
	if (f->pending == PENDING_BYTES && wf_edit_tensor(ck, ino, &t) == 0 && t.storage == f->storage)
		wf_edit_set_pending(ck, f, PENDING_NOT);
	wf_edit_knows(f);
	return 0;
}

int wf_edit_become(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how)
{
	struct wf_place p;
	int r = wf_edit_place_of(ck, ino, &p) < 0 ? 0 : wf_edit_check_object(ck, p.dir, object);
	if (r == 0 && wf_edit_is_companion(ck, ino))
		r = wf_edit_check_pickle(ck, ino);
	if (r == 0)
		r = wf_edit_record_set(ck, ino, object, how);
	if (r == -ENOENT) /* an orphan: nobody will see what it is */
		return 0;
	return r < 0 ? r : wf_apply_set(ck, ino, object, how);
}

wf_ref wf_edit_set_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	struct wf_checkpoint *ck = ctx;
	int64_t number, numel;
	uint64_t size;
	bool untyped;
	uint32_t storage;
	wf_ref tag = wf_element(g, id, 0), class = wf_class_of(g, wf_element(g, id, 1));
	wf_ref location = wf_element(g, id, 3);
	size_t len;
	if (!wf_str_equal(g, tag, WF_DATA_FILE_ID))
		return wf_persid(g, id);
	enum wf_dtype dtype = wf_dtype_from_storage_class(wf_global_name(g, class), &untyped);
	const char *where = wf_is(g, location, WF_STR) ? wf_bytes(g, location, &len) : NULL;
	if (!wf_int_value(g, wf_element(g, id, 2), &number) || !wf_int_value(g, wf_element(g, id, 4), &numel) ||
	    number < 0 || number >= WF_NO_NUMBER || numel < 0 || dtype == WF_DTYPE_INVALID || !where ||
	    wf_mul_u64((uint64_t)numel, wf_dtype_info(dtype)->size_bytes, &size) || size > INT64_MAX) {
		wf_fail(err, -EINVAL, "the id of a storage");
		return WF_NIL;
	}
	storage = wf_edit_storage(ck, (uint32_t)number);
	int r = storage == WF_NO_STORAGE ? wf_edit_new_storage(ck, size, where, (uint32_t)number, &storage) : 0;
	/* an untyped class has the table's name of a dtype without one */
	if (r == 0)
		r = wf_storage_set_form(ck->storages, storage, untyped ? WF_UINT16 : dtype, where);
	if (r < 0) {
		wf_fail(err, r, "the id of a storage: %s", strerror(-r));
		return WF_NIL;
	}
	return wf_storage_get(ck->storages, storage)->persid;
}

static int restore_object(struct wf_checkpoint *ck, wf_ino ino)
{
	static const struct wf_tensor_type none = {.dtype = WF_UINT8};
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || !f->old || wf_edit_is_old(ck, ino, f->old))
		return 0;
	if (!f->old->is_tensor) { /* a log need not have heard of what was before, for text is held in memory */
		bool was_new = f->old->was_new, was_judged = f->old->was_judged;
		int set = wf_edit_become(ck, ino, f->old->object, SET_BACK);
		f->is_new = was_new;
		f->judged = was_judged;
		return set;
	}
	/* what no record changed needs none to come back */
	int r = f->old->told ? wf_edit_settle_as(ck, ino, SETTLE_RESTORE, &none)
			     : wf_apply_settle(ck, ino, SETTLE_RESTORE, &none);
	if (r == 0 && f->old->element_bytes) {
		ck->edits->writing = ino;
		r = wf_tensor_write(ck->storages, &f->old->t, 0, f->old->element, f->old->element_bytes);
		f->old->element_bytes = 0;
	}
	return r;
}

int wf_edit_restore(struct wf_checkpoint *ck, wf_ino ino)
{
	int r = restore_object(ck, ino), undone = wf_edit_undo(ck, ino);
	r = r < 0 ? r : undone;
	return r < 0 ? r : wf_edit_tell_known(ck, ino);
}
