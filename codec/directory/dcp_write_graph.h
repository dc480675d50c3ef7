/* SPDX-License-Identifier: MIT */
/* Makes new metadata in the graph of the old ones. A part of dcp_write.h, whose functions these are; dcp_write_ranges.c has it make what is
 * new. */
#pragma once

#include "codec/directory/dcp_write.h"

struct dcp_graph_writer;

int dcp_graph_writer_open(struct wf_source *file, struct dcp_graph_writer **ret, struct wf_error *err);
void dcp_graph_writer_free(struct dcp_graph_writer *w); /* accepts NULL */
bool dcp_graph_writer_is_nested(const struct dcp_graph_writer *w);
bool dcp_graph_writer_knows(const struct dcp_graph_writer *w, const char *name, size_t len);
int dcp_graph_writer_boxes(struct dcp_graph_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			   uint32_t *ret_count, struct wf_error *err);
int dcp_graph_writer_keep(struct dcp_graph_writer *w, const char *old_name, size_t len,
			  const struct wf_dcp_place *place, const struct wf_dcp_news *news, uint32_t count,
			  struct wf_error *err);
int dcp_graph_writer_add(struct dcp_graph_writer *w, const struct wf_dcp_place *place,
			 const struct wf_dcp_content *content, struct wf_error *err);
int dcp_graph_writer_write(struct dcp_graph_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			   struct wf_error *err);
