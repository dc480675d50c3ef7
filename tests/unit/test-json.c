/* SPDX-License-Identifier: MIT */
/* The JSON lexer and writer: tables of texts, and what comes back token by token. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/json.h"

/* One character a token, texts in angle brackets; '!' and the reason where the text is broken. */
static void tokens(struct wf_json *j, char *out, size_t size)
{
	static const char marks[] = {
		[WF_JSON_OBJECT] = '{', [WF_JSON_OBJECT_END] = '}', [WF_JSON_ARRAY] = '[',  [WF_JSON_ARRAY_END] = ']',
		[WF_JSON_KEY] = 'k',    [WF_JSON_STRING] = 's',     [WF_JSON_NUMBER] = 'n', [WF_JSON_TRUE] = 't',
		[WF_JSON_FALSE] = 'f',  [WF_JSON_NULL] = '0',       [WF_JSON_WORD] = 'w',
	};
	enum wf_json_kind kind;
	size_t n = 0;
	while ((kind = wf_json_next(j)) > WF_JSON_END) {
		n += (size_t)snprintf(out + n, size - n, "%c", marks[kind]);
		if (strchr("ksnw", marks[kind]))
			n += (size_t)snprintf(out + n, size - n, "<%.*s>", (int)j->text_len, j->text);
	}
	snprintf(out + n, size - n, "%c%s", kind == WF_JSON_BROKEN ? '!' : '.', j->error ? j->error : "");
	assert_int_equal(j->code < 0, kind == WF_JSON_BROKEN);
	assert_int_equal(wf_json_next(j), kind);
}

static void tokens_of_memory(const char *text, size_t len, unsigned int flags, char *out, size_t size)
{
	struct wf_json j;
	wf_json_init_memory(&j, text, len, flags);
	tokens(&j, out, size);
	wf_json_free(&j);
}

