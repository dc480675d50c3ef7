/* SPDX-License-Identifier: MIT */
/* Keeps numbers by hash. */
#include "codec/bytes/map.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "codec/bytes/util.h"

#define FIRST_SIZE 16u
#define MAX_SIZE (1u << 30)

uint64_t wf_random_seed(const void *fallback)
{
	uint64_t seed;
	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed)
		return seed;
	/* early boot: less, but not nothing */
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)(uintptr_t)fallback;
}

void wf_map_free(struct wf_map *m)
{
	free(m->slots);
	*m = (struct wf_map){0};
}

uint32_t wf_map_hash(const struct wf_map *m, const void *key, size_t len)
{
	const unsigned char *p = key;
	uint64_t h = m->seed, word = 0;
	for (; len >= sizeof word; p += sizeof word, len -= sizeof word)
		h = wf_map_mix(m, h, wf_le64(p));
	if (len > 0)
		memcpy(&word, p, len);
	/* with the length, or a key and the same with NULs behind it would be one */
	return wf_map_hash_u64(m, wf_map_mix(m, h, word) + len);
}

static void put(struct wf_map_slot *slots, uint32_t size, struct wf_map_slot s)
{
	uint32_t at = s.hash & (size - 1);
	while (slots[at].value != 0)
		at = (at + 1) & (size - 1);
	slots[at] = s;
}

int wf_map_reserve(struct wf_map *m, uint32_t n)
{
	if ((uint64_t)m->count + n <= (uint64_t)m->size / 4 * 3)
		return 0;
	uint64_t size = WF_MAX(FIRST_SIZE, m->size);
	while (size / 4 * 3 < (uint64_t)m->count + n)
		size *= 2;
	if (size > MAX_SIZE)
		return -E2BIG;
	struct wf_map_slot *slots = calloc(size, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	if (m->size == 0) {
		m->seed = wf_random_seed(m);
		m->factor = wf_random_seed(slots) | 1;
	}
	/* from a free slot on, so that those of one hash keep their order */
	uint32_t first = 0;
	while (first < m->size && m->slots[first].value != 0)
		first++;
	for (uint32_t i = 0; i < m->size; i++) {
		struct wf_map_slot s = m->slots[(first + i) & (m->size - 1)];
		if (s.value != 0)
			put(slots, (uint32_t)size, s);
	}
	free(m->slots);
	m->slots = slots;
	m->size = (uint32_t)size;
	return 0;
}

void wf_map_add(struct wf_map *m, uint32_t hash, uint32_t value)
{
	put(m->slots, m->size, (struct wf_map_slot){hash, value + 1});
	m->count++;
}

int wf_map_set(struct wf_map *m, uint32_t key, uint32_t value)
{
	int r = wf_map_reserve(m, 1);
	if (r < 0)
		return r;
	uint32_t hash = wf_map_hash_u32(m, key), at = hash & (m->size - 1);
	while (m->slots[at].value != 0 && m->slots[at].hash != hash)
		at = (at + 1) & (m->size - 1);
	m->count += m->slots[at].value == 0;
	m->slots[at] = (struct wf_map_slot){hash, value + 1};
	return 0;
}
