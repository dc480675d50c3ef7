/* SPDX-License-Identifier: MIT */
/* Values and their texts, both ways: what is shown, what a new text makes of an old value, and what text alone means. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/util.h"
#include "codec/value/text.h"

static struct wf_graph *g;

static int set_up(void **state)
{
	return wf_graph_new(&g);
}

static int tear_down(void **state)
{
	wf_graph_free(g);
	return 0;
}

static wf_ref example(const char *what)
{
	const wf_ref two[2] = {wf_int(g, 1), wf_float(g, 2.5)}, floats[2] = {wf_float(g, 1), two[1]};
	wf_ref list = wf_list(g);
	switch (what[0]) {
	case 'i':
		return wf_int(g, 10);
	case 'f':
		return wf_float(g, 0.001);
	case 'b':
		return wf_bool(g, true);
	case 'N':
		return wf_none(g);
	case 's':
		return wf_str(g, "text");
	case 't':
		return wf_tuple(g, two, 2);
	case 'c':
		return wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "builtins", "complex"), wf_tuple(g, floats, 2),
			       WF_NIL);
	case 'd':
		return wf_dict(g);
	default:
		wf_list_append(g, list, wf_str(g, "a"));
		wf_list_append(g, list, wf_tuple(g, two, 2));
		return list;
	}
}

static void expect_text(wf_ref r, const char *text, const char *what)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	uint64_t size;
	int failed = wf_value_text(g, r, &b);
	if (failed < 0 || !b.data || strcmp(b.data, text) != 0)
		fail_msg("%s: %d, %s", what, failed, b.data ? b.data : "");
	assert_int_equal(wf_value_size(g, r, &size), 0);
	assert_int_equal(size, b.len);
	wf_buffer_free(&b);
}

static void test_shown(void **state)
{
	static const struct {
		const char *what, *text;
		enum wf_value_form form;
	} cases[] = {
		{"int", "10\n", WF_VALUE_TEXT},         {"float", "0.001\n", WF_VALUE_TEXT},
		{"bool", "true\n", WF_VALUE_TEXT},      {"None", "null\n", WF_VALUE_TEXT},
		{"str", "text", WF_VALUE_RAW},          {"tuple", "[1, 2.5]\n", WF_VALUE_JSON},
		{"complex", "1+2.5j\n", WF_VALUE_TEXT}, {"list", "[\"a\", [1, 2.5]]\n", WF_VALUE_JSON},
	};
	struct wf_buffer b = WF_BUFFER_INIT;
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		wf_ref r = example(cases[i].what);
		assert_int_equal(wf_value_form_of(g, r), cases[i].form);
		expect_text(r, cases[i].text, cases[i].what);
	}
	assert_int_equal(wf_value_form_of(g, example("dict")), WF_VALUE_NOT);
	assert_int_equal(wf_value_text(g, example("dict"), &b), -EINVAL);
	wf_buffer_free(&b);
}

static void test_set(void **state)
{
	static const struct {
		const char *what, *text;
		int status;
		const char *shown;
	} cases[] = {
		{"int", "11\n", 0, "11\n"},
		{"int", "-170141183460469231731687303715884105728\n", 0, "-170141183460469231731687303715884105728\n"},
		{"int", "0.9\n", 0, "0.9\n"},
		{"int", "x\n", -EINVAL, NULL},
		{"int", "", -EINVAL, NULL},
		{"float", "3\n", 0, "3.0\n"},
		{"float", "0x10\n", -EINVAL, NULL},
		{"bool", "false\n", 0, "false\n"},
		{"bool", "1\n", -EINVAL, NULL},
		{"None", "[1, \"a\"]\n", 0, "[1, \"a\"]\n"},
		{"None", "null\n", 0, "null\n"},
		{"str", "anything at all", 0, "anything at all"},
		{"str", "\xff", -EINVAL, NULL},
		{"tuple", "[3]\n", 0, "[3]\n"},
		{"tuple", "3\n", -EINVAL, NULL},
		{"list", "[[], [[1]], \"\\u00e9\\ud83d\\ude00\"]\n", 0, "[[], [[1]], \"\303\251\360\237\230\200\"]\n"},
		{"list", "[1,]\n", -EINVAL, NULL},
		{"list", "[1] 2\n", -EINVAL, NULL},
		{"list", "[\"a\n", -EINVAL, NULL},
		{"list", "[\"\\q\"]\n", -EINVAL, NULL}, /* no such escape */
		{"None", "\"\\q\"\n", -EINVAL, NULL},
		{"list", "[\"\\ud800\"]\n", 0, "[\"\\ud800\"]\n"},
		{"list", "[True, None, NaN]\n", 0, "[true, null, NaN]\n"},
		{"complex", "2j\n", 0, "2j\n"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		wf_ref like = example(cases[i].what), r;
		int status = wf_value_parse(g, like, cases[i].text, strlen(cases[i].text), &r);
		if (status != cases[i].status)
			fail_msg("%s given %s: %d", cases[i].what, cases[i].text, status);
		if (status == 0)
			expect_text(r, cases[i].shown, cases[i].text);
		if (status == 0 && wf_is(g, like, WF_TUPLE))
			assert_true(wf_is(g, r, WF_TUPLE)); /* the type is kept */
	}
}

static void test_new(void **state)
{
	static const struct {
		const char *text;
		int status;
		enum wf_kind kind;
	} cases[] = {
		{"3\n", 0, WF_INT},         {"-1.5e3\n", 0, WF_FLOAT},    {"true\n", 0, WF_BOOL},
		{"null\n", 0, WF_NONE},     {"[1, 2]\n", 0, WF_LIST},     {"03\n", 0, WF_STR},
		{"True\n", 0, WF_STR},      {"\"3\"\n", 0, WF_STR},       {"{}\n", 0, WF_STR},
		{"a\tb\n", 0, WF_STR},      {"3", -EINVAL, WF_NONE},      {"a\nb\n", -EINVAL, WF_NONE},
		{"\1\n", -EINVAL, WF_NONE}, {"\xff\n", -EINVAL, WF_NONE}, {"", -EINVAL, WF_NONE},
		{"[1,\n", 0, WF_STR},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		wf_ref r = WF_NIL;
		int status = wf_value_new(g, cases[i].text, strlen(cases[i].text), &r);
		if (status != cases[i].status || (status == 0 && !wf_is(g, r, cases[i].kind)))
			fail_msg("%s: %d, kind %d", cases[i].text, status, r == WF_NIL ? -1 : (int)wf_kind_of(g, r));
	}
	assert_true(wf_text_is_utf8("\303", 1, true)); /* its end may come */
	assert_false(wf_text_is_utf8("\303", 1, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shown, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_new, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
