/* SPDX-License-Identifier: MIT */
/* The writer of large metadata, between directory/dcp_write_ranges.c, which collects what there is to write, and directory/dcp_write_emit.c. Nobody
 * else includes it. */
#pragma once

#include "codec/directory/dcp_replay.h"
#include "codec/directory/dcp_write_graph.h"
#include "codec/directory/dcp_write_ranges.h"

/* An entry of the new file. */
struct dcp_range_leaf {
	uint32_t entry; /* of the old file; DCP_NONE: it is new */
	uint32_t fresh; /* of a new one: which of the fresh metadata it is */
	size_t name;    /* in texts; of one that keeps its name it is not there */
	uint32_t name_len;
	bool renamed;
	uint32_t ways, way_count;
	uint32_t news, news_count;
	uint32_t next;      /* another one of the same entry; DCP_NONE */
	uint32_t name_made; /* once it is written: the index of its name in the memo */
};

struct dcp_range_way {
	uint64_t text; /* in texts; of a position that */
	uint32_t len;
	bool position;
};

/* The old-th slice of an entry has the info of a fresh one. */
struct dcp_range_news {
	uint32_t old, fresh;
};

struct dcp_range_writer {
	struct dcp_ranges old;
	struct dcp_graph_writer *graph; /* makes what is new; NULL: nothing was so far */
	uint32_t fresh_count;
	struct dcp_ranges fresh; /* of what it made */
	struct dcp_range_leaf *leaves;
	uint32_t leaf_count, leaf_room;
	struct dcp_range_way *ways;
	uint32_t way_count, way_room;
	struct dcp_range_news *news;
	uint32_t news_count, news_room;
	struct wf_buffer texts;
	uint32_t *first_leaf;               /* by old entry */
	uint32_t *first_slice, *next_slice; /* lists of the slices of each entry, + 1; made when they are asked for */
};

/* What is written of the old file. */
enum dcp_emit {
	DCP_EMIT_ALL,    /* the leaves, and all else that there is */
	DCP_EMIT_SAMPLE, /* the properties of some tensor */
	DCP_EMIT_ONE,    /* a leaf and its slices */
};

int dcp_emit(struct dcp_range_writer *w, struct dcp_replay *p, enum dcp_emit what, struct dcp_range_leaf *one);
