/* SPDX-License-Identifier: MIT */
/* Reads the index of a Hugging Face checkpoint. */
#include "codec/directory/index.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"

/* From .index. on; NULL: no index is called so. */
static const char *ending(const char *name)
{
	const char *end = strstr(name, ".index.");
	return end && end > name && wf_before_end(end, ".json") >= (ssize_t)strlen(".index") ? end : NULL;
}

bool wf_index_is_name(const char *name)
{
	return ending(name) != NULL;
}

bool wf_index_is_safetensors_name(const char *name)
{
	static const char format[] = ".safetensors";
	const char *end = ending(name);
	size_t before = end ? (size_t)(end - name) : 0;
	return before > strlen(format) && memcmp(end - strlen(format), format, strlen(format)) == 0;
}

struct index_reading {
	struct wf_index *index;
	struct wf_members *members;
	struct wf_json json;
	const char *text;
	struct wf_error *err;
	bool has_map, has_metadata;
};

static int broken(struct index_reading *r)
{
	return wf_fail_at(r->err, r->json.code ? r->json.code : -EUCLEAN, "", r->json.at, "%s",
			  r->json.error ? r->json.error : "it is not what an index is made of");
}

static int bad(struct index_reading *r, const char *what)
{
	return wf_fail(r->err, -EUCLEAN, "%s", what);
}

static int expect(struct index_reading *r, enum wf_json_kind kind, const char *else_what)
{
	enum wf_json_kind k = wf_json_next(&r->json);
	return k == kind ? 0 : k == WF_JSON_BROKEN ? broken(r) : bad(r, else_what);
}

/* The member whose key was read last goes to out as it stands. */
static int keep(struct index_reading *r, struct wf_buffer *out)
{
	if (out->len > 0)
		wf_buffer_puts(out, ",");
	wf_json_string(out, r->json.text, r->json.text_len);
	wf_buffer_puts(out, ": ");
	size_t start = (size_t)r->json.memory.pos;
	if (!wf_json_skip(&r->json, WF_JSON_KEY))
		return broken(r);
	while (start < r->json.memory.pos && strchr(": \t\r\n", r->text[start]))
		start++;
	wf_buffer_append(out, r->text + start, (size_t)r->json.memory.pos - start);
	return wf_buffer_status(out) < 0 ? wf_fail(r->err, -ENOMEM, "out of memory") : 0;
}

static bool key_is(const struct index_reading *r, const char *name)
{
	return r->json.text_len == strlen(name) && !memcmp(r->json.text, name, r->json.text_len);
}

static int read_total_size(struct index_reading *r)
{
	enum wf_json_kind k = wf_json_next(&r->json);
	uint64_t bytes = 0;
	bool number = k == WF_JSON_NUMBER;
	for (size_t i = 0; number && i < r->json.text_len; i++)
		number = r->json.text[i] >= '0' && r->json.text[i] <= '9' &&
			 !__builtin_mul_overflow(bytes, UINT64_C(10), &bytes) &&
			 !__builtin_add_overflow(bytes, (uint64_t)(r->json.text[i] - '0'), &bytes);
	r->index->total_size = number ? bytes : 0;
	return k != WF_JSON_BROKEN && wf_json_skip(&r->json, k) ? 0 : broken(r);
}

/* ---- what was removed from files that could not be read ---- */

static int put_name(struct wf_buffer *out, const char *file, const char *key, size_t len)
{
	wf_buffer_append(out, file, strlen(file) + 1);
	wf_buffer_append(out, key, len);
	return wf_buffer_status(out);
}

int wf_index_add_removed(struct wf_key_map *removed, const char *file, const char *key, size_t len)
{
	struct wf_buffer name = WF_BUFFER_INIT;
	int r = put_name(&name, file, key, len);
	if (r == 0)
		r = wf_key_map_put(removed, name.data, name.len, 0);
	wf_buffer_free(&name);
	return r;
}

bool wf_index_is_removed(const struct wf_key_map *removed, const char *file, const char *key, size_t len)
{
	struct wf_buffer name = WF_BUFFER_INIT;
	bool is = removed->count > 0 && put_name(&name, file, key, len) == 0 &&
		  wf_key_map_get(removed, name.data, name.len);
	wf_buffer_free(&name);
	return is;
}

/* [FILE, KEY], of which the bracket was read. */
static int read_removed_key(struct index_reading *r, const char *what)
{
	int error = expect(r, WF_JSON_STRING, what);
	cleanup_free char *file = error == 0 ? strndup(r->json.text, r->json.text_len) : NULL;
	if (error == 0 && !file)
		return wf_fail(r->err, -ENOMEM, "out of memory");
	if (error == 0)
		error = expect(r, WF_JSON_STRING, what);
	int added = error == 0 ? wf_index_add_removed(&r->index->removed, file, r->json.text, r->json.text_len) : 0;
	if (added < 0)
		return wf_fail(r->err, added, added == -E2BIG ? "the index has more than %u keys" : "out of memory",
			       WF_KEY_MAP_MAX);
	return error == 0 ? expect(r, WF_JSON_ARRAY_END, what) : error;
}

