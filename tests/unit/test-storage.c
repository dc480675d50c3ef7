/* SPDX-License-Identifier: MIT */
#include "tensor-kit.h"

#include <fcntl.h>

#include "codec/tensor/storage_inner.h"

static unsigned char content[400000];

static void fill(void)
{
	uint64_t seed = 17;

	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (unsigned char)(kit_random(&seed) >> 24);
}

static void assert_bytes(struct kit *k, uint32_t i, uint64_t offset, const void *want, size_t len)
{
	unsigned char *got = malloc(len + 1);

	got[len] = 0xa5;
	assert_int_equal(wf_storage_read(k->ss, i, offset, got, len), 0);
	assert_memory_equal(got, want, len);
	assert_int_equal(got[len], 0xa5);
	free(got);
}

static void assert_bad(struct kit *k, uint32_t i, int code, const char *text)
{
	char byte;

	assert_int_equal(wf_storage_get(k->ss, i)->bad, code);
	assert_int_equal(wf_storage_read(k->ss, i, 0, &byte, 1), code);
	if (!strstr(wf_storage_problem(k->ss, i), text))
		fail_msg("\"%s\" is not in \"%s\"", text, wf_storage_problem(k->ss, i));
}

static void finds_storages(void **state)
{
	struct kit k;

	assert_true(sizeof(struct wf_storage) <= 56);
	kit_init(&k);
	kit_record(&k, "0", "abcdefgh", 8, false);
	kit_record(&k, "x", "12345678", 8, true);
	wf_ref a = kit_persid(&k, "FloatStorage", "0", 2), again = kit_persid(&k, "FloatStorage", "0", 2);
	wf_ref x = kit_persid(&k, "UntypedStorage", "x", 8);
	wf_ref other = wf_persid(k.g, wf_str(k.g, "no storage"));
	kit_open(&k);
	assert_int_equal(wf_storages_count(k.ss), 2);
	assert_int_equal(wf_storage_of(k.ss, a), 0);
	assert_int_equal(wf_storage_of(k.ss, again), 0);
	assert_int_equal(wf_storage_of(k.ss, x), 1);
	assert_int_equal(wf_storage_of(k.ss, other), WF_NO_STORAGE);
	assert_int_equal(wf_storage_of(k.ss, WF_NIL), WF_NO_STORAGE);
	assert_null(wf_storage_get(k.ss, 2));
	const struct wf_storage *s = wf_storage_get(k.ss, 0);
	assert_int_equal(s->persid, a);
	assert_int_equal(s->dtype, WF_FLOAT32);
	assert_true(s->size_bytes == 8 && s->base_bytes == 8 && !s->untyped && !s->bad);
	assert_string_equal(wf_storage_key(k.ss, 1), "x");
	assert_string_equal(wf_storage_location(k.ss, 1), "cpu");
	assert_string_equal(wf_storage_problem(k.ss, 1), "");
	assert_bytes(&k, 0, 2, "cdef", 4);
	assert_bytes(&k, 1, 0, "12345678", 8);
	char buf[9];
	assert_int_equal(wf_storage_read(k.ss, 0, 1, buf, 8), -EUCLEAN);
	assert_int_equal(wf_storage_read(k.ss, 0, UINT64_MAX, buf, 8), -EUCLEAN);
	assert_int_equal(wf_storage_read(k.ss, 2, 0, buf, 1), -EUCLEAN);
	kit_close(&k);
}

/* A zip finds records without regard to case, but two spellings are two keys, as for torch. */
static void spelled_keys(void **state)
{
	static const char *const keys[] = {"b", "a", "A", "a", "A", "gone", "B", "b", "gone"};
	static const uint32_t want[] = {0, 1, 2, 1, 2, 3, 4, 0, 3};
	wf_ref refs[WF_ARRAY_SIZE(keys)];
	struct kit k;

	kit_init(&k);
	kit_record(&k, "a", "12345678", 8, false);
	kit_record(&k, "b", "abcdefgh", 8, false);
	for (size_t i = 0; i < WF_ARRAY_SIZE(keys); i++)
		refs[i] = kit_persid(&k, "ByteStorage", keys[i], 8);
	kit_open(&k);
	assert_int_equal(wf_storages_count(k.ss), 5);
	for (size_t i = 0; i < WF_ARRAY_SIZE(keys); i++)
		assert_int_equal(wf_storage_of(k.ss, refs[i]), want[i]);
	assert_bytes(&k, 0, 0, "abcdefgh", 8);
	assert_bytes(&k, 1, 0, "12345678", 8);
	assert_bytes(&k, 2, 0, "12345678", 8);
	assert_bytes(&k, 4, 0, "abcdefgh", 8);
	assert_bad(&k, 3, -EUCLEAN, "no record for storage gone");
	kit_close(&k);
}

