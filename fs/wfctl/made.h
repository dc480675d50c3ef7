/* SPDX-License-Identifier: MIT */
/* Which mount points wfctl mount made: the daemon's environment says so, as long as the mount lives. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* In the process that becomes the daemon. path: absolute, without links. */
void wfctl_mark_made(const char *path);
/* Whether that daemon's mount point was made so. */
bool wfctl_was_made(pid_t daemon, const char *path);
