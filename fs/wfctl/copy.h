/* SPDX-License-Identifier: MIT */
/* Copying an entry with all that is in it, within a store or between two: bytes, attributes, ties among what is copied. As cp -a does. */
#pragma once

#include <stdbool.h>

#include "fs/wfctl/store.h"

#define WFCTL_COPY_PARTS 3 /* what only some formats say of a tensor: the table in copy_attributes.c */

struct wfctl_copying {
	struct wfctl_store *from, *to;
	bool keep; /* what is there already is left alone */
	/* the rest is the copying's own: zeroes at first */
	struct wfctl_tie *ties;
	uint32_t tie_count, tie_capacity;
	struct wf_map tie_of_ino;       /* inode -> place in ties */
	bool said;                      /* the reason was printed already */
	uint32_t less;                  /* tensors whose copy says less, because the format of the other file does */
	bool without[WFCTL_COPY_PARTS]; /* what it is that they do not say */
	char *first_less;               /* one of them */
};

/* Returns WFCTL_OK, or WFCTL_FAILED after saying why. */
int wfctl_copy(struct wfctl_copying *c, const char *from, const char *to);
void wfctl_copying_end(struct wfctl_copying *c);

/* ---- copy_attributes.c: what is said of an entry besides its bytes ---- */
/* Those of the source that an entry can be told. 0, or an errno, for which c->to has the reason. */
int wfctl_copy_attributes(struct wfctl_copying *c, const char *from, const char *to);
/* Once the bytes are there: what the copy of a tensor does not say is noted; a value that became one of another class is an error. */
int wfctl_copy_compare(struct wfctl_copying *c, const char *from, const char *to);
/* Why a call on s failed with code, in place of what errno says. */
void wfctl_copy_note(struct wfctl_store *s, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The line about all that was noted. */
void wfctl_copy_tell_less(struct wfctl_copying *c);
