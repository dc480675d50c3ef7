/* SPDX-License-Identifier: MIT */
/* Tells what may stand as it is on a terminal. */
#include "codec/bytes/printable.h"

#include "codec/bytes/utf8.h"
#include "codec/bytes/util.h"

size_t wf_character(const char *s, size_t len, uint32_t *ret_code, bool *ret_plain)
{
	unsigned char first = (unsigned char)s[0];
	uint32_t c = 0xdc00u + first;
	if (first < 0x80) {
		*ret_code = first;
		*ret_plain = first >= 0x20 && first != 0x7f;
		return 1;
	}
	size_t n = wf_utf8_get(s, len, false, &c);
	*ret_code = c;
	*ret_plain = n > 1 && c >= 0xa0 && c != 0x61c && c != 0x200e && c != 0x200f && !(c >= 0x2028 && c <= 0x202e) &&
		     !(c >= 0x2066 && c <= 0x2069) && c != 0xfeff;
	return n ? n : 1;
}

/* Eight bytes of ASCII that are no controls, and so stand as they are. */
static bool are_plain(const char *s)
{
	const uint64_t ones = 0x0101010101010101u, highest = ones << 7;
	uint64_t eight = wf_le64(s), del = eight ^ ones * 0x7f;
	return !((eight | (eight - ones * 0x20) | (del - ones)) & highest);
}

size_t wf_plain_span(const char *s, size_t len)
{
	bool plain = true;
	uint32_t code;
	size_t at = 0;
	while (at < len) {
		/* lines of a listing are nearly nothing else */
		if (len - at >= 8 && are_plain(s + at)) {
			at += 8;
			continue;
		}
		size_t n = wf_character(s + at, len - at, &code, &plain);
		if (!plain)
			break;
		at += n;
	}
	return at;
}
