/* A commit from end to end: plan, write, check, make durable, take the name, go on from the new base.
 *
 * Reads go on all the time: `lock` is held exclusively to settle and plan, and again to swap the base, and not at all
 * while the file is written. Edits wait on commit_lock. Until the rename, or in an append until the recovery mark is
 * gone, a failure leaves everything as it was.
 */
#include "codec/commit/commit.h"

#include "codec/commit/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "codec/edit/state.h"
#include "codec/commit/file.h"
#include "codec/bytes/util.h"

/* Advice to append instead: when a copy is long and nearly all of it is old. */
#define ADVICE_MIN_BYTES (1ull << 30)
#define ADVICE_RATIO 100u
/* What a record may need beside its bytes, when dead bytes are estimated. */
#define RECORD_SLACK_BYTES 512u
/* A legacy key, its opcodes and its count; and what stands before the object. */
#define LEGACY_SLACK_BYTES 256u

enum strategy { REPLACE, CLONE_AND_APPEND, APPEND };

struct commit {
	struct wf_checkpoint *ck;
	struct wf_error *err;
	struct wf_plan plan;
	bool planned;
	enum strategy strategy;
	struct wf_new_file file;
	int target_fd; /* APPEND: the checkpoint itself, for writing */
	/* the finished file */
	struct wf_source *source;
	struct wf_container *container;
	uint32_t *records;         /* by storage, in the new container */
	struct wf_window *windows; /* of a trim; the checkpoint is closed after it */
	/* entries that were removed from objects which are still there */
	uint32_t returned;
	struct wf_buffer returned_names;
};

/* ---- which way ---- */

static bool is_zip(const struct wf_container *c)
{
	enum wf_container_kind kind = wf_container_kind_of(c);
	return kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT;
}

/* Bytes of the file that no record holds: what earlier appends left. */
static uint64_t dead_bytes(const struct wf_container *c)
{
	uint64_t live = 0, size = wf_source_size(wf_container_file(c));
	for (uint32_t i = 0; i < wf_container_count(c); i++)
		live += wf_container_record(c, i)->stored_bytes + RECORD_SLACK_BYTES;
	return live < size ? size - live : 0;
}

static bool targets_itself(const struct wf_checkpoint *ck)
{
	return strcmp(wf_overlay_target(ck->overlay), wf_overlay_file_path(ck->overlay)) == 0;
}

/* Opens the temporary file, too, when the way needs one. */
static int choose(struct commit *c, enum wf_commit_mode mode)
{
	struct wf_checkpoint *ck = c->ck;
	c->strategy = REPLACE;
	if (mode == WF_COMMIT_APPEND && is_zip(ck->container) && targets_itself(ck)) {
		c->strategy = APPEND;
		const char *path = wf_overlay_target(ck->overlay);
		int fd = wf_overlay_open_target(ck->overlay, O_RDWR);
		if (fd < 0)
			return wf_fail(c->err, fd, "cannot write to %s: %s", path, strerror(-fd));
		c->target_fd = fd;
		return 0;
	}
	if (mode == WF_COMMIT_APPEND)
		wf_log_line(&ck->log,
				  "commit=append is for zip checkpoints written to themselves; a new file is written");
	int home = wf_overlay_open_home(ck->overlay);
	if (home < 0)
		return wf_fail(c->err, home, "the directory of %s: %s", wf_overlay_target(ck->overlay), strerror(-home));
	int r = wf_new_file_open(&c->file, wf_overlay_target(ck->overlay), home, c->err);
	if (r < 0 || mode != WF_COMMIT_AUTO || !is_zip(ck->container))
		return r;
	/* a clone shares its dead bytes with the old file, but not for ever */
	uint64_t size = wf_source_size(wf_container_file(ck->container)), ignored;
	int fd = -1;
	if (dead_bytes(ck->container) < size / 2 &&
	    wf_source_locate(wf_container_file(ck->container), 0, &fd, &ignored) && ioctl(c->file.fd, FICLONE, fd) == 0)
		c->strategy = CLONE_AND_APPEND;
	return 0;
}

/* ---- planning, with the lock held exclusively ---- */

