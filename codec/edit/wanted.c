/* SPDX-License-Identifier: MIT */
/* What content is to become: as its attributes say; else as what it replaces, what it was, or what its name remembers. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/bytes/util.h"
#include "codec/tensor/assembly.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/value/text.h"

/* ---- from what is or was there ---- */

static void want_tensor(struct wf_checkpoint *ck, const struct wf_tensor *t, struct wf_wanted *w)
{
	w->kind = WANT_TENSOR;
	w->type = wf_tensor_type_of(t);
	w->array = t->kind == WF_TENSOR_NUMPY;
	w->record = t->record;
	w->bare = t->kind == WF_TENSOR_STORAGE;
	w->parameter = t->parameter;
	w->requires_grad = t->requires_grad;
	w->quantizer = t->quantizer;
	w->location = t->kind == WF_TENSOR_DENSE || w->bare ? wf_storage_location(ck->storages, t->storage) : NULL;
}

static void want_like(struct wf_checkpoint *ck, wf_ref object, const struct wf_tensor_type *type, struct wf_wanted *w)
{
	struct wf_tensor t = {.rebuild = WF_NIL};
	if (wf_is_tensor(ck->graph, object)) {
		/* where only the storage is to blame, which may be gone by now, the type is there as declared */
		if (wf_tensor_decode(ck->graph, ck->storages, object, &t, NULL) < 0 && t.rebuild == WF_NIL)
			return;
		want_tensor(ck, &t, w);
		if (type) /* others may have changed the object since */
			memcpy(&w->type, type,
			       offsetof(struct wf_tensor_type, shape) + type->ndim * sizeof *type->shape);
	} else if (wf_is(ck->graph, object, WF_NONE)) {
		w->kind = WANT_NEW;
	} else if (wf_value_form_of(ck->graph, object) != WF_VALUE_NOT) {
		w->kind = WANT_VALUE;
		w->like = object;
	}
}

static void want_old(struct wf_checkpoint *ck, wf_ino ino, struct wf_wanted *w)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_tensor *old = wf_edit_old_tensor(f);
	w->insists = true;
	if (old)
		want_tensor(ck, old, w);
	else
		want_like(ck, wf_edit_old_object(ck, ino), NULL, w);
	w->like = wf_edit_old_object(ck, ino);
}

static void want_past(struct wf_checkpoint *ck, const struct wf_past *past, struct wf_wanted *w)
{
	w->place = true;
	w->insists = past->scratch;
	want_like(ck, past->object, past->type, w);
}

static const struct wf_past *past_of(struct wf_checkpoint *ck, wf_ino ino)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (!ck->edits->pasts || wf_edit_place_of(ck, ino, &p) < 0 ||
	    !wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name))
		return NULL;
	return wf_past_of(ck, p.dir, name);
}

/* ---- from what attributes declare ---- */

static bool is_tensor_class(const char *klass)
{
	return !strcmp(klass, "torch.Tensor") || !strncmp(klass, "torch.nn.parameter.", 19) ||
	       !strcmp(klass, "numpy.ndarray");
}

bool wf_edit_makes_class(struct wf_graph *g, const char *klass)
{
	return is_tensor_class(klass) || wf_class_example(g, klass) != WF_NIL;
}

static void say_shape(const struct wf_file *f, bool same_dtype, struct wf_wanted *w)
{
	const char *shape = wf_declared(f, DECLARED_SHAPE);
	if (shape) {
		w->exact = !f->declared_fits;
		wf_shape_parse(shape, w->type.shape, &w->type.ndim, &w->free_dim);
	} else if (!same_dtype) {
		w->type.ndim = 1;
		w->free_dim = 0;
		w->exact = true;
	}
}

static int declared_quantizer(struct wf_checkpoint *ck, const struct wf_file *f, struct wf_wanted *w)
{
	const char *scheme = wf_declared(f, DECLARED_QSCHEME), *scale = wf_declared(f, DECLARED_SCALE),
		   *zero = wf_declared(f, DECLARED_ZERO);
	double s, z;
	/* its scales stand in other files: until it is one of the parts of a tensor it holds integers */
	if (scheme && !strncmp(scheme, "per_channel", 11) && wf_assembly_integers(w->type.dtype) != WF_DTYPE_INVALID)
		w->type.dtype = wf_assembly_integers(w->type.dtype);
	if (!wf_dtype_info(w->type.dtype)->quantised) {
		w->quantizer = WF_NIL;
		return 0;
	}
	if (!scheme || !scale || !zero || strcmp(scheme, "per_tensor_affine") || !wf_number_parse(scale, &s) ||
	    !wf_number_parse(zero, &z))
		return 0;
	wf_ref e[3] = {wf_global_named(ck->graph, "torch", scheme), wf_float(ck->graph, s),
		       wf_int(ck->graph, (int64_t)z)};
	w->quantizer = e[0] == WF_NIL || e[1] == WF_NIL ? WF_NIL : wf_tuple(ck->graph, e, 3);
	return w->quantizer == WF_NIL ? -ENOMEM : 0;
}

/* An array whose elements are no numbers: rows of bytes behind the shape. */
static int declared_record(struct wf_checkpoint *ck, const struct wf_file *f, struct wf_wanted *w)
{
	uint32_t item_bytes;
	wf_ref dtype;
	int r = wf_numpy_dtype_parse(ck->graph, wf_declared(f, DECLARED_DESCR), &dtype, &item_bytes);
	if (r < 0)
		return r;
	w->record = dtype;
	w->array = true;
	w->parameter = w->requires_grad = false;
	w->type.dtype = WF_UINT8;
	if (!wf_declared(f, DECLARED_SHAPE))
		w->free_dim = 0;
	if (!wf_declared(f, DECLARED_SHAPE) || w->type.ndim == WF_MAX_NDIM)
		w->type.ndim = 1;
	w->type.shape[w->type.ndim++] = item_bytes;
	w->exact = true;
	return 0;
}

