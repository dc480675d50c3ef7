/* SPDX-License-Identifier: MIT */
/* The check of what was written, as torch would look at it. */
#include "codec/commit/commit.h"

#include <errno.h>

#include "codec/bytes/util.h"

/* Checking the written pickle builds its objects a second time; a very long one is taken on trust. */
#define CHECKED_PICKLE_BYTES (16u << 20)

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

/* By record of the old file: it is that of a storage that could not be read there. */
static bool *bad_before(const struct wf_plan *p)
{
	bool *bad = calloc(WF_MAX(wf_container_count(p->in.container), 1u), sizeof *bad);
	for (uint32_t i = 0; bad && i < wf_storages_count(p->in.storages); i++) {
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (s->record < wf_container_count(p->in.container))
			bad[s->record] |= s->bad != 0;
	}
	return bad;
}

/* What is wrong with a storage of the new file may have been wrong with it in the old one. */
static int check_storage(const struct wf_plan *p, const struct wf_storages *ss, uint32_t i, const bool *bad_before,
			 struct wf_error *err)
{
	const char *key = wf_storage_key(ss, i);
	uint32_t old = wf_container_storage_record(p->in.container, key, strlen(key));
	if (old != WF_NO_RECORD && bad_before[old])
		return 0;
	return wf_fail_at(err, -EUCLEAN, key, WF_ERROR_NO_OFFSET, "the file just written is wrong: %s",
			  wf_storage_problem(ss, i));
}

/* Storages without a record that the pickles name: of a pickle that is kept all, for it is not looked at. */
static uint32_t missing_before(const struct wf_plan *p)
{
	uint32_t n = 0, count = p->keep_pickle ? wf_storages_count(p->in.storages) : p->order_count;
	for (uint32_t k = 0; k < count; k++) {
		const struct wf_storage *s = wf_storage_get(p->in.storages, p->keep_pickle ? k : p->order[k]);
		n += s->bad && s->record == WF_NO_RECORD;
	}
	return n;
}

static int check_storages(const struct wf_plan *p, const struct wf_storages *ss, struct wf_error *err)
{
	uint32_t missing = 0, last = 0;
	cleanup_free bool *bad = bad_before(p);
	int r = bad ? 0 : wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; r == 0 && i < wf_storages_count(ss); i++) {
		const struct wf_storage *s = wf_storage_get(ss, i);
		if (s->bad && s->record != WF_NO_RECORD)
			r = check_storage(p, ss, i, bad, err);
		if (s->bad && s->record == WF_NO_RECORD && !s->inside) {
			missing++;
			last = i;
		}
	}
	if (r == 0 && missing > missing_before(p))
		r = wf_fail_at(err, -EUCLEAN, wf_storage_key(ss, last), WF_ERROR_NO_OFFSET,
			       "the file just written is wrong: %s", wf_storage_problem(ss, last));
	return r;
}

/* The array at which a patch was made has the bytes that it was to get: it was found by its place among all. */
static int check_patch(const struct wf_plan *p, struct wf_storages *ss, uint32_t i, struct wf_error *err)
{
	enum { PIECE = 64u << 10 };
	const struct wf_storage *is = wf_storage_get(ss, i), *was = wf_storage_get(p->in.storages, i);
	cleanup_free unsigned char *piece = malloc(2 * PIECE);
	int r = piece ? 0 : -ENOMEM;
	bool same = is && is->inside && !is->bad && is->size_bytes == was->size_bytes;
	for (uint64_t at = 0; same && r == 0 && at < was->size_bytes; at += PIECE) {
		size_t n = (size_t)WF_MIN(was->size_bytes - at, (uint64_t)PIECE);
		r = wf_storage_read(ss, i, at, piece, n);
		if (r == 0)
			r = wf_storage_read(p->in.storages, i, at, piece + PIECE, n);
		same = r == 0 && memcmp(piece, piece + PIECE, n) == 0;
	}
	return r < 0   ? wf_fail(err, r, "an array of the file just written: %s", strerror(-r))
	       : !same ? wf_fail(err, -EUCLEAN,
				 "the file just written is wrong: an array inside its pickle has other bytes")
		       : 0;
}

static int check_patches(const struct wf_plan *p, struct wf_storages *ss, struct wf_error *err)
{
	int r = 0;
	for (uint32_t i = 0; i < p->patch_count && r == 0; i++)
		if (p->patches[i].storage != WF_NO_STORAGE)
			r = check_patch(p, ss, p->patches[i].storage, err);
	return r;
}

/* The pickle reads, and the storages that it names are there with their sizes. */
static int check_pickle(const struct wf_plan *p, struct wf_container *c, struct wf_error *err)
{
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	struct wf_storages *ss = NULL;
	wf_ref root;
	int r = wf_graph_new(&g);
	if (r == 0)
		r = wf_container_load_graph(c, g, &root, err);
	if (r == 0)
		r = wf_storages_new(g, c, &ss, err);
	if (r == 0)
		r = check_storages(p, ss, err);
	if (r == 0)
		r = check_patches(p, ss, err);
	wf_storages_free(ss);
	return r;
}

static uint64_t part_bytes(const struct wf_plan *p, const struct wf_part *part)
{
	switch ((enum wf_part_kind)part->kind) {
	case WF_PART_KEEP:
		return wf_container_record(p->in.container, part->record)->size_bytes;
	case WF_PART_STORAGE:
		return wf_plan_window(p, part->storage).size_bytes;
	case WF_PART_PICKLE:
		return p->pickle_bytes;
	default:
		return UINT64_MAX;
	}
}

static int check_records(const struct wf_plan *p, const struct wf_container *c, uint32_t *records, struct wf_error *err)
{
	uint32_t more = p->safetensors ? 1 : 0; /* the header */
	if (!p->legacy && !p->plain && wf_container_count(c) != p->count + more)
		return wf_fail(err, -EUCLEAN, "the file just written is wrong: %u records instead of %u",
			       wf_container_count(c), p->count + more);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		uint32_t at = p->legacy ? wf_container_find(c, part->name) : i;
		const struct wf_record *record = wf_container_record(c, at);
		uint64_t size = part_bytes(p, part);
		if (!record || strcmp(record->name, part->name) != 0 ||
		    (size != UINT64_MAX && record->size_bytes != size))
			return wf_fail_at(err, -EUCLEAN, part->name, WF_ERROR_NO_OFFSET,
					  "the file just written is wrong: the record is not what was to be written");
		if (part->storage != WF_NO_STORAGE)
			records[part->storage] = at;
	}
	return 0;
}

int wf_commit_check(const struct wf_plan *p, struct wf_container *written, uint32_t *records, struct wf_error *err)
{
	/* a legacy stream, a plain pickle and a safetensors file have records only when they were read */
	int r = p->legacy || p->plain || p->safetensors || p->patch_count > 0 || p->pickle_bytes <= CHECKED_PICKLE_BYTES
			? check_pickle(p, written, err)
			: 0;
	if (r == 0 && p->safetensors)
		r = wf_check_safetensors(p, written, err);
	return r < 0 ? r : check_records(p, written, records, err);
}
