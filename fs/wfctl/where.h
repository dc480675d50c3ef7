/* SPDX-License-Identifier: MIT */
/* Where a verb is sent to: a checkpoint, or a mount point. */
#pragma once

#include <stdbool.h>

enum wfctl_place {
	WFCTL_FILE,   /* a checkpoint */
	WFCTL_MOUNT,  /* a mount point */
	WFCTL_EITHER, /* a mount point or a checkpoint */
};

/* 0, or WFCTL_FAILED after saying why a verb of this kind cannot be sent there. */
int wfctl_check_place(enum wfctl_place place, const char *path);
/* Whether a weightfs is mounted on the path, and answers. */
bool wfctl_is_mount(const char *path);
