/* SPDX-License-Identifier: MIT */
/* The steps of a commit that are others for a directory: of a distributed checkpoint a file of new slices is written, and metadata that take
 * the old ones' name. */
#include "codec/commit/inner.h"
#include "codec/commit/run_inner.h"

#include <errno.h>
#include <string.h>

#include "codec/bytes/util.h"

static void say_ties(struct wf_commit_run *c)
{
	const char *name, *with;
	uint32_t n = wf_dcp_plan_ties(c->dcp, &name, &with);
	if (n > 0)
		wf_log_line(
			&c->ck->log,
			"%.200s shares its bytes with %.200s%s: a distributed checkpoint has no ties, and whoever opens it "
			"next finds %s",
			name, with, n > 1 ? ", and so do other names" : "",
			n > 1 ? "tensors by themselves" : "two tensors");
}

int wf_commit_plan_directory(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	if (c->whole)
		return wf_fail(
			c->err, -EOPNOTSUPP,
			"a distributed checkpoint is not repacked: its slices stay where they are, and wfctl export writes one "
			"file");
	c->plan = (struct wf_plan){.in = {.graph = ck->graph,
					  .storages = ck->storages,
					  .container = ck->container,
					  .root = wf_tree_root(ck->tree)}};
	c->plan.live = calloc((size_t)wf_storages_count(ck->storages) + 1, sizeof *c->plan.live);
	c->planned = true;
	if (!c->plan.live)
		return wf_fail(c->err, -ENOMEM, "out of memory");
	const char *to = wf_commit_place(ck)->main;
	cleanup_free char *home = strndup(to, (size_t)(strrchr(to, '/') - to));
	int r = home ? wf_plan_move_bytes(&c->plan, c->err) : wf_fail(c->err, -ENOMEM, "out of memory");
	if (r == 0)
		r = wf_dcp_plan_make(&c->plan.in, home, c->plan.live, &c->dcp, c->err);
	if (r == 0)
		say_ties(c);
	return r;
}

int wf_commit_reopen_directory(struct wf_commit_run *c)
{
	struct wf_graph *g = NULL;
	wf_ref root;
	int r = wf_dcp_plan_check(c->dcp, c->source, c->err);
	if (r == 0)
		r = wf_directory_open(&c->ck->place, c->source, &c->container, c->err);
	if (r == 0 && wf_graph_new(&g) < 0)
		r = wf_commit_no_memory(c);
	if (r == 0)
		r = wf_container_load_graph(c->container, g, &root, c->err); /* which makes the records */
	wf_graph_free(g);
	return r == 0 ? wf_dcp_plan_adopt(c->dcp, c->container, c->records, c->err) : r;
}

void wf_commit_clear_directory(struct wf_commit_run *c)
{
	int r = wf_dcp_remove_unused(c->ck->container);
	if (r < 0)
		wf_log_line(
			&c->ck->log,
			"a slice file is no part of the checkpoint any more and cannot be removed: %s; the next commit "
			"tries again",
			strerror(-r));
}
