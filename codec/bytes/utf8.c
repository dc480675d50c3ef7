/* SPDX-License-Identifier: MIT */
/* Reads, writes and checks characters in UTF-8. */
#include "codec/bytes/utf8.h"

#include "codec/bytes/util.h"

/* The length that a first byte announces; 0: it begins no character. */
static size_t announced(unsigned char c)
{
	return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

/* Whether the second byte can follow the first: this is where forms that are too long, surrogates and numbers past the
 * last character show. */
static bool second_fits(unsigned char first, unsigned char second, bool surrogates)
{
	switch (first) {
	case 0xe0:
		return second >= 0xa0 && second < 0xc0;
	case 0xed:
		return second >= 0x80 && second < (surrogates ? 0xc0 : 0xa0);
	case 0xf0:
		return second >= 0x90 && second < 0xc0;
	case 0xf4:
		return second >= 0x80 && second < 0x90;
	default:
		return second >= 0x80 && second < 0xc0;
	}
}

static size_t character(const unsigned char *p, size_t len, bool surrogates)
{
	size_t n = len > 0 ? announced(p[0]) : 0;
	if (n == 0 || n > len || (n > 1 && !second_fits(p[0], p[1], surrogates)))
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

size_t wf_utf8_get(const void *s, size_t len, bool surrogates, uint32_t *ret)
{
	const unsigned char *p = s;
	size_t n = character(p, len, surrogates);
	if (n == 0)
		return 0;
	uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3f);
	*ret = c;
	return n;
}

size_t wf_utf8_put(char out[WF_UTF8_MAX], uint32_t c)
{
	static const unsigned char marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(marks[n] | c);
	return n;
}

bool wf_utf8_valid(const void *s, size_t len, bool surrogates)
{
	const unsigned char *p = s;
	for (size_t i = 0, n; i < len; i += n) {
		/* most text is ASCII, and pickles hold megabytes of it */
		if (len - i >= 8 && !(wf_le64(p + i) & 0x8080808080808080u))
			n = 8;
		else if ((n = character(p + i, len - i, surrogates)) == 0)
			return false;
	}
	return true;
}

size_t wf_utf8_cut(const void *s, size_t len, bool surrogates)
{
	const unsigned char *p = s;
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		const unsigned char *first = p + len - back;
		if ((first[0] & 0xc0) == 0x80)
			continue;
		bool begins = announced(first[0]) > back && (back < 2 || second_fits(first[0], first[1], surrogates));
		return begins ? back : 0;
	}
	return 0;
}
