/* SPDX-License-Identifier: MIT */
/* Pending content: what a writer makes stands beside the graph until it is judged, and the old state can come back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/tensor/layout.h"
#include "codec/value/text.h"
#include "codec/bytes/util.h"

#define CHUNK (1u << 20)

/* ---- holding ---- */

/* Content whose storage is all its own and that only grows: the judged part of it stays what it is. */
static bool can_stay(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint64_t keep)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && f->is_new && f->twins == WF_NO_INO && t->dtype == WF_UINT8 && t->ndim == 1 &&
	       keep == t->size_bytes && wf_edit_sole_view(ck, t) && t->offset_elems == 0 && s->base_bytes == 0 &&
	       s->size_bytes == t->size_bytes && wf_edit_number(ck, t->storage) != WF_NO_NUMBER &&
	       !ck->edits->unnamed[t->storage];
}

static int record_hold(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage, uint8_t flags)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_u32(b, wf_edit_number(ck, storage));
	wf_put_u8(b, flags);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_HOLD, wf_edit_pending(ck, ino));
	if (r == -ENOENT) { /* an orphan: nothing to log */
		ck->edits->unnamed[storage] |= !(flags & HOLD_IN_PLACE);
		r = 0;
	} else if (r == 0 && flags & HOLD_FIRST) {
		wf_edit_told_old(wf_edit_known(ck, ino));
	}
	return r;
}

int wf_apply_hold(struct wf_checkpoint *ck, wf_ino ino, uint32_t number, uint8_t flags)
{
	struct wf_tensor t = {.storage = WF_NO_STORAGE};
	struct wf_file *f = wf_edit_file(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!f)
		return -ENOMEM;
	if (flags & HOLD_FIRST && ck->edits->replaying) {
		wf_edit_drop_pending(ck, ino); /* that opening ended without a record */
		wf_edit_forget_old(ck, ino);
	}
	bool tensor = n->type == WF_NODE_TENSOR;
	int r = tensor ? wf_edit_tensor(ck, ino, &t) : n->type == WF_NODE_VALUE ? 0 : -EINVAL;
	if (r < 0)
		return r;
	if (f->pending != PENDING_NOT || t.kind == WF_TENSOR_META)
		return -EINVAL;
	r = wf_edit_keep_old(ck, ino);
	if (r < 0)
		return r;
	uint32_t storage = t.storage;
	const char *location =
		!tensor || t.kind == WF_TENSOR_NUMPY ? "cpu" : wf_storage_location(ck->storages, t.storage);
	if (!(flags & HOLD_IN_PLACE))
		r = wf_edit_new_storage(ck, 0, location, number, &storage);
	else if (!tensor || wf_edit_storage(ck, number) != t.storage)
		r = -EINVAL;
	if (r == 0)
		r = record_hold(ck, ino, storage, flags);
	if (r < 0)
		return r;
	f->storage = storage;
	f->text_judged = false;
	f->sized = flags & HOLD_SIZED;
	wf_edit_set_pending(ck, f, PENDING_BYTES);
	return 0;
}

/* After a commit the log that begins has not heard of what is pending. */
int wf_edit_log_pending(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_tensor t;
	uint32_t n, storage = f->storage, number = wf_edit_number(ck, storage);
	if (wf_tree_node(ck->tree, ino)->nlink == 0)
		return -ENOENT; /* no name that a log could say */
	bool in_place = wf_edit_tensor(ck, ino, &t) == 0 && t.storage == storage;
	int r = record_hold(ck, ino, storage, HOLD_FIRST | (in_place ? HOLD_IN_PLACE : 0));
	const struct wf_extent *all = wf_extents_all(wf_storage_get(ck->storages, storage)->dirty, &n);
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = wf_edit_record_write(ck, number, all[i].start, all[i].end - all[i].start, false);
	uint64_t size = wf_storage_get(ck->storages, storage)->size_bytes;
	if (r == 0 && size != (n > 0 ? all[n - 1].end : 0)) /* zeroes behind what was written */
		r = wf_edit_record_size(ck, number, size, false);
	if (r == 0)
		ck->edits->unnamed[storage] = false;
	return r;
}

