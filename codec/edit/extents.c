/* SPDX-License-Identifier: MIT */
/* Data files of the overlay: what is written into a storage goes there, the log is told, and so is who views it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"

/* ---- extents ---- */

int wf_edit_open_extents(void *ctx, uint32_t storage, int *ret_fd)
{
	struct wf_checkpoint *ck = ctx;
	if (wf_edit_number(ck, storage) == WF_NO_NUMBER) {
		if (!ck->writable)
			return -EROFS;
		/* the first write into a storage of the base: its record follows once the bytes are there */
		int r = wf_edit_set_number(ck, storage, wf_overlay_new_number(ck->overlay));
		if (r < 0)
			return r;
		ck->edits->unnamed[storage] = true;
	}
	return wf_overlay_file(ck->overlay, wf_edit_number(ck, storage), ret_fd);
}

static int name_number(struct wf_checkpoint *ck, uint32_t storage, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_tensor t;
	if (f && f->pending == PENDING_BYTES && f->storage == storage)
		return wf_edit_log_pending(ck, ino);
	if (wf_edit_tensor(ck, ino, &t) < 0 || t.storage != storage)
		return -ENOENT; /* not the storage of the tensor that the name stands for */
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_u32(b, wf_edit_number(ck, storage));
	if (r == 0)
		r = wf_edit_record(ck, EDIT_BIND, true);
	if (r == 0)
		ck->edits->unnamed[storage] = false;
	return r;
}

/* The files that view a storage which has several views. Kept from call to call while nothing else is edited. */
static int find_viewers(struct wf_checkpoint *ck, uint32_t storage)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	if (e->viewed == storage && e->viewed_at == e->changes)
		return 0;
	e->viewed = WF_NO_STORAGE;
	e->viewers_count = 0;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		if (!n || n->type != WF_NODE_TENSOR || wf_edit_tensor(ck, ino, &t) < 0 || t.storage != storage)
			continue;
		wf_ino *p = reallocarray(e->viewers, e->viewers_count + 1, sizeof *p);
		if (!p)
			return -ENOMEM;
		e->viewers = p;
		p[e->viewers_count++] = ino;
	}
	e->viewed = storage;
	e->viewed_at = e->changes;
	return 0;
}

static void notify_viewers(struct wf_checkpoint *ck, uint32_t storage, uint64_t offset, uint64_t len)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	if (wf_storage_get(ck->storages, storage)->persids < 2 || find_viewers(ck, storage) < 0)
		return;
	for (uint32_t i = 0; i < e->viewers_count; i++) {
		wf_ino ino = e->viewers[i];
		uint64_t start, end;
		if (ino == e->writing || wf_edit_tensor(ck, ino, &t) < 0)
			continue;
		wf_layout_span(&t, &start, &end);
		if (offset >= end || offset + len <= start)
			continue;
		uint64_t from = WF_MAX(offset, start), to = WF_MIN(offset + len, end);
		wf_edit_stamp(ck, ino, true);
		if (!ck->changed)
			continue;
		if (t.contiguous)
			ck->changed(ck->changed_ctx, ino, from - start, to - from);
		else
			ck->changed(ck->changed_ctx, ino, 0, 0);
	}
}

void wf_edit_stamp_views(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage)
{
	wf_edit_stamp(ck, ino, true);
	if (wf_storage_get(ck->storages, storage)->persids < 2 || find_viewers(ck, storage) < 0)
		return;
	for (uint32_t i = 0; i < ck->edits->viewers_count; i++)
		wf_edit_stamp_viewer(ck, ck->edits->viewers[i]);
}

void wf_edit_written(void *ctx, uint32_t storage, uint64_t offset, uint64_t len)
{
	struct wf_checkpoint *ck = ctx;
	struct wf_edits *e = ck->edits;
	uint32_t number = wf_edit_number(ck, storage);
	uint64_t changes = e->changes;
	if (e->replaying || e->quiet || number == WF_NO_NUMBER)
		return;
	if (len > 0) {
		wf_overlay_touched(ck->overlay, number);
		notify_viewers(ck, storage, offset, len);
	}
	if (e->writing != WF_NO_INO) /* a view of a storage whose data file has its name from another view */
		wf_edit_touch_file(ck, e->writing);
	/* nobody in the tree can see what an orphan writes into a storage that is its own: there is nothing to log */
	if (e->unnamed[storage]) {
		int r = name_number(ck, storage, e->writing);
		for (uint32_t i = 0; r == -ENOENT && find_viewers(ck, storage) == 0 && i < e->viewers_count; i++)
			r = name_number(ck, storage, e->viewers[i]);
		if (r < 0)
			return;
	}
	if (len == 0) { /* the size was set */
		wf_edit_record_size(ck, number, offset, wf_edit_pending(ck, e->writing));
		return;
	}
	wf_edit_record_write(ck, number, offset, len, wf_edit_pending(ck, e->writing));
	e->viewed_at += e->viewed_at == changes ? e->changes - changes : 0; /* a write moves no view */
}
