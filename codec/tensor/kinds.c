/* SPDX-License-Identifier: MIT */
/* Recognising tensors, and what they are called, by the calls that make them. */
#include <stdio.h>
#include <string.h>

#include "codec/tensor/numpy_dtype.h"
#include "codec/tensor/inner.h"

bool wf_is_storage(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_PERSID) && wf_str_equal(g, wf_element(g, wf_persid_id(g, r), 0), "storage");
}

static bool per_channel(const struct wf_graph *g, wf_ref quantizer)
{
	return !strncmp(wf_global_name(g, wf_element(g, quantizer, 0)), "per_channel", 11);
}

/* Whether the attributes of a tensor subclass hold a tensor with bytes. They may be anything: what is nested too deep
 * or too much of is taken to hold one. */
static bool holds_tensor(const struct wf_graph *g, wf_ref r)
{
	enum { MAX = 64, LOOKS = 4096 };
	wf_ref stack[MAX];
	uint32_t depth = 0, looks = 0, n;
	struct wf_effects e;
	stack[depth++] = r;
	while (depth > 0) {
		wf_ref at = stack[--depth];
		struct wf_form f = wf_form_of(g, at);
		bool dense =
			f.rebuild != WF_REBUILD_NONE && f.rebuild != WF_REBUILD_META && f.rebuild != WF_REBUILD_WRAPPER;
		if (dense || wf_is_storage(g, at) || ++looks == LOOKS || depth + 4 > MAX)
			return true;
		const wf_ref *refs = wf_elements(g, at, &n);
		for (uint32_t i = 0; i < n; i++)
			if (wf_kind_of(g, refs[i]) >= WF_TUPLE) {
				if (depth + 4 > MAX || ++looks == LOOKS)
					return true;
				stack[depth++] = refs[i];
			}
		const struct wf_item *items = wf_items(g, at, &n);
		for (uint32_t i = 0; i < n; i++)
			if (wf_kind_of(g, items[i].value) >= WF_TUPLE) {
				if (depth + 4 > MAX || ++looks == LOOKS)
					return true;
				stack[depth++] = items[i].value;
			}
		if (!wf_is(g, at, WF_CALL))
			continue;
		stack[depth++] = wf_call_args(g, at);
		stack[depth++] = wf_call_state(g, at);
		if (wf_call_effects(g, at, 0, &e))
			stack[depth++] = e.dict != WF_NIL ? e.dict : e.list;
	}
	return false;
}

bool wf_tensor_parts_of(const struct wf_graph *g, wf_ref r, struct wf_tensor_parts *ret)
{
	*ret = (struct wf_tensor_parts){.is_tensor = wf_is_tensor(g, r)};
	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(g, r);
		wf_ref inner = wf_form_inner(g, r, &f), args = wf_call_args(g, r);
		bool state_is_data = f.rebuild == WF_REBUILD_OLD_TENSOR || f.rebuild == WF_REBUILD_VARIABLE ||
				     f.rebuild == WF_REBUILD_NUMPY;
		if (f.rebuild == WF_REBUILD_NONE && !f.from_type)
			return false;
		if ((f.from_type || f.rebuild == WF_REBUILD_PARAMETER) && ret->state == WF_NIL)
			ret->state = wf_element(g, args, 3);
		if (ret->built == WF_NIL && !state_is_data)
			ret->built = wf_call_state(g, r);
		if (inner == WF_NIL) {
			if (f.from_type && !ret->is_tensor) {
				ret->func = wf_element(g, args, 0);
				ret->args = wf_element(g, args, 2);
			}
			return ret->is_tensor || f.from_type;
		}
		r = inner;
	}
	return false;
}

bool wf_is_tensor(const struct wf_graph *g, wf_ref r)
{
	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(g, r);
		switch (f.rebuild) {
		case WF_REBUILD_NONE:
			return depth == 0 && wf_is_storage(g, r);
		case WF_REBUILD_SPARSE:
		case WF_REBUILD_NESTED:
			return false;
		case WF_REBUILD_WRAPPER:
			return !f.from_type || !holds_tensor(g, wf_element(g, wf_call_args(g, r), 3));
		case WF_REBUILD_QUANTISED:
			return !per_channel(g, wf_element(g, f.args, 4));
		case WF_REBUILD_PARAMETER:
		case WF_REBUILD_VARIABLE:
		case WF_REBUILD_FROM_CPU:
		case WF_REBUILD_FROM_NUMPY:
			r = wf_form_inner(g, r, &f);
			break;
		default:
			return true;
		}
	}
	return false;
}

/* Adds the components in `data` to the `found` ones; what is no tensor is left out (old files hold lists for scales).
 */
static uint32_t components(const struct wf_graph *g, wf_ref data, const char *const names[], uint32_t n, uint32_t found,
			   const char *ret_names[5], wf_ref ret_objects[5])
{

	for (uint32_t i = 0; i < n; i++) {
		wf_ref r = wf_element(g, data, i);
		if (r == WF_NIL || !wf_is_tensor(g, r))
			continue;
		ret_names[found] = names[i];
		ret_objects[found++] = r;
	}
	return found;
}