static int copy_in(struct wf_checkpoint *ck, const struct wf_tensor *t, uint32_t storage, uint64_t len)
{
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? wf_storage_resize(ck->storages, storage, len) : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < len; at += CHUNK) {
		size_t n = WF_MIN(len - at, (uint64_t)CHUNK);
		r = wf_tensor_read(ck->storages, t, at, buf, n);
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

static uint8_t hold_flags(const struct wf_file *f)
{
	return (uint8_t)((f->old && f->old->told ? 0 : HOLD_FIRST) | (f->sized ? HOLD_SIZED : 0));
}

/* Content of bytes for a value, in a data file of its own. */
static int hold_as_bytes(struct wf_checkpoint *ck, wf_ino ino, uint8_t flags, const void *bytes, size_t len)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	int r = wf_apply_hold(ck, ino, wf_overlay_new_number(ck->overlay), flags);
	if (r < 0)
		return r;
	ck->edits->writing = ino;
	r = wf_storage_resize(ck->storages, f->storage, len);
	if (r == 0 && len > 0)
		r = wf_storage_write(ck->storages, f->storage, 0, bytes, len);
	if (r < 0) /* a full disk */
		wf_edit_drop_pending(ck, ino);
	return r;
}

/* A new value was judged, and is written to again. The log has the judged bytes, and may not hear of the next ones before a
 * kill: they go to another data file. */
static int hold_anew(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	uint64_t size = WF_MIN(keep, wf_edits_pending_size(ck, ino));
	cleanup_free char *bytes = malloc(size + 1);
	int r = bytes ? wf_edit_read(ck, ino, 0, bytes, size) : -ENOMEM;
	uint8_t flags = hold_flags(f);
	if (r == 0)
		r = wf_edit_keep_old(ck, ino);
	if (r == 0)
		r = wf_edit_drop_pending(ck, ino);
	return r < 0 ? r : hold_as_bytes(ck, ino, flags, bytes, size);
}

/* The text of a value in memory, which the log need not hear of; that of a new one, and of None, which becomes one, stays as it was typed,
 * after a replay, too. */
static int hold_text(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	wf_ref object = wf_tree_node(ck->tree, ino)->object;
	bool stays = f->is_new || wf_is(ck->graph, object, WF_NONE);
	uint8_t flags = hold_flags(f);
	int r = stays ? 0 : wf_edit_keep_old(ck, ino);
	wf_buffer_free(&f->text);
	if (r == 0 && keep > 0)
		r = wf_value_text(ck->graph, object, &f->text);
	if (r == 0 && stays) {
		struct wf_buffer text = f->text;
		f->text = (struct wf_buffer)WF_BUFFER_INIT;
		r = hold_as_bytes(ck, ino, flags, text.data, text.len);
		wf_buffer_free(&text);
	} else if (r == 0) {
		f->text_judged = false;
		wf_edit_set_pending(ck, f, PENDING_TEXT);
	}
	return r;
}

int wf_edit_hold_copy(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint64_t keep)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	int r = wf_apply_hold(ck, ino, wf_overlay_new_number(ck->overlay), hold_flags(f));
	if (r == 0 && keep > 0) {
		ck->edits->writing = ino;
		r = copy_in(ck, t, f->storage, keep);
		if (r < 0) /* a full disk */
			wf_edit_drop_pending(ck, ino);
	}
	return r;
}

int wf_edit_hold(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f)
		return -ENOMEM;
	bool is_value = wf_tree_node(ck->tree, ino)->type == WF_NODE_VALUE;
	if (f->pending != PENDING_NOT)
		return is_value && f->pending == PENDING_BYTES && f->judged && !f->touched ? hold_anew(ck, ino, keep)
											   : 0;
	if (is_value) {
		int kept = wf_edit_check_pickle(ck, ino);
		return kept < 0 ? kept : hold_text(ck, ino, keep);
	}
	int r = wf_edit_tensor(ck, ino, &t);
	if (r == 0)
		r = wf_edit_check_bytes(ck, ino, &t);
	if (r < 0)
		return r;
	if (t.kind == WF_TENSOR_META || t.kind == WF_TENSOR_STORAGE)
		return -EOPNOTSUPP; /* no bytes; or a size that others rely on */
	keep = WF_MIN(keep, t.size_bytes);
	return can_stay(ck, ino, &t, keep)
		       ? wf_apply_hold(ck, ino, wf_edit_number(ck, t.storage), hold_flags(f) | HOLD_IN_PLACE)
		       : wf_edit_hold_copy(ck, ino, &t, keep);
}

int wf_edit_hold_bytes(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f->pending != PENDING_TEXT)
		return 0;
	struct wf_buffer text = f->text;
	wf_edit_set_pending(ck, f, PENDING_NOT);
	int r = hold_as_bytes(ck, ino, HOLD_FIRST, text.data, text.len);
	if (r < 0) { /* the text stays where it was */
		wf_edit_set_pending(ck, f, PENDING_TEXT);
		return r;
	}
	f->text = (struct wf_buffer)WF_BUFFER_INIT;
	wf_buffer_free(&text);
	return 0;
}

