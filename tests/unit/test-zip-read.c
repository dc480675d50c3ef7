/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>
#include <zlib.h>

#include <cmocka.h>

#include "codec/container/container.h"
#include "codec/bytes/util.h"
#include "zip-builder.h"

#define EMPTY_DICT "\x80\x02}."

static struct wf_error err;

static int open_source(struct wf_source *s, struct wf_container **ret)
{
	err = (struct wf_error){0};
	*ret = NULL;
	int r = wf_container_open(s, ret, &err);
	wf_source_unref(s);
	if (r < 0) {
		assert_int_equal(err.code, r);
		assert_true(err.text[0] != '\0');
		assert_null(*ret);
	}
	return r;
}

static int open_built(struct zip_builder *b, const struct zip_end *end, struct wf_container **ret)
{
	zb_finish(b, end);
	return open_source(zb_source(b), ret);
}

static void assert_says(const char *what)
{
	char line[1024];
	wf_error_format(&err, line, sizeof line);
	if (!strstr(line, what))
		fail_msg("\"%s\" is not in \"%s\"", what, line);
}

static void assert_content(const struct wf_container *c, const char *name, const void *want, size_t len)
{
	uint32_t i = wf_container_find(c, name);
	struct wf_source *s = NULL;
	assert_true(i != WF_NO_RECORD);
	assert_int_equal(wf_container_open_record(c, i, &s, &err), 0);
	assert_int_equal(wf_source_size(s), len);
	char *buf = malloc(len + 1);
	assert_int_equal(wf_source_read(s, 0, buf, len), 0);
	assert_memory_equal(buf, want, len);
	free(buf);
	wf_source_unref(s);
}

/* What reading the record gives. */
static int content_status(const struct wf_container *c, const char *name)
{
	struct wf_source *s = NULL;
	uint32_t i = wf_container_find(c, name);
	char byte;
	assert_true(i != WF_NO_RECORD);
	err = (struct wf_error){0};
	int r = wf_container_open_record(c, i, &s, &err);
	if (r == 0) {
		r = wf_source_read(s, 0, &byte, 1);
		wf_source_unref(s);
	} else {
		assert_int_equal(err.code, r);
	}
	return r;
}

static void test_as_torch_writes(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	zb_add_text(&b, "archive/data.pkl", EMPTY_DICT);
	zb_add_text(&b, "archive/byteorder", "little");
	zb_add_text(&b, "archive/data/0", "0123456789abcdef");
	zb_add_text(&b, "archive/data/1", "");
	zb_add_text(&b, "archive/data/x/Y", "yy");
	zb_add_text(&b, "archive/version", "3\n");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(wf_container_kind_of(c), WF_CONTAINER_ZIP);
	assert_string_equal(wf_container_kind_name(c), "zip");
	assert_string_equal(wf_container_prefix(c), "archive");
	assert_false(wf_container_big_endian(c));
	assert_int_equal(wf_container_count(c), 6);
	assert_string_equal(wf_container_record(c, 0)->name, "data.pkl");
	assert_null(wf_container_record(c, 6));
	assert_content(c, "data/0", "0123456789abcdef", 16);
	assert_content(c, "data/1", "", 0);
	uint32_t i = wf_container_storage_record(c, "0", 1);
	assert_int_equal(i, 2);
	assert_int_equal(wf_container_storage_record(c, "x/Y", 3), 4);
	assert_int_equal(wf_container_storage_record(c, "X/y", 3), 4); /* as miniz looks up */
	assert_int_equal(wf_container_storage_record(c, "00", 1), 2);
	assert_int_equal(wf_container_storage_record(c, "00", 2), WF_NO_RECORD);
	assert_int_equal(wf_container_storage_record(c, "", 0), WF_NO_RECORD);
	for (uint32_t guess = 0; guess < 8; guess++) { /* right, wrong, and past the last one */
		assert_int_equal(wf_container_guess_storage_record(c, guess, "0", 1), 2);
		assert_int_equal(wf_container_guess_storage_record(c, guess, "x/Y", 3), 4);
		assert_int_equal(wf_container_guess_storage_record(c, guess, "00", 2), WF_NO_RECORD);
	}
	assert_int_equal(wf_container_find(c, "data/0"), 2);
	assert_int_equal(wf_container_find(c, "DATA.PKL"), 0);
	assert_int_equal(wf_container_find(c, "data"), WF_NO_RECORD);
	uint64_t offset = 0;
	assert_int_equal(wf_container_locate(c, i, &offset, &err), 0);
	assert_int_equal(offset % 64, 0);
	assert_int_equal(wf_container_locate(c, 6, &offset, &err), -ENOENT);
	const struct wf_record *r = wf_container_record(c, i);
	assert_int_equal(r->size_bytes, 16);
	assert_int_equal(r->stored_bytes, 16);
	assert_int_equal(r->crc32, crc32(0, (const unsigned char *)"0123456789abcdef", 16));
	assert_true(r->has_crc);
	uint32_t n = 1;
	assert_null(wf_container_storage_order(c, &n));
	assert_int_equal(n, 0);
	wf_container_free(c);
	wf_container_free(NULL);
}

