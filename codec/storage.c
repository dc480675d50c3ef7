#include "storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage_inner.h"
#include "tensor.h"
#include "util.h"

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
	if (n > 6)
		*ret_why = "its id has more than six parts";
	ret->dtype = wf_dtype_from_storage_class(wf_global_name(g, wf_class_of(g, e[1])), &ret->untyped);
	if (ret->dtype == WF_DTYPE_INVALID)
		*ret_why = "its class is not a storage class that torch knows";
	else if (!wf_is(g, e[2], WF_STR) && !wf_is(g, e[2], WF_PYSTR) && !wf_is(g, e[2], WF_INT))
		*ret_why = "its key is neither a string nor an int";
	else if (!wf_int_value(g, e[4], &numel) || numel < 0)
		*ret_why = "its element count is not an int of 0 or more";
	else if (wf_mul_u64((uint64_t)numel, wf_dtype_info(ret->dtype)->size_bytes, &ret->size_bytes) ||
		 ret->size_bytes > INT64_MAX)
		*ret_why = "its element count is larger than any file";
	return true;
}

/* The key's bytes; buf (24 bytes) serves int keys. NULL when it is no key. */
static const char *key_bytes(const struct wf_graph *g, wf_ref key, char *buf, size_t *ret_len)
{
	int64_t v;
	if (wf_is(g, key, WF_STR) || wf_is(g, key, WF_PYSTR))
		return wf_bytes(g, key, ret_len);
	if (!wf_int_value(g, key, &v))
		return NULL;
	*ret_len = (size_t)snprintf(buf, 24, "%lld", (long long)v);
	return buf;
}

/* ---- the two maps ---- */

static uint32_t object_slot(const struct wf_storages *ss, wf_ref object)
{
	uint32_t mask = ss->by_object_size - 1, at = (object * 2654435761u) & mask;
	while (ss->by_object[at].object != WF_NIL && ss->by_object[at].object != object)
		at = (at + 1) & mask;
	return at;
}

static int map_object(struct wf_storages *ss, wf_ref object, uint32_t storage)
{
	if (ss->by_object_used * 4 >= ss->by_object_size * 3) {
		struct wf_storages bigger = *ss;
		bigger.by_object_size = ss->by_object_size ? ss->by_object_size * 2 : 64;
		bigger.by_object = calloc(bigger.by_object_size, sizeof *bigger.by_object);
		if (!bigger.by_object)
			return -ENOMEM;
		for (uint32_t i = 0; i < ss->by_object_size; i++)
			if (ss->by_object[i].object != WF_NIL)
				bigger.by_object[object_slot(&bigger, ss->by_object[i].object)] = ss->by_object[i];
		free(ss->by_object);
		ss->by_object = bigger.by_object;
		ss->by_object_size = bigger.by_object_size;
	}
	uint32_t at = object_slot(ss, object);
	ss->by_object_used += ss->by_object[at].object == WF_NIL;
	ss->by_object[at].object = object;
	ss->by_object[at].storage = storage;
	return 0;
}

static wf_ref key_of(const struct wf_storages *ss, uint32_t i)
{
	return wf_element(ss->graph, wf_persid_id(ss->graph, ss->all[i].persid), 2);
}

static uint64_t hash_key(const struct wf_storages *ss, wf_ref key)
{
	char buf[24];
	size_t len;
	const char *bytes = key_bytes(ss->graph, key, buf, &len);
	return bytes ? wf_hash_bytes(bytes, len, 0) : 0;
}

static bool same_key(const struct wf_storages *ss, wf_ref a, wf_ref b)
{
	char buf_a[24], buf_b[24];
	size_t len_a, len_b;
	const char *x = key_bytes(ss->graph, a, buf_a, &len_a), *y = key_bytes(ss->graph, b, buf_b, &len_b);
	return x && y && len_a == len_b && !memcmp(x, y, len_a);
}

/* The slot of a key: occupied by its storage, or the free one where it belongs. */
static uint32_t *key_slot(const struct wf_storages *ss, wf_ref key)
{
	uint32_t mask = ss->by_key_size - 1, at = (uint32_t)hash_key(ss, key) & mask;
	while (ss->by_key[at] && !same_key(ss, key_of(ss, ss->by_key[at] - 1), key))
		at = (at + 1) & mask;
	return &ss->by_key[at];
}

