/* SPDX-License-Identifier: MIT */
/* Heads of .npy files: what NumPy's versions and others write, and what is no head. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/util.h"
#include "codec/compose/npy_head.h"

/* Version and dictionary to bytes. */
static size_t make(unsigned char *out, int version, const char *text)
{
	size_t len = strlen(text), start = version == 1 ? 10 : 12;
	memcpy(out, "\x93NUMPY", 6);
	out[6] = (unsigned char)version;
	out[7] = 0;
	uint32_t size = (uint32_t)len;
	memcpy(out + 8, &size, start - 8);
	memcpy(out + start, text, len);
	return start + len;
}

static void good(void **state)
{
	static const struct {
		int version;
		const char *text;
		enum wf_dtype dtype;
		bool big, columns;
		uint32_t ndim;
		int64_t shape[3];
		uint64_t bytes;
	} cases[] = {
		{1,
		 "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n",
		 WF_FLOAT32,
		 false,
		 false,
		 2,
		 {2, 3},
		 24},
		{2,
		 "{'descr': '>i8', 'fortran_order': True, 'shape': (2, 3, 4)}",
		 WF_INT64,
		 true,
		 true,
		 3,
		 {2, 3, 4},
		 192},
		{3, "{\"shape\":(),\"descr\":\"|b1\",\"fortran_order\":False}", WF_BOOL8, false, false, 0, {0}, 1},
		{1,
		 " { 'fortran_order' : False , 'descr' : '|u1' , 'shape' : ( 5 , ) , } ",
		 WF_UINT8,
		 false,
		 false,
		 1,
		 {5},
		 5},
		{1,
		 "{'descr': '<c16', 'fortran_order': False, 'shape': (3L, 0L)}",
		 WF_COMPLEX128,
		 false,
		 false,
		 2,
		 {3, 0},
		 0},
		{1, "{'descr': '?', 'fortran_order': False, 'shape': (1,)}", WF_BOOL8, false, false, 1, {1}, 1},
		{1, "{'descr': '=u2', 'fortran_order': False, 'shape': (1,)}", WF_UINT16, false, false, 1, {1}, 2},
		{1,
		 "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807)}",
		 WF_FLOAT64,
		 false,
		 false,
		 2,
		 {0, INT64_MAX},
		 0},
	};
	unsigned char file[300];
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_npy_head h;
		const char *why;
		size_t len = make(file, cases[i].version, cases[i].text);
		int r = wf_npy_head_parse(file, len, &h, &why);
		if (cases[i].shape[1] == INT64_MAX) { /* beside a zero, too, it is more than a file can have */
			assert_int_equal(r, -EINVAL);
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", cases[i].text, why);
		assert_int_equal(h.dtype, cases[i].dtype);
		assert_int_equal(h.big_endian, cases[i].big);
		assert_int_equal(h.by_columns, cases[i].columns);
		assert_int_equal(h.ndim, cases[i].ndim);
		for (uint32_t d = 0; d < h.ndim; d++)
			assert_int_equal(h.shape[d], cases[i].shape[d]);
		assert_int_equal(h.data_offset, len);
		assert_int_equal(h.size_bytes, cases[i].bytes);
	}
}

static void bad(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"{'descr': '<f4'}",
		"['descr']",
		"{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
		"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
		"{'descr': '<U3', 'fortran_order': False, 'shape': (1,)}",
		"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': [2]}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2,",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
		"{'descr': '<f4, 'fortran_order'",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
		"{'descr': '<f4\\x00', 'fortran_order': False, 'shape': (1,)}",
		"{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}",
	};
	unsigned char file[300];
	for (size_t i = 0; i < WF_ARRAY_SIZE(texts); i++) {
		struct wf_npy_head h;
		const char *why = NULL;
		size_t len = make(file, 1, texts[i]);
		if (len < 12)
			len = make(file, 2, texts[i]);
		if (wf_npy_head_parse(file, len, &h, &why) != -EINVAL)
			fail_msg("taken: %s", texts[i]);
		assert_non_null(why);
	}
}

/* Every beginning of a file is too short, and one byte of another magic is no .npy file. */
static void cut(void **state)
{
	unsigned char file[300];
	struct wf_npy_head h;
	const char *why;
	size_t len = make(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n");
	for (size_t n = 0; n < len; n++) {
		unsigned char *part = malloc(n + 1);
		memcpy(part, file, n);
		assert_int_equal(wf_npy_head_parse(part, n, &h, &why), -ENODATA);
		free(part);
	}
	file[6] = 4;
	assert_int_equal(wf_npy_head_parse(file, len, &h, &why), -EINVAL);
	file[6] = 2;
	memset(file + 8, 0xff, 4);
	assert_int_equal(wf_npy_head_parse(file, len, &h, &why), -EINVAL);
	file[0] = 'P';
	assert_int_equal(wf_npy_head_parse(file, 3, &h, &why), -EINVAL);
}

/* No dictionary that differs by one byte reads past its end (the sanitizers watch), or counts other bytes than its shape has. */
static void mutated(void **state)
{
	unsigned char file[300];
	size_t len = make(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
	for (size_t at = 0; at < len; at++)
		for (int c = 0; c < 256; c++) {
			struct wf_npy_head h;
			const char *why;
			unsigned char *copy = malloc(len);
			memcpy(copy, file, len);
			copy[at] = (unsigned char)c;
			int r = wf_npy_head_parse(copy, len, &h, &why);
			assert_true(r == 0 || r == -EINVAL || r == -ENODATA);
			if (r == 0) {
				uint64_t n = wf_dtype_info(h.dtype)->size_bytes;
				for (uint32_t d = 0; d < h.ndim; d++)
					n *= (uint64_t)h.shape[d];
				assert_int_equal(h.size_bytes, n);
			}
			free(copy);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(bad),
		cmocka_unit_test(cut),
		cmocka_unit_test(mutated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
