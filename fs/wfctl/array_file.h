/* SPDX-License-Identifier: MIT */
/* A file as a tensor's content: its bytes, or a .npy with dtype and shape. */
#pragma once

#include <stdbool.h>

#include "fs/wfctl/store.h"

/* Gives the entry (there: it is there already) the content of a file; "-" is standard input. Returns WFCTL_OK, or WFCTL_FAILED after
 * saying why. */
int wfctl_put_file(struct wfctl_store *s, const char *key, bool there, const char *file);