static void test_texts(void **state)
{
	static const struct {
		const char *text, *tokens;
		unsigned int flags;
	} lines[] = {
		{"{}", "{}.", 0},
		{" [ ] ", "[].", 0},
		{"{\"a\": [1, -2.5e+3, true, false, null], \"b\": {\"c\": \"d\"}}",
		 "{k<a>[n<1>n<-2.5e+3>tf0]k<b>{k<c>s<d>}}.", 0},
		{"\t\r\n{\"a\"\n:\t1\r,\"a\":2}\n", "{k<a>n<1>k<a>n<2>}.", 0},
		{"\"\"", "s<>.", 0},
		{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s<\"\\/\b\f\n\r\t>.", 0},
		{"\"\\u00e9\\ud83d\\ude00x\\u0041\"", "s<\xc3\xa9\xf0\x9f\x98\x80xA>.", 0},
		{"\"\\ud83d\\ud83d\\ude00\"", "s<\xed\xa0\xbd\xf0\x9f\x98\x80>.", WF_JSON_SURROGATES},
		{"\"\\ud83dx\\ude00\"", "s<\xed\xa0\xbdx\xed\xb8\x80>.", WF_JSON_SURROGATES},
		{"\"\\ud83d\\n\\ud83d\"", "s<\xed\xa0\xbd\n\xed\xa0\xbd>.", WF_JSON_SURROGATES},
		{"\"\xed\xa0\xbd\"", "s<\xed\xa0\xbd>.", WF_JSON_SURROGATES},
		{"\"\\ud83d\"", "!half of a surrogate pair", 0},
		{"\"\\ud83d\\n\"", "!half of a surrogate pair", 0},
		{"\"\\ud83dx\"", "!half of a surrogate pair", 0},
		{"\"\\ude00\"", "!half of a surrogate pair", 0},
		{"\"\\ud83d\\ud83d\\ude00\"", "!half of a surrogate pair", 0},
		{"\"\xed\xa0\xbd\"", "!a string that is not UTF-8", 0},
		{"0", "n<0>.", 0},
		{"-0.0E-0", "n<-0.0E-0>.", 0},
		{"True", "!a word that is no value", 0},
		{"[True, NaN, -Infinity, +1, 007, .5, 5., 1e5, null]",
		 "[w<True>w<NaN>w<-Infinity>w<+1>w<007>w<.5>w<5.>n<1e5>0].", WF_JSON_WORDS},
		{"01", "!a word that is no value", 0},
		{"1.", "!a word that is no value", 0},
		{".1", "!a word that is no value", 0},
		{"+1", "!a word that is no value", 0},
		{"1e", "!a word that is no value", 0},
		{"-", "!a word that is no value", 0},
		{"nulls", "!a word that is no value", 0},
		{"1_000", "n<1>!something stands behind the value", 0},
		{"[1,]", "[n<1>!a value was expected", 0},
		{"[,1]", "[!a value was expected", 0},
		{"[1 2]", "[n<1>!a comma was expected", 0},
		{"[1}", "[n<1>!a comma was expected", 0},
		{"[}", "[!a value was expected", 0},
		{"{]", "{!a key was expected", 0},
		{"{\"a\": 1,}", "{k<a>n<1>!a key was expected", 0},
		{"{1: 2}", "{!a key was expected", 0},
		{"{\"a\" 1}", "{!a colon was expected", 0},
		{"{\"a\": }", "{k<a>!a value was expected", 0},
		{"{\"a\": 1 \"b\": 2}", "{k<a>n<1>!a comma was expected", 0},
		{"[1] [2]", "[n<1>]!something stands behind the value", 0},
		{"]", "!a value was expected", 0},
		{"", "!the text ends too early", 0},
		{" ", "!the text ends too early", 0},
		{"[", "[!the text ends too early", 0},
		{"{", "{!the text ends too early", 0},
		{"[1", "[n<1>!the text ends too early", 0},
		{"\"a", "!a string that does not end", 0},
		{"\"a\\", "!an escape that does not exist", 0},
		{"\"\n\"", "!a control character in a string", 0},
		{"\"a\nb\tc\"", "s<a\nb\tc>.", WF_JSON_CONTROLS},
		{"\"\\x41\"", "!an escape that does not exist", 0},
		{"\"\\u12g4\"", "!an escape that does not exist", 0},
		{"\"\\u12", "!an escape that does not exist", 0},
		{"\"\xff\"", "!a string that is not UTF-8", 0},
		{"\"\xe2\x82\"", "!a string that is not UTF-8", 0},
		{"\xef\xbb\xbf{}",
		 "!a byte-order mark (BOM, the bytes ef bb bf) stands there, which JSON does not allow: save the text as UTF-8 without BOM",
		 0},
		{"\xff\xfe{",
		 "!a byte-order mark (BOM) of UTF-16 stands there, and JSON is UTF-8: save the text as UTF-8 without BOM",
		 0},
		{"\xef\xbb\xbe{}", "!a value was expected", 0},
	};
	char out[512];
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		tokens_of_memory(lines[i].text, strlen(lines[i].text), lines[i].flags, out, sizeof out);
		if (strcmp(out, lines[i].tokens))
			print_error("text: %s\n", lines[i].text);
		assert_string_equal(out, lines[i].tokens);
	}
	/* NUL is a byte as any other that is out of place */
	tokens_of_memory("[\0]", 3, 0, out, sizeof out);
	assert_string_equal(out, "[!a value was expected");
	tokens_of_memory("\"\\\0\"", 4, 0, out, sizeof out);
	assert_string_equal(out, "!an escape that does not exist");
	tokens_of_memory("1\0", 2, 0, out, sizeof out);
	assert_string_equal(out, "n<1>!something stands behind the value");
}

static void test_depth(void **state)
{
	char text[2 * WF_JSON_MAX_DEPTH + 4], out[1024];
	for (uint32_t depth = WF_JSON_MAX_DEPTH; depth <= WF_JSON_MAX_DEPTH + 1; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		tokens_of_memory(text, (size_t)depth * 2, 0, out, sizeof out);
		assert_int_equal(strstr(out, "!it is nested too deeply") != NULL, depth > WF_JSON_MAX_DEPTH);
	}
}

/* Where the text is broken is told. */
static void test_place(void **state)
{
	struct wf_json j;
	wf_json_init_memory(&j, "[1, 2, x]", 9, 0);
	for (int i = 0; i < 3; i++)
		assert_true(wf_json_next(&j) > WF_JSON_END);
	assert_int_equal(j.at, 5);
	assert_int_equal(wf_json_next(&j), WF_JSON_BROKEN);
	assert_int_equal(j.at, 8);
	assert_int_equal(j.code, -EUCLEAN);
	wf_json_free(&j);
}