static void test_graph(void **state)
{
	/* {'w': PERSID('storage', torch.FloatStorage, '0', 'cpu', 4)} and a long key that stays outside the graph */
	static const char head[] = "\x80\x02}(X\1\0\0\0w(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
				   "0X\3\0\0\0cpuK\4tQX";
	const uint32_t long_len = 100000;
	for (int deflate = 0; deflate < 2; deflate++) {
		struct zip_builder b = ZIP_BUILDER_INIT;
		struct wf_buffer p = WF_BUFFER_INIT;
		wf_buffer_append(&p, head, sizeof head - 1);
		wf_buffer_append(&p, &long_len, 4);
		for (uint32_t i = 0; i < long_len; i++)
			wf_buffer_putc(&p, (char)('a' + i % 26));
		wf_buffer_puts(&p, "Nu.");
		const struct zip_entry e = {
			.name = "a/data.pkl", .data = p.data, .len = p.len, .deflate = deflate != 0};
		struct wf_container *c;
		struct wf_graph *g = NULL;
		wf_ref root = WF_NIL;
		uint32_t n = 0;
		zb_add(&b, &e);
		zb_add_text(&b, "a/data/0", "0123456789abcdef");
		zb_add_text(&b, "a/version", "3\n");
		wf_buffer_free(&p);
		assert_int_equal(open_built(&b, NULL, &c), 0);
		assert_int_equal(wf_graph_new(&g), 0);
		assert_int_equal(wf_container_load_graph(c, g, &root, &err), 0);
		const struct wf_item *items = wf_items(g, root, &n);
		assert_int_equal(n, 2);
		assert_true(wf_is(g, items[0].value, WF_PERSID));
		assert_true(wf_str_equal(g, wf_element(g, wf_persid_id(g, items[0].value), 2), "0"));
		char piece[3];
		assert_int_equal(wf_string_size(g, items[1].key), long_len);
		assert_int_equal(wf_string_read(g, items[1].key, 26 * 3000, piece, 3), 0);
		assert_memory_equal(piece, "abc", 3);
		wf_graph_free(g);
		wf_container_free(c);
	}
}

static int load(struct wf_container *c)
{
	struct wf_graph *g = NULL;
	wf_ref root = WF_NIL;
	assert_int_equal(wf_graph_new(&g), 0);
	err = (struct wf_error){0};
	int r = wf_container_load_graph(c, g, &root, &err);
	wf_graph_free(g);
	return r;
}

