/* SPDX-License-Identifier: MIT */
/* Why a mount refused a call: a system call says no more than its errno, and the daemon's log has the reason. */
#pragma once

#include "fs/wfctl/store.h"

/* A call on the path failed with this code: the store's reason is what .weightfs/log says of it, or none. errno stays. */
void wfctl_mount_reason(struct wfctl_store *s, int code, const char *path);
