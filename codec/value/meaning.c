/* SPDX-License-Identifier: MIT */
/* What a call in a pickle stands for, where that is a value with a text. Known by name alone: nothing is run. */
#include <string.h>

#include "codec/tensor/tensor.h"
#include "codec/value/inner.h"

#define MAX_PATH_PARTS 4096

/* GLOBALs whose call with one list argument is a set or a list-like value. */
static bool is_builtin(const struct wf_graph *g, wf_ref func, const char *name)
{
	return wf_is_global(g, func, "__builtin__", name) || wf_is_global(g, func, "builtins", name);
}

/* io.BytesIO() with the state (bytes, position, attributes), io.StringIO() with (text, newline, position, attributes).
 */
static enum wf_meaning in_memory_file(const struct wf_graph *g, wf_ref r, wf_ref *ret_inner)
{
	wf_ref func = wf_call_func(g, r), first = wf_element(g, wf_call_state(g, r), 0);
	if (wf_is_global(g, func, "_io", "BytesIO") || wf_is_global(g, func, "io", "BytesIO")) {
		*ret_inner = first;
		return wf_bytes_object(g, first) != WF_NIL ? WF_MEANS_BYTES_FILE : WF_MEANS_ITSELF;
	}
	if (wf_is_global(g, func, "_io", "StringIO") || wf_is_global(g, func, "io", "StringIO")) {
		*ret_inner = first;
		return wf_is(g, first, WF_STR) ? WF_MEANS_TEXT_FILE : WF_MEANS_ITSELF;
	}
	return WF_MEANS_ITSELF;
}

static bool is_path(const struct wf_graph *g, wf_ref func, wf_ref args)
{
	const char *name = wf_global_name(g, func);
	size_t len = strlen(name);
	uint32_t n;
	const wf_ref *e = wf_elements(g, args, &n);
	if (len < 4 || strcmp(name + len - 4, "Path") != 0 || n > MAX_PATH_PARTS)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!wf_is(g, e[i], WF_STR) && !wf_is(g, e[i], WF_PYSTR))
			return false;
	return true;
}

enum wf_meaning wf_value_meaning(const struct wf_graph *g, wf_ref r, wf_ref *ret_inner)
{
	wf_ref func = wf_call_func(g, r), args = wf_call_args(g, r);
	struct wf_numpy_dtype dtype;
	int64_t shape[WF_MAX_NDIM];
	wf_ref objects;
	uint32_t n;
	*ret_inner = wf_element(g, args, 0);
	if (!wf_is(g, r, WF_CALL))
		return wf_is(g, r, WF_GLOBAL) && wf_dtype_from_global(g, r) != WF_DTYPE_INVALID ? WF_MEANS_DTYPE
												: WF_MEANS_ITSELF;
	if (wf_numpy_dtype_of(g, r, &dtype))
		return WF_MEANS_NUMPY_DTYPE;
	if ((objects = wf_numpy_objects(g, r, shape, &n)) != WF_NIL) {
		*ret_inner = objects;
		return WF_MEANS_ARRAY;
	}
	wf_elements(g, args, &n);
	if (wf_call_state(g, r) != WF_NIL || wf_call_dict(g, r) != WF_NIL)
		return in_memory_file(g, r, ret_inner);
	if ((is_builtin(g, func, "set") || is_builtin(g, func, "frozenset")) && n <= 1)
		return WF_MEANS_SET;
	if (wf_is_global(g, func, "torch", "Size") && n == 1)
		return WF_MEANS_SIZE;
	if (is_builtin(g, func, "complex") && n == 2)
		return WF_MEANS_COMPLEX;
	if (wf_is_global(g, func, "_codecs", "encode") && n == 2 && wf_is(g, *ret_inner, WF_STR) &&
	    wf_str_equal(g, wf_element(g, args, 1), "latin1"))
		return WF_MEANS_LATIN1;
	if (is_builtin(g, func, "bytes") && n == 0)
		return WF_MEANS_EMPTY_BYTES;
	if (is_builtin(g, func, "bytearray") && n <= 1)
		return WF_MEANS_BYTEARRAY;
	if (wf_is_global(g, func, "torch.serialization", "_get_layout") && n == 1 && wf_is(g, *ret_inner, WF_STR))
		return WF_MEANS_LAYOUT;
	if (wf_is_global(g, func, "torch", "device") && n >= 1)
		return WF_MEANS_DEVICE;
	if ((wf_is_global(g, func, "numpy.core.multiarray", "scalar") ||
	     wf_is_global(g, func, "numpy._core.multiarray", "scalar")) &&
	    n == 2)
		return WF_MEANS_NUMPY_SCALAR;
	if (!strncmp(wf_global_module(g, func), "pathlib", 7) && is_path(g, func, args))
		return WF_MEANS_PATH;
	if (!strcmp(wf_global_module(g, func), "datetime") || !strcmp(wf_global_module(g, func), "_datetime"))
		return wf_value_is_time(g, r) ? WF_MEANS_TIME : WF_MEANS_ITSELF;
	if (!strcmp(wf_global_module(g, func), "torch.jit._pickle") && n == 1 && wf_is(g, *ret_inner, WF_LIST) &&
	    !strncmp(wf_global_name(g, func), "build_", 6))
		return WF_MEANS_LIST;
	return WF_MEANS_ITSELF;
}

enum wf_value_form wf_value_glance(const struct wf_graph *g, wf_ref r, wf_ref *ret_sequence)
{
	wf_ref inner;
	enum wf_kind kind = wf_kind_of(g, r);
	*ret_sequence = WF_NIL;
	if (kind == WF_LIST || kind == WF_TUPLE || kind == WF_SET || kind == WF_FROZENSET) {
		*ret_sequence = r;
		return WF_VALUE_JSON;
	}
	if (kind == WF_DICT || kind == WF_PERSID || r == WF_NIL)
		return WF_VALUE_NOT;
	if (kind != WF_CALL)
		return WF_VALUE_TEXT;
	switch (wf_value_meaning(g, r, &inner)) {
	case WF_MEANS_ITSELF:
		return WF_VALUE_NOT;
	case WF_MEANS_SET:
	case WF_MEANS_SIZE:
	case WF_MEANS_LIST:
	case WF_MEANS_ARRAY:
		*ret_sequence = inner == WF_NIL ? wf_call_args(g, r) : inner;
		return WF_VALUE_JSON;
	default:
		return WF_VALUE_TEXT;
	}
}
