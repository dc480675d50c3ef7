/* SPDX-License-Identifier: MIT */
/* Keeps a number under each key. */
#include "codec/bytes/key_map.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

uint64_t *wf_key_map_get(const struct wf_key_map *m, const void *key, size_t len)
{
	uint32_t i;
	if (m->count == 0)
		return NULL;
	struct wf_map_probe p = wf_map_probe(&m->index, wf_map_hash(&m->index, key, len));
	while (wf_map_next(&p, &i))
		if (m->keys[i].len == len && memcmp(m->keys[i].bytes, key, len) == 0)
			return &m->keys[i].value;
	return NULL;
}

static int reserve(struct wf_key_map *m)
{
	int r = wf_array_reserve(&m->keys, &m->capacity, m->count + 1, sizeof *m->keys, WF_KEY_MAP_MAX);
	return r < 0 ? r : wf_map_reserve(&m->index, 1);
}

int wf_key_map_put(struct wf_key_map *m, const void *key, size_t len, uint64_t value)
{
	uint64_t *have = wf_key_map_get(m, key, len);
	if (have) {
		*have = value;
		return 0;
	}
	int r = len > UINT32_MAX ? -E2BIG : reserve(m);
	if (r < 0)
		return r;
	char *bytes = malloc(len + 1);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, key, len);
	bytes[len] = '\0';
	wf_map_add(&m->index, wf_map_hash(&m->index, key, len), m->count);
	m->keys[m->count++] = (struct wf_key){.bytes = bytes, .len = (uint32_t)len, .value = value};
	return 0;
}

void wf_key_map_free(struct wf_key_map *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		free(m->keys[i].bytes);
	free(m->keys);
	wf_map_free(&m->index);
}