static int grow_key_map(struct wf_storages *ss)
{
	if ((ss->count + 1) * 4 < ss->by_key_size * 3)
		return 0;
	uint32_t *old = ss->by_key, old_size = ss->by_key_size, size = old_size ? old_size * 2 : 64;
	ss->by_key = calloc(size, sizeof *ss->by_key);
	if (!ss->by_key) {
		ss->by_key = old;
		return -ENOMEM;
	}
	ss->by_key_size = size;
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i])
			*key_slot(ss, key_of(ss, old[i] - 1)) = old[i];
	free(old);
	return 0;
}

/* ---- building the table ---- */

static void problem(struct wf_storages *ss, uint32_t i, int code, const char *text)
{
	if (ss->all[i].bad)
		return;
	ss->all[i].bad = code;
	struct wf_storage_problem *p = reallocarray(ss->problems, ss->problem_count + 1, sizeof *p);
	if (!p)
		return; /* the storage stays bad, without its sentence */
	ss->problems = p;
	p[ss->problem_count].storage = i;
	snprintf(p[ss->problem_count].text, sizeof p->text, "%s", text);
	ss->problem_count++;
}

static int add(struct wf_storages *ss, const struct wf_storage *s, uint32_t *ret)
{
	if (ss->count == ss->capacity) {
		uint32_t capacity = ss->capacity ? ss->capacity + ss->capacity / 2 : 16;
		struct wf_storage *all = reallocarray(ss->all, capacity, sizeof *all);
		if (!all)
			return -ENOMEM;
		ss->all = all;
		ss->capacity = capacity;
	}
	ss->all[ss->count] = *s;
	*ret = ss->count++;
	return 0;
}

/* Holds a storage against the record that should have its bytes. */
static void attach_record(struct wf_storages *ss, uint32_t i, wf_ref key)
{
	char buf[24], text[160];
	size_t len;
	struct wf_storage *s = &ss->all[i];
	const char *bytes = key_bytes(ss->graph, key, buf, &len);
	s->record = bytes ? wf_container_storage_record(ss->container, bytes, len) : WF_NO_RECORD;
	if (s->record == WF_NO_RECORD) {
		snprintf(text, sizeof text, "the file has no record for storage %.60s", bytes ? bytes : "?");
		return problem(ss, i, -EUCLEAN, text);
	}
	const struct wf_record *record = wf_container_record(ss->container, s->record);
	s->base_bytes = record->size_bytes;
	if (record->bad) {
		snprintf(text, sizeof text, "record %.60s cannot be read", record->name);
		problem(ss, i, record->bad, text);
	} else if (record->size_bytes != s->size_bytes) {
		snprintf(text, sizeof text, "record %.60s holds %llu bytes, its storage %llu", record->name,
			 (unsigned long long)record->size_bytes, (unsigned long long)s->size_bytes);
		problem(ss, i, -EUCLEAN, text);
	}
}

/* The storage that a PERSID names: the one with that key, or a new one. */
static int add_persid(struct wf_storages *ss, wf_ref persid)
{
	struct id id;
	const char *why;
	uint32_t i;
	if (!read_id(ss->graph, persid, &id, &why))
		return 0;
	int r = grow_key_map(ss);
	if (r < 0)
		return r;
	char buf[24];
	size_t len;
	if (!key_bytes(ss->graph, id.key, buf, &len))
		return 0; /* no key, so no storage: tensors over it say so */
	uint32_t *slot = key_slot(ss, id.key);
	if (*slot) {
		i = *slot - 1;
		/* torch keeps the first id's storage and ignores what later ones say: bytes would be misread silently
		 */
		if (!why && (id.size_bytes != ss->all[i].size_bytes ||
			     (id.dtype != ss->all[i].dtype && !id.untyped && !ss->all[i].untyped)))
			why = "two ids with its key disagree on dtype or size";
	} else {
		struct wf_storage s = {.persid = persid,
				       .data = WF_NIL,
				       .size_bytes = why ? 0 : id.size_bytes,
				       .record = WF_NO_RECORD,
				       .dtype = (uint8_t)id.dtype,
				       .untyped = id.untyped};
		r = add(ss, &s, &i);
		if (r < 0)
			return r;
		*slot = i + 1;
		if (!why)
			attach_record(ss, i, id.key);
	}
	if (why)
		problem(ss, i, -EUCLEAN, why);
	return map_object(ss, persid, i);
}

