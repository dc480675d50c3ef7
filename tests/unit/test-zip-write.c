/* SPDX-License-Identifier: MIT */
/* Archives are written again from their own records and must come out as torch wrote them, byte for byte. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "codec/bytes/io.h"
#include "codec/container/records.h"
#include "codec/bytes/out.h"
#include "codec/bytes/crc32.h"
#include "codec/bytes/util.h"
#include "codec/container/zip_write.h"

static char scratch[] = "/tmp/wf-test-zip-write-XXXXXX";
static const char *files; /* directory of files that torch wrote */

static int scratch_fd(const char *name)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", scratch, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	return fd;
}

static uint64_t file_size(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

static uint64_t allocated(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void assert_same_files(int a, int b)
{
	enum { STEP = 1 << 20 };
	unsigned char *x = malloc(STEP), *y = malloc(STEP);
	uint64_t size = file_size(a);
	assert_int_equal(file_size(b), size);
	for (uint64_t at = 0; at < size;) {
		size_t n = (size_t)WF_MIN(size - at, (uint64_t)STEP);
		assert_int_equal(wf_pread_all(a, x, n, at), 0);
		assert_int_equal(wf_pread_all(b, y, n, at), 0);
		assert_memory_equal(x, y, n);
		off_t data = lseek(a, (off_t)(at + n), SEEK_DATA), other = lseek(b, (off_t)(at + n), SEEK_DATA);
		at += n;
		if (data > (off_t)at && other > (off_t)at)
			at = (uint64_t)WF_MIN(data, other);
	}
	free(x);
	free(y);
}

static void read_directory(struct wf_source *s, unsigned char **ret, struct wf_zip_directory *d)
{
	struct wf_error err = {0};
	assert_int_equal(wf_zip_find_directory(s, d, &err), 0);
	*ret = malloc(d->size_bytes);
	assert_int_equal(wf_source_read(s, d->offset, *ret, d->size_bytes), 0);
}

/* Every record through the writer; returns the number of records. */
static uint64_t rewrite(int in, int out, uint32_t alignment)
{
	struct wf_source *s = NULL;
	struct wf_zip_directory d;
	struct wf_zip_writer w;
	struct wf_out o;
	unsigned char *raw = NULL;
	int dup_fd = dup(in);
	assert_int_equal(wf_source_from_fd(dup_fd, &s, NULL), 0);
	read_directory(s, &raw, &d);
	assert_int_equal(wf_out_init(&o, out, 0, NULL), 0);
	wf_zip_writer_init(&w, &o, alignment);
	uint64_t at = 0;
	for (uint64_t i = 0; i < d.entries; i++) {
		struct wf_zip_entry e;
		unsigned char local[30];
		size_t n = wf_zip_entry_parse(&e, raw + at, d.size_bytes - at);
		assert_true(n > 0);
		at += n;
		assert_int_equal(wf_pread_all(in, local, sizeof local, e.header_offset), 0);
		uint64_t data = e.header_offset + 30 + wf_le16(local + 26) + wf_le16(local + 28);
		assert_int_equal(wf_zip_begin(&w, &e, 0, 0), 0);
		assert_int_equal(wf_out_copy(&o, in, data, e.stored_bytes), 0);
		assert_int_equal(wf_zip_end(&w, &e), 0);
	}
	assert_int_equal(wf_zip_finish(&w), 0);
	assert_int_equal(wf_out_finish(&o), 0);
	uint64_t entries = w.entries;
	wf_zip_writer_free(&w);
	wf_out_free(&o);
	wf_source_unref(s);
	free(raw);
	return entries;
}

static void reproduce(const char *path, uint32_t alignment, uint64_t records)
{
	int in = open(path, O_RDONLY | O_CLOEXEC), out = scratch_fd("again.pt");
	if (in < 0)
		fail_msg("cannot open %s", path);
	uint64_t n = rewrite(in, out, alignment);
	if (records)
		assert_int_equal(n, records);
	assert_same_files(in, out);
	close(in);
	close(out);
}

static void test_torch_files(void **state)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/torch-2.15.pt", files);
	reproduce(path, 64, 18);
	snprintf(path, sizeof path, "%s/torch-1.13.pt", files);
	reproduce(path, 64, 14);
}

/* The right half of the id that torch computed, from the sums of the records before it. */
static void test_serialization_id(void **state)
{
	char path[4096], text[41] = "", half[21];
	struct wf_source *s = NULL;
	struct wf_zip_directory d;
	unsigned char *raw = NULL;
	uint64_t id = 0, at = 0;
	snprintf(path, sizeof path, "%s/torch-2.15.pt", files);
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	read_directory(s, &raw, &d);
	while (at < d.size_bytes) {
		struct wf_zip_entry e;
		size_t n = wf_zip_entry_parse(&e, raw + at, d.size_bytes - at);
		assert_true(n > 0);
		at += n;
		if (e.name_len > 17 && memcmp(e.name + e.name_len - 17, "/serialization_id", 17) == 0) {
			unsigned char local[30];
			assert_int_equal(wf_source_read(s, e.header_offset, local, 30), 0);
			uint64_t data = e.header_offset + 30 + wf_le16(local + 26) + wf_le16(local + 28);
			assert_int_equal(e.size_bytes, 40);
			assert_int_equal(wf_source_read(s, data, text, 40), 0);
		} else if (e.stored_bytes > 0) {
			id = wf_zip_id_combine(id, e.crc32);
		}
	}
	snprintf(half, sizeof half, "%020llu", (unsigned long long)id);
	assert_string_equal(text + 20, half);
	free(raw);
	wf_source_unref(s);
}

static void zip64_record(struct wf_zip_writer *w, const char *name, uint64_t size)
{
	struct wf_zip_entry e;
	wf_zip_entry_init(&e, name, strlen(name), size);
	e.crc32 = 0x1234;
	assert_int_equal(wf_zip_begin(w, &e, 0, 0), 0);
	assert_int_equal(wf_out_flush(w->out), 0);
	assert_int_equal(w->out->at % 64, 0);
	w->out->at += size; /* a hole */
	assert_int_equal(wf_zip_end(w, &e), 0);
}

/* Sizes around 2^32 - 1, where fields move into the ZIP64 field; what the reader finds is what was meant. */
static void test_zip64(void **state)
{
	const uint64_t edge = UINT32_MAX;
	const uint64_t sizes[] = {edge - 1, edge, edge + 1, 5, 0};
	for (size_t k = 0; k < 3; k++) {
		int fd = scratch_fd("zip64.pt");
		struct wf_out o;
		struct wf_zip_writer w;
		struct wf_error err = {0};
		assert_int_equal(wf_out_init(&o, fd, 0, NULL), 0);
		wf_zip_writer_init(&w, &o, 64);
		zip64_record(&w, "m/data.pkl", 7);
		zip64_record(&w, "m/data/0", sizes[k]);
		zip64_record(&w, "m/data/1", 5);
		zip64_record(&w, "m/data/2", 0);
		struct wf_zip_entry version;
		wf_zip_entry_init(&version, "m/version", 9, 2);
		assert_int_equal(wf_zip_begin(&w, &version, 0, 0), 0);
		assert_int_equal(wf_out_write(&o, "3\n", 2), 0);
		version.crc32 = wf_crc32(0, "3\n", 2);
		assert_int_equal(wf_zip_end(&w, &version), 0);
		assert_int_equal(wf_zip_finish(&w), 0);
		assert_int_equal(wf_out_finish(&o), 0);
		wf_zip_writer_free(&w);
		wf_out_free(&o);

		struct wf_source *s = NULL;
		struct wf_container *c = NULL;
		assert_int_equal(wf_source_from_fd(dup(fd), &s, &err), 0);
		assert_int_equal(wf_container_open(s, &c, &err), 0);
		const uint64_t want[] = {7, sizes[k], 5, 0, 2};
		assert_int_equal(wf_container_count(c), 5);
		for (uint32_t i = 0; i < 5; i++) {
			uint64_t at = 0;
			assert_int_equal(wf_container_record(c, i)->bad, 0);
			assert_int_equal(wf_container_record(c, i)->size_bytes, want[i]);
			assert_int_equal(wf_container_locate(c, i, &at, &err), 0);
			assert_int_equal(at % 64, 0);
		}
		wf_container_free(c);
		int again = scratch_fd("zip64-again.pt");
		rewrite(fd, again, 64);
		assert_same_files(fd, again);
		wf_source_unref(s);
		close(fd);
		close(again);
	}
}

/* Entries that are alike in all ways and none, of all lengths: what the directory says is what was entered. */
static void test_directory(void **state)
{
	enum { N = 400 };
	static char names[UINT16_MAX + 1];
	static unsigned char raw[46 + 2 * UINT16_MAX];
	int fd = scratch_fd("directory.pt");
	struct wf_buffer want = WF_BUFFER_INIT;
	struct wf_out o;
	struct wf_zip_writer w;
	srand(3);
	assert_int_equal(wf_out_init(&o, fd, 0, NULL), 0);
	wf_zip_writer_init(&w, &o, 64);
	for (int i = 0; i < N; i++) {
		/* a raw entry as another writer's, with a comment; its bytes are few kinds, so that runs are long */
		size_t name = (size_t)(i % 50 == 7 ? UINT16_MAX : rand() % 700),
		       comment = i % 90 == 8 ? UINT16_MAX : (size_t)(rand() % 3);
		size_t len = 46 + name + comment;
		for (size_t k = 0; k < len && i % 4; k++)
			raw[k] = rand() % 300 ? raw[k] : (unsigned char)rand();
		memcpy(raw, "PK\1\2", 4);
		for (int k = 0; k < 2; k++) {
			raw[28 + k] = (unsigned char)(name >> 8 * k);
			raw[30 + k] = 0;
			raw[32 + k] = (unsigned char)(comment >> 8 * k);
		}
		struct wf_zip_entry e = {.stored_bytes = (uint64_t)i};
		assert_int_equal(wf_zip_keep_raw(&w, &e, raw, len), 0);
		wf_buffer_append(&want, raw, len);
		if (i % 9 != 0)
			continue;
		memset(names, 'a' + i % 2, name);
		wf_zip_entry_init(&e, names, name, (uint64_t)i);
		e.header_offset = i % 2 ? 1ull << 40 : 77;
		assert_int_equal(wf_zip_keep(&w, &e), 0);
		size_t extra = i % 2 ? 12 : 0;
		struct wf_zip_entry got;
		uint64_t at = w.directory_bytes - 46 - name - extra;
		assert_int_equal(at, want.len);
		assert_int_equal(w.last.len, 46 + name + extra);
		assert_int_equal(wf_zip_entry_parse(&got, (unsigned char *)w.last.data, w.last.len), w.last.len);
		assert_int_equal(got.header_offset, e.header_offset);
		wf_buffer_append(&want, w.last.data, w.last.len);
	}
	assert_int_equal(wf_zip_finish(&w), 0);
	assert_int_equal(wf_out_finish(&o), 0);
	assert_int_equal(file_size(fd), want.len + WF_ZIP_END_BYTES);
	char *got = malloc(want.len);
	assert_int_equal(wf_pread_all(fd, got, want.len, 0), 0);
	assert_memory_equal(got, want.data, want.len);
	free(got);
	wf_buffer_free(&want);
	wf_zip_writer_free(&w);
	wf_out_free(&o);
	close(fd);
}

/* Of the records of a checkpoint little is kept. */
static void test_directory_is_small(void **state)
{
	struct wf_zip_writer w;
	wf_zip_writer_init(&w, NULL, 64);
	srand(4);
	for (uint32_t i = 0; i < 10000; i++) {
		char name[64];
		struct wf_zip_entry e;
		int len = snprintf(name, sizeof name, "checkpoint/data/%u", i);
		wf_zip_entry_init(&e, name, (size_t)len, 16384);
		e.crc32 = (uint32_t)rand();
		e.header_offset = (uint64_t)i * 16640;
		assert_int_equal(wf_zip_keep(&w, &e), 0);
	}
	assert_in_range(w.directory.len, 10000 * 12, 10000 * 26);
	assert_in_range(w.directory_bytes, 10000 * 60, 10000 * 70);
	wf_zip_writer_free(&w);
}

/* A part of a record changes, wherever it lies: the patched sum is the sum of the new bytes. */
static void test_crc_patch(void **state)
{
	unsigned char a[1000], b[1000];
	srand(1);
	for (int round = 0; round < 300; round++) {
		size_t size = 1 + (size_t)rand() % sizeof a, start = (size_t)rand() % size;
		size_t end = start + 1 + (size_t)rand() % (size - start);
		for (size_t i = 0; i < size; i++)
			a[i] = (unsigned char)rand();
		memcpy(b, a, size);
		for (size_t i = start; i < end; i++)
			b[i] = (unsigned char)rand();
		uint32_t patched = wf_crc32_patch(wf_crc32(0, a, size), size, end, wf_crc32(0, a + start, end - start),
						  wf_crc32(0, b + start, end - start));
		assert_int_equal(patched, wf_crc32(0, b, size));
		assert_int_equal(
			wf_crc32_join(wf_crc32(0, a, start), wf_crc32(0, a + start, size - start), size - start),
			wf_crc32(0, a, size));
	}
}

/* A change near the start of a record of 10 GB: only its few bytes are known. */
static void test_crc_patch_far(void **state)
{
	static unsigned char zeroes[1 << 16];
	const uint64_t size = 10ull << 30;
	uint32_t block = wf_crc32(0, zeroes, sizeof zeroes), whole = 0;
	for (uint64_t at = 0; at < size; at += sizeof zeroes)
		whole = wf_crc32_join(whole, block, sizeof zeroes);
	uint32_t patched = wf_crc32_patch(whole, size, 104, wf_crc32(0, zeroes, 4), wf_crc32(0, "abcd", 4));
	uint32_t want = wf_crc32(wf_crc32(0, zeroes, 100), "abcd", 4);
	want = wf_crc32_join(want, wf_crc32(0, zeroes, sizeof zeroes - 104), sizeof zeroes - 104);
	for (uint64_t at = sizeof zeroes; at < size; at += sizeof zeroes)
		want = wf_crc32_join(want, block, sizeof zeroes);
	assert_int_equal(patched, want);
}

/* Pieces of all lengths at all kinds of offsets, from a file with a hole. */
static void test_copy(void **state)
{
	enum { SIZE = 9 << 20 };
	unsigned char *data = calloc(1, SIZE), *back = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		if (i < 3 << 20 || i >= 7 << 20)
			data[i] = (unsigned char)(i * 2654435761u >> 11) | 1;
	int in = scratch_fd("in"), out = scratch_fd("out");
	assert_int_equal(wf_pwrite_all(in, data, 3 << 20, 0), 0);
	assert_int_equal(wf_pwrite_all(in, data + (7 << 20), 2 << 20, 7 << 20), 0);
	struct wf_out o;
	_Atomic uint64_t done = 0;
	assert_int_equal(wf_out_init(&o, out, 0, &done), 0);
	assert_int_equal(wf_out_write(&o, "x", 1), 0);
	const size_t lens[] = {1, 100, 40000, 1 << 20, 5 << 20, 0};
	size_t at = 0;
	for (size_t i = 0; i < WF_ARRAY_SIZE(lens); i++) {
		assert_int_equal(wf_out_copy(&o, in, at, lens[i]), 0);
		at += lens[i];
	}
	assert_int_equal(wf_out_copy(&o, in, at, SIZE - at), 0);
	assert_int_equal(wf_out_copy(&o, in, SIZE - 100000, 100001), -EIO);
	assert_int_equal(wf_out_finish(&o), 0);
	assert_int_equal(done, SIZE + 1);
	assert_int_equal(file_size(out), SIZE + 1);
	assert_int_equal(wf_pread_all(out, back, SIZE, 1), 0);
	assert_memory_equal(data, back, SIZE);
	assert_true(allocated(out) < 7 << 20);
	wf_out_free(&o);
	close(in);
	close(out);
	free(data);
	free(back);
}

/* What cannot fit is refused before the first byte, and what was reserved is given back. */
static void test_reserve(void **state)
{
	int fd = scratch_fd("reserve");
	struct wf_out o;
	assert_int_equal(wf_out_init(&o, fd, 0, NULL), 0);
	int r = wf_out_reserve(&o, 1ull << 60, true);
	assert_true(r == -ENOSPC || r == -EFBIG);
	assert_int_equal(wf_out_reserve(&o, 1ull << 60, false), -ENOSPC);
	assert_int_equal(wf_out_reserve(&o, 1 << 20, true), 0);
	assert_int_equal(file_size(fd), 0);
	assert_int_equal(wf_out_write(&o, "abc", 3), 0);
	assert_int_equal(wf_out_finish(&o), 0);
	assert_int_equal(file_size(fd), 3);
	assert_true(allocated(fd) <= 64 << 10);
	wf_out_free(&o);
	close(fd);
}

/* Padding can be made longer so that bytes keep their place within a block. */
static void test_congruent(void **state)
{
	struct wf_zip_entry e;
	struct wf_zip_layout l;
	unsigned char *header = malloc(WF_ZIP_HEADER_MAX);
	wf_zip_entry_init(&e, "archive/data/12", 15, 100);
	for (uint64_t at = 3; at < 20000; at += 777) {
		wf_zip_layout(&e, at, 64, 4096, 320, &l);
		assert_int_equal(l.data % 4096, 320);
		assert_int_equal(wf_zip_header(&e, &l, header), l.data - at);
		assert_int_equal(wf_le16(header + 28), 4 + l.pad);
		wf_zip_layout(&e, at, 64, 0, 0, &l);
		assert_int_equal(l.data % 64, 0);
		assert_true(l.pad < 64);
	}
	free(header);
}

static int make_scratch(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
	return rmdir(scratch);
}

int main(int argc, char **argv)
{
	files = argc > 1 ? argv[1] : "tests/unit/torch-files";
	/* by hand: any archive of torch's, with its alignment */
	if (argc > 3) {
		mkdtemp(scratch);
		reproduce(argv[3], (uint32_t)atoi(argv[2]), 0);
		rmdir(scratch);
		return puts("the same") < 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_torch_files),
		cmocka_unit_test(test_serialization_id),
		cmocka_unit_test(test_zip64),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_directory_is_small),
		cmocka_unit_test(test_crc_patch),
		cmocka_unit_test(test_crc_patch_far),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_congruent),
	};
	return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
