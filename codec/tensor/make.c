/* SPDX-License-Identifier: MIT */
/* The graph's form of tensors: making new ones, and changing what the arguments of a rebuild call say. Only globals
 * that weights_only accepts are introduced. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/tensor/storage_nested.h"
#include "codec/tensor/inner.h"
#include "codec/bytes/util.h"

static int status(struct wf_graph *g, wf_ref made)
{
	return made != WF_NIL ? 0 : wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
}

static wf_ref int_tuple(struct wf_graph *g, const int64_t *values, uint32_t n)
{
	wf_ref items[WF_MAX_NDIM];

	for (uint32_t i = 0; i < n; i++)
		if ((items[i] = wf_int(g, values[i])) == WF_NIL)
			return WF_NIL;
	return wf_tuple(g, items, n);
}

int wf_tensor_make_persid(struct wf_graph *g, enum wf_dtype dtype, const char *key, const char *location,
			  uint64_t size_bytes, wf_ref *ret)
{
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	wf_ref id[5] = {wf_shared_str(g, "storage"),
			info->storage_class ? wf_global_named(g, "torch", info->storage_class)
					    : wf_global_named(g, "torch.storage", "UntypedStorage"),
			wf_str(g, key), wf_shared_str(g, location),
			wf_int(g, (int64_t)(info->storage_class ? size_bytes / info->size_bytes : size_bytes))};
	for (int i = 0; i < 5; i++)
		if (id[i] == WF_NIL)
			return status(g, WF_NIL);
	wf_ref tuple = wf_tuple(g, id, 5), persid = tuple == WF_NIL ? WF_NIL : wf_persid(g, tuple);
	if (persid != WF_NIL)
		*ret = persid;
	return status(g, persid);
}

static wf_ref empty_hooks(struct wf_graph *g)
{
	wf_ref class = wf_global_named(g, "collections", "OrderedDict"), none = wf_tuple(g, NULL, 0);

	return class == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, class, none, WF_NIL);
}

/* The dtype object of v3: torch.uint16 and the like. */
static wf_ref dtype_global(struct wf_graph *g, enum wf_dtype dtype)
{
	return wf_global_named(g, "torch", wf_dtype_info(dtype)->name);
}

/* v3 names the dtype beside a storage of any class. v2 has that of the storage's class. */
static bool wants_v3(const struct wf_graph *g, enum wf_dtype dtype, wf_ref persid)
{
	bool untyped = false;
	struct wf_nested nested;
	if (wf_is_nested_storage(g, persid))
		return wf_nested_parse(g, persid, &nested, NULL) == 0 && (nested.untyped || nested.dtype != dtype);
	wf_ref class = wf_class_of(g, wf_element(g, wf_persid_id(g, persid), 1));
	enum wf_dtype of_class = wf_dtype_from_storage_class(wf_global_name(g, class), &untyped);

	return of_class != dtype;
}

int wf_tensor_make(struct wf_graph *g, wf_ref persid, enum wf_dtype dtype, uint64_t offset_elems, const int64_t *shape,
		   uint32_t ndim, bool requires_grad, wf_ref *ret)
{
	int64_t stride[WF_MAX_NDIM], step = 1;

	if (ndim > WF_MAX_NDIM || wf_dtype_info(dtype)->quantised)
		return -EINVAL;
	for (uint32_t d = ndim; d-- > 0;) {
		stride[d] = step;
		if (__builtin_mul_overflow(step, shape[d] ? shape[d] : 1, &step))
			return -EINVAL;
	}
	bool v3 = wants_v3(g, dtype, persid);
	wf_ref args[7] = {persid,
			  wf_int(g, (int64_t)offset_elems),
			  int_tuple(g, shape, ndim),
			  int_tuple(g, stride, ndim),
			  wf_bool(g, requires_grad),
			  empty_hooks(g),
			  v3 ? dtype_global(g, dtype) : WF_NIL};
	for (int i = 0; i < 6 + v3; i++)
		if (args[i] == WF_NIL)
			return status(g, WF_NIL);
	wf_ref func = wf_global_named(g, "torch._utils", v3 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
	wf_ref tuple = wf_tuple(g, args, 6 + v3);
	wf_ref call = func == WF_NIL || tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, func, tuple, WF_NIL);
	if (call != WF_NIL)
		*ret = call;
	return status(g, call);
}

