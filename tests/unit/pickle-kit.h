/* SPDX-License-Identifier: MIT */
/* Reading a pickle out of a string literal, and an object graph as a line of text. */
#pragma once

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/buffer.h"
#include "codec/pickle/pickle.h"

#define LIT(s) (s), sizeof(s) - 1

/* Reads data into a new graph. On failure *ret_graph is NULL. The bytes are copied: they go away with the graph. */
static inline int kit_read(const void *data, size_t len, struct wf_graph **ret_graph, wf_ref *ret_root,
			   struct wf_error *err)
{
	struct wf_source *s = NULL;
	struct wf_graph *g = NULL;
	uint64_t end;
	char *copy = malloc(len + 1);

	memcpy(copy, data, len);
	*ret_graph = NULL;
	if (wf_source_from_memory(copy, len, true, &s) < 0 || wf_graph_new(&g) < 0)
		abort();
	int rc = wf_pickle_read(g, s, 0, len, NULL, ret_root, &end, err);
	wf_source_unref(s);
	if (rc < 0)
		wf_graph_free(g);
	else
		*ret_graph = g;
	return rc;
}

static inline void kit_show(const struct wf_graph *g, wf_ref r, int depth, struct wf_buffer *b);

static inline void kit_show_many(const struct wf_graph *g, wf_ref r, int depth, struct wf_buffer *b)
{
	uint32_t n;
	const wf_ref *refs = wf_elements(g, r, &n);

	for (uint32_t i = 0; i < n; i++) {
		wf_buffer_puts(b, i ? "," : "");
		kit_show(g, refs[i], depth - 1, b);
	}
}

static inline void kit_show_dict(const struct wf_graph *g, wf_ref r, int depth, struct wf_buffer *b)
{
	uint32_t n;
	const struct wf_item *items = wf_items(g, r, &n);

	wf_buffer_putc(b, '{');
	for (uint32_t i = 0; i < n; i++) {
		wf_buffer_puts(b, i ? "," : "");
		kit_show(g, items[i].key, depth - 1, b);
		wf_buffer_putc(b, ':');
		kit_show(g, items[i].value, depth - 1, b);
	}
	wf_buffer_putc(b, '}');
}

static inline void kit_show_call(const struct wf_graph *g, wf_ref r, int depth, struct wf_buffer *b)
{
	static const char *const forms[] = {"", "new ", "newex "};
	struct wf_effects e;

	wf_buffer_puts(b, forms[wf_call_form_of(g, r)]);
	kit_show(g, wf_call_func(g, r), depth - 1, b);
	kit_show(g, wf_call_args(g, r), depth - 1, b);
	if (wf_call_kwargs(g, r))
		kit_show(g, wf_call_kwargs(g, r), depth - 1, b);
	for (uint32_t i = 0; wf_call_effects(g, r, i, &e); i++) {
		wf_ref parts[] = {e.list, e.set, e.dict, e.state};
		for (int k = 0; k < 4; k++) {
			if (!parts[k])
				continue;
			wf_buffer_putc(b, "+&=!"[k]);
			kit_show(g, parts[k], depth - 1, b);
		}
	}
}

static inline void kit_show_bytes(const struct wf_graph *g, wf_ref r, struct wf_buffer *b)
{
	uint64_t n = wf_string_size(g, r);

	if (n > 40) {
		wf_buffer_printf(b, "%" PRIu64 " bytes", n);
		return;
	}
	size_t len;
	const unsigned char *s = (const unsigned char *)wf_bytes(g, r, &len);
	wf_buffer_putc(b, '\'');
	for (size_t i = 0; i < len; i++)
		wf_buffer_printf(b, s[i] >= 32 && s[i] < 127 ? "%c" : "\\x%02x", s[i]);
	wf_buffer_putc(b, '\'');
}

static inline void kit_show(const struct wf_graph *g, wf_ref r, int depth, struct wf_buffer *b)
{
	static const char *const open[WF_KIND_COUNT] = {
		[WF_TUPLE] = "(", [WF_LIST] = "[", [WF_SET] = "set(", [WF_FROZENSET] = "frozenset("};
	static const char *const prefix[WF_KIND_COUNT] = {
		[WF_STR] = "", [WF_PYSTR] = "p", [WF_BYTES] = "b", [WF_BYTEARRAY] = "a"};
	enum wf_kind kind = wf_kind_of(g, r);
	int64_t v;
	size_t len;

	if (r == WF_NIL || depth <= 0) {
		wf_buffer_puts(b, r ? "..." : "NIL");
		return;
	}
	switch (kind) {
	case WF_NONE:
		wf_buffer_puts(b, "None");
		break;
	case WF_BOOL:
		wf_buffer_puts(b, wf_bool_value(g, r) ? "True" : "False");
		break;
	case WF_INT:
		wf_int_value(g, r, &v);
		wf_buffer_printf(b, "%" PRId64, v);
		break;
	case WF_LONG:
		wf_bytes(g, r, &len);
		wf_buffer_printf(b, "long%zu", len);
		break;
	case WF_FLOAT:
		wf_buffer_printf(b, "%.17g", wf_float_value(g, r));
		break;
	case WF_DICT:
		kit_show_dict(g, r, depth, b);
		break;
	case WF_GLOBAL:
		wf_buffer_printf(b, "%s%s.%s", wf_global_nested(g, r) ? "nested " : "", wf_global_module(g, r),
				 wf_global_name(g, r));
		break;
	case WF_CALL:
		kit_show_call(g, r, depth, b);
		break;
	case WF_PERSID:
		wf_buffer_putc(b, '<');
		kit_show(g, wf_persid_id(g, r), depth - 1, b);
		wf_buffer_putc(b, '>');
		break;
	default:
		if (prefix[kind]) {
			wf_buffer_puts(b, prefix[kind]);
			kit_show_bytes(g, r, b);
			break;
		}
		wf_buffer_puts(b, open[kind]);
		kit_show_many(g, r, depth, b);
		wf_buffer_putc(b, kind == WF_LIST ? ']' : ')');
	}
}

/* The text of a graph, to be freed. */
static inline char *kit_text(const struct wf_graph *g, wf_ref root)
{
	struct wf_buffer b = WF_BUFFER_INIT;

	kit_show(g, root, 12, &b);
	return wf_buffer_steal(&b);
}
