/* SPDX-License-Identifier: MIT */
/* Makes the graph of a torch.distributed.checkpoint directory: the nest of its entries, each tensor a rebuild call over a storage of its
 * own, each value what its slice holds. */
#include "codec/directory/dcp_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"
#include "codec/directory/dcp_tree.h"

#define KEY_BYTES 12
/* Values are read at the opening, each with a few reads of its file. Past so many the rest are shown as the bytes of their slices. */
#define MAX_VALUES 65536u

struct maker {
	struct dcp *d;
	struct wf_graph *g;
	struct wf_tensor_maker tensors;
	uint32_t values;
	struct wf_error *err;
};

static wf_ref tensor(struct maker *m, uint32_t entry, enum wf_dtype dtype, const int64_t *sizes, uint32_t ndim)
{
	char key[KEY_BYTES];
	const struct wf_dcp_entry *e = &m->d->md.entries[entry];
	wf_ref made = WF_NIL;
	uint64_t bytes = wf_dtype_info(dtype)->size_bytes;
	for (uint32_t i = 0; i < ndim; i++)
		bytes *= (uint64_t)sizes[i];
	snprintf(key, sizeof key, "%" PRIu32, entry);
	int r = wf_tensor_maker_make(&m->tensors, dtype, key, sizes, ndim, bytes, wf_dcp_text(&m->d->md, e->name),
				     &made, m->err);
	return r < 0 ? WF_NIL : made;
}

/* What cannot be understood is shown as the bytes that it is written with. */
static wf_ref slice_bytes(struct maker *m, uint32_t entry)
{
	const struct wf_dcp_entry *e = &m->d->md.entries[entry];
	const int64_t bytes = e->chunk_count > 0 ? (int64_t)m->d->md.chunks[e->chunks].length : 0;
	return tensor(m, entry, WF_UINT8, &bytes, 1);
}

static wf_ref value(struct maker *m, uint32_t entry)
{
	struct dcp *d = m->d;
	const struct wf_dcp_entry *e = &d->md.entries[entry];
	struct wf_error why = {0};
	char name[KEY_BYTES];
	if (e->problem || e->chunk_count == 0 || d->raw || m->values++ >= MAX_VALUES)
		return slice_bytes(m, entry);
	const struct wf_dcp_chunk *c = &d->md.chunks[e->chunks];
	snprintf(name, sizeof name, "%" PRIu32, entry);
	wf_ref root =
		dcp_load_value(d, m->g, d->members[c->file], d->file_starts[c->file], c->offset, c->length, name, &why);
	if (root != WF_NIL)
		return root;
	if (wf_graph_failed(m->g) < 0 || why.code == -ENOMEM) {
		*m->err = why;
		return WF_NIL;
	}
	return slice_bytes(m, entry);
}

/* Constants are many entries' object, and a sum of them tells as much as they do. */
static wf_ref note(struct maker *m, uint32_t entry, wf_ref object)
{
	const struct wf_dcp_entry *e = &m->d->md.entries[entry];
	if (object == WF_NIL)
		return WF_NIL;
	if (wf_dcp_adopt(&m->d->base, entry, object, e->tensor ? 0 : wf_dcp_value_sum(m->g, object)) < 0) {
		wf_fail(m->err, -ENOMEM, "out of memory");
		return WF_NIL;
	}
	return object;
}

static wf_ref leaf(void *ctx, uint32_t entry)
{
	struct maker *m = ctx;
	const struct wf_dcp_entry *e = &m->d->md.entries[entry];
	int64_t sizes[WF_MAX_NDIM];
	if (!e->tensor)
		return note(m, entry, value(m, entry));
	for (uint32_t i = 0; i < e->ndim; i++)
		sizes[i] = (int64_t)m->d->md.numbers[e->sizes + i];
	return note(m, entry, tensor(m, entry, e->dtype, sizes, e->ndim));
}

