/* SPDX-License-Identifier: MIT */
/* What a directory of an object's parts holds.
 *
 * An object of a class that nobody here knows is a call: its arguments, then in rounds the items that were set on it
 * and its state. Where the state is a mapping and nothing else holds anything, the directory is that mapping. Else its
 * entries are fixed: the attributes, and beside them
 *
 *   args/, kwargs/   what it was called with       state/   a state that is no mapping
 *   func             what was called, where that is no class or function      items/   a mapping or list that it is,
 * too keys/            in the unabridged tree: the keys of a mapping that hold something tensor           in the
 * unabridged tree: a tensor that has attributes, by itself
 *
 * each where it holds a tensor, a mapping or an object. A tensor subclass that wraps tensors has its attributes; one
 * whose fields are known (named tuples of torch) has these names.
 */
#include <errno.h>
#include <string.h>

#include "codec/tree/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

#define WORTH_A_NOTE 16u /* elements that were looked at in vain */
#define MAX_LOOK_DEPTH 64

bool wf_tree_is_mapping_class(const struct wf_graph *g, wf_ref r)
{
	wf_ref func = wf_class_of(g, wf_call_func(g, r));
	const char *name = wf_global_name(g, func);
	return !strcmp(wf_global_module(g, func), "collections") &&
	       (!strcmp(name, "OrderedDict") || !strcmp(name, "Counter") || !strcmp(name, "defaultdict"));
}

/* ---- whether something is worth a directory ---- */

/* An OrderedDict() or the like without anything in it. */
static bool is_empty_mapping(const struct wf_graph *g, wf_ref r)
{
	uint32_t n;
	struct wf_effects effects;
	wf_elements(g, wf_call_args(g, r), &n);
	return wf_tree_is_mapping_class(g, r) && n == 0 && !wf_call_effects(g, r, 0, &effects);
}

/* Whether this is a tensor, a mapping or an object: 1; nothing of that: 0; a sequence, which is to be looked into: -1.
 */
static int is_something(const struct wf_graph *g, wf_ref r, wf_ref *ret_sequence)
{
	uint32_t n;
	switch (wf_value_glance(g, r, ret_sequence)) {
	case WF_VALUE_JSON:
		return -1;
	case WF_VALUE_NOT:
		wf_items(g, r, &n);
		return wf_is(g, r, WF_DICT)     ? n > 0
		       : wf_is(g, r, WF_PERSID) ? wf_is_tensor(g, r)
						: r != WF_NIL && !is_empty_mapping(g, r);
	default:
		return 0;
	}
}

/* Of an object that is met again and again this is asked each time. When too much has been looked at, everything is
 * taken to hold something: an object that is a directory is met once. */
bool wf_tree_holds(struct wf_tree *t, wf_ref r)
{
	const struct wf_graph *g = t->graph;
	wf_ref sequence;
	struct {
		wf_ref sequence;
		uint32_t at;
	} stack[MAX_LOOK_DEPTH];
	int depth = 0, what = is_something(g, r, &sequence);
	if (what >= 0 || wf_tree_holds_nothing(t, r))
		return what > 0;
	stack[0].sequence = sequence;
	stack[0].at = 0;
	uint32_t looked = 0;
	for (; depth >= 0; looked++) {
		uint32_t n;
		const wf_ref *e = wf_elements(g, stack[depth].sequence, &n);
		if (t->looks == 0)
			return n > 0;
		t->looks--;
		if (stack[depth].at == n) {
			depth--;
			continue;
		}
		what = is_something(g, e[stack[depth].at++], &sequence);
		if (what == 1 || (what < 0 && depth + 1 == MAX_LOOK_DEPTH))
			return true;
		if (what < 0) {
			stack[++depth].sequence = sequence;
			stack[depth].at = 0;
		}
	}
	if (looked > WORTH_A_NOTE) /* without memory it is merely looked at again */
		wf_tree_map_object(t, r, WF_INO_EMPTY_HANDED);
	return false;
}

/* ---- the parts of an object ---- */

