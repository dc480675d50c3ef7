/* SPDX-License-Identifier: MIT */
/* The words on disk of an overlay: their numbers, and the refusal of those of another version. Every number is written out here once
 * more, so that one that moves in codec/overlay/format.h, or in enum wf_dtype, is found. */
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
#include <zlib.h>
#include <cmocka.h>

#include "codec/bytes/util.h"
#include "codec/object/dtype.h"
#include "codec/overlay/format.h"
#include "codec/overlay/overlay.h"

/* ---- numbers ---- */

static const struct {
	const char *name;
	unsigned int is, was;
} numbers[] = {
	{"RENAME", EDIT_RENAME, 1},
	{"UNLINK", EDIT_UNLINK, 2},
	{"RMDIR", EDIT_RMDIR, 3},
	{"MKDIR", EDIT_MKDIR, 4},
	{"CREATE", EDIT_CREATE, 5},
	{"LINK", EDIT_LINK, 6},
	{"SYMLINK", EDIT_SYMLINK, 7},
	{"BIND", EDIT_BIND, 8},
	{"WRITE", EDIT_WRITE, 9},
	{"RESIZE", EDIT_RESIZE, 10},
	{"HOLD", EDIT_HOLD, 11},
	{"SETTLE", EDIT_SETTLE, 12},
	{"VALUE", EDIT_VALUE, 13},
	{"ATTRIBUTE", EDIT_ATTRIBUTE, 14},
	{"COMPACT", EDIT_COMPACT, 15},
	{"SCRATCH", EDIT_SCRATCH, 16},
	{"PIECE", EDIT_PIECE, 17},
	{"OBJECT", EDIT_OBJECT, 18},
	{"SET", EDIT_SET, 19},
	{"DECLARE", EDIT_DECLARE, 20},
	{"HEIR", EDIT_HEIR, 21},
	{"SYMLINK_TO", EDIT_SYMLINK_TO, 22},
	{"KNOWN", EDIT_KNOWN, 23},
	{"TOUCH", EDIT_TOUCH, 40},
	{"failure", WF_RECORD_FAILURE, 41},
	{"HOLD_IN_PLACE", HOLD_IN_PLACE, 1},
	{"HOLD_FIRST", HOLD_FIRST, 2},
	{"HOLD_SIZED", HOLD_SIZED, 4},
	{"SETTLE_SWITCH", SETTLE_SWITCH, 0},
	{"SETTLE_WRITE_BACK", SETTLE_WRITE_BACK, 1},
	{"SETTLE_ABANDON", SETTLE_ABANDON, 2},
	{"SETTLE_RESTORE", SETTLE_RESTORE, 3},
	{"SET_PLACE", SET_PLACE, 1},
	{"SET_FIRST", SET_FIRST, 2},
	{"SET_BACK", SET_BACK, 4},
	{"KNOWN_NEW", KNOWN_NEW, 1},
	{"KNOWN_JUDGED", KNOWN_JUDGED, 2},
	{"KNOWN_STANDS_IN", KNOWN_STANDS_IN, 4},
	{"KNOWN_DECLARED", KNOWN_DECLARED, 8},
	{"KNOWN_CAME_TRUE", KNOWN_CAME_TRUE, 16},
	{"KNOWN_FIRST", KNOWN_FIRST, 32},
	{"MARK_REPLACE", MARK_REPLACE, 0},
	{"MARK_APPEND", MARK_APPEND, 1},
	{"MARK_IN_PLACE", MARK_IN_PLACE, 2},
	{"pending", WF_RECORD_PENDING, 1},
	{"no number", WF_NO_NUMBER, 4294967295u},
	{"data files", WF_DATA_FILES_MAX, 4194304},
	{"payload", WF_RECORD_MAX_BYTES, 100663296},
	{"oldest log", WF_LOG_VERSION_OLDEST, 1},
	{"rule of names", WF_NAMES_VERSION, 1},
	{"oldest mark", WF_MARK_VERSION_OLDEST, 1},
	{"log: version", WF_LOG_AT_VERSION, 16},
	{"log: length", WF_LOG_AT_LENGTH, 20},
	{"log: base", WF_LOG_AT_BASE, 24},
	{"log: names", WF_LOG_AT_NAMES, 68},
	{"log: has content", WF_LOG_AT_HAS_CONTENT, 72},
	{"log: content", WF_LOG_AT_CONTENT, 76},
	{"log: CRC", WF_LOG_AT_CRC, 92},
	{"log: header", WF_LOG_HEADER_BYTES, 96},
	{"record: length", WF_RECORD_AT_LENGTH, 0},
	{"record: CRC", WF_RECORD_AT_CRC, 4},
	{"record: sequence", WF_RECORD_AT_SEQUENCE, 8},
	{"record: type", WF_RECORD_AT_TYPE, 16},
	{"record: flags", WF_RECORD_AT_FLAGS, 17},
	{"record: header", WF_RECORD_HEADER_BYTES, 20},
	{"mark: version", WF_MARK_AT_VERSION, 16},
	{"mark: kind", WF_MARK_AT_KIND, 20},
	{"mark: base", WF_MARK_AT_BASE, 24},
	{"mark: content", WF_MARK_AT_CONTENT, 68},
	{"mark: CRC", WF_MARK_AT_CRC, 72},
	{"mark", WF_MARK_BYTES, 76},
	{"base", WF_BASE_BYTES, 44},
	{"undo", WF_UNDO_HEADER_BYTES, 64},
	{"undo: version", WF_UNDO_AT_VERSION, 16},
	{"undo: count", WF_UNDO_AT_COUNT, 20},
	{"undo: inserted", WF_UNDO_AT_INSERTED, 24},
	{"undo: grown", WF_UNDO_AT_GROWN, 32},
	{"undo: final", WF_UNDO_AT_FINAL, 40},
	{"undo: head", WF_UNDO_AT_HEAD_LENGTH, 48},
	{"undo: CRC of the head", WF_UNDO_AT_HEAD_CRC, 56},
	{"undo: CRC", WF_UNDO_AT_CRC, 60},
	{"undo: piece", WF_UNDO_PIECE_BYTES, 16},
	{"magic", WF_MAGIC_BYTES, 16},
};

