/* SPDX-License-Identifier: MIT */
/* Why records of a container in several files cannot be had: a text for each. An all-zero struct is empty. Threads: one owner while texts
 * are added, any readers afterwards. */
#pragma once

#include <stdint.h>

struct wf_problem;

struct wf_problems {
	struct wf_problem *list; /* by record */
	uint32_t count, capacity;
};

/* Of a record behind all that have a text; it is copied. 0 or -ENOMEM. */
int wf_problems_add(struct wf_problems *p, uint32_t record, const char *text);
/* NULL: the record has none. */
const char *wf_problems_get(const struct wf_problems *p, uint32_t record);
void wf_problems_free(struct wf_problems *p);
