/* SPDX-License-Identifier: MIT */
/* Tensors that have parts: told by a text, and made of both again. The calls are those that torch's own __reduce_ex__ writes. */
#include "codec/tensor/assembly.h"

#include <errno.h>
#include <string.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"
#include "codec/tensor/inner.h"

/* ---- the text ---- */

static int text_of_sparse(const struct wf_graph *g, wf_ref r, const struct wf_form *f, struct wf_buffer *out)
{
	const char *names[WF_ASSEMBLY_PARTS];
	wf_ref parts[WF_ASSEMBLY_PARTS], data = wf_element(g, f->args, 1), layout = wf_element(g, f->args, 0);
	int64_t shape[WF_MAX_NDIM];
	uint32_t n = wf_tensor_components(g, r, names, parts), total;
	wf_ref name = wf_is(g, layout, WF_CALL) ? wf_element(g, wf_call_args(g, layout), 0) : layout;
	bool coo = wf_str_equal(g, name, "torch.sparse_coo");
	const char *text = wf_bytes(g, name, NULL);
	int ndim = wf_int_tuple(g, wf_element(g, data, coo ? 2 : 3), shape);
	wf_elements(g, data, &total);
	if (!text || ndim < 0 || n != (coo ? 2u : 3u) || total > 4)
		return -ENODATA;
	wf_buffer_putc(out, '[');
	wf_json_string(out, text, strlen(text));
	wf_buffer_puts(out, ", ");
	wf_json_ints(out, shape, (uint32_t)ndim);
	if (coo && total == 4)
		wf_buffer_puts(out, wf_bool_value(g, wf_element(g, data, 3)) ? ", true" : ", false");
	wf_buffer_putc(out, ']');
	return 0;
}

static int text_of_quantised(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, const struct wf_form *f,
			     struct wf_buffer *out)
{
	struct wf_tensor t;
	wf_ref quantizer = wf_element(g, f->args, 4);
	int64_t axis;
	uint32_t n;
	wf_elements(g, quantizer, &n);
	if (n != 4 || !wf_is_tensor(g, wf_element(g, quantizer, 1)) || !wf_is_tensor(g, wf_element(g, quantizer, 2)) ||
	    !wf_int_value(g, wf_element(g, quantizer, 3), &axis) || wf_tensor_decode(g, ss, r, &t, NULL) < 0 ||
	    t.requires_grad)
		return -ENODATA;
	wf_buffer_printf(out, "[\"%s\", \"%s\", %lld]", wf_global_name(g, wf_element(g, quantizer, 0)),
			 wf_dtype_info(t.dtype)->name, (long long)axis);
	return 0;
}

static int text_of(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_buffer *out)
{
	const char *names[WF_ASSEMBLY_PARTS];
	wf_ref parts[WF_ASSEMBLY_PARTS];
	struct wf_form f = wf_form_of(g, r);
	if (f.from_type || wf_call_state(g, r) != WF_NIL)
		return -ENODATA;
	switch (f.rebuild) {
	case WF_REBUILD_SPARSE:
		return text_of_sparse(g, r, &f, out);
	case WF_REBUILD_NESTED:
		if (wf_tensor_components(g, r, names, parts) != 4)
			return -ENODATA;
		wf_buffer_puts(out, "[\"nested\"]");
		return 0;
	case WF_REBUILD_QUANTISED:
		return text_of_quantised(g, ss, r, &f, out);
	default:
		return -ENODATA;
	}
}

int wf_assembly_text(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_buffer *out)
{
	const char *names[WF_ASSEMBLY_PARTS];
	wf_ref parts[WF_ASSEMBLY_PARTS];
	struct wf_form f = wf_form_of(g, r);
	if (wf_tensor_components(g, r, names, parts) == 0)
		return -ENODATA;
	if (f.rebuild != WF_REBUILD_PARAMETER)
		return text_of(g, ss, r, out);
	if (f.from_type || wf_call_state(g, r) != WF_NIL || !wf_call_is(g, r, "torch._utils", "_rebuild_parameter"))
		return -ENODATA;
	struct wf_buffer inner = WF_BUFFER_INIT;
	wf_ref tensor = wf_form_inner(g, r, &f);
	/* of what is quantised int_repr stands for the tensor itself, which is not the Parameter */
	int failed = wf_form_of(g, tensor).rebuild == WF_REBUILD_QUANTISED ? -ENODATA : text_of(g, ss, tensor, &inner);
	if (failed == 0 && wf_buffer_status(&inner) == 0)
		wf_buffer_printf(out, "[\"parameter\", %s, %s]",
				 wf_bool_value(g, wf_element(g, f.args, 1)) ? "true" : "false", inner.data);
	wf_buffer_free(&inner);
	return failed;
}

