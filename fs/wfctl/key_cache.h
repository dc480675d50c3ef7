/* SPDX-License-Identifier: MIT */
/* The names of a large mapping, kept in the user's cache directory: a shell asks for them again with each press of a key, and would wait
 * for the opening of a checkpoint with 100,000 keys. Only what the file itself says; with edits beside it there is no cache.
 *
 *   XDG_CACHE_HOME/weightfs/keys-HASH: a line that names file, device, inode, size, times and the mapping, then a name on each line
 *   ("d" or "f" before it). */
#pragma once

#include <stdbool.h>

#include "codec/bytes/buffer.h"

/* Calls each() for the names of the mapping. false: they are not kept. */
bool wfctl_key_cache_read(const char *path, const char *directory,
			  int (*each)(void *ctx, const char *name, bool mapping), void *ctx);
/* Appends an entry of the mapping to what is to be kept. */
void wfctl_key_cache_add(struct wf_buffer *names, const char *name, bool mapping);
/* Keeps the names of a mapping; nothing is said where that does not work, or is not worth it. */
void wfctl_key_cache_write(const char *path, const char *directory, const struct wf_buffer *names);
