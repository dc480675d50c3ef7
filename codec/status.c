/* SPDX-License-Identifier: MIT */
/* .weightfs/status: one JSON object about the checkpoint, its edits and its devices. */
#include <string.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "codec/bytes/util.h"
#include "codec/edit/state.h"
#include "codec/value/text.h"

/* What a walk over all nodes finds; the tensors' part of it costs a decoding each. */
struct census {
	uint64_t entries, tensors, tensor_bytes;
};

static struct census count_all(struct wf_checkpoint *ck, bool tensors)
{
	struct census c = {0};
	struct wf_tensor t;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		if (!n || n->nlink == 0)
			continue;
		c.entries += n->nlink;
		if (!tensors || n->type != WF_NODE_TENSOR)
			continue;
		c.tensors++;
		if (wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) == 0 && t.kind != WF_TENSOR_META)
			c.tensor_bytes += t.size_bytes;
	}
	return c;
}

int wf_totals(struct wf_checkpoint *ck, struct wf_totals *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	ret->entries = count_all(ck, false).entries;
	ret->file_bytes = wf_source_size(ck->file);
	pthread_rwlock_unlock(&ck->lock);
	return 0;
}

static void json_or_null(struct wf_buffer *out, const char *value)
{
	if (value)
		wf_json_string(out, value, strlen(value));
	else
		wf_buffer_puts(out, "null");
}

static void field(struct wf_buffer *out, const char *name, const char *value)
{
	wf_buffer_printf(out, "  \"%s\": ", name);
	json_or_null(out, value);
	wf_buffer_puts(out, ",\n");
}

static void device_field(void *ctx, const char *name, uint64_t bytes)
{
	struct wf_buffer *out = ctx;
	wf_buffer_printf(out, "%s\"%s\": %llu", out->data[out->len - 1] == '{' ? "" : ", ", name,
			 (unsigned long long)bytes);
}

static void device_memory(void *ctx, const struct wf_device_status *d)
{
	struct wf_buffer *out = ctx;
	wf_buffer_printf(out, "%s\"%s\": {\"free\": %llu, \"total\": %llu", out->data[out->len - 1] == '{' ? "" : ", ",
			 d->name, (unsigned long long)d->free_bytes, (unsigned long long)d->total_bytes);
	const char *const texts[][2] = {
		{"description", d->description}, {"loading", d->loading}, {"sharing", d->sharing}};
	for (size_t i = 0; i < WF_ARRAY_SIZE(texts); i++)
		if (texts[i][1][0]) {
			wf_buffer_printf(out, ", \"%s\": ", texts[i][0]);
			wf_json_string(out, texts[i][1], strlen(texts[i][1]));
		}
	wf_buffer_putc(out, '}');
}

/* The lock is held. */
static void put_pending(struct wf_checkpoint *ck, const struct wf_overlay_usage *usage, struct wf_buffer *out)
{
	wf_buffer_printf(
		out,
		"  \"pending\": {\"edits\": %llu, \"log_bytes\": %llu, \"data_bytes\": %llu, \"unsynced\": %llu},\n",
		(unsigned long long)usage->edits, (unsigned long long)usage->log_bytes,
		(unsigned long long)usage->data_bytes, (unsigned long long)usage->unsynced);
	if (ck->edits)
		wf_edits_report(ck, out);
}

static void put_devices(struct wf_checkpoint *ck, struct wf_buffer *out)
{
	wf_buffer_printf(out, "  \"relocated\": %s,\n  \"devices\": {", ck->relocated ? "true" : "false");
	if (wf_buffer_status(out) == 0)
		wf_placement_bytes(ck->placement, device_field, out);
	wf_buffer_puts(out, "},\n  \"device_memory\": {");
	if (wf_buffer_status(out) == 0)
		wf_placement_devices(ck->placement, device_memory, out);
	wf_buffer_puts(out, "},\n");
}

static void put_commit(const struct wf_commit_progress *p, struct wf_buffer *out)
{
	if (!atomic_load(&p->running)) {
		wf_buffer_puts(out, "  \"commit\": null,\n");
		return;
	}
	wf_buffer_printf(out, "  \"commit\": {\"done_bytes\": %llu, \"total_bytes\": %llu, \"append_bytes\": %llu},\n",
			 (unsigned long long)atomic_load(&p->done_bytes),
			 (unsigned long long)atomic_load(&p->total_bytes),
			 (unsigned long long)atomic_load(&p->append_bytes));
}

int wf_status(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	struct wf_overlay_usage usage = {0};
	struct wf_unseen unseen;
	bool counted = wf_count_unseen(ck, &unseen) == 0;
	pthread_rwlock_rdlock(&ck->lock);
	struct census totals = count_all(ck, true);
	if (ck->overlay)
		wf_checkpoint_usage(ck, &usage);
	wf_buffer_puts(ret, "{\n");
	field(ret, "checkpoint", ck->path);
	field(ret, "output", ck->output);
	field(ret, "format", wf_container_kind_name(ck->container));
	field(ret, "byteorder", wf_container_big_endian(ck->container) ? "big" : "little");
	wf_buffer_printf(ret, "  \"pid\": %d,\n  \"writable\": %s,\n  \"dirty\": %s,\n", (int)getpid(),
			 ck->writable ? "true" : "false", usage.edits > 0 || wf_edits_is_hiding(ck) ? "true" : "false");
	wf_buffer_printf(
		ret, "  \"entries\": %llu,\n  \"tensors\": %llu,\n  \"tensor_bytes\": %llu,\n  \"file_bytes\": %llu,\n",
		(unsigned long long)totals.entries, (unsigned long long)totals.tensors,
		(unsigned long long)totals.tensor_bytes, (unsigned long long)wf_source_size(ck->file));
	if (counted)
		wf_buffer_printf(ret, "  \"only_in_objects\": {\"tensors\": %llu, \"bytes\": %llu},\n",
				 (unsigned long long)unseen.tensors, (unsigned long long)unseen.bytes);
	put_pending(ck, &usage, ret);
	if (ck->placement)
		put_devices(ck, ret);
	put_commit(&ck->progress, ret);
	field(ret, "last_error", ck->last_error[0] ? ck->last_error : NULL);
	wf_buffer_puts(ret, "  \"edits_not_shown\": ");
	json_or_null(ret, ck->overlay ? wf_overlay_unused(ck->overlay) : NULL);
	wf_buffer_puts(ret, "\n}\n");
	pthread_rwlock_unlock(&ck->lock);
	return wf_buffer_status(ret);
}

bool wf_commit_progress(struct wf_checkpoint *ck, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes)
{
	*ret_done_bytes = atomic_load(&ck->progress.done_bytes);
	*ret_total_bytes = atomic_load(&ck->progress.total_bytes);
	return atomic_load(&ck->progress.running);
}
