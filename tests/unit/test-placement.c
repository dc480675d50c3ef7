/* SPDX-License-Identifier: MIT */
/* Where storages are placed, on the reference device: what map_location leads to, the first read, writes, moves. */
#include "tensor-kit.h"

#include "codec/placement/placement.h"
#include "codec/tensor/layout.h"
#include "devices/device.h"

static struct kit k;
static struct wf_tensor tensor;

static int set_up(void **state)
{
	kit_init(&k);
	kit_record(&k, "0", "0123456789abcdef", 16, false);
	wf_ref t = kit_v2(&k, kit_persid(&k, "FloatStorage", "0", 4), 1, INTS(&k, 2), INTS(&k, 1));
	kit_open(&k);
	kit_make_writable(&k);
	return wf_tensor_decode(k.g, k.ss, t, &tensor, NULL);
}

static int tear_down(void **state)
{
	kit_close(&k);
	return 0;
}

static int open_device(void *ctx, const char *name, struct device **ret, const char **ret_why)
{
	*ret_why = "there is no such device here";
	return strcmp(name, "cpu") ? -ENODEV : dev_host_open(ret);
}

static int place(const char *map_location, struct wf_placement **ret, struct wf_error *err)
{
	struct wf_placement_options o = {.map_location = map_location, .open_device = open_device};
	return wf_placement_new(&o, k.ss, ret, err);
}

static void test_map_location(void **state)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {
		{NULL, 0},         {"cpu", 0},          {"cuda:1=cpu", 0}, {"cuda:0=cpu;cuda:1=cpu", 0},
		{"cuda", -ENODEV}, {"cuda:0", -ENODEV}, {"gpu", -EINVAL},  {"cpu=gpu", -EINVAL},
		{"=cpu", -EINVAL}, {"cuda:x", -EINVAL},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_placement *p = NULL;
		struct wf_error err = {0};
		int r = place(cases[i].text, &p, &err);
		if (r != cases[i].status || (r < 0 && !err.text[0]))
			fail_msg("%s: %d, %s", cases[i].text ? cases[i].text : "none", r, err.text);
		if (r == 0)
			wf_placement_free(p);
	}
}

static void expect_read(struct wf_placement *p, const char *bytes)
{
	char buf[8];
	assert_int_equal(wf_placement_read(p, &tensor, 0, buf, sizeof buf), 1);
	assert_memory_equal(buf, bytes, sizeof buf);
}

static void test_first_read(void **state)
{
	struct wf_placement *p;
	char buf[8];
	assert_int_equal(place("cpu", &p, NULL), 0);
	assert_true(wf_placement_has(p, tensor.storage));
	assert_null(wf_placement_device(p, tensor.storage)); /* until it is read */
	expect_read(p, "456789ab");
	assert_string_equal(wf_placement_device(p, tensor.storage), "cpu");
	/* a write reaches the copy, too */
	assert_int_equal(wf_tensor_write(k.ss, &tensor, 2, "XY", 2), 0);
	expect_read(p, "45XY89ab");
	assert_int_equal(wf_placement_move(p, tensor.storage, "file"), 0);
	assert_null(wf_placement_device(p, tensor.storage));
	assert_int_equal(wf_placement_read(p, &tensor, 0, buf, sizeof buf), 0); /* from the file, then */
	assert_int_equal(wf_placement_move(p, tensor.storage, "cpu"), 0);
	expect_read(p, "45XY89ab");
	assert_int_equal(wf_placement_move(p, tensor.storage, "nowhere"), -EINVAL);
	assert_int_equal(wf_placement_move(p, tensor.storage, "cuda:0"), -ENODEV);
	assert_string_equal(wf_placement_device(p, tensor.storage), "cpu");
	wf_placement_free(p);
}

static void test_preload(void **state)
{
	struct wf_placement *p;
	struct wf_lease *lease;
	assert_int_equal(place("cpu", &p, NULL), 0);
	assert_int_equal(wf_placement_preload(p, NULL, NULL, NULL), 0);
	assert_string_equal(wf_placement_device(p, tensor.storage), "cpu");
	assert_false(wf_placement_shares(p, tensor.storage)); /* host memory is nobody else's */
	assert_int_equal(wf_placement_lease(p, tensor.storage, &lease), -EOPNOTSUPP);
	wf_placement_free(p);
	assert_int_equal(place(NULL, &p, NULL), 0);
	assert_false(wf_placement_has(p, tensor.storage));
	wf_placement_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_map_location, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_first_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
