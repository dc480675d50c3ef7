/* SPDX-License-Identifier: MIT */
/* The plan of a commit of a distributed checkpoint, between commit/dcp.c, commit/dcp_leaves.c, commit/dcp_tensors.c and commit/dcp_slices.c. Nobody else includes it. */
#pragma once

#include "codec/commit/dcp.h"
#include "codec/directory/dcp_write.h"
#include "codec/tensor/tensor.h"

/* One entry of the new metadata. */
struct dcp_leaf {
	wf_ref object;
	uint32_t entry; /* of the old container, when it stays; UINT32_MAX */
	bool tensor;
	size_t name, name_len;    /* in names */
	uint32_t ways, way_count; /* the way to it */
	uint32_t slices,
		slice_count; /* new ones: of a new entry one with all of it, of a tensor that stays those of its changed chunks. Names
	                                   * of one object have the same ones */
	struct wf_buffer pickle;          /* of a new value: its data.pkl */
	uint32_t storages, storage_count; /* of a value, in storages; a new one's pickle names them 0, 1, ... */
	uint64_t sum;                     /* for wf_dcp_adopt */
};

/* A slice that is written. */
struct dcp_slice {
	uint32_t leaf;
	uint32_t old; /* which of the entry's old slices it stands for */
	size_t box;   /* of a tensor that stays: ndim offsets in numbers, and then ndim sizes */
	uint64_t offset, length;
};

struct dcp_way {
	size_t text; /* in names; of a position the number */
	uint32_t len;
	bool position;
};

struct wf_dcp_plan {
	struct wf_commit_input in;
	bool *live; /* borrowed while it is made */
	struct dcp_leaf *leaves;
	uint32_t count, room;
	struct dcp_way *ways;
	uint32_t way_count, way_room;
	uint32_t *storages;
	uint32_t storage_count, storage_room;
	struct dcp_slice *slices;
	uint32_t slice_count, slice_room;
	uint64_t *numbers;
	uint32_t number_count, number_room;
	uint32_t ties;             /* names that come to have their bytes by themselves, */
	uint32_t tied, tied_first; /* ... the first of them, and the one that it shared them with */
	struct wf_buffer names;
	struct wf_dcp_writer *writer;
	char *home;
	char *file; /* the name of the slice file; NULL: there is nothing new */
	char *path;
	int fd;                  /* of that; -1: it was not made yet */
	struct wf_key_map files; /* that the new metadata name, once they were read */
	bool kept;
	struct wf_error *err;
};

/* commit/dcp_leaves.c: the leaves of the tree in their order. */
int dcp_find_leaves(struct wf_dcp_plan *p);

/* commit/dcp_tensors.c */
/* The leaves of tensors so far. */
struct dcp_tensors {
	struct wf_map of_object;  /* the first one that is this object */
	struct wf_map of_storage; /* ... that has this storage */
};

/* A storage as it was read: nothing was written over it. */
bool dcp_is_clean(const struct wf_dcp_plan *p, uint32_t storage);
int dcp_add_storage(struct wf_dcp_plan *p, uint32_t storage);
/* Fills in the leaf, which has a name, of an object that is a tensor. *ret_tensor: it is an entry as a tensor, or a value that stays; else it is
 * a value, about which nothing was done. Of one that has other names the first has its slices already. */
int dcp_take_tensor(struct wf_dcp_plan *p, struct dcp_tensors *known, struct dcp_leaf *leaf, bool *ret_tensor);
void dcp_tensors_free(struct dcp_tensors *known);

/* commit/dcp_slices.c */
/* The slices of a tensor that stays and was written to: which of its chunks that is. */
int dcp_find_changed_chunks(struct wf_dcp_plan *p, struct dcp_leaf *leaf, const struct wf_tensor *t);
/* The one slice of a new entry. */
int dcp_add_slice(struct wf_dcp_plan *p, struct dcp_leaf *leaf);
/* Gives the new file a name, where there is something to write. */
int dcp_name_file(struct wf_dcp_plan *p);
/* Whether the name is one that a commit gives a slice file, which is no one else's, and the number in it. */
bool dcp_is_own_file(const char *name, uint64_t *ret_number);
/* Writes all of them into a new file, durable on return. */
int dcp_write_slices(struct wf_dcp_plan *p, _Atomic uint64_t *done_bytes);
/* Reads them again. */
int dcp_check_slices(struct wf_dcp_plan *p);
