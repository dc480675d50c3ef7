#include "tensor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensor_inner.h"
#include "util.h"

#define MAX_WRAPPERS \
	16 /* Parameter around a subclass around a device copy ...; more is no checkpoint that torch wrote */

/* ---- recognising ---- */

enum wf_rebuild wf_rebuild_of_func(const struct wf_graph *g, wf_ref func)
{
	static const struct {
		const char *name;
		enum wf_rebuild rebuild;
	} names[] = {
		{"_rebuild_tensor_v2", WF_REBUILD_V2},
		{"_rebuild_tensor", WF_REBUILD_V1},
		{"_rebuild_tensor_v3", WF_REBUILD_V3},
		{"_rebuild_parameter", WF_REBUILD_PARAMETER},
		{"_rebuild_parameter_with_state", WF_REBUILD_PARAMETER},
		{"_rebuild_qtensor", WF_REBUILD_QUANTISED},
		{"_rebuild_meta_tensor_no_storage", WF_REBUILD_META},
		{"_rebuild_wrapper_subclass", WF_REBUILD_WRAPPER},
		{"_rebuild_device_tensor_from_cpu_tensor", WF_REBUILD_FROM_CPU},
		{"_rebuild_device_tensor_from_numpy", WF_REBUILD_FROM_NUMPY},
		{"_rebuild_xla_tensor", WF_REBUILD_FROM_NUMPY},
		{"_rebuild_sparse_tensor", WF_REBUILD_SPARSE},
		{"_rebuild_sparse_csr_tensor", WF_REBUILD_SPARSE},
		{"_rebuild_nested_tensor", WF_REBUILD_NESTED},
	};
	const char *module = wf_global_module(g, func), *name = wf_global_name(g, func);
	if (!strcmp(module, "torch._utils")) {
		for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++)
			if (!strcmp(names[i].name, name))
				return names[i].rebuild;
		return WF_REBUILD_NONE;
	}
	if (!strcmp(module, "torch._tensor") || !strcmp(module, "torch.tensor"))
		return !strcmp(name, "_rebuild_from_type_v2") || !strcmp(name, "_rebuild_from_type")
			       ? WF_REBUILD_FROM_TYPE
			       : WF_REBUILD_NONE;
	if (!strcmp(module, "torch.nn.parameter") && (!strcmp(name, "Parameter") || !strcmp(name, "Buffer")))
		return WF_REBUILD_PARAMETER;
	return WF_REBUILD_NONE;
}

/* torch.FloatTensor, torch.cuda.FloatTensor and torch.Tensor with the state of 0.1: (storage, offset, size, stride) */
static bool is_old_tensor(const struct wf_graph *g, wf_ref r)
{
	wf_ref func = wf_call_func(g, r), state = wf_call_state(g, r);
	uint32_t n;
	if (strcmp(wf_global_module(g, func), "torch") != 0 && strcmp(wf_global_module(g, func), "torch.cuda") != 0)
		return false;
	const wf_ref *e = wf_elements(g, state, &n);
	return n == 4 && wf_is(g, e[0], WF_PERSID) &&
	       (!strcmp(wf_global_name(g, func), "Tensor") ||
		wf_dtype_from_tensor_class(wf_global_name(g, func)) != WF_DTYPE_INVALID);
}

enum wf_rebuild wf_rebuild_of(const struct wf_graph *g, wf_ref r)
{
	if (!wf_is(g, r, WF_CALL))
		return WF_REBUILD_NONE;
	enum wf_rebuild rebuild = wf_rebuild_of_func(g, wf_call_func(g, r));
	if (rebuild != WF_REBUILD_NONE)
		return rebuild;
	if (wf_numpy_data(g, r) != WF_NIL)
		return WF_REBUILD_NUMPY;
	return is_old_tensor(g, r) ? WF_REBUILD_OLD_TENSOR : WF_REBUILD_NONE;
}

static bool is_storage(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_PERSID) && wf_str_equal(g, wf_element(g, wf_persid_id(g, r), 0), "storage");
}

static bool per_channel(const struct wf_graph *g, wf_ref quantizer)
{
	return !strncmp(wf_global_name(g, wf_element(g, quantizer, 0)), "per_channel", 11);
}

