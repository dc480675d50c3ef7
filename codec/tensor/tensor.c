/* SPDX-License-Identifier: MIT */
/* Decoding tensors, with proof that each view lies in its storage. */
#include "codec/tensor/tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "codec/tensor/storage_nested.h"
#include "codec/tensor/inner.h"
#include "codec/bytes/util.h"

/* ---- decoding ---- */

struct decoding {
	const struct wf_graph *g;
	const struct wf_storages *ss;
	struct wf_tensor *t;
	struct wf_error *err;
	uint64_t limit_bytes; /* where the part of the storage ends that the view may use */
};

static int read_shape(struct decoding *d, wf_ref size, wf_ref stride)
{
	struct wf_tensor *t = d->t;
	int ndim = wf_int_tuple(d->g, size, t->shape);

	if (ndim < 0)
		return wf_fail(d->err, -EUCLEAN, "its size is not a tuple of at most %d sizes of 0 or more",
			       WF_MAX_NDIM);
	if (wf_int_tuple(d->g, stride, t->stride) != ndim)
		return wf_fail(d->err, -EUCLEAN,
			       "its stride is not a tuple of %d steps of 0 or more, one for each size", ndim);
	t->ndim = (uint32_t)ndim;
	return 0;
}

/* The storage that a PERSID names, and of what class that id says it is. */
static int read_storage(struct decoding *d, wf_ref persid)
{
	struct wf_tensor *t = d->t;
	int64_t offset, size;
	uint64_t end;
	bool untyped;

	if (!wf_is_nested_storage(d->g, persid) && !wf_is_storage(d->g, persid))
		return wf_fail(d->err, -EUCLEAN, "its first argument is not a storage");
	t->storage = wf_storage_of(d->ss, persid);
	const struct wf_storage *s = wf_storage_get(d->ss, t->storage);
	if (!s)
		return wf_fail(d->err, -EUCLEAN, "its storage has no valid id");
	wf_ref id = wf_persid_id(d->g, persid), view = wf_element(d->g, id, 5);
	t->dtype = s->dtype;
	if (persid != s->persid) {
		const char *class = wf_global_name(d->g, wf_class_of(d->g, wf_element(d->g, id, 1)));
		t->dtype = wf_dtype_from_storage_class(class, &untyped);
	}
	if (t->dtype == WF_DTYPE_INVALID)
		return wf_fail(d->err, -EUCLEAN, "%s", wf_storage_problem(d->ss, t->storage));
	d->limit_bytes = s->size_bytes;
	if (view == WF_NIL || wf_is(d->g, view, WF_NONE))
		return 0;
	/* (view_key, offset, size), in elements, of the legacy format before 0.4: the tensor counts from there */
	uint64_t element = wf_dtype_info(t->dtype)->size_bytes;
	if (!wf_int_value(d->g, wf_element(d->g, view, 1), &offset) || offset < 0 ||
	    !wf_int_value(d->g, wf_element(d->g, view, 2), &size) || size < 0)
		return wf_fail(d->err, -EUCLEAN, "its storage view is not (key, offset, size)");
	if (wf_add_u64((uint64_t)offset, (uint64_t)size, &end) || wf_mul_u64(end, element, &end) ||
	    (end > s->size_bytes && !s->bad))
		return wf_fail(d->err, -EUCLEAN,
			       "its storage view of %" PRId64 " elements at %" PRId64 " leaves a storage of %" PRIu64
			       " bytes",
			       size, offset, s->size_bytes);
	t->offset_elems = (uint64_t)offset;
	d->limit_bytes = end;
	return 0;
}

/* storage, offset, size and stride, the first four arguments of every strided form */
static int read_strided(struct decoding *d, const wf_ref *e, uint32_t n)
{
	int64_t offset;
	int r = n < 4 ? wf_fail(d->err, -EUCLEAN, "it has %u arguments, too few for a tensor", n)
		      : read_storage(d, e[0]);

	if (r < 0)
		return r;
	if (!wf_int_value(d->g, e[1], &offset) || offset < 0)
		return wf_fail(d->err, -EUCLEAN, "its storage offset is not an int of 0 or more");
	d->t->offset_elems += (uint64_t)offset; /* both below 2^63 */
	return read_shape(d, e[2], e[3]);
}

