/* SPDX-License-Identifier: MIT */
/* What is written inside of a tensor is in its place at once, for it changes neither size nor type. When more is written behind it that
 * does not fit, or a later write fails, the old bytes come back: those of the base are still there, and those of an earlier edit are
 * copied to a file without a name before they are overwritten. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/extents.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/edit/inner.h"

#define CHUNK (1u << 20)

struct wf_undo {
	uint32_t storage;
	int fd;                     /* of the copy, at the storage's own offsets; -1: nothing was copied */
	struct wf_extents *written; /* since the round began */
	struct wf_extents *copied;  /* of these */
};

void wf_edit_free_undo(struct wf_file *f)
{
	if (!f->undo)
		return;
	if (f->undo->fd >= 0)
		close(f->undo->fd);
	wf_extents_free(f->undo->written);
	wf_extents_free(f->undo->copied);
	free(f->undo);
	f->undo = NULL;
}

static int need_undo(struct wf_file *f, uint32_t storage)
{
	if (f->undo)
		return 0;
	f->undo = calloc(1, sizeof *f->undo);
	if (!f->undo)
		return -ENOMEM;
	f->undo->storage = storage;
	f->undo->fd = -1;
	int r = wf_extents_new(&f->undo->written);
	if (r == 0)
		r = wf_extents_new(&f->undo->copied);
	if (r < 0)
		wf_edit_free_undo(f);
	return r;
}

/* The next bytes of a file in [at, end) that are no hole; at the end: none. */
static int next_data(int fd, uint64_t at, uint64_t end, struct wf_extent *ret)
{
	off_t start = lseek(fd, (off_t)at, SEEK_DATA);
	if (start < 0 && errno != ENXIO)
		return -errno;
	*ret = (struct wf_extent){end, end};
	if (start < 0 || (uint64_t)start >= end)
		return 0;
	off_t stop = lseek(fd, start, SEEK_HOLE);
	if (stop < 0)
		return -errno;
	*ret = (struct wf_extent){(uint64_t)start, WF_MIN((uint64_t)stop, end)};
	return 0;
}

static int copy_bytes(int from, int to, const struct wf_extent *range, char *buf)
{
	int r = 0;
	for (uint64_t at = range->start; r == 0 && at < range->end; at += CHUNK) {
		size_t n = WF_MIN(range->end - at, (uint64_t)CHUNK);
		r = wf_pread_all(from, buf, n, at);
		if (r == 0)
			r = wf_pwrite_all(to, buf, n, at);
	}
	return r;
}

/* All of it was written by an edit. Terabytes of zeroes are a hole there, and in the copy. */
static int copy_out(struct wf_checkpoint *ck, struct wf_undo *u, uint64_t at, uint64_t end)
{
	int from;
	struct stat st;
	struct wf_extent data = {at, at};
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	if (r == 0 && u->fd < 0)
		r = wf_overlay_unnamed_file(ck->overlay, &u->fd);
	if (r == 0)
		r = wf_edit_open_extents(ck, u->storage, &from);
	while (r == 0 && data.end < end) {
		r = next_data(from, data.end, end, &data);
		if (r == 0)
			r = copy_bytes(from, u->fd, &data, buf);
	}
	if (r == 0 && (fstat(u->fd, &st) < 0 || ((uint64_t)st.st_size < end && ftruncate(u->fd, (off_t)end) < 0)))
		r = -errno;
	return r < 0 ? r : wf_extents_add(u->copied, at, end);
}

int wf_edit_before_write(void *ctx, uint32_t storage, uint64_t offset, uint64_t len)
{
	struct wf_checkpoint *ck = ctx;
	wf_ino ino = ck->edits->overwriting;
	struct wf_file *f = ino != WF_NO_INO ? wf_edit_known(ck, ino) : NULL;
	/* whichever call it is that writes: what stands inside a pickle that is kept as it is has to stay */
	int r = wf_edit_check_storage(ck, ck->edits->writing, storage);
	if (r == 0 && f)
		r = need_undo(f, storage);
	if (!f || r < 0 || f->undo->storage != storage)
		return r;
	struct wf_undo *u = f->undo;
	uint64_t end = offset + len, known_end, run_end;
	for (uint64_t at = offset; r == 0 && at < end; at = WF_MIN(known_end, run_end)) {
		bool known = wf_extents_find(u->written, at, &known_end);
		bool edited = wf_extents_find(wf_storage_get(ck->storages, storage)->dirty, at, &run_end);
		if (!known && edited)
			r = copy_out(ck, u, at, WF_MIN(end, WF_MIN(known_end, run_end)));
	}
	return r < 0 ? r : wf_extents_add(u->written, offset, end);
}

static int put_back_piece(struct wf_checkpoint *ck, const struct wf_undo *u, bool copied, uint64_t at, size_t n,
			  char *buf)
{
	int r = copied ? wf_pread_all(u->fd, buf, n, at) : wf_storage_read_clean(ck->storages, u->storage, at, buf, n);
	return r < 0 ? r : wf_storage_write(ck->storages, u->storage, at, buf, n);
}

static int put_back(struct wf_checkpoint *ck, const struct wf_undo *u, uint64_t at, uint64_t end, char *buf)
{
	int r = 0;
	while (r == 0 && at < end) {
		uint64_t run_end;
		bool copied = wf_extents_find(u->copied, at, &run_end);
		struct wf_extent data = {at, WF_MIN(end, run_end)};
		run_end = data.end;
		if (copied)
			r = next_data(u->fd, at, run_end, &data);
		if (r == 0 && data.start > at)
			r = wf_storage_zero(ck->storages, u->storage, at, data.start - at);
		for (at = data.start; r == 0 && at < data.end; at += CHUNK)
			r = put_back_piece(ck, u, copied, at, WF_MIN(data.end - at, (uint64_t)CHUNK), buf);
		at = data.end;
	}
	return r;
}

int wf_edit_undo(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || !f->undo)
		return 0;
	uint32_t n;
	const struct wf_extent *all = wf_extents_all(f->undo->written, &n);
	uint64_t size = wf_storage_get(ck->storages, f->undo->storage)->size_bytes;
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	ck->edits->writing = ino;
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = put_back(ck, f->undo, all[i].start, WF_MIN(all[i].end, size), buf);
	if (r == 0)
		wf_edit_free_undo(f);
	wf_edit_notify_changed(ck, ino);
	return r;
}
