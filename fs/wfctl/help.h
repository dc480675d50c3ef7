/* SPDX-License-Identifier: MIT */
/* What --help prints, from the table of verbs. */
#pragma once

#include <stdio.h>

#include "fs/wfctl/call.h"

void wfctl_usage(const struct wfctl_verb *verbs, size_t count, FILE *out);
/* All verbs and their options as JSON, for other programs. */
void wfctl_usage_json(const struct wfctl_verb *verbs, size_t count);
void wfctl_explain(const struct wfctl_verb *verb);
/* One line on standard error. Returns WFCTL_USAGE. */
int wfctl_used_wrongly(const struct wfctl_verb *verb, const char *complaint, const char *what);