int wf_tensor_make_quantised(struct wf_graph *g, wf_ref persid, const struct wf_tensor *t, wf_ref *ret)
{
	wf_ref args[7] = {persid,
			  wf_int(g, (int64_t)t->offset_elems),
			  int_tuple(g, t->shape, t->ndim),
			  int_tuple(g, t->stride, t->ndim),
			  t->quantizer,
			  wf_bool(g, t->requires_grad),
			  empty_hooks(g)};
	if (!wf_dtype_info(t->dtype)->quantised)
		return -EINVAL;
	for (int i = 0; i < 7; i++)
		if (args[i] == WF_NIL)
			return status(g, WF_NIL);
	wf_ref func = wf_global_named(g, "torch._utils", "_rebuild_qtensor"), tuple = wf_tuple(g, args, 7);
	wf_ref call = func == WF_NIL || tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, func, tuple, WF_NIL);
	if (call != WF_NIL)
		*ret = call;
	return status(g, call);
}

/* ---- changing ---- */

#define MAX_ARGS 8u

static int copy_elements(const struct wf_graph *g, wf_ref tuple, wf_ref e[MAX_ARGS], uint32_t *ret_n)
{
	const wf_ref *old = wf_elements(g, tuple, ret_n);

	if (*ret_n > MAX_ARGS)
		return -EINVAL;
	if (*ret_n > 0)
		memcpy(e, old, *ret_n * sizeof *e);
	return 0;
}

/* Puts e in the place of form f's arguments; func WF_NIL keeps the function. All is made before anything is changed. */
static int put(struct wf_graph *g, wf_ref call, const struct wf_form *f, wf_ref func, const wf_ref *e, uint32_t n)
{
	wf_ref outer[MAX_ARGS], args = wf_tuple(g, e, n);
	uint32_t m;

	if (args == WF_NIL)
		return status(g, args);
	if (f->from_type) {
		int r = copy_elements(g, wf_call_args(g, call), outer, &m);
		if (r < 0)
			return r;
		outer[0] = func == WF_NIL ? outer[0] : func;
		outer[2] = args;
		args = wf_tuple(g, outer, m);
		return args == WF_NIL ? status(g, args) : wf_call_set_args(g, call, args);
	}
	int r = f->rebuild == WF_REBUILD_OLD_TENSOR ? wf_call_set_state(g, call, args)
						    : wf_call_set_args(g, call, args);
	return r < 0 || func == WF_NIL ? r : wf_call_set_func(g, call, func);
}

