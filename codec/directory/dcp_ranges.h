/* SPDX-License-Identifier: MIT */
/* Where in a `.metadata` what is said of each entry begins and ends, so that a new one can be written out of ranges of the old one's bytes.
 *
 *   Metadata, its state {          the beginning, up to the first attribute
 *     state_dict_metadata: {       entries: [key][value] [key][value] ...
 *     planner_data: {
 *     storage_data: {              slices: [MetadataIndex][_StorageInfo] ...
 *     ...: ...                     other attributes
 *
 * A range is the opcodes of one value: they put it on the stack and need nothing below it. What else they need they take from the memo.
 * Of each index of the memo that is taken from it is known which range made the value.
 *
 * It takes 24 bytes a slice, and 20 for each value that is taken from the memo. What picklers do not write, so that it would not be known where a
 * value ends (something is put into a container that came out of the memo, say), is not known here.
 *
 * Threads: as any plain data.
 */
#pragma once

#include "codec/bytes/err.h"
#include "codec/bytes/key_map.h"
#include "codec/directory/dcp_opcode.h"

#define DCP_NONE UINT32_MAX

/* A value that is taken from the memo. */
struct dcp_def {
	uint32_t start, end; /* its range, with its PUT */
	uint32_t memo;       /* how many PUTs there are before */
	uint32_t tag;
	uint32_t made; /* for who writes: its index in the new memo + 1; 0: it is not there */
};

/* A key and a value behind it, which ends at `end`. */
struct dcp_pair {
	uint32_t key, value, end;
	uint32_t memo; /* how many PUTs there are before the key */
};

struct dcp_named {
	struct dcp_pair at;
	uint32_t def; /* of the key; DCP_NONE */
};

struct dcp_stored_slice {
	struct dcp_pair at;
	uint32_t entry;           /* DCP_NONE: the name is none of an entry */
	uint16_t fqn, fqn_length; /* where the name is in the key: from there on, so many bytes */
};

enum dcp_role { DCP_OTHER, DCP_ENTRIES, DCP_PLACES, DCP_SLICES };

struct dcp_attribute_range {
	struct dcp_pair at;
	enum dcp_role role;
	bool dict;    /* one that was made there */
	uint32_t def; /* of the value */
};

#define DCP_MAX_ATTRIBUTES 32u

struct dcp_ranges {
	struct wf_source *file;   /* a reference */
	struct dcp_cursor cursor; /* for whoever reads the ranges */
	uint8_t protocol;
	uint32_t state; /* where the first attribute begins */
	struct dcp_attribute_range attributes[DCP_MAX_ATTRIBUTES];
	uint32_t attribute_count;
	struct dcp_named *entries;
	uint32_t entry_count, entry_room;
	struct dcp_stored_slice *slices;
	uint32_t slice_count, slice_room;
	struct wf_key_map names;    /* of entries */
	struct dcp_pair properties; /* of some tensor: its TensorProperties from value to end; end 0: there is none */

	uint64_t *taken;  /* a bit for each index of the memo that is taken from it */
	uint32_t *before; /* by word of these: how many bits are set in those before it */
	uint64_t words;
	struct dcp_def *defs; /* in the order of their indices */
	uint32_t def_count;
};

/* named: names are needed; else names are those of no entry, and may be there twice.
 * Returns 0; -EOPNOTSUPP it is not written as picklers write it; -E2BIG, -ENOMEM, or the source's error, with a text. */
int dcp_ranges_read(struct wf_source *file, bool named, struct dcp_ranges *ret, struct wf_error *err);
void dcp_ranges_free(struct dcp_ranges *r); /* accepts an all-zero one */
/* The value under an index of the memo; NULL: it is never taken from it. */
struct dcp_def *dcp_ranges_def(const struct dcp_ranges *r, uint64_t index);
/* The attribute of that role; NULL: there is none. */
static inline const struct dcp_attribute_range *dcp_ranges_attribute(const struct dcp_ranges *r, enum dcp_role role)
{
	for (uint32_t i = 0; i < r->attribute_count; i++)
		if (r->attributes[i].role == role)
			return &r->attributes[i];
	return NULL;
}
