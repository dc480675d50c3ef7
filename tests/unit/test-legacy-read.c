/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "opened-kit.h"

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"

#define BYTES(b) b, sizeof(b) - 1

static const char magic[] = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
static const char version[] = "\x80\x02M\xe9\x03.";
static const char sys_info[] = "\x80\x02}X\x10\0\0\0protocol_versionM\xe9\x03s.";

static void i64(struct wf_buffer *b, int64_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

static void start(struct wf_buffer *b)
{
	wf_buffer_append(b, magic, sizeof magic - 1);
	wf_buffer_append(b, version, sizeof version - 1);
	wf_buffer_append(b, sys_info, sizeof sys_info - 1);
}

/* {'w': storage '1' of 4 floats, 'v': a view of it, 'u': storage '2' of 3 bytes with Python 2 strings} */
static const char object[] = "\x80\x02}(X\1\0\0\0w(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
			     "1X\3\0\0\0cpuK\4NtQX\1\0\0\0v(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
			     "1X\3\0\0\0cpuK\4(X\2\0\0\0v1K\1K\2ttQU\1u(U\7storagectorch\nByteStorage\nU\1"
			     "2U\3cpuK\3NtQu.";
static const char keys[] = "\x80\x02](U\1"
			   "2X\1\0\0\0"
			   "1e.";

static void data(struct wf_buffer *b)
{
	i64(b, 3);
	wf_buffer_append(b, "xyz", 3);
	i64(b, 4);
	wf_buffer_append(b, "0123456789abcdef", 16);
}

/* Takes the buffer's bytes. */
static int open_buffer(struct wf_buffer *b, struct opened *o)
{
	assert_int_equal(wf_buffer_status(b), 0);
	int r = open_bytes(b->data, b->len, o);
	wf_buffer_free(b);
	return r;
}

static void test_whole(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	struct opened o;
	start(&b);
	uint64_t object_at = b.len;
	wf_buffer_append(&b, object, sizeof object - 1);
	wf_buffer_append(&b, keys, sizeof keys - 1);
	uint64_t data_at = b.len;
	data(&b);
	wf_buffer_puts(&b, "another stream may follow");
	assert_int_equal(open_buffer(&b, &o), 0);
	assert_int_equal(wf_container_kind_of(o.c), WF_CONTAINER_LEGACY);
	assert_string_equal(wf_container_kind_name(o.c), "legacy");
	assert_string_equal(wf_container_prefix(o.c), "");
	static const char *const names[] = {"magic", "protocol",  "sys_info", "object",
					    "keys",  "storage/2", "storage/1"};
	assert_int_equal(wf_container_count(o.c), WF_ARRAY_SIZE(names));
	for (uint32_t i = 0; i < WF_ARRAY_SIZE(names); i++) {
		assert_string_equal(wf_container_record(o.c, i)->name, names[i]);
		assert_int_equal(wf_container_find(o.c, names[i]), i);
	}
	assert_int_equal(wf_container_record(o.c, 3)->header_offset, object_at);
	assert_int_equal(wf_container_storage_record(o.c, "1", 1), 6);
	assert_int_equal(wf_container_storage_record(o.c, "3", 1), WF_NO_RECORD);
	uint32_t n = 0;
	const uint32_t *order = wf_container_storage_order(o.c, &n);
	assert_int_equal(n, 2);
	assert_int_equal(order[0], 5);
	assert_int_equal(order[1], 6);
	uint64_t at = 0;
	assert_int_equal(wf_container_locate(o.c, 5, &at, &err), 0);
	assert_int_equal(at, data_at + 8);
	struct wf_source *s = NULL;
	char got[16];
	assert_int_equal(wf_container_open_record(o.c, 6, &s, &err), 0);
	assert_int_equal(wf_source_size(s), 16);
	assert_int_equal(wf_source_read(s, 0, got, 16), 0);
	assert_memory_equal(got, "0123456789abcdef", 16);
	wf_source_unref(s);

	const struct wf_item *items = wf_items(o.g, o.root, &n);
	assert_int_equal(n, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(wf_is(o.g, items[i].value, WF_PERSID));
	/* the view's numbers stay in its id */
	wf_ref view = wf_element(o.g, wf_persid_id(o.g, items[1].value), 5);
	int64_t v = 0;
	assert_true(wf_int_value(o.g, wf_element(o.g, view, 1), &v));
	assert_int_equal(v, 1);
	wf_ref again;
	assert_int_equal(wf_container_load_graph(o.c, o.g, &again, &err), -EINVAL);
	close_opened(&o);
}

static void test_protocols_of_the_magic(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} forms[] = {
		{BYTES("L119547037146038801333356L\n.")},
		{BYTES("\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")},
		{BYTES("\x80\x02\x8b\x0a\0\0\0l\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(forms); i++) {
		struct wf_buffer b = WF_BUFFER_INIT;
		struct opened o;
		wf_buffer_append(&b, forms[i].bytes, forms[i].len);
		wf_buffer_append(&b, version, sizeof version - 1);
		wf_buffer_append(&b, sys_info, sizeof sys_info - 1);
		wf_buffer_append(&b, BYTES("}.]."));
		assert_int_equal(open_buffer(&b, &o), 0);
		assert_true(wf_is(o.g, o.root, WF_DICT));
		close_opened(&o);
	}
}

static void test_not_ours(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int code;
	} cases[] = {
		/* the magic number computed by a call, as a scanner bypass has it: a pickle like any other, and no stream */
		{BYTES("\x80\x02"
		       "c__builtin__\neval\nX\x16\0\0\0"
		       "0x1950a86a20f9469cfc6c\x85R.\x80\x02M\xe9\x03."),
		 0},
		{BYTES("\x80\x02\x8a\x0am\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."), 0},
		{BYTES("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe8\x03."), -EOPNOTSUPP},
		{BYTES("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02}."), -EUCLEAN},
		{BYTES("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."), -EUCLEAN},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_buffer b = WF_BUFFER_INIT;
		struct opened o;
		wf_buffer_append(&b, cases[i].bytes, cases[i].len);
		assert_int_equal(open_buffer(&b, &o), cases[i].code);
		if (cases[i].code == 0)
			assert_int_equal(wf_container_kind_of(o.c), WF_CONTAINER_PICKLE);
		close_opened(&o);
	}
}

static void test_broken(void **state)
{
	static const struct {
		const char *object, *keys;
		size_t object_len, keys_len;
		int64_t count;
		int code;
		const char *says;
	} cases[] = {
		{object,
		 "\x80\x02](X\1\0\0\0"
		 "9e.",
		 sizeof object - 1, 12, 1, -EUCLEAN, "storage/9: the storage is in the list"},
		{object,
		 "\x80\x02](X\1\0\0\0"
		 "1X\1\0\0\0"
		 "1e.",
		 sizeof object - 1, 18, 0, -EUCLEAN, "two records"},
		{object,
		 "\x80\x02](X\1\0\0\0"
		 "1e.",
		 sizeof object - 1, 12, -1, -EUCLEAN, "-1 elements"},
		{object,
		 "\x80\x02](X\1\0\0\0"
		 "1e.",
		 sizeof object - 1, 12, INT64_MAX, -EUCLEAN, "truncated or incomplete"},
		{object,
		 "\x80\x02](X\1\0\0\0"
		 "1e.",
		 sizeof object - 1, 12, 1ll << 62, -EUCLEAN, "truncated or incomplete"},
		{object, "\x80\x02](K\1e.", sizeof object - 1, 8, 0, -EUCLEAN, "keys: key 0"},
		{object, "\x80\x02}.", sizeof object - 1, 4, 0, -EUCLEAN, "not a list"},
		{object,
		 "\x80\x02](X\3\0\0\0"
		 "1\0"
		 "2e.",
		 sizeof object - 1, 14, 0, -EUCLEAN, "NUL"},
		{object, "\x80\x02", sizeof object - 1, 2, 0, -EUCLEAN, "keys"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_buffer b = WF_BUFFER_INIT;
		struct opened o;
		start(&b);
		wf_buffer_append(&b, cases[i].object, cases[i].object_len);
		wf_buffer_append(&b, cases[i].keys, cases[i].keys_len);
		i64(&b, cases[i].count);
		i64(&b, cases[i].count);
		assert_int_equal(open_buffer(&b, &o), cases[i].code);
		assert_says(cases[i].says);
		close_opened(&o);
	}
}

static void test_ids(void **state)
{
	static const struct {
		const char *object;
		size_t len;
		int code;
		const char *says;
	} cases[] = {
		{BYTES("\x80\x02(X\6\0\0\0modulecm\nNet\nNNtQ."), 0, ""},
		{BYTES("\x80\x02(X\6\0\0\0modulecm\nNet\nNtQ."), -EOPNOTSUPP, "persistent id"},
		{BYTES("\x80\x02K\1Q."), -EOPNOTSUPP, "persistent id"},
		{BYTES("\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\nK\1NNNtQ."), -EUCLEAN, "key of a storage"},
		{BYTES("\x80\x02X"), -EUCLEAN, "object, offset 2"},
		/* an unknown class matters only where its data must be passed over */
		{BYTES("\x80\x02(X\7\0\0\0storagecx\nXStorage\nX\1\0\0\0"
		       "1X\3\0\0\0cpuK\1NtQ."),
		 0, ""},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_buffer b = WF_BUFFER_INIT;
		struct opened o;
		start(&b);
		wf_buffer_append(&b, cases[i].object, cases[i].len);
		if (cases[i].object[cases[i].len - 1] == '.')
			wf_buffer_append(&b, BYTES("\x80\x02]."));
		assert_int_equal(open_buffer(&b, &o), cases[i].code);
		if (cases[i].code)
			assert_says(cases[i].says);
		close_opened(&o);
	}
	struct wf_buffer b = WF_BUFFER_INIT;
	struct opened o;
	start(&b);
	wf_buffer_append(&b, cases[5].object, cases[5].len);
	wf_buffer_append(&b, BYTES("\x80\x02](X\1\0\0\0"
				   "1e."));
	i64(&b, 0);
	assert_int_equal(open_buffer(&b, &o), -EOPNOTSUPP);
	assert_says("unknown class \"XStorage\"");
	close_opened(&o);
}

/* Cut anywhere, it is an error; with the data whole, anything after them may be missing. */
static void test_truncated(void **state)
{
	struct wf_buffer whole = WF_BUFFER_INIT;
	start(&whole);
	wf_buffer_append(&whole, object, sizeof object - 1);
	wf_buffer_append(&whole, keys, sizeof keys - 1);
	data(&whole);
	for (size_t len = 0; len <= whole.len; len++) {
		struct wf_buffer b = WF_BUFFER_INIT;
		struct opened o;
		wf_buffer_append(&b, whole.data, len);
		int r = open_buffer(&b, &o);
		assert_true(len == whole.len ? r == 0 : r == -EUCLEAN || (len < sizeof magic - 1 && r == -EMEDIUMTYPE));
		close_opened(&o);
	}
	wf_buffer_free(&whole);
}

static void test_many_small_storages(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT, list = WF_BUFFER_INIT;
	struct opened o;
	start(&b);
	wf_buffer_append(&b, BYTES("\x80\x02]("));
	wf_buffer_append(&list, BYTES("\x80\x02]("));
	for (uint32_t i = 0; i < 20000; i++) {
		char key[16];
		uint32_t len = (uint32_t)snprintf(key, sizeof key, "%u", i * 7919u);
		wf_buffer_append(&b, BYTES("(X\7\0\0\0storagectorch\nByteStorage\nX"));
		wf_buffer_append(&b, &len, 4);
		wf_buffer_append(&b, key, len);
		wf_buffer_append(&b, BYTES("X\3\0\0\0cpuK\1NtQ"));
		wf_buffer_putc(&list, 'X');
		wf_buffer_append(&list, &len, 4);
		wf_buffer_append(&list, key, len);
	}
	wf_buffer_append(&b, BYTES("e."));
	wf_buffer_append(&list, BYTES("e."));
	wf_buffer_append(&b, list.data, list.len);
	wf_buffer_free(&list);
	for (uint32_t i = 0; i < 20000; i++) {
		i64(&b, i % 5 == 0 ? 5000 : i % 5);
		for (uint32_t k = 0; k < (i % 5 == 0 ? 5000 : i % 5); k++)
			wf_buffer_putc(&b, (char)i);
	}
	assert_int_equal(open_buffer(&b, &o), 0);
	for (uint32_t i = 0; i < 20000; i += 101) {
		char key[16];
		unsigned char byte = 0;
		int len = snprintf(key, sizeof key, "%u", i * 7919u);
		uint32_t r = wf_container_storage_record(o.c, key, (size_t)len);
		assert_int_equal(r, i + 5);
		assert_int_equal(wf_container_record(o.c, r)->size_bytes, i % 5 == 0 ? 5000 : i % 5);
		assert_int_equal(
			wf_source_read(wf_container_file(o.c), wf_container_record(o.c, r)->header_offset, &byte, 1),
			0);
		assert_int_equal(byte, i & 0xff);
	}
	close_opened(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_protocols_of_the_magic),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_many_small_storages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
