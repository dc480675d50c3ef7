/* SPDX-License-Identifier: MIT */
/* Takes back what a commit did to the checkpoint itself and did not finish: an append is cut off, and for a commit in place `undo` has
 * what it changed (overlay/format.h draws that file).
 *
 * A commit in place is the base with some pieces of it overwritten or cut off, bytes behind its end, and maybe a hole at its start. A file
 * system moves the extents behind such a hole one after the other, from the last to the first, and back from the first to the last; a
 * power loss can leave the hole between two of them. The file had none before, so the hole is found where it is. Whatever was reached, the
 * base is what `undo` and the rest of the file say together, and by that the file is recognised before a byte of it goes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/edges.h"
#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

#define PIECE_BUFFER (1u << 20)
#define HEAD_MAX (128u << 20) /* of a new head that is summed; the format's own limit is below it */

/* ---- an append ---- */

/* The end of a zip without a comment. */
static bool ends_whole(int fd)
{
	unsigned char end[22];
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof end &&
	       pread(fd, end, sizeof end, st.st_size - (off_t)sizeof end) == (ssize_t)sizeof end &&
	       !memcmp(end, "PK\5\6", 4) && end[20] == 0 && end[21] == 0;
}

/* Opens the target when it still starts with b, and what follows is surely an append that was left unfinished. */
static int open_grown(const struct wf_overlay *ov, const struct wf_overlay_base *b, int flags, int *ret_fd)
{
	struct wf_overlay_base start;
	cleanup_fd int fd = wf_overlay_open_target(ov, flags);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	int r = wf_overlay_base_of(fd, b->size_bytes, &start);
	if (r < 0)
		return r == -EIO ? -ESTALE : r;
	bool same_file = start.dev == b->dev && start.ino == b->ino;
	if (start.edges_crc32 != b->edges_crc32 ||
	    (b->has_content ? start.content_crc32 != b->content_crc32 : !same_file))
		return -ESTALE;
	/* a copy or a restored file: it may be a later state, of which a commit was finished */
	struct stat st;
	if (!same_file && fstat(fd, &st) == 0 && (uint64_t)st.st_size > b->size_bytes && ends_whole(fd))
		return -ESTALE;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* The last of what is taken back. */
static int set_size_and_time(int fd, const struct wf_overlay_base *b)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = b->mtime_sec, .tv_nsec = b->mtime_nsec}};
	return ftruncate(fd, (off_t)b->size_bytes) < 0 || futimens(fd, times) < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int cut_back_to(struct wf_overlay *ov, const struct wf_overlay_base *b)
{
	int raw_fd;
	struct stat st;
	int r = open_grown(ov, b, O_RDWR, &raw_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = raw_fd;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == b->size_bytes && st.st_mtim.tv_sec == b->mtime_sec &&
	    st.st_mtim.tv_nsec == b->mtime_nsec)
		return 0; /* not a byte was appended, or it was restored */
	return set_size_and_time(fd, b);
}

/* ---- undo: writing ---- */

static void put_head(unsigned char *h, const struct wf_overlay_rewrite *w, const unsigned char *table)
{
	const uint32_t version = WF_UNDO_VERSION;
	memcpy(h, WF_UNDO_MAGIC, WF_MAGIC_BYTES);
	memcpy(h + WF_UNDO_AT_VERSION, &version, 4);
	memcpy(h + WF_UNDO_AT_COUNT, &w->count, 4);
	memcpy(h + WF_UNDO_AT_INSERTED, &w->inserted, 8);
	memcpy(h + WF_UNDO_AT_GROWN, &w->grown_bytes, 8);
	memcpy(h + WF_UNDO_AT_FINAL, &w->final_bytes, 8);
	memcpy(h + WF_UNDO_AT_HEAD_LENGTH, &w->head_bytes, 8);
	memcpy(h + WF_UNDO_AT_HEAD_CRC, &w->head_crc32, 4);
	uint32_t crc = (uint32_t)crc32(crc32(0, h, WF_UNDO_AT_CRC), table, w->count * WF_UNDO_PIECE_BYTES);
	memcpy(h + WF_UNDO_AT_CRC, &crc, 4);
}

