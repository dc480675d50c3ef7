/* commit: the mark of a commit under way, written whole or not at all (a temporary file renamed into place). Little
 * endian.
 *
 *    0  16  "weightfs commit\n"
 *   16   4  version (2; one of version 1 is read, too)
 *   20   4  0: REPLACE, the file to be follows; 1: APPEND, the base follows
 *   24   8  device           56   8  mtime, ns
 *   32   8  inode            64   4  CRC-32 of its edges
 *   40   8  size in bytes    68   4  CRC-32 of its content (version 1: zero, and not known)
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

#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

#define MARK_VERSION 2u
#define MARK_VERSION_OLDEST 1u
#define MARK_BYTES 76u

static const char mark_magic[16] = "weightfs commit\n";

/* ---- the mark ---- */

/* On disk: never numbered anew. */
enum mark_kind { MARK_NONE = -1, MARK_REPLACE = 0, MARK_APPEND = 1 };

static void encode_mark(enum mark_kind kind, const struct wf_overlay_base *b, unsigned char *m)
{
	uint32_t version = b->has_content ? MARK_VERSION : MARK_VERSION_OLDEST, k = kind;
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
	if (b->has_content)
		memcpy(m + 68, &b->content_crc32, 4);
	uint32_t crc = (uint32_t)crc32(0, m, 72);
	memcpy(m + 72, &crc, 4);
}

static int write_mark(struct wf_overlay *ov, enum mark_kind kind, const struct wf_overlay_base *b)
{
	unsigned char m[MARK_BYTES];
	encode_mark(kind, b, m);
	int mark_fd, r = wf_overlay_open_at(ov, ov->dir_fd, "commit.new", O_WRONLY | O_CREAT | O_TRUNC, &mark_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = mark_fd;
	ssize_t n = write(fd, m, sizeof m);
	if (n != (ssize_t)sizeof m)
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(fd) < 0 || renameat(ov->dir_fd, "commit.new", ov->dir_fd, "commit") < 0)
		return -errno;
	return wf_sync_directory(ov->dir_fd);
}

static int read_mark(const struct wf_overlay *ov, enum mark_kind *ret_kind, struct wf_overlay_base *ret,
		     struct wf_error *err)
{
	unsigned char m[MARK_BYTES];
	*ret_kind = MARK_NONE;
	int mark_fd, r = ov->dir_fd < 0 ? -ENOENT : wf_overlay_open_at(ov, ov->dir_fd, "commit", O_RDONLY, &mark_fd);
	if (r < 0)
		return r == -ENOENT ? 0 : wf_fail(err, r, "%s/commit: %s", ov->directory, strerror(-r));
	cleanup_fd int fd = mark_fd;
	ssize_t n = pread(fd, m, sizeof m, 0);
	if (n < 0)
		return wf_fail(err, -errno, "%s/commit: %s", ov->directory, strerror(errno));
	/* it was durable before it had this name: what does not check is not ours */
	if (n < (ssize_t)sizeof m || memcmp(m, mark_magic, sizeof mark_magic) != 0 ||
	    wf_le32(m + 72) != crc32(0, m, 72))
		return wf_fail(err, -EUCLEAN, "%s/commit is damaged: wfctl discard drops the edits", ov->directory);
	uint32_t version = wf_le32(m + 16);
	if (version < MARK_VERSION_OLDEST || version > MARK_VERSION || wf_le32(m + 20) > MARK_APPEND)
		return wf_fail(err, -EOPNOTSUPP, "%s holds a commit of another version of weightfs", ov->directory);
	*ret_kind = (enum mark_kind)wf_le32(m + 20);
	*ret = (struct wf_overlay_base){.dev = wf_le64(m + 24),
					.ino = wf_le64(m + 32),
					.size_bytes = wf_le64(m + 40),
					.mtime_sec = (int64_t)wf_le64(m + 48),
					.mtime_nsec = (int64_t)wf_le64(m + 56),
					.edges_crc32 = wf_le32(m + 64),
					.has_content = version >= MARK_VERSION,
					.content_crc32 = wf_le32(m + 68)};
	return 0;
}

