/* SPDX-License-Identifier: MIT */
/* Loads values: whatever torch.save wrote of them into a slice, tensors inside included, becomes part of the graph of the whole. */
#include "codec/directory/dcp_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"

struct dcp_value {
	struct dcp *d;
	struct wf_graph *g;
	struct wf_container *c; /* of the slice */
	const char *name;
	uint64_t start;         /* of the slice in the space */
	struct wf_key_map keys; /* of its storages that have a record */
	struct wf_error *err;
};

static int no_memory(const struct dcp_value *v)
{
	return wf_fail(v->err, -ENOMEM, "out of memory");
}

static int note_problem(struct dcp_value *v, struct wf_record *record, const char *text)
{
	struct dcp *d = v->d;
	if (wf_problems_add(&d->problems, (uint32_t)(record - d->base.records), text) < 0)
		return no_memory(v);
	record->bad = -EIO;
	return 0;
}

static int add_storage(struct dcp_value *v, const char *key, size_t key_len, const char *name)
{
	uint32_t i = wf_container_storage_record(v->c, key, key_len);
	const struct wf_record *from = wf_container_record(v->c, i);
	struct wf_record *record = NULL;
	uint64_t at = 0;
	int r = wf_container_add_storage(&v->d->base, name, strlen(name), &record, v->err);
	if (r < 0)
		return r;
	if (!from || wf_container_locate(v->c, i, &at, NULL) < 0)
		return note_problem(v, record, "a value's slice does not have the bytes of a tensor in it");
	record->header_offset = v->start + at;
	record->stored_bytes = record->size_bytes = from->size_bytes;
	if (from->method != 0 || wf_container_big_endian(v->c))
		return note_problem(
			v, record,
			"the bytes of a tensor in a value are deflated or big endian, which is not read there");
	return 0;
}

/* Gives a storage of the value a key that no other has. */
static int rename_storage(struct dcp_value *v, wf_ref persid)
{
	wf_ref id = wf_persid_id(v->g, persid), items[8];
	uint32_t n = 0;
	size_t len = 0;
	const wf_ref *old = wf_elements(v->g, id, &n);
	const char *key = n >= 3 && wf_is_storage_id(v->g, id) ? wf_bytes(v->g, old[2], &len) : NULL;
	cleanup_free char *name = NULL;
	if (!key || n > WF_ARRAY_SIZE(items))
		return 0; /* not of a storage; the tables of storages judge it */
	if (asprintf(&name, "%s.%.*s", v->name, (int)len, key) < 0)
		return no_memory(v);
	int r = wf_key_map_get(&v->keys, key, len) ? 0 : add_storage(v, key, len, name);
	if (r == 0 && wf_key_map_put(&v->keys, key, len, 1) < 0)
		r = no_memory(v);
	if (r < 0)
		return r;
	memcpy(items, wf_elements(v->g, id, &n), n * sizeof *items);
	items[2] = wf_str(v->g, name);
	wf_ref tuple = items[2] == WF_NIL ? WF_NIL : wf_tuple(v->g, items, n);
	return tuple == WF_NIL || wf_persid_set_id(v->g, persid, tuple) < 0 ? wf_tensor_maker_full(v->g, v->err) : 0;
}

static int rename_storages(struct dcp_value *v, uint32_t limit)
{
	uint32_t end = wf_graph_limit(v->g);
	int r = 0;
	for (wf_ref o = wf_graph_since(v->g, limit); o != WF_NIL && o < end && r == 0; o = wf_graph_next(v->g, o))
		if (wf_is(v->g, o, WF_PERSID))
			r = rename_storage(v, o);
	return r;
}

/* Of a value that could not be read whole there may be objects in the graph, too; no other storage is to have their keys. */
static int load(struct dcp_value *v, struct wf_source *slice, wf_ref *ret)
{
	uint32_t limit = wf_graph_limit(v->g);
	int r = wf_container_open(slice, &v->c, v->err);
	if (r == 0) {
		struct wf_error *err = v->err, ignored;
		r = wf_container_load_graph(v->c, v->g, ret, v->err);
		v->err = r < 0 ? &ignored : err;
		int renamed = rename_storages(v, limit);
		v->err = err;
		r = r < 0 ? r : renamed;
	}
	wf_container_free(v->c);
	wf_key_map_free(&v->keys);
	return r;
}

wf_ref dcp_load_value(struct dcp *d, struct wf_graph *g, uint32_t member, uint64_t start, uint64_t offset,
		      uint64_t length, const char *name, struct wf_error *err)
{
	struct dcp_value v = {.d = d, .g = g, .name = name, .start = start + offset, .err = err};
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL, *slice = NULL;
	wf_ref root = WF_NIL;
	int r = wf_members_open(wf_space_members(d->space), member, &file, err);
	if (r == 0 && wf_source_slice(file, offset, length, &slice) < 0)
		r = wf_fail(err, -EUCLEAN, "the file ends before a slice of %" PRIu64 " bytes does", length);
	if (r == 0)
		r = load(&v, slice, &root);
	return r < 0 ? WF_NIL : root;
}
