/* SPDX-License-Identifier: MIT */
/* The table of verbs: what --help says of each, and which function does it. */
#pragma once

#include "fs/wfctl/call.h"

extern const struct wfctl_verb wfctl_verbs[];
/* What wfctl -f offers; not among them. */
extern const struct wfctl_verb wfctl_script_verb;
extern const size_t wfctl_verb_count;
