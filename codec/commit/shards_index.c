/* SPDX-License-Identifier: MIT */
/* The index that names the shards after a commit. */
#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"
#include "codec/commit/shards_inner.h"
#include "codec/tensor/tensor.h"

/* The bytes of all tensors, those of shared storages once, and none of those that cannot be read. */
static uint64_t live_bytes(const struct wf_storages *storages, const bool *live)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < wf_storages_count(storages); i++)
		if (live[i])
			bytes += wf_storage_get(storages, i)->size_bytes;
	return bytes;
}

struct shard_elements {
	uint64_t count;
	uint32_t unread; /* tensors of which nobody can tell */
};

/* Those of storages that several tensors view count once, as parameters do. */
static int count_elements(const struct wf_graph *g, const struct wf_storages *ss, wf_ref root,
			  struct shard_elements *ret)
{
	uint32_t n;
	const struct wf_item *items = wf_items(g, root, &n);
	cleanup_free bool *seen = calloc((size_t)wf_storages_count(ss) + 1, sizeof *seen);
	*ret = (struct shard_elements){0};
	if (!seen)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		struct wf_tensor t;
		if (items[i].key == WF_NIL || !wf_is_tensor(g, items[i].value))
			continue;
		uint32_t storage = wf_tensor_storage(g, ss, items[i].value);
		if (storage == WF_NO_STORAGE || wf_tensor_decode(g, ss, items[i].value, &t, NULL) < 0) {
			ret->unread++;
			continue;
		}
		uint64_t width = wf_dtype_info(t.dtype)->size_bytes;
		if (!seen[storage])
			ret->count += width > 0 ? t.size_bytes / width : 0;
		seen[storage] = true;
	}
	return 0;
}

/* The old index tells the bytes of all tensors, and the shards that can be read those of theirs: what is between is in those that cannot, as
 * long as the new index names all of them. */
static void count_unread(struct wf_commit_run *c, const struct wf_storages *base, const bool *live)
{
	const struct wf_shard_set *s = c->set;
	uint64_t total = wf_huggingface_index(s->fresh)->total_size, known = live_bytes(base, live);
	bool unread = false, gone = false;
	for (uint32_t k = 0; k < s->count; k++)
		if (s->all[k].old && s->all[k].old->bad)
			*(s->all[k].keys != WF_NIL ? &unread : &gone) = true;
	c->set->unread_bytes = unread && total > known ? total - known : 0;
	c->set->total_unknown = unread && (gone || total <= known);
}

int wf_shards_count(struct wf_commit_run *c, const struct wf_graph *g, const struct wf_storages *base, wf_ref root,
		    const bool *live)
{
	struct shard_elements old, new;
	if (count_elements(g, base, root, &old) < 0 ||
	    count_elements(c->ck->graph, c->ck->storages, wf_tree_root(c->ck->tree), &new) < 0)
		return wf_commit_no_memory(c);
	c->set->parameters_differ = old.count != new.count || old.unread != new.unread;
	count_unread(c, base, live);
	return 0;
}

/* Nobody can tell the bytes of a part of a shard's keys. */
static void look_at_removed(struct wf_commit_run *c)
{
	struct wf_shard_set *s = c->set;
	for (uint32_t i = 0; i < s->removed.count; i++) {
		uint32_t k = wf_huggingface_shard_named(c->ck->container, s->removed.keys[i].bytes);
		s->total_unknown |= k != WF_NO_RECORD && s->all[k].old && s->all[k].old->bad;
	}
	if (s->total_unknown)
		wf_log_line(&c->ck->log, "total_size is left out of the index: the bytes of tensors in shards that "
					 "cannot be read are not known");
}

int wf_shards_leave_out(struct wf_commit_run *c, struct wf_shard_plan *p, struct wf_graph *g, wf_ref base, wf_ref *ret)
{
	struct wf_key_map stays = {0};
	const struct wf_graph *live = c->ck->graph;
	uint32_t n;
	size_t len;
	int r = 0;
	*ret = wf_dict(g);
	const struct wf_item *items = wf_items(live, p->keys, &n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (items[i].key != WF_NIL && wf_is(live, items[i].key, WF_STR)) {
			const char *key = wf_bytes(live, items[i].key, &len);
			r = key ? wf_key_map_put(&stays, key, len, 0) : -EIO;
		}
	wf_items(g, base, &n);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		uint32_t ignored;
		struct wf_item item = wf_items(g, base, &ignored)[i];
		const char *key = wf_bytes(g, item.key, &len);
		if (!key || *ret == WF_NIL)
			r = -ENOMEM;
		else if (wf_key_map_get(&stays, key, len))
			r = wf_dict_append(g, *ret, item.key, item.value);
		else
			r = wf_index_add_removed(&c->set->removed, p->old->name, key, len);
	}
	wf_key_map_free(&stays);
	return r < 0 ? wf_commit_no_memory(c) : 0;
}

