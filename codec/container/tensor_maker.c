/* SPDX-License-Identifier: MIT */
/* Makes the rebuild calls of tensors, and the objects that they share. */
#include "codec/container/tensor_maker.h"

#include <errno.h>

#include "codec/bytes/util.h"

int wf_tensor_maker_full(const struct wf_graph *g, struct wf_error *err)
{
	int r = wf_graph_failed(g);
	return wf_fail(err, r < 0 ? r : -ENOMEM, "the tensors do not fit the limit of %llu bytes", WF_GRAPH_MAX_BYTES);
}

int wf_tensor_maker_init(struct wf_tensor_maker *m, struct wf_graph *g, struct wf_error *err)
{
	wf_ref ordered = wf_global_named(g, "collections", "OrderedDict"), none = wf_tuple(g, NULL, 0);
	*m = (struct wf_tensor_maker){.g = g};
	m->storage = wf_str(g, "storage");
	m->cpu = wf_str(g, "cpu");
	m->no = wf_bool(g, false);
	m->hooks = ordered == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, ordered, none, WF_NIL);
	m->untyped = wf_global_named(g, "torch.storage", "UntypedStorage");
	m->rebuild[0] = wf_global_named(g, "torch._utils", "_rebuild_tensor_v2");
	m->rebuild[1] = wf_global_named(g, "torch._utils", "_rebuild_tensor_v3");
	return m->storage && m->cpu && m->hooks && m->untyped && m->rebuild[0] && m->rebuild[1]
		       ? 0
		       : wf_tensor_maker_full(g, err);
}

/* The class of a dtype's storage, and for one without any the dtype itself. */
static bool make_dtype(struct wf_tensor_maker *m, enum wf_dtype dtype)
{
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	if (m->classes[dtype] != WF_NIL)
		return true;
	m->classes[dtype] = info->storage_class ? wf_global_named(m->g, "torch", info->storage_class) : m->untyped;
	if (!info->storage_class)
		m->dtypes[dtype] = wf_global_named(m->g, "torch", info->name);
	return m->classes[dtype] && (info->storage_class || m->dtypes[dtype]);
}

static wf_ref make_storage(struct wf_tensor_maker *m, enum wf_dtype dtype, const char *key, int64_t numel)
{
	const wf_ref id[] = {m->storage, m->classes[dtype], wf_str(m->g, key), m->cpu, wf_int(m->g, numel)};
	wf_ref tuple = id[2] && id[4] ? wf_tuple(m->g, id, WF_ARRAY_SIZE(id)) : WF_NIL;
	return tuple ? wf_persid(m->g, tuple) : WF_NIL;
}

/* Sizes, and behind them strides; of an empty tensor as torch counts them. */
static int make_shape(struct wf_tensor_maker *m, const int64_t *sizes, uint32_t ndim, const char *name, wf_ref *ret,
		      struct wf_error *err)
{
	int64_t step = 1;
	for (uint32_t i = ndim; i-- > 0;) {
		ret[i] = wf_int(m->g, sizes[i]);
		ret[ndim + i] = wf_int(m->g, step);
		if (ret[i] == WF_NIL || ret[ndim + i] == WF_NIL)
			return wf_tensor_maker_full(m->g, err);
		if (__builtin_mul_overflow(step, WF_MAX(sizes[i], 1), &step))
			return wf_fail_at(err, -EOPNOTSUPP, name, WF_ERROR_NO_OFFSET,
					  "its strides pass 2^63, which torch does not have");
	}
	return 0;
}

/* The call and its arguments one by one: what does not fit a packed tensor. */
static wf_ref make_call(struct wf_tensor_maker *m, enum wf_dtype dtype, const char *key, int64_t numel, uint32_t ndim,
			const wf_ref *shape)
{
	bool v3 = m->dtypes[dtype] != WF_NIL;
	wf_ref args[] = {make_storage(m, dtype, key, numel),
			 wf_int(m->g, 0),
			 wf_tuple(m->g, shape, ndim),
			 wf_tuple(m->g, shape + ndim, ndim),
			 m->no,
			 m->hooks,
			 m->dtypes[dtype]};
	if (!args[0] || !args[2] || !args[3])
		return WF_NIL;
	wf_ref tuple = wf_tuple(m->g, args, v3 ? 7 : 6);
	return tuple ? wf_call(m->g, WF_CALL_REDUCE, m->rebuild[v3], tuple, WF_NIL) : WF_NIL;
}

int wf_tensor_maker_make(struct wf_tensor_maker *m, enum wf_dtype dtype, const char *key, const int64_t *sizes,
			 uint32_t ndim, uint64_t bytes, const char *name, wf_ref *ret, struct wf_error *err)
{
	wf_ref shape[2 * WF_MAX_NDIM];
	if (!make_dtype(m, dtype))
		return wf_tensor_maker_full(m->g, err);
	int r = make_shape(m, sizes, ndim, name, shape, err);
	if (r < 0)
		return r;
	bool v3 = m->dtypes[dtype] != WF_NIL;
	int64_t numel = (int64_t)(bytes / (v3 ? 1 : wf_dtype_info(dtype)->size_bytes));
	const struct wf_packed_parts parts = {.func = m->rebuild[0],
					      .hooks_func = wf_call_func(m->g, m->hooks),
					      .storage = m->storage,
					      .class = m->classes[dtype],
					      .location = m->cpu,
					      .numel = wf_int(m->g, numel),
					      .offset = wf_int(m->g, 0),
					      .requires_grad = m->no,
					      .key = key,
					      .key_len = strlen(key),
					      .ndim = ndim,
					      .shape = shape};
	*ret = v3 ? WF_NIL : wf_packed_tensor(m->g, &parts);
	if (*ret == WF_NIL && !wf_graph_failed(m->g))
		*ret = make_call(m, dtype, key, numel, ndim, shape);
	return *ret ? 0 : wf_tensor_maker_full(m->g, err);
}
