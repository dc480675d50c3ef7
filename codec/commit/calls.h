/* SPDX-License-Identifier: MIT */
/* Writing checkpoints. checkpoint.h brings it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/err.h"

struct wf_checkpoint;

/* Writes the edits into the checkpoint (or the output). Reads go on meanwhile, edits wait. On failure nothing changed and the overlay
 * is as it was. commit/commit.c has the states and what holds in each.
 * Returns: 0, also when there was nothing to write; or how many entries had been removed from objects that cannot lose single entries
 * and are still there: these are back, err names them, and all else is committed; -ESTALE the checkpoint was changed by someone else;
 * -EOPNOTSUPP something that the format cannot hold, found before the first byte; -EROFS; -EUCLEAN what was written does not read back
 * as planned; -ENOSPC, -EIO, -ENOMEM and others of the system. */
int wf_commit(struct wf_checkpoint *ck, struct wf_error *err);

/* As a new file though nothing was edited. For wf_repack, which tells of trim and alignment. */
int wf_commit_whole(struct wf_checkpoint *ck, bool trim, uint32_t alignment, struct wf_error *err);