static void test_graph_refused(void **state)
{
	static const char *const pickles[] = {
		"\x80\x02X\1\0\0\0"
		"0Q.",                                        /* id is no tuple */
		"\x80\x02(X\6\0\0\0moduleNNNtQ.",             /* legacy's */
		"\x80\x02(X\16\0\0\0reduce_packageK\1NNNtQ.", /* torch.package's */
		"\x80\x02(X\7\0\0\0storageNNNtQ.",            /* too short */
		"\x80\x02}",                                  /* no STOP */
		"",
	};
	const int codes[] = {-EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EUCLEAN, -EUCLEAN};
	for (size_t i = 0; i < WF_ARRAY_SIZE(pickles); i++) {
		struct zip_builder b = ZIP_BUILDER_INIT;
		struct wf_container *c;
		size_t len = 0;
		while (pickles[i][len] != '.' && (len < 2 || memcmp(pickles[i] + len, "}", 2) != 0) && *pickles[i])
			len++;
		len += *pickles[i] ? 1 : 0;
		const struct zip_entry e = {.name = "a/data.pkl", .data = pickles[i], .len = len};
		zb_add(&b, &e);
		zb_add_text(&b, "a/version", "3\n");
		assert_int_equal(open_built(&b, NULL, &c), 0);
		assert_int_equal(load(c), codes[i]);
		assert_says("data.pkl");
		wf_container_free(c);
	}
}

static void test_torchscript(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	struct wf_graph *g = NULL;
	wf_ref root = WF_NIL;
	zb_add_text(&b, "m/data.pkl", EMPTY_DICT);
	zb_add_text(&b, "m/code/a.py", "pass");
	zb_add_text(&b, "m/constants.pkl", EMPTY_DICT);
	zb_add_text(&b, "m/data/0", "dddd");
	zb_add_text(&b, "m/constants/0", "cccc");
	zb_add_text(&b, "m/version", "3\n");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(wf_container_kind_of(c), WF_CONTAINER_TORCHSCRIPT);
	assert_int_equal(wf_graph_new(&g), 0);
	assert_int_equal(wf_container_load_graph(c, g, &root, &err), 0);
	assert_true(wf_is(g, root, WF_DICT));
	assert_int_equal(wf_container_storage_record(c, "0", 1), wf_container_find(c, "data/0"));
	wf_graph_free(g);
	wf_container_free(c);
}

static void test_deflated(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	char *plain = malloc(2000000);
	for (size_t i = 0; i < 2000000; i++)
		plain[i] = (char)(i / 1000 * 31 + i % 7);
	const struct zip_entry e = {.name = "a/data/0", .data = plain, .len = 2000000, .deflate = true};
	zb_add_minimum(&b);
	zb_add(&b, &e);
	assert_int_equal(open_built(&b, NULL, &c), 0);
	const struct wf_record *r = wf_container_record(c, 2);
	assert_int_equal(r->method, 8);
	assert_int_equal(r->size_bytes, 2000000);
	assert_true(r->stored_bytes < 1000000);
	assert_content(c, "data/0", plain, 2000000);
	wf_container_free(c);
	free(plain);
}

static void test_bombs(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry bomb = {.name = "a/data/0", .len = 100000, .deflate = true, .size_bytes = 1ull << 40};
	const struct zip_entry longer = {.name = "a/data/1", .len = 100000, .deflate = true, .size_bytes = 100001};
	const struct zip_entry shorter = {.name = "a/data/2", .len = 100000, .deflate = true, .size_bytes = 99999};
	const struct zip_entry honest = {.name = "a/data/3", .len = 100000, .deflate = true};
	zb_add_minimum(&b);
	zb_add(&b, &bomb);
	zb_add(&b, &longer);
	zb_add(&b, &shorter);
	zb_add(&b, &honest);
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(wf_container_record(c, 2)->bad, -EUCLEAN);
	assert_int_equal(content_status(c, "data/0"), -EUCLEAN);
	assert_says("cannot hold");
	assert_int_equal(content_status(c, "data/1"), -EUCLEAN);
	assert_int_equal(content_status(c, "data/2"), -EUCLEAN);
	assert_int_equal(content_status(c, "data/3"), 0);
	wf_container_free(c);

	/* a pickle that deflate could hold, but memory should not */
	const struct zip_entry big = {
		.name = "a/data.pkl", .len = 2 << 20, .method = 8, .size_bytes = (1ull << 30) + 1};
	zb_add(&b, &big);
	zb_add_text(&b, "a/version", "3");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(load(c), -E2BIG);
	assert_says("data.pkl");
	wf_container_free(c);
}

