/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/object/object.h"

static int setup(void **state)
{
	return wf_graph_new((struct wf_graph **)state);
}

static int teardown(void **state)
{
	wf_graph_free(*state);
	return 0;
}

static void test_ints(void **state)
{
	struct wf_graph *g = *state;
	static const int64_t values[] = {
		0,         1,         -1,        255,       (1 << 30) - 1,   1 << 30, -(1 << 30), -(1 << 30) - 1,
		INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, (int64_t)1 << 40};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		int64_t v = 99;
		wf_ref r = wf_int(g, values[i]);
		assert_true(r != WF_NIL && wf_is(g, r, WF_INT));
		assert_true(wf_int_value(g, r, &v) && v == values[i]);
		assert_true(wf_int_value(g, wf_long(g, &values[i], 8), &v) && v == values[i]);
	}
	assert_int_equal(wf_int(g, 5), wf_int(g, 5));
	assert_true(wf_is_constant(g, wf_int(g, -5)));
	assert_false(wf_is_constant(g, wf_int(g, INT64_MAX)));
}

static void test_longs(void **state)
{
	struct wf_graph *g = *state;
	static const unsigned char padded[12] = {7},
				   minus[12] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
	static const unsigned char big[10] = {0, 0, 0, 0, 0, 0, 0, 128}; /* 2^63 with a spare zero */
	static const unsigned char low[9] = {0, 0, 0, 0, 0, 0, 0, 127, 255};
	int64_t v;
	size_t len;

	assert_true(wf_int_value(g, wf_long(g, "", 0), &v) && v == 0);
	assert_true(wf_int_value(g, wf_long(g, "\x80", 1), &v) && v == -128);
	assert_true(wf_int_value(g, wf_long(g, "\x80\0", 2), &v) && v == 128);
	assert_true(wf_int_value(g, wf_long(g, padded, 12), &v) && v == 7);
	assert_true(wf_int_value(g, wf_long(g, minus, 12), &v) && v == -1);
	wf_ref r = wf_long(g, big, 10);
	assert_true(wf_is(g, r, WF_LONG));
	assert_non_null(wf_bytes(g, r, &len));
	assert_int_equal(len, 9);
	assert_false(wf_int_value(g, r, &v));
	assert_true(wf_is(g, wf_long(g, low, 9), WF_LONG));
}

static void test_atoms(void **state)
{
	struct wf_graph *g = *state;
	int64_t v;

	assert_true(wf_is(g, wf_none(g), WF_NONE));
	assert_false(wf_is(g, WF_NIL, WF_NONE));
	assert_true(wf_bool_value(g, wf_bool(g, true)));
	assert_false(wf_bool_value(g, wf_bool(g, false)));
	assert_true(wf_int_value(g, wf_bool(g, true), &v) && v == 1);
	assert_true(wf_float_value(g, wf_float(g, 0.1)) == 0.1);
	assert_true(wf_float_value(g, wf_none(g)) == 0.0);
	assert_int_equal(wf_tuple(g, NULL, 0), wf_tuple(g, NULL, 0));
	assert_true(wf_is_constant(g, wf_tuple(g, NULL, 0)));
	assert_int_equal(wf_graph_next(g, wf_tuple(g, NULL, 0)), WF_NIL);
}

/* Every length around the change from the short to the long form. */
/* One object for one name where that is asked for; elsewhere each is its own, as edits expect. */
static void test_shared_constants(void **state)
{
	struct wf_graph *g = *state;
	char name[16];
	assert_int_not_equal(wf_global_named(g, "torch", "FloatStorage"), wf_global_named(g, "torch", "FloatStorage"));
	assert_int_not_equal(wf_shared_str(g, "cpu"), wf_shared_str(g, "cpu"));
	wf_graph_share_constants(g);
	wf_ref class = wf_global_named(g, "torch", "FloatStorage"), cpu = wf_shared_str(g, "cpu");
	assert_int_equal(wf_global_named(g, "torch", "FloatStorage"), class);
	assert_int_not_equal(wf_global_named(g, "torch", "HalfStorage"), class);
	assert_int_not_equal(wf_global_named(g, "torch.storage", "FloatStorage"), class);
	assert_int_equal(wf_shared_str(g, "cpu"), cpu);
	assert_int_not_equal(wf_str(g, "cpu"), cpu);
	for (int i = 0; i < 100; i++) { /* more than are kept: each is what was asked for */
		snprintf(name, sizeof name, "C%d", i);
		assert_true(wf_is_global(g, wf_global_named(g, "m", name), "m", name));
		assert_true(wf_str_equal(g, wf_shared_str(g, name), name));
	}
	assert_int_equal(wf_shared_str(g, "cpu"), cpu);
}

