/* What a copied entry says of itself: its class and its key. cp -a makes a plain file or mapping first and sets the
 * attributes afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "names.h"
#include "util.h"
#include "value.h"

/* ---- files ---- */

/* The call of a class as protocol 2 writes it, with one argument (WF_NIL: without memory) or two of the same. */
static wf_ref example_call(struct wf_graph *g, const char *module, const char *name, wf_ref argument, uint32_t n)
{
	wf_ref args[2] = {argument, argument}, class = wf_global_named(g, module, name);
	wf_ref tuple = class == WF_NIL || argument == WF_NIL ? WF_NIL : wf_tuple(g, args, n);
	return tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, class, tuple, WF_NIL);
}

/* A NumPy scalar arrives as the number that Python has for it. */
static wf_ref number_like(struct wf_graph *g, const char *name)
{
	if (!strncmp(name, "float", 5))
		return wf_float(g, 0);
	if (!strncmp(name, "int", 3) || !strncmp(name, "uint", 4))
		return wf_int(g, 0);
	return !strncmp(name, "bool", 4) ? wf_bool(g, false) : WF_NIL;
}

/* A value of the class that user.torch.class names, for wf_value_parse; WF_NIL for one that no text stands for. */
static wf_ref example_of(struct wf_graph *g, const char *klass)
{
	static const wf_ref none[1];
	if (!strcmp(klass, "int"))
		return wf_int(g, 0);
	if (!strcmp(klass, "float"))
		return wf_float(g, 0);
	if (!strcmp(klass, "bool"))
		return wf_bool(g, false);
	if (!strcmp(klass, "str"))
		return wf_string(g, WF_STR, "", 0);
	if (!strcmp(klass, "bytes"))
		return wf_string(g, WF_BYTES, "", 0);
	if (!strcmp(klass, "bytearray"))
		return example_call(g, "__builtin__", "bytearray", wf_string(g, WF_BYTES, "", 0), 1);
	if (!strcmp(klass, "NoneType"))
		return wf_none(g);
	if (!strcmp(klass, "list"))
		return wf_list(g);
	if (!strcmp(klass, "tuple"))
		return wf_tuple(g, none, 0);
	if (!strcmp(klass, "set") || !strcmp(klass, "frozenset"))
		return example_call(g, "__builtin__", klass, wf_list(g), 1);
	if (!strcmp(klass, "complex"))
		return example_call(g, "__builtin__", "complex", wf_float(g, 0), 2);
	if (!strcmp(klass, "torch.Size"))
		return example_call(g, "torch", "Size", wf_tuple(g, none, 0), 1);
	if (!strcmp(klass, "torch.device"))
		return example_call(g, "torch", "device", wf_str(g, "cpu"), 1);
	if (!strcmp(klass, "torch.dtype"))
		return wf_global_named(g, "torch", "float32");
	return strncmp(klass, "numpy.", 6) ? WF_NIL : number_like(g, klass + 6);
}

int wf_edit_become(struct wf_checkpoint *ck, wf_ino ino, const char *klass)
{
	wf_ref like = example_of(ck->graph, klass);
	return like == WF_NIL ? 0 : wf_edit_become_value(ck, ino, like);
}

