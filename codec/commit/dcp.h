/* SPDX-License-Identifier: MIT */
/* The commit of a directory of torch.distributed.checkpoint: what is new goes into one new slice file, __w_N.distcp, and `.metadata` is written
 * anew; old slice files stay as they are. A renamed or removed key touches `.metadata` alone.
 *
 *   wf_dcp_plan_make     which objects of the tree are entries, which of them stay, and the pickles of those that are new
 *   wf_dcp_plan_write    the slice file, then the new metadata into a file that will take the old one's name
 *   wf_dcp_plan_check    reads both again
 *   wf_dcp_plan_adopt    the objects of the graph are entries of the container that was opened over them
 *   (the rename)
 *   wf_dcp_plan_keep_file
 *
 * Until the rename nobody else reads the slice file; wf_dcp_plan_free removes it where wf_dcp_plan_keep_file was not called.
 * Threads: as wf_plan: making needs the graph exclusively.
 */
#pragma once

#include "codec/commit/commit.h"

struct wf_dcp_plan;

/* live: by storage, filled in. Returns 0; -EOPNOTSUPP what such a directory cannot hold, and other errors. */
/* home: the directory that is written to, the checkpoint's own or another. */
int wf_dcp_plan_make(const struct wf_commit_input *in, const char *home, bool *live, struct wf_dcp_plan **ret,
		     struct wf_error *err);
/* For another: the name of the file that is going to be written, NULL: none; and the k-th file of the checkpoint beside its metadata, NULL: no
 * more, and after wf_dcp_plan_check whether the new metadata name it. */
const char *wf_dcp_plan_new_file(const struct wf_dcp_plan *p);
const char *wf_dcp_plan_old_file(const struct wf_dcp_plan *p, uint32_t k, bool *ret_needed);
/* How many names share the bytes of another one and get their own: such a directory has no ties. The first of them, and the one it shares with;
 * borrowed. */
uint32_t wf_dcp_plan_ties(const struct wf_dcp_plan *p, const char **ret_name, const char **ret_with);
/* fd: of the new metadata, empty. All is on disk on return. */
int wf_dcp_plan_write(struct wf_dcp_plan *p, int fd, _Atomic uint64_t *done_bytes, struct wf_error *err);
/* written: the new metadata. */
int wf_dcp_plan_check(struct wf_dcp_plan *p, struct wf_source *written, struct wf_error *err);
/* written: loaded, and nobody's yet. Fills in records, by storage. */
int wf_dcp_plan_adopt(struct wf_dcp_plan *p, struct wf_container *written, uint32_t *records, struct wf_error *err);
/* The name was taken: the slice file stays. */
void wf_dcp_plan_keep_file(struct wf_dcp_plan *p);
/* Removes slice files that earlier commits made, and of which the metadata name none any more. 0, or the error of one that is still
 * there: the next commit tries again. */
int wf_dcp_remove_unused(const struct wf_container *written);
void wf_dcp_plan_free(struct wf_dcp_plan *p); /* accepts NULL */
