/* SPDX-License-Identifier: MIT */
/* The bytes of a safetensors file that is changed in its place, in the order that overlay/overlay.h tells of wf_overlay_rewrite. */
#include "codec/commit/inner.h"

#include <errno.h>
#include <fcntl.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

#define PIECE_BYTES (1u << 20)

struct rewriting {
	const struct wf_plan *p;
	int fd;
	_Atomic uint64_t *done_bytes; /* may be NULL */
	struct wf_error *err;
	unsigned char *buf;
};

static int cannot_write(const struct rewriting *w, int r)
{
	return wf_fail(w->err, r, "cannot write to the checkpoint: %s", strerror(-r));
}

/* [start, end) of a tensor, as it is read now. */
static int write_range(const struct rewriting *w, uint32_t i, uint64_t start, uint64_t end)
{
	const struct wf_plan *p = w->p;
	uint32_t storage = p->parts[i].storage;
	for (uint64_t at = start; at < end;) {
		size_t n = (size_t)WF_MIN(end - at, (uint64_t)PIECE_BYTES);
		int r = wf_storage_read(p->in.storages, storage, at, w->buf, n);
		if (r < 0)
			return wf_fail_at(w->err, r, wf_storage_key(p->in.storages, storage), at,
					  "cannot read the storage: %s", strerror(-r));
		r = wf_pwrite_all(w->fd, w->buf, n, p->data_start + p->items[i].begin + at);
		if (r < 0)
			return cannot_write(w, r);
		if (w->done_bytes)
			atomic_fetch_add_explicit(w->done_bytes, n, memory_order_relaxed);
		at += n;
	}
	return 0;
}

static int write_patched(const struct rewriting *w, uint32_t i)
{
	uint32_t n;
	const struct wf_extent *e =
		wf_extents_all(wf_storage_get(w->p->in.storages, w->p->parts[i].storage)->dirty, &n);
	int r = 0;
	for (uint32_t k = 0; k < n && r == 0; k++)
		r = write_range(w, i, e[k].start, e[k].end);
	return r;
}

/* In the order of the data: the file grows by what is next to it. */
static int write_all(const struct rewriting *w, enum wf_way way)
{
	const struct wf_plan *p = w->p;
	int r = 0;
	for (uint32_t k = 0; k < p->count && r == 0; k++) {
		uint32_t i = p->data_order[k];
		if (p->ways[i] == way)
			r = way == WF_WAY_PATCHED ? write_patched(w, i) : write_range(w, i, 0, p->items[i].size_bytes);
	}
	return r;
}

static int make_durable(const struct rewriting *w)
{
	return fsync(w->fd) < 0 ? cannot_write(w, -errno) : 0;
}

/* Behind all that is there, and not over what is to be cut off. */
static bool grows_freely(const struct wf_plan *p)
{
	return p->rewrite.final_bytes >= p->rewrite.grown_bytes;
}

int wf_grow_safetensors(const struct wf_plan *p, int fd, _Atomic uint64_t *done_bytes, struct wf_error *err)
{
	struct rewriting w = {.p = p, .fd = fd, .done_bytes = done_bytes, .err = err};
	cleanup_free unsigned char *buf = w.buf = malloc(PIECE_BYTES);
	if (!buf)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = grows_freely(p) ? write_all(&w, WF_WAY_GROWS) : 0;
	if (r == 0)
		r = write_all(&w, WF_WAY_PATCHED);
	return r < 0 ? r : make_durable(&w);
}

static int write_head(const struct rewriting *w)
{
	const struct wf_plan *p = w->p;
	uint64_t inserted = p->rewrite.inserted;
	if (p->rewrite.head_bytes == 0)
		return 0;
	if (inserted > 0 && fallocate(w->fd, FALLOC_FL_INSERT_RANGE, 0, (off_t)inserted) < 0)
		return wf_fail(w->err, -errno, "cannot make room for the longer header in the file: %s",
			       strerror(errno));
	/* before the old head is written over, where it stands is on the disk: by that the next opening knows how far this came */
	int r = inserted > 0 ? make_durable(w) : 0;
	if (r < 0)
		return r;
	r = wf_pwrite_all(w->fd, p->head.data, p->head.len, 0);
	return r < 0 ? cannot_write(w, r) : 0;
}

int wf_rewrite_safetensors(const struct wf_plan *p, int fd, struct wf_error *err)
{
	struct rewriting w = {.p = p, .fd = fd, .err = err};
	cleanup_free unsigned char *buf = w.buf = malloc(PIECE_BYTES);
	if (!buf)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = write_all(&w, WF_WAY_REUSES);
	if (r == 0 && !grows_freely(p))
		r = write_all(&w, WF_WAY_GROWS);
	if (r == 0)
		r = write_head(&w);
	if (r == 0 && p->rewrite.final_bytes < p->rewrite.grown_bytes &&
	    ftruncate(fd, (off_t)p->rewrite.final_bytes) < 0)
		r = cannot_write(&w, -errno);
	return r < 0 ? r : make_durable(&w);
}
