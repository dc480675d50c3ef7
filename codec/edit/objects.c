/* SPDX-License-Identifier: MIT */
/* Types of tensors, and the objects of the graph that have them. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- types ---- */

bool wf_tensor_type_fits(const struct wf_tensor_type *type, uint64_t size)
{
	const struct wf_dtype_info *info = wf_dtype_info(type->dtype);
	uint64_t numel = 1, bytes;
	for (uint32_t i = 0; i < type->ndim; i++)
		if (type->shape[i] < 0 || wf_mul_u64(numel, (uint64_t)type->shape[i], &numel))
			return false;
	numel = (numel + info->values_per_byte - 1) / info->values_per_byte;
	return !wf_mul_u64(numel, info->size_bytes, &bytes) && bytes == size;
}

bool wf_tensor_type_rows(struct wf_tensor_type *type, uint64_t size)
{
	const struct wf_dtype_info *info = wf_dtype_info(type->dtype);
	uint64_t row = info->size_bytes;
	if (type->ndim == 0 || info->values_per_byte > 1)
		return false;
	for (uint32_t i = 1; i < type->ndim; i++)
		if (wf_mul_u64(row, (uint64_t)type->shape[i], &row))
			return false;
	if (row == 0 || size % row)
		return false;
	type->shape[0] = (int64_t)(size / row);
	return true;
}

struct wf_tensor_type wf_tensor_type_of(const struct wf_tensor *t)
{
	struct wf_tensor_type type = {.dtype = t->dtype, .ndim = t->ndim};
	memcpy(type.shape, t->shape, t->ndim * sizeof *t->shape);
	return type;
}

bool wf_tensor_has_type(const struct wf_tensor_type *type, const struct wf_tensor *t)
{
	return type->dtype == t->dtype && type->ndim == t->ndim &&
	       !memcmp(type->shape, t->shape, t->ndim * sizeof *t->shape);
}

void wf_tensor_set_type(struct wf_tensor *t, const struct wf_tensor_type *type, uint32_t storage)
{
	int64_t step = 1;
	t->dtype = type->dtype;
	t->storage = storage;
	t->offset_elems = 0;
	t->ndim = type->ndim;
	for (uint32_t d = type->ndim; d-- > 0;) {
		t->shape[d] = type->shape[d];
		t->stride[d] = step;
		step *= type->shape[d] ? type->shape[d] : 1;
	}
}

/* ---- objects ---- */

struct set_object {
	struct wf_checkpoint *ck;
	wf_ref object;
};

static int set_entry(void *ctx, wf_ino dir, uint32_t position)
{
	struct set_object *s = ctx;
	return wf_tree_set_value(s->ck->tree, dir, position, s->object);
}

/* For wf_status: the shape at the last commit. */
static void note_shape(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f || f->is_new || f->was || wf_edit_tensor(ck, ino, &t) < 0)
		return;
	size_t size = offsetof(struct wf_tensor_type, shape) + t.ndim * sizeof *t.shape;
	f->was = malloc(size);
	if (!f->was)
		return; /* a report is not worth a failed edit */
	f->was->dtype = t.dtype;
	f->was->ndim = t.ndim;
	memcpy(f->was->shape, t.shape, t.ndim * sizeof *t.shape);
}

int wf_edit_set_object(struct wf_checkpoint *ck, wf_ino ino, wf_ref object)
{
	struct set_object s = {ck, object};
	note_shape(ck, ino);
	ck->edits->types_changed |= wf_edit_pending(ck, ino);
	return wf_edit_each_entry(ck, ino, set_entry, &s);
}

int wf_edit_make_object(struct wf_checkpoint *ck, const struct wf_tensor *t, wf_ref *ret)
{
	struct wf_graph *g = ck->graph;
	bool grad = t->requires_grad && wf_dtype_takes_grad(t->dtype);
	wf_ref persid = wf_storage_get(ck->storages, t->storage)->persid;
	int r = t->quantizer != WF_NIL ? wf_tensor_make_quantised(g, persid, t, ret)
				       : wf_tensor_make(g, persid, t->dtype, t->offset_elems, t->shape, t->ndim,
							grad && !t->parameter, ret);
	if (r < 0 || !t->parameter)
		return r;
	wf_ref hooks = wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "collections", "OrderedDict"),
			       wf_tuple(g, NULL, 0), WF_NIL);
	wf_ref args[3] = {*ret, wf_bool(g, grad), hooks};
	wf_ref func = wf_global_named(g, "torch._utils", "_rebuild_parameter"), tuple = wf_tuple(g, args, 3);
	if (hooks == WF_NIL || func == WF_NIL || tuple == WF_NIL)
		return -ENOMEM;
	*ret = wf_call(g, WF_CALL_REDUCE, func, tuple, WF_NIL);
	return *ret == WF_NIL ? -ENOMEM : 0;
}

