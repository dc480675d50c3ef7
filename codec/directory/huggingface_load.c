/* SPDX-License-Identifier: MIT */
/* Reads the shards of a Hugging Face checkpoint, their headers and pickles and no data, into one graph. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/container/safetensors_read.h"
#include "codec/directory/huggingface_inner.h"

#define KEY_BYTES 16 /* of a number of 32 bits, with a slash */

struct hf_loading {
	struct hf_container *hf;
	struct wf_graph *g;
	struct wf_space *space;
	struct wf_safetensors_maker maker;
	wf_ref *tensors;   /* by key of the index */
	uint32_t storages; /* numbers given so far */
	uint32_t shard;    /* that is being read */
	struct wf_error *err;
};

static int no_memory(struct hf_loading *l)
{
	return wf_fail(l->err, -ENOMEM, "out of memory");
}

/* The records that were added since the last call are the shard's. first: the first one's record in its archive, or WF_NO_RECORD. */
static int place_records(struct hf_loading *l, uint32_t record)
{
	struct hf_container *hf = l->hf;
	int r = wf_array_reserve(&hf->places, &hf->place_capacity, hf->base.count, sizeof *hf->places, UINT32_MAX);
	if (r < 0)
		return no_memory(l);
	while (hf->place_count < hf->base.count)
		hf->places[hf->place_count++] = (struct hf_place){l->shard, record};
	return 0;
}

/* ---- what the index says of a shard's tensors ---- */

/* Finds the key of a tensor that the shard holds; NOBODYS: it was removed while nobody could read the shard. -EUCLEAN: the index says
 * another thing. */
#define NOBODYS UINT32_MAX
static int claim(struct hf_loading *l, const char *name, size_t len, uint32_t *ret)
{
	const struct wf_key_map *keys = &l->hf->index.keys;
	const char *shard = wf_members_name(l->hf->members, l->shard);
	const uint64_t *member = wf_key_map_get(keys, name, len);
	*ret = NOBODYS;
	if ((!member || *member != l->shard) && wf_index_is_removed(&l->hf->index.removed, shard, name, len))
		return 0;
	if (!member)
		return wf_fail(l->err, -EUCLEAN, "%.100s holds '%.150s', which is not in the index", shard, name);
	if (*member != l->shard)
		return wf_fail(l->err, -EUCLEAN, "%.100s holds '%.120s', which the index says is in %.100s", shard,
			       name, wf_members_name(l->hf->members, (uint32_t)*member));
	*ret = (uint32_t)(((const struct wf_key *)((const char *)member - offsetof(struct wf_key, value))) -
			  keys->keys);
	return l->tensors[*ret] == WF_NIL ? 0 : wf_fail(l->err, -EUCLEAN, "%.100s holds '%.150s' twice", shard, name);
}

/* ---- a shard of safetensors ---- */

static int add_header_record(struct hf_loading *l, const struct wf_safetensors_header *h)
{
	const struct hf_shard *s = &l->hf->shards[l->shard];
	struct wf_record *record;
	cleanup_free char *name = NULL;
	if (asprintf(&name, "%s/header", s->shown.name) < 0 ||
	    wf_container_add(&l->hf->base, name, strlen(name), &record) < 0)
		return no_memory(l);
	record->header_offset = s->shown.start + 8;
	record->stored_bytes = record->size_bytes = h->json_bytes;
	return place_records(l, WF_NO_RECORD);
}

static int load_tensors(struct hf_loading *l, const struct wf_safetensors_header *h)
{
	struct hf_shard *s = &l->hf->shards[l->shard];
	int r = add_header_record(l, h);
	for (uint32_t i = 0; i < h->tensor_count && r == 0; i++) {
		const struct wf_safetensors_tensor *t = &h->tensors[i];
		uint32_t key;
		r = claim(l, h->text.data + t->name, t->name_len, &key);
		if (r == 0 && key == NOBODYS)
			continue;
		if (r == 0)
			r = wf_safetensors_make_tensor(&l->maker, h, i, s->shown.start, l->storages++,
						       &l->tensors[key]);
		if (r == 0)
			r = place_records(l, WF_NO_RECORD);
	}
	return r == 0 ? wf_safetensors_make_metadata(&l->maker, h, &s->shown.metadata) : r;
}

