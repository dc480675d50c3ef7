/* SPDX-License-Identifier: MIT */
/* What every part of the reading of a DeepSpeed checkpoint does: failing, looking into mappings, noting what was put together. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

#define MAX_LOOKED_AT (1u << 26)

int zero_full(const struct zero_load *l)
{
	int r = wf_graph_failed(l->g);
	return wf_fail(l->err, r < 0 ? r : -ENOMEM, "the objects of the files do not fit the limit of %llu bytes",
		       WF_GRAPH_MAX_BYTES);
}

int zero_leave(struct zero_load *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (!l->why[0])
		vsnprintf(l->why, sizeof l->why, fmt, ap);
	va_end(ap);
	return 0;
}

int zero_record_is_bad(struct zero *z, int code, const char *text)
{
	uint32_t record = z->base.count - 1;
	int r = wf_problems_add(&z->problems, record, text && text[0] ? text : strerror(-code));
	if (r == 0)
		z->base.records[record].bad = code;
	return r;
}

bool zero_text(const struct wf_graph *g, wf_ref r, const char **ret, size_t *ret_len)
{
	*ret = wf_is(g, r, WF_STR) ? wf_bytes(g, r, ret_len) : NULL;
	return *ret != NULL;
}

bool zero_is_mapping(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_DICT) || wf_call_is(g, r, "collections", "OrderedDict");
}

const struct wf_item *zero_items(const struct wf_graph *g, wf_ref r, uint32_t *ret_n)
{
	return wf_items(g, wf_is(g, r, WF_CALL) ? wf_call_dict(g, r) : r, ret_n);
}

wf_ref zero_get(const struct wf_graph *g, wf_ref r, const char *key)
{
	return wf_dict_get(g, wf_is(g, r, WF_CALL) ? wf_call_dict(g, r) : r, key);
}

wf_ref zero_get_near(struct zero_load *l, wf_ref r, wf_ref key, uint32_t near)
{
	uint32_t n;
	const struct wf_item *items = zero_items(l->g, r, &n);
	for (uint32_t i = 0; i < n && l->looked_at < MAX_LOOKED_AT; i++) {
		uint32_t at = (uint32_t)(((uint64_t)near + i) % n);
		l->looked_at += i > 0;
		if (items[at].key != WF_NIL && wf_key_equal(l->g, items[at].key, key))
			return items[at].value;
	}
	return WF_NIL;
}

int zero_set_param(struct zero_load *l, wf_ref name, wf_ref value)
{
	const char *text;
	size_t len;
	if (!zero_text(l->g, name, &text, &len))
		return zero_leave(l, "a parameter with a name of more than %u bytes", WF_INLINE_MAX);
	if (wf_key_map_get(&l->params, text, len))
		return zero_leave(l, "%.100s twice among the parameters", text);
	int r = wf_array_reserve(&l->values, &l->capacity, l->count + 1, sizeof *l->values, WF_KEY_MAP_MAX);
	if (r == 0)
		r = wf_key_map_put(&l->params, text, len, l->count);
	if (r < 0)
		return wf_fail(l->err, r, "the parameters: %s", strerror(-r));
	l->values[l->count++] = value;
	return 0;
}

wf_ref zero_param(const struct zero_load *l, wf_ref name)
{
	const char *text;
	size_t len;
	const uint64_t *i = zero_text(l->g, name, &text, &len) ? wf_key_map_get(&l->params, text, len) : NULL;
	return i ? l->values[*i] : WF_NIL;
}

int zero_set_moment(struct zero_load *l, wf_ref name, wf_ref *moments, wf_ref state, wf_ref value)
{
	if (*moments == WF_NIL) {
		*moments = wf_dict(l->g);
		if (!*moments || wf_dict_append(l->g, l->optimizer, name, *moments) < 0)
			return zero_full(l);
	}
	return wf_dict_append(l->g, *moments, state, value) < 0 ? zero_full(l) : 0;
}
