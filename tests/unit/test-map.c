/* SPDX-License-Identifier: MIT */
/* The hash table, and the map of keys on top of it, held against plain lists. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/key_map.h"
#include "codec/bytes/map.h"

#define KEYS 5000

static bool holds(const struct wf_map *m, uint32_t hash, uint32_t value)
{
	uint32_t v;
	struct wf_map_probe p = wf_map_probe(m, hash);
	while (wf_map_next(&p, &v))
		if (v == value)
			return true;
	return false;
}

static void test_empty(void **state)
{
	struct wf_map m = {0};
	uint32_t v;
	struct wf_map_probe p = wf_map_probe(&m, 5);
	assert_false(wf_map_next(&p, &v));
	assert_false(wf_map_get(&m, 5, &v));
	wf_map_free(&m);
}

/* Equal hashes are all offered, in the order in which they came, however often the table grew. */
static void test_equal_hashes(void **state)
{
	struct wf_map m = {0};
	uint32_t v, n = 0;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(wf_map_reserve(&m, 2), 0);
		wf_map_add(&m, UINT32_MAX, i);
		wf_map_add(&m, UINT32_MAX - i, 1000 + i);
	}
	struct wf_map_probe p = wf_map_probe(&m, UINT32_MAX);
	while (wf_map_next(&p, &v))
		if (v < 1000)
			assert_int_equal(v, n++);
	assert_int_equal(n, 1000);
	assert_int_equal(m.count, 2000);
	wf_map_free(&m);
	assert_int_equal(m.size, 0);
}

static void test_reserve(void **state)
{
	struct wf_map m = {0};
	assert_int_equal(wf_map_reserve(&m, 1000), 0);
	const struct wf_map_slot *slots = m.slots;
	for (uint32_t i = 0; i < 1000; i++)
		wf_map_add(&m, i * 77u, i);
	assert_int_equal(wf_map_reserve(&m, 0), 0);
	assert_ptr_equal(slots, m.slots);
	assert_int_equal(wf_map_reserve(&m, UINT32_MAX), -E2BIG);
	assert_true(holds(&m, 999 * 77u, 999));
	wf_map_free(&m);
}

static void test_numbers_against_a_list(void **state)
{
	static uint32_t in[KEYS];
	struct wf_map m = {0};
	uint32_t v, count = 0;
	srand(1);
	for (int step = 0; step < 50000; step++) {
		uint32_t i = (uint32_t)rand() % KEYS, key = i << 12;
		assert_int_equal(wf_map_get(&m, key, &v), in[i] > 0);
		if (in[i])
			assert_int_equal(v, in[i]);
		count += in[i] == 0;
		in[i] = (uint32_t)step + 1;
		assert_int_equal(wf_map_set(&m, key, in[i]), 0);
		assert_int_equal(m.count, count);
	}
	wf_map_free(&m);
}

static void test_keys_against_a_list(void **state)
{
	static uint64_t in[KEYS];
	struct wf_key_map m = {0};
	char key[16];
	srand(2);
	assert_null(wf_key_map_get(&m, "", 0));
	for (int step = 0; step < 50000; step++) {
		uint32_t i = (uint32_t)rand() % KEYS;
		size_t len = (size_t)snprintf(key, sizeof key, "key %u", i);
		const uint64_t *v = wf_key_map_get(&m, key, len);
		assert_int_equal(v != NULL, in[i] > 0);
		if (v)
			assert_int_equal(*v, in[i]);
		in[i] = (uint64_t)step + 1;
		assert_int_equal(wf_key_map_put(&m, key, len, in[i]), 0);
	}
	wf_key_map_free(&m);
}

/* Of one beginning, one length, and with NULs: all are different keys. */
static void test_keys_that_look_alike(void **state)
{
	static const char bytes[24] = "a";
	struct wf_key_map m = {0};
	for (size_t len = 0; len <= sizeof bytes; len++)
		assert_int_equal(wf_key_map_put(&m, bytes, len, len), 0);
	assert_int_equal(m.count, sizeof bytes + 1);
	for (size_t len = 0; len <= sizeof bytes; len++)
		assert_int_equal(*wf_key_map_get(&m, bytes, len), len);
	for (size_t len = 0; len <= sizeof bytes; len++)
		assert_int_equal(m.keys[len].bytes[len], '\0'); /* errors print keys as texts */
	wf_key_map_free(&m);
}

static uint64_t longest_run(const struct wf_map *m)
{
	uint64_t longest = 0, run = 0;
	for (uint32_t i = 0; i < m->size; i++) {
		run = m->slots[i].value == 0 ? 0 : run + 1;
		longest = run > longest ? run : longest;
	}
	return longest;
}

/* Numbers one after the other and multiples of a power of two, and names that differ in one character: they spread. */
static void test_spread(void **state)
{
	struct wf_map numbers = {0}, wide = {0}, names = {0};
	char name[32];
	for (uint32_t i = 0; i < 100000; i++) {
		assert_int_equal(wf_map_set(&numbers, i << 12, i), 0);
		assert_int_equal(wf_map_reserve(&wide, 1), 0);
		wf_map_add(&wide, wf_map_hash_u64(&wide, (uint64_t)i << 40), i);
		assert_int_equal(wf_map_reserve(&names, 1), 0);
		wf_map_add(&names, wf_map_hash(&names, name, (size_t)snprintf(name, sizeof name, "layers.%u.w", i)), i);
	}
	assert_true(longest_run(&numbers) < 500);
	assert_true(longest_run(&wide) < 500);
	assert_true(longest_run(&names) < 500);
	wf_map_free(&numbers);
	wf_map_free(&wide);
	wf_map_free(&names);
}

/* With the factor 1 numbers one after the other would all share the first slots: another factor is drawn, and nothing is lost. */
static void test_an_unlucky_factor(void **state)
{
	struct wf_map m = {0};
	uint32_t v;
	assert_int_equal(wf_map_reserve(&m, 20000), 0);
	m.factor = 1;
	for (uint32_t i = 0; i < 20000; i++)
		assert_int_equal(wf_map_set(&m, i, i + 7), 0);
	assert_int_equal(m.count, 20000);
	assert_true(longest_run(&m) < 1000);
	for (uint32_t i = 0; i < 20000; i++) {
		assert_true(wf_map_get(&m, i, &v));
		assert_int_equal(v, i + 7);
	}
	assert_false(wf_map_get(&m, 20000, &v));
	wf_map_free(&m);
}

static void test_secrets_differ(void **state)
{
	struct wf_map a = {0}, b = {0};
	assert_int_equal(wf_map_reserve(&a, 1), 0);
	assert_int_equal(wf_map_reserve(&b, 1), 0);
	assert_true(a.seed != b.seed);
	assert_true(a.factor % 2 == 1);
	assert_true(wf_map_hash(&a, "key", 3) != wf_map_hash(&b, "key", 3));
	wf_map_free(&a);
	wf_map_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_equal_hashes),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_numbers_against_a_list),
		cmocka_unit_test(test_keys_against_a_list),
		cmocka_unit_test(test_keys_that_look_alike),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_an_unlucky_factor),
		cmocka_unit_test(test_secrets_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