int wf_edit_drop_pending(struct wf_checkpoint *ck, wf_ino ino)
{
	static const struct wf_tensor_type none = {.dtype = WF_UINT8};
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->pending == PENDING_NOT)
		return 0;
	if (f->pending == PENDING_TEXT) {
		wf_buffer_free(&f->text);
		wf_edit_set_pending(ck, f, PENDING_NOT);
		return 0;
	}
	return wf_edit_settle_as(ck, ino, SETTLE_ABANDON, &none);
}

/* ---- what becomes of it ---- */

/* The data file becomes the tensor's storage. */
static int switch_storage(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f, const struct wf_tensor_type *type)
{
	struct wf_tensor t = {.rebuild = WF_NIL};
	int r = wf_edit_tensor(ck, ino, &t);
	/* a tensor whose storage shrank under it decodes with an error but in full */
	if (r < 0 && t.rebuild == WF_NIL)
		return r;
	wf_tensor_set_type(&t, type, f->storage);
	r = wf_storage_set_form(ck->storages, f->storage, type->dtype, NULL);
	if (r == 0)
		r = wf_edit_change_type(ck, ino, &t);
	if (r < 0)
		return r;
	f->judged = true;
	wf_edit_set_pending(ck, f, PENDING_NOT);
	return 0;
}

static int abandon(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f)
{
	struct wf_tensor t;
	uint32_t content = f->storage;
	wf_edit_set_pending(ck, f, PENDING_NOT);
	f->storage = WF_NO_STORAGE;
	if (wf_edit_tensor(ck, ino, &t) < 0 && t.storage == content)
		return 0;
	if (wf_tree_node(ck->tree, ino)->type != WF_NODE_TENSOR || t.storage != content) {
		const struct wf_tensor *old = wf_edit_old_tensor(f);
		if (!old || old->storage != content) {
			wf_edit_drop_storage(ck, content);
			return 0;
		}
		t = *old; /* it may come back */
	}
	/* it grew where it was: what came behind the judged part goes */
	ck->edits->quiet = true;
	int r = wf_storage_resize(ck->storages, content, t.size_bytes);
	ck->edits->quiet = false;
	return r;
}

int wf_apply_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_tensor_type *type)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r;
	if (how == SETTLE_RESTORE) {
		if (!f || !f->old)
			return -EINVAL;
		f->is_new = f->old->was_new;
		f->judged = f->old->was_judged;
		r = wf_edit_restore_object(ck, ino, f->old);
	} else if (!f || f->pending != PENDING_BYTES) {
		return -EINVAL;
	} else {
		r = how == SETTLE_SWITCH ? switch_storage(ck, ino, f, type) : abandon(ck, ino, f);
		f->sized = false;
	}
	wf_edit_knows(f);
	return r;
}

static int record_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_tensor_type *type)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = 0;
	if (wf_tree_node(ck->tree, ino)->nlink == 0)
		return 0; /* an orphan: nothing to log */
	if (f->pending == PENDING_BYTES && ck->edits->unnamed[f->storage] && how != SETTLE_ABANDON)
		r = wf_edit_log_pending(ck, ino);
	else if (f->pending == PENDING_BYTES && ck->edits->unnamed[f->storage])
		return 0; /* the log has not heard of it */
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_file(ck, b, ino);
	wf_put_u8(b, (uint8_t)how);
	wf_put_u8(b, (uint8_t)type->dtype);
	wf_put_u8(b, (uint8_t)type->ndim);
	for (uint32_t i = 0; i < type->ndim; i++)
		wf_put_u64(b, (uint64_t)type->shape[i]);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SETTLE, wf_edit_pending(ck, ino));
	return r;
}

int wf_edit_settle_as(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_tensor_type *type)
{
	int r = how == SETTLE_SWITCH ? wf_edit_check_pickle(ck, ino) : 0;
	if (r == 0)
		r = record_settle(ck, ino, how, type);
	return r < 0 ? r : wf_apply_settle(ck, ino, how, type);
}

bool wf_edit_is_unjudged(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_place p;
	struct wf_tensor t;
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!f || !n || !f->is_new || f->judged || f->writers == 0 || n->type != WF_NODE_TENSOR || n->nlink != 1 ||
	    wf_edit_place_of(ck, ino, &p) < 0 || wf_edit_is_scratch(ck, p.dir))
		return false;
	/* not what stands for a backup */
	return wf_tree_dir(ck->tree, p.dir)->kind == WF_DIR_MAPPING && wf_edit_tensor(ck, ino, &t) == 0 &&
	       (f->pending == PENDING_NOT || t.storage == f->storage);
}
