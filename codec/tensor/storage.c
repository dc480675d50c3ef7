/* SPDX-License-Identifier: MIT */
/* Which storages there are: the ids of a graph, held against the records of its container. */
#include "codec/tensor/storage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tensor/storage_inner.h"
#include "codec/tensor/storage_nested.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

#define INT_KEY_BYTES 24

/* ---- what an id says ---- */

struct id {
	wf_ref key;
	enum wf_dtype dtype;
	bool untyped;
	uint64_t size_bytes;
};

/* ('storage', class, key, location, numel[, view]); false when the PERSID names no storage. *ret_why is set when it
 * tries to and breaks a rule. */
static bool read_id(const struct wf_graph *g, wf_ref persid, struct id *ret, const char **ret_why)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &n);
	int64_t numel;

	*ret_why = NULL;
	if (n < 5 || !wf_str_equal(g, e[0], "storage"))
		return false;
	*ret = (struct id){.key = e[2]};
	ret->dtype = wf_dtype_from_storage_class(wf_global_name(g, wf_class_of(g, e[1])), &ret->untyped);
	if (n > 6)
		*ret_why = "its id has more than six parts";
	else if (ret->dtype == WF_DTYPE_INVALID)
		*ret_why = "its class is not a storage class that torch knows";
	else if (!wf_int_value(g, e[4], &numel) || numel < 0)
		*ret_why = "its element count is not an int of 0 or more";
	else if (wf_mul_u64((uint64_t)numel, wf_dtype_info(ret->dtype)->size_bytes, &ret->size_bytes) ||
		 ret->size_bytes > INT64_MAX)
		*ret_why = "its element count is larger than any file";
	return true;
}

/* The key's bytes; buf (INT_KEY_BYTES) serves int keys. NULL when it is no key. */
static const char *key_bytes(const struct wf_graph *g, wf_ref key, char *buf, size_t *ret_len)
{
	int64_t v;

	if (wf_is(g, key, WF_STR) || wf_is(g, key, WF_PYSTR))
		return wf_bytes(g, key, ret_len);
	if (!wf_is(g, key, WF_INT) || !wf_int_value(g, key, &v))
		return NULL;
	*ret_len = (size_t)snprintf(buf, INT_KEY_BYTES, "%" PRId64, v);
	return buf;
}

/* ---- the two maps ---- */

static void map_object(struct wf_storages *ss, wf_ref object, uint32_t storage)
{
	if (wf_storage_of(ss, object) == WF_NO_STORAGE)
		ss->all[storage].persids++;
	if (!wf_persid_set_number(ss->graph, object, storage + 1))
		wf_map_set(&ss->by_object, object, storage);
}

static wf_ref key_of(const struct wf_storages *ss, uint32_t i)
{
	return wf_element(ss->graph, wf_persid_id(ss->graph, ss->all[i].persid), 2);
}

static bool same_key(const struct wf_storages *ss, wf_ref a, wf_ref b)
{
	char buf_a[INT_KEY_BYTES], buf_b[INT_KEY_BYTES];
	size_t len_a, len_b;
	const char *x = key_bytes(ss->graph, a, buf_a, &len_a);
	const char *y = key_bytes(ss->graph, b, buf_b, &len_b);

	return x && y && len_a == len_b && !memcmp(x, y, len_a);
}

static int reserve_storage(struct wf_storages *ss)
{
	return wf_array_reserve(&ss->all, &ss->capacity, (uint64_t)ss->count + 1, sizeof *ss->all, WF_NO_STORAGE);
}

/* Room for a storage and an object. */
static int reserve(struct wf_storages *ss)
{
	int r = reserve_storage(ss);

	return r < 0 ? r : wf_map_reserve(&ss->by_object, 1);
}

/* ---- building the table ---- */

/* In a checkpoint of several files a record is called by a number: of the one file that it stands in the text has the name. */
static void explain_record(struct wf_storages *ss, uint32_t i, const struct wf_record *record)
{
	const struct wf_container *c = ss->container;
	struct wf_error why = {0};
	uint64_t at;
	wf_container_locate(c, ss->all[i].record, &at, &why);
	const char *file = wf_container_shard(c, ss->all[i].record, 0);
	bool one = file && !wf_container_shard(c, ss->all[i].record, 1);
	if (!wf_container_is_directory(c))
		wf_storage_problem_is(ss, i, record->bad, "record %.80s: %.160s", record->name, why.text);
	else if (one && !strstr(why.text, file))
		wf_storage_problem_is(ss, i, record->bad, "%.80s: %.160s", file, why.text);
	else
		wf_storage_problem_is(ss, i, record->bad, "%.250s", why.text);
}

