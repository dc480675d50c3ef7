/* SPDX-License-Identifier: MIT */
/* The inside of composed files. */
#pragma once

#include "codec/compose/composed.h"
#include "codec/compose/flat.h"
#include "codec/container/safetensors_head.h"

enum { PIECE_TEXT, PIECE_TENSOR, PIECE_STORAGE };

struct wf_piece {
	uint64_t start; /* in the file; it ends where the next one starts */
	uint64_t from;  /* in the text, or in the storage */
	uint32_t what;  /* the tensor's inode number, or the storage */
	uint8_t kind, form;
};

struct wf_composed {
	struct wf_buffer text;   /* of all pieces of text */
	size_t text_placed;      /* how much of it has a piece */
	struct wf_piece *pieces; /* sorted by start; none is empty */
	size_t count, capacity;
	uint64_t size_bytes;
	struct wf_buffer skipped;
};

/* What is in a safetensors file, in its order; names and shapes are borrowed from the flat dictionary. */
struct wf_safetensors_plan {
	const struct wf_flat *flat;
	uint32_t *ids; /* of tensors of the dictionary */
	size_t count;
	struct wf_safetensors_note *notes;
	size_t note_count;
	struct wf_buffer info; /* the text of a note that was made anew (container/sharding_info.h) */
	uint64_t data_bytes;
};
/* Of those tensors that file_of gives it (NULL: all). 0, -ENOMEM, -EFBIG; -EOPNOTSUPP the file's own notes say that it has parts of tensors,
 * and not which one of them is; wf_safetensors_plan_free in any case. */
int wf_safetensors_plan(const struct wf_flat *f, const uint32_t *file_of, uint32_t file,
			struct wf_safetensors_plan *ret);
struct wf_safetensors_items wf_safetensors_plan_items(const struct wf_safetensors_plan *p);
void wf_safetensors_plan_free(struct wf_safetensors_plan *p);
/* One safetensors file of those tensors that file_of gives it (NULL: all). 0, -ENOMEM, -EFBIG. */
int wf_safetensors_of(const struct wf_flat *f, const uint32_t *file_of, uint32_t file, struct wf_composed **ret);
const char *wf_safetensors_refuses_tensor(const struct wf_named *n); /* for wf_flat_read */
#define WF_SAFETENSORS_TAKEN "format" /* the same; of a file without metadata of its own */
/* wf_compose_npy with the lock held. */
int wf_npy_of(const struct wf_checkpoint *ck, wf_ino ino, struct wf_composed **ret);
/* Whether np.save would write it column by column. */
bool wf_piece_by_columns(const struct wf_tensor *t);
