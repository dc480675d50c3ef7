/* SPDX-License-Identifier: MIT */
/* The plan of a commit: which records the new file has, under which names, and what the pickle will say.
 *
 * The pickle is written once without a place to go: that tells which storages it names, in which order, and how long it
 * is, before the first byte of the file exists. Small ones are kept from that pass.
 */
#include "codec/commit/inner.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/bytes/crc32.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

#define KEPT_PICKLE_BYTES (8u << 20)

/* ---- the pickle ---- */

struct survey {
	struct wf_plan *plan;
	wf_ref *persids; /* met, in order */
	uint32_t count, capacity;
	int failed;
};

static wf_ref survey_persid(void *ctx, wf_ref persid, wf_ref id)
{
	struct survey *s = ctx;
	struct wf_plan *p = s->plan;
	uint32_t i = wf_storage_of(p->in.storages, persid);
	if (i == WF_NO_STORAGE)
		return id;
	if (!p->live[i]) {
		p->live[i] = true;
		p->order[p->order_count++] = i;
	}
	int r = wf_array_reserve(&s->persids, &s->capacity, (uint64_t)s->count + 1, sizeof *s->persids, UINT32_MAX);
	if (r < 0)
		s->failed = r;
	else
		s->persids[s->count++] = persid;
	return id;
}

static wf_ref planned_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct wf_plan *p = ctx;
	const uint64_t *to = p->ids.count ? wf_key_map_get(&p->ids, &persid, sizeof persid) : NULL;
	return to ? (wf_ref)*to : id;
}

static int measure(struct wf_plan *p, const void *data, size_t len)
{
	p->pickle_bytes += len;
	p->pickle_crc32 = wf_crc32(p->pickle_crc32, data, len);
	if (p->pickle_kept && p->pickle_bytes > KEPT_PICKLE_BYTES) {
		p->pickle_kept = false;
		wf_buffer_free(&p->pickle);
	}
	if (p->pickle_kept)
		wf_buffer_append(&p->pickle, data, len);
	return wf_buffer_status(&p->pickle);
}

static int measure_survey(void *ctx, const void *data, size_t len)
{
	struct survey *s = ctx;
	return s->failed ? s->failed : measure(s->plan, data, len);
}

static int measure_planned(void *ctx, const void *data, size_t len)
{
	return measure(ctx, data, len);
}

static struct wf_pickle_writer hooks_of(const struct wf_plan *p, wf_ref (*persid)(void *, wf_ref, wf_ref),
					int (*write)(void *, const void *, size_t), void *ctx)
{
	return (struct wf_pickle_writer){.persid = persid,
					 .write = write,
					 .ctx = ctx,
					 .marks = wf_container_kind_of(p->in.container) == WF_CONTAINER_TORCHSCRIPT,
					 .as_read = true};
}

static int write_pickle(const struct wf_plan *p, const struct wf_pickle_writer *hooks, struct wf_error *err)
{
	return p->keep_pickle ? wf_plan_write_patched(p, hooks, err)
			      : wf_pickle_write(p->in.graph, p->in.root, hooks, err);
}

static int run_pickle(struct wf_plan *p, const struct wf_pickle_writer *hooks, struct wf_error *err)
{
	wf_buffer_free(&p->pickle);
	p->pickle_bytes = 0;
	p->pickle_crc32 = 0;
	p->pickle_kept = true;
	return write_pickle(p, hooks, err);
}

struct replay {
	const struct wf_plan *plan;
	struct wf_out *out;
	uint64_t bytes;
	uint32_t crc32;
};

static wf_ref replay_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct replay *w = ctx;
	return planned_id((void *)w->plan, persid, id);
}

static int replay_write(void *ctx, const void *data, size_t len)
{
	struct replay *w = ctx;
	w->bytes += len;
	w->crc32 = wf_crc32(w->crc32, data, len);
	return wf_out_write(w->out, data, len);
}

int wf_plan_write_pickle(const struct wf_plan *p, struct wf_out *o, struct wf_error *err)
{
	if (p->pickle_kept)
		return wf_out_write(o, p->pickle.data, p->pickle.len);
	struct replay w = {.plan = p, .out = o};
	const struct wf_pickle_writer hooks = hooks_of(p, replay_id, replay_write, &w);
	int r = write_pickle(p, &hooks, err);
	if (r == 0 && (w.bytes != p->pickle_bytes || w.crc32 != p->pickle_crc32))
		r = wf_fail(err, -ESTALE, "the pickle changed while it was written");
	return r;
}

