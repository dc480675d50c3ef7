/* SPDX-License-Identifier: MIT */
/* Arrays that grow: how much, how far, and what stays on failure. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/bytes/array.h"

static void test_growth(void **state)
{
	uint64_t *a = NULL;
	uint32_t capacity = 0, grown = 0;
	for (uint32_t i = 0; i < 100000; i++) {
		uint32_t before = capacity;
		assert_int_equal(wf_array_reserve(&a, &capacity, (uint64_t)i + 1, sizeof *a, UINT32_MAX), 0);
		assert_true(capacity > i);
		grown += capacity != before;
		a[i] = i;
	}
	assert_true(grown < 30);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(a[i], i);
	free(a);
}

static void test_limits(void **state)
{
	char *a = NULL;
	uint32_t capacity = 0;
	assert_int_equal(wf_array_reserve(&a, &capacity, 0, 1, 5), 0);
	assert_null(a);
	assert_int_equal(wf_array_reserve(&a, &capacity, 6, 1, 5), -E2BIG);
	assert_int_equal(wf_array_reserve(&a, &capacity, 1, 1, 5), 0);
	assert_int_equal(capacity, 5); /* and not past it */
	char *before = a;
	assert_int_equal(wf_array_reserve(&a, &capacity, 6, 1, 5), -E2BIG);
	assert_ptr_equal(a, before);
	assert_int_equal(capacity, 5);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_growth), cmocka_unit_test(test_limits)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