/* Holds a storage against the record that should have its bytes. */
static void attach_record(struct wf_storages *ss, uint32_t i, uint32_t index, const char *key, size_t key_len)
{
	struct wf_storage *s = &ss->all[i];

	s->record = index;
	const struct wf_record *record = wf_container_record(ss->container, s->record);
	if (!record) {
		wf_storage_problem_is(ss, i, -EUCLEAN, "the file has no record for storage %.*s",
				      (int)WF_MIN(key_len, 80u), key);
		return;
	}
	s->base_bytes = record->size_bytes;
	if (record->bad) {
		explain_record(ss, i, record);
	} else if (record->size_bytes != s->size_bytes) {
		wf_storage_problem_is(ss, i, -EUCLEAN, "record %.80s holds %" PRIu64 " bytes, its storage %" PRIu64,
				      record->name, record->size_bytes, s->size_bytes);
	}
}

/* Where the storage of a key is noted, and which it is; WF_NO_STORAGE: it is new. */
struct key_place {
	uint32_t *by_record; /* NULL: under the hash */
	uint32_t hash, storage;
};

static int find_key(struct wf_storages *ss, wf_ref key, const char *bytes, size_t len, uint32_t record,
		    struct key_place *ret)
{
	uint32_t *owner = record == WF_NO_RECORD ? NULL : &ss->by_record[record], i;

	if (owner && (!*owner || same_key(ss, key_of(ss, *owner - 1), key))) {
		*ret = (struct key_place){.by_record = owner, .storage = *owner ? *owner - 1 : WF_NO_STORAGE};
		return 0;
	}
	int r = wf_map_reserve(&ss->by_key, 1);
	if (r < 0)
		return r;
	*ret = (struct key_place){.hash = wf_map_hash(&ss->by_key, bytes, len), .storage = WF_NO_STORAGE};
	struct wf_map_probe p = wf_map_probe(&ss->by_key, ret->hash);
	while (ret->storage == WF_NO_STORAGE && wf_map_next(&p, &i))
		if (same_key(ss, key_of(ss, i), key))
			ret->storage = i;
	return 0;
}

static void note_key(struct wf_storages *ss, const struct key_place *place, uint32_t i)
{
	if (place->by_record)
		*place->by_record = i + 1;
	else
		wf_map_add(&ss->by_key, place->hash, i);
}

/* The storage that a PERSID names: the one with that key, or a new one. */
static int add_persid(struct wf_storages *ss, wf_ref persid)
{
	struct id id;
	char buf[INT_KEY_BYTES];
	const char *why, *key;
	size_t len;
	uint32_t i;
	struct key_place place;

	wf_persid_set_number(ss->graph, persid, 0); /* an earlier table of the same graph may have left one */
	if (!read_id(ss->graph, persid, &id, &why))
		return 0;
	key = key_bytes(ss->graph, id.key, buf, &len);
	if (!key)
		return 0; /* a tensor over it says that it has no storage */
	uint32_t record = wf_container_guess_storage_record(ss->container, ss->last_record + 1, key, len);
	int r = reserve(ss);
	if (r == 0)
		r = find_key(ss, id.key, key, len, record, &place);
	if (r < 0)
		return r;
	if (place.storage != WF_NO_STORAGE) {
		/* Ids that agree on the bytes may disagree on the class: all empty storages share one key. */
		i = place.storage;
		if (!why && id.size_bytes != ss->all[i].size_bytes)
			wf_storage_problem_is(ss, i, -EUCLEAN,
					      "storage %.*s has %" PRIu64 " bytes by one id and %" PRIu64 " by another",
					      (int)WF_MIN(len, 80u), key, ss->all[i].size_bytes, id.size_bytes);
	} else {
		i = ss->count++;
		ss->all[i] = (struct wf_storage){.persid = persid,
						 .size_bytes = id.size_bytes,
						 .record = WF_NO_RECORD,
						 .dtype = (uint8_t)id.dtype,
						 .untyped = id.untyped,
						 .companion = wf_container_is_companion_key(ss->container, key, len)};
		note_key(ss, &place, i);
		ss->last_record = record;
		if (!why)
			attach_record(ss, i, record, key, len);
	}
	if (why) {
		ss->all[i].size_bytes = ss->all[i].bad ? ss->all[i].size_bytes : 0;
		wf_storage_problem_is(ss, i, -EUCLEAN, "storage %.*s: %s", (int)WF_MIN(len, 80u), key, why);
	}
	map_object(ss, persid, i);
	return 0;
}

