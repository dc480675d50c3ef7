/* SPDX-License-Identifier: MIT */
/* The class of a directory, and the key that a name stands for where it is no text. cp -a makes a plain mapping first and sets the
 * attributes afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/value/names.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

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
	wf_pasts_moved(ck, ino);
	return r < 0 ? r : wf_tree_recast(ck->tree, ino, WF_DIR_SEQUENCE, object, object, entries, n);
}

static int make_mapping(struct wf_checkpoint *ck, wf_ino ino, bool ordered)
{
	struct wf_graph *g = ck->graph;
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
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
	wf_pasts_moved(ck, ino);
	return r < 0 ? r : wf_tree_recast(ck->tree, ino, WF_DIR_MAPPING, object, container, entries, n);
}

int wf_edit_set_class_of_dir(struct wf_checkpoint *ck, wf_ino ino, const char *klass)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool is_new = f && f->is_new;
	if (wf_class_is(ck->graph, d->object, klass))
		return 0;
	if (d->kind == WF_DIR_FIXED)
		return wf_refuse(ck, -EPERM, "this is one object, of another class");
	if (d->kind != WF_DIR_MAPPING || d->read_only_names || wf_edit_is_flat(ck) || wf_edit_is_scratch(ck, ino))
		return is_new ? 0 : -EPERM;
	/* a mapping of another class is more than its entries */
	bool plain =
		wf_is(ck->graph, d->object, WF_DICT) || wf_class_is(ck->graph, d->object, "collections.OrderedDict");
	if (!strcmp(klass, "collections.OrderedDict") && wf_edit_names_entries(ck, ino)) {
		wf_log_line(&ck->log,
			    "a distributed checkpoint has plain mappings: what was to be an OrderedDict is a dict");
		return is_new ? 0 : -EPERM;
	}
	if ((plain || is_new) && (!strcmp(klass, "dict") || !strcmp(klass, "collections.OrderedDict")))
		return make_mapping(ck, ino, strcmp(klass, "dict") != 0);
	if (!is_new)
		return wf_refuse(ck, -EPERM, "a directory of the checkpoint becomes no %s: a dict or an OrderedDict",
				 klass);
	if (!strcmp(klass, "list") || !strcmp(klass, "tuple"))
		return make_sequence(ck, ino, !strcmp(klass, "list"));
	return wf_refuse(ck, -EINVAL, "no directory becomes a %s: it is a mapping", klass);
}

/* ---- keys ---- */

static bool has_equal_at(struct wf_checkpoint *ck, const struct wf_dir *d, const char *name, wf_ref key)
{
	uint32_t i;
	return wf_tree_lookup(ck->tree, d->ino, name, &i) == 0 && wf_key_equal(ck->graph, d->entries[i].key, key);
}

/* Whether another key of the mapping is the same to Python, as 1, 1.0 and True are. name: of the key. */
static bool has_equal(struct wf_checkpoint *ck, const struct wf_dir *d, const char *name, wf_ref key)
{
	static const char *const spellings[] = {"0", "0.0", "-0.0", "false", "1", "1.0", "true"};
	char other[WF_NAME_MAX + 3];
	size_t len = strlen(name);
	bool has = false;
	if (wf_is(ck->graph, key, WF_TUPLE)) {
		for (uint32_t i = 0; i < d->count && !has; i++)
			has = d->entries[i].ino != WF_NO_INO && wf_key_equal(ck->graph, d->entries[i].key, key);
		return has;
	}
	for (size_t i = 0; i < WF_ARRAY_SIZE(spellings) && !has; i++)
		has = has_equal_at(ck, d, spellings[i], key);
	if (len > 2 && !strcmp(name + len - 2, ".0"))
		snprintf(other, sizeof other, "%.*s", (int)len - 2, name);
	else
		snprintf(other, sizeof other, "%s.0", name);
	return has || has_equal_at(ck, d, other, key);
}

/* Lists in a key are tuples. The parser limits how deep they are. */
static wf_ref as_key(struct wf_graph *g, wf_ref v)
{
	uint32_t n;
	if (!wf_is(g, v, WF_LIST))
		return v;
	wf_elements(g, v, &n);
	cleanup_free wf_ref *parts = calloc(n + 1u, sizeof *parts);
	for (uint32_t i = 0; parts && i < n; i++)
		if ((parts[i] = as_key(g, wf_element(g, v, i))) == WF_NIL)
			return WF_NIL;
	return parts ? wf_tuple(g, parts, n) : WF_NIL;
}

/* The key that JSON says, where it is no text: a number, a bool, None, a tuple. A whole number in the notation of 1e22 is the same as an
 * int that nobody looks for. */
static int key_of_json(struct wf_graph *g, const char *json, wf_ref *ret)
{
	wf_ref v;
	int r = wf_value_parse_json(g, json, strlen(json), &v);
	if (r < 0)
		return r;
	if (wf_is(g, v, WF_STR) || (wf_is(g, v, WF_FLOAT) && strpbrk(json, "eEnN")))
		return -EINVAL;
	v = as_key(g, v);
	if (v == WF_NIL)
		return -ENOMEM;
	*ret = v;
	return 0;
}

int wf_edit_set_key(struct wf_checkpoint *ck, wf_ino ino, const char *json)
{
	char name[WF_NAME_MAX + 1], of_key[WF_NAME_MAX + 1];
	struct wf_place p;
	wf_ref key;
	if (wf_edit_is_flat(ck) || wf_tree_node(ck->tree, ino)->nlink != 1 || wf_edit_place_of(ck, ino, &p) < 0)
		return 0;
	const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
	if (d->kind != WF_DIR_MAPPING || d->read_only_names || !wf_is(ck->graph, d->entries[p.position].key, WF_STR) ||
	    !wf_tree_name(ck->tree, d, p.position, name))
		return 0;
	int r = key_of_json(ck->graph, json, &key);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	wf_name_from_key(ck->graph, key, false, of_key);
	if (strcmp(name, of_key) != 0 || has_equal(ck, d, name, key) || !wf_edit_takes_key(ck, &p, key))
		return 0;
	return wf_tree_set_key(ck->tree, p.dir, p.position, key);
}
