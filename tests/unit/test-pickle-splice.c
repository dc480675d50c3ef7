/* SPDX-License-Identifier: MIT */
/* Where strings and frames stand in a pickle, and one string written anew in its form. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "pickle-kit.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static int append(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(ctx, data, len);
	return wf_buffer_status(ctx);
}

/* Reads the pickle with its places. */
static wf_ref read_places(const char *data, size_t len, struct wf_graph **ret_graph, struct wf_pickle_places *places)
{
	const struct wf_pickle_reader reader = {.places = places};
	struct wf_source *s = NULL;
	struct wf_error err = {0};
	uint64_t end;
	wf_ref root = WF_NIL;
	assert_int_equal(wf_source_from_memory((void *)data, len, false, &s), 0);
	assert_int_equal(wf_graph_new(ret_graph), 0);
	if (wf_pickle_read(*ret_graph, s, 0, len, &reader, &root, &end, &err) < 0)
		fail_msg("%s", err.text);
	wf_source_unref(s);
	return root;
}

/* The bytes that a string of any kind stands for in latin-1. */
static size_t bytes_of(const struct wf_graph *g, wf_ref r, unsigned char *ret)
{
	size_t len, n = 0;
	const unsigned char *s = (const unsigned char *)wf_bytes(g, r, &len);
	if (!wf_is(g, r, WF_STR)) {
		memcpy(ret, s, len);
		return len;
	}
	for (size_t i = 0; i < len; i += s[i] < 0x80 ? 1 : 2, n++)
		ret[n] = s[i] < 0x80 ? s[i] : (unsigned char)((s[i] & 3) << 6 | (s[i + 1] & 0x3f));
	return n;
}

static const struct {
	const char *name, *data;
	size_t len;
} forms[] = {
	{"SHORT_BINBYTES", LIT("C\2ab")},
	{"BINBYTES", LIT("B\2\0\0\0ab")},
	{"BINBYTES8", LIT("\x8e\2\0\0\0\0\0\0\0ab")},
	{"BYTEARRAY8", LIT("\x96\2\0\0\0\0\0\0\0ab")},
	{"SHORT_BINSTRING", LIT("U\2ab")},
	{"BINSTRING", LIT("T\2\0\0\0ab")},
	{"SHORT_BINUNICODE", LIT("\x8c\2ab")},
	{"BINUNICODE", LIT("X\2\0\0\0ab")},
	{"BINUNICODE8", LIT("\x8d\2\0\0\0\0\0\0\0ab")},
	{"UNICODE", LIT("Vab\n")},
	{"STRING", LIT("S'ab'\n")},
};

/* (1, the string, None), with the string in each form; then with all other bytes in its place. */
static void test_forms(void **state)
{
	unsigned char all[256], got[256];
	for (unsigned i = 0; i < sizeof all; i++)
		all[i] = (unsigned char)(255 - i);
	for (size_t i = 0; i < COUNT(forms); i++) {
		struct wf_buffer old = WF_BUFFER_INIT, new = WF_BUFFER_INIT;
		struct wf_pickle_places places = {0}, again = {0};
		struct wf_graph *g, *h;
		struct wf_error err = {0};
		wf_buffer_append(&old, "K\1", 2);
		wf_buffer_append(&old, forms[i].data, forms[i].len);
		wf_buffer_append(&old, "N\x87.", 3);
		wf_ref root = read_places(old.data, old.len, &g, &places);
		assert_int_equal(places.count, 1);
		if (places.all[0].start != 2 || places.all[0].end != 2 + forms[i].len ||
		    places.all[0].string != wf_element(g, root, 1))
			fail_msg("%s: %u to %u", forms[i].name, (unsigned)places.all[0].start,
				 (unsigned)places.all[0].end);
		/* a form of one byte's length takes 128 of them as letters, and becomes a longer one where it must */
		bool narrow = !strncmp(forms[i].name, "SHORT_", 6) && strcmp(forms[i].name, "SHORT_BINUNICODE") != 0;
		size_t n = narrow ? 255 : 256;
		wf_ref bytes = wf_string(g, WF_BYTES, all, n);
		const struct wf_pickle_writer writer = {.write = append, .ctx = &new};
		wf_buffer_append(&new, old.data, 2);
		if (wf_pickle_write_bytes_as(g, bytes, (uint8_t)forms[i].data[0], &writer, &err) < 0)
			fail_msg("%s: %s", forms[i].name, err.text);
		wf_buffer_append(&new, "N\x87.", 3);
		root = read_places(new.data, new.len, &h, &again);
		if (bytes_of(h, wf_element(h, root, 1), got) != n || memcmp(got, all, n) != 0)
			fail_msg("%s: other bytes", forms[i].name);
		assert_int_equal(again.all[0].end, new.len - 3);
		wf_graph_free(g);
		wf_graph_free(h);
		free(places.all);
		free(again.all);
		wf_buffer_free(&old);
		wf_buffer_free(&new);
	}
}

static void test_frames(void **state)
{
	static const char data[] = "\x80\4\x95\5\0\0\0\0\0\0\0C\1a\x94\x94\x95\2\0\0\0\0\0\0\0\x30N.";
	struct wf_pickle_places places = {0};
	struct wf_graph *g;
	unsigned char frame[WF_PICKLE_FRAME_BYTES];
	read_places(data, sizeof data - 1, &g, &places);
	assert_int_equal(places.count, 3);
	assert_true(places.all[0].string == WF_NIL && places.all[0].start == 2 && places.all[0].end == 16);
	assert_true(places.all[1].string != WF_NIL && places.all[1].start == 11 && places.all[1].end == 14);
	assert_true(places.all[2].string == WF_NIL && places.all[2].start == 16 && places.all[2].end == 27);
	wf_pickle_frame(frame, 5);
	assert_memory_equal(frame, data + 2, sizeof frame);
	wf_graph_free(g);
	free(places.all);
}

static void test_no_string(void **state)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	const struct wf_pickle_writer writer = {.write = append, .ctx = &out};
	struct wf_graph *g;
	assert_int_equal(wf_graph_new(&g), 0);
	for (unsigned op = 0; op < 256; op++) {
		bool known = false;
		for (size_t i = 0; i < COUNT(forms); i++)
			known |= (unsigned char)forms[i].data[0] == op;
		int r = wf_pickle_write_bytes_as(g, wf_string(g, WF_BYTES, "ab", 2), (uint8_t)op, &writer, NULL);
		assert_int_equal(r, known ? 0 : -EINVAL);
	}
	wf_buffer_free(&out);
	wf_graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_no_string),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
