/* SPDX-License-Identifier: MIT */
/* Keeps the records of a container, whatever its format: by index, by name, by the key of a storage. */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

#define NAME_CHUNK_BYTES (64u << 10)

struct wf_name_chunk {
	struct wf_name_chunk *next;
	size_t used, size;
	char bytes[];
};

int wf_container_init(struct wf_container *c, const struct wf_container_ops *ops, enum wf_container_kind kind,
		      struct wf_source *file)
{
	c->ops = ops;
	c->kind = kind;
	c->prefix = strdup("");
	c->storage_folder = kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT ? "data/" : "storage/";
	c->file = wf_source_ref(file);
	return c->prefix ? 0 : -ENOMEM;
}

void wf_container_free(struct wf_container *c)
{
	if (!c)
		return;
	if (c->ops->free)
		c->ops->free(c);
	while (c->names) {
		struct wf_name_chunk *next = c->names->next;
		free(c->names);
		c->names = next;
	}
	free(c->records);
	wf_map_free(&c->index);
	free(c->storage_order);
	free(c->prefix);
	free(c->note);
	wf_source_unref(c->file);
	free(c);
}

void wf_container_freep(struct wf_container **c)
{
	wf_container_free(*c);
}

void wf_container_set_file(struct wf_container *c, struct wf_source *file)
{
	wf_source_unref(c->file);
	c->file = file;
}

int wf_container_reserve(struct wf_container *c, uint32_t n)
{
	if (n <= c->capacity)
		return 0;
	struct wf_record *records = reallocarray(c->records, n, sizeof *records);
	if (!records)
		return -ENOMEM;
	c->records = records;
	c->capacity = n;
	return 0;
}

static char *name_alloc(struct wf_container *c, size_t size)
{
	struct wf_name_chunk *chunk = c->names;
	if (!chunk || size > chunk->size - chunk->used) {
		size_t room = WF_MAX(size, (size_t)NAME_CHUNK_BYTES - sizeof *chunk);
		chunk = malloc(sizeof *chunk + room);
		if (!chunk)
			return NULL;
		*chunk = (struct wf_name_chunk){.next = c->names, .size = room};
		c->names = chunk;
	}
	char *p = chunk->bytes + chunk->used;
	chunk->used += size;
	return p;
}

static int add_joined(struct wf_container *c, const char *folder, size_t folder_len, const char *name, size_t len,
		      struct wf_record **ret)
{
	int r = wf_array_reserve(&c->records, &c->capacity, c->count + 1, sizeof *c->records, WF_CONTAINER_MAX_RECORDS);
	if (r < 0)
		return r;
	char *copy = name_alloc(c, folder_len + len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, folder, folder_len);
	memcpy(copy + folder_len, name, len);
	copy[folder_len + len] = '\0';
	c->records[c->count] = (struct wf_record){.name = copy};
	*ret = &c->records[c->count++];
	return 0;
}

int wf_container_add(struct wf_container *c, const char *name, size_t len, struct wf_record **ret)
{
	return add_joined(c, "", 0, name, len, ret);
}

int wf_container_add_storage(struct wf_container *c, const char *key, size_t len, struct wf_record **ret,
			     struct wf_error *err)
{
	if (memchr(key, '\0', len))
		return wf_fail(err, -EUCLEAN, "a storage key holds a NUL byte");
	int r = add_joined(c, c->storage_folder, strlen(c->storage_folder), key, len, ret);
	if (r == -E2BIG)
		return wf_fail(err, r, "more than %u records", WF_CONTAINER_MAX_RECORDS);
	return r < 0 ? wf_fail(err, r, "out of memory") : 0;
}

static unsigned char folded(const struct wf_container *c, unsigned char ch)
{
	return c->fold_case && ch >= 'A' && ch <= 'Z' ? ch + ('a' - 'A') : ch;
}

static bool same_name(const struct wf_container *c, const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (folded(c, (unsigned char)a[i]) != folded(c, (unsigned char)b[i]))
			return false;
	return true;
}

/* Of a name given in two pieces; where they meet does not matter. */
static uint32_t name_hash(const struct wf_container *c, const char *folder, size_t folder_len, const char *name,
			  size_t len)
{
	const struct {
		const char *s;
		size_t len;
	} pieces[] = {{folder, folder_len}, {name, len}};
	uint64_t h = c->index.seed, word = 0, n = 0;
	for (size_t i = 0; i < WF_ARRAY_SIZE(pieces); i++)
		for (size_t k = 0; k < pieces[i].len; k++) {
			word = word << 8 | folded(c, (unsigned char)pieces[i].s[k]);
			if (++n % sizeof word == 0)
				h = wf_map_mix(&c->index, h, word);
		}
	return wf_map_hash_u64(&c->index, wf_map_mix(&c->index, h, word) + n);
}