static void bad_ids(void **state)
{
	struct kit k;
	struct wf_graph *g;

	kit_init(&k);
	g = k.g;
	kit_record(&k, "long", "123456789", 9, false);
	kit_record(&k, "two", "12345678", 8, false);
	kit_record(&k, "empty", "", 0, false);
	kit_record(&k, "class", "12345678", 8, false);
	kit_record(&k, "fine", "12345678", 8, false);
	kit_record(&k, "-3", "1", 1, false);
	kit_persid(&k, "FloatStorage", "missing", 2); /* 0 */
	kit_persid(&k, "FloatStorage", "long", 2);    /* 1 */
	kit_persid(&k, "FloatStorage", "two", 2);     /* 2 */
	kit_persid(&k, "FloatStorage", "two", 1);
	kit_persid(&k, "FloatStorage", "empty", 0); /* 3 */
	kit_persid(&k, "LongStorage", "empty", 0);
	kit_persid(&k, "NoStorage", "class", 2);                /* 4 */
	kit_persid(&k, "FloatStorage", "negative", -1);         /* 5 */
	kit_persid(&k, "DoubleStorage", "huge", INT64_MAX / 4); /* 6 */
	kit_persid(&k, "UntypedStorage", "fine", 8);            /* 7 */
	kit_persid(&k, "DoubleStorage", "fine", 1);
	wf_ref class = wf_global_named(g, "torch", "ByteStorage"), one = wf_int(g, 1);
	wf_ref storage = wf_str(g, "storage"), cpu = wf_str(g, "cpu"), key = wf_str(g, "odd");
	wf_persid(g, TUPLE(g, storage, class, wf_int(g, -3), cpu, one)); /* 8 */
	wf_ref list_key = wf_persid(g, TUPLE(g, storage, class, wf_list(g), cpu, one));
	wf_ref four = wf_persid(g, TUPLE(g, storage, class, key, cpu));
	wf_persid(g, TUPLE(g, storage, class, key, cpu, wf_str(g, "1")));                     /* 9 */
	wf_persid(g, TUPLE(g, storage, class, wf_str(g, "many"), cpu, one, wf_none(g), one)); /* 10 */
	kit_open(&k);
	assert_int_equal(wf_storages_count(k.ss), 11);
	assert_bad(&k, 0, -EUCLEAN, "no record for storage missing");
	assert_bad(&k, 1, -EUCLEAN, "record data/long holds 9 bytes, its storage 8");
	assert_bad(&k, 2, -EUCLEAN, "storage two has 8 bytes by one id and 4 by another");
	assert_int_equal(wf_storage_get(k.ss, 3)->bad, 0);
	assert_bad(&k, 4, -EUCLEAN, "not a storage class");
	assert_bad(&k, 5, -EUCLEAN, "not an int of 0 or more");
	assert_bad(&k, 6, -EUCLEAN, "larger than any file");
	assert_int_equal(wf_storage_get(k.ss, 7)->bad, 0);
	assert_bytes(&k, 7, 0, "12345678", 8);
	assert_bytes(&k, 8, 0, "1", 1);
	assert_int_equal(wf_storage_of(k.ss, list_key), WF_NO_STORAGE);
	assert_int_equal(wf_storage_of(k.ss, four), WF_NO_STORAGE);
	assert_bad(&k, 9, -EUCLEAN, "not an int");
	assert_bad(&k, 10, -EUCLEAN, "more than six parts");
	kit_close(&k);
}

static void many_storages(void **state)
{
	enum { N = 3000 };
	struct kit k;
	wf_ref persid[N];
	char key[16];

	kit_init(&k);
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "%d", i);
		kit_record(&k, key, &i, sizeof i, i % 2);
		persid[i] = kit_persid(&k, "IntStorage", key, 1);
	}
	kit_open(&k);
	assert_int_equal(wf_storages_count(k.ss), N);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < N; i++) {
			assert_int_equal(wf_storage_of(k.ss, persid[i]), i);
			assert_bytes(&k, (uint32_t)i, 0, &i, sizeof i);
		}
	assert_true(k.ss->decoded_count <= 256);
	kit_close(&k);
}

