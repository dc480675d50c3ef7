/* SPDX-License-Identifier: MIT */
/* A commit to the checkpoint itself: an append to an archive, or a safetensors file changed in place. */
#include "codec/commit/run_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "codec/bytes/hold.h"
#include "codec/bytes/util.h"

#define WAIT_MS 20 /* for programs that only look into the file */
#define WAITS 50

/* The target gets its old bytes again, as far as that works. */
static void cut_back(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	int r = wf_overlay_cut_back(ck->overlay);
	bool appended = c->strategy == WF_STRATEGY_APPEND;
	/* what was appended is behind all that is read; in place it may not be, and reads fail where the file is another */
	if (r == 0 || !appended)
		wf_source_allow_growth(wf_container_file(ck->container), false);
	if (r == 0)
		wf_overlay_commit_abort(ck->overlay);
	else
		wf_log_line(&ck->log, "what was %s could not be taken back: %s; the next opening does that",
			    appended ? "appended" : "changed in the checkpoint", strerror(-r));
}

static int seal(struct wf_commit_run *c)
{
	int r = wf_overlay_seal_append(c->ck->overlay, &c->to_be);
	return r < 0 ? wf_fail(c->err, r, "cannot mark the commit as finished: %s", strerror(-r)) : 0;
}

/* ---- append ---- */

static int append(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	uint64_t at = wf_source_size(wf_container_file(ck->container));
	int r = wf_commit_write(c, c->target_fd, at);
	if (r == 0)
		r = wf_commit_reopen(c, wf_overlay_open_target(ck->overlay, O_RDONLY));
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	r = wf_commit_begin_next_log(c, c->target_fd);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_commit_append(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	wf_commit_take_overlay(ck);
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0)
		r = wf_overlay_commit_begin(ck->overlay, WF_OVERLAY_APPEND, NULL, c->err);
	wf_commit_leave_overlay(ck);
	if (r < 0)
		return r;
	/* where long strings of the graph still need the old source, it stays tolerant after the commit, too */
	wf_source_allow_growth(wf_container_file(ck->container), true);
	r = append(c);
	wf_commit_take_overlay(ck);
	if (r == 0)
		r = seal(c);
	if (r < 0)
		cut_back(c);
	wf_commit_leave_overlay(ck);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	wf_commit_swap_base(c);
	pthread_rwlock_unlock(&ck->lock);
	wf_commit_go_on(c);
	return 0;
}

/* ---- in place ---- */

static int say_held(struct wf_commit_run *c, const char *who)
{
	return wf_fail(c->err, -EBUSY,
		       "commit=append changes %s in its place, and %s: end that first, or commit with commit=replace",
		       wf_overlay_target(c->ck->overlay), who);
}

static int check_leases(struct wf_commit_run *c)
{
	return c->ck->placement && wf_placement_is_held(c->ck->placement)
		       ? say_held(c, "somebody has .weightfs/tensors.json open, which says where its bytes are")
		       : 0;
}

/* Nobody of ours reads the file, or maps it, from here on until the commit is over. */
static int keep_out(struct wf_commit_run *c)
{
	const struct timespec pause = {.tv_nsec = WAIT_MS * 1000000L};
	int r = wf_hold_alone(c->target_fd);
	for (int i = 0; r < 0 && i < WAITS; i++) {
		nanosleep(&pause, NULL);
		r = wf_hold_alone(c->target_fd);
	}
	return r < 0 ? say_held(c, "another mount or program reads it there") : check_leases(c);
}

static int mark_begin(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	wf_commit_take_overlay(ck);
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0 && (r = wf_overlay_prepare_removal(ck->overlay)) < 0)
		wf_fail(c->err, r, "%s: %s", wf_overlay_directory(ck->overlay), strerror(-r));
	wf_commit_leave_overlay(ck);
	if (r == 0)
		r = wf_overlay_save(ck->overlay, &c->plan.rewrite, c->err);
	if (r < 0)
		return r;
	wf_commit_take_overlay(ck);
	r = wf_overlay_commit_begin(ck->overlay, WF_OVERLAY_IN_PLACE, NULL, c->err);
	if (r < 0)
		wf_overlay_commit_abort(ck->overlay);
	wf_commit_leave_overlay(ck);
	return r;
}

/* The lock is held exclusively: between the old base and the new one there is nothing that could be read. */
static int move(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	int r = check_leases(c);
	if (r == 0)
		r = wf_rewrite_safetensors(&c->plan, c->target_fd, c->err);
	if (r == 0)
		r = wf_commit_reopen(c, wf_overlay_open_target(ck->overlay, O_RDONLY));
	return r < 0 ? r : wf_commit_begin_next_log(c, c->target_fd);
}

int wf_commit_in_place(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_source *file = wf_container_file(ck->container);
	int r = keep_out(c);
	if (r == 0)
		r = mark_begin(c);
	if (r < 0)
		return r;
	wf_source_allow_growth(file, true);
	atomic_store(&ck->progress.total_bytes, c->plan.new_bytes);
	r = wf_grow_safetensors(&c->plan, c->target_fd, &ck->progress.done_bytes, c->err);
	pthread_rwlock_wrlock(&ck->lock);
	if (r == 0)
		r = move(c);
	pthread_rwlock_wrlock(&ck->overlay_lock);
	if (r == 0)
		r = seal(c);
	if (r < 0)
		cut_back(c);
	pthread_rwlock_unlock(&ck->overlay_lock);
	if (r == 0) {
		wf_source_allow_growth(file, false); /* who still has it may read nothing that has moved */
		wf_commit_swap_base(c);
	}
	pthread_rwlock_unlock(&ck->lock);
	if (r == 0)
		wf_commit_go_on(c);
	return r;
}
