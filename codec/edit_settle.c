/* Settling: the content of a loose file gets its meaning. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "layout.h"
#include "util.h"
#include "value.h"

#define CHUNK (1u << 20)

/* ---- forms ---- */

bool wf_form_fits(const struct wf_form *form, uint64_t size)
{
	const struct wf_dtype_info *info = wf_dtype_info(form->dtype);
	uint64_t numel = 1, bytes;
	for (uint32_t i = 0; i < form->ndim; i++)
		if (wf_mul_u64(numel, (uint64_t)form->shape[i], &numel))
			return false;
	numel = (numel + info->values_per_byte - 1) / info->values_per_byte;
	return !wf_mul_u64(numel, info->size_bytes, &bytes) && bytes == size;
}

int wf_edit_remember_form(struct wf_file *f, const struct wf_tensor *t)
{
	struct wf_form *form = f->form ? f->form : malloc(sizeof *form);
	if (!form)
		return -ENOMEM;
	form->dtype = t->dtype;
	form->ndim = t->ndim;
	memcpy(form->shape, t->shape, t->ndim * sizeof *t->shape);
	f->form = form;
	return 0;
}

/* The form that content of this size gets: the declared one, or one dimension. */
static struct wf_form form_for(const struct wf_form *declared, uint64_t size)
{
	struct wf_form flat = {.dtype = declared->dtype, .ndim = 1};
	const struct wf_dtype_info *info = wf_dtype_info(flat.dtype);
	if (wf_form_fits(declared, size))
		return *declared;
	if (size % info->size_bytes) {
		flat.dtype = WF_UINT8;
		info = wf_dtype_info(WF_UINT8);
	}
	flat.shape[0] = (int64_t)(size / info->size_bytes * info->values_per_byte);
	return flat;
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

static void set_form(struct wf_tensor *t, const struct wf_form *form, uint32_t storage)
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
	if (!f || f->loose != LOOSE_TENSOR || !f->form)
		return;
	struct wf_form form = form_for(f->form, wf_storage_get(ck->storages, f->storage)->size_bytes);
	if (form.dtype == t->dtype && form.ndim == t->ndim && !memcmp(form.shape, t->shape, t->ndim * sizeof *t->shape))
		return;
	set_form(t, &form, f->storage);
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

int wf_edit_set_object(struct wf_checkpoint *ck, wf_ino ino, wf_ref object)
{
	struct set_object s = {ck, object};
	ck->edits->reformed = true;
	return wf_edit_each_entry(ck, ino, set_entry, &s);
}

int wf_edit_make_object(struct wf_checkpoint *ck, const struct wf_tensor *t, wf_ref *ret)
{
	struct wf_graph *g = ck->graph;
	bool grad = t->requires_grad && is_floating(t->dtype);
	wf_ref persid = wf_storage_get(ck->storages, t->storage)->persid;
	int r = wf_tensor_make(g, persid, t->dtype, t->offset_elems, t->shape, t->ndim, grad && !t->parameter, ret);
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
	t.storage = f->to->storage;
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

int wf_edit_reform(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	struct reform f = {ck, t, WF_NIL};
	ck->edits->reformed = true;
	bool quantised = t->quantizer != WF_NIL && !wf_dtype_info(t->dtype)->quantised;
	int r = t->kind != WF_TENSOR_DENSE || t->conj || t->neg || quantised
			? -EINVAL
			: wf_edit_each_entry(ck, ino, reform_entry, &f);
	/* a name that was removed may have been the one whose object the node holds */
	if (r == 0)
		r = reform_object(&f, wf_tree_node(ck->tree, ino)->object);
	if (r != -EINVAL)
		return r;
	/* a form that cannot say it: a plain tensor takes its place */
	wf_ref object;
	r = wf_edit_make_object(ck, t, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}

/* ---- tensors ---- */

int wf_apply_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_form *form)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->loose != LOOSE_TENSOR)
		return -EINVAL;
	uint32_t content = f->storage;
	int r = wf_edit_tensor(ck, ino, &t);
	/* a tensor whose storage shrank under it decodes with an error but in full */
	if (r < 0 && t.storage != content)
		return r;
	r = 0;
	if (how == SETTLE_SWITCH) {
		uint32_t old = t.storage;
		bool drop = old != content && wf_edit_sole_view(ck, &t) &&
			    wf_storage_get(ck->storages, old)->base_bytes == 0;
		set_form(&t, form, content);
		r = wf_storage_set_form(ck->storages, content, form->dtype, NULL);
		if (r == 0)
			r = wf_edit_reform(ck, ino, &t);
		if (r == 0 && drop)
			wf_edit_drop_storage(ck, old);
	} else if (t.storage == content) {
		return -EINVAL;
	} else {
		wf_edit_drop_storage(ck, content);
	}
	if (r < 0)
		return r;
	wf_edit_set_loose(ck, f, LOOSE_NOT);
	f->storage = WF_NO_STORAGE;
	return 0;
}

