/* SPDX-License-Identifier: MIT */
/* Directories of torch.distributed.checkpoint as one checkpoint of whole tensors: codec/directory/dcp_open.c tells which files they have.
 * Threads: as any container. */
#pragma once

#include "codec/container/container.h"

/* path: absolute. Returns 0; 1 the directory is none of these; -EUCLEAN, -EOPNOTSUPP, -E2BIG; or the system's error. */
int wf_dcp_open(const char *path, struct wf_container **ret, struct wf_error *err);
