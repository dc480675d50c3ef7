/* The table of verbs: what --help says of each, and which function does it. */
#pragma once

#include "fs/wfctl/call.h"

extern const struct wfctl_verb wfctl_verbs[];
extern const size_t wfctl_verb_count;
