/* SPDX-License-Identifier: MIT */
/* Files that show the same bytes and are not the same: before one of them changes, it gets bytes of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/key_map.h"
#include "codec/bytes/util.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/layout.h"

#define HAS_CONTENT 1

/* ---- twins ---- */

/* The storages of a pickle in the order in which it names them. */
struct persids {
	wf_ref *all;
	uint32_t count, capacity, next;
	bool failed;
};

static wf_ref note_persid(void *ctx, wf_ref persid, wf_ref id)
{
	struct persids *p = ctx;
	p->failed |= wf_array_reserve(&p->all, &p->capacity, (uint64_t)p->count + 1, sizeof *p->all, UINT32_MAX) < 0;
	if (!p->failed)
		p->all[p->count++] = persid;
	return id;
}

static wf_ref same_persid(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	struct persids *p = ctx;
	if (p->next < p->count)
		return p->all[p->next++];
	wf_fail(err, -EUCLEAN, "the id of a storage");
	return WF_NIL;
}

/* Another object that says the same of the same storages: what becomes of one is nothing to the other. */
static int copy_object(struct wf_checkpoint *ck, wf_ref object, wf_ref *ret)
{
	struct persids p = {0};
	struct wf_buffer pickle = WF_BUFFER_INIT;
	const struct wf_pickle_reader hooks = {.persid = same_persid, .ctx = &p};
	int r = wf_pickle_write_buffer(ck->graph, object, note_persid, &p, &pickle, NULL);
	if (r == 0 && p.failed)
		r = -ENOMEM;
	uint64_t len = pickle.len;
	if (r == 0)
		r = wf_edit_read_pickle(ck, &hooks, wf_buffer_steal(&pickle), len, ret);
	wf_buffer_free(&pickle);
	free(p.all);
	return r;
}

int wf_edit_make_twin(struct wf_checkpoint *ck, wf_ino ino, const struct wf_past *past, wf_ref *ret)
{
	struct wf_tensor t;
	const struct wf_node *there = wf_tree_node(ck->tree, past->ino);
	*ret = past->object;
	if (!wf_is_tensor(ck->graph, past->object))
		return 0;
	struct wf_file *f = wf_edit_file(ck, ino),
		       *first = there && there->type != WF_NODE_GONE ? wf_edit_file(ck, past->ino) : NULL;
	if (!f || (there && there->type != WF_NODE_GONE && !first))
		return -ENOMEM;
	wf_ino twins = first && first->twins != WF_NO_INO ? first->twins : past->ino;
	/* an array has its bytes inside of itself, and a storage is no more than what is shared */
	bool plain = wf_tensor_decode(ck->graph, ck->storages, past->object, &t, NULL) == 0 &&
		     (t.kind == WF_TENSOR_DENSE || t.kind == WF_TENSOR_META);
	int r = plain ? copy_object(ck, past->object, ret) : 0;
	if (r < 0)
		return r;
	r = wf_edit_join_twins(ck, ino, twins);
	return r < 0 || !first ? r : wf_edit_join_twins(ck, past->ino, twins);
}

/* ---- bytes of its own ---- */