struct part_list {
	struct wf_tree *t;
	struct wf_graph *g;
	wf_ino dir;        /* WF_NO_INO: they are only counted */
	uint32_t named;    /* fixed entries */
	uint32_t mappings; /* whose items are entries */
	wf_ref mapping;    /* the last of them */
};

static int add(struct part_list *p, const char *name, wf_ref value)
{
	p->named++;
	if (p->dir == WF_NO_INO)
		return 0;
	wf_ref key = wf_str(p->g, name);
	return key == WF_NIL ? -ENOMEM : wf_tree_push(p->t, p->dir, key, value, WF_NO_INO);
}

static int add_holding(struct part_list *p, const char *name, wf_ref value)
{
	return wf_tree_holds(p->t, value) ? add(p, name, value) : 0;
}

/* The items of a mapping become entries, unless another directory has it already: that is linked to. */
static int add_mapping(struct part_list *p, const char *name, wf_ref dict)
{
	uint32_t n;
	wf_ino owner = wf_tree_ino_of(p->t, dict);
	if (owner != WF_NO_INO && owner != p->dir)
		return add(p, name, dict);
	p->mappings++;
	p->mapping = dict;
	if (p->dir == WF_NO_INO)
		return 0;
	int r = wf_tree_map_object(p->t, dict, p->dir);
	wf_items(p->g, dict, &n);
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		struct wf_item item = wf_items(p->g, dict, &n)[i];
		/* one str may be the key of several mappings, and names belong to keys */
		wf_ref key = p->mappings > 1 && wf_is(p->g, item.key, WF_STR) && wf_bytes(p->g, item.key, NULL)
				     ? wf_str(p->g, wf_bytes(p->g, item.key, NULL))
				     : item.key;
		if (item.key != WF_NIL)
			r = key == WF_NIL ? -ENOMEM : wf_tree_push(p->t, p->dir, key, item.value, WF_NO_INO);
	}
	return r;
}

static bool is_attributes(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_DICT) || r == WF_NIL || wf_is(g, r, WF_NONE);
}

/* A state: a mapping of attributes, a pair of such mappings (attributes and slots), or anything else. */
static int add_state(struct part_list *p, wf_ref state)
{
	uint32_t n;
	const wf_ref *e = wf_elements(p->g, state, &n);
	if (wf_is(p->g, state, WF_DICT))
		return add_mapping(p, "state", state);
	if (!wf_is(p->g, state, WF_TUPLE) || n != 2 || !is_attributes(p->g, e[0]) || !wf_is(p->g, e[1], WF_DICT))
		return add_holding(p, "state", state);
	wf_ref slots = e[1];
	int r = wf_is(p->g, e[0], WF_DICT) ? add_mapping(p, "state", e[0]) : 0;
	return r == 0 ? add_mapping(p, "slots", slots) : r;
}

