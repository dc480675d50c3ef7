/* SPDX-License-Identifier: MIT */
/* NumPy arrays, whose bytes stand inside the pickle.
 *
 *   protocol 2..4   numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b')
 *                   BUILD (1, shape, dtype, is_fortran, bytes)            numpy >= 2: numpy._core.multiarray
 *   protocol 5      numpy._core.numeric._frombuffer(bytes, dtype, shape, 'C' or 'F')
 *   dill            dill._dill._create_array(_reconstruct, its arguments, that state, attributes or None)
 *   dtype           numpy.dtype('f4', False, True) BUILD (3, '<', None, None, None, -1, -1, 0)
 *
 * In protocol 2 bytes are _codecs.encode(str, 'latin1'), or __builtin__.bytes() when empty. Arrays of objects hold a
 * list instead and are no tensors. Source: numpy/_core/src/multiarray/methods.c (array_reduce, array_setstate).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/tensor/numpy_dtype.h"
#include "codec/tensor/storage_nested.h"
#include "codec/tensor/inner.h"
#include "codec/bytes/util.h"

enum home { IN_STATE, IN_ARGS, IN_DILL };

struct array_parts {
	wf_ref shape, dtype, data, class;
	bool fortran;
	enum home place;
	uint32_t count; /* of the elements of the tuple that they stand in */
};

static bool is_function(const struct wf_graph *g, wf_ref func, const char *name, const char *old_module,
			const char *new_module)
{
	return wf_is_global(g, func, old_module, name) || wf_is_global(g, func, new_module, name);
}

/* A masked array has two more parts: (..., bytes of the data, bytes of the mask, fill value). */
#define MASKED_PARTS 7u
#define DILL_ARGS 4u

static bool is_reconstruct(const struct wf_graph *g, wf_ref func)
{
	return is_function(g, func, "_reconstruct", "numpy.core.multiarray", "numpy._core.multiarray");
}

/* Where the tuple with the array's parts is, and the arguments of what makes the array before it gets them. */
static bool find_home(const struct wf_graph *g, wf_ref r, enum home *ret, wf_ref *ret_args)
{
	wf_ref func = wf_call_func(g, r), args = wf_call_args(g, r);
	const char *name = wf_global_name(g, func);

	/* asked of every call in the pickle */
	if (strcmp(name, "_reconstruct") != 0 && strcmp(name, "_frombuffer") != 0 &&
	    strcmp(name, "_mareconstruct") != 0 && strcmp(name, "_create_array") != 0)
		return false;
	uint32_t n;
	const wf_ref *e = wf_elements(g, args, &n);
	*ret_args = args;
	if (is_reconstruct(g, func) || wf_is_global(g, func, "numpy.ma.core", "_mareconstruct")) {
		*ret = IN_STATE;
		return true;
	}
	if (is_function(g, func, "_create_array", "dill.dill", "dill._dill")) {
		*ret = IN_DILL;
		*ret_args = wf_element(g, args, 1);
		return (n == 3 || n == DILL_ARGS) && is_reconstruct(g, e[0]);
	}
	*ret = IN_ARGS;
	return is_function(g, func, "_frombuffer", "numpy.core.numeric", "numpy._core.numeric");
}

static wf_ref parts_at(const struct wf_graph *g, wf_ref r, enum home home)
{
	return home == IN_STATE  ? wf_call_state(g, r)
	       : home == IN_ARGS ? wf_call_args(g, r)
				 : wf_element(g, wf_call_args(g, r), 2);
}

