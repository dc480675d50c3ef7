/* SPDX-License-Identifier: MIT */
/* Replay of what edit/scratch.c writes: scratch entries out of their pickles. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

int wf_replay_scratch(struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	int r = 0;
	for (uint32_t i = 0; i < e->scratch_dir_count; i++) {
		wf_ino scratch_dir = e->scratch_dirs[i].dir;
		for (uint32_t k = 0; r == 0 && k < wf_tree_dir(ck->tree, scratch_dir)->count; k++) {
			wf_ino ino = wf_tree_dir(ck->tree, scratch_dir)->entries[k].ino;
			if (ino == WF_NO_INO)
				continue;
			r = wf_tree_remove(ck->tree, scratch_dir, k, NULL);
			wf_edit_forget(ck, ino);
		}
	}
	return r;
}

int wf_replay_piece(struct wf_checkpoint *ck, uint64_t at, const void *data, size_t len)
{
	struct wf_buffer *pieces = &ck->edits->pieces;
	if (at == 0)
		wf_buffer_free(pieces); /* of a pickle that was not finished */
	if (at != pieces->len)
		return -EINVAL;
	wf_buffer_append(pieces, data, len);
	return wf_buffer_status(pieces);
}

static int find_storages_of_records(struct wf_checkpoint *ck, uint32_t records)
{
	uint32_t *of = malloc(WF_MAX(records, 1u) * sizeof *of);
	if (!of)
		return -ENOMEM;
	memset(of, 0xff, records * sizeof *of);
	for (uint32_t i = 0; i < wf_storages_count(ck->storages); i++) {
		uint32_t record = wf_storage_get(ck->storages, i)->record;
		if (record < records)
			of[record] = i;
	}
	ck->edits->storage_of_record = of;
	return 0;
}

static int storage_of_record(struct wf_checkpoint *ck, int64_t record, uint32_t *ret)
{
	uint32_t records = wf_container_count(ck->container);
	if (record < 0 || record >= records)
		return -EINVAL;
	int r = ck->edits->storage_of_record ? 0 : find_storages_of_records(ck, records);
	if (r == 0)
		*ret = ck->edits->storage_of_record[record];
	return r;
}

/* The storage of a data file; the first id that names it makes it. */
static int storage_of_number(struct wf_checkpoint *ck, int64_t number, wf_ref persid, uint64_t size, uint32_t *ret)
{
	if (number < 0 || number > UINT32_MAX)
		return -EINVAL;
	*ret = wf_edit_storage(ck, (uint32_t)number);
	/* what could not be kept has no data file: a tensor over it cannot be read */
	if (*ret != WF_NO_STORAGE || number == WF_NO_NUMBER)
		return 0;
	int r = wf_storage_new(ck->storages, persid, size, ret);
	return r < 0 ? r : wf_edit_set_number(ck, *ret, (uint32_t)number);
}

static int resolve(struct wf_checkpoint *ck, wf_ref id, wf_ref *ret)
{
	struct wf_graph *g = ck->graph;
	wf_ref e[6];
	int64_t place, numel;
	uint64_t size;
	uint32_t n, storage = WF_NO_STORAGE;
	bool untyped;
	const wf_ref *old = wf_elements(g, id, &n);
	if (n < 5 || n > WF_ARRAY_SIZE(e) || !wf_int_value(g, old[2], &place) || !wf_int_value(g, old[4], &numel))
		return -EINVAL;
	bool record = wf_str_equal(g, old[0], WF_RECORD_ID);
	enum wf_dtype dtype = wf_dtype_from_storage_class(wf_global_name(g, wf_class_of(g, old[1])), &untyped);
	if (numel < 0 || dtype == WF_DTYPE_INVALID ||
	    wf_mul_u64((uint64_t)numel, wf_dtype_info(dtype)->size_bytes, &size) || size > INT64_MAX)
		return -EINVAL;
	int r = record ? storage_of_record(ck, place, &storage) : 0;
	if (r < 0)
		return r;
	memcpy(e, old, n * sizeof *e);
	e[0] = wf_str(g, "storage");
	e[2] = wf_edit_fresh_key(ck);
	wf_ref made = e[0] == WF_NIL || e[2] == WF_NIL ? WF_NIL : wf_tuple(g, e, n);
	wf_ref persid = made == WF_NIL ? WF_NIL : wf_persid(g, made);
	if (persid == WF_NIL)
		return -ENOMEM;
	if (!record)
		r = storage_of_number(ck, place, persid, size, &storage);
	if (r == 0 && storage != WF_NO_STORAGE && wf_storage_of(ck->storages, persid) == WF_NO_STORAGE)
		r = wf_storage_adopt(ck->storages, storage, persid);
	*ret = persid;
	return r;
}

static wf_ref replay_persid(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	wf_ref persid = WF_NIL, tag = wf_element(g, id, 0);
	if (!wf_str_equal(g, tag, WF_DATA_FILE_ID) && !wf_str_equal(g, tag, WF_RECORD_ID))
		return wf_persid(g, id);
	int r = resolve(ctx, id, &persid);
	if (r == 0)
		return persid;
	wf_fail(err, r, "the id of a storage: %s", strerror(-r));
	return WF_NIL;
}

int wf_replay_pickle(struct wf_checkpoint *ck, wf_ref (*persid)(void *, struct wf_graph *, wf_ref, struct wf_error *),
		     const void *data, size_t len, wf_ref *ret)
{
	const struct wf_pickle_reader hooks = {.persid = persid, .ctx = ck};
	char *copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	return wf_edit_read_pickle(ck, &hooks, copy, len, ret);
}

int wf_replay_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint64_t before, const void *data,
		     size_t len)
{
	const struct wf_pickle_reader hooks = {.persid = replay_persid, .ctx = ck};
	struct wf_buffer *pieces = &ck->edits->pieces;
	wf_ref object;
	if (before == 0)
		wf_buffer_free(pieces);
	if (before != pieces->len)
		return -EINVAL;
	wf_buffer_append(pieces, data, len);
	int r = wf_buffer_status(pieces);
	if (r < 0)
		return r;
	uint64_t total = pieces->len;
	r = wf_edit_read_pickle(ck, &hooks, wf_buffer_steal(pieces), total, &object);
	return r < 0 ? r : wf_apply_object(ck, dir, name, object);
}