static void big_endian(void **state)
{
	struct kit k;

	kit_init(&k);
	zb_add_text(&k.zb, "a/byteorder", "big");
	kit_record(&k, "0", "\1\2\3\4\5\6\7\10", 8, false);
	kit_record(&k, "1", "\1\2\3\4\5\6\7\10", 8, true);
	kit_record(&k, "2", "\1\2\3\4\5\6\7\10", 8, false);
	kit_persid(&k, "IntStorage", "0", 2);
	kit_persid(&k, "ComplexFloatStorage", "1", 1);
	kit_persid(&k, "UntypedStorage", "2", 8);
	kit_open(&k);
	for (uint64_t from = 0; from <= 8; from++)
		for (uint64_t len = 0; len <= 8 - from; len++)
			for (uint32_t i = 0; i < 2; i++)
				assert_bytes(&k, i, from, "\4\3\2\1\10\7\6\5" + from, len);
	assert_bytes(&k, 2, 0, "\1\2\3\4\5\6\7\10", 8);
	struct wf_file_run run;
	assert_false(wf_storage_locate(k.ss, 0, 0, &run));
	/* a cut through an element, then read up to it */
	assert_int_equal(wf_storage_resize(k.ss, 0, 6), 0);
	assert_int_equal(wf_storage_resize(k.ss, 1, 6), 0);
	assert_bytes(&k, 0, 0, "\4\3\2\1\10\7", 6);
	assert_bytes(&k, 1, 3, "\1\10\7", 3);
	kit_close(&k);
}

/* Bytes of arrays inside the pickle: as bytes, as latin-1 text, and shared between two arrays. */
static void arrays(void **state)
{
	struct kit k;
	uint64_t seed = 5;
	unsigned char byte = 9;

	fill();
	kit_init(&k);
	struct wf_graph *g = k.g;
	wf_ref u1 = kit_dtype(&k, "u1", "|"), shape = INTS(&k, sizeof content);
	wf_ref text = kit_array(&k, shape, u1, false, kit_latin1(&k, content, sizeof content));
	wf_ref shared = kit_latin1(&k, "\x81", 1);
	wf_ref one = kit_array(&k, INTS(&k, 1), u1, false, shared), two = kit_array(&k, INTS(&k, 1), u1, false, shared);
	wf_ref plain = kit_array(&k, INTS(&k, 3), u1, false, wf_string(g, WF_BYTES, "abc", 3));
	wf_ref wide =
		kit_call(&k, "_codecs", "encode", TUPLE(g, wf_string(g, WF_STR, "a\xc4\x80", 3), wf_str(g, "latin1")));
	wf_ref cut = kit_call(&k, "_codecs", "encode", TUPLE(g, wf_string(g, WF_STR, "a\xc3", 2), wf_str(g, "latin1")));
	wf_ref broken = kit_array(&k, INTS(&k, 2), u1, false, wide);
	wf_ref broken_too = kit_array(&k, INTS(&k, 2), u1, false, cut);
	wf_ref none = kit_array(&k, INTS(&k, 0), u1, false, kit_call(&k, "__builtin__", "bytes", wf_tuple(g, NULL, 0)));
	wf_ref objects = kit_array(&k, INTS(&k, 1), kit_dtype(&k, "O8", "|"), false, wf_string(g, WF_BYTES, "abc", 3));
	kit_open(&k);
	assert_int_equal(wf_storages_count(k.ss), 7);
	assert_int_equal(wf_storage_of(k.ss, text), 0);
	const struct wf_storage *s = wf_storage_get(k.ss, 0);
	assert_int_equal(s->size_bytes, sizeof content);
	assert_int_equal(wf_storage_array(k.ss, 0), text);
	assert_int_equal(s->persid, WF_NIL);
	assert_bytes(&k, 0, 0, content, sizeof content);
	for (int round = 0; round < 300; round++) {
		uint64_t from = kit_random(&seed) % sizeof content;
		uint64_t len = kit_random(&seed) % WF_MIN(sizeof content - from, 5000u);
		assert_bytes(&k, 0, from, content + from, len);
	}
	assert_bytes(&k, wf_storage_of(k.ss, plain), 1, "bc", 2);
	assert_bytes(&k, wf_storage_of(k.ss, none), 0, "", 0);
	assert_bad(&k, wf_storage_of(k.ss, broken), -EUCLEAN, "character above 255");
	assert_bad(&k, wf_storage_of(k.ss, broken_too), -EUCLEAN, "character above 255");
	assert_int_equal(wf_storage_of(k.ss, objects), WF_NO_STORAGE);
	/* Python shares the bytes of one character, and NumPy copies them */
	assert_true(wf_storage_of(k.ss, one) != wf_storage_of(k.ss, two));
	kit_make_writable(&k);
	assert_int_equal(wf_storage_write(k.ss, wf_storage_of(k.ss, one), 0, &byte, 1), 0);
	assert_bytes(&k, wf_storage_of(k.ss, one), 0, "\x09", 1);
	assert_bytes(&k, wf_storage_of(k.ss, two), 0, "\x81", 1);
	kit_close(&k);
}

