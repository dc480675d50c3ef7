/* SPDX-License-Identifier: MIT */
/* A new `.metadata` out of an old one: entries that stay keep what is said of them, maybe under another name, and new ones tell of slices
 * that were written. Everything else in the file stays.
 *
 * It is made in the graph of the old file (dcp_write_graph.h), or where that is larger than WF_DCP_MAX_GRAPH_BYTES out of the old file's
 * bytes (dcp_write_ranges.h).
 *
 * Calling sequence: wf_dcp_writer_open; for each entry of the new file, in its order, one wf_dcp_writer_keep or _add;
 * wf_dcp_writer_write; wf_dcp_writer_free. Threads: one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"
#include "codec/object/dtype.h"

struct wf_dcp_writer;

/* A part of the way to an entry: a text, or where that is NULL a position in a list. */
struct wf_dcp_way {
	const char *text;
	uint64_t number; /* the position, or the length of the text */
};

/* The name of an entry and the way to it. ways: count of them. */
struct wf_dcp_place {
	const char *name;
	size_t name_len;
	const struct wf_dcp_way *ways;
	uint32_t count;
};

/* What is new: a value, or where `tensor` a whole tensor as one chunk, in a slice of a file. */
struct wf_dcp_content {
	bool tensor;
	enum wf_dtype dtype;
	const int64_t *sizes;
	uint32_t ndim;
	const char *file;
	uint64_t offset, length;
};

/* A slice that stands for another one of the same entry: the old-th of wf_dcp_writer_boxes. */
struct wf_dcp_news {
	uint32_t old;
	const char *file;
	uint64_t offset, length;
};

/* file: of the old metadata. */
int wf_dcp_writer_open(struct wf_source *file, struct wf_dcp_writer **ret, struct wf_error *err);
void wf_dcp_writer_free(struct wf_dcp_writer *w); /* accepts NULL */
/* Whether names are ways of several steps: the file has planner data. Else each entry stands in the root. */
bool wf_dcp_writer_is_nested(const struct wf_dcp_writer *w);
/* Whether the old file has an entry of that name. */
bool wf_dcp_writer_knows(const struct wf_dcp_writer *w, const char *name, size_t len);
/* The boxes of a tensor's chunks that have a slice, one for each slice: ndim offsets, then ndim sizes. A slice that no chunk asks for has sizes
 * of 0. *ret: for free(). */
int wf_dcp_writer_boxes(struct wf_dcp_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			uint32_t *ret_count, struct wf_error *err);
/* An entry of the old file, by its name there. news: count slices that stand for old ones, in the order of those. -ENOENT: there is no such
 * entry. */
int wf_dcp_writer_keep(struct wf_dcp_writer *w, const char *old_name, size_t len, const struct wf_dcp_place *place,
		       const struct wf_dcp_news *news, uint32_t count, struct wf_error *err);
int wf_dcp_writer_add(struct wf_dcp_writer *w, const struct wf_dcp_place *place, const struct wf_dcp_content *content,
		      struct wf_error *err);
/* In the old file's protocol. */
int wf_dcp_writer_write(struct wf_dcp_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			struct wf_error *err);
