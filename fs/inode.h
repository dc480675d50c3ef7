/* SPDX-License-Identifier: MIT */
/* Node numbers, and what the kernel is told of a node. The essay is at the top of inode.c.
 *
 * Threads: any; the codec locks inside.
 */
#pragma once

#include <string.h>

#include "fs.h"

#define FS_NODE_BITS 56
#define FS_CONTROL (1ull << FS_NODE_BITS) /* the hidden directory */
#define FS_CONTROL_NAME ".weightfs"
#define FS_TIMEOUT 86400.0 /* seconds: nothing changes but through us, and we tell the kernel */

/* The hidden directory, or anything in it: no node of the codec. */
static inline bool fs_is_control(fuse_ino_t ino)
{
	return ino >= FS_CONTROL;
}

/* A name that edits do not touch: the hidden directory, or one in it. */
static inline bool fs_is_fixed(fuse_ino_t parent, const char *name)
{
	return fs_is_control(parent) || (parent == FUSE_ROOT_ID && !strcmp(name, FS_CONTROL_NAME));
}

/* struct stat of a codec node. */
void fs_stat(const struct fs *fs, const struct wf_stat *from, struct stat *ret);
/* What the kernel is told of a codec node, whoever tells it: a node with two generations would be two files to it. */
void fs_fill_entry(const struct fs *fs, const struct wf_stat *st, double timeout, struct fuse_entry_param *ret);
/* For how many seconds a name in the directory can be relied on. */
double fs_entry_timeout(const struct fs *fs, fuse_ino_t parent);
