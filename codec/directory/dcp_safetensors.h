/* SPDX-License-Identifier: MIT */
/* The tables of a checkpoint that torch.distributed.checkpoint wrote as safetensors files, one for each rank: they have no `.metadata`.
 * Threads: as any plain data. */
#pragma once

#include "codec/directory/dcp_metadata.h"
#include "codec/directory/members.h"

/* The name of the first of the directory's safetensors files, for free(), where that says which part of a whole it holds; else NULL. 0 or
 * -ENOMEM. */
int wf_dcp_safetensors_find(const char *path, char **ret_first);
/* Reads the headers of all of them; the chunks are the data itself. Members and files get the same numbers.
 * Returns 0; -EUCLEAN, -EOPNOTSUPP, -E2BIG, -ENOMEM; or the error of reading. */
int wf_dcp_safetensors_read(struct wf_dcp_metadata *m, struct wf_members *members, const char *path,
			    struct wf_error *err);
