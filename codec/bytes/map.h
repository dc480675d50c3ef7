/* SPDX-License-Identifier: MIT */
/* The hash table of the codec: from a hash to numbers that stand for whatever the owner keeps elsewhere.
 *
 * The table stores no keys. A lookup offers every number with an equal hash, and the owner compares:
 *
 *	struct wf_map_probe p = wf_map_probe(&map, wf_map_hash(&map, name, len));
 *	while (wf_map_next(&p, &i))
 *		if (is_name_of(i, name, len))
 *			return i;
 *
 * Where the key is a number of 32 bits, its hash is as good as itself (no two have the same), and nothing is left to
 * compare: wf_map_get and wf_map_set.
 *
 * Open addressing in a table that is at most three quarters full: 8 bytes a slot, and a hash as a part of 2^32 is its slot as a part
 * of the table, which has any size: a map whose numbers are counted beforehand takes what it needs. Each map has a random secret, so that nobody can choose keys that all fall together. An all-zero
 * struct is an empty map. One number may stand under several hashes, and several numbers under one; the number that was
 * added first is offered first.
 *
 * Threads: as any plain data; several may look up while nobody adds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wf_map_slot {
	uint32_t hash;
	uint32_t value; /* number + 1; 0: the slot is free */
};

struct wf_map {
	struct wf_map_slot *slots;
	uint32_t size; /* 0: no slots and no secret yet */
	uint32_t count;
	uint32_t scramble_at;  /* from this count on another factor may be tried (wf_map_set) */
	uint64_t seed, factor; /* secret; factor is odd */
};

/* A random number; from the clock and the address where the system has none. */
uint64_t wf_random_seed(const void *fallback);

void wf_map_free(struct wf_map *m); /* empty and all-zero afterwards */
/* Room for n numbers more, so that as many calls of wf_map_add or wf_map_set cannot fail. Comes before the hash of what
 * is added, for it makes the secret. Returns 0, -ENOMEM, -E2BIG. */
int wf_map_reserve(struct wf_map *m, uint32_t n);
/* Adds a number < UINT32_MAX, for which there is room, without looking whether it is there. */
void wf_map_add(struct wf_map *m, uint32_t hash, uint32_t value);

/* One more number into a hash h, seed at first, of a key that is made of several: wf_map_hash_u64 ends it. */
static inline uint64_t wf_map_mix(const struct wf_map *m, uint64_t h, uint64_t v)
{
	unsigned __int128 product = (unsigned __int128)(h ^ v) * m->factor;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint32_t wf_map_hash_u64(const struct wf_map *m, uint64_t key)
{
	uint64_t h = wf_map_mix(m, m->seed, key);
	return (uint32_t)(h ^ h >> 32);
}

uint32_t wf_map_hash(const struct wf_map *m, const void *key, size_t len);

static inline uint32_t wf_map_slot_of(const struct wf_map *m, uint32_t hash)
{
	return (uint32_t)((uint64_t)hash * m->size >> 32);
}

static inline uint32_t wf_map_slot_after(const struct wf_map *m, uint32_t at)
{
	return at + 1 < m->size ? at + 1 : 0;
}

struct wf_map_probe {
	const struct wf_map *map;
	uint32_t hash, at;
};

static inline struct wf_map_probe wf_map_probe(const struct wf_map *m, uint32_t hash)
{
	return (struct wf_map_probe){.map = m, .hash = hash, .at = wf_map_slot_of(m, hash)};
}

/* The next number with that hash; false when there is none. Nothing may be added in between. */
static inline bool wf_map_next(struct wf_map_probe *p, uint32_t *ret_value)
{
	const struct wf_map *m = p->map;
	if (m->size == 0)
		return false;
	for (;;) {
		const struct wf_map_slot *s = &m->slots[p->at];
		p->at = wf_map_slot_after(m, p->at);
		if (s->value == 0)
			return false;
		if (s->hash == p->hash) {
			*ret_value = s->value - 1;
			return true;
		}
	}
}

/* ---- keys that are numbers of 32 bits: a map holds these, or others, not both ---- */

/* The product with an odd factor can be undone, so that no two keys have one hash; its first bits are as good as random
 * where the factor is. Keys that come in steps, as the objects of a pickle do, have slots in steps: the processor
 * foresees where the next one is, which is half the time of a lookup in a table that its cache does not hold. */
static inline uint32_t wf_map_hash_u32(const struct wf_map *m, uint32_t key)
{
	return key * (uint32_t)m->factor;
}

/* The number under a key; false when there is none. */
static inline bool wf_map_get(const struct wf_map *m, uint32_t key, uint32_t *ret_value)
{
	struct wf_map_probe p = wf_map_probe(m, m->size ? wf_map_hash_u32(m, key) : 0);
	return wf_map_next(&p, ret_value);
}

/* Puts a number < UINT32_MAX under a key, in place of the one that stands there. Returns 0, -ENOMEM, -E2BIG. */
int wf_map_set(struct wf_map *m, uint32_t key, uint32_t value);
