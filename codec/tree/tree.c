/* SPDX-License-Identifier: MIT */
#include "codec/tree/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tree/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

void wf_tree_set_container(struct wf_tree *t, struct wf_container *c)
{
	t->container = c;
	t->state_dicts.c = c;
}

void wf_tree_free(struct wf_tree *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->dir_count; i++) {
		free(t->dirs[i].entries);
		free(t->dirs[i].index);
		free(t->dirs[i].odd);
	}
	free(t->dirs);
	free(t->nodes);
	free(t->by_object);
	free(t->ties);
	wf_tree_free(t->objects);
	free(t->text_sizes);
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

static uint32_t object_slot(const struct wf_tree *t, wf_ref object)
{
	uint32_t mask = t->by_object_size - 1, at = (object * 2654435761u) & mask;
	while (t->by_object[at].object != WF_NIL && t->by_object[at].object != object)
		at = (at + 1) & mask;
	return at;
}

int wf_tree_map_object(struct wf_tree *t, wf_ref object, wf_ino ino)
{
	if (t->by_object_used * 4 >= t->by_object_size * 3) {
		struct wf_tree bigger = *t;
		bigger.by_object_size = t->by_object_size ? t->by_object_size * 2 : 64;
		bigger.by_object = calloc(bigger.by_object_size, sizeof *bigger.by_object);
		if (!bigger.by_object)
			return -ENOMEM;
		for (uint32_t i = 0; i < t->by_object_size; i++)
			if (t->by_object[i].object != WF_NIL)
				bigger.by_object[object_slot(&bigger, t->by_object[i].object)] = t->by_object[i];
		free(t->by_object);
		t->by_object = bigger.by_object;
		t->by_object_size = bigger.by_object_size;
	}
	uint32_t at = object_slot(t, object);
	t->by_object_used += t->by_object[at].object == WF_NIL;
	t->by_object[at].object = object;
	t->by_object[at].ino = ino;
	return 0;
}

/* Room for one more size of a text; without memory it is simply not kept. */
static bool room_for_size(struct wf_tree *t)
{
	if (t->text_sizes_used * 4 < t->text_sizes_size * 3)
		return true;
	uint32_t size = t->text_sizes_size ? t->text_sizes_size * 2 : 64;
	struct wf_text_size *bigger = calloc(size, sizeof *bigger);
	if (!bigger)
		return false;
	for (uint32_t i = 0; i < t->text_sizes_size; i++) {
		uint32_t at = (t->text_sizes[i].object * 2654435761u) & (size - 1);
		while (t->text_sizes[i].object != WF_NIL && bigger[at].object != WF_NIL)
			at = (at + 1) & (size - 1);
		if (t->text_sizes[i].object != WF_NIL)
			bigger[at] = t->text_sizes[i];
	}
	free(t->text_sizes);
	t->text_sizes = bigger;
	t->text_sizes_size = size;
	return true;
}

static wf_ino mapped(const struct wf_tree *t, wf_ref object)
{
	if (object == WF_NIL || t->by_object_size == 0)
		return WF_NO_INO;
	uint32_t at = object_slot(t, object);
	return t->by_object[at].object == object ? t->by_object[at].ino : WF_NO_INO;
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

int wf_tree_text_size(struct wf_tree *t, wf_ref object, uint64_t *ret)
{
	int r = 0;
	if (!wf_tree_is_long(t->graph, object))
		return wf_value_size(t->graph, object, ret);
	pthread_mutex_lock(&t->index_lock);
	uint32_t at = t->text_sizes_size ? (object * 2654435761u) & (t->text_sizes_size - 1) : 0;
	while (t->text_sizes_size && t->text_sizes[at].object != WF_NIL && t->text_sizes[at].object != object)
		at = (at + 1) & (t->text_sizes_size - 1);
	if (t->text_sizes_size && t->text_sizes[at].object == object) {
		*ret = t->text_sizes[at].bytes;
	} else if ((r = wf_value_size(t->graph, object, ret)) == 0 && room_for_size(t)) {
		at = (object * 2654435761u) & (t->text_sizes_size - 1);
		while (t->text_sizes[at].object != WF_NIL)
			at = (at + 1) & (t->text_sizes_size - 1);
		t->text_sizes[at].object = object;
		t->text_sizes[at].bytes = *ret;
		t->text_sizes_used++;
	}
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
