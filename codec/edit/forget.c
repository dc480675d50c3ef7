/* SPDX-License-Identifier: MIT */
/* What is known of a file goes with the file, and with it the bytes that only the file needed. */
#include <stdlib.h>

#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"

void wf_edit_free_file(struct wf_file *f)
{
	if (!f)
		return;
	free(f->hidden);
	free(f->was);
	free(f->shard);
	free(f->old);
	wf_edit_free_undo(f);
	wf_declared_clear(f);
	free(f->looks);
	free(f->home);
	wf_buffer_free(&f->text);
	free(f);
}

void wf_edit_forget(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	if (!n || n->nlink > 0 || (f && f->openers > 0))
		return;
	ck->edits->changes++;
	wf_edit_forget_old(ck, ino);
	if (f && f->pending == PENDING_BYTES)
		wf_edit_drop_storage(ck, f->storage);
	/* what was written into a storage that only this file viewed is not needed any more */
	if (n->type == WF_NODE_TENSOR && wf_edit_tensor(ck, ino, &t) == 0 && wf_edit_sole_view(ck, &t) &&
	    wf_storage_get(ck->storages, t.storage)->base_bytes == 0 &&
	    !(f && f->pending == PENDING_BYTES && f->storage == t.storage) &&
	    !wf_past_holds(ck, n->object, t.storage) && !wf_edit_twin_shows(ck, ino, t.storage))
		wf_edit_drop_storage(ck, t.storage);
	if (f) {
		wf_edit_set_pending(ck, f, PENDING_NOT);
		wf_edit_forget_hidden(ck, f);
		wf_edit_free_file(f);
		ck->edits->files[ino - 1] = NULL;
	}
}

void wf_edit_renumber(struct wf_checkpoint *ck, wf_ino gone, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	struct wf_file *f = wf_edit_known(ck, gone);
	if (!f)
		return;
	struct wf_file *before = wf_edit_file(ck, ino); /* of the link */
	if (before) {
		wf_edit_forget_hidden(ck, before);
		wf_edit_free_file(before);
		e->files[ino - 1] = f;
	} else {
		wf_edit_forget_hidden(ck, f);
		wf_edit_free_file(f);
	}
	e->files[gone - 1] = NULL;
}