/* Room for a storage inside the pickle. */
static int reserve_inside(struct wf_storages *ss)
{
	int r = reserve(ss);
	if (r == 0)
		r = wf_array_reserve(&ss->insides, &ss->inside_capacity, (uint64_t)ss->inside_count + 1,
				     sizeof *ss->insides, WF_NO_STORAGE);
	return r < 0 ? r : wf_map_reserve(&ss->inside_at, 1);
}

static void put_inside(struct wf_storages *ss, uint32_t i, struct wf_inside_bytes inside)
{
	ss->all[i].inside = true;
	wf_map_set(&ss->inside_at, i, ss->inside_count);
	ss->insides[ss->inside_count++] = inside;
}

/* The bytes of an ndarray inside the pickle. Two arrays are two storages, also where their bytes are one object of the
 * pickle: Python makes b'\x01' only once, and NumPy copies it. */
static int add_array(struct wf_storages *ss, wf_ref array, wf_ref data)
{
	uint64_t size_bytes = wf_string_size(ss->graph, data);
	int r = reserve_inside(ss), bad = 0;

	if (r < 0)
		return r;
	if (wf_is(ss->graph, data, WF_STR))
		bad = wf_storage_measure_text(ss->graph, data, &size_bytes);
	uint32_t i = ss->count++;
	ss->all[i] = (struct wf_storage){.size_bytes = size_bytes,
					 .base_bytes = size_bytes,
					 .record = WF_NO_RECORD,
					 .dtype = WF_UINT8,
					 .untyped = true};
	put_inside(ss, i, (struct wf_inside_bytes){.array = array, .data = data});
	if (bad)
		wf_storage_problem_is(ss, i, bad,
				      bad == -EUCLEAN ? "the text of an array's bytes holds a character above 255"
						      : "the text of an array's bytes cannot be read");
	map_object(ss, array, i);
	return 0;
}

/* A torch storage whose bytes stand inside the pickle. */
static int add_nested(struct wf_storages *ss, wf_ref call)
{
	struct wf_nested nested = {0};
	struct wf_error why = {0};
	uint64_t bytes;
	int bad = wf_nested_parse(ss->graph, call, &nested, &why), r = reserve_inside(ss);

	if (r < 0 || bad == -ENOMEM)
		return -ENOMEM;
	if (bad == 0) {
		bytes = wf_string_size(ss->graph, nested.data);
		if (wf_is(ss->graph, nested.data, WF_STR))
			bad = wf_storage_measure_text(ss->graph, nested.data, &bytes);
		if (bad == 0 && (bytes < nested.skip_bytes || bytes - nested.skip_bytes < nested.size_bytes))
			bad = wf_fail(&why, -EUCLEAN, "the bytes of a storage in the pickle end too early");
	}
	uint32_t i = ss->count++;
	ss->all[i] = (struct wf_storage){.persid = call,
					 .size_bytes = bad ? 0 : nested.size_bytes,
					 .base_bytes = bad ? 0 : nested.size_bytes,
					 .record = WF_NO_RECORD,
					 .dtype = (uint8_t)(bad ? WF_UINT8 : nested.dtype),
					 .untyped = bad || nested.untyped};
	put_inside(ss, i, (struct wf_inside_bytes){call, nested.data, nested.skip_bytes});
	if (bad)
		wf_storage_problem_is(ss, i, bad, "%s",
				      why.text[0] ? why.text : "the bytes of a storage cannot be read");
	map_object(ss, call, i);
	return 0;
}

static int add_object(struct wf_storages *ss, wf_ref o)
{
	if (wf_is(ss->graph, o, WF_PERSID))
		return add_persid(ss, o);
	if (!wf_is(ss->graph, o, WF_CALL) || wf_packed_args(ss->graph, o) != WF_NIL)
		return 0;
	if (wf_is_nested_storage(ss->graph, o))
		return add_nested(ss, o);
	wf_ref data = wf_numpy_data(ss->graph, o);
	return data == WF_NIL ? 0 : add_array(ss, o, data);
}