static int make_parameter(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	wf_ref object;
	if (t->kind != WF_TENSOR_DENSE || t->parameter || !t->contiguous)
		return 0;
	t->parameter = true;
	int r = wf_edit_make_object(ck, t, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}

static int set_class_of_file(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_known(ck, ino);
	wf_ref like = example_of(ck->graph, value);
	if (wf_edit_tensor(ck, ino, &t) < 0)
		return 0;
	if (!strcmp(value, "torch.nn.parameter.Parameter"))
		return make_parameter(ck, ino, &t);
	if (like == WF_NIL)
		return 0;
	f->untyped = false;
	if (t.size_bytes > 0 || wf_value_form_of(ck->graph, like) == WF_VALUE_RAW)
		return wf_edit_become_value(ck, ino, like);
	char *klass = strdup(value);
	if (!klass)
		return -ENOMEM;
	free(f->klass);
	f->klass = klass;
	return 0;
}

/* ---- directories ---- */

/* The entries of a mapping whose names are 0, 1, ..., in that order; NULL where they are not. */
static struct wf_entry *in_number_order(struct wf_checkpoint *ck, const struct wf_dir *d)
{
	char name[WF_NAME_MAX + 1], number[16];
	struct wf_entry *entries = calloc(d->live, sizeof *entries);
	for (uint32_t i = 0; entries && i < d->count; i++) {
		if (!wf_tree_name(ck->tree, d, i, name))
			continue;
		unsigned long n = strtoul(name, NULL, 10);
		snprintf(number, sizeof number, "%lu", n);
		if (n >= d->live || strcmp(name, number)) {
			free(entries);
			return NULL;
		}
		entries[n] = d->entries[i];
	}
	return entries;
}

static int make_sequence(struct wf_checkpoint *ck, wf_ino ino, bool list)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	uint32_t n = d->live;
	cleanup_free struct wf_entry *entries = n ? in_number_order(ck, d) : NULL;
	cleanup_free wf_ref *values = calloc(n + 1, sizeof *values);
	if (!entries || !values)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		values[i] = entries[i].value;
		entries[i].key = WF_NIL;
	}
	wf_ref object = list ? wf_list(ck->graph) : wf_tuple(ck->graph, values, n);
	int r = object == WF_NIL ? -ENOMEM : 0;
	for (uint32_t i = 0; list && r == 0 && i < n; i++)
		r = wf_list_append(ck->graph, object, values[i]);
	return r < 0 ? r : wf_tree_recast(ck->tree, ino, WF_DIR_SEQUENCE, object, object, entries, n);
}

static int make_mapping(struct wf_checkpoint *ck, wf_ino ino, bool ordered)
{
	struct wf_graph *g = ck->graph;
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	if (wf_is(g, d->object, WF_DICT) == !ordered)
		return 0;
	uint32_t n = 0;
	cleanup_free struct wf_entry *entries = calloc(d->live + 1, sizeof *entries);
	wf_ref object = wf_dict(g), container = object;
	if (ordered) {
		object = wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "collections", "OrderedDict"),
				 wf_tuple(g, NULL, 0), WF_NIL);
		container = object == WF_NIL ? WF_NIL : wf_dict_target(g, object);
	}
	int r = entries && container != WF_NIL ? 0 : -ENOMEM;
	for (uint32_t i = 0; r == 0 && i < d->count; i++) {
		if (d->entries[i].ino == WF_NO_INO)
			continue;
		entries[n++] = d->entries[i];
		r = wf_dict_append(g, container, d->entries[i].key, d->entries[i].value);
	}
	return r < 0 ? r : wf_tree_recast(ck->tree, ino, WF_DIR_MAPPING, object, container, entries, n);
}

int wf_edit_set_class(struct wf_checkpoint *ck, wf_ino ino, const char *klass)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	if (!d)
		return set_class_of_file(ck, ino, klass);
	if (d->kind != WF_DIR_MAPPING || d->read_only_names || wf_edit_is_scratch(ck, ino))
		return 0;
	if (!strcmp(klass, "list") || !strcmp(klass, "tuple"))
		return make_sequence(ck, ino, !strcmp(klass, "list"));
	if (!strcmp(klass, "dict") || !strcmp(klass, "collections.OrderedDict"))
		return make_mapping(ck, ino, strcmp(klass, "dict") != 0);
	return 0;
}

/* ---- keys ---- */

int wf_edit_set_key(struct wf_checkpoint *ck, wf_ino ino, const char *json)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	wf_ref key;
	if (wf_tree_node(ck->tree, ino)->nlink != 1 || wf_edit_place_of(ck, ino, &p) < 0)
		return 0;
	const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
	if (d->kind != WF_DIR_MAPPING || d->read_only_names || !wf_is(ck->graph, d->entries[p.position].key, WF_STR) ||
	    !wf_tree_name(ck->tree, d, p.position, name) || strcmp(name, json) != 0)
		return 0;
	int r = wf_key_from_name(ck->graph, name, true, &key);
	if (r < 0 || !wf_is(ck->graph, key, WF_INT))
		return r == -ENOMEM ? r : 0;
	return wf_tree_set_key(ck->tree, p.dir, p.position, key);
}
