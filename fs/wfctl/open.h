/* SPDX-License-Identifier: MIT */
/* Opening a checkpoint for looking at it. */
#pragma once

#include <stdbool.h>

struct wf_checkpoint;

/* plain: its pending edits left out. Nothing is said of tensors that cannot be read. NULL after saying why. */
struct wf_checkpoint *wfctl_open(const char *path, bool plain);
