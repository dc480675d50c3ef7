/* SPDX-License-Identifier: MIT */
/* Makes the objects of a graph; object/arena.c draws them. */
#include "codec/object/object.h"

#include <errno.h>

#include "codec/object/inner.h"
#include "codec/bytes/util.h"

#define SMALL_INT_MIN (-((int64_t)1 << 30))
#define SMALL_INT_MAX (((int64_t)1 << 30) - 1)

wf_ref wf_none(struct wf_graph *g)
{
	return WF_REF_NONE;
}

wf_ref wf_bool(struct wf_graph *g, bool v)
{
	return v ? WF_REF_TRUE : WF_REF_FALSE;
}

wf_ref wf_int(struct wf_graph *g, int64_t v)
{
	if (v >= SMALL_INT_MIN && v <= SMALL_INT_MAX)
		return SMALL_INT_BIT | ((uint32_t)v & ~SMALL_INT_BIT);
	wf_ref r = wf_object_new(g, WF_INT, 2);
	if (r)
		memcpy(wf_object_at(g, r)->payload, &v, sizeof v);
	return r;
}

wf_ref wf_float(struct wf_graph *g, double v)
{
	wf_ref r = wf_object_new(g, WF_FLOAT, 2);

	if (r)
		memcpy(wf_object_at(g, r)->payload, &v, sizeof v);
	return r;
}

/* Room for count elements of elem bytes and extra bytes; *ret_data is where they go. */
static wf_ref new_counted(struct wf_graph *g, uint8_t kind, size_t count, size_t elem, size_t extra, void **ret_data)
{
	bool longer = count >= WF_LONG_FORM;

	if (count > WF_GRAPH_MAX_BYTES / elem)
		return wf_graph_fail(g, -E2BIG);
	wf_ref r = wf_object_new(g, kind, wf_units_of((longer ? 8 : 4) + count * elem + extra));
	if (!r)
		return WF_NIL;
	struct wf_object *o = wf_object_at(g, r);
	o->aux = longer ? WF_LONG_FORM : (uint16_t)count;
	if (longer)
		o->n = (uint32_t)count;
	*ret_data = wf_object_data(o);
	return r;
}

static wf_ref new_bytes(struct wf_graph *g, uint8_t kind, const void *data, size_t len)
{
	void *to = NULL;
	wf_ref r = new_counted(g, kind, len, 1, 1, &to);

	if (!r)
		return WF_NIL;
	if (len)
		memcpy(to, data, len);
	((char *)to)[len] = '\0';
	return r;
}

wf_ref wf_long(struct wf_graph *g, const void *le_bytes, size_t len)
{
	const unsigned char *p = le_bytes;

	/* A top byte that only repeats the sign says nothing. */
	while (len > 1 && (p[len - 1] == 0 || p[len - 1] == 0xff) && (p[len - 1] ^ p[len - 2]) < 0x80)
		len--;
	if (len > 8)
		return new_bytes(g, WF_LONG, p, len);
	int64_t v = len && p[len - 1] & 0x80 ? -1 : 0;
	if (len)
		memcpy(&v, p, len);
	return wf_int(g, v);
}

wf_ref wf_string(struct wf_graph *g, enum wf_kind kind, const void *data, size_t len)
{
	if (!wf_kind_is_string(kind))
		return WF_NIL;
	return new_bytes(g, (uint8_t)kind, data, len);
}

wf_ref wf_str(struct wf_graph *g, const char *s)
{
	return new_bytes(g, WF_STR, s, strlen(s));
}

wf_ref wf_string_external(struct wf_graph *g, enum wf_kind kind, uint64_t offset, uint64_t len)
{
	if (!wf_kind_is_string(kind))
		return WF_NIL;
	wf_ref r = wf_object_new(g, (uint8_t)kind, 3);
	if (r) {
		struct wf_object *o = wf_object_at(g, r);
		o->flags = WF_FLAG_EXTERNAL;
		memcpy(o->payload, &offset, 8);
		memcpy(o->payload + 8, &len, 8);
	}
	return r;
}