/* Turns the elements of v2 into those of v3 or back, as the dtype asks: v3 has the dtype before the metadata. */
static int convert(struct wf_graph *g, bool is_v3, bool want_v3, enum wf_dtype dtype, wf_ref e[MAX_ARGS], uint32_t *n,
		   wf_ref *ret_func)
{
	*ret_func = WF_NIL;
	if (is_v3 && !want_v3) {
		e[6] = e[7];
		*n -= 1;
	} else if (want_v3) {
		e[7] = is_v3 ? e[7] : e[6];
		e[6] = dtype_global(g, dtype);
		*n += !is_v3;
		if (e[6] == WF_NIL)
			return status(g, WF_NIL);
	}
	if (is_v3 == want_v3)
		return 0;
	*ret_func = wf_global_named(g, "torch._utils", want_v3 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
	return status(g, *ret_func);
}

/* torch.FloatTensor with its state: the class says the dtype. */
static int old_class(struct wf_graph *g, wf_ref call, enum wf_dtype dtype, wf_ref *ret_func)
{
	wf_ref func = wf_call_func(g, call);
	const char *name = wf_dtype_info(dtype)->tensor_class;

	if (wf_is_global(g, func, "torch", "Tensor") || wf_dtype_from_tensor_class(wf_global_name(g, func)) == dtype)
		return 0;
	if (!name)
		return -EINVAL;
	*ret_func = wf_global_named(g, wf_global_module(g, func), name);
	return status(g, *ret_func);
}

int wf_tensor_update(struct wf_graph *g, const struct wf_tensor *t, wf_ref persid)
{
	struct wf_form f = wf_form_of(g, t->rebuild);
	wf_ref e[MAX_ARGS + 1] = {0}, func = WF_NIL;
	uint32_t n;
	bool v3 = f.rebuild == WF_REBUILD_V3, strided = v3 || f.rebuild == WF_REBUILD_V2;

	if (f.rebuild == WF_REBUILD_NUMPY)
		return wf_numpy_update(g, t);
	if (!strided && f.rebuild != WF_REBUILD_V1 && f.rebuild != WF_REBUILD_QUANTISED &&
	    f.rebuild != WF_REBUILD_OLD_TENSOR)
		return -EINVAL;
	bool want_v3 = wants_v3(g, t->dtype, persid);
	if (!strided && want_v3)
		return -EINVAL;
	if ((f.rebuild == WF_REBUILD_QUANTISED) != wf_dtype_info(t->dtype)->quantised)
		return -EINVAL;
	int r = copy_elements(g, f.args, e, &n);
	if (r == 0 && strided)
		r = convert(g, v3, want_v3, t->dtype, e, &n, &func);
	if (r == 0 && f.rebuild == WF_REBUILD_OLD_TENSOR)
		r = old_class(g, t->rebuild, t->dtype, &func);
	if (r < 0)
		return r;
	e[0] = persid;
	e[1] = wf_int(g, (int64_t)t->offset_elems);
	e[2] = int_tuple(g, t->shape, t->ndim);
	e[3] = int_tuple(g, t->stride, t->ndim);
	if (e[1] == WF_NIL || e[2] == WF_NIL || e[3] == WF_NIL)
		return status(g, WF_NIL);
	return put(g, t->rebuild, &f, func, e, n);
}

static int set_state_element(struct wf_graph *g, wf_ref call, uint32_t at, wf_ref value)
{
	wf_ref e[MAX_ARGS];
	uint32_t n;
	int r = copy_elements(g, wf_call_state(g, call), e, &n);

	if (r < 0)
		return r;
	e[at] = value;
	wf_ref tuple = wf_tuple(g, e, n);
	return tuple == WF_NIL ? status(g, tuple) : wf_call_set_state(g, call, tuple);
}

/* The outermost wrapper decides when the tensor is read, so that is where it is said. */
int wf_tensor_set_requires_grad(struct wf_graph *g, const struct wf_tensor *t, bool requires_grad)
{
	wf_ref r = t->object, value = wf_bool(g, requires_grad), e[MAX_ARGS + 1];

	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(g, r);
		int at = wf_state_requires_grad(g, r, &f);
		uint32_t n;
		if (at >= 0)
			return set_state_element(g, r, (uint32_t)at, value);
		at = wf_form_requires_grad(g, &f);
		if (at >= 0 || f.rebuild == WF_REBUILD_VARIABLE) {
			int failed = copy_elements(g, f.args, e, &n);
			if (failed < 0)
				return failed;
			if (at < 0) /* Parameter(tensor) alone: the second argument is left out */
				at = (int)n++;
			e[at] = value;
			return put(g, r, &f, WF_NIL, e, n);
		}
		r = wf_form_inner(g, r, &f);
		if (r == WF_NIL)
			return -EINVAL;
	}
	return -EINVAL;
}
