/* SPDX-License-Identifier: MIT */
/* Numbers as text: the shortest that reads back, laid out as Python's repr, and the same under a locale with a decimal comma. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/number.h"
#include "codec/value/text.h"

static const struct {
	double value;
	const char *text;
} numbers[] = {
	{0, "0.0"},
	{-0.0, "-0.0"},
	{0.1, "0.1"},
	{1.5, "1.5"},
	{1e15, "1000000000000000.0"},
	{1e16, "1e+16"},
	{0.0001, "0.0001"},
	{0.00001, "1e-05"},
	{1.0 / 3, "0.3333333333333333"},
	{-1.7976931348623157e308, "-1.7976931348623157e+308"},
	{5e-324, "5e-324"},
	{123456.789, "123456.789"},
	{INFINITY, "Infinity"},
	{-INFINITY, "-Infinity"},
};

static void check_numbers(void)
{
	char text[32], *end;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		wf_double_text(numbers[i].value, text);
		assert_string_equal(text, numbers[i].text);
		assert_true(wf_strtod(text, &end) == numbers[i].value && *end == '\0');
	}
}

/* A locale with a comma, made here: it need not be installed. NULL: localedef or its sources are missing. */
static const char *comma_locale(char dir[64])
{
	char command[256];
	snprintf(dir, 64, "/tmp/test-number-XXXXXX");
	if (!mkdtemp(dir))
		return NULL;
	snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
	if (system(command) < 0)
		return NULL;
	setenv("LOCPATH", dir, 1);
	const char *name = setlocale(LC_ALL, "de_DE.UTF-8");
	return name && *localeconv()->decimal_point == ',' ? name : NULL;
}

/* A value of a checkpoint, read from text and shown as text. */
static void check_value(void)
{
	struct wf_graph *g;
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_ref value;
	assert_int_equal(wf_graph_new(&g), 0);
	assert_int_equal(wf_value_parse(g, wf_float(g, 0.5), "0.25\n", 5, &value), 0);
	assert_true(wf_float_value(g, value) == 0.25);
	assert_int_equal(wf_value_text(g, value, &text), 0);
	assert_int_equal(text.len, 5);
	assert_memory_equal(text.data, "0.25\n", 5);
	assert_int_equal(wf_value_parse(g, wf_float(g, 0.5), "0,25\n", 5, &value), -EINVAL);
	wf_buffer_free(&text);
	wf_graph_free(g);
}

static void check_long_double(void)
{
	char text[64];
	wf_long_double_text(0.5L, text);
	assert_string_equal(text, "0.5");
	wf_long_double_text(1.0L / 3, text);
	assert_true(strncmp(text, "0.333333333333333333", 20) == 0 || sizeof(long double) == sizeof(double));
}

static void test_numbers(void **state)
{
	check_numbers();
	check_value();
	check_long_double();
}

static void test_comma(void **state)
{
	char dir[64], command[96], *end;
	const char *name = comma_locale(dir);
	if (name) {
		assert_true(strtod("1.5", &end) == 1 && *end == '.'); /* what it would do */
		check_numbers();
		check_value();
		check_long_double();
		assert_string_equal(setlocale(LC_ALL, NULL), name);
		assert_true(strtod("1,5", &end) == 1.5); /* it is still the caller's */
	}
	setlocale(LC_ALL, "C");
	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0 || !name)
		skip();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_comma)};
	return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
