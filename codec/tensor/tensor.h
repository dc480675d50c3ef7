/* SPDX-License-Identifier: MIT */
/* Recognising tensors among the rebuild calls of a graph, with proof that each view lies in its storage.
 *
 * The graph is the only truth: a tensor is decoded from its object when it is asked for (some ten reads of memory) and
 * nothing is kept. Sources of the argument lists: torch/_utils.py, torch/_tensor.py, torch/nn/parameter.py.
 * Immutable functions over a graph; the caller's lock covers them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/object/dtype.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"
#include "codec/tensor/storage.h"

enum wf_tensor_kind {
	WF_TENSOR_DENSE,   /* a strided view of a storage */
	WF_TENSOR_META,    /* no bytes: reads give -ENODATA */
	WF_TENSOR_STORAGE, /* a bare typed or untyped storage: 1-d, contiguous */
	WF_TENSOR_NUMPY,   /* an ndarray: bytes inside the pickle, C or Fortran order, or big endian */
};

struct wf_tensor {
	enum wf_tensor_kind kind;
	enum wf_dtype dtype;   /* of the elements */
	uint32_t storage;      /* index, or WF_NO_STORAGE for META */
	uint64_t offset_elems; /* of the first element, counted from the start of the storage (legacy view added) */
	uint64_t numel;
	uint64_t size_bytes; /* numel x element size: the file's size */
	uint32_t ndim;
	int64_t shape[WF_MAX_NDIM];
	int64_t stride[WF_MAX_NDIM]; /* elements; >= 0 */
	bool contiguous;             /* row-major without gaps: bytes are one run of the storage */
	bool requires_grad;
	bool conj, neg;   /* the logical value is the conjugate or negative of the raw bytes */
	bool swap;        /* NUMPY only: elements stand in the pickle big endian */
	bool parameter;   /* an nn.Parameter */
	wf_ref object;    /* what was decoded (a wrapper such as Parameter included) */
	wf_ref rebuild;   /* the innermost call that names storage, offset, size, stride (in its own arguments, or
	                              in those that _rebuild_from_type_v2 passes on); the PERSID itself for a bare storage */
	wf_ref type;      /* class GLOBAL when it is not plain torch.Tensor, else WF_NIL */
	wf_ref quantizer; /* the quantizer tuple, or WF_NIL */
	wf_ref record;    /* NUMPY only: a dtype that torch does not have (texts, dates, records, long doubles). Then
	                              dtype is uint8, and the last dimension counts the bytes of an element; else WF_NIL */
};

/* As NumPy counts them: without the bytes of an element. */
static inline uint32_t wf_tensor_shown_ndim(const struct wf_tensor *t)
{
	return t->ndim - (t->record != WF_NIL);
}
/* In elements, as NumPy counts these. */
static inline void wf_tensor_shown_stride(const struct wf_tensor *t, int64_t ret[WF_MAX_NDIM])
{
	uint32_t ndim = wf_tensor_shown_ndim(t);
	int64_t element = ndim < t->ndim && t->shape[ndim] > 0 ? t->shape[ndim] : 1;
	for (uint32_t i = 0; i < ndim; i++)
		ret[i] = t->stride[i] / element;
}
/* "float32"; NumPy's name where torch has no such dtype: "str96", "datetime64[D]". */
void wf_tensor_dtype_name(const struct wf_graph *g, const struct wf_tensor *t, struct wf_buffer *out);

/* The string object that holds an ndarray's bytes inside the pickle (a WF_STR: in latin-1; a call of bytes() where there are
 * none); WF_NIL when r is no array of a dtype of ours. */
wf_ref wf_numpy_data(const struct wf_graph *g, wf_ref r);

/* The list of the elements of an array of objects, and its shape; WF_NIL when r is no such array. */
wf_ref wf_numpy_objects(const struct wf_graph *g, wf_ref r, int64_t shape[WF_MAX_NDIM], uint32_t *ret_ndim);
/* A masked array, whose data are shown as an array: the last two elements of its state are the mask's bytes and the value
 * that fills it. */
bool wf_numpy_is_masked(const struct wf_graph *g, wf_ref r);

/* What a tensor has beside its data, and what a tensor subclass that wraps tensors is made of. */
struct wf_tensor_parts {
	bool is_tensor; /* as wf_is_tensor says */
	wf_ref state;   /* attributes: a mapping, a pair (mapping, slots), or whatever the class gave */
	wf_ref built;   /* a state that was set with BUILD, or WF_NIL */
	wf_ref func;    /* of what is no tensor: the function that makes it from args */
	wf_ref args;
};
/* false: r is neither a tensor call nor the call that makes a subclass. */
bool wf_tensor_parts_of(const struct wf_graph *g, wf_ref r, struct wf_tensor_parts *ret);
/* Cheap test by the called function's name: is this object shown as one tensor file? Not a subclass that wraps tensors. */
bool wf_is_tensor(const struct wf_graph *g, wf_ref r);
/* A sparse tensor (COO, CSR, CSC, BSR, BSC), or one quantised per channel: shown as a directory of component tensors.
 * So is a nested tensor. Fills names and objects of up to 5 components (static names: "indices", "values", "crow_indices",
 * "col_indices", "ccol_indices", "row_indices", "int_repr", "scales", "zero_points", "buffer", "sizes", "strides",
 * "offsets"). The object of int_repr is the quantised tensor itself. Returns their number, 0 when r is no such thing. */