bool wf_is_tensor(const struct wf_graph *g, wf_ref r)
{
	for (int depth = 0; depth < MAX_WRAPPERS; depth++) {
		wf_ref args = wf_call_args(g, r);
		enum wf_rebuild rebuild = wf_rebuild_of(g, r);
		if (rebuild == WF_REBUILD_FROM_TYPE) {
			rebuild = wf_rebuild_of_func(g, wf_element(g, args, 0));
			args = wf_element(g, args, 2);
		}
		switch (rebuild) {
		case WF_REBUILD_NONE:
			return is_storage(g, r);
		case WF_REBUILD_SPARSE:
		case WF_REBUILD_NESTED:
		case WF_REBUILD_FROM_TYPE:
			return false;
		case WF_REBUILD_QUANTISED:
			return !per_channel(g, wf_element(g, args, 4));
		case WF_REBUILD_PARAMETER:
		case WF_REBUILD_FROM_CPU:
		case WF_REBUILD_FROM_NUMPY:
			r = wf_element(g, args, 0);
			break;
		default:
			return true;
		}
	}
	return false;
}

static uint32_t components(const struct wf_graph *g, wf_ref data, const char *const names[], uint32_t n,
			   const char *ret_names[5], wf_ref ret_objects[5])
{
	for (uint32_t i = 0; i < n; i++) {
		ret_names[i] = names[i];
		ret_objects[i] = wf_element(g, data, i);
		if (ret_objects[i] == WF_NIL || !wf_is_tensor(g, ret_objects[i]))
			return 0;
	}
	return n;
}

static uint32_t sparse_components(const struct wf_graph *g, wf_ref r, const char *ret_names[5], wf_ref ret_objects[5])
{
	static const char *const coo[] = {"indices", "values"};
	static const char *const rows[] = {"crow_indices", "col_indices", "values"};
	static const char *const columns[] = {"ccol_indices", "row_indices", "values"};
	wf_ref args = wf_call_args(g, r), layout = wf_element(g, args, 0), data = wf_element(g, args, 1);
	size_t len;
	if (!strcmp(wf_global_name(g, wf_call_func(g, r)), "_rebuild_sparse_csr_tensor"))
		return components(g, data, rows, 3, ret_names, ret_objects);
	/* _get_layout('torch.sparse_coo'); a bare string where an old writer left it */
	wf_ref name = wf_is(g, layout, WF_CALL) ? wf_element(g, wf_call_args(g, layout), 0) : layout;
	const char *text = wf_is(g, name, WF_STR) || wf_is(g, name, WF_PYSTR) ? wf_bytes(g, name, &len) : NULL;
	if (!text)
		return 0;
	if (!strcmp(text, "torch.sparse_coo"))
		return components(g, data, coo, 2, ret_names, ret_objects);
	if (!strcmp(text, "torch.sparse_csr") || !strcmp(text, "torch.sparse_bsr"))
		return components(g, data, rows, 3, ret_names, ret_objects);
	if (!strcmp(text, "torch.sparse_csc") || !strcmp(text, "torch.sparse_bsc"))
		return components(g, data, columns, 3, ret_names, ret_objects);
	return 0;
}

uint32_t wf_tensor_components(const struct wf_graph *g, wf_ref r, const char *ret_names[5], wf_ref ret_objects[5])
{
	static const char *const nested[] = {"buffer", "sizes", "strides", "offsets"};
	wf_ref args = wf_call_args(g, r);
	for (int depth = 0; depth < MAX_WRAPPERS && wf_rebuild_of(g, r) == WF_REBUILD_PARAMETER; depth++) {
		r = wf_element(g, args, 0);
		args = wf_call_args(g, r);
	}
	switch (wf_rebuild_of(g, r)) {
	case WF_REBUILD_SPARSE:
		return sparse_components(g, r, ret_names, ret_objects);
	case WF_REBUILD_NESTED:
		return components(g, args, nested, 4, ret_names, ret_objects);
	case WF_REBUILD_QUANTISED: {
		wf_ref quantizer = wf_element(g, args, 4);
		wf_ref scales = wf_element(g, quantizer, 1), zero_points = wf_element(g, quantizer, 2);
		/* old files hold lists of numbers instead of tensors: then only the integers are a tensor */
		if (!per_channel(g, quantizer) || !wf_is_tensor(g, scales) || !wf_is_tensor(g, zero_points))
			return 0;
		ret_names[0] = "int_repr";
		ret_names[1] = "scales";
		ret_names[2] = "zero_points";
		ret_objects[0] = r;
		ret_objects[1] = scales;
		ret_objects[2] = zero_points;
		return 3;
	}
	default:
		return 0;
	}
}

/* ---- decoding ---- */