static const char *const dtypes[] = {
	"invalid",         "float32",        "float64",
	"float16",         "bfloat16",       "int64",
	"int32",           "int16",          "int8",
	"uint8",           "bool",           "complex64",
	"complex128",      "complex32",      "bcomplex32",
	"uint16",          "uint32",         "uint64",
	"float8_e4m3fn",   "float8_e5m2",    "float8_e4m3fnuz",
	"float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
	"qint8",           "quint8",         "qint32",
	"quint4x2",        "quint2x4",       "bits8",
	"bits16",          "bits1x8",        "bits2x4",
	"bits4x2",
};

static void test_numbers(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(numbers); i++)
		if (numbers[i].is != numbers[i].was)
			fail_msg("%s was %u in the files of yesterday and is %u now", numbers[i].name, numbers[i].was,
				 numbers[i].is);
	assert_memory_equal(WF_LOG_MAGIC, "weightfs edits\r\n", 17);
	assert_memory_equal(WF_MARK_MAGIC, "weightfs commit\n", 17);
	assert_memory_equal(WF_UNDO_MAGIC, "weightfs undoing", 17);
	assert_string_equal(WF_RECORD_ID, "record");
	assert_string_equal(WF_DATA_FILE_ID, "data file");
}

static void test_dtypes(void **state)
{
	for (unsigned int i = 0; i < WF_ARRAY_SIZE(dtypes); i++)
		assert_string_equal(wf_dtype_info((enum wf_dtype)i)->name, dtypes[i]);
	assert_int_equal(WF_DTYPE_COUNT, WF_ARRAY_SIZE(dtypes)); /* a new one gets its row here */
}

/* ---- other versions ---- */

static char dir[32], file[64];

