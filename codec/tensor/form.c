/* SPDX-License-Identifier: MIT */
/* The rebuild calls of torch, taken apart: which function, which arguments, what is wrapped in what.
 * Sources: torch/_utils.py, torch/_tensor.py (__reduce_ex__, __setstate__), torch/nn/parameter.py; for the forms of
 * before 0.4 torch/autograd/variable.py of then. */
#include <string.h>

#include "codec/tensor/inner.h"
#include "codec/bytes/util.h"

static const struct {
	const char *name;
	enum wf_rebuild rebuild;
} utils[] = {
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

/* Which one a function is; by its name alone. */
static enum wf_rebuild rebuild_of_func(const struct wf_graph *g, wf_ref func)
{
	const char *module = wf_global_module(g, func), *name = wf_global_name(g, func);

	if (!strcmp(module, "torch._utils")) {
		for (size_t i = 0; i < WF_ARRAY_SIZE(utils); i++)
			if (!strcmp(utils[i].name, name))
				return utils[i].rebuild;
		return WF_REBUILD_NONE;
	}
	if (!strcmp(module, "torch._tensor") || !strcmp(module, "torch.tensor")) {
		bool from_type = !strcmp(name, "_rebuild_from_type_v2") || !strcmp(name, "_rebuild_from_type");
		return from_type ? WF_REBUILD_FROM_TYPE : WF_REBUILD_NONE;
	}
	if ((!strcmp(module, "torch.nn.parameter") && !strcmp(name, "Parameter")) ||
	    (!strcmp(module, "torch.autograd.variable") && !strcmp(name, "Variable")))
		return WF_REBUILD_VARIABLE;
	return WF_REBUILD_NONE;
}

/* torch.FloatTensor, torch.cuda.FloatTensor and torch.Tensor with the state of 0.1: (storage, offset, size, stride) */
static bool is_old_tensor(const struct wf_graph *g, wf_ref r)
{
	wf_ref func = wf_call_func(g, r);
	const char *module = wf_global_module(g, func), *name = wf_global_name(g, func);
	uint32_t n;

	if (strcmp(module, "torch") != 0 && strcmp(module, "torch.cuda") != 0)
		return false;
	const wf_ref *e = wf_elements(g, wf_call_state(g, r), &n);
	return n == 4 && wf_is(g, e[0], WF_PERSID) &&
	       (!strcmp(name, "Tensor") || wf_dtype_from_tensor_class(name) != WF_DTYPE_INVALID);
}

struct wf_form wf_form_of(const struct wf_graph *g, wf_ref r)
{
	wf_ref packed = wf_packed_args(g, r);
	if (packed != WF_NIL)
		return (struct wf_form){.rebuild = WF_REBUILD_V2, .args = packed};
	struct wf_form f = {.rebuild = WF_REBUILD_NONE, .args = wf_call_args(g, r)};

	if (!wf_is(g, r, WF_CALL))
		return f;
	f.rebuild = rebuild_of_func(g, wf_call_func(g, r));
	if (f.rebuild == WF_REBUILD_FROM_TYPE) {
		f.from_type = true;
		f.rebuild = rebuild_of_func(g, wf_element(g, f.args, 0));
		f.args = wf_element(g, f.args, 2);
		/* called with the tuple's elements, it has no state of its own */
		if (f.rebuild == WF_REBUILD_FROM_TYPE || f.rebuild == WF_REBUILD_VARIABLE)
			f.rebuild = WF_REBUILD_NONE;
	} else if (f.rebuild == WF_REBUILD_NONE) {
		if (is_old_tensor(g, r)) {
			f.rebuild = WF_REBUILD_OLD_TENSOR;
			f.args = wf_call_state(g, r);
		} else if (wf_numpy_data(g, r) != WF_NIL) {
			f.rebuild = WF_REBUILD_NUMPY;
		}
	}
	return f;
}

static uint32_t count(const struct wf_graph *g, wf_ref r)
{
	uint32_t n;

	wf_elements(g, r, &n);
	return n;
}

wf_ref wf_form_inner(const struct wf_graph *g, wf_ref r, const struct wf_form *f)
{
	switch (f->rebuild) {
	case WF_REBUILD_VARIABLE:
		if (count(g, f->args) == 0 && count(g, wf_call_state(g, r)) == 5)
			return wf_element(g, wf_call_state(g, r), 0);
		return wf_element(g, f->args, 0);
	case WF_REBUILD_PARAMETER:
	case WF_REBUILD_FROM_CPU:
	case WF_REBUILD_FROM_NUMPY:
		return wf_element(g, f->args, 0);
	default:
		return WF_NIL;
	}
}

int wf_form_requires_grad(const struct wf_graph *g, const struct wf_form *f)
{
	int at = -1;

	switch (f->rebuild) {
	case WF_REBUILD_V2:
	case WF_REBUILD_V3:
		at = 4;
		break;
	case WF_REBUILD_QUANTISED:
		at = 5;
		break;
	case WF_REBUILD_META:
	case WF_REBUILD_FROM_CPU:
	case WF_REBUILD_FROM_NUMPY:
		at = 3;
		break;
	case WF_REBUILD_WRAPPER:
		at = 7;
		break;
	case WF_REBUILD_PARAMETER:
	case WF_REBUILD_VARIABLE:
		at = 1;
		break;
	default:
		break;
	}
	return at >= 0 && (uint32_t)at < count(g, f->args) ? at : -1;
}

int wf_state_requires_grad(const struct wf_graph *g, wf_ref r, const struct wf_form *f)
{
	if (f->rebuild != WF_REBUILD_VARIABLE)
		return -1;
	wf_ref state = wf_call_state(g, r);
	if (!wf_is(g, state, WF_TUPLE))
		return -1;
	return count(g, state) == 3 ? 0 : count(g, state) == 5 ? 3 : -1;
}
