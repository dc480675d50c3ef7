/* SPDX-License-Identifier: MIT */
/* Content that is read where it stands in another checkpoint's file. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/util.h"
#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/tensor/layout.h"

#define NOT_DONE 1
#define LEAST_BYTES (1u << 20) /* below that a copy costs nothing */

static bool is_file(const char *path, const struct stat *of)
{
	struct stat st;
	return path && stat(path, &st) == 0 && st.st_dev == of->st_dev && st.st_ino == of->st_ino;
}

/* The tensor's bytes as a source of its own. The file is another than ck's, which a commit may change in its place. */
static int find_bytes(const struct wf_checkpoint *ck, struct wf_checkpoint *from, wf_ino ino, struct wf_source **ret)
{
	struct wf_file_run run = WF_FILE_RUN_INIT;
	struct wf_source *file = NULL;
	struct wf_tensor t;
	struct stat st;
	if (wf_edit_tensor(from, ino, &t) < 0 || t.size_bytes < LEAST_BYTES ||
	    !wf_tensor_locate(from->storages, &t, &run))
		return NOT_DONE;
	int fd = run.len >= t.size_bytes ? fcntl(run.fd, F_DUPFD_CLOEXEC, 0) : -1;
	uint64_t offset = run.offset;
	wf_file_run_end(&run);
	if (fd < 0)
		return NOT_DONE;
	if (fstat(fd, &st) < 0 || is_file(ck->path, &st) || is_file(ck->output, &st) ||
	    wf_source_from_fd(fd, &file, NULL) < 0) {
		close(fd);
		return NOT_DONE;
	}
	int r = wf_source_slice(file, offset, t.size_bytes, ret);
	wf_source_unref(file);
	return r < 0 ? NOT_DONE : 0;
}

static int take(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o, struct wf_source *bytes)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	int r = f ? wf_edit_resume(ck, ino, o) : -ENOMEM;
	if (r == 0)
		r = wf_edit_hold(ck, ino, UINT64_MAX);
	if (r == 0)
		r = wf_edit_keep_old(ck, ino);
	if (r == 0)
		r = wf_edit_hold_bytes(ck, ino);
	if (r == 0 && (f->pending != PENDING_BYTES || wf_edit_size(ck, ino) > 0))
		r = NOT_DONE;
	if (r == 0 && wf_storage_give(ck->storages, f->storage, bytes) < 0)
		r = NOT_DONE;
	f->touched |= r == 0;
	return r;
}

int wf_write_from(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, struct wf_checkpoint *from,
		  uint32_t from_ino)
{
	struct wf_source *bytes = NULL;
	/* a log could not say where they are */
	if (ck == from || !ck->at_once)
		return NOT_DONE;
	pthread_rwlock_rdlock(&from->lock);
	int r = find_bytes(ck, from, from_ino, &bytes);
	pthread_rwlock_unlock(&from->lock);
	if (r != 0)
		return r;
	r = wf_edit_begin(ck);
	if (r == 0) {
		r = take(ck, ino, o, bytes);
		if (r == 0)
			wf_edit_stamp(ck, ino, true);
		wf_edit_end(ck);
	}
	wf_source_unref(bytes);
	return r;
}
