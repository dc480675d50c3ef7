/* SPDX-License-Identifier: MIT */
/* Tensors as torch writes most of them, eight objects in 64 bytes:
 *
 *   0   args    PERSID, offset, size, stride, requires_grad, hooks: the elements of the tuple
 *   24  id      'storage', class, key, location, numel: the elements of the tuple
 *   44  u32     number of the storage + 1
 *   48  u32     form: function, class of the hooks, sizes and strides, which most tensors have in common with another
 *   52  key     with a NUL
 *
 * No part has a header in memory: readers of the graph are given one that says the same (wf_packed_object). What is changed gets an
 * object that stands in for it, and keeps its ref.
 */
#include <errno.h>
#include <stdlib.h>

#include "codec/object/inner.h"

static const struct wf_form_object *form_of(const struct wf_graph *g, const struct wf_packed *p)
{
	return (const struct wf_form_object *)wf_object_at(g, p->form & ~WF_PACKED_CHANGED);
}

/* ---- reading ---- */

const wf_ref *wf_packed_elements(const struct wf_graph *g, const struct wf_packed *p, enum wf_packed_part part,
				 uint32_t *ret_n)
{
	uint32_t ndim = form_of(g, p)->head.aux;
	switch (part) {
	case WF_PACKED_ID:
		*ret_n = WF_ARRAY_SIZE(p->id);
		return p->id;
	case WF_PACKED_ARGS:
		*ret_n = WF_ARRAY_SIZE(p->args);
		return p->args;
	case WF_PACKED_SIZE:
	case WF_PACKED_STRIDE:
		*ret_n = ndim;
		return ndim ? form_of(g, p)->shape + (part == WF_PACKED_STRIDE ? ndim : 0) : NULL;
	default:
		return NULL;
	}
}

const struct wf_object *wf_packed_object(const struct wf_graph *g, wf_ref r, const struct wf_packed *p,
					 enum wf_packed_part part, union wf_object_room *room)
{
	wf_ref instead, first = r - part, *refs = wf_object_refs(&room->o);
	if (p->form & WF_PACKED_CHANGED && wf_map_get(&g->stand_ins, r, &instead))
		return wf_object_at(g, instead);
	room->o = (struct wf_object){.kind = (uint8_t)wf_packed_kind(part)};
	switch (part) {
	case WF_PACKED_PERSID:
		room->o.n = first + WF_PACKED_ID;
		refs[0] = p->number;
		break;
	case WF_PACKED_HOOKS:
		room->o.aux = WF_CALL_REDUCE;
		refs[0] = form_of(g, p)->hooks_func;
		refs[1] = WF_REF_EMPTY_TUPLE;
		break;
	case WF_PACKED_CALL:
		room->o.aux = WF_CALL_REDUCE;
		refs[0] = form_of(g, p)->func;
		refs[1] = first + WF_PACKED_ARGS;
		break;
	default:
		break;
	}
	return &room->o;
}

/* ---- changing ---- */

struct wf_object *wf_object_changed(struct wf_graph *g, wf_ref r, enum wf_kind kind)
{
	union wf_object_room room;
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next)
		return NULL;
	struct wf_packed *p = wf_packed_at(g, r, &part);
	if (!p)
		return wf_object_of(g, r, kind);
	if (wf_packed_kind(part) != kind)
		return NULL;
	const struct wf_object *o = wf_packed_object(g, r, p, part, &room);
	if (o != &room.o)
		return (struct wf_object *)o;
	wf_ref instead = wf_object_new(g, (uint8_t)kind, sizeof room / 8);
	if (instead == WF_NIL)
		return NULL;
	struct wf_object *to = wf_object_at(g, instead);
	memcpy(to, &room, sizeof room);
	to->flags |= WF_FLAG_STANDS_IN;
	int rc = wf_map_set(&g->stand_ins, r, instead);
	if (rc < 0) {
		wf_graph_fail(g, rc);
		return NULL;
	}
	p->form |= WF_PACKED_CHANGED;
	return to;
}

/* ---- making ---- */