static void decoded_budget(void **state)
{
	enum { N = 6, SIZE = 60000 };
	struct kit k;
	char key[8];
	uint64_t seed = 3;

	fill();
	kit_init(&k);
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "%d", i);
		kit_record(&k, key, content + i * SIZE, SIZE, true);
		kit_persid(&k, "ByteStorage", key, SIZE);
	}
	kit_record(&k, "big", content, sizeof content, true);
	kit_persid(&k, "ByteStorage", "big", sizeof content);
	kit_open(&k);
	k.ss->decoded_max_bytes = 2 * SIZE + 100;
	for (int round = 0; round < 200; round++) {
		uint32_t i = (uint32_t)(kit_random(&seed) % (N + 1));
		uint64_t size = i == N ? sizeof content : SIZE, from = kit_random(&seed) % size;
		uint64_t len = kit_random(&seed) % (size - from);
		assert_bytes(&k, i, from, content + (i == N ? 0 : i * SIZE) + from, len);
		assert_true(k.ss->decoded_bytes <= k.ss->decoded_max_bytes);
	}
	assert_true(k.ss->decoded_bytes >= SIZE); /* something is held */
	kit_close(&k);
}

static void locates(void **state)
{
	struct kit k;
	char path[] = "/tmp/test-storage-XXXXXX", got[8];
	int fd = mkstemp(path);
	struct wf_file_run run;
	struct wf_source *s;

	assert_true(fd >= 0);
	unlink(path);
	kit_init(&k);
	kit_record(&k, "0", "abcdefgh", 8, false);
	kit_record(&k, "1", "abcdefgh", 8, true);
	kit_persid(&k, "ByteStorage", "0", 8);
	kit_persid(&k, "ByteStorage", "1", 8);
	zb_finish(&k.zb, NULL);
	assert_int_equal(write(fd, k.zb.out.data, k.zb.out.len), k.zb.out.len);
	wf_buffer_free(&k.zb.out);
	assert_int_equal(wf_source_from_fd(fd, &s, &k.err), 0);
	assert_int_equal(wf_container_open(s, &k.c, &k.err), 0);
	wf_source_unref(s);
	assert_int_equal(wf_storages_new(k.g, k.c, &k.ss, &k.err), 0);
	assert_true(wf_storage_locate(k.ss, 0, 2, &run));
	assert_int_equal(run.len, 6);
	assert_int_equal(pread(run.fd, got, 6, (off_t)run.offset), 6);
	wf_file_run_end(&run);
	assert_memory_equal(got, "cdefgh", 6);
	assert_false(wf_storage_locate(k.ss, 0, 8, &run));
	assert_false(wf_storage_locate(k.ss, 1, 0, &run));
	assert_false(wf_storage_locate(k.ss, 2, 0, &run));
	kit_make_writable(&k);
	assert_int_equal(wf_storage_write(k.ss, 0, 4, "X", 1), 0);
	assert_true(wf_storage_locate(k.ss, 0, 2, &run));
	assert_int_equal(run.len, 2);
	wf_file_run_end(&run);
	assert_false(wf_storage_locate(k.ss, 0, 4, &run));
	assert_true(wf_storage_locate(k.ss, 0, 5, &run));
	assert_int_equal(run.len, 3);
	wf_file_run_end(&run);
	kit_close(&k);
}

