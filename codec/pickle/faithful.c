/* SPDX-License-Identifier: MIT */
/* Tells whether a pickle can be written again from its graph: writes it nowhere and compares the traces. */
#include <errno.h>

#include "codec/pickle/writer.h"
#include "codec/bytes/util.h"

static int write_nowhere(void *ctx, const void *data, size_t len)
{
	return 0;
}

int wf_pickle_faithful(const struct wf_graph *g, wf_ref root, const char **ret_why)
{
	const struct wf_pickle_writer hooks = {.write = write_nowhere, .as_read = true};
	cleanup_with(wf_pickle_writer_free) struct pickle_writer w = {.out = {.g = g, .hooks = &hooks}, .traced = true};

	*ret_why = wf_graph_lossy(g);
	if (*ret_why)
		return 0;
	int rc = wf_pickle_write_all(&w, root);
	if (rc == -ENOMEM)
		return rc;
	*ret_why = rc < 0 ? "it holds objects that no pickle can be made of"
			  : "written anew, its objects would be made in another order or from other parts";
	return rc == 0 && w.looked_for < PICKLE_MAX_LOOKED_FOR && w.trace == wf_graph_trace(g);
}
