/* SPDX-License-Identifier: MIT */
/* Where mv, cp and ln put things: into a mapping that is there, under the names that they have, or under a new name. */
#pragma once

#include <stdbool.h>

#include "fs/wfctl/keys.h"

struct wfctl_target {
	struct wfctl_store *store;
	char *path;             /* owned */
	bool into;              /* it is a mapping, and things go into it */
	struct wfctl_keys made; /* names that were given in it so far */
};

/* plain: the target is a name, not a mapping to put things into. Returns WFCTL_OK, or WFCTL_FAILED after saying why not. On success,
 * wfctl_target_free. */
int wfctl_target_find(struct wfctl_store *s, const char *text, size_t sources, bool plain, struct wfctl_target *ret);
void wfctl_target_free(struct wfctl_target *t);
/* The path for a source, for free(). NULL after saying why there is none: two sources have one name. */
char *wfctl_target_for(struct wfctl_target *t, const char *source);