static int plan(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	bool verbatim = !wf_checkpoint_rewritable(ck);
	if (verbatim && (c->windows || (ck->edits && wf_edits_structural(ck))))
		return wf_fail(c->err, -EOPNOTSUPP, "this pickle can be read but not written: %s", ck->why_verbatim);
	if (verbatim && ck->relocated)
		wf_log_line(&ck->log, "the pickle is kept as it is, because %s: the locations of map_location are not recorded",
				  ck->why_verbatim);
	const struct wf_commit_input in = {.graph = ck->graph,
					   .storages = ck->storages,
					   .container = ck->container,
					   .root = wf_tree_root(ck->tree),
					   .verbatim = verbatim,
					   .reformed = ck->relocated || (ck->edits && wf_edits_reformed(ck)),
					   .windows = c->windows};
	int r = wf_plan_make(&c->plan, &in, c->strategy != REPLACE, c->err);
	c->planned = r == 0;
	return r;
}

static void advise(struct commit *c, uint64_t copied)
{
	struct wf_checkpoint *ck = c->ck;
	if (!is_zip(ck->container) || !targets_itself(ck) || copied < ADVICE_MIN_BYTES ||
	    c->plan.new_bytes > copied / ADVICE_RATIO)
		return;
	atomic_store(&ck->progress.append_bytes, WF_MAX(c->plan.new_bytes, (uint64_t)1));
	wf_log_line(&ck->log,
			  "writing a new file copies %" PRIu64 " bytes; with -o commit=append about %" PRIu64
			  " would be written",
			  copied, c->plan.new_bytes);
}

/* ---- writing: commit_lock alone keeps graph, storages and tree as they are, while files are opened, read and closed
 * ---- */

static int reserve(struct commit *c, struct wf_out *o, int old_fd)
{
	const struct wf_plan *p = &c->plan;
	struct stat st;
	bool allocate = true;
	uint64_t keys = p->legacy ? (uint64_t)p->count * LEGACY_SLACK_BYTES : 0;
	uint64_t bytes = p->legacy || p->plain ? p->new_bytes + p->kept_bytes + keys + LEGACY_SLACK_BYTES
					       : wf_zip_end_of(p, c->strategy != REPLACE, o->at) - o->at;
	if (c->strategy == REPLACE && fstat(old_fd, &st) == 0) {
		uint64_t stored = (uint64_t)st.st_blocks * 512;
		bool sparse = stored < (uint64_t)st.st_size - (uint64_t)st.st_size / 8;
		allocate = !sparse && o->clone_block == 0;
		if (o->clone_block != 0)
			bytes -= p->kept_bytes;
		else if (sparse)
			bytes -= p->kept_bytes - WF_MIN(p->kept_bytes, stored);
	}
	int r = wf_out_reserve(o, bytes, allocate);
	return r < 0 ? wf_fail(c->err, r, "there is no room for the %" PRIu64 " bytes of the commit: %s", bytes,
			       strerror(-r))
		     : 0;
}

static int write_parts(struct commit *c, struct wf_out *o)
{
	int old_fd = -1;
	uint64_t ignored;
	if (!wf_source_locate(wf_container_file(c->ck->container), 0, &old_fd, &ignored))
		return wf_fail(c->err, -EOPNOTSUPP, "the checkpoint is not a file");
	wf_out_probe_clone(o, old_fd);
	if (c->strategy == REPLACE && o->clone_block == 0)
		advise(c, c->plan.kept_bytes);
	int r = reserve(c, o, old_fd);
	if (r < 0)
		return r;
	if (c->strategy != REPLACE)
		return wf_append_zip(&c->plan, o, c->err);
	return c->plan.plain    ? wf_replace_plain(&c->plan, o, c->err)
	       : c->plan.legacy ? wf_replace_legacy(&c->plan, o, c->err)
				: wf_replace_zip(&c->plan, o, c->err);
}