static void remove_mark(struct wf_overlay *ov)
{
	if (ov->dir_fd < 0)
		return;
	unlinkat(ov->dir_fd, "commit.new", 0);
	if (unlinkat(ov->dir_fd, "commit", 0) == 0)
		wf_sync_directory(ov->dir_fd);
}

/* ---- cutting back an append ---- */

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
	if (start.edges_crc32 != b->edges_crc32 || (b->has_content ? start.content_crc32 != b->content_crc32 : !same_file))
		return -ESTALE;
	/* a copy or a restored file: it may be a later state, of which a commit was finished */
	struct stat st;
	if (!same_file && fstat(fd, &st) == 0 && (uint64_t)st.st_size > b->size_bytes && ends_whole(fd))
		return -ESTALE;
	*ret_fd = steal_fd(&fd);
	return 0;
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
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = b->mtime_sec, .tv_nsec = b->mtime_nsec}};
	if (ftruncate(fd, (off_t)b->size_bytes) < 0 || futimens(fd, times) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int wf_overlay_cut_back(struct wf_overlay *ov)
{
	return cut_back_to(ov, &ov->base);
}

/* Without the mark nobody could undo the append any more. */
static int say_doubt(const struct wf_overlay *ov, struct wf_error *err)
{
	return wf_fail(err, -ESTALE,
		       "%s has the mark of an unfinished append to a file that is not the one at %s: bring that file "
		       "back; when it is gone for good, remove the directory",
		       ov->directory, ov->target);
}

int wf_overlay_undo_append(struct wf_overlay *ov, struct wf_error *err)
{
	enum mark_kind kind;
	struct wf_overlay_base b;
	int r = read_mark(ov, &kind, &b, err);
	if (r == -EUCLEAN)
		return 0; /* nobody can read it: it is discarded with the rest */
	if (r < 0 || kind != MARK_APPEND)
		return r;
	r = cut_back_to(ov, &b);
	if (r == -ESTALE)
		return say_doubt(ov, err);
	return r < 0 ? wf_fail(err, r, "%s: cutting back an unfinished append: %s", ov->target, strerror(-r)) : 0;
}

/* ---- at opening ---- */

static int target_now(const struct wf_overlay *ov, struct wf_overlay_base *ret)
{
	cleanup_fd int fd = wf_overlay_open_target(ov, O_RDONLY);
	return fd < 0 ? fd : wf_overlay_base_of(fd, UINT64_MAX, ret);
}

bool wf_overlay_is_done(const struct wf_overlay *ov)
{
	enum mark_kind kind;
	struct wf_overlay_base mark, now;
	return read_mark(ov, &kind, &mark, NULL) == 0 && kind == MARK_REPLACE && target_now(ov, &now) == 0 &&
	       wf_overlay_base_equal(&now, &mark);
}

static int say_stale(const struct wf_overlay *ov, const struct wf_overlay_base *header, struct wf_error *err)
{
	struct wf_overlay_base now;
	if (ov->elsewhere && header && target_now(ov, &now) == 0 && wf_overlay_base_equal(&now, header))
		return wf_fail(err, -ESTALE,
			       "the edits in %s follow a commit to %s: wfctl commit %s writes them there, wfctl discard %s "
			       "drops them",
			       ov->directory, ov->target, ov->target, ov->target);
	return wf_fail(err, -ESTALE,
		       "the edits in %s belong to another state of %s: bring that file back, apply them with wfctl "
		       "commit --onto FILE %s, or drop them with wfctl discard %s",
		       ov->directory, ov->checkpoint, ov->target, ov->target);
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
	wf_log_line(&ov->log, "%s: the last commit is complete", ov->target);
	wf_overlay_remove_directory(ov, false);
	return 0;
}

static int settle_replace(struct wf_overlay *ov, const struct wf_overlay_base *to_be, bool *ret_done,
			  struct wf_error *err)
{
	struct wf_overlay_base now = ov->base;
	*ret_done = (!ov->elsewhere || target_now(ov, &now) == 0) && wf_overlay_base_equal(&now, to_be);
	return *ret_done ? drop_committed(ov, err) : 0;
}

static int settle_append(struct wf_overlay *ov, const struct wf_overlay_base *b, struct wf_error *err)
{
	int fd, r = 0;
	if (!ov->elsewhere && wf_overlay_base_equal(&ov->base, b)) {
		/* not a byte was appended, or the file of before was restored */
	} else if (!ov->writable) {
		r = open_grown(ov, b, O_RDONLY, &fd);
		if (r == 0)
			close(fd);
	} else {
		r = cut_back_to(ov, b);
		if (r == 0)
			wf_log_line(&ov->log, "%s: an unfinished append was cut back; the edits are kept",
					    ov->target);
	}
	if (r == -ESTALE)
		return say_doubt(ov, err);
	if (r < 0)
		return wf_fail(err, r, "%s: cutting back an unfinished append: %s", ov->target, strerror(-r));
	/* a copy has another inode and other times than the mark says */
	if (!ov->elsewhere && (r = wf_overlay_base_of(ov->file_fd, b->size_bytes, &ov->base)) < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	if (ov->writable)
		remove_mark(ov);
	return 0;
}

static int settle_edits(struct wf_overlay *ov, struct wf_error *err)
{
	enum mark_kind kind;
	struct wf_overlay_base mark, header;
	bool found = false, done = false;
	int r = wf_overlay_base_of(ov->file_fd, UINT64_MAX, &ov->base);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
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
	if (found && !wf_overlay_base_equal(&header, &ov->base)) {
		ov->replayed = false;
		return say_stale(ov, &header, err);
	}
	/* a replace whose rename did not happen; were the file another one, the mark might be wanted again */
	if (ov->writable && kind == MARK_REPLACE)
		remove_mark(ov);
	ov->replayed = !found;
	if (!found)
		wf_overlay_forget_log(ov);
	if (!found && ov->writable) /* files without a log: a crash before the first record was durable */
		wf_overlay_remove_files(ov, NULL, NULL);
	return 0;
}

int wf_overlay_settle_state(struct wf_overlay *ov, struct wf_error *err)
{
	ov->replayed = true;
	if (ov->dir_fd >= 0)
		return settle_edits(ov, err);
	int r = wf_overlay_base_look(ov->file_fd, UINT64_MAX, &ov->base);
	return r < 0 ? wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r)) : 0;
}

