/* SPDX-License-Identifier: MIT */
/* The tar of torch 0.1.1 to 0.1.9 (2016).
 *
 *   tar (container/tar_members.c), members in any order:
 *   sys_info  unused
 *   storages  pickle(n), then n of: pickle((key, location, class))  i64 count  elements
 *             then pickle([(view key, root key, offset, count), ...])                      in elements
 *   tensors   pickle(n), then n of: pickle((key, storage key, class))  i32 ndim  4 unused bytes
 *                                   ndim x i64 size  ndim x i64 stride  i64 storage offset
 *   pickle    the object; a persistent id is a tensor's or storage's key, or (class, source file, source)
 *
 * No other format has such ids, so they become what they stand for while the object is read: a call of
 * torch._utils._rebuild_tensor_v2 (one object a tensor, since ids of one key are one tensor), the PERSID of a storage,
 * or the class. Source: torch/serialization.py legacy_load.
 */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/cursor.h"
#include "codec/object/dtype.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"
#include "codec/container/tar_members.h"

#define SMALL_PICKLE_BYTES 4096u /* one key with a location and a class name */
#define MAX_DIMS 64

struct tar {
	struct wf_container base;
	uint32_t storages, tensors, pickle; /* records */
	bool loaded;
};

struct loader {
	struct wf_container *c;
	struct wf_graph *g;
	struct wf_error *err;
	struct wf_key_map objects; /* key -> wf_ref of the tensor or storage; torch keeps both in one dictionary, too */
	struct wf_key_map roots;   /* key -> wf_ref of the storage's id tuple, for views */
	wf_ref storage, rebuild, ordered_dict, no_args;
};

/* ---- the archive ---- */

static int add_member(struct tar *t, const char *name, uint64_t offset, uint64_t size, struct wf_error *err)
{
	struct wf_record *record = NULL;
	uint32_t *const slots[] = {&t->storages, &t->tensors, &t->pickle};
	static const char *const names[] = {"storages", "tensors", "pickle"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0) {
			if (*slots[i] != WF_NO_RECORD)
				return wf_fail_at(err, -EUCLEAN, name, WF_ERROR_NO_OFFSET,
						  "two members of the tar have this name");
			*slots[i] = t->base.count;
		}
	int r = wf_container_add(&t->base, name, strlen(name), &record);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	record->header_offset = offset;
	record->stored_bytes = record->size_bytes = size;
	return 0;
}

static int read_members(struct tar *t, struct wf_error *err)
{
	struct wf_tar_reader reader = {.file = t->base.file};
	struct wf_tar_member m;
	int r;
	while ((r = wf_tar_next(&reader, &m, err)) == 1)
		if ((r = add_member(t, m.name, m.offset, m.size_bytes, err)) < 0)
			break;
	return r;
}

/* ---- storages, tensors and the object ---- */

static wf_ref full(struct loader *l)
{
	wf_fail(l->err, wf_graph_failed(l->g), "the objects of the pickle do not fit the limit of %llu bytes",
		WF_GRAPH_MAX_BYTES);
	return WF_NIL;
}

static int full_code(struct loader *l)
{
	full(l);
	return wf_graph_failed(l->g);
}

static bool int_at(const struct wf_graph *g, wf_ref tuple, uint32_t i, int64_t *ret)
{
	return wf_int_value(g, wf_element(g, tuple, i), ret);
}

/* The member's bytes from *at on, as one pickle; moves *at behind it. */
static int read_part(struct loader *l, const struct wf_record *member, uint64_t *at, uint64_t max, wf_ref *ret)
{
	int r = wf_read_part(l->g, l->c->file, member->header_offset, member->stored_bytes, at, max, NULL, ret, l->err);
	if (r < 0)
		wf_error_where(l->err, member->name);
	return r;
}

static int read_count(struct loader *l, const struct wf_record *member, uint64_t *at, int64_t *ret)
{
	wf_ref n;
	int r = read_part(l, member, at, SMALL_PICKLE_BYTES, &n);
	if (r == 0 && (!wf_int_value(l->g, n, ret) || *ret < 0))
		r = wf_fail_at(l->err, -EUCLEAN, member->name, 0, "it does not start with a number of %s",
			       member->name);
	return r;
}

/* ('storage', class, key, location, count[, view]), as the later formats have it */
static wf_ref make_id(struct loader *l, wf_ref class, int64_t key, wf_ref location, int64_t count, wf_ref view)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRId64, key);
	const wf_ref items[] = {l->storage, class, wf_str(l->g, text), location, wf_int(l->g, count), view};
	if (items[2] == WF_NIL || items[4] == WF_NIL)
		return full(l);
	wf_ref id = wf_tuple(l->g, items, view == WF_NIL ? 5 : 6);
	return id == WF_NIL ? full(l) : id;
}

