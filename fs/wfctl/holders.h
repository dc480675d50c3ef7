/* SPDX-License-Identifier: MIT */
/* Who keeps a mount alive: mount points, in this and in other mount name spaces, and processes. Reads /proc alone, never the mount,
 * which may not answer; what this user may not look at is left out. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct wf_buffer;

/* A file system that is mounted: its device, and what it shows. The number alone does not do: the kernel gives that of a file system that is
 * gone to the next one that is mounted. */
struct fs_mounted {
	dev_t dev;
	char *source; /* NULL: not known */
};

/* What is mounted at a path, without asking its file system. fs_mounted_free frees it. 0, or the errno. */
int fs_mounted_at(const char *path, struct fs_mounted *ret);
void fs_mounted_free(struct fs_mounted *m);

/* Appends "it is mounted at /x; process 7 (bash) works in it; ..." and returns how many were found. The daemon, the caller and one
 * mount point (NULL: none) are left out. */
unsigned int fs_holders(const struct fs_mounted *m, pid_t daemon, const char *but_at, struct wf_buffer *out);

/* Whether this name space has a mount of it. FS_MOUNT_GONE: another file system has its number, so that nobody has one. */
enum fs_mount_state { FS_MOUNT_NOT_HERE, FS_MOUNT_HERE, FS_MOUNT_GONE };
enum fs_mount_state fs_mount_state(const struct fs_mounted *m);

/* Whether a daemon of FUSE still serves: it has a connection open. -errno when that cannot be seen. */
int fs_is_serving(pid_t daemon);
