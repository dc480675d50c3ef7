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
#include "codec/object/dtype.h"

/* The entry that an object was made for, or UINT32_MAX. The object of a constant (a small int, a text that is there anyway) is none. */
uint32_t wf_dcp_entry_of(const struct wf_container *c, wf_ref object);
/* Whether an object is an entry that is no tensor, with all that stands in it. An empty mapping is one only while it is empty: what comes into it
 * are entries by themselves. */
bool wf_dcp_is_value(const struct wf_container *c, wf_ref object);
const char *wf_dcp_entry_name(const struct wf_container *c, uint32_t entry, uint32_t *ret_len);
bool wf_dcp_entry_is_tensor(const struct wf_container *c, uint32_t entry);
/* Whether it is a tensor of that dtype and shape. */
bool wf_dcp_entry_has(const struct wf_container *c, uint32_t entry, enum wf_dtype dtype, const int64_t *sizes,
		      uint32_t ndim);
/* Whether an object is a dict without items. A pure function of the graph. */
bool wf_dcp_is_empty_mapping(const struct wf_graph *g, wf_ref value);
/* The sum of a value; 0: it cannot be written. Equal objects have equal sums. */
uint64_t wf_dcp_value_sum(const struct wf_graph *g, wf_ref value);
uint64_t wf_dcp_entry_sum(const struct wf_container *c, uint32_t entry);
/* Another container's entry is this object from now on. sum: of a value as above; of a tensor 0, or the record + 1 that has its bytes where that is
 * another entry's, of which it is a copy: names of one storage become entries by themselves. -ENOMEM. */
int wf_dcp_adopt(struct wf_container *c, uint32_t entry, wf_ref object, uint64_t sum);
/* Which record of the container that was written is `record` of the one before it, of a value that is `entry` there now. -ENOMEM. */
int wf_dcp_record_after(const struct wf_container *c, uint32_t record, const struct wf_container *written,
			uint32_t entry, uint32_t *ret);
/* The dict that an object is as torch walks through it: a dict itself, or that of an OrderedDict; WF_NIL. A pure function of the graph. */
wf_ref wf_dcp_mapping(const struct wf_graph *g, wf_ref object);
/* ---- keys: a name is texts alone. Pure functions of the graph. ---- */
/* Whether a text is a number as the reader makes one of it where all beside it are, and whether a mapping under that key is one of numbers. */
bool wf_dcp_is_number(const char *text, size_t len);
bool wf_dcp_has_numbers(const struct wf_graph *g, wf_ref own_key);
/* Why a mapping whose own key is that (WF_NIL: it has none) would be read with other keys than it has; NULL: it would not. */
const char *wf_dcp_refuses_keys(const struct wf_graph *g, wf_ref dict, wf_ref own_key);
/* The directory that the files are in, and the bytes of the metadata. */
const char *wf_dcp_directory(const struct wf_container *c);
/* The k-th file that the metadata name, NULL: no more; and as it was when it was read: a reference. Errors as wf_members_open. */
const char *wf_dcp_file(const struct wf_container *c, uint32_t k);
int wf_dcp_open_file(const struct wf_container *c, const char *name, struct wf_source **ret, struct wf_error *err);
/* Whether the metadata name the file. */
bool wf_dcp_has_file(const struct wf_container *c, const char *name);
int wf_dcp_metadata_source(const struct wf_container *c, struct wf_source **ret);