static int read_metadata(struct decoding *d, wf_ref metadata)
{
	struct wf_tensor *t = d->t;
	bool complex = wf_dtype_info(t->dtype)->element == WF_ELEMENT_COMPLEX;

	t->conj = wf_bool_value(d->g, wf_dict_get(d->g, metadata, "conj"));
	t->neg = wf_bool_value(d->g, wf_dict_get(d->g, metadata, "neg"));
	if (t->conj && !complex)
		return wf_fail(d->err, -EUCLEAN, "it has the conjugate bit and %s elements",
			       wf_dtype_info(t->dtype)->name);
	return 0;
}

static int read_dtype(struct decoding *d, wf_ref dtype)
{
	d->t->dtype = wf_dtype_from_global(d->g, dtype);
	if (d->t->dtype == WF_DTYPE_INVALID)
		return wf_fail(d->err, -EUCLEAN, "its dtype is not one that torch has tensors of");
	return 0;
}

static int read_meta(struct decoding *d, wf_ref dtype, wf_ref size, wf_ref stride)
{
	int r = read_dtype(d, dtype);

	d->t->kind = WF_TENSOR_META;
	return r < 0 ? r : read_shape(d, size, stride);
}

static int check_old_class(struct decoding *d, wf_ref r)
{
	const char *name = wf_global_name(d->g, wf_call_func(d->g, r));

	if (!strcmp(name, "Tensor") || wf_dtype_from_tensor_class(name) == d->t->dtype)
		return 0;
	return wf_fail(d->err, -EUCLEAN, "a %s over a storage of %s", name, wf_dtype_info(d->t->dtype)->name);
}

static int check_count(struct decoding *d, const char *what, uint32_t n, uint32_t min, uint32_t max)
{
	if (n >= min && n <= max)
		return 0;
	return wf_fail(d->err, -EUCLEAN, "%s takes %u to %u arguments, not %u", what, min, max, n);
}

/* The innermost form: fills all but what finish() derives. */
static int read_form(struct decoding *d, wf_ref call, const struct wf_form *f)
{
	struct wf_tensor *t = d->t;
	uint32_t n;
	const wf_ref *e = wf_elements(d->g, f->args, &n);
	int r;

	switch (f->rebuild) {
	case WF_REBUILD_V1:
		return read_strided(d, e, n);
	case WF_REBUILD_OLD_TENSOR:
		r = read_strided(d, e, n);
		return r < 0 ? r : check_old_class(d, call);
	case WF_REBUILD_V2:
		r = check_count(d, "_rebuild_tensor_v2", n, 6, 7);
		if (r == 0)
			r = read_strided(d, e, n);
		return r < 0 || n < 7 ? r : read_metadata(d, e[6]);
	case WF_REBUILD_V3:
		r = check_count(d, "_rebuild_tensor_v3", n, 7, 8);
		if (r == 0)
			r = read_strided(d, e, n);
		if (r == 0)
			r = read_dtype(d, e[6]);
		return r < 0 || n < 8 ? r : read_metadata(d, e[7]);
	case WF_REBUILD_QUANTISED:
		t->quantizer = wf_element(d->g, f->args, 4);
		r = check_count(d, "_rebuild_qtensor", n, 7, 7);
		if (r == 0)
			r = read_strided(d, e, n);
		if (r == 0 && !wf_dtype_info(t->dtype)->quantised)
			return wf_fail(d->err, -EUCLEAN, "a quantised tensor over a storage of %s",
				       wf_dtype_info(t->dtype)->name);
		return r;
	case WF_REBUILD_META:
		r = check_count(d, "_rebuild_meta_tensor_no_storage", n, 4, 4);
		return r < 0 ? r : read_meta(d, e[0], e[1], e[2]);
	case WF_REBUILD_WRAPPER:
		r = check_count(d, "_rebuild_wrapper_subclass", n, 8, 8);
		if (r == 0 && t->type == WF_NIL)
			t->type = wf_class_of(d->g, e[0]);
		return r < 0 ? r : read_meta(d, e[1], e[2], e[3]);
	case WF_REBUILD_NUMPY:
		r = wf_numpy_decode(d->g, d->ss, call, t, d->err);
		break;
	default:
		return wf_fail(d->err, -EINVAL, "not a tensor");
	}
	const struct wf_storage *s = wf_storage_get(d->ss, t->storage);
	if (r == 0 && !s)
		return wf_fail(d->err, -EUCLEAN, "an ndarray that the table of storages does not have");
	d->limit_bytes = s ? s->size_bytes : 0;
	return r;
}

