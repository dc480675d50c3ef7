/* SPDX-License-Identifier: MIT */
/* The new file beside the old one: a temporary name that is recognised when a crash leaves it over, the owner, mode and
 * attributes of the old file, durable before it takes the old one's name. Knows nothing of checkpoints. */
#pragma once

#include <stdbool.h>

#include "codec/bytes/err.h"

struct wf_new_file {
	char *target; /* the name that it will take; absolute, no link */
	char *path;   /* its temporary name; NULL when there is none (any more) */
	char *directory;
	int fd;   /* read and write; -1 */
	int home; /* of the directory; -1 */
};

#define WF_NEW_FILE_INIT             \
	{                            \
		.fd = -1, .home = -1 \
	}

/* Makes .NAME.weightfs-XXXXXX beside the target and removes those that a crash left (nobody holds their lock).
 * home: the directory that the target is in, open (O_PATH), whatever its path leads to by now; taken over. Returns 0 or the
 * system's error. */
int wf_new_file_open(struct wf_new_file *f, const char *target, int home, struct wf_error *err);
/* The same under the target's name from the start, where nothing has that yet (-EEXIST), for a file that means nothing until another names
 * it. home is borrowed; on failure nothing is left. wf_new_file_stay: who made it removes it, or nobody. */
int wf_new_file_make(struct wf_new_file *f, const char *target, int home, struct wf_error *err);
void wf_new_file_stay(struct wf_new_file *f);
/* A second descriptor of it, for reading. Or -errno. */
int wf_new_file_reopen(const struct wf_new_file *f);
/* Removes the temporary name, if it is still there, and closes. */
void wf_new_file_free(struct wf_new_file *f);
/* Owner, mode, extended attributes and access lists of the open file `like`. What only a privileged process may set is
 * left out where this one is not (-EPERM); no room for the rest is an error. */
int wf_new_file_dress(const struct wf_new_file *f, int like, struct wf_error *err);
/* Gives it the target's name where nothing has that yet (-EEXIST); the directory is durable on return. */
int wf_new_file_link(struct wf_new_file *f, struct wf_error *err);
/* Renames over the target; the directory is durable on return. *ret_renamed: whether the rename itself happened. */
int wf_new_file_rename(struct wf_new_file *f, bool *ret_renamed, struct wf_error *err);