static bool split(const struct wf_graph *g, wf_ref r, struct array_parts *ret)
{
	uint32_t n;
	enum home home;
	wf_ref args;

	if (!find_home(g, r, &home, &args))
		return false;
	const wf_ref *e = wf_elements(g, parts_at(g, r, home), &n);
	if (home != IN_ARGS) {
		const char *name = wf_global_name(g, wf_call_func(g, r));
		if (n != (*name == '_' && name[1] == 'm' ? MASKED_PARTS : 5u))
			return false;
		*ret = (struct array_parts){.shape = e[1],
					    .dtype = e[2],
					    .fortran = wf_bool_value(g, e[3]),
					    .data = e[4],
					    .class = wf_element(g, args, 0),
					    .place = home,
					    .count = n};
	} else {
		if (n != 4)
			return false;
		*ret = (struct array_parts){.data = e[0],
					    .dtype = e[1],
					    .shape = e[2],
					    .fortran = wf_str_equal(g, e[3], "F"),
					    .place = home,
					    .count = n};
	}
	return true;
}

bool wf_numpy_is_masked(const struct wf_graph *g, wf_ref r)
{
	return !strcmp(wf_global_name(g, wf_call_func(g, r)), "_mareconstruct") && wf_numpy_data(g, r) != WF_NIL;
}

wf_ref wf_numpy_objects(const struct wf_graph *g, wf_ref r, int64_t shape[WF_MAX_NDIM], uint32_t *ret_ndim)
{
	struct array_parts p;
	struct wf_numpy_dtype d;

	if (!wf_is(g, r, WF_CALL) || !split(g, r, &p) || !wf_is(g, p.data, WF_LIST) ||
	    !wf_numpy_dtype_of(g, p.dtype, &d) || d.kind != 'O')
		return WF_NIL;
	int ndim = wf_int_tuple(g, p.shape, shape);
	*ret_ndim = ndim < 0 ? 0 : (uint32_t)ndim;
	return ndim < 0 ? WF_NIL : p.data;
}

/* The dtype of an array with bytes. */
static bool array_dtype(const struct wf_graph *g, const struct array_parts *p, struct wf_numpy_dtype *ret)
{
	return wf_numpy_dtype_of(g, p->dtype, ret) && ret->kind != 'O';
}

wf_ref wf_numpy_data(const struct wf_graph *g, wf_ref r)
{
	struct array_parts p;
	struct wf_numpy_dtype d;

	if (!wf_is(g, r, WF_CALL) || !split(g, r, &p) || !array_dtype(g, &p, &d))
		return WF_NIL;
	return wf_bytes_object(g, p.data);
}

void wf_numpy_class(const struct wf_graph *g, wf_ref r, struct wf_tensor *t)
{
	struct array_parts p;

	t->kind = WF_TENSOR_NUMPY;
	if (split(g, r, &p) && p.class != WF_NIL && !wf_is_global(g, p.class, "numpy", "ndarray"))
		t->type = wf_class_of(g, p.class);
}

int wf_numpy_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *t,
		    struct wf_error *err)
{
	struct array_parts p;
	struct wf_numpy_dtype dtype;

	if (!split(g, r, &p) || !array_dtype(g, &p, &dtype))
		return wf_fail(err, -EUCLEAN, "an ndarray without its state");
	t->rebuild = r;
	t->dtype = dtype.dtype;
	t->swap = dtype.big_endian && dtype.dtype != WF_DTYPE_INVALID;
	wf_numpy_class(g, r, t);
	int ndim = wf_int_tuple(g, p.shape, t->shape);
	if (ndim < 0)
		return wf_fail(err, -EUCLEAN, "an ndarray whose shape is not a tuple of at most %d sizes of 0 or more",
			       WF_MAX_NDIM);
	t->ndim = (uint32_t)ndim;
	t->storage = wf_storage_of(ss, r);
	uint64_t step = 1;
	if (t->dtype == WF_DTYPE_INVALID) { /* texts, dates, records: an element is a row of bytes, as they stand */
		if (ndim == WF_MAX_NDIM)
			return wf_fail(err, -EOPNOTSUPP, "an ndarray of %d dimensions whose elements are no numbers",
				       ndim);
		t->dtype = WF_UINT8;
		t->record = p.dtype;
		t->shape[t->ndim] = dtype.item_bytes;
		t->stride[t->ndim++] = 1;
		step = WF_MAX(dtype.item_bytes, 1u);
	}
	for (uint32_t i = 0; i < (uint32_t)ndim; i++) {
		uint32_t d = p.fortran ? i : (uint32_t)ndim - 1 - i;
		t->stride[d] = (int64_t)step;
		if (wf_mul_u64(step, t->shape[d] ? (uint64_t)t->shape[d] : 1, &step) || step > INT64_MAX)
			return wf_fail(err, -EUCLEAN, "an ndarray whose sizes multiply past any file");
	}
	return 0;
}

