/* The log of an overlay. All numbers little endian.
 *
 *   header    0  16  "weightfs edits\r\n"
 *            16   4  version of this layout and of what records mean (2; one of version 1 is read, too)
 *            20   4  length of the header (96)
 *            24   8  base: device           64   4  base: CRC-32 of its edges
 *            32   8  base: inode            68   4  version of the rule that turns keys into names (1)
 *            40   8  base: size in bytes    72   4  1: the next field is known (version 1: 0)
 *            48   8  base: mtime, seconds   76   4  base: CRC-32 of its content
 *            56   8  base: mtime, ns        80  12  zero
 *                                           92   4  CRC-32 of bytes 0 to 91
 *   record    0   4  length of the payload
 *             4   4  CRC-32 of what follows: bytes 8 to the end of the payload
 *             8   8  sequence: 1, 2, ...
 *            16   1  type
 *            17   1  flags: 1 a commit would write it
 *            18   2  zero
 *            20      payload
 */
#include "overlay_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "util.h"

#define LOG_VERSION 2u
#define LOG_VERSION_OLDEST 1u
#define NAMES_VERSION 1u
#define HEADER_BYTES 96u
#define RECORD_BYTES 20u
#define FLAG_PENDING 1u

static const char log_magic[16] = "weightfs edits\r\n";

static void encode_header(const struct wf_overlay_base *base, unsigned char *h)
{
	uint32_t version = LOG_VERSION, length = HEADER_BYTES, names = NAMES_VERSION;
	memset(h, 0, HEADER_BYTES);
	memcpy(h, log_magic, sizeof log_magic);
	memcpy(h + 16, &version, 4);
	memcpy(h + 20, &length, 4);
	memcpy(h + 24, &base->dev, 8);
	memcpy(h + 32, &base->ino, 8);
	memcpy(h + 40, &base->size_bytes, 8);
	memcpy(h + 48, &base->mtime_sec, 8);
	memcpy(h + 56, &base->mtime_nsec, 8);
	memcpy(h + 64, &base->edges_crc32, 4);
	memcpy(h + 68, &names, 4);
	h[72] = base->has_content;
	memcpy(h + 76, &base->content_crc32, 4);
	uint32_t crc = crc32(0, h, 92);
	memcpy(h + 92, &crc, 4);
}

static int read_fully(int fd, void *buf, size_t len, uint64_t offset, size_t *ret_got)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(fd, (char *)buf + got, len - got, offset + got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += n;
	}
	*ret_got = got;
	return 0;
}

static int write_fully(int fd, const void *buf, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += n;
	}
	return 0;
}

int wf_overlay_read_header(struct wf_overlay *ov, struct wf_overlay_base *ret, bool *ret_found, struct wf_error *err)
{
	*ret_found = false;
	int fd, r = wf_overlay_open_at(ov, ov->dir_fd, "log", ov->writable ? O_RDWR : O_RDONLY, &fd);
	if (r < 0)
		return r == -ENOENT ? 0 : wf_fail(err, r, "%s/log: %s", ov->directory, strerror(-r));
	ov->log_fd = fd;
	unsigned char h[HEADER_BYTES];
	size_t got;
	r = read_fully(fd, h, sizeof h, 0, &got);
	if (r < 0)
		return wf_fail(err, r, "%s/log: %s", ov->directory, strerror(-r));
	static const unsigned char zeroes[HEADER_BYTES];
	/* a power loss before the first fsync: the size may be there and the bytes not */
	if (got < sizeof h || !memcmp(h, zeroes, sizeof h))
		return 0;
	if (memcmp(h, log_magic, sizeof log_magic) != 0)
		return wf_fail(err, -EUCLEAN, "%s/log is no log of edits", ov->directory);
	if (wf_le32(h + 16) < LOG_VERSION_OLDEST || wf_le32(h + 16) > LOG_VERSION || wf_le32(h + 20) != HEADER_BYTES ||
	    wf_le32(h + 68) != NAMES_VERSION)
		return wf_fail(err, -EOPNOTSUPP,
			       "%s holds edits of another version of weightfs (log version %u, this one writes %u): "
			       "commit them with that version, or drop them with wfctl discard",
			       ov->directory, wf_le32(h + 16), LOG_VERSION);
	if (wf_le32(h + 92) != crc32(0, h, 92))
		return wf_fail(err, -EUCLEAN, "%s/log: the header's checksum does not match", ov->directory);
	*ret = (struct wf_overlay_base){.dev = wf_le64(h + 24),
					.ino = wf_le64(h + 32),
					.size_bytes = wf_le64(h + 40),
					.mtime_sec = (int64_t)wf_le64(h + 48),
					.mtime_nsec = (int64_t)wf_le64(h + 56),
					.edges_crc32 = wf_le32(h + 64),
					.has_content = h[72] == 1,
					.content_crc32 = wf_le32(h + 76)};
	*ret_found = true;
	return 0;
}