static const char *file_of(const struct wf_shard_plan *p)
{
	return p->name ? p->name : p->old->name;
}

/* A member of the metadata is begun. */
static void begin_member(struct wf_buffer *out, bool *any)
{
	wf_buffer_puts(out, *any ? ",\n    " : "\n    ");
	*any = true;
}

/* What is remembered of keys that were removed: of shards that the index still names and that were not written since. */
static int list_removed(struct wf_commit_run *c)
{
	struct wf_shard_set *s = c->set;
	const struct wf_key_map *old = &wf_huggingface_index(c->ck->container)->removed;
	for (uint32_t i = 0; i < old->count; i++) {
		const char *file = old->keys[i].bytes;
		uint32_t k = wf_huggingface_shard_named(c->ck->container, file);
		if (k != WF_NO_RECORD && s->all[k].keys != WF_NIL && !s->all[k].name &&
		    wf_key_map_put(&s->removed, file, old->keys[i].len, 0) < 0)
			return wf_commit_no_memory(c);
	}
	return 0;
}

static void put_removed(struct wf_commit_run *c)
{
	struct wf_shard_set *s = c->set;
	const char *comma = "";
	for (uint32_t i = 0; i < s->removed.count; i++) {
		const struct wf_key *k = &s->removed.keys[i];
		size_t file = strlen(k->bytes);
		wf_buffer_puts(&s->index, *comma ? comma : "\"weightfs_removed\": [\n      [");
		wf_json_string(&s->index, k->bytes, file);
		wf_buffer_puts(&s->index, ", ");
		wf_json_string(&s->index, k->bytes + file + 1, k->len - file - 1);
		comma = "],\n      [";
	}
	wf_buffer_puts(&s->index, "]\n    ]");
}

static int put_metadata(struct wf_commit_run *c)
{
	const struct wf_index *x = wf_huggingface_index(c->ck->container);
	struct wf_buffer *out = &c->set->index;
	bool any = false;
	int r = list_removed(c);
	if (r < 0)
		return r;
	look_at_removed(c);
	wf_buffer_puts(out, "\"metadata\": {");
	if (x->metadata.len > 0) {
		begin_member(out, &any);
		wf_buffer_append(out, x->metadata.data, x->metadata.len);
	}
	if (x->parameters.len > 0 && !c->set->parameters_differ) {
		begin_member(out, &any);
		wf_buffer_append(out, x->parameters.data, x->parameters.len);
	}
	if (c->set->removed.count > 0) {
		begin_member(out, &any);
		put_removed(c);
	}
	if (!c->set->total_unknown) {
		begin_member(out, &any);
		wf_buffer_printf(out, "\"total_size\": %" PRIu64,
				 live_bytes(c->ck->storages, c->set->live) + c->set->unread_bytes);
	}
	wf_buffer_puts(out, any ? "\n  },\n  " : "},\n  ");
	return 0;
}

/* As json.dumps(index, indent=2) prints it. */
int wf_shards_make_index(struct wf_commit_run *c)
{
	const struct wf_graph *g = c->ck->graph;
	const struct wf_index *x = wf_huggingface_index(c->ck->container);
	struct wf_buffer *out = &c->set->index;
	uint32_t n;
	const char *comma = "";
	const struct wf_item *items = wf_items(g, wf_tree_root(c->ck->tree), &n);
	wf_buffer_puts(out, "{\n  ");
	int r = put_metadata(c);
	if (r < 0)
		return r;
	if (x->others.len > 0) {
		wf_buffer_append(out, x->others.data, x->others.len);
		wf_buffer_puts(out, ",\n  ");
	}
	wf_buffer_puts(out, "\"weight_map\": {");
	for (uint32_t i = 0; i < n; i++) {
		size_t len;
		const char *key = items[i].key == WF_NIL ? NULL : wf_bytes(g, items[i].key, &len);
		if (items[i].key == WF_NIL)
			continue;
		if (!key || !wf_is(g, items[i].key, WF_STR))
			return wf_fail(c->err, -EOPNOTSUPP, "an index cannot hold a key that is no text");
		const char *file = file_of(&c->set->all[c->set->shard_of[i]]);
		wf_buffer_puts(out, comma);
		wf_buffer_puts(out, "\n    ");
		wf_json_string(out, key, len);
		wf_buffer_puts(out, ": ");
		wf_json_string(out, file, strlen(file));
		comma = ",";
	}
	wf_buffer_puts(out, *comma ? "\n  }\n}\n" : "}\n}\n");
	if (out->len > WF_INDEX_MAX_BYTES)
		return wf_fail(c->err, -E2BIG, "the index would be longer than any reader takes");
	return wf_buffer_status(out) < 0 ? wf_fail(c->err, -ENOMEM, "out of memory") : 0;
}
