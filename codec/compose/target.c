/* SPDX-License-Identifier: MIT */
/* Makes a new file under a temporary name, and gives it its own when it is whole. */
#include "codec/compose/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/bytes/crc32.h"
#include "codec/bytes/util.h"

#define PIECE_BYTES (1u << 20)

/* ---- the new file ---- */

static int open_home(const char *path, struct wf_error *err)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	int home = directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	return home < 0 ? wf_fail(err, directory ? -errno : -ENOMEM, "the directory of %s: %s", path, strerror(errno))
			: home;
}

int wf_target_open(struct wf_target *t, const char *path, uint64_t size_bytes, const struct wf_export *x, int like,
		   struct wf_error *err)
{
	*t = (struct wf_target){.file = WF_NEW_FILE_INIT};
	int home = open_home(path, err);
	if (home < 0)
		return home;
	int r = wf_new_file_open(&t->file, path, home, err);
	if (r < 0)
		return r;
	if ((r = wf_out_init(&t->out, t->file.fd, 0, x->done_bytes)) < 0)
		return wf_fail(err, r, "out of memory");
	if (like >= 0)
		wf_out_probe_clone(&t->out, like);
	r = wf_out_reserve(&t->out, size_bytes, false);
	return r < 0 ? wf_fail(err, r, "%s needs %llu bytes: %s", path, (unsigned long long)size_bytes, strerror(-r))
		     : 0;
}

/* As the file that it takes the name of, or as a new one. */
static int dress(const struct wf_target *t, const struct wf_export *x, struct wf_error *err)
{
	cleanup_fd int old = open(t->file.target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (old >= 0)
		return wf_new_file_dress(&t->file, old, err);
	return fchmod(t->file.fd, x->mode) < 0 && errno != EPERM
		       ? wf_fail(err, -errno, "cannot set its mode: %s", strerror(errno))
		       : 0;
}

int wf_target_complete(struct wf_target *t, const struct wf_export *x, struct wf_error *err)
{
	int r = wf_out_finish(&t->out);
	if (r == 0 && fsync(t->file.fd) < 0)
		r = -errno;
	return r < 0 ? wf_fail(err, r, "cannot write the new file: %s", strerror(-r)) : dress(t, x, err);
}

int wf_target_finish(struct wf_target *t, const struct wf_export *x, struct wf_error *err)
{
	bool renamed;
	int r = wf_target_complete(t, x, err);
	return r < 0 ? r : wf_new_file_rename(&t->file, &renamed, err);
}

void wf_target_free(struct wf_target *t)
{
	wf_out_free(&t->out);
	wf_new_file_free(&t->file);
}

/* ---- records of a zip ---- */

int wf_put_bytes(struct wf_zip_writer *zip, const char *name, const void *data, size_t len)
{
	struct wf_zip_entry e;
	wf_zip_entry_init(&e, name, strlen(name), len);
	e.crc32 = wf_crc32(0, data, len);
	int r = wf_zip_begin(zip, &e, 0, 0);
	if (r == 0)
		r = wf_out_write(zip->out, data, len);
	return r < 0 ? r : wf_zip_end(zip, &e);
}

/* The whole of a record of the checkpoint as it is stored, whose sum is known. */
static bool is_record(struct wf_checkpoint *ck, const struct wf_composed *c, struct wf_file_run *ret,
		      uint32_t *ret_crc32)
{
	const struct wf_piece *p = c->pieces;
	if (c->count != 1 || p->kind != PIECE_STORAGE || p->from != 0)
		return false;
	const struct wf_record *record = wf_storage_record(ck->storages, p->what);
	if (!record || !record->has_crc || record->crc32 == 0 || record->size_bytes != c->size_bytes ||
	    !wf_storage_locate(ck->storages, p->what, 0, ret) || ret->len < c->size_bytes)
		return false;
	*ret_crc32 = record->crc32;
	return true;
}

static int put_summed(struct wf_checkpoint *ck, struct wf_zip_writer *zip, const struct wf_composed *c,
		      uint32_t *ret_crc32)
{
	size_t most = (size_t)WF_MIN(c->size_bytes, (uint64_t)PIECE_BYTES);
	cleanup_free unsigned char *piece = malloc(most + 1);
	if (!piece)
		return -ENOMEM;
	for (uint64_t at = 0; at < c->size_bytes;) {
		ssize_t n = wf_composed_read_locked(ck, c, at, piece, most);
		int r = n < 0 ? (int)n : wf_out_write(zip->out, piece, (size_t)n);
		if (r < 0)
			return r;
		*ret_crc32 = wf_crc32(*ret_crc32, piece, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

int wf_put_composed(struct wf_checkpoint *ck, struct wf_zip_writer *zip, const char *name, size_t name_len,
		    const struct wf_composed *c, struct wf_error *err)
{
	struct wf_zip_entry e;
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	uint64_t block = zip->out->clone_block;
	wf_zip_entry_init(&e, name, name_len, c->size_bytes);
	bool whole = is_record(ck, c, &run, &e.crc32);
	bool clones = whole && block > zip->alignment && block <= 16384 && run.offset % zip->alignment == 0;
	int r = wf_zip_begin(zip, &e, clones ? block : 0, clones ? run.offset % block : 0);
	if (r == 0)
		r = whole ? wf_out_copy(zip->out, run.fd, run.offset, c->size_bytes) : put_summed(ck, zip, c, &e.crc32);
	if (r == 0)
		r = wf_zip_end(zip, &e);
	return r < 0 ? wf_fail(err, r, "cannot write %.*s: %s", (int)WF_MIN(name_len, (size_t)200), name, strerror(-r))
		     : 0;
}