/* Random writes, cuts and growth against an array of bytes. */
static void edits_like_an_array(void **state)
{
	enum { MAX = 5000 };
	unsigned char model[MAX] = {0}, data[MAX];
	uint64_t seed = 1234, size = 2000;
	struct kit k;

	fill();
	for (int deflate = 0; deflate < 2; deflate++) {
		size = 2000;
		memset(model, 0, sizeof model);
		memcpy(model, content, size);
		kit_init(&k);
		kit_record(&k, "0", content, size, deflate);
		kit_persid(&k, "ByteStorage", "0", (int64_t)size);
		kit_open(&k);
		assert_int_equal(wf_storage_write(k.ss, 0, 0, "x", 1), -EROFS);
		kit_make_writable(&k);
		for (int round = 0; round < 500; round++) {
			uint64_t at = kit_random(&seed) % (size + 1), len = kit_random(&seed) % (size - at + 1);
			if (kit_random(&seed) % 8) {
				for (size_t i = 0; i < len; i++)
					data[i] = (unsigned char)kit_random(&seed);
				assert_int_equal(wf_storage_write(k.ss, 0, at, data, len), 0);
				memcpy(model + at, data, len);
				if (len > 0)
					assert_true(k.told_offset == at && k.told_len == len);
			} else {
				uint64_t new_size = kit_random(&seed) % MAX;
				assert_int_equal(wf_storage_resize(k.ss, 0, new_size), 0);
				assert_true(k.told_offset == new_size && k.told_len == 0);
				assert_true(new_size == size || wf_storage_get(k.ss, 0)->resized);
				if (new_size < size)
					memset(model + new_size, 0, size - new_size);
				size = new_size;
			}
			assert_int_equal(wf_storage_get(k.ss, 0)->size_bytes, size);
			assert_bytes(&k, 0, 0, model, size);
			assert_int_equal(wf_storage_write(k.ss, 0, size, "x", 1), -EUCLEAN);
			assert_int_equal(wf_storage_mark(k.ss, 0, size, 1), -EUCLEAN);
			assert_int_equal(wf_storage_mark(k.ss, 0, 1, UINT64_MAX), -EUCLEAN);
		}
		kit_close(&k);
	}
}

static int failing_file(void *ctx, uint32_t i, int *ret_fd)
{
	*ret_fd = *(int *)ctx;
	return *ret_fd < 0 ? -ENOSPC : 0;
}

static void failed_writes_leave_nothing(void **state)
{
	struct kit k;
	int fd = -1;

	kit_init(&k);
	kit_record(&k, "0", "abcdefgh", 8, false);
	kit_persid(&k, "ByteStorage", "0", 8);
	kit_open(&k);
	wf_storages_set_extent_files(k.ss, &(struct wf_extent_files){failing_file, NULL, &fd});
	assert_int_equal(wf_storage_write(k.ss, 0, 0, "X", 1), -ENOSPC);
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(wf_storage_write(k.ss, 0, 0, "X", 1), -EBADF);
	close(fd);
	assert_bytes(&k, 0, 0, "abcdefgh", 8);
	kit_close(&k);
}

static void new_and_adopted(void **state)
{
	struct kit k;
	uint32_t i, j;

	kit_init(&k);
	kit_record(&k, "0", "abcd", 4, false);
	wf_ref base = kit_persid(&k, "ByteStorage", "0", 4);
	kit_open(&k);
	kit_make_writable(&k);
	wf_ref made = kit_persid(&k, "FloatStorage", "1", 2), view = kit_persid(&k, "FloatStorage", "1", 2);
	assert_int_equal(wf_storage_of(k.ss, made), WF_NO_STORAGE);
	assert_int_equal(wf_storage_new(k.ss, made, 8, &i), 0);
	assert_int_equal(i, 1);
	assert_bytes(&k, i, 0, "\0\0\0\0\0\0\0", 8);
	assert_int_equal(wf_storage_write(k.ss, i, 4, "abcd", 4), 0);
	assert_bytes(&k, i, 2, "\0\0abcd", 6);
	assert_int_equal(wf_storage_new(k.ss, made, 8, &j), -EEXIST);
	assert_int_equal(wf_storage_new(k.ss, kit_persid(&k, "ByteStorage", "0", 4), 4, &j), 0);
	assert_int_equal(j, 2); /* another one of the same key: not that of the file */
	assert_bytes(&k, j, 0, "\0\0\0\0", 4);
	assert_bytes(&k, 0, 0, "abcd", 4);
	assert_int_equal(wf_storage_new(k.ss, wf_str(k.g, "x"), 8, &j), -EINVAL);
	assert_int_equal(wf_storage_new(k.ss, kit_persid(&k, "Nothing", "5", 4), 4, &j), -EINVAL);
	assert_int_equal(wf_storage_adopt(k.ss, i, view), 0);
	assert_int_equal(wf_storage_of(k.ss, view), i);
	assert_int_equal(wf_storage_adopt(k.ss, 7, view), -EINVAL);
	assert_int_equal(wf_storage_of(k.ss, base), 0);
	/* a table that is made anew knows nothing of that: the two ids of key 1 name one storage, and the third is the bad one */
	wf_storages_free(k.ss);
	assert_int_equal(wf_storages_new(k.g, k.c, &k.ss, &k.err), 0);
	assert_int_equal(wf_storages_count(k.ss), 3);
	assert_int_equal(wf_storage_of(k.ss, made), 1);
	assert_int_equal(wf_storage_of(k.ss, view), 1);
	assert_int_equal(wf_storage_get(k.ss, 1)->persids, 2);
	kit_close(&k);
}

