/* SPDX-License-Identifier: MIT */
/* The geometry of a tensor in tiles: whether they cover it, and which byte of a tile is which of the whole. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "codec/bytes/util.h"
#include "codec/directory/box.h"
#include "codec/directory/space_inner.h"
#include "codec/object/dtype.h"

/* Cells that the edges of all tiles cut the whole into. Real plans have as many as tiles. */
#define MAX_CELLS (UINT64_C(1) << 26)

static const uint64_t *box_of(const struct space_tiling *t, const struct space_tile *tile)
{
	return t->sizes + t->ndim + (size_t)tile->box * 2 * t->ndim;
}

static struct wf_box box_at(const struct space_tiling *t, const struct space_tile *tile)
{
	const uint64_t *offsets = box_of(t, tile);
	return (struct wf_box){.ndim = t->ndim,
			       .element_bytes = t->element_bytes,
			       .whole = t->sizes,
			       .offsets = offsets,
			       .sizes = offsets + t->ndim};
}

/* ---- from the whole to a tile, and back ---- */

uint64_t space_tile_bytes(const struct space_tiling *t, const struct space_tile *tile)
{
	if (t->runs)
		return tile->last - tile->first;
	const struct wf_box box = box_at(t, tile);
	return wf_box_bytes(&box);
}

uint64_t space_tile_before(const struct space_tiling *t, const struct space_tile *tile, uint64_t at)
{
	if (at <= tile->first)
		return 0;
	if (at >= tile->last)
		return space_tile_bytes(t, tile);
	if (t->runs)
		return at - tile->first;
	const struct wf_box box = box_at(t, tile);
	return wf_box_before(&box, at);
}

uint64_t space_tile_place(const struct space_tiling *t, const struct space_tile *tile, uint64_t local,
			  uint64_t *ret_run)
{
	if (t->runs) {
		*ret_run = tile->last - tile->first - local;
		return tile->first + local;
	}
	const struct wf_box box = box_at(t, tile);
	return wf_box_place(&box, local, ret_run);
}

static bool has_byte(const struct space_tiling *t, const struct space_tile *tile, uint64_t at)
{
	uint64_t run, local;
	if (at < tile->first || at >= tile->last)
		return false;
	local = space_tile_before(t, tile, at);
	return local < space_tile_bytes(t, tile) && space_tile_place(t, tile, local, &run) == at;
}

struct space_tile *space_tiling_find(const struct space_tiling *t, uint64_t at)
{
	uint32_t k = wf_first_not(i, t->tile_count, t->tiles[i].first <= at);
	while (k-- > 0) /* from the last one that begins at `at` or before */
		if (t->runs || has_byte(t, &t->tiles[k], at))
			return &t->tiles[k];
	return NULL;
}

/* ---- whether the tiles cover the whole ---- */

static int by_first(const void *a, const void *b)
{
	const struct space_tile *x = a, *y = b;
	return x->first < y->first ? -1 : x->first > y->first;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static int overlap(struct wf_error *err)
{
	return wf_fail(err, -EUCLEAN, "two of its parts lie over each other");
}

static int gap(struct wf_error *err)
{
	return wf_fail(err, -EUCLEAN, "its parts do not cover it");
}

static int check_runs(const struct space_tiling *t, struct wf_error *err)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < t->tile_count; at = t->tiles[i++].last)
		if (t->tiles[i].first != at)
			return t->tiles[i].first < at ? overlap(err) : gap(err);
	return at == t->size_bytes ? 0 : gap(err);
}

/* Where the tiles begin and end in one dimension, sorted, each once; n of them. */
static void find_edges(const struct space_tiling *t, uint32_t d, uint64_t *edges, uint32_t *ret_n)
{
	uint32_t n = 0, kept = 0;
	for (uint32_t i = 0; i < t->tile_count; i++) {
		const uint64_t *box = box_of(t, &t->tiles[i]);
		edges[n++] = box[d];
		edges[n++] = box[d] + box[t->ndim + d];
	}
	qsort(edges, n, sizeof *edges, by_value);
	for (uint32_t i = 0; i < n; i++)
		if (kept == 0 || edges[kept - 1] != edges[i])
			edges[kept++] = edges[i];
	*ret_n = kept;
}

static uint64_t edge_number(const uint64_t *edges, uint32_t n, uint64_t value)
{
	const uint64_t *p = bsearch(&value, edges, n, sizeof value, by_value);
	return p ? (uint64_t)(p - edges) : 0;
}

/* The cells between the edges of all tiles. Each is marked once at most, so that the work is bounded by their number. */
struct grid {
	const struct space_tiling *t;
	uint64_t *edges[WF_MAX_NDIM];
	uint32_t edge_count[WF_MAX_NDIM];
	uint64_t cells;
	unsigned char *marked; /* a bit each */
};

