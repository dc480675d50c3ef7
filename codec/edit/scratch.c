/* SPDX-License-Identifier: MIT */
/* Scratch entries in the log that a commit begins: the old one, which made them, goes, and no checkpoint holds them. They are there before
 * the new file has its name.
 *
 * Each entry is one pickle, as it would stand in a checkpoint, so that it needs no form of its own whatever it is. Its
 * storages are named by their data files, or by the records of the new base where a key of the checkpoint views them,
 * too; not by keys, which a commit may have changed without looking at what it does not write.
 * A container that stands in the checkpoint as well is found again where the entry itself is the link; one inside a
 * scratch entry comes back from the log as a copy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/container/records.h"
#include "codec/edit/inner.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

#define PIECE_BYTES (1u << 20)

static int to_nobody(void *ctx, const void *data, size_t len)
{
	return 0;
}

int wf_edit_scratch_persids(struct wf_checkpoint *ck, wf_ref (*each)(void *ctx, wf_ref persid, wf_ref id), void *ctx)
{
	const struct wf_pickle_writer hooks = {.persid = each, .write = to_nobody, .ctx = ctx};
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->scratch_dir_count; i++) {
		const struct wf_dir *d = wf_tree_dir(ck->tree, e->scratch_dirs[i].dir);
		for (uint32_t k = 0; d && k < d->count; k++) {
			int r = d->entries[k].value == WF_NIL
					? 0
					: wf_pickle_write(ck->graph, d->entries[k].value, &hooks, NULL);
			if (r == -ENOMEM)
				return r;
		}
	}
	return 0;
}

/* ---- ids ---- */

struct relog {
	struct wf_checkpoint *ck;
	const struct wf_next_base *base;
	struct wf_key_map ids;    /* PERSID (its ref's bytes) -> id to write in place of its own, or WF_NIL */
	struct wf_key_map places; /* file of several names -> directory and position of the one that was written */
	bool failed;
	/* the entry that is being written */
	struct wf_buffer pickle; /* what follows the pieces */
	uint64_t pieces_bytes;
};

static wf_ref collect(void *ctx, wf_ref persid, wf_ref id)
{
	struct relog *l = ctx;
	if (wf_storage_of(l->ck->storages, persid) != WF_NO_STORAGE)
		l->failed |= wf_key_map_put(&l->ids, &persid, sizeof persid, WF_NIL) < 0;
	return id;
}

/* Made before anything is written: the writer only reads the graph. */
static int make_ids(struct relog *l)
{
	struct wf_graph *g = l->ck->graph;
	wf_ref in_record = wf_str(g, WF_RECORD_ID), in_data_file = wf_str(g, WF_DATA_FILE_ID);
	if (in_record == WF_NIL || in_data_file == WF_NIL)
		return -ENOMEM;
	for (uint32_t k = 0; k < l->ids.count; k++) {
		wf_ref copy[6], persid;
		memcpy(&persid, l->ids.keys[k].bytes, sizeof persid);
		uint32_t n, i = wf_storage_of(l->ck->storages, persid);
		const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &n);
		if (n < 5 || n > WF_ARRAY_SIZE(copy))
			continue;
		bool kept = wf_edits_is_kept(l->ck, i);
		uint32_t record = kept ? WF_NO_RECORD : l->base->record_of(l->base->ctx, i);
		if (kept)
			l->ck->edits->unnamed[i] = false;
		memcpy(copy, e, n * sizeof *e);
		copy[0] = record != WF_NO_RECORD ? in_record : in_data_file;
		/* bytes that could not be kept have no data file */
		copy[2] = wf_int(g, record != WF_NO_RECORD ? record : kept ? wf_edit_number(l->ck, i) : WF_NO_NUMBER);
		wf_ref id = copy[2] == WF_NIL ? WF_NIL : wf_tuple(g, copy, n);
		if (id == WF_NIL)
			return -ENOMEM;
		l->ids.keys[k].value = id;
	}
	return 0;
}

static wf_ref logged_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct relog *l = ctx;
	const uint64_t *to = l->ids.count ? wf_key_map_get(&l->ids, &persid, sizeof persid) : NULL;
	return to && *to != WF_NIL ? (wf_ref)*to : id;
}

/* ---- entries ---- */

static int write_piece(void *ctx, const void *data, size_t len)
{
	struct relog *l = ctx;
	wf_buffer_append(&l->pickle, data, len);
	if (l->pickle.len < PIECE_BYTES)
		return wf_buffer_status(&l->pickle);
	struct wf_buffer *b = wf_edit_payload(l->ck);
	wf_put_u64(b, l->pieces_bytes);
	wf_buffer_append(b, l->pickle.data, l->pickle.len);
	l->pieces_bytes += l->pickle.len;
	wf_buffer_free(&l->pickle);
	return wf_edit_record(l->ck, EDIT_PIECE, false);
}

