/* SPDX-License-Identifier: MIT */
/* Objects of torch.distributed.checkpoint in a graph: their classes in every version of torch, their attributes, their sizes.
 * Part of the reader and the writer of `.metadata` and of nothing else. Threads: as the graph. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/object/object.h"

enum wf_dcp_class {
	WF_DCP_METADATA,
	WF_DCP_TENSOR,
	WF_DCP_BYTES,
	WF_DCP_CHUNK,
	WF_DCP_INDEX,
	WF_DCP_INFO,
	WF_DCP_CLASS_COUNT
};

enum wf_dcp_attribute {
	WF_DCP_STATE_DICT_METADATA,
	WF_DCP_PLANNER_DATA,
	WF_DCP_STORAGE_DATA,
	WF_DCP_PROPERTIES,
	WF_DCP_SIZE,
	WF_DCP_CHUNKS,
	WF_DCP_OFFSETS,
	WF_DCP_SIZES,
	WF_DCP_FQN,
	WF_DCP_OFFSET,
	WF_DCP_RELATIVE_PATH,
	WF_DCP_LENGTH,
	WF_DCP_TRANSFORMS,
	WF_DCP_ATTRIBUTE_COUNT
};

/* A graph, and which of its objects were last found to be each class and each attribute's name: a pickle repeats the same ones. */
struct wf_dcp_graph {
	struct wf_graph *g;
	wf_ref classes[WF_DCP_CLASS_COUNT], names[WF_DCP_ATTRIBUTE_COUNT];
};

bool wf_dcp_is(struct wf_dcp_graph *d, wf_ref r, enum wf_dcp_class which);
/* Which class that is, if it is one of them. */
bool wf_dcp_class_of(const char *module, const char *name, enum wf_dcp_class *ret);
/* Value of an attribute; WF_NIL where the object has none of that name. */
wf_ref wf_dcp_attribute(struct wf_dcp_graph *d, wf_ref r, enum wf_dcp_attribute which);
const char *wf_dcp_attribute_name(enum wf_dcp_attribute which);
/* The numbers of a torch.Size or of a plain tuple or list. Returns how many; -1 for anything else, for a negative one and for more than max. */
int wf_dcp_size(struct wf_dcp_graph *d, wf_ref r, uint64_t *ret, uint32_t max);
bool wf_dcp_number(struct wf_dcp_graph *d, wf_ref r, uint64_t *ret);
