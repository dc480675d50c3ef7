/* commit: the mark of a commit under way, written whole or not at all (a temporary file renamed into place). Little
 * endian.
 *
 *    0  16  "weightfs commit\n"
 *   16   4  version (1)
 *   20   4  0: REPLACE, the file to be follows; 1: APPEND, the base follows
 *   24   8  device           56   8  mtime, ns
 *   32   8  inode            64   4  CRC-32 of its edges
 *   40   8  size in bytes    68   4  zero
 *   48   8  mtime, seconds   72   4  CRC-32 of bytes 0 to 71
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "overlay_impl.h"
#include "util.h"

#define MARK_VERSION 1u
#define MARK_BYTES 76u
#define EDGE_BYTES (64u << 10)

static const char mark_magic[16] = "weightfs commit\n";

/* ---- which file ---- */

static int crc_range(int fd, uint64_t offset, uint64_t len, unsigned char *buf, uint32_t *crc)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, WF_MIN(len, (uint64_t)EDGE_BYTES), (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		*crc = (uint32_t)crc32(*crc, buf, (uInt)n);
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int wf_overlay_base_of(int fd, uint64_t size_bytes, struct wf_overlay_base *ret)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	uint64_t size = WF_MIN(size_bytes, (uint64_t)st.st_size);
	if (size_bytes != UINT64_MAX && size < size_bytes)
		return -EIO;
	cleanup_free unsigned char *buf = malloc(EDGE_BYTES);
	if (!buf)
		return -ENOMEM;
	uint32_t crc = 0;
	uint64_t first = WF_MIN(size, (uint64_t)EDGE_BYTES), last = WF_MIN(size - first, (uint64_t)EDGE_BYTES);
	int r = crc_range(fd, 0, first, buf, &crc);
	if (r == 0)
		r = crc_range(fd, size - last, last, buf, &crc);
	if (r < 0)
		return r;
	*ret = (struct wf_overlay_base){.dev = st.st_dev,
					.ino = st.st_ino,
					.size_bytes = size,
					.mtime_sec = st.st_mtim.tv_sec,
					.mtime_nsec = st.st_mtim.tv_nsec,
					.edges_crc32 = crc};
	return 0;
}

bool wf_overlay_base_equal(const struct wf_overlay_base *a, const struct wf_overlay_base *b)
{
	return a->size_bytes == b->size_bytes && a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec &&
	       a->edges_crc32 == b->edges_crc32;
}

