/* SPDX-License-Identifier: MIT */
/* The stream of torch 0.1.10 to 1.5, and of torch.save(_use_new_zipfile_serialization=False) ever since.
 *
 *   pickle  0x1950a86a20f9469cfc6c                                    the magic number, any pickle protocol
 *   pickle  1001                                                      protocol version
 *   pickle  {protocol_version, little_endian, type_sizes}             torch ignores it, and so do we
 *   pickle  the object; persistent ids: ('storage', class, key, location, numel, view)
 *                                       ('module', class, source file, source)
 *   pickle  [key, ...]                                                the order in which the data follow
 *   for each key:  i64 element count, then the elements; always little endian
 *   (anything: torch stops here, and another stream may follow)
 *
 * How long an element is only the object's pickle says, so where the second storage lies is known when that has been
 * read, and the records are made then. Source: torch/serialization.py _legacy_load.
 */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/object/dtype.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

#define PROTOCOL_VERSION 1001
#define SMALL_PICKLE_BYTES 64u /* magic and protocol version; 15 bytes and 6 in practice */
#define COUNT_BYTES 8u
#define PEEK_BYTES 4096u /* small storages: one read brings the counts of many */

struct legacy {
	struct wf_container base;
	uint64_t protocol_offset, sys_info_offset;
	bool loaded;
};

struct peek {
	struct wf_source *file;
	uint64_t offset;
	size_t len;
	unsigned char bytes[PEEK_BYTES];
};

static int read_i64(struct peek *p, uint64_t offset, int64_t *ret)
{
	if (offset < p->offset || offset - p->offset > p->len || p->len - (offset - p->offset) < COUNT_BYTES) {
		uint64_t size = wf_source_size(p->file);
		if (offset > size || size - offset < COUNT_BYTES)
			return -EUCLEAN;
		size_t len = (size_t)WF_MIN(size - offset, (uint64_t)PEEK_BYTES);
		p->len = 0;
		int r = wf_source_read(p->file, offset, p->bytes, len);
		if (r < 0)
			return r;
		p->offset = offset;
		p->len = len;
	}
	*ret = (int64_t)wf_le64(p->bytes + (offset - p->offset));
	return 0;
}

/* The pickle at *at, of at most max bytes, into a graph of its own; moves *at behind it. */
static int read_aside(struct wf_source *file, uint64_t *at, uint64_t max, struct wf_graph **ret_g, wf_ref *ret_root,
		      struct wf_error *err)
{
	struct wf_graph *g = NULL;
	if (wf_graph_new(&g) < 0)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_read_part(g, file, *at, wf_source_size(file) - *at, at, max, NULL, ret_root, err);
	if (r < 0) {
		wf_graph_free(g);
		return r;
	}
	*ret_g = g;
	return 0;
}

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

/* Only an int that stands there as such: a pickle may also compute this number by a call. */
static bool is_magic(const struct wf_graph *g, wf_ref r)
{
	static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
	size_t len = 0;
	const char *bytes = wf_is(g, r, WF_LONG) ? wf_bytes(g, r, &len) : NULL;
	return bytes && len == sizeof magic && memcmp(bytes, magic, len) == 0;
}

static int add_part(struct wf_container *c, const char *name, uint64_t start, uint64_t end, struct wf_error *err)
{
	struct wf_record *record = NULL;
	int r = wf_container_add(c, name, strlen(name), &record);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	record->header_offset = start;
	record->stored_bytes = record->size_bytes = end - start;
	return 0;
}

/* ctx: struct wf_key_map from key to the ref of its class. The first id of a key counts, as in torch. */
static wf_ref legacy_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	uint32_t n = 0;
	const wf_ref *items = wf_elements(g, id, &n);
	if (wf_is_storage_id(g, id)) {
		size_t len = 0;
		const char *key = wf_bytes(g, items[2], &len);
		if (!key || !(wf_is(g, items[2], WF_STR) || wf_is(g, items[2], WF_PYSTR))) {
			wf_fail(err, -EUCLEAN, "the key of a storage is not a short string");
			return WF_NIL;
		}
		int r = wf_key_map_get(ctx, key, len) ? 0 : wf_key_map_put(ctx, key, len, items[1]);
		if (r < 0) {
			wf_fail(err, r, "too many storages");
			return WF_NIL;
		}
	} else if (!wf_is(g, id, WF_TUPLE) || n != 4 || !wf_str_equal(g, items[0], "module")) {
		wf_fail(err, -EOPNOTSUPP, "a persistent id that is neither a storage's nor a module's");
		return WF_NIL;
	}
	return wf_make_persid(g, id, err);
}

