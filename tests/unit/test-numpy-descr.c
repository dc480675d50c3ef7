/* SPDX-License-Identifier: MIT */
/* Descriptions of NumPy's dtypes: each makes an object that is described so, and what is none is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/tensor/numpy_dtype.h"

static const struct {
	const char *descr;
	uint32_t bytes;
} good[] = {
	{"<U3", 12},
	{">U2", 8},
	{"<U0", 0},
	{"|S4", 4},
	{"|V3", 3},
	{"<M8", 8},
	{"<M8[D]", 8},
	{">m8[15ms]", 8},
	{"<f16", 16},
	{"<c32", 32},
	{"<i4", 4},
	{">f8", 8},
	{"|b1", 1},
	{"[]", 0},
	{"[('a', '<i4'), ('b', '<f8')]", 12},
	{"[('a', '|i1'), ('', '|V7'), ('b', '<f8'), ('', '|V8')]", 24},
	{"[('a', '<f4', (2, 2)), ('b', [('c', '<M8[s]'), ('d', '|b1')]), ('e', '|S3')]", 28},
	{"[('it\\'s', '<U1', (3,)), ('b\\\\', '|V2'), ('\\x07', '|u1')]", 15},
};

static const char *const bad[] = {
	"",
	"<",
	"<U",
	"U3",
	"|U3",
	"<S3",
	"<x4",
	"<f3",
	"<f99999999999999999999",
	"<U99999999999",
	"<M4[D]",
	"<M8[",
	"<M8[]",
	"<M8[D",
	"<M8[0D]",
	"<M8[fortnight]",
	"<M8[Dx]",
	"<U3 x",
	"|O",
	"'<U3'",
	"[",
	"[(",
	"[('a')]",
	"[('a', )]",
	"[('a', <U3)]",
	"[('a', '<U3']",
	"[('a', '<U3'), ('a', '<U3')]",
	"[('a', '<U3', 2)]",
	"[('a', '<U3', (-1,))]",
	"[('a', '<U3', (2)]",
	"[('a, '<U3')]",
	"[('\\q', '<U3')]",
	"[('a', '|V1000000000', (3,))]",
	"[('a', '|V200000000'), ('b', '|V200000000'), ('c', '|V200000000'), ('d', '|V200000000'), ('e', '|V200000000'), ('f', '|V200000000')]",
	"[('a', '<f4', (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1))]",
	"[('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', '<i4')])])])])])])])])])]",
};

static void test_good(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct wf_graph *g = NULL;
		struct wf_buffer again = WF_BUFFER_INIT;
		struct wf_numpy_dtype d;
		wf_ref dtype = WF_NIL;
		uint32_t bytes = 99;
		assert_int_equal(wf_graph_new(&g), 0);
		if (wf_numpy_dtype_parse(g, good[i].descr, &dtype, &bytes) != 0)
			fail_msg("%s is refused", good[i].descr);
		assert_true(wf_numpy_dtype_of(g, dtype, &d));
		wf_numpy_dtype_descr(g, dtype, &again);
		if (strcmp(again.data, good[i].descr) != 0 || bytes != good[i].bytes || d.item_bytes != bytes)
			fail_msg("%s of %u bytes, not %s of %u", again.data, bytes, good[i].descr, good[i].bytes);
		wf_buffer_free(&again);
		wf_graph_free(g);
	}
}

static void test_bad(void **state)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wf_graph *g = NULL;
		wf_ref dtype = WF_NIL;
		uint32_t bytes;
		assert_int_equal(wf_graph_new(&g), 0);
		if (wf_numpy_dtype_parse(g, bad[i], &dtype, &bytes) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
		wf_graph_free(g);
	}
}

/* Cut anywhere, and with any byte changed. */
static void test_any(void **state)
{
	static const char bytes_tried[] = "\0'()[],\\x09<|VUM8\xff";
	char descr[128];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		size_t len = strlen(good[i].descr);
		assert_true(len < sizeof descr);
		for (size_t at = 0; at < len; at++)
			for (size_t b = 0; b < sizeof bytes_tried; b++) {
				struct wf_graph *g = NULL;
				wf_ref dtype;
				uint32_t bytes;
				strcpy(descr, good[i].descr);
				descr[at] = bytes_tried[b];
				assert_int_equal(wf_graph_new(&g), 0);
				int r = wf_numpy_dtype_parse(g, descr, &dtype, &bytes);
				assert_true(r == 0 || r == -EINVAL);
				wf_graph_free(g);
			}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_any),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