int wf_int_tuple(const struct wf_graph *g, wf_ref r, int64_t ret[WF_MAX_NDIM])
{
	uint32_t n;
	if (wf_call_is(g, r, "torch", "Size"))
		r = wf_element(g, wf_call_args(g, r), 0);
	if (!wf_is(g, r, WF_TUPLE) && !wf_is(g, r, WF_LIST))
		return -1;
	const wf_ref *e = wf_elements(g, r, &n);
	if (n > WF_MAX_NDIM)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		if (!wf_int_value(g, e[i], &ret[i]) || ret[i] < 0)
			return -1;
	return (int)n;
}

static int read_shape(const struct wf_graph *g, wf_ref size, wf_ref stride, struct wf_tensor *t, struct wf_error *err)
{
	int ndim = wf_int_tuple(g, size, t->shape);
	if (ndim < 0)
		return wf_fail(err, -EUCLEAN, "its size is not a tuple of at most %d sizes of 0 or more", WF_MAX_NDIM);
	if (wf_int_tuple(g, stride, t->stride) != ndim)
		return wf_fail(err, -EUCLEAN, "its stride is not a tuple of %d steps of 0 or more", ndim);
	t->ndim = (uint32_t)ndim;
	return 0;
}

/* storage, offset, size and stride, the first four arguments of every strided form */
static int read_strided(const struct wf_graph *g, const struct wf_storages *ss, const wf_ref *e, uint32_t n,
			struct wf_tensor *t, struct wf_error *err)
{
	int64_t offset;
	if (n < 4 || !is_storage(g, e[0]))
		return wf_fail(err, -EUCLEAN, "its first argument is not a storage");
	t->storage = wf_storage_of(ss, e[0]);
	if (t->storage == WF_NO_STORAGE)
		return wf_fail(err, -EUCLEAN, "its storage has no valid id");
	if (!wf_int_value(g, e[1], &offset) || offset < 0)
		return wf_fail(err, -EUCLEAN, "its storage offset is not an int of 0 or more");
	t->offset_elems = (uint64_t)offset;
	t->dtype = wf_storage_get(ss, t->storage)->dtype;
	/* the legacy format's view of a storage: offsets of the tensor count from there (formats written before 0.4) */
	wf_ref view = wf_element(g, wf_persid_id(g, e[0]), 5);
	int64_t view_offset;
	if (wf_is(g, view, WF_TUPLE)) {
		if (!wf_int_value(g, wf_element(g, view, 1), &view_offset) || view_offset < 0 ||
		    wf_add_u64(t->offset_elems, (uint64_t)view_offset, &t->offset_elems))
			return wf_fail(err, -EUCLEAN, "its storage view has no valid offset");
	}
	return read_shape(g, e[2], e[3], t, err);
}

static void read_metadata(const struct wf_graph *g, wf_ref metadata, struct wf_tensor *t)
{
	t->conj = wf_bool_value(g, wf_dict_get(g, metadata, "conj"));
	t->neg = wf_bool_value(g, wf_dict_get(g, metadata, "neg"));
}

static int read_meta(const struct wf_graph *g, wf_ref dtype, wf_ref size, wf_ref stride, wf_ref requires_grad,
		     struct wf_tensor *t, struct wf_error *err)
{
	t->kind = WF_TENSOR_META;
	t->dtype = wf_dtype_from_global(g, dtype);
	t->requires_grad = wf_bool_value(g, requires_grad);
	if (t->dtype == WF_DTYPE_INVALID)
		return wf_fail(err, -EUCLEAN, "its dtype is not one of torch's");
	return read_shape(g, size, stride, t, err);
}

