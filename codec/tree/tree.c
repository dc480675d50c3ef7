/* SPDX-License-Identifier: MIT */
/* Keeps the nodes of a tree by their numbers and by their objects, and describes what is no value. */
#include "codec/tree/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/tree/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

void wf_tree_set_container(struct wf_tree *t, struct wf_container *c)
{
	t->container = c;
	t->state_dicts.c = c;
}

void wf_tree_forget_objects(struct wf_tree *t)
{
	wf_map_free(&t->by_object);
	wf_map_free(&t->ties);
}

void wf_tree_forget_entries(struct wf_tree *t)
{
	for (uint32_t i = 0; i < t->dir_count; i++) {
		struct wf_dir *d = &t->dirs[i];
		free(d->entries);
		wf_map_free(&d->index);
		free(d->odd);
		d->entries = NULL;
		d->odd = NULL;
		d->count = d->capacity = d->live = d->odd_count = 0;
	}
}

void wf_tree_free(struct wf_tree *t)
{
	if (!t)
		return;
	wf_tree_forget_entries(t);
	free(t->dirs);
	free(t->nodes);
	wf_tree_forget_objects(t);
	wf_tree_free(t->objects);
	wf_map_free(&t->text_sizes);
	free(t->text_bytes);
	wf_state_dicts_free(&t->state_dicts);
	pthread_mutex_destroy(&t->index_lock);
	free(t);
}

/* ---- nodes and directories ---- */

const struct wf_node *wf_tree_node(const struct wf_tree *t, wf_ino ino)
{
	t = wf_tree_of(t, ino);
	uint32_t at = t ? ino - t->base - 1 : 0; /* wraps around for what is below the first */
	return t && at < t->node_count && t->nodes[at].type != WF_NODE_GONE ? &t->nodes[at] : NULL;
}

bool wf_tree_has_doubtful(const struct wf_tree *t)
{
	return t->doubtful;
}

uint32_t wf_tree_node_count(const struct wf_tree *t)
{
	return t->node_count;
}

struct wf_dir *wf_tree_mutable_dir(struct wf_tree *t, wf_ino ino)
{
	return (struct wf_dir *)wf_tree_dir(t, ino);
}

const struct wf_dir *wf_tree_dir(const struct wf_tree *t, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(t, ino);
	return n && n->type == WF_NODE_DIR ? &wf_tree_of(t, ino)->dirs[n->dir] : NULL;
}

int wf_tree_map_object(struct wf_tree *t, wf_ref object, wf_ino ino)
{
	return wf_map_set(&t->by_object, object, ino);
}

static wf_ino mapped(const struct wf_tree *t, wf_ref object)
{
	wf_ino ino;
	return wf_map_get(&t->by_object, object, &ino) ? ino : WF_NO_INO;
}

wf_ino wf_tree_ino_of(const struct wf_tree *t, wf_ref object)
{
	wf_ino ino = mapped(t, object);
	return ino >= WF_INO_EMPTY_HANDED ? WF_NO_INO : ino;
}

bool wf_tree_is_long(const struct wf_graph *g, wf_ref r)
{
	uint32_t n;
	wf_ref sequence, inner;
	if (wf_value_glance(g, r, &sequence) != WF_VALUE_JSON)
		return false;
	const wf_ref *e = wf_elements(g, sequence, &n);
	for (uint32_t i = 0; i < n && n <= 16; i++)
		if (wf_value_glance(g, e[i], &inner) == WF_VALUE_JSON)
			return true;
	return n > 16;
}

bool wf_tree_is_known_plain(const struct wf_tree *t, wf_ref object)
{
	return mapped(t, object) == WF_INO_PLAIN;
}

bool wf_tree_holds_nothing(const struct wf_tree *t, wf_ref object)
{
	return mapped(t, object) >= WF_INO_EMPTY_HANDED;
}

/* ---- sizes of texts ---- */

/* Without memory the size is simply not kept. */
static void keep_text_size(struct wf_tree *t, wf_ref object, uint64_t bytes)
{
	if (wf_array_reserve(&t->text_bytes, &t->text_capacity, (uint64_t)t->text_count + 1, sizeof *t->text_bytes,
			     UINT32_MAX) == 0 &&
	    wf_map_set(&t->text_sizes, object, t->text_count) == 0)
		t->text_bytes[t->text_count++] = bytes;
}

int wf_tree_text_size(struct wf_tree *t, wf_ref object, uint64_t *ret)
{
	uint32_t i;
	int r = 0;
	if (!wf_tree_is_long(t->graph, object))
		return wf_value_size(t->graph, object, ret);
	pthread_mutex_lock(&t->index_lock);
	if (wf_map_get(&t->text_sizes, object, &i))
		*ret = t->text_bytes[i];
	else if ((r = wf_value_size(t->graph, object, ret)) == 0)
		keep_text_size(t, object, *ret);
	pthread_mutex_unlock(&t->index_lock);
	return r;
}

/* ---- opaque objects ---- */

int wf_tree_describe(const struct wf_graph *g, wf_ref object, struct wf_buffer *out)
{
	char class[256];
	uint32_t n;
	if (wf_is(g, object, WF_GLOBAL))
		wf_global_class_name(g, object, class, sizeof class);
	else
		wf_class_name(g, object, class, sizeof class);
	wf_buffer_puts(out, class);
	if (wf_is(g, object, WF_CALL)) {
		const wf_ref *e = wf_elements(g, wf_call_args(g, object), &n);
		wf_buffer_putc(out, '(');
		for (uint32_t i = 0; i < n && i < 16; i++) {
			struct wf_buffer text = WF_BUFFER_INIT;
			if (i > 0)
				wf_buffer_puts(out, ", ");
			wf_json_key(g, e[i], &text);
			wf_buffer_append(out, text.data, text.len < 1024 ? text.len : 1024);
			wf_buffer_free(&text);
		}
		wf_buffer_puts(out, n > 16 ? ", ...)" : ")");
	}
	wf_buffer_putc(out, '\n');
	return wf_buffer_status(out);
}