static void test_string_lengths(void **state)
{
	struct wf_graph *g = *state;
	static char data[70000];
	static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 11, 12, 255, 65533, 65534, 65535, 65536, 70000};
	wf_ref refs[sizeof lengths / sizeof *lengths];

	memset(data, 'x', sizeof data);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		data[0] = (char)('a' + i);
		refs[i] = wf_string(g, WF_STR, data, lengths[i]);
		assert_int_not_equal(refs[i], WF_NIL);
	}
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		size_t len;
		char tail[4];
		const char *s = wf_bytes(g, refs[i], &len);
		assert_int_equal(len, lengths[i]);
		assert_int_equal(wf_string_size(g, refs[i]), len);
		assert_int_equal(s[len], 0);
		assert_int_equal(len ? s[0] : 'a' + (int)i, 'a' + (int)i);
		if (len > 4) {
			assert_int_equal(wf_string_read(g, refs[i], len - 4, tail, 4), 0);
			assert_memory_equal(tail, "xxxx", 4);
			assert_int_equal(wf_string_read(g, refs[i], len - 3, tail, 4), -EUCLEAN);
		}
	}
	assert_int_equal(wf_string(g, WF_LIST, "", 0), WF_NIL);
	assert_int_equal(wf_graph_failed(g), 0);
}

static void test_external(void **state)
{
	struct wf_graph *g = *state;
	static char data[] = "0123456789";
	struct wf_source *s;
	uint64_t offset;
	char buf[4];

	wf_ref r = wf_string_external(g, WF_BYTES, 3, 5);
	assert_int_equal(wf_string_read(g, r, 0, buf, 1), -EUCLEAN); /* no source yet */
	assert_int_equal(wf_source_from_memory(data, 10, false, &s), 0);
	wf_graph_set_source(g, s);
	wf_source_unref(s);
	assert_ptr_equal(wf_graph_source(g), s);
	assert_null(wf_bytes(g, r, NULL));
	assert_int_equal(wf_string_size(g, r), 5);
	assert_true(wf_string_external_at(g, r, &offset));
	assert_int_equal(offset, 3);
	assert_false(wf_string_external_at(g, wf_str(g, "x"), &offset));
	assert_int_equal(wf_string_read(g, r, 1, buf, 4), 0);
	assert_memory_equal(buf, "4567", 4);
	assert_int_equal(wf_string_read(g, r, 2, buf, 4), -EUCLEAN);
}

static void test_wrong_kinds(void **state)
{
	struct wf_graph *g = *state;
	wf_ref wrong[] = {WF_NIL,     wf_none(g), wf_int(g, 3), wf_float(g, 1), wf_str(g, "s"), wf_tuple(g, NULL, 0),
			  wf_dict(g), wf_list(g), 0x7fffffff};
	struct wf_effects e;
	uint32_t n;

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		wf_ref r = wrong[i];
		assert_string_equal(wf_global_module(g, r), "");
		assert_string_equal(wf_global_name(g, r), "");
		assert_false(wf_is_global(g, r, "", ""));
		assert_int_equal(wf_call_func(g, r), WF_NIL);
		assert_int_equal(wf_call_args(g, r), WF_NIL);
		assert_int_equal(wf_call_kwargs(g, r), WF_NIL);
		assert_false(wf_call_effects(g, r, 0, &e));
		assert_int_equal(wf_call_state(g, r), WF_NIL);
		assert_int_equal(wf_call_dict(g, r), WF_NIL);
		assert_int_equal(wf_persid_id(g, r), WF_NIL);
		assert_int_equal(wf_class_of(g, r), WF_NIL);
		assert_int_equal(wf_call_build(g, r, wf_none(g)), -EINVAL);
		assert_int_equal(wf_set_target(g, r), WF_NIL);
		assert_int_equal(wf_element(g, r, 0), WF_NIL);
		if (!wf_is(g, r, WF_DICT)) {
			assert_null(wf_items(g, r, &n));
			assert_int_equal(n, 0);
			assert_int_equal(wf_dict_append(g, r, r, r), -EINVAL);
		}
		if (!wf_is(g, r, WF_LIST))
			assert_int_equal(wf_list_append(g, r, r), -EINVAL);
		if (!wf_is(g, r, WF_STR)) {
			assert_null(wf_bytes(g, r, NULL));
			assert_int_equal(wf_string_size(g, r), 0);
		}
	}
	assert_int_equal(wf_graph_failed(g), 0);
}

