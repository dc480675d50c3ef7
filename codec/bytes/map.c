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
#define LONG_RUN 256 /* slots; in a table with a good factor the longest are shorter */

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

static void draw_secret(struct wf_map *m)
{
	uint64_t secret[2];
	if (getrandom(secret, sizeof secret, GRND_NONBLOCK) != sizeof secret) {
		secret[0] = wf_random_seed(m);
		secret[1] = wf_random_seed(secret);
	}
	m->seed = secret[0];
	m->factor = secret[1] | 1;
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

static void put(struct wf_map *m, struct wf_map_slot s)
{
	uint32_t at = wf_map_slot_of(m, s.hash);
	while (m->slots[at].value != 0)
		at = wf_map_slot_after(m, at);
	m->slots[at] = s;
}

/* Into a table of that size, with each hash multiplied. */
static int rebuild(struct wf_map *m, uint32_t size, uint32_t factor)
{
	struct wf_map old = *m;
	struct wf_map_slot *slots = calloc(size, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	m->slots = slots;
	m->size = size;
	/* from a free slot on, so that those of one hash keep their order */
	uint32_t first = 0;
	while (first < old.size && old.slots[first].value != 0)
		first++;
	for (uint32_t i = 0, at = first; i < old.size; i++, at = wf_map_slot_after(&old, at)) {
		struct wf_map_slot s = old.slots[at];
		s.hash *= factor;
		if (s.value != 0)
			put(m, s);
	}
	free(old.slots);
	return 0;
}

int wf_map_reserve(struct wf_map *m, uint32_t n)
{
	uint64_t need = (uint64_t)m->count + n;
	if (need <= (uint64_t)m->size / 4 * 3)
		return 0;
	/* one by one it doubles */
	uint64_t size = WF_MAX((need + 2) / 3 * 4, m->count ? 2 * (uint64_t)m->size : FIRST_SIZE);
	if (size > MAX_SIZE)
		return -E2BIG;
	if (m->size == 0)
		draw_secret(m);
	return rebuild(m, (uint32_t)size, 1);
}

void wf_map_add(struct wf_map *m, uint32_t hash, uint32_t value)
{
	put(m, (struct wf_map_slot){hash, value + 1});
	m->count++;
}

/* One factor in some thousands is close to a simple fraction of the distance of the keys, and then whole runs of them meet
 * in few slots. Another factor is drawn, which changes all hashes; at most once in a doubling, for what it costs. */
static void scramble(struct wf_map *m)
{
	uint32_t factor = (uint32_t)wf_random_seed(m->slots) | 1;
	m->scramble_at = m->count * 2;
	if (rebuild(m, m->size, factor) == 0)
		m->factor *= factor;
}

int wf_map_set(struct wf_map *m, uint32_t key, uint32_t value)
{
	int r = wf_map_reserve(m, 1);
	if (r < 0)
		return r;
	uint32_t hash = wf_map_hash_u32(m, key), at = wf_map_slot_of(m, hash), run = 0;
	for (; m->slots[at].value != 0 && m->slots[at].hash != hash; run++)
		at = wf_map_slot_after(m, at);
	m->count += m->slots[at].value == 0;
	m->slots[at] = (struct wf_map_slot){hash, value + 1};
	if (run > LONG_RUN && m->count >= m->scramble_at)
		scramble(m);
	return 0;
}