/* numel, size_bytes and contiguous from shape and stride; *ret_last is the index of the last element. */
static int measure(struct decoding *d, uint64_t *ret_last)
{
	struct wf_tensor *t = d->t;
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	uint64_t numel = 1, expected = 1, last = t->offset_elems, step;
	bool empty = false, overflow = false;

	for (uint32_t i = 0; i < t->ndim; i++)
		empty |= t->shape[i] == 0;
	for (uint32_t i = 0; i < t->ndim && !empty; i++) {
		overflow |= wf_mul_u64(numel, (uint64_t)t->shape[i], &numel);
		overflow |= wf_mul_u64((uint64_t)t->shape[i] - 1, (uint64_t)t->stride[i], &step);
		overflow |= wf_add_u64(last, step, &last);
	}
	t->numel = empty ? 0 : numel;
	/* packed dtypes count values in their shape and bytes in their storage: the file has the bytes */
	uint64_t elems = t->numel / info->values_per_byte + (t->numel % info->values_per_byte != 0);
	if (overflow || wf_mul_u64(elems, info->size_bytes, &t->size_bytes) || t->size_bytes > INT64_MAX)
		return wf_fail(d->err, -EUCLEAN, "its sizes and strides multiply past any file");
	t->contiguous = true;
	for (uint32_t i = t->ndim; i-- > 0 && !empty;) {
		t->contiguous &= t->shape[i] == 1 || (uint64_t)t->stride[i] == expected;
		expected *= (uint64_t)t->shape[i];
	}
	*ret_last = last;
	return 0;
}

/* What follows from dtype, shape and stride; and the proof that the view lies in its storage. */
static int finish(struct decoding *d)
{
	struct wf_tensor *t = d->t;
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	uint64_t last = 0, end;
	int r = measure(d, &last);

	if (r < 0 || t->kind == WF_TENSOR_META)
		return r;
	const struct wf_storage *s = wf_storage_get(d->ss, t->storage);
	if (s->bad)
		return wf_fail(d->err, s->bad, "%s", wf_storage_problem(d->ss, t->storage));
	if (info->values_per_byte > 1 && (!t->contiguous || t->offset_elems % info->values_per_byte))
		return wf_fail(d->err, -EOPNOTSUPP, "a strided view of packed %s elements", info->name);
	if (t->numel == 0)
		return 0;
	if (wf_add_u64(last / info->values_per_byte, 1, &end) || wf_mul_u64(end, info->size_bytes, &end))
		return wf_fail(d->err, -EUCLEAN, "its view ends past any storage");
	if (end > d->limit_bytes)
		return wf_fail(d->err, -EUCLEAN, "its view ends at byte %" PRIu64 " of a storage of %" PRIu64 " bytes",
			       end, d->limit_bytes);
	if (t->kind == WF_TENSOR_NUMPY && end != d->limit_bytes)
		return wf_fail(d->err, -EUCLEAN, "an ndarray of %" PRIu64 " bytes, which has %" PRIu64, end,
			       d->limit_bytes);
	return 0;
}

/* A storage by itself: one dimension of all its elements. */
static int decode_storage(struct decoding *d, wf_ref persid)
{
	struct wf_tensor *t = d->t;
	int r = read_storage(d, persid);

	if (r < 0)
		return r;
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	t->kind = WF_TENSOR_STORAGE;
	t->ndim = 1;
	/* of a packed dtype it counts bytes, and its elements are values like those of a tensor */
	uint64_t elems = d->limit_bytes / info->size_bytes;
	t->shape[0] = (int64_t)((elems - WF_MIN(elems, t->offset_elems)) * info->values_per_byte);
	t->offset_elems *= info->values_per_byte;
	t->stride[0] = 1;
	return finish(d);
}

