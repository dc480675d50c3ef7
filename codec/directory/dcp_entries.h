/* SPDX-License-Identifier: MIT */
/* For a commit: which object of the graph is which entry of the metadata, and whether it still is what was read.
 *
 * Tensors and values of a distributed checkpoint are entries, each made into one object when the graph is loaded. Bytes that change do so in
 * storages, which know it; a value may change inside, so that its entry has a sum of what it was.
 * Threads: as the graph.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/container/container.h"

/* The entry that an object was made for, or UINT32_MAX. The object of a constant (a small int, a text that is there anyway) is none. */
uint32_t wf_dcp_entry_of(const struct wf_container *c, wf_ref object);
const char *wf_dcp_entry_name(const struct wf_container *c, uint32_t entry, uint32_t *ret_len);
bool wf_dcp_entry_is_tensor(const struct wf_container *c, uint32_t entry);
/* The sum of a value; 0: it cannot be written. Equal objects have equal sums. */
uint64_t wf_dcp_value_sum(const struct wf_graph *g, wf_ref value);
uint64_t wf_dcp_entry_sum(const struct wf_container *c, uint32_t entry);
/* Another container's entry is this object from now on. sum: of a value as above; of a tensor 0, or the record + 1 that has its bytes where that is
 * another entry's, of which it is a copy: names of one storage become entries by themselves. -ENOMEM. */
int wf_dcp_adopt(struct wf_container *c, uint32_t entry, wf_ref object, uint64_t sum);
/* Which record of the container that was written is `record` of the one before it, of a value that is `entry` there now. -ENOMEM. */
int wf_dcp_record_after(const struct wf_container *c, uint32_t record, const struct wf_container *written,
			uint32_t entry, uint32_t *ret);
/* The directory that the files are in, and the bytes of the metadata. */
const char *wf_dcp_directory(const struct wf_container *c);
/* Whether the metadata name the file. */
bool wf_dcp_has_file(const struct wf_container *c, const char *name);
int wf_dcp_metadata_source(const struct wf_container *c, struct wf_source **ret);
