/* SPDX-License-Identifier: MIT */
/* The one line of standard error that says why, and the line of progress that is not in its way. */
#pragma once

#include <stdbool.h>

struct wf_error;

/* "wfctl: PATH: reason"; returns WFCTL_FAILED. path may be NULL. */
int wfctl_fail(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* From here on the line says that it is about that line of a script. NULL: of none. path is borrowed. */
void wfctl_fail_at(const char *path, unsigned long line);
/* The same with the text of an error, or of an errno value when it has none. */
int wfctl_fail_error(const char *path, int code, const struct wf_error *err);
/* "wfctl: line", for the log of an opening. */
void wfctl_note(void *ctx, const char *line);
/* A line that overwrites itself on a terminal; nothing elsewhere. NULL ends it. */
void wfctl_progress(const char *line);
bool wfctl_shows_progress(void);
