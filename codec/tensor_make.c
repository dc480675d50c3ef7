/* The graph's form of tensors: making new ones, and changing what the arguments of a rebuild call say. Only globals
 * that weights_only accepts are introduced. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensor_inner.h"
#include "util.h"

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
	wf_ref id[5] = {wf_str(g, "storage"),
			info->storage_class ? wf_global_named(g, "torch", info->storage_class)
					    : wf_global_named(g, "torch.storage", "UntypedStorage"),
			wf_str(g, key), wf_str(g, location),
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

static bool needs_v3(enum wf_dtype dtype)
{
	return wf_dtype_info(dtype)->storage_class == NULL;
}

int wf_tensor_make(struct wf_graph *g, wf_ref persid, enum wf_dtype dtype, uint64_t offset_elems, const int64_t *shape,
		   uint32_t ndim, bool requires_grad, wf_ref *ret)
{
	int64_t stride[WF_MAX_NDIM], step = 1;
	if (ndim > WF_MAX_NDIM)
		return -EINVAL;
	for (uint32_t d = ndim; d-- > 0;) {
		stride[d] = step;
		if (__builtin_mul_overflow(step, shape[d] ? shape[d] : 1, &step))
			return -EINVAL;
	}
	bool v3 = needs_v3(dtype);
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

/* ---- changing ---- */

/* The arguments that name storage, offset, size and stride: the call's own, its state, or those of the function that
 * _rebuild_from_type_v2 calls. */
struct form {
	enum wf_rebuild rebuild;
	wf_ref args;
	bool from_type;
};

static struct form form_of(const struct wf_graph *g, wf_ref call)
{
	struct form f = {.rebuild = wf_rebuild_of(g, call), .args = wf_call_args(g, call)};
	if (f.rebuild == WF_REBUILD_OLD_TENSOR)
		f.args = wf_call_state(g, call);
	if (f.rebuild == WF_REBUILD_FROM_TYPE) {
		f.from_type = true;
		f.rebuild = wf_rebuild_of_func(g, wf_element(g, f.args, 0));
		f.args = wf_element(g, f.args, 2);
	}
	return f;
}

/* A tuple with other elements in the place of form f's arguments; func WF_NIL keeps the function. All is made before
 * anything is changed. */
static int put(struct wf_graph *g, wf_ref call, const struct form *f, wf_ref func, const wf_ref *e, uint32_t n)
{
	wf_ref args = wf_tuple(g, e, n);
	if (args == WF_NIL)
		return status(g, args);
	if (f->rebuild == WF_REBUILD_OLD_TENSOR)
		return wf_call_set_state(g, call, args);
	if (f->from_type) {
		uint32_t m;
		wf_ref outer[8];
		const wf_ref *old = wf_elements(g, wf_call_args(g, call), &m);
		if (m > WF_ARRAY_SIZE(outer) || m < 3)
			return -EINVAL;
		memcpy(outer, old, m * sizeof *outer);
		outer[0] = func == WF_NIL ? outer[0] : func;
		outer[2] = args;
		args = wf_tuple(g, outer, m);
		return args == WF_NIL ? status(g, args) : wf_call_set_args(g, call, args);
	}
	int r = wf_call_set_args(g, call, args);
	return r < 0 || func == WF_NIL ? r : wf_call_set_func(g, call, func);
}

static int copy_elements(const struct wf_graph *g, wf_ref args, wf_ref e[8], uint32_t *ret_n)
{
	const wf_ref *old = wf_elements(g, args, ret_n);
	if (*ret_n > 8)
		return -EINVAL;
	memcpy(e, old, *ret_n * sizeof *e);
	return 0;
}

/* Turns the elements of v2 into those of v3 or back, as the dtype asks: v3 has the dtype before the metadata. */
static int convert(struct wf_graph *g, const struct form *f, enum wf_dtype dtype, wf_ref e[8], uint32_t *n,
		   wf_ref *ret_func)
{
	bool v3 = f->rebuild == WF_REBUILD_V3;
	*ret_func = WF_NIL;
	if (f->rebuild != WF_REBUILD_V2 && !v3)
		return 0;
	if (v3 && needs_v3(dtype)) {
		e[6] = dtype_global(g, dtype);
		return status(g, e[6]);
	}
	if (v3 == needs_v3(dtype))
		return 0;
	if (v3) {
		if (*n > 7)
			e[6] = e[7];
		*n -= 1;
	} else {
		if (*n > 6)
			e[7] = e[6];
		e[6] = dtype_global(g, dtype);
		*n += 1;
		if (e[6] == WF_NIL)
			return status(g, WF_NIL);
	}
	*ret_func = wf_global_named(g, "torch._utils", v3 ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
	return status(g, *ret_func);
}

int wf_tensor_update(struct wf_graph *g, const struct wf_tensor *t, wf_ref persid)
{
	struct form f = form_of(g, t->rebuild);
	wf_ref e[8], func;
	uint32_t n;
	if (f.rebuild != WF_REBUILD_V1 && f.rebuild != WF_REBUILD_V2 && f.rebuild != WF_REBUILD_V3 &&
	    f.rebuild != WF_REBUILD_QUANTISED && f.rebuild != WF_REBUILD_OLD_TENSOR)
		return -EINVAL;
	/* the forms before v2 cannot say a dtype of v3 */
	if (needs_v3(t->dtype) && f.rebuild != WF_REBUILD_V2 && f.rebuild != WF_REBUILD_V3)
		return -EINVAL;
	int r = copy_elements(g, f.args, e, &n);
	if (r < 0)
		return r;
	e[0] = persid;
	e[1] = wf_int(g, (int64_t)t->offset_elems);
	e[2] = int_tuple(g, t->shape, t->ndim);
	e[3] = int_tuple(g, t->stride, t->ndim);
	if (e[1] == WF_NIL || e[2] == WF_NIL || e[3] == WF_NIL)
		return status(g, WF_NIL);
	r = convert(g, &f, t->dtype, e, &n, &func);
	return r < 0 ? r : put(g, t->rebuild, &f, func, e, n);
}

static int set_element(struct wf_graph *g, wf_ref call, uint32_t i, wf_ref value)
{
	struct form f = {.args = wf_call_args(g, call)};
	wf_ref e[8];
	uint32_t n;
	int r = copy_elements(g, f.args, e, &n);
	if (r < 0 || i >= n)
		return -EINVAL;
	e[i] = value;
	return put(g, call, &f, WF_NIL, e, n);
}

int wf_tensor_set_requires_grad(struct wf_graph *g, const struct wf_tensor *t, bool requires_grad)
{
	wf_ref value = wf_bool(g, requires_grad), e[8];
	/* a Parameter says it in its own call; the tensor inside is then without */
	if (t->parameter && wf_rebuild_of(g, t->object) == WF_REBUILD_PARAMETER)
		return set_element(g, t->object, 1, value);
	struct form f = form_of(g, t->rebuild);
	uint32_t n, at = f.rebuild == WF_REBUILD_QUANTISED ? 5 : f.rebuild == WF_REBUILD_META ? 3 : 4;
	if (f.rebuild != WF_REBUILD_V2 && f.rebuild != WF_REBUILD_V3 && f.rebuild != WF_REBUILD_QUANTISED &&
	    f.rebuild != WF_REBUILD_META)
		return -EINVAL;
	int r = copy_elements(g, f.args, e, &n);
	if (r < 0 || at >= n)
		return -EINVAL;
	e[at] = value;
	return put(g, t->rebuild, &f, WF_NIL, e, n);
}
