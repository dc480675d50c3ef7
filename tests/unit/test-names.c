/* SPDX-License-Identifier: MIT */
/* Keys as file names and file names as keys. */
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
#include "codec/value/names.h"

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

static void test_texts(void **state)
{
	static const struct {
		const char *key, *name;
		bool has_twin;
	} cases[] = {
		{"conv1.weight", "conv1.weight", false},
		{"a/b", "a%2Fb", false},
		{"100%", "100%25", false},
		{".", "%2E", false},
		{"..", "%2E.", false},
		{"...", "...", false},
		{"", "%", false},
		{"\303\251", "\303\251", false},
		{".weightfs", "%2Eweightfs", false},
		{"0", "0", false},
		{"0", "%30", true},
		{"true", "%74rue", true},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		char name[WF_NAME_MAX + 1];
		wf_ref back;
		size_t len = wf_name_from_key(g, wf_str(g, cases[i].key), cases[i].has_twin, name);
		assert_string_equal(name, cases[i].name);
		assert_int_equal(len, strlen(name));
		assert_int_equal(wf_key_from_name(g, name, false, &back), 0);
		assert_true(wf_str_equal(g, back, cases[i].key));
	}
}

static void test_other_keys(void **state)
{
	char name[WF_NAME_MAX + 1];
	const wf_ref pair[2] = {wf_int(g, 1), wf_str(g, "a")};
	wf_ref keys[] = {wf_int(g, -7), wf_float(g, 0.5),     wf_bool(g, true),
			 wf_none(g),    wf_tuple(g, pair, 2), wf_string(g, WF_BYTES, "x\0", 2)};
	static const char *const names[] = {"-7", "0.5", "true", "null", "[1, \"a\"]", "b'x\\x00'"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(keys); i++) {
		wf_name_from_key(g, keys[i], false, name);
		assert_string_equal(name, names[i]);
	}
	assert_true(wf_name_may_have_twin(g, wf_str(g, "12")));
	assert_false(wf_name_may_have_twin(g, wf_str(g, "twelve")));
}

static void test_long(void **state)
{
	char text[400], name[WF_NAME_MAX + 1];
	for (size_t i = 0; i < 399; i += 3)
		memcpy(text + i, "\342\202\254", 3);
	text[399] = '\0';
	size_t len = wf_name_from_text(text, 399, false, name);
	assert_true(len <= WF_NAME_MAX && len > WF_NAME_MAX - 3);
	assert_memory_equal(name + len - 10, "%~", 2);
	assert_int_equal((len - 10) % 3, 0); /* cut between characters */
	strcpy(name, "key");
	assert_int_equal(wf_name_number(name, 3, 2), 5);
	assert_string_equal(name, "key~2");
}

static void test_new_names(void **state)
{
	static const struct {
		const char *name;
		bool int_keys;
		int status;
		enum wf_kind kind;
	} cases[] = {
		{"7", true, 0, WF_INT},           {"7", false, 0, WF_STR},
		{"seven", true, 0, WF_STR},       {"a%2Fb", false, 0, WF_STR},
		{"a%2", false, -EINVAL, WF_STR},  {"a%zz", false, -EINVAL, WF_STR},
		{"\xff", false, -EINVAL, WF_STR}, {".weightfs", false, -EPERM, WF_STR},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		wf_ref key = WF_NIL;
		int r = wf_key_from_name(g, cases[i].name, cases[i].int_keys, &key);
		if (r != cases[i].status || (r == 0 && !wf_is(g, key, cases[i].kind)))
			fail_msg("%s: %d", cases[i].name, r);
	}
}

static void test_scratch(void **state)
{
	static const char *const scratch[] = {"w~",
					      ".w.swp",
					      ".w.swx",
					      ".#w",
					      "#w#",
					      ".nfs0001",
					      ".fuse_hidden01",
					      "._w",
					      ".DS_Store",
					      ".Trash-1000",
					      ".goutputstream-A1",
					      ".w.kate-swp"},
				 *const keys[] = {"w", "~w", ".w", "swp", "#w", "nfs0001", "w.bak", "Trash"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(scratch); i++)
		if (!wf_name_is_scratch(scratch[i]))
			fail_msg("%s", scratch[i]);
	for (size_t i = 0; i < WF_ARRAY_SIZE(keys); i++)
		if (wf_name_is_scratch(keys[i]))
			fail_msg("%s", keys[i]);
	assert_true(wf_name_is_temporary("sedAb3dE9") && wf_name_is_temporary(".7.Ab3dE9"));
	assert_false(wf_name_is_temporary("sediment"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_texts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_other_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_new_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_scratch, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
