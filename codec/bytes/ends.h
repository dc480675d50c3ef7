/* SPDX-License-Identifier: MIT */
/* The ends of names. Pure functions. */
#pragma once

#include <string.h>
#include <sys/types.h>

/* How many bytes of s stand before this end; -1: s has another one. */
static inline ssize_t wf_before_end(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && strcmp(s + n - m, end) == 0 ? (ssize_t)(n - m) : -1;
}