static void test_containers(void **state)
{
	struct wf_graph *g = *state;
	wf_ref list = wf_list(g), dict = wf_dict(g), set = wf_set(g);
	uint32_t n;

	for (int i = 0; i < 5000; i++) {
		assert_int_equal(wf_list_append(g, list, wf_int(g, i)), 0);
		assert_int_equal(wf_dict_append(g, dict, wf_int(g, i), wf_int(g, -i)), 0);
		assert_int_equal(wf_list_append(g, set, wf_int(g, i)), 0);
	}
	uint64_t before = wf_graph_bytes(g);
	assert_int_equal(wf_graph_settle(g, 0), 0);
	assert_true(wf_graph_bytes(g) < before);
	wf_elements(g, list, &n);
	assert_int_equal(n, 5000);
	wf_elements(g, set, &n);
	assert_int_equal(n, 5000);
	assert_int_equal(wf_element(g, list, 4999), wf_int(g, 4999));
	assert_int_equal(wf_element(g, list, 5000), WF_NIL);
	assert_int_equal(wf_list_set(g, list, 7, wf_none(g)), 0);
	assert_int_equal(wf_list_set(g, list, 5000, wf_none(g)), -EINVAL);
	assert_int_equal(wf_list_truncate(g, list, 8), 0);
	assert_int_equal(wf_list_truncate(g, list, 9), -EINVAL);
	assert_int_equal(wf_element(g, list, 7), wf_none(g));
	assert_int_equal(wf_list_append(g, list, wf_int(g, 1)), 0);

	assert_int_equal(wf_dict_set_at(g, dict, 10, WF_NIL, WF_NIL), 0);
	assert_int_equal(wf_dict_set_at(g, dict, 5000, WF_NIL, WF_NIL), -EINVAL);
	assert_int_equal(wf_items(g, dict, &n)[10].key, WF_NIL);
	assert_int_equal(n, 5000);
	wf_dict_compact(g, dict);
	assert_int_equal(wf_items(g, dict, &n)[10].key, wf_int(g, 11));
	assert_int_equal(n, 4999);
	wf_list_truncate(g, set, 0);
	assert_int_equal(wf_graph_settle(g, 0), 0);
	assert_int_equal(wf_list_append(g, set, wf_int(g, 1)), 0);
}

static void test_tuples(void **state)
{
	struct wf_graph *g = *state;
	enum { BIG = 300000 };
	wf_ref *items = malloc(BIG * sizeof *items);
	uint32_t n;

	for (int i = 0; i < BIG; i++)
		items[i] = wf_int(g, i);
	/* Larger than a chunk: its elements still follow each other. */
	static const uint32_t lengths[] = {1, 2, 3, 5, 65534, 65535, BIG};
	for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
		wf_ref r = wf_tuple(g, items, lengths[k]), f = wf_frozenset(g, items, lengths[k]);
		assert_memory_equal(wf_elements(g, r, &n), items, lengths[k] * sizeof *items);
		assert_int_equal(n, lengths[k]);
		assert_memory_equal(wf_elements(g, f, &n), items, lengths[k] * sizeof *items);
	}
	assert_true(wf_is(g, wf_str(g, "after"), WF_STR));
	free(items);
}

