/* SPDX-License-Identifier: MIT */
/* The files of a DeepSpeed checkpoint as they are: each one's objects in the graph, its records in the container.
 *
 * The keys of their storages ("0", "1", ... in each) become "N/KEY", N the number of the file; what else it holds is the record "N/NAME". Where a record's bytes
 * start is asked at once, for a file stays open no longer than that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

/* One file on its way into the graph. */
struct zero_reading {
	struct zero_load *l;
	struct wf_container *child;
	uint32_t number;
	wf_ref *keys; /* of the child's records: their new ones, where a storage names them */
	struct wf_buffer name;
};

static bool put_name(struct zero_reading *o, const char *name, size_t len)
{
	char number[16];
	o->name.len = 0;
	wf_buffer_append(&o->name, number, (size_t)snprintf(number, sizeof number, "%" PRIu32 "/", o->number));
	wf_buffer_append(&o->name, name, len);
	return !o->name.failed;
}

static int new_key(struct zero_reading *o, wf_ref old, wf_ref *ret)
{
	size_t len = 0;
	int64_t v;
	char digits[24];
	const char *key = wf_bytes(o->l->g, old, &len);
	if (!key && wf_int_value(o->l->g, old, &v)) {
		len = (size_t)snprintf(digits, sizeof digits, "%" PRId64, v);
		key = digits;
	}
	*ret = WF_NIL;
	if (!key)
		return 0; /* a tensor over it says that it has no storage */
	uint32_t record = wf_container_storage_record(o->child, key, len);
	if (record != WF_NO_RECORD && o->keys[record] != WF_NIL) {
		*ret = o->keys[record];
		return 0;
	}
	*ret = put_name(o, key, len) ? wf_string(o->l->g, WF_STR, o->name.data, o->name.len) : WF_NIL;
	if (record != WF_NO_RECORD)
		o->keys[record] = *ret;
	return *ret ? 0 : zero_full(o->l);
}

/* A PERSID of this file's names a record of the whole. */
static int rename_key(struct zero_reading *o, wf_ref persid)
{
	struct wf_graph *g = o->l->g;
	wf_ref id = wf_persid_id(g, persid), items[8], key;
	uint32_t n;
	const wf_ref *old = wf_elements(g, id, &n);
	if (!wf_is_storage_id(g, id) || n > WF_ARRAY_SIZE(items))
		return 0;
	int r = new_key(o, old[2], &key);
	if (r < 0 || key == WF_NIL)
		return r;
	memcpy(items, old, n * sizeof *items);
	items[2] = key;
	wf_ref tuple = wf_tuple(g, items, n);
	return tuple && wf_persid_set_id(g, persid, tuple) == 0 ? 0 : zero_full(o->l);
}

static int rename_keys(struct zero_reading *o, uint32_t limit)
{
	int r = 0;
	for (wf_ref i = wf_graph_since(o->l->g, limit); i != WF_NIL && r == 0; i = wf_graph_next(o->l->g, i))
		if (wf_is(o->l->g, i, WF_PERSID))
			r = rename_key(o, i);
	return r;
}

static int add_record(struct zero_reading *o, uint32_t i)
{
	struct wf_container *c = &o->l->z->base;
	const struct zero_file *f = &o->l->z->list.files[o->number];
	const struct wf_record *from = wf_container_record(o->child, i);
	struct wf_record *to = NULL;
	struct wf_error why = {0};
	uint64_t at = 0;
	size_t len = 0;
	const char *key = o->keys[i] ? wf_bytes(o->l->g, o->keys[i], &len) : NULL;
	int r = 0, bad = from->size_bytes > 0 || from->bad ? wf_container_locate(o->child, i, &at, &why) : 0;
	if (key)
		r = wf_container_add_storage(c, key, len, &to, o->l->err);
	else if (!put_name(o, from->name, strlen(from->name)))
		r = wf_fail(o->l->err, -ENOMEM, "out of memory");
	else if ((r = wf_container_add(c, o->name.data, o->name.len, &to)) < 0)
		wf_fail(o->l->err, r, "the records of the files: %s", strerror(-r));
	if (r < 0)
		return r;
	to->header_offset = f->start + at;
	to->stored_bytes = from->stored_bytes;
	to->size_bytes = from->size_bytes;
	to->crc32 = from->crc32;
	to->method = from->method;
	to->has_crc = from->has_crc;
	if (bad)
		r = zero_record_is_bad(o->l->z, bad, why.text);
	return r < 0 ? wf_fail(o->l->err, r, "out of memory") : 0;
}

