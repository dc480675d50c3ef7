/* SPDX-License-Identifier: MIT */
/* Tensors that are shown as the directory of their parts (wf_tensor_components): what such a tensor is beside these, as a text,
 * and the tensor made again of the two.
 *
 * The text is a JSON list, so that the attributes of a directory can carry it to another checkpoint:
 *
 *   ["torch.sparse_coo", [4, 3], true]      layout, shape, whether it is coalesced (left out where the file does not say)
 *   ["torch.sparse_csr", [4, 3]]            csc, bsr and bsc likewise
 *   ["nested"]
 *   ["per_channel_affine", "qint8", 0]      scheme, dtype, axis
 *   ["parameter", false, [...]]             a Parameter around one of the first six, and its requires_grad
 *
 * Functions over a graph; the caller's lock covers them. */
#pragma once

#include "codec/tensor/tensor.h"

#define WF_ASSEMBLY_PARTS 5u

/* Appends the text. -ENODATA: r is no such tensor, or more than these words say (a class of its own, a state). */
int wf_assembly_text(const struct wf_graph *g, const struct wf_storages *ss, wf_ref r, struct wf_buffer *out);
/* The tensor that `what`, the text as a LIST, makes of n parts. That of a quantised tensor changes the class of the storage that holds
 * int_repr, which nothing else may view. *ret_why: why not, a fixed sentence, where -EINVAL is returned; else 0, -ENOMEM, -E2BIG. */
int wf_assembly_make(struct wf_graph *g, struct wf_storages *ss, wf_ref what, const char *const *names,
		     const wf_ref *objects, uint32_t n, wf_ref *ret, const char **ret_why);
/* What the elements of a quantised dtype are as long as nothing tells their scales: int_repr before its directory is the tensor.
 * WF_DTYPE_INVALID: there are none of one element each. */
enum wf_dtype wf_assembly_integers(enum wf_dtype dtype);
