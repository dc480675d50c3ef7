/* SPDX-License-Identifier: MIT */
/* Walks all names of the tree in their order: .weightfs/tensors.json, and the classes and functions of .weightfs/globals. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "codec/lines.h"
#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- every tensor, in tree order ---- */

struct listing_frame {
	wf_ino dir;
	uint32_t position;
	size_t path_len; /* of the directory's own path, its slash included */
};

struct listing {
	struct wf_checkpoint *ck;
	struct wf_buffer path, shape, dtype;
	struct listing_frame *stack;
	uint32_t depth, capacity;
	struct wf_line_file file;
};

static int push(struct listing *l, wf_ino dir)
{
	int r = wf_array_reserve(&l->stack, &l->capacity, (uint64_t)l->depth + 1, sizeof *l->stack, UINT32_MAX);
	if (r < 0)
		return r;
	l->stack[l->depth++] = (struct listing_frame){dir, 0, l->path.len};
	return 0;
}

static int visit_tensor(struct listing *l, wf_ino ino, const struct wf_dir *dir, uint32_t position,
			int (*each)(void *, const struct wf_tensor_row *), void *ctx)
{
	struct wf_checkpoint *ck = l->ck;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	struct wf_line line = {.ck = ck, .ino = ino, .dir = dir, .position = position, .tensor = &t, .file = &l->file};
	struct wf_error err = {0};
	struct wf_buffer *shape = &l->shape;
	char class[256], text[512];
	struct wf_tensor_row row = {.path = l->path.data,
				    .dtype = "",
				    .storage = "",
				    .location = "",
				    .klass = "",
				    .error_text = "",
				    .line = &line};
	row.error = wf_tensor_decode(ck->graph, ck->storages, n->object, &t, &err);
	shape->len = 0;
	wf_json_ints(shape, t.shape, row.error == 0 ? wf_tensor_shown_ndim(&t) : 0);
	if (row.error == 0) {
		l->dtype.len = 0;
		wf_tensor_dtype_name(ck->graph, &t, &l->dtype);
		row.dtype = wf_buffer_status(&l->dtype) == 0 ? l->dtype.data : "";
		row.size_bytes = t.size_bytes;
		row.location = t.kind == WF_TENSOR_META    ? "meta"
			       : t.kind == WF_TENSOR_NUMPY ? "cpu"
							   : wf_storage_location(ck->storages, t.storage);
		row.storage = t.storage == WF_NO_STORAGE ? "" : wf_storage_key(ck->storages, t.storage);
		row.klass = wf_tensor_class(ck->graph, &t, class, sizeof class);
	} else {
		row.error_text = wf_error_format(&err, text, sizeof text);
	}
	row.shape = shape->data;
	int r = wf_buffer_status(shape);
	return r == 0 ? each(ctx, &row) : r;
}

static int tell_other(struct listing *l, const struct wf_walk *w, wf_ino ino, const struct wf_dir *dir,
		      uint32_t position)
{
	struct wf_line line = {.ck = l->ck, .ino = ino, .dir = dir, .position = position, .file = &l->file};
	return w->other ? w->other(w->ctx, l->path.data, &line) : 0;
}

static int walk(struct listing *l, const struct wf_walk *w)
{
	char name[WF_NAME_MAX + 1];
	struct wf_tree *t = l->ck->tree;
	int r = 0;
	while (r == 0 && l->depth > 0) {
		struct listing_frame *f = &l->stack[l->depth - 1];
		const struct wf_dir *d = wf_tree_dir(t, f->dir);
		l->path.len = f->path_len;
		if (f->position == d->count) {
			l->depth--;
			continue;
		}
		uint32_t position = f->position++;
		if (!wf_tree_name(t, d, position, name))
			continue;
		wf_ino ino = d->entries[position].ino;
		const struct wf_node *n = wf_tree_node(t, ino);
		wf_buffer_puts(&l->path, name);
		r = wf_buffer_status(&l->path);
		if (r == 0 && n->type == WF_NODE_TENSOR)
			r = visit_tensor(l, ino, d, position, w->tensor, w->ctx);
		else if (r == 0 && n->type == WF_NODE_DIR && wf_tree_dir(t, ino)->live > 0) {
			r = w->containers ? tell_other(l, w, ino, d, position) : 0;
			wf_buffer_putc(&l->path, '/');
			r = r == 0 ? push(l, ino) : r;
		} else if (r == 0) {
			r = tell_other(l, w, ino, d, position);
		}
	}
	return r;
}