static void test_calls(void **state)
{
	struct wf_graph *g = *state;
	wf_ref func = wf_global_named(g, "collections", "OrderedDict");
	wf_ref call = wf_call(g, WF_CALL_REDUCE, func, wf_tuple(g, NULL, 0), WF_NIL);
	struct wf_effects e;

	assert_true(wf_call_is(g, call, "collections", "OrderedDict"));
	assert_false(wf_call_is(g, call, "collections", "Ordered"));
	assert_false(wf_call_effects(g, call, 0, &e));
	wf_ref dict = wf_dict_target(g, call);
	assert_int_equal(wf_dict_target(g, call), dict);
	wf_dict_append(g, dict, wf_str(g, "k"), wf_int(g, 1));
	assert_int_equal(wf_call_build(g, call, wf_int(g, 100)), 0);
	assert_int_equal(wf_call_dict(g, call), dict);
	assert_int_equal(wf_call_state(g, call), wf_int(g, 100));
	for (int i = 0; i < 20; i++)
		assert_int_equal(wf_call_build(g, call, wf_int(g, i)), 0);
	assert_int_equal(wf_call_state(g, call), wf_int(g, 19));
	wf_ref later = wf_list_target(g, call);
	assert_true(wf_is(g, later, WF_LIST));
	assert_int_not_equal(wf_dict_target(g, call), dict);
	for (uint32_t i = 0; i < 22; i++) {
		assert_true(wf_call_effects(g, call, i, &e));
		assert_int_equal(e.dict == dict, i == 0);
		assert_int_equal(e.list, i == 21 ? later : WF_NIL);
	}
	assert_false(wf_call_effects(g, call, 22, &e));
	assert_int_equal(wf_call_set_state(g, call, wf_none(g)), 0);
	assert_int_equal(wf_call_state(g, call), wf_none(g));
	assert_true(wf_call_effects(g, call, 20, &e) && e.state == wf_none(g));

	wf_ref ex = wf_call(g, WF_CALL_NEWOBJ_EX, func, wf_tuple(g, NULL, 0), dict);
	assert_int_equal(wf_call_form_of(g, ex), WF_CALL_NEWOBJ_EX);
	assert_int_equal(wf_call_kwargs(g, ex), dict);
	assert_int_equal(wf_call_kwargs(g, call), WF_NIL);
	assert_int_equal(wf_call_set_args(g, ex, wf_none(g)), 0);
	assert_int_equal(wf_call_args(g, ex), wf_none(g));
	assert_int_equal(wf_call_set_func(g, ex, call), 0);
	assert_int_equal(wf_call_func(g, ex), call);
}

static void test_classes(void **state)
{
	struct wf_graph *g = *state;
	wf_ref class = wf_global_named(g, "m", "C");
	wf_ref items[] = {wf_str(g, "module"), class, wf_str(g, "f.py"), wf_str(g, "source")};
	wf_ref id = wf_persid(g, wf_tuple(g, items, 4));

	assert_int_equal(wf_class_of(g, class), class);
	assert_int_equal(wf_class_of(g, id), class);
	items[0] = wf_str(g, "storage");
	assert_int_equal(wf_class_of(g, wf_persid(g, wf_tuple(g, items, 4))), WF_NIL);
	assert_int_equal(wf_persid_set_id(g, id, class), 0);
	assert_int_equal(wf_persid_id(g, id), class);
	assert_int_equal(wf_persid_number(g, id), 0);
	assert_true(wf_persid_set_number(g, id, UINT32_MAX));
	assert_int_equal(wf_persid_number(g, id), UINT32_MAX);
	assert_int_equal(wf_persid_id(g, id), class);
	assert_false(wf_persid_set_number(g, class, 1));
	assert_int_equal(wf_persid_number(g, class), 0);
	assert_false(wf_global_nested(g, class));
	wf_global_set_nested(g, class);
	assert_true(wf_global_nested(g, class));
}

static void assert_keys(const struct wf_graph *g, wf_ref a, wf_ref b, bool equal)
{
	assert_int_equal(wf_key_equal(g, a, b), equal);
	assert_int_equal(wf_key_equal(g, b, a), equal);
	if (equal)
		assert_true(wf_key_hash(g, a) == wf_key_hash(g, b));
	else
		assert_true(wf_key_hash(g, a) != wf_key_hash(g, b));
}

