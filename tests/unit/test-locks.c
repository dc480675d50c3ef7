/* SPDX-License-Identifier: MIT */
/* Who waits for whom: a writer among readers that never stop, and a reader among writers. Counted in calls of the others, not in
 * time, so that a busy machine does not matter. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint-kit.h"

#define MANY 6
#define CALLS 60
#define CHUNK ((size_t)4 << 20)
/* Calls of all the others for one of the lonely one: those under way, one more each, and as many as fit into the time in which a
 * busy machine does not run it. Where it starves, there is no end to them. */
#define LIMIT (CALLS * 100 * MANY)

static struct wf_stat big;
static atomic_bool stop;
static atomic_uint calls;

static int setup(void **state)
{
	const struct wf_open_options o = {.writable = true};
	struct wf_error err = {0};
	char *zeroes = calloc(1, CHUNK);
	copy_checkpoint("locks");
	assert_int_equal(wf_open(file, &o, &ck, &err), 0);
	assert_int_equal(wf_create(ck, WF_ROOT, "big", &big), 0);
	assert_int_equal(wf_write(ck, big.ino, NULL, 0, zeroes, CHUNK), CHUNK);
	free(zeroes);
	return 0;
}

static void *reads(void *arg)
{
	char *buf = malloc(CHUNK);
	while (buf && !stop && calls < LIMIT) {
		wf_read(ck, big.ino, 0, buf, CHUNK);
		calls++;
	}
	free(buf);
	return NULL;
}

static void *writes(void *arg)
{
	char *buf = calloc(1, CHUNK / 4);
	while (buf && !stop && calls < LIMIT) {
		wf_write(ck, big.ino, NULL, 0, buf, CHUNK / 4);
		calls++;
	}
	free(buf);
	return NULL;
}

static void among(void *(*others)(void *), bool reader)
{
	pthread_t threads[MANY];
	char small[512] = "";
	stop = false;
	calls = 0;
	for (int i = 0; i < MANY; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, others, NULL), 0);
	while (calls < MANY)
		;
	unsigned int before = calls;
	for (int i = 0; i < CALLS; i++) {
		ssize_t n = reader ? wf_read(ck, big.ino, 0, small, sizeof small)
				   : wf_write(ck, big.ino, NULL, 0, small, sizeof small);
		assert_int_equal(n, sizeof small);
	}
	unsigned int meanwhile = calls - before;
	stop = true;
	for (int i = 0; i < MANY; i++)
		pthread_join(threads[i], NULL);
	print_message("# %u calls of the others for %d\n", meanwhile, CALLS);
	assert_in_range(meanwhile, 0, LIMIT / 2);
}

/* ---- the disk ---- */

static atomic_bool slow_disk, at_disk;

/* In place of libc's: the codec is linked into this program. */
int fdatasync(int fd)
{
	at_disk = slow_disk;
	while (slow_disk)
		usleep(1000);
	return fsync(fd);
}

static void *syncs(void *call)
{
	return (void *)(intptr_t)((int (*)(struct wf_checkpoint *))call)(ck);
}

static void *writes_once(void *arg)
{
	return (void *)(intptr_t)wf_write(ck, big.ino, NULL, 0, "data", 4);
}

static void *reads_once(void *arg)
{
	char buf[4];
	return (void *)(intptr_t)wf_read(ck, big.ino, 4, buf, sizeof buf);
}

static bool ends(pthread_t thread)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

/* Reading goes on while a sync waits for the disk and an edit for the sync; the sync in the background keeps no edit waiting. */
static void during(int (*sync)(struct wf_checkpoint *), bool edits_go_on)
{
	pthread_t syncing, writing, reading;
	slow_disk = true;
	at_disk = false;
	assert_int_equal(pthread_create(&syncing, NULL, syncs, (void *)sync), 0);
	while (!at_disk)
		usleep(1000);
	assert_int_equal(pthread_create(&writing, NULL, writes_once, NULL), 0);
	bool written = edits_go_on && ends(writing);
	usleep(10000); /* an edit that has to wait does so by now: without it the read proves less, and is right all the same */
	assert_int_equal(pthread_create(&reading, NULL, reads_once, NULL), 0);
	bool was_read = ends(reading);
	slow_disk = false;
	if (!was_read)
		pthread_join(reading, NULL);
	if (!written)
		pthread_join(writing, NULL);
	pthread_join(syncing, NULL);
	assert_true(was_read);
	assert_int_equal(written, edits_go_on);
}