static uint32_t record_of(void *ctx, uint32_t i)
{
	struct wf_container *c = ctx;
	static const char *const names[] = {"data/n0", "data/bad", NULL, "data/n1", NULL};

	return names[i] ? wf_container_find(c, names[i]) : WF_NO_RECORD;
}

static void rebase(void **state)
{
	struct kit k, n;
	uint32_t i;

	kit_init(&k);
	kit_record(&k, "0", "abcd", 4, true);
	kit_record(&k, "1", "12345", 5, false);
	kit_persid(&k, "ByteStorage", "0", 4);
	kit_persid(&k, "ByteStorage", "1", 4); /* bad: its record is longer */
	wf_ref array = kit_array(&k, INTS(&k, 2), kit_dtype(&k, "u1", "|"), false, wf_string(k.g, WF_BYTES, "pq", 2));
	kit_open(&k);
	kit_make_writable(&k);
	assert_int_equal(wf_storage_new(k.ss, kit_persid(&k, "ByteStorage", "2", 3), 3, &i), 0);
	assert_int_equal(wf_storage_new(k.ss, kit_persid(&k, "ByteStorage", "3", 3), 3, &i), 0);
	assert_int_equal(wf_storage_write(k.ss, 0, 1, "XY", 2), 0);
	assert_int_equal(wf_storage_write(k.ss, 2, 1, "Z", 1), 0);
	assert_int_equal(wf_storage_write(k.ss, 4, 1, "Z", 1), 0);
	/* what a commit would have written */
	kit_init(&n);
	kit_record(&n, "n0", "aXYd", 4, false);
	kit_record(&n, "bad", "12345", 5, false);
	kit_record(&n, "n1", "\0\0", 2, false); /* too short at first */
	kit_open_container(&n);
	assert_int_equal(wf_storages_rebase(k.ss, n.c, record_of, n.c, &k.err), -EUCLEAN);
	assert_bytes(&k, 0, 0, "aXYd", 4);
	wf_container_free(n.c);
	wf_graph_free(n.g);
	kit_init(&n);
	kit_record(&n, "n0", "aXYd", 4, false);
	kit_record(&n, "bad", "12345", 5, false);
	kit_record(&n, "n1", "\0\0\0", 3, false);
	kit_open_container(&n);
	assert_int_equal(wf_numpy_set_bytes(k.g, array, wf_string(k.g, WF_BYTES, "pZ", 2)), 0);
	assert_int_equal(wf_storages_rebase(k.ss, n.c, record_of, n.c, &k.err), 0);
	wf_container_free(k.c);
	k.c = n.c;
	n.c = NULL;
	assert_bytes(&k, 0, 0, "aXYd", 4);
	assert_null(wf_storage_get(k.ss, 0)->dirty);
	assert_bad(&k, 1, -EUCLEAN, "holds 5 bytes");
	assert_bytes(&k, 2, 0, "pZ", 2);
	assert_null(wf_storage_get(k.ss, 2)->dirty);
	assert_bytes(&k, 3, 0, "\0\0\0", 3);
	assert_bad(&k, 4, -ESTALE, "left this storage out");
	kit_close(&n);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_storages),
		cmocka_unit_test(spelled_keys),
		cmocka_unit_test(bad_ids),
		cmocka_unit_test(many_storages),
		cmocka_unit_test(big_endian),
		cmocka_unit_test(arrays),
		cmocka_unit_test(decoded_budget),
		cmocka_unit_test(locates),
		cmocka_unit_test(edits_like_an_array),
		cmocka_unit_test(failed_writes_leave_nothing),
		cmocka_unit_test(new_and_adopted),
		cmocka_unit_test(rebase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
