/* The checkpoint as its file says, without the edits: everything that they changed is made anew from the container. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_impl.h"
#include "edit_impl.h"

/* What edits change, not yet in use. */
struct fresh {
	struct wf_container *container;
	struct wf_graph *graph;
	wf_ref root;
	struct wf_storages *storages;
	struct wf_tree *tree;
};

static void free_fresh(struct fresh *f)
{
	wf_tree_free(f->tree);
	wf_storages_free(f->storages);
	wf_graph_free(f->graph);
	wf_container_free(f->container);
}

static int read_fresh(struct wf_checkpoint *ck, struct fresh *f, struct wf_error *err)
{
	int r = wf_container_open(ck->file, &f->container, err);
	if (r == 0 && (r = wf_graph_new(&f->graph)) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0)
		r = wf_container_load_graph(f->container, f->graph, &f->root, err);
	if (r == 0)
		r = wf_storages_new(f->graph, f->container, &f->storages, err);
	if (r == 0)
		r = wf_tree_new(f->graph, f->storages, f->container, f->root, wf_tree_node_count(ck->tree), &f->tree,
				err);
	if (r == 0 && ck->placement && (r = wf_placement_map(ck->placement, f->storages)) < 0)
		wf_fail(err, r, "out of memory");
	return r;
}

static int check(struct wf_checkpoint *ck, struct wf_error *err)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++)
		if (e->files[i] && e->files[i]->openers > 0)
			return wf_fail(err, -EBUSY, "a file of the mount is open");
	if (ck->placement && wf_placement_is_leased(ck->placement))
		return wf_fail(err, -EBUSY, "another process has a tensor mapped");
	return wf_overlay_check_base(ck->overlay, err);
}

/* From the moment when the log is gone nothing may fail. */
static int swap(struct wf_checkpoint *ck, struct fresh *f, struct wf_edits *edits, struct wf_error *err)
{
	int r = wf_overlay_forget(ck->overlay);
	if (r < 0)
		return wf_fail(err, r, "the edits cannot be removed: %s", strerror(-r));
	wf_edits_close(ck);
	ck->edits = edits;
	wf_edits_start(ck, f->storages);
	if (ck->placement)
		wf_placement_start_over(ck->placement, f->storages);
	struct fresh old = {ck->container, ck->graph, ck->root, ck->storages, ck->tree};
	ck->container = f->container;
	ck->graph = f->graph;
	ck->root = f->root;
	ck->storages = f->storages;
	ck->tree = f->tree;
	ck->relocated = ck->placement && wf_placement_relocated(ck->placement) > 0;
	wf_archive_free(ck->archive);
	ck->archive = NULL;
	*f = old;
	return 0;
}

int wf_revert(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct fresh f = {0};
	struct wf_edits *edits = NULL;
	if (!ck->writable || !ck->edits)
		return wf_fail(err, -EROFS, "the checkpoint is mounted read-only");
	pthread_rwlock_wrlock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	int r = check(ck, err);
	if (r == 0 && !(edits = wf_edits_new()))
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = read_fresh(ck, &f, err);
	if (r == 0)
		r = swap(ck, &f, edits, err);
	if (r < 0)
		free(edits);
	free_fresh(&f);
	pthread_rwlock_unlock(&ck->lock);
	pthread_rwlock_unlock(&ck->commit_lock);
	return r;
}
