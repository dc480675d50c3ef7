/* SPDX-License-Identifier: MIT */
/* The head of a safetensors file: order, text and limits. The bytes wanted are what safetensors 0.8.0 writes. */
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
#include "codec/container/safetensors_head.h"

static const int64_t shape[] = {2, 3};

static struct wf_safetensors_item item(const char *name, enum wf_dtype dtype, uint32_t ndim)
{
	uint64_t n = ndim == 0 ? 1 : ndim == 1 ? 2 : 6;
	return (struct wf_safetensors_item){.name = name,
					    .name_len = (uint32_t)strlen(name),
					    .dtype = dtype,
					    .ndim = ndim,
					    .shape = shape,
					    .size_bytes = n * wf_dtype_info(dtype)->size_bytes};
}

static void check(struct wf_safetensors_item *items, size_t n, const struct wf_safetensors_note *notes,
		  size_t note_count, const char *json)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	uint64_t bytes, wanted = 0;
	size_t padded = (strlen(json) + 7) / 8 * 8;
	wf_buffer_puts(&out, "before"); /* it appends */
	for (size_t i = 0; i < n; i++)
		wanted += items[i].size_bytes;
	assert_int_equal(wf_safetensors_sort(items, n), 0);
	assert_int_equal(wf_safetensors_place(items, n, &bytes), 0);
	assert_int_equal(bytes, wanted);
	assert_int_equal(wf_safetensors_head(items, n, notes, note_count, &out), 0);
	assert_int_equal(wf_le64(out.data + 6), padded);
	assert_int_equal(out.len, 6 + 8 + padded);
	assert_memory_equal(out.data + 14, json, strlen(json));
	for (size_t i = strlen(json); i < padded; i++)
		assert_int_equal(out.data[14 + i], ' ');
	wf_buffer_free(&out);
}

static void no_tensors(void **state)
{
	const struct wf_safetensors_note note = {"format", "pt", 6, 2};
	check(NULL, 0, NULL, 0, "{}");
	check(NULL, 0, &note, 0, "{\"__metadata__\":{}}");
	check(NULL, 0, &note, 1, "{\"__metadata__\":{\"format\":\"pt\"}}");
}

/* By dtype from the end of the format's list, then by name; what has the same dtype by bytes of the name. */
static void order(void **state)
{
	struct wf_safetensors_item items[] = {
		item("b", WF_FLOAT32, 2), item("a", WF_BOOL8, 1), item("a.c", WF_FLOAT32, 0),
		item("a", WF_FLOAT32, 1), item("z", WF_INT64, 0), item("B", WF_FLOAT32, 0),
	};
	check(items, WF_ARRAY_SIZE(items), NULL, 0,
	      "{\"z\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"B\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]},"
	      "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]},\"a.c\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[20,24]},"
	      "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[24,48]},\"a\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[48,50]}}");
}

static void text(void **state)
{
	static const struct {
		const char *name, *json;
	} cases[] = {
		{"\x01\x1f", "\\u0001\\u001f"},
		{"\b\f\n\r\t", "\\b\\f\\n\\r\\t"},
		{"\"\\/", "\\\"\\\\/"},
		{"\x7f", "\x7f"},
		{"\xe6\x97\xa5\xf0\x9f\x98\x80", "\xe6\x97\xa5\xf0\x9f\x98\x80"},
		{"", ""},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_safetensors_item one = item(cases[i].name, WF_UINT8, 0);
		char wanted[200];
		snprintf(wanted, sizeof wanted, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
			 cases[i].json);
		check(&one, 1, NULL, 0, wanted);
	}
}

/* Two values in a byte: the format counts values. */
static void packed(void **state)
{
	struct wf_safetensors_item one = item("w", WF_FLOAT4_E2M1FN_X2, 2);
	check(&one, 1, NULL, 0, "{\"w\":{\"dtype\":\"F4\",\"shape\":[2,6],\"data_offsets\":[0,6]}}");
}

static void same_names_keep_their_order(void **state)
{
	struct wf_safetensors_item items[100];
	for (uint32_t i = 0; i < WF_ARRAY_SIZE(items); i++) {
		items[i] = item(i % 2 ? "x" : "w", WF_UINT8, 0);
		items[i].id = i;
	}
	assert_int_equal(wf_safetensors_sort(items, WF_ARRAY_SIZE(items)), 0);
	for (uint32_t i = 0; i < WF_ARRAY_SIZE(items); i++)
		assert_int_equal(items[i].id, i < 50 ? 2 * i : 2 * (i - 50) + 1);
}

static int compare_items(const void *a, const void *b)
{
	const struct wf_safetensors_item *x = a, *y = b;
	return x->dtype != y->dtype ? (x->dtype == WF_FLOAT32 ? -1 : 1) : strcmp(x->name, y->name);
}

static int gather(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(ctx, data, len);
	return 0;
}

static int no_space(void *ctx, const void *data, size_t len)
{
	return -ENOSPC;
}

