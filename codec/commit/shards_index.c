/* SPDX-License-Identifier: MIT */
/* The index that names the shards after a commit. */
#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"
#include "codec/commit/shards_inner.h"

/* The bytes of all tensors, those of shared storages once, and none of those that cannot be read. */
static uint64_t live_bytes(const struct wf_storages *storages, const bool *live)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < wf_storages_count(storages); i++)
		if (live[i])
			bytes += wf_storage_get(storages, i)->size_bytes;
	return bytes;
}

/* The old index tells the bytes of all tensors, and the shards that can be read those of theirs. */
void wf_shards_count_unread(struct wf_commit_run *c, const struct wf_storages *base, const bool *live)
{
	const struct wf_shard_set *s = c->set;
	uint64_t total = wf_huggingface_index(s->fresh)->total_size, known = live_bytes(base, live);
	bool unread = false;
	for (uint32_t k = 0; k < s->count; k++)
		unread |= s->all[k].old && s->all[k].old->bad && s->all[k].keys != WF_NIL;
	c->set->unread_bytes = unread && total > known ? total - known : 0;
}

static const char *file_of(const struct wf_shard_plan *p)
{
	return p->name ? p->name : p->old->name;
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
	wf_buffer_puts(out, "{\n  \"metadata\": {\n    ");
	if (x->metadata.len > 0) {
		wf_buffer_append(out, x->metadata.data, x->metadata.len);
		wf_buffer_puts(out, ",\n    ");
	}
	wf_buffer_printf(out, "\"total_size\": %" PRIu64 "\n  },\n  ",
			 live_bytes(c->ck->storages, c->set->live) + c->set->unread_bytes);
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