/* ---- the whole ---- */

static int plan_names(struct wf_plan *p, struct wf_naming *n, struct survey *s, bool append, struct wf_error *err)
{
	wf_plan_find_owners(p, n);
	bool wanted = p->exact, script = wf_container_kind_of(p->in.container) == WF_CONTAINER_TORCHSCRIPT;
	p->exact = wanted && !append && wf_plan_can_be_exact(p, n);
	p->keep_layout = (p->keep_pickle && script) || p->exact || (append && wanted && wf_plan_layout_holds(p, n));
	/* every record keeps its size and its place among the others, and no id can be changed */
	p->exact &= !p->in.verbatim;
	int r = wf_plan_name_storages(p, n);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	for (uint32_t k = 0; k < s->count; k++) {
		r = wf_plan_id(p, n, s->persids[k], err);
		if (r < 0)
			return r;
	}
	if (p->ids.count) {
		const struct wf_pickle_writer hooks = hooks_of(p, planned_id, measure_planned, p);
		r = run_pickle(p, &hooks, err);
		if (r < 0)
			return r;
	}
	return wf_plan_parts(p, n, err);
}

static void count_bytes(struct wf_plan *p)
{
	p->new_bytes = p->legacy || p->plain ? p->pickle_bytes : p->head.len;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		if (part->kind == WF_PART_KEEP)
			p->kept_bytes += wf_container_record(p->in.container, part->record)->stored_bytes;
		else if (part->kind == WF_PART_STORAGE)
			p->new_bytes += wf_plan_window(p, part->storage).size_bytes;
		else
			p->new_bytes += part->kind == WF_PART_PICKLE ? p->pickle_bytes : 40;
	}
}

static int survey_pickle(struct wf_plan *p, struct survey *s, struct wf_error *err)
{
	const struct wf_pickle_writer hooks = hooks_of(p, survey_persid, measure_survey, s);
	return run_pickle(p, &hooks, err);
}

/* Puts the storages that the pickle would name into it. */
static int make_inline(struct wf_plan *p, struct wf_naming *n, struct survey *s, struct wf_error *err)
{
	int r = survey_pickle(p, s, err);
	if (r < 0 || p->order_count == 0)
		return r;
	r = wf_plan_inline(p, err);
	for (uint32_t k = 0; k < p->order_count; k++)
		p->live[p->order[k]] = false;
	p->order_count = s->count = 0;
	/* what was put into the pickle are storages of their own: the tables by storage are longer now */
	uint32_t count = wf_storages_count(p->in.storages);
	bool *live = calloc(WF_MAX(count, 1u), sizeof *live);
	uint32_t *order = calloc(WF_MAX(count, 1u), sizeof *order);
	const char **name = calloc(WF_MAX(count, 1u), sizeof *name);
	free(p->live);
	free(p->order);
	free(n->name);
	p->live = live;
	p->order = order;
	n->name = name;
	return r == 0 && (!live || !order || !name) ? wf_fail(err, -ENOMEM, "out of memory") : r;
}

/* Storages that another pickle names, which stays: so do they. */
static void add_companions(struct wf_plan *p)
{
	for (uint32_t i = 0; i < wf_storages_count(p->in.storages); i++)
		if (wf_storage_get(p->in.storages, i)->companion && !p->live[i]) {
			p->live[i] = true;
			p->order[p->order_count++] = i;
		}
}

/* What the pickle names is what has a record; arrays inside it that changed are written over. */
static int keep_pickle(struct wf_plan *p, struct wf_error *err)
{
	const struct wf_pickle_writer hooks = hooks_of(p, NULL, measure_planned, p);
	uint32_t count = wf_storages_count(p->in.storages);
	for (uint32_t i = 0; i < count; i++) {
		/* a new one is nothing that the pickle names */
		p->live[i] = wf_storage_get(p->in.storages, i)->record != WF_NO_RECORD;
		if (p->live[i])
			p->order[p->order_count++] = i;
	}
	if (p->moved_count == 0)
		return 0;
	int r = wf_plan_patch(p, err);
	return r < 0 ? r : run_pickle(p, &hooks, err);
}

