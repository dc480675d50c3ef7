/* SPDX-License-Identifier: MIT */
/* A Hugging Face checkpoint: an index (directory/index.h), and files of which each is a flat mapping from names to tensors.
 *
 *   space      [index][first shard][second shard]...         every file whole (directory/space.h)
 *   records    storage/N        the data of a tensor of a safetensors shard, N counted over all shards
 *              storage/S/KEY    a record data/KEY of the S-th shard, where that is a file of torch.save
 *              SHARD/...        other records of such a shard; index: the index
 *   graph      a dict of all tensors in the order of the index; the root objects of torch.save's shards stand beside it
 *
 * A shard that is missing or cannot be read costs its tensors: their record is bad and says why. A shard that holds other tensors than
 * the index says is no such shard, and the whole is refused. Tensors that were removed while it could not be read it may hold (struct
 * wf_index, removed): they are left out.
 *
 * What a commit needs to know of the shards is told here. Threads: as a container's.
 */
#pragma once

#include "codec/container/container.h"
#include "codec/directory/index.h"
#include "codec/object/object.h"

struct wf_shard {
	const char *name;
	uint64_t size_bytes;
	uint64_t start;        /* in the space */
	uint32_t first_record; /* of its records, which follow each other */
	uint32_t record_count;
	int bad;         /* it could not be read: a negative errno */
	const char *why; /* then: a sentence with its name */
	bool safetensors;
	uint64_t header_bytes; /* of safetensors */
	wf_ref root;           /* torch.save's: the mapping as it stands in the shard */
	wf_ref metadata;       /* safetensors': __metadata__ */
};

/* NULL when c is none. Once the graph is loaded; valid as long as c is. */
const struct wf_index *wf_huggingface_index(const struct wf_container *c);
/* The shards by the numbers of the index's files; the index itself has one, too, and is no shard. */
uint32_t wf_huggingface_shards(const struct wf_container *c);
const struct wf_shard *wf_huggingface_shard(const struct wf_container *c, uint32_t i);
/* The record of the whole that record i of the shard is, when that is opened by itself. */
uint32_t wf_huggingface_record(const struct wf_container *c, uint32_t shard, uint32_t i);
/* Of a file with that name; WF_NO_RECORD: no shard is called so. */
uint32_t wf_huggingface_shard_named(const struct wf_container *c, const char *name);
/* Commits write a shard again as STEM.wN.EXT: how long the stem of a name is, and where its .EXT begins. */
size_t wf_huggingface_stem(const char *name, const char **ret_end);
/* The shard that a user means by a name: the one that is called so, else the only one that is but for the .wN of commits; WF_NO_RECORD. */
uint32_t wf_huggingface_shard_meant(const struct wf_container *c, const char *name);
/* Whether a tensor can be moved to a file with that name: a shard that can be read, or a new one. 0; -EINVAL no name for one, or another file
 * has it; -EIO the shard cannot be read. With a text. */
int wf_huggingface_check_shard(const struct wf_container *c, const char *name, struct wf_error *err);
/* After a commit the graph goes on, and what was made of the new files is dropped: the objects of the shard in the graph that goes on. */
void wf_huggingface_adopt(struct wf_container *c, uint32_t shard, wf_ref root, wf_ref metadata);
/* The shard that a record is in. */
uint32_t wf_huggingface_shard_of(const struct wf_container *c, uint32_t record);
