/* SPDX-License-Identifier: MIT */
/* The container of a Hugging Face checkpoint, between directory/huggingface.c, which opens and answers, and
 * directory/huggingface_load.c, which reads the shards. Nobody else includes it. */
#pragma once

#include "codec/container/records.h"
#include "codec/directory/huggingface.h"
#include "codec/directory/space.h"

struct hf_shard {
	struct wf_shard shown;
	struct wf_container *archive; /* of torch.save; NULL for others */
	char why[512];
};

/* Of a record: the shard, and the record of the shard's archive. */
struct hf_place {
	uint32_t shard, record;
};

struct hf_container {
	struct wf_container base;
	struct wf_members *members; /* own reference */
	struct wf_index index;
	struct hf_shard *shards; /* by member */
	struct hf_place *places; /* by record */
	uint32_t place_count, place_capacity;
	bool loaded;
};

int hf_load(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err);