static int write_file(struct commit *c, int fd, uint64_t at)
{
	struct wf_commit_progress *progress = &c->ck->progress;
	struct wf_out o;
	uint64_t kept = c->strategy == REPLACE ? c->plan.kept_bytes : 0;
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

/* fd: for reading, taken over; or a negative errno. */
static int open_written(struct commit *c, int raw_fd)
{
	cleanup_fd int fd = raw_fd;
	uint32_t n = wf_storages_count(c->ck->storages);
	c->records = malloc(WF_MAX(n, 1u) * sizeof *c->records);
	if (!c->records)
		return wf_fail(c->err, -ENOMEM, "out of memory");
	memset(c->records, 0xff, n * sizeof *c->records);
	if (fd < 0)
		return wf_fail(c->err, fd, "cannot open the file that was written: %s", strerror(-fd));
	int r = wf_source_from_fd(fd, &c->source, c->err);
	if (r < 0)
		return r;
	steal_fd(&fd);
	r = wf_container_open(c->source, &c->container, c->err);
	return r < 0 ? r : wf_commit_check(&c->plan, c->container, c->records, c->err);
}

/* ---- going on from the new file ---- */

static uint32_t record_of(void *ctx, uint32_t storage)
{
	const struct commit *c = ctx;
	bool kept = c->records[storage] == WF_NO_RECORD && wf_edits_is_kept(c->ck, storage);
	return kept ? WF_RECORD_KEPT : c->records[storage];
}

/* Long strings of the graph lie in the old pickle, and are read from there as long as the graph lives. */
static bool has_external_strings(const struct wf_graph *g)
{
	uint64_t ignored;
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o))
		if (wf_string_external_at(g, o, &ignored))
			return true;
	return false;
}

/* The lock is held exclusively. */
static void swap_base(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_container *old = ck->container;
	wf_plan_adopt(&c->plan);
	/* sizes were compared in wf_commit_check, and nothing else can fail */
	wf_storages_rebase(ck->storages, c->container, record_of, c, NULL);
	wf_tree_set_container(ck->tree, c->container);
	if (!has_external_strings(ck->graph))
		wf_graph_set_source(ck->graph, NULL);
	ck->container = steal_pointer(&c->container);
	wf_container_free(old);
	wf_archive_free(ck->archive);
	ck->archive = NULL;
	wf_source_unref(ck->file);
	ck->file = steal_pointer(&c->source);
	ck->last_error[0] = '\0';
	ck->relocated = false;
	wf_edits_committed(ck);
}

/* What was under scratch names stays as durable as it was. A failure is tried again with the next edit or fsync. */
static void log_scratch(struct wf_checkpoint *ck)
{
	pthread_rwlock_wrlock(&ck->lock);
	int r = wf_edits_log_scratch(ck);
	if (r == 0)
		r = wf_overlay_sync(ck->overlay);
	if (r < 0)
		wf_log_line(&ck->log, "scratch files are not durable yet: %s", strerror(-r));
	pthread_rwlock_unlock(&ck->lock);
}

/* Around what a commit does with the overlay while reads go on: nobody edits, but others want its numbers. */
static void take_overlay(struct wf_checkpoint *ck)
{
	pthread_rwlock_rdlock(&ck->lock);
	pthread_rwlock_wrlock(&ck->overlay_lock);
}

static void leave_overlay(struct wf_checkpoint *ck)
{
	pthread_rwlock_unlock(&ck->overlay_lock);
	pthread_rwlock_unlock(&ck->lock);
}

/* The commit is a fact. Clearing the overlay takes some fsyncs; reads go on meanwhile. */
static void go_on(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	int fd = c->strategy == APPEND ? c->target_fd : c->file.fd;
	if (!c->windows) { /* after a trim nobody reads from it any more */
		pthread_rwlock_wrlock(&ck->lock);
		swap_base(c);
		pthread_rwlock_unlock(&ck->lock);
	}
	take_overlay(ck);
	int r = wf_overlay_committed(ck->overlay, fd, wf_edits_keep_file, ck);
	if (r < 0) {
		/* the next opening drops the log, and with it what would be edited from now on */
		ck->writable = false;
		wf_log_line(&ck->log,
				  "the commit is done, but its overlay could not be cleared (%s): no more edits are "
				  "accepted until the checkpoint is opened again",
				  strerror(-r));
	}
	leave_overlay(ck);
	if (r == 0 && !c->windows)
		log_scratch(ck);
}