static int declared_tensor(struct wf_checkpoint *ck, const struct wf_file *f, struct wf_wanted *w)
{
	const char *klass = wf_declared(f, DECLARED_CLASS), *dtype = wf_declared(f, DECLARED_DTYPE),
		   *grad = wf_declared(f, DECLARED_GRAD);
	bool was_tensor = w->kind == WANT_TENSOR;
	enum wf_dtype before = was_tensor ? w->type.dtype : WF_UINT8;
	w->kind = WANT_TENSOR;
	w->declared = w->insists = true;
	w->like = WF_NIL;
	w->bare = false;
	w->type.dtype = dtype ? wf_dtype_from_name(dtype) : before;
	if (klass && is_tensor_class(klass)) {
		w->array = !strcmp(klass, "numpy.ndarray");
		w->parameter = !strcmp(klass, "torch.nn.parameter.Parameter");
		/* as a class that is set alone does: an entry that took its name's type on the way has kept what was declared then */
		w->requires_grad = was_tensor && !f->is_new ? w->requires_grad && !w->array : w->parameter;
	}
	if (grad)
		w->requires_grad = !strcmp(grad, "true");
	say_shape(f, was_tensor && w->type.dtype == before, w);
	if (wf_declared(f, DECLARED_DESCR))
		return declared_record(ck, f, w);
	return declared_quantizer(ck, f, w);
}

static int apply_declared(struct wf_checkpoint *ck, const struct wf_file *f, struct wf_wanted *w)
{
	const char *klass = wf_declared(f, DECLARED_CLASS), *where = wf_declared(f, DECLARED_LOCATION);
	wf_ref example = klass ? wf_class_example(ck->graph, klass) : WF_NIL;
	if (where)
		w->location = where;
	if (example != WF_NIL) {
		bool same = w->kind == WANT_VALUE && wf_class_is(ck->graph, w->like, klass);
		w->like = same ? w->like : example; /* what is of that class already may have a form of its own */
		w->kind = WANT_VALUE;
		w->declared = w->insists = true;
		return 0;
	}
	if (klass && !wf_edit_makes_class(ck->graph, klass) && !wf_declared(f, DECLARED_DTYPE) &&
	    !wf_edit_is_flat(ck)) {
		/* no content is that, and who closes the file is told; a tensor of any class is one without it */
		w->kind = WANT_VALUE;
		w->like = WF_NIL;
		w->declared = w->insists = true;
		return 0;
	}
	if ((klass && is_tensor_class(klass)) || wf_declared(f, DECLARED_DTYPE) || wf_declared(f, DECLARED_SHAPE) ||
	    wf_declared(f, DECLARED_DESCR))
		return declared_tensor(ck, f, w);
	if (w->kind == WANT_TENSOR && wf_declared(f, DECLARED_GRAD))
		w->requires_grad = !strcmp(wf_declared(f, DECLARED_GRAD), "true");
	return 0;
}

/* Attributes that an entry has already: its ties and views stay. */
static bool declares_nothing_new(const struct wf_wanted *was, const struct wf_wanted *now)
{
	return was->kind == WANT_TENSOR && now->kind == WANT_TENSOR && now->free_dim < 0 &&
	       was->type.dtype == now->type.dtype && was->type.ndim == now->type.ndim &&
	       !memcmp(was->type.shape, now->type.shape, now->type.ndim * sizeof *now->type.shape) &&
	       was->record == now->record && was->array == now->array && was->bare == now->bare &&
	       was->parameter == now->parameter && was->requires_grad == now->requires_grad &&
	       was->quantizer == now->quantizer &&
	       !strcmp(was->location ? was->location : "cpu", now->location ? now->location : "cpu");
}

/* ---- the whole ---- */

int wf_edit_wanted(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *onto, const struct wf_past *past,
		   struct wf_wanted *ret)
{
	const struct wf_file *f = wf_edit_known(ck, ino), *there;
	*ret = (struct wf_wanted){.kind = WANT_NEW, .free_dim = -1};
	if (onto) {
		wf_ino over = wf_edit_entry(ck, onto)->ino;
		there = wf_edit_known(ck, over);
		if (there && there->is_new) {
			/* what was made since the last commit has the type that it was given, or none */
			int r = wf_edit_wanted(ck, over, NULL, NULL, ret);
			if (r < 0)
				return r;
			ret->declared = ret->place = false;
		} else {
			want_like(ck, wf_edit_node(ck, onto)->object, NULL, ret);
			ret->insists = true;
		}
	} else if (f && f->is_new) {
		past = past ? past : past_of(ck, ino);
		if (past)
			want_past(ck, past, ret);
	} else {
		want_old(ck, ino, ret);
	}
	wf_edit_narrow(ck, ret);
	const struct wf_wanted base = *ret;
	int r = f && f->declared ? apply_declared(ck, f, ret) : 0;
	wf_edit_narrow(ck, ret);
	if (r == 0 && declares_nothing_new(&base, ret))
		*ret = base;
	ret->declared &= f && !f->declared_fits; /* they have come true: that is its type now, as of any other entry */
	return r;
}
