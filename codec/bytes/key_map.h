/* SPDX-License-Identifier: MIT */
/* Keys of any bytes to one number each. An all-zero struct is an empty map. Threads: as any plain data. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/map.h"

#define WF_KEY_MAP_MAX (1u << 24) /* keys */

struct wf_key {
	char *bytes; /* own copy, a NUL behind it */
	uint32_t len;
	uint64_t value;
};

struct wf_key_map {
	struct wf_key *keys; /* in the order in which they were put in */
	uint32_t count, capacity;
	struct wf_map index; /* of keys */
};

/* The number of a key, or NULL. Valid until the next wf_key_map_put. */
uint64_t *wf_key_map_get(const struct wf_key_map *m, const void *key, size_t len);
/* Sets it; a key that is there gets the new number. Returns 0, -ENOMEM, -E2BIG. */
int wf_key_map_put(struct wf_key_map *m, const void *key, size_t len, uint64_t value);
void wf_key_map_free(struct wf_key_map *m);