/* What the data of the storages are read with. */
struct data {
	struct wf_container *c;
	const struct wf_graph *g;         /* the object's */
	const struct wf_key_map *classes; /* as legacy_id filled it */
	struct peek peek;
	uint64_t offset; /* of the next storage */
};

static int add_storage(struct data *d, const char *key, size_t len, struct wf_error *err)
{
	struct wf_record *record = NULL;
	const uint64_t *class = wf_key_map_get(d->classes, key, len);
	int r = wf_container_add_storage(d->c, key, len, &record, err);
	if (r < 0)
		return r;
	if (!class)
		return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
				  "the storage is in the list of keys, but nothing in the object refers to it");
	bool untyped = false;
	const char *class_name = wf_global_name(d->g, wf_class_of(d->g, (wf_ref) * class));
	enum wf_dtype dtype = wf_dtype_from_storage_class(class_name, &untyped);
	uint64_t element_bytes = untyped ? 1 : wf_dtype_info(dtype)->size_bytes;
	if (element_bytes == 0)
		return wf_fail_at(err, -EOPNOTSUPP, record->name, WF_ERROR_NO_OFFSET,
				  "the storage is of the unknown class \"%s\", so what follows it cannot be found",
				  class_name);
	int64_t count = 0;
	r = read_i64(&d->peek, d->offset, &count);
	if (r < 0 && r != -EUCLEAN)
		return wf_fail_at(err, r, record->name, WF_ERROR_NO_OFFSET, "cannot read the file: %s", strerror(-r));
	if (r == 0 && count < 0)
		return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
				  "a count of %" PRId64 " elements at %" PRIu64, count, d->offset);
	uint64_t size = wf_source_size(d->c->file);
	if (r < 0 || (uint64_t)count > (size - d->offset - COUNT_BYTES) / element_bytes)
		return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
				  "truncated or incomplete: the data of this storage would go from %" PRIu64
				  " past the end of the file at %" PRIu64,
				  d->offset, size);
	record->header_offset = d->offset + COUNT_BYTES;
	record->stored_bytes = record->size_bytes = (uint64_t)count * element_bytes;
	d->offset = record->header_offset + record->stored_bytes;
	return 0;
}

static int add_storages(struct data *d, const struct wf_graph *g, wf_ref keys, struct wf_error *err)
{
	struct wf_container *c = d->c;
	uint32_t n = 0;
	const wf_ref *items = wf_elements(g, keys, &n);
	if (!wf_is(g, keys, WF_LIST))
		return wf_fail_at(err, -EUCLEAN, "keys", WF_ERROR_NO_OFFSET, "this is not a list of storage keys");
	c->storage_order = calloc(WF_MAX(n, 1u), sizeof *c->storage_order);
	if (!c->storage_order)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++) {
		size_t len = 0;
		const char *key = wf_bytes(g, items[i], &len);
		if (!key || !(wf_is(g, items[i], WF_STR) || wf_is(g, items[i], WF_PYSTR)))
			return wf_fail_at(err, -EUCLEAN, "keys", WF_ERROR_NO_OFFSET, "key %u is not a short string", i);
		int r = add_storage(d, key, len, err);
		if (r < 0)
			return r;
		c->storage_order[c->storage_count++] = c->count - 1;
	}
	return wf_container_index(c, err);
}

/* A part of the stream that cannot be read. One that ends too early is a matter of the file, not of its pickles. */
static int bad_part(int r, const char *part, struct wf_error *err)
{
	if (err && err->cut)
		return wf_fail_at(err, r, part, err->offset,
				  "truncated or incomplete: a legacy checkpoint of which the rest is missing; %s",
				  err->text);
	wf_error_where(err, part);
	return r;
}