int wf_overlay_settle_onto(struct wf_overlay *ov, struct wf_error *err)
{
	enum mark_kind kind;
	struct wf_overlay_base mark, header;
	bool found = false;
	int r = wf_overlay_base_of(ov->file_fd, UINT64_MAX, &ov->base);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	if (ov->dir_fd < 0)
		return wf_fail(err, -ENOENT, "there is no %s with edits", ov->directory);
	r = read_mark(ov, &kind, &mark, err);
	if (r < 0)
		return r;
	if (kind == MARK_APPEND)
		return wf_fail(err, -ESTALE, "%s has the mark of an unfinished append: mount its own file first, which settles that",
			       ov->directory);
	if (kind == MARK_REPLACE && wf_overlay_base_equal(&ov->base, &mark))
		return wf_fail(err, -ESTALE, "the edits in %s are in %s already", ov->directory, ov->checkpoint);
	r = wf_overlay_read_header(ov, &header, &found, err);
	if (r < 0)
		return r;
	if (!found)
		return wf_fail(err, -ENOENT, "%s has no edits that wait for a commit", ov->directory);
	if (ov->log_version < 2)
		return wf_fail(err, -EOPNOTSUPP,
			       "the edits in %s were made by an older version, which did not write down what they touch",
			       ov->directory);
	ov->replayed = false;
	return 0;
}

/* ---- committing ---- */

int wf_overlay_commit_begin(struct wf_overlay *ov, enum wf_overlay_commit kind, const struct wf_overlay_base *to_be,
			    struct wf_error *err)
{
	int r = wf_overlay_prepare_removal(ov);
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
		wf_log_line(&ov->log, "%s cannot be cleared after the commit yet: %s", ov->directory,
				    strerror(-left));
	return 0;
}
