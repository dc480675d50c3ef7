/* NumPy arrays, whose bytes stand inside the pickle.
 *
 *   protocol 2..4   numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b')
 *                   BUILD (1, shape, dtype, is_fortran, bytes)            numpy >= 2: numpy._core.multiarray
 *   protocol 5      numpy._core.numeric._frombuffer(bytes, dtype, shape, 'C' or 'F')
 *   dtype           numpy.dtype('f4', False, True) BUILD (3, '<', None, None, None, -1, -1, 0)
 *
 * In protocol 2 bytes are _codecs.encode(str, 'latin1'), or __builtin__.bytes() when empty. Arrays of objects hold a
 * list instead and are no tensors. Source: numpy/_core/src/multiarray/methods.c (array_reduce, array_setstate).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensor_inner.h"
#include "util.h"

/* The string object behind an expression for bytes: itself, or the argument of the call. */
static wf_ref bytes_object(const struct wf_graph *g, wf_ref r)
{
	if (wf_is(g, r, WF_BYTES) || wf_is(g, r, WF_BYTEARRAY) || wf_is(g, r, WF_PYSTR))
		return r;
	if (wf_call_is(g, r, "__builtin__", "bytearray") || wf_call_is(g, r, "builtins", "bytearray"))
		r = wf_element(g, wf_call_args(g, r), 0);
	if (wf_is(g, r, WF_BYTES))
		return r;
	/* the empty bytes of protocol 2, a call that stands for a string of size 0 */
	uint32_t n;
	if (wf_call_is(g, r, "__builtin__", "bytes") || wf_call_is(g, r, "builtins", "bytes"))
		return wf_elements(g, wf_call_args(g, r), &n) == NULL || n == 0 ? r : WF_NIL;
	if (wf_call_is(g, r, "_codecs", "encode") && wf_str_equal(g, wf_element(g, wf_call_args(g, r), 1), "latin1"))
		return wf_element(g, wf_call_args(g, r), 0);
	return WF_NIL;
}

struct parts {
	wf_ref shape, dtype, data;
	bool fortran;
};

static bool is_module(const struct wf_graph *g, wf_ref func, const char *name, const char *old_module,
		      const char *new_module)
{
	return wf_is_global(g, func, old_module, name) || wf_is_global(g, func, new_module, name);
}

static bool split(const struct wf_graph *g, wf_ref r, struct parts *ret)
{
	uint32_t n;
	wf_ref func = wf_call_func(g, r);
	if (is_module(g, func, "_reconstruct", "numpy.core.multiarray", "numpy._core.multiarray")) {
		const wf_ref *e = wf_elements(g, wf_call_state(g, r), &n);
		if (n != 5)
			return false;
		*ret = (struct parts){
			.shape = e[1], .dtype = e[2], .fortran = wf_bool_value(g, e[3]), .data = bytes_object(g, e[4])};
	} else if (is_module(g, func, "_frombuffer", "numpy.core.numeric", "numpy._core.numeric")) {
		const wf_ref *e = wf_elements(g, wf_call_args(g, r), &n);
		if (n != 4)
			return false;
		*ret = (struct parts){.data = bytes_object(g, e[0]),
				      .dtype = e[1],
				      .shape = e[2],
				      .fortran = wf_str_equal(g, e[3], "F")};
	} else {
		return false;
	}
	return ret->data != WF_NIL;
}

/* dtype('f4', False, True) with its state: "<f4" and the like. */
static enum wf_dtype numpy_dtype(const struct wf_graph *g, wf_ref r, bool *ret_big_endian)
{
	size_t len;
	if (!wf_call_is(g, r, "numpy", "dtype"))
		return WF_DTYPE_INVALID;
	wf_ref name = wf_element(g, wf_call_args(g, r), 0), order = wf_element(g, wf_call_state(g, r), 1);
	const char *text = wf_is(g, name, WF_STR) || wf_is(g, name, WF_PYSTR) ? wf_bytes(g, name, &len) : NULL;
	if (!text)
		return WF_DTYPE_INVALID;
	enum wf_dtype d = wf_dtype_from_numpy(text, ret_big_endian);
	*ret_big_endian = wf_str_equal(g, order, ">");
	return d;
}

wf_ref wf_numpy_data(const struct wf_graph *g, wf_ref r)
{
	struct parts p;
	bool big;
	if (!wf_is(g, r, WF_CALL) || !split(g, r, &p) || numpy_dtype(g, p.dtype, &big) == WF_DTYPE_INVALID)
		return WF_NIL;
	return p.data;
}

int wf_numpy_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *t,
		    struct wf_error *err)
{
	struct parts p;
	if (!split(g, r, &p))
		return wf_fail(err, -EUCLEAN, "an ndarray without its state");
	t->kind = WF_TENSOR_NUMPY;
	t->rebuild = r;
	t->dtype = numpy_dtype(g, p.dtype, &t->swap);
	if (t->dtype == WF_DTYPE_INVALID)
		return wf_fail(err, -EOPNOTSUPP, "an ndarray of a dtype that has no plain elements");
	int ndim = wf_int_tuple(g, p.shape, t->shape);
	if (ndim < 0)
		return wf_fail(err, -EUCLEAN, "an ndarray whose shape is not a tuple of sizes");
	t->ndim = (uint32_t)ndim;
	t->storage = wf_storage_of(ss, p.data);
	uint64_t step = 1;
	for (uint32_t i = 0; i < t->ndim; i++) {
		uint32_t d = p.fortran ? i : t->ndim - 1 - i;
		t->stride[d] = (int64_t)step;
		if (wf_mul_u64(step, t->shape[d] ? (uint64_t)t->shape[d] : 1, &step) || step > INT64_MAX)
			return wf_fail(err, -EUCLEAN, "an ndarray whose sizes multiply past any file");
	}
	return 0;
}
