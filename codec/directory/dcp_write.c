/* SPDX-License-Identifier: MIT */
/* Which of the two ways new metadata are made. */
#include "codec/directory/dcp_write.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_write_graph.h"
#include "codec/directory/dcp_write_ranges.h"

struct wf_dcp_writer {
	struct dcp_graph_writer *graph;
	struct dcp_range_writer *ranges; /* instead */
};

int wf_dcp_writer_open(struct wf_source *file, struct wf_dcp_writer **ret, struct wf_error *err)
{
	struct wf_dcp_writer *w = calloc(1, sizeof *w);
	if (!w)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_source_size(file) > WF_DCP_MAX_GRAPH_BYTES ? dcp_range_writer_open(file, &w->ranges, err)
							      : dcp_graph_writer_open(file, &w->graph, err);
	if (r < 0)
		free(w);
	else
		*ret = w;
	return r;
}

void wf_dcp_writer_free(struct wf_dcp_writer *w)
{
	if (!w)
		return;
	dcp_graph_writer_free(w->graph);
	dcp_range_writer_free(w->ranges);
	free(w);
}

bool wf_dcp_writer_is_nested(const struct wf_dcp_writer *w)
{
	return w->ranges ? dcp_range_writer_is_nested(w->ranges) : dcp_graph_writer_is_nested(w->graph);
}

bool wf_dcp_writer_knows(const struct wf_dcp_writer *w, const char *name, size_t len)
{
	return w->ranges ? dcp_range_writer_knows(w->ranges, name, len) : dcp_graph_writer_knows(w->graph, name, len);
}

int wf_dcp_writer_boxes(struct wf_dcp_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			uint32_t *ret_count, struct wf_error *err)
{
	return w->ranges ? dcp_range_writer_boxes(w->ranges, name, len, ndim, ret, ret_count, err)
			 : dcp_graph_writer_boxes(w->graph, name, len, ndim, ret, ret_count, err);
}

int wf_dcp_writer_keep(struct wf_dcp_writer *w, const char *old_name, size_t len, const struct wf_dcp_place *place,
		       const struct wf_dcp_news *news, uint32_t count, struct wf_error *err)
{
	return w->ranges ? dcp_range_writer_keep(w->ranges, old_name, len, place, news, count, err)
			 : dcp_graph_writer_keep(w->graph, old_name, len, place, news, count, err);
}

int wf_dcp_writer_add(struct wf_dcp_writer *w, const struct wf_dcp_place *place, const struct wf_dcp_content *content,
		      struct wf_error *err)
{
	return w->ranges ? dcp_range_writer_add(w->ranges, place, content, err)
			 : dcp_graph_writer_add(w->graph, place, content, err);
}

int wf_dcp_writer_write(struct wf_dcp_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			struct wf_error *err)
{
	return w->ranges ? dcp_range_writer_write(w->ranges, write, ctx, err)
			 : dcp_graph_writer_write(w->graph, write, ctx, err);
}
