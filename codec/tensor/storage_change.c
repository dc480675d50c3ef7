/* SPDX-License-Identifier: MIT */
/* Storages in another form, at another location, over another container. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "codec/tensor/numpy_dtype.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/storage_inner.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

/* A storage that was bad stays so: its record was copied as it stood. */
static int check_rebase(const struct wf_storages *ss, const struct wf_container *c, uint32_t i, uint32_t record_index,
			struct wf_error *err)
{
	const struct wf_storage *s = &ss->all[i];
	const struct wf_record *record = wf_container_record(c, record_index);

	if (s->bad || s->inside || !record || record->size_bytes == s->size_bytes)
		return 0;
	return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
			  "the record written holds %" PRIu64 " bytes, its storage %" PRIu64, record->size_bytes,
			  s->size_bytes);
}

static void rebase(struct wf_storages *ss, uint32_t i, uint32_t record_index)
{
	struct wf_storage *s = &ss->all[i];
	const struct wf_record *record = wf_container_record(ss->container, record_index);

	struct wf_inside_bytes *in = wf_storage_inside(ss, i);

	if (in) {
		wf_ref data = wf_bytes_object(ss->graph, wf_numpy_bytes(ss->graph, in->array));
		if (data == in->data)
			return; /* not written anew: untouched, or no longer part of the checkpoint */
		in->data = data;
		s->base_bytes = s->size_bytes;
	} else {
		bool had_record = s->record != WF_NO_RECORD;
		s->record = record ? record_index : WF_NO_RECORD;
		s->base_bytes = record ? record->size_bytes : 0;
		if (record_index == WF_RECORD_KEPT)
			return;
		if (!record && had_record)
			s->bad = 0; /* what was wrong with the record is no matter any more */
		if (!record)
			wf_storage_problem_is(ss, i, -ESTALE,
					      "a commit left this storage out, because nothing named it any more");
	}
	wf_extents_free(s->dirty);
	s->dirty = NULL;
	wf_storage_take_back(ss, i);
	s->resized = false;
}

static int set_id(struct wf_graph *g, wf_ref persid, wf_ref class, wf_ref numel, wf_ref location)
{
	wf_ref e[6];
	uint32_t n;
	const wf_ref *old = wf_elements(g, wf_persid_id(g, persid), &n);
	if (n < 5 || n > WF_ARRAY_SIZE(e))
		return -EINVAL;
	memcpy(e, old, n * sizeof *e);
	e[1] = class == WF_NIL ? e[1] : class;
	e[3] = location == WF_NIL ? e[3] : location;
	e[4] = numel == WF_NIL ? e[4] : numel;
	wf_ref id = wf_tuple(g, e, n);
	return id == WF_NIL ? -ENOMEM : wf_persid_set_id(g, persid, id);
}

int wf_storage_set_form(struct wf_storages *ss, uint32_t i, enum wf_dtype dtype, const char *location)
{
	if (i >= ss->count || ss->all[i].persid == WF_NIL)
		return -EINVAL;
	struct wf_storage *s = &ss->all[i];
	struct wf_graph *g = ss->graph;
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	uint64_t unit = info->storage_class ? info->size_bytes : 1;
	if (unit == 0 || s->size_bytes % unit)
		return -EINVAL;
	wf_ref class = info->storage_class ? wf_global_named(g, "torch", info->storage_class)
					   : wf_global_named(g, "torch.storage", "UntypedStorage");
	wf_ref numel = wf_int(g, (int64_t)(s->size_bytes / unit)), tag = location ? wf_str(g, location) : WF_NIL;
	if (class == WF_NIL || numel == WF_NIL || (location && tag == WF_NIL))
		return -ENOMEM;
	int r = set_id(g, s->persid, class, numel, tag);
	for (wf_ref o = s->persids > 1 ? wf_graph_next(g, WF_NIL) : WF_NIL; r == 0 && o != WF_NIL;
	     o = wf_graph_next(g, o))
		if (o != s->persid && wf_persid_number(g, o) == i + 1)
			r = set_id(g, o, class, numel, tag);
	if (r == 0) {
		s->dtype = (uint8_t)(info->storage_class ? dtype : WF_UINT8);
		s->untyped = !info->storage_class;
	}
	return r;
}

int wf_storages_relocate(struct wf_storages *ss, const char *(*to)(void *ctx, const char *tag), void *ctx,
			 uint32_t *ret_changed)
{
	const char *last = NULL;
	wf_ref tag = WF_NIL;
	uint32_t changed = 0;
	for (wf_ref object = wf_graph_next(ss->graph, WF_NIL); object != WF_NIL;
	     object = wf_graph_next(ss->graph, object)) {
		uint32_t i = wf_persid_number(ss->graph, object) - 1;
		if (i >= ss->count)
			continue;
		const char *now = wf_storage_persid_text(ss, object, 3), *new = to(ctx, now);
		if (!new || !strcmp(new, now))
			continue;
		if (new != last && (tag = wf_str(ss->graph, new)) == WF_NIL)
			return -ENOMEM;
		last = new;
		int r = set_id(ss->graph, object, WF_NIL, WF_NIL, tag);
		if (r == -ENOMEM)
			return r;
		changed += object == ss->all[i].persid && !ss->all[i].companion && r == 0;
	}
	*ret_changed = changed;
	return 0;
}

int wf_storages_rebase(struct wf_storages *ss, struct wf_container *c, uint32_t (*record_of)(void *, uint32_t),
		       void *ctx, struct wf_error *err)
{
	for (uint32_t i = 0; i < ss->count; i++) {
		int r = check_rebase(ss, c, i, record_of(ctx, i), err);
		if (r < 0)
			return r;
	}
	wf_storages_forget_decoded(ss);
	ss->container = c;
	for (uint32_t i = 0; i < ss->count; i++)
		rebase(ss, i, record_of(ctx, i));
	return 0;
}
