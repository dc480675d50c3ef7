/* SPDX-License-Identifier: MIT */
/* A set of byte ranges [start, end), kept sorted and merged: which parts of a storage were written.
 * Costs O(log n) to ask and O(n) worst to insert. Threads: as the storage that owns it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct wf_extent {
	uint64_t start, end; /* bytes; start < end */
};

struct wf_extents;

int wf_extents_new(struct wf_extents **ret);
void wf_extents_free(struct wf_extents *x);
/* Returns 0 or -ENOMEM; adjoining ranges become one. */
int wf_extents_add(struct wf_extents *x, uint64_t start, uint64_t end);
/* Forgets everything at and after end. */
void wf_extents_truncate(struct wf_extents *x, uint64_t end);
/* Whether `at` is inside; *ret_end: where the run that `at` is in (inside or outside) ends, UINT64_MAX for none. */
bool wf_extents_find(const struct wf_extents *x, uint64_t at, uint64_t *ret_end);
const struct wf_extent *wf_extents_all(const struct wf_extents *x, uint32_t *ret_n); /* x may be NULL */
uint64_t wf_extents_bytes(const struct wf_extents *x);