/* The names of the fields of a named tuple: of classes that torch has. NULL-terminated; NULL for any other class. */
static const char *const *fields_of(const struct wf_graph *g, wf_ref r)
{
	static const struct {
		const char *class;
		const char *fields[6];
	} known[] = {
		{"torch.nn.utils.rnn.PackedSequence", {"data", "batch_sizes", "sorted_indices", "unsorted_indices"}},
		{"torch.nn.utils.rnn.PackedSequence_", {"data", "batch_sizes", "sorted_indices", "unsorted_indices"}},
		{"torch.nn.modules.module._IncompatibleKeys", {"missing_keys", "unexpected_keys"}},
		{"torch.return_types.qr", {"Q", "R"}},
		{"torch.return_types.linalg_qr", {"Q", "R"}},
		{"torch.return_types.svd", {"U", "S", "V"}},
		{"torch.return_types.linalg_svd", {"U", "S", "Vh"}},
		{"torch.return_types.linalg_lu", {"P", "L", "U"}},
		{"torch.return_types.lu_unpack", {"P", "L", "U"}},
		{"torch.return_types.linalg_eig", {"eigenvalues", "eigenvectors"}},
		{"torch.return_types.linalg_eigh", {"eigenvalues", "eigenvectors"}},
		{"torch.return_types.geqrf", {"a", "tau"}},
		{"torch.return_types.slogdet", {"sign", "logabsdet"}},
		{"torch.return_types.linalg_slogdet", {"sign", "logabsdet"}},
		{"torch.return_types.frexp", {"mantissa", "exponent"}},
		{"torch.return_types.histogram", {"hist", "bin_edges"}},
		{"torch.return_types.triangular_solve", {"solution", "cloned_coefficient"}},
		{"torch.return_types.linalg_lstsq", {"solution", "residuals", "rank", "singular_values"}},
		{"torch.return_types.linalg_inv_ex", {"inverse", "info"}},
		{"torch.return_types.linalg_cholesky_ex", {"L", "info"}},
		{"torch.return_types.linalg_lu_factor", {"LU", "pivots"}},
		{"torch.return_types.aminmax", {"min", "max"}},
	};
	static const char *const values_and_indices[] = {"values", "indices", NULL};
	static const char *const with_indices[] = {"max",       "min",  "sort",   "topk",   "median",
						   "nanmedian", "mode", "cummax", "cummin", "kthvalue"};
	wf_ref func = wf_call_func(g, r);
	const char *module = wf_global_module(g, func), *name = wf_global_name(g, func);
	for (size_t i = 0; i < WF_ARRAY_SIZE(known); i++) {
		size_t len = strlen(module);
		if (!strncmp(known[i].class, module, len) && known[i].class[len] == '.' &&
		    !strcmp(known[i].class + len + 1, name))
			return known[i].fields;
	}
	for (size_t i = 0; !strcmp(module, "torch.return_types") && i < WF_ARRAY_SIZE(with_indices); i++)
		if (!strcmp(with_indices[i], name))
			return values_and_indices;
	return NULL;
}

/* true: the arguments are the fields of a named tuple, which have been added. */
static bool add_fields(struct part_list *p, wf_ref r, int *ret_error)
{
	const char *const *fields = fields_of(p->g, r);
	uint32_t n, m;
	wf_ref args = wf_call_args(p->g, r);
	if (!fields || !wf_tree_holds(p->t, args))
		return false;
	if (!strcmp(wf_global_module(p->g, wf_call_func(p->g, r)), "torch.return_types"))
		args = wf_element(p->g, args, 0); /* (fields), {} */
	wf_elements(p->g, args, &n);
	for (m = 0; fields[m];)
		m++;
	if (!wf_is(p->g, args, WF_TUPLE) || n != m)
		return false;
	for (uint32_t i = 0; i < n && *ret_error == 0; i++)
		*ret_error = add(p, fields[i], wf_element(p->g, args, i));
	return true;
}

/* The keys of a mapping that hold something, as a tuple. They stand nowhere else. */
static int add_keys(struct part_list *p, wf_ref dict)
{
	uint32_t n, found = 0;
	const struct wf_item *items = wf_items(p->g, dict, &n);
	for (uint32_t i = 0; i < n; i++)
		found += items[i].key != WF_NIL && wf_tree_holds(p->t, items[i].key);
	if (found == 0)
		return 0;
	if (p->dir == WF_NO_INO)
		return add(p, "keys", WF_NIL);
	cleanup_free wf_ref *keys = reallocarray(NULL, found, sizeof *keys);
	uint32_t at = 0;
	for (uint32_t i = 0; keys && i < n; i++)
		if (items[i].key != WF_NIL && wf_tree_holds(p->t, items[i].key))
			keys[at++] = items[i].key;
	wf_ref tuple = keys ? wf_tuple(p->g, keys, found) : WF_NIL;
	return tuple == WF_NIL ? -ENOMEM : add(p, "keys", tuple);
}

/* One round of what was done to an object: items, elements, state. Where it is all that there is of an object, its
 * items are the entries. */
