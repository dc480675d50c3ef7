/* SPDX-License-Identifier: MIT */
/* Which way a commit goes, and the bytes of the file that it makes. */
#include "codec/commit/run_inner.h"
#include "codec/commit/shards_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

/* Advice to append instead: when a copy is long and nearly all of it is old. */
#define ADVICE_MIN_BYTES (1ull << 30)
#define ADVICE_RATIO 100u
/* What a record may need beside its bytes, when dead bytes are estimated. */
#define RECORD_SLACK_BYTES 512u

/* ---- which way ---- */

static bool is_zip(const struct wf_container *c)
{
	enum wf_container_kind kind = wf_container_kind_of(c);
	return kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT;
}

static bool is_one_safetensors_file(const struct wf_container *c)
{
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	struct wf_source *file = wf_container_file(c);
	return wf_container_kind_of(c) == WF_CONTAINER_SAFETENSORS && wf_source_locate(file, 0, &run) &&
	       run.offset == 0 && run.len == wf_source_size(file);
}

/* Bytes of the file that no record holds: what earlier appends left. */
static uint64_t dead_bytes(const struct wf_container *c)
{
	uint64_t live = 0, size = wf_source_size(wf_container_file(c));
	for (uint32_t i = 0; i < wf_container_count(c); i++)
		live += wf_container_record(c, i)->stored_bytes + RECORD_SLACK_BYTES;
	return live < size ? size - live : 0;
}

bool wf_commit_targets_itself(const struct wf_checkpoint *ck)
{
	return strcmp(wf_overlay_target(ck->overlay), wf_overlay_file_path(ck->overlay)) == 0;
}

/* What can be inserted at the start of a file in that directory: tried with a file without a name, because bytes that moved in the
 * checkpoint would have to be recovered. 0: nothing. */
static uint32_t insert_block_at(struct wf_commit_run *c)
{
	struct stat st;
	cleanup_fd int home = wf_overlay_open_home(c->ck->overlay);
	cleanup_fd int fd = home < 0 ? -1 : openat(home, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_blksize <= 0 || st.st_blksize > (1 << 20) || st.st_blksize % 8)
		return 0;
	uint32_t block = (uint32_t)st.st_blksize;
	cleanup_free unsigned char *bytes = malloc(block);
	if (!bytes)
		return 0;
	memset(bytes, 1, block);
	return wf_pwrite_all(fd, bytes, block, 0) == 0 && fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, block) == 0 ? block
													       : 0;
}

static int choose_itself(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	int fd = wf_overlay_open_target(ck->overlay, O_RDWR);
	if (fd < 0)
		return wf_fail(c->err, fd, "cannot write to %s: %s", wf_overlay_target(ck->overlay), strerror(-fd));
	c->target_fd = fd;
	c->strategy = is_zip(ck->container) ? WF_STRATEGY_APPEND : WF_STRATEGY_IN_PLACE;
	if (c->strategy == WF_STRATEGY_IN_PLACE)
		c->insert_block = insert_block_at(c);
	return 0;
}

static int open_new_file(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	c->strategy = WF_STRATEGY_REPLACE;
	int home = wf_overlay_open_home(ck->overlay);
	if (home < 0)
		return wf_fail(c->err, home, "the directory of %s: %s", wf_overlay_target(ck->overlay),
			       strerror(-home));
	return wf_new_file_open(&c->file, wf_overlay_target(ck->overlay), home, c->err);
}

int wf_commit_choose_new_file(struct wf_commit_run *c, const char *why)
{
	close(c->target_fd);
	c->target_fd = -1;
	wf_log_line(&c->ck->log, "commit=append: %s; a new file is written", why);
	return open_new_file(c);
}

int wf_commit_choose(struct wf_commit_run *c, enum wf_commit_mode mode)
{
	struct wf_checkpoint *ck = c->ck;
	bool may = is_zip(ck->container) || is_one_safetensors_file(ck->container);
	if (mode == WF_COMMIT_APPEND && may && wf_commit_targets_itself(ck))
		return choose_itself(c);
	if (mode == WF_COMMIT_APPEND)
		wf_log_line(&ck->log,
			    "commit=append is for zip checkpoints and safetensors files written to themselves; a new "
			    "file is written");
	int r = open_new_file(c);
	if (r < 0 || mode != WF_COMMIT_AUTO || !is_zip(ck->container) || ck->write_other)
		return r;
	/* a clone shares its dead bytes with the old file, but not for ever */
	uint64_t size = wf_source_size(wf_container_file(ck->container));
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	if (dead_bytes(ck->container) < size / 2 && wf_source_locate(wf_container_file(ck->container), 0, &old) &&
	    ioctl(c->file.fd, FICLONE, old.fd) == 0)
		c->strategy = WF_STRATEGY_CLONE_AND_APPEND;
	return 0;
}

