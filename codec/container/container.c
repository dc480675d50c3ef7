/* The record table that all outer formats share, and the choice among them. */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/random.h>

#include "codec/bytes/util.h"

#define NAME_CHUNK_BYTES (64u << 10)

struct wf_name_chunk {
	struct wf_name_chunk *next;
	size_t used, size;
	char bytes[];
};

uint64_t wf_hash_seed(const void *fallback)
{
	uint64_t seed;
	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
		seed = (uintptr_t)fallback; /* early boot: an address is less, but not nothing */
	return seed;
}

int wf_container_init(struct wf_container *c, const struct wf_container_ops *ops, enum wf_container_kind kind,
		      struct wf_source *file)
{
	c->ops = ops;
	c->kind = kind;
	c->prefix = strdup("");
	c->storage_folder = kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT ? "data/" : "storage/";
	c->file = wf_source_ref(file);
	c->seed = wf_hash_seed(c);
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
	free(c->index);
	free(c->storage_order);
	free(c->prefix);
	wf_source_unref(c->file);
	free(c);
}

void wf_container_freep(struct wf_container **c)
{
	wf_container_free(*c);
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
	if (c->count == c->capacity) {
		if (c->capacity >= WF_CONTAINER_MAX_RECORDS)
			return -E2BIG;
		int r = wf_container_reserve(c, WF_MAX(16u, c->capacity * 2));
		if (r < 0)
			return r;
	}
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

/* Of a name given in pieces; piece boundaries do not matter. */
static uint64_t hash_piece(const struct wf_container *c, const char *s, size_t len, uint64_t h)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char ch = folded(c, (unsigned char)s[i]);
		h = wf_hash_bytes(&ch, 1, h);
	}
	return h;
}

/* The record FOLDER + name, or the free slot of the index where it would go. */
static uint32_t find_joined(const struct wf_container *c, const char *folder, const char *name, size_t len,
			    uint32_t *ret_slot)
{
	if (c->index_size == 0)
		return WF_NO_RECORD;
	size_t folder_len = strlen(folder);
	uint64_t h = hash_piece(c, name, len, hash_piece(c, folder, folder_len, c->seed));
	uint32_t slot = (uint32_t)h & (c->index_size - 1);
	for (; c->index[slot] != 0; slot = (slot + 1) & (c->index_size - 1)) {
		const char *have = c->records[c->index[slot] - 1].name;
		if (strlen(have) == folder_len + len && same_name(c, have, folder, folder_len) &&
		    same_name(c, have + folder_len, name, len))
			return c->index[slot] - 1;
	}
	*ret_slot = slot;
	return WF_NO_RECORD;
}

/* What loading needs may be there only once: PyTorch's choice among records of one name depends on how many there are. */
static bool is_needed(const struct wf_container *c, const char *name)
{
	static const char *const needed[] = {"data.pkl",   "constants.pkl",   "version", ".data/version",
					     "byteorder", ".format_version", ".storage_alignment"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(needed); i++)
		if (strlen(needed[i]) == strlen(name) && same_name(c, needed[i], name, strlen(name)))
			return true;
	size_t n = strlen(name), folder = strlen(c->storage_folder);
	return c->kind != WF_CONTAINER_ZIP || strncmp(name, "code/", 5) == 0 || (n > folder && same_name(c, name, c->storage_folder, folder)) ||
	       (n > 4 && same_name(c, name + n - 4, ".pkl", 4));
}

int wf_container_index(struct wf_container *c, struct wf_error *err)
{
	uint32_t size = 16;
	while (size / 4 * 3 < c->count)
		size *= 2;
	c->index = calloc(size, sizeof *c->index);
	if (!c->index)
		return wf_fail(err, -ENOMEM, "out of memory");
	c->index_size = size;
	for (uint32_t i = 0; i < c->count; i++) {
		const char *name = c->records[i].name;
		uint32_t slot = 0;
		uint32_t first = find_joined(c, "", name, strlen(name), &slot);
		if (first != WF_NO_RECORD && !is_needed(c, name)) {
			c->records[first].twice = c->records[i].twice = true;
			continue;
		}
		if (first != WF_NO_RECORD)
			return wf_fail_at(err, -EUCLEAN, name, WF_ERROR_NO_OFFSET, "two records have this name%s",
					  c->fold_case ? " (upper and lower case are the same)" : "");
		c->index[slot] = i + 1;
	}
	return 0;
}

static uint32_t key_slot(const struct wf_key_map *m, const void *key, size_t len)
{
	uint32_t slot = (uint32_t)wf_hash_bytes(key, len, m->seed) & (m->index_size - 1);
	for (; m->index[slot] != 0; slot = (slot + 1) & (m->index_size - 1)) {
		const struct wf_key *k = &m->keys[m->index[slot] - 1];
		if (k->len == len && memcmp(k->bytes, key, len) == 0)
			break;
	}
	return slot;
}