/* The new file takes the old one's name. */
static int put_in_place(struct commit *c)
{
	struct wf_overlay *ov = c->ck->overlay;
	struct wf_overlay_base to_be;
	bool renamed = false;
	int r = wf_overlay_base_of(c->file.fd, UINT64_MAX, &to_be);
	if (r == 0)
		r = wf_overlay_lock_file(c->file.fd);
	if (r < 0)
		return wf_fail(c->err, r, "cannot look at the new file: %s", strerror(-r));
	r = wf_overlay_check_base(ov, c->err);
	if (r == 0)
		r = wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &to_be, c->err);
	if (r < 0)
		return r;
	r = wf_new_file_rename(&c->file, &renamed, c->err);
	if (!renamed) {
		wf_overlay_commit_abort(ov);
		return r;
	}
	/* the file is there; only a power loss could still bring back the old name, with the overlay's mark beside it
	 */
	if (r < 0)
		wf_log_line(&c->ck->log, "%s", c->err->text);
	return 0;
}

static int commit_to_new_file(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	int old_fd = -1;
	uint64_t ignored, at = 0;
	struct stat st;
	if (!wf_source_locate(wf_container_file(ck->container), 0, &old_fd, &ignored) || fstat(old_fd, &st) < 0)
		st.st_nlink = 1;
	if (st.st_nlink > 1 && targets_itself(ck))
		wf_log_line(&ck->log, "%s has %u names; the others keep the old content", wf_overlay_target(ck->overlay),
				  (unsigned int)st.st_nlink);
	if (c->strategy == CLONE_AND_APPEND) {
		at = wf_source_size(wf_container_file(ck->container));
		atomic_store(&ck->progress.append_bytes, 0);
	}
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0)
		r = wf_new_file_dress(&c->file, old_fd, c->err);
	if (r == 0)
		r = write_file(c, c->file.fd, at);
	if (r == 0)
		r = open_written(c, wf_new_file_reopen(&c->file));
	if (r < 0)
		return r;
	take_overlay(ck);
	r = put_in_place(c);
	leave_overlay(ck);
	if (r == 0)
		go_on(c);
	return r;
}

/* ---- append to the checkpoint itself ---- */

static int append(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	uint64_t at = wf_source_size(wf_container_file(ck->container));
	int r = write_file(c, c->target_fd, at);
	if (r == 0)
		r = open_written(c, wf_overlay_open_target(ck->overlay, O_RDONLY));
	return r;
}

static void cut_back(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	int r = wf_overlay_cut_back(ck->overlay);
	if (r < 0) {
		wf_log_line(&ck->log, "what was appended could not be cut off again: %s; the next opening does that",
				  strerror(-r));
		return;
	}
	wf_source_allow_growth(wf_container_file(ck->container), false);
	wf_overlay_commit_abort(ck->overlay);
}

static int commit_in_place(struct commit *c)
{
	struct wf_checkpoint *ck = c->ck;
	take_overlay(ck);
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0)
		r = wf_overlay_commit_begin(ck->overlay, WF_OVERLAY_APPEND, NULL, c->err);
	leave_overlay(ck);
	if (r < 0)
		return r;
	/* where long strings of the graph still need the old source, it stays tolerant after the commit, too */
	wf_source_allow_growth(wf_container_file(ck->container), true);
	r = append(c);
	take_overlay(ck);
	if (r == 0) {
		r = wf_overlay_seal_append(ck->overlay, c->target_fd);
		if (r < 0)
			wf_fail(c->err, r, "cannot mark the append as finished: %s", strerror(-r));
	}
	if (r < 0)
		cut_back(c);
	leave_overlay(ck);
	if (r == 0)
		go_on(c);
	return r;
}

/* ---- the whole ---- */

