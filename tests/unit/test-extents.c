/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/extents.h"

#define UNIVERSE 256

static void add(struct wf_extents *x, uint64_t start, uint64_t end)
{
	assert_int_equal(wf_extents_add(x, start, end), 0);
}

static void merges(void **state)
{
	struct wf_extents *x;
	uint32_t n;
	uint64_t end;

	assert_int_equal(wf_extents_new(&x), 0);
	assert_false(wf_extents_find(x, 0, &end));
	assert_true(end == UINT64_MAX);
	add(x, 10, 20);
	add(x, 30, 40);
	add(x, 5, 5);
	assert_non_null(wf_extents_all(x, &n));
	assert_int_equal(n, 2);
	add(x, 20, 30); /* touches both */
	const struct wf_extent *all = wf_extents_all(x, &n);
	assert_int_equal(n, 1);
	assert_true(all[0].start == 10 && all[0].end == 40);
	add(x, 0, UINT64_MAX);
	assert_true(wf_extents_bytes(x) == UINT64_MAX);
	wf_extents_truncate(x, 0);
	assert_true(wf_extents_bytes(x) == 0);
	wf_extents_free(x);
	wf_extents_free(NULL);
}

static void none(void **state)
{
	uint32_t n = 7;
	uint64_t end;

	assert_null(wf_extents_all(NULL, &n));
	assert_int_equal(n, 0);
	assert_false(wf_extents_find(NULL, 3, &end));
	assert_true(end == UINT64_MAX);
	assert_true(wf_extents_bytes(NULL) == 0);
}

/* against one flag a byte */
static void holds_like_a_bitmap(struct wf_extents *x, const bool *map)
{
	uint32_t n;
	uint64_t bytes = 0;
	const struct wf_extent *all = wf_extents_all(x, &n);

	for (uint32_t i = 0; i < n; i++) {
		assert_true(all[i].start < all[i].end);
		if (i > 0)
			assert_true(all[i - 1].end < all[i].start);
	}
	for (uint64_t at = 0; at < UNIVERSE; at++) {
		uint64_t end, want = at;
		bytes += map[at];
		assert_int_equal(wf_extents_find(x, at, &end), map[at]);
		while (want < UNIVERSE && map[want] == map[at])
			want++;
		if (want == UNIVERSE && !map[at])
			assert_true(end == UINT64_MAX);
		else
			assert_int_equal(end, want);
	}
	assert_int_equal(wf_extents_bytes(x), bytes);
}

static void random_ranges(void **state)
{
	srand(7);
	for (int round = 0; round < 200; round++) {
		struct wf_extents *x;
		bool map[UNIVERSE] = {false};
		assert_int_equal(wf_extents_new(&x), 0);
		for (int step = 0; step < 40; step++) {
			uint64_t start = (uint64_t)rand() % UNIVERSE, len = (uint64_t)rand() % 20;
			uint64_t end = start + len < UNIVERSE ? start + len : UNIVERSE;
			if (rand() % 10) {
				add(x, start, end);
				memset(map + start, true, end - start);
			} else {
				wf_extents_truncate(x, start);
				memset(map + start, false, UNIVERSE - start);
			}
			holds_like_a_bitmap(x, map);
		}
		wf_extents_free(x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges),
		cmocka_unit_test(none),
		cmocka_unit_test(random_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