static void test_sync(void **state)
{
	during(wf_sync, false);
}

static void test_sync_behind(void **state)
{
	during(wf_sync_behind, true);
}

/* ---- a link that is a copy ---- */

static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,256],\"data_offsets\":[0,3072]}}  ";

/* Also in place of libc's. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags)
{
	at_disk = slow_disk;
	while (slow_disk)
		usleep(1000);
	return syscall(SYS_copy_file_range, from, from_at, to, to_at, len, flags);
}

static int setup_flat(void **state)
{
	const struct wf_open_options o = {.writable = true};
	struct wf_error err = {0};
	uint64_t len = sizeof header - 1;
	char data[3072];
	copy_checkpoint("locks");
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (char)(i * 7);
	assert_int_equal(fwrite(&len, 8, 1, f) + fwrite(header, len, 1, f) + fwrite(data, sizeof data, 1, f), 3);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(wf_open(file, &o, &ck, &err), 0);
	assert_int_equal(wf_lookup(ck, WF_ROOT, "a", &big), 0);
	return 0;
}

static void *links(void *arg)
{
	struct wf_stat st;
	return (void *)(intptr_t)wf_link(ck, big.ino, WF_ROOT, "twin", &st);
}

static void *looks(void *arg)
{
	struct wf_stat st;
	return (void *)(intptr_t)wf_lookup(ck, WF_ROOT, "twin", &st);
}

/* While a link in a safetensors file copies, reading goes on, nobody sees half a copy, and what is written into the tensor comes after. */
static void test_link(void **state)
{
	pthread_t linking, writing, reading, looking;
	char was[3072], is[3072];
	struct wf_stat twin;
	void *result;
	assert_int_equal(wf_read(ck, big.ino, 0, was, sizeof was), sizeof was);
	slow_disk = true;
	at_disk = false;
	assert_int_equal(pthread_create(&linking, NULL, links, NULL), 0);
	while (!at_disk)
		if (pthread_tryjoin_np(linking, &result) == 0)
			fail_msg("it copied with the lock held, or nothing");
	assert_int_equal(pthread_create(&reading, NULL, reads_once, NULL), 0);
	assert_int_equal(pthread_create(&looking, NULL, looks, NULL), 0);
	bool was_read = ends(reading);
	struct timespec until = {.tv_sec = time(NULL) + 20};
	bool looked = pthread_timedjoin_np(looking, &result, &until) == 0;
	assert_int_equal(pthread_create(&writing, NULL, writes_once, NULL), 0);
	usleep(10000);
	slow_disk = false;
	if (!was_read)
		pthread_join(reading, NULL);
	if (!looked)
		pthread_join(looking, &result);
	assert_true(was_read && looked);
	assert_int_equal((intptr_t)result, -ENOENT);
	pthread_join(linking, &result);
	assert_int_equal((intptr_t)result, 0);
	pthread_join(writing, &result);
	assert_int_equal((intptr_t)result, 4);
	assert_int_equal(wf_lookup(ck, WF_ROOT, "twin", &twin), 0);
	assert_int_equal(wf_read(ck, twin.ino, 0, is, sizeof is), sizeof is);
	assert_memory_equal(is, was, sizeof was);
	assert_int_equal(wf_read(ck, big.ino, 0, is, 4), 4);
	assert_memory_equal(is, "data", 4);
	assert_int_equal(wf_link(ck, big.ino, WF_ROOT, "twin", &twin), -EEXIST);
}

static void test_writer(void **state)
{
	among(reads, false);
}

static void test_reader(void **state)
{
	among(writes, true);
}

int main(int argc, char **argv)
{
	files = argv[1];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_writer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link, setup_flat, teardown),
	};
	return cmocka_run_group_tests_name("locks", tests, NULL, NULL);
}