static wf_ref new_refs(struct wf_graph *g, uint8_t kind, const wf_ref *items, uint32_t n)
{
	void *to = NULL;
	wf_ref r = new_counted(g, kind, n, sizeof *items, 0, &to);

	if (r && n)
		memcpy(to, items, n * sizeof *items);
	return r;
}

wf_ref wf_tuple(struct wf_graph *g, const wf_ref *items, uint32_t n)
{
	return n ? new_refs(g, WF_TUPLE, items, n) : WF_REF_EMPTY_TUPLE;
}

wf_ref wf_frozenset(struct wf_graph *g, const wf_ref *items, uint32_t n)
{
	return new_refs(g, WF_FROZENSET, items, n);
}

static wf_ref new_container(struct wf_graph *g, uint8_t kind)
{
	wf_ref r = wf_object_new(g, kind, sizeof(struct wf_vector_object) / 8);

	if (r) {
		struct wf_vector_object *c = (struct wf_vector_object *)wf_object_at(g, r);
		c->vector = NULL;
		c->cap = 0;
	}
	return r;
}

wf_ref wf_list(struct wf_graph *g)
{
	return new_container(g, WF_LIST);
}

wf_ref wf_dict(struct wf_graph *g)
{
	return new_container(g, WF_DICT);
}

wf_ref wf_set(struct wf_graph *g)
{
	return new_container(g, WF_SET);
}

wf_ref wf_global(struct wf_graph *g, wf_ref module, wf_ref name)
{
	if (!wf_bytes(g, module, NULL) || !wf_bytes(g, name, NULL))
		return WF_NIL;
	wf_ref r = wf_object_new(g, WF_GLOBAL, 2);
	if (r) {
		struct wf_object *o = wf_object_at(g, r);
		o->n = module;
		wf_object_refs(o)[0] = name;
	}
	return r;
}

void wf_graph_share_constants(struct wf_graph *g)
{
	g->shares = true;
}

static wf_ref share(struct wf_graph *g, wf_ref r)
{
	if (r != WF_NIL && g->shares && g->nshared < WF_SHARED_MAX)
		g->shared[g->nshared++] = r;
	return r;
}

wf_ref wf_shared_str(struct wf_graph *g, const char *s)
{
	for (uint32_t i = 0; i < g->nshared; i++)
		if (wf_str_equal(g, g->shared[i], s))
			return g->shared[i];
	return share(g, wf_str(g, s));
}

wf_ref wf_global_named(struct wf_graph *g, const char *module, const char *name)
{
	for (uint32_t i = 0; i < g->nshared; i++)
		if (wf_is_global(g, g->shared[i], module, name))
			return g->shared[i];
	wf_ref m = wf_shared_str(g, module);
	wf_ref n = wf_str(g, name);

	return m && n ? share(g, wf_global(g, m, n)) : WF_NIL;
}

wf_ref wf_call(struct wf_graph *g, enum wf_call_form form, wf_ref func, wf_ref args, wf_ref kwargs)
{
	bool ex = form == WF_CALL_NEWOBJ_EX;
	wf_ref r = wf_object_new(g, WF_CALL, ex ? 3 : 2);

	if (r) {
		struct wf_object *o = wf_object_at(g, r);
		o->aux = (uint16_t)form;
		wf_object_refs(o)[0] = func;
		wf_object_refs(o)[1] = args;
		if (ex)
			wf_object_refs(o)[2] = kwargs;
	}
	return r;
}

wf_ref wf_persid(struct wf_graph *g, wf_ref id)
{
	wf_ref r = wf_object_new(g, WF_PERSID, 2);

	if (r) {
		struct wf_object *o = wf_object_at(g, r);
		o->n = id;
		wf_object_refs(o)[0] = 0;
	}
	return r;
}

wf_ref wf_graph_new_effects(struct wf_graph *g)
{
	wf_ref r = wf_object_new(g, WF_KIND_EFFECTS, sizeof(struct wf_effects_object) / 8);

	if (r) {
		struct wf_effects_object *e = (struct wf_effects_object *)wf_object_at(g, r);
		e->head.n = 1;
		e->first = (struct wf_effects){0};
		e->more = NULL;
	}
	return r;
}