/* Number of latin-1 bytes that a str stands for: its code points. */
static int count_code_points(const struct wf_graph *g, wf_ref str, uint64_t *ret)
{
	unsigned char chunk[4096];
	uint64_t size = wf_string_size(g, str), points = 0;
	for (uint64_t at = 0; at < size; at += sizeof chunk) {
		size_t n = WF_MIN(sizeof chunk, size - at);
		int r = wf_string_read(g, str, at, chunk, n);
		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++)
			points += (chunk[k] & 0xc0) != 0x80;
	}
	*ret = points;
	return 0;
}

/* Bytes of a NumPy array inside the pickle. */
static int add_data(struct wf_storages *ss, wf_ref data)
{
	struct wf_storage s = {
		.persid = WF_NIL, .data = data, .record = WF_NO_RECORD, .dtype = WF_UINT8, .untyped = true};
	uint32_t i;
	if (wf_storage_of(ss, data) != WF_NO_STORAGE)
		return 0;
	s.size_bytes = wf_string_size(ss->graph, data);
	int r = wf_is(ss->graph, data, WF_STR) ? count_code_points(ss->graph, data, &s.size_bytes) : 0;
	if (r < 0)
		return r;
	s.base_bytes = s.size_bytes;
	r = add(ss, &s, &i);
	return r < 0 ? r : map_object(ss, data, i);
}

int wf_storages_new(struct wf_graph *g, struct wf_container *c, struct wf_storages **ret, struct wf_error *err)
{
	struct wf_storages *ss = calloc(1, sizeof *ss);
	if (!ss)
		return wf_fail(err, -ENOMEM, "out of memory");
	ss->graph = g;
	ss->container = c;
	pthread_mutex_init(&ss->cache_lock, NULL);
	int r = dev_host_open(&ss->host);
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL && r == 0; o = wf_graph_next(g, o)) {
		enum wf_kind kind = wf_kind_of(g, o);
		if (kind == WF_PERSID)
			r = add_persid(ss, o);
		else if (kind == WF_CALL && wf_numpy_data(g, o) != WF_NIL)
			r = add_data(ss, wf_numpy_data(g, o));
	}
	if (r < 0) {
		wf_storages_free(ss);
		return wf_fail(err, r, "the table of storages: %s", strerror(-r));
	}
	*ret = ss;
	return 0;
}

void wf_storages_free(struct wf_storages *ss)
{
	if (!ss)
		return;
	if (ss->host) {
		wf_storage_forget_decoded(ss, WF_NO_STORAGE);
		ss->host->ops->close(ss->host);
	}
	for (uint32_t i = 0; i < ss->count; i++)
		wf_extents_free(ss->all[i].dirty);
	pthread_mutex_destroy(&ss->cache_lock);
	free(ss->decoded);
	free(ss->problems);
	free(ss->by_key);
	free(ss->by_object);
	free(ss->all);
	free(ss);
}

/* ---- asking ---- */

uint32_t wf_storages_count(const struct wf_storages *ss)
{
	return ss->count;
}

const struct wf_storage *wf_storage_get(const struct wf_storages *ss, uint32_t i)
{
	return i < ss->count ? &ss->all[i] : NULL;
}

uint32_t wf_storage_of(const struct wf_storages *ss, wf_ref object)
{
	if (object == WF_NIL || ss->by_object_size == 0)
		return WF_NO_STORAGE;
	uint32_t at = object_slot(ss, object);
	return ss->by_object[at].object == object ? ss->by_object[at].storage : WF_NO_STORAGE;
}

const char *wf_storage_problem(const struct wf_storages *ss, uint32_t i)
{
	for (uint32_t k = 0; k < ss->problem_count; k++)
		if (ss->problems[k].storage == i)
			return ss->problems[k].text;
	return "";
}