static void test_skip(void **state)
{
	static const char text[] =
		"{\"a\": [{\"b\": [1, {}]}, \"]\"], \"c\": 2, \"d\": [[3], {\"e\": 4}, 5], \"f\": {}}";
	struct wf_json j;
	wf_json_init_memory(&j, text, strlen(text), 0);
	assert_int_equal(wf_json_next(&j), WF_JSON_OBJECT);
	assert_int_equal(wf_json_next(&j), WF_JSON_KEY);
	assert_true(wf_json_skip(&j, WF_JSON_KEY));
	assert_int_equal(wf_json_next(&j), WF_JSON_KEY);
	assert_string_equal(j.text, "c");
	assert_true(wf_json_skip(&j, WF_JSON_KEY));
	assert_int_equal(wf_json_next(&j), WF_JSON_KEY);
	assert_int_equal(wf_json_next(&j), WF_JSON_ARRAY);
	assert_int_equal(wf_json_next(&j), WF_JSON_ARRAY);
	assert_true(wf_json_skip(&j, WF_JSON_ARRAY));
	assert_int_equal(wf_json_next(&j), WF_JSON_OBJECT);
	assert_true(wf_json_skip(&j, WF_JSON_OBJECT));
	assert_int_equal(wf_json_next(&j), WF_JSON_NUMBER);
	assert_true(wf_json_skip(&j, WF_JSON_NUMBER));
	assert_string_equal(j.text, "5");
	assert_int_equal(wf_json_next(&j), WF_JSON_ARRAY_END);
	assert_int_equal(wf_json_next(&j), WF_JSON_KEY);
	assert_true(wf_json_skip(&j, WF_JSON_KEY));
	assert_int_equal(wf_json_next(&j), WF_JSON_OBJECT_END);
	assert_int_equal(wf_json_next(&j), WF_JSON_END);
	wf_json_free(&j);

	wf_json_init_memory(&j, "[[1, 2}", 7, 0);
	assert_false(wf_json_skip(&j, wf_json_next(&j)));
	assert_string_equal(j.error, "a comma was expected");
	wf_json_free(&j);
}

/* Strings end where a cursor's window ends, in every way; longer ones are passed over in pieces, and refused where they
 * would have to be held. */
static void test_long_strings(void **state)
{
	static const char repeated[] = "\xf0\x9f\x98\x80\\ud83d\\ude00a";
	struct wf_buffer text = WF_BUFFER_INIT;
	struct wf_source *source = NULL;
	struct wf_cursor c;
	struct wf_json j;
	wf_buffer_puts(&text, "[\"");
	while (text.len < 1u << 20)
		wf_buffer_append(&text, repeated, sizeof repeated - 1);
	char *rest = calloc(1, WF_JSON_MAX_STRING);
	memset(rest, 'a', WF_JSON_MAX_STRING);
	wf_buffer_append(&text, rest, WF_JSON_MAX_STRING);
	free(rest);
	wf_buffer_puts(&text, "\"]");
	size_t len = text.len;
	assert_int_equal(wf_source_from_memory(wf_buffer_steal(&text), len, true, &source), 0);
	for (int skip = 0; skip <= 1; skip++) {
		assert_int_equal(wf_cursor_init_source(&c, source, 0, len), 0);
		wf_json_init(&j, &c, 0);
		assert_int_equal(wf_json_next(&j), WF_JSON_ARRAY);
		if (skip) {
			assert_true(wf_json_skip(&j, WF_JSON_ARRAY));
			assert_int_equal(wf_json_next(&j), WF_JSON_END);
			assert_true(j.text_buffer.cap <= 1u << 20);
		} else {
			assert_int_equal(wf_json_next(&j), WF_JSON_BROKEN);
			assert_int_equal(j.code, -E2BIG);
		}
		wf_json_free(&j);
		wf_cursor_free(&c);
	}
	/* what the source does not have is no end of the text */
	assert_int_equal(wf_cursor_init_source(&c, source, 0, len), 0);
	wf_json_init(&j, &c, 0);
	c.ok = false;
	c.error = -ESTALE;
	assert_int_equal(wf_json_next(&j), WF_JSON_BROKEN);
	assert_int_equal(j.code, -ESTALE);
	assert_string_equal(j.error, "it cannot be read");
	wf_json_free(&j);
	wf_cursor_free(&c);
	wf_source_unref(source);
}

