/* SPDX-License-Identifier: MIT */
/* A commit from end to end: plan, write, check, make durable, take the name, go on from the new base.
 *
 * Invariants, at every moment of a commit, and at every moment at which the power may go:
 *
 *  1. The checkpoint's name leads to a whole file, the old base or the new one. An append changes no byte of the old base, and the
 *     size of that base is in the mark. What a commit in place changes of it is in the overlay before, so that it can be put back.
 *  2. Log, mark and the file under the name tell together which of the two counts. No mark: the base that the log names. An APPEND
 *     or IN_PLACE mark: that base, cut back to its size or put back. A REPLACE mark: the file whose fingerprint it holds, else the
 *     log's base.
 *  3. Nothing takes the name, and no append is sealed, before its bytes are on disk, were read again and agree with the plan.
 *  4. A mark is on disk before the step that it announces: before the rename, and before the first appended byte.
 *  5. Log and data files stay until the file under the name holds their edits. What it never holds (scratch files) is in the log that
 *     follows before that step, and that log takes the old one's place. The mark goes last of all.
 *  6. commit_lock is held from the first step to the last: nobody edits. Graph, storages and tree change with `lock` held
 *     exclusively alone: a read sees the old base or the new one, and waits for no byte that is written, but for the head of a file
 *     that is changed in place, and what moves with it.
 *  7. Until the rename, or the seal of an append, every failure leaves graph, storages, tree, log and file as they were. From then on
 *     the commit is a fact: nothing fails it any more, and what goes wrong is a line in the log.
 *  8. A number of a node means the same node before and after.
 *
 * States, and the function of every transition (contrib/docs/commit.md has the locks, and what a crash in each leaves):
 *
 *                                EDITED
 *                                   | run: commit_lock; wf_checkpoint_flush
 *                                RUNNING
 *                                   | prepare: wf_edits_before_commit, wf_commit_choose, plan, wf_edits_keep, wf_overlay_sync
 *                               PREPARED ------------------------------ nothing to write -----------------+
 *        commit_to_new_file         |            wf_commit_append (and wf_commit_in_place, which does so) |
 *             +---------------------+---------------------+                                               |
 *             | wf_commit_write                           | wf_overlay_commit_begin                       |
 *          WRITTEN                                    MARKED APPEND                                       |
 *             | wf_commit_reopen                          | append: wf_commit_write                       |
 *          CHECKED                                     WRITTEN                                            |
 *             | wf_commit_begin_next_log; put_in_place:   | append: wf_commit_reopen                      |
 *             | wf_overlay_commit_begin                CHECKED                                            |
 *       MARKED REPLACE                                    | the next log; wf_overlay_seal_append          |
 *             | put_in_place: wf_new_file_rename          |       <- until here: a failure leads to finish|
 *             +---------------------+---------------------+            (cut_back, or the file is removed) |
 *                               IN PLACE                                                                  |
 *                                   | wf_commit_swap_base  (an output of another format is no base:       |
 *                                   |                    wf_overlay_written, and the log goes on)         |
 *                                SWAPPED                                                                  |
 *                                   | wf_commit_go_on: wf_overlay_committed                               |
 *                                CLEARED                                                                  |
 *                                   +<--------------------------------------------------------------------+
 *                                   | finish
 *                        CLEAN; EDITED after a failure
 */
#include "codec/commit/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/util.h"
#include "codec/commit/output_set.h"
#include "codec/commit/run_inner.h"
#include "codec/commit/shards_inner.h"

/* ---- planning, with the lock held exclusively ---- */

static wf_ref metadata_of(const struct wf_checkpoint *ck)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, wf_tree_metadata(ck->tree));
	return d ? d->object : WF_NIL;
}

static int plan(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	if (wf_container_kind_of(ck->container) == WF_CONTAINER_HUGGINGFACE)
		return wf_shards_plan(c);
	if (wf_container_kind_of(ck->container) == WF_CONTAINER_DCP)
		return wf_commit_plan_directory(c);
	bool verbatim = !wf_checkpoint_rewritable(ck);
	bool as_zip = ck->output_as_zip && wf_container_kind_of(ck->container) == WF_CONTAINER_PICKLE;
	if (verbatim && (c->windows || as_zip || (ck->edits && wf_edits_structural(ck))))
		return wf_fail(c->err, -EOPNOTSUPP, "this pickle can be read but not written: %s", ck->why_verbatim);
	if (verbatim && ck->relocated)
		wf_log_line(&ck->log,
			    "the pickle is kept as it is, because %s: the locations of map_location are not recorded",
			    ck->why_verbatim);
	const struct wf_commit_input in = {.graph = ck->graph,
					   .storages = ck->storages,
					   .container = ck->container,
					   .root = wf_tree_root(ck->tree),
					   .metadata = metadata_of(ck),
					   .canonical = c->whole,
					   .verbatim = verbatim,
					   .as_zip = as_zip,
					   .alignment = c->alignment,
					   .types_changed = ck->relocated || (ck->edits && wf_edits_types_changed(ck)),
					   .windows = c->windows,
					   .in_place = c->strategy == WF_STRATEGY_IN_PLACE,
					   .insert_block = c->insert_block};
	int r = wf_plan_make(&c->plan, &in, c->strategy != WF_STRATEGY_REPLACE, c->err);
	c->planned = r == 0;
	return r == 0 && in.in_place && !c->plan.in_place ? wf_commit_choose_new_file(c, c->plan.why_new) : r;
}

