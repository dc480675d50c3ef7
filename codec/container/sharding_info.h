/* SPDX-License-Identifier: MIT */
/* What torch.distributed.checkpoint says in the __metadata__ of a safetensors file (HuggingFaceStorageWriter): where in the whole tensor each
 * part begins. Its reader wants that of every tensor in the file, so that it follows the names when a file is written anew.
 *
 *   DCP_SHARDING_INFO    a text of JSON: {"fqn": {"saved_offsets": [4, 0]}, ...}
 *
 * Threads: pure functions. */
#pragma once

#include <stdbool.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/key_map.h"
#include "codec/container/safetensors_head.h"

#define WF_SHARDING_INFO "DCP_SHARDING_INFO"

struct wf_sharding_offsets {
	uint64_t at[WF_MAX_NDIM];
	uint32_t n;
	bool told;
};

/* The offsets of each name, at the name's number in ret, which is all zero before; others are passed over. false: the text is none of that
 * kind. */
bool wf_sharding_info_read(const char *text, size_t len, const struct wf_key_map *names,
			   struct wf_sharding_offsets *ret);
/* The text for a file of these items. Where all that the old one tells of begins at zero, so do tensors that it does not know. 1: the text
 * is right as it is, or none of that kind; 0: ret has the new one; -EOPNOTSUPP: it tells of parts, and nothing of item *ret_item; -ENOMEM. */
int wf_sharding_info_renew(const char *text, size_t len, const struct wf_safetensors_items *items,
			   struct wf_buffer *ret, size_t *ret_item);