static int read_removed(struct index_reading *r)
{
	static const char what[] = "weightfs_removed has to be a list of pairs of a file and a key";
	enum wf_json_kind k;
	int error = expect(r, WF_JSON_ARRAY, what);
	while (error == 0 && (k = wf_json_next(&r->json)) == WF_JSON_ARRAY)
		error = read_removed_key(r, what);
	return error < 0 || k == WF_JSON_ARRAY_END ? error : k == WF_JSON_BROKEN ? broken(r) : bad(r, what);
}

static int read_metadata(struct index_reading *r)
{
	enum wf_json_kind k;
	int error = r->has_metadata ? bad(r, "metadata stands there twice")
				    : expect(r, WF_JSON_OBJECT, "metadata has to be an object");
	r->has_metadata = true;
	while (error == 0 && (k = wf_json_next(&r->json)) == WF_JSON_KEY) {
		error = key_is(r, "total_size")         ? read_total_size(r)
			: key_is(r, "weightfs_removed") ? read_removed(r)
			: key_is(r, "total_parameters") ? keep(r, &r->index->parameters)
							: keep(r, &r->index->metadata);
	}
	return error == 0 && k != WF_JSON_OBJECT_END ? broken(r) : error;
}

static int add_key(struct index_reading *r)
{
	struct wf_index *x = r->index;
	uint32_t member = 0;
	if (wf_key_map_get(&x->keys, r->json.text, r->json.text_len))
		return wf_fail(r->err, -EUCLEAN, "the index has the key '%.200s' twice", r->json.text);
	int error = wf_key_map_put(&x->keys, r->json.text, r->json.text_len, 0);
	if (error < 0)
		return wf_fail(r->err, error, error == -E2BIG ? "the index has more than %u keys" : "out of memory",
			       WF_KEY_MAP_MAX);
	error = expect(r, WF_JSON_STRING, "the file of a key has to be a string");
	if (error == 0 && (memchr(r->json.text, '/', r->json.text_len) || memchr(r->json.text, '\\', r->json.text_len)))
		error = wf_fail(r->err, -EUCLEAN, "'%.200s' is no name of a file in its directory", r->json.text);
	if (error == 0)
		error = wf_members_add(r->members, r->json.text, r->json.text_len, &member, r->err);
	x->keys.keys[x->keys.count - 1].value = member;
	return error;
}

static int read_map(struct index_reading *r)
{
	enum wf_json_kind k;
	int error = r->has_map ? bad(r, "weight_map stands there twice")
			       : expect(r, WF_JSON_OBJECT, "weight_map has to be an object");
	r->has_map = true;
	while (error == 0 && (k = wf_json_next(&r->json)) == WF_JSON_KEY)
		error = add_key(r);
	return error == 0 && k != WF_JSON_OBJECT_END ? broken(r) : error;
}

static int read_all(struct index_reading *r)
{
	enum wf_json_kind k;
	int error = expect(r, WF_JSON_OBJECT, "it has to be an object");
	while (error == 0 && (k = wf_json_next(&r->json)) == WF_JSON_KEY) {
		if (key_is(r, "weight_map"))
			error = read_map(r);
		else if (key_is(r, "metadata"))
			error = read_metadata(r);
		else
			error = keep(r, &r->index->others);
	}
	if (error == 0 && (k != WF_JSON_OBJECT_END || wf_json_next(&r->json) != WF_JSON_END))
		error = broken(r);
	return error == 0 && !r->has_map ? bad(r, "there is no weight_map, which tells the file of every tensor")
					 : error;
}

int wf_index_read(struct wf_source *file, struct wf_members *m, struct wf_index *ret, struct wf_error *err)
{
	uint64_t size = wf_source_size(file);
	*ret = (struct wf_index){0};
	if (size > WF_INDEX_MAX_BYTES)
		return wf_fail(err, -E2BIG, "an index of %" PRIu64 " bytes; %u are the most that is read", size,
			       WF_INDEX_MAX_BYTES);
	cleanup_free char *text = malloc((size_t)size + 1);
	if (!text)
		return wf_fail(err, -ENOMEM, "out of memory");
	int error = wf_source_read(file, 0, text, (size_t)size);
	if (error < 0)
		return wf_fail(err, error, "cannot read the index: %s", strerror(-error));
	struct index_reading r = {.index = ret, .members = m, .text = text, .err = err};
	wf_json_init_memory(&r.json, text, (size_t)size, 0);
	error = read_all(&r);
	wf_json_free(&r.json);
	return error;
}

void wf_index_free(struct wf_index *x)
{
	wf_key_map_free(&x->keys);
	wf_key_map_free(&x->removed);
	wf_buffer_free(&x->metadata);
	wf_buffer_free(&x->parameters);
	wf_buffer_free(&x->others);
	*x = (struct wf_index){0};
}