static int record_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_form *form)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_u8(b, (uint8_t)how);
	wf_put_u8(b, (uint8_t)form->dtype);
	wf_put_u8(b, (uint8_t)form->ndim);
	for (uint32_t i = 0; i < form->ndim; i++)
		wf_put_u64(b, (uint64_t)form->shape[i]);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SETTLE, wf_edit_pending(ck, ino));
	return r == -ENOENT ? 0 : r; /* an orphan: nothing to log */
}

static int write_back(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint32_t content)
{
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	ck->edits->writing = ino;
	for (uint64_t at = 0; r == 0 && at < t->size_bytes; at += CHUNK) {
		size_t n = WF_MIN(t->size_bytes - at, (uint64_t)CHUNK);
		r = wf_storage_read(ck->storages, content, at, buf, n);
		if (r == 0)
			r = wf_tensor_write(ck->storages, t, at, buf, n);
	}
	return r;
}

int wf_edit_settle_as(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_form *form)
{
	int r = record_settle(ck, ino, how, form);
	return r < 0 ? r : wf_apply_settle(ck, ino, how, form);
}

int wf_edit_abandon(struct wf_checkpoint *ck, wf_ino ino)
{
	static const struct wf_form none = {.dtype = WF_UINT8};
	return wf_edit_settle_as(ck, ino, SETTLE_ABANDON, &none);
}

static int settle_tensor(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f, bool final)
{
	struct wf_tensor t;
	uint64_t size = wf_storage_get(ck->storages, f->storage)->size_bytes;
	int r = wf_edit_tensor(ck, ino, &t);
	bool in_place = t.storage == f->storage;
	if (r < 0 && !in_place)
		return r;
	struct wf_form form = form_for(f->form, size);
	bool fits = wf_form_fits(f->form, size);
	bool same = !in_place && t.dtype == form.dtype && t.size_bytes == size && t.ndim == form.ndim &&
		    !memcmp(t.shape, form.shape, form.ndim * sizeof *form.shape);
	bool alone = in_place || (wf_edit_sole_view(ck, &t) && t.contiguous);
	bool back = fits && same && !alone && (t.kind == WF_TENSOR_NUMPY || !wf_layout_overlaps(&t));
	if (!fits && t.kind == WF_TENSOR_NUMPY && final) {
		/* the size of an array stands in places that are not ours to change */
		wf_edit_abandon(ck, ino);
		wf_edit_changed(ck, ino);
		return -EINVAL;
	}
	/* a shell flushes after it truncated and before it writes: views of one storage stay together until the end */
	if (!fits && !alone && !final)
		return 0;
	enum wf_settle how = back ? SETTLE_WRITE_BACK : SETTLE_SWITCH;
	r = back ? write_back(ck, ino, &t, f->storage) : 0;
	if (r == 0)
		r = wf_edit_settle_as(ck, ino, how, &form);
	if (r < 0)
		return r;
	if (fits)
		f->wanted = false;
	if (f->klass && size > 0) {
		char *klass = steal_pointer(&f->klass);
		r = wf_edit_become(ck, ino, klass);
		free(klass);
	}
	return r;
}

/* ---- values ---- */

int wf_apply_value(struct wf_checkpoint *ck, wf_ino ino, const char *text, size_t len)
{
	wf_ref object;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n || n->type != WF_NODE_VALUE)
		return -EINVAL;
	int r = wf_value_parse(ck->graph, n->object, text, len, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}

static bool reads_the_same(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_buffer *text)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	bool same = wf_value_text(ck->graph, wf_tree_node(ck->tree, ino)->object, &now) == 0 && now.len == text->len &&
		    (now.len == 0 || !memcmp(now.data, text->data, now.len));
	wf_buffer_free(&now);
	return same;
}

