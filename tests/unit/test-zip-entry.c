/* SPDX-License-Identifier: MIT */
/* Entries of a zip's directory: a good one field by field, every cut of it, and the ZIP64 field in all its forms. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/container/zip_entry.h"

static void put(struct wf_buffer *b, uint64_t v, size_t bytes)
{
	wf_buffer_append(b, &v, bytes); /* little-endian hosts only */
}

static void entry(struct wf_buffer *b, uint32_t stored, uint32_t size, uint32_t offset, const char *extra,
		  size_t extra_len)
{
	static const char name[] = "a/data.pkl", comment[] = "why";
	b->len = 0;
	put(b, 0x02014b50, 4);
	for (uint16_t v = 1; v <= 6; v++) /* made by, needed, flags, method, time, date */
		put(b, v, 2);
	put(b, 0x12345678, 4);
	put(b, stored, 4);
	put(b, size, 4);
	put(b, sizeof name - 1, 2);
	put(b, extra_len, 2);
	put(b, sizeof comment - 1, 2);
	put(b, 7, 2); /* disk */
	put(b, 8, 2);
	put(b, 9, 4);
	put(b, offset, 4);
	wf_buffer_append(b, name, sizeof name - 1);
	wf_buffer_append(b, extra, extra_len);
	wf_buffer_append(b, comment, sizeof comment - 1);
}

static void test_fields(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	struct wf_zip_entry e;
	entry(&b, 10, 20, 30, "FB\2\0ZZ", 6);
	wf_buffer_puts(&b, "what follows");
	assert_int_equal(wf_zip_entry_parse(&e, (const unsigned char *)b.data, b.len), b.len - 12);
	assert_int_equal(e.name_len, 10);
	assert_memory_equal(e.name, "a/data.pkl", 10);
	const uint64_t want[] = {1, 2, 3, 4, 5, 6, 0x12345678, 10, 20, 7, 8, 9, 30};
	const uint64_t got[] = {e.made_by,      e.needed,     e.flags, e.method,   e.time,     e.date,         e.crc32,
				e.stored_bytes, e.size_bytes, e.disk,  e.internal, e.external, e.header_offset};
	assert_memory_equal(got, want, sizeof want);
	/* the name, the extra field or the comment is not all there */
	size_t len = b.len - 12;
	for (size_t n = 0; n < len; n++)
		assert_int_equal(wf_zip_entry_parse(&e, (const unsigned char *)b.data, n), 0);
	b.data[0] = 'Q';
	assert_int_equal(wf_zip_entry_parse(&e, (const unsigned char *)b.data, b.len), 0);
	wf_buffer_free(&b);
}

#define MAX UINT32_MAX
#define EXTRA(s) s, sizeof(s) - 1
#define FIVE "\5\0\0\0\1\0\0\0" /* 2^32 + 5 */
#define SIX "\6\0\0\0\1\0\0\0"
#define SEVEN "\7\0\0\0\1\0\0\0"
#define WIDE(n) ((1ull << 32) + (n))

static void test_zip64(void **state)
{
	static const struct {
		uint32_t stored, size, offset;
		const char *extra;
		size_t extra_len;
		bool broken;
		uint64_t want_stored, want_size, want_offset;
	} cases[] = {
		{MAX, MAX, MAX, EXTRA("\1\0\30\0" FIVE SIX SEVEN), false, WIDE(6), WIDE(5), WIDE(7)},
		{1, 2, MAX, EXTRA("\1\0\10\0" SEVEN), false, 1, 2, WIDE(7)},
		{MAX, 2, 3, EXTRA("\1\0\10\0" SEVEN), false, WIDE(7), 2, 3},
		{1, 2, 3, EXTRA("\1\0\10\0" SEVEN), false, 1, 2, 3},                 /* nobody asks it */
		{1, 2, 3, EXTRA("\1\0\377\377"), false, 1, 2, 3},                    /* nor looks at it */
		{1, 2, MAX, EXTRA("FB\2\0ZZ\1\0\10\0" SEVEN), false, 1, 2, WIDE(7)}, /* behind another field */
		{MAX, MAX, 3, EXTRA("\1\0\10\0" SEVEN), true, 0, 0, 0},              /* too short for both */
		{1, 2, MAX, EXTRA("\1\0\7\0" SEVEN), true, 0, 0, 0},
		{1, 2, MAX, EXTRA("\1\0\20\0" SEVEN), true, 0, 0, 0}, /* longer than what is there */
		{1, 2, MAX, EXTRA("FB\377\0ZZ"), true, 0, 0, 0},
		{1, 2, MAX, EXTRA("FB\0\0"), true, 0, 0, 0},  /* no offset is 2^32 - 1 */
		{MAX, MAX, 3, EXTRA(""), false, MAX, MAX, 3}, /* a size may be */
	};
	struct wf_buffer b = WF_BUFFER_INIT;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_cursor c;
		struct wf_zip_entry e;
		entry(&b, cases[i].stored, cases[i].size, cases[i].offset, cases[i].extra, cases[i].extra_len);
		wf_cursor_init_memory(&c, b.data, b.len);
		assert_int_equal(wf_zip_entry_read(&c, &e), 0);
		assert_int_equal(wf_cursor_left(&c), 0);
		if (e.broken_zip64 != cases[i].broken)
			fail_msg("case %zu", i);
		assert_int_equal(wf_zip_entry_parse(&e, (const unsigned char *)b.data, b.len),
				 e.broken_zip64 ? 0 : b.len);
		if (cases[i].broken)
			continue;
		assert_int_equal(e.stored_bytes, cases[i].want_stored);
		assert_int_equal(e.size_bytes, cases[i].want_size);
		assert_int_equal(e.header_offset, cases[i].want_offset);
	}
	wf_buffer_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields), cmocka_unit_test(test_zip64)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
