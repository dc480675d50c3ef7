/* SPDX-License-Identifier: MIT */
/* Reads and finds the bytes of an address space: which piece an offset is in, and what of which member it is. */
#include "codec/directory/space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/space_inner.h"

#define MAX_PIECES (1u << 24)
/* So much of a tile is read at once before it is spread; longer runs go straight to their place. */
#define BOUNCE_BYTES (1u << 20)
#define DIRECT_BYTES (64u << 10)
/* A shorter run is not worth being moved in the kernel. */
#define MIN_RUN_BYTES (64u << 10)

struct piece {
	uint64_t start, size_bytes;
	uint32_t member;                     /* of a whole file */
	uint32_t number;                     /* of tiles that are asked for when they are needed */
	bool tiled;                          /* no whole file */
	struct space_tiling *_Atomic tiling; /* NULL: not asked for yet */
	struct wf_source *source;            /* of a whole file that stays open; NULL: the member is opened */
};

struct wf_space {
	struct wf_members *members;
	const struct wf_space_ops *ops;
	void *ctx;
	struct piece *pieces;
	uint32_t count, capacity;
	uint64_t size_bytes;
	bool has_print;
	struct wf_fingerprint print;
};

int wf_space_new(struct wf_members *m, const struct wf_space_ops *ops, void *ctx, struct wf_space **ret,
		 struct wf_error *err)
{
	struct wf_space *s = calloc(1, sizeof *s);
	if (!s)
		return wf_fail(err, -ENOMEM, "out of memory");
	s->members = m;
	s->ops = ops;
	s->ctx = ctx;
	*ret = s;
	return 0;
}

static void free_tiling(struct space_tiling *t)
{
	if (t)
		space_tiling_free(t);
	free(t);
}

void wf_space_free(struct wf_space *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->count; i++) {
		wf_source_unref(s->pieces[i].source);
		free_tiling(s->pieces[i].tiling);
	}
	free(s->pieces);
	wf_members_unref(s->members);
	free(s);
}

struct wf_members *wf_space_members(struct wf_space *s)
{
	return s->members;
}

uint64_t wf_space_size(const struct wf_space *s)
{
	return s->size_bytes;
}

static int add_piece(struct wf_space *s, struct piece piece, uint64_t *ret_start, struct wf_error *err)
{
	uint64_t end;
	if (wf_add_u64(s->size_bytes, piece.size_bytes, &end) || end > INT64_MAX)
		return wf_fail(err, -E2BIG, "all files together are larger than 2^63 bytes");
	int r = wf_array_reserve(&s->pieces, &s->capacity, (uint64_t)s->count + 1, sizeof *s->pieces, MAX_PIECES);
	if (r < 0)
		return wf_fail(err, r, r == -E2BIG ? "more than %u tensors and files" : "out of memory", MAX_PIECES);
	*ret_start = piece.start = s->size_bytes;
	s->pieces[s->count++] = piece;
	s->size_bytes = end;
	return 0;
}

int wf_space_add_file(struct wf_space *s, uint32_t member, uint64_t *ret_start, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	int r = wf_members_open(s->members, member, &file, err);
	if (r < 0)
		return r;
	if (!s->has_print)
		wf_source_fingerprint(file, &s->print);
	s->has_print = true;
	return add_piece(s, (struct piece){.size_bytes = wf_source_size(file), .member = member}, ret_start, err);
}

int wf_space_add_source(struct wf_space *s, struct wf_source *file, uint64_t *ret_start, struct wf_error *err)
{
	int r = add_piece(s, (struct piece){.size_bytes = wf_source_size(file), .member = UINT32_MAX, .source = file},
			  ret_start, err);
	if (r < 0)
		return r;
	wf_source_ref(file);
	if (!s->has_print)
		wf_source_fingerprint(file, &s->print);
	s->has_print = true;
	return 0;
}

int wf_space_add_tiles(struct wf_space *s, const struct wf_tiling *t, uint64_t *ret_start, struct wf_error *err)
{
	struct space_tiling *copy = calloc(1, sizeof *copy);
	if (!copy)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = space_tiling_make(t, copy, err);
	if (r == 0)
		r = add_piece(s, (struct piece){.size_bytes = copy->size_bytes, .tiled = true, .tiling = copy},
			      ret_start, err);
	if (r < 0)
		free_tiling(copy);
	else
		copy->start = *ret_start;
	return r;
}

int wf_space_add_tiles_later(struct wf_space *s, const struct wf_tiling *t, uint32_t number, uint64_t *ret_start,
			     struct wf_error *err)
{
	uint64_t size_bytes;
	int r = space_tiling_check(t, &size_bytes, err);
	if (r < 0)
		return r;
	return add_piece(s, (struct piece){.size_bytes = size_bytes, .tiled = true, .number = number}, ret_start, err);
}

static int make_tiling(void *arg, const struct wf_tiling *t)
{
	return space_tiling_make(t, arg, NULL);
}

