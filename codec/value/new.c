/* What a text means where nothing says a type: the content of a new key, and of one that was None. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "codec/value/inner.h"

/* The length of the character at s, 0 when it is none, `left + 1` or more when it goes on past the end. */
static size_t character(const unsigned char *s, size_t left)
{
	unsigned int c = s[0];
	size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	for (size_t k = 1; k < len && k < left; k++)
		if ((s[k] & 0xc0) != 0x80)
			return 0;
	if (len > 1 && left > 1 &&
	    ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) ||
	     (c == 0xf4 && s[1] > 0x8f)))
		return 0;
	return len;
}

bool wf_text_is_utf8(const char *text, size_t len, bool more_to_come)
{
	const unsigned char *s = (const unsigned char *)text;
	for (size_t i = 0; i < len;) {
		size_t n = character(s + i, len - i);
		if (n == 0 || (n > len - i && !more_to_come))
			return false;
		i += n;
	}
	return true;
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