static uint32_t find_hashed(const struct wf_container *c, uint32_t hash, const char *folder, size_t folder_len,
			    const char *name, size_t len)
{
	struct wf_map_probe p = wf_map_probe(&c->index, hash);
	uint32_t i;
	while (wf_map_next(&p, &i)) {
		const char *have = c->records[i].name;
		if (strlen(have) == folder_len + len && same_name(c, have, folder, folder_len) &&
		    same_name(c, have + folder_len, name, len))
			return i;
	}
	return WF_NO_RECORD;
}

/* The record FOLDER + name. */
static uint32_t find_joined(const struct wf_container *c, const char *folder, const char *name, size_t len)
{
	size_t folder_len = strlen(folder);
	return find_hashed(c, name_hash(c, folder, folder_len, name, len), folder, folder_len, name, len);
}

/* What loading needs may be there only once: PyTorch's choice among records of one name depends on how many there are. */
static bool is_needed(const struct wf_container *c, const char *name)
{
	static const char *const needed[] = {"data.pkl",  "constants.pkl",   "version",           ".data/version",
					     "byteorder", ".format_version", ".storage_alignment"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(needed); i++)
		if (strlen(needed[i]) == strlen(name) && same_name(c, needed[i], name, strlen(name)))
			return true;
	size_t n = strlen(name), folder = strlen(c->storage_folder);
	return c->kind != WF_CONTAINER_ZIP || strncmp(name, "code/", 5) == 0 ||
	       strncmp(name, WF_CONSTANTS_FOLDER, strlen(WF_CONSTANTS_FOLDER)) == 0 ||
	       (n > folder && same_name(c, name, c->storage_folder, folder)) ||
	       (n > 4 && same_name(c, name + n - 4, ".pkl", 4));
}

int wf_container_index(struct wf_container *c, struct wf_error *err)
{
	if (wf_map_reserve(&c->index, c->count - c->indexed) < 0)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = c->indexed; i < c->count; i++) {
		const char *name = c->records[i].name;
		size_t len = strlen(name);
		uint32_t hash = name_hash(c, "", 0, name, len), first = find_hashed(c, hash, "", 0, name, len);
		if (first != WF_NO_RECORD && !is_needed(c, name)) {
			c->records[first].twice = c->records[i].twice = true;
			continue;
		}
		if (first != WF_NO_RECORD)
			return wf_fail_at(err, -EUCLEAN, name, WF_ERROR_NO_OFFSET, "two records have this name%s",
					  c->fold_case ? " (upper and lower case are the same)" : "");
		wf_map_add(&c->index, hash, i);
	}
	c->indexed = c->count;
	return 0;
}

void wf_container_forget_names(struct wf_container *c)
{
	wf_map_free(&c->index);
}

int wf_read_part(struct wf_graph *g, struct wf_source *file, uint64_t start, uint64_t len, uint64_t *at, uint64_t max,
		 const struct wf_pickle_reader *reader, wf_ref *ret_root, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *part = NULL;
	uint64_t end = 0;
	int r = wf_source_slice(file, start, len, &part);
	if (r < 0)
		return wf_fail(err, r, "cannot read at %" PRIu64 ": %s", start, strerror(-r));
	r = wf_pickle_read(g, part, *at - start, WF_MIN(len - (*at - start), max), reader, ret_root, &end, err);
	if (r == 0)
		*at = start + end;
	return r;
}

wf_ref wf_make_persid(struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	wf_ref r = wf_persid(g, id);
	if (r == WF_NIL)
		wf_fail(err, wf_graph_failed(g), "the objects of the pickle do not fit the limit of %llu bytes",
			WF_GRAPH_MAX_BYTES);
	return r;
}

bool wf_is_storage_id(const struct wf_graph *g, wf_ref id)
{
	uint32_t n = 0;
	const wf_ref *items = wf_elements(g, id, &n);
	return wf_is(g, id, WF_TUPLE) && n >= 5 && wf_str_equal(g, items[0], "storage");
}

enum wf_container_kind wf_container_kind_of(const struct wf_container *c)
{
	return c->kind;
}

const char *wf_container_kind_name(const struct wf_container *c)
{
	static const char *const names[] = {
		[WF_CONTAINER_ZIP] = "zip",
		[WF_CONTAINER_TORCHSCRIPT] = "torchscript",
		[WF_CONTAINER_LEGACY] = "legacy",
		[WF_CONTAINER_TAR] = "tar",
		[WF_CONTAINER_PICKLE] = "pickle",
		[WF_CONTAINER_SAFETENSORS] = "safetensors",
		[WF_CONTAINER_HUGGINGFACE] = "huggingface",
		[WF_CONTAINER_DCP] = "dcp",
		[WF_CONTAINER_ZERO] = "zero",
	};
	return names[c->kind];
}

bool wf_container_is_flat(const struct wf_container *c)
{
	return c->kind == WF_CONTAINER_SAFETENSORS || c->flat;
}