static int remember(struct loader *l, struct wf_key_map *map, int64_t key, wf_ref r)
{
	int e = wf_key_map_put(map, &key, sizeof key, r);
	return e < 0 ? wf_fail(l->err, e, "too many tensors and storages") : 0;
}

static wf_ref recall(const struct wf_key_map *map, int64_t key)
{
	const uint64_t *r = wf_key_map_get(map, &key, sizeof key);
	return r ? (wf_ref)*r : WF_NIL;
}

static int remember_storage(struct loader *l, int64_t key, wf_ref id)
{
	wf_ref persid = wf_persid(l->g, id);
	return persid == WF_NIL ? full_code(l) : remember(l, &l->objects, key, persid);
}

static int read_storage(struct loader *l, const struct wf_record *member, uint64_t *at)
{
	uint64_t end = member->header_offset + member->stored_bytes;
	wf_ref args;
	int64_t key = 0, count = 0;
	int r = read_part(l, member, at, SMALL_PICKLE_BYTES, &args);
	if (r < 0)
		return r;
	wf_ref location = wf_element(l->g, args, 1), class = wf_element(l->g, args, 2);
	bool untyped = false;
	enum wf_dtype d = wf_dtype_from_storage_class(wf_global_name(l->g, class), &untyped);
	if (!wf_is(l->g, args, WF_TUPLE) || !int_at(l->g, args, 0, &key) || !wf_is(l->g, class, WF_GLOBAL))
		return wf_fail_at(l->err, -EUCLEAN, "storages", *at - member->header_offset,
				  "a storage is not described by (key, location, class)");
	uint64_t element_bytes = wf_dtype_info(d)->size_bytes;
	if (element_bytes == 0)
		return wf_fail_at(l->err, -EOPNOTSUPP, "storages", *at - member->header_offset,
				  "a storage of the unknown class %s, so what follows it cannot be found",
				  wf_global_name(l->g, class));
	unsigned char raw[8];
	if (end - *at < sizeof raw)
		return wf_fail_at(l->err, -EUCLEAN, "storages", *at - member->header_offset, "the member ends early");
	r = wf_source_read(l->c->file, *at, raw, sizeof raw);
	if (r < 0)
		return wf_fail_at(l->err, r, "storages", *at - member->header_offset, "cannot read: %s", strerror(-r));
	*at += sizeof raw;
	count = (int64_t)wf_le64(raw);
	if (count < 0 || (uint64_t)count > (end - *at) / element_bytes)
		return wf_fail_at(l->err, -EUCLEAN, "storages", *at - member->header_offset,
				  "%" PRId64 " elements of %" PRIu64 " bytes do not fit into the member", count,
				  element_bytes);
	char text[24];
	struct wf_record *record = NULL;
	snprintf(text, sizeof text, "%" PRId64, key);
	uint64_t start = *at;
	*at += (uint64_t)count * element_bytes;
	wf_ref id = make_id(l, class, key, location, count, WF_NIL);
	if (id == WF_NIL)
		return wf_graph_failed(l->g);
	r = remember_storage(l, key, id);
	if (r == 0)
		r = remember(l, &l->roots, key, id);
	if (r == 0)
		r = wf_container_add_storage(l->c, text, strlen(text), &record, l->err);
	if (r < 0)
		return r;
	record->header_offset = start;
	record->stored_bytes = record->size_bytes = (uint64_t)count * element_bytes;
	return 0;
}

static int read_view(struct loader *l, wf_ref view)
{
	int64_t key, root, offset, count, root_count = 0;
	if (!wf_is(l->g, view, WF_TUPLE) || !int_at(l->g, view, 0, &key) || !int_at(l->g, view, 1, &root) ||
	    !int_at(l->g, view, 2, &offset) || !int_at(l->g, view, 3, &count))
		return wf_fail_at(l->err, -EUCLEAN, "storages", WF_ERROR_NO_OFFSET,
				  "a view is not described by (key, root key, offset, count)");
	wf_ref root_id = recall(&l->roots, root);
	if (root_id == WF_NIL || !int_at(l->g, root_id, 4, &root_count))
		return wf_fail_at(l->err, -EUCLEAN, "storages", WF_ERROR_NO_OFFSET,
				  "a view of the storage %" PRId64 ", which is not there", root);
	if (offset < 0 || count < 0 || offset > root_count || count > root_count - offset)
		return wf_fail_at(l->err, -EUCLEAN, "storages", WF_ERROR_NO_OFFSET,
				  "a view of %" PRId64 " elements at %" PRId64 " leaves its storage of %" PRId64, count,
				  offset, root_count);
	char text[24];
	snprintf(text, sizeof text, "%" PRId64, key);
	const wf_ref items[] = {wf_str(l->g, text), wf_int(l->g, offset), wf_int(l->g, count)};
	wf_ref metadata = items[0] && items[1] && items[2] ? wf_tuple(l->g, items, 3) : WF_NIL;
	if (metadata == WF_NIL)
		return full_code(l);
	wf_ref id = make_id(l, wf_element(l->g, root_id, 1), root, wf_element(l->g, root_id, 3), root_count, metadata);
	return id == WF_NIL ? wf_graph_failed(l->g) : remember_storage(l, key, id);
}

