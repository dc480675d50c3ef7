/* SPDX-License-Identifier: MIT */
/* Copying an entry with all that is in it, within a store or between two: bytes, attributes, ties among what is copied. As cp -a does. */
#pragma once

#include <stdbool.h>

#include "fs/wfctl/store.h"

struct wfctl_copying {
	struct wfctl_store *from, *to;
	bool keep; /* what is there already is left alone */
	/* the rest is the copying's own: zeroes at first */
	struct wfctl_tie *ties;
	uint32_t tie_count, tie_capacity;
	struct wf_map tie_of_ino; /* inode -> place in ties */
	bool said;                /* the reason was printed already */
	uint32_t less;            /* tensors whose copy says less, because the format of the other file does */
	char *first_less;         /* one of them */
};

/* Returns WFCTL_OK, or WFCTL_FAILED after saying why. */
int wfctl_copy(struct wfctl_copying *c, const char *from, const char *to);
void wfctl_copying_end(struct wfctl_copying *c);
