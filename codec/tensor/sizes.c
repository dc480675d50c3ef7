/* SPDX-License-Identifier: MIT */
/* Reads tuples of sizes, in every form in which pickles hold them. */
#include "codec/tensor/inner.h"

int wf_int_tuple(const struct wf_graph *g, wf_ref r, int64_t ret[WF_MAX_NDIM])
{
	uint32_t n;

	if (!wf_is(g, r, WF_TUPLE)) {
		if (wf_call_is(g, r, "torch", "Size"))
			r = wf_element(g, wf_call_args(g, r), 0);
		if (!wf_is(g, r, WF_TUPLE) && !wf_is(g, r, WF_LIST))
			return -1;
	}
	const wf_ref *e = wf_elements(g, r, &n);
	if (n > WF_MAX_NDIM)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		if (!wf_int_value(g, e[i], &ret[i]) || ret[i] < 0)
			return -1;
	return (int)n;
}
