/* SPDX-License-Identifier: MIT */
/* Writing the log: its header, records, room for them, and what makes them durable. overlay/format.h draws the bytes. */
#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/util.h"

#define RECORD_ROOM (16u << 10) /* for one record of names, and what a commit may add */
#define REMOVAL_ROOM (64u << 10)
#define LOG_STEP (64u << 10)

static void put_u32(unsigned char *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

static void encode_header(const struct wf_overlay_base *base, unsigned char *h)
{
	memset(h, 0, WF_LOG_HEADER_BYTES);
	memcpy(h, WF_LOG_MAGIC, WF_MAGIC_BYTES);
	put_u32(h + WF_LOG_AT_VERSION, WF_LOG_VERSION);
	put_u32(h + WF_LOG_AT_LENGTH, WF_LOG_HEADER_BYTES);
	wf_overlay_put_base(h + WF_LOG_AT_BASE, base);
	put_u32(h + WF_LOG_AT_NAMES, WF_NAMES_VERSION);
	put_u32(h + WF_LOG_AT_HAS_CONTENT, base->has_content);
	put_u32(h + WF_LOG_AT_CONTENT, base->content_crc32);
	put_u32(h + WF_LOG_AT_CRC, (uint32_t)crc32(0, h, WF_LOG_AT_CRC));
}

static int check_versions(const struct wf_overlay *ov, const unsigned char *h, struct wf_error *err)
{
	uint32_t version = wf_le32(h + WF_LOG_AT_VERSION), length = wf_le32(h + WF_LOG_AT_LENGTH),
		 names = wf_le32(h + WF_LOG_AT_NAMES);
	if (version < WF_LOG_VERSION_OLDEST || version > WF_LOG_VERSION)
		return wf_fail(err, -EOPNOTSUPP,
			       "%s holds edits of another version of weightfs (log version %u, this one writes %u): "
			       "commit them with that version, or drop them with wfctl discard",
			       ov->directory, version, WF_LOG_VERSION);
	if (length != WF_LOG_HEADER_BYTES || names != WF_NAMES_VERSION)
		return wf_fail(
			err, -EOPNOTSUPP,
			"%s holds edits of another version of weightfs (version %u of the rule of names, a header of %u bytes; "
			"this one writes %u and %u): commit them with that version, or drop them with wfctl discard",
			ov->directory, names, length, WF_NAMES_VERSION, WF_LOG_HEADER_BYTES);
	return 0;
}

int wf_overlay_read_header(struct wf_overlay *ov, const char *name, struct wf_overlay_base *ret, bool *ret_found,
			   struct wf_error *err)
{
	*ret_found = false;
	int fd, r = wf_overlay_open_at(ov, ov->dir_fd, name, ov->writable ? O_RDWR : O_RDONLY, &fd);
	if (r < 0)
		return r == -ENOENT ? 0 : wf_fail(err, r, "%s/%s: %s", ov->directory, name, strerror(-r));
	ov->log_fd = fd;
	unsigned char h[WF_LOG_HEADER_BYTES];
	size_t got;
	r = wf_pread_most(fd, h, sizeof h, 0, &got);
	if (r < 0)
		return wf_fail(err, r, "%s/log: %s", ov->directory, strerror(-r));
	static const unsigned char zeroes[WF_LOG_HEADER_BYTES];
	/* a power loss before the first fsync: the size may be there and the bytes not */
	if (got < sizeof h || !memcmp(h, zeroes, sizeof h))
		return 0;
	if (memcmp(h, WF_LOG_MAGIC, WF_MAGIC_BYTES) != 0)
		return wf_fail(err, -EUCLEAN, "%s/log is no log of edits", ov->directory);
	r = check_versions(ov, h, err);
	if (r < 0)
		return r;
	if (wf_le32(h + WF_LOG_AT_CRC) != crc32(0, h, WF_LOG_AT_CRC))
		return wf_fail(err, -EUCLEAN, "%s/log: the header's checksum does not match", ov->directory);
	ov->log_version = wf_le32(h + WF_LOG_AT_VERSION);
	*ret = wf_overlay_get_base(h + WF_LOG_AT_BASE, wf_le32(h + WF_LOG_AT_HAS_CONTENT) == 1,
				   wf_le32(h + WF_LOG_AT_CONTENT));
	*ret_found = true;
	return 0;
}

uint32_t wf_overlay_log_version(const struct wf_overlay *ov)
{
	return ov->log_version;
}

void wf_overlay_forget_log(struct wf_overlay *ov)
{
	if (ov->log_fd >= 0)
		close(ov->log_fd);
	ov->log_fd = -1;
	ov->log_bytes = 0;
	ov->log_version = WF_LOG_VERSION; /* of the next one */
	ov->sequence = 1;
	ov->log_reserved = 0;
	ov->log_failed = false;
	ov->named_below = 0;
	ov->failure[0] = '\0';
	ov->edits = ov->pending = ov->unsynced = 0;
	wf_buffer_free(&ov->buffer);
	ov->buffer = (struct wf_buffer)WF_BUFFER_INIT;
}

int wf_overlay_write_header(int fd, const struct wf_overlay_base *base)
{
	unsigned char h[WF_LOG_HEADER_BYTES];
	encode_header(base, h);
	return wf_pwrite_all(fd, h, sizeof h, 0);
}

static int make_log(struct wf_overlay *ov)
{
	if (ov->log_fd < 0) {
		int r = wf_overlay_open_at(ov, ov->dir_fd, "log", O_RDWR | O_CREAT | O_TRUNC, &ov->log_fd);
		if (r < 0)
			return r;
		ov->log_bytes = ov->log_reserved = 0;
		ov->new_log_name = true;
	}
	if (ov->log_bytes)
		return 0;
	wf_overlay_know_content(ov);
	int r = wf_overlay_write_header(ov->log_fd, &ov->base);
	if (r == 0) {
		ov->log_bytes = WF_LOG_HEADER_BYTES;
		ov->log_version = WF_LOG_VERSION;
	}
	return r;
}

static int allocate(struct wf_overlay *ov, uint64_t end)
{
	uint64_t from = WF_MAX(ov->log_reserved, ov->log_bytes);
	if (end <= from)
		return 0;
	if (fallocate(ov->log_fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from)) == 0)
		ov->log_reserved = end;
	else if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
		ov->log_reserved = UINT64_MAX; /* a write will show */
	else
		return errno == EINTR ? 0 : -errno;
	return 0;
}