static int settle_text(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f)
{
	wf_ref object;
	const char *text = f->text.data ? f->text.data : "";
	int r = wf_value_parse(ck->graph, wf_tree_node(ck->tree, ino)->object, text, f->text.len, &object);
	if (r == -EINVAL && f->text.len == 0 && f->writers > 0)
		return r; /* a shell that truncated and has yet to write: not the end */
	struct wf_buffer *b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_file(ck, b, ino);
	wf_put_text(b, text, f->text.len);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_VALUE, wf_edit_pending(ck, ino));
	if (r == 0)
		r = wf_edit_set_object(ck, ino, object);
	if (r == -ENOENT)
		return 0; /* an orphan keeps its text */
	if (r < 0 && r != -EINVAL && r != -EPERM && r != -EROFS)
		return r;
	wf_edit_set_loose(ck, f, LOOSE_NOT);
	if (r < 0 || !reads_the_same(ck, ino, &f->text))
		wf_edit_changed(ck, ino);
	if (r < 0 || f->writers == 0)
		wf_buffer_free(&f->text);
	return r;
}

int wf_edit_settle(struct wf_checkpoint *ck, wf_ino ino, bool final)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->loose == LOOSE_NOT)
		return 0;
	if (f->loose == LOOSE_TEXT)
		return settle_text(ck, ino, f);
	int r = settle_tensor(ck, ino, f, final || f->writers == 0);
	if (f->writers == 0 && !f->wanted && f->loose == LOOSE_NOT) {
		free(f->form);
		f->form = NULL;
	}
	return r;
}

int wf_edit_settle_all(struct wf_checkpoint *ck, bool final)
{
	for (wf_ino ino = 1; ck->edits->loose_count > 0 && ino <= ck->edits->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!f || f->loose == LOOSE_NOT || wf_tree_node(ck->tree, ino)->nlink == 0)
			continue;
		/* what a writer has in its hands is not judged by somebody else's sync */
		if (!final && f->writers > 0)
			continue;
		int r = wf_edit_settle(ck, ino, final);
		if (r < 0 && r != -EINVAL && r != -EPERM && r != -EROFS)
			return r;
	}
	return 0;
}

/* ---- a new file over an old entry ---- */

static int read_content(struct wf_checkpoint *ck, const struct wf_tensor *t, char **ret)
{
	cleanup_free char *buf = malloc(t->size_bytes + 1);
	if (!buf)
		return -ENOMEM;
	int r = wf_tensor_read(ck->storages, t, 0, buf, t->size_bytes);
	if (r == 0)
		*ret = steal_pointer(&buf);
	return r;
}

int wf_edit_become_value(struct wf_checkpoint *ck, wf_ino ino, wf_ref like)
{
	struct wf_tensor t;
	wf_ref value;
	char *raw = NULL;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r == 0 && t.size_bytes > WF_VALUE_MAX_BYTES)
		r = -EINVAL;
	if (r == 0)
		r = read_content(ck, &t, &raw);
	cleanup_free char *text = raw;
	if (r == 0)
		r = wf_value_parse(ck->graph, like, text, t.size_bytes, &value);
	/* the data file stays until the commit: a replay reads the text from there again */
	return r < 0 ? r : wf_edit_set_object(ck, ino, value);
}

int wf_edit_take_type(struct wf_checkpoint *ck, wf_ino ino, wf_ref object)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_tensor t, old;
	int r = -EINVAL;
	if (!f || !f->is_new || !f->untyped || f->loose != LOOSE_NOT || wf_edit_tensor(ck, ino, &t) < 0 ||
	    !wf_edit_sole_view(ck, &t))
		return 0;
	if (wf_is_tensor(ck->graph, object)) {
		bool fits = wf_tensor_decode(ck->graph, ck->storages, object, &old, NULL) == 0 &&
			    old.kind != WF_TENSOR_META && old.size_bytes == t.size_bytes && old.quantizer == WF_NIL;
		struct wf_form form = {.dtype = old.dtype, .ndim = old.ndim};
		if (fits) {
			memcpy(form.shape, old.shape, old.ndim * sizeof *old.shape);
			set_form(&t, &form, t.storage);
			t.requires_grad = old.requires_grad;
			t.parameter = old.parameter;
			r = wf_storage_set_form(
				ck->storages, t.storage, t.dtype,
				old.kind == WF_TENSOR_DENSE ? wf_storage_location(ck->storages, old.storage) : NULL);
			wf_ref made;
			if (r == 0)
				r = wf_edit_make_object(ck, &t, &made);
			if (r == 0)
				r = wf_edit_set_object(ck, ino, made);
		}
	} else if (wf_value_form_of(ck->graph, object) != WF_VALUE_NOT) {
		r = wf_edit_become_value(ck, ino, object);
	}
	if (r == 0) {
		f->untyped = false;
		free(f->form);
		f->form = NULL;
	}
	return r == -EINVAL || r == -EROFS ? 0 : r; /* it does not fit: it stays what it is */
}
