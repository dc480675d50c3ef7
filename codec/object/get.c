/* SPDX-License-Identifier: MIT */
/* Reading the object graph. Every accessor takes any ref: the wrong kind gets the neutral answer, since what a
 * checkpoint holds in some place is never certain. */
#include "codec/object/object.h"

#include <errno.h>

#include "codec/object/inner.h"
#include "codec/bytes/util.h"

/* A CALL or a PERSID, which may be a part of a packed tensor. */
static inline const struct wf_object *read_object(const struct wf_graph *g, wf_ref r, enum wf_kind kind,
						  union wf_object_room *room)
{
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next)
		return NULL;
	const struct wf_packed *p = wf_packed_at(g, r, &part);
	if (p)
		return wf_packed_kind(part) == kind ? wf_packed_object(g, r, p, part, room) : NULL;
	const struct wf_object *o = wf_object_at(g, r);
	return o->kind == kind ? o : NULL;
}

enum wf_kind wf_kind_of(const struct wf_graph *g, wf_ref r)
{
	enum wf_packed_part part;
	if (r & SMALL_INT_BIT)
		return WF_INT;
	if (r == WF_NIL || r >= g->next)
		return WF_NONE;
	if (wf_packed_at(g, r, &part))
		return wf_packed_kind(part);
	const struct wf_object *o = wf_object_at(g, r);
	return o->kind < WF_KIND_COUNT ? (enum wf_kind)o->kind : WF_NONE;
}

bool wf_is(const struct wf_graph *g, wf_ref r, enum wf_kind kind)
{
	return r != WF_NIL && wf_kind_of(g, r) == kind;
}

bool wf_bool_value(const struct wf_graph *g, wf_ref r)
{
	return r == WF_REF_TRUE;
}

bool wf_int_value(const struct wf_graph *g, wf_ref r, int64_t *ret)
{
	if (r & SMALL_INT_BIT) {
		*ret = (int32_t)(r << 1) >> 1;
		return true;
	}
	if (r == WF_REF_FALSE || r == WF_REF_TRUE) {
		*ret = r == WF_REF_TRUE;
		return true;
	}
	const struct wf_object *o = wf_object_of(g, r, WF_INT);
	if (!o)
		return false;
	memcpy(ret, o->payload, sizeof *ret);
	return true;
}

double wf_float_value(const struct wf_graph *g, wf_ref r)
{
	const struct wf_object *o = wf_object_of(g, r, WF_FLOAT);
	double v = 0.0;

	if (o)
		memcpy(&v, o->payload, sizeof v);
	return v;
}

/* ---- strings ---- */

const char *wf_bytes(const struct wf_graph *g, wf_ref r, size_t *ret_len)
{
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next)
		return NULL;
	const struct wf_packed *p = wf_packed_at(g, r, &part);
	const struct wf_object *o = p ? NULL : wf_object_at(g, r);

	if (p && part == WF_PACKED_KEY) {
		if (ret_len)
			*ret_len = strlen(p->key);
		return p->key;
	}
	if (!o || !(wf_kind_is_string(o->kind) || o->kind == WF_LONG) || o->flags & WF_FLAG_EXTERNAL)
		return NULL;
	if (ret_len)
		*ret_len = wf_object_count(o);
	return wf_object_data(o);
}

static const struct wf_object *external_string(const struct wf_graph *g, wf_ref r)
{
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next || wf_packed_at(g, r, &part))
		return NULL;
	const struct wf_object *o = wf_object_at(g, r);
	return wf_kind_is_string(o->kind) && o->flags & WF_FLAG_EXTERNAL ? o : NULL;
}

uint64_t wf_string_size(const struct wf_graph *g, wf_ref r)
{
	const struct wf_object *o = external_string(g, r);
	size_t len;

	if (o)
		return wf_le64(o->payload + 8);
	return wf_kind_is_string(wf_kind_of(g, r)) && wf_bytes(g, r, &len) ? len : 0;
}

