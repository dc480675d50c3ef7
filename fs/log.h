/* SPDX-License-Identifier: MIT */
/* The daemon's log: syslog in the background, standard error in the foreground, and the last lines in .weightfs/log.
 *
 * Threads: any, also under the checkpoint's lock; nothing is called from here. Before fs_log_new lines go to standard error alone.
 */
#pragma once

#include <syslog.h>

#include "fs.h"

struct wf_buffer;

/* One line for the administrator: stderr in the foreground, syslog in the background; the last ones in .weightfs/log. */
void fs_log(struct fs *fs, int priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One line for who made the mount do something, in .weightfs/log alone: anybody's refused call would fill syslog. */
void fs_log_only_here(struct fs *fs, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct fs_log_lines *fs_log_new(void);    /* NULL: out of memory */
void fs_log_free(struct fs_log_lines *l); /* accepts NULL */
/* Appends the last lines. 0 or -ENOMEM. */
int fs_log_text(struct fs *fs, struct wf_buffer *out);