/* The innermost form: fills all but what finish() derives. */
static int read_form(const struct wf_graph *g, const struct wf_storages *ss, enum wf_rebuild rebuild, wf_ref args,
		     struct wf_tensor *t, struct wf_error *err)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, args, &n);
	int r;
	switch (rebuild) {
	case WF_REBUILD_V1:
	case WF_REBUILD_OLD_TENSOR:
		return read_strided(g, ss, e, n, t, err);
	case WF_REBUILD_V2:
		if (n < 6 || n > 7)
			return wf_fail(err, -EUCLEAN, "_rebuild_tensor_v2 takes 6 or 7 arguments, not %u", n);
		t->requires_grad |= wf_bool_value(g, e[4]);
		read_metadata(g, n > 6 ? e[6] : WF_NIL, t);
		return read_strided(g, ss, e, n, t, err);
	case WF_REBUILD_V3:
		if (n < 7 || n > 8)
			return wf_fail(err, -EUCLEAN, "_rebuild_tensor_v3 takes 7 or 8 arguments, not %u", n);
		t->requires_grad |= wf_bool_value(g, e[4]);
		read_metadata(g, n > 7 ? e[7] : WF_NIL, t);
		r = read_strided(g, ss, e, n, t, err);
		t->dtype = wf_dtype_from_global(g, e[6]);
		if (r == 0 && t->dtype == WF_DTYPE_INVALID)
			return wf_fail(err, -EUCLEAN, "its dtype is not one of torch's");
		return r;
	case WF_REBUILD_QUANTISED:
		if (n != 7)
			return wf_fail(err, -EUCLEAN, "_rebuild_qtensor takes 7 arguments, not %u", n);
		t->quantizer = e[4];
		t->requires_grad |= wf_bool_value(g, e[5]);
		r = read_strided(g, ss, e, n, t, err);
		if (r == 0 && !wf_dtype_info(t->dtype)->quantised)
			return wf_fail(err, -EUCLEAN, "a quantised tensor over a storage of %s",
				       wf_dtype_info(t->dtype)->name);
		return r;
	case WF_REBUILD_META:
		return n == 4 ? read_meta(g, e[0], e[1], e[2], e[3], t, err)
			      : wf_fail(err, -EUCLEAN, "a meta tensor takes 4 arguments, not %u", n);
	case WF_REBUILD_WRAPPER:
		if (n < 8)
			return wf_fail(err, -EUCLEAN, "_rebuild_wrapper_subclass takes 8 arguments, not %u", n);
		t->type = e[0];
		return read_meta(g, e[1], e[2], e[3], e[7], t, err);
	default:
		return wf_fail(err, -EINVAL, "not a tensor");
	}
}

/* What follows from dtype, shape and stride; and the proof that the view lies in its storage. */
static int finish(const struct wf_storages *ss, struct wf_tensor *t, struct wf_error *err)
{
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	uint64_t numel = 1, expected = 1, last = t->offset_elems, step;
	bool empty = false, overflow = false;
	for (uint32_t d = 0; d < t->ndim; d++)
		empty |= t->shape[d] == 0;
	for (uint32_t d = 0; d < t->ndim && !empty; d++) {
		overflow |= wf_mul_u64(numel, (uint64_t)t->shape[d], &numel);
		overflow |= wf_mul_u64((uint64_t)t->shape[d] - 1, (uint64_t)t->stride[d], &step);
		overflow |= wf_add_u64(last, step, &last);
	}
	t->numel = empty ? 0 : numel;
	/* packed dtypes count values in their shape and bytes in their storage: the file has the bytes */
	uint64_t elems = (t->numel + info->values_per_byte - 1) / info->values_per_byte;
	if (overflow || wf_mul_u64(elems, info->size_bytes, &t->size_bytes) || t->size_bytes > INT64_MAX)
		return wf_fail(err, -EUCLEAN, "its sizes multiply past any file");
	t->contiguous = true;
	for (uint32_t d = t->ndim; d-- > 0 && !empty;) {
		t->contiguous &= t->shape[d] == 1 || (uint64_t)t->stride[d] == expected;
		expected *= (uint64_t)t->shape[d];
	}
	if (t->kind == WF_TENSOR_META)
		return 0;
	const struct wf_storage *s = wf_storage_get(ss, t->storage);
	if (!s)
		return wf_fail(err, -EUCLEAN, "its storage has no valid id");
	if (s->bad)
		return wf_fail(err, s->bad, "%s", wf_storage_problem(ss, t->storage));
	if (info->values_per_byte > 1 && !t->contiguous)
		return wf_fail(err, -EOPNOTSUPP, "a strided view of packed %s elements", info->name);
	uint64_t end = 0;
	if (!empty && (wf_add_u64(last / info->values_per_byte, 1, &end) || wf_mul_u64(end, info->size_bytes, &end) ||
		       end > s->size_bytes))
		return wf_fail(err, -EUCLEAN, "its view ends at byte %llu of a storage of %llu bytes",
			       (unsigned long long)end, (unsigned long long)s->size_bytes);
	return 0;
}

