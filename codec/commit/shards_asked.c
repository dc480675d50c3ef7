/* SPDX-License-Identifier: MIT */
/* Shards that users named for some of the tensors (user.torch.shard). */
#include <errno.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/commit/shards_inner.h"
#include "codec/tensor/tensor.h"

/* The shard of that name, old or new. */
static int shard_called(struct wf_commit_run *c, const char *name, uint32_t *capacity, uint32_t *ret)
{
	struct wf_shard_set *s = c->set;
	*ret = wf_huggingface_shard_meant(c->ck->container, name);
	for (uint32_t k = s->unnamed + 1; *ret == WF_NO_RECORD && k < s->count; k++)
		if (!strcmp(s->all[k].asked, name))
			*ret = k;
	if (*ret != WF_NO_RECORD)
		return 0;
	/* who holds the checkpoint may have made files since the name was given */
	if (wf_huggingface_check_shard(c->ck->container, name, c->err) < 0)
		return c->err->code;
	if (wf_array_reserve(&s->all, capacity, (uint64_t)s->count + 1, sizeof *s->all, UINT32_MAX) < 0)
		return wf_commit_no_memory(c);
	s->all[s->count] = (struct wf_shard_plan){
		.file = WF_NEW_FILE_INIT, .number = WF_NO_RECORD, .now = WF_NO_RECORD, .asked = strdup(name)};
	*ret = s->count;
	return s->all[s->count++].asked ? 0 : wf_commit_no_memory(c);
}

int wf_shards_ask(struct wf_commit_run *c, uint32_t *by_storage)
{
	const struct wf_checkpoint *ck = c->ck;
	const struct wf_dir *d = wf_tree_dir(ck->tree, WF_INO_ROOT);
	uint32_t capacity = c->set->count;
	for (uint32_t i = 0; d && i < d->count; i++) {
		const char *name = wf_edits_shard(ck, d->entries[i].ino);
		uint32_t shard, storage = name ? wf_tensor_storage(ck->graph, ck->storages, d->entries[i].value)
					       : WF_NO_STORAGE;
		if (storage == WF_NO_STORAGE)
			continue;
		int r = shard_called(c, name, &capacity, &shard);
		if (r < 0)
			return r;
		by_storage[storage] = shard + 1;
	}
	return 0;
}
