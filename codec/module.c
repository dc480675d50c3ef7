#include "module.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "torchscript.h"
#include "util.h"

#define MAX_DEPTH 512 /* of nested submodules; a cycle ends here */

static wf_ref module_state(const struct wf_graph *g, wf_ref r)
{
	wf_ref state = wf_call_state(g, r);
	if (wf_is(g, state, WF_TUPLE)) /* (dict, slots) */
		state = wf_element(g, state, 0);
	return wf_is(g, state, WF_DICT) ? state : WF_NIL;
}

static bool is_nn_module(const struct wf_graph *g, wf_ref r)
{
	wf_ref state = module_state(g, r);
	return state != WF_NIL && wf_dict_get(g, state, "_parameters") != WF_NIL &&
	       wf_dict_get(g, state, "_modules") != WF_NIL && wf_dict_get(g, state, "_buffers") != WF_NIL;
}

bool wf_is_module(const struct wf_graph *g, const struct wf_container *c, wf_ref r)
{
	if (!wf_is(g, r, WF_CALL))
		return false;
	return is_nn_module(g, r) ||
	       (c && wf_container_kind_of(c) == WF_CONTAINER_TORCHSCRIPT && wf_torchscript_is_object(g, r));
}

/* The items of a dict or an OrderedDict call. */
static const struct wf_item *items_of(const struct wf_graph *g, wf_ref mapping, uint32_t *ret_n)
{
	return wf_items(g, wf_is(g, mapping, WF_CALL) ? wf_call_dict(g, mapping) : mapping, ret_n);
}

/* Whether a name is in a set, whichever form it was pickled in. */
static bool set_has(const struct wf_graph *g, wf_ref set, const char *name)
{
	uint32_t n;
	struct wf_effects effects;
	wf_ref inner = set;
	if (wf_is(g, set, WF_CALL)) {
		inner = wf_element(g, wf_call_args(g, set), 0);
		if (inner == WF_NIL && wf_call_effects(g, set, 0, &effects))
			inner = effects.set;
	}
	const wf_ref *e = wf_elements(g, inner, &n);
	for (uint32_t i = 0; i < n; i++)
		if (wf_str_equal(g, e[i], name))
			return true;
	return false;
}

/* One module on the way down: its children are still to be visited from `next`. */
struct frame {
	wf_ref module;
	uint32_t next;
	size_t prefix_len;
};

struct walk {
	struct wf_graph *g;
	const struct wf_container *c;
	struct wf_torchscript *script; /* NULL for nn.Module */
	struct wf_buffer name;
	int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value);
	void *ctx;
};

static int emit(struct walk *w, const char *own, wf_ref value)
{
	size_t before = w->name.len;
	wf_buffer_puts(&w->name, own);
	int r = wf_buffer_status(&w->name);
	if (r == 0)
		r = w->each(w->ctx, w->name.data ? w->name.data : "", w->name.len, value);
	w->name.len = before;
	return r;
}

/* Own parameters, then own persistent buffers, in the order in which they were registered. */
static int emit_own(struct walk *w, wf_ref module)
{
	wf_ref state = module_state(w->g, module);
	wf_ref transient = wf_dict_get(w->g, state, "_non_persistent_buffers_set");
	uint32_t n;
	for (int buffers = 0; buffers < 2; buffers++) {
		const struct wf_item *items =
			items_of(w->g, wf_dict_get(w->g, state, buffers ? "_buffers" : "_parameters"), &n);
		for (uint32_t i = 0; i < n; i++) {
			size_t len;
			const char *name = wf_is(w->g, items[i].key, WF_STR) || wf_is(w->g, items[i].key, WF_PYSTR)
						   ? wf_bytes(w->g, items[i].key, &len)
						   : NULL;
			if (!name || items[i].value == WF_NIL || wf_is(w->g, items[i].value, WF_NONE) ||
			    (buffers && set_has(w->g, transient, name)))
				continue;
			int r = emit(w, name, items[i].value);
			if (r != 0)
				return r;
			items = items_of(w->g, wf_dict_get(w->g, state, buffers ? "_buffers" : "_parameters"), &n);
		}
	}
	return 0;
}

/* The next child module behind frame->next; WF_NIL when there is none left. Its name goes to *ret_name. */
static wf_ref next_child(const struct walk *w, struct frame *f, const char **ret_name)
{
	uint32_t n;
	size_t len;
	const struct wf_item *items = items_of(w->g, wf_dict_get(w->g, module_state(w->g, f->module), "_modules"), &n);
	while (f->next < n) {
		const struct wf_item *item = &items[f->next++];
		const char *name = wf_is(w->g, item->key, WF_STR) || wf_is(w->g, item->key, WF_PYSTR)
					   ? wf_bytes(w->g, item->key, &len)
					   : NULL;
		if (name && is_nn_module(w->g, item->value)) {
			*ret_name = name;
			return item->value;
		}
	}
	return WF_NIL;
}

/* The same two steps for TorchScript. */
static int own(struct walk *w, wf_ref module)
{
	return w->script ? wf_torchscript_tensors(w->script, module, w->each, w->ctx, &w->name) : emit_own(w, module);
}

static wf_ref child(struct walk *w, struct frame *f, const char **ret_name)
{
	return w->script ? wf_torchscript_child(w->script, f->module, &f->next, ret_name) : next_child(w, f, ret_name);
}

static int visit(struct walk *w, wf_ref root, struct wf_error *err)
{
	struct frame stack[MAX_DEPTH];
	int depth = 0;
	const char *name;
	int r = own(w, root);
	stack[0] = (struct frame){root, 0, 0};
	while (r == 0 && depth >= 0) {
		struct frame *f = &stack[depth];
		w->name.len = f->prefix_len;
		wf_ref module = child(w, f, &name);
		if (module == WF_NIL) {
			depth--;
			continue;
		}
		if (++depth == MAX_DEPTH || w->name.len > (1u << 16))
			return wf_fail(err, -EUCLEAN, "modules nested more than %d deep", MAX_DEPTH);
		wf_buffer_puts(&w->name, name);
		wf_buffer_putc(&w->name, '.');
		stack[depth] = (struct frame){module, 0, w->name.len};
		r = wf_buffer_status(&w->name);
		if (r == 0)
			r = own(w, module);
	}
	return r;
}

int wf_module_state_dict(struct wf_graph *g, const struct wf_container *c, wf_ref module,
			 int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value), void *ctx,
			 struct wf_error *err)
{
	struct walk w = {.g = g, .c = c, .each = each, .ctx = ctx, .name = WF_BUFFER_INIT};
	int r = 0;
	if (!is_nn_module(g, module))
		r = wf_torchscript_new(g, c, &w.script, err);
	if (r == 0)
		r = visit(&w, module, err);
	wf_torchscript_free(w.script);
	wf_buffer_free(&w.name);
	return r;
}