/* ---- to a new file: commit_lock alone keeps graph, storages and tree as they are, while files are opened, read and closed ---- */

/* The new file takes the old one's name. */
static int put_in_place(struct wf_commit_run *c)
{
	struct wf_overlay *ov = c->ck->overlay;
	bool renamed = false;
	int r = wf_overlay_lock_file(c->file.fd);
	if (r < 0)
		wf_fail(c->err, r, "cannot look at the new file: %s", strerror(-r));
	if (r == 0)
		r = wf_overlay_check_base(ov, c->err);
	if (r == 0)
		r = wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &c->to_be, c->err);
	if (r == 0)
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

static int commit_to_new_file(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	uint64_t at = 0;
	struct stat st;
	if (!wf_source_locate(wf_container_file(ck->container), 0, &old) || fstat(old.fd, &st) < 0)
		st.st_nlink = 1;
	if (st.st_nlink > 1 && wf_commit_targets_itself(ck))
		wf_log_line(&ck->log, "%s has %u names; the others keep the old content",
			    wf_overlay_target(ck->overlay), (unsigned int)st.st_nlink);
	if (c->strategy == WF_STRATEGY_CLONE_AND_APPEND) {
		at = wf_source_size(wf_container_file(ck->container));
		atomic_store(&ck->progress.append_bytes, 0);
	}
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0)
		r = wf_new_file_dress(&c->file, old.fd, c->err);
	if (r == 0)
		r = wf_commit_write(c, c->file.fd, at);
	if (r == 0)
		r = wf_commit_reopen(c, wf_new_file_reopen(&c->file));
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	r = wf_commit_begin_next_log(c, c->file.fd);
	pthread_rwlock_unlock(&ck->lock);
	if (r < 0)
		return r;
	wf_commit_take_overlay(ck);
	r = put_in_place(c);
	wf_commit_leave_overlay(ck);
	if (r < 0)
		return r;
	if (c->dcp)
		wf_dcp_plan_keep_file(c->dcp);
	if (!c->windows) { /* after a trim nobody reads from it any more */
		pthread_rwlock_wrlock(&ck->lock);
		wf_commit_swap_base(c);
		pthread_rwlock_unlock(&ck->lock);
	}
	wf_commit_go_on(c);
	return 0;
}

/* ---- an output of another format, which is no base: the log goes on ---- */

static int commit_to_other_format(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0 && wf_source_locate(wf_container_file(ck->container), 0, &old))
		r = wf_new_file_dress(&c->file, old.fd, c->err);
	if (r == 0)
		r = ck->write_other(ck, wf_overlay_target(ck->overlay), c->file.fd, c->err);
	if (r == 0)
		r = wf_commit_look_at(c, c->file.fd);
	if (r < 0)
		return r;
	wf_commit_take_overlay(ck);
	r = put_in_place(c);
	if (r == 0)
		wf_overlay_written(ck->overlay);
	wf_commit_leave_overlay(ck);
	return r;
}

/* ---- the whole ---- */

