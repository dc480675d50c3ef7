/* SPDX-License-Identifier: MIT */
/* The plan of a commit of a distributed checkpoint, between commit/dcp.c and commit/dcp_leaves.c. Nobody else includes it. */
#pragma once

#include "codec/commit/dcp.h"
#include "codec/directory/dcp_write.h"

/* One entry of the new metadata. */
struct dcp_leaf {
	wf_ref object;
	uint32_t entry; /* of the old container, when it stays; UINT32_MAX */
	bool tensor;
	size_t name, name_len;            /* in names */
	uint32_t ways, way_count;         /* the way to it */
	struct wf_buffer pickle;          /* new: its data.pkl */
	uint32_t storages, storage_count; /* of a value, in storages; a new one's pickle names them 0, 1, ... */
	uint64_t offset, length;          /* new: its slice */
	uint64_t sum;                     /* of a value */
};

struct dcp_way {
	size_t text; /* in names; of a position the number */
	uint32_t len;
	bool position;
};

struct wf_dcp_plan {
	struct wf_commit_input in;
	bool *live; /* borrowed while it is made */
	struct dcp_leaf *leaves;
	uint32_t count, room;
	struct dcp_way *ways;
	uint32_t way_count, way_room;
	uint32_t *storages;
	uint32_t storage_count, storage_room;
	struct wf_buffer names;
	struct wf_dcp_writer *writer;
	char *file; /* the name of the slice file; NULL: there is nothing new */
	char *path;
	int fd;
	bool kept;
	struct wf_error *err;
};

/* commit/dcp_leaves.c: the leaves of the tree in their order. */
int dcp_find_leaves(struct wf_dcp_plan *p);
