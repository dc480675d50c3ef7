/* SPDX-License-Identifier: MIT */
/* What an object is shown as. */
#include <string.h>

#include "codec/tree/inner.h"
#include "codec/value/text.h"

#define MAX_TAGS 16u /* restore_type_tag around restore_type_tag ... */

/* The DICT that holds a mapping call's items: what was set on it, or the dict that it was made from (Counter({...})).
 * WF_NIL when it has none yet. */
static wf_ref mapping_items(const struct wf_graph *g, wf_ref r)
{
	wf_ref argument = wf_element(g, wf_call_args(g, r), 0);
	wf_ref dict = wf_call_dict(g, r);
	return dict == WF_NIL && wf_is(g, argument, WF_DICT) ? argument : dict;
}

/* Python 2 wrote OrderedDict([[key, value], ...]); such a call becomes one with items, which everything else
 * understands. */
static void modernise_ordered_dict(struct wf_graph *g, wf_ref r)
{
	uint32_t n, m;
	wf_ref list = wf_element(g, wf_call_args(g, r), 0);
	if (!wf_call_is(g, r, "collections", "OrderedDict") || !wf_is(g, list, WF_LIST))
		return;
	const wf_ref *pairs = wf_elements(g, list, &n);
	for (uint32_t i = 0; i < n; i++)
		if (wf_elements(g, pairs[i], &m) == NULL || m != 2)
			return;
	wf_ref dict = wf_dict_target(g, r);
	for (uint32_t i = 0; i < n && dict != WF_NIL; i++) {
		wf_ref pair = wf_element(g, list, i);
		if (wf_dict_append(g, dict, wf_element(g, pair, 0), wf_element(g, pair, 1)) < 0)
			return;
	}
	wf_dict_dedup(g, dict);
	wf_call_set_args(g, r, wf_tuple(g, NULL, 0));
}

/* The container that C++ wrapped in a call to tell its type: restore_type_tag({...}, 'Dict[str, Tensor]'),
 * build_tensorlist([...]). WF_NIL when it is no such thing. */
static wf_ref tagged(const struct wf_graph *g, wf_ref r)
{
	bool any = false;
	for (uint32_t i = 0; i < MAX_TAGS; i++) {
		wf_ref func = wf_call_func(g, r);
		if (strcmp(wf_global_module(g, func), "torch.jit._pickle") != 0)
			break;
		r = wf_element(g, wf_call_args(g, r), 0);
		any = true;
	}
	return any && (wf_is(g, r, WF_DICT) || wf_is(g, r, WF_LIST)) ? r : WF_NIL;
}

/* ---- shapes ---- */

/* An object's directory: the mapping alone, or its parts. */
static enum wf_shape shape_of_parts(struct wf_tree *t, wf_ref object, bool editable, wf_ref *ret_container)
{
	struct wf_part_count p;
	wf_tree_count_parts(t, object, &p);
	if (p.named == 0 && p.mappings == 1 && editable) {
		*ret_container = p.mapping;
		return WF_SHAPE_MAPPING;
	}
	return p.named + p.mappings > 0 ? WF_SHAPE_OBJECT : WF_SHAPE_OPAQUE;
}

static bool is_mapping(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_CALL) && (wf_call_dict(g, r) != WF_NIL || wf_tree_is_mapping_class(g, r));
}

/* The LIST or SET that was filled after a call: a deque, a list of a class of its own. */
static wf_ref elements_of(const struct wf_graph *g, wf_ref r)
{
	struct wf_effects e;
	if (!wf_call_effects(g, r, 0, &e))
		return WF_NIL;
	return e.list != WF_NIL ? e.list : e.set;
}

static enum wf_shape shape_of_call(struct wf_tree *t, wf_ref object, wf_ref *ret_container)
{
	struct wf_graph *g = t->graph;
	struct wf_tensor_parts s;
	int64_t shape[WF_MAX_NDIM];
	uint32_t ndim;
	struct wf_effects e;
	bool whole = t->unabridged && wf_call_effects(g, object, 0, &e) &&
		     (e.state != WF_NIL || wf_call_effects(g, object, 1, &e));
	if (wf_tensor_parts_of(g, object, &s))
		return shape_of_parts(t, object, false, ret_container);
	if ((*ret_container = wf_numpy_objects(g, object, shape, &ndim)) != WF_NIL)
		return WF_SHAPE_SEQUENCE;
	if (tagged(g, object) != WF_NIL) {
		*ret_container = tagged(g, object);
		return wf_is(g, *ret_container, WF_DICT) ? WF_SHAPE_MAPPING : WF_SHAPE_SEQUENCE;
	}
	if (!whole && is_mapping(g, object)) {
		*ret_container = mapping_items(g, object); /* made at the first edit where it is missing */
		return WF_SHAPE_MAPPING;
	}
	if (!whole && elements_of(g, object) != WF_NIL) {
		*ret_container = elements_of(g, object);
		return WF_SHAPE_SEQUENCE;
	}
	return shape_of_parts(t, object, true, ret_container);
}

enum wf_shape wf_tree_shape(struct wf_tree *t, wf_ref object, wf_ref *ret_container)
{
	struct wf_graph *g = t->graph;
	const char *names[5];
	wf_ref objects[5];
	struct wf_tensor_parts s;
	*ret_container = WF_NIL;
	if (wf_is_tensor(g, object)) { /* first, because it is nearly everything; none of these is a module */
		bool attributes = t->unabridged && wf_tensor_parts_of(g, object, &s) &&
				  (wf_tree_holds(t, s.state) || wf_tree_holds(t, s.built));
		return attributes || wf_numpy_is_masked(g, object) ? WF_SHAPE_OBJECT : WF_SHAPE_TENSOR;
	}
	switch (wf_kind_of(g, object)) {
	case WF_DICT:
		*ret_container = object;
		return t->unabridged ? shape_of_parts(t, object, true, ret_container) : WF_SHAPE_MAPPING;
	case WF_CALL:
		/* asked of each object: those that share a state need not be looked through again */
		if (!t->unabridged && wf_tree_ino_of(t, wf_call_state(g, object)) == WF_NO_INO &&
		    wf_is_module(g, t->container, object))
			return WF_SHAPE_MODULE;
		if (wf_tensor_components(g, object, names, objects))
			return WF_SHAPE_COMPONENTS;
		modernise_ordered_dict(g, object);
		if (wf_value_form_of(g, object) != WF_VALUE_NOT)
			return WF_SHAPE_VALUE;
		return shape_of_call(t, object, ret_container);
	case WF_LIST:
	case WF_TUPLE:
	case WF_SET:
	case WF_FROZENSET:
		*ret_container = object;
		return wf_value_form_of(g, object) != WF_VALUE_NOT ? WF_SHAPE_VALUE : WF_SHAPE_SEQUENCE;
	default:
		return wf_value_form_of(g, object) != WF_VALUE_NOT ? WF_SHAPE_VALUE : WF_SHAPE_OPAQUE;
	}
}