static int mark(struct grid *g, const struct space_tile *tile, struct wf_error *err)
{
	const uint64_t *box = box_of(g->t, tile);
	uint32_t ndim = g->t->ndim;
	uint64_t from[WF_MAX_NDIM], to[WF_MAX_NDIM], i[WF_MAX_NDIM];
	for (uint32_t d = 0; d < ndim; d++) {
		from[d] = i[d] = edge_number(g->edges[d], g->edge_count[d], box[d]);
		to[d] = edge_number(g->edges[d], g->edge_count[d], box[d] + box[ndim + d]);
	}
	for (uint32_t d = ndim; d == ndim;) {
		uint64_t cell = 0;
		for (uint32_t k = 0; k < ndim; k++)
			cell = cell * (g->edge_count[k] - 1) + i[k];
		if (g->marked[cell / 8] & 1u << cell % 8)
			return overlap(err);
		g->marked[cell / 8] |= (unsigned char)(1u << cell % 8);
		while (d > 0 && ++i[d - 1] == to[d - 1]) {
			d--;
			i[d] = from[d];
		}
		d = d > 0 ? ndim : 0;
	}
	return 0;
}

static int check_grid(struct space_tiling *t, uint64_t elements, struct wf_error *err)
{
	struct grid g = {.t = t, .cells = 1};
	uint64_t covered = 0;
	int r = 0;
	for (uint32_t i = 0; i < t->tile_count; i++)
		covered += space_tile_bytes(t, &t->tiles[i]) / t->element_bytes;
	for (uint32_t d = 0; d < t->ndim && r == 0; d++) {
		g.edges[d] = reallocarray(NULL, (size_t)t->tile_count * 2, sizeof *g.edges[d]);
		if (!g.edges[d]) {
			r = wf_fail(err, -ENOMEM, "out of memory");
			break;
		}
		find_edges(t, d, g.edges[d], &g.edge_count[d]);
		g.cells *= g.edge_count[d] - 1;
		if (g.cells > MAX_CELLS)
			r = wf_fail(err, -E2BIG, "its parts cut it into more than %" PRIu64 " cells", MAX_CELLS);
	}
	if (r == 0 && !(g.marked = calloc(1, g.cells / 8 + 1)))
		r = wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < t->tile_count && r == 0; i++)
		r = mark(&g, &t->tiles[i], err);
	/* nothing lies over anything else, and all lies inside: as much as the whole is the whole */
	if (r == 0 && covered != elements)
		r = gap(err);
	for (uint32_t d = 0; d < t->ndim; d++)
		free(g.edges[d]);
	free(g.marked);
	return r;
}

/* ---- making ---- */

/* Whether the box is one run of the whole: single rows down to one dimension, all of those behind it. */
static bool is_run(const uint64_t *whole, const uint64_t *sizes, uint32_t ndim)
{
	uint32_t d = 0;
	while (d < ndim && sizes[d] == 1)
		d++;
	for (d++; d < ndim; d++)
		if (sizes[d] != whole[d])
			return false;
	return true;
}

/* Tiles come in order from one writer, and in any from several. */
static void sort_tiles(struct space_tiling *t)
{
	uint32_t i = 1;
	while (i < t->tile_count && t->tiles[i - 1].first <= t->tiles[i].first)
		i++;
	if (i < t->tile_count)
		qsort(t->tiles, t->tile_count, sizeof *t->tiles, by_first);
}

static int add_tile(struct space_tiling *t, const struct wf_tiling *from, uint32_t i, struct wf_error *err)
{
	const uint64_t *offsets = from->boxes + (size_t)i * 2 * t->ndim, *sizes = offsets + t->ndim;
	uint64_t first = 0, last = 0, bytes = t->element_bytes;
	for (uint32_t d = 0; d < t->ndim; d++) {
		if (offsets[d] > t->sizes[d] || sizes[d] > t->sizes[d] - offsets[d])
			return wf_fail(err, -EUCLEAN, "a part of it lies outside of it");
		first = first * t->sizes[d] + offsets[d];
		last = last * t->sizes[d] + offsets[d] + sizes[d] - 1;
		bytes *= sizes[d]; /* at most the whole */
	}
	if (bytes == 0)
		return 0;
	if (from->tiles[i].slice_bytes < bytes)
		return wf_fail(err, -EUCLEAN, "a part of it has %" PRIu64 " bytes in its file, not %" PRIu64,
			       from->tiles[i].slice_bytes, bytes);
	struct space_tile *tile = &t->tiles[t->tile_count++];
	*tile = (struct space_tile){.first = first * t->element_bytes,
				    .last = (last + 1) * t->element_bytes,
				    .slice = from->tiles[i].slice,
				    .slice_bytes = from->tiles[i].slice_bytes,
				    .member = from->tiles[i].member,
				    .box = i};
	atomic_init(&tile->at, tile->slice_bytes == bytes ? tile->slice : UINT64_MAX);
	t->runs &= is_run(t->sizes, sizes, t->ndim);
	return 0;
}