uint32_t wf_tensor_components(const struct wf_graph *g, wf_ref r, const char *ret_names[5], wf_ref ret_objects[5]);

/* Decodes r. Returns: 0; -EINVAL r is no tensor; -EUCLEAN with the rule that it breaks (argument types, negative size
 * or stride, ndim mismatch, product overflow, view outside its storage, dtype mismatch); the storage's `bad`. Where only the
 * storage is to blame, *ret says what the tensor declares (dtype, shape, size_bytes), for listings. */
int wf_tensor_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *ret,
		     struct wf_error *err);
/* The storage that the object's bytes are in, also where it cannot be decoded; WF_NO_STORAGE: none, or r is no tensor. */
uint32_t wf_tensor_storage(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r);
/* "torch.nn.parameter.Parameter", "torch.Tensor", "numpy.ndarray", ...; a name of the file's own is put into buf. */
const char *wf_tensor_class(const struct wf_graph *g, const struct wf_tensor *t, char *buf, size_t size);
/* The same of an object that wf_is_tensor, without its being decoded. */
void wf_tensor_class_of(const struct wf_graph *g, wf_ref r, char *buf, size_t size);
/* Tuples of ints: torch.Size calls, tuples and lists. Returns the number of elements, -1 when r is none or has more
 * than WF_MAX_NDIM or a negative one. */
int wf_int_tuple(const struct wf_graph *g, wf_ref r, int64_t ret[WF_MAX_NDIM]);

/* Same data: storage, byte offset, shape, strides, dtype and conj/neg bits: two such names are a tie. Meta tensors, which have
 * no data, are tied when they are one object. */
bool wf_tensor_tied(const struct wf_tensor *a, const struct wf_tensor *b);
uint64_t wf_tensor_tie_hash(const struct wf_graph *g, const struct wf_tensor *t); /* the same of tied tensors */

/* Whether a commit can put a tensor of that dtype into such a file: the legacy format names dtypes by their storage's
 * class, a plain pickle has NumPy's, or torch's where it holds torch tensors, and safetensors its own. true of WF_DTYPE_INVALID. */
bool wf_container_holds(const struct wf_container *c, const struct wf_graph *g, enum wf_dtype dtype);

/* ---- making and changing the graph's form; all return 0, -ENOMEM or -E2BIG; -EINVAL what the form cannot say ---- */
/* ('storage', torch.<Class>, key, location, numel) wrapped in a PERSID; classes that weights_only accepts. */
int wf_tensor_make_persid(struct wf_graph *g, enum wf_dtype dtype, const char *key, const char *location,
			  uint64_t size_bytes, wf_ref *ret);
/* A contiguous _rebuild_tensor_v2 (v3 for dtypes that need it) over persid. */
int wf_tensor_make(struct wf_graph *g, wf_ref persid, enum wf_dtype dtype, uint64_t offset_elems, const int64_t *shape,
		   uint32_t ndim, bool requires_grad, wf_ref *ret);
/* A _rebuild_qtensor over persid with form, offset, stride and quantizer of *t. */
int wf_tensor_make_quantised(struct wf_graph *g, wf_ref persid, const struct wf_tensor *t, wf_ref *ret);
/* An ndarray over a bytes object of the graph; -EINVAL where NumPy has no such dtype. */
int wf_numpy_make(struct wf_graph *g, enum wf_dtype dtype, const int64_t *shape, uint32_t ndim, wf_ref data,
		  wf_ref *ret);
wf_ref wf_numpy_dtype_object(struct wf_graph *g, enum wf_dtype dtype); /* numpy.dtype('f4', ...); WF_NIL: no memory */
const char *wf_numpy_module(const struct wf_graph *g); /* where the pickle has _reconstruct and scalar */
/* Rewrites the arguments of t->rebuild in place: storage (persid), dtype, offset, shape and stride of *t as they stand in
 * t now. The form (v2, v3, qtensor, Parameter around it, state, hooks, metadata) stays, but v2 <-> v3 where dtype asks. */
int wf_tensor_update(struct wf_graph *g, const struct wf_tensor *t, wf_ref persid);
int wf_tensor_set_requires_grad(struct wf_graph *g, const struct wf_tensor *t, bool requires_grad);
/* Makes an ndarray in C order of a REDUCE call, whatever it was, with these bytes (a WF_BYTES). -EINVAL: NumPy has no such
 * dtype, or the call is of another form. */
int wf_numpy_become(struct wf_graph *g, wf_ref call, enum wf_dtype dtype, const int64_t *shape, uint32_t ndim,
		    wf_ref bytes);
/* What stands for the bytes of an ndarray, or of a storage inside the pickle, in the graph: a WF_BYTES or WF_BYTEARRAY, or a call that makes them; and other ones in
 * their place. They are to be as many as dtype and shape ask. -EINVAL array is none. */
wf_ref wf_numpy_parts(const struct wf_graph *g, wf_ref array); /* the tuple that holds those */
wf_ref wf_numpy_bytes(const struct wf_graph *g, wf_ref array);
/* An array of uint8 becomes one of elements that are no numbers: rows of its last dimension. -EINVAL: that has another size. */
int wf_numpy_set_record(struct wf_graph *g, wf_ref array, wf_ref dtype);
int wf_numpy_set_bytes(struct wf_graph *g, wf_ref array, wf_ref bytes);
