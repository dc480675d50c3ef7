/* SPDX-License-Identifier: MIT */
/* A composed file: generated text and pieces of the checkpoint, one after the other, as if they stood in one file.
 *
 *   text, piece, piece, text, piece ...     each piece a tensor's elements, as its file in the tree shows them (a view that is not
 *                                           contiguous reads as contiguous), or a run of bytes of a storage
 *
 * Nothing is materialised: a read finds its pieces by their offsets, and decodes the tensors that it meets. What the text says is as
 * of the time when the file was made, and the pieces are held to it: a tensor that has another size since, or no bytes any
 * more, reads as -ESTALE and never as bytes that mean something else. Bytes that are written into a tensor show at once.
 *
 * Knows nothing of the format that it spells. Calling sequence: wf_composed_new; any number of wf_composed_text, _tensor and
 * _storage, wf_composed_finish; then reads and copies from any thread; wf_composed_free.
 * Threads: adding has one owner; reading and copying want the checkpoint's lock held shared (nodes stay as they are meanwhile).
 */
#pragma once

#include "codec/bytes/out.h"
#include "codec/compose/calls.h"
#include "codec/edit/state.h"

enum wf_piece_form {
	WF_PIECE_AS_SHOWN, /* row by row, little endian, as the tensor's file */
	WF_PIECE_AS_NUMPY, /* as np.save writes the array: column by column where that is how it lies; in its own byte order */
};

int wf_composed_new(struct wf_composed **ret);
/* Text goes to wf_composed_text's buffer; what was appended to it since the last piece comes before the next. */
struct wf_buffer *wf_composed_text(struct wf_composed *c);
int wf_composed_tensor(struct wf_composed *c, wf_ino ino, enum wf_piece_form form, uint64_t size_bytes);
int wf_composed_storage(struct wf_composed *c, uint32_t storage, uint64_t offset, uint64_t size_bytes);
int wf_composed_reserve(struct wf_composed *c, size_t pieces); /* a hint. 0 or -ENOMEM */
int wf_composed_finish(struct wf_composed *c);                 /* 0 or -ENOMEM */

/* The lock is held for these. */
ssize_t wf_composed_read_locked(struct wf_checkpoint *ck, const struct wf_composed *c, uint64_t offset, void *buf,
				size_t len);
/* Writes all of it to where `out` stands: runs of the checkpoint's file are moved, or cloned, in the kernel. */
int wf_composed_copy(struct wf_checkpoint *ck, const struct wf_composed *c, struct wf_out *out, struct wf_error *err);
/* A piece by itself, for a file of so many that their list would be its memory: as wf_composed_tensor adds it. */
int wf_composed_copy_tensor(struct wf_checkpoint *ck, wf_ino ino, uint64_t size_bytes, struct wf_out *out);
