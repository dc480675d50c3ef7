/* Edits around a commit: everything settled before it; what scratch entries and files that were unlinked while open
 * need of the old base carried over it, since the new one holds nothing of theirs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "util.h"

#define CHUNK (1u << 20)

int wf_edits_settle(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->edits)
		return 0;
	int r = ck->edits->loose_count > 0 ? wf_overlay_prepare_removal(ck->overlay) : 0;
	if (r == 0)
		r = wf_edit_settle_all(ck, true);
	if (r == 0)
		r = wf_edit_compact(ck);
	return r < 0 ? wf_fail(err, r, "%s", strerror(-r)) : 0;
}

/* ---- what is kept ---- */

static wf_ref note_kept(void *ctx, wf_ref persid, wf_ref id)
{
	struct wf_checkpoint *ck = ctx;
	uint32_t i = wf_storage_of(ck->storages, persid);
	if (i < ck->edits->kept_count)
		ck->edits->kept[i] = true;
	return id;
}

/* Files without a name, and content that has no meaning yet. */
static void note_files(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	for (uint32_t k = 0; k < e->files_count; k++) {
		const struct wf_file *f = e->files[k];
		const struct wf_node *n = f ? wf_tree_node(ck->tree, k + 1) : NULL;
		if (!n || n->type != WF_NODE_TENSOR)
			continue;
		if (f->loose == LOOSE_TENSOR && f->storage < e->kept_count)
			e->kept[f->storage] = true;
		if (n->nlink == 0 && f->openers > 0 && wf_edit_tensor(ck, k + 1, &t) == 0 && t.storage < e->kept_count)
			e->kept[t.storage] = true;
	}
}

static int copy_range(struct wf_checkpoint *ck, uint32_t storage, uint64_t at, uint64_t end, char *buf)
{
	int r = 0;
	for (; r == 0 && at < end; at += CHUNK) {
		size_t n = WF_MIN(end - at, (uint64_t)CHUNK);
		r = wf_storage_read(ck->storages, storage, at, buf, n);
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

/* Copies what still stands in the base to the storage's data file. No record says so: after a crash before the commit
 * those bytes are in the base as ever. */
static int own_bytes(struct wf_checkpoint *ck, uint32_t storage)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	int r = 0;
	if (s->bad)
		return s->bad;
	if (wf_edit_number(ck, storage) == WF_NO_NUMBER) {
		r = wf_edit_set_number(ck, storage, wf_overlay_new_number(ck->overlay));
		if (r < 0)
			return r;
		ck->edits->unnamed[storage] = true;
	}
	uint64_t base = WF_MIN(s->base_bytes, s->size_bytes), end;
	cleanup_free char *buf = base > 0 ? malloc(CHUNK) : NULL;
	if (base > 0 && !buf)
		return -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < base; at = end) {
		bool written = wf_extents_find(s->dirty, at, &end);
		end = WF_MIN(end, base);
		r = written ? 0 : copy_range(ck, storage, at, end, buf);
	}
	wf_overlay_touched(ck->overlay, wf_edit_number(ck, storage));
	return r;
}

int wf_edits_keep(struct wf_checkpoint *ck, const bool *live, struct wf_error *err)
{
	struct wf_edits *e = ck->edits;
	if (!e)
		return 0;
	free(e->kept);
	e->kept_count = wf_storages_count(ck->storages);
	e->kept = calloc(WF_MAX(e->kept_count, 1u), sizeof *e->kept);
	if (!e->kept) {
		e->kept_count = 0;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	int r = wf_edit_scratch_persids(ck, note_kept, ck);
	note_files(ck);
	e->quiet = true;
	for (uint32_t i = 0; r == 0 && i < e->kept_count; i++) {
		e->kept[i] &= !live[i] && wf_storage_get(ck->storages, i)->array == WF_NIL;
		r = e->kept[i] ? own_bytes(ck, i) : 0;
		if (r < 0 && r != -ENOMEM && r != -ENOSPC && r != -EDQUOT) {
			e->kept[i] = false;
			r = 0;
		}
	}
	e->quiet = false;
	return r < 0 ? wf_fail(err, r, "the bytes of scratch files, which the new checkpoint does not hold: %s",
			       strerror(-r))
		     : 0;
}

bool wf_edits_is_kept(const struct wf_checkpoint *ck, uint32_t storage)
{
	return ck->edits && storage < ck->edits->kept_count && ck->edits->kept[storage];
}

bool wf_edits_keep_file(void *ctx, uint32_t number)
{
	const struct wf_checkpoint *ck = ctx;
	return wf_edits_is_kept(ck, wf_edit_storage(ck, number));
}

/* ---- afterwards ---- */

bool wf_edits_reformed(const struct wf_checkpoint *ck)
{
	return ck->edits->reformed;
}

void wf_edits_committed(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	e->reformed = false;
	for (uint32_t i = 0; i < e->files_count; i++)
		if (e->files[i])
			e->files[i]->is_new = e->files[i]->untyped = false;
	for (uint32_t i = 0; i < e->by_number_count; i++)
		if (!wf_edits_is_kept(ck, e->by_number[i]))
			e->by_number[i] = WF_NO_STORAGE;
	/* the log that begins now has not heard of the kept ones */
	for (uint32_t i = 0; i < e->numbers_count; i++) {
		e->unnamed[i] = wf_edits_is_kept(ck, i);
		e->numbers[i] = e->unnamed[i] ? e->numbers[i] : WF_NO_NUMBER;
	}
	e->changes++;
	e->generation++; /* a list's names are numbered anew */
	e->scratch_unlogged = e->shadow_count > 0;
}