/* ---- changing ---- */

static int made(const struct wf_graph *g, wf_ref r)
{
	if (r != WF_NIL)
		return 0;
	return wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
}

static int put_into_dill(struct wf_graph *g, wf_ref array, wf_ref parts)
{
	uint32_t n;
	wf_ref e[DILL_ARGS];
	const wf_ref *old = wf_elements(g, wf_call_args(g, array), &n);

	memcpy(e, old, n * sizeof *e);
	e[2] = parts;
	wf_ref args = wf_tuple(g, e, n);
	return args == WF_NIL ? made(g, args) : wf_call_set_args(g, array, args);
}

/* Puts other elements in the place of the parts: all is made before anything is changed. */
static int put(struct wf_graph *g, wf_ref array, const struct array_parts *p)
{
	uint32_t n;
	wf_ref e[MASKED_PARTS];
	bool state = p->place != IN_ARGS;
	const wf_ref *old = wf_elements(g, parts_at(g, array, p->place), &n);

	memcpy(e, old, n * sizeof *e);
	e[state ? 1 : 2] = p->shape;
	e[state ? 2 : 1] = p->dtype;
	e[3] = state ? wf_bool(g, p->fortran) : wf_str(g, p->fortran ? "F" : "C");
	e[state ? 4 : 0] = p->data;
	for (uint32_t i = 0; i < n; i++)
		if (e[i] == WF_NIL)
			return made(g, WF_NIL);
	wf_ref tuple = wf_tuple(g, e, n);
	if (tuple == WF_NIL)
		return made(g, tuple);
	if (p->place == IN_DILL)
		return put_into_dill(g, array, tuple);
	return state ? wf_call_set_state(g, array, tuple) : wf_call_set_args(g, array, tuple);
}

/* Whether the strides of t are those of a dense array in that order. */
static bool in_order(const struct wf_tensor *t, bool fortran)
{
	uint32_t ndim = wf_tensor_shown_ndim(t);
	uint64_t step = ndim < t->ndim ? (uint64_t)t->shape[ndim] : 1;

	for (uint32_t i = 0; i < ndim && t->numel > 0; i++) {
		uint32_t d = fortran ? i : ndim - 1 - i;
		if (t->shape[d] != 1 && (uint64_t)t->stride[d] != step)
			return false;
		step *= (uint64_t)t->shape[d];
	}
	return true;
}

/* numpy.dtype('f4', False, True) BUILD (3, '<', None, None, None, -1, -1, 0) */
static wf_ref make_dtype(struct wf_graph *g, wf_ref func, enum wf_dtype dtype, bool big_endian)
{
	const char *descr = wf_dtype_info(dtype)->numpy_descr;
	const char order[2] = {big_endian ? '>' : descr[0], '\0'};
	wf_ref none = wf_none(g), minus = wf_int(g, -1);
	wf_ref args[3] = {wf_str(g, descr + 1), wf_bool(g, false), wf_bool(g, true)};
	wf_ref state[8] = {wf_int(g, 3), wf_str(g, order), none, none, none, minus, minus, wf_int(g, 0)};
	wf_ref call = wf_call(g, WF_CALL_REDUCE, func, wf_tuple(g, args, 3), WF_NIL);

	if (args[0] == WF_NIL || state[1] == WF_NIL || call == WF_NIL)
		return WF_NIL;
	return wf_call_build(g, call, wf_tuple(g, state, 8)) < 0 || wf_graph_failed(g) < 0 ? WF_NIL : call;
}