static void test_duplicates(void **state)
{
	static const char *const twins[] = {"a/data/0", "a/DATA/0", "a/version"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(twins); i++) {
		struct zip_builder b = ZIP_BUILDER_INIT;
		struct wf_container *c;
		zb_add_minimum(&b);
		zb_add_text(&b, "a/data/0", "x");
		zb_add_text(&b, twins[i], "y");
		assert_int_equal(open_built(&b, NULL, &c), -EUCLEAN);
		assert_says("two records");
	}
}

static void test_overlaps(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	/* data/1 starts inside data/0; data/2 and 3 are one stored record, data/4 and 5 one deflated */
	const struct zip_entry inside = {.name = "a/data/0", .len = 300};
	zb_add_minimum(&b);
	zb_add(&b, &inside);
	const struct zip_entry over = {.name = "a/data/1",
				       .len = 10,
				       .directory_only = true,
				       .other_place = true,
				       .header_offset = b.last_header + 150};
	zb_add(&b, &over);
	zb_add_text(&b, "a/data/2", "shared");
	const struct zip_entry same = {.name = "a/data/3", .len = 6, .directory_only = true};
	zb_add(&b, &same);
	const struct zip_entry packed = {.name = "a/data/4", .len = 600, .deflate = true};
	zb_add(&b, &packed);
	const struct zip_entry again = {.name = "a/data/5", .len = 600, .deflate = true, .directory_only = true};
	zb_add(&b, &again);
	zb_add_text(&b, "a/data/6", "alone");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(content_status(c, "data/0"), -EUCLEAN);
	assert_says("overlaps");
	assert_int_equal(content_status(c, "data/1"), -EUCLEAN);
	assert_content(c, "data/2", "shared", 6);
	assert_content(c, "data/3", "shared", 6);
	assert_int_equal(content_status(c, "data/4"), -EUCLEAN);
	assert_int_equal(content_status(c, "data/5"), -EUCLEAN);
	assert_content(c, "data/6", "alone", 5);
	wf_container_free(c);
}

static void test_other_order_and_dead_bytes(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	uint64_t first;
	zb_add_text(&b, "a/data/9", "in front");
	first = b.last_header;
	wf_buffer_free(&b.directory);
	b.directory = (struct wf_buffer)WF_BUFFER_INIT;
	b.entries = 0;
	wf_buffer_puts(&b.out, "PK\1\2 an older directory PK\5\6 that is dead now");
	zb_add_minimum(&b);
	const struct zip_entry e = {
		.name = "a/data/9", .len = 8, .directory_only = true, .other_place = true, .header_offset = first};
	zb_add(&b, &e);
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_content(c, "data/9", "in front", 8);
	assert_content(c, "data.pkl", EMPTY_DICT, 4);
	assert_content(c, "version", "3\n", 2);
	wf_container_free(c);
}

static void test_local_headers(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry other_name = {.name = "a/data/0", .local_name = "b/otherwise", .data = "zero", .len = 4};
	const struct zip_entry no_header = {.name = "a/data/1", .local_magic = 0x12345678, .data = "one", .len = 3};
	const struct zip_entry pushed = {.name = "a/data/2", .local_extra = 5000, .data = "two", .len = 3};
	const struct zip_entry unaligned = {.name = "a/data/3", .unaligned = true, .data = "three", .len = 5};
	const struct zip_entry zero_crc = {.name = "a/data/4", .crc = UINT32_MAX, .data = "four", .len = 4};
	zb_add_minimum(&b);
	zb_add(&b, &other_name);
	zb_add(&b, &no_header);
	zb_add(&b, &pushed);
	zb_add(&b, &unaligned);
	zb_add(&b, &zero_crc);
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_content(c, "data/0", "zero", 4);
	assert_int_equal(content_status(c, "data/1"), -EUCLEAN);
	assert_says("no local header");
	assert_int_equal(content_status(c, "data/2"), -EUCLEAN);
	assert_says("run into");
	assert_content(c, "data/3", "three", 5);
	assert_content(c, "data/4", "four", 4);
	wf_container_free(c);
}