static uint32_t sparse_components(const struct wf_graph *g, wf_ref args, bool csr, const char *ret_names[5],
				  wf_ref ret_objects[5])
{
	static const char *const coo[] = {"indices", "values"};
	static const char *const rows[] = {"crow_indices", "col_indices", "values"};
	static const char *const columns[] = {"ccol_indices", "row_indices", "values"};
	wf_ref layout = wf_element(g, args, 0), data = wf_element(g, args, 1);
	size_t len;

	/* _rebuild_sparse_csr_tensor(layout, data) of 1.x; else the layout is _get_layout('torch.sparse_coo') */
	if (csr)
		return components(g, data, rows, 3, 0, ret_names, ret_objects);
	wf_ref name = wf_is(g, layout, WF_CALL) ? wf_element(g, wf_call_args(g, layout), 0) : layout;
	const char *text = wf_is(g, name, WF_STR) || wf_is(g, name, WF_PYSTR) ? wf_bytes(g, name, &len) : NULL;
	if (!text)
		return 0;
	if (!strcmp(text, "torch.sparse_coo"))
		return components(g, data, coo, 2, 0, ret_names, ret_objects);
	if (!strcmp(text, "torch.sparse_csr") || !strcmp(text, "torch.sparse_bsr"))
		return components(g, data, rows, 3, 0, ret_names, ret_objects);
	if (!strcmp(text, "torch.sparse_csc") || !strcmp(text, "torch.sparse_bsc"))
		return components(g, data, columns, 3, 0, ret_names, ret_objects);
	return 0;
}

uint32_t wf_tensor_components(const struct wf_graph *g, wf_ref r, const char *ret_names[5], wf_ref ret_objects[5])
{
	static const char *const nested[] = {"buffer", "sizes", "strides", "offsets"};
	static const char *const channels[] = {"", "scales", "zero_points"};

	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(g, r);
		wf_ref inner = wf_form_inner(g, r, &f);
		wf_ref func = f.from_type ? wf_element(g, wf_call_args(g, r), 0) : wf_call_func(g, r);
		switch (f.rebuild) {
		case WF_REBUILD_SPARSE:
			return sparse_components(g, f.args,
						 !strcmp(wf_global_name(g, func), "_rebuild_sparse_csr_tensor"),
						 ret_names, ret_objects);
		case WF_REBUILD_NESTED:
			return components(g, f.args, nested, 4, 0, ret_names, ret_objects);
		case WF_REBUILD_QUANTISED:
			if (!per_channel(g, wf_element(g, f.args, 4)))
				return 0;
			ret_names[0] = "int_repr";
			ret_objects[0] = r;
			return components(g, wf_element(g, f.args, 4), channels, 3, 1, ret_names, ret_objects);
		default:
			break;
		}
		if (inner == WF_NIL)
			return 0;
		r = inner;
	}
	return 0;
}

/* ---- classes ---- */

void wf_read_type(const struct wf_graph *g, wf_ref type, struct wf_tensor *t)
{
	if (t->type == WF_NIL && !wf_is_global(g, type, "torch", "Tensor") &&
	    !wf_is_global(g, type, "torch._tensor", "Tensor"))
		t->type = wf_class_of(g, type);
}

void wf_tensor_class_of(const struct wf_graph *g, wf_ref r, char *buf, size_t size)
{
	struct wf_tensor t = {.object = r, .rebuild = r, .type = WF_NIL};
	for (int depth = 0; depth < WF_MAX_WRAPPERS; depth++) {
		struct wf_form f = wf_form_of(g, r);
		wf_ref inner = wf_form_inner(g, r, &f);
		t.rebuild = r;
		if (f.from_type)
			wf_read_type(g, wf_element(g, wf_call_args(g, r), 1), &t);
		if (f.rebuild == WF_REBUILD_NUMPY)
			wf_numpy_class(g, r, &t);
		if (wf_is_storage(g, r))
			t.kind = WF_TENSOR_STORAGE;
		t.parameter |= f.rebuild == WF_REBUILD_PARAMETER ||
			       (f.rebuild == WF_REBUILD_VARIABLE &&
				!strcmp(wf_global_name(g, wf_call_func(g, r)), "Parameter"));
		if (inner == WF_NIL)
			break;
		r = inner;
	}
	const char *name = wf_tensor_class(g, &t, buf, size);
	if (name != buf)
		snprintf(buf, size, "%s", name);
}

const char *wf_tensor_class(const struct wf_graph *g, const struct wf_tensor *t, char *buf, size_t size)
{
	wf_ref type = t->type;

	if (t->kind == WF_TENSOR_STORAGE)
		type = wf_class_of(g, wf_element(g, wf_persid_id(g, t->rebuild), 1));
	if (wf_is(g, type, WF_GLOBAL)) {
		snprintf(buf, size, "%s.%s", wf_global_module(g, type), wf_global_name(g, type));
		return buf;
	}
	if (t->kind == WF_TENSOR_NUMPY && t->object == t->rebuild)
		return "numpy.ndarray";
	return t->parameter ? "torch.nn.parameter.Parameter" : "torch.Tensor";
}

void wf_tensor_dtype_name(const struct wf_graph *g, const struct wf_tensor *t, struct wf_buffer *out)
{
	struct wf_numpy_dtype d;

	if (t->record != WF_NIL && wf_numpy_dtype_of(g, t->record, &d))
		wf_numpy_dtype_name(g, t->record, &d, out);
	else
		wf_buffer_puts(out, wf_dtype_info(t->dtype)->name);
}