bool wf_string_external_at(const struct wf_graph *g, wf_ref r, uint64_t *ret_offset)
{
	const struct wf_object *o = external_string(g, r);

	if (!o)
		return false;
	*ret_offset = wf_le64(o->payload);
	return true;
}

int wf_string_read(const struct wf_graph *g, wf_ref r, uint64_t offset, void *buf, size_t len)
{
	uint64_t size = wf_string_size(g, r);
	uint64_t at;

	if (!wf_kind_is_string(wf_kind_of(g, r)) || offset > size || len > size - offset)
		return -EUCLEAN;
	if (len == 0)
		return 0;
	if (!wf_string_external_at(g, r, &at)) {
		memcpy(buf, wf_bytes(g, r, NULL) + offset, len);
		return 0;
	}
	if (!g->source || wf_add_u64(at, offset, &at))
		return -EUCLEAN;
	return wf_source_read(g->source, at, buf, len);
}

bool wf_str_equal(const struct wf_graph *g, wf_ref r, const char *s)
{
	size_t len;
	const char *data = wf_bytes(g, r, &len);
	enum wf_kind kind = wf_kind_of(g, r);

	return data && (kind == WF_STR || kind == WF_PYSTR) && len == strlen(s) && memcmp(data, s, len) == 0;
}

/* ---- containers ---- */

const wf_ref *wf_elements(const struct wf_graph *g, wf_ref r, uint32_t *ret_n)
{
	enum wf_packed_part part;

	*ret_n = 0;
	if (r == WF_NIL || r >= g->next)
		return NULL;
	const struct wf_packed *p = wf_packed_at(g, r, &part);
	if (p)
		return wf_packed_elements(g, p, part, ret_n);
	const struct wf_object *o = wf_object_at(g, r);
	switch (o->kind) {
	case WF_TUPLE:
	case WF_FROZENSET:
		*ret_n = wf_object_count(o);
		return *ret_n ? wf_object_data(o) : NULL;
	case WF_LIST:
	case WF_SET:
		*ret_n = o->n;
		return ((const struct wf_vector_object *)o)->vector;
	default:
		return NULL;
	}
}

wf_ref wf_element(const struct wf_graph *g, wf_ref r, uint32_t i)
{
	uint32_t n;
	const wf_ref *refs = wf_elements(g, r, &n);

	return i < n ? refs[i] : WF_NIL;
}

const struct wf_item *wf_items(const struct wf_graph *g, wf_ref r, uint32_t *ret_n)
{
	const struct wf_object *o = wf_object_of(g, r, WF_DICT);

	*ret_n = o ? o->n : 0;
	return o ? ((const struct wf_vector_object *)o)->vector : NULL;
}

wf_ref wf_dict_get(const struct wf_graph *g, wf_ref dict, const char *s)
{
	uint32_t n;
	const struct wf_item *items = wf_items(g, dict, &n);

	while (n-- > 0)
		if (items[n].key && wf_str_equal(g, items[n].key, s))
			return items[n].value;
	return WF_NIL;
}

/* ---- globals and calls ---- */

const char *wf_global_module(const struct wf_graph *g, wf_ref r)
{
	const struct wf_object *o = wf_object_of(g, r, WF_GLOBAL);
	return o ? wf_bytes(g, o->n, NULL) : "";
}

const char *wf_global_name(const struct wf_graph *g, wf_ref r)
{
	const struct wf_object *o = wf_object_of(g, r, WF_GLOBAL);
	return o ? wf_bytes(g, wf_object_refs(o)[0], NULL) : "";
}

wf_ref wf_global_part(const struct wf_graph *g, wf_ref r, int part)
{
	const struct wf_object *o = wf_object_of(g, r, WF_GLOBAL);
	return !o ? WF_NIL : part ? wf_object_refs(o)[0] : o->n;
}

