/* SPDX-License-Identifier: MIT */
/* weightfs as the helper that mount(8) runs: mount.weightfs, mount.fuse.weightfs.
 *
 *	mount.weightfs CHECKPOINT MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,...]
 *
 * Threads: before there are any. */
#pragma once

#include <stdbool.h>

/* Under such a name, takes what mount(8) alone says out of the arguments, in place; under any other it does nothing. *ret_fake:
 * nothing is to be mounted (mount -f). Returns 0, or the exit status after saying what cannot be done. */
int fs_mount_helper(int *argc, char **argv, bool *ret_fake);