bool wf_container_keeps_locations(const struct wf_container *c)
{
	return !wf_container_is_flat(c) && (!wf_container_is_directory(c) || c->kind == WF_CONTAINER_HUGGINGFACE);
}

bool wf_container_is_directory(const struct wf_container *c)
{
	return c->kind >= WF_CONTAINER_HUGGINGFACE;
}

const char *wf_container_shard(const struct wf_container *c, uint32_t i, uint32_t k)
{
	return i < c->count && c->ops->shard ? c->ops->shard(c, i, k) : NULL;
}

const char *wf_container_note(const struct wf_container *c, bool *ret_fault)
{
	*ret_fault = c->note_is_fault;
	return c->note;
}

struct wf_source *wf_container_file(const struct wf_container *c)
{
	return c->file;
}

const char *wf_container_prefix(const struct wf_container *c)
{
	return c->prefix;
}

bool wf_container_big_endian(const struct wf_container *c)
{
	return c->big_endian;
}

bool wf_container_metadata_is_empty(const struct wf_container *c)
{
	return c->metadata_is_empty;
}

wf_ref wf_container_metadata(const struct wf_container *c)
{
	return c->metadata;
}

uint32_t wf_container_count(const struct wf_container *c)
{
	return c->count;
}

const struct wf_record *wf_container_record(const struct wf_container *c, uint32_t i)
{
	return i < c->count ? &c->records[i] : NULL;
}

uint32_t wf_container_find(const struct wf_container *c, const char *name)
{
	return find_joined(c, "", name, strlen(name));
}

int wf_container_locate(const struct wf_container *c, uint32_t i, uint64_t *ret_offset, struct wf_error *err)
{
	if (i >= c->count)
		return wf_fail(err, -ENOENT, "there is no such record");
	const struct wf_record *record = &c->records[i];
	if (record->bad)
		return c->ops->explain(c, record, err);
	if (c->ops->locate)
		return c->ops->locate(c, i, ret_offset, err);
	*ret_offset = record->header_offset;
	return 0;
}

int wf_container_why(const struct wf_container *c, uint32_t i, struct wf_error *err)
{
	if (i >= c->count)
		return 0;
	if (c->records[i].bad)
		return c->ops->explain(c, &c->records[i], err);
	return c->ops->why ? c->ops->why(c, i, err) : 0;
}

int wf_container_open_record(const struct wf_container *c, uint32_t i, struct wf_source **ret, struct wf_error *err)
{
	uint64_t offset = 0;
	int r = wf_container_locate(c, i, &offset, err);
	if (r < 0)
		return r;
	const struct wf_record *record = &c->records[i];
	cleanup_with(wf_source_unrefp) struct wf_source *stored = NULL;
	r = wf_source_slice(c->file, offset, record->stored_bytes, &stored);
	if (r == 0 && record->method == 0)
		*ret = steal_pointer(&stored);
	else if (r == 0)
		r = wf_source_inflate(stored, record->size_bytes, ret);
	return r < 0 ? wf_fail_at(err, r, record->name, WF_ERROR_NO_OFFSET, "cannot open the record: %s", strerror(-r))
		     : 0;
}

int wf_container_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	return c->ops->load_graph(c, g, ret_root, err);
}

const struct wf_companion *wf_container_companion(const struct wf_container *c, uint32_t i)
{
	return i < WF_COMPANIONS && c->companions[i].name ? &c->companions[i] : NULL;
}

bool wf_container_is_companion_key(const struct wf_container *c, const char *key, size_t len)
{
	static const char *const folders[] = {WF_CONSTANTS_FOLDER, WF_BYTECODE_FOLDER};
	for (size_t i = 0; c->kind == WF_CONTAINER_TORCHSCRIPT && i < WF_ARRAY_SIZE(folders); i++)
		if (len > strlen(folders[i]) && !memcmp(key, folders[i], strlen(folders[i])))
			return true;
	return false;
}

/* What stands before the key in the name of a storage's record. */
static const char *folder_of(const struct wf_container *c, const char *key, size_t key_len)
{
	return wf_container_is_companion_key(c, key, key_len) ? "" : c->storage_folder;
}

uint32_t wf_container_storage_record(const struct wf_container *c, const char *key, size_t key_len)
{
	return find_joined(c, folder_of(c, key, key_len), key, key_len);
}

uint32_t wf_container_guess_storage_record(const struct wf_container *c, uint32_t guess, const char *key,
					   size_t key_len)
{
	const char *folder = folder_of(c, key, key_len);
	size_t folder_len = strlen(folder);
	if (guess < c->count) {
		const char *name = c->records[guess].name;
		if (strlen(name) == folder_len + key_len && memcmp(name, folder, folder_len) == 0 &&
		    memcmp(name + folder_len, key, key_len) == 0)
			return guess;
	}
	return wf_container_storage_record(c, key, key_len);
}

const uint32_t *wf_container_storage_order(const struct wf_container *c, uint32_t *ret_n)
{
	*ret_n = c->storage_count;
	return c->storage_order;
}