static int load_parts(struct wf_container *c, struct wf_graph *g, struct wf_key_map *classes, wf_ref *ret_root,
		      struct wf_error *err)
{
	const struct legacy *l = (const struct legacy *)c;
	const struct wf_pickle_reader reader = {.persid = legacy_id, .ctx = classes};
	cleanup_with(graph_freep) struct wf_graph *aside = NULL;
	cleanup_with(graph_freep) struct wf_graph *keys_graph = NULL;
	uint64_t size = wf_source_size(c->file), object = l->sys_info_offset;
	wf_ref ignored, keys_root, root;
	int r = read_aside(c->file, &object, UINT64_MAX, &aside, &ignored, err);
	if (r < 0)
		return bad_part(r, "sys_info", err);
	uint64_t keys = object;
	r = wf_read_part(g, c->file, object, size - object, &keys, UINT64_MAX, &reader, &root, err);
	if (r < 0)
		return bad_part(r, "object", err);
	uint64_t end = keys;
	r = read_aside(c->file, &end, UINT64_MAX, &keys_graph, &keys_root, err);
	if (r < 0)
		return bad_part(r, "keys", err);
	const struct {
		const char *name;
		uint64_t start, end;
	} parts[] = {
		{"magic", 0, l->protocol_offset},
		{"protocol", l->protocol_offset, l->sys_info_offset},
		{"sys_info", l->sys_info_offset, object},
		{"object", object, keys},
		{"keys", keys, end},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(parts) && r == 0; i++)
		r = add_part(c, parts[i].name, parts[i].start, parts[i].end, err);
	struct data d = {.c = c, .g = g, .classes = classes, .peek = {.file = c->file}, .offset = end};
	if (r == 0)
		r = add_storages(&d, keys_graph, keys_root, err);
	if (r == 0)
		*ret_root = root;
	return r;
}

static int load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct legacy *l = (struct legacy *)c;
	if (l->loaded)
		return wf_fail(err, -EINVAL, "the object was read before");
	l->loaded = true;
	struct wf_key_map classes = {0};
	int r = load_parts(c, g, &classes, ret_root, err);
	wf_key_map_free(&classes);
	return r;
}

static const struct wf_container_ops ops = {.load_graph = load_graph};

int wf_legacy_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	cleanup_with(graph_freep) struct wf_graph *magic_graph = NULL;
	cleanup_with(graph_freep) struct wf_graph *version_graph = NULL;
	uint64_t protocol = 0;
	wf_ref root;
	int r = read_aside(file, &protocol, SMALL_PICKLE_BYTES, &magic_graph, &root, NULL);
	if (r == -ENOMEM || r == -EIO || r == -ESTALE)
		return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
	if (r < 0 || !is_magic(magic_graph, root))
		return 1;

	uint64_t sys_info = protocol;
	r = read_aside(file, &sys_info, SMALL_PICKLE_BYTES, &version_graph, &root, err);
	if (r < 0)
		return bad_part(r, "protocol", err);
	int64_t version = 0;
	if (!wf_is(version_graph, root, WF_INT) || !wf_int_value(version_graph, root, &version))
		return wf_fail_at(err, -EUCLEAN, "protocol", WF_ERROR_NO_OFFSET,
				  "the protocol version is not a number");
	if (version != PROTOCOL_VERSION)
		return wf_fail_at(err, -EOPNOTSUPP, "protocol", WF_ERROR_NO_OFFSET,
				  "protocol version %" PRId64 "; only %d is known", version, PROTOCOL_VERSION);
	struct legacy *l = calloc(1, sizeof *l);
	if (!l)
		return wf_fail(err, -ENOMEM, "out of memory");
	l->protocol_offset = protocol;
	l->sys_info_offset = sys_info;
	r = wf_container_init(&l->base, &ops, WF_CONTAINER_LEGACY, file);
	if (r < 0) {
		wf_container_free(&l->base);
		return wf_fail(err, r, "out of memory");
	}
	*ret = &l->base;
	return 0;
}
