#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/buffer.h"

static void test_append(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	assert_null(b.data);
	wf_buffer_puts(&b, "ab");
	wf_buffer_putc(&b, 'c');
	wf_buffer_append(&b, "\0d", 2);
	wf_buffer_append(&b, NULL, 0);
	wf_buffer_printf(&b, "%05d|%s", 42, "end");
	assert_int_equal(b.len, 14);
	assert_memory_equal(b.data, "abc\0d00042|end", 15);
	assert_int_equal(wf_buffer_status(&b), 0);
	char *data = wf_buffer_steal(&b);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	free(data);
	wf_buffer_puts(&b, "again");
	assert_string_equal(b.data, "again");
	wf_buffer_free(&b);
	assert_null(b.data);
}

static void test_ints(void **state)
{
	static const int64_t values[] = {0, 7, 10, -1, 4096, INT32_MIN, INT64_MAX, INT64_MIN};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct wf_buffer ours = WF_BUFFER_INIT, theirs = WF_BUFFER_INIT;
		wf_buffer_put_int(&ours, values[i]);
		wf_buffer_printf(&theirs, "%" PRId64, values[i]);
		assert_string_equal(ours.data, theirs.data);
		assert_int_equal(ours.len, theirs.len);
		wf_buffer_free(&ours);
		wf_buffer_free(&theirs);
	}
}

/* The NUL has a place at every length, also where the capacity is a power of two. */
static void test_growth(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	for (int i = 0; i < 5000; i++) {
		wf_buffer_putc(&b, (char)('a' + i % 26));
		assert_true(b.len < b.cap);
		assert_int_equal(b.data[b.len], 0);
	}
	for (int i = 0; i < 5000; i++)
		assert_int_equal(b.data[i], 'a' + i % 26);
	wf_buffer_printf(&b, "%4096s", "x");
	assert_int_equal(b.len, 9096);
	assert_int_equal(b.data[9095], 'x');
	wf_buffer_free(&b);
}

static void test_sticky_failure(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	wf_buffer_puts(&b, "kept");
	wf_buffer_append(&b, "", SIZE_MAX - 2);
	assert_int_equal(wf_buffer_status(&b), -ENOMEM);
	wf_buffer_puts(&b, "dropped");
	wf_buffer_printf(&b, "%d", 1);
	assert_string_equal(b.data, "kept");
	assert_int_equal(wf_buffer_status(&b), -ENOMEM);
	wf_buffer_free(&b);
	assert_int_equal(wf_buffer_status(&b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_ints),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_sticky_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