static int add_records(struct zero_reading *o)
{
	int r = 0;
	for (uint32_t i = 0; i < wf_container_count(o->child) && r == 0; i++)
		r = add_record(o, i);
	return r;
}

/* What one file's fault must not be taken for. */
static bool ends_opening(int r)
{
	return r == -ENOMEM || r == -E2BIG;
}

static int read_child(struct zero_reading *o, struct wf_source *source, struct wf_error *why)
{
	struct zero_file *f = &o->l->z->list.files[o->number];
	wf_ref root;
	int r = wf_container_open(source, &o->child, why);
	if (r == 0)
		r = wf_container_load_graph(o->child, o->l->g, &root, why);
	if (r == 0 && wf_container_big_endian(o->child))
		r = wf_fail(why, -EOPNOTSUPP, "it was written on a big-endian machine");
	if (r == 0)
		f->root = root;
	return r;
}

static int load_file(struct zero_load *l, uint32_t number)
{
	struct zero_file *f = &l->z->list.files[number];
	struct zero_reading o = {.l = l, .number = number, .name = WF_BUFFER_INIT};
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	struct wf_error why = {0};
	uint32_t limit = wf_graph_limit(l->g);
	int r = wf_members_open(wf_space_members(l->z->space), f->member, &source, &why), told = r;
	if (r == 0)
		told = r = read_child(&o, source, &why);
	if (r == 0) {
		o.keys = calloc(WF_MAX(wf_container_count(o.child), 1u), sizeof *o.keys);
		r = o.keys ? rename_keys(&o, limit) : wf_fail(l->err, -ENOMEM, "out of memory");
		if (r == 0)
			r = add_records(&o);
	} else if (ends_opening(told)) {
		*l->err = why;
		wf_error_where(l->err, f->name);
	} else {
		char text[512];
		f->problem = strdup(wf_error_format(&why, text, sizeof text));
		r = f->problem ? 0 : wf_fail(l->err, -ENOMEM, "out of memory");
	}
	free(o.keys);
	wf_buffer_free(&o.name);
	wf_container_free(o.child);
	return r;
}

int zero_load_files(struct zero_load *l)
{
	int r = 0;
	for (uint32_t i = 0; i < l->z->list.count && r == 0; i++)
		if (!l->z->list.files[i].problem)
			r = load_file(l, i);
	return r;
}

/* ---- the mapping `files` ---- */

/* The folder of a name's file, which is the last one met, for names come in order. */
static int step_into(struct zero_load *l, wf_ref *at, const char *name, size_t len)
{
	uint32_t n;
	const struct wf_item *items = wf_items(l->g, *at, &n);
	size_t have_len = 0;
	const char *have = n > 0 ? wf_bytes(l->g, items[n - 1].key, &have_len) : NULL;
	if (have && have_len == len && memcmp(have, name, len) == 0 && wf_is(l->g, items[n - 1].value, WF_DICT)) {
		*at = items[n - 1].value;
		return 0;
	}
	wf_ref key = wf_string(l->g, WF_STR, name, len), dict = wf_dict(l->g);
	if (!key || !dict || wf_dict_append(l->g, *at, key, dict) < 0)
		return zero_full(l);
	*at = dict;
	return 0;
}

static int show_file(struct zero_load *l, wf_ref at, const struct zero_file *f)
{
	const char *name = f->name;
	int r = 0;
	for (const char *slash; r == 0 && (slash = strchr(name, '/')); name = slash + 1)
		r = step_into(l, &at, name, (size_t)(slash - name));
	wf_ref key = r == 0 ? wf_str(l->g, name) : WF_NIL;
	if (r == 0 && (!key || wf_dict_append(l->g, at, key, f->root) < 0))
		r = zero_full(l);
	return r;
}

int zero_make_files(struct zero_load *l, wf_ref *ret)
{
	int r = (*ret = wf_dict(l->g)) ? 0 : zero_full(l);
	for (uint32_t i = 0; i < l->z->list.count && r == 0; i++)
		if (l->z->list.files[i].root != WF_NIL)
			r = show_file(l, *ret, &l->z->list.files[i]);
	return r;
}
