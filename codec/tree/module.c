/* SPDX-License-Identifier: MIT */
/* Finds the state_dict of a module: parameters, buffers and modules, in the order of Module.state_dict. */
#include "codec/tree/module.h"

#include <errno.h>
#include <string.h>

#include "codec/tree/module_inner.h"
#include "codec/tree/torchscript.h"
#include "codec/bytes/util.h"

#define MAX_DEPTH 512         /* of nested submodules; a cycle ends here */
#define MAX_PREFIX (1u << 16) /* bytes of a name */
#define LOOKED_AT 1024u       /* items of an object's state that are looked through for those of a module */
#define MIN_KEYS 65536u

void wf_state_dicts_init(struct wf_state_dicts *s, struct wf_graph *g, const struct wf_container *c)
{
	/* what is not shared takes a hundred bytes and more of the graph for each key */
	*s = (struct wf_state_dicts){.g = g,
				     .c = c,
				     .keys = MIN_KEYS + wf_graph_bytes(g) / 32,
				     .key_bytes = (16u << 20) + 4 * wf_graph_bytes(g),
				     .steps = (64u << 20) + 16 * wf_graph_bytes(g)};
}

void wf_state_dicts_free(struct wf_state_dicts *s)
{
	wf_torchscript_free(s->script);
	s->script = NULL;
}

/* ---- nn.Module ---- */

static bool has_parts_of_module(const struct wf_graph *g, wf_ref dict)
{
	uint32_t n;
	int found = 0;
	const struct wf_item *items = wf_items(g, dict, &n);
	for (uint32_t i = 0; i < n && i < LOOKED_AT && found != 7; i++)
		found |= wf_str_equal(g, items[i].key, "_parameters") | wf_str_equal(g, items[i].key, "_modules") << 1 |
			 wf_str_equal(g, items[i].key, "_buffers") << 2;
	return found == 7;
}

/* The mapping with the parts of a module: the state of an object, or what a GraphModule is made from. WF_NIL: it is
 * none. */
static wf_ref module_state(const struct wf_graph *g, wf_ref r)
{
	wf_ref state = wf_call_state(g, r);
	if (wf_is(g, state, WF_TUPLE)) /* (dict, slots) */
		state = wf_element(g, state, 0);
	if (wf_is(g, state, WF_DICT) && has_parts_of_module(g, state))
		return state;
	state = wf_element(g, wf_call_args(g, r), 0);
	return wf_is(g, state, WF_DICT) && has_parts_of_module(g, state) ? state : WF_NIL;
}

/* The module that torch.compile wrapped; its names begin with _orig_mod. */
static wf_ref compiled_module(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner = wf_element(g, wf_call_args(g, r), 0);
	return wf_call_is(g, r, "torch._dynamo.eval_frame", "OptimizedModule") && module_state(g, inner) != WF_NIL
		       ? inner
		       : WF_NIL;
}

static bool is_nn_module(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_CALL) && (module_state(g, r) != WF_NIL || compiled_module(g, r) != WF_NIL);
}

bool wf_is_module(const struct wf_graph *g, const struct wf_container *c, wf_ref r)
{
	return is_nn_module(g, r) ||
	       (c && wf_container_kind_of(c) == WF_CONTAINER_TORCHSCRIPT && wf_torchscript_is_object(g, r));
}

/* The items of a dict or an OrderedDict call. */
static const struct wf_item *items_of(const struct wf_graph *g, wf_ref mapping, uint32_t *ret_n)
{
	return wf_items(g, wf_is(g, mapping, WF_CALL) ? wf_call_dict(g, mapping) : mapping, ret_n);
}

static const char *name_of(const struct wf_graph *g, wf_ref key, size_t *ret_len)
{
	return wf_is(g, key, WF_STR) || wf_is(g, key, WF_PYSTR) ? wf_bytes(g, key, ret_len) : NULL;
}

/* The elements of a set, whichever form it was pickled in. */
static wf_ref set_of(const struct wf_graph *g, wf_ref set)
{
	struct wf_effects effects;
	if (!wf_is(g, set, WF_CALL))
		return set;
	wf_ref inner = wf_element(g, wf_call_args(g, set), 0);
	return inner == WF_NIL && wf_call_effects(g, set, 0, &effects) ? effects.set : inner;
}

static bool set_has(const struct wf_graph *g, wf_ref set, const char *name)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, set, &n);
	for (uint32_t i = 0; i < n; i++)
		if (wf_str_equal(g, e[i], name))
			return true;
	return false;
}

