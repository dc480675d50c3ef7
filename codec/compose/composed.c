/* SPDX-License-Identifier: MIT */
/* Reads a composed file at any offset: text from memory, pieces out of the checkpoint. */
#include "codec/compose/composed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/compose/inner.h"
#include "codec/tensor/layout.h"

#define COPY_BYTES (1u << 20) /* of what has to go through memory */
#define SMALL_BYTES 1024u     /* a tensor that is read with its neighbours */
#define WINDOW_LEAST 4096u
#define WINDOW_BYTES (64u << 10)
#define WINDOW_HITS 8u

int wf_composed_new(struct wf_composed **ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

void wf_composed_free(struct wf_composed *c)
{
	if (!c)
		return;
	wf_buffer_free(&c->text);
	wf_buffer_free(&c->skipped);
	free(c->pieces);
	free(c);
}

uint64_t wf_composed_size(const struct wf_composed *c)
{
	return c->size_bytes;
}

const struct wf_buffer *wf_composed_skipped(const struct wf_composed *c)
{
	return &c->skipped;
}

struct wf_buffer *wf_composed_text(struct wf_composed *c)
{
	return &c->text;
}

int wf_composed_reserve(struct wf_composed *c, size_t pieces)
{
	if (pieces <= c->capacity)
		return 0;
	struct wf_piece *bigger = reallocarray(c->pieces, pieces, sizeof *bigger);
	if (!bigger)
		return -ENOMEM;
	c->pieces = bigger;
	c->capacity = pieces;
	return 0;
}

static int add(struct wf_composed *c, uint64_t size_bytes, struct wf_piece piece)
{
	int r = c->count == c->capacity ? wf_composed_reserve(c, c->capacity ? c->capacity * 2 : 4) : 0;
	if (r < 0 || size_bytes == 0)
		return r;
	if (size_bytes > INT64_MAX - c->size_bytes)
		return -EFBIG;
	piece.start = c->size_bytes;
	c->pieces[c->count++] = piece;
	c->size_bytes += size_bytes;
	return 0;
}

/* The text since the last piece. */
static int add_text(struct wf_composed *c)
{
	uint64_t from = c->text_placed;
	int r = wf_buffer_status(&c->text);
	c->text_placed = c->text.len;
	return r < 0 ? r : add(c, c->text.len - from, (struct wf_piece){.kind = PIECE_TEXT, .from = from});
}

int wf_composed_tensor(struct wf_composed *c, wf_ino ino, enum wf_piece_form form, uint64_t size_bytes)
{
	int r = add_text(c);
	return r < 0 ? r : add(c, size_bytes, (struct wf_piece){.kind = PIECE_TENSOR, .what = ino, .form = form});
}

int wf_composed_storage(struct wf_composed *c, uint32_t storage, uint64_t offset, uint64_t size_bytes)
{
	int r = add_text(c);
	return r < 0 ? r
		     : add(c, size_bytes, (struct wf_piece){.kind = PIECE_STORAGE, .what = storage, .from = offset});
}

int wf_composed_finish(struct wf_composed *c)
{
	return add_text(c);
}

/* ---- pieces ---- */

static uint64_t end_of(const struct wf_composed *c, size_t i)
{
	return i + 1 < c->count ? c->pieces[i + 1].start : c->size_bytes;
}

/* Columns one after the other, and not rows. */
static bool is_by_columns(const struct wf_tensor *t)
{
	uint64_t step = 1;
	for (uint32_t d = 0; d < t->ndim; d++) {
		if (t->shape[d] != 1 && (uint64_t)t->stride[d] != step)
			return false;
		step *= (uint64_t)t->shape[d];
	}
	return !t->contiguous;
}

bool wf_piece_by_columns(const struct wf_tensor *t)
{
	/* of elements that are no numbers the last dimension counts bytes, and stays the last */
	struct wf_tensor outer = *t;
	if (t->record == WF_NIL || t->ndim == 0)
		return is_by_columns(t);
	outer.ndim--;
	int64_t bytes = t->shape[outer.ndim];
	for (uint32_t d = 0; d < outer.ndim; d++)
		outer.stride[d] = bytes > 0 ? outer.stride[d] / bytes : 0;
	return is_by_columns(&outer);
}

static void reverse(int64_t *p, uint32_t n)
{
	for (uint32_t i = 0; i < n / 2; i++) {
		int64_t swap = p[i];
		p[i] = p[n - 1 - i];
		p[n - 1 - i] = swap;
	}
}

/* *t becomes what wf_tensor_read reads the piece's bytes from. */
static void make_view(struct wf_tensor *t, enum wf_piece_form form)
{
	if (form == WF_PIECE_AS_SHOWN)
		return;
	t->swap = false;
	if (!wf_piece_by_columns(t))
		return;
	reverse(t->shape, wf_tensor_shown_ndim(t));
	reverse(t->stride, wf_tensor_shown_ndim(t));
	t->contiguous = true;
}

/* The tensor of a piece that ends at `size`, as it is now. */
static int view_of(const struct wf_checkpoint *ck, const struct wf_piece *p, uint64_t size, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, p->what);
	if (!n || n->type != WF_NODE_TENSOR)
		return -ESTALE;
	int r = wf_tensor_decode(ck->graph, ck->storages, n->object, ret, NULL);
	if (r < 0)
		return r == -ENOMEM ? r : -ESTALE; /* it was sound */
	if (ret->size_bytes != size || ret->kind == WF_TENSOR_META)
		return -ESTALE;
	make_view(ret, p->form);
	return 0;
}