static int read_storages(struct loader *l, uint32_t record)
{
	const struct wf_record member = l->c->records[record];
	uint64_t at = member.header_offset;
	int64_t n = 0;
	uint32_t first = l->c->count;
	int r = read_count(l, &member, &at, &n);
	for (int64_t i = 0; i < n && r == 0; i++)
		r = read_storage(l, &member, &at);
	if (r < 0)
		return r;
	wf_ref views;
	r = read_part(l, &member, &at, UINT64_MAX, &views);
	if (r < 0)
		return r;
	if (!wf_is(l->g, views, WF_LIST))
		return wf_fail_at(l->err, -EUCLEAN, member.name, WF_ERROR_NO_OFFSET,
				  "it does not end with a list of views");
	for (uint32_t i = 0; r == 0 && wf_element(l->g, views, i) != WF_NIL; i++)
		r = read_view(l, wf_element(l->g, views, i));
	if (r < 0)
		return r;
	uint32_t count = l->c->count - first;
	l->c->storage_order = calloc(WF_MAX(count, 1u), sizeof *l->c->storage_order);
	if (!l->c->storage_order)
		return wf_fail(l->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < count; i++)
		l->c->storage_order[i] = first + i;
	l->c->storage_count = count;
	return 0;
}

static wf_ref read_dims(struct loader *l, struct wf_cursor *cur, int32_t n)
{
	wf_ref items[MAX_DIMS];
	for (int32_t i = 0; i < n; i++) {
		items[i] = wf_int(l->g, (int64_t)wf_cursor_u64(cur));
		if (items[i] == WF_NIL)
			return WF_NIL;
	}
	return wf_tuple(l->g, items, (uint32_t)n);
}

static int read_tensor(struct loader *l, const struct wf_record *member, uint64_t *at)
{
	wf_ref args;
	int64_t key, storage_key;
	int r = read_part(l, member, at, SMALL_PICKLE_BYTES, &args);
	if (r < 0)
		return r;
	if (!wf_is(l->g, args, WF_TUPLE) || !int_at(l->g, args, 0, &key) || !int_at(l->g, args, 1, &storage_key))
		return wf_fail_at(l->err, -EUCLEAN, "tensors", *at - member->header_offset,
				  "a tensor is not described by (key, storage key, class)");
	wf_ref storage = recall(&l->objects, storage_key);
	if (!wf_is(l->g, storage, WF_PERSID))
		return wf_fail_at(l->err, -EUCLEAN, "tensors", *at - member->header_offset,
				  "a tensor of the storage %" PRId64 ", which is not there", storage_key);

	unsigned char raw[8 + MAX_DIMS * 16 + 8] = {0};
	uint64_t left = member->header_offset + member->stored_bytes - *at;
	size_t len = (size_t)WF_MIN(left, (uint64_t)sizeof raw);
	r = wf_source_read(l->c->file, *at, raw, len);
	if (r < 0)
		return wf_fail_at(l->err, r, "tensors", *at - member->header_offset, "cannot read: %s", strerror(-r));
	struct wf_cursor cur;
	wf_cursor_init_memory(&cur, raw, len);
	int32_t ndim = (int32_t)wf_cursor_u32(&cur);
	wf_cursor_skip(&cur, 4);
	if (ndim < 0 || ndim > MAX_DIMS)
		return wf_fail_at(l->err, -EUCLEAN, "tensors", *at - member->header_offset,
				  "a tensor of %" PRId32 " dimensions; 0 to %d are possible", ndim, MAX_DIMS);
	wf_ref size = read_dims(l, &cur, ndim), stride = read_dims(l, &cur, ndim);
	wf_ref offset = wf_int(l->g, (int64_t)wf_cursor_u64(&cur));
	if (!cur.ok)
		return wf_fail_at(l->err, -EUCLEAN, "tensors", *at - member->header_offset, "the member ends early");
	*at += cur.pos;
	/* Every tensor gets its own hooks: torch puts this very object into it, and a shared one would hook them all.
	 */
	wf_ref hooks = wf_call(l->g, WF_CALL_REDUCE, l->ordered_dict, l->no_args, WF_NIL);
	const wf_ref items[] = {storage, offset, size, stride, wf_bool(l->g, false), hooks};
	for (size_t i = 0; i < WF_ARRAY_SIZE(items); i++)
		if (items[i] == WF_NIL)
			return full_code(l);
	wf_ref call_args = wf_tuple(l->g, items, WF_ARRAY_SIZE(items));
	wf_ref call = call_args ? wf_call(l->g, WF_CALL_REDUCE, l->rebuild, call_args, WF_NIL) : WF_NIL;
	return call == WF_NIL ? full_code(l) : remember(l, &l->objects, key, call);
}

