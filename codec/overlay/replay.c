/* SPDX-License-Identifier: MIT */
/* Reading the log back: at opening, and to see whether a copy of it is whole. Its bytes may be anything. */
#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/util.h"

struct log_reader {
	int fd;
	uint64_t pos, end; /* of the record that is being read; of the file */
	unsigned char header[WF_RECORD_HEADER_BYTES];
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
			int r = wf_pread_most(l->fd, l->window, READ_WINDOW, at, &l->window_len);
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

/* As the record's header says: it may be anything. */
static uint32_t record_bytes(const struct log_reader *l)
{
	return wf_le32(l->header + WF_RECORD_AT_LENGTH);
}

static uint32_t record_crc(const struct log_reader *l, uint32_t len)
{
	uint32_t crc =
		(uint32_t)crc32(0, l->header + WF_RECORD_AT_SEQUENCE, WF_RECORD_HEADER_BYTES - WF_RECORD_AT_SEQUENCE);
	return (uint32_t)crc32(crc, l->payload, len);
}

enum record_state { RECORD_GOOD, RECORD_END, RECORD_CUT, RECORD_BAD };

/* The record at l->pos. CUT: the file ends inside it. BAD: checksum or sequence do not match. */
static int read_record(struct log_reader *l, uint64_t sequence, enum record_state *ret)
{
	uint64_t left = l->end - l->pos;
	*ret = left ? RECORD_CUT : RECORD_END;
	if (left < WF_RECORD_HEADER_BYTES)
		return 0;
	int r = log_read(l, l->pos, l->header, WF_RECORD_HEADER_BYTES);
	if (r < 0)
		return r;
	uint32_t len = record_bytes(l);
	if (len > left - WF_RECORD_HEADER_BYTES)
		return 0;
	*ret = RECORD_BAD;
	if (len > WF_RECORD_MAX_BYTES)
		return 0;
	if (len > l->payload_capacity || !l->payload) {
		size_t capacity = WF_MAX(len, 4096u);
		unsigned char *p = realloc(l->payload, capacity);
		if (!p)
			return -ENOMEM;
		l->payload = p;
		l->payload_capacity = capacity;
	}
	r = log_read(l, l->pos + WF_RECORD_HEADER_BYTES, l->payload, len);
	if (r < 0)
		return r;
	if (record_crc(l, len) == wf_le32(l->header + WF_RECORD_AT_CRC) &&
	    wf_le64(l->header + WF_RECORD_AT_SEQUENCE) == sequence)
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
		int r = wf_pread_most(ov->log_fd, buf, WF_MIN(sizeof buf, end - from - done), from + done, &got);
		if (r == 0 && got)
			r = wf_pwrite_all(out, buf, got, done);
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
	uint32_t len = record_bytes(l);
	if (len > WF_RECORD_MAX_BYTES)
		return 0;
	char buf[4096];
	for (uint64_t at = l->pos + WF_RECORD_HEADER_BYTES + len; at < l->end;) {
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
	ov->left_out = !torn;
	if (torn)
		wf_log_line(&ov->log,
			    "%s/log: cut off after edit %llu: %llu bytes of an edit that was never made durable",
			    ov->directory, number - 1, (unsigned long long)(l->end - l->pos));
	else if (refused)
		wf_log_line(&ov->log,
			    "%s/log: edit %llu (offset %llu) does not fit the checkpoint (%s): it and what "
			    "follows are left out",
			    ov->directory, number, at, strerror(-refused));
	else
		wf_log_line(&ov->log, "%s/log: edit %llu (offset %llu) is damaged: it and what follows are left out",
			    ov->directory, number, at);
	if (!ov->writable)
		return 0;
	char name[32] = "";
	if (!torn) {
		r = keep_aside(ov, l->pos, l->end, name, sizeof name);
		if (r < 0)
			return r;
		wf_log_line(&ov->log, "%s/%s keeps what was left out", ov->directory, name);
	}
	return ftruncate(ov->log_fd, l->pos) < 0 ? -errno : 0;
}

static void note_failure(struct wf_overlay *ov, const unsigned char *payload, uint32_t len)
{
	if (len < 8)
		return;
	size_t n = WF_MIN(len - 8, sizeof ov->failure - 1);
	ov->failure_time = (int64_t)wf_le64(payload);
	memcpy(ov->failure, payload + 8, n);
	ov->failure[n] = '\0';
}

static int start_reading(struct log_reader *l, int fd, uint64_t end)
{
	*l = (struct log_reader){.fd = fd, .pos = WF_LOG_HEADER_BYTES, .end = end};
	l->window = malloc(READ_WINDOW);
	return l->window ? 0 : -ENOMEM;
}

static void end_reading(struct log_reader *l)
{
	free(l->window);
	free(l->payload);
}

int wf_overlay_check_log(int fd, uint64_t bytes)
{
	struct log_reader l;
	enum record_state state = RECORD_GOOD;
	int r = start_reading(&l, fd, bytes);
	for (uint64_t sequence = 1; r == 0 && state == RECORD_GOOD; sequence++) {
		r = read_record(&l, sequence, &state);
		l.pos += WF_RECORD_HEADER_BYTES + record_bytes(&l);
	}
	end_reading(&l);
	return r == 0 && state != RECORD_END ? -EIO : r == -EUCLEAN ? -EIO : r;
}

int wf_overlay_scan_log(struct wf_overlay *ov, uint64_t *ret_edits)
{
	struct log_reader l;
	struct stat st;
	enum record_state state = RECORD_GOOD;
	*ret_edits = 0;
	if (ov->log_fd < 0)
		return 0;
	if (fstat(ov->log_fd, &st) < 0)
		return -errno;
	int r = start_reading(&l, ov->log_fd, (uint64_t)st.st_size);
	for (uint64_t sequence = 1; r == 0; sequence++) {
		r = read_record(&l, sequence, &state);
		if (r < 0 || state != RECORD_GOOD)
			break;
		*ret_edits += (l.header[WF_RECORD_AT_FLAGS] & WF_RECORD_PENDING) != 0;
		if (l.header[WF_RECORD_AT_TYPE] == WF_RECORD_FAILURE)
			note_failure(ov, l.payload, record_bytes(&l));
		l.pos += WF_RECORD_HEADER_BYTES + record_bytes(&l);
	}
	end_reading(&l);
	return r;
}

/* Edits for another file are applied all or not at all. */
static int refuse_all(const struct wf_overlay *ov, int refused, struct wf_error *err)
{
	unsigned long long number = ov->sequence;
	if (err && err->code && err->code == refused)
		return refused; /* it has said why */
	if (!refused)
		return wf_fail(err, -EUCLEAN, "%s/log: edit %llu is damaged", ov->directory, number);
	return wf_fail(err, refused == -ENOENT || refused == -EINVAL ? -ESTALE : refused,
		       "edit %llu of %s does not fit %s: %s", number, ov->directory, ov->checkpoint,
		       strerror(-refused));
}

int wf_overlay_replay(struct wf_overlay *ov, int (*apply)(void *, uint8_t, const void *, size_t), void *ctx,
		      struct wf_error *err)
{
	if (ov->log_fd < 0 || ov->ignored)
		return 0;
	struct stat st;
	if (fstat(ov->log_fd, &st) < 0)
		return wf_fail(err, -errno, "%s/log: %s", ov->directory, strerror(errno));
	struct log_reader l;
	int r = start_reading(&l, ov->log_fd, (uint64_t)st.st_size);
	while (r == 0) {
		enum record_state state;
		r = read_record(&l, ov->sequence, &state);
		if (r < 0 || state == RECORD_END)
			break;
		uint32_t len = record_bytes(&l);
		int refused = 0;
		if (state == RECORD_GOOD && l.header[WF_RECORD_AT_TYPE] == WF_RECORD_FAILURE)
			note_failure(ov, l.payload, len);
		else if (state == RECORD_GOOD)
			refused = apply(ctx, l.header[WF_RECORD_AT_TYPE], l.payload, len);
		if (refused == -ENOMEM) {
			r = refused;
			break;
		}
		if ((state == RECORD_BAD || refused) && ov->onto) {
			end_reading(&l);
			return refuse_all(ov, refused, err);
		}
		if (state != RECORD_GOOD || refused) {
			r = end_replay(ov, &l, state, refused);
			break;
		}
		l.pos += WF_RECORD_HEADER_BYTES + len;
		ov->sequence++;
		ov->edits++;
		ov->pending += (l.header[WF_RECORD_AT_FLAGS] & WF_RECORD_PENDING) != 0;
	}
	if (ov->written) /* they are in the target */
		ov->pending = 0;
	ov->log_bytes = l.pos;
	ov->named_below = ov->files_count;
	end_reading(&l);
	ov->replayed = r == 0;
	if (r < 0)
		return wf_fail(err, r, "%s/log: %s", ov->directory, strerror(-r));
	return 0;
}
