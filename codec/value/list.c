/* SPDX-License-Identifier: MIT */
/* Lists, tuples and sets whose elements are plain: one JSON text. */
#include <errno.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/value/inner.h"

#define SHORT_ELEMENTS 1000u
#define MAX_DEPTH 64 /* of nested lists that are shown as one JSON text; deeper ones are directories */

static bool plain_scalar(const struct wf_graph *g, wf_ref r)
{
	switch (wf_kind_of(g, r)) {
	case WF_NONE:
	case WF_BOOL:
	case WF_INT:
	case WF_LONG:
	case WF_FLOAT:
	case WF_STR:
	case WF_PYSTR:
		return r != WF_NIL;
	default:
		return false;
	}
}

/* The list, tuple or set whose elements a JSON text shows; WF_NIL for anything else. */
wf_ref wf_value_sequence(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	switch (wf_kind_of(g, r)) {
	case WF_LIST:
	case WF_TUPLE:
	case WF_SET:
	case WF_FROZENSET:
		return r;
	case WF_CALL: {
		enum wf_meaning m = wf_value_meaning(g, r, &inner);
		if (m == WF_MEANS_SIZE || m == WF_MEANS_SET || m == WF_MEANS_LIST || m == WF_MEANS_ARRAY)
			return inner == WF_NIL ? wf_call_args(g, r) : inner;
		return WF_NIL;
	}
	default:
		return WF_NIL;
	}
}

/* A scalar as JSON, NumPy's among them; with out NULL only tells whether it is one that JSON has. */
static int json_element(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct wf_numpy_dtype d;
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_ref inner;
	if (plain_scalar(g, r))
		return out ? wf_value_scalar(g, r, out) : 0;
	if (!wf_is(g, r, WF_CALL) || wf_value_meaning(g, r, &inner) != WF_MEANS_NUMPY_SCALAR ||
	    !wf_value_numpy_dtype(g, r, &d) || !strchr("biufU", d.kind))
		return -EINVAL;
	int failed = wf_value_numpy_text(g, r, &text);
	if (failed == 0 && out && d.kind == 'U')
		wf_json_string(out, text.data ? text.data : "", text.len);
	else if (failed == 0 && out)
		wf_buffer_append(out, text.data, text.len);
	wf_buffer_free(&text);
	return failed;
}

struct level {
	wf_ref sequence;
	uint32_t at;
};

/* How many elements a text may show. Shared lists expand in it: what is not shared takes memory in the graph, so that
 * far more than that is a small pickle blowing up; and when that was met, the next lists are given up sooner. */
static uint64_t max_elements(const struct wf_graph *g)
{
	uint64_t limit = WF_MIN(WF_VALUE_MAX_BYTES / 4, 65536 + 4 * wf_graph_bytes(g));
	return WF_MAX(limit >> WF_MIN(wf_graph_expansions(g), 12u), 4096u);
}

/* Walks the elements of nested sequences; with out NULL only tells whether all of them are plain. */
static int walk_json(const struct wf_graph *g, wf_ref r, uint64_t limit, struct wf_buffer *out)
{
	struct level stack[MAX_DEPTH];
	int depth = 0;
	uint64_t visited = 0;
	stack[0] = (struct level){wf_value_sequence(g, r), 0};
	if (out)
		wf_buffer_putc(out, '[');
	while (depth >= 0) {
		struct level *l = &stack[depth];
		uint32_t n;
		const wf_ref *e = wf_elements(g, l->sequence, &n);
		if (l->at == n) {
			if (out)
				wf_buffer_putc(out, ']');
			depth--;
			continue;
		}
		if (++visited > limit || (out && out->len > WF_VALUE_MAX_BYTES))
			return -E2BIG;
		wf_ref element = e[l->at++];
		if (out && l->at > 1)
			wf_buffer_puts(out, ", ");
		wf_ref inner = wf_value_sequence(g, element);
		if (inner != WF_NIL) {
			if (++depth == MAX_DEPTH)
				return -EINVAL;
			stack[depth] = (struct level){inner, 0};
			if (out)
				wf_buffer_putc(out, '[');
		} else if (!plain_scalar(g, element) || out) {
			int failed = json_element(g, element, out);
			if (failed < 0)
				return failed;
		}
	}
	return out ? wf_buffer_status(out) : 0;
}

int wf_value_list(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	int failed = walk_json(g, r, max_elements(g), out);
	if (failed == -E2BIG)
		wf_graph_note_expansion(g);
	return failed;
}

bool wf_value_is_short(const struct wf_graph *g, wf_ref r)
{
	return wf_value_sequence(g, r) == WF_NIL || walk_json(g, r, SHORT_ELEMENTS, NULL) == 0;
}

/* Whether a list holds NumPy scalars, whose types a text cannot give. It is known to be plain. */
bool wf_value_has_numpy(const struct wf_graph *g, wf_ref r)
{
	struct level stack[MAX_DEPTH];
	uint64_t visited = 0, limit = max_elements(g);
	int depth = 0;
	stack[0] = (struct level){wf_value_sequence(g, r), 0};
	while (depth >= 0 && ++visited < limit) {
		wf_ref element = wf_element(g, stack[depth].sequence, stack[depth].at++), inner;
		if (element == WF_NIL) {
			depth--;
			continue;
		}
		inner = wf_value_sequence(g, element);
		if (inner != WF_NIL && depth + 1 < MAX_DEPTH)
			stack[++depth] = (struct level){inner, 0};
		else if (!plain_scalar(g, element))
			return true;
	}
	return false;
}
