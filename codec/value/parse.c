/* Text -> object, for edits of values: the type of what was there decides how the text is read. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/object/dtype.h"
#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"
#include "codec/value/inner.h"

static wf_ref made(wf_ref r, int *error)
{
	if (r == WF_NIL)
		*error = -ENOMEM;
	return r;
}

/* ---- scalars ---- */

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
	return made(wf_long(g, le, used), error);
}

bool wf_double_parse(const char *s, size_t len, double *ret)
{
	char buf[512], *end;
	/* strtod also reads hexadecimal and nan(...), which Python's float does not */
	if (len == 0 || len >= sizeof buf || isspace((unsigned char)s[0]) || memchr(s, 'x', len) || memchr(s, 'X', len) ||
	    memchr(s, '(', len) || memchr(s, 0, len))
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
	return made(wf_float(g, v), error);
}

/* An int that is given a number with a point or an exponent becomes a float, as a name in Python does. */
static wf_ref parse_int_or_float(struct wf_graph *g, const char *s, size_t len, int *error)
{
	bool pointed = false;
	for (size_t i = 0; i < len; i++) {
		if (!memchr("0123456789+-.eE", s[i], 15))
			return wf_int_parse(g, s, len, error);
		pointed |= memchr(".eE", s[i], 3) != NULL;
	}
	return pointed ? wf_float_parse(g, s, len, error) : wf_int_parse(g, s, len, error);
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && !memcmp(s, word, len);
}

static wf_ref parse_bool(struct wf_graph *g, const char *s, size_t len, int *error)
{
	if (is_word(s, len, "true"))
		return wf_bool(g, true);
	if (is_word(s, len, "false"))
		return wf_bool(g, false);
	*error = -EINVAL;
	return WF_NIL;
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
	while (split > 0 && !((s[split - 1] == '+' || s[split - 1] == '-') && !(split > 1 && (s[split - 2] | 32) == 'e')))
		split--;
	split = split > 0 ? split - 1 : 0;
	return (split == 0 || wf_double_parse(s, split, ret_re)) && wf_double_parse(s + split, len - 1 - split, ret_im);
}

static wf_ref parse_complex(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	double re, im;
	if (!wf_complex_parse(s, len, &re, &im)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref parts[2] = {wf_float(g, re), wf_float(g, im)};
	wf_ref args = parts[0] == WF_NIL || parts[1] == WF_NIL ? WF_NIL : wf_tuple(g, parts, 2);
	return made(args == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), args, WF_NIL), error);
}

/* torch.bfloat16 */
static wf_ref parse_dtype(struct wf_graph *g, const char *s, size_t len, int *error)
{
	char name[32];
	if (len <= 6 || len - 6 >= sizeof name || memcmp(s, "torch.", 6) != 0) {
		*error = -EINVAL;
		return WF_NIL;
	}
	memcpy(name, s + 6, len - 6);
	name[len - 6] = '\0';
	wf_ref r = made(wf_global_named(g, "torch", name), error);
	if (*error == 0 && wf_dtype_from_global(g, r) == WF_DTYPE_INVALID)
		*error = -EINVAL;
	return r;
}