int wf_overlay_reserve_log(struct wf_overlay *ov, bool removes)
{
	int r = make_log(ov);
	uint64_t end = ov->log_bytes + ov->buffer.len;
	if (r < 0 || ov->log_reserved >= end + (removes ? RECORD_ROOM : REMOVAL_ROOM))
		return r;
	r = allocate(ov, end + REMOVAL_ROOM + LOG_STEP);
	return r < 0 ? allocate(ov, end + (removes ? RECORD_ROOM : REMOVAL_ROOM)) : r;
}

int wf_overlay_write_log(struct wf_overlay *ov)
{
	int r = ov->buffer.len ? make_log(ov) : 0;
	if (r < 0 || !ov->buffer.len)
		return r;
	/* written at a known place: a part of it that an earlier failure (a full disk) left is written over */
	r = wf_pwrite_all(ov->log_fd, ov->buffer.data, ov->buffer.len, ov->log_bytes);
	if (r < 0)
		return r;
	ov->log_bytes += ov->buffer.len;
	ov->buffer.len = 0;
	ov->named_below = ov->files_count;
	return 0;
}

/* ---- durable ---- */

int wf_overlay_sync_names(int dir_fd, bool *failed)
{
	if (*failed) { /* something new for the file system to write: what failed it may not try again */
		int fd = openat(dir_fd, "names.new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0)
			close(fd);
		unlinkat(dir_fd, "names.new", 0);
	}
	int r = wf_sync_directory(dir_fd);
	*failed = r < 0;
	return r;
}

static int copy_log(const struct wf_overlay *ov, int to)
{
	char buf[65536];
	for (uint64_t at = 0; at < ov->log_bytes;) {
		size_t got;
		int r = wf_pread_most(ov->log_fd, buf, WF_MIN(sizeof buf, ov->log_bytes - at), at, &got);
		if (r == 0 && got == 0)
			r = -EIO;
		if (r == 0)
			r = wf_pwrite_all(to, buf, got, at);
		if (r < 0)
			return r;
		at += got;
	}
	return 0;
}

/* The pages of the old file may be clean and never have reached the disk, or be gone: the copy is read again, and every
 * record has a checksum. */
static int renew_log(struct wf_overlay *ov)
{
	int fd, r = wf_overlay_open_at(ov, ov->dir_fd, "log.new", O_RDWR | O_CREAT | O_TRUNC, &fd);
	if (r < 0)
		return r;
	cleanup_fd int copy = fd;
	r = copy_log(ov, copy);
	if (r == 0)
		r = wf_overlay_check_log(copy, ov->log_bytes);
	if (r == 0 && (fdatasync(copy) < 0 || renameat(ov->dir_fd, "log.new", ov->dir_fd, "log") < 0))
		r = -errno;
	if (r < 0) {
		unlinkat(ov->dir_fd, "log.new", 0);
		return r;
	}
	close(ov->log_fd);
	ov->log_fd = steal_fd(&copy);
	ov->log_reserved = 0;
	ov->new_log_name = true;
	return 0;
}

int wf_overlay_sync_log(struct wf_overlay *ov)
{
	bool names_failed = ov->log_failed;
	int r = wf_overlay_write_log(ov);
	if (r < 0 || ov->log_fd < 0)
		return r;
	if (ov->log_failed)
		r = renew_log(ov);
	else if (ov->unsynced && fdatasync(ov->log_fd) < 0)
		r = -errno;
	if (r == 0 && ov->new_log_name)
		r = wf_overlay_sync_names(ov->dir_fd, &names_failed);
	ov->log_failed = r < 0;
	if (r == 0)
		ov->new_log_name = false;
	return r;
}

int wf_overlay_record(struct wf_overlay *ov, uint8_t type, const void *payload, size_t len, bool pending)
{
	if (!ov->writable)
		return -EROFS;
	if (len > WF_RECORD_MAX_BYTES)
		return -E2BIG;
	if (ov->dir_fd < 0 && !ov->unlogged)
		return -EINVAL; /* the caller did not prepare */
	wf_overlay_trim_files(ov);
	if (ov->unlogged) {
		ov->edits++;
		ov->pending += pending;
		return 0;
	}
	unsigned char h[WF_RECORD_HEADER_BYTES] = {0};
	put_u32(h + WF_RECORD_AT_LENGTH, (uint32_t)len);
	memcpy(h + WF_RECORD_AT_SEQUENCE, &ov->sequence, 8);
	h[WF_RECORD_AT_TYPE] = type;
	h[WF_RECORD_AT_FLAGS] = pending ? WF_RECORD_PENDING : 0;
	uint32_t crc = (uint32_t)crc32(0, h + WF_RECORD_AT_SEQUENCE, sizeof h - WF_RECORD_AT_SEQUENCE);
	if (len > 0) /* zlib starts anew where there is no address */
		crc = (uint32_t)crc32(crc, payload, len);
	put_u32(h + WF_RECORD_AT_CRC, crc);
	size_t before = ov->buffer.len;
	wf_buffer_append(&ov->buffer, h, sizeof h);
	wf_buffer_append(&ov->buffer, payload, len);
	if (wf_buffer_status(&ov->buffer) < 0) {
		ov->buffer.len = before;
		ov->buffer.failed = false;
		return -ENOMEM;
	}
	ov->sequence++;
	ov->edits++;
	ov->unsynced++;
	ov->pending += pending;
	return 0;
}