static uint64_t tensor_bytes(const struct wf_dcp_metadata *m, const struct wf_dcp_entry *e)
{
	uint64_t bytes = wf_dtype_info(e->dtype)->size_bytes;
	for (uint32_t i = 0; i < e->ndim; i++)
		bytes *= m->numbers[e->sizes + i];
	return bytes;
}

static int add_record(struct dcp *d, uint32_t i, struct wf_error *err)
{
	const struct wf_dcp_entry *e = &d->md.entries[i];
	const struct wf_dcp_chunk *c = e->chunk_count > 0 ? &d->md.chunks[e->chunks] : NULL;
	struct wf_record *record = NULL;
	char key[KEY_BYTES];
	int n = snprintf(key, sizeof key, "%" PRIu32, i);
	int r = wf_container_add_storage(&d->base, key, (size_t)n, &record, err);
	if (r < 0)
		return r;
	record->bad = e->problem ? -EIO : 0;
	if (e->tensor) {
		record->header_offset = d->starts[i];
		record->size_bytes = tensor_bytes(&d->md, e);
	} else if (c) {
		record->size_bytes = c->length;
		if (!e->problem)
			record->header_offset = d->file_starts[c->file] + c->offset;
	}
	record->stored_bytes = record->size_bytes;
	return 0;
}

/* What stands in the root beside the entries: the file that Lightning calls meta.pt, and Megatron common.pt. */
static int add_beside(struct maker *m, wf_ref root)
{
	struct dcp *d = m->d;
	struct wf_error why = {0};
	uint64_t bytes = 0;
	uint32_t n = 0;
	if (d->beside == UINT32_MAX || wf_members_size(wf_space_members(d->space), d->beside, &bytes, NULL) < 0)
		return 0;
	const char *name = wf_members_name(wf_space_members(d->space), d->beside);
	wf_ref object = dcp_load_value(d, m->g, d->beside, d->beside_start, 0, bytes, name, &why);
	wf_ref dict = wf_is(m->g, object, WF_CALL) ? wf_call_dict(m->g, object) : object;
	if (object == WF_NIL || !wf_is(m->g, dict, WF_DICT))
		return wf_fail(m->err, why.code ? why.code : -EUCLEAN, "%s, which belongs to the checkpoint, %s: %s",
			       name, object == WF_NIL ? "cannot be read" : "is odd",
			       object == WF_NIL ? why.text : "it holds no mapping");
	wf_items(m->g, dict, &n);
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_item item = wf_items(m->g, dict, &n)[i];
		if (item.key != WF_NIL && wf_dict_append(m->g, root, item.key, item.value) < 0)
			return wf_tensor_maker_full(m->g, m->err);
	}
	return wf_dict_dedup(m->g, root) < 0 ? wf_tensor_maker_full(m->g, m->err) : 0;
}

/* The tables that only the making of the graph needed. */
static void shrink(struct wf_dcp_metadata *m)
{
	free(m->steps);
	m->steps = NULL;
	wf_map_free(&m->names);
	wf_key_map_free(&m->files);
	m->files = (struct wf_key_map){0};
}

int dcp_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct dcp *d = (struct dcp *)c;
	struct maker m = {.d = d, .g = g, .err = err};
	wf_ref root = WF_NIL;
	if (d->loaded)
		return wf_fail(err, -EINVAL, "the metadata was read before");
	d->loaded = true;
	int r = wf_container_reserve(c, d->md.entry_count) < 0 || wf_map_reserve(&d->by_object, d->md.entry_count) < 0
			? wf_fail(err, -ENOMEM, "out of memory")
			: 0;
	for (uint32_t i = 0; i < d->md.entry_count && r == 0; i++)
		r = add_record(d, i, err);
	if (r == 0)
		r = wf_tensor_maker_init(&m.tensors, g, err);
	if (r == 0)
		r = wf_dcp_tree_make(&d->md, g, leaf, &m, &root, err);
	if (r == 0)
		r = add_beside(&m, root);
	if (r == 0)
		r = wf_container_index(c, err);
	shrink(&d->md);
	if (r == 0)
		*ret_root = root;
	return r;
}