static int add_round(struct part_list *p, const struct wf_effects *e, bool only)
{
	int r = e->state != WF_NIL ? add_state(p, e->state) : 0;
	if (r == 0 && e->dict != WF_NIL)
		r = only ? add_mapping(p, "items", e->dict) : add(p, "items", e->dict);
	if (r == 0 && e->list != WF_NIL)
		r = p->t->unabridged ? add(p, "items", e->list) : add_holding(p, "items", e->list);
	if (r == 0 && e->set != WF_NIL)
		r = p->t->unabridged ? add(p, "items", e->set) : add_holding(p, "items", e->set);
	return r;
}

static int add_call(struct part_list *p, wf_ref r)
{
	struct wf_effects e;
	wf_ref args = wf_call_args(p->g, r);
	int failed = 0;
	/* the DICT that a Counter is made from is its items, too */
	bool made_from = wf_tree_is_mapping_class(p->g, r) && wf_is(p->g, wf_element(p->g, args, 0), WF_DICT);
	bool only = wf_call_effects(p->g, r, 0, &e) && e.state == WF_NIL && !wf_call_effects(p->g, r, 1, &e);
	for (uint32_t i = 0; failed == 0 && wf_call_effects(p->g, r, i, &e); i++)
		failed = add_round(p, &e, only);
	if (failed < 0)
		return failed;
	if (made_from && p->named + p->mappings == 0)
		return add_mapping(p, "items", wf_element(p->g, args, 0));
	if (!add_fields(p, r, &failed) && failed == 0)
		failed = add_holding(p, "args", args);
	if (failed == 0)
		failed = add_holding(p, "kwargs", wf_call_kwargs(p->g, r));
	return failed == 0 ? add_holding(p, "func", wf_call_func(p->g, r)) : failed;
}

static int add_tensor(struct part_list *p, wf_ref r, const struct wf_tensor_parts *s)
{
	int failed = 0;
	if (s->is_tensor)
		failed = add(p, "tensor", r);
	if (failed == 0 && s->state != WF_NIL)
		failed = add_state(p, s->state);
	if (failed == 0 && s->built != WF_NIL)
		failed = add_holding(p, "state", s->built);
	return failed == 0 && s->args != WF_NIL ? add_holding(p, "args", s->args) : failed;
}

/* What a jagged tensor is made from, under the names that torch gives it: ({'values': ..., 'offsets': ..., ...},). */
static wf_ref jagged(const struct wf_graph *g, const struct wf_tensor_parts *s)
{
	wf_ref dict = wf_element(g, s->args, 0);
	return !strcmp(wf_global_name(g, s->func), "_rebuild_njt") && wf_is(g, dict, WF_DICT) ? dict : WF_NIL;
}

static int add_masked(struct part_list *p, wf_ref object)
{
	wf_ref state = wf_call_state(p->g, object);
	int r = add(p, "data", object);
	if (r == 0)
		r = add(p, "mask", wf_element(p->g, state, 5));
	return r == 0 ? add(p, "fill_value", wf_element(p->g, state, 6)) : r;
}

static int add_parts(struct part_list *p, wf_ref object)
{
	struct wf_tensor_parts s;
	int r = 0;
	if (wf_is(p->g, object, WF_DICT)) {
		r = add_mapping(p, "items", object);
		return r == 0 ? add_keys(p, object) : r;
	}
	if (wf_numpy_is_masked(p->g, object))
		return add_masked(p, object);
	if (!wf_tensor_parts_of(p->g, object, &s))
		return add_call(p, object);
	if (!p->t->unabridged && jagged(p->g, &s) != WF_NIL)
		return add_mapping(p, "state", jagged(p->g, &s));
	return add_tensor(p, object, &s);
}

int wf_tree_push_parts(struct wf_tree *t, wf_ino dir, wf_ref object)
{
	struct part_list p = {.t = t, .g = t->graph, .dir = dir};
	return add_parts(&p, object);
}

void wf_tree_count_parts(struct wf_tree *t, wf_ref object, struct wf_part_count *ret)
{
	struct part_list p = {.t = t, .g = t->graph, .dir = WF_NO_INO};
	add_parts(&p, object);
	*ret = (struct wf_part_count){p.named, p.mappings, p.mapping};
}
