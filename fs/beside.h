/* SPDX-License-Identifier: MIT */
/* Where the edits of a mount go: beside the checkpoint, or beside its output. Asked before anything is mounted. Knows nothing of
 * checkpoints but where they are changed, and that their overlay is called NAME.weightfs. */
#pragma once

#include <stdbool.h>

/* Whether edits and commits can be written. Returns 0, with the directory (O_PATH); or the errno, and *ret_why (for free(); NULL: no
 * memory) says what cannot be written and why. */
int fs_beside_open(const char *checkpoint, const char *output, int *ret_directory, char **ret_why);

/* A mount over the place hides it from everybody but the daemon, which has it open: from wfctl, and from the next mount after a crash.
 * Returns which of the two files the mount point hides, NULL: none. By what directories are, not by their names: links and bind mounts
 * do not matter. */
const char *fs_beside_hidden_by(const char *mountpoint, const char *checkpoint, const char *output);
