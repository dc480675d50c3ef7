/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "codec/bytes/err.h"

static void test_fill(void **state)
{
	struct wf_error err = {0};
	assert_int_equal(wf_fail(NULL, -EUCLEAN, "nobody listens to %d", 1), -EUCLEAN);
	assert_int_equal(wf_fail(&err, -E2BIG, "%d is too many", 7), -E2BIG);
	assert_int_equal(err.code, -E2BIG);
	assert_true(err.offset == WF_ERROR_NO_OFFSET);
	assert_string_equal(err.record, "");
	assert_string_equal(err.text, "7 is too many");
	assert_int_equal(wf_fail_at(&err, -EUCLEAN, "data.pkl", 12, "bad"), -EUCLEAN);
	assert_true(err.offset == 12);
	assert_string_equal(err.record, "data.pkl");
	wf_error_where(&err, "other");
	assert_string_equal(err.record, "data.pkl");
	wf_fail(&err, -EIO, "x");
	wf_error_where(&err, "other");
	assert_string_equal(err.record, "other");
	wf_error_where(NULL, "other");
	wf_fail_at(&err, err.code, err.record, 3, "again: %s", err.text);
	assert_string_equal(err.record, "other");
	assert_string_equal(err.text, "again: x");
}

static void test_format(void **state)
{
	struct wf_error err = {0};
	char buf[1024];
	wf_fail_at(&err, -EUCLEAN, "data.pkl", 123, "BINGET of an unset memo index %d", 7);
	assert_string_equal(wf_error_format(&err, buf, sizeof buf),
			    "data.pkl, offset 123: BINGET of an unset memo index 7");
	wf_fail_at(&err, -EUCLEAN, "a\nb\033[2J\x7f", WF_ERROR_NO_OFFSET, "x\ty");
	assert_string_equal(wf_error_format(&err, buf, sizeof buf), "a%0Ab%1B[2J%7F: x%09y");
	wf_fail_at(&err, -EUCLEAN, NULL, 5, "bad");
	assert_string_equal(wf_error_format(&err, buf, sizeof buf), "offset 5: bad");
	wf_fail(&err, -ENOMEM, "%s", "");
	assert_string_equal(wf_error_format(&err, buf, sizeof buf), "Cannot allocate memory");
}

static void test_small_buffers(void **state)
{
	struct wf_error err = {0};
	char buf[64];
	wf_fail_at(&err, -EUCLEAN, "r\n", 1, "t");
	for (unsigned long size = 1; size < sizeof buf; size++) {
		memset(buf, 'Z', sizeof buf);
		wf_error_format(&err, buf, size);
		assert_true(strlen(buf) < size);
		assert_int_equal(buf[size], 'Z');
		assert_int_equal(strncmp("r%0A, offset 1: t", buf, strlen(buf)), 0);
	}
	memset(buf, 'Z', sizeof buf);
	wf_error_format(&err, buf, 0);
	assert_int_equal(buf[0], 'Z');
}

static void test_long_names(void **state)
{
	struct wf_error err = {0};
	char name[400], text[600];
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	name[sizeof name - 2] = '!';
	memset(text, 't', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	wf_fail_at(&err, -EUCLEAN, name, 0, "%s", text);
	assert_int_equal(strlen(err.record), sizeof err.record - 1);
	assert_memory_equal(err.record, "...n", 4);
	assert_int_equal(err.record[sizeof err.record - 2], '!');
	assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_small_buffers),
		cmocka_unit_test(test_long_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
