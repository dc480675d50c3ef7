/* SPDX-License-Identifier: MIT */
/* A flat dictionary of tensors: those below a directory, by their full names, in the tree's order, and what a new file of another format
 * has to know of them. Threads: the checkpoint's lock is held while it is read.
 */
#pragma once

#include "codec/compose/names.h"

/* 24 bytes: there can be 100,000. */
struct wf_flat_tensor {
	uint32_t name;  /* for wf_flat_name */
	uint32_t shape; /* into sizes; tensors of one shape that follow each other share it */
	uint32_t name_len;
	uint16_t ndim;
	uint8_t dtype;  /* enum wf_dtype */
	bool is_double; /* another tensor has the name, and this one none */
	wf_ino ino;     /* tied tensors have the same */
	uint32_t tie;   /* of tied ones the first by name; itself where there is no other */
};

struct wf_flat {
	struct wf_flat_tensor *tensors;
	uint32_t count, capacity;
	struct wf_buffer names; /* those that are no key of the graph by themselves */
	uint64_t name_bytes;    /* of all names */
	int64_t *sizes;
	uint32_t size_count, size_capacity;
	const struct wf_graph *graph;
	bool metadata_is_empty; /* the file has it, with nothing in it */
	wf_ref metadata;   /* of a safetensors file: the mapping of its texts; else WF_NIL. While the lock is held */
	uint32_t *by_name; /* all tensors in the order of their names' bytes */
};

/* What was left out: each line NAME, tab, reason; and how many of the lines are tensors. */
struct wf_skipped {
	struct wf_buffer text;
	uint32_t tensors;
	size_t first_tensor; /* where the first of these lines starts */
	uint32_t lost;       /* how many of the lines are of what the file lacks: not of what is no part of it */
};

/* refuses() gives the reason why a tensor cannot be in that file, or NULL. 0; -EFBIG: more bytes of names than any format takes; -ENOMEM.
 * wf_flat_free in either case.
 * taken: a name that tells something else where ties are told, so that a tied tensor of that name is left out; NULL.
 * Of two tensors with one name the first keeps it. */
int wf_flat_read(struct wf_checkpoint *ck, wf_ino dir, const char *(*refuses)(const struct wf_named *n),
		 const char *taken, struct wf_flat *ret, struct wf_skipped *skipped);
void wf_flat_free(struct wf_flat *f);
uint64_t wf_flat_bytes(const struct wf_flat *f, const struct wf_flat_tensor *t);
/* name_len bytes. While the lock is held. */
const char *wf_flat_name(const struct wf_flat *f, const struct wf_flat_tensor *t);
