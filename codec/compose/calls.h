/* SPDX-License-Identifier: MIT */
/* Files made of the checkpoint's tensors: .weightfs/safetensors, .weightfs/npy and wfctl export. checkpoint.h brings it, and tells of
 * threads and errors. Numbers of inodes are those of wf_stat.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"

struct wf_checkpoint;
struct wf_composed;

/* A number that every edit, commit or revert changes: what was composed under another one may say what is no longer so. */
uint64_t wf_edition(struct wf_checkpoint *ck);

/* The directory whose tensors are those of the checkpoint as a whole: the root; of a checkpoint of DeepSpeed `model`. */
uint32_t wf_flat_root(struct wf_checkpoint *ck);
/* The tensors below a directory of the tree as a safetensors file, names joined with '.': what safetensors.torch.save_file writes, with
 * the metadata {"format": "pt"}. Of tied tensors the first name, and the others in the metadata, as save_model does.
 * *ret_edition: the wf_edition of what it shows; NULL: not wanted.
 * Returns: 0; -ENOTDIR; -ENOENT; -EFBIG more names than a reader takes; -ENOMEM. */
int wf_compose_safetensors(struct wf_checkpoint *ck, uint32_t dir, struct wf_composed **ret, uint64_t *ret_edition);
/* A tensor as np.save writes it. -EOPNOTSUPP: NumPy has no such dtype; -ENODATA (meta); or why it cannot be read. */
int wf_compose_npy(struct wf_checkpoint *ck, uint32_t ino, struct wf_composed **ret);

/* An .npy file that is being written: .weightfs/npy. What is gathered is judged by wf_npy_flush, and is the tensor then: data, dtype and
 * shape. Its own head, as it was written, is read back until wf_npy_close. Any thread. */
struct wf_npy_file;
/* anew: it starts empty, whatever the entry holds. -EROFS; what wf_compose_npy returns; -ENOMEM. */
int wf_npy_open(struct wf_checkpoint *ck, uint32_t ino, bool anew, struct wf_npy_file **ret);
/* Flush before it. Returns whether the entry is a tensor by now: else nothing that was written was ever accepted. */
bool wf_npy_close(struct wf_npy_file *f);
uint64_t wf_npy_size(struct wf_npy_file *f);
ssize_t wf_npy_read(struct wf_npy_file *f, uint64_t offset, void *buf, size_t len);
ssize_t wf_npy_write(struct wf_npy_file *f, uint64_t offset, const void *buf, size_t len);
int wf_npy_resize(struct wf_npy_file *f, uint64_t size);
/* -EINVAL: no .npy file, or not all of it, objects, a dtype that torch does not have; what the edit is refused with. The entry stays what
 * it was then, and the file what was written. */
int wf_npy_flush(struct wf_npy_file *f);

uint64_t wf_composed_size(const struct wf_composed *c);
/* As wf_read. -ESTALE: a tensor of it is gone, or has another size. */
ssize_t wf_composed_read(struct wf_checkpoint *ck, const struct wf_composed *c, uint64_t offset, void *buf, size_t len);
/* What could not be said, a line each: name, tab, reason. Borrowed. */
const struct wf_buffer *wf_composed_skipped(const struct wf_composed *c);
void wf_composed_free(struct wf_composed *c);

/* ---- new files ---- */
enum wf_export_format { WF_EXPORT_SAFETENSORS, WF_EXPORT_PT, WF_EXPORT_NPZ };

struct wf_export {
	enum wf_export_format format;
	const char *prefix; /* path of a directory in the tree, names joined with '/'; NULL: the root */
	/* of tensors in one file, with an index beside them as Hugging Face has it; 0: one file */
	uint64_t max_shard_bytes;
	mode_t mode; /* of a file that is not there yet */
	/* the checkpoint is closed afterwards, whatever comes of it, and nobody else uses it: memory goes back early */
	bool last;
	bool skip; /* leave out tensors that the format cannot hold, instead of refusing */
	_Atomic uint64_t *done_bytes, *total_bytes; /* for who shows them; may be NULL */
};

/* Writes the tensors below the prefix, under their full names, into a new file: a safetensors file, a zip that torch.load reads with
 * weights_only (a flat dict; tensors that shared a storage do again), or an .npz. It has a temporary name beside its own until it is
 * durable. What has no place in it goes to *ret_skipped, a line each: NAME, tab, reason.
 * Returns: 0; -ENOENT, -ENOTDIR the prefix; -EOPNOTSUPP tensors that the format cannot hold; -EFBIG; -ESTALE; the system's error. */
int wf_export(struct wf_checkpoint *ck, const struct wf_export *x, const char *out, struct wf_buffer *ret_skipped,
	      struct wf_error *err);
