/* SPDX-License-Identifier: MIT */
/* repack --trim: each storage cut to the bytes that its views use. */
#pragma once

#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/object/object.h"
#include "codec/tensor/storage.h"

/* What stays of a storage, in bytes. */
struct wf_window {
	uint64_t start, size_bytes;
};

/* Finds what the tensors of the graph use of each storage and moves their offsets by as much as is cut off in front. A
 * storage that something else than a recognised tensor refers to stays whole. *ret: one for each storage, to be freed.
 * The graph no longer fits the storages afterwards: for a checkpoint that is written and closed. */
int wf_trim(struct wf_graph *g, struct wf_storages *ss, struct wf_window **ret, struct wf_error *err);
