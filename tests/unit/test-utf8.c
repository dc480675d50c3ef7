/* SPDX-License-Identifier: MIT */
/* UTF-8 against a table, and put against length for every character. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/utf8.h"

static void test_every_character(void **state)
{
	char s[WF_UTF8_MAX];
	uint32_t got;
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		size_t n = wf_utf8_put(s, c);
		bool surrogate = c >= 0xd800 && c < 0xe000;
		assert_int_equal(wf_utf8_get(s, n, true, &got), n);
		assert_int_equal(got, c);
		assert_int_equal(wf_utf8_get(s, n, false, &got), surrogate ? 0 : n);
		assert_int_equal(wf_utf8_get(s, n - 1, true, &got), 0);
		for (size_t part = 1; part < n; part++) {
			assert_int_equal(wf_utf8_cut(s, part, true), part);
			assert_int_equal(wf_utf8_cut(s, part, false), surrogate && part > 1 ? 0 : part);
		}
		assert_int_equal(wf_utf8_cut(s, n, true), 0);
	}
}

static void test_invalid(void **state)
{
	static const char *const texts[] = {"\x80",
					    "\xc0\x80",
					    "\xc1\xbf",
					    "\xc3",
					    "\xc3(",
					    "\xe0\x80\x80",
					    "\xe2\x82",
					    "\xe2(\x82",
					    "\xf0\x80\x80\x80",
					    "\xf4\x90\x80\x80",
					    "\xf5\x80\x80\x80",
					    "\xff",
					    "abc\xfe",
					    "\xe2\x82\xac\xe2"};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_false(wf_utf8_valid(texts[i], strlen(texts[i]), true));
	assert_true(wf_utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10, false));
	assert_true(wf_utf8_valid(NULL, 0, false));
	/* the eight bytes that are looked at together, and where they begin */
	char text[32];
	for (size_t at = 0; at < 24; at++) {
		memset(text, 'a', sizeof text);
		text[at] = '\xff';
		assert_false(wf_utf8_valid(text, 24, true));
		memcpy(text + at, "\xe2\x82\xac", 3);
		assert_int_equal(wf_utf8_valid(text, 24, true), at <= 21);
		assert_true(wf_utf8_valid(text, 27, true));
	}
}

static void test_cut(void **state)
{
	static const struct {
		const char *text;
		size_t cut;
	} lines[] = {{"", 0},         {"abc", 0},  {"ab\xc3", 1},   {"ab\xe2\x82", 2}, {"ab\xf0\x9f\x98", 3},
		     {"\xc3\xa9", 0}, {"\x82", 0}, {"\xe0\x80", 0}, {"\xff", 0},       {"\xc3\xa9\xf0\x9f", 2}};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		assert_int_equal(wf_utf8_cut(lines[i].text, strlen(lines[i].text), false), lines[i].cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_character),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
