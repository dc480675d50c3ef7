/* SPDX-License-Identifier: MIT */
/* Headers of safetensors files: what is read, and what is refused with which sentence. What safetensors 0.8.0 takes is taken, but for
 * names that are there twice, and for what torch has no tensor for. */
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
#include "codec/container/container.h"
#include "codec/container/safetensors_read.h"

static struct wf_source *file_of(const char *json, size_t len, uint64_t claimed, size_t data_bytes)
{
	struct wf_source *s = NULL;
	char *bytes = calloc(1, 8 + len + data_bytes);
	memcpy(bytes, &claimed, 8);
	memcpy(bytes + 8, json, len);
	for (size_t i = 0; i < data_bytes; i++)
		bytes[8 + len + i] = (char)i;
	assert_int_equal(wf_source_from_memory(bytes, 8 + len + data_bytes, true, &s), 0);
	return s;
}

static int read_header(const char *json, size_t data_bytes, struct wf_safetensors_header *h, struct wf_error *err)
{
	struct wf_source *s = file_of(json, strlen(json), strlen(json), data_bytes);
	*err = (struct wf_error){0};
	int r = wf_safetensors_header_read(s, h, err);
	wf_source_unref(s);
	return r;
}

#define T(name, dtype, shape, begin, end) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define ONES8 "1,1,1,1,1,1,1,1"
#define ONES64 ONES8 "," ONES8 "," ONES8 "," ONES8 "," ONES8 "," ONES8 "," ONES8 "," ONES8