static void test_single_records_refused(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry encrypted = {.name = "a/data/0", .flags = 0x0809, .len = 4};
	const struct zip_entry lzma = {.name = "a/data/1", .method = 14, .len = 4};
	const struct zip_entry two_sizes = {.name = "a/data/2", .size_bytes = 5, .len = 4};
	const struct zip_entry outside = {
		.name = "a/data/3", .stored_bytes = 1u << 20, .size_bytes = 1u << 20, .len = 4};
	const struct zip_entry far = {
		.name = "a/data/4", .other_place = true, .header_offset = UINT64_MAX - 3, .len = 4};
	const struct zip_entry wide = {
		.name = "a/data/5", .stored_bytes = UINT64_MAX, .size_bytes = UINT64_MAX, .len = 4};
	zb_add_minimum(&b);
	zb_add(&b, &encrypted);
	zb_add(&b, &lzma);
	zb_add(&b, &two_sizes);
	zb_add(&b, &outside);
	zb_add(&b, &far);
	zb_add(&b, &wide);
	zb_add_text(&b, "a/data/6", "fine");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(content_status(c, "data/0"), -EOPNOTSUPP);
	assert_says("data/0: the record is encrypted");
	assert_int_equal(content_status(c, "data/1"), -EOPNOTSUPP);
	assert_says("method 14");
	assert_int_equal(content_status(c, "data/2"), -EUCLEAN);
	assert_says("4 bytes of 5");
	assert_int_equal(content_status(c, "data/3"), -EUCLEAN);
	assert_says("do not lie before the directory");
	assert_int_equal(content_status(c, "data/4"), -EUCLEAN);
	assert_int_equal(content_status(c, "data/5"), -EUCLEAN);
	assert_int_equal(content_status(c, "data/6"), 0);
	wf_container_free(c);
}

static void test_prefix(void **state)
{
	static const struct {
		const char *names[4];
		int code;
		const char *says;
	} cases[] = {
		{{"/data.pkl", "/version"}, 0, ""},
		{{"m\xc3\xbc \xe2\x82\xac.v1/data.pkl", "m\xc3\xbc \xe2\x82\xac.v1/version"}, 0, ""},
		{{"a/", "a/data/", "a/data.pkl", "a/version"}, 0, ""},
		{{"data.pkl", "version"}, -EUCLEAN, "one folder"},
		{{"a/data.pkl", "a/version", "__MACOSX/._a"}, -EUCLEAN, "__MACOSX/._a"},
		{{"a/data.pkl", "a/version", "ab"}, -EUCLEAN, "ab"},
		{{"a/data.pkl", "b/version"}, -EUCLEAN, "b/version"},
		{{"x/y/data.pkl", "x/y/version"}, -EUCLEAN, "too deep"},
		{{"a/other", "a/version"}, -EUCLEAN, "no record \"a/data.pkl\""},
		{{"a/model.pth"}, -EMEDIUMTYPE, "contains a/model.pth"},
		{{"model.pth"}, -EMEDIUMTYPE, "contains model.pth"},
		{{"x.npy", "y.npy"}, -EMEDIUMTYPE, "NumPy"},
		{{"p/.data/extern_modules", "p/.data/version"}, -EOPNOTSUPP, "torch.package"},
		{{"m/archive_format", "m/models/model.json"}, -EOPNOTSUPP, "torch.export"},
		{{"MAR-INF/MANIFEST.json", "model.pt"}, -EMEDIUMTYPE, "TorchServe"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct zip_builder b = ZIP_BUILDER_INIT;
		struct wf_container *c;
		for (size_t k = 0; k < 4 && cases[i].names[k]; k++)
			zb_add_text(&b, cases[i].names[k], strstr(cases[i].names[k], "version") ? "3" : "");
		int r = open_built(&b, NULL, &c);
		assert_int_equal(r, cases[i].code);
		if (r < 0)
			assert_says(cases[i].says);
		wf_container_free(c);
	}
}

static void test_long_and_strange_names(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	char *name = malloc(60001);
	memset(name, 'n', 60000);
	memcpy(name, "a/data/", 7);
	name[60000] = '\0';
	zb_add_minimum(&b);
	zb_add_text(&b, name, "long");
	zb_add_text(&b, "a/data/\n\xff", "odd");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_content(c, name + 2, "long", 4);
	assert_content(c, "data/\n\xff", "odd", 3);
	wf_container_free(c);
	free(name);

	const struct zip_entry nul = {.name = "a/data/0\0b", .name_len = 10};
	zb_add_minimum(&b);
	zb_add(&b, &nul);
	assert_int_equal(open_built(&b, NULL, &c), -EUCLEAN);
	assert_says("NUL");
}

static void test_version(void **state)
{
	static const struct {
		const char *name, *text;
		int code;
	} cases[] = {
		{"a/version", "1", 0},
		{"a/version", "10\n", 0},
		{"a/version", " 3abc", 0},
		{"a/version", "0", -EOPNOTSUPP},
		{"a/version", "11", -EOPNOTSUPP},
		{"a/version", "-1", -EOPNOTSUPP},
		{"a/version", "", -EUCLEAN},
		{"a/version", "x3", -EUCLEAN},
		{"a/version", "99999999999999999999", -EUCLEAN},
		{"a/.data/version", "6", 0},
		{"a/other", "3", -EUCLEAN},
	};
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		zb_add_text(&b, "a/data.pkl", EMPTY_DICT);
		zb_add_text(&b, cases[i].name, cases[i].text);
		assert_int_equal(open_built(&b, NULL, &c), cases[i].code);
		wf_container_free(c);
	}
	zb_add_minimum(&b);
	zb_add_text(&b, "a/.data/version", "11"); /* is looked up first */
	assert_int_equal(open_built(&b, NULL, &c), -EOPNOTSUPP);
	assert_says(".data/version");
}