/* ---- the tensor ---- */

/* What is made, and of what. */
struct making {
	struct wf_graph *g;
	struct wf_storages *ss;
	const char *const *names;
	const wf_ref *objects;
	uint32_t n;
	const char *why;
};

static int refuse(struct making *m, const char *why)
{
	m->why = why;
	return -EINVAL;
}

static int call(struct making *m, const char *module, const char *name, const wf_ref *args, uint32_t n, wf_ref *ret)
{
	for (uint32_t i = 0; i < n; i++)
		if (args[i] == WF_NIL)
			return -ENOMEM;
	wf_ref func = wf_global_named(m->g, module, name), tuple = wf_tuple(m->g, args, n);
	*ret = func == WF_NIL || tuple == WF_NIL ? WF_NIL : wf_call(m->g, WF_CALL_REDUCE, func, tuple, WF_NIL);
	return *ret == WF_NIL ? -ENOMEM : 0;
}

/* The parts under these names, which are all that there are, plain tensors each. */
static int take(struct making *m, const char *const *names, uint32_t n, wf_ref *ret, struct wf_tensor *ret_tensors)
{
	if (m->n != n)
		return refuse(m, "it has not the parts of such a tensor, and these alone");
	for (uint32_t i = 0; i < n; i++) {
		ret[i] = WF_NIL;
		for (uint32_t k = 0; k < n; k++)
			if (!strcmp(m->names[k], names[i]))
				ret[i] = m->objects[k];
		if (ret[i] == WF_NIL)
			return refuse(m, "it has not the parts of such a tensor, and these alone");
		if (wf_tensor_decode(m->g, m->ss, ret[i], &ret_tensors[i], NULL) < 0 ||
		    ret_tensors[i].kind != WF_TENSOR_DENSE || ret_tensors[i].type != WF_NIL ||
		    ret_tensors[i].parameter || wf_dtype_info(ret_tensors[i].dtype)->quantised)
			return refuse(m, "its parts are plain tensors, and one of these is none");
	}
	return 0;
}

static bool is_index(const struct wf_tensor *t)
{
	return t->dtype == WF_INT64 || t->dtype == WF_INT32;
}

/* The sizes behind a number of dimensions are the last ones of the shape. */
static bool ends_like(const struct wf_tensor *t, uint32_t from, const int64_t *shape, uint32_t ndim)
{
	uint32_t dense = t->ndim - from;
	return t->ndim >= from && dense <= ndim &&
	       !memcmp(t->shape + from, shape + ndim - dense, dense * sizeof *shape);
}

static bool coo_fits(const struct wf_tensor t[2], const int64_t *shape, uint32_t ndim)
{
	return t[0].dtype == WF_INT64 && t[0].ndim == 2 && t[1].ndim >= 1 && t[0].shape[1] == t[1].shape[0] &&
	       (uint64_t)t[0].shape[0] + (t[1].ndim - 1) == ndim && ends_like(&t[1], 1, shape, ndim);
}

/* t: of the compressed dimension, of the other one, values. Those have two dimensions more where they are blocks. */
static bool compressed_fits(const struct wf_tensor t[3], const int64_t *shape, uint32_t ndim, bool columns, bool blocks)
{
	uint32_t batch = t[0].ndim - 1, dense = batch + 1 + (blocks ? 2 : 0);
	if (!is_index(&t[0]) || t[0].dtype != t[1].dtype || t[0].ndim == 0 || t[1].ndim != t[0].ndim ||
	    t[2].ndim < dense || ndim != batch + 2 + (t[2].ndim - dense) || t[1].shape[batch] != t[2].shape[batch] ||
	    !ends_like(&t[2], dense, shape, ndim))
		return false;
	for (uint32_t i = 0; i < batch; i++)
		if (t[0].shape[i] != shape[i] || t[1].shape[i] != shape[i] || t[2].shape[i] != shape[i])
			return false;
	int64_t size = shape[batch + columns], block = blocks ? t[2].shape[batch + 1 + columns] : 1;
	int64_t across = shape[batch + !columns], block_across = blocks ? t[2].shape[batch + 1 + !columns] : 1;
	return block > 0 && block_across > 0 && size % block == 0 && across % block_across == 0 &&
	       t[0].shape[batch] == size / block + 1;
}

