/* SPDX-License-Identifier: MIT */
/* Extended attributes through the front door: what they tell, what can be set, and that a refusal changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/checkpoint.h"

static const char *files;
static char dir[64], file[96];
static struct wf_checkpoint *ck;

static int set_up(void **state)
{
	char command[4400];
	struct wf_error err = {0};
	const struct wf_open_options o = {.writable = true};
	strcpy(dir, "/tmp/weightfs-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(command, sizeof command, "cp %s/torch-2.15.pt %s", files, file);
	return system(command) == 0 ? wf_open(file, &o, &ck, &err) : -1;
}

static int tear_down(void **state)
{
	char command[160];
	wf_close(ck);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static uint32_t ino_of(const char *name)
{
	struct wf_stat st;
	if (!*name)
		return WF_ROOT;
	if (wf_lookup(ck, WF_ROOT, name, &st) < 0)
		fail_msg("no %s", name);
	return st.ino;
}

/* value NULL: there is none. */
static void expect(const char *name, const char *attribute, const char *value)
{
	char full[64];
	struct wf_buffer b = WF_BUFFER_INIT;
	snprintf(full, sizeof full, "user.%s", attribute);
	int r = wf_getxattr(ck, ino_of(name), full, &b);
	if (r != (value ? 0 : -ENODATA) || (value && strcmp(b.data, value) != 0))
		fail_msg("%s of %s: %d, %s", attribute, name, r, b.data ? b.data : "");
	wf_buffer_free(&b);
}

static int set(const char *name, const char *attribute, const char *value)
{
	char full[64];
	snprintf(full, sizeof full, "user.%s", attribute);
	return wf_setxattr(ck, ino_of(name), full, value, strlen(value), 0);
}

static void test_told(void **state)
{
	static const struct {
		const char *name, *attribute, *value;
	} cases[] = {
		{"a", "torch.dtype", "float32"},       {"a", "torch.shape", "[12]"},
		{"a", "torch.stride", "[1]"},          {"a", "torch.storage_offset", "0"},
		{"a", "torch.location", "cpu"},        {"a", "torch.device", "file"},
		{"a", "torch.requires_grad", "false"}, {"a", "torch.class", "torch.Tensor"},
		{"a", "torch.key", "\"a\""},           {"a", "numpy.descr", "<f4"},
		{"a", "torch.nonsense", NULL},         {"", "torch.dtype", NULL},
		{"view", "torch.shape", "[6]"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++)
		expect(cases[i].name, cases[i].attribute, cases[i].value);
}

static void test_set(void **state)
{
	static const struct {
		const char *attribute, *value;
		int status;
		const char *told;
	} cases[] = {
		{"torch.shape", "[2, 3]", 0, "[2, 3]"},      {"torch.shape", "[3, -1]", 0, "[3, 2]"},
		{"torch.shape", "[5]", -EINVAL, "[3, 2]"},   {"torch.shape", "[-1, -1]", -EINVAL, "[3, 2]"},
		{"torch.shape", "6", -EINVAL, "[3, 2]"},     {"torch.shape", "[6]", 0, "[6]"},
		{"torch.dtype", "int4", -EINVAL, "float32"}, {"torch.dtype", "int32", 0, "int32"},
		{"torch.dtype", "float32", 0, "float32"},    {"torch.requires_grad", "maybe", -EINVAL, "false"},
		{"torch.requires_grad", "true", 0, "true"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		int r = set("k5", cases[i].attribute, cases[i].value);
		if (r != cases[i].status)
			fail_msg("%s = %s: %d", cases[i].attribute, cases[i].value, r);
		expect("k5", cases[i].attribute, cases[i].told);
	}
	assert_int_equal(set("k5", "torch.shape", "[1, 6]"), 0);
	assert_int_equal(wf_commit(ck, NULL), 0);
	expect("k5", "torch.shape", "[1, 6]");
	expect("k5", "torch.requires_grad", "true");
}

struct names {
	unsigned int n;
	bool dtype, key;
};

static int note(void *ctx, const char *name)
{
	struct names *names = ctx;
	struct wf_buffer b = WF_BUFFER_INIT;
	assert_int_equal(wf_getxattr(ck, ino_of("a"), name, &b), 0); /* each that is listed is there */
	wf_buffer_free(&b);
	names->n++;
	names->dtype |= !strcmp(name, "user.torch.dtype");
	names->key |= !strcmp(name, "user.torch.key");
	return 0;
}

static void test_listed(void **state)
{
	struct names names = {0};
	assert_int_equal(wf_listxattr(ck, ino_of("a"), note, &names), 0);
	assert_true(names.dtype && names.key && names.n >= 10);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_listed, set_up, tear_down),
	};
	files = argc > 1 ? argv[1] : ".";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
