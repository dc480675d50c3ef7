/* SPDX-License-Identifier: MIT */
/* `.metadata` read as a stream of opcodes: chunks and slices go into the tables as they come by, and no object is made of them. A tenth of
 * the time and a quarter of the memory of the graph (wf_dcp_metadata_read), which knows every pickle: what is said here is what the graph
 * would say, and where this reader does not know a thing it says so, and nothing else.
 *
 * It knows what picklers of protocol 2 and later make of torch's classes, in every version of torch. The rest of the file, objects of
 * other classes, is passed over.
 *
 * Threads: as any plain data.
 */
#pragma once

#include "codec/directory/dcp_metadata.h"

#define DCP_STREAM_MAX_MEMORY (4ull << 30)

/* As wf_dcp_metadata_read, and 1: the file is not known; m is spoiled then, and is to be filled anew. -E2BIG with a text: it takes more
 * memory than a file of that size, or any, should. */
int wf_dcp_metadata_stream(struct wf_dcp_metadata *m, struct wf_source *file, const char *folder, struct wf_error *err);
/* Into tables that are empty: as a stream, or where that does not know the file as a graph. Returns as wf_dcp_metadata_read. */
int wf_dcp_metadata_load(struct wf_dcp_metadata *m, struct wf_source *file, struct wf_error *err);
