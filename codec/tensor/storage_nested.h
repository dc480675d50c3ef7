/* SPDX-License-Identifier: MIT */
/* A torch storage inside a plain pickle: torch.storage._load_from_bytes(bytes), where the bytes are a legacy stream
 * (container/legacy_read.c draws it) of one storage. That is how pickle.dump writes a tensor that torch.save would give an id.
 *
 * Functions over a graph; the caller's lock covers them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/object/dtype.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"

/* By the called function's name. */
bool wf_is_nested_storage(const struct wf_graph *g, wf_ref r);

bool wf_holds_nested_storage(const struct wf_graph *g); /* any */

struct wf_nested {
	wf_ref data;         /* the string object with the stream (a WF_STR means it in latin-1) */
	uint32_t skip_bytes; /* of the stream, to the elements */
	uint64_t size_bytes; /* of the elements */
	enum wf_dtype dtype; /* WF_UINT8 of an untyped one */
	bool untyped;
};

/* Takes the stream's head apart. Whether the elements are all there is not checked. Returns 0; -EINVAL r is none; -EUCLEAN,
 * -EOPNOTSUPP, -ENOMEM with a sentence. */
int wf_nested_parse(const struct wf_graph *g, wf_ref r, struct wf_nested *ret, struct wf_error *err);
/* Such a call for a new storage of the CPU. -EINVAL: the legacy format cannot hold this dtype. */
int wf_nested_make(struct wf_graph *g, enum wf_dtype dtype, const void *elements, uint64_t size_bytes, wf_ref *ret);