/* The header of a safetensors file with 100,000 tensors, through the window of a cursor. */
static void test_header(void **state)
{
	enum { TENSORS = 100000 };
	struct wf_buffer text = WF_BUFFER_INIT;
	struct wf_source *source = NULL;
	struct wf_cursor c;
	struct wf_json j;
	wf_buffer_putc(&text, '{');
	for (int i = 0; i < TENSORS; i++)
		wf_buffer_printf(
			&text,
			"%s\"model.layers.%d.weight\":{\"dtype\":\"F32\",\"shape\":[%d,4096],\"data_offsets\":[%d,%d]}",
			i ? "," : "", i, i, i * 4, i * 4 + 4);
	wf_buffer_putc(&text, '}');
	size_t len = text.len;
	assert_int_equal(wf_source_from_memory(wf_buffer_steal(&text), len, true, &source), 0);
	assert_int_equal(wf_cursor_init_source(&c, source, 0, len), 0);
	wf_json_init(&j, &c, 0);
	uint32_t kinds[WF_JSON_WORD + 1] = {0};
	enum wf_json_kind kind;
	while ((kind = wf_json_next(&j)) > WF_JSON_END)
		kinds[kind]++;
	assert_int_equal(kind, WF_JSON_END);
	assert_int_equal(kinds[WF_JSON_KEY], 4 * TENSORS);
	assert_int_equal(kinds[WF_JSON_NUMBER], 4 * TENSORS);
	assert_int_equal(kinds[WF_JSON_STRING], TENSORS);
	assert_int_equal(kinds[WF_JSON_OBJECT_END], TENSORS + 1);
	wf_json_free(&j);
	wf_cursor_free(&c);
	wf_source_unref(source);
}

static void test_writer(void **state)
{
	static const struct {
		const char *s;
		size_t len;
		const char *json;
	} lines[] = {
		{"", 0, "\"\""},
		{"conv1.weight", 12, "\"conv1.weight\""},
		{"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
		{"\n\t\r\0\x01\x1f\x7f", 7, "\"\\n\\t\\r\\u0000\\u0001\\u001f\x7f\""},
		{"\xed\x95\x9c\xed\xa0\xbd\xed", 7, "\"\xed\x95\x9c\\ud83d\xed\""},
	};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		struct wf_buffer out = WF_BUFFER_INIT;
		wf_json_string(&out, lines[i].s, lines[i].len);
		assert_string_equal(out.data, lines[i].json);
		wf_buffer_free(&out);
	}
	struct wf_buffer out = WF_BUFFER_INIT;
	wf_json_ints(&out, (const int64_t[]){6, -3, INT64_MIN}, 3);
	wf_json_ints(&out, NULL, 0);
	assert_string_equal(out.data, "[6, -3, -9223372036854775808][]");
	wf_buffer_free(&out);
}

/* What the writer writes, the reader reads: every byte below 0x80, a lone surrogate, other scripts. */
static void test_round_trip(void **state)
{
	char all[160];
	size_t len = 0;
	for (int c = 0; c < 0x80; c++)
		all[len++] = (char)c;
	memcpy(all + len, "\xed\xa0\xbd\xc3\xa9\xf0\x9f\x98\x80", 9);
	len += 9;
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_json_string(&text, all, len);
	struct wf_json j;
	wf_json_init_memory(&j, text.data, text.len, WF_JSON_SURROGATES);
	assert_int_equal(wf_json_next(&j), WF_JSON_STRING);
	assert_int_equal(j.text_len, len);
	assert_memory_equal(j.text, all, len);
	assert_int_equal(wf_json_next(&j), WF_JSON_END);
	wf_json_free(&j);
	wf_buffer_free(&text);
}

/* What is looked at eight bytes at a time is escaped as what is looked at alone: each byte of ASCII at each place. */
static void test_eight_at_once(void **state)
{
	for (int c = 0; c < 0x80; c++)
		for (size_t at = 0; at < 17; at++) {
			struct wf_buffer alone = WF_BUFFER_INIT, whole = WF_BUFFER_INIT, expected = WF_BUFFER_INIT;
			char text[18], one = (char)c;
			wf_json_string(&alone, &one, 1);
			snprintf(text, sizeof text, "%*s", 17, "");
			text[at] = one;
			wf_json_string(&whole, text, 17);
			wf_buffer_printf(&expected, "\"%*s%.*s%*s\"", (int)at, "", (int)alone.len - 2, alone.data + 1,
					 (int)(16 - at), "");
			assert_string_equal(whole.data, expected.data);
			wf_buffer_free(&alone);
			wf_buffer_free(&whole);
			wf_buffer_free(&expected);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),         cmocka_unit_test(test_depth),
		cmocka_unit_test(test_place),         cmocka_unit_test(test_skip),
		cmocka_unit_test(test_header),        cmocka_unit_test(test_writer),
		cmocka_unit_test(test_long_strings),  cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_eight_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