/* Own parameters, then own persistent buffers, in the order in which they were registered. */
static int emit_own(struct wf_state_walk *w, wf_ref state)
{
	wf_ref transient = set_of(w->g, wf_dict_get(w->g, state, "_non_persistent_buffers_set"));
	uint32_t n, names;
	wf_elements(w->g, transient, &names);
	for (int buffers = 0; buffers < 2; buffers++) {
		wf_ref part = wf_dict_get(w->g, state, buffers ? "_buffers" : "_parameters");
		items_of(w->g, part, &n);
		int r = wf_state_spend(w->shared, n * (buffers ? 1ull + names : 1ull));
		for (uint32_t i = 0; r == 0 && i < n; i++) {
			size_t len;
			const struct wf_item *item = &items_of(w->g, part, &n)[i];
			const char *name = name_of(w->g, item->key, &len);
			if (name && item->value != WF_NIL && !wf_is(w->g, item->value, WF_NONE) &&
			    !(buffers && set_has(w->g, transient, name)))
				r = wf_state_emit(w, name, len, item->value);
		}
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- the walk ---- */

/* One module on the way down: its children are still to be visited from `next`. */
struct module_frame {
	wf_ref module;
	uint32_t next;
	size_t prefix_len;
};

/* What a module has itself. */
static int own(struct wf_state_walk *w, wf_ref module)
{
	wf_ref state = module_state(w->g, module);
	uint32_t n = 0;
	int r = 0;
	if (state != WF_NIL) {
		wf_items(w->g, state, &n);
		r = wf_state_spend(w->shared, 16 + 4ull * n);
		if (r == 0)
			r = emit_own(w, state);
	} else if (wf_torchscript_is_object(w->g, module)) {
		r = wf_torchscript_tensors(w, module);
	}
	if (r == 0 && (wf_is_quantised(w->g, module) || wf_torchscript_is_object(w->g, module)))
		r = wf_quantised_entries(w, module, state != WF_NIL ? state : wf_call_state(w->g, module));
	return r;
}

static bool is_child(const struct wf_state_walk *w, bool script, wf_ref r)
{
	if (script)
		return wf_torchscript_is_object(w->g, r) ||
		       (wf_is(w->g, wf_call_state(w->g, r), WF_TUPLE) && wf_torchscript_is_class(w->g, r) &&
			wf_is_quantised(w->g, r));
	return is_nn_module(w->g, r) || (wf_is(w->g, wf_call_state(w->g, r), WF_TUPLE) && wf_is_quantised(w->g, r));
}

/* The next child behind frame->next; WF_NIL when there is none left. */
static wf_ref next_child(const struct wf_state_walk *w, struct module_frame *f, const char **ret_name)
{
	uint32_t n;
	size_t len;
	wf_ref state = module_state(w->g, f->module),
	       compiled = state == WF_NIL ? compiled_module(w->g, f->module) : WF_NIL;
	bool script = state == WF_NIL && wf_torchscript_is_object(w->g, f->module);
	if (compiled != WF_NIL) {
		*ret_name = "_orig_mod";
		return f->next++ == 0 ? compiled : WF_NIL;
	}
	const struct wf_item *items = script ? wf_items(w->g, wf_call_state(w->g, f->module), &n)
					     : items_of(w->g, wf_dict_get(w->g, state, "_modules"), &n);
	while (f->next < n) {
		const struct wf_item *item = &items[f->next++];
		*ret_name = name_of(w->g, item->key, &len);
		if (*ret_name && is_child(w, script, item->value))
			return item->value;
	}
	return WF_NIL;
}

static int visit(struct wf_state_walk *w, wf_ref root)
{
	struct module_frame stack[MAX_DEPTH];
	int depth = 0;
	const char *name;
	int r = own(w, root);
	stack[0] = (struct module_frame){root, 0, 0};
	while (r == 0 && depth >= 0) {
		struct module_frame *f = &stack[depth];
		w->name.len = f->prefix_len;
		wf_ref module = next_child(w, f, &name);
		if (module == WF_NIL) {
			depth--;
			continue;
		}
		if (++depth == MAX_DEPTH || w->name.len > MAX_PREFIX)
			return -E2BIG;
		wf_buffer_puts(&w->name, name);
		wf_buffer_putc(&w->name, '.');
		stack[depth] = (struct module_frame){module, 0, w->name.len};
		r = wf_buffer_status(&w->name);
		if (r == 0)
			r = own(w, module);
	}
	return r;
}

int wf_module_state_dict(struct wf_state_dicts *s, wf_ref module,
			 int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value), void *ctx)
{
	struct wf_state_walk w = {.shared = s, .g = s->g, .each = each, .ctx = ctx, .name = WF_BUFFER_INIT};
	int r = 0;
	if (!s->script && !is_nn_module(s->g, module))
		r = wf_torchscript_new(s->g, s->c, &s->script, NULL);
	if (r == 0)
		r = visit(&w, module);
	wf_buffer_free(&w.name);
	return r;
}
