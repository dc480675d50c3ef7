/* SPDX-License-Identifier: MIT */
/* Where the tensors of a safetensors file stand when the file itself is changed.
 *
 * The format wants the data without holes. So what is there stays where it is, changed bytes among it; a new tensor takes the place of one
 * of the same size that goes, or follows behind the last that stays; and one that goes without an heir has to be at the end. The new head
 * takes the room of the old one, blanks behind the JSON, or whole blocks are inserted at the start of the file. Where that cannot be, or
 * saves nothing, a new file is written: p->why_new is a clause that says why.
 */
#include "codec/commit/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <zlib.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/overlay/format.h"

/* So many bytes may be saved and overwritten, or half of the file. */
#define REWRITTEN_MIN_BYTES (1u << 20)

/* A header that grows gets so much of itself as room for the next time, or so much of the file and at most so many bytes. */
#define SLACK_PART 8u
#define SLACK_OF_FILE 1024u
#define SLACK_BYTES (64u << 10)

/* A tensor of the old file whose place is free. */
struct gap {
	uint64_t begin, len;
	bool used;
};

struct layout {
	struct wf_plan *p;
	bool *taken; /* by record */
	struct gap *gaps;
	uint32_t gap_count;
	uint64_t stay_end; /* of what stays, and of what takes a place among it */
	uint64_t old_end;  /* of all data */
	uint64_t end;
	uint32_t piece_capacity;
	bool grows_from_base; /* something that moves to the end is read from the old file */
};

static int no(struct wf_plan *p, const char *why)
{
	p->in_place = false;
	p->why_new = why;
	return 0;
}

static const struct wf_storage *storage_of(const struct wf_plan *p, uint32_t i)
{
	return wf_storage_get(p->in.storages, p->parts[p->items[i].id].storage);
}

static bool is_aligned(const struct wf_plan *p, uint32_t i, uint64_t begin)
{
	return (p->data_start + begin) % wf_dtype_info(p->items[i].dtype)->size_bytes == 0;
}

/* ---- places ---- */

static void keep_places(struct layout *l)
{
	struct wf_plan *p = l->p;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_storage *s = storage_of(p, i);
		const struct wf_record *record = wf_container_record(p->in.container, s->record);
		p->ways[i] = WF_WAY_GROWS;
		if (!record || s->resized || record->size_bytes != s->size_bytes || s->size_bytes == 0)
			continue;
		p->ways[i] = wf_extents_bytes(s->dirty) ? WF_WAY_PATCHED : WF_WAY_STAYS;
		p->items[i].begin = record->header_offset - p->data_start;
		l->taken[s->record] = true;
		l->stay_end = WF_MAX(l->stay_end, p->items[i].begin + s->size_bytes);
	}
}

static int by_len(const void *a, const void *b)
{
	const struct gap *x = a, *y = b;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static int find_gaps(struct layout *l)
{
	struct wf_plan *p = l->p;
	uint32_t n = wf_container_count(p->in.container);
	l->gaps = calloc(n + 1u, sizeof *l->gaps);
	if (!l->gaps)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_record *record = wf_container_record(p->in.container, i);
		if (l->taken[i] || record->size_bytes == 0 || record->header_offset < p->data_start)
			continue;
		l->gaps[l->gap_count++] =
			(struct gap){record->header_offset - p->data_start, record->size_bytes, false};
	}
	qsort(l->gaps, l->gap_count, sizeof *l->gaps, by_len);
	return 0;
}

/* The first free gap of that size in which the tensor is aligned. */
static struct gap *gap_for(const struct layout *l, uint32_t i)
{
	uint64_t len = l->p->items[i].size_bytes;
	for (uint32_t k = wf_first_not(at, l->gap_count, l->gaps[at].len < len);
	     k < l->gap_count && l->gaps[k].len == len; k++)
		if (!l->gaps[k].used && is_aligned(l->p, i, l->gaps[k].begin))
			return &l->gaps[k];
	return NULL;
}

/* A storage that was resized still has bytes in the old file: they may not be overwritten before they are read. */
static bool reads_base(const struct wf_storage *s)
{
	return s->record != WF_NO_RECORD && s->base_bytes > 0;
}

static void fill_gaps(struct layout *l)
{
	struct wf_plan *p = l->p;
	for (uint32_t i = 0; i < p->count; i++) {
		if (p->ways[i] != WF_WAY_GROWS || p->items[i].size_bytes == 0)
			continue;
		struct gap *g = reads_base(storage_of(p, i)) ? NULL : gap_for(l, i);
		l->grows_from_base |= !g && reads_base(storage_of(p, i));
		if (!g)
			continue;
		g->used = true;
		p->ways[i] = WF_WAY_REUSES;
		p->items[i].begin = g->begin;
		l->stay_end = WF_MAX(l->stay_end, g->begin + g->len);
	}
}

