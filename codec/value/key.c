/* SPDX-License-Identifier: MIT */
/* Keys of mappings as text: what a file is called, and user.torch.key. value/names.c tells the rule. */
#include <stdio.h>
#include <string.h>

#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"
#include "codec/value/inner.h"

#define KEY_MAX_BYTES \
	4096u /* of the JSON of a tuple: a few bytes of pickle can name one as the key of a million dicts */

/* 'abc' or b'abc\x00', as Python writes them */
static void put_repr(struct wf_buffer *out, const char *s, size_t len, bool bytes)
{
	char quote = memchr(s, '\'', len) && !memchr(s, '"', len) ? '"' : '\'';
	wf_buffer_puts(out, bytes ? "b" : "");
	wf_buffer_putc(out, quote);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '\\' || c == (unsigned char)quote)
			wf_buffer_printf(out, "\\%c", c);
		else if (c == '\n' || c == '\r' || c == '\t')
			wf_buffer_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		else if (c < 0x20 || c == 0x7f || (bytes && c > 0x7f))
			wf_buffer_printf(out, "\\x%02x", c);
		else
			wf_buffer_putc(out, (char)c);
	}
	wf_buffer_putc(out, quote);
}

static const char *last_part(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot && dot[1] ? dot + 1 : name;
}

static bool put_bytes_key(const struct wf_graph *g, wf_ref key, struct wf_buffer *out)
{
	struct wf_buffer raw = WF_BUFFER_INIT;
	struct wf_numpy_dtype d;
	wf_ref inner;
	enum wf_meaning meaning = wf_value_meaning(g, key, &inner);
	bool numpy = meaning == WF_MEANS_NUMPY_SCALAR && wf_value_numpy_dtype(g, key, &d) && d.kind == 'S';
	if (!numpy && !wf_is(g, key, WF_BYTES) && meaning != WF_MEANS_LATIN1 && meaning != WF_MEANS_EMPTY_BYTES)
		return false;
	bool ok = (numpy ? wf_value_numpy_text(g, key, &raw) : wf_bytes_read(g, key, WF_VALUE_MAX_BYTES, &raw)) == 0;
	if (ok)
		put_repr(out, raw.data ? raw.data : "", raw.len, true);
	wf_buffer_free(&raw);
	return ok;
}

static void scalar_repr(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	size_t len;
	const char *s = wf_is(g, r, WF_STR) || wf_is(g, r, WF_PYSTR) ? wf_bytes(g, r, &len) : NULL;
	if (s)
		put_repr(out, s, len, false);
	else if (wf_is(g, r, WF_NONE))
		wf_buffer_puts(out, "None");
	else if (wf_is(g, r, WF_BOOL))
		wf_buffer_puts(out, wf_bool_value(g, r) ? "True" : "False");
	else if (wf_is(g, r, WF_INT) || wf_is(g, r, WF_LONG) || wf_is(g, r, WF_FLOAT))
		wf_value_scalar(g, r, out);
}

/* Colour(1): the call of a class with one plain argument, which is how a member of an Enum is pickled; Colour.RED where
 * its name is. */
static bool put_member(const struct wf_graph *g, wf_ref key, struct wf_buffer *out)
{
	uint32_t n;
	struct wf_effects effects;
	wf_ref func = wf_call_func(g, key);
	const wf_ref *e = wf_elements(g, wf_call_args(g, key), &n);
	if (!wf_is(g, key, WF_CALL) || wf_call_form_of(g, key) != WF_CALL_REDUCE || !wf_is(g, func, WF_GLOBAL) ||
	    wf_call_effects(g, key, 0, &effects))
		return false;
	const char *module = wf_global_module(g, func);
	if (n == 2 && !strcmp(wf_global_name(g, func), "getattr") && wf_is(g, e[0], WF_GLOBAL) &&
	    wf_is(g, e[1], WF_STR) && (!strcmp(module, "__builtin__") || !strcmp(module, "builtins"))) {
		const char *name = wf_bytes(g, e[1], NULL);
		wf_buffer_printf(out, "%s.%.200s", last_part(wf_global_name(g, e[0])), name ? name : "?");
		return true;
	}
	if (n != 1)
		return false;
	struct wf_buffer text = WF_BUFFER_INIT;
	scalar_repr(g, e[0], &text);
	bool plain = text.len > 0 && text.len < KEY_MAX_BYTES;
	if (plain)
		wf_buffer_printf(out, "%s(%s)", last_part(wf_global_name(g, func)), text.data);
	wf_buffer_free(&text);
	return plain;
}