/* A storage by itself: one dimension of all its elements. */
static int read_storage(const struct wf_storages *ss, wf_ref r, struct wf_tensor *t, struct wf_error *err)
{
	t->kind = WF_TENSOR_STORAGE;
	t->storage = wf_storage_of(ss, r);
	t->rebuild = r;
	const struct wf_storage *s = wf_storage_get(ss, t->storage);
	if (!s)
		return wf_fail(err, -EUCLEAN, "its storage has no valid id");
	t->dtype = s->dtype;
	t->ndim = 1;
	t->shape[0] = (int64_t)(s->size_bytes / wf_dtype_info(t->dtype)->size_bytes);
	if (wf_dtype_info(t->dtype)->values_per_byte > 1) /* counted in bytes here */
		t->shape[0] *= wf_dtype_info(t->dtype)->values_per_byte;
	t->stride[0] = 1;
	return finish(ss, t, err);
}

int wf_tensor_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *ret,
		     struct wf_error *err)
{
	/* shape and stride are written as far as ndim reaches: clearing 1 KiB for each stat would cost more than the
	 * decoding */
	struct wf_tensor *t = ret;
	memset(t, 0, offsetof(struct wf_tensor, shape));
	memset(&t->contiguous, 0, sizeof *t - offsetof(struct wf_tensor, contiguous));
	t->storage = WF_NO_STORAGE;
	t->object = r;
	for (int depth = 0; depth < MAX_WRAPPERS; depth++) {
		enum wf_rebuild rebuild = wf_rebuild_of(g, r);
		wf_ref args = rebuild == WF_REBUILD_OLD_TENSOR ? wf_call_state(g, r) : wf_call_args(g, r);
		t->rebuild = r;
		if (rebuild == WF_REBUILD_NONE)
			return is_storage(g, r) ? read_storage(ss, r, t, err) : wf_fail(err, -EINVAL, "not a tensor");
		if (rebuild == WF_REBUILD_FROM_TYPE) {
			if (t->type == WF_NIL)
				t->type = wf_class_of(g, wf_element(g, args, 1));
			rebuild = wf_rebuild_of_func(g, wf_element(g, args, 0));
			args = wf_element(g, args, 2);
		}
		if (rebuild == WF_REBUILD_PARAMETER || rebuild == WF_REBUILD_FROM_CPU ||
		    rebuild == WF_REBUILD_FROM_NUMPY) {
			t->parameter |= rebuild == WF_REBUILD_PARAMETER;
			t->requires_grad |=
				wf_bool_value(g, wf_element(g, args, rebuild == WF_REBUILD_PARAMETER ? 1 : 3));
			r = wf_element(g, args, 0);
			if (r == WF_NIL)
				return wf_fail(err, -EUCLEAN, "a wrapper around no tensor");
			continue;
		}
		int failed = rebuild == WF_REBUILD_NUMPY ? wf_numpy_decode(g, ss, r, t, err)
							 : read_form(g, ss, rebuild, args, t, err);
		return failed < 0 ? failed : finish(ss, t, err);
	}
	return wf_fail(err, -EUCLEAN, "more than %d wrappers around one tensor", MAX_WRAPPERS);
}

void wf_tensor_class(const struct wf_graph *g, const struct wf_tensor *t, char *buf, size_t size)
{
	wf_ref type = t->type;
	if (t->kind == WF_TENSOR_STORAGE)
		type = wf_class_of(g, wf_element(g, wf_persid_id(g, t->rebuild), 1));
	if (type != WF_NIL && wf_is(g, type, WF_GLOBAL))
		snprintf(buf, size, "%s.%s", wf_global_module(g, type), wf_global_name(g, type));
	else
		snprintf(buf, size, "%s",
			 t->kind == WF_TENSOR_NUMPY && t->object == t->rebuild ? "numpy.ndarray"
			 : t->parameter                                        ? "torch.nn.parameter.Parameter"
									       : "torch.Tensor");
}

bool wf_tensor_tied(const struct wf_tensor *a, const struct wf_tensor *b)
{
	return a->kind != WF_TENSOR_META && b->kind != WF_TENSOR_META && a->storage == b->storage &&
	       a->dtype == b->dtype && a->offset_elems == b->offset_elems && a->ndim == b->ndim && a->conj == b->conj &&
	       a->neg == b->neg && a->swap == b->swap && !memcmp(a->shape, b->shape, a->ndim * sizeof a->shape[0]) &&
	       !memcmp(a->stride, b->stride, a->ndim * sizeof a->stride[0]);
}

uint64_t wf_tensor_tie_hash(const struct wf_tensor *t)
{
	uint64_t head[3] = {t->storage, t->offset_elems, (uint64_t)t->dtype << 8 | t->ndim};
	return wf_hash_bytes(t->shape, t->ndim * sizeof t->shape[0], wf_hash_bytes(head, sizeof head, 0));
}
