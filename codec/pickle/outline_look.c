/* SPDX-License-Identifier: MIT */
/* What an outline tells of its values. */
#include "codec/pickle/outline.h"

#include "codec/pickle/outline_inner.h"

wf_outlined wf_outline_root(const struct wf_outline *o)
{
	return o->root;
}

/* A list of plain values is one text. */
static enum wf_outline_shape shape_of_list(const struct outlined *n)
{
	bool flat = n->count <= OUTLINE_SHORT_LIST;
	for (uint32_t i = 0; i < n->count; i++) {
		if (outline_kind(n->values[i]) == DICT || outline_kind(n->values[i]) == TENSOR)
			return WF_OUTLINE_LIST;
		flat &= outline_is_flat(n->values[i]);
	}
	return flat ? WF_OUTLINE_FILE : WF_OUTLINE_UNKNOWN;
}

enum wf_outline_shape wf_outline_shape(const struct wf_outline *o, wf_outlined v)
{
	const struct outlined *n = outline_node(o, v);
	if (n && (n->places > 1 || n->odd))
		return WF_OUTLINE_UNKNOWN;
	switch (outline_kind(v)) {
	case DICT:
		return WF_OUTLINE_MAPPING;
	case LIST:
		return shape_of_list(n);
	case PLAIN:
	case INT:
	case STR:
	case TENSOR:
		return WF_OUTLINE_FILE;
	case TUPLE:
		return outline_index(v) == TUPLE_PLAIN || outline_index(v) == TUPLE_EMPTY ||
				       outline_index(v) == TUPLE_NESTED
			       ? WF_OUTLINE_FILE
			       : WF_OUTLINE_UNKNOWN;
	default:
		return WF_OUTLINE_UNKNOWN;
	}
}

uint32_t wf_outline_count(const struct wf_outline *o, wf_outlined v)
{
	const struct outlined *n = outline_node(o, v);
	return !n ? 0 : outline_kind(v) == DICT ? n->count / 2 : n->count;
}

wf_outlined wf_outline_item(const struct wf_outline *o, wf_outlined v, uint32_t i, wf_outlined *ret_key)
{
	const struct outlined *n = outline_node(o, v);
	bool dict = outline_kind(v) == DICT;
	*ret_key = dict ? n->values[(size_t)2 * i] : 0;
	return dict ? n->values[(size_t)2 * i + 1] : n->values[i];
}

const char *wf_outline_text(const struct wf_outline *o, wf_outlined v, size_t *ret_len)
{
	if (outline_kind(v) != STR)
		return NULL;
	*ret_len = o->texts[outline_index(v)].len;
	return o->bytes.data ? o->bytes.data + o->texts[outline_index(v)].at : "";
}

bool wf_outline_number(const struct wf_outline *o, wf_outlined v, uint32_t *ret)
{
	*ret = outline_index(v);
	return outline_kind(v) == INT;
}