/* ---- writing: commit_lock alone keeps graph, storages and tree as they are, while files are opened, read and closed
 * ---- */

static void advise(struct wf_commit_run *c, uint64_t copied)
{
	struct wf_checkpoint *ck = c->ck;
	if (!is_zip(ck->container) || !wf_commit_targets_itself(ck) || copied < ADVICE_MIN_BYTES ||
	    c->plan.new_bytes > copied / ADVICE_RATIO)
		return;
	atomic_store(&ck->progress.append_bytes, WF_MAX(c->plan.new_bytes, (uint64_t)1));
	wf_log_line(&ck->log,
		    "writing a new file copies %" PRIu64 " bytes; with -o commit=append about %" PRIu64
		    " would be written",
		    copied, c->plan.new_bytes);
}

static int reserve(struct wf_commit_run *c, struct wf_out *o, int old_fd)
{
	uint64_t bytes;
	int r = wf_commit_reserve(&c->plan, c->strategy == WF_STRATEGY_REPLACE, old_fd, o, &bytes);
	return r < 0 ? wf_fail(c->err, r, "there is no room for the %" PRIu64 " bytes of the commit: %s", bytes,
			       strerror(-r))
		     : 0;
}

static int write_parts(struct wf_commit_run *c, struct wf_out *o)
{
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	if (!wf_source_locate(wf_container_file(c->ck->container), 0, &old))
		return wf_fail(c->err, -EOPNOTSUPP, "the checkpoint is not a file");
	wf_out_probe_clone(o, old.fd);
	if (c->strategy == WF_STRATEGY_REPLACE && o->clone_block == 0)
		advise(c, c->plan.kept_bytes);
	int r = reserve(c, o, old.fd);
	if (r < 0)
		return r;
	if (c->strategy != WF_STRATEGY_REPLACE)
		return wf_append_zip(&c->plan, o, c->err);
	return c->plan.safetensors ? wf_replace_safetensors(&c->plan, o, c->err)
	       : c->plan.plain     ? wf_replace_plain(&c->plan, o, c->err)
	       : c->plan.legacy    ? wf_replace_legacy(&c->plan, o, c->err)
				   : wf_replace_zip(&c->plan, o, c->err);
}

int wf_commit_write(struct wf_commit_run *c, int fd, uint64_t at)
{
	struct wf_commit_progress *progress = &c->ck->progress;
	struct wf_out o;
	if (c->set)
		return wf_shards_write(c, fd);
	if (c->dcp)
		return wf_dcp_plan_write(c->dcp, fd, &progress->done_bytes, c->err);
	uint64_t kept = c->strategy == WF_STRATEGY_REPLACE ? c->plan.kept_bytes : 0;
	atomic_store(&progress->done_bytes, 0);
	atomic_store(&progress->total_bytes, kept + c->plan.new_bytes);
	int r = wf_out_init(&o, fd, at, &progress->done_bytes);
	if (r < 0)
		return wf_fail(c->err, r, "out of memory");
	r = write_parts(c, &o);
	wf_out_free(&o);
	if (r == 0 && fsync(fd) < 0)
		r = wf_fail(c->err, -errno, "cannot make the written bytes durable: %s", strerror(errno));
	return r;
}

/* ---- what was written ---- */

int wf_commit_open_written(struct wf_commit_run *c, int raw_fd)
{
	cleanup_fd int fd = raw_fd;
	if (fd < 0)
		return wf_fail(c->err, fd, "cannot open the file that was written: %s", strerror(-fd));
	int r = wf_source_from_fd(fd, &c->source, c->err);
	if (r == 0)
		steal_fd(&fd);
	return r;
}

int wf_commit_reopen(struct wf_commit_run *c, int raw_fd)
{
	cleanup_fd int fd = raw_fd;
	uint32_t n = wf_storages_count(c->ck->storages);
	c->records = malloc(WF_MAX(n, 1u) * sizeof *c->records);
	if (!c->records)
		return wf_commit_no_memory(c);
	memset(c->records, 0xff, n * sizeof *c->records);
	int r = wf_commit_open_written(c, steal_fd(&fd));
	if (r < 0)
		return r;
	if (c->set)
		return wf_shards_reopen(c);
	if (c->dcp)
		return wf_commit_reopen_directory(c);
	r = wf_container_open(c->source, &c->container, c->err);
	return r < 0 ? r : wf_commit_check(&c->plan, c->container, c->records, c->err);
}
