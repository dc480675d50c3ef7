/* SPDX-License-Identifier: MIT */
/* Text -> numbers, strings and bytes: what every reader of a value is made of. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/utf8.h"
#include "codec/bytes/util.h"
#include "codec/value/inner.h"

/* Decimal of any length to two's complement. Quadratic; the length is bounded by the pickle's own limit on ints. */
wf_ref wf_int_parse(struct wf_graph *g, const char *s, size_t len, int *error)
{
	bool negative = len > 0 && s[0] == '-';
	size_t at = len > 0 && (s[0] == '-' || s[0] == '+');
	if (at == len || len > 20000) {
		*error = -EINVAL;
		return WF_NIL;
	}
	size_t size = len / 2 + 2;
	cleanup_free unsigned char *le = calloc(size, 1);
	if (!le) {
		*error = -ENOMEM;
		return WF_NIL;
	}
	size_t used = 1;
	for (; at < len; at++) {
		if (s[at] < '0' || s[at] > '9') {
			*error = -EINVAL;
			return WF_NIL;
		}
		unsigned int carry = (unsigned int)(s[at] - '0');
		for (size_t i = 0; i < used; i++) {
			carry += le[i] * 10u;
			le[i] = (unsigned char)carry;
			carry >>= 8;
		}
		if (carry)
			le[used++] = (unsigned char)carry;
	}
	if (le[used - 1] & 0x80)
		used++; /* the sign bit must be clear before it is turned */
	for (size_t i = 0, carry = 1; negative && i < used; i++) {
		carry += (unsigned char)~le[i];
		le[i] = (unsigned char)carry;
		carry >>= 8;
	}
	return wf_value_made(wf_long(g, le, used), error);
}

bool wf_double_parse(const char *s, size_t len, double *ret)
{
	char buf[512], *end;
	/* strtod also reads hexadecimal and nan(...), which Python's float does not */
	if (len == 0 || len >= sizeof buf || isspace((unsigned char)s[0]) || memchr(s, 'x', len) ||
	    memchr(s, 'X', len) || memchr(s, '(', len) || memchr(s, 0, len))
		return false;
	memcpy(buf, s, len);
	buf[len] = '\0';
	*ret = wf_strtod(buf, &end);
	return !*end && end != buf;
}

wf_ref wf_float_parse(struct wf_graph *g, const char *s, size_t len, int *error)
{
	double v;
	if (!wf_double_parse(s, len, &v)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	return wf_value_made(wf_float(g, v), error);
}

bool wf_complex_parse(const char *s, size_t len, double *ret_re, double *ret_im)
{
	if (len > 1 && s[0] == '(' && s[len - 1] == ')') {
		s++;
		len -= 2;
	}
	*ret_re = *ret_im = 0;
	if (len == 0 || (s[len - 1] != 'j' && s[len - 1] != 'J'))
		return wf_double_parse(s, len, ret_re);
	size_t split = len - 1;
	/* the sign between the two parts, not the one of an exponent */
	while (split > 0 &&
	       !((s[split - 1] == '+' || s[split - 1] == '-') && !(split > 1 && (s[split - 2] | 32) == 'e')))
		split--;
	split = split > 0 ? split - 1 : 0;
	return (split == 0 || wf_double_parse(s, split, ret_re)) && wf_double_parse(s + split, len - 1 - split, ret_im);
}

/* Bytes in the form that `like` has: a BYTES object, or the call of protocol 2. */
wf_ref wf_value_bytes_like(struct wf_graph *g, wf_ref like, const char *text, size_t len, int *error)
{
	struct wf_buffer utf8 = WF_BUFFER_INIT;
	wf_ref inner;
	*error = 0;
	switch (wf_kind_of(g, like)) {
	case WF_STR:
		if (!wf_text_is_utf8(text, len, false)) {
			*error = -EINVAL;
			return WF_NIL;
		}
		return wf_value_made(wf_string(g, WF_STR, text, len), error);
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		return wf_value_made(wf_string(g, wf_kind_of(g, like), text, len), error);
	default:
		break;
	}
	/* protocol 2 has no opcode for bytes, and weights_only takes only this form; it decides about empty ones as
	 * well */
	enum wf_meaning meaning = wf_value_meaning(g, like, &inner);
	for (size_t i = 0; i < len; i++) {
		char character[WF_UTF8_MAX];
		wf_buffer_append(&utf8, character, wf_utf8_put(character, (unsigned char)text[i]));
	}
	*error = wf_buffer_status(&utf8);
	wf_ref args[2] = {*error < 0 ? WF_NIL
				     : wf_value_made(wf_string(g, WF_STR, utf8.data ? utf8.data : "", utf8.len), error),
			  wf_value_made(wf_str(g, "latin1"), error)};
	wf_buffer_free(&utf8);
	wf_ref tuple = *error < 0 ? WF_NIL : wf_value_made(wf_tuple(g, args, 2), error);
	wf_ref encode = *error < 0 ? WF_NIL : wf_value_made(wf_global_named(g, "_codecs", "encode"), error);
	wf_ref r = *error < 0 ? WF_NIL : wf_value_made(wf_call(g, WF_CALL_REDUCE, encode, tuple, WF_NIL), error);
	if (*error < 0 || meaning != WF_MEANS_BYTEARRAY)
		return r;
	tuple = wf_value_made(wf_tuple(g, &r, 1), error);
	return *error < 0 ? WF_NIL
			  : wf_value_made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}
