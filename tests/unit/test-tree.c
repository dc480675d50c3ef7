/* SPDX-License-Identifier: MIT */
/* A graph as directories and files: names, ties, links, and the changes that edits make. */
#include "tensor-kit.h"

#include "codec/tree/tree.h"
#include "codec/value/names.h"

static struct kit k;
static struct wf_tree *t;

static void put(wf_ref dict, const char *key, wf_ref value)
{
	assert_int_equal(wf_dict_append(k.g, dict, wf_str(k.g, key), value), 0);
}

/* {"w": tensor, "tie": the same data, "d": {"n": 3, "x": tensor}, "again": d, "l": [tensor, 7], "v": [1, 2]} */
static int set_up(void **state)
{
	struct wf_error err = {0};
	kit_init(&k);
	kit_record(&k, "0", "0123456789abcdef", 16, false);
	wf_ref persid = kit_persid(&k, "FloatStorage", "0", 4), root = wf_dict(k.g), d = wf_dict(k.g), l = wf_list(k.g),
	       v = wf_list(k.g);
	put(root, "w", kit_v2(&k, persid, 0, INTS(&k, 4), INTS(&k, 1)));
	put(root, "tie", kit_v2(&k, persid, 0, INTS(&k, 4), INTS(&k, 1)));
	put(d, "n", wf_int(k.g, 3));
	put(d, "x", kit_v2(&k, persid, 0, INTS(&k, 2, 2), INTS(&k, 2, 1)));
	put(root, "d", d);
	put(root, "again", d);
	wf_list_append(k.g, l, kit_v2(&k, persid, 2, INTS(&k, 2), INTS(&k, 1)));
	wf_list_append(k.g, l, wf_int(k.g, 7));
	put(root, "l", l);
	wf_list_append(k.g, v, wf_int(k.g, 1));
	put(root, "v", v);
	kit_open(&k);
	return wf_tree_new(k.g, k.ss, k.c, root, 0, &t, &err);
}

static int tear_down(void **state)
{
	wf_tree_free(t);
	kit_close(&k);
	return 0;
}

/* The node of a name, or WF_NO_INO. */
static wf_ino at(wf_ino dir, const char *name)
{
	uint32_t position;
	int r = wf_tree_lookup(t, dir, name, &position);
	return r < 0 ? WF_NO_INO : wf_tree_dir(t, dir)->entries[position].ino;
}

static uint32_t place(wf_ino dir, const char *name)
{
	uint32_t position = UINT32_MAX;
	assert_int_equal(wf_tree_lookup(t, dir, name, &position), 0);
	return position;
}

static void expect_names(wf_ino dir, const char *names)
{
	char name[WF_NAME_MAX + 1];
	struct wf_buffer text = WF_BUFFER_INIT;
	const struct wf_dir *d = wf_tree_dir(t, dir);
	for (uint32_t i = 0; i < d->count; i++)
		if (wf_tree_name(t, d, i, name)) {
			wf_buffer_puts(&text, text.len ? " " : "");
			wf_buffer_puts(&text, name);
		}
	assert_string_equal(text.data, names);
	wf_buffer_free(&text);
}

static void test_made(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	uint32_t position;
	wf_ino d = at(WF_INO_ROOT, "d");
	expect_names(WF_INO_ROOT, "w tie d again l v");
	expect_names(d, "n x");
	expect_names(at(WF_INO_ROOT, "l"), "0 1");
	assert_int_equal(at(WF_INO_ROOT, "w"), at(WF_INO_ROOT, "tie"));
	assert_int_equal(wf_tree_node(t, at(WF_INO_ROOT, "w"))->nlink, 2);
	assert_int_not_equal(at(d, "x"), at(WF_INO_ROOT, "w")); /* another view */
	assert_int_equal(wf_tree_node(t, at(WF_INO_ROOT, "v"))->type, WF_NODE_VALUE);
	wf_ino link = at(WF_INO_ROOT, "again");
	assert_int_equal(wf_tree_node(t, link)->type, WF_NODE_LINK);
	assert_int_equal(wf_tree_link_target(t, link, &b), 0);
	assert_string_equal(b.data, "d");
	wf_buffer_free(&b);
	wf_tree_path(t, at(d, "x"), &b);
	assert_string_equal(b.data, "d/x");
	wf_buffer_free(&b);
	assert_int_equal(wf_tree_lookup(t, WF_INO_ROOT, "nowhere", &position), -ENOENT);
	assert_int_equal(wf_tree_lookup(t, at(WF_INO_ROOT, "w"), "w", &position), -ENOTDIR);
}

static void test_changed(void **state)
{
	wf_ref key;
	wf_ino w = at(WF_INO_ROOT, "w"), made;
	assert_int_equal(wf_tree_new_key(t, WF_INO_ROOT, "renamed", &key), 0);
	assert_int_equal(wf_tree_set_key(t, WF_INO_ROOT, place(WF_INO_ROOT, "w"), key), 0);
	expect_names(WF_INO_ROOT, "renamed tie d again l v"); /* in its place */
	assert_int_equal(at(WF_INO_ROOT, "renamed"), w);
	assert_int_equal(wf_tree_remove(t, WF_INO_ROOT, place(WF_INO_ROOT, "tie"), NULL), 0);
	assert_int_equal(wf_tree_node(t, w)->nlink, 1);
	assert_int_equal(wf_tree_new_key(t, WF_INO_ROOT, "new", &key), 0);
	assert_int_equal(wf_tree_add(t, WF_INO_ROOT, key, wf_int(k.g, 5), WF_NO_INO, &made), 0);
	expect_names(WF_INO_ROOT, "renamed d again l v new");
	/* the directory of a shared mapping goes: the link to it becomes the directory */
	assert_int_equal(wf_tree_remove(t, WF_INO_ROOT, place(WF_INO_ROOT, "d"), NULL), 0);
	assert_non_null(wf_tree_dir(t, at(WF_INO_ROOT, "again")));
	expect_names(at(WF_INO_ROOT, "again"), "n x");
}

static void test_lists(void **state)
{
	wf_ino l = at(WF_INO_ROOT, "l");
	assert_int_equal(wf_tree_remove(t, l, 0, NULL), 0);
	expect_names(l, "1");
	assert_true(wf_tree_has_holes(t));
	assert_int_equal(wf_tree_compact(t), 0);
	expect_names(l, "0");
	assert_int_equal(wf_tree_expand(t, at(WF_INO_ROOT, "v")), 0);
	expect_names(at(WF_INO_ROOT, "v"), "0");
	assert_int_equal(wf_tree_expand(t, at(WF_INO_ROOT, "w")), -ENOTDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_made, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