static void test_keys(void **state)
{
	struct wf_graph *g = *state;
	static const unsigned char two64[9] = {0, 0, 0, 0, 0, 0, 0, 0, 1}, two64p1[9] = {1, 0, 0, 0, 0, 0, 0, 0, 1};
	static const unsigned char minus64[9] = {0, 0, 0, 0, 0, 0, 0, 0, 255};

	assert_keys(g, wf_int(g, 1), wf_bool(g, true), true);
	assert_keys(g, wf_int(g, 1), wf_float(g, 1.0), true);
	assert_keys(g, wf_int(g, 0), wf_float(g, -0.0), true);
	assert_keys(g, wf_int(g, 1), wf_float(g, 1.5), false);
	assert_keys(g, wf_int(g, INT64_MIN), wf_float(g, -0x1p63), true);
	assert_keys(g, wf_int(g, INT64_MAX), wf_float(g, 0x1p63), false);
	assert_keys(g, wf_long(g, two64, 9), wf_float(g, 0x1p64), true);
	assert_keys(g, wf_long(g, two64p1, 9), wf_float(g, 0x1p64), false);
	assert_keys(g, wf_long(g, two64p1, 9), wf_long(g, two64p1, 9), true);
	assert_keys(g, wf_long(g, minus64, 9), wf_float(g, -0x1p64), true);
	assert_keys(g, wf_long(g, minus64, 9), wf_float(g, 0x1p64), false);
	assert_keys(g, wf_none(g), wf_int(g, 0), false);
	assert_keys(g, wf_float(g, INFINITY), wf_float(g, INFINITY), true);
	wf_ref nan = wf_float(g, NAN);
	assert_keys(g, nan, nan, true);
	assert_false(wf_key_equal(g, nan, wf_float(g, NAN)));

	assert_keys(g, wf_str(g, "a"), wf_str(g, "a"), true);
	assert_keys(g, wf_str(g, "a"), wf_string(g, WF_PYSTR, "a", 1), true);
	assert_keys(g, wf_str(g, "a"), wf_str(g, "b"), false);
	assert_keys(g, wf_str(g, "abcdefghi"), wf_str(g, "abcdefghj"), false);
	assert_false(wf_key_equal(g, wf_str(g, "\xc3\xa4"), wf_string(g, WF_PYSTR, "\xc3\xa4", 2)));
	assert_false(wf_key_equal(g, wf_str(g, "a"), wf_string(g, WF_BYTES, "a", 1)));
	assert_keys(g, wf_global_named(g, "m", "n"), wf_global_named(g, "m", "n"), true);
	assert_keys(g, wf_global_named(g, "m", "n"), wf_global_named(g, "m", "o"), false);

	wf_ref a[] = {wf_int(g, 1), wf_str(g, "x")}, b[] = {wf_float(g, 1), wf_str(g, "x")};
	assert_keys(g, wf_tuple(g, a, 2), wf_tuple(g, b, 2), true);
	assert_keys(g, wf_tuple(g, a, 2), wf_tuple(g, a, 1), false);
	b[1] = wf_tuple(g, b, 2), a[1] = wf_tuple(g, a, 2);
	assert_keys(g, wf_tuple(g, a, 2), wf_tuple(g, b, 2), true);
	assert_false(wf_key_equal(g, wf_list(g), wf_list(g)));
}

/* Each level doubles what a naive hash would visit. */
static void test_deep_keys(void **state)
{
	struct wf_graph *g = *state;
	wf_ref a = wf_str(g, "leaf"), b = wf_str(g, "leaf");

	for (int i = 0; i < 200; i++) {
		wf_ref pa[] = {a, a}, pb[] = {b, b};
		a = wf_tuple(g, pa, 2);
		b = wf_tuple(g, pb, 2);
		if (i < 3)
			assert_keys(g, a, b, true);
	}
	assert_false(wf_key_equal(g, a, b));
	wf_ref wide[100];
	for (int i = 0; i < 100; i++)
		wide[i] = wf_int(g, i);
	a = wf_tuple(g, wide, 60), b = wf_tuple(g, wide, 60);
	assert_keys(g, a, b, true);
	assert_false(wf_key_equal(g, wf_tuple(g, wide, 100), wf_tuple(g, wide, 100)));
}

