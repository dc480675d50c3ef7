/* SPDX-License-Identifier: MIT */
/* A commit of a Hugging Face checkpoint: the shards that changed, each as a file under a new name, and the new index, whose rename is the
 * commit. commit/shards.c decides which key is in which shard and which shards changed, commit/shards_index.c makes the index of it, and
 * commit/shards_write.c writes and checks them.
 * The steps are those of a commit to a new file, which the index is; these take the places of wf_plan_make, wf_commit_write,
 * wf_commit_reopen and wf_plan_adopt. */
#pragma once

#include "codec/commit/run_inner.h"
#include "codec/directory/huggingface.h"

struct wf_shard_plan {
	const struct wf_shard *old; /* NULL: a new one */
	char *asked;                /* of a new one: the name that a user gave it; else NULL */
	uint32_t number;            /* among the old files of the index; WF_NO_RECORD for a new one */
	wf_ref keys;                /* a dict of what is in it, in the order of the whole; WF_NIL: nothing any more */
	bool touched;
	char *name; /* of the new file; NULL: it is not written */
	struct wf_plan plan;
	bool planned;
	uint64_t hash;           /* of its keys and values as they are, without the bytes of storages */
	bool dirty;              /* bytes of a storage changed, or it is a new one */
	struct wf_new_file file; /* WF_NEW_FILE_INIT until it is made */
	uint32_t *records;       /* by part of the plan, in the file that was written */
	uint32_t now;            /* its number in the new index; WF_NO_RECORD: it is gone */
};

struct wf_shard_set {
	struct wf_shard_plan
		*all;            /* by old number; then a new one for what has no place; then those that users named */
	uint32_t count, unnamed; /* and which the new one is */
	uint32_t *shard_of;      /* by position in the root */
	bool *live;              /* by storage */
	struct wf_key_map removed;  /* of the new index (struct wf_index): from shards that cannot be read now */
	uint64_t unread_bytes;      /* of the tensors in shards that cannot be read, as far as the old index tells */
	bool total_unknown;         /* it does not: total_size is left out, which no library needs */
	bool parameters_differ;     /* total_parameters is left out */
	struct wf_container *fresh; /* the checkpoint as it is on disk, to compare with */
	struct wf_buffer index;     /* the text of the new index */
	char *home;                 /* the directory */
	int home_fd;                /* of it, while shards are written; -1 */
	bool noted;                 /* the overlay may have a list of files */
};

/* Plans all of it. `lock` is held exclusively. */
int wf_shards_plan(struct wf_commit_run *c);
/* The __metadata__ that it gets, of a safetensors file. */
wf_ref wf_shards_metadata(const struct wf_shard_set *s, const struct wf_shard_plan *p);
/* Of a shard that cannot be read: the dict of those of its base's items that the new index still names, in g; the others go to set->removed. */
int wf_shards_leave_out(struct wf_commit_run *c, struct wf_shard_plan *p, struct wf_graph *g, wf_ref base, wf_ref *ret);
/* For set->unread_bytes, set->total_unknown and set->parameters_differ: g, base and root are of the checkpoint as it is on disk; live: which
 * storages are tensors'. Returns 0, -ENOMEM. */
int wf_shards_count(struct wf_commit_run *c, const struct wf_graph *g, const struct wf_storages *base, wf_ref root,
		    const bool *live);
/* commit/shards_asked.c: adds the shards that users named, and notes in by_storage (a shard + 1; 0: not said) what they moved. */
int wf_shards_ask(struct wf_commit_run *c, uint32_t *by_storage);
/* Makes set->index, once names are given. */
int wf_shards_make_index(struct wf_commit_run *c);
/* Writes the shards, and the index into fd; all of it is durable on return. */
int wf_shards_write(struct wf_commit_run *c, int fd);
/* Opens what was written (c->source is the index), and fills in c->container and c->records, of which all are WF_NO_RECORD. */
int wf_shards_reopen(struct wf_commit_run *c);
/* The commit is a fact: `lock` is held exclusively, before the storages go over to the new container and after. */
void wf_shards_adopt(struct wf_commit_run *c);
void wf_shards_adopted(struct wf_commit_run *c);
/* After the overlay was cleared: removes the files that the new index does not name. */
void wf_shards_clear(struct wf_commit_run *c);
/* The files stay, where the checkpoint does not go on from them. */
void wf_shards_stay(struct wf_commit_run *c);
/* Takes back what was planned, and removes what was written, when the commit failed; frees it in any case. */
void wf_shards_free(struct wf_commit_run *c, bool failed);