static int make(struct wf_plan *p, struct wf_naming *n, struct survey *s, bool append, struct wf_error *err)
{
	uint32_t count = wf_storages_count(p->in.storages);
	p->live = calloc(WF_MAX(count, 1u), sizeof *p->live);
	p->order = calloc(WF_MAX(count, 1u), sizeof *p->order);
	n->owner = calloc(WF_MAX(wf_container_count(p->in.container), 1u), sizeof *n->owner);
	n->name = calloc(WF_MAX(count, 1u), sizeof *n->name);
	if (!p->live || !p->order || !n->owner || !n->name)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (p->safetensors) {
		int e = wf_plan_safetensors(p, err);
		if (!p->in_place)
			count_bytes(p);
		return e;
	}
	int r = wf_container_kind_of(p->in.container) == WF_CONTAINER_TAR ? wf_plan_flatten_views(p, err) : 0;
	if (r == 0 && p->plain && !p->keep_pickle)
		r = make_inline(p, n, s, err);
	if (r == 0)
		r = wf_plan_move_bytes(p, err);
	if (r < 0)
		return r;
	r = p->keep_pickle ? keep_pickle(p, err) : survey_pickle(p, s, err);
	if (r < 0)
		return r;
	add_companions(p);
	if (p->plain && p->order_count > 0)
		return wf_fail(err, -EOPNOTSUPP, "a plain pickle cannot hold a storage that is no tensor");
	r = plan_names(p, n, s, append, err);
	if (r == 0)
		count_bytes(p);
	return r;
}

/* Whether a trim takes anything off. */
static bool cuts(const struct wf_commit_input *in)
{
	for (uint32_t i = 0; in->windows && i < wf_storages_count(in->storages); i++)
		if (in->windows[i].size_bytes != wf_storage_get(in->storages, i)->size_bytes)
			return true;
	return false;
}

int wf_plan_make(struct wf_plan *plan, const struct wf_commit_input *in, bool append, struct wf_error *err)
{
	enum wf_container_kind kind = wf_container_kind_of(in->container);
	*plan = (struct wf_plan){
		.in = *in,
		.legacy = kind == WF_CONTAINER_LEGACY,
		.plain = kind == WF_CONTAINER_PICKLE && !in->as_zip,
		.anew = kind == WF_CONTAINER_TAR || (kind == WF_CONTAINER_PICKLE && in->as_zip) ||
			in->shard == WF_SHARD_ARCHIVE,
		.safetensors = kind == WF_CONTAINER_SAFETENSORS || in->shard == WF_SHARD_SAFETENSORS,
		.keep_pickle = in->verbatim || (kind == WF_CONTAINER_TORCHSCRIPT && !in->types_changed && !cuts(in)),
		.prefix = kind == WF_CONTAINER_TAR || kind == WF_CONTAINER_PICKLE || in->shard
				  ? "archive"
				  : wf_container_prefix(in->container),
		.alignment = WF_ZIP_ALIGNMENT,
	};
	struct wf_naming n = {0};
	struct survey s = {.plan = plan};
	if (kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT)
		wf_plan_read_layout(plan);
	if (in->alignment > WF_ZIP_ALIGNMENT) /* records of an archive have that one anyway */
		plan->alignment = in->alignment;
	int r = in->alignment && (plan->legacy || plan->plain)
			? wf_fail(err, -EOPNOTSUPP,
				  "a %s file has no room for padding: records of an archive can be aligned, and tensors of a safetensors file",
				  wf_container_kind_name(in->container))
			: make(plan, &n, &s, append, err);
	free(n.owner);
	free(n.name);
	wf_key_map_free(&n.used);
	free(s.persids);
	if (r < 0) {
		wf_plan_undo(plan);
		wf_plan_free(plan);
	}
	return r;
}

void wf_plan_adopt(struct wf_plan *p)
{
	wf_plan_adopt_keys(p);
	for (uint32_t k = 0; k < p->ids.count; k++) {
		wf_ref persid;
		memcpy(&persid, p->ids.keys[k].bytes, sizeof persid);
		wf_persid_set_id(p->in.graph, persid, (wf_ref)p->ids.keys[k].value);
	}
	p->moved_count = p->call_count = 0; /* what is in the graph now is what was written */
}

void wf_plan_free(struct wf_plan *p)
{
	for (uint32_t i = 0; i < p->name_count; i++)
		free(p->names[i]);
	free(p->names);
	free(p->parts);
	free(p->order);
	free(p->live);
	free(p->moved);
	free(p->patches);
	free(p->calls);
	wf_key_map_free(&p->ids);
	wf_buffer_free(&p->pickle);
	wf_buffer_free(&p->head);
	free(p->items);
	free(p->data_order);
	free(p->ways);
	free(p->pieces);
	*p = (struct wf_plan){0};
}