/* A table for a storage in nearly every record: it grows where that is too little. */
static int reserve_all(struct wf_storages *ss)
{
	uint32_t records = wf_container_count(ss->container);

	ss->by_record = calloc(WF_MAX(records, 1u), sizeof *ss->by_record);
	ss->all = reallocarray(NULL, WF_MAX(records, 1u), sizeof *ss->all);
	ss->capacity = records;
	return ss->by_record && ss->all ? 0 : -ENOMEM;
}

int wf_storages_new(struct wf_graph *g, struct wf_container *c, struct wf_storages **ret, struct wf_error *err)
{
	struct wf_storages *ss = calloc(1, sizeof *ss);

	if (!ss)
		return wf_fail(err, -ENOMEM, "out of memory");
	ss->graph = g;
	ss->container = c;
	ss->decoded_max_bytes = WF_STORAGE_CACHE_MAX;
	pthread_mutex_init(&ss->cache_lock, NULL);
	ss->last_record = WF_NO_RECORD;
	int r = dev_host_open(&ss->host);
	if (r == 0)
		r = reserve_all(ss);
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL && r == 0; o = wf_graph_next(g, o))
		r = add_object(ss, o);
	if (r < 0) {
		wf_storages_free(ss);
		return wf_fail(err, r, "the table of storages: %s", strerror(-r));
	}
	/* from now on PERSID objects are told by identity: new storages get their keys when they are written */
	wf_map_free(&ss->by_key);
	free(ss->by_record);
	ss->by_record = NULL;
	*ret = ss;
	return 0;
}

void wf_storages_free(struct wf_storages *ss)
{
	if (!ss)
		return;
	if (ss->host) {
		wf_storages_forget_decoded(ss);
		ss->host->ops->close(ss->host);
	}
	for (uint32_t i = 0; i < ss->count; i++)
		wf_extents_free(ss->all[i].dirty);
	for (uint32_t i = 0; i < ss->given_count; i++)
		wf_source_unref(ss->given[i]);
	free(ss->given);
	wf_map_free(&ss->given_at);
	pthread_mutex_destroy(&ss->cache_lock);
	free(ss->insides);
	wf_map_free(&ss->inside_at);
	wf_buffer_free(&ss->problems);
	wf_map_free(&ss->problem_at);
	free(ss->decoded);
	wf_map_free(&ss->by_key);
	free(ss->by_record);
	wf_map_free(&ss->by_object);
	free(ss->all);
	free(ss);
}

/* ---- changing the table ---- */

int wf_storage_new(struct wf_storages *ss, wf_ref persid, uint64_t size_bytes, uint32_t *ret)
{
	struct id id;
	const char *why;
	char buf[INT_KEY_BYTES];
	size_t len;

	if (!wf_is(ss->graph, persid, WF_PERSID) || !read_id(ss->graph, persid, &id, &why) || why ||
	    !key_bytes(ss->graph, id.key, buf, &len))
		return -EINVAL;
	int r = reserve(ss);
	if (r < 0)
		return r;
	if (wf_storage_of(ss, persid) != WF_NO_STORAGE)
		return -EEXIST;
	uint32_t i = ss->count++;
	ss->all[i] = (struct wf_storage){.persid = persid,
					 .size_bytes = size_bytes,
					 .record = WF_NO_RECORD,
					 .dtype = (uint8_t)id.dtype,
					 .untyped = id.untyped};
	map_object(ss, persid, i);
	*ret = i;
	return 0;
}

int wf_storages_add_array(struct wf_storages *ss, wf_ref array)
{
	if (!wf_is(ss->graph, array, WF_CALL) || wf_storage_of(ss, array) != WF_NO_STORAGE)
		return -EINVAL;
	return add_object(ss, array);
}

int wf_storages_add_arrays(struct wf_storages *ss, uint32_t limit)
{
	int r = 0;
	for (wf_ref o = wf_graph_since(ss->graph, limit); o != WF_NIL && r == 0; o = wf_graph_next(ss->graph, o)) {
		wf_ref data = wf_is(ss->graph, o, WF_CALL) ? wf_numpy_data(ss->graph, o) : WF_NIL;
		if (data != WF_NIL && wf_storage_of(ss, o) == WF_NO_STORAGE)
			r = add_array(ss, o, data);
	}
	return r;
}

int wf_storage_adopt(struct wf_storages *ss, uint32_t i, wf_ref object)
{
	if (i >= ss->count || object == WF_NIL)
		return -EINVAL;
	int r = wf_map_reserve(&ss->by_object, 1);
	if (r == 0)
		map_object(ss, object, i);
	return r;
}