static void grow(struct layout *l)
{
	struct wf_plan *p = l->p;
	l->end = l->stay_end;
	for (uint8_t width = 8; width > 0; width /= 2)
		for (uint32_t i = 0; i < p->count; i++) {
			if (p->ways[i] != WF_WAY_GROWS || wf_dtype_info(p->items[i].dtype)->size_bytes != width ||
			    p->items[i].size_bytes == 0)
				continue;
			p->items[i].begin = l->end;
			l->end += p->items[i].size_bytes; /* below 2^63: limit_ends was asked */
		}
	for (uint32_t i = 0; i < p->count; i++)
		if (p->items[i].size_bytes == 0)
			p->items[i].begin = l->end; /* anywhere between two others */
}

static bool is_too_large(const struct layout *l)
{
	uint64_t sum = l->old_end;
	for (uint32_t i = 0; i < l->p->count; i++)
		if (wf_add_u64(sum, l->p->items[i].size_bytes, &sum))
			return true;
	return sum > INT64_MAX - 4 * (uint64_t)WF_SAFETENSORS_JSON_MAX;
}

static const char *why_not_there(const struct layout *l)
{
	const struct wf_plan *p = l->p;
	for (uint32_t i = 0; i < l->gap_count; i++)
		if (!l->gaps[i].used && l->gaps[i].begin < l->stay_end)
			return "what was removed or resized would leave a hole among the data, which the format does not have";
	for (uint32_t i = 0; i < p->count; i++)
		if (p->items[i].size_bytes > 0 && !is_aligned(p, i, p->items[i].begin))
			return "a tensor would not be aligned to its elements behind the others";
	if (l->grows_from_base && l->stay_end < l->old_end)
		return "a resized tensor would move over its own bytes";
	return NULL;
}

/* ---- what is overwritten ---- */

static int add_piece(struct layout *l, uint64_t offset, uint64_t len)
{
	struct wf_overlay_rewrite *w = &l->p->rewrite;
	if (len == 0)
		return 0;
	if (w->count == WF_UNDO_PIECES_MAX)
		return -E2BIG;
	if (wf_array_reserve(&l->p->pieces, &l->piece_capacity, (uint64_t)w->count + 1, sizeof *l->p->pieces,
			     WF_UNDO_PIECES_MAX) < 0)
		return -ENOMEM;
	l->p->pieces[w->count++] = (struct wf_overlay_piece){offset, len};
	return 0;
}

static int add_pieces(struct layout *l)
{
	struct wf_plan *p = l->p;
	int r = 0;
	for (uint32_t i = 0; i < p->count && r == 0; i++) {
		uint64_t at = p->data_start + p->items[i].begin;
		uint32_t n = 0;
		if (p->ways[i] == WF_WAY_REUSES)
			r = add_piece(l, at, p->items[i].size_bytes);
		const struct wf_extent *e =
			p->ways[i] == WF_WAY_PATCHED ? wf_extents_all(storage_of(p, i)->dirty, &n) : NULL;
		for (uint32_t k = 0; k < n && r == 0; k++)
			r = add_piece(l, at + e[k].start, e[k].end - e[k].start);
	}
	return r < 0 ? r : add_piece(l, p->data_start + l->stay_end, l->old_end - l->stay_end);
}

static int by_offset(const void *a, const void *b)
{
	const struct wf_overlay_piece *x = a, *y = b;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static uint64_t total(const struct wf_plan *p)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < p->rewrite.count; i++)
		bytes += p->pieces[i].len;
	return bytes;
}

static int lay_out(struct layout *l)
{
	struct wf_plan *p = l->p;
	keep_places(l);
	int r = find_gaps(l);
	if (r < 0)
		return r;
	if (is_too_large(l))
		return no(p, "the file would be too large");
	fill_gaps(l);
	grow(l);
	const char *why = why_not_there(l);
	if (why)
		return no(p, why);
	/* the first one is the head's, if that changes */
	r = add_piece(l, 0, p->data_start);
	if (r == 0)
		r = add_pieces(l);
	if (r == -E2BIG)
		return no(p, "too many separate places change");
	if (r < 0)
		return r;
	qsort(p->pieces, p->rewrite.count, sizeof *p->pieces, by_offset);
	if (total(p) > WF_MAX((uint64_t)REWRITTEN_MIN_BYTES, (p->data_start + l->old_end) / 2))
		return no(p, "more than half of the file changes");
	p->rewrite.pieces = p->pieces;
	p->rewrite.grown_bytes = p->data_start + WF_MAX(l->end, l->old_end);
	p->rewrite.final_bytes = p->data_start + l->end;
	p->in_place = true;
	return 0;
}