/* Of several wrappers the outermost decides. */
static bool read_requires_grad(struct decoding *d, wf_ref r, const struct wf_form *f)
{
	int at = wf_state_requires_grad(d->g, r, f);

	if (at >= 0) {
		d->t->requires_grad = wf_bool_value(d->g, wf_element(d->g, wf_call_state(d->g, r), (uint32_t)at));
		return true;
	}
	at = wf_form_requires_grad(d->g, f);
	if (at >= 0)
		d->t->requires_grad = wf_bool_value(d->g, wf_element(d->g, f->args, (uint32_t)at));
	else if (f->rebuild == WF_REBUILD_VARIABLE)
		d->t->requires_grad = !strcmp(wf_global_name(d->g, wf_call_func(d->g, r)), "Parameter");
	return at >= 0 || f->rebuild == WF_REBUILD_VARIABLE;
}

static int decode(struct decoding *d, wf_ref r)
{
	bool grad_known = false;

	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(d->g, r);
		d->t->rebuild = r;
		if (f.rebuild == WF_REBUILD_NONE && depth == 0 && wf_is_storage(d->g, r))
			return decode_storage(d, r);
		if (f.rebuild == WF_REBUILD_NONE)
			return wf_fail(d->err, -EINVAL, "not a tensor");
		if (f.from_type)
			wf_read_type(d->g, wf_element(d->g, wf_call_args(d->g, r), 1), d->t);
		grad_known = grad_known || read_requires_grad(d, r, &f);
		wf_ref inner = wf_form_inner(d->g, r, &f);
		if (inner == WF_NIL) {
			int failed = read_form(d, r, &f);
			return failed < 0 ? failed : finish(d);
		}
		const char *name = wf_global_name(d->g, wf_call_func(d->g, r));
		d->t->parameter |= f.rebuild == WF_REBUILD_PARAMETER || !strcmp(name, "Parameter");
		r = inner;
	}
	return wf_fail(d->err, -EUCLEAN, "more than %d wrappers around one tensor", WF_MAX_WRAPPERS);
}

int wf_tensor_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *ret,
		     struct wf_error *err)
{
	struct decoding d = {.g = g, .ss = ss, .t = ret, .err = err};

	/* shape and stride are written as far as ndim reaches: clearing 1 KiB for each stat would cost more than the
	 * decoding */
	memset(ret, 0, offsetof(struct wf_tensor, shape));
	memset(&ret->contiguous, 0, sizeof *ret - offsetof(struct wf_tensor, contiguous));
	ret->storage = WF_NO_STORAGE;
	ret->object = r;
	return decode(&d, r);
}

uint32_t wf_tensor_storage(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r)
{
	struct wf_tensor t;
	if (!wf_is_tensor(g, r))
		return WF_NO_STORAGE;
	wf_tensor_decode(g, ss, r, &t, NULL);
	return t.storage;
}

bool wf_tensor_tied(const struct wf_tensor *a, const struct wf_tensor *b)
{
	if (a->kind == WF_TENSOR_META || b->kind == WF_TENSOR_META)
		return a->object == b->object;
	/* a bare storage and a tensor over all of it are different things with the same bytes */
	return (a->kind == WF_TENSOR_STORAGE) == (b->kind == WF_TENSOR_STORAGE) && a->storage == b->storage &&
	       a->dtype == b->dtype && a->offset_elems == b->offset_elems && a->ndim == b->ndim && a->conj == b->conj &&
	       a->neg == b->neg && a->swap == b->swap && !memcmp(a->shape, b->shape, a->ndim * sizeof a->shape[0]) &&
	       !memcmp(a->stride, b->stride, a->ndim * sizeof a->stride[0]);
}

uint64_t wf_tensor_tie_hash(const struct wf_graph *g, const struct wf_tensor *t)
{
	uint64_t h = wf_hash_mix(g, 0, (uint64_t)t->storage << 32 | (uint64_t)t->dtype << 8 | t->ndim);

	h = wf_hash_mix(g, h, t->offset_elems);
	for (uint32_t i = 0; i < t->ndim; i++) /* strides too: one storage may be seen in a hundred thousand ways */
		h = wf_hash_mix(g, wf_hash_mix(g, h, (uint64_t)t->shape[i]), (uint64_t)t->stride[i]);
	return h;
}
