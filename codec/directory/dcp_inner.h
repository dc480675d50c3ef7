/* SPDX-License-Identifier: MIT */
/* A torch.distributed.checkpoint directory as a container, between the files that make it: directory/dcp_open.c finds and lays out its
 * files, directory/dcp_graph.c makes the graph, directory/dcp_values.c loads what is no tensor, directory/dcp_entries.c tells a commit of both.
 * Nobody else includes it.
 *
 * Record i, storage/I, is entry i of the metadata: the bytes of a tensor, or the slice that a value stands in. Storages of tensors inside
 * values follow, storage/I.KEY, and those of the files beside (meta.pt, common.pt), storage/NAME.KEY.
 */
#pragma once

#include "codec/container/records.h"
#include "codec/container/tensor_maker.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_slice.h"
#include "codec/directory/problems.h"
#include "codec/directory/space.h"

#define DCP_NOWHERE UINT64_MAX

struct dcp {
	struct wf_container base;
	struct wf_dcp_metadata md;
	struct wf_space *space; /* belongs to base.file */
	struct wf_dcp_slices *slices;
	uint32_t *members;     /* by number of a file in md.files */
	uint64_t *file_starts; /* of those, in the space; DCP_NOWHERE: it is not laid out whole */
	uint64_t *starts; /* by entry: where a tensor begins in the space; of another entry, where the next one does */
	uint32_t beside;  /* the member that holds the rest as one object; UINT32_MAX: there is none */
	uint64_t beside_start;
	struct wf_map by_object; /* of the graph: the entry it was made for */
	uint64_t *sums;          /* by entry: of a value, as it was read */
	uint64_t metadata_bytes; /* of the main file, with which the space begins */
	bool raw;                /* slices are the data itself */
	bool loaded;
	struct wf_problems problems; /* of records behind those of the entries */
};

/* The container of what was found. */
struct dcp_files;
int dcp_open_files(const struct dcp_files *files, struct wf_container **ret, struct wf_error *err);
/* Loads what stands in a slice of a member into g, gives its storages keys and records of their own, NAME.KEY, and returns its object; WF_NIL
 * after filling the error. start: of the member in the space. */
wf_ref dcp_load_value(struct dcp *d, struct wf_graph *g, uint32_t member, uint64_t start, uint64_t offset,
		      uint64_t length, const char *name, struct wf_error *err);
int dcp_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err);
