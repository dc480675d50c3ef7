/* SPDX-License-Identifier: MIT */
/* wfctl -f: verbs out of a file, as one commit. */
#pragma once

#include "fs/wfctl/call.h"

/* call: its argument is the script's path, "-" standard input. verbs: those that a line may name, where they are `scripted`. */
int wfctl_script(const struct wfctl_call *call, const struct wfctl_verb *verbs, size_t count);