/* The walk ends with the last container that has elements, wherever that is. */
static void test_settle(void **state)
{
	struct wf_graph *g = *state;
	uint32_t n;
	wf_ref early = wf_dict(g), emptied = wf_list(g), never = wf_dict(g);
	wf_list_append(g, emptied, wf_none(g));
	wf_list_truncate(g, emptied, 0);
	for (int i = 0; i < 20; i++)
		wf_dict_append(g, early, wf_int(g, i % 10), wf_int(g, i));
	uint32_t limit = wf_graph_limit(g);
	wf_ref late = wf_dict(g), last = wf_dict(g);
	for (int i = 0; i < 20; i++) {
		wf_dict_append(g, late, wf_int(g, i % 5), wf_int(g, i));
		wf_dict_append(g, last, wf_int(g, i % 4), wf_int(g, i));
	}
	assert_int_equal(wf_graph_settle(g, limit), 0);
	wf_items(g, early, &n);
	assert_int_equal(n, 20); /* from before the limit */
	wf_items(g, late, &n);
	assert_int_equal(n, 5);
	wf_items(g, last, &n);
	assert_int_equal(n, 4);
	assert_int_equal(wf_graph_settle(g, 0), 0);
	wf_items(g, early, &n);
	assert_int_equal(n, 10);
	/* the list gave its vector back: counted no more, and had again it counts again */
	wf_list_append(g, emptied, wf_none(g));
	wf_dict_append(g, last, wf_int(g, 3), wf_none(g));
	wf_dict_append(g, never, wf_none(g), wf_none(g));
	assert_int_equal(wf_graph_settle(g, 0), 0);
	wf_items(g, last, &n);
	assert_int_equal(n, 4);
}

static void test_dedup(void **state)
{
	struct wf_graph *g = *state;
	static const int sizes[] = {3, 8, 9, 5000};
	uint32_t n;

	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
		wf_ref d = wf_dict(g);
		char name[16];
		for (int i = 0; i < sizes[k]; i++) {
			snprintf(name, sizeof name, "k%d", i);
			wf_dict_append(g, d, wf_str(g, name), wf_int(g, i));
		}
		assert_int_equal(wf_dict_dedup(g, d), 0);
		wf_items(g, d, &n);
		assert_int_equal(n, sizes[k]);
		wf_dict_append(g, d, wf_str(g, "k1"), wf_str(g, "last"));
		wf_dict_append(g, d, wf_str(g, "new"), wf_none(g));
		assert_int_equal(wf_dict_dedup(g, d), 0);
		const struct wf_item *items = wf_items(g, d, &n);
		assert_int_equal(n, sizes[k] + 1);
		assert_true(wf_str_equal(g, items[1].key, "k1") && wf_str_equal(g, items[1].value, "last"));
		assert_true(wf_str_equal(g, items[sizes[k]].key, "new"));
		assert_true(wf_str_equal(g, wf_dict_get(g, d, "k1"), "last"));
		assert_int_equal(wf_dict_get(g, d, "absent"), WF_NIL);
	}
}

static void test_walk(void **state)
{
	struct wf_graph *g = *state;
	static char blob[300000];
	enum { COUNT = 4000 };
	wf_ref made[COUNT];
	int met = 0;

	assert_int_equal(wf_graph_next(g, WF_NIL), WF_NIL);
	for (int i = 0; i < COUNT; i++) {
		switch (i % 7) {
		case 0:
			made[i] = wf_string(g, WF_BYTES, blob, i % 350 == 0 ? sizeof blob : (size_t)(i % 40));
			break;
		case 1:
			made[i] = wf_float(g, i);
			break;
		case 2:
			made[i] = wf_tuple(g, made, (uint32_t)i % 30);
			if (wf_is_constant(g, made[i]))
				made[i] = wf_persid(g, made[i]);
			break;
		case 3:
			made[i] = wf_list(g);
			wf_list_append(g, made[i], made[0]);
			break;
		case 4:
			made[i] = wf_call(g, WF_CALL_NEWOBJ_EX, made[0], made[1], made[2]);
			break;
		case 5:
			made[i] = wf_dict(g);
			break;
		default:
			made[i] = wf_call(g, WF_CALL_REDUCE, made[0], made[1], WF_NIL);
			wf_call_build(g, made[i], made[0]); /* its effects are no object of their own */
		}
		assert_true(made[i] && made[i] < wf_graph_limit(g));
	}
	for (wf_ref r = wf_graph_next(g, WF_NIL); r; r = wf_graph_next(g, r))
		assert_int_equal(r, made[met++]);
	assert_int_equal(met, COUNT);
}

