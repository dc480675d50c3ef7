/* SPDX-License-Identifier: MIT */
/* A pickle that is copied but for the bytes of arrays which changed: tensor/inside.h tells where they stand.
 *
 *   [old bytes][bytes of an array, as the same opcode][old bytes][FRAME, where what it holds became longer or shorter] ...
 */
#include "codec/commit/inner.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/bytes/util.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/inside.h"
#include "codec/tensor/tensor.h"

#define PIECE_BYTES (256u << 10)

static int by_start(const void *a, const void *b)
{
	uint64_t x = ((const struct wf_patch *)a)->start, y = ((const struct wf_patch *)b)->start;
	return x < y ? -1 : x > y;
}

static int count_bytes(void *ctx, const void *data, size_t len)
{
	*(uint64_t *)ctx += len;
	return 0;
}

static int add_array(struct wf_plan *p, const struct wf_insides *insides, uint32_t storage, wf_ref bytes,
		     struct wf_error *err)
{
	const struct wf_inside *in = storage < insides->count ? &insides->all[storage] : NULL;
	struct wf_patch *patch = &p->patches[p->patch_count];
	const struct wf_pickle_writer counter = {.write = count_bytes, .ctx = &patch->bytes_out};
	if (!in || in->end == 0 || in->shared)
		return wf_fail(
			err, -EOPNOTSUPP,
			"an array that shares its bytes with another object, inside a pickle that is kept as it is");
	*patch =
		(struct wf_patch){.start = in->start, .end = in->end, .op = in->op, .bytes = bytes, .storage = storage};
	int r = wf_pickle_write_bytes_as(p->in.graph, bytes, in->op, &counter, err);
	p->patch_count += r == 0;
	return r;
}

/* The first of n patches that begins at `at` or later. */
static uint32_t first_from(const struct wf_patch *patches, uint32_t n, uint64_t at)
{
	uint32_t low = 0;
	while (low < n) {
		uint32_t middle = low + (n - low) / 2;
		if (patches[middle].start < at)
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

/* What a frame holds has another length by what was written in it. longer[i]: by how much all patches before i made the pickle longer. */
static void add_frames(struct wf_plan *p, const struct wf_insides *insides, const int64_t *longer)
{
	uint32_t arrays = p->patch_count;
	for (uint32_t i = 0; i < insides->frame_count; i++) {
		const struct wf_pickle_place *f = &insides->frames[i];
		int64_t by = longer[first_from(p->patches, arrays, f->end)] -
			     longer[first_from(p->patches, arrays, f->start)];
		if (by == 0)
			continue;
		p->patches[p->patch_count++] =
			(struct wf_patch){.start = f->start,
					  .end = f->start + WF_PICKLE_FRAME_BYTES,
					  .bytes = WF_NIL,
					  .storage = WF_NO_STORAGE,
					  .framed_bytes = f->end - f->start - WF_PICKLE_FRAME_BYTES + (uint64_t)by,
					  .bytes_out = WF_PICKLE_FRAME_BYTES};
	}
}

static int add_all(struct wf_plan *p, const struct wf_insides *insides, struct wf_error *err)
{
	uint64_t most = (uint64_t)p->moved_count + insides->frame_count;
	p->patches = calloc(most, sizeof *p->patches);
	cleanup_free int64_t *longer = calloc((uint64_t)p->moved_count + 1, sizeof *longer);
	int r = p->patches && longer ? 0 : wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < p->moved_count && r == 0; i++)
		r = add_array(p, insides, wf_storage_of(p->in.storages, p->moved[i].array),
			      wf_numpy_bytes(p->in.graph, p->moved[i].array), err);
	if (r < 0)
		return r;
	qsort(p->patches, p->patch_count, sizeof *p->patches, by_start);
	for (uint32_t i = 0; i < p->patch_count; i++) {
		const struct wf_patch *patch = &p->patches[i];
		longer[i + 1] = longer[i] + (int64_t)(patch->bytes_out - (patch->end - patch->start));
	}
	add_frames(p, insides, longer);
	qsort(p->patches, p->patch_count, sizeof *p->patches, by_start);
	return 0;
}

int wf_plan_patch(struct wf_plan *p, struct wf_error *err)
{
	struct wf_insides insides = {0};
	int r = wf_insides_find(p->in.container, p->in.storages, &insides, err);
	if (r == 0)
		r = add_all(p, &insides, err);
	wf_insides_free(&insides);
	return r;
}

/* ---- writing ---- */

static int copy_old(struct wf_source *s, uint64_t start, uint64_t end, unsigned char *piece,
		    const struct wf_pickle_writer *to, struct wf_error *err)
{
	int r = 0;
	for (uint64_t at = start; at < end && r == 0; at += PIECE_BYTES) {
		size_t n = (size_t)WF_MIN(end - at, (uint64_t)PIECE_BYTES);
		r = wf_source_read(s, at, piece, n);
		if (r < 0)
			return wf_fail_at(err, r, NULL, at, "reading the old pickle failed: %s", strerror(-r));
		r = to->write(to->ctx, piece, n);
	}
	return r;
}

static int write_patch(const struct wf_plan *p, const struct wf_patch *patch, const struct wf_pickle_writer *to,
		       struct wf_error *err)
{
	unsigned char frame[WF_PICKLE_FRAME_BYTES];
	if (patch->bytes != WF_NIL)
		return wf_pickle_write_bytes_as(p->in.graph, patch->bytes, patch->op, to, err);
	wf_pickle_frame(frame, patch->framed_bytes);
	return to->write(to->ctx, frame, sizeof frame);
}

int wf_plan_write_patched(const struct wf_plan *p, const struct wf_pickle_writer *to, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	cleanup_free unsigned char *piece = malloc(PIECE_BYTES);
	uint64_t at = 0;
	int r = piece ? wf_open_pickle(p->in.container, &s, err) : wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < p->patch_count && r == 0; i++) {
		r = copy_old(s, at, p->patches[i].start, piece, to, err);
		if (r == 0)
			r = write_patch(p, &p->patches[i], to, err);
		at = p->patches[i].end;
	}
	return r == 0 ? copy_old(s, at, wf_source_size(s), piece, to, err) : r;
}
