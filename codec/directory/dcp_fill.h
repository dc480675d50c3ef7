/* SPDX-License-Identifier: MIT */
/* How what one `.metadata` says gets into the tables, whichever way it is read: as a graph (directory/dcp_metadata.c), or as a stream
 * (directory/dcp_stream.c). Part of the readers and of nothing else.
 *
 * Calling sequence: a struct with m, folder and err; all tensors and values with their chunks; all slices; all places; dcp_fill_rest;
 * dcp_fill_free. Every function returns 0, or a negative errno with the error filled in. Threads: one owner.
 */
#pragma once

#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_write.h"

struct dcp_fill {
	struct wf_dcp_metadata *m;
	const char *folder; /* that the file's checkpoint is in, below the directory; "" for none */
	struct wf_error *err;
	struct wf_buffer name; /* of an entry or a file, with the folder before it */
	struct wf_map slots;   /* of the chunks of this file, by entry and offsets */
	uint32_t first_entry;  /* of this file */
};

void dcp_fill_free(struct dcp_fill *f);
int dcp_fill_no_memory(const struct dcp_fill *f);

/* The text with the folder before it, valid until the next one; NULL: out of memory. */
const char *dcp_fill_below(struct dcp_fill *f, const char *text, size_t len, size_t *ret_len);
/* Entry of that name, a new one unless *ret_known. */
int dcp_fill_entry(struct dcp_fill *f, const char *name, size_t len, uint32_t *ret, bool *ret_known);

/* What is said of a tensor. */
struct dcp_tensor {
	enum wf_dtype dtype;
	const char *dtype_name;
	bool strided;
	int ndim; /* -1: no size of a tensor */
	const uint64_t *sizes;
};

/* Makes the entry a tensor. *ret_good: it takes chunks, maybe with a problem; not so where the size is none, or two files differ. */
int dcp_fill_tensor(struct dcp_fill *f, uint32_t entry, bool known, const struct dcp_tensor *t, bool *ret_good);
/* The number of a chunk in the table that is to be found by its offsets. */
int dcp_fill_slot(struct dcp_fill *f, uint32_t chunk);

/* What is said of a slice. */
struct dcp_stored {
	bool plain; /* its bytes went through no transform */
	uint32_t file;
	uint64_t offset, length; /* length 0: it has none, or no offset */
};

/* Number of a file, whose name the folder stands before. */
int dcp_fill_file(struct dcp_fill *f, const char *name, size_t len, uint32_t *ret);
int dcp_fill_slice(struct dcp_fill *f, uint32_t chunk, const struct dcp_stored *s);
/* The next chunk of those in slots that an entry has at these offsets (none for a value), from a probe made by dcp_fill_probe. */
struct wf_map_probe dcp_fill_probe(const struct dcp_fill *f, uint32_t entry, const uint64_t *offsets);
bool dcp_fill_next(const struct dcp_fill *f, struct wf_map_probe *p, uint32_t entry, const uint64_t *offsets,
		   uint32_t *ret_chunk);

/* The way to an entry; count 0: it is not understood, and the name is the key. An entry that has one keeps it. */
int dcp_fill_place(struct dcp_fill *f, uint32_t entry, const struct wf_dcp_way *ways, uint32_t count);
/* Entries below a folder that no way was told of. */
int dcp_fill_rest(struct dcp_fill *f);
