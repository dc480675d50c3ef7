/* SPDX-License-Identifier: MIT */
/* The names of classes. */
#include <stdio.h>
#include <string.h>

#include "codec/tensor/tensor.h"
#include "codec/value/inner.h"

/* Python 2's names of modules and types, as protocol 2 writes them (Lib/_compat_pickle.py). */
static const char *modern_module(const char *module, const char *name)
{
	static const char *const moved[][2] = {
		{"__builtin__", "builtins"},      {"copy_reg", "copyreg"},     {"Queue", "queue"},
		{"cPickle", "_pickle"},           {"UserDict", "collections"}, {"UserList", "collections"},
		{"ConfigParser", "configparser"}, {"itertools", "itertools"},  {"exceptions", "builtins"},
		{"UserString", "collections"},
	};
	if (!strcmp(module, "__builtin__") && !strcmp(name, "reduce"))
		return "functools";
	for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++)
		if (!strcmp(moved[i][0], module))
			return moved[i][1];
	return module;
}

static const char *modern_name(const char *module, const char *name)
{
	static const char *const renamed[][2] = {
		{"xrange", "range"}, {"long", "int"}, {"unicode", "str"}, {"unichr", "chr"}, {"basestring", "str"},
	};
	if (!strcmp(module, "UserDict") && !strcmp(name, "IterableUserDict"))
		return "UserDict";
	for (size_t i = 0; !strcmp(module, "__builtin__") && i < sizeof renamed / sizeof renamed[0]; i++)
		if (!strcmp(renamed[i][0], name))
			return renamed[i][1];
	return name;
}

void wf_global_class_name(const struct wf_graph *g, wf_ref class, char *buf, size_t size)
{
	const char *old = wf_global_module(g, class), *name = modern_name(old, wf_global_name(g, class));
	const char *module = modern_module(old, name);
	if (!strcmp(module, "builtins"))
		snprintf(buf, size, "%s", name);
	else
		snprintf(buf, size, "%s.%s", module, name);
}

/* The class of a NumPy scalar: that of its dtype. */
static void numpy_class(const struct wf_graph *g, wf_ref r, char *buf, size_t size)
{
	static const char others[][2][12] = {
		{"U", "str_"},        {"S", "bytes_"},     {"V", "void"},        {"M", "datetime64"},
		{"m", "timedelta64"}, {"f", "longdouble"}, {"c", "clongdouble"},
	};
	struct wf_numpy_dtype d = {.dtype = WF_DTYPE_INVALID};
	const char *name = "generic";
	wf_numpy_dtype_of(g, wf_element(g, wf_call_args(g, r), 0), &d);
	if (d.dtype != WF_DTYPE_INVALID)
		name = wf_dtype_info(d.dtype)->name;
	for (size_t i = 0; d.dtype == WF_DTYPE_INVALID && i < sizeof others / sizeof others[0]; i++)
		if (d.kind == others[i][0][0])
			name = others[i][1];
	/* NumPy 2 renamed bool_ and moved multiarray at the same time */
	bool old = !strcmp(wf_global_module(g, wf_call_func(g, r)), "numpy.core.multiarray");
	snprintf(buf, size, "numpy.%s%s", name, old && !strcmp(name, "bool") ? "_" : "");
}

static void call_name(const struct wf_graph *g, wf_ref r, char *buf, size_t size)
{
	wf_ref inner, func = wf_class_of(g, wf_call_func(g, r));
	switch (wf_value_meaning(g, r, &inner)) {
	case WF_MEANS_LATIN1:
	case WF_MEANS_EMPTY_BYTES:
		snprintf(buf, size, "bytes");
		return;
	case WF_MEANS_NUMPY_SCALAR:
		numpy_class(g, r, buf, size);
		return;
	case WF_MEANS_LIST:
		snprintf(buf, size, "list");
		return;
	case WF_MEANS_ARRAY:
		wf_global_class_name(g, wf_class_of(g, wf_element(g, wf_call_args(g, r), 0)), buf, size);
		return;
	default:
		break;
	}
	/* object.__reduce_ex__(2) of classes with __slots__ or a base other than object names its class as an argument
	 */
	if (wf_is_global(g, func, "copy_reg", "_reconstructor") || wf_is_global(g, func, "copyreg", "_reconstructor") ||
	    wf_is_global(g, func, "copyreg", "__newobj__") || wf_is_global(g, func, "copy_reg", "__newobj__")) {
		wf_ref class = wf_class_of(g, wf_element(g, wf_call_args(g, r), 0));
		func = class != WF_NIL ? class : func;
	}
	if (func != WF_NIL)
		wf_global_class_name(g, func, buf, size);
	else
		snprintf(buf, size, "object");
}

void wf_class_name(const struct wf_graph *g, wf_ref r, char *buf, size_t size)
{
	static const char *const names[WF_KIND_COUNT] = {
		[WF_NONE] = "NoneType", [WF_BOOL] = "bool",           [WF_INT] = "int",
		[WF_LONG] = "int",      [WF_FLOAT] = "float",         [WF_STR] = "str",
		[WF_PYSTR] = "str",     [WF_BYTES] = "bytes",         [WF_TUPLE] = "tuple",
		[WF_LIST] = "list",     [WF_BYTEARRAY] = "bytearray", [WF_DICT] = "dict",
		[WF_SET] = "set",       [WF_FROZENSET] = "frozenset", [WF_GLOBAL] = "type",
		[WF_PERSID] = "object",
	};
	enum wf_kind kind = wf_kind_of(g, r);
	struct wf_tensor_parts parts;
	wf_ref inner;
	if (kind == WF_CALL && wf_tensor_parts_of(g, r, &parts))
		wf_tensor_class_of(g, r, buf, size);
	else if (kind == WF_CALL)
		call_name(g, r, buf, size);
	else if (kind == WF_GLOBAL && wf_value_meaning(g, r, &inner) == WF_MEANS_DTYPE)
		snprintf(buf, size, "torch.dtype");
	else
		snprintf(buf, size, "%s", names[kind]);
}

bool wf_class_is(const struct wf_graph *g, wf_ref r, const char *name)
{
	char class[256];
	wf_class_name(g, r, class, sizeof class);
	return !strcmp(class, name);
}
