/* SPDX-License-Identifier: MIT */
/* The kernel's table of mounts, line by line. Reads /proc alone, never a mount, which may be dead or another user's.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct fs_mount {
	int id, parent;
	dev_t dev;
	const char *point, *type, *source; /* unescaped; valid during the call of each() */
	bool writable;
	bool weightfs;
	uid_t owner; /* who made it, where it is one of FUSE; else 0 */
};

/* Calls each() for the mounts in the order of the table, where the last one on a place is the one that shows, until it returns true.
 * table: a file like /proc/self/mountinfo, which is closed; NULL: that one itself. Returns whether the table could be read. */
bool fs_each_mount(FILE *table, bool (*each)(void *ctx, const struct fs_mount *m), void *ctx);