static void get(const void *ctx, size_t i, struct wf_safetensors_item *ret)
{
	*ret = ((const struct wf_safetensors_item *)ctx)[i];
	ret->begin = 1234567; /* is not asked for */
}

/* Many, in no order: sorted as qsort would, and the head in pieces, of items that are made, is that in one. */
static void many(void **state)
{
	enum { N = 5000 };
	static char names[N][16];
	static struct wf_safetensors_item items[N], wanted[N];
	static uint32_t order[N];
	const struct wf_safetensors_items made = {N, get, items};
	const struct wf_safetensors_note note = {"format", "pt", 6, 2};
	struct wf_buffer whole = WF_BUFFER_INIT, pieces = WF_BUFFER_INIT;
	uint64_t bytes, at = 0;
	for (uint32_t i = 0; i < N; i++) {
		snprintf(names[i], sizeof names[i], "%u.w", i * 2654435761u % 1000003);
		items[i] = item(names[i], i % 3 ? WF_FLOAT32 : WF_BFLOAT16, i % 3);
	}
	memcpy(wanted, items, sizeof items);
	qsort(wanted, N, sizeof *wanted, compare_items);
	assert_int_equal(wf_safetensors_sort(items, N), 0);
	assert_int_equal(wf_safetensors_place(items, N, &bytes), 0);
	for (uint32_t i = 0; i < N; i++) {
		assert_ptr_equal(items[i].name, wanted[i].name);
		assert_int_equal(items[i].begin, at);
		at += items[i].size_bytes;
	}
	assert_int_equal(wf_safetensors_head(items, N, &note, 1, &whole), 0);
	assert_true(whole.len > 200000);
	assert_int_equal(wf_safetensors_head_of(&made, &note, 1, &pieces), 0);
	assert_int_equal(pieces.len, whole.len);
	assert_memory_equal(pieces.data, whole.data, whole.len);
	pieces.len = 0;
	assert_int_equal(wf_safetensors_order(&made, order, &bytes), 0);
	assert_int_equal(bytes, at);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(order[i], i);
	assert_int_equal(wf_safetensors_head_bytes(&made, &note, 1, &bytes), 0);
	assert_int_equal(bytes, whole.len);
	assert_int_equal(wf_safetensors_head_put(&made, &note, 1, bytes, gather, &pieces), 0);
	assert_int_equal(pieces.len, whole.len);
	assert_memory_equal(pieces.data, whole.data, whole.len);
	assert_int_equal(wf_safetensors_head_put(&made, &note, 1, bytes, no_space, NULL), -ENOSPC);
	wf_buffer_free(&whole);
	wf_buffer_free(&pieces);
}

static void refusals(void **state)
{
	const int64_t huge[] = {1ll << 40, 1ll << 40, 0}, half[] = {INT64_MAX, 2};
	assert_null(wf_safetensors_refuses(WF_FLOAT32, shape, 2));
	assert_null(wf_safetensors_refuses(WF_FLOAT4_E2M1FN_X2, shape, 1));
	assert_non_null(wf_safetensors_refuses(WF_COMPLEX128, shape, 2));
	assert_non_null(wf_safetensors_refuses(WF_QINT8, shape, 2));
	assert_non_null(wf_safetensors_refuses(WF_FLOAT4_E2M1FN_X2, shape, 0));
	assert_non_null(wf_safetensors_refuses(WF_UINT8, huge, 3));
	assert_null(wf_safetensors_refuses(WF_UINT8, half, 2));
	assert_non_null(wf_safetensors_refuses(WF_FLOAT4_E2M1FN_X2, half, 2));
	assert_null(wf_safetensors_refuses_name("w", 1));
	assert_null(wf_safetensors_refuses_name("\xed\x9f\xbf", 3)); /* the last character before the surrogates */
	assert_non_null(wf_safetensors_refuses_name("a\xed\xa0\x80", 4));
	assert_non_null(wf_safetensors_refuses_name("__metadata__", 12));
}

static void too_large(void **state)
{
	struct wf_safetensors_item items[] = {item("a", WF_UINT8, 0), item("b", WF_UINT8, 0)};
	uint64_t bytes;
	items[0].size_bytes = items[1].size_bytes = INT64_MAX;
	assert_int_equal(wf_safetensors_place(items, 2, &bytes), -EFBIG);
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_safetensors_item wide = item("w", WF_UINT8, 0);
	size_t len = WF_SAFETENSORS_JSON_MAX;
	char *name = test_malloc(len);
	memset(name, 'n', len);
	wide.name = name;
	wide.name_len = (uint32_t)len;
	assert_int_equal(wf_safetensors_head(&wide, 1, NULL, 0, &out), -EFBIG);
	wf_buffer_free(&out);
	test_free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_tensors), cmocka_unit_test(order),
		cmocka_unit_test(many),       cmocka_unit_test(text),
		cmocka_unit_test(packed),     cmocka_unit_test(same_names_keep_their_order),
		cmocka_unit_test(refusals),   cmocka_unit_test(too_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
