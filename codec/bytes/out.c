/* SPDX-License-Identifier: MIT */
/* Moving bytes into the file under construction. */
#include "codec/bytes/out.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

/* One write. The page cache gets a folio for each, and a large folio is made of memory that was free as a whole: in a virtual machine the
 * host may have taken that back, and gives it page by page, at several times the price of the copy. 128 KiB are what cp writes. */
#define BUFFER_BYTES (256u << 10)
#define BUFFER_OF_PAGES_BYTES (128u << 10)
/* Below this a read into the buffer is cheaper than flushing it for a call of its own. */
#define SMALL_BYTES (32u << 10)
/* One copy_file_range: long enough to cost nothing, short enough that progress shows and writeback starts early. */
#define CHUNK_BYTES (16u << 20)

/* There copy_file_range goes through the page cache as read and write do, by single pages: with a buffer these take two thirds of the
 * processor time. Others have the server or the disk copy, or share blocks. */
static bool copies_by_pages(int fd)
{
	struct statfs st;
	return fstatfs(fd, &st) == 0 &&
	       (st.f_type == EXT4_SUPER_MAGIC || st.f_type == TMPFS_MAGIC || st.f_type == F2FS_SUPER_MAGIC);
}

int wf_out_init(struct wf_out *o, int fd, uint64_t at, _Atomic uint64_t *done_bytes)
{
	*o = (struct wf_out){
		.fd = fd, .at = at, .writeback = at, .no_copy_range = copies_by_pages(fd), .done_bytes = done_bytes};
	o->buffer_bytes = o->no_copy_range ? BUFFER_OF_PAGES_BYTES : BUFFER_BYTES;
	o->buffer = malloc(o->buffer_bytes);
	return o->buffer ? 0 : -ENOMEM;
}

void wf_out_free(struct wf_out *o)
{
	free(o->buffer);
	o->buffer = NULL;
}

void wf_out_probe_clone(struct wf_out *o, int src_fd)
{
	struct stat src, dst;
	if (fstat(src_fd, &src) < 0 || fstat(o->fd, &dst) < 0 || src.st_dev != dst.st_dev)
		return;
	uint64_t block = dst.st_blksize > 0 ? (uint64_t)dst.st_blksize : 4096;
	uint64_t end = ((uint64_t)dst.st_size + block - 1) / block * block;
	if ((uint64_t)src.st_size < block)
		return;
	struct file_clone_range range = {.src_fd = src_fd, .src_length = block, .dest_offset = end};
	if (ioctl(o->fd, FICLONERANGE, &range) < 0)
		return;
	if (ftruncate(o->fd, dst.st_size) == 0)
		o->clone_block = block;
}

int wf_out_reserve(struct wf_out *o, uint64_t bytes, bool allocate)
{
	if (bytes == 0)
		return 0;
	if (bytes > INT64_MAX - o->at)
		return -EFBIG;
	if (allocate) {
		int r;
		do
			r = fallocate(o->fd, FALLOC_FL_KEEP_SIZE, (off_t)o->at, (off_t)bytes);
		while (r < 0 && errno == EINTR);
		if (r == 0)
			return 0;
		if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
			return -errno;
	}
	struct statvfs st;
	if (fstatvfs(o->fd, &st) < 0)
		return -errno;
	/* A file system that does not say how large it is cannot say how much is free either. */
	if (st.f_blocks > 0 && st.f_bavail < bytes / st.f_frsize)
		return -ENOSPC;
	return 0;
}

static void advance(struct wf_out *o, uint64_t len)
{
	o->at += len;
	if (o->done_bytes)
		atomic_fetch_add_explicit(o->done_bytes, len, memory_order_relaxed);
}

/* Only a hint to the disk: what it cannot do, fsync reports. */
static void start_writeback(struct wf_out *o)
{
	uint64_t end = o->at - o->used;
	if (end - o->writeback < CHUNK_BYTES)
		return;
	sync_file_range(o->fd, (off_t)o->writeback, (off_t)(end - o->writeback), SYNC_FILE_RANGE_WRITE);
	o->writeback = end;
}

int wf_out_flush(struct wf_out *o)
{
	if (o->used == 0)
		return 0;
	int r = wf_pwrite_all(o->fd, o->buffer, o->used, o->at - o->used);
	if (r < 0)
		return r;
	o->used = 0;
	start_writeback(o);
	return 0;
}

