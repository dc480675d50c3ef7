/* SPDX-License-Identifier: MIT */
/* A base: container, graph, storages and tree, as one file says them. */
#include "codec/edit/state.h"

int wf_base_read(const struct wf_directory *place, struct wf_source *file, uint32_t after, struct wf_base *ret,
		 struct wf_error *err)
{
	wf_ref root;
	int r = wf_directory_open(place, file, &ret->container, err);
	if (r == 0 && (r = wf_graph_new(&ret->graph)) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0)
		r = wf_container_load_graph(ret->container, ret->graph, &root, err);
	if (r == 0)
		r = wf_storages_new(ret->graph, ret->container, &ret->storages, err);
	if (r == 0)
		r = wf_tree_new(ret->graph, ret->storages, ret->container, root, after, &ret->tree, err);
	wf_ref metadata = r == 0 ? wf_container_metadata(ret->container) : WF_NIL;
	if (metadata != WF_NIL && (r = wf_tree_add_metadata(ret->tree, metadata)) < 0)
		wf_fail(err, r, "out of memory");
	return r;
}

void wf_base_free(struct wf_base *b)
{
	wf_tree_free(b->tree);
	wf_storages_free(b->storages);
	wf_graph_free(b->graph);
	wf_container_free(b->container);
}

void wf_base_swap(struct wf_checkpoint *ck, struct wf_base *b)
{
	struct wf_base old = {ck->container, ck->graph, ck->storages, ck->tree};
	wf_forget_insides(ck);
	ck->container = b->container;
	ck->graph = b->graph;
	ck->storages = b->storages;
	ck->tree = b->tree;
	*b = old;
}
