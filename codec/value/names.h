/* SPDX-License-Identifier: MIT */
/* Keys <-> file names by the rule of the contract ("Names"): escapes, texts of non-string keys, cut long names.
 * Pure functions over a graph. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/object/object.h"

#define WF_NAME_MAX 255

/* The name of a key in its mapping. has_twin: the mapping also has a non-string key with the same text, so a str key
 * escapes its first byte. buf holds WF_NAME_MAX + 1. Returns the length. */
size_t wf_name_from_key(const struct wf_graph *g, wf_ref key, bool has_twin, char *buf);
/* The name for a text: what wf_name_from_key makes of a str key. */
size_t wf_name_from_text(const char *s, size_t len, bool has_twin, char *buf);
/* Puts ~number behind a name, which is cut where there is no room. buf holds WF_NAME_MAX + 1. Returns the new length. */
size_t wf_name_number(char *name, size_t len, uint32_t number);
/* Whether a str key reads as a number, true, false or null, so that has_twin has to be found out. */
bool wf_name_may_have_twin(const struct wf_graph *g, wf_ref key);
/* The key for a new name: an int key when every present key of that mapping is an int and the name is all digits, else a
 * str key. Returns 0; -EINVAL a broken escape or invalid UTF-8; -ENAMETOOLONG; -EPERM for ".weightfs"; -ENOMEM. */
int wf_key_from_name(struct wf_graph *g, const char *name, bool int_keys, wf_ref *ret);
/* Names that editors and file managers leave behind; they never become keys. */
bool wf_name_is_scratch(const char *name);
/* Whether a tool makes a file under it only to rename it over another: .NAME.XXXXXX, as rsync does, and those of the next function. */
bool wf_name_is_passing(const char *name);
/* The name of a file that sed -i or rsync makes beside the element of a list, to rename it over that: sedXXXXXX, .7.XXXXXX. No
 * element is called so; in a mapping either is a key like any other. */
bool wf_name_is_temporary(const char *name);