int wf_out_write(struct wf_out *o, const void *data, size_t len)
{
	const unsigned char *p = data;
	while (len > 0) {
		size_t n = WF_MIN(len, o->buffer_bytes - o->used);
		memcpy(o->buffer + o->used, p, n);
		o->used += n;
		advance(o, n);
		p += n;
		len -= n;
		if (o->used == o->buffer_bytes) {
			int r = wf_out_flush(o);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int wf_out_skip(struct wf_out *o, uint64_t len)
{
	int r = wf_out_flush(o);
	if (r == 0)
		advance(o, len);
	return r;
}

/* Through the buffer. */
static int copy_small(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len)
{
	while (len > 0) {
		if (o->used == o->buffer_bytes) {
			int r = wf_out_flush(o);
			if (r < 0)
				return r;
		}
		size_t n = (size_t)WF_MIN(len, (uint64_t)(o->buffer_bytes - o->used));
		int r = wf_pread_all(src_fd, o->buffer + o->used, n, offset);
		if (r < 0)
			return r;
		o->used += n;
		advance(o, n);
		offset += n;
		len -= n;
	}
	return 0;
}

/* Whether copy_file_range cannot work between these two files, rather than has failed. */
static bool refuses(int error)
{
	return error == EXDEV || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL || error == EBADF ||
	       error == EPERM || error == ETXTBSY;
}

static int copy_data(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len)
{
	while (len > 0) {
		if (len < SMALL_BYTES || o->no_copy_range) {
			/* by chunks, so that writeback keeps up here, too */
			uint64_t n = WF_MIN(len, (uint64_t)CHUNK_BYTES);
			int r = copy_small(o, src_fd, offset, n);
			if (r < 0)
				return r;
			offset += n;
			len -= n;
			continue;
		}
		int r = wf_out_flush(o);
		if (r < 0)
			return r;
		loff_t in = (loff_t)offset, out = (loff_t)o->at;
		ssize_t n = copy_file_range(src_fd, &in, o->fd, &out, (size_t)WF_MIN(len, (uint64_t)CHUNK_BYTES), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && refuses(errno)) {
			o->no_copy_range = true;
			continue;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		advance(o, (uint64_t)n);
		offset += (uint64_t)n;
		len -= (uint64_t)n;
		start_writeback(o);
	}
	return 0;
}

/* Data and holes apart. A hole is skipped: the file is new there, so it reads as zeroes. */
static int copy_sparse(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len)
{
	if (len < SMALL_BYTES)
		return copy_small(o, src_fd, offset, len);
	uint64_t end = offset + len;
	while (offset < end) {
		off_t data = lseek(src_fd, (off_t)offset, SEEK_DATA), hole = -1;
		if (data < 0 && errno != ENXIO)
			return copy_data(o, src_fd, offset, end - offset); /* it does not tell */
		uint64_t start = data < 0 ? end : WF_MIN((uint64_t)data, end);
		if (start > offset) {
			int r = wf_out_skip(o, start - offset);
			if (r < 0)
				return r;
			offset = start;
			continue;
		}
		hole = lseek(src_fd, (off_t)offset, SEEK_HOLE);
		uint64_t stop = hole < 0 || (uint64_t)hole <= offset ? end : WF_MIN((uint64_t)hole, end);
		int r = copy_data(o, src_fd, offset, stop - offset);
		if (r < 0)
			return r;
		offset = stop;
	}
	return 0;
}

/* Shares the whole blocks in the middle of a run. Returns 1 when that is done, 0 when it cannot be. */
static int copy_clone(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len)
{
	uint64_t block = o->clone_block;
	if (block == 0 || (offset ^ o->at) & (block - 1) || len < 2 * block)
		return 0;
	uint64_t head = (block - offset % block) % block;
	uint64_t middle = (len - head) / block * block;
	if (middle == 0)
		return 0;
	int r = copy_small(o, src_fd, offset, head);
	if (r == 0)
		r = wf_out_flush(o);
	if (r < 0)
		return r;
	struct file_clone_range range = {
		.src_fd = src_fd, .src_offset = offset + head, .src_length = middle, .dest_offset = o->at};
	if (ioctl(o->fd, FICLONERANGE, &range) < 0) {
		r = copy_sparse(o, src_fd, offset + head, middle);
	} else {
		advance(o, middle);
		o->writeback = o->at;
	}
	if (r == 0)
		r = copy_small(o, src_fd, offset + head + middle, len - head - middle);
	return r < 0 ? r : 1;
}

int wf_out_copy(struct wf_out *o, int src_fd, uint64_t offset, uint64_t len)
{
	if (len >= SMALL_BYTES) {
		/* past the end there would be holes without end */
		struct stat st;
		if (fstat(src_fd, &st) < 0)
			return -errno;
		if (S_ISREG(st.st_mode) && (offset > (uint64_t)st.st_size || len > (uint64_t)st.st_size - offset))
			return -EIO;
	}
	int r = copy_clone(o, src_fd, offset, len);
	if (r != 0)
		return r < 0 ? r : 0;
	return copy_sparse(o, src_fd, offset, len);
}

int wf_out_finish(struct wf_out *o)
{
	int r = wf_out_flush(o);
	if (r < 0)
		return r;
	/* also gives back what was reserved and not needed */
	return ftruncate(o->fd, (off_t)o->at) < 0 ? -errno : 0;
}
