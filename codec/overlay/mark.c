/* SPDX-License-Identifier: MIT */
/* The mark of a commit under way, written whole or not at all: a temporary file renamed into place. overlay/format.h draws it,
 * overlay.h tells what each state of it means to the next opening. */
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

#define MARK_MOST_BYTES 4096u /* of one that another version wrote */
#define MARK_NONE (-1)        /* in place of an enum wf_mark_kind: there is no mark */

/* ---- the mark ---- */

static void put_u32(unsigned char *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

static void encode_mark(enum wf_mark_kind kind, const struct wf_overlay_base *b, unsigned char *m)
{
	memset(m, 0, WF_MARK_BYTES);
	memcpy(m, WF_MARK_MAGIC, WF_MAGIC_BYTES);
	put_u32(m + WF_MARK_AT_VERSION, b->has_content ? WF_MARK_VERSION : WF_MARK_VERSION_OLDEST);
	put_u32(m + WF_MARK_AT_KIND, kind);
	wf_overlay_put_base(m + WF_MARK_AT_BASE, b);
	if (b->has_content)
		put_u32(m + WF_MARK_AT_CONTENT, b->content_crc32);
	put_u32(m + WF_MARK_AT_CRC, (uint32_t)crc32(0, m, WF_MARK_AT_CRC));
}

static int write_mark(struct wf_overlay *ov, enum wf_mark_kind kind, const struct wf_overlay_base *b)
{
	unsigned char m[WF_MARK_BYTES];
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

/* *ret_kind: an enum wf_mark_kind, or MARK_NONE. */
static int read_mark(const struct wf_overlay *ov, int *ret_kind, struct wf_overlay_base *ret, struct wf_error *err)
{
	unsigned char m[MARK_MOST_BYTES];
	size_t n;
	*ret_kind = MARK_NONE;
	int mark_fd, r = ov->dir_fd < 0 ? -ENOENT : wf_overlay_open_at(ov, ov->dir_fd, "commit", O_RDONLY, &mark_fd);
	if (r < 0)
		return r == -ENOENT ? 0 : wf_fail(err, r, "%s/commit: %s", ov->directory, strerror(-r));
	cleanup_fd int fd = mark_fd;
	r = wf_pread_most(fd, m, sizeof m, 0, &n);
	if (r < 0)
		return wf_fail(err, r, "%s/commit: %s", ov->directory, strerror(-r));
	/* it was durable before it had this name: what does not check is not ours */
	if (n < WF_MARK_AT_BASE + 4 || memcmp(m, WF_MARK_MAGIC, WF_MAGIC_BYTES) != 0 ||
	    wf_le32(m + n - 4) != crc32(0, m, (uInt)n - 4))
		return wf_fail(err, -EUCLEAN, "%s/commit is damaged: wfctl discard drops the edits", ov->directory);
	uint32_t version = wf_le32(m + WF_MARK_AT_VERSION), kind = wf_le32(m + WF_MARK_AT_KIND);
	if (version < WF_MARK_VERSION_OLDEST || version > WF_MARK_VERSION || kind > MARK_IN_PLACE || n != WF_MARK_BYTES)
		return wf_fail(
			err, -EOPNOTSUPP,
			"%s holds a commit of another version of weightfs (mark version %u, kind %u, %zu bytes; this one writes "
			"version %u, kinds %u to %u, %u bytes): mount the checkpoint with that version, which settles it",
			ov->directory, version, kind, n, WF_MARK_VERSION, MARK_REPLACE, MARK_IN_PLACE, WF_MARK_BYTES);
	*ret_kind = (int)kind;
	*ret = wf_overlay_get_base(m + WF_MARK_AT_BASE, version >= 2, wf_le32(m + WF_MARK_AT_CONTENT));
	return 0;
}

static void remove_mark(struct wf_overlay *ov)
{
	if (ov->dir_fd < 0)
		return;
	unlinkat(ov->dir_fd, "commit.new", 0);
	int r = unlinkat(ov->dir_fd, "commit", 0) < 0 ? -errno : wf_sync_directory(ov->dir_fd);
	wf_overlay_drop_next(ov); /* without its mark it is no commit's */
	if (r == 0 || r == -ENOENT)
		wf_overlay_remove_undo(ov);
}

/* ---- taking back what a commit did to the checkpoint itself ---- */

int wf_overlay_cut_back(struct wf_overlay *ov)
{
	if (!ov->in_place)
		return wf_overlay_take_back(ov, MARK_APPEND, &ov->base);
	/* a seal that was not durable: from the first byte that goes back on, the file is what this mark says */
	int r = write_mark(ov, MARK_IN_PLACE, &ov->base);
	if (r == 0)
		ov->marked = WF_OVERLAY_IN_PLACE;
	return r < 0 ? r : wf_overlay_take_back(ov, MARK_IN_PLACE, &ov->base);
}

int wf_overlay_undo_append(struct wf_overlay *ov, struct wf_error *err)
{
	int kind;
	struct wf_overlay_base b;
	int r = read_mark(ov, &kind, &b, err);
	if (r == -EUCLEAN)
		return 0; /* nobody can read it: it is discarded with the rest */
	if (r < 0 || (kind != MARK_APPEND && kind != MARK_IN_PLACE))
		return r;
	r = wf_overlay_take_back(ov, (enum wf_mark_kind)kind, &b);
	return r < 0 ? wf_overlay_say_not_taken_back(ov, (enum wf_mark_kind)kind, r, err) : 0;
}

int wf_overlay_check_torn(struct wf_overlay *ov, struct wf_error *err)
{
	int kind;
	struct wf_overlay_base b;
	if (read_mark(ov, &kind, &b, NULL) < 0 || kind != MARK_IN_PLACE)
		return 0;
	int r = wf_overlay_take_back(ov, MARK_IN_PLACE, &b);
	return r < 0 ? wf_overlay_say_not_taken_back(ov, MARK_IN_PLACE, r, err) : 0;
}

/* ---- at opening ---- */

static int target_now(const struct wf_overlay *ov, struct wf_overlay_base *ret)
{
	cleanup_fd int fd = wf_overlay_open_target(ov, O_RDONLY);
	return fd < 0 ? fd : wf_overlay_base_of(fd, UINT64_MAX, ret);
}

bool wf_overlay_is_done(const struct wf_overlay *ov)
{
	int kind;
	struct wf_overlay_base mark, now;
	return read_mark(ov, &kind, &mark, NULL) == 0 && kind == MARK_REPLACE && target_now(ov, &now) == 0 &&
	       wf_overlay_base_equal(&now, &mark);
}

static int say_stale(const struct wf_overlay *ov, const struct wf_overlay_base *header, struct wf_error *err)
{
	struct wf_overlay_base now;
	if (ov->elsewhere && header && target_now(ov, &now) == 0 && wf_overlay_base_equal(&now, header))
		return wf_fail(
			err, -ESTALE,
			"the edits in %s follow a commit to %s: wfctl commit %s writes them there, wfctl discard %s "
			"drops them",
			ov->directory, ov->target, ov->target, ov->target);
	return wf_fail(err, -ESTALE,
		       "the edits in %s belong to another state of %s: bring that file back, apply them with wfctl "
		       "commit --onto FILE %s, or drop them with wfctl discard %s",
		       ov->directory, ov->checkpoint, ov->target, ov->target);
}

/* The edits are in the file, and the log that the commit began goes on. */
static int go_on_from(struct wf_overlay *ov, struct wf_error *err)
{
	if (!ov->writable)
		return 0;
	int r = wf_sync_directory(ov->dir_fd);
	if (r == 0 && unlinkat(ov->dir_fd, "commit", 0) < 0)
		r = -errno;
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	wf_log_line(&ov->log, "%s: the last commit is complete", ov->target);
	return 0;
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

/* The target is the file that a REPLACE mark announced. *ret_done: nothing is left that an opening has to read. */
static int settle_committed(struct wf_overlay *ov, const struct wf_overlay_base *now, bool *ret_done,
			    struct wf_error *err)
{
	bool begun = false;
	int r = wf_overlay_adopt_next(ov, now, &begun);
	*ret_done = !begun;
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	return begun ? go_on_from(ov, err) : drop_committed(ov, err);
}

/* The edits are in an output, which is no base of what is opened here: the log goes on as in the mount that made them. Scratch entries
 * are in it alone, and the next commit writes all of its edits once more. */
static int resume_log(struct wf_overlay *ov, bool *ret)
{
	struct wf_overlay_base header;
	bool found = false;
	*ret = false;
	int r = wf_overlay_read_header(ov, "log", &header, &found, NULL);
	if (r == -ENOMEM || r == -EIO)
		return r;
	if (r < 0 || !found || !wf_overlay_base_equal(&header, &ov->base)) {
		wf_overlay_forget_log(ov);
		return 0;
	}
	wf_overlay_written(ov);
	if (ov->writable)
		wf_log_line(&ov->log, "%s: the last commit is complete", ov->target);
	*ret = true;
	return 0;
}

static int settle_append(struct wf_overlay *ov, enum wf_mark_kind kind, const struct wf_overlay_base *b,
			 struct wf_error *err)
{
	/* an append: not a byte was appended, or the file of before was restored. In place, bytes may differ that nobody samples. */
	bool same = kind == MARK_APPEND && !ov->elsewhere && wf_overlay_base_equal(&ov->base, b);
	int r = same ? 0 : wf_overlay_take_back(ov, kind, b);
	if (r < 0)
		return wf_overlay_say_not_taken_back(ov, kind, r, err);
	if (!same && ov->writable)
		wf_log_line(&ov->log, "%s: an unfinished %s; the edits are kept", ov->target,
			    kind == MARK_APPEND ? "append was cut back" : "commit in place was undone");
	/* a copy has another inode and other times than the mark says */
	if (!ov->elsewhere && (r = wf_overlay_base_of(ov->file_fd, b->size_bytes, &ov->base)) < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	if (ov->writable)
		remove_mark(ov);
	return 0;
}

static int settle_edits(struct wf_overlay *ov, struct wf_error *err)
{
	int kind;
	struct wf_overlay_base mark, header;
	bool found = false, done = false, resumed = false;
	int r = wf_overlay_base_of(ov->file_fd, UINT64_MAX, &ov->base);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	struct wf_overlay_base now = ov->base;
	r = read_mark(ov, &kind, &mark, err);
	bool committed = r == 0 && kind == MARK_REPLACE && (!ov->elsewhere || target_now(ov, &now) == 0) &&
			 wf_overlay_base_equal(&now, &mark);
	if (committed && ov->elsewhere && (r = resume_log(ov, &resumed)) < 0)
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	if (committed && !resumed)
		r = settle_committed(ov, &now, &done, err);
	else if (r == 0 && (kind == MARK_APPEND || kind == MARK_IN_PLACE))
		r = settle_append(ov, (enum wf_mark_kind)kind, &mark, err);
	if (r < 0 || done)
		return r;
	if (committed) {
		found = true;
		header = resumed ? ov->base : now;
	} else {
		r = wf_overlay_read_header(ov, "log", &header, &found, err);
	}
	if (r < 0)
		return r;
	if (found && !wf_overlay_base_equal(&header, &ov->base)) {
		ov->replayed = false;
		return say_stale(ov, &header, err);
	}
	if (ov->writable && kind == MARK_NONE)
		wf_overlay_remove_undo(ov); /* of a commit that was killed before its mark */
	/* a replace whose rename did not happen; were the file another one, the mark might be wanted again */
	if (ov->writable && kind == MARK_REPLACE && !committed)
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
	int kind;
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
	if (kind == MARK_APPEND || kind == MARK_IN_PLACE)
		return wf_fail(
			err, -ESTALE,
			"%s has the mark of an unfinished commit to the file itself: mount its own file first, which settles that",
			ov->directory);
	if (kind == MARK_REPLACE && wf_overlay_base_equal(&ov->base, &mark))
		return wf_fail(err, -ESTALE, "the edits in %s are in %s already", ov->directory, ov->checkpoint);
	r = wf_overlay_read_header(ov, "log", &header, &found, err);
	if (r < 0)
		return r;
	if (!found)
		return wf_fail(err, -ENOENT, "%s has no edits that wait for a commit", ov->directory);
	if (ov->log_version < 2)
		return wf_fail(
			err, -EOPNOTSUPP,
			"the edits in %s were made by an older version, which did not write down what they touch",
			ov->directory);
	ov->replayed = false;
	return 0;
}

/* ---- committing ---- */

int wf_overlay_save(struct wf_overlay *ov, const struct wf_overlay_rewrite *rewrite, struct wf_error *err)
{
	int r = wf_overlay_write_undo(ov, rewrite);
	if (r < 0) {
		wf_overlay_remove_undo(ov);
		return wf_fail(err, r, "%s/undo, where the old bytes go first: %s", ov->directory, strerror(-r));
	}
	return 0;
}

int wf_overlay_commit_begin(struct wf_overlay *ov, enum wf_overlay_commit kind, const struct wf_overlay_base *to_be,
			    struct wf_error *err)
{
	if (ov->unlogged && ov->log_fd < 0 && kind == WF_OVERLAY_REPLACE)
		return 0; /* there is no log that could be taken for one of the new file's */
	int r = wf_overlay_prepare_removal(ov);
	if (r == 0)
		r = wf_overlay_sync(ov);
	if (ov->next_state == WF_NEXT_NONE)
		wf_overlay_drop_next(ov); /* an older one is not this commit's */
	if (r == 0 && kind == WF_OVERLAY_IN_PLACE) {
		/* bytes inside change: what is left of the old file is known by its content alone */
		wf_overlay_know_content(ov);
		r = ov->base.has_content ? 0 : -ESTALE;
	}
	ov->marked = kind;
	ov->in_place = kind == WF_OVERLAY_IN_PLACE;
	if (r == 0)
		r = write_mark(ov,
			       kind == WF_OVERLAY_REPLACE  ? MARK_REPLACE
			       : kind == WF_OVERLAY_APPEND ? MARK_APPEND
							   : MARK_IN_PLACE,
			       kind == WF_OVERLAY_REPLACE ? to_be : &ov->base);
	return r < 0 ? wf_fail(err, r, "%s: %s", ov->directory, strerror(-r)) : 0;
}

void wf_overlay_commit_abort(struct wf_overlay *ov)
{
	remove_mark(ov); /* and the log that was to follow */
}

int wf_overlay_seal_append(struct wf_overlay *ov, const struct wf_overlay_base *grown)
{
	/* one mark takes the place of the other in one step. Should only its durability fail and the append be cut
	 * back, it names a file that is not there: a replace that did not happen. What a commit in place changed does not
	 * go back in one step: wf_overlay_cut_back puts that one's mark back first. */
	int r = write_mark(ov, MARK_REPLACE, grown);
	if (r == 0)
		ov->marked = WF_OVERLAY_REPLACE;
	return r;
}

void wf_overlay_written(struct wf_overlay *ov)
{
	ov->pending = 0;
	ov->written = ov->goes_on = true;
}

bool wf_overlay_goes_on(const struct wf_overlay *ov)
{
	return ov->goes_on;
}

int wf_overlay_committed(struct wf_overlay *ov, int fd, bool (*keep)(void *ctx, uint32_t number), void *ctx)
{
	struct wf_overlay_base base;
	struct stat st, old;
	int r = wf_overlay_base_of(fd, UINT64_MAX, &base);
	if (r == 0 && ov->marked != WF_OVERLAY_REPLACE)
		r = wf_overlay_seal_append(ov, &base);
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
		wf_log_line(&ov->log, "%s cannot be cleared after the commit yet: %s", ov->directory, strerror(-left));
	return 0;
}