static int part_array(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	char class[256];
	wf_ref array = WF_NIL;
	const struct wf_tensor_type type = wf_tensor_type_of(t);
	if (strcmp(wf_tensor_class(ck->graph, t, class, sizeof class), "numpy.ndarray") != 0)
		return wf_refuse(ck, -EPERM, "another file shows this array, and one of its class cannot be copied");
	if (t->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return -EFBIG;
	cleanup_free char *content = malloc(t->size_bytes + 1);
	int r = content ? wf_tensor_read(ck->storages, t, 0, content, t->size_bytes) : -ENOMEM;
	if (r == 0)
		r = wf_edit_make_array(ck, &type, t->record, content, t->size_bytes, &array);
	return r < 0 ? r : wf_edit_become(ck, ino, array, 0);
}

/* In this order a log that ends in the middle leaves the file as it was. */
static int part_storage(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_tensor_type type = wf_tensor_type_of(t);
	const bool untyped = wf_storage_get(ck->storages, t->storage)->untyped;
	const bool as_it_was = !f->old || wf_edit_is_old(ck, ino, f->old);
	int r = wf_edit_hold_copy(ck, ino, t, t->size_bytes);
	uint32_t storage = f->storage;
	if (r == 0 && t->kind == WF_TENSOR_DENSE) {
		r = wf_edit_settle_as(ck, ino, SETTLE_SWITCH, &type);
	} else if (r == 0) {
		/* an untyped class has the table's name of a dtype without one */
		r = wf_storage_set_form(ck->storages, storage, untyped ? WF_UINT16 : t->dtype, NULL);
		if (r == 0)
			r = wf_edit_become(ck, ino, wf_storage_get(ck->storages, storage)->persid, 0);
	}
	if (r < 0)
		wf_edit_drop_pending(ck, ino);
	/* what a failure brings back is the copy: the other one's bytes are about to change */
	if (f->writers == 0 || (r == 0 && as_it_was))
		wf_edit_forget_old(ck, ino);
	return r < 0 || f->writers == 0 ? r : wf_edit_keep_old(ck, ino);
}

static int part(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_tensor t;
	const struct wf_file *f = wf_edit_file(ck, ino);
	int r = f ? wf_edit_tensor(ck, ino, &t) : -ENOMEM;
	if (r < 0)
		return r;
	if (f->pending != PENDING_NOT)
		return HAS_CONTENT;
	return t.kind == WF_TENSOR_NUMPY ? part_array(ck, ino, &t) : part_storage(ck, ino, &t);
}

/* ---- who shares ---- */

static wf_ino twins_of(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f ? f->twins : WF_NO_INO;
}

static bool has_name(const struct wf_checkpoint *ck, wf_ino ino)
{
	return wf_tree_node(ck->tree, ino)->nlink > 0;
}

/* A twin of the file that still shows the same storage; WF_NO_INO. */
static wf_ino find_sharer(const struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_tensor t, other;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (twins_of(ck, ino) == WF_NO_INO || wf_edit_tensor(ck, ino, &t) < 0 || t.storage == WF_NO_STORAGE)
		return WF_NO_INO;
	uint32_t at = 0;
	for (wf_ino twin; (twin = wf_edit_next_twin(ck, ino, &at)) != WF_NO_INO;)
		if (wf_edit_tensor(ck, twin, &other) == 0 && other.storage == t.storage)
			return twin;
	/* it is none any more, unless a failure brings back the storage of before */
	if (!f->old)
		f->twins = WF_NO_INO;
	return WF_NO_INO;
}

/* Which of the two gets bytes of its own: the scratch file, for the other may have ties and views; of two keys the one that came later. */
static wf_ino who_leaves(struct wf_checkpoint *ck, wf_ino ino, wf_ino other)
{
	if (!has_name(ck, ino) || wf_edit_is_scratch_file(ck, ino))
		return ino;
	if (!has_name(ck, other) || wf_edit_is_scratch_file(ck, other))
		return other;
	return twins_of(ck, ino) == ino ? other : ino;
}

int wf_edit_part(struct wf_checkpoint *ck, wf_ino ino)
{
	wf_ino other = WF_NO_INO, leaves = WF_NO_INO;
	int r = 0;
	while (r == 0 && leaves != ino && (other = find_sharer(ck, ino)) != WF_NO_INO) {
		leaves = who_leaves(ck, ino, other);
		r = part(ck, leaves);
		if (r == HAS_CONTENT && leaves != ino) {
			leaves = ino;
			r = part(ck, ino);
		}
	}
	return r;
}

/* What twins have in common as long as they share. */
static bool find_common(const struct wf_checkpoint *ck, wf_ino ino, uint32_t ret[2])
{
	struct wf_tensor t;
	ret[0] = twins_of(ck, ino);
	if (ret[0] == WF_NO_INO || wf_edit_tensor(ck, ino, &t) < 0 || t.storage == WF_NO_STORAGE)
		return false;
	ret[1] = t.storage;
	return true;
}

/* How many files there are of each, so that nobody is looked for whom there is not: each file that was replaced once was a twin. */
static int count_sharers(const struct wf_checkpoint *ck, struct wf_key_map *counts)
{
	uint32_t common[2];
	int r = 0;
	for (wf_ino ino = 1; r == 0 && ino <= ck->edits->files_count; ino++) {
		if (!find_common(ck, ino, common))
			continue;
		const uint64_t *count = counts->count ? wf_key_map_get(counts, common, sizeof common) : NULL;
		r = wf_key_map_put(counts, common, sizeof common, count ? *count + 1 : 1);
	}
	return r;
}

int wf_edit_part_twins(struct wf_checkpoint *ck)
{
	struct wf_buffer path = WF_BUFFER_INIT;
	struct wf_key_map counts = {0};
	uint32_t common[2];
	int r = count_sharers(ck, &counts);
	for (wf_ino ino = 1; r == 0 && ino <= ck->edits->files_count; ino++) {
		const uint64_t *count =
			find_common(ck, ino, common) ? wf_key_map_get(&counts, common, sizeof common) : NULL;
		if (!count || *count < 2 || !has_name(ck, ino))
			continue;
		r = wf_overlay_prepare(ck->overlay);
		if (r == 0)
			r = wf_edit_part(ck, ino);
		if (r == 0 || r == -ENOMEM || r == -ENOSPC || r == -EDQUOT)
			continue;
		/* bytes that cannot be read are not worth a failed commit */
		path.len = 0;
		wf_tree_path(ck->tree, ino, &path);
		wf_log_line(&ck->log, "%s still shows the same bytes as another file: %s", path.data ? path.data : "?",
			    r == HAS_CONTENT ? "somebody writes it" : strerror(-r));
		r = 0;
	}
	wf_buffer_free(&path);
	wf_key_map_free(&counts);
	return r;
}