int wf_walk(struct wf_checkpoint *ck, const struct wf_walk *w)
{
	struct listing l = {.ck = ck, .path = WF_BUFFER_INIT, .shape = WF_BUFFER_INIT};
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_line_file_init(&l.file, ck);
	wf_buffer_puts(&l.path, ""); /* never NULL */
	if (r == 0)
		r = push(&l, WF_INO_ROOT);
	if (r == 0 && w->containers)
		r = tell_other(&l, w, WF_INO_ROOT, NULL, 0);
	if (r == 0)
		r = walk(&l, w);
	if (r == 0 && w->metadata && wf_tree_metadata(ck->tree) != WF_NO_INO) {
		l.path.len = 0;
		wf_buffer_puts(&l.path, WF_METADATA_PATH "/");
		r = push(&l, wf_tree_metadata(ck->tree));
		if (r == 0)
			r = walk(&l, w);
	}
	pthread_rwlock_unlock(&ck->lock);
	free(l.stack);
	wf_buffer_free(&l.path);
	wf_buffer_free(&l.shape);
	wf_buffer_free(&l.dtype);
	wf_line_file_free(&l.file);
	return r < 0 ? r : 0;
}

int wf_each_tensor(struct wf_checkpoint *ck, int (*each)(void *ctx, const struct wf_tensor_row *row), void *ctx)
{
	struct wf_walk w = {.tensor = each, .ctx = ctx};
	return wf_walk(ck, &w);
}

static int add_line(void *ctx, const struct wf_tensor_row *row)
{
	return wf_row_json(row, ctx);
}

int wf_tensors_json(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	int r = wf_each_tensor(ck, add_line, ret);
	return r < 0 ? r : wf_buffer_status(ret);
}

/* ---- classes and functions ---- */

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int wf_globals(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	char **lines = NULL;
	uint32_t n = 0, capacity = 0;
	int r = 0;
	pthread_rwlock_rdlock(&ck->lock);
	/* what a safetensors file is made into names classes; the file itself does not */
	bool flat = wf_tree_metadata(ck->tree) != WF_NO_INO;
	for (wf_ref o = wf_graph_next(ck->graph, WF_NIL); o != WF_NIL && r == 0 && !flat;
	     o = wf_graph_next(ck->graph, o)) {
		if (!wf_is(ck->graph, o, WF_GLOBAL))
			continue;
		r = wf_array_reserve(&lines, &capacity, (uint64_t)n + 1, sizeof *lines, UINT32_MAX);
		if (r == 0 &&
		    asprintf(&lines[n], "%s.%s", wf_global_module(ck->graph, o), wf_global_name(ck->graph, o)) < 0)
			r = -ENOMEM;
		n += r == 0;
	}
	pthread_rwlock_unlock(&ck->lock);
	if (n)
		qsort(lines, n, sizeof *lines, compare_lines);
	for (uint32_t i = 0; i < n; i++) {
		if (r == 0 && (i == 0 || strcmp(lines[i], lines[i - 1]) != 0))
			wf_buffer_printf(ret, "%s\n", lines[i]);
	}
	for (uint32_t i = 0; i < n; i++)
		free(lines[i]);
	free(lines);
	return r < 0 ? r : wf_buffer_status(ret);
}