/* A tensor as torch.save writes it: what it costs decides how large a checkpoint can be mounted. */
static void test_compact(void **state)
{
	struct wf_graph *g = *state;
	enum { TENSORS = 100000 };
	wf_ref func = wf_global_named(g, "torch._utils", "_rebuild_tensor_v2");
	wf_ref class = wf_global_named(g, "torch", "FloatStorage"),
	       od = wf_global_named(g, "collections", "OrderedDict");
	wf_ref storage = wf_str(g, "storage"), cpu = wf_str(g, "cpu"), root = wf_dict(g), empty = wf_tuple(g, NULL, 0);
	uint64_t before = wf_graph_bytes(g);

	for (int i = 0; i < TENSORS; i++) {
		char key[64];
		snprintf(key, sizeof key, "layers.%d.attn.q_proj.weight", i % 1000);
		wf_ref name = wf_str(g, key);
		snprintf(key, sizeof key, "%d", i);
		wf_ref id[] = {storage, class, wf_str(g, key), cpu, wf_int(g, 1 << 20)};
		wf_ref dims[] = {wf_int(g, 1024), wf_int(g, 1024)}, strides[] = {wf_int(g, 1024), wf_int(g, 1)};
		wf_ref args[] = {wf_persid(g, wf_tuple(g, id, 5)),
				 wf_int(g, 0),
				 wf_tuple(g, dims, 2),
				 wf_tuple(g, strides, 2),
				 wf_bool(g, false),
				 wf_call(g, WF_CALL_REDUCE, od, empty, WF_NIL)};
		wf_ref tensor = wf_call(g, WF_CALL_REDUCE, func, wf_tuple(g, args, 6), WF_NIL);
		assert_int_equal(wf_dict_append(g, root, name, tensor), 0);
	}
	assert_int_equal(wf_graph_settle(g, 0), 0);
	assert_in_range((wf_graph_bytes(g) - before) / TENSORS, 100, 200);
}

/* Parts are made and forgotten, over the borders of chunks; what stays, stays as it was. */
static void test_rewind(void **state)
{
	struct wf_graph *g = *state;
	static char large[3 << 20];
	wf_graph_share_constants(g);
	wf_ref first = wf_str(g, "first");
	uint32_t limit = wf_graph_limit(g);
	uint64_t bytes = wf_graph_bytes(g);
	for (int i = 0; i < 200; i++) {
		const size_t sizes[] = {0, 10, 70000, (1u << 20) - 8, sizeof large};
		size_t n = sizes[i % 5];
		memset(large, i, n);
		wf_ref s = wf_string(g, WF_BYTES, large, n), t = wf_tuple(g, &s, 1);
		assert_int_equal(wf_element(g, t, 0), s);
		assert_memory_equal(wf_bytes(g, s, NULL), large, n);
		assert_int_equal(wf_graph_rewind(g, limit), limit);
		assert_int_equal(wf_graph_limit(g), limit);
		assert_int_equal(wf_graph_bytes(g), bytes);
		assert_int_equal(wf_graph_since(g, limit), WF_NIL);
	}
	assert_true(wf_str_equal(g, first, "first"));

	/* a constant, and what grows, keep what came with them */
	wf_ref shared = wf_global_named(g, "torch", "FloatStorage");
	uint32_t more = wf_graph_rewind(g, limit);
	assert_true(more > shared);
	assert_int_equal(wf_global_named(g, "torch", "FloatStorage"), shared);
	assert_int_equal(wf_graph_rewind(g, more), more);
	wf_ref list = wf_list(g);
	assert_int_equal(wf_list_append(g, list, first), 0);
	assert_true(wf_graph_rewind(g, more) > list);
	assert_int_equal(wf_element(g, list, 0), first);
}

static void test_limit(void **state)
{
	struct wf_graph *g = *state;

	/* Refused before a byte of it is looked at. */
	assert_int_equal(wf_string(g, WF_BYTES, "x", WF_GRAPH_MAX_BYTES - (1u << 20)), WF_NIL);
	assert_int_equal(wf_graph_failed(g), -E2BIG);
	assert_true(wf_graph_bytes(g) <= WF_GRAPH_MAX_BYTES);
	assert_int_equal(wf_str(g, "x"), WF_NIL);
	assert_int_equal(wf_list(g), WF_NIL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ints),
		TEST(test_longs),
		TEST(test_atoms),
		TEST(test_string_lengths),
		TEST(test_shared_constants),
		TEST(test_external),
		TEST(test_wrong_kinds),
		TEST(test_containers),
		TEST(test_tuples),
		TEST(test_calls),
		TEST(test_classes),
		TEST(test_keys),
		TEST(test_deep_keys),
		TEST(test_settle),
		TEST(test_dedup),
		TEST(test_walk),
		TEST(test_compact),
		TEST(test_rewind),
		TEST(test_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