void wf_overlay_forget_log(struct wf_overlay *ov)
{
	if (ov->log_fd >= 0)
		close(ov->log_fd);
	ov->log_fd = -1;
	ov->log_bytes = 0;
	ov->sequence = 1;
	ov->edits = ov->pending = ov->unsynced = 0;
	wf_buffer_free(&ov->buffer);
	ov->buffer = (struct wf_buffer)WF_BUFFER_INIT;
}

int wf_overlay_write_log(struct wf_overlay *ov)
{
	if (!ov->buffer.len)
		return 0;
	if (ov->log_fd < 0) {
		int r = wf_overlay_open_at(ov, ov->dir_fd, "log", O_RDWR | O_CREAT | O_TRUNC, &ov->log_fd);
		if (r < 0)
			return r;
		ov->log_bytes = 0;
		ov->new_log_name = true;
	}
	if (!ov->log_bytes) {
		unsigned char h[HEADER_BYTES];
		wf_overlay_know_content(ov);
		encode_header(&ov->base, h);
		int r = write_fully(ov->log_fd, h, sizeof h, 0);
		if (r < 0)
			return r;
		ov->log_bytes = sizeof h;
	}
	/* written at a known place: a part of it that an earlier failure (a full disk) left is written over */
	int r = write_fully(ov->log_fd, ov->buffer.data, ov->buffer.len, ov->log_bytes);
	if (r < 0)
		return r;
	ov->log_bytes += ov->buffer.len;
	ov->buffer.len = 0;
	return 0;
}

int wf_overlay_record(struct wf_overlay *ov, uint8_t type, const void *payload, size_t len, bool pending)
{
	if (!ov->writable)
		return -EROFS;
	if (len > WF_OVERLAY_MAX_RECORD)
		return -E2BIG;
	if (ov->dir_fd < 0)
		return -EINVAL; /* the caller did not prepare */
	wf_overlay_trim_files(ov);
	unsigned char h[RECORD_BYTES] = {0};
	uint32_t length = (uint32_t)len;
	memcpy(h, &length, 4);
	memcpy(h + 8, &ov->sequence, 8);
	h[16] = type;
	h[17] = pending ? FLAG_PENDING : 0;
	uint32_t crc = crc32(0, h + 8, sizeof h - 8);
	if (len > 0) /* zlib starts anew where there is no address */
		crc = crc32(crc, payload, len);
	memcpy(h + 4, &crc, 4);
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

/* ---- replay ---- */

struct log_reader {
	int fd;
	uint64_t pos, end; /* of the record that is being read; of the file */
	unsigned char header[RECORD_BYTES];
	unsigned char *payload;
	size_t payload_capacity;
	unsigned char *window; /* the file's bytes from window_start */
	uint64_t window_start;
	size_t window_len;
};

#define READ_WINDOW (256u << 10)

static int log_read(struct log_reader *l, uint64_t offset, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		uint64_t at = offset + done;
		if (at < l->window_start || at >= l->window_start + l->window_len) {
			l->window_start = at;
			int r = read_fully(l->fd, l->window, READ_WINDOW, at, &l->window_len);
			if (r < 0)
				return r;
			if (!l->window_len)
				return -EUCLEAN;
		}
		size_t skip = at - l->window_start;
		size_t n = WF_MIN(len - done, l->window_len - skip);
		memcpy((char *)buf + done, l->window + skip, n);
		done += n;
	}
	return 0;
}

enum record_state { RECORD_GOOD, RECORD_END, RECORD_CUT, RECORD_BAD };

/* The record at l->pos. CUT: the file ends inside it. BAD: checksum or sequence do not match. */
static int read_record(struct log_reader *l, uint64_t sequence, enum record_state *ret)
{
	uint64_t left = l->end - l->pos;
	*ret = left ? RECORD_CUT : RECORD_END;
	if (left < RECORD_BYTES)
		return 0;
	int r = log_read(l, l->pos, l->header, RECORD_BYTES);
	if (r < 0)
		return r;
	uint32_t len = wf_le32(l->header);
	if (len > left - RECORD_BYTES)
		return 0;
	*ret = RECORD_BAD;
	if (len > WF_OVERLAY_MAX_RECORD)
		return 0;
	if (len > l->payload_capacity || !l->payload) {
		size_t capacity = WF_MAX(len, 4096u);
		unsigned char *p = realloc(l->payload, capacity);
		if (!p)
			return -ENOMEM;
		l->payload = p;
		l->payload_capacity = capacity;
	}
	r = log_read(l, l->pos + RECORD_BYTES, l->payload, len);
	if (r < 0)
		return r;
	if (crc32(crc32(0, l->header + 8, RECORD_BYTES - 8), l->payload, len) == wf_le32(l->header + 4) &&
	    wf_le64(l->header + 8) == sequence)
		*ret = RECORD_GOOD;
	return 0;
}

