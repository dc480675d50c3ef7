/* SPDX-License-Identifier: MIT */
/* Makes new metadata out of ranges of the old ones (dcp_ranges.h): what is said of entries that stay is copied opcode by opcode, and what is new
 * is made in the graph of small metadata of the same kind. A part of dcp_write.h, whose functions these are.
 *
 * Slices stay in the order of the old file, in which they are copied; new ones follow. Memory: that of the ranges, some 150 bytes an entry, and
 * what the graph takes for all that is new. -EOPNOTSUPP: the old file is not written as picklers write them. */
#pragma once

#include "codec/directory/dcp_write.h"

struct dcp_range_writer;

int dcp_range_writer_open(struct wf_source *file, struct dcp_range_writer **ret, struct wf_error *err);
void dcp_range_writer_free(struct dcp_range_writer *w); /* accepts NULL */
bool dcp_range_writer_is_nested(const struct dcp_range_writer *w);
bool dcp_range_writer_knows(const struct dcp_range_writer *w, const char *name, size_t len);
int dcp_range_writer_boxes(struct dcp_range_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			   uint32_t *ret_count, struct wf_error *err);
int dcp_range_writer_keep(struct dcp_range_writer *w, const char *old_name, size_t len,
			  const struct wf_dcp_place *place, const struct wf_dcp_news *news, uint32_t count,
			  struct wf_error *err);
int dcp_range_writer_add(struct dcp_range_writer *w, const struct wf_dcp_place *place,
			 const struct wf_dcp_content *content, struct wf_error *err);
int dcp_range_writer_write(struct dcp_range_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			   struct wf_error *err);
