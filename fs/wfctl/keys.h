/* SPDX-License-Identifier: MIT */
/* KEYs of a command line: paths below the root, or patterns that are several. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fs/wfctl/store.h"

struct wfctl_keys {
	char **key;
	size_t count;
	uint32_t capacity;
};

void wfctl_keys_free(struct wfctl_keys *k);
/* Adds a copy. 0, or -ENOMEM. */
int wfctl_keys_add(struct wfctl_keys *k, const char *key);

/* A KEY as a path: without slashes around it. NULL after saying why it is none (a part that is `.` or `..`). For free(). */
char *wfctl_key_path(const struct wfctl_store *s, const char *text);
/* The key that a text which nothing fits would be, with backslashes taken off; NULL after saying so where it is a pattern. For free(). */
char *wfctl_key_new(const struct wfctl_store *s, const char *text);
/* Adds the entry that the text is; else those that it fits as a shell pattern, part by part, in their order. Returns how many there
 * were, or a negative errno. Nothing is said. */
int wfctl_keys_find(struct wfctl_store *s, const char *text, struct wfctl_keys *k);
/* The same for each text; says so where there is none. */
int wfctl_keys_expand(struct wfctl_store *s, char *const *texts, int count, struct wfctl_keys *k);

/* A name of a path: its last part, and in which directory it stands (for free()). */
const char *wfctl_key_name(const char *path);
char *wfctl_key_directory(const char *path);
/* "directory/name"; for free(). */
char *wfctl_key_join(const char *directory, const char *name);
/* The path of a name, which may be missing, that leads over no link before its last part; for free(). NULL: errno says why. */
char *wfctl_key_resolve(struct wfctl_store *s, const char *path);
