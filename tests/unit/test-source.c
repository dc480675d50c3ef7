/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cmocka.h>

#include "codec/bytes/source.h"
#include "codec/bytes/util.h"

#define PLAIN_BYTES (3u << 20)

static char scratch[] = "/tmp/wf-test-source-XXXXXX";

static unsigned char plain_byte(uint64_t i)
{
	return (unsigned char)(i * 2654435761u >> 13) & 0x3f;
}

static unsigned char *plain_new(void)
{
	unsigned char *p = malloc(PLAIN_BYTES);
	assert_non_null(p);
	for (uint64_t i = 0; i < PLAIN_BYTES; i++)
		p[i] = plain_byte(i);
	return p;
}

static unsigned char *deflated_new(const unsigned char *data, size_t len, size_t *ret_len)
{
	z_stream z = {0};
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	size_t cap = deflateBound(&z, len);
	unsigned char *out = malloc(cap);
	assert_non_null(out);
	z.next_in = (unsigned char *)data;
	z.avail_in = (uInt)len;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	*ret_len = z.total_out;
	deflateEnd(&z);
	return out;
}

static struct wf_source *deflated_source(const unsigned char *data, size_t len, uint64_t declared, size_t cut)
{
	size_t n = 0;
	unsigned char *z = deflated_new(data, len, &n);
	struct wf_source *parent = NULL, *s = NULL;
	assert_int_equal(wf_source_from_memory(z, n - cut, true, &parent), 0);
	assert_int_equal(wf_source_inflate(parent, declared, &s), 0);
	wf_source_unref(parent);
	return s;
}

static void path_in_scratch(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, "%s/%s", scratch, name);
}

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void test_file_and_slices(void **state)
{
	char path[256], buf[32];
	struct wf_source *f = NULL, *a = NULL, *b = NULL;
	struct wf_error err = {0};
	path_in_scratch(path, sizeof path, "plain");
	write_file(path, "0123456789abcdef", 16);
	assert_int_equal(wf_source_open_file(path, &f, &err), 0);
	assert_int_equal(wf_source_size(f), 16);
	assert_int_equal(wf_source_read(f, 10, buf, 6), 0);
	assert_memory_equal(buf, "abcdef", 6);
	assert_int_equal(wf_source_read(f, 16, buf, 0), 0);
	assert_int_equal(wf_source_read(f, 16, buf, 1), -EUCLEAN);
	assert_int_equal(wf_source_read(f, UINT64_MAX, buf, 2), -EUCLEAN);
	assert_int_equal(wf_source_read(f, 1, buf, SIZE_MAX), -EUCLEAN);

	assert_int_equal(wf_source_slice(f, 10, 7, &a), -EUCLEAN);
	assert_int_equal(wf_source_slice(f, 17, 0, &a), -EUCLEAN);
	assert_int_equal(wf_source_slice(f, UINT64_MAX, 2, &a), -EUCLEAN);
	assert_int_equal(wf_source_slice(f, 4, 8, &a), 0);
	assert_int_equal(wf_source_slice(a, 2, 4, &b), 0);
	wf_source_unref(a);
	assert_int_equal(wf_source_read(b, 1, buf, 3), 0);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(wf_source_read(b, 1, buf, 4), -EUCLEAN);

	struct wf_file_run run, whole;
	assert_true(wf_source_locate(b, 1, &run));
	assert_int_equal(run.offset, 7);
	assert_int_equal(run.len, 3);
	assert_true(wf_source_locate(f, 0, &whole));
	assert_int_equal(run.fd, whole.fd);
	assert_int_equal(whole.len, 16);
	wf_file_run_end(&run);
	wf_file_run_end(&whole);
	assert_false(wf_source_locate(b, 5, &run));
	assert_null(run.file);
	assert_string_equal(wf_source_path(b), wf_source_path(f));

	struct wf_fingerprint pa, pb;
	wf_source_fingerprint(f, &pa);
	wf_source_fingerprint(b, &pb);
	assert_int_equal(pa.size_bytes, 16);
	assert_memory_equal(&pa, &pb, sizeof pa);
	pb.mtime_nsec++;
	assert_memory_not_equal(&pa, &pb, sizeof pa);

	/* the slice keeps the file open */
	wf_source_unref(f);
	assert_int_equal(wf_source_read(b, 0, buf, 4), 0);
	assert_memory_equal(buf, "6789", 4);
	wf_source_unref(b);
}

static void test_refused_files(void **state)
{
	struct wf_source *s = NULL;
	struct wf_error err = {0};
	char path[256];
	assert_int_equal(wf_source_open_file(scratch, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "directory"));
	path_in_scratch(path, sizeof path, "absent");
	assert_int_equal(wf_source_open_file(path, &s, &err), -ENOENT);
	path_in_scratch(path, sizeof path, "fifo");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(wf_source_open_file(path, &s, &err), -EINVAL); /* and does not wait for a writer */
	assert_int_equal(wf_source_open_file("/dev/null", &s, NULL), -EINVAL);
	assert_null(s);
}

