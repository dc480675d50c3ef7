#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/container.h"
#include "codec/util.h"

static void check(const void *data, size_t len, int code, const char *says)
{
	struct wf_source *s = NULL;
	struct wf_container *c = NULL;
	struct wf_error err = {0};
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	int r = wf_container_open(s, &c, &err);
	wf_source_unref(s);
	if (r != code || !strstr(err.text, says))
		fail_msg("%d \"%s\" where %d \"%s\" was expected", r, err.text, code, says);
	assert_null(c);
	assert_null(strchr(err.text, '\n'));
}

#define BYTES(b) b, sizeof(b) - 1

static void test_named(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *says;
	} cases[] = {
		{BYTES(""), "the file is empty"},
		{BYTES("<!DOCTYPE html>\n<html lang=en>"),
		 "HTML page, not a checkpoint (the download probably failed)"},
		{BYTES("\xef\xbb\xbf \n <HTML><body>"), "HTML page"},
		{BYTES("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>"), "XML document"},
		{BYTES("<Error><Code>AccessDenied</Code></Error>"), "XML document"},
		{BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1\n"), "git-lfs pointer"},
		{BYTES("GGUF\3\0\0\0"), "GGUF"},
		{BYTES("7z\xbc\xaf\x27\x1c\0\4"), "7z archive"},
		{BYTES("\x1f\x8b\x8\0"), "gzip"},
		{BYTES("BZh91AY&SY"), "bzip2"},
		{BYTES("\xfd"
		       "7zXZ\0\0"),
		 "xz"},
		{BYTES("\x28\xb5\x2f\xfd\0"), "zstd"},
		{BYTES("Rar!\x1a\x07\1\0"), "RAR"},
		{BYTES("\x89HDF\r\n\x1a\n\0\0"), "HDF5"},
		{BYTES("\x93NUMPY\1\0v\0{'descr'"), "NumPy array"},
		{BYTES("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "empty zip"},
		{BYTES("\x10\0\0\0\0\0\0\0{\"a\":1       }data"), "safetensors"},
		{BYTES("\x8\x7\x12\x7pytorch\x1a\5"
		       "1.13"),
		 "ONNX"},
		{BYTES("\0\5\x16\7\0\2\0\0Mac OS X        "), "AppleDouble"},
		{BYTES("\0GITCRYPT\0abc"), "git-crypt"},
		{BYTES("\x7f"
		       "ELF\2\1\1"),
		 "ELF"},
		{BYTES("\0\0\0\0\0\0\0\0\0\0\0\0"), "12 zero bytes"},
		{BYTES("{\"metadata\": {}, \"weight_map\": {\"a\": \"b\"}}"), "index of a checkpoint in several files"},
		{BYTES(" {\"hidden_size\": 3}"), "JSON"},
		{BYTES("404: Not Found"), "text file that starts with \"404: Not Found\""},
		{BYTES("Sch\xc3\xb6n\nzweite Zeile"), "text file that starts with \"Sch\xc3\xb6n\""},
		{BYTES(" \n\t"), "blank"},
		{BYTES("\x9c\x01\x02\x03\xff\xee\xdd\xcc\xbb"), "starts with the bytes 9c 01 02 03 ff ee dd cc)"},
		{BYTES("\x01"), "starts with the bytes 01)"},
		{BYTES("PK"), "\"PK\""},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++)
		check(cases[i].data, cases[i].len, -EMEDIUMTYPE, cases[i].says);
	check(BYTES("PYTORCH1\0\0\0\0"), -EOPNOTSUPP, "preview before 1.0");
	check(BYTES("\x10\0\0\0PTMF\0\0"), -EOPNOTSUPP, "mobile");
	check(BYTES("PK\3\4 and then nothing of a zip"), -EUCLEAN, "truncated or incomplete");
}

static void test_tar(void **state)
{
	char tar[2048] = "model.pth";
	memcpy(tar + 124, "00000000004", 11);
	tar[156] = '0';
	memcpy(tar + 257, "ustar", 6);
	memset(tar + 148, ' ', 8);
	unsigned int sum = 0;
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)tar[i];
	for (int i = 0; i < 6; i++)
		tar[148 + i] = (char)('0' + (sum >> (15 - 3 * i) & 7));
	tar[154] = '\0';
	check(tar, sizeof tar, -EMEDIUMTYPE, "tar archive, not a checkpoint");
	tar[0] = 'n'; /* the sum is wrong now, so it is no tar to us; the magic still tells */
	check(tar, sizeof tar, -EMEDIUMTYPE, "tar archive, not a checkpoint");
}

/* A long line without an end, cut in the middle of a character. */
static void test_long_text(void **state)
{
	char text[9000];
	for (size_t i = 0; i < sizeof text; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	check(text, sizeof text, -EMEDIUMTYPE, "\xe2\x82\xac\"");
}

/* No short input may crash it. */
static void test_prefixes(void **state)
{
	unsigned char noise[64];
	unsigned int seed = 1;
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)rand_r(&seed) % sizeof noise;
		for (size_t i = 0; i < len; i++)
			noise[i] = (unsigned char)(rand_r(&seed) % (round % 2 ? 256 : 16));
		struct wf_source *s = NULL;
		struct wf_container *c = NULL;
		struct wf_error err = {0};
		assert_int_equal(wf_source_from_memory(noise, len, false, &s), 0);
		assert_true(wf_container_open(s, &c, &err) < 0);
		assert_true(err.text[0] != '\0');
		wf_source_unref(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_named),
		cmocka_unit_test(test_tar),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_prefixes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