static int read_tensors(struct loader *l, uint32_t record)
{
	const struct wf_record member = l->c->records[record];
	uint64_t at = member.header_offset;
	int64_t n = 0;
	int r = read_count(l, &member, &at, &n);
	for (int64_t i = 0; i < n && r == 0; i++)
		r = read_tensor(l, &member, &at);
	return r;
}

static wf_ref object_of_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	struct loader *l = ctx;
	int64_t key = 0;
	size_t len = 0;
	const char *text = wf_bytes(g, id, &len);
	bool known = wf_int_value(g, id, &key);
	if (wf_is(g, id, WF_TUPLE)) {
		wf_ref class = wf_element(g, id, 0);
		if (class != WF_NIL && wf_is(g, class, WF_GLOBAL))
			return class;
	} else if (text && (wf_is(g, id, WF_STR) || wf_is(g, id, WF_PYSTR)) && len > 0) {
		char *end;
		errno = 0;
		key = strtoll(text, &end, 10);
		known = errno == 0 && end == text + len;
	}
	wf_ref r = known ? recall(&l->objects, key) : WF_NIL;
	if (r == WF_NIL)
		wf_fail(err, -EUCLEAN, "a persistent id that names no tensor, storage or class");
	return r;
}

static int load_parts(struct loader *l, wf_ref *ret_root)
{
	const struct tar *t = (const struct tar *)l->c;
	struct wf_graph *g = l->g;
	l->storage = wf_str(g, "storage");
	l->rebuild = wf_global_named(g, "torch._utils", "_rebuild_tensor_v2");
	l->ordered_dict = wf_global_named(g, "collections", "OrderedDict");
	l->no_args = wf_tuple(g, NULL, 0);
	if (l->storage == WF_NIL || l->rebuild == WF_NIL || l->ordered_dict == WF_NIL || l->no_args == WF_NIL)
		return full_code(l);
	int r = read_storages(l, t->storages);
	if (r == 0)
		r = read_tensors(l, t->tensors);
	if (r == 0)
		r = wf_container_index(l->c, l->err);
	if (r < 0)
		return r;
	const struct wf_record *member = &l->c->records[t->pickle];
	const struct wf_pickle_reader reader = {.persid = object_of_id, .ctx = l};
	uint64_t at = member->header_offset;
	r = wf_read_part(g, l->c->file, at, member->stored_bytes, &at, UINT64_MAX, &reader, ret_root, l->err);
	if (r < 0)
		wf_error_where(l->err, member->name);
	return r;
}

static int load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct tar *t = (struct tar *)c;
	if (t->loaded)
		return wf_fail(err, -EINVAL, "the object was read before");
	t->loaded = true;
	struct loader l = {.c = c, .g = g, .err = err};
	int r = load_parts(&l, ret_root);
	wf_key_map_free(&l.objects);
	wf_key_map_free(&l.roots);
	return r;
}

static const struct wf_container_ops ops = {.load_graph = load_graph};

int wf_tar_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	int r = wf_tar_begins(file, err);
	if (r <= 0)
		return r < 0 ? r : 1;
	struct tar *t = calloc(1, sizeof *t);
	if (!t)
		return wf_fail(err, -ENOMEM, "out of memory");
	t->storages = t->tensors = t->pickle = WF_NO_RECORD;
	cleanup_with(wf_container_freep) struct wf_container *c = &t->base;
	r = wf_container_init(c, &ops, WF_CONTAINER_TAR, file);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	r = read_members(t, err);
	if (t->storages == WF_NO_RECORD && t->tensors == WF_NO_RECORD && t->pickle == WF_NO_RECORD)
		return wf_fail(err, -EMEDIUMTYPE, "this is a tar archive, not a checkpoint (unpack it first)");
	if (r < 0)
		return r;
	if (t->storages == WF_NO_RECORD || t->tensors == WF_NO_RECORD || t->pickle == WF_NO_RECORD)
		return wf_fail(err, -EUCLEAN,
			       "truncated or incomplete: it is a tar of PyTorch 0.1, but without its member \"%s\"",
			       t->storages == WF_NO_RECORD  ? "storages"
			       : t->tensors == WF_NO_RECORD ? "tensors"
							    : "pickle");
	*ret = steal_pointer(&c);
	return 0;
}