/* A value's file content without the newline at its end. */
static bool put_value(const struct wf_graph *g, wf_ref key, size_t max, struct wf_buffer *out)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	bool brief = wf_value_is_short(g, key);
	enum wf_value_form form = brief ? wf_value_form_of(g, key) : WF_VALUE_NOT;
	bool ok = form != WF_VALUE_NOT && wf_value_text(g, key, &text) == 0 && text.len <= max;
	size_t len = text.len - (ok && form != WF_VALUE_RAW && text.len > 0);
	if (ok)
		wf_buffer_append(out, text.data ? text.data : "", len);
	wf_buffer_free(&text);
	return ok;
}

enum wf_key_kind wf_key_text(const struct wf_graph *g, wf_ref key, struct wf_buffer *out)
{
	char class[256];
	struct wf_numpy_dtype d;
	wf_ref inner;
	enum wf_meaning meaning = wf_value_meaning(g, key, &inner);
	switch (wf_kind_of(g, key)) {
	case WF_STR:
	case WF_PYSTR:
		return put_value(g, key, WF_VALUE_MAX_BYTES, out) ? WF_KEY_TEXT : WF_KEY_OBJECT;
	case WF_NONE:
	case WF_BOOL:
	case WF_INT:
	case WF_LONG:
	case WF_FLOAT:
		wf_value_scalar(g, key, out);
		return WF_KEY_SCALAR;
	case WF_TUPLE:
		if (put_value(g, key, KEY_MAX_BYTES, out))
			return WF_KEY_JSON;
		break;
	case WF_GLOBAL:
		if (meaning == WF_MEANS_DTYPE)
			wf_buffer_printf(out, "torch.%s", wf_global_name(g, key));
		else {
			wf_global_class_name(g, key, class, sizeof class);
			wf_buffer_puts(out, last_part(class));
		}
		return WF_KEY_OBJECT;
	case WF_CALL:
		if (meaning == WF_MEANS_SIZE && put_value(g, key, KEY_MAX_BYTES, out))
			return WF_KEY_JSON;
		if (meaning == WF_MEANS_NUMPY_SCALAR && wf_value_numpy_dtype(g, key, &d) &&
		    strchr("biufUMmc", d.kind) && put_value(g, key, WF_VALUE_MAX_BYTES, out))
			return d.kind == 'U' ? WF_KEY_TEXT : strchr("biuf", d.kind) ? WF_KEY_SCALAR : WF_KEY_OBJECT;
		if ((meaning == WF_MEANS_DEVICE || meaning == WF_MEANS_PATH || meaning == WF_MEANS_TIME ||
		     meaning == WF_MEANS_COMPLEX || meaning == WF_MEANS_NUMPY_DTYPE) &&
		    put_value(g, key, WF_VALUE_MAX_BYTES, out))
			return WF_KEY_OBJECT;
		break;
	default:
		break;
	}
	if (put_bytes_key(g, key, out) ||
	    (meaning == WF_MEANS_ITSELF && !wf_is_tensor(g, key) && put_member(g, key, out)))
		return WF_KEY_OBJECT;
	wf_class_name(g, key, class, sizeof class);
	wf_buffer_puts(out, last_part(class));
	return WF_KEY_CLASS;
}

void wf_json_key(const struct wf_graph *g, wf_ref key, struct wf_buffer *out)
{
	char class[256];
	struct wf_buffer text = WF_BUFFER_INIT;
	size_t len;
	const char *s = wf_is(g, key, WF_STR) ? wf_bytes(g, key, &len) : NULL;
	if (s) { /* as nearly all are */
		wf_json_string(out, s, len);
		return;
	}
	enum wf_key_kind kind = wf_key_text(g, key, &text);
	s = text.data ? text.data : "";
	len = text.len;
	if (kind == WF_KEY_CLASS) {
		wf_class_name(g, key, class, sizeof class);
		s = class;
		len = strlen(class);
	} else if (wf_is(g, key, WF_GLOBAL) && wf_value_form_of(g, key) == WF_VALUE_NOT) {
		wf_global_class_name(g, key, class, sizeof class);
		s = class;
		len = strlen(class);
	}
	if (kind == WF_KEY_SCALAR || kind == WF_KEY_JSON)
		wf_buffer_append(out, s, len);
	else
		wf_json_string(out, s, len);
	wf_buffer_free(&text);
}

bool wf_json_key_is_whole(const struct wf_graph *g, wf_ref key)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	switch (wf_kind_of(g, key)) {
	case WF_STR:
	case WF_PYSTR:
	case WF_NONE:
	case WF_BOOL:
	case WF_INT:
	case WF_LONG:
	case WF_FLOAT:
		return key != WF_NIL;
	case WF_TUPLE: {
		bool whole = wf_key_text(g, key, &text) == WF_KEY_JSON && !wf_value_has_numpy(g, key);
		wf_buffer_free(&text);
		return whole;
	}
	default:
		return false;
	}
}