static bool same_form(const struct wf_form_object *f, const struct wf_packed_parts *parts)
{
	return f->head.aux == parts->ndim && f->func == parts->func && f->hooks_func == parts->hooks_func &&
	       !memcmp(f->shape, parts->shape, 2 * parts->ndim * sizeof *f->shape);
}

/* One of those at hand, or a new one in the place of another, which goes on for those that have it. */
static wf_ref find_form(struct wf_graph *g, const struct wf_packed_parts *parts)
{
	if (!g->forms && !(g->forms = calloc(WF_FORMS_AT_HAND, sizeof *g->forms))) {
		wf_graph_fail(g, -ENOMEM);
		return WF_NIL;
	}
	uint32_t hash = parts->func * 31 + parts->hooks_func;
	for (uint32_t i = 0; i < 2 * parts->ndim; i++)
		hash = hash * 0x9e3779b1u + parts->shape[i];
	wf_ref *at = &g->forms[(hash * 0x9e3779b1u >> 16) % WF_FORMS_AT_HAND];
	if (*at != WF_NIL && same_form((const struct wf_form_object *)wf_object_at(g, *at), parts))
		return *at;
	size_t shape = 2 * parts->ndim * sizeof *parts->shape;
	wf_ref made = wf_object_new(g, WF_KIND_FORM, wf_units_of(sizeof(struct wf_form_object) + shape));
	if (made == WF_NIL)
		return WF_NIL;
	struct wf_form_object *f = (struct wf_form_object *)wf_object_at(g, made);
	f->head.aux = (uint16_t)parts->ndim;
	f->func = parts->func;
	f->hooks_func = parts->hooks_func;
	if (shape)
		memcpy(f->shape, parts->shape, shape);
	return *at = made;
}

static bool is_immediate(wf_ref r)
{
	return r & SMALL_INT_BIT;
}

static bool fits(const struct wf_packed_parts *parts)
{
	bool fit = parts->key_len < WF_PACKED_KEY_BYTES && !memchr(parts->key, '\0', parts->key_len) &&
		   parts->ndim <= WF_PACKED_MAX_NDIM && is_immediate(parts->numel) && is_immediate(parts->offset);
	for (uint32_t i = 0; fit && i < 2 * parts->ndim; i++)
		fit = is_immediate(parts->shape[i]);
	return fit;
}

wf_ref wf_packed_tensor(struct wf_graph *g, const struct wf_packed_parts *parts)
{
	unsigned char mask;
	wf_ref form = fits(parts) ? find_form(g, parts) : WF_NIL;
	wf_ref first = form ? wf_object_new(g, WF_KIND_FILLER, WF_PACKED_UNITS) : WF_NIL;
	if (first == WF_NIL)
		return WF_NIL;
	wf_object_at(g, first)->n = WF_PACKED_UNITS;
	struct wf_chunk *chunk = &g->chunks[first / WF_CHUNK_UNITS];
	if (!chunk->packed) {
		size_t bytes = wf_packed_bytes(first / WF_CHUNK_UNITS);
		if (!wf_graph_charge(g, bytes))
			return WF_NIL;
		if (!(chunk->packed = calloc(bytes, 1))) {
			g->bytes -= bytes;
			return wf_graph_fail(g, -ENOMEM);
		}
	}
	struct wf_packed *p = (struct wf_packed *)wf_object_at(g, first);
	*p = (struct wf_packed){
		.args = {first + WF_PACKED_PERSID, parts->offset,
			 parts->ndim ? first + WF_PACKED_SIZE : WF_REF_EMPTY_TUPLE,
			 parts->ndim ? first + WF_PACKED_STRIDE : WF_REF_EMPTY_TUPLE, parts->requires_grad,
			 first + WF_PACKED_HOOKS},
		.id = {parts->storage, parts->class, first + WF_PACKED_KEY, parts->location, parts->numel},
		.form = form,
	};
	memcpy(p->key, parts->key, parts->key_len);
	*wf_packed_bit(g, first, &mask) |= mask;
	return first + WF_PACKED_CALL;
}
