/* SPDX-License-Identifier: MIT */
/* Content: open, read, write, flush, sync. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>

#include "changed.h"
#include "control.h"
#include "errors.h"
#include "fs.h"
#include "inode.h"
#include "invalidate.h"
#include "log.h"
#include "ops.h"
#include "releases.h"
#include "reply.h"
#include "write_behind.h"

#define MAPPED_MIN (64u << 10) /* bytes of a read; of fewer a copy is nothing */

enum wf_access fs_access(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) == O_RDONLY ? WF_READS : fi->flags & O_APPEND ? WF_APPENDS : WF_WRITES;
}

/* An opening for writing; NULL for readers. Most requests do not say how the file was opened. */
static struct wf_opening *opening(const struct fuse_file_info *fi)
{
	return fi ? (struct wf_opening *)(uintptr_t)fi->fh : NULL;
}

void fs_choose_cache(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct wf_stat st;
	/* texts stay cached: their sizes are not those of what is being written */
	fi->direct_io = fs->options.direct_io && wf_getattr(fs->checkpoint, (uint32_t)ino, &st) == 0 && st.tensor;
	fi->keep_cache = !fi->direct_io; /* whatever changes a page elsewhere tells the kernel so */
}

/* On a read-only mount open is answered once with ENOSYS: the kernel then opens by itself, for nothing there counts
 * openers, and an open-read-close of cached bytes needs no message at all. */
static void op_open_read_only(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fs_is_control(ino))
		fs_control_open(req, ino, fi);
	else if (fs_of(req)->options.map_location || fs_of(req)->options.direct_io) {
		fs_choose_cache(fs_of(req), ino, fi);
		fuse_reply_open(req, fi); /* leases in .weightfs/cuda are opens that count */
	} else
		fuse_reply_err(req, ENOSYS);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	if (fs_is_control(ino)) {
		fs_control_open(req, ino, fi);
		return;
	}
	struct wf_opening *o = NULL;
	int r = wf_open_file(fs->checkpoint, (uint32_t)ino, fs_access(fi), &o);
	int error = fs_outcome(fs, ino, "open", NULL, r);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	fi->fh = (uintptr_t)o;
	fs_choose_cache(fs, ino, fi);
	if (fuse_reply_open(req, fi) == -ENOENT)
		wf_release(fs->checkpoint, (uint32_t)ino, o); /* the caller was interrupted: no release will come */
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fs_is_control(ino))
		fs_control_release(fs_of(req), ino, fi);
	else if (fs_of(req)->writable) {
		wf_release(fs_of(req)->checkpoint, (uint32_t)ino, opening(fi));
		fs_edited(fs_of(req)); /* the last one can settle content */
	}
	fs_released(fs_of(req));
	fuse_reply_err(req, 0);
}

struct lent {
	fuse_req_t req;
	size_t len;
	int r; /* of the reply */
};

static void reply_lent(void *ctx, const void *data, size_t len)
{
	struct lent *l = ctx;
	l->len = len;
	l->r = fuse_reply_buf(l->req, data, len);
}

/* Out of a mapping, which saves one of the two copies. false: the request waits for its answer. */
static bool reply_mapped(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off)
{
	struct fs *fs = fs_of(req);
	struct lent l = {.req = req};
	if (!wf_lend(fs->checkpoint, (uint32_t)ino, (uint64_t)off, size, reply_lent, &l))
		return false;
	if (l.r == -EFAULT) /* the kernel has answered EIO */
		fs_log_only_here(
			fs, "read of %zu bytes at %lld: the checkpoint has become shorter, or cannot be read there",
			l.len, (long long)off);
	return true;
}

/* Through a buffer, because how the bytes get into the reply hardly counts: a cold read costs the kernel's 4 KiB pages, a
 * copy into each of them and one out. direct_io doubles that speed and makes every later read as slow as the first; there the copy counts. */
static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	if (fs_is_control(ino)) {
		fs_control_read(req, ino, size, off, fi);
		return;
	}
	if (fs->options.direct_io && size >= MAPPED_MIN && reply_mapped(req, ino, size, off))
		return;
	char *buf = fs_thread_buffer();
	ssize_t n = buf ? wf_read(fs->checkpoint, (uint32_t)ino, (uint64_t)off, buf,
				  size < FS_READ_MAX ? size : FS_READ_MAX)
			: -ENOMEM;
	fs_reply_bytes(req, ino, buf, n);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	if (fs_is_control(ino)) {
		fs_control_write(req, ino, buf, size, off);
		return;
	}
	ssize_t n = wf_write(fs->checkpoint, (uint32_t)ino, opening(fi), (uint64_t)off, buf, size);
	fs_changed_npy(fs, (uint32_t)ino);
	/* kernels before 6.6 keep the pages that another handle, or a mapping, has of the file */
	if (fs->options.direct_io && n > 0)
		fs_invalidate_node(fs, ino, (uint64_t)off, (uint64_t)n);
	fs_settle(fs);
	fs_reply_written(req, ino, n);
}

/* Of a file of .weightfs that was opened for writing. */
static int flush_control(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	return fi && fi->fh ? fs_control_flush(fs_of(req), ino) : 0;
}

/* A reader's close ends nobody's text; a writer's that waits for nothing costs a look. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int r = fs_is_control(ino) ? flush_control(req, ino, fi)
				   : wf_flush(fs_of(req)->checkpoint, (uint32_t)ino, opening(fi));
	fs_settle_close(fs_of(req));
	fuse_reply_err(req, fs_outcome(fs_of(req), ino, "close", NULL, r));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int r = 0;
	if (fs->writable) {
		r = fs_is_control(ino)
			    ? flush_control(req, ino, fi)
			    : wf_flush(fs->checkpoint, (uint32_t)ino, opening(fi)); /* text that does not parse */
		if (r == 0)
			r = wf_sync(fs->checkpoint);
	}
	fs_settle_close(fs_of(req));
	fuse_reply_err(req, fs_outcome(fs, ino, "fsync", NULL, r));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	int r = fs_is_control(ino) ? -EOPNOTSUPP
				   : wf_allocate(fs_of(req)->checkpoint, (uint32_t)ino, opening(fi), mode,
						 (uint64_t)offset, (uint64_t)length);
	fs_settle(fs_of(req));
	fuse_reply_err(req, fs_outcome(fs_of(req), ino, "fallocate", NULL, r));
}

void fs_ops_data(struct fuse_lowlevel_ops *ops, bool writable)
{
	ops->open = writable ? op_open : op_open_read_only;
	ops->read = op_read;
	ops->release = op_release;
	ops->fsync = op_fsync;
	ops->fsyncdir = op_fsync;
	ops->write = op_write; /* .weightfs/commit takes writes on every mount */
	if (!writable)
		return;
	ops->flush = op_flush;
	ops->fallocate = op_fallocate;
}