wf_ref wf_numpy_dtype_object(struct wf_graph *g, enum wf_dtype dtype)
{
	return make_dtype(g, wf_global_named(g, "numpy", "dtype"), dtype, false);
}

/* NumPy 2 has another name, and reads the old one; NumPy 1 reads only the old one. */
const char *wf_numpy_module(const struct wf_graph *g)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o))
		if (wf_is(g, o, WF_GLOBAL) && !strncmp(wf_global_module(g, o), "numpy._core", 11))
			return "numpy._core.multiarray";
	return "numpy.core.multiarray";
}

/* numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b') BUILD (1, shape, dtype, False, bytes) */
int wf_numpy_make(struct wf_graph *g, enum wf_dtype dtype, const int64_t *shape, uint32_t ndim, wf_ref data,
		  wf_ref *ret)
{
	wf_ref items[WF_MAX_NDIM], zero = wf_int(g, 0);
	if (!wf_dtype_info(dtype)->numpy_descr || wf_dtype_info(dtype)->quantised)
		return -EINVAL;
	for (uint32_t d = 0; d < ndim; d++)
		if ((items[d] = wf_int(g, shape[d])) == WF_NIL)
			return made(g, WF_NIL);
	wf_ref latin1[2] = {wf_str(g, "b"), wf_str(g, "latin1")};
	wf_ref letter =
		wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "_codecs", "encode"), wf_tuple(g, latin1, 2), WF_NIL);
	wf_ref args[3] = {wf_global_named(g, "numpy", "ndarray"), wf_tuple(g, &zero, 1), letter};
	wf_ref state[5] = {wf_int(g, 1), wf_tuple(g, items, ndim), wf_numpy_dtype_object(g, dtype), wf_bool(g, false),
			   data};
	wf_ref func = wf_global_named(g, wf_numpy_module(g), "_reconstruct");
	if (wf_graph_failed(g) < 0 || state[2] == WF_NIL)
		return made(g, WF_NIL);
	wf_ref call = wf_call(g, WF_CALL_REDUCE, func, wf_tuple(g, args, 3), WF_NIL);
	wf_ref built = call == WF_NIL ? WF_NIL : wf_tuple(g, state, 5);
	if (built == WF_NIL)
		return made(g, built);
	int r = wf_call_build(g, call, built);
	if (r == 0)
		*ret = call;
	return r;
}

wf_ref wf_numpy_parts(const struct wf_graph *g, wf_ref array)
{
	struct array_parts p;

	if (wf_is_nested_storage(g, array))
		return wf_call_args(g, array);
	return wf_is(g, array, WF_CALL) && split(g, array, &p) ? parts_at(g, array, p.place) : WF_NIL;
}

wf_ref wf_numpy_bytes(const struct wf_graph *g, wf_ref array)
{
	struct array_parts p;

	if (wf_is_nested_storage(g, array))
		return wf_element(g, wf_call_args(g, array), 0);
	return wf_is(g, array, WF_CALL) && split(g, array, &p) ? p.data : WF_NIL;
}

int wf_numpy_set_bytes(struct wf_graph *g, wf_ref array, wf_ref bytes)
{
	struct array_parts p;

	if (wf_is_nested_storage(g, array)) {
		wf_ref args = wf_tuple(g, &bytes, 1);
		return args == WF_NIL ? made(g, args) : wf_call_set_args(g, array, args);
	}
	if (!wf_is(g, array, WF_CALL) || !split(g, array, &p))
		return -EINVAL;
	p.data = bytes;
	return put(g, array, &p);
}