static int read_tensor(struct wf_checkpoint *ck, const struct wf_tensor *t, uint64_t at, void *buf, size_t len)
{
	int r = wf_placement_read(ck->placement, t, at, buf, len); /* 1: it did */
	if (r == 0)
		r = wf_tensor_read(ck->storages, t, at, buf, len);
	return r < 0 ? r : 0;
}

/* Where a byte of a piece stands in a file, unchanged, and how many follow it there. */
static bool locate(const struct wf_checkpoint *ck, const struct wf_piece *p, const struct wf_tensor *t, uint64_t at,
		   struct wf_file_run *ret)
{
	if (p->kind == PIECE_STORAGE)
		return wf_storage_locate(ck->storages, p->what, p->from + at, ret);
	return t->contiguous && !t->conj && !t->neg && !t->swap && !wf_placement_has(ck->placement, t->storage) &&
	       wf_storage_locate(ck->storages, t->storage, wf_layout_start(t) + at, ret);
}

/* A part of the checkpoint's file that is read once for many small tensors, which stand in it close to each other: a tensor of 32 bytes is
 * 300 times as fast to copy as to read. It grows while that is so, and is a page where they are anywhere. */
struct window {
	unsigned char *data; /* NULL: none yet */
	uint64_t start;
	size_t len, most;
	uint32_t hits; /* since it was read */
};

static bool is_in(const struct window *w, const struct wf_file_run *run, size_t len)
{
	return run->offset >= w->start && run->offset - w->start <= w->len && w->len - (run->offset - w->start) >= len;
}

static int read_window(struct window *w, struct wf_source *file, const struct wf_file_run *run, void *buf, size_t len)
{
	if (!is_in(w, run, len)) {
		w->most = w->hits >= WINDOW_HITS ? WINDOW_BYTES : WF_MAX(w->most / 4, (size_t)WINDOW_LEAST);
		w->hits = 0;
		w->start = run->offset;
		w->len = 0;
		size_t n = (size_t)WF_MIN((uint64_t)w->most, wf_source_size(file) - run->offset);
		if (!w->data && !(w->data = malloc(WINDOW_BYTES)))
			return -ENOMEM;
		int r = wf_source_read(file, run->offset, w->data, n);
		if (r < 0)
			return r;
		w->len = n;
	}
	w->hits++;
	memcpy(buf, w->data + (run->offset - w->start), len);
	return 0;
}

/* Returns 1 when it has read it so; 0: it is to be read by itself. */
static int read_small(struct wf_checkpoint *ck, const struct wf_piece *p, const struct wf_tensor *t, uint64_t at,
		      void *buf, size_t len, struct window *w)
{
	struct wf_file_run run;
	struct wf_source *file = wf_container_file(ck->container);
	if (len > SMALL_BYTES || wf_container_is_directory(ck->container) || !locate(ck, p, t, at, &run))
		return 0;
	bool whole = run.len >= len && run.offset <= wf_source_size(file) && wf_source_size(file) - run.offset >= len;
	int r = whole ? read_window(w, file, &run, buf, len) : 0;
	wf_file_run_end(&run);
	return r < 0 ? r : whole;
}

