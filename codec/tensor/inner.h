/* SPDX-License-Identifier: MIT */
/* What tensor*.c share. Nobody else includes it. */
#pragma once

#include "codec/tensor/tensor.h"

/* Parameter around a subclass around a device copy ...: more than this is nothing that torch wrote */
#define WF_MAX_WRAPPERS 16

/* The rebuild functions, by what their arguments look like. */
enum wf_rebuild {
	WF_REBUILD_NONE,
	WF_REBUILD_V1,         /* _rebuild_tensor(storage, offset, size, stride) */
	WF_REBUILD_V2,         /* _rebuild_tensor_v2(..., requires_grad, hooks[, metadata]) */
	WF_REBUILD_V3,         /* _rebuild_tensor_v3(..., requires_grad, hooks, dtype[, metadata]) */
	WF_REBUILD_QUANTISED,  /* _rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks) */
	WF_REBUILD_META,       /* _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad) */
	WF_REBUILD_WRAPPER,    /* _rebuild_wrapper_subclass(class, dtype, size, stride, offset, layout, device,
				* requires_grad) */
	WF_REBUILD_PARAMETER,  /* _rebuild_parameter[_with_state](tensor, requires_grad, hooks[, state]) */
	WF_REBUILD_VARIABLE,   /* Parameter or Variable(tensor[, requires_grad]), maybe BUILD (requires_grad, _, hooks);
				* or Variable() BUILD (tensor, _, hooks, requires_grad, _) */
	WF_REBUILD_FROM_TYPE,  /* _rebuild_from_type[_v2](func, type, args, state) */
	WF_REBUILD_FROM_CPU,   /* _rebuild_device_tensor_from_cpu_tensor(tensor, dtype, device, requires_grad) */
	WF_REBUILD_FROM_NUMPY, /* _rebuild_device_tensor_from_numpy, _rebuild_xla_tensor(array, dtype, device,
				  requires_grad) */
	WF_REBUILD_OLD_TENSOR, /* torch.FloatTensor() BUILD (storage, offset, size, stride), of 0.1 */
	WF_REBUILD_NUMPY,      /* ndarray */
	WF_REBUILD_SPARSE,     /* _rebuild_sparse_tensor(layout, data): components, no tensor file */
	WF_REBUILD_NESTED,     /* _rebuild_nested_tensor(buffer, sizes, strides, offsets): components */
};

/* A rebuild call taken apart. */
struct wf_form {
	enum wf_rebuild rebuild; /* that of the function that _rebuild_from_type_v2 calls */
	wf_ref args;             /* of that function; the state of an old tensor */
	bool from_type;
};
struct wf_form wf_form_of(const struct wf_graph *g, wf_ref r);

/* The tensor inside a wrapper (a Parameter, a copy for a device), WF_NIL for anything else. */
wf_ref wf_form_inner(const struct wf_graph *g, wf_ref r, const struct wf_form *f);
/* Position of requires_grad in f->args, or -1. */
int wf_form_requires_grad(const struct wf_graph *g, const struct wf_form *f);
/* Position of requires_grad in the state of a Parameter or Variable of before 0.4, which then counts, or -1. */
int wf_state_requires_grad(const struct wf_graph *g, wf_ref r, const struct wf_form *f);

/* tensor/kinds.c: a PERSID of a storage; and the class of a subclass, unless an outer wrapper has told it. */
bool wf_is_storage(const struct wf_graph *g, wf_ref r);
void wf_read_type(const struct wf_graph *g, wf_ref type, struct wf_tensor *t);

/* tensor/numpy.c: fills all of t but what follows from dtype, shape and stride. */
int wf_numpy_decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_tensor *t,
		    struct wf_error *err);
/* kind and type of an ndarray, for its class's name. */
void wf_numpy_class(const struct wf_graph *g, wf_ref r, struct wf_tensor *t);
/* wf_tensor_update for an ndarray. */
int wf_numpy_update(struct wf_graph *g, const struct wf_tensor *t);
