/* SPDX-License-Identifier: MIT */
/* What stands at a path, for the lines that both programs print: what is mounted there and whose it is, and where a
 * checkpoint is mounted. Reads the table of mounts, never a mount itself, which may be dead or another user's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct fs_place {
	bool mounted;         /* something is mounted exactly here */
	bool weightfs;        /* the last mount here is one of weightfs */
	char type[64];        /* of the last mount */
	char checkpoint[512]; /* its source */
	uid_t owner;          /* who made it: only that user and root can unmount it */
};
/* Returns whether the table of mounts could be read. The path is followed to where it leads, as long as that needs no
 * answer of the mount itself. */
bool fs_look_at(const char *path, struct fs_place *ret);
/* The mount point of a writable mount of the checkpoint, into buf; false when this name space has none. */
bool fs_mount_of(const char *checkpoint, char *buf, size_t size);
/* The mount point of the weightfs mount that the path is inside of, not the mount point itself; false when there is none. */
bool fs_mount_around(const char *path, char *buf, size_t size);
/* "alice (user 1000)". */
const char *fs_user_name(uid_t uid, char *buf, size_t size);
/* Why a CHECKPOINT called "-" is refused; NULL for another name. */
const char *fs_refuse_dash(const char *path);
