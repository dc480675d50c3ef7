/* SPDX-License-Identifier: MIT */
/* One line of JSON a tensor: .weightfs/tensors.json and `wfctl ls --json` (the contract's section 2 lists the members); the lines of other
 * entries, and of many tensors at once, are made of the same pieces.
 *
 * Knows where a tensor's bytes are. Threads: the checkpoint's lock is held shared.
 */
#pragma once

#include "codec/checkpoint.h"
#include "codec/edit/state.h"

/* What the lines of all tensors that stand in the file have in common: made once, for there can be 100,000. */
struct wf_line_file {
	struct wf_buffer name;         /* its path */
	const struct dev_share *share; /* that `cuda` is of; NULL: none yet */
	struct wf_buffer cuda;         /* how to map its memory, the offset left out */
	bool *in_writing;              /* wf_edits_in_writing; NULL: none */
	bool devices;                  /* storages may have a place on one */
	struct wf_buffer id; /* device, inode, size and time of change: who maps the file compares them first */
};
int wf_line_file_init(struct wf_line_file *f, struct wf_checkpoint *ck); /* 0 or -ENOMEM */
void wf_line_file_free(struct wf_line_file *f);

/* A name of the tree, and the tensor that it shows (NULL: it shows none). */
struct wf_line {
	struct wf_checkpoint *ck;
	wf_ino ino;
	const struct wf_dir *dir; /* of the name; NULL: the root, which has none */
	uint32_t position;        /* of the name in dir */
	const struct wf_tensor *tensor;
	struct wf_line_file *file;
};

/* Every entry of the tree, in its order; the lock is held shared meanwhile. Returning non-zero ends it; paths are valid during
 * the call. */
struct wf_walk {
	int (*tensor)(void *ctx, const struct wf_tensor_row *row);
	int (*other)(void *ctx, const char *path,
		     const struct wf_line *l); /* a value, a link, a container; may be NULL */
	bool metadata;                         /* also those that stand beside the root, behind all others */
	bool containers; /* other() is called for containers with entries, too, before them, and for the root with the path "" */
	void *ctx;
};
int wf_walk(struct wf_checkpoint *ck, const struct wf_walk *w);

/* In codec/entries.c, of a walk with a wf_buffer for its context: appends the line that such an entry has in .weightfs/entries.json. */
int wf_other_line(void *ctx, const char *path, const struct wf_line *l);

/* Appends "path": ..., "key": ...: how the line of an entry begins. */
void wf_line_begin(const struct wf_line *l, const char *path, struct wf_buffer *out);
/* Appends member (", \"name\": ") and the text of the attribute, quoted or as the JSON that it is; nothing where the entry has none.
 * Returns 0 or a negative errno. */
int wf_line_attribute(const struct wf_line *l, const char *attribute, const char *member, bool quoted,
		      struct wf_buffer *out);

/* Whether it is an ordinary tensor with a storage, whose elements stand one after the other in the checkpoint's file, and where:
 * wf_file_run_end is the caller's. */
bool wf_row_in_file(const struct wf_tensor_row *row, struct wf_file_run *ret);
/* Appends, of such a one, an object of all members of its line that others have in common with it: without path, key, storage and
 * file_offset. */
void wf_row_form_json(const struct wf_tensor_row *row, const struct wf_file_run *run, struct wf_buffer *out);
/* The checkpoint's file, or of one in several files that of the run. */
const char *wf_line_file_path(const struct wf_line *l, const struct wf_file_run *run);

/* Appends "uuid": ..., "handle": ..., "socket": ...: how another process maps the memory of a share. */
void wf_share_json(const struct wf_shared *shared, struct wf_buffer *out);