/* Copies the log from `from` into log.cut.N: it is never destroyed by us. */
static int keep_aside(struct wf_overlay *ov, uint64_t from, uint64_t end, char *ret_name, size_t size)
{
	cleanup_fd int out = -1;
	for (unsigned int i = 1; out < 0 && i < 1000; i++) {
		snprintf(ret_name, size, "log.cut.%u", i);
		out = openat(ov->dir_fd, ret_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (out < 0 && errno != EEXIST)
			return -errno;
	}
	if (out < 0)
		return -EEXIST;
	char buf[65536];
	for (uint64_t done = 0; from + done < end;) {
		size_t got;
		int r = read_fully(ov->log_fd, buf, WF_MIN(sizeof buf, end - from - done), from + done, &got);
		if (r == 0 && got)
			r = write_fully(out, buf, got, done);
		if (r < 0)
			return r;
		if (!got)
			break;
		done += got;
	}
	return fsync(out) < 0 ? -errno : 0;
}

/* Whether the broken record is only the torn end of a log: nothing but zeroes follows it, which a power loss leaves
 * where the size was durable before the bytes. */
static int is_torn_tail(struct log_reader *l, enum record_state state, bool *ret)
{
	*ret = state == RECORD_CUT;
	if (*ret)
		return 0;
	uint32_t len = wf_le32(l->header);
	if (len > WF_OVERLAY_MAX_RECORD)
		return 0;
	char buf[4096];
	for (uint64_t at = l->pos + RECORD_BYTES + len; at < l->end;) {
		size_t n = WF_MIN(sizeof buf, l->end - at);
		int r = log_read(l, at, buf, n);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++)
			if (buf[i])
				return 0;
		at += n;
	}
	*ret = true;
	return 0;
}

static int end_replay(struct wf_overlay *ov, struct log_reader *l, enum record_state state, int refused)
{
	bool torn = false;
	int r = refused ? 0 : is_torn_tail(l, state, &torn);
	if (r < 0)
		return r;
	unsigned long long at = l->pos, number = ov->sequence;
	if (torn)
		wf_overlay_log_line(
			ov, "%s/log: cut off after edit %llu: %llu bytes of an edit that was never made durable",
			ov->directory, number - 1, (unsigned long long)(l->end - l->pos));
	else if (refused)
		wf_overlay_log_line(ov,
				    "%s/log: edit %llu (offset %llu) does not fit the checkpoint (%s): it and what "
				    "follows are left out",
				    ov->directory, number, at, strerror(-refused));
	else
		wf_overlay_log_line(ov, "%s/log: edit %llu (offset %llu) is damaged: it and what follows are left out",
				    ov->directory, number, at);
	if (!ov->writable)
		return 0;
	char name[32] = "";
	if (!torn) {
		r = keep_aside(ov, l->pos, l->end, name, sizeof name);
		if (r < 0)
			return r;
		wf_overlay_log_line(ov, "%s/%s keeps what was left out", ov->directory, name);
	}
	return ftruncate(ov->log_fd, l->pos) < 0 ? -errno : 0;
}

int wf_overlay_replay(struct wf_overlay *ov, int (*apply)(void *, uint8_t, const void *, size_t), void *ctx,
		      struct wf_error *err)
{
	if (ov->log_fd < 0 || ov->ignored)
		return 0;
	struct stat st;
	if (fstat(ov->log_fd, &st) < 0)
		return wf_fail(err, -errno, "%s/log: %s", ov->directory, strerror(errno));
	struct log_reader l = {.fd = ov->log_fd, .pos = HEADER_BYTES, .end = st.st_size};
	l.window = malloc(READ_WINDOW);
	int r = l.window ? 0 : -ENOMEM;
	while (r == 0) {
		enum record_state state;
		r = read_record(&l, ov->sequence, &state);
		if (r < 0 || state == RECORD_END)
			break;
		uint32_t len = wf_le32(l.header);
		int refused = 0;
		if (state == RECORD_GOOD)
			refused = apply(ctx, l.header[16], l.payload, len);
		if (refused == -ENOMEM) {
			r = refused;
			break;
		}
		if (state != RECORD_GOOD || refused) {
			r = end_replay(ov, &l, state, refused);
			break;
		}
		l.pos += RECORD_BYTES + len;
		ov->sequence++;
		ov->edits++;
		ov->pending += (l.header[17] & FLAG_PENDING) != 0;
	}
	ov->log_bytes = l.pos;
	free(l.window);
	free(l.payload);
	ov->replayed = r == 0;
	if (r < 0)
		return wf_fail(err, r, "%s/log: %s", ov->directory, strerror(-r));
	return 0;
}