uint64_t *wf_key_map_get(const struct wf_key_map *m, const void *key, size_t len)
{
	uint32_t i = m->index_size ? m->index[key_slot(m, key, len)] : 0;
	return i ? &m->keys[i - 1].value : NULL;
}

static int key_map_grow(struct wf_key_map *m)
{
	uint32_t capacity = WF_MAX(16u, m->capacity * 2);
	if (m->capacity >= WF_CONTAINER_MAX_RECORDS)
		return -E2BIG;
	if (m->capacity == 0)
		m->seed = wf_hash_seed(m);
	uint32_t *index = calloc((size_t)capacity * 2, sizeof *index);
	struct wf_key *keys = reallocarray(m->keys, capacity, sizeof *keys);
	if (keys)
		m->keys = keys;
	if (!index || !keys) {
		free(index);
		return -ENOMEM;
	}
	free(m->index);
	m->index = index;
	m->index_size = capacity * 2;
	m->capacity = capacity;
	for (uint32_t i = 0; i < m->count; i++)
		m->index[key_slot(m, m->keys[i].bytes, m->keys[i].len)] = i + 1;
	return 0;
}

int wf_key_map_put(struct wf_key_map *m, const void *key, size_t len, uint64_t value)
{
	uint64_t *have = wf_key_map_get(m, key, len);
	if (have) {
		*have = value;
		return 0;
	}
	int r = m->count == m->capacity ? key_map_grow(m) : 0;
	if (r < 0 || len > UINT32_MAX)
		return r < 0 ? r : -E2BIG;
	char *bytes = malloc(len + 1);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, key, len);
	m->index[key_slot(m, key, len)] = m->count + 1;
	m->keys[m->count++] = (struct wf_key){.bytes = bytes, .len = (uint32_t)len, .value = value};
	return 0;
}

void wf_key_map_free(struct wf_key_map *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		free(m->keys[i].bytes);
	free(m->keys);
	free(m->index);
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

bool wf_is_storage_id(const struct wf_graph *g, wf_ref id)
{
	uint32_t n = 0;
	const wf_ref *items = wf_elements(g, id, &n);
	return wf_is(g, id, WF_TUPLE) && n >= 5 && wf_str_equal(g, items[0], "storage");
}

int wf_container_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	static const char local_header[4] = {'P', 'K', 3, 4};
	char head[sizeof local_header];
	if (wf_source_size(file) >= sizeof head) {
		int r = wf_source_read(file, 0, head, sizeof head);
		if (r < 0)
			return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
		if (memcmp(head, local_header, sizeof head) == 0)
			return wf_zip_open(file, ret, err);
	}
	/* torch's order: a tar is tried before the legacy stream */
	int r = wf_tar_open(file, ret, err);
	if (r == 1)
		r = wf_legacy_open(file, ret, err);
	if (r == 1)
		r = wf_plain_open(file, ret, err);
	return r == 1 ? wf_lookalike(file, err) : r;
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
	};
	return names[c->kind];
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
	uint32_t slot;
	return find_joined(c, "", name, strlen(name), &slot);
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
	return c->ops->load_graph(c, WF_NO_RECORD, g, ret_root, err);
}

int wf_container_load_record_graph(struct wf_container *c, uint32_t record, struct wf_graph *g, wf_ref *ret_root,
				   struct wf_error *err)
{
	if (c->kind != WF_CONTAINER_TORCHSCRIPT)
		return wf_fail(err, -EINVAL, "only a TorchScript archive has further pickles");
	if (record >= c->count)
		return wf_fail(err, -ENOENT, "there is no such record");
	return c->ops->load_graph(c, record, g, ret_root, err);
}

uint32_t wf_container_storage_record(const struct wf_container *c, const char *key, size_t key_len)
{
	uint32_t slot;
	uint32_t i = find_joined(c, c->storage_folder, key, key_len, &slot);
	if (i == WF_NO_RECORD && c->kind == WF_CONTAINER_TORCHSCRIPT)
		i = find_joined(c, "", key, key_len, &slot);
	return i;
}

uint32_t wf_container_guess_storage_record(const struct wf_container *c, uint32_t guess, const char *key,
					   size_t key_len)
{
	size_t folder_len = strlen(c->storage_folder);
	if (guess < c->count) {
		const char *name = c->records[guess].name;
		if (strlen(name) == folder_len + key_len && memcmp(name, c->storage_folder, folder_len) == 0 &&
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
