/* SPDX-License-Identifier: MIT */
/* Whether bytes are text. */
#include "codec/bytes/utf8.h"
#include "codec/value/text.h"

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