bool wf_is_global(const struct wf_graph *g, wf_ref r, const char *module, const char *name)
{
	return wf_object_of(g, r, WF_GLOBAL) && strcmp(wf_global_name(g, r), name) == 0 &&
	       strcmp(wf_global_module(g, r), module) == 0;
}

bool wf_global_nested(const struct wf_graph *g, wf_ref r)
{
	const struct wf_object *o = wf_object_of(g, r, WF_GLOBAL);
	return o && o->flags & WF_FLAG_NESTED;
}

bool wf_persid_memoised(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_PERSID, &room);
	return o && o->flags & WF_FLAG_MEMOISED;
}

bool wf_call_by_mark(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_CALL, &room);
	return o && o->flags & WF_FLAG_BY_MARK;
}

enum wf_call_form wf_call_form_of(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_CALL, &room);
	return o ? (enum wf_call_form)o->aux : WF_CALL_REDUCE;
}

wf_ref wf_call_func(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_CALL, &room);
	return o ? wf_object_refs(o)[0] : WF_NIL;
}

wf_ref wf_call_args(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_CALL, &room);
	return o ? wf_object_refs(o)[1] : WF_NIL;
}

wf_ref wf_call_kwargs(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_CALL, &room);
	return o && o->aux == WF_CALL_NEWOBJ_EX ? wf_object_refs(o)[2] : WF_NIL;
}

wf_ref wf_packed_args(const struct wf_graph *g, wf_ref r)
{
	enum wf_packed_part part;
	const struct wf_packed *p = r == WF_NIL || r >= g->next ? NULL : wf_packed_at(g, r, &part);
	return p && part == WF_PACKED_CALL && !(p->form & WF_PACKED_CHANGED) ? r - WF_PACKED_CALL + WF_PACKED_ARGS
									     : WF_NIL;
}

static const struct wf_effects_object *effects_object(const struct wf_graph *g, wf_ref call)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, call, WF_CALL, &room);
	return o && o->n ? (const struct wf_effects_object *)wf_object_at(g, o->n) : NULL;
}

bool wf_call_effects(const struct wf_graph *g, wf_ref r, uint32_t i, struct wf_effects *ret)
{
	const struct wf_effects_object *e = effects_object(g, r);

	if (!e || i >= e->head.n)
		return false;
	*ret = i == 0 ? e->first : e->more[i - 1];
	return true;
}

wf_ref wf_call_dict(const struct wf_graph *g, wf_ref r)
{
	struct wf_effects e;

	for (uint32_t i = 0; wf_call_effects(g, r, i, &e); i++)
		if (e.dict)
			return e.dict;
	return WF_NIL;
}

wf_ref wf_call_state(const struct wf_graph *g, wf_ref r)
{
	const struct wf_effects_object *e = effects_object(g, r);
	struct wf_effects round;

	for (uint32_t i = e ? e->head.n : 0; i-- > 0 && wf_call_effects(g, r, i, &round);)
		if (round.state)
			return round.state;
	return WF_NIL;
}

bool wf_call_is(const struct wf_graph *g, wf_ref r, const char *module, const char *name)
{
	return wf_is_global(g, wf_call_func(g, r), module, name);
}

wf_ref wf_persid_id(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_PERSID, &room);
	return o ? o->n : WF_NIL;
}

uint32_t wf_persid_number(const struct wf_graph *g, wf_ref r)
{
	union wf_object_room room;
	const struct wf_object *o = read_object(g, r, WF_PERSID, &room);
	return o ? wf_object_refs(o)[0] : 0;
}

wf_ref wf_class_of(const struct wf_graph *g, wf_ref r)
{
	if (wf_object_of(g, r, WF_GLOBAL))
		return r;
	wf_ref id = wf_persid_id(g, r);
	wf_ref class = wf_element(g, id, 1);
	if (wf_is(g, id, WF_TUPLE) && wf_str_equal(g, wf_element(g, id, 0), "module") && wf_is(g, class, WF_GLOBAL))
		return class;
	return WF_NIL;
}