static const char *id_text(const struct wf_storages *ss, uint32_t i, uint32_t part)
{
	if (i >= ss->count || ss->all[i].persid == WF_NIL)
		return "";
	wf_ref r = wf_element(ss->graph, wf_persid_id(ss->graph, ss->all[i].persid), part);
	size_t len;
	const char *s =
		wf_is(ss->graph, r, WF_STR) || wf_is(ss->graph, r, WF_PYSTR) ? wf_bytes(ss->graph, r, &len) : NULL;
	return s ? s : "";
}

const char *wf_storage_key(const struct wf_storages *ss, uint32_t i)
{
	return id_text(ss, i, 2);
}

const char *wf_storage_location(const struct wf_storages *ss, uint32_t i)
{
	return id_text(ss, i, 3);
}

/* ---- changing the table ---- */

int wf_storage_new(struct wf_storages *ss, wf_ref object, uint64_t size_bytes, uint32_t *ret)
{
	struct id id = {.dtype = WF_UINT8, .untyped = true};
	const char *why;
	bool persid = wf_is(ss->graph, object, WF_PERSID);
	uint32_t i;
	if (persid && (!read_id(ss->graph, object, &id, &why) || why))
		return -EINVAL;
	int r = persid ? grow_key_map(ss) : 0;
	struct wf_storage s = {.persid = persid ? object : WF_NIL,
			       .data = persid ? WF_NIL : object,
			       .size_bytes = size_bytes,
			       .record = WF_NO_RECORD,
			       .dtype = (uint8_t)id.dtype,
			       .untyped = id.untyped};
	if (r == 0)
		r = add(ss, &s, &i);
	if (r == 0 && persid)
		*key_slot(ss, id.key) = i + 1;
	if (r == 0)
		r = map_object(ss, object, i);
	if (r == 0)
		*ret = i;
	return r;
}

int wf_storage_adopt(struct wf_storages *ss, uint32_t i, wf_ref object)
{
	return i < ss->count ? map_object(ss, object, i) : -EINVAL;
}

int wf_storage_set_data(struct wf_storages *ss, uint32_t i, wf_ref data)
{
	if (i >= ss->count || ss->all[i].persid != WF_NIL)
		return -EINVAL;
	int r = map_object(ss, data, i);
	if (r == 0)
		ss->all[i].data = data;
	return r;
}

/* Keys may have changed, and dropped storages have none that counts. */
static void index_keys(struct wf_storages *ss)
{
	if (ss->by_key_size)
		memset(ss->by_key, 0, ss->by_key_size * sizeof *ss->by_key);
	for (uint32_t i = 0; i < ss->count; i++)
		if (ss->all[i].record != WF_NO_RECORD)
			*key_slot(ss, key_of(ss, i)) = i + 1;
}

int wf_storages_rebase(struct wf_storages *ss, struct wf_container *c, uint32_t (*record_of)(void *, uint32_t),
		       void *ctx, struct wf_error *err)
{
	for (uint32_t i = 0; i < ss->count; i++) {
		const struct wf_record *record = wf_container_record(c, record_of(ctx, i));
		if (record && record->size_bytes != ss->all[i].size_bytes)
			return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
					  "the record written holds %llu bytes, its storage %llu",
					  (unsigned long long)record->size_bytes,
					  (unsigned long long)ss->all[i].size_bytes);
	}
	wf_storage_forget_decoded(ss, WF_NO_STORAGE);
	ss->container = c;
	for (uint32_t i = 0; i < ss->count; i++) {
		struct wf_storage *s = &ss->all[i];
		bool inside = s->persid == WF_NIL;
		s->record = inside ? WF_NO_RECORD : record_of(ctx, i);
		s->base_bytes = inside || s->record != WF_NO_RECORD ? s->size_bytes : 0;
		wf_extents_free(s->dirty);
		s->dirty = NULL;
		if (!inside && s->record == WF_NO_RECORD)
			problem(ss, i, -ESTALE, "a commit left this storage out, because nothing named it any more");
	}
	index_keys(ss);
	return 0;
}
