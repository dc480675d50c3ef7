/* The commands of wfctl, one function each. Exit statuses: 0 done, 1 failed (one line on stderr says why), 2 used
 * wrongly. */
#pragma once

#include "codec/checkpoint.h"

enum { WFCTL_OK = 0, WFCTL_FAILED = 1, WFCTL_USAGE = 2 };

int wfctl_ls(int argc, char **argv);
int wfctl_verify(int argc, char **argv);
int wfctl_status(int argc, char **argv);
int wfctl_commit(int argc, char **argv);
int wfctl_discard(int argc, char **argv);
int wfctl_umount(int argc, char **argv);
int wfctl_repack(int argc, char **argv);

/* "wfctl: PATH: reason" on stderr; returns WFCTL_FAILED. */
int wfctl_fail(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with the text of an error, or of an errno value when it has none. */
int wfctl_fail_error(const char *path, int code, const struct wf_error *err);
/* Opens a checkpoint for reading, its pending edits left out when plain. NULL after saying why. */
struct wf_checkpoint *wfctl_open(const char *path, bool plain);
/* A line that overwrites itself on a terminal; nothing elsewhere. NULL ends it. */
void wfctl_progress(const char *line);
