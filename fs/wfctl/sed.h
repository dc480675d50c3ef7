/* SPDX-License-Identifier: MIT */
/* sed's s command with extended regular expressions (GNU's), over one line: s/REGEX/REPLACEMENT/FLAGS with any delimiter; in the
 * replacement & and \1 to \9; flags g, i (or I), and a number. Several are joined by ';' or stand in several texts.
 *
 * Calling sequence: wfctl_sed_add for each text, wfctl_sed_apply for each line, wfctl_sed_free. */
#pragma once

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>

#include "codec/bytes/buffer.h"

struct wfctl_substitution {
	regex_t regex;
	char *replacement; /* as it was written, delimiters unescaped */
	bool global;
	unsigned int from; /* the first match that counts, from 1 */
};

struct wfctl_sed {
	struct wfctl_substitution *all;
	size_t count;
};

/* Whether a text can only be meant as an expression: s, a delimiter that no key's name begins with, and that delimiter twice more. */
bool wfctl_is_sed(const char *text);
/* Returns WFCTL_OK, or WFCTL_FAILED after saying what is wrong with it. */
int wfctl_sed_add(struct wfctl_sed *sed, const char *text);
/* Appends the line with all substitutions made. Returns 0, -ENOMEM, or -EINVAL where the matcher gives up. */
int wfctl_sed_apply(const struct wfctl_sed *sed, const char *line, size_t len, struct wf_buffer *ret);
void wfctl_sed_free(struct wfctl_sed *sed);