static int make_sparse(struct making *m, wf_ref what, const char *layout, wf_ref *ret)
{
	static const char *const coo[] = {"indices", "values"};
	static const char *const rows[] = {"crow_indices", "col_indices", "values"};
	static const char *const columns[] = {"ccol_indices", "row_indices", "values"};
	struct wf_tensor t[3];
	wf_ref parts[5], size = WF_NIL, kind = WF_NIL, sizes[WF_MAX_NDIM];
	int64_t shape[WF_MAX_NDIM];
	int ndim = wf_int_tuple(m->g, wf_element(m->g, what, 1), shape);
	wf_ref coalesced = wf_element(m->g, what, 2), name = wf_str(m->g, layout);
	bool is_coo = !strcmp(layout, "torch.sparse_coo"), blocks = strstr(layout, "_bs") != NULL,
	     by_columns = layout[strlen(layout) - 1] == 'c';
	uint32_t n = is_coo ? 2 : 3;
	if (ndim < 0 || (coalesced != WF_NIL && (!is_coo || !wf_is(m->g, coalesced, WF_BOOL))))
		return refuse(m, "the text that tells which tensor it is has no such shape");
	int r = take(m, is_coo ? coo : by_columns ? columns : rows, n, parts, t);
	if (r == 0 && !(is_coo ? coo_fits(t, shape, (uint32_t)ndim)
			       : compressed_fits(t, shape, (uint32_t)ndim, by_columns, blocks)))
		r = refuse(m, "its parts have not the dtypes and shapes of such a tensor");
	for (int i = 0; r == 0 && i < ndim; i++)
		if ((sizes[i] = wf_int(m->g, shape[i])) == WF_NIL)
			r = -ENOMEM;
	wf_ref tuple = r == 0 ? wf_tuple(m->g, sizes, (uint32_t)ndim) : WF_NIL;
	if (r == 0)
		r = call(m, "torch", "Size", &tuple, 1, &size);
	if (r == 0)
		r = call(m, "torch.serialization", "_get_layout", &name, 1, &kind);
	if (r < 0)
		return r;
	parts[n] = size;
	parts[n + 1] = coalesced;
	wf_ref args[2] = {kind, wf_tuple(m->g, parts, n + (coalesced == WF_NIL ? 1 : 2))};
	return call(m, "torch._utils", "_rebuild_sparse_tensor", args, 2, ret);
}

static int make_nested(struct making *m, wf_ref *ret)
{
	static const char *const names[] = {"buffer", "sizes", "strides", "offsets"};
	struct wf_tensor t[4];
	wf_ref parts[4];
	int r = take(m, names, 4, parts, t);
	if (r < 0)
		return r;
	if (t[0].ndim != 1 || t[1].dtype != WF_INT64 || t[2].dtype != WF_INT64 || t[3].dtype != WF_INT64 ||
	    t[1].ndim != 2 || t[2].ndim != 2 || memcmp(t[1].shape, t[2].shape, 2 * sizeof *t[1].shape) != 0 ||
	    t[3].ndim != 1 || t[3].shape[0] != t[1].shape[0])
		return refuse(m, "its parts have not the dtypes and shapes of such a tensor");
	return call(m, "torch._utils", "_rebuild_nested_tensor", parts, 4, ret);
}

enum wf_dtype wf_assembly_integers(enum wf_dtype dtype)
{
	switch (dtype) {
	case WF_QINT8:
		return WF_INT8;
	case WF_QUINT8:
		return WF_UINT8;
	case WF_QINT32:
		return WF_INT32;
	default:
		return WF_DTYPE_INVALID;
	}
}

