/* Shapes, and the objects of the graph that say them. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- forms ---- */

bool wf_form_fits(const struct wf_form *form, uint64_t size)
{
	const struct wf_dtype_info *info = wf_dtype_info(form->dtype);
	uint64_t numel = 1, bytes;
	for (uint32_t i = 0; i < form->ndim; i++)
		if (form->shape[i] < 0 || wf_mul_u64(numel, (uint64_t)form->shape[i], &numel))
			return false;
	numel = (numel + info->values_per_byte - 1) / info->values_per_byte;
	return !wf_mul_u64(numel, info->size_bytes, &bytes) && bytes == size;
}

bool wf_form_rows(struct wf_form *form, uint64_t size)
{
	const struct wf_dtype_info *info = wf_dtype_info(form->dtype);
	uint64_t row = info->size_bytes;
	if (form->ndim == 0 || info->values_per_byte > 1)
		return false;
	for (uint32_t i = 1; i < form->ndim; i++)
		if (wf_mul_u64(row, (uint64_t)form->shape[i], &row))
			return false;
	if (row == 0 || size % row)
		return false;
	form->shape[0] = (int64_t)(size / row);
	return true;
}

struct wf_form wf_form_of_tensor(const struct wf_tensor *t)
{
	struct wf_form form = {.dtype = t->dtype, .ndim = t->ndim};
	memcpy(form.shape, t->shape, t->ndim * sizeof *t->shape);
	return form;
}

bool wf_form_same(const struct wf_form *form, const struct wf_tensor *t)
{
	return form->dtype == t->dtype && form->ndim == t->ndim && !memcmp(form->shape, t->shape, t->ndim * sizeof *t->shape);
}

static bool is_floating(enum wf_dtype d)
{
	switch (d) {
	case WF_INT64:
	case WF_INT32:
	case WF_INT16:
	case WF_INT8:
	case WF_UINT8:
	case WF_BOOL8:
	case WF_UINT16:
	case WF_UINT32:
	case WF_UINT64:
	case WF_BITS8:
	case WF_BITS16:
	case WF_BITS1X8:
	case WF_BITS2X4:
	case WF_BITS4X2:
		return false;
	default:
		return true;
	}
}

void wf_form_set(struct wf_tensor *t, const struct wf_form *form, uint32_t storage)
{
	int64_t step = 1;
	t->dtype = form->dtype;
	t->storage = storage;
	t->offset_elems = 0;
	t->ndim = form->ndim;
	for (uint32_t d = form->ndim; d-- > 0;) {
		t->shape[d] = form->shape[d];
		t->stride[d] = step;
		step *= form->shape[d] ? form->shape[d] : 1;
	}
}

void wf_edits_form(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->pending != PENDING_BYTES)
		return;
	struct wf_form form = wf_form_of_tensor(t);
	uint64_t size = wf_storage_get(ck->storages, f->storage)->size_bytes;
	if (wf_form_fits(&form, size) || !wf_form_rows(&form, size))
		return;
	wf_form_set(t, &form, f->storage);
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
	size_t size = offsetof(struct wf_form, shape) + t.ndim * sizeof *t.shape;
	f->was = malloc(size);
	if (!f->was)
		return; /* a report is not worth a failed edit */
	f->was->dtype = t.dtype;
	f->was->ndim = t.ndim;
	memcpy(f->was->shape, t.shape, t.ndim * sizeof *t.shape);
}

static void report_shape(struct wf_checkpoint *ck, wf_ino ino, const struct wf_form *was, bool *first, struct wf_buffer *out)
{
	struct wf_buffer path = WF_BUFFER_INIT;
	struct wf_tensor t;
	if (wf_edit_tensor(ck, ino, &t) < 0 ||
	    (was->ndim == t.ndim && !memcmp(was->shape, t.shape, t.ndim * sizeof *t.shape)))
		return;
	wf_tree_path(ck->tree, ino, &path);
	wf_buffer_puts(out, *first ? "{\"path\": " : ", {\"path\": ");
	wf_json_string(out, path.data ? path.data : "", path.len);
	wf_buffer_puts(out, ", \"from\": ");
	wf_json_ints(out, was->shape, was->ndim);
	wf_buffer_puts(out, ", \"to\": ");
	wf_json_ints(out, t.shape, t.ndim);
	wf_buffer_putc(out, '}');
	wf_buffer_free(&path);
	*first = false;
}

void wf_edits_report(struct wf_checkpoint *ck, struct wf_buffer *out)
{
	const struct wf_edits *e = ck->edits;
	bool first = true;
	wf_buffer_puts(out, "  \"shapes\": [");
	for (wf_ino ino = 1; ino <= e->files_count; ino++) {
		const struct wf_file *f = e->files[ino - 1];
		const struct wf_node *n = f ? wf_tree_node(ck->tree, ino) : NULL;
		if (!n || n->nlink == 0 || n->type != WF_NODE_TENSOR)
			continue;
		if (f->was)
			report_shape(ck, ino, f->was, &first, out);
	}
	wf_buffer_puts(out, "],\n  \"refused\": [");
	for (uint32_t i = 0; i < e->refused_count; i++) {
		wf_buffer_puts(out, i ? ", " : "");
		wf_json_string(out, e->refused[i], strlen(e->refused[i]));
	}
	wf_buffer_puts(out, "],\n");
}

int wf_edit_set_object(struct wf_checkpoint *ck, wf_ino ino, wf_ref object)
{
	struct set_object s = {ck, object};
	note_shape(ck, ino);
	ck->edits->reformed = true;
	return wf_edit_each_entry(ck, ino, set_entry, &s);
}

int wf_edit_make_object(struct wf_checkpoint *ck, const struct wf_tensor *t, wf_ref *ret)
{
	struct wf_graph *g = ck->graph;
	bool grad = t->requires_grad && is_floating(t->dtype);
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

struct reform {
	struct wf_checkpoint *ck;
	const struct wf_tensor *to;
	wf_ref done;
};

static int reform_object(struct reform *f, wf_ref object)
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
	if (t.requires_grad && !is_floating(t.dtype) && (r = wf_tensor_set_requires_grad(ck->graph, &t, false)) < 0)
		return r;
	r = wf_tensor_update(ck->graph, &t, wf_storage_get(ck->storages, t.storage)->persid);
	f->done = object;
	return r;
}

static int reform_entry(void *ctx, wf_ino dir, uint32_t position)
{
	struct reform *f = ctx;
	return reform_object(f, wf_tree_dir(f->ck->tree, dir)->entries[position].value);
}

/* An array says another shape or dtype of the bytes that it has. */
static bool is_same_array(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	struct wf_tensor now;
	return t->kind == WF_TENSOR_NUMPY && wf_edit_tensor(ck, ino, &now) == 0 && now.storage == t->storage;
}

int wf_edit_reform(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	struct reform f = {ck, t, WF_NIL};
	note_shape(ck, ino);
	ck->edits->reformed = true;
	bool quantised = t->quantizer != WF_NIL && !wf_dtype_info(t->dtype)->quantised;
	bool array = is_same_array(ck, ino, t);
	int r = (t->kind != WF_TENSOR_DENSE && !array) || t->conj || t->neg || quantised
			? -EINVAL
			: wf_edit_each_entry(ck, ino, reform_entry, &f);
	/* a name that was removed may have been the one whose object the node holds */
	if (r == 0)
		r = reform_object(&f, wf_tree_node(ck->tree, ino)->object);
	if (r != -EINVAL || array)
		return r;
	/* a form that cannot say it: a plain tensor takes its place */
	wf_ref object;
	r = wf_edit_make_object(ck, t, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}