int wf_overlay_check_base(const struct wf_overlay *ov, struct wf_error *err)
{
	struct wf_overlay_base now;
	cleanup_fd int fd = open(ov->checkpoint, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : wf_overlay_base_of(fd, UINT64_MAX, &now);
	if (r < 0 && r != -ENOENT)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	if (r < 0 || now.dev != ov->base.dev || now.ino != ov->base.ino || !wf_overlay_base_equal(&now, &ov->base))
		return wf_fail(err, -ESTALE,
			       "%s was changed by someone else since it was opened: the edits stay in %s, and "
			       "output=FILE writes them elsewhere",
			       ov->checkpoint, ov->directory);
	return 0;
}

/* ---- the mark ---- */

enum mark_kind { MARK_NONE = -1, MARK_REPLACE, MARK_APPEND };

static void encode_mark(enum mark_kind kind, const struct wf_overlay_base *b, unsigned char *m)
{
	uint32_t version = MARK_VERSION, k = kind;
	memset(m, 0, MARK_BYTES);
	memcpy(m, mark_magic, sizeof mark_magic);
	memcpy(m + 16, &version, 4);
	memcpy(m + 20, &k, 4);
	memcpy(m + 24, &b->dev, 8);
	memcpy(m + 32, &b->ino, 8);
	memcpy(m + 40, &b->size_bytes, 8);
	memcpy(m + 48, &b->mtime_sec, 8);
	memcpy(m + 56, &b->mtime_nsec, 8);
	memcpy(m + 64, &b->edges_crc32, 4);
	uint32_t crc = (uint32_t)crc32(0, m, 72);
	memcpy(m + 72, &crc, 4);
}

static int write_mark(struct wf_overlay *ov, enum mark_kind kind, const struct wf_overlay_base *b)
{
	unsigned char m[MARK_BYTES];
	encode_mark(kind, b, m);
	cleanup_fd int fd =
		openat(ov->dir_fd, "commit.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, m, sizeof m);
	if (n != (ssize_t)sizeof m)
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(fd) < 0 || renameat(ov->dir_fd, "commit.new", ov->dir_fd, "commit") < 0 || fsync(ov->dir_fd) < 0)
		return -errno;
	return 0;
}

static int read_mark(const struct wf_overlay *ov, enum mark_kind *ret_kind, struct wf_overlay_base *ret,
		     struct wf_error *err)
{
	unsigned char m[MARK_BYTES];
	*ret_kind = MARK_NONE;
	cleanup_fd int fd = ov->dir_fd < 0 ? -1 : openat(ov->dir_fd, "commit", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		if (ov->dir_fd < 0 || errno == ENOENT)
			return 0;
		return wf_fail(err, -errno, "%s/commit: %s", ov->directory, strerror(errno));
	}
	ssize_t n = pread(fd, m, sizeof m, 0);
	if (n < 0)
		return wf_fail(err, -errno, "%s/commit: %s", ov->directory, strerror(errno));
	/* it was durable before it had this name: what does not check is not ours */
	if (n < (ssize_t)sizeof m || memcmp(m, mark_magic, sizeof mark_magic) != 0 ||
	    wf_le32(m + 72) != crc32(0, m, 72))
		return wf_fail(err, -EUCLEAN, "%s/commit is damaged: wfctl discard drops the edits", ov->directory);
	if (wf_le32(m + 16) != MARK_VERSION || wf_le32(m + 20) > MARK_APPEND)
		return wf_fail(err, -EOPNOTSUPP, "%s holds a commit of another version of weightfs", ov->directory);
	*ret_kind = (enum mark_kind)wf_le32(m + 20);
	*ret = (struct wf_overlay_base){.dev = wf_le64(m + 24),
					.ino = wf_le64(m + 32),
					.size_bytes = wf_le64(m + 40),
					.mtime_sec = (int64_t)wf_le64(m + 48),
					.mtime_nsec = (int64_t)wf_le64(m + 56),
					.edges_crc32 = wf_le32(m + 64)};
	return 0;
}

static void remove_mark(struct wf_overlay *ov)
{
	if (ov->dir_fd < 0)
		return;
	unlinkat(ov->dir_fd, "commit.new", 0);
	if (unlinkat(ov->dir_fd, "commit", 0) == 0)
		fsync(ov->dir_fd);
}

/* ---- cutting back an append ---- */

/* Opens the target for writing when it still starts with b. */
static int open_grown(const struct wf_overlay *ov, const struct wf_overlay_base *b, int flags, int *ret_fd)
{
	struct wf_overlay_base start;
	cleanup_fd int fd = open(ov->target, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = wf_overlay_base_of(fd, b->size_bytes, &start);
	if (r < 0)
		return r == -EIO ? -ESTALE : r;
	if (start.dev != b->dev || start.ino != b->ino || start.edges_crc32 != b->edges_crc32)
		return -ESTALE;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int cut_back_to(struct wf_overlay *ov, const struct wf_overlay_base *b)
{
	int raw_fd;
	int r = open_grown(ov, b, O_RDWR, &raw_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = raw_fd;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = b->mtime_sec, .tv_nsec = b->mtime_nsec}};
	if (ftruncate(fd, (off_t)b->size_bytes) < 0 || futimens(fd, times) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int wf_overlay_cut_back(struct wf_overlay *ov)
{
	return cut_back_to(ov, &ov->base);
}

int wf_overlay_undo_append(struct wf_overlay *ov, struct wf_error *err)
{
	enum mark_kind kind;
	struct wf_overlay_base b;
	int r = read_mark(ov, &kind, &b, NULL);
	if (r < 0 || kind != MARK_APPEND)
		return 0; /* an unreadable mark is discarded with the rest */
	r = cut_back_to(ov, &b);
	if (r < 0 && r != -ESTALE)
		return wf_fail(err, r, "%s: cutting back an unfinished append: %s", ov->target, strerror(-r));
	return 0;
}

/* ---- at opening ---- */

static int say_stale(const struct wf_overlay *ov, struct wf_error *err)
{
	return wf_fail(err, -ESTALE,
		       "the edits in %s belong to another state of %s: bring that file back, or drop them with "
		       "wfctl discard %s",
		       ov->directory, ov->checkpoint, ov->target);
}

/* The edits are in the file: what is left of them goes. */
static int drop_committed(struct wf_overlay *ov, struct wf_error *err)
{
	if (!ov->writable) {
		ov->ignored = true;
		return 0;
	}
	int r = wf_overlay_clear(ov, NULL, NULL);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	wf_overlay_log_line(ov, "%s: the last commit is complete", ov->target);
	wf_overlay_remove_directory(ov, false);
	return 0;
}

static int settle_replace(struct wf_overlay *ov, const struct wf_overlay_base *to_be, bool *ret_done,
			  struct wf_error *err)
{
	struct wf_overlay_base now = ov->base;
	if (ov->elsewhere) {
		cleanup_fd int fd = open(ov->target, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || wf_overlay_base_of(fd, UINT64_MAX, &now) < 0)
			now = (struct wf_overlay_base){0};
	}
	*ret_done = wf_overlay_base_equal(&now, to_be);
	if (*ret_done)
		return drop_committed(ov, err);
	if (ov->writable)
		remove_mark(ov);
	return 0;
}

static int settle_append(struct wf_overlay *ov, const struct wf_overlay_base *b, struct wf_error *err)
{
	int fd, r = 0;
	if (wf_overlay_base_equal(&ov->base, b)) {
		/* not a byte was appended */
	} else if (!ov->writable) {
		r = open_grown(ov, b, O_RDONLY, &fd);
		if (r == 0)
			close(fd);
	} else {
		r = cut_back_to(ov, b);
		if (r == 0)
			wf_overlay_log_line(ov, "%s: an unfinished append was cut back; the edits are kept",
					    ov->target);
	}
	if (r == -ESTALE)
		return say_stale(ov, err);
	if (r < 0)
		return wf_fail(err, r, "%s: cutting back an unfinished append: %s", ov->target, strerror(-r));
	if (!ov->elsewhere)
		ov->base = *b;
	if (ov->writable)
		remove_mark(ov);
	return 0;
}

int wf_overlay_settle_state(struct wf_overlay *ov, struct wf_error *err)
{
	enum mark_kind kind;
	struct wf_overlay_base mark, header;
	bool found = false, done = false;
	int r = wf_overlay_base_of(ov->file_fd, UINT64_MAX, &ov->base);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	ov->replayed = true;
	if (ov->dir_fd < 0)
		return 0;
	r = read_mark(ov, &kind, &mark, err);
	if (r == 0 && kind == MARK_REPLACE)
		r = settle_replace(ov, &mark, &done, err);
	else if (r == 0 && kind == MARK_APPEND)
		r = settle_append(ov, &mark, err);
	if (r < 0 || done)
		return r;
	r = wf_overlay_read_header(ov, &header, &found, err);
	if (r < 0)
		return r;
	if (!found) {
		wf_overlay_forget_log(ov);
		if (ov->writable) /* files without a log: a crash before the first record was durable */
			wf_overlay_remove_files(ov, NULL, NULL);
		return 0;
	}
	ov->replayed = false;
	return wf_overlay_base_equal(&header, &ov->base) ? 0 : say_stale(ov, err);
}

/* ---- committing ---- */

int wf_overlay_commit_begin(struct wf_overlay *ov, enum wf_overlay_commit kind, const struct wf_overlay_base *to_be,
			    struct wf_error *err)
{
	int r = wf_overlay_prepare(ov);
	if (r == 0)
		r = wf_overlay_sync(ov);
	ov->mark_append = kind == WF_OVERLAY_APPEND;
	if (r == 0)
		r = write_mark(ov, ov->mark_append ? MARK_APPEND : MARK_REPLACE, ov->mark_append ? &ov->base : to_be);
	return r < 0 ? wf_fail(err, r, "%s: %s", ov->directory, strerror(-r)) : 0;
}

void wf_overlay_commit_abort(struct wf_overlay *ov)
{
	remove_mark(ov);
}

int wf_overlay_seal_append(struct wf_overlay *ov, int fd)
{
	struct wf_overlay_base base;
	int r = wf_overlay_base_of(fd, UINT64_MAX, &base);
	/* one mark takes the place of the other in one step. Should only its durability fail and the append be cut
	 * back, it names a file that is not there: a replace that did not happen. */
	if (r == 0)
		r = write_mark(ov, MARK_REPLACE, &base);
	if (r == 0)
		ov->mark_append = false;
	return r;
}

int wf_overlay_committed(struct wf_overlay *ov, int fd, bool (*keep)(void *ctx, uint32_t number), void *ctx)
{
	struct wf_overlay_base base;
	struct stat st, old;
	int r = ov->mark_append ? wf_overlay_seal_append(ov, fd) : 0;
	if (r == 0)
		r = wf_overlay_base_of(fd, UINT64_MAX, &base);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (fstat(ov->file_fd, &old) < 0 || st.st_dev != old.st_dev || st.st_ino != old.st_ino) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0)
			return -errno;
		wf_overlay_lock_file(copy);
		close(ov->file_fd);
		ov->file_fd = copy;
	}
	if (ov->elsewhere) {
		char *path = strdup(ov->target);
		if (!path)
			return -ENOMEM;
		free(ov->checkpoint);
		ov->checkpoint = path;
		ov->elsewhere = false;
	}
	ov->base = base;
	ov->keep = keep;
	ov->keep_ctx = ctx;
	int left = wf_overlay_clear(ov, keep, ctx);
	ov->uncleared = left < 0;
	if (left < 0)
		wf_overlay_log_line(ov, "%s cannot be cleared after the commit yet: %s", ov->directory,
				    strerror(-left));
	return 0;
}
