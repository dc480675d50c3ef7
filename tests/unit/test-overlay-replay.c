/* SPDX-License-Identifier: MIT */
/* The logs of tests/overlay, which hold every record there is, replayed by the program of today: seen by a reader, by a writer, after
 * a commit, and in what the commit wrote. generate.py there says what each record is to show. */
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
#include <unistd.h>
#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/checkpoint.h"

#define DATA_FILES 13

static const char *files;
static char dir[64], file[96];

#define BYTES(...) (const char[]){__VA_ARGS__}, sizeof((const char[]){__VA_ARGS__})

/* In the file that a commit writes; until the end of the mount; as STAYS, in a log of version 3. */
enum lives { STAYS, SCRATCH, SINCE_3 };

static const struct {
	const char *path, *content;
	size_t len;
	const char *dtype, *shape; /* NULL: it is no tensor */
	enum lives lives;
} expected[] = {
	{"a", BYTES(0, 0, -128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, -128, 64), "float32", "[4]",
	 STAYS}, /* LINK, ATTRIBUTE */
	{"tie", BYTES(0, 0, -128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, -128, 64), "float32", "[4]", STAYS},
	{"bb", BYTES(0, 0, 32, 65, 0, 0, 48, 65, 0, 0, 64, 65, 0, 0, 80, 65, 0, 0, 96, 65, 0, 0, 0, 0), "float32",
	 "[6]", STAYS},                                                  /* RENAME, TOUCH, HOLD, RESIZE, SETTLE */
	{"c", BYTES(-1, -1, -1, -1, 9, 0, 0, 0), "int32", "[2]", STAYS}, /* SETTLE that gives up, and that restores */
	{"n", "1\n", 2, NULL, NULL, STAYS},                              /* RENAME that exchanges */
	{"d/y", "10\n", 3, NULL, NULL, STAYS},
	{"d/x", "wabz", 4, "uint8", "[4]", STAYS},                 /* BIND, WRITE */
	{"new", BYTES(1, 0, 2, 0, -3, -1), "int16", "[3]", STAYS}, /* CREATE */
	{"m/said", BYTES(0, 0, 0, 0, 0, 0, -8, 63, 0, 0, 0, 0, 0, 0, 4, -64), "float64", "[1, 2]",
	 STAYS},                                                     /* MKDIR, SAID */
	{"v", "42\n", 3, NULL, NULL, STAYS},                         /* VALUE */
	{"g", "2.5\n", 4, NULL, NULL, STAYS},                        /* SET of a value */
	{"lr", "0.125\n", 6, NULL, NULL, STAYS},                     /* HEIR */
	{"typed", BYTES(-128, 63, 0, 64), "bfloat16", "[2]", STAYS}, /* SET of a tensor */
	{"told", "0.5\n", 4, NULL, NULL, SINCE_3},                   /* KNOWN */
	{"back", BYTES(5, 0, 6, 0), "int16", "[2]", SINCE_3},        /* KNOWN and SET that say what comes back */
	{"typed text", "10.0\n", 5, NULL, NULL, SINCE_3},            /* SET that brings back */
	{".bin.swp", "scratch!", 8, "uint8", "[8]", SCRATCH},        /* PIECE, OBJECT */
};

/* UNLINK, RMDIR, and the old names. */
static const char *const gone[] = {"b", "s", "e", ".lr.swp", "l/2"};

/* ---- a file with its overlay ---- */

static void copy(const char *name, const char *to)
{
	char path[4200], bytes[8192];
	snprintf(path, sizeof path, "%s/%s", files, name);
	int in = open(path, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n = read(in, bytes, sizeof bytes);
	if (in < 0 || out < 0 || n <= 0 || n == sizeof bytes || write(out, bytes, (size_t)n) != n)
		fail_msg("%s to %s", path, to);
	close(in);
	close(out);
}

static void lay_out(const char *log)
{
	/* what a log of version 1 knows the file by; one of version 2 knows its content */
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1700000000, .tv_nsec = 123456789}};
	char path[160], name[16];
	copy("model.pt", file);
	if (!strcmp(log, "log.v1"))
		assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
	snprintf(path, sizeof path, "%s.weightfs", file);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s.weightfs/log", file);
	copy(log, path);
	snprintf(path, sizeof path, "%s.weightfs/data", file);
	assert_int_equal(mkdir(path, 0700), 0);
	for (unsigned int i = 0; i < DATA_FILES; i++) {
		snprintf(name, sizeof name, "data.%u", i);
		snprintf(path, sizeof path, "%s.weightfs/data/%u", file, i);
		copy(name, path);
	}
}

static int set_up(void **state)
{
	strcpy(dir, "/tmp/weightfs-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/m.pt", dir);
	return 0;
}

