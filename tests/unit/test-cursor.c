/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec/bytes/cursor.h"
#include "codec/bytes/util.h"

static unsigned char *pattern(size_t len)
{
	unsigned char *p = malloc(len);
	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(i * 7 + (i >> 8));
	return p;
}

static struct wf_source *source_of(void *data, size_t len)
{
	struct wf_source *s = NULL;
	assert_int_equal(wf_source_from_memory(data, len, true, &s), 0);
	return s;
}

static void test_memory(void **state)
{
	const unsigned char data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 'a', 'b', '\n', 'c'};
	struct wf_cursor c;
	char out[4];
	size_t n;
	wf_cursor_init_memory(&c, data, sizeof data);
	assert_int_equal(wf_cursor_u8(&c), 1);
	assert_int_equal(wf_cursor_u16(&c), 0x0302);
	assert_int_equal(wf_cursor_u32(&c), 0x07060504);
	assert_true(wf_cursor_u64(&c) == 0x0f0e0d0c0b0a0908u);
	const char *line = wf_cursor_line(&c, 100, &n);
	assert_non_null(line);
	assert_int_equal(n, 2);
	assert_memory_equal(line, "ab", 2);
	assert_int_equal(wf_cursor_left(&c), 1);
	assert_true(c.ok);
	wf_cursor_copy(&c, out, 1);
	assert_int_equal(out[0], 'c');
	assert_true(c.ok);
	wf_cursor_copy(&c, out, 0);
	wf_cursor_skip(&c, 0);
	assert_true(c.ok);
	assert_int_equal(wf_cursor_u8(&c), 0);
	assert_false(c.ok);
	assert_int_equal(c.error, -EUCLEAN);
	wf_cursor_free(&c);
}

static void test_sticky(void **state)
{
	const unsigned char data[] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct wf_cursor c;
	char out[9] = "xxxxxxxx";
	wf_cursor_init_memory(&c, data, sizeof data);
	wf_cursor_skip(&c, 5);
	assert_int_equal(wf_cursor_u32(&c), 0);
	assert_false(c.ok);
	assert_int_equal(wf_cursor_u8(&c), 0); /* though a byte is left */
	assert_int_equal(wf_cursor_left(&c), 0);
	wf_cursor_copy(&c, out, 2);
	assert_memory_equal(out, "\0\0xxxxxx", 8);
	assert_null(wf_cursor_view(&c, 1));
	size_t n;
	assert_null(wf_cursor_line(&c, 1, &n));
	wf_cursor_free(&c);

	wf_cursor_init_memory(&c, data, sizeof data);
	assert_null(wf_cursor_view(&c, SIZE_MAX));
	assert_false(c.ok);
	wf_cursor_init_memory(&c, data, sizeof data);
	wf_cursor_skip(&c, UINT64_MAX);
	assert_false(c.ok);
	wf_cursor_init_memory(&c, NULL, 0);
	assert_true(c.ok);
	assert_int_equal(wf_cursor_u8(&c), 0);
	assert_false(c.ok);
}

static void test_line_limits(void **state)
{
	struct wf_cursor c;
	size_t n;
	wf_cursor_init_memory(&c, "abc\n", 4);
	assert_non_null(wf_cursor_line(&c, 3, &n));
	assert_int_equal(n, 3);
	wf_cursor_init_memory(&c, "abc\n", 4);
	assert_null(wf_cursor_line(&c, 2, &n));
	assert_false(c.ok);
	wf_cursor_init_memory(&c, "abc", 3); /* no newline at all */
	assert_null(wf_cursor_line(&c, 100, &n));
	wf_cursor_init_memory(&c, "\n", 1);
	assert_non_null(wf_cursor_line(&c, 0, &n));
	assert_int_equal(n, 0);
}

static void test_source_across_windows(void **state)
{
	const size_t len = 3 * WF_CURSOR_WINDOW + 17;
	cleanup_free unsigned char *want = pattern(len);
	struct wf_source *s = source_of(pattern(len), len);
	struct wf_cursor c;
	assert_int_equal(wf_cursor_init_source(&c, s, 1, len), -EUCLEAN);
	assert_int_equal(wf_cursor_init_source(&c, s, UINT64_MAX, 2), -EUCLEAN);

	/* 13 divides no window, so every read straddles one sooner or later */
	assert_int_equal(wf_cursor_init_source(&c, s, 5, len - 6), 0);
	size_t at = 5;
	for (; at + 13 <= len - 1; at += 13) {
		const void *p = wf_cursor_view(&c, 13);
		assert_non_null(p);
		assert_memory_equal(p, want + at, 13);
	}
	while (at < len - 1)
		assert_int_equal(wf_cursor_u8(&c), want[at++]);
	assert_true(c.ok);
	assert_int_equal(wf_cursor_u8(&c), 0); /* the last byte of the source is outside the cursor */
	assert_false(c.ok);
	wf_cursor_free(&c);

	assert_int_equal(wf_cursor_init_source(&c, s, 0, len), 0);
	assert_int_equal(wf_cursor_u8(&c), want[0]);
	cleanup_free unsigned char *big = malloc(len);
	wf_cursor_copy(&c, big, 2 * WF_CURSOR_WINDOW + 5);
	assert_true(c.ok);
	assert_memory_equal(big, want + 1, 2 * WF_CURSOR_WINDOW + 5);
	wf_cursor_skip(&c, 100);
	assert_int_equal(wf_cursor_u8(&c), want[2 * WF_CURSOR_WINDOW + 106]);
	assert_null(wf_cursor_view(&c, WF_CURSOR_WINDOW + 1)); /* more than a window */
	assert_false(c.ok);
	wf_cursor_free(&c);
	wf_source_unref(s);
}

static void test_lines_across_windows(void **state)
{
	const size_t len = 2 * WF_CURSOR_WINDOW;
	unsigned char *text = malloc(len);
	for (size_t i = 0; i < len; i++)
		text[i] = i % 101 == 100 ? '\n' : 'a' + i % 101 % 26;
	text[len - 1] = '\n';
	struct wf_source *s = source_of(text, len);
	struct wf_cursor c;
	size_t total = 0, n;
	assert_int_equal(wf_cursor_init_source(&c, s, 0, len), 0);
	while (wf_cursor_left(&c) > 0) {
		const char *line = wf_cursor_line(&c, 1000, &n);
		assert_non_null(line);
		assert_memory_equal(line, text + total, n);
		assert_null(memchr(line, '\n', n));
		total += n + 1;
	}
	assert_true(c.ok);
	assert_int_equal(total, len);
	wf_cursor_free(&c);
	wf_source_unref(s);
}

static void test_source_error_travels(void **state)
{
	char path[] = "/tmp/wf-test-cursor-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	struct wf_source *s = NULL;
	struct wf_cursor c;
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	assert_int_equal(wf_cursor_init_source(&c, s, 0, 1 << 20), 0);
	assert_int_equal(wf_cursor_u8(&c), 0);
	assert_true(c.ok);
	assert_int_equal(ftruncate(fd, 10), 0);
	wf_cursor_skip(&c, 1 << 19);
	assert_int_equal(wf_cursor_u8(&c), 0);
	assert_false(c.ok);
	assert_int_equal(c.error, -EIO);
	wf_cursor_free(&c);
	wf_source_unref(s);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_sticky),
		cmocka_unit_test(test_line_limits),
		cmocka_unit_test(test_source_across_windows),
		cmocka_unit_test(test_lines_across_windows),
		cmocka_unit_test(test_source_error_travels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
