/* SPDX-License-Identifier: MIT */
/* One slice of a `.distcp` file: a whole output of torch.save, in any of its formats, whose root is the tensor of a chunk or any value.
 *
 * Where the elements of a chunk begin is in no metadata: the slice is opened at the first read of it. Those of a tensor that was not
 * contiguous stand in another order than the chunk has them (torch keeps the strides of what it is given), and a slice may be big endian
 * or deflated: such ones are read through the slice (wf_dcp_slices_read), of which a few stay open.
 *
 * Threads: any.
 */
#pragma once

#include <stdint.h>

#include "codec/container/container.h"
#include "codec/directory/members.h"
#include "codec/tensor/tensor.h"

/* An open slice with its graph. */
struct wf_dcp_slice {
	struct wf_container *c;
	struct wf_graph *g;
	struct wf_storages *storages;
	wf_ref root;
};

/* -EIO a member that is missing; -EUCLEAN the slice is not in it, or is no output of torch.save; ... */
int wf_dcp_slice_open(struct wf_members *m, uint32_t member, uint64_t offset, uint64_t length, struct wf_dcp_slice *ret,
		      struct wf_error *err);
void wf_dcp_slice_close(struct wf_dcp_slice *s);
/* Its root as a tensor. */
int wf_dcp_slice_tensor(const struct wf_dcp_slice *s, struct wf_tensor *ret, struct wf_error *err);
/* Whether its elements lie one after the other in the member, and from which byte of the slice on. */
bool wf_dcp_slice_locate(const struct wf_dcp_slice *s, const struct wf_tensor *t, uint64_t *ret_at);

struct wf_dcp_slices;
int wf_dcp_slices_new(struct wf_dcp_slices **ret);
void wf_dcp_slices_free(struct wf_dcp_slices *s); /* accepts NULL */
/* Bytes of the tensor in row-major order. */
int wf_dcp_slices_read(struct wf_dcp_slices *s, struct wf_members *m, uint32_t member, uint64_t offset, uint64_t length,
		       uint64_t at, void *buf, size_t len, struct wf_error *err);