int wf_plan_stay(struct wf_plan *p)
{
	uint64_t json = 0;
	struct wf_source *file = wf_container_file(p->in.container);
	int r = wf_source_read(file, 0, &json, sizeof json); /* little endian hosts only, as meson.build says */
	if (r < 0)
		return r;
	struct layout l = {.p = p};
	p->data_start = json + sizeof json;
	l.old_end = wf_source_size(file) - p->data_start; /* its reader has held both against each other */
	if (p->data_start % 8 != 0)
		return no(p, "the data of the old file are not aligned");
	p->ways = calloc(p->count + 1u, sizeof *p->ways);
	l.taken = calloc(wf_container_count(p->in.container) + 1u, sizeof *l.taken);
	r = p->ways && l.taken ? lay_out(&l) : -ENOMEM;
	free(l.taken);
	free(l.gaps);
	return r;
}

/* ---- the head ---- */

/* 0 as well where the file system does not tell. */
static bool has_holes(const struct wf_plan *p)
{
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	if (!wf_source_locate(wf_container_file(p->in.container), 0, &run))
		return true;
	off_t hole = lseek(run.fd, 0, SEEK_HOLE);
	return hole < 0 || (uint64_t)hole < wf_source_size(wf_container_file(p->in.container));
}

/* How much the head is longer than the room there was. */
static int make_room(struct wf_plan *p, uint64_t *ret)
{
	/* and some more, so that many commits that add a little move the data a few times: that empties the page cache */
	uint64_t slack = WF_MIN(p->rewrite.final_bytes / SLACK_OF_FILE, (uint64_t)SLACK_BYTES);
	slack = WF_MAX(slack, (uint64_t)p->head.len / SLACK_PART);
	uint64_t block = p->in.insert_block, need = p->head.len - p->data_start;
	if (block == 0)
		return no(p, "the header has to grow, and this file system cannot insert bytes in front of the data");
	if (has_holes(p))
		return no(p, "the header has to grow, and the file is sparse");
	if (p->rewrite.final_bytes <
	    p->data_start + (wf_source_size(wf_container_file(p->in.container)) - p->data_start))
		return no(p, "the header has to grow while tensors at the end of the file go");
	uint64_t most = (WF_SAFETENSORS_JSON_MAX + 8 - p->data_start) / block * block;
	*ret = WF_MIN((need + slack + block - 1) / block * block, most);
	return *ret < need ? no(p, "the header has to grow, and there is no room for whole blocks") : 0;
}

static int is_old_head(const struct wf_plan *p, bool *ret)
{
	cleanup_free char *old = malloc(p->head.len);
	int r = old ? wf_source_read(wf_container_file(p->in.container), 0, old, p->head.len) : -ENOMEM;
	*ret = r == 0 && memcmp(old, p->head.data, p->head.len) == 0;
	return r;
}

int wf_plan_stay_head(struct wf_plan *p)
{
	struct wf_overlay_rewrite *w = &p->rewrite;
	bool same = false;
	int r = p->head.len > p->data_start ? make_room(p, &w->inserted) : 0;
	if (r < 0 || !p->in_place)
		return r;
	while (p->head.len < p->data_start + w->inserted && !p->head.failed)
		wf_buffer_append(&p->head, "        ", 8); /* both are multiples of 8 */
	if (wf_buffer_status(&p->head) < 0)
		return -ENOMEM;
	uint64_t json = p->head.len - 8;
	memcpy(p->head.data, &json, sizeof json);
	if (w->inserted == 0)
		r = is_old_head(p, &same);
	if (r < 0)
		return r;
	if (same) {
		w->pieces++;
		w->count--;
	} else {
		w->head_bytes = p->head.len;
		w->head_crc32 = (uint32_t)crc32(0, (const unsigned char *)p->head.data, (uInt)p->head.len);
	}
	p->new_bytes = w->head_bytes;
	p->kept_bytes = 0;
	for (uint32_t i = 0; i < p->count; i++)
		p->new_bytes += p->ways[i] == WF_WAY_STAYS     ? 0
				: p->ways[i] == WF_WAY_PATCHED ? wf_extents_bytes(storage_of(p, i)->dirty)
							       : p->items[i].size_bytes;
	return 0;
}