static void taken(void **state)
{
	static const struct {
		const char *json;
		size_t data_bytes;
		uint32_t tensors, pairs;
	} cases[] = {
		{"{}", 0, 0, 0},
		{"{}      ", 0, 0, 0},
		{" \n\t\r{}", 0, 0, 0},
		{"{\"__metadata__\":null}", 0, 0, 0},
		{"{\"__metadata__\":{}}", 0, 0, 0},
		{"{\"__metadata__\":{\"format\":\"pt\",\"\":\"\"}}", 0, 0, 2},
		{"{" T("a", "F32", "[2]", 0, 8) "}", 8, 1, 0},
		{"{" T("a", "F32", "[2]", 0, 8) ",\"__metadata__\":{\"b\":\"c\"}}", 8, 1, 1},
		{"{" T("", "F64", "[]", 0, 8) "}", 8, 1, 0},
		{"{" T("b", "I8", "[1]", 8, 9) "," T("a", "I64", "[1]", 0, 8) "}", 9, 2, 0},
		{"{" T("a", "U8", "[0]", 0, 0) "," T("b", "U8", "[3]", 0, 3) "," T("c", "U8", "[0,7]", 3, 3) "}", 3, 3,
		 0},
		{"{" T("a", "F4", "[2,4]", 0, 4) "}", 4, 1, 0},
		{"{" T("a", "U8", "[" ONES64 "]", 0, 1) "}", 1, 1, 0},
		{"{\"a\":{\"x\":[{\"y\":null}],\"data_offsets\":[0,1],\"shape\":[],\"dtype\":\"BOOL\"}}", 1, 1, 0},
		{"{\"a\":[\"F32\",[2],[0,8]]}", 8, 1, 0},
		{"{\"\\u0000\\ud83d\\ude00\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1, 0},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_safetensors_header h;
		struct wf_error err;
		if (read_header(cases[i].json, cases[i].data_bytes, &h, &err) < 0)
			fail_msg("%s: %s", cases[i].json, err.text);
		assert_int_equal(h.tensor_count, cases[i].tensors);
		assert_int_equal(h.pair_count, cases[i].pairs);
		wf_safetensors_header_free(&h);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *json;
		size_t data_bytes;
		int code;
		const char *says;
	} cases[] = {
		{"[]", 0, -EUCLEAN, "has to be an object"},
		{"{}x", 0, -EUCLEAN, "behind the value"},
		{"{", 0, -EUCLEAN, "ends too early"},
		{"{\"a\":null}", 0, -EUCLEAN, "has to be an object"},
		{"{\"a\":{}}", 0, -EUCLEAN, "no dtype"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, -EUCLEAN, "no data_offsets"},
		{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -EUCLEAN,
		 "a member twice"},
		{"{" T("a", "f32", "[1]", 0, 4) "}", 4, -EUCLEAN, "no dtype \"f32\""},
		{"{" T("a", "C128", "[1]", 0, 16) "}", 16, -EUCLEAN, "no dtype \"C128\""},
		{"{" T("a", "F32\\u0000", "[1]", 0, 4) "}", 4, -EUCLEAN, "no dtype"},
		{"{" T("a", "F6_E2M3", "[4]", 0, 3) "}", 3, -EOPNOTSUPP, "F6_E2M3"},
		{"{" T("a", "F32", "[1.0]", 0, 4) "}", 4, -EUCLEAN, "whole number"},
		{"{" T("a", "F32", "[-0]", 0, 0) "}", 0, -EUCLEAN, "whole number"},
		{"{" T("a", "F32", "[-1]", 0, 4) "}", 4, -EUCLEAN, "whole number"},
		{"{" T("a", "F32", "[1e0]", 0, 4) "}", 4, -EUCLEAN, "whole number"},
		{"{" T("a", "F32", "[18446744073709551616,0]", 0, 0) "}", 0, -EUCLEAN, "whole number"},
		{"{" T("a", "F32", "[9223372036854775808,0]", 0, 0) "}", 0, -EOPNOTSUPP, "2^63"},
		{"{" T("a", "F32", "[1099511627776,1099511627776,0]", 0, 0) "}", 0, -EUCLEAN, "passes 2^64"},
		{"{" T("a", "F64", "[4611686018427387904]", 0, 0) "}", 0, -EUCLEAN, "in bits passes 2^64"},
		{"{" T("a", "U8", "[" ONES64 ",1]", 0, 1) "}", 1, -EOPNOTSUPP, "64 dimensions"},
		{"{" T("a", "F32", "[2]", 0, 4) "}", 4, -EUCLEAN, "asks for 8 bytes"},
		{"{" T("a", "F32", "[1]", 4, 0) "}", 4, -EUCLEAN, "asks for 4 bytes"},
		{"{" T("a", "F4", "[3]", 0, 2) "}", 2, -EUCLEAN, "inside a byte"},
		{"{" T("a", "F4", "[]", 0, 1) "}", 1, -EUCLEAN, "inside a byte"},
		{"{" T("a", "F4", "[2,3]", 0, 3) "}", 3, -EOPNOTSUPP, "odd"},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, -EUCLEAN, "two whole numbers"},
		{"{" T("a", "U8", "[1]", 1, 2) "}", 2, -EUCLEAN, "belong to no tensor"},
		{"{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 1, 3) "}", 3, -EUCLEAN, "over that of another"},
		{"{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 0, 2) "}", 2, -EUCLEAN, "over that of another"},
		{"{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 3, 5) "}", 5, -EUCLEAN, "belong to no tensor"},
		{"{" T("a", "U8", "[2]", 0, 2) "}", 3, -EUCLEAN, "the last 1 bytes"},
		{"{" T("a", "U8", "[2]", 0, 2) "}", 1, -EUCLEAN, "truncated"},
		{"{" T("a", "U8", "[1]", 0, 1) "," T("a", "U8", "[1]", 1, 2) "}", 2, -EUCLEAN,
		 "two tensors have this name"},
		{"{" T("a", "U8", "[1]", 0, 1) "," T("\\u0061", "U8", "[1]", 1, 2) "}", 2, -EUCLEAN, "two tensors"},
		{"{\"__metadata__\":{\"a\":1}}", 0, -EUCLEAN, "has to be a string"},
		{"{\"__metadata__\":[]}", 0, -EUCLEAN, "has to be an object"},
		{"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, -EUCLEAN, "this key twice"},
		{"{\"__metadata__\":{},\"__metadata__\":{}}", 0, -EUCLEAN, "stands there twice"},
		{"{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, -EUCLEAN, "surrogate"},
		{"{\"\xff\":{}}", 0, -EUCLEAN, "not UTF-8"},
		{"{\"a\":[\"U8\",[1],[0,1],0]}", 1, -EUCLEAN, "more than dtype"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_safetensors_header h;
		struct wf_error err;
		int r = read_header(cases[i].json, cases[i].data_bytes, &h, &err);
		if (r != cases[i].code || !strstr(err.text, cases[i].says) || strchr(err.text, '\n'))
			fail_msg("%s: %d, \"%s\"", cases[i].json, r, err.text);
		wf_safetensors_header_free(&h);
	}
}

/* Much of everything ends soon, with a sentence. */
static void many(void **state)
{
	enum { MANY = 200000 };
	static const struct {
		const char *before, *each, *says;
	} cases[] = {
		{"{\"a\":{\"x\":", "[", "nested too deeply"},
		{"{\"a\":{\"shape\":[", "1,", "too early"},
		{"{\"__metadata__\":{\"a\":\"", "abcd", "does not end"},
		{"{", " ", "too early"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_safetensors_header h;
		struct wf_error err;
		struct wf_buffer json = WF_BUFFER_INIT;
		wf_buffer_puts(&json, cases[i].before);
		for (int k = 0; k < MANY; k++)
			wf_buffer_puts(&json, cases[i].each);
		int r = read_header(json.data, 0, &h, &err);
		if (r >= 0 || !strstr(err.text, cases[i].says))
			fail_msg("%s: %d, \"%s\"", cases[i].before, r, err.text);
		wf_safetensors_header_free(&h);
		wf_buffer_free(&json);
	}
}

static void lengths(void **state)
{
	static const struct {
		uint64_t claimed;
		int code;
		const char *says;
	} cases[] = {
		{3, -EUCLEAN, "truncated"},
		{WF_SAFETENSORS_JSON_MAX, -EUCLEAN, "truncated"},
		{WF_SAFETENSORS_JSON_MAX + 1u, -E2BIG, "100000000 are the most"},
		{UINT64_MAX, -E2BIG, "100000000 are the most"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_safetensors_header h;
		struct wf_error err = {0};
		struct wf_source *s = file_of("{}", 2, cases[i].claimed, 0);
		assert_int_equal(wf_safetensors_header_read(s, &h, &err), cases[i].code);
		assert_non_null(strstr(err.text, cases[i].says));
		wf_safetensors_header_free(&h);
		wf_source_unref(s);
	}
}

/* The length of a header may be the mark of another format. */
static void known_by_its_bytes(void **state)
{
	static const uint64_t lengths[] = {8, 0x280, 0x380, 0x480, 0x580, 0x04034b50 % 100000};
	for (size_t i = 0; i < WF_ARRAY_SIZE(lengths); i++) {
		struct wf_container *c = NULL;
		struct wf_error err = {0};
		char *json = malloc((size_t)lengths[i]);
		memset(json, ' ', (size_t)lengths[i]);
		memcpy(json, "{}", 2);
		struct wf_source *s = file_of(json, (size_t)lengths[i], lengths[i], 0);
		assert_int_equal(wf_container_open(s, &c, &err), 0);
		assert_int_equal(wf_container_kind_of(c), WF_CONTAINER_SAFETENSORS);
		wf_container_free(c);
		wf_source_unref(s);
		free(json);
	}
}

static void what_is_read(void **state)
{
	struct wf_safetensors_header h;
	struct wf_error err;
	assert_int_equal(read_header("{\"__metadata__\":{\"k\":\"v\"}," T("b", "F4", "[2,4]", 8,
									  12) "," T("a", "F32", "[2,1]", 0, 8) "}",
				     12, &h, &err),
			 0);
	const struct wf_safetensors_tensor *b = &h.tensors[0], *a = &h.tensors[1];
	assert_string_equal(h.text.data + b->name, "b"); /* in the order of the JSON */
	assert_int_equal(b->dtype, WF_FLOAT4_E2M1FN_X2);
	assert_int_equal(b->ndim, 2);
	assert_int_equal(h.sizes[b->shape], 2);
	assert_int_equal(h.sizes[b->shape + 1], 2); /* as torch counts */
	assert_int_equal(b->begin, 8);
	assert_int_equal(b->end, 12);
	assert_string_equal(h.text.data + a->name, "a");
	assert_int_equal(a->dtype, WF_FLOAT32);
	assert_string_equal(h.text.data + h.pairs[0].key, "k");
	assert_string_equal(h.text.data + h.pairs[0].value, "v");
	wf_safetensors_header_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),
		cmocka_unit_test(refused),
		cmocka_unit_test(many),
		cmocka_unit_test(lengths),
		cmocka_unit_test(known_by_its_bytes),
		cmocka_unit_test(what_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
