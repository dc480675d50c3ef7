#include "codec/bytes/printable.h"

/* A character of two bytes and more: its length, or 1 where the bytes are none (too long a form and surrogates included). */
static size_t decode(const unsigned char *s, size_t len, uint32_t *ret)
{
	size_t n = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 1;
	uint32_t c = s[0] & (0xffu >> (n + 1));
	if (n == 1 || n > len)
		return 1;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 1;
	*ret = c;
	return n;
}

size_t wf_character(const char *s, size_t len, uint32_t *ret_code, bool *ret_plain)
{
	unsigned char first = (unsigned char)s[0];
	uint32_t c = 0xdc00u + first;
	if (first < 0x80) {
		*ret_code = first;
		*ret_plain = first >= 0x20 && first != 0x7f;
		return 1;
	}
	size_t n = decode((const unsigned char *)s, len, &c);
	*ret_code = c;
	*ret_plain = n > 1 && c >= 0xa0 && c != 0x61c && c != 0x200e && c != 0x200f && !(c >= 0x2028 && c <= 0x202e) &&
		     !(c >= 0x2066 && c <= 0x2069) && c != 0xfeff;
	return n;
}

size_t wf_plain_span(const char *s, size_t len)
{
	bool plain = true;
	uint32_t code;
	size_t at = 0;
	while (at < len) {
		size_t n = wf_character(s + at, len - at, &code, &plain);
		if (!plain)
			break;
		at += n;
	}
	return at;
}
