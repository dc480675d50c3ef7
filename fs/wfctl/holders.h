/* SPDX-License-Identifier: MIT */
/* Who keeps a mount alive: mount points, in this and in other mount name spaces, and processes. Reads /proc alone, never the mount,
 * which may not answer; what this user may not look at is left out. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct wf_buffer;

/* The device of what is mounted at a path, without asking its file system. 0, or the errno. */
int fs_device_at(const char *path, dev_t *ret);

/* Appends "it is mounted at /x; process 7 (bash) works in it; ..." and returns how many were found. The daemon, the caller and one
 * mount point (NULL: none) are left out. */
unsigned int fs_holders(dev_t dev, pid_t daemon, const char *but_at, struct wf_buffer *out);

/* Whether this name space has a mount of the device. */
bool fs_is_mounted_here(dev_t dev);

/* Whether a daemon of FUSE still serves: it has a connection open. -errno when that cannot be seen. */
int fs_is_serving(pid_t daemon);