/* cpu, cuda:1 */
static wf_ref parse_device(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	size_t type = 0, digits;
	while (type < len && (islower((unsigned char)s[type]) || s[type] == '_'))
		type++;
	digits = type < len && s[type] == ':' ? len - type - 1 : 0;
	int64_t index = 0;
	for (size_t i = 0; i < digits && index >= 0; i++)
		index = isdigit((unsigned char)s[len - digits + i]) ? index * 10 + s[len - digits + i] - '0' : -1;
	if (type == 0 || digits > 3 || index < 0 || (type < len && digits == 0)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref args[2] = {made(wf_string(g, WF_STR, s, type), error), wf_int(g, index)};
	wf_ref tuple = *error < 0 ? WF_NIL : made(wf_tuple(g, args, digits ? 2 : 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}

/* ---- the front ---- */

/* The value as a JSON list, in the form of `like`: list, tuple, set, torch.Size. */
static wf_ref parse_sequence(struct wf_graph *g, wf_ref like, const char *text, size_t len, int *error)
{
	wf_ref inner, shape = like;
	uint32_t n;
	enum wf_meaning meaning = wf_value_meaning(g, like, &inner);
	if (wf_is(g, like, WF_CALL))
		shape = inner != WF_NIL ? inner : wf_list(g);
	wf_ref r = wf_json_parse(g, shape, text, len, false, error);
	if (*error < 0)
		return WF_NIL;
	const wf_ref *e = wf_elements(g, r, &n);
	if (wf_is(g, like, WF_FROZENSET))
		return made(wf_frozenset(g, e, n), error);
	if (wf_is(g, like, WF_SET)) {
		wf_ref set = made(wf_set(g), error);
		for (uint32_t i = 0; i < n && *error == 0; i++)
			*error = wf_list_append(g, set, wf_element(g, r, i));
		return set;
	}
	if (meaning != WF_MEANS_SIZE && meaning != WF_MEANS_SET)
		return r;
	for (uint32_t i = 0; meaning == WF_MEANS_SIZE && i < n; i++)
		if (!wf_is(g, wf_element(g, r, i), WF_INT)) {
			*error = -EINVAL;
			return WF_NIL;
		}
	wf_ref args = made(wf_tuple(g, &r, 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), args, WF_NIL), error);
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
		return made(wf_string(g, WF_STR, text, len), error);
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		return made(wf_string(g, wf_kind_of(g, like), text, len), error);
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
	wf_ref args[2] = {*error < 0 ? WF_NIL : made(wf_string(g, WF_STR, utf8.data ? utf8.data : "", utf8.len), error),
			  made(wf_str(g, "latin1"), error)};
	wf_buffer_free(&utf8);
	wf_ref tuple = *error < 0 ? WF_NIL : made(wf_tuple(g, args, 2), error);
	wf_ref encode = *error < 0 ? WF_NIL : made(wf_global_named(g, "_codecs", "encode"), error);
	wf_ref r = *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, encode, tuple, WF_NIL), error);
	if (*error < 0 || meaning != WF_MEANS_BYTEARRAY)
		return r;
	tuple = made(wf_tuple(g, &r, 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}

static wf_ref parse_scalar(struct wf_graph *g, wf_ref like, const char *text, size_t len, int *error)
{
	wf_ref inner;
	switch (wf_kind_of(g, like)) {
	case WF_INT:
	case WF_LONG:
		return parse_int_or_float(g, text, len, error);
	case WF_FLOAT:
		return wf_float_parse(g, text, len, error);
	case WF_BOOL:
		return parse_bool(g, text, len, error);
	case WF_NONE:
		/* null may become any scalar or list: there is no type to keep */
		return wf_json_parse(g, WF_NIL, text, len, false, error);
	default:
		break;
	}
	switch (wf_value_meaning(g, like, &inner)) {
	case WF_MEANS_COMPLEX:
		return parse_complex(g, like, text, len, error);
	case WF_MEANS_DTYPE:
		return parse_dtype(g, text, len, error);
	case WF_MEANS_DEVICE:
		return parse_device(g, like, text, len, error);
	case WF_MEANS_NUMPY_SCALAR:
		return wf_value_parse_numpy(g, like, text, len, error);
	default:
		*error = -EROFS;
		return WF_NIL;
	}
}

int wf_value_parse_json(struct wf_graph *g, const char *text, size_t len, wf_ref *ret)
{
	int error = 0;
	size_t space = 0;
	while (space < len && memchr(" \t\r\n", text[space], 4))
		space++;
	if (space < len && text[space] == '"')
		return -EINVAL; /* quotes are part of a text */
	wf_ref r = wf_json_parse(g, WF_NIL, text, len, true, &error);
	if (error < 0)
		return error;
	if (r == WF_NIL)
		return -ENOMEM;
	*ret = r;
	return 0;
}

int wf_value_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, wf_ref *ret)
{
	enum wf_value_form form = wf_value_form_of(g, like);
	wf_ref r;
	int error = 0;
	if (form == WF_VALUE_NOT || !wf_value_is_settable(g, like))
		return -EROFS;
	if (form == WF_VALUE_RAW) {
		r = wf_value_bytes_like(g, like, text, len, &error);
	} else {
		while (len > 0 && isspace((unsigned char)text[len - 1]))
			len--;
		while (len > 0 && isspace((unsigned char)text[0])) {
			text++;
			len--;
		}
		r = form == WF_VALUE_JSON ? parse_sequence(g, like, text, len, &error)
					  : parse_scalar(g, like, text, len, &error);
	}
	if (error < 0)
		return error;
	if (r == WF_NIL)
		return -ENOMEM;
	*ret = r;
	return 0;
}
