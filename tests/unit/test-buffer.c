/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/bytes/buffer.h"

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
	volatile size_t too_much = SIZE_MAX - 2;
	wf_buffer_puts(&b, "kept");
	wf_buffer_append(&b, "", too_much);
	assert_int_equal(wf_buffer_status(&b), -ENOMEM);
	wf_buffer_puts(&b, "dropped");
	wf_buffer_printf(&b, "%d", 1);
	assert_string_equal(b.data, "kept");
	assert_int_equal(wf_buffer_status(&b), -ENOMEM);
	wf_buffer_free(&b);
	assert_int_equal(wf_buffer_status(&b), 0);
}

/* What is looked at eight bytes at a time is written as what is looked at alone: each byte of ASCII at each place. */
static void test_eight_at_once(void **state)
{
	static void (*const ways[])(struct wf_buffer *, const char *, size_t) = {wf_buffer_printable,
										 wf_buffer_printable_json};
	for (size_t way = 0; way < 2; way++)
		for (int c = 0; c < 0x80; c++)
			for (size_t at = 0; at < 17; at++) {
				char text[17];
				struct wf_buffer whole = WF_BUFFER_INIT, parts = WF_BUFFER_INIT;
				memset(text, 'a', sizeof text);
				text[at] = (char)c;
				ways[way](&whole, text, sizeof text);
				for (size_t i = 0; i < sizeof text; i++)
					ways[way](&parts, text + i, 1);
				assert_string_equal(whole.data, parts.data);
				wf_buffer_free(&whole);
				wf_buffer_free(&parts);
			}
}

static void test_printable(void **state)
{
	static const struct {
		const char *in, *text, *json;
	} cases[] = {
		{"", "", ""},
		{"plain, w\xc3\xb6rter, \xf0\x9f\x99\x82", "plain, w\xc3\xb6rter, \xf0\x9f\x99\x82",
		 "plain, w\xc3\xb6rter, \xf0\x9f\x99\x82"},
		{"a\nb\x1b[2J\x7f", "a%0Ab%1B[2J%7F", "a\\u000ab\\u001b[2J\\u007f"},
		{"\xc2\x9b\xc2\x85", "%C2%9B%C2%85", "\\u009b\\u0085"},
		{"\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8", "%E2%80%AE%E2%81%A6%E2%80%A8", "\\u202e\\u2066\\u2028"},
		{"\x80\xff", "%80%FF", "\\udc80\\udcff"},
		{"\xc3", "%C3", "\\udcc3"},                                           /* cut off */
		{"\xc0\xaf", "%C0%AF", "\\udcc0\\udcaf"},                             /* too long a form */
		{"\xed\xa0\xbd", "%ED%A0%BD", "\\udced\\udca0\\udcbd"},               /* a surrogate */
		{"\xf4\x90\x80\x80", "%F4%90%80%80", "\\udcf4\\udc90\\udc80\\udc80"}, /* beyond Unicode */
		{"\xe2\x82", "%E2%82", "\\udce2\\udc82"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_buffer text = WF_BUFFER_INIT, json = WF_BUFFER_INIT;
		wf_buffer_printable(&text, cases[i].in, strlen(cases[i].in));
		wf_buffer_printable_json(&json, cases[i].in, strlen(cases[i].in));
		assert_string_equal(text.data ? text.data : "", cases[i].text);
		assert_string_equal(json.data ? json.data : "", cases[i].json);
		wf_buffer_free(&text);
		wf_buffer_free(&json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),    cmocka_unit_test(test_ints),
		cmocka_unit_test(test_growth),    cmocka_unit_test(test_sticky_failure),
		cmocka_unit_test(test_printable), cmocka_unit_test(test_eight_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