/* *ret_bad: the shard cannot be read, and why says why. */
static int load_safetensors(struct hf_loading *l, struct wf_source *file, int *ret_bad, struct wf_error *why)
{
	struct hf_shard *s = &l->hf->shards[l->shard];
	struct wf_safetensors_header h;
	int r = 0;
	*ret_bad = wf_safetensors_header_read(file, &h, why);
	if (*ret_bad == 0) {
		s->shown.safetensors = l->hf->base.flat = true;
		s->shown.header_bytes = h.json_bytes;
		r = load_tensors(l, &h);
	}
	wf_safetensors_header_free(&h);
	return r;
}

/* ---- a shard of torch.save ---- */

/* Storages of all shards are in one table, so that each gets the shard's number before its key. Those of a pickle that broke off, too:
 * nobody asks for them, and they must not be taken for others. */
static int renumber(struct hf_loading *l, uint32_t limit)
{
	for (wf_ref o = wf_graph_since(l->g, limit); o != WF_NIL; o = wf_graph_next(l->g, o)) {
		wf_ref id = wf_is(l->g, o, WF_PERSID) ? wf_persid_id(l->g, o) : WF_NIL, parts[6];
		uint32_t n = 0;
		size_t len;
		if (id == WF_NIL || !wf_is_storage_id(l->g, id))
			continue;
		const wf_ref *items = wf_elements(l->g, id, &n);
		if (n > WF_ARRAY_SIZE(parts))
			continue; /* the table of storages refuses it */
		memcpy(parts, items, n * sizeof *parts);
		const char *key = wf_bytes(l->g, parts[2], &len);
		cleanup_free char *name = NULL;
		if (!key)
			continue;
		if (asprintf(&name, "%" PRIu32 "/%s", l->shard, key) < 0)
			return -ENOMEM;
		parts[2] = wf_str(l->g, name);
		wf_ref new = parts[2] != WF_NIL ? wf_tuple(l->g, parts, n) : WF_NIL;
		if (new == WF_NIL || wf_persid_set_id(l->g, o, new) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_archive_record(struct hf_loading *l, const struct wf_record *from, const char *folder, uint32_t i)
{
	const struct hf_shard *s = &l->hf->shards[l->shard];
	size_t skip = strlen(folder);
	bool storage = strncmp(from->name, folder, skip) == 0 && from->name[skip];
	struct wf_record *record;
	cleanup_free char *name = NULL;
	if ((storage ? asprintf(&name, "storage/%" PRIu32 "/%s", l->shard, from->name + skip)
		     : asprintf(&name, "%s/%s", s->shown.name, from->name)) < 0)
		return no_memory(l);
	int r = wf_container_add(&l->hf->base, name, strlen(name), &record);
	if (r < 0)
		return r == -E2BIG ? wf_fail(l->err, r, "more than %u records", WF_CONTAINER_MAX_RECORDS)
				   : no_memory(l);
	const char *own = record->name;
	*record = *from;
	record->name = own;
	return place_records(l, i);
}

/* The items of the mapping that the shard is. NULL: it is none. */
static const struct wf_item *items_of(const struct wf_graph *g, wf_ref root, uint32_t *ret_n)
{
	wf_ref dict = wf_is(g, root, WF_DICT) ? root : wf_is(g, root, WF_CALL) ? wf_call_dict(g, root) : WF_NIL;
	*ret_n = 0;
	return dict != WF_NIL ? wf_items(g, dict, ret_n) : NULL;
}

static int claim_items(struct hf_loading *l, wf_ref root)
{
	uint32_t n, key;
	const struct wf_item *items = items_of(l->g, root, &n);
	int r = 0;
	for (uint32_t i = 0; i < n && r == 0; i++) {
		size_t len;
		if (items[i].key == WF_NIL)
			continue;
		const char *name = wf_is(l->g, items[i].key, WF_STR) ? wf_bytes(l->g, items[i].key, &len) : NULL;
		r = name ? claim(l, name, len, &key)
			 : wf_fail(l->err, -EUCLEAN, "%.100s holds a key that is no string",
				   wf_members_name(l->hf->members, l->shard));
		if (r == 0 && key != NOBODYS)
			l->tensors[key] = items[i].value;
	}
	return r;
}

/* What no shard is; NULL: it may be one. */
static const char *what_else(const struct wf_container *c, bool mapping)
{
	return wf_container_kind_of(c) == WF_CONTAINER_TORCHSCRIPT
		       ? "it is a TorchScript archive, and no shard of a state_dict: it opens by itself"
	       : wf_container_big_endian(c)
		       ? "its bytes are big-endian, which those of shards are not: it opens by itself"
	       : !mapping ? "it is no mapping from names to tensors"
			  : NULL;
}

static int load_archive(struct hf_loading *l, struct wf_source *file, int *ret_bad, struct wf_error *why)
{
	struct hf_shard *s = &l->hf->shards[l->shard];
	uint32_t limit = wf_graph_limit(l->g), n;
	wf_ref root = WF_NIL;
	*ret_bad = wf_container_open(file, &s->archive, why);
	if (*ret_bad < 0)
		return 0;
	*ret_bad = wf_container_load_graph(s->archive, l->g, &root, why);
	if (renumber(l, limit) < 0)
		return no_memory(l);
	const char *other = *ret_bad == 0 ? what_else(s->archive, items_of(l->g, root, &n) != NULL) : NULL;
	if (other)
		*ret_bad = wf_fail(why, -EOPNOTSUPP, "%s", other);
	if (*ret_bad < 0)
		return 0;
	const char *folder = s->archive->storage_folder;
	int r = 0;
	for (uint32_t i = 0; i < wf_container_count(s->archive) && r == 0; i++)
		r = add_archive_record(l, wf_container_record(s->archive, i), folder, i);
	s->shown.root = root;
	return r == 0 ? claim_items(l, root) : r;
}

/* ---- every shard ---- */

static void note_bad(struct hf_shard *s, int code, const struct wf_error *why)
{
	s->shown.bad = code;
	s->shown.why = s->why;
	if (code == -EIO && strstr(why->text, s->shown.name))
		snprintf(s->why, sizeof s->why, "%s", why->text);
	else
		snprintf(s->why, sizeof s->why, "%.120s: %s", s->shown.name, why->text);
}

static int load_shard(struct hf_loading *l)
{
	struct hf_shard *s = &l->hf->shards[l->shard];
	struct wf_error why = {0};
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	int bad = wf_space_add_file(l->space, l->shard, &s->shown.start, &why), r = 0;
	s->shown.first_record = l->hf->base.count;
	if (bad == 0)
		bad = wf_members_source(l->hf->members, l->shard, &file, &why);
	if (bad == 0) {
		s->shown.size_bytes = wf_source_size(file);
		bad = wf_safetensors_begins(file);
		if (bad < 0)
			wf_fail(&why, bad, "%s", strerror(-bad));
	}
	if (bad >= 0)
		r = bad == 1 ? load_safetensors(l, file, &bad, &why) : load_archive(l, file, &bad, &why);
	s->shown.record_count = l->hf->base.count - s->shown.first_record;
	if (bad < 0)
		note_bad(s, bad, &why);
	return bad == -ENOMEM ? no_memory(l) : r;
}

/* A tensor of which nothing is known but why. */
static int make_bad(struct hf_loading *l, uint32_t key)
{
	static int64_t no_elements[1];
	static struct wf_safetensors_tensor nothing = {.ndim = 1, .dtype = WF_UINT8};
	const struct wf_safetensors_header h = {.tensors = &nothing, .sizes = no_elements};
	l->shard = (uint32_t)l->hf->index.keys.keys[key].value;
	int r = wf_safetensors_make_tensor(&l->maker, &h, 0, 0, l->storages++, &l->tensors[key]);
	if (r < 0)
		return r;
	struct wf_record *record = &l->hf->base.records[l->hf->base.count - 1];
	record->bad = l->hf->shards[l->shard].shown.bad;
	record->header_offset = 0;
	return place_records(l, WF_NO_RECORD);
}

static int make_root(struct hf_loading *l, wf_ref *ret)
{
	const struct wf_key_map *keys = &l->hf->index.keys;
	wf_ref root = wf_dict(l->g);
	int r = root != WF_NIL ? 0 : no_memory(l);
	for (uint32_t i = 0; i < keys->count && r == 0; i++) {
		const struct wf_key *k = &keys->keys[i];
		if (l->tensors[i] == WF_NIL && !l->hf->shards[k->value].shown.bad)
			return wf_fail(l->err, -EUCLEAN,
				       "the index says that '%.150s' is in %.100s, which does not hold it", k->bytes,
				       wf_members_name(l->hf->members, (uint32_t)k->value));
		if (l->tensors[i] == WF_NIL)
			r = make_bad(l, i);
		wf_ref key = r == 0 ? wf_string(l->g, WF_STR, k->bytes, k->len) : WF_NIL;
		if (r == 0 && (key == WF_NIL || wf_dict_append(l->g, root, key, l->tensors[i]) < 0))
			r = no_memory(l);
	}
	*ret = root;
	return r;
}

static int add_index_record(struct hf_loading *l)
{
	struct wf_record *record;
	uint64_t size = wf_source_size(l->hf->base.file);
	l->shard = 0;
	int r = wf_space_add_source(l->space, l->hf->base.file, &l->hf->shards[0].shown.start, l->err);
	if (r == 0 && wf_container_add(&l->hf->base, "index", strlen("index"), &record) < 0)
		r = no_memory(l);
	if (r < 0)
		return r;
	record->stored_bytes = record->size_bytes = size;
	return place_records(l, WF_NO_RECORD);
}

/* Long strings of a pickle stay in its file, and a commit removes files that the graph outlives: here all are held in memory. */
static int keep_strings(struct hf_loading *l)
{
	cleanup_with(wf_source_unrefp) struct wf_source *none = NULL;
	if (wf_source_from_memory(NULL, 0, false, &none) < 0)
		return no_memory(l);
	wf_graph_set_source(l->g, none);
	return 0;
}

static int load_all(struct hf_loading *l, wf_ref *ret_root)
{
	int r = keep_strings(l);
	if (r == 0)
		r = wf_safetensors_maker_init(&l->maker, &l->hf->base, l->g, l->err);
	if (r == 0)
		r = add_index_record(l);
	for (uint32_t i = 0; i < wf_members_count(l->hf->members) && r == 0; i++) {
		l->hf->shards[i].shown.name = wf_members_name(l->hf->members, i);
		l->shard = i;
		if (i > 0)
			r = load_shard(l);
	}
	if (r == 0)
		r = make_root(l, ret_root);
	return r == 0 ? wf_container_index(&l->hf->base, l->err) : r;
}

int hf_load(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct hf_container *hf = (struct hf_container *)c;
	struct hf_loading l = {.hf = hf, .g = g, .err = err};
	struct wf_source *file;
	if (hf->loaded)
		return wf_fail(err, -EINVAL, "the shards were read before");
	hf->loaded = true;
	l.tensors = calloc((size_t)hf->index.keys.count + 1, sizeof *l.tensors);
	int r = l.tensors ? wf_space_new(wf_members_ref(hf->members), NULL, NULL, &l.space, err) : no_memory(&l);
	if (r == 0)
		r = load_all(&l, ret_root);
	if (r == 0 && wf_space_source(l.space, &file) < 0)
		r = no_memory(&l);
	if (r == 0)
		wf_container_set_file(c, file);
	else if (l.space)
		wf_space_free(l.space);
	free(l.tensors);
	return r;
}
