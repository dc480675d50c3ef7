/* SPDX-License-Identifier: MIT */
/* A tensor's file is its elements in row-major order; its storage may hold them in any strided order. This module tells where in the
 * storage a tensor's bytes are (tensor/layout.c), and moves bytes between a range of the file and the storage (tensor/layout_move.c).
 *
 * A range starts anywhere, inside an element too. Stride 0 and overlapping views read like any other. No memory proportional to the
 * tensor. Threads: whoever may use the storages.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/tensor/storage.h"
#include "codec/tensor/tensor.h"

/* Where the first element stands in the storage, in bytes. */
uint64_t wf_layout_start(const struct wf_tensor *t);

/* Where all of the tensor's bytes stand one after the other, as its file shows them, in a file (the checkpoint's); false where
 * they do not, or there are none. As wf_storage_locate. */
bool wf_tensor_locate(const struct wf_storages *ss, const struct wf_tensor *t, struct wf_file_run *ret);
/* Where a run of its elements stands that begins at byte `at` of its file, in the checkpoint's file or the overlay's; it ends
 * with the tensor at the latest. false for what is not stored as it is shown. As wf_storage_find_run. */
bool wf_tensor_find_run(const struct wf_storages *ss, const struct wf_tensor *t, uint64_t at, struct wf_file_run *ret,
			bool *ret_written);

/* Reads [offset, offset + len) of the tensor's file; the range must lie inside size_bytes. Conjugate and negative bits
 * are resolved (the file shows the logical values), NumPy's big-endian elements swapped. */
int wf_tensor_read(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len);
/* Scatters. -EOPNOTSUPP where two indices of the written range share bytes (wf_layout_overlaps). */
int wf_tensor_write(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, const void *buf, size_t len);
/* Whether two indices of the tensor can name the same element (stride 0 with size > 1, as_strided overlaps). May say true
 * for an exotic view that has none, never false for one that has. */
bool wf_layout_overlaps(const struct wf_tensor *t);
/* Bytes of the storage that the view spans: [*ret_start, *ret_end). Equal for an empty tensor. */
void wf_layout_span(const struct wf_tensor *t, uint64_t *ret_start, uint64_t *ret_end);