static int measure(const struct wf_tiling *t, uint64_t *ret_elements, uint64_t *ret_bytes, struct wf_error *err)
{
	uint64_t elements = 1;
	bool empty = false;
	for (uint32_t d = 0; d < t->ndim; d++) {
		empty |= t->sizes[d] == 0;
		if (t->sizes[d] != 0 && wf_mul_u64(elements, t->sizes[d], &elements))
			return wf_fail(err, -EUCLEAN, "it is larger than any file");
	}
	if (wf_mul_u64(elements, t->element_bytes, ret_bytes) || *ret_bytes > INT64_MAX)
		return wf_fail(err, -EUCLEAN, "it is larger than any file");
	*ret_elements = empty ? 0 : elements;
	*ret_bytes = empty ? 0 : *ret_bytes;
	return 0;
}

static int make(const struct wf_tiling *from, struct space_tiling *t, struct wf_error *err)
{
	uint64_t elements = 0;
	size_t numbers = from->ndim * ((size_t)from->tile_count * 2 + 1);
	if (from->ndim > WF_MAX_NDIM || from->element_bytes == 0)
		return wf_fail(err, -EUCLEAN, "it has more than %d dimensions, or elements of no size", WF_MAX_NDIM);
	*t = (struct space_tiling){.ndim = from->ndim, .element_bytes = from->element_bytes, .runs = true};
	int r = measure(from, &elements, &t->size_bytes, err);
	if (r < 0)
		return r;
	t->tiles = calloc((size_t)from->tile_count + 1, sizeof *t->tiles);
	t->sizes = calloc(numbers + 1, sizeof *t->sizes);
	if (!t->tiles || !t->sizes)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (from->ndim > 0)
		memcpy(t->sizes, from->sizes, from->ndim * sizeof *t->sizes);
	if (numbers > from->ndim)
		memcpy(t->sizes + from->ndim, from->boxes, (numbers - from->ndim) * sizeof *t->sizes);
	for (uint32_t i = 0; i < from->tile_count && r == 0; i++)
		r = add_tile(t, from, i, err);
	if (r < 0)
		return r;
	sort_tiles(t);
	r = t->runs ? check_runs(t, err) : check_grid(t, elements, err);
	if (r == 0 && t->runs) { /* the boxes are not needed any more */
		free(t->sizes);
		t->sizes = NULL;
	}
	return r;
}

/* Whether tiles of rows follow each other from the first row to the last: most do, and of those nothing has to be sorted or compared. */
static bool are_rows(const struct wf_tiling *t, uint64_t size_bytes)
{
	uint64_t at = 0, row_bytes = t->ndim > 0 && t->sizes[0] > 0 ? size_bytes / t->sizes[0] : 0;
	if (row_bytes == 0)
		return false;
	for (uint32_t i = 0; i < t->tile_count; i++) {
		const uint64_t *offsets = t->boxes + (size_t)i * 2 * t->ndim, *sizes = offsets + t->ndim;
		if (offsets[0] != at || sizes[0] > t->sizes[0] - at || t->tiles[i].slice_bytes < sizes[0] * row_bytes)
			return false;
		for (uint32_t d = 1; d < t->ndim; d++)
			if (offsets[d] != 0 || sizes[d] != t->sizes[d])
				return false;
		at += sizes[0];
	}
	return at == t->sizes[0];
}

int space_tiling_check(const struct wf_tiling *t, uint64_t *ret_size_bytes, struct wf_error *err)
{
	uint64_t elements;
	struct space_tiling made;
	if (t->ndim <= WF_MAX_NDIM && t->element_bytes > 0 && measure(t, &elements, ret_size_bytes, err) == 0 &&
	    are_rows(t, *ret_size_bytes))
		return 0;
	int r = space_tiling_make(t, &made, err);
	if (r == 0)
		*ret_size_bytes = made.size_bytes;
	space_tiling_free(&made);
	return r;
}

int space_tiling_make(const struct wf_tiling *from, struct space_tiling *ret, struct wf_error *err)
{
	*ret = (struct space_tiling){0};
	int r = make(from, ret, err);
	if (r < 0)
		space_tiling_free(ret);
	return r;
}

void space_tiling_free(struct space_tiling *t)
{
	free(t->tiles);
	free(t->sizes);
	*t = (struct space_tiling){0};
}