/* NULL: there is no memory for it. Of two threads that make it at once, one is thanked. */
static struct space_tiling *tiling_of(struct wf_space *s, struct piece *p)
{
	struct space_tiling *t = atomic_load_explicit(&p->tiling, memory_order_acquire), *none = NULL;
	if (t)
		return t;
	t = calloc(1, sizeof *t);
	if (!t || s->ops->tiles(s->ctx, p->number, make_tiling, t) < 0) {
		free(t);
		return NULL;
	}
	t->start = p->start;
	if (atomic_compare_exchange_strong(&p->tiling, &none, t))
		return t;
	free_tiling(t);
	return none;
}

/* The piece that the byte at `at` is in; there is one. Pieces without bytes are passed over. */
static uint32_t find_piece(const struct wf_space *s, uint64_t at)
{
	uint32_t behind = wf_first_not(i, s->count, s->pieces[i].start <= at);
	return behind ? behind - 1 : 0;
}

uint32_t wf_space_member_of(struct wf_space *s, uint64_t start, uint64_t len, uint32_t k)
{
	if (start > s->size_bytes || len > s->size_bytes - start || s->count == 0)
		return UINT32_MAX;
	struct piece *p = &s->pieces[find_piece(s, start)];
	if (!p->tiled)
		return k == 0 ? p->member : UINT32_MAX;
	const struct space_tiling *t = tiling_of(s, p);
	uint32_t told = 0, last = UINT32_MAX;
	for (uint32_t i = 0; t && i < t->tile_count; i++) {
		const struct space_tile *tile = &t->tiles[i];
		if (tile->last <= start - p->start || tile->first >= start - p->start + len || tile->member == last)
			continue;
		last = tile->member;
		if (told++ == k)
			return last;
	}
	return UINT32_MAX;
}

/* ---- reading ---- */

static struct wf_space_slice slice_of(const struct space_tiling *t, const struct space_tile *tile)
{
	return (struct wf_space_slice){.whole = t->start,
				       .offset = tile->slice,
				       .size_bytes = tile->slice_bytes,
				       .want_bytes = space_tile_bytes(t, tile),
				       .member = tile->member};
}

static int data_of(struct wf_space *s, const struct space_tiling *t, struct space_tile *tile, uint64_t *ret_at,
		   struct wf_error *err)
{
	uint64_t at = atomic_load_explicit(&tile->at, memory_order_relaxed), end;
	if (at == UINT64_MAX) {
		const struct wf_space_slice slice = slice_of(t, tile);
		int r = s->ops ? s->ops->resolve(s->ctx, s->members, &slice, &at, err) : -EUCLEAN;
		if (r < 0)
			return r;
		if (at != WF_SPACE_SCATTERED && (wf_add_u64(at, slice.want_bytes, &end) || at < tile->slice ||
						 end > tile->slice + tile->slice_bytes))
			return -EUCLEAN;
		atomic_store_explicit(&tile->at, at, memory_order_relaxed);
	}
	*ret_at = at;
	return 0;
}

/* Where the data of a tile is read: in a file, or through the slice that it is scattered in. */
struct tile_data {
	struct wf_space *space;
	struct wf_space_slice slice;
	struct wf_source *file;
	uint64_t at;
};

static int read_data(const struct tile_data *d, uint64_t from, void *buf, size_t len)
{
	if (d->at != WF_SPACE_SCATTERED)
		return wf_source_read(d->file, d->at + from, buf, len);
	return d->space->ops->read(d->space->ctx, d->space->members, &d->slice, from, buf, len, NULL);
}

/* The bytes [from, to) of the tile to their places of the whole, of which buf has what begins at `start`. */
static int spread(const struct space_tiling *t, const struct space_tile *tile, const struct tile_data *data,
		  uint64_t from, uint64_t to, uint64_t start, unsigned char *buf)
{
	cleanup_free unsigned char *bounce = NULL;
	while (from < to) {
		uint64_t run, place = space_tile_place(t, tile, from, &run);
		run = WF_MIN(run, to - from);
		if (run >= DIRECT_BYTES || run == to - from) {
			int r = read_data(data, from, buf + (place - start), (size_t)run);
			if (r < 0)
				return r;
			from += run;
			continue;
		}
		size_t n = (size_t)WF_MIN(to - from, (uint64_t)BOUNCE_BYTES);
		if (!bounce && !(bounce = malloc(n)))
			return -ENOMEM;
		int r = read_data(data, from, bounce, n);
		if (r < 0)
			return r;
		for (size_t done = 0; done < n; done += (size_t)run) {
			place = space_tile_place(t, tile, from + done, &run);
			run = WF_MIN(run, n - done);
			memcpy(buf + (place - start), bounce + done, (size_t)run);
		}
		from += n;
	}
	return 0;
}

static int read_tile(struct wf_space *s, const struct space_tiling *t, struct space_tile *tile, uint64_t start,
		     uint64_t end, unsigned char *buf)
{
	uint64_t from = space_tile_before(t, tile, start), to = space_tile_before(t, tile, end);
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	struct tile_data data = {.space = s, .slice = slice_of(t, tile)};
	if (from == to)
		return 0;
	int r = data_of(s, t, tile, &data.at, NULL);
	if (r == 0)
		r = wf_members_open(s->members, tile->member, &file, NULL);
	data.file = file;
	return r < 0 ? r : spread(t, tile, &data, from, to, start, buf);
}

