/* SPDX-License-Identifier: MIT */
/* wfctl complete: what the completions of bash and zsh ask for, a line each. Not for people, and not among the verbs.
 *
 *   complete verbs              name, tab, what it does
 *   complete options VERB       option ("--file=" where it takes an argument), tab, what it does
 *   complete keys PATH WORD     the keys that begin so; a mapping ends in "/"; where there are hundreds, what they have in common up to
 *                               the next "." or "_"
 *   complete attributes PATH KEY
 *   complete mounts             mount points
 */
#pragma once

#include "fs/wfctl/call.h"

int wfctl_complete(int count, char **words, const struct wfctl_verb *verbs, size_t verb_count);