static int set_up(void **state)
{
	strcpy(dir, "/tmp/weightfs-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/m.pt", dir);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool written = write(fd, "a checkpoint", 12) == 12;
	return close(fd) == 0 && written ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

/* The case before may have removed it. */
static void make_directory(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s.weightfs", file);
	mkdir(path, 0700);
}

static void put_u32(unsigned char *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

static void put_file(const char *name, const unsigned char *bytes, size_t len)
{
	char path[128];
	snprintf(path, sizeof path, "%s.weightfs/%s", file, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

/* By offsets of their own, as files of another program would be. */
static void make(unsigned char *bytes, const char *magic, size_t base_at, size_t content_at)
{
	struct wf_overlay_base base;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	assert_int_equal(wf_overlay_base_of(fd, UINT64_MAX, &base), 0);
	close(fd);
	memcpy(bytes, magic, 16);
	put_u32(bytes + 16, 2);
	memcpy(bytes + base_at, &base.dev, 8);
	memcpy(bytes + base_at + 8, &base.ino, 8);
	memcpy(bytes + base_at + 16, &base.size_bytes, 8);
	memcpy(bytes + base_at + 24, &base.mtime_sec, 8);
	memcpy(bytes + base_at + 32, &base.mtime_nsec, 8);
	put_u32(bytes + base_at + 40, base.edges_crc32);
	put_u32(bytes + content_at, base.content_crc32);
}

/* Opens as a writer and as a reader. words: those that the refusal has, NULL at the end; none: it is no refusal. */
static void expect(const char *what, int code, const char *const *words)
{
	struct wf_overlay_options o = {.checkpoint = file, .writable = true};
	struct wf_overlay *ov = NULL;
	struct wf_error err = {0};
	int r = wf_overlay_open(&o, &ov, &err);
	if (r != code)
		fail_msg("%s: %d in place of %d: %s", what, r, code, err.text);
	for (; *words; words++)
		if (!strstr(err.text, *words))
			fail_msg("%s: no \"%s\" in: %s", what, *words, err.text);
	if (r == 0)
		wf_overlay_close(ov);
	o.writable = false; /* a reader does without, and keeps the same line */
	assert_int_equal(wf_overlay_open(&o, &ov, NULL), 0);
	if (code)
		assert_string_equal(wf_overlay_unused(ov), err.text);
	else
		assert_null(wf_overlay_unused(ov));
	wf_overlay_close(ov);
}

static void test_log_versions(void **state)
{
	static const struct {
		const char *what;
		uint32_t version, length, names;
		int code;
		const char *words[4];
	} cases[] = {
		{"of a later program", 4, 96, 1, -EOPNOTSUPP, {"log version 4", "this one writes 3"}},
		{"of no program", 0, 96, 1, -EOPNOTSUPP, {"log version 0", "this one writes 3"}},
		{"a longer header", 3, 104, 1, -EOPNOTSUPP, {"header of 104 bytes", "96"}},
		{"another rule of names",
		 3,
		 96,
		 2,
		 -EOPNOTSUPP,
		 {"version 2 of the rule of names", "this one writes 1"}},
		{"the last one", 3, 96, 1, 0, {NULL}},
		{"the one before", 2, 96, 1, 0, {NULL}},
		{"the first one", 1, 96, 1, 0, {NULL}},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		unsigned char h[96] = {0};
		make(h, "weightfs edits\r\n", 24, 76);
		put_u32(h + 16, cases[i].version);
		put_u32(h + 20, cases[i].length);
		put_u32(h + 68, cases[i].names);
		put_u32(h + 72, cases[i].version > 1);
		put_u32(h + 92, (uint32_t)crc32(0, h, 92));
		make_directory();
		put_file("log", h, sizeof h);
		expect(cases[i].what, cases[i].code, cases[i].words);
	}
}

static void test_mark_versions(void **state)
{
	static const struct {
		const char *what;
		uint32_t version, kind;
		size_t len;
		bool broken;
		int code;
		const char *words[4];
	} cases[] = {
		{"of a later program", 3, 0, 76, false, -EOPNOTSUPP, {"mark version 3", "this one writes version 2"}},
		{"longer, of a later program",
		 3,
		 0,
		 100,
		 false,
		 -EOPNOTSUPP,
		 {"mark version 3", "100 bytes", "76 bytes"}},
		{"shorter, of a later program", 4, 0, 40, false, -EOPNOTSUPP, {"mark version 4", "40 bytes"}},
		{"of no program", 0, 0, 76, false, -EOPNOTSUPP, {"mark version 0"}},
		{"of another kind", 2, 3, 76, false, -EOPNOTSUPP, {"mark version 2, kind 3", "kinds 0 to 2"}},
		{"damaged", 3, 0, 76, true, -EUCLEAN, {"damaged"}},
		{"cut", 2, 0, 20, false, -EUCLEAN, {"damaged"}},
		{"the last one", 2, 1, 76, false, 0, {NULL}},
		{"the first one", 1, 1, 76, false, 0, {NULL}},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		unsigned char m[100] = {0};
		size_t end = cases[i].len - 4;
		make(m, "weightfs commit\n", 24, 68);
		put_u32(m + 16, cases[i].version);
		put_u32(m + 20, cases[i].kind);
		if (cases[i].version == 1)
			put_u32(m + 68, 0);
		put_u32(m + end, (uint32_t)crc32(0, m, (uInt)end) + cases[i].broken);
		make_directory();
		put_file("commit", m, cases[i].len);
		expect(cases[i].what, cases[i].code, cases[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_dtypes),
		cmocka_unit_test_setup_teardown(test_log_versions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mark_versions, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
