/* SPDX-License-Identifier: MIT */
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

/* ---- scalars ---- */

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

static wf_ref parse_complex(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	double re, im;
	if (!wf_complex_parse(s, len, &re, &im)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref parts[2] = {wf_float(g, re), wf_float(g, im)};
	wf_ref args = parts[0] == WF_NIL || parts[1] == WF_NIL ? WF_NIL : wf_tuple(g, parts, 2);
	return wf_value_made(args == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), args, WF_NIL),
			     error);
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
	wf_ref r = wf_value_made(wf_global_named(g, "torch", name), error);
	if (*error == 0 && wf_dtype_from_global(g, r) == WF_DTYPE_INVALID)
		*error = -EINVAL;
	return r;
}

/* What torch.device takes: its own types, in any version, and one that a plug-in has brought here. */
static bool is_device_type(struct wf_graph *g, wf_ref like, const char *s, size_t len)
{
	static const char *const types[] = {"cpu",   "cuda",   "ipu", "xpu",  "mkldnn", "opengl", "opencl",
					    "ideep", "hip",    "ve",  "fpga", "ort",    "maia",   "xla",
					    "lazy",  "vulkan", "mps", "meta", "hpu",    "mtia",   "privateuseone"};
	wf_ref old = wf_element(g, wf_call_args(g, like), 0);
	size_t there_len = 0;
	const char *there = wf_is(g, old, WF_STR) ? wf_bytes(g, old, &there_len) : NULL;
	for (size_t i = 0; i < WF_ARRAY_SIZE(types); i++)
		if (is_word(s, len, types[i]))
			return true;
	return there && there_len == len && !memcmp(s, there, len);
}

/* cpu, cuda:1. An index is a signed byte, and beyond that another one; cuda:01 is none. */
static wf_ref parse_device(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	const char *colon = memchr(s, ':', len);
	size_t type = colon ? (size_t)(colon - s) : len, digits = colon ? len - type - 1 : 0;
	int64_t index = 0;
	for (size_t i = type + 1; i < len && index >= 0; i++)
		index = isdigit((unsigned char)s[i]) ? index * 10 + s[i] - '0' : -1;
	if (!is_device_type(g, like, s, type) || index < 0 || index > 127 || digits > 3 || (colon && digits == 0) ||
	    (digits > 1 && colon[1] == '0')) {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref args[2] = {wf_value_made(wf_string(g, WF_STR, s, type), error), wf_int(g, index)};
	wf_ref tuple = *error < 0 ? WF_NIL : wf_value_made(wf_tuple(g, args, digits ? 2 : 1), error);
	return *error < 0 ? WF_NIL
			  : wf_value_made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}

/* ---- the front ---- */

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
		r = form == WF_VALUE_JSON ? wf_json_parse(g, like, text, len, false, &error)
					  : parse_scalar(g, like, text, len, &error);
	}
	if (error < 0)
		return error;
	if (r == WF_NIL)
		return -ENOMEM;
	*ret = r;
	return 0;
}