static int prepare(struct commit *c, enum wf_commit_mode mode, bool always, bool trim, bool *ret_nothing)
{
	struct wf_checkpoint *ck = c->ck;
	pthread_rwlock_wrlock(&ck->lock);
	c->returned = wf_edits_return_hidden(ck, &c->returned_names);
	int r = wf_edits_settle(ck, c->err);
	*ret_nothing = r == 0 && !always && !wf_overlay_is_dirty(ck->overlay) && !ck->relocated;
	if (r == 0 && !*ret_nothing)
		r = choose(c, mode);
	if (r == 0 && trim)
		r = wf_trim(ck->graph, ck->storages, &c->windows, c->err);
	if (r == 0 && !*ret_nothing)
		r = plan(c);
	/* after a trim the checkpoint is closed, and scratch entries go with it */
	if (r == 0 && !*ret_nothing && !trim)
		r = wf_edits_keep(ck, c->plan.live, c->err);
	/* it moves descriptors of data files, which nobody may be reading from then */
	if (r == 0 && !*ret_nothing && (r = wf_overlay_sync(ck->overlay)) < 0)
		wf_fail(c->err, r, "cannot make the edits durable: %s", strerror(-r));
	wf_overlay_usage(ck->overlay, &ck->usage_before);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

static void finish(struct commit *c, int r)
{
	struct wf_checkpoint *ck = c->ck;
	pthread_rwlock_wrlock(&ck->lock);
	wf_edits_unsettle(ck);
	if (r < 0) {
		if (c->planned)
			wf_plan_undo(&c->plan);
		char text[sizeof ck->last_error];
		snprintf(ck->last_error, sizeof ck->last_error, "%s",
			 c->err ? wf_error_format(c->err, text, sizeof text) : strerror(-r));
		wf_overlay_note_failure(ck->overlay, ck->last_error);
	} else if (c->returned > 0) {
		wf_fail(c->err, -ENOTEMPTY, "these were removed, but not the objects that hold them, and are back: %s",
			c->returned_names.data ? c->returned_names.data : "?");
		snprintf(ck->last_error, sizeof ck->last_error, "%s", c->err->text);
	} else {
		ck->last_error[0] = '\0';
	}
	if (c->planned)
		wf_plan_free(&c->plan);
	wf_container_free(c->container);
	wf_source_unref(c->source);
	pthread_rwlock_unlock(&ck->lock);
	wf_new_file_free(&c->file);
	if (c->target_fd >= 0)
		close(c->target_fd);
	free(c->records);
	free(c->windows);
	wf_buffer_free(&c->returned_names);
	atomic_store(&ck->progress.append_bytes, 0);
	atomic_store(&ck->progress.running, false);
}

static int run(struct wf_checkpoint *ck, enum wf_commit_mode mode, bool always, bool trim, struct wf_error *err)
{
	struct wf_error own = {0};
	struct commit c = {.ck = ck, .err = err ? err : &own, .file = WF_NEW_FILE_INIT, .target_fd = -1};
	bool nothing = false;
	if (!ck->writable || !ck->overlay)
		return wf_fail(err, -EROFS, "the checkpoint is mounted read-only");
	pthread_mutex_lock(&ck->commit_lock);
	atomic_store(&ck->progress.done_bytes, 0);
	atomic_store(&ck->progress.total_bytes, 0);
	atomic_store(&ck->progress.running, true);
	/* no edit comes any more; reads go on while the disk is waited for, and what is left to sync under the lock is
	 * little */
	int r = wf_checkpoint_flush(ck);
	r = r < 0 ? wf_fail(c.err, r, "cannot make the edits durable: %s", strerror(-r))
		  : prepare(&c, mode, always, trim, &nothing);
	if (r == 0 && !nothing)
		r = c.strategy == APPEND ? commit_in_place(&c) : commit_to_new_file(&c);
	finish(&c, r);
	pthread_mutex_unlock(&ck->commit_lock);
	return r < 0 ? r : (int)WF_MIN(c.returned, (uint32_t)INT_MAX);
}

int wf_commit(struct wf_checkpoint *ck, struct wf_error *err)
{
	return run(ck, ck->commit_mode, false, false, err);
}

int wf_commit_whole(struct wf_checkpoint *ck, bool trim, struct wf_error *err)
{
	return run(ck, WF_COMMIT_REPLACE, true, trim, err);
}