static void test_file_changed_underneath(void **state)
{
	char path[256], buf[16];
	struct wf_source *s = NULL;
	path_in_scratch(path, sizeof path, "changing");
	write_file(path, "0123456789abcdef", 16);
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	assert_int_equal(truncate(path, 8), 0);
	assert_int_equal(wf_source_read(s, 4, buf, 8), -EIO);
	assert_int_equal(wf_source_read(s, 0, buf, 4), -ESTALE);
	wf_source_unref(s);

	write_file(path, "0123456789abcdef", 16);
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	/* touched only: twice under each time, before the epoch, too */
	for (int i = 0; i < 4; i++) {
		struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = i / 2 ? 1000 : -1000}};
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
		assert_int_equal(wf_source_read(s, 0, buf, 4), 0);
	}
	/* written, at the same size */
	write_file(path, "0123456789abcdeF", 16);
	assert_int_equal(wf_source_read(s, 0, buf, 4), -ESTALE);
	wf_source_unref(s);

	/* our own append: the old bytes may be read meanwhile, and after it was cut back */
	struct stat before;
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	assert_int_equal(stat(path, &before), 0);
	wf_source_allow_growth(s, true);
	assert_int_equal(truncate(path, 32), 0);
	assert_int_equal(wf_source_read(s, 0, buf, 16), 0);
	wf_source_allow_growth(s, false);
	assert_int_equal(wf_source_read(s, 0, buf, 16), -ESTALE);
	assert_int_equal(truncate(path, 16), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){before.st_atim, before.st_mtim}, 0), 0);
	assert_int_equal(wf_source_read(s, 0, buf, 16), 0);
	wf_source_allow_growth(s, true);
	assert_int_equal(truncate(path, 15), 0);
	assert_int_equal(wf_source_read(s, 0, buf, 4), -ESTALE);
	assert_int_equal(truncate(path, 16), 0);
	wf_source_unref(s);

	/* a rename over it leaves the old file, which is still what was opened */
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(wf_source_read(s, 0, buf, 4), 0);
	wf_source_unref(s);
}

/* What is lent is the file; where that ends since, whoever hands it to the kernel hears of it and nobody dies. */
static void test_lent(void **state)
{
	char path[256], again[64], zeroes[20000] = {0};
	struct wf_source *s, *slice, *memory;
	const void *lent, *end;
	path_in_scratch(path, sizeof path, "changing");
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, zeroes, sizeof zeroes), sizeof zeroes);
	assert_int_equal(pwrite(fd, "lent bytes", 10, 19000), 10);
	assert_int_equal(wf_source_open_file(path, &s, NULL), 0);
	assert_int_equal(wf_source_slice(s, 18000, 2000, &slice), 0);
	assert_int_equal(wf_source_lend(s, 0, sizeof zeroes, &lent), 0);
	assert_memory_equal((const char *)lent + 19000, "lent bytes", 10);
	assert_int_equal(wf_source_lend(slice, 1000, 10, &end), 0);
	assert_ptr_equal(end, (const char *)lent + 19000);
	assert_int_equal(wf_source_lend(slice, 1000, 1001, &end), -EUCLEAN);
	assert_int_equal(wf_source_lend(s, UINT64_MAX, 2, &end), -EUCLEAN);
	cleanup_fd int pipe_out = -1, pipe_in = -1;
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pipe_out = ends[0];
	pipe_in = ends[1];
	assert_int_equal(write(pipe_in, (const char *)lent + 19000, 10), 10);
	assert_int_equal(read(pipe_out, again, sizeof again), 10);
	assert_memory_equal(again, "lent bytes", 10);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(write(pipe_in, (const char *)lent + 19000, 10), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(wf_source_lend(s, 0, 10, &end), -ESTALE);
	wf_source_unref(slice);
	wf_source_unref(s);
	assert_int_equal(wf_source_from_memory(again, sizeof again, false, &memory), 0);
	assert_int_equal(wf_source_lend(memory, 0, 10, &end), -EOPNOTSUPP);
	wf_source_unref(memory);
}

static void test_memory(void **state)
{
	char buf[4];
	struct wf_source *s = NULL, *t = NULL;
	struct wf_fingerprint p;
	struct wf_file_run run;

	assert_int_equal(wf_source_from_memory(strdup("hello"), 5, true, &s), 0);
	assert_int_equal(wf_source_slice(s, 1, 4, &t), 0);
	wf_source_unref(s);
	assert_int_equal(wf_source_read(t, 0, buf, 4), 0);
	assert_memory_equal(buf, "ello", 4);
	assert_false(wf_source_locate(t, 0, &run));
	wf_source_fingerprint(t, &p);
	assert_int_equal(p.ino, 0);
	wf_source_unref(t);
	wf_source_unref(NULL);
}

