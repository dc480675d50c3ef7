/* SPDX-License-Identifier: MIT */
/* The steps of a commit that all ways have: the log that follows it, the new base, and the end of what waited. */
#include "codec/commit/run_inner.h"
#include "codec/commit/shards_inner.h"

#include <errno.h>
#include <fcntl.h>

#include "codec/bytes/util.h"

/* ---- going on from the new file ---- */

static uint32_t record_of(void *ctx, uint32_t storage)
{
	const struct wf_commit_run *c = ctx;
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

void wf_commit_swap_base(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_container *old = ck->container;
	if (c->set)
		wf_shards_adopt(c);
	else
		wf_plan_adopt(&c->plan);
	/* sizes were compared in wf_commit_check, and nothing else can fail */
	wf_storages_rebase(ck->storages, c->container, record_of, c, NULL);
	if (c->set)
		wf_shards_adopted(c);
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

void wf_commit_go_on(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	int fd = c->target_fd >= 0 ? c->target_fd : c->file.fd;
	wf_commit_take_overlay(ck);
	int r = wf_overlay_committed(ck->overlay, fd, wf_edits_keep_file, ck);
	if (r < 0) {
		/* the next opening drops the log, and with it what would be edited from now on */
		ck->writable = false;
		wf_log_line(&ck->log,
			    "the commit is done, but its overlay could not be cleared (%s): no more edits are "
			    "accepted until the checkpoint is opened again",
			    strerror(-r));
	}
	if (c->set)
		wf_shards_clear(c);
	if (c->dcp)
		wf_commit_clear_directory(c);
	wf_commit_leave_overlay(ck);
}

int wf_commit_look_at(struct wf_commit_run *c, int fd)
{
	int r = wf_overlay_base_of(fd, UINT64_MAX, &c->to_be);
	return r < 0 ? wf_fail(c->err, r, "cannot look at the new file: %s", strerror(-r)) : 0;
}

int wf_commit_begin_next_log(struct wf_commit_run *c, int fd)
{
	struct wf_checkpoint *ck = c->ck;
	const struct wf_next_base base = {.record_of = record_of, .ctx = c};
	int r = wf_commit_look_at(c, fd);
	if (r < 0)
		return r;
	if (c->windows || ck->at_once || !wf_edits_needs_next(ck))
		return 0;
	r = wf_overlay_prepare_removal(ck->overlay);
	if (r == 0)
		r = wf_overlay_begin_next(ck->overlay, &c->to_be);
	if (r == 0)
		r = wf_overlay_end_next(ck->overlay, wf_edits_log_next(ck, &base));
	return r < 0 ? wf_fail(c->err, r, "scratch files, which the new checkpoint does not hold: %s", strerror(-r))
		     : 0;
}
