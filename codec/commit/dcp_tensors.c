/* SPDX-License-Identifier: MIT */
/* Which tensors of a distributed checkpoint stay what they were, of which chunks are written, and which are written whole. */
#include "codec/commit/dcp_inner.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"

bool dcp_is_clean(const struct wf_dcp_plan *p, uint32_t storage)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, storage);
	return s && s->record != WF_NO_RECORD && !s->resized && wf_extents_bytes(s->dirty) == 0;
}

int dcp_add_storage(struct wf_dcp_plan *p, uint32_t storage)
{
	if (wf_array_reserve(&p->storages, &p->storage_room, (uint64_t)p->storage_count + 1, sizeof *p->storages,
			     UINT32_MAX - 1) < 0)
		return -ENOMEM;
	p->storages[p->storage_count++] = storage;
	return 0;
}

static bool is_plain(const struct wf_tensor *t)
{
	return t->kind == WF_TENSOR_DENSE && !t->conj && !t->neg && t->quantizer == WF_NIL &&
	       wf_dtype_info(t->dtype)->values_per_byte == 1;
}

/* The bytes that the entry has are those of the tensor's storage, but for what was written since. */
static bool is_of_entry(const struct wf_dcp_plan *p, const struct wf_tensor *t, uint32_t entry)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, t->storage);
	uint64_t other = wf_dcp_entry_sum(p->in.container, entry);
	uint32_t record = other ? (uint32_t)(other - 1) : entry;
	return s && !s->bad && !s->resized && s->record == record && t->contiguous && t->offset_elems == 0 &&
	       t->size_bytes == s->size_bytes;
}

/* A value that is a tensor, or is shown as one of the bytes of its slice because it could not be read: it stays a value while nobody changes
 * it, also where its file is missing. */
static bool keep_value(struct wf_dcp_plan *p, struct dcp_leaf *leaf, const struct wf_tensor *t)
{
	uint32_t storage = t ? t->storage : wf_tensor_storage(p->in.graph, p->in.storages, leaf->object);
	const struct wf_container *c = p->in.container;
	uint32_t entry = wf_dcp_entry_of(c, leaf->object);
	if (entry == UINT32_MAX || wf_dcp_entry_is_tensor(c, entry) || (t && !dcp_is_clean(p, t->storage)))
		return false;
	leaf->sum = wf_dcp_value_sum(p->in.graph, leaf->object);
	if (leaf->sum == 0 || wf_dcp_entry_sum(c, entry) != leaf->sum)
		return false;
	if (storage != WF_NO_STORAGE) {
		p->live[storage] = true;
		leaf->storages = p->storage_count;
		leaf->storage_count = 1;
		if (dcp_add_storage(p, storage) < 0)
			return false; /* it is written anew, or that fails, too */
	}
	leaf->entry = entry;
	return true;
}

/* *ret_tensor: it is an entry as a tensor, which stays or is new. */
static int take_tensor(struct wf_dcp_plan *p, struct dcp_leaf *leaf, bool *ret_tensor)
{
	const struct wf_container *c = p->in.container;
	struct wf_tensor t;
	uint32_t entry = wf_dcp_entry_of(c, leaf->object);
	int r = wf_tensor_decode(p->in.graph, p->in.storages, leaf->object, &t, p->err);
	*ret_tensor = r < 0 || is_plain(&t);
	if (*ret_tensor && r != -EINVAL && r != -ENOMEM && keep_value(p, leaf, r == 0 ? &t : NULL))
		return 0;
	if (r == -EINVAL || !*ret_tensor)
		return *ret_tensor ? r : 0;
	/* what cannot be read is told of in the metadata as before, wherever it goes */
	bool same = entry != UINT32_MAX && wf_dcp_entry_is_tensor(c, entry) &&
		    (r < 0 || (is_of_entry(p, &t, entry) && wf_dcp_entry_has(c, entry, t.dtype, t.shape, t.ndim)));
	leaf->tensor = true;
	if (t.storage != WF_NO_STORAGE)
		p->live[t.storage] = true;
	if (same) {
		leaf->entry = entry;
		return r == 0 && !dcp_is_clean(p, t.storage) ? dcp_find_changed_chunks(p, leaf, &t) : 0;
	}
	if (r < 0) {
		wf_error_where(p->err, p->names.data + leaf->name);
		return r;
	}
	return dcp_add_slice(p, leaf);
}

/* A name whose bytes another one has, too, and which has none by itself so far. */
static void count_tie(struct wf_dcp_plan *p, const struct dcp_leaf *leaf, uint32_t other)
{
	if (wf_dcp_writer_knows(p->writer, p->names.data + leaf->name, leaf->name_len))
		return;
	if (p->ties++ == 0) {
		p->tied = p->count;
		p->tied_first = other;
	}
}

int dcp_take_tensor(struct wf_dcp_plan *p, struct dcp_tensors *known, struct dcp_leaf *leaf, bool *ret_tensor)
{
	struct wf_tensor t;
	uint32_t other;
	if (wf_map_get(&known->of_object, leaf->object, &other)) {
		const struct dcp_leaf *first = &p->leaves[other];
		leaf->entry = first->entry;
		leaf->slices = first->slices;
		leaf->slice_count = first->slice_count;
		leaf->tensor = *ret_tensor = true;
		count_tie(p, leaf, other);
		return 0;
	}
	int r = take_tensor(p, leaf, ret_tensor);
	if (r < 0 || !leaf->tensor)
		return r;
	if (wf_map_set(&known->of_object, leaf->object, p->count) < 0)
		return wf_fail(p->err, -ENOMEM, "out of memory");
	if (wf_tensor_decode(p->in.graph, p->in.storages, leaf->object, &t, NULL) < 0)
		return 0;
	if (wf_map_get(&known->of_storage, t.storage, &other))
		count_tie(p, leaf, other);
	else if (wf_map_set(&known->of_storage, t.storage, p->count) < 0)
		return wf_fail(p->err, -ENOMEM, "out of memory");
	return 0;
}

void dcp_tensors_free(struct dcp_tensors *known)
{
	wf_map_free(&known->of_object);
	wf_map_free(&known->of_storage);
}