static int prepare(struct wf_commit_run *c, enum wf_commit_mode mode, bool always, bool trim, bool *ret_nothing)
{
	struct wf_checkpoint *ck = c->ck;
	pthread_rwlock_wrlock(&ck->lock);
	int r = wf_edits_settle_removals(ck);
	if (r < 0)
		wf_fail(c->err, r, "%s: %s", wf_overlay_directory(ck->overlay), strerror(-r));
	else
		c->returned = wf_edits_return_hidden(ck, &c->returned_names);
	if (r == 0 && ck->at_once && c->returned > 0)
		r = wf_fail(c->err, -EPERM, "not without the objects that hold them: %s", c->returned_names.data);
	if (r == 0)
		r = wf_edits_before_commit(ck, c->err);
	if (r == 0)
		c->unmade = wf_edits_assemble_all(ck, &c->unmade_names);
	if (r == 0 && ck->at_once && c->unmade > 0)
		r = wf_fail(c->err, -EINVAL, "the parts are not there that make a tensor of %s", c->unmade_names.data);
	/* an output that is no base has no locations, and the log goes on */
	bool other = ck->write_other || ck->output_set.main;
	*ret_nothing = r == 0 && !always && !wf_overlay_is_dirty(ck->overlay) && (other || !ck->relocated);
	if (r == 0 && !*ret_nothing)
		r = wf_commit_choose(c, mode);
	if (r == 0 && trim)
		r = wf_trim(ck->graph, ck->storages, &c->windows, c->err);
	if (r == 0 && !*ret_nothing && !ck->write_other)
		r = plan(c);
	/* after a trim the checkpoint is closed, and scratch entries go with it */
	if (r == 0 && !*ret_nothing && !trim && !other)
		r = wf_edits_keep(ck, c->set ? c->set->live : c->plan.live, c->err);
	/* it moves descriptors of data files, which nobody may be reading from then */
	if (r == 0 && !*ret_nothing && (r = wf_overlay_sync(ck->overlay)) < 0)
		wf_fail(c->err, r, "cannot make the edits durable: %s", strerror(-r));
	wf_overlay_usage(ck->overlay, &ck->usage_before);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

static void finish(struct wf_commit_run *c, int r)
{
	struct wf_checkpoint *ck = c->ck;
	pthread_rwlock_wrlock(&ck->lock);
	wf_edits_end_commit(ck);
	bool undo = r < 0 || ck->output_set.main;
	if (undo && c->planned)
		wf_plan_undo(&c->plan);
	if (r < 0) {
		char text[sizeof ck->last_error];
		snprintf(ck->last_error, sizeof ck->last_error, "%s",
			 c->err ? wf_error_format(c->err, text, sizeof text) : strerror(-r));
		wf_overlay_note_failure(ck->overlay, ck->last_error);
	} else if (c->returned > 0) {
		wf_fail(c->err, -ENOTEMPTY, "these were removed, but not the objects that hold them, and are back: %s",
			c->returned_names.data ? c->returned_names.data : "?");
		snprintf(ck->last_error, sizeof ck->last_error, "%s", c->err->text);
	} else if (c->unmade > 0) {
		wf_fail(c->err, -EINVAL, "these were to be tensors, whose parts do not fit, and are mappings: %s",
			c->unmade_names.data ? c->unmade_names.data : "?");
		snprintf(ck->last_error, sizeof ck->last_error, "%s", c->err->text);
	} else {
		ck->last_error[0] = '\0';
	}
	if (c->planned)
		wf_plan_free(&c->plan);
	if (c->set)
		wf_shards_free(c, undo);
	wf_dcp_plan_free(c->dcp);
	wf_container_free(c->container);
	wf_source_unref(c->source);
	pthread_rwlock_unlock(&ck->lock);
	wf_new_file_free(&c->file);
	if (c->target_fd >= 0)
		close(c->target_fd);
	free(c->records);
	free(c->windows);
	wf_buffer_free(&c->returned_names);
	wf_buffer_free(&c->unmade_names);
	atomic_store(&ck->progress.append_bytes, 0);
	atomic_store(&ck->progress.running, false);
}

/* whole: a new file though nothing was edited. */
static int run(struct wf_checkpoint *ck, enum wf_commit_mode mode, bool whole, bool trim, uint32_t alignment,
	       struct wf_error *err)
{
	struct wf_error own = {0};
	struct wf_commit_run c = {.ck = ck,
				  .err = err ? err : &own,
				  .alignment = alignment,
				  .whole = whole,
				  .file = WF_NEW_FILE_INIT,
				  .target_fd = -1};
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
		  : prepare(&c, mode, whole, trim, &nothing);
	if (r == 0 && !nothing)
		r = ck->write_other                      ? commit_to_other_format(&c)
		    : ck->output_set.main                ? wf_commit_to_output_set(&c, put_in_place)
		    : c.strategy == WF_STRATEGY_APPEND   ? wf_commit_append(&c)
		    : c.strategy == WF_STRATEGY_IN_PLACE ? wf_commit_in_place(&c)
							 : commit_to_new_file(&c);
	finish(&c, r);
	pthread_mutex_unlock(&ck->commit_lock);
	return r < 0 ? r : (int)WF_MIN(c.returned + c.unmade, (uint32_t)INT_MAX);
}

int wf_commit(struct wf_checkpoint *ck, struct wf_error *err)
{
	return run(ck, ck->commit_mode, false, false, 0, err);
}

int wf_commit_whole(struct wf_checkpoint *ck, bool trim, uint32_t alignment, struct wf_error *err)
{
	return run(ck, WF_COMMIT_REPLACE, true, trim, alignment, err);
}