static int read_tiles(struct wf_space *s, const struct space_tiling *t, uint64_t start, unsigned char *buf, size_t len)
{
	uint64_t end = start + len;
	int r = 0;
	if (t->runs) {
		for (struct space_tile *tile = space_tiling_find(t, start); r == 0 && start < end; tile++) {
			uint64_t stop = WF_MIN(tile->last, end);
			r = read_tile(s, t, tile, start, stop, buf);
			buf += stop - start;
			start = stop;
		}
		return r;
	}
	for (uint32_t i = 0; i < t->tile_count && r == 0 && t->tiles[i].first < end; i++)
		if (t->tiles[i].last > start)
			r = read_tile(s, t, &t->tiles[i], start, end, buf);
	return r;
}

static int read_piece(struct wf_space *s, struct piece *p, uint64_t at, unsigned char *buf, size_t len)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	if (p->tiled) {
		const struct space_tiling *t = tiling_of(s, p);
		return t ? read_tiles(s, t, at, buf, len) : -ENOMEM;
	}
	if (p->source)
		return wf_source_read(p->source, at, buf, len);
	int r = wf_members_open(s->members, p->member, &file, NULL);
	return r < 0 ? r : wf_source_read(file, at, buf, len);
}

static int space_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	struct wf_space *s = ctx;
	unsigned char *out = buf;
	for (uint32_t i = find_piece(s, offset); len > 0; i++) {
		struct piece *p = &s->pieces[i];
		size_t n = (size_t)WF_MIN((uint64_t)len, p->start + p->size_bytes - offset);
		int r = n > 0 ? read_piece(s, p, offset - p->start, out, n) : 0;
		if (r < 0)
			return r;
		offset += n;
		out += n;
		len -= n;
	}
	return 0;
}

/* ---- why not ---- */

int wf_space_why(struct wf_space *s, uint64_t start, uint64_t len, struct wf_error *err)
{
	if (start >= s->size_bytes || len == 0 || s->count == 0)
		return 0;
	struct piece *p = &s->pieces[find_piece(s, start)];
	uint64_t from = start - p->start, at;
	int r = 0;
	if (!p->tiled)
		return p->source ? 0 : wf_members_check(s->members, p->member, err);
	const struct space_tiling *t = tiling_of(s, p);
	if (!t)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < t->tile_count && r == 0; i++) {
		struct space_tile *tile = &t->tiles[i];
		if (tile->last <= from || tile->first - WF_MIN(tile->first, from) >= len)
			continue;
		r = wf_members_check(s->members, tile->member, err);
		if (r == 0)
			r = data_of(s, t, tile, &at, err);
	}
	return r;
}

/* ---- finding ---- */

static bool locate_tile(struct wf_space *s, const struct space_tiling *t, uint64_t at, bool any,
			struct wf_file_run *ret)
{
	struct space_tile *tile = space_tiling_find(t, at);
	uint64_t local, run, data;
	struct wf_source *file;
	if (!tile)
		return false;
	local = space_tile_before(t, tile, at);
	space_tile_place(t, tile, local, &run);
	if (!any && !t->runs && run < MIN_RUN_BYTES)
		return false;
	if (data_of(s, t, tile, &data, NULL) < 0 || data == WF_SPACE_SCATTERED ||
	    wf_members_open(s->members, tile->member, &file, NULL) < 0)
		return false;
	bool found = wf_source_locate(file, data + local, ret);
	ret->len = found ? WF_MIN(ret->len, run) : 0;
	wf_source_unref(file);
	return found;
}

static bool find_run(struct wf_space *s, uint64_t offset, bool any, struct wf_file_run *ret)
{
	struct wf_source *file;
	struct piece *p = &s->pieces[find_piece(s, offset)];
	if (p->tiled) {
		const struct space_tiling *t = tiling_of(s, p);
		return t && locate_tile(s, t, offset - p->start, any, ret);
	}
	if (p->source)
		return wf_source_locate(p->source, offset - p->start, ret);
	if (wf_members_open(s->members, p->member, &file, NULL) < 0)
		return false;
	bool found = wf_source_locate(file, offset - p->start, ret);
	wf_source_unref(file);
	return found;
}

static bool space_locate(void *ctx, uint64_t offset, struct wf_file_run *ret)
{
	return find_run(ctx, offset, false, ret);
}

static bool space_find_run(void *ctx, uint64_t offset, struct wf_file_run *ret)
{
	return find_run(ctx, offset, true, ret);
}

static void space_fingerprint(void *ctx, struct wf_fingerprint *ret)
{
	const struct wf_space *s = ctx;
	*ret = s->print;
}

static void space_free(void *ctx)
{
	wf_space_free(ctx);
}

int wf_space_source(struct wf_space *s, struct wf_source **ret)
{
	static const struct wf_source_ops ops = {.read = space_read,
						 .locate = space_locate,
						 .find_run = space_find_run,
						 .fingerprint = space_fingerprint,
						 .free = space_free};
	return wf_source_from_ops(&ops, s, s->size_bytes, ret);
}