static int read_piece(struct wf_checkpoint *ck, const struct wf_composed *c, size_t i, uint64_t at, void *buf,
		      size_t len, struct window *w)
{
	const struct wf_piece *p = &c->pieces[i];
	struct wf_tensor t;
	switch (p->kind) {
	case PIECE_TEXT:
		memcpy(buf, c->text.data + p->from + at, len);
		return 0;
	case PIECE_STORAGE:
		return wf_storage_read(ck->storages, p->what, p->from + at, buf, len);
	default:
		break;
	}
	int r = view_of(ck, p, end_of(c, i) - p->start, &t);
	if (r == 0)
		r = read_small(ck, p, &t, at, buf, len, w);
	return r < 0 ? r : r > 0 ? 0 : read_tensor(ck, &t, at, buf, len);
}

/* The piece that holds the byte. */
static size_t find(const struct wf_composed *c, uint64_t offset)
{
	size_t behind = wf_first_not(i, c->count, c->pieces[i].start <= offset);
	return behind ? behind - 1 : 0;
}

ssize_t wf_composed_read_locked(struct wf_checkpoint *ck, const struct wf_composed *c, uint64_t offset, void *buf,
				size_t len)
{
	unsigned char *out = buf;
	if (offset >= c->size_bytes)
		return 0;
	size_t rest = WF_MIN(len, c->size_bytes - offset), done = rest;
	struct window w = {.most = 4 * WINDOW_LEAST};
	int r = 0;
	for (size_t i = find(c, offset); rest > 0 && r == 0; i++) {
		size_t part = WF_MIN(rest, end_of(c, i) - offset);
		r = read_piece(ck, c, i, offset - c->pieces[i].start, out, part, &w);
		out += part;
		offset += part;
		rest -= part;
	}
	free(w.data);
	return r < 0 ? r : (ssize_t)done;
}

ssize_t wf_composed_read(struct wf_checkpoint *ck, const struct wf_composed *c, uint64_t offset, void *buf, size_t len)
{
	pthread_rwlock_rdlock(&ck->lock);
	ssize_t r = wf_composed_read_locked(ck, c, offset, buf, len);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

/* ---- all of it, to a file ---- */

/* Of a tensor or a storage. */
static int copy_piece(struct wf_checkpoint *ck, const struct wf_piece *p, uint64_t size, struct wf_out *out)
{
	uint64_t at = 0, len;
	struct wf_tensor t = {0};
	struct wf_file_run run;
	int r = p->kind == PIECE_TENSOR ? view_of(ck, p, size, &t) : 0;
	cleanup_free unsigned char *buf = NULL;
	while (r == 0 && at < size) {
		if (locate(ck, p, &t, at, &run)) {
			len = WF_MIN(run.len, size - at);
			r = wf_out_copy(out, run.fd, run.offset, len);
			wf_file_run_end(&run);
		} else {
			len = WF_MIN(size - at, (uint64_t)COPY_BYTES);
			if (!buf && !(buf = malloc(WF_MIN(size, (uint64_t)COPY_BYTES))))
				return -ENOMEM;
			r = p->kind == PIECE_TENSOR ? read_tensor(ck, &t, at, buf, len)
						    : wf_storage_read(ck->storages, p->what, p->from + at, buf, len);
			if (r == 0)
				r = wf_out_write(out, buf, len);
		}
		at += len;
	}
	return r;
}

int wf_composed_copy(struct wf_checkpoint *ck, const struct wf_composed *c, struct wf_out *out, struct wf_error *err)
{
	int r = 0;
	for (size_t i = 0; i < c->count && r == 0; i++) {
		const struct wf_piece *p = &c->pieces[i];
		uint64_t size = end_of(c, i) - p->start;
		r = p->kind == PIECE_TEXT ? wf_out_write(out, c->text.data + p->from, size)
					  : copy_piece(ck, p, size, out);
	}
	return r < 0 ? wf_fail(err, r, "cannot write the new file: %s", strerror(-r)) : 0;
}

int wf_composed_copy_tensor(struct wf_checkpoint *ck, wf_ino ino, uint64_t size_bytes, struct wf_out *out)
{
	return copy_piece(ck, &(struct wf_piece){.kind = PIECE_TENSOR, .what = ino, .form = WF_PIECE_AS_SHOWN},
			  size_bytes, out);
}
