/* SPDX-License-Identifier: MIT */
/* What a text means where nothing says a type: the content of a new key, and of one that was None. */
#include <errno.h>

#include "codec/value/inner.h"

int wf_value_new(struct wf_graph *g, const char *text, size_t len, wf_ref *ret)
{
	if (!wf_text_is_line(text, len))
		return -EINVAL;
	if (len > WF_VALUE_MAX_BYTES)
		return -EFBIG;
	int r = wf_value_parse_json(g, text, len, ret);
	if (r != -EINVAL)
		return r;
	*ret = wf_string(g, WF_STR, text, len - 1);
	return *ret == WF_NIL ? -ENOMEM : 0;
}