static void check_range(struct wf_source *s, const unsigned char *plain, uint64_t offset, size_t len)
{
	cleanup_free unsigned char *buf = malloc(len + 1);
	assert_non_null(buf);
	assert_int_equal(wf_source_read(s, offset, buf, len), 0);
	assert_memory_equal(buf, plain + offset, len);
}

static void test_inflate_everywhere(void **state)
{
	cleanup_free unsigned char *plain = plain_new();
	struct wf_source *s = deflated_source(plain, PLAIN_BYTES, PLAIN_BYTES, 0);
	struct wf_file_run run;

	assert_int_equal(wf_source_size(s), PLAIN_BYTES);
	assert_false(wf_source_locate(s, 0, &run));
	check_range(s, plain, 0, 1);
	check_range(s, plain, 1, 300000);          /* goes on */
	check_range(s, plain, 290000, 200000);     /* slightly back */
	check_range(s, plain, 2900000, 100000);    /* far ahead */
	check_range(s, plain, 5, 100);             /* from the start again */
	check_range(s, plain, 0, PLAIN_BYTES);     /* all of it */
	check_range(s, plain, PLAIN_BYTES - 1, 1); /* the last byte */
	for (uint64_t o = 0; o < PLAIN_BYTES; o += 131071)
		check_range(s, plain, o, (size_t)WF_MIN(131071u, PLAIN_BYTES - o));
	assert_int_equal(wf_source_read(s, PLAIN_BYTES, plain, 1), -EUCLEAN);
	wf_source_unref(s);
}

static void test_inflate_wrong_size(void **state)
{
	cleanup_free unsigned char *plain = plain_new();
	unsigned char b;
	struct wf_source *s = deflated_source(plain, 1000, 1001, 0); /* shorter than declared */
	assert_int_equal(wf_source_read(s, 1000, &b, 1), -EUCLEAN);
	wf_source_unref(s);
	s = deflated_source(plain, 1000, 999, 0); /* longer than declared */
	assert_int_equal(wf_source_read(s, 998, &b, 1), -EUCLEAN);
	assert_int_equal(wf_source_read(s, 998, &b, 1), -EUCLEAN);
	wf_source_unref(s);
	s = deflated_source(plain, PLAIN_BYTES, PLAIN_BYTES, 20); /* cut: the start can be had, the end cannot */
	assert_int_equal(wf_source_read(s, 0, &b, 1), 0);
	assert_int_equal(wf_source_read(s, PLAIN_BYTES - 1, &b, 1), -EUCLEAN);
	assert_int_equal(wf_source_read(s, 0, &b, 1), 0);
	assert_int_equal(b, plain[0]);
	wf_source_unref(s);
}

static void test_inflate_broken(void **state)
{
	unsigned char b;
	struct wf_source *parent = NULL, *s = NULL;
	assert_int_equal(wf_source_from_memory(memset(malloc(100), 0xff, 100), 100, true, &parent), 0);
	assert_int_equal(wf_source_inflate(parent, 100, &s), 0);
	assert_int_equal(wf_source_read(s, 0, &b, 1), -EUCLEAN);
	wf_source_unref(s);
	wf_source_unref(parent);
	assert_int_equal(wf_source_from_memory(NULL, 0, false, &parent), 0);
	assert_int_equal(wf_source_inflate(parent, 1u << 20, &s), 0);
	assert_int_equal(wf_source_read(s, 1000, &b, 1), -EUCLEAN);
	wf_source_unref(s);
	wf_source_unref(parent);
}

struct reader {
	struct wf_source *s;
	const unsigned char *plain;
	unsigned int seed;
	bool wrong;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	unsigned char buf[5000];
	for (int i = 0; i < 20; i++) {
		uint64_t o = (uint64_t)rand_r(&r->seed) % (PLAIN_BYTES - sizeof buf);
		r->wrong |= wf_source_read(r->s, o, buf, sizeof buf) != 0 || memcmp(buf, r->plain + o, sizeof buf) != 0;
	}
	return NULL;
}

static void test_inflate_threads(void **state)
{
	cleanup_free unsigned char *plain = plain_new();
	struct wf_source *s = deflated_source(plain, PLAIN_BYTES, PLAIN_BYTES, 0);
	struct reader r[4];
	pthread_t t[4];
	for (unsigned int i = 0; i < 4; i++) {
		r[i] = (struct reader){.s = s, .plain = plain, .seed = i};
		assert_int_equal(pthread_create(&t[i], NULL, read_at_random, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_false(r[i].wrong);
	}
	wf_source_unref(s);
}

static int make_scratch(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
	const char *names[] = {"plain", "fifo", "changing"};
	char path[256];
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++) {
		path_in_scratch(path, sizeof path, names[i]);
		unlink(path);
	}
	return rmdir(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_and_slices),
		cmocka_unit_test(test_refused_files),
		cmocka_unit_test(test_file_changed_underneath),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_inflate_everywhere),
		cmocka_unit_test(test_inflate_wrong_size),
		cmocka_unit_test(test_inflate_broken),
		cmocka_unit_test(test_inflate_threads),
		cmocka_unit_test(test_lent),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
