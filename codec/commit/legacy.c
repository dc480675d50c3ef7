/* SPDX-License-Identifier: MIT */
/* A whole legacy stream, as container/legacy_read.c draws it: what stands before the object is copied, then the object, the keys
 * and the storages are written, and whatever follows the last storage (another stream, often) is copied again. */
#include "codec/commit/commit.h"

#include <errno.h>

#include "codec/object/dtype.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

struct stream {
	const struct wf_plan *plan;
	struct wf_out *out;
	struct wf_error *err;
	struct wf_file_run old; /* the old file */
	uint64_t start, end;    /* of the old file: to be copied before the next byte is written */
};

static int flush_run(struct stream *s)
{
	uint64_t start = s->start, len = s->end - start;
	s->start = s->end = 0;
	return len ? wf_out_copy(s->out, s->old.fd, start, len) : 0;
}

static int copy_old(struct stream *s, uint64_t start, uint64_t end)
{
	int r = start != s->end ? flush_run(s) : 0;
	if (s->start == s->end)
		s->start = start;
	s->end = end;
	return r;
}

/* Torch sorts the keys as strings; a stream that was sorted stays so. */
static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct wf_part *)a)->name, ((const struct wf_part *)b)->name);
}

static struct wf_part *ordered_parts(const struct wf_plan *p)
{
	struct wf_part *parts = malloc(WF_MAX(p->count, 1u) * sizeof *parts);
	uint32_t old = 0;
	bool sorted = true;
	if (!parts)
		return NULL;
	if (p->count)
		memcpy(parts, p->parts, p->count * sizeof *parts);
	while (old < p->count && wf_storage_get(p->in.storages, parts[old].storage)->record != WF_NO_RECORD)
		old++;
	for (uint32_t i = 1; i < old && sorted; i++)
		sorted = by_name(&parts[i - 1], &parts[i]) < 0;
	if (sorted)
		qsort(parts, p->count, sizeof *parts, by_name);
	return parts;
}

/* The key as it stands in the list: a Python 2 string where the ids have one, because torch.load(encoding='bytes') makes
 * bytes of the one and text of the other, and finds no storage when they differ. */
static wf_ref key_object(const struct wf_plan *p, struct wf_graph *g, const struct wf_part *part)
{
	const char *key = part->name + strlen("storage/");
	wf_ref persid = wf_storage_get(p->in.storages, part->storage)->persid;
	const uint64_t *planned = p->ids.count ? wf_key_map_get(&p->ids, &persid, sizeof persid) : NULL;
	wf_ref id = planned ? (wf_ref)*planned : wf_persid_id(p->in.graph, persid);
	wf_ref in_id = wf_element(p->in.graph, id, 2);
	bool python2 = wf_is(p->in.graph, in_id, WF_PYSTR) && wf_str_equal(p->in.graph, in_id, key);
	return wf_string(g, python2 ? WF_PYSTR : WF_STR, key, strlen(key));
}

static int write_keys(struct stream *s, const struct wf_part *parts)
{
	cleanup_with(wf_buffer_free) struct wf_buffer text = WF_BUFFER_INIT;
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	wf_ref list = wf_graph_new(&g) < 0 ? WF_NIL : wf_list(g);
	int r = list == WF_NIL ? -ENOMEM : 0;
	for (uint32_t i = 0; i < s->plan->count && r == 0; i++) {
		wf_ref key = key_object(s->plan, g, &parts[i]);
		r = key == WF_NIL ? wf_graph_failed(g) : wf_list_append(g, list, key);
	}
	if (r < 0)
		return wf_fail(s->err, r, "the list of storage keys: %s", strerror(-r));
	r = wf_pickle_write_buffer(g, list, NULL, NULL, &text, s->err);
	return r < 0 ? r : wf_out_write(s->out, text.data, text.len);
}

static int write_storage(struct stream *s, const struct wf_part *part)
{
	const struct wf_storage *storage = wf_storage_get(s->plan->in.storages, part->storage);
	uint64_t count = wf_plan_window(s->plan, part->storage).size_bytes / wf_dtype_info(storage->dtype)->size_bytes;
	uint32_t ignored;
	int r = 0;
	if (part->kind == WF_PART_KEEP) {
		/* the count of elements stands before the bytes; setting a dtype changes it and not them */
		const struct wf_record *record = wf_container_record(s->plan->in.container, part->record);
		uint64_t old, start = record->header_offset, end = start + record->stored_bytes;
		r = wf_source_read(wf_container_file(s->plan->in.container), start - 8, &old, sizeof old);
		if (r == 0 && old == count)
			return copy_old(s, start - 8, end);
		if (r == 0)
			r = flush_run(s);
		if (r == 0)
			r = wf_out_write(s->out, &count, sizeof count);
		return r < 0 ? r : copy_old(s, start, end);
	}
	r = flush_run(s);
	if (r == 0)
		r = wf_out_write(s->out, &count, sizeof count);
	return r < 0 ? r : wf_commit_storage(s->plan, part->storage, s->out, &ignored, s->err);
}

static uint64_t end_of_stream(const struct wf_container *c)
{
	uint32_t n = 0;
	const uint32_t *order = wf_container_storage_order(c, &n);
	const struct wf_record *last = wf_container_record(c, n ? order[n - 1] : wf_container_find(c, "keys"));
	return last->header_offset + last->stored_bytes;
}

static int write_stream(struct stream *s, const struct wf_part *parts)
{
	const struct wf_container *c = s->plan->in.container;
	const struct wf_record *object = wf_container_record(c, wf_container_find(c, "object"));
	if (!object || !wf_source_locate(wf_container_file(c), 0, &s->old))
		return wf_fail(s->err, -EOPNOTSUPP, "the checkpoint is not a file");
	int r = wf_out_copy(s->out, s->old.fd, 0, object->header_offset);
	if (r == 0)
		r = wf_plan_copies_pickle(s->plan)
			    ? wf_out_copy(s->out, s->old.fd, object->header_offset, object->stored_bytes)
			    : wf_plan_write_pickle(s->plan, s->out, s->err);
	if (r == 0)
		r = write_keys(s, parts);
	for (uint32_t i = 0; i < s->plan->count && r == 0; i++)
		r = write_storage(s, &parts[i]);
	uint64_t end = end_of_stream(c), size = wf_source_size(wf_container_file(c));
	if (r == 0 && end < size)
		r = copy_old(s, end, size);
	if (r == 0)
		r = flush_run(s);
	return r < 0 ? r : wf_out_finish(s->out);
}

int wf_replace_legacy(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err)
{
	struct stream s = {.plan = plan, .out = o, .err = err, .old = WF_FILE_RUN_INIT};
	cleanup_free struct wf_part *parts = ordered_parts(plan);
	if (!parts)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (err)
		err->code = 0;
	int r = write_stream(&s, parts);
	wf_file_run_end(&s.old);
	if (r < 0 && err && err->code == 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	return r;
}
