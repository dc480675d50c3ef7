/* SPDX-License-Identifier: MIT */
/* The members of an object of JSON, one after the other: of .weightfs/status and the lines of .weightfs/tensors.json, which a mount
 * gives. Objects in it are entered: done_bytes of commit is called "commit.done_bytes". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/json.h"

struct wfctl_member {
	const char *name;
	enum wf_json_kind kind; /* of the value; WF_JSON_ARRAY is whole, WF_JSON_OBJECT comes before its members */
	const char *text;       /* a string without its escapes, a number as it stands; an array as it stands */
	size_t len;
};

/* Calls each() until it returns non-zero, which is returned. -EUCLEAN: the text is no object. What is borrowed is so during the call. */
int wfctl_json_members(const char *text, size_t len, int (*each)(void *ctx, const struct wfctl_member *m), void *ctx);
/* The member is called that: its number, or 0; whether it is true. */
uint64_t wfctl_member_number(const struct wfctl_member *m);
/* Appends what a text that is a JSON string says. Returns 0, or -EUCLEAN where it is none. */
int wfctl_json_string(const char *text, size_t len, struct wf_buffer *ret);
/* Appends s in quotes; nothing in it moves a cursor. */
void wfctl_json_put(struct wf_buffer *out, const char *s, size_t len);
