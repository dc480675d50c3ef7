/* SPDX-License-Identifier: MIT */
/* Removing a mapping with all that is in it. */
#pragma once

#include "fs/wfctl/store.h"

/* Returns 0, or a negative errno. */
int wfctl_remove_all(struct wfctl_store *s, const char *path);