int wf_numpy_update(struct wf_graph *g, const struct wf_tensor *t)
{
	struct array_parts p;
	wf_ref items[WF_MAX_NDIM];
	struct wf_numpy_dtype dtype;
	uint32_t ndim = wf_tensor_shown_ndim(t);

	if (!split(g, t->rebuild, &p) || !array_dtype(g, &p, &dtype) || t->offset_elems != 0)
		return -EINVAL;
	bool record = dtype.dtype == WF_DTYPE_INVALID; /* its rows can change, its elements cannot */
	if (record && (t->dtype != WF_UINT8 || t->record == WF_NIL || (uint64_t)t->shape[ndim] != dtype.item_bytes))
		return -EINVAL;
	if (!in_order(t, p.fortran)) {
		p.fortran = !p.fortran;
		if (!in_order(t, p.fortran))
			return -EINVAL;
	}
	if (!record && (dtype.dtype != t->dtype || dtype.big_endian != t->swap)) {
		if (!wf_dtype_info(t->dtype)->numpy_descr)
			return -EINVAL;
		p.dtype = make_dtype(g, wf_call_func(g, p.dtype), t->dtype, t->swap);
	}
	for (uint32_t d = 0; d < ndim; d++)
		if ((items[d] = wf_int(g, t->shape[d])) == WF_NIL)
			return made(g, WF_NIL);
	p.shape = wf_tuple(g, items, ndim);
	p.data = wf_numpy_bytes(g, t->rebuild);
	return put(g, t->rebuild, &p);
}

/* numpy.core or numpy._core, as in the rest of the pickle. The first loads with every NumPy. */
static const char *multiarray(const struct wf_graph *g)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o))
		if (wf_is_global(g, o, "numpy._core.multiarray", "_reconstruct"))
			return "numpy._core.multiarray";
	return "numpy.core.multiarray";
}

int wf_numpy_become(struct wf_graph *g, wf_ref call, enum wf_dtype dtype, const int64_t *shape, uint32_t ndim,
		    wf_ref bytes)
{
	wf_ref zero = wf_int(g, 0), items[WF_MAX_NDIM];

	if (!wf_is(g, call, WF_CALL) || wf_call_form_of(g, call) != WF_CALL_REDUCE || ndim > WF_MAX_NDIM ||
	    !wf_dtype_info(dtype)->numpy_descr)
		return -EINVAL;
	for (uint32_t d = 0; d < ndim; d++)
		if ((items[d] = wf_int(g, shape[d])) == WF_NIL)
			return made(g, WF_NIL);
	wf_ref func = wf_global_named(g, multiarray(g), "_reconstruct");
	wf_ref args[3] = {wf_global_named(g, "numpy", "ndarray"), wf_tuple(g, &zero, 1),
			  wf_string(g, WF_BYTES, "b", 1)};
	wf_ref of_dtype = wf_global_named(g, "numpy", "dtype");
	wf_ref state[5] = {wf_int(g, 1), wf_tuple(g, items, ndim),
			   of_dtype == WF_NIL ? WF_NIL : make_dtype(g, of_dtype, dtype, false), wf_bool(g, false),
			   bytes};
	if (wf_graph_failed(g) < 0 || state[2] == WF_NIL)
		return made(g, WF_NIL);
	wf_ref new_args = wf_tuple(g, args, 3), new_state = wf_tuple(g, state, 5);
	if (func == WF_NIL || new_args == WF_NIL || new_state == WF_NIL)
		return made(g, WF_NIL);
	int r = wf_call_set_state(g, call, new_state); /* the one that can fail */
	if (r == 0)
		r = wf_call_set_func(g, call, func);
	return r < 0 ? r : wf_call_set_args(g, call, new_args);
}

int wf_numpy_set_record(struct wf_graph *g, wf_ref array, wf_ref dtype)
{
	struct array_parts p;
	struct wf_numpy_dtype d;
	uint32_t n;
	int64_t bytes;

	if (!split(g, array, &p) || !wf_numpy_dtype_of(g, dtype, &d))
		return -EINVAL;
	const wf_ref *sizes = wf_elements(g, p.shape, &n);
	if (n == 0 || !wf_int_value(g, sizes[n - 1], &bytes) || bytes != d.item_bytes)
		return -EINVAL;
	p.dtype = dtype;
	p.shape = wf_tuple(g, sizes, n - 1);
	return put(g, array, &p);
}
