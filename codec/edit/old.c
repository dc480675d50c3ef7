/* SPDX-License-Identifier: MIT */
/* The old state of an entry: what it was before the first of overlapping openings changed it, and the way back to that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"

int wf_edit_keep_old(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!f)
		return -ENOMEM;
	if (f->old)
		return 0;
	struct wf_old *old = calloc(1, sizeof *old);
	if (!old)
		return -ENOMEM;
	old->object = n->object;
	old->was_new = f->is_new;
	old->was_judged = f->judged;
	old->shared = f->stand_in;
	/* where only the storage is to blame, the type is there as declared */
	old->is_tensor =
		n->type == WF_NODE_TENSOR && (wf_edit_tensor(ck, ino, &old->t) == 0 || old->t.rebuild != WF_NIL);
	f->old = old;
	return 0;
}

const struct wf_tensor *wf_edit_old_tensor(const struct wf_file *f)
{
	return f && f->old && f->old->is_tensor ? &f->old->t : NULL;
}

wf_ref wf_edit_old_object(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && f->old ? f->old->object : wf_tree_node(ck->tree, ino)->object;
}

void wf_edit_keep_element(struct wf_file *f, const void *bytes, size_t len)
{
	if (!f->old || f->old->element_bytes || len > sizeof f->old->element)
		return;
	memcpy(f->old->element, bytes, len);
	f->old->element_bytes = (uint32_t)len;
}

/* A storage that nothing of the file needs any more and that no base has. */
static void drop_unused(struct wf_checkpoint *ck, wf_ino ino, const struct wf_old *old)
{
	uint32_t storage = old->t.storage;
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	struct wf_tensor t;
	if (!s || s->inside || s->base_bytes > 0 || s->persids > 1 || s->record != WF_NO_RECORD)
		return;
	if ((f->pending == PENDING_BYTES && f->storage == storage) ||
	    (wf_edit_tensor(ck, ino, &t) == 0 && t.storage == storage))
		return;
	if (!wf_past_holds(ck, old->object, storage) && !wf_edit_twin_shows(ck, ino, storage))
		wf_edit_drop_storage(ck, storage);
}

void wf_edit_forget_old(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || !f->old)
		return;
	struct wf_old *old = steal_pointer(&f->old);
	if (old->is_tensor && !old->shared && old->t.kind == WF_TENSOR_DENSE && wf_tree_node(ck->tree, ino))
		drop_unused(ck, ino, old);
	free(old);
}

int wf_edit_restore_object(struct wf_checkpoint *ck, wf_ino ino, const struct wf_old *old)
{
	struct wf_tensor now;
	struct wf_tensor t = old->t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (n->object != old->object)
		return wf_edit_set_object(ck, ino, old->object);
	if (!old->is_tensor || old->t.kind != WF_TENSOR_DENSE)
		return 0;
	int r = wf_edit_tensor(ck, ino, &now);
	struct wf_tensor_type type = wf_tensor_type_of(&now);
	if (r == 0 && now.storage == t.storage && now.offset_elems == t.offset_elems && wf_tensor_has_type(&type, &t) &&
	    !memcmp(now.stride, t.stride, t.ndim * sizeof *t.stride))
		return 0;
	return wf_edit_change_type(ck, ino, &t);
}

int wf_edit_replay_old(struct wf_checkpoint *ck, wf_ino ino)
{
	wf_edit_forget_old(ck, ino);
	return wf_edit_keep_old(ck, ino);
}

bool wf_edit_is_old(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_old *old)
{
	struct wf_tensor now;
	if (wf_tree_node(ck->tree, ino)->object != old->object || old->element_bytes)
		return false;
	if (!old->is_tensor || wf_edit_tensor(ck, ino, &now) < 0)
		return !old->is_tensor;
	struct wf_tensor_type type = wf_tensor_type_of(&now);
	return now.storage == old->t.storage && wf_tensor_has_type(&type, &old->t);
}
