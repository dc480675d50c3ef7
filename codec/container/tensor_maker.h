/* SPDX-License-Identifier: MIT */
/* Tensors in a graph for formats that have no pickle of them: what torch.load would have made of each, a rebuild call over a storage on
 * the cpu. All tensors of one maker share what cannot be changed;
 * hooks, of which these formats have none, they have as torch writes them.
 * Threads: as the graph. */
#pragma once

#include "codec/bytes/err.h"
#include "codec/object/dtype.h"
#include "codec/object/object.h"

struct wf_tensor_maker {
	struct wf_graph *g;
	wf_ref storage, cpu, no, hooks, untyped, rebuild[2]; /* v2, v3 */
	wf_ref classes[WF_DTYPE_COUNT], dtypes[WF_DTYPE_COUNT];
};

/* The limit of the graph or of memory as an error. */
int wf_tensor_maker_full(const struct wf_graph *g, struct wf_error *err);
int wf_tensor_maker_init(struct wf_tensor_maker *m, struct wf_graph *g, struct wf_error *err);
/* A contiguous tensor whose storage has this key and as many bytes. name is the one that an error is to tell.
 * Returns 0; -EOPNOTSUPP strides that torch does not have; -ENOMEM, -E2BIG. */
int wf_tensor_maker_make(struct wf_tensor_maker *m, enum wf_dtype dtype, const char *key, const int64_t *sizes,
			 uint32_t ndim, uint64_t bytes, const char *name, wf_ref *ret, struct wf_error *err);
