/* SPDX-License-Identifier: MIT */
/* The nest of mappings and lists that the entries of a checkpoint stand in, made again from the steps to each.
 *
 * torch.distributed.checkpoint keeps tensors and values flat, and beside them the way to each: ('optim', 'state', '0', 'exp_avg'). A text
 * is the key of a mapping, a number the position in a list. Where the keys of a mapping were numbers they are texts in the file; in the
 * mapping `state` of an optimizer, where all of them are digits, they become numbers again. An entry whose way leads through another
 * entry, or whose place is taken, stands in the root under its whole name.
 *
 * Threads: as the graph.
 */
#pragma once

#include "codec/directory/dcp_metadata.h"
#include "codec/object/object.h"

/* What stands at the entry's place; WF_NIL after filling the error. */
typedef wf_ref wf_dcp_leaf(void *ctx, uint32_t entry);

/* Calls leaf once for each entry, in their order. Returns 0; the graph's or leaf's error. */
int wf_dcp_tree_make(const struct wf_dcp_metadata *m, struct wf_graph *g, wf_dcp_leaf *leaf, void *ctx,
		     wf_ref *ret_root, struct wf_error *err);