static int tear_down(void **state)
{
	char command[96];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

/* ---- what is to be seen ---- */

/* Every line of the log is a fault, but that which tells of the last commit. */
static void note_line(void *ctx, const char *line)
{
	if (!strstr(line, "no space left"))
		fail_msg("%s", line);
}

static struct wf_checkpoint *open_it(bool writable)
{
	struct wf_checkpoint *ck = NULL;
	struct wf_error err = {0};
	const struct wf_open_options o = {.writable = writable, .log = note_line};
	int r = wf_open(file, &o, &ck, &err);
	if (r < 0)
		fail_msg("%d: %s", r, err.text);
	return ck;
}

static int find(struct wf_checkpoint *ck, const char *path, struct wf_stat *ret)
{
	const char *slash = strchr(path, '/');
	char first[16];
	snprintf(first, sizeof first, "%.*s", (int)(slash ? slash - path : 15), path);
	int r = wf_lookup(ck, WF_ROOT, first, ret);
	return r == 0 && slash ? wf_lookup(ck, ret->ino, slash + 1, ret) : r;
}

static void expect_attribute(struct wf_checkpoint *ck, uint32_t ino, const char *name, const char *value)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	int r = wf_getxattr(ck, ino, name, &b);
	assert_int_equal(r, value ? 0 : -ENODATA);
	if (value)
		assert_string_equal(b.data, value);
	wf_buffer_free(&b);
}

static void expect_link(struct wf_checkpoint *ck, const char *path, const char *target)
{
	struct wf_stat st;
	struct wf_buffer b = WF_BUFFER_INIT;
	assert_int_equal(find(ck, path, &st), 0);
	assert_int_equal(wf_readlink(ck, st.ino, &b), 0);
	assert_string_equal(b.data, target);
	wf_buffer_free(&b);
}

static void expect_all(struct wf_checkpoint *ck, const char *when, bool scratch, bool known)
{
	char bytes[64];
	struct wf_stat st, other;
	for (size_t i = 0; i < WF_ARRAY_SIZE(expected); i++) {
		bool there = find(ck, expected[i].path, &st) == 0;
		if (there != (expected[i].lives == STAYS || (expected[i].lives == SCRATCH ? scratch : known)))
			fail_msg("%s: %s is%s there", when, expected[i].path, there ? "" : " not");
		if (!there)
			continue;
		ssize_t n = wf_read(ck, st.ino, 0, bytes, sizeof bytes);
		if (n != (ssize_t)expected[i].len || memcmp(bytes, expected[i].content, expected[i].len) != 0)
			fail_msg("%s: %s has %zd other bytes", when, expected[i].path, n);
		expect_attribute(ck, st.ino, "user.torch.dtype", expected[i].dtype);
		expect_attribute(ck, st.ino, "user.torch.shape", expected[i].shape);
	}
	for (size_t i = 0; i < WF_ARRAY_SIZE(gone); i++)
		if (find(ck, gone[i], &st) != -ENOENT)
			fail_msg("%s: %s is still there", when, gone[i]);
	assert_int_equal(find(ck, "a", &st), 0);
	assert_int_equal(find(ck, "tie", &other), 0);
	assert_int_equal(st.ino, other.ino);
	expect_link(ck, "again", "d");
	/* the list was numbered anew, after its first tensor went */
	assert_int_equal(find(ck, "l/0", &st), 0);
	expect_attribute(ck, st.ino, "user.torch.storage_offset", "0");
	assert_int_equal(find(ck, "l/1", &st), 0);
	assert_int_equal(wf_read(ck, st.ino, 0, bytes, sizeof bytes), 2);
	assert_memory_equal(bytes, "8\n", 2);
	if (scratch)
		expect_link(ck, "lnk~", "/etc/x");
	else
		assert_int_equal(find(ck, "lnk~", &st), -ENOENT);
}

static void expect_failure(struct wf_checkpoint *ck)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	assert_int_equal(wf_status(ck, &b), 0);
	assert_non_null(strstr(b.data, "\"last_error\": \"no space left\""));
	wf_buffer_free(&b);
}

/* What was declared came true, and is the entry's type. */
static void expect_typed(struct wf_checkpoint *ck, const char *path)
{
	struct wf_opening *o;
	struct wf_stat st;
	assert_int_equal(find(ck, path, &st), 0);
	assert_int_equal(wf_open_file(ck, st.ino, WF_WRITES, &o), 0);
	assert_int_equal(wf_truncate(ck, st.ino, o, 0), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 0, "0.25!x", 6), 6);
	assert_int_equal(wf_flush(ck, st.ino, o), -EINVAL);
	wf_release(ck, st.ino, o);
}

static void replay(const char *log)
{
	struct wf_error err = {0};
	bool known = !strcmp(log, "log.v3");
	lay_out(log);
	struct wf_checkpoint *ck = open_it(false);
	expect_all(ck, "a reader", true, known);
	expect_failure(ck);
	wf_close(ck);
	ck = open_it(true);
	expect_all(ck, "a writer", true, known);
	expect_failure(ck);
	if (known)
		expect_typed(ck, "told");
	int r = wf_commit(ck, &err);
	if (r < 0)
		fail_msg("%d: %s", r, err.text);
	expect_all(ck, "after the commit", true, known);
	wf_close(ck);
	ck = open_it(false);
	expect_all(ck, "what was committed", false, known);
	wf_close(ck);
}

static void test_this_version(void **state)
{
	replay("log.v3");
}

static void test_version_2(void **state)
{
	replay("log.v2");
}

static void test_version_1(void **state)
{
	replay("log.v1");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_this_version, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_version_2, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_version_1, set_up, tear_down),
	};
	files = argc > 1 ? argv[1] : ".";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