static int make_quantised(struct making *m, wf_ref what, const char *scheme, wf_ref *ret)
{
	static const char *const names[] = {"int_repr", "scales", "zero_points"};
	struct wf_tensor t[3];
	wf_ref parts[3], axis = wf_element(m->g, what, 2), text = wf_element(m->g, what, 1);
	int64_t at;
	enum wf_dtype dtype = wf_is(m->g, text, WF_STR) && wf_bytes(m->g, text, NULL)
				      ? wf_dtype_from_name(wf_bytes(m->g, text, NULL))
				      : WF_DTYPE_INVALID;
	int r = take(m, names, 3, parts, t);
	if (r < 0)
		return r;
	if (!wf_int_value(m->g, axis, &at) || at < 0 || at >= t[0].ndim || wf_assembly_integers(dtype) != t[0].dtype ||
	    t[1].ndim != 1 || t[2].ndim != 1 || t[1].shape[0] != t[0].shape[at] || t[2].shape[0] != t[0].shape[at])
		return refuse(m, "its parts have not the dtypes and shapes of such a tensor");
	if (wf_storage_get(m->ss, t[0].storage)->persids > 1)
		return refuse(m, "something else shows the bytes of int_repr");
	wf_ref quantizer[4] = {wf_global_named(m->g, "torch", scheme), parts[1], parts[2], axis};
	t[0].quantizer = quantizer[0] == WF_NIL ? WF_NIL : wf_tuple(m->g, quantizer, 4);
	t[0].dtype = dtype;
	if (t[0].quantizer == WF_NIL)
		return -ENOMEM;
	r = wf_storage_set_form(m->ss, t[0].storage, dtype, NULL);
	return r < 0 ? r : wf_tensor_make_quantised(m->g, wf_storage_get(m->ss, t[0].storage)->persid, &t[0], ret);
}

static int make_parameter(struct making *m, wf_ref what, wf_ref tensor, wf_ref *ret)
{
	wf_ref grad = wf_element(m->g, what, 1), hooks;
	int r = call(m, "collections", "OrderedDict", NULL, 0, &hooks);
	wf_ref args[3] = {tensor, grad, hooks};
	return r < 0 ? r : call(m, "torch._utils", "_rebuild_parameter", args, 3, ret);
}

static int make(struct making *m, wf_ref what, wf_ref *ret)
{
	static const char *const layouts[] = {"torch.sparse_coo", "torch.sparse_csr", "torch.sparse_csc",
					      "torch.sparse_bsr", "torch.sparse_bsc"};
	wf_ref first = wf_element(m->g, what, 0);
	for (size_t i = 0; i < WF_ARRAY_SIZE(layouts); i++)
		if (wf_str_equal(m->g, first, layouts[i]))
			return make_sparse(m, what, layouts[i], ret);
	if (wf_str_equal(m->g, first, "nested"))
		return make_nested(m, ret);
	if (wf_str_equal(m->g, first, "per_channel_affine"))
		return make_quantised(m, what, "per_channel_affine", ret);
	if (wf_str_equal(m->g, first, "per_channel_affine_float_qparams"))
		return make_quantised(m, what, "per_channel_affine_float_qparams", ret);
	return refuse(m, "the text tells of no tensor that has parts");
}

int wf_assembly_make(struct wf_graph *g, struct wf_storages *ss, wf_ref what, const char *const *names,
		     const wf_ref *objects, uint32_t n, wf_ref *ret, const char **ret_why)
{
	struct making m = {g, ss, names, objects, n, "the text tells of no tensor that has parts"};
	wf_ref made = WF_NIL;
	bool parameter = wf_str_equal(g, wf_element(g, what, 0), "parameter");
	wf_ref inner = parameter ? wf_element(g, what, 2) : what;
	const char *kind =
		wf_is(g, wf_element(g, inner, 0), WF_STR) ? wf_bytes(g, wf_element(g, inner, 0), NULL) : NULL;
	int r = parameter && (!kind || !strncmp(kind, "per_channel", 11) || !wf_is(g, wf_element(g, what, 1), WF_BOOL))
			? -EINVAL
			: make(&m, inner, &made);
	if (r == 0 && parameter)
		r = make_parameter(&m, what, made, &made);
	if (r == 0)
		*ret = made;
	else
		*ret_why = m.why;
	return r;
}
