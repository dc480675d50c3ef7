/* SPDX-License-Identifier: MIT */
/* Walks the tree below a directory, and joins the keys on the way to names. */
#include "codec/compose/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/bytes/array.h"
#include "codec/compose/calls.h"
#include "codec/compose/crossed.h"
#include "codec/value/text.h"

#define DEPTH_AGAIN \
	1000u /* of directories, where one that has another place is entered still: each look at the stack costs that */

struct place {
	wf_ino dir;
	uint32_t position;
	bool again;      /* it has another place, or is below a directory that has */
	size_t name_len; /* of the directory's own name, its dot included */
};

struct names {
	struct wf_checkpoint *ck;
	struct wf_buffer name;
	wf_ref key; /* of the entry that is looked at */
	struct place *stack;
	uint32_t depth, capacity;
	bool follows;   /* containers are entered where they are met again */
	bool any;       /* a tensor was told */
	uint32_t again; /* entries met in directories that are entered again */
	int (*each)(void *ctx, const struct wf_named *named);
	void *ctx;
};

static int push(struct names *w, wf_ino dir, bool again)
{
	int r = wf_array_reserve(&w->stack, &w->capacity, (uint64_t)w->depth + 1, sizeof *w->stack, UINT32_MAX);
	if (r < 0)
		return r;
	w->stack[w->depth++] = (struct place){dir, 0, again, w->name.len};
	return 0;
}

static int tell_as(struct names *w, wf_ino ino, const struct wf_tensor *t, const char *problem, bool is_tensor,
		   bool beside)
{
	const struct wf_node *n = wf_tree_node(w->ck->tree, ino);
	struct wf_named named = {.name = w->name.data ? w->name.data : "",
				 .name_len = w->name.len,
				 .key = w->key,
				 .ino = ino,
				 .object = n->object,
				 .tensor = t,
				 .problem = problem,
				 .is_tensor = is_tensor,
				 .beside = beside};
	w->any |= is_tensor;
	return w->each(w->ctx, &named);
}

static int tell(struct names *w, wf_ino ino, const struct wf_tensor *t, const char *problem, bool is_tensor)
{
	return tell_as(w, ino, t, problem, is_tensor, false);
}

static int visit_tensor(struct names *w, wf_ino ino, wf_ref object)
{
	struct wf_tensor t;
	struct wf_error err = {0};
	char text[512];
	int r = wf_tensor_decode(w->ck->graph, w->ck->storages, object, &t, &err);
	if (r == 0 && t.kind == WF_TENSOR_META)
		return tell(w, ino, NULL, "a meta tensor, which has no bytes", true);
	return r == 0 ? tell(w, ino, &t, NULL, true)
		      : tell(w, ino, NULL, wf_error_format(&err, text, sizeof text), true);
}

static int tell_other(struct names *w, wf_ino ino, const struct wf_node *n)
{
	char class[200], text[256];
	if (n->type == WF_NODE_SCRATCH)
		return 0;
	wf_class_name(w->ck->graph, n->object, class, sizeof class);
	snprintf(text, sizeof text, "no tensor (%s)", class);
	return tell(w, ino, NULL, text, false);
}

/* A tensor that is shown as a directory of others is not the dictionary of these. */
static bool is_composite(struct names *w, const struct wf_dir *d)
{
	const char *names[5];
	wf_ref objects[5];
	return d->object != WF_NIL && wf_tensor_components(w->ck->graph, d->object, names, objects) > 0;
}

static int enter(struct names *w, wf_ino ino, bool again)
{
	const struct wf_dir *d = wf_tree_dir(w->ck->tree, ino);
	if (is_composite(w, d))
		return tell(w, ino, NULL, "a tensor that is made of several (sparse, nested, or quantised per channel)",
			    true);
	if (d->live == 0)
		return tell(w, ino, NULL, "an empty mapping or list", false);
	wf_buffer_putc(&w->name, '.');
	int r = wf_buffer_status(&w->name);
	return r < 0 ? r : push(w, ino, again);
}

/* Whether the directory is one of those that the walk is in. */
static bool is_open(const struct names *w, wf_ino dir)
{
	for (uint32_t i = 0; i < w->depth; i++)
		if (w->stack[i].dir == dir)
			return true;
	return false;
}

static int follow(struct names *w, wf_ino ino, const struct wf_node *n)
{
	char text[512];
	struct wf_buffer path = WF_BUFFER_INIT;
	wf_ino target = n->object == WF_NIL ? WF_NO_INO : wf_tree_ino_of(w->ck->tree, n->object);
	if (w->follows && target != WF_NO_INO && wf_tree_dir(w->ck->tree, target) && w->again < WF_NAMES_AGAIN &&
	    w->depth < DEPTH_AGAIN && !is_open(w, target))
		return enter(w, target, true);
	if (target != WF_NO_INO)
		wf_tree_path(w->ck->tree, target, &path);
	snprintf(text, sizeof text, "another place of %s", path.len ? path.data : "the root");
	wf_buffer_free(&path);
	return tell(w, ino, NULL, text, false);
}

/* The key of an entry goes to the end of the name. */
static int put_key(struct names *w, const struct wf_dir *d, uint32_t position)
{
	w->key = d->kind == WF_DIR_SEQUENCE ? WF_NIL : d->entries[position].key;
	if (w->key == WF_NIL)
		wf_buffer_put_int(&w->name, position);
	else
		wf_key_text(w->ck->graph, w->key, &w->name);
	return wf_buffer_status(&w->name);
}

/* The next entry of the innermost directory. */
static int step(struct names *w)
{
	struct place *p = &w->stack[w->depth - 1];
	const struct wf_dir *d = wf_tree_dir(w->ck->tree, p->dir);
	w->name.len = p->name_len;
	if (p->position >= d->count) {
		w->depth--;
		return 0;
	}
	uint32_t position = p->position++;
	bool again = p->again;
	w->again += again;
	if (d->entries[position].value == WF_NIL)
		return 0;
	wf_ino ino = d->entries[position].ino;
	const struct wf_node *n = wf_tree_node(w->ck->tree, ino);
	int r = n ? put_key(w, d, position) : 0;
	if (!n || r < 0)
		return r;
	switch (n->type) {
	case WF_NODE_DIR:
		if (w->any && wf_tree_dir(w->ck->tree, ino)->companion && !d->companion)
			return tell_as(w, ino, NULL, "constants of the code are no part of the state_dict", false,
				       true);
		return enter(w, ino, again);
	case WF_NODE_LINK:
		return follow(w, ino, n);
	case WF_NODE_TENSOR:
		return visit_tensor(w, ino, n->object);
	default:
		return tell_other(w, ino, n);
	}
}

uint32_t wf_flat_root(struct wf_checkpoint *ck)
{
	pthread_rwlock_rdlock(&ck->lock);
	wf_ino ino = wf_whole_start(ck);
	pthread_rwlock_unlock(&ck->lock);
	return ino;
}

int wf_each_named(struct wf_checkpoint *ck, wf_ino dir, int (*each)(void *ctx, const struct wf_named *named), void *ctx)
{
	struct names w = {.ck = ck, .name = WF_BUFFER_INIT, .each = each, .ctx = ctx};
	if (!wf_tree_node(ck->tree, dir))
		return -ENOENT;
	if (!wf_tree_dir(ck->tree, dir))
		return -ENOTDIR;
	w.follows = dir == WF_INO_ROOT || !wf_names_crossed(ck);
	int r = push(&w, dir, false);
	while (r == 0 && w.depth > 0)
		r = step(&w);
	free(w.stack);
	wf_buffer_free(&w.name);
	return r;
}