/* Copies [from, from + len) and sums it on the way. buf: PIECE_BUFFER; to < 0: only the sum. */
static int copy_summed(int fd, uint64_t from, int to, uint64_t at, uint64_t len, unsigned char *buf, uint32_t *crc)
{
	for (uint64_t done = 0; done < len;) {
		size_t n = (size_t)WF_MIN(len - done, (uint64_t)PIECE_BUFFER);
		int r = wf_pread_all(fd, buf, n, from + done);
		if (r == 0 && to >= 0)
			r = wf_pwrite_all(to, buf, n, at + done);
		if (r < 0)
			return r;
		*crc = (uint32_t)crc32(*crc, buf, (uInt)n);
		done += n;
	}
	return 0;
}

int wf_overlay_write_undo(struct wf_overlay *ov, const struct wf_overlay_rewrite *w)
{
	unsigned char head[WF_UNDO_HEADER_BYTES] = {0};
	uint64_t at = sizeof head + (uint64_t)w->count * WF_UNDO_PIECE_BYTES;
	uint32_t crc = 0;
	int undo_fd;
	cleanup_free unsigned char *buf = malloc(PIECE_BUFFER), *table = calloc(w->count + 1u, WF_UNDO_PIECE_BYTES);
	cleanup_fd int base = wf_overlay_open_checkpoint(ov, O_RDONLY);
	if (!buf || !table)
		return -ENOMEM;
	if (base < 0)
		return base;
	int r = wf_overlay_open_at(ov, ov->dir_fd, "undo", O_RDWR | O_CREAT | O_TRUNC, &undo_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = undo_fd;
	for (uint32_t i = 0; i < w->count && r == 0; i++) {
		const struct wf_overlay_piece *p = &w->pieces[i];
		memcpy(table + (size_t)i * WF_UNDO_PIECE_BYTES, &p->offset, 8);
		memcpy(table + (size_t)i * WF_UNDO_PIECE_BYTES + 8, &p->len, 8);
		r = copy_summed(base, p->offset, fd, at, p->len, buf, &crc);
		at += p->len;
	}
	if (r == 0)
		r = wf_pwrite_all(fd, &crc, sizeof crc, at);
	put_head(head, w, table);
	if (r == 0)
		r = wf_pwrite_all(fd, head, sizeof head, 0);
	if (r == 0)
		r = wf_pwrite_all(fd, table, (size_t)w->count * WF_UNDO_PIECE_BYTES, sizeof head);
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

void wf_overlay_remove_undo(struct wf_overlay *ov)
{
	if (ov->dir_fd >= 0)
		unlinkat(ov->dir_fd, "undo", 0);
}

/* ---- undo: reading ---- */

struct undo {
	int fd, target; /* -1 until they are open */
	struct wf_overlay_piece *pieces;
	uint64_t *stored; /* where the bytes of each begin in `undo` */
	uint32_t count;
	uint64_t inserted, grown, final, head_bytes;
	uint32_t head_crc32;
	struct stat st;       /* of the target */
	uint64_t shift, from; /* the base's bytes from `from` on stand so much later in the target */
	unsigned char *buf;
};

static void free_undo(struct undo *u)
{
	if (u->fd >= 0)
		close(u->fd);
	if (u->target >= 0)
		close(u->target);
	free(u->pieces);
	free(u->stored);
	free(u->buf);
}

static int read_table(struct undo *u, const unsigned char *head, const struct wf_overlay_base *b)
{
	uint64_t at = WF_UNDO_HEADER_BYTES + (uint64_t)u->count * WF_UNDO_PIECE_BYTES, end = 0;
	struct stat st;
	uint32_t crc = (uint32_t)crc32(0, head, WF_UNDO_AT_CRC), sum = 0, said;
	cleanup_free unsigned char *table = malloc(u->count * (size_t)WF_UNDO_PIECE_BYTES + 1);
	u->pieces = calloc(u->count + 1u, sizeof *u->pieces);
	u->stored = calloc(u->count + 1u, sizeof *u->stored);
	if (!table || !u->pieces || !u->stored)
		return -ENOMEM;
	int r = wf_pread_all(u->fd, table, (size_t)u->count * WF_UNDO_PIECE_BYTES, WF_UNDO_HEADER_BYTES);
	if (r < 0)
		return r == -EIO ? -EUCLEAN : r;
	crc = (uint32_t)crc32(crc, table, u->count * WF_UNDO_PIECE_BYTES);
	if (crc != wf_le32(head + WF_UNDO_AT_CRC))
		return -EUCLEAN;
	for (uint32_t i = 0; i < u->count; i++) {
		struct wf_overlay_piece *p = &u->pieces[i];
		p->offset = wf_le64(table + (size_t)i * WF_UNDO_PIECE_BYTES);
		p->len = wf_le64(table + (size_t)i * WF_UNDO_PIECE_BYTES + 8);
		u->stored[i] = at;
		if (p->len == 0 || p->offset < end || p->offset > b->size_bytes || p->len > b->size_bytes - p->offset)
			return -EUCLEAN;
		end = p->offset + p->len;
		at += p->len; /* their sum is at most the base's size */
	}
	if (fstat(u->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != at + 4)
		return -EUCLEAN;
	r = copy_summed(u->fd, at - (u->count ? at - u->stored[0] : 0), -1, 0, u->count ? at - u->stored[0] : 0, u->buf,
			&sum);
	if (r == 0)
		r = wf_pread_all(u->fd, &said, 4, at);
	return r == 0 && said != sum ? -EUCLEAN : r;
}

static int read_undo(struct wf_overlay *ov, struct undo *u, const struct wf_overlay_base *b)
{
	unsigned char head[WF_UNDO_HEADER_BYTES];
	u->buf = malloc(PIECE_BUFFER);
	int r = u->buf ? wf_overlay_open_at(ov, ov->dir_fd, "undo", O_RDONLY, &u->fd) : -ENOMEM;
	if (r == 0)
		r = wf_pread_all(u->fd, head, sizeof head, 0);
	if (r < 0)
		return r == -EIO || r == -ENOENT ? -EUCLEAN : r;
	if (memcmp(head, WF_UNDO_MAGIC, WF_MAGIC_BYTES) != 0)
		return -EUCLEAN;
	if (wf_le32(head + WF_UNDO_AT_VERSION) != WF_UNDO_VERSION)
		return -EOPNOTSUPP;
	u->count = wf_le32(head + WF_UNDO_AT_COUNT);
	u->inserted = wf_le64(head + WF_UNDO_AT_INSERTED);
	u->grown = wf_le64(head + WF_UNDO_AT_GROWN);
	u->final = wf_le64(head + WF_UNDO_AT_FINAL);
	u->head_bytes = wf_le64(head + WF_UNDO_AT_HEAD_LENGTH);
	u->head_crc32 = wf_le32(head + WF_UNDO_AT_HEAD_CRC);
	if (u->count > WF_UNDO_PIECES_MAX || u->grown > INT64_MAX || u->inserted > INT64_MAX - u->grown ||
	    u->grown < b->size_bytes || u->head_bytes > HEAD_MAX || u->final > u->grown || !b->has_content ||
	    (u->inserted > 0 && u->final != u->grown))
		return -EUCLEAN;
	r = read_table(u, head, b);
	if (r == 0 && u->inserted > 0 && (u->count == 0 || u->pieces[0].offset != 0 || u->pieces[0].len < 8))
		r = -EUCLEAN;
	return r;
}

/* ---- undo: the base in what is there ---- */

/* The piece that holds that byte of the base, or else the first behind it; count: none. */
static uint32_t piece_at(const struct undo *u, uint64_t offset)
{
	return wf_first_not(i, u->count, u->pieces[i].offset + u->pieces[i].len <= offset);
}

/* As far as the bytes of the base from offset on stand together in the target, and where. */
static uint64_t in_target(const struct undo *u, uint64_t offset, uint64_t len, uint64_t *ret_at)
{
	bool before = u->shift > 0 && offset < u->from;
	*ret_at = offset + (before ? 0 : u->shift);
	return before ? WF_MIN(len, u->from - offset) : len;
}

static int read_base(void *ctx, void *buf, size_t len, uint64_t offset)
{
	const struct undo *u = ctx;
	unsigned char *to = buf;
	int r = 0;
	while (len > 0 && r == 0) {
		uint32_t i = piece_at(u, offset);
		const struct wf_overlay_piece *p = i < u->count ? &u->pieces[i] : NULL;
		uint64_t n = len, at;
		if (p && p->offset <= offset) {
			n = WF_MIN(n, p->offset + p->len - offset);
			r = wf_pread_all(u->fd, to, (size_t)n, u->stored[i] + (offset - p->offset));
		} else {
			n = in_target(u, offset, p ? WF_MIN(n, p->offset - offset) : n, &at);
			r = wf_pread_all(u->target, to, (size_t)n, at);
		}
		to += n;
		len -= (size_t)n;
		offset += n;
	}
	return r;
}

/* How far the commit came, as far as it moved anything. -ESTALE: no state of it looks so. */
static int find_shift(struct undo *u, const struct wf_overlay_base *b)
{
	uint64_t size = (uint64_t)u->st.st_size;
	unsigned char is[8], was[8];
	if (size <= u->grown) /* nothing was inserted yet */
		return size >= WF_MIN(u->final, b->size_bytes) ? 0 : -ESTALE;
	if (u->inserted == 0 || size != u->grown + u->inserted)
		return -ESTALE;
	u->shift = u->inserted;
	int r = wf_pread_all(u->target, is, sizeof is, 0);
	if (r == 0)
		r = wf_pread_all(u->fd, was, sizeof was, u->stored[0]);
	if (r < 0 || memcmp(is, was, sizeof is) != 0)
		return r;
	/* the base still begins at the start: the hole is on its way there, or back */
	off_t hole = lseek(u->target, 0, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	if ((uint64_t)hole < b->size_bytes)
		u->from = (uint64_t)hole;
	else
		u->shift = 0; /* not a byte of the base has moved */
	return 0;
}

/* A copy, or a file that was restored, may be a later state. It is none where the new head is not there yet. */
static int may_be_finished(const struct undo *u, bool *ret)
{
	uint32_t crc = 0;
	*ret = true;
	if (u->head_bytes == 0 || (uint64_t)u->st.st_size < u->head_bytes)
		return 0;
	int r = copy_summed(u->target, 0, -1, 0, u->head_bytes, u->buf, &crc);
	*ret = r < 0 || crc == u->head_crc32;
	return r;
}

/* *ret: every byte is the base's, and stands in its place. */
static int is_untouched(const struct undo *u, const struct wf_overlay_base *b, bool *ret)
{
	cleanup_free unsigned char *old = malloc(PIECE_BUFFER);
	int r = old ? 0 : -ENOMEM;
	*ret = u->shift == 0 && (uint64_t)u->st.st_size == b->size_bytes;
	for (uint32_t i = 0; i < u->count && r == 0 && *ret; i++)
		for (uint64_t at = 0; at < u->pieces[i].len && r == 0 && *ret; at += PIECE_BUFFER) {
			size_t n = (size_t)WF_MIN(u->pieces[i].len - at, (uint64_t)PIECE_BUFFER);
			r = wf_pread_all(u->fd, old, n, u->stored[i] + at);
			if (r == 0)
				r = wf_pread_all(u->target, u->buf, n, u->pieces[i].offset + at);
			*ret = r == 0 && memcmp(old, u->buf, n) == 0;
		}
	return r;
}

/* -ESTALE: the target is not surely the base as that commit left it. */
static int recognise(struct undo *u, const struct wf_overlay_base *b, bool *ret_untouched)
{
	const struct wf_edges_reader base = {read_base, u};
	uint32_t edges, content;
	bool finished = false;
	if (fstat(u->target, &u->st) < 0)
		return -errno;
	int r = find_shift(u, b);
	if (r == 0)
		r = wf_edges_crc32_of(&base, b->size_bytes, &edges);
	if (r == 0)
		r = wf_content_crc32_of(&base, b->size_bytes, &content);
	if (r < 0)
		return r == -EIO ? -ESTALE : r;
	if (edges != b->edges_crc32 || content != b->content_crc32)
		return -ESTALE;
	r = is_untouched(u, b, ret_untouched);
	bool same_file = u->st.st_dev == b->dev && u->st.st_ino == b->ino;
	if (r == 0 && !*ret_untouched && !same_file)
		r = may_be_finished(u, &finished);
	return r == 0 && finished ? -ESTALE : r;
}

/* ---- undo: doing it ---- */

static int restore_piece(struct undo *u, uint32_t i)
{
	uint32_t ignored = 0;
	int r = 0;
	for (uint64_t done = 0; done < u->pieces[i].len && r == 0;) {
		uint64_t at, n = in_target(u, u->pieces[i].offset + done, u->pieces[i].len - done, &at);
		r = copy_summed(u->fd, u->stored[i] + done, u->target, at, n, u->buf, &ignored);
		done += n;
	}
	return r;
}

static int restore(struct undo *u, const struct wf_overlay_base *b)
{
	int r = 0;
	for (uint32_t i = 0; i < u->count && r == 0; i++)
		r = restore_piece(u, i);
	/* the old head is on the disk before it moves to the start: what begins there tells the next try how far this one came */
	if (r == 0 && u->shift > 0 && fsync(u->target) < 0)
		r = -errno;
	if (r == 0 && u->shift > 0 &&
	    fallocate(u->target, FALLOC_FL_COLLAPSE_RANGE, (off_t)u->from, (off_t)u->shift) < 0)
		r = -errno;
	return r < 0 ? r : set_size_and_time(u->target, b);
}

static int undo_rewrite(struct wf_overlay *ov, const struct wf_overlay_base *b)
{
	struct undo u = {.fd = -1, .target = -1};
	bool untouched = false;
	int r = read_undo(ov, &u, b);
	if (r == 0) {
		u.target = wf_overlay_open_target(ov, ov->writable ? O_RDWR : O_RDONLY);
		r = u.target >= 0 ? 0 : u.target == -ENOENT ? -ESTALE : u.target;
	}
	if (r == 0)
		r = recognise(&u, b, &untouched);
	if (r == 0 && !untouched)
		r = ov->writable ? restore(&u, b) : -EBUSY;
	else if (r == 0 && ov->writable)
		r = set_size_and_time(u.target, b); /* the bytes were written, and are the old ones */
	free_undo(&u);
	return r;
}

int wf_overlay_take_back(struct wf_overlay *ov, enum wf_mark_kind kind, const struct wf_overlay_base *b)
{
	int fd;
	if (kind == MARK_IN_PLACE)
		return undo_rewrite(ov, b);
	if (ov->writable)
		return cut_back_to(ov, b);
	int r = open_grown(ov, b, O_RDONLY, &fd);
	if (r == 0)
		close(fd);
	return r;
}

int wf_overlay_say_not_taken_back(struct wf_overlay *ov, enum wf_mark_kind kind, int r, struct wf_error *err)
{
	ov->torn = kind == MARK_IN_PLACE;
	if (r == -EBUSY && ov->torn)
		return wf_fail(err, r,
			       "%s is in the middle of a commit that was cut short: mount it writable, or run wfctl "
			       "commit or wfctl discard on it, which takes that back first",
			       ov->target);
	/* without the mark nobody could take it back any more */
	if (r == -ESTALE)
		return wf_fail(
			err, r,
			"%s has the mark of an unfinished %s to a file that is not the one at %s: bring that file "
			"back; when it is gone for good, remove the directory",
			ov->directory, ov->torn ? "commit in place" : "append", ov->target);
	return ov->torn ? wf_fail(err, r, "%s: taking back an unfinished commit, with %s/undo: %s", ov->target,
				  ov->directory, strerror(-r))
			: wf_fail(err, r, "%s: cutting back an unfinished append: %s", ov->target, strerror(-r));
}