int wf_edit_read_pickle(struct wf_checkpoint *ck, const struct wf_pickle_reader *hooks, char *pickle, uint64_t len,
			wf_ref *ret)
{
	struct wf_source *source;
	uint64_t end;
	/* a graph without a source of its own keeps this one for its long strings */
	int r = wf_source_from_memory(pickle, len, true, &source);
	if (r < 0) {
		free(pickle);
		return r;
	}
	uint32_t limit = wf_graph_limit(ck->graph);
	r = wf_pickle_read(ck->graph, source, 0, len, hooks, ret, &end, NULL);
	wf_source_unref(source);
	return r < 0 ? r : wf_storages_add_arrays(ck->storages, limit);
}

int wf_edit_make_array(struct wf_checkpoint *ck, const struct wf_tensor_type *type, wf_ref record, const void *content,
		       uint64_t size, wf_ref *ret)
{
	uint32_t limit = wf_graph_limit(ck->graph);
	wf_ref array, bytes = wf_string(ck->graph, WF_BYTES, content, size);
	int r = bytes == WF_NIL ? -ENOMEM
				: wf_numpy_make(ck->graph, type->dtype, type->shape, type->ndim, bytes, &array);
	if (r == 0 && record != WF_NIL)
		r = wf_numpy_set_record(ck->graph, array, record);
	if (r == 0)
		r = wf_storages_add_arrays(ck->storages, limit);
	if (r == 0)
		*ret = array;
	return r;
}

struct type_change {
	struct wf_checkpoint *ck;
	const struct wf_tensor *to;
	wf_ref done;
};

static int change_object(struct type_change *f, wf_ref object)
{
	struct wf_checkpoint *ck = f->ck;
	struct wf_tensor t;
	if (object == f->done)
		return 0;
	int r = wf_tensor_decode(ck->graph, ck->storages, object, &t, NULL);
	if (r < 0 && t.rebuild == WF_NIL)
		return r;
	t.dtype = f->to->dtype;
	t.storage = t.kind == WF_TENSOR_NUMPY ? t.storage : f->to->storage; /* the bytes of an array are its own */
	t.offset_elems = f->to->offset_elems;
	t.ndim = f->to->ndim;
	memcpy(t.shape, f->to->shape, t.ndim * sizeof *t.shape);
	memcpy(t.stride, f->to->stride, t.ndim * sizeof *t.stride);
	if (t.requires_grad && !wf_dtype_takes_grad(t.dtype) &&
	    (r = wf_tensor_set_requires_grad(ck->graph, &t, false)) < 0)
		return r;
	r = wf_tensor_update(ck->graph, &t, wf_storage_get(ck->storages, t.storage)->persid);
	f->done = object;
	return r;
}

static int change_entry(void *ctx, wf_ino dir, uint32_t position)
{
	struct type_change *f = ctx;
	return change_object(f, wf_tree_dir(f->ck->tree, dir)->entries[position].value);
}

/* An array says another shape or dtype of the bytes that it has. */
static bool is_same_array(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	struct wf_tensor now;
	return t->kind == WF_TENSOR_NUMPY && wf_edit_tensor(ck, ino, &now) == 0 && now.storage == t->storage;
}

int wf_edit_change_type(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	struct type_change f = {ck, t, WF_NIL};
	int refused = wf_edit_check_type(ck, t);
	if (refused < 0)
		return refused;
	note_shape(ck, ino);
	ck->edits->types_changed |= wf_edit_pending(ck, ino);
	bool quantised = t->quantizer != WF_NIL && !wf_dtype_info(t->dtype)->quantised;
	bool array = is_same_array(ck, ino, t);
	int r = (t->kind != WF_TENSOR_DENSE && !array) || t->conj || t->neg || quantised
			? -EINVAL
			: wf_edit_each_entry(ck, ino, change_entry, &f);
	/* a name that was removed may have been the one whose object the node holds */
	if (r == 0)
		r = change_object(&f, wf_tree_node(ck->tree, ino)->object);
	if (r != -EINVAL || array)
		return r;
	/* a kind of object that cannot have the type: a plain tensor takes its place */
	wf_ref object;
	r = wf_edit_make_object(ck, t, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}
