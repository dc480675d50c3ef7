/* SPDX-License-Identifier: MIT */
/* Which shard of a Hugging Face checkpoint an entry goes to (edit/shard.c). The checkpoint's lock is held exclusively. value: the name of a
 * file. Return 0; -EPERM, -EINVAL, -EIO with the reason in the log; -ENOMEM. */
#pragma once

#include "codec/edit/state.h"

int wf_edit_set_shard(struct wf_checkpoint *ck, wf_ino ino, const char *value); /* with its record in the log */
int wf_apply_shard(struct wf_checkpoint *ck, wf_ino ino, const char *value);
