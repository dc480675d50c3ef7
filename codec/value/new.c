/* What a text means where nothing says a type: the content of a new key, and of one that was None. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "codec/bytes/utf8.h"
#include "codec/value/inner.h"

bool wf_text_is_utf8(const char *text, size_t len, bool more_to_come)
{
	return wf_utf8_valid(text, len - (more_to_come ? wf_utf8_cut(text, len, false) : 0), false);
}

bool wf_text_is_line(const char *text, size_t len)
{
	if (len == 0 || text[len - 1] != '\n')
		return false;
	for (size_t i = 0; i + 1 < len; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\t' && text[i] != '\r') || text[i] == 0x7f)
			return false;
	return wf_text_is_utf8(text, len, false);
}

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