static void test_byteorder(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	zb_add_minimum(&b);
	zb_add_text(&b, "a/byteorder", "big");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_true(wf_container_big_endian(c));
	wf_container_free(c);
	static const char *const wrong[] = {"", "little\n", "bigger", "middle"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(wrong); i++) {
		zb_add_minimum(&b);
		zb_add_text(&b, "a/byteorder", wrong[i]);
		assert_int_equal(open_built(&b, NULL, &c), -EUCLEAN);
		assert_says("byteorder");
	}
}

static void test_ends(void **state)
{
	static const struct {
		struct zip_end end;
		int code;
		const char *says;
	} cases[] = {
		{{.classic = true}, 0, ""},
		{{.classic = true, .comment = "a comment"}, 0, ""},
		{{.comment = "with ZIP64"}, 0, ""},
		{{.trailing_bytes = 65536}, 0, ""},
		{{.classic = true, .trailing_bytes = 65536}, 0, ""},
		{{.trailing_bytes = 70000}, -EUCLEAN, "truncated or incomplete"},
		{{.classic = true, .comment = "PK\5\6 and not the end of it at all"},
		 -EOPNOTSUPP,
		 ""},                    /* as miniz searches */
		{{.entries = 2}, 0, ""}, /* the third is not looked at, as in torch */
		{{.entries = 4}, -EUCLEAN, "do not fit"},
		{{.entries = 5000}, -EUCLEAN, "do not fit"},
		{{.entries = UINT64_MAX}, -EUCLEAN, "do not fit"},
		{{.entries = 3, .entries_here = 2}, -EOPNOTSUPP, "several parts"},
		{{.disk = 1}, 0, ""},
		{{.disk = 2}, -EOPNOTSUPP, "several parts"},
		{{.directory_offset = 1}, -EUCLEAN, "number 0"},
		{{.directory_offset = UINT64_MAX}, -EUCLEAN, "does not lie inside"},
		{{.directory_bytes = UINT64_MAX}, -EUCLEAN, "does not lie inside"},
		{{.directory_bytes = 100000}, -EUCLEAN, "does not lie inside"},
		{{.directory_bytes = 140}, -EUCLEAN, "number 2"},
		{{.classic = true, .directory_bytes = 100000}, -EUCLEAN, "does not lie inside"},
		{{.end64_offset = UINT64_MAX}, -EUCLEAN, "ZIP64"},
		{{.end64_offset = 100000}, -EUCLEAN, "ZIP64"},
		{{.end64_offset = 1}, -EUCLEAN, "no ZIP64 end record"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct zip_builder b = ZIP_BUILDER_INIT;
		struct wf_container *c;
		zb_add_minimum(&b);
		zb_add_text(&b, "a/data/0", "xyz");
		int r = open_built(&b, &cases[i].end, &c);
		if (r != cases[i].code)
			fail_msg("case %zu: %d, not %d: %s", i, r, cases[i].code, err.text);
		if (r < 0)
			assert_says(cases[i].says);
		wf_container_free(c);
	}
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry e = {.name = "a/data/0", .disk = 7};
	zb_add_minimum(&b);
	zb_add(&b, &e);
	assert_int_equal(open_built(&b, NULL, &c), -EOPNOTSUPP);
}

static void test_truncated(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	zb_add_minimum(&b);
	zb_add_text(&b, "a/data/0", "0123456789");
	zb_finish(&b, NULL);
	for (size_t len = 0; len < b.out.len; len++) {
		struct wf_source *s = NULL;
		void *copy = malloc(len + 1);
		memcpy(copy, b.out.data, len);
		assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
		int r = open_source(s, &c);
		assert_int_equal(r, len < 4 ? -EMEDIUMTYPE : -EUCLEAN);
		if (len >= 4)
			assert_says("truncated or incomplete");
	}
	wf_buffer_free(&b.out);
}

/* Every byte of a small image turned over, one at a time: an answer or an error, never a crash or a hang. */
static void test_every_byte(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	zb_add_minimum(&b);
	const struct zip_entry e = {.name = "a/data/0", .len = 40, .deflate = true, .zip64 = true};
	zb_add(&b, &e);
	zb_finish(&b, NULL);
	for (size_t i = 0; i < b.out.len; i++)
		for (int bit = 0; bit < 8; bit += 7) {
			struct wf_source *s = NULL;
			struct wf_container *c;
			char *copy = malloc(b.out.len);
			memcpy(copy, b.out.data, b.out.len);
			copy[i] ^= (char)(1 << bit);
			assert_int_equal(wf_source_from_memory(copy, b.out.len, true, &s), 0);
			if (open_source(s, &c) < 0)
				continue;
			load(c);
			for (uint32_t k = 0; k < wf_container_count(c); k++)
				content_status(c, wf_container_record(c, k)->name);
			wf_container_free(c);
		}
	wf_buffer_free(&b.out);
}

static void test_zip64_small(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry e = {.name = "a/data/0", .data = "wide", .len = 4, .zip64 = true};
	zb_add_minimum(&b);
	zb_add(&b, &e);
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_content(c, "data/0", "wide", 4);
	wf_container_free(c);

	/* the ZIP64 field is cut off: the two sizes cannot be had */
	zb_add_minimum(&b);
	zb_add(&b, &e);
	uint16_t eight = 8;
	memcpy(b.directory.data + b.directory.len - 18, &eight, 2);
	assert_int_equal(open_built(&b, NULL, &c), -EUCLEAN);
	assert_says("ZIP64 field");
}

static void test_beyond_4_gib(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	const struct zip_entry hole = {.name = "a/data/0", .hole_bytes = (5ull << 30) + 4};
	zb_add_minimum(&b);
	zb_add(&b, &hole);
	zb_add_text(&b, "a/data/1", "beyond");
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(wf_container_record(c, 2)->size_bytes, (5ull << 30) + 4);
	assert_true(wf_container_record(c, 3)->header_offset > UINT32_MAX);
	assert_content(c, "data/1", "beyond", 6);
	struct wf_source *s = NULL;
	char last = 1;
	assert_int_equal(wf_container_open_record(c, 2, &s, &err), 0);
	assert_int_equal(wf_source_read(s, (5ull << 30) + 3, &last, 1), 0);
	assert_int_equal(last, 0);
	wf_source_unref(s);
	wf_container_free(c);

	/* a directory of more records than there is a limit for, which a sparse file could claim */
	const struct zip_end many = {
		.entries = (1u << 24) + 1, .directory_bytes = 800u << 20, .directory_offset = 4096};
	zb_add(&b, &hole);
	assert_int_equal(open_built(&b, &many, &c), -E2BIG);
}

/* libzip as a second opinion: it takes our images, and we take its own. */
static void test_libzip_agrees(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	const struct zip_entry packed = {.name = "a/data/0", .len = 5000, .deflate = true};
	zb_add_minimum(&b);
	zb_add(&b, &packed);
	zb_add_text(&b, "a/data/1", "stored");
	zb_finish(&b, NULL);
	zip_error_t ze;
	zip_error_init(&ze);
	zip_source_t *src = zip_source_buffer_create(b.out.data, b.out.len, 0, &ze);
	zip_t *z = zip_open_from_source(src, ZIP_RDONLY | ZIP_CHECKCONS, &ze);
	assert_non_null(z);
	struct wf_container *c;
	struct wf_source *copy = NULL;
	assert_int_equal(wf_source_from_memory(b.out.data, b.out.len, false, &copy), 0);
	assert_int_equal(open_source(copy, &c), 0);
	assert_int_equal(zip_get_num_entries(z, 0), wf_container_count(c));
	for (uint32_t i = 0; i < wf_container_count(c); i++) {
		zip_stat_t st;
		char content[5000];
		assert_int_equal(zip_stat_index(z, i, 0, &st), 0);
		assert_string_equal(st.name + 2, wf_container_record(c, i)->name);
		zip_file_t *f = zip_fopen_index(z, i, 0);
		assert_non_null(f);
		assert_int_equal(zip_fread(f, content, sizeof content), (zip_int64_t)st.size);
		zip_fclose(f);
		assert_content(c, st.name + 2, content, (size_t)st.size);
	}
	wf_container_free(c);
	zip_discard(z);
	wf_buffer_free(&b.out);

	char path[] = "/tmp/wf-test-zip-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
	assert_non_null(z);
	static char zeroes[70000];
	zip_file_add(z, "m/data.pkl", zip_source_buffer(z, EMPTY_DICT, 4, 0), ZIP_FL_ENC_UTF_8);
	zip_file_add(z, "m/version", zip_source_buffer(z, "3\n", 2, 0), ZIP_FL_ENC_UTF_8);
	zip_file_add(z, "m/data/0", zip_source_buffer(z, zeroes, sizeof zeroes, 0), ZIP_FL_ENC_UTF_8);
	zip_set_archive_comment(z, "made by libzip", 14);
	assert_int_equal(zip_close(z), 0);
	assert_int_equal(wf_source_open_file(path, &copy, &err), 0);
	assert_int_equal(open_source(copy, &c), 0);
	assert_int_equal(wf_container_record(c, 2)->method, 8);
	assert_content(c, "data/0", zeroes, sizeof zeroes);
	assert_int_equal(load(c), 0);
	wf_container_free(c);
	unlink(path);
}

static void test_many_records(void **state)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c;
	char name[32];
	zb_add_minimum(&b);
	for (unsigned int i = 0; i < 100000; i++) {
		snprintf(name, sizeof name, "a/data/%u", i);
		const struct zip_entry e = {.name = name, .data = &i, .len = sizeof i, .unaligned = true};
		zb_add(&b, &e);
	}
	assert_int_equal(open_built(&b, NULL, &c), 0);
	assert_int_equal(wf_container_count(c), 100002);
	for (unsigned int i = 0; i < 100000; i += 997) {
		snprintf(name, sizeof name, "%u", i);
		uint32_t r = wf_container_storage_record(c, name, strlen(name));
		assert_int_equal(r, i + 2);
		snprintf(name, sizeof name, "data/%u", i);
		assert_content(c, name, &i, sizeof i);
	}
	wf_container_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_torch_writes),
		cmocka_unit_test(test_graph),
		cmocka_unit_test(test_graph_refused),
		cmocka_unit_test(test_torchscript),
		cmocka_unit_test(test_deflated),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_other_order_and_dead_bytes),
		cmocka_unit_test(test_local_headers),
		cmocka_unit_test(test_single_records_refused),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_long_and_strange_names),
		cmocka_unit_test(test_version),
		cmocka_unit_test(test_byteorder),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_zip64_small),
		cmocka_unit_test(test_beyond_4_gib),
		cmocka_unit_test(test_libzip_agrees),
		cmocka_unit_test(test_many_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