static int log_object(struct relog *l, wf_ino dir, const char *name, wf_ref object)
{
	const struct wf_pickle_writer hooks = {.persid = logged_id, .write = write_piece, .ctx = l};
	l->pieces_bytes = 0;
	wf_buffer_free(&l->pickle);
	int r = wf_pickle_write(l->ck->graph, object, &hooks, NULL);
	if (r < 0)
		return r;
	struct wf_buffer *b = wf_edit_payload(l->ck);
	r = wf_put_path(l->ck, b, dir, name);
	wf_put_u64(b, l->pieces_bytes);
	wf_buffer_append(b, l->pickle.data, l->pickle.len);
	return r < 0 ? r : wf_edit_record(l->ck, EDIT_OBJECT, false);
}

static int log_link(struct relog *l, wf_ino dir, const char *name, wf_ref object)
{
	struct wf_buffer *b = wf_edit_payload(l->ck);
	if (wf_is(l->ck->graph, object, WF_STR)) {
		size_t len = 0;
		const char *target = wf_bytes(l->ck->graph, object, &len);
		int r = target ? wf_put_path(l->ck, b, dir, name) : -EUCLEAN;
		if (target)
			wf_put_text(b, target, len);
		return r < 0 ? r : wf_edit_record(l->ck, EDIT_SYMLINK_TO, false);
	}
	wf_ino target = wf_tree_ino_of(l->ck->tree, object);
	int r = target == WF_NO_INO ? -ENOENT : wf_put_dir(l->ck, b, target);
	if (r == 0)
		r = wf_put_path(l->ck, b, dir, name);
	return r < 0 ? r : wf_edit_record(l->ck, EDIT_SYMLINK, false);
}

static uint64_t packed(wf_ino dir, uint32_t position)
{
	return (uint64_t)dir << 32 | position;
}

/* One more name of a file that is in the new checkpoint, or was written already. *ret: whether it is one. */
static int log_name(struct relog *l, wf_ino ino, wf_ino dir, uint32_t position, const char *name, bool *ret)
{
	char other[WF_NAME_MAX + 1];
	struct wf_checkpoint *ck = l->ck;
	struct wf_place key;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	*ret = false;
	if (n->nlink < 2 || (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE))
		return 0;
	bool found = wf_edit_first_key(ck, ino, &key);
	const uint64_t *written = l->places.count ? wf_key_map_get(&l->places, &ino, sizeof ino) : NULL;
	if (!written && !found)
		return wf_key_map_put(&l->places, &ino, sizeof ino, packed(dir, position));
	uint64_t at = found ? packed(key.dir, key.position) : *written;
	wf_ino from = (wf_ino)(at >> 32);
	if (!wf_tree_name(ck->tree, wf_tree_dir(ck->tree, from), (uint32_t)at, other))
		return -ENOENT;
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_path(ck, b, from, other);
	if (r == 0)
		r = wf_put_path(ck, b, dir, name);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_LINK, false);
	*ret = r == 0;
	return r;
}

static int lose(struct wf_edits *e, wf_ino dir, uint32_t position)
{
	struct wf_place *all = reallocarray(e->next.lost, e->next.lost_count + 1, sizeof *all);
	if (!all)
		return -ENOMEM;
	e->next.lost = all;
	all[e->next.lost_count++] = (struct wf_place){dir, position};
	return 0;
}

/* The entries of a scratch directory that are links, or those that are not. What the log cannot say is taken from the mount, too,
 * when the commit is done: an edit of it would be a record that no replay can follow. */
static int log_scratch_dir(struct relog *l, wf_ino scratch_dir, bool links)
{
	char name[WF_NAME_MAX + 1];
	struct wf_checkpoint *ck = l->ck;
	const struct wf_dir *d = wf_tree_dir(ck->tree, scratch_dir);
	for (uint32_t i = 0; d && i < d->count; i++) {
		const struct wf_node *n = wf_tree_node(ck->tree, d->entries[i].ino);
		if (!n || (n->type == WF_NODE_LINK) != links || !wf_tree_name(ck->tree, d, i, name))
			continue;
		bool done = false;
		int r = log_name(l, d->entries[i].ino, scratch_dir, i, name, &done);
		if (r == 0 && !done)
			r = links ? log_link(l, scratch_dir, name, n->object)
				  : log_object(l, scratch_dir, name, d->entries[i].value);
		if (r == -EOPNOTSUPP || r == -E2BIG || r == -ENOENT || r == -EUCLEAN || r == -ENAMETOOLONG) {
			wf_log_line(&ck->log, "%s is gone: it cannot be kept across a commit: %s", name, strerror(-r));
			r = lose(ck->edits, scratch_dir, i);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static uint32_t depth_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	uint32_t depth = 0;
	for (; dir != WF_INO_ROOT && wf_tree_node(ck->tree, dir); depth++)
		dir = wf_edit_parent_of(ck, dir);
	return depth;
}

/* From the root down: a directory that was moved to a scratch name has its own scratch entries under that name. */
static int log_scratch_dirs(struct relog *l, bool links)
{
	const struct wf_edits *e = l->ck->edits;
	uint32_t deepest = 0;
	int r = 0;
	for (uint32_t i = 0; i < e->scratch_dir_count; i++)
		deepest = WF_MAX(deepest, depth_of(l->ck, e->scratch_dirs[i].owner));
	for (uint32_t depth = 0; r == 0 && depth <= deepest; depth++)
		for (uint32_t i = 0; r == 0 && i < e->scratch_dir_count; i++)
			if (depth_of(l->ck, e->scratch_dirs[i].owner) == depth)
				r = log_scratch_dir(l, e->scratch_dirs[i].dir, links);
	return r;
}

static int log_bytes(struct wf_checkpoint *ck, uint32_t storage)
{
	uint32_t n, number = wf_edit_number(ck, storage);
	const struct wf_extent *all = wf_extents_all(wf_storage_get(ck->storages, storage)->dirty, &n);
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = wf_edit_record_write(ck, number, all[i].start, all[i].end - all[i].start, false);
	return r;
}

/* New files that the commit left out, because nobody has judged what a writer makes of them. */
static int log_waiting(struct wf_checkpoint *ck, wf_ino ino)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	struct wf_tensor t;
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || !f->aside || wf_edit_tensor(ck, ino, &t) < 0 || wf_edit_place_of(ck, ino, &p) < 0 ||
	    !wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name))
		return 0;
	uint32_t number = wf_edit_number(ck, t.storage);
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_path(ck, b, p.dir, name);
	wf_put_u32(b, number);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_CREATE, true);
	if (r == 0)
		ck->edits->unnamed[t.storage] = false;
	if (r == 0)
		r = wf_edit_log_declared(ck, ino);
	if (r == 0)
		r = wf_edit_log_known(ck, ino, true);
	return r < 0 || f->pending != PENDING_BYTES ? r : wf_edit_log_pending(ck, ino);
}

