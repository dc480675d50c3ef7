/* SPDX-License-Identifier: MIT */
/* What the writers of new files share: the file under its temporary name, and records of a zip. For this folder, and the writers of
 * each format, which export.c calls. */
#pragma once

#include <sys/types.h>

#include "codec/commit/file.h"
#include "codec/compose/inner.h"
#include "codec/container/zip_write.h"

struct wf_file_id {
	dev_t dev;
	ino_t ino;
};

/* A new file under its temporary name. */
struct wf_target {
	struct wf_new_file file;
	struct wf_out out;
};
/* like: a file whose blocks may be cloned into it; -1. 0, or the system's error with a text. wf_target_free in every case. */
int wf_target_open(struct wf_target *t, const char *path, uint64_t size_bytes, const struct wf_export *x, int like,
		   struct wf_error *err);
/* Whole, durable and dressed, still under its temporary name; then under its own. */
int wf_target_complete(struct wf_target *t, const struct wf_export *x, struct wf_error *err);
int wf_target_finish(struct wf_target *t, const struct wf_export *x, struct wf_error *err);
void wf_target_free(struct wf_target *t);

/* The files that a checkpoint is made of, links followed, which no export takes the name of. */
struct wf_own_files {
	struct wf_file_id *ids;
	uint32_t count, room;
};
int wf_own_files_read(const struct wf_checkpoint *ck, struct wf_own_files *ret, struct wf_error *err);
void wf_own_files_free(struct wf_own_files *own);
/* 0, or -EINVAL or -EISDIR with a text: what is at that path is one of them, or no regular file. */
int wf_own_files_refuse(const struct wf_own_files *own, const char *path, struct wf_error *err);

/* A record of a zip, summed; where its bytes are those of a whole record of the checkpoint, as that one is. */
int wf_put_composed(struct wf_checkpoint *ck, struct wf_zip_writer *zip, const char *name, size_t name_len,
		    const struct wf_composed *c, struct wf_error *err);
/* The same of bytes in memory. */
int wf_put_bytes(struct wf_zip_writer *zip, const char *name, const void *data, size_t len);

/* The flat dictionary as a file of that format; the lock is held. */
int wf_export_pt(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x, const char *path,
		 struct wf_error *err);
int wf_export_npz(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x, const char *path,
		  struct wf_error *err);
/* The same into a file that is there, from its start; path tells what its records are called below. */
int wf_put_pt(struct wf_checkpoint *ck, const struct wf_flat *f, const char *path, struct wf_out *out,
	      struct wf_error *err);
const char *wf_pt_refuses(const struct wf_named *n);
const char *wf_npz_refuses(const struct wf_named *n);
/* path: for several files its name is the pattern of theirs, and of the index. */
int wf_export_safetensors(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x,
			  const char *path, struct wf_error *err);
