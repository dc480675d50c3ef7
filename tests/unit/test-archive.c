/* SPDX-License-Identifier: MIT */
/* The tree of an archive's records: names that meet, names that no file could have, and nesting past the limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/tree/archive.h"
#include "codec/value/names.h"
#include "zip-builder.h"

/* The tree as one line: "name" of a record, "name(...)" of a directory. */
static void show(const struct wf_archive *a, uint32_t dir, struct wf_buffer *out)
{
	for (uint32_t n = wf_archive_first(a, dir); n != 0; n = wf_archive_next(a, n)) {
		const char *name = wf_archive_name(a, n);
		assert_int_equal(wf_archive_find(a, dir, name), n);
		assert_true(strlen(name) <= WF_NAME_MAX && !strchr(name, '/'));
		wf_buffer_puts(out, n == wf_archive_first(a, dir) ? "" : " ");
		wf_buffer_puts(out, name);
		if (wf_archive_record(a, n) != WF_NO_RECORD)
			continue;
		wf_buffer_putc(out, '(');
		show(a, n, out);
		wf_buffer_putc(out, ')');
	}
}

/* Of a container with these records beside the two that it needs; `records` ends with NULL. */
static struct wf_archive *archive_of(const char *const *records)
{
	struct zip_builder b = ZIP_BUILDER_INIT;
	struct wf_container *c = NULL;
	struct wf_archive *a = NULL;
	struct wf_error err = {0};
	char name[4096];
	zb_add_minimum(&b);
	for (; *records; records++) {
		snprintf(name, sizeof name, "a/%s", *records);
		zb_add_text(&b, name, (*records)[0] && (*records)[strlen(*records) - 1] == '/' ? "" : "x");
	}
	zb_finish(&b, NULL);
	struct wf_source *s = zb_source(&b);
	if (wf_container_open(s, &c, &err) < 0)
		fail_msg("%s", err.text);
	wf_source_unref(s);
	assert_int_equal(wf_archive_new(c, &a), 0);
	wf_container_free(c); /* it is not kept */
	return a;
}

static void test_trees(void **state)
{
	static const struct {
		const char *records[6], *tree;
	} cases[] = {
		{{NULL}, "data.pkl version"},
		{{"data/0", "data/1", NULL}, "data.pkl version data(0 1)"},
		{{"a/b/c", "a/d", "a/b/e", NULL}, "data.pkl version a(b(c e) d)"},
		{{"a/", "a/b", NULL}, "data.pkl version a(b)"},             /* what zip tools write for a directory */
		{{"a", "a/b", NULL}, "data.pkl version a a%~00000004(b)"},  /* a record and a directory */
		{{"a//b", "/c", NULL}, "data.pkl version a(%(b)) %(c)"},    /* empty parts */
		{{"../x", "./y", NULL}, "data.pkl version %2E.(x) %2E(y)"}, /* no way out */
		{{"50%", "%2E", NULL}, "data.pkl version 50%25 %252E"},     /* what looks escaped */
		{{"other", "other", NULL}, "data.pkl version other other%~00000004"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_archive *a = archive_of(cases[i].records);
		struct wf_buffer out = WF_BUFFER_INIT;
		show(a, WF_ARCHIVE_TOP, &out);
		assert_string_equal(out.data, cases[i].tree);
		assert_int_equal(wf_archive_find(a, WF_ARCHIVE_TOP, "nothing"), 0);
		wf_buffer_free(&out);
		wf_archive_free(a);
	}
}

/* Slashes past the limit are part of the name. */
static void test_depth(void **state)
{
	char name[256];
	for (size_t i = 0; i < 100; i++)
		memcpy(name + 2 * i, "d/", 2);
	strcpy(name + 200, "x");
	struct wf_archive *a = archive_of((const char *const[]){name, NULL});
	uint32_t dir = WF_ARCHIVE_TOP, depth = 0;
	for (uint32_t next; (next = wf_archive_find(a, dir, "d")) != 0; dir = next)
		depth++;
	assert_int_equal(depth, WF_ARCHIVE_DEPTH);
	uint32_t last = wf_archive_first(a, dir);
	assert_true(wf_archive_record(a, last) != WF_NO_RECORD);
	assert_non_null(strstr(wf_archive_name(a, last), "d%2Fd%2F"));
	wf_archive_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_trees), cmocka_unit_test(test_depth)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