/* What an entry is beside its object: that it is new, what attributes declare, and its text as it was typed. */
static int log_scratch_file(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = f ? wf_tree_node(ck->tree, ino) : NULL;
	if (!n || f->aside || n->type == WF_NODE_LINK || !wf_edit_is_scratch_file(ck, ino))
		return 0;
	int r = wf_edit_log_declared(ck, ino);
	if (r == 0)
		r = wf_edit_log_known(ck, ino, false);
	if (r == 0 && f->pending == PENDING_BYTES) {
		r = wf_edit_log_pending(ck, ino);
		if (r == 0 && wf_edit_keeps_text(ck, ino))
			r = wf_edit_record_set(ck, ino, n->object, 0);
	}
	return r;
}

static bool has_entries(const struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->scratch_dir_count; i++)
		if (wf_tree_dir(ck->tree, e->scratch_dirs[i].dir)->live > 0)
			return true;
	return false;
}

bool wf_edits_needs_next(const struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	bool waits = false;
	for (uint32_t i = 0; e && !waits && i < e->files_count; i++)
		waits = e->files[i] && e->files[i]->aside;
	return e && (waits || has_entries(ck));
}

static int log_all(struct relog *l)
{
	struct wf_checkpoint *ck = l->ck;
	struct wf_edits *e = ck->edits;
	int r = wf_edit_scratch_persids(ck, collect, l);
	if (r == 0)
		r = l->failed ? -ENOMEM : make_ids(l);
	if (r == 0)
		r = log_scratch_dirs(l, false);
	if (r == 0)
		r = log_scratch_dirs(l, true);
	for (wf_ino ino = 1; r == 0 && ino <= e->files_count; ino++)
		r = log_waiting(ck, ino);
	for (wf_ino ino = 1; r == 0 && ino <= e->files_count && e->scratch_dir_count > 0; ino++)
		r = log_scratch_file(ck, ino);
	for (uint32_t i = 0; r == 0 && i < e->kept_count; i++)
		if (e->kept[i] && wf_edit_number(ck, i) != WF_NO_NUMBER && !e->unnamed[i])
			r = log_bytes(ck, i);
	return r;
}

int wf_edits_log_next(struct wf_checkpoint *ck, const struct wf_next_base *base)
{
	struct wf_edits *e = ck->edits;
	struct relog l = {.ck = ck, .base = base};
	bool *unnamed = malloc(WF_MAX(e->numbers_count, 1u) * sizeof *unnamed);
	bool *of_old_log = e->unnamed, structural = e->structural;
	if (!unnamed)
		return -ENOMEM;
	wf_edits_drop_next(e);
	/* of data files that the log which begins has heard of; the old one goes on if the commit fails */
	for (uint32_t i = 0; i < e->numbers_count; i++)
		unnamed[i] = wf_edits_is_kept(ck, i);
	e->unnamed = unnamed;
	e->structural = false;
	int r = log_all(&l);
	e->next.unnamed = unnamed;
	e->next.structural = e->structural;
	e->unnamed = of_old_log;
	e->structural = structural;
	if (r < 0)
		wf_edits_drop_next(e);
	wf_key_map_free(&l.ids);
	wf_key_map_free(&l.places);
	wf_buffer_free(&l.pickle);
	return r;
}

void wf_edits_drop_next(struct wf_edits *e)
{
	free(e->next.unnamed);
	free(e->next.lost);
	e->next = (struct wf_next_log){0};
}
