/* SPDX-License-Identifier: MIT */
/* The JSON of a safetensors header, read by the rules of the format's own reader (safetensors/src/tensor.rs), and one more: a name
 * that stands there twice is refused, which that reader takes in silence.
 *
 *	struct wf_safetensors_header h = {0};
 *	r = wf_safetensors_header_read(file, &h, err);
 *	...
 *	wf_safetensors_header_free(&h);
 *
 * The header knows bytes, names and numbers; what a graph and a container get of it is made below. The text is read once through a window:
 * what is held is the names, and WF_SAFETENSORS_JSON_MAX bounds them. Threads: one owner.
 */
#pragma once

#include <stdbool.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"
#include "codec/container/container.h"
#include "codec/container/safetensors_head.h"
#include "codec/container/tensor_maker.h"

struct wf_safetensors_tensor {
	size_t name;  /* offset in `text` */
	size_t shape; /* index in `sizes`, as torch counts */
	uint32_t name_len, ndim;
	enum wf_dtype dtype;
	uint64_t begin, end; /* behind the header */
};

struct wf_safetensors_pair {
	size_t key, value; /* offsets in `text` */
	uint32_t key_len, value_len;
};

struct wf_safetensors_header {
	uint64_t json_bytes; /* N: the data begins at 8 + N */
	struct wf_buffer text;
	int64_t *sizes;
	uint32_t size_count, size_capacity;
	struct wf_safetensors_tensor *tensors; /* in the order of the JSON */
	uint32_t tensor_count, tensor_capacity;
	struct wf_safetensors_pair *pairs; /* of __metadata__, in the order of the JSON */
	uint32_t pair_count, pair_capacity;
	bool has_metadata; /* maybe without a pair */
};

/* Whether the first bytes are those of such a file, a damaged one, too. 1 they are, 0, or the error of reading. */
int wf_safetensors_begins(struct wf_source *file);
/* Returns 0; -EUCLEAN a rule is broken; -EOPNOTSUPP what torch has no tensor for; -E2BIG; -ENOMEM; the error of reading. */
int wf_safetensors_header_read(struct wf_source *file, struct wf_safetensors_header *ret, struct wf_error *err);
void wf_safetensors_header_free(struct wf_safetensors_header *h);

/* ---- objects and records of the tensors that a header tells of ---- */

struct wf_safetensors_maker {
	struct wf_container *c;
	struct wf_error *err;
	struct wf_tensor_maker tensors;
};

int wf_safetensors_maker_init(struct wf_safetensors_maker *l, struct wf_container *c, struct wf_graph *g,
			      struct wf_error *err);
/* Tensor i of the header as torch.load would have made it, over a new record storage/NUMBER of the container; the file that the header is
 * of begins at `file` in that of the container. */
int wf_safetensors_make_tensor(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, uint32_t i,
			       uint64_t file, uint32_t number, wf_ref *ret);
/* __metadata__ as a dict of texts. */
int wf_safetensors_make_metadata(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, wf_ref *ret);
