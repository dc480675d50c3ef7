/* SPDX-License-Identifier: MIT */
/* A file that takes long to open, as on a server that does not answer, is waited for by its own readers and by nobody else. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/bytes/util.h"
#include "codec/directory/members.h"

#define READERS 3
#define TOO_LONG_S 60

static char scratch[] = "/tmp/wf-test-members-XXXXXX";

static struct {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned int inside, calls; /* of openings of "slow" */
	bool go;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

/* The codec's openings come through here. */
int openat(int directory, const char *name, int flags, ...)
{
	if (!strcmp(name, "slow")) {
		pthread_mutex_lock(&slow.lock);
		slow.inside++;
		slow.calls++;
		pthread_cond_broadcast(&slow.moved);
		while (!slow.go)
			pthread_cond_wait(&slow.moved, &slow.lock);
		slow.inside--;
		pthread_mutex_unlock(&slow.lock);
	}
	return (int)syscall(SYS_openat, directory, name, flags, 0);
}

struct reader {
	pthread_t thread;
	struct wf_members *members;
	uint32_t member;
	struct wf_source *source;
	int r;
};

static void *read_slow(void *ctx)
{
	struct reader *r = ctx;
	r->r = wf_members_open(r->members, r->member, &r->source, NULL);
	return NULL;
}

static uint32_t make(struct wf_members *m, const char *name)
{
	char path[256];
	uint32_t i = 0;
	snprintf(path, sizeof path, "%s/%s", scratch, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(name, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(wf_members_add(m, name, strlen(name), &i, NULL), 0);
	return i;
}

static void test_slow(void **state)
{
	struct wf_members *m = NULL;
	struct reader readers[READERS];
	uint32_t others[WF_MEMBERS_OPEN + 10]; /* more than stay open, so that some are closed meanwhile */
	char name[16];
	assert_int_equal(wf_members_new(scratch, &m, NULL), 0);
	uint32_t first = make(m, "slow");
	for (uint32_t i = 0; i < WF_ARRAY_SIZE(others); i++) {
		snprintf(name, sizeof name, "f%u", i);
		others[i] = make(m, name);
	}
	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.members = m, .member = first};
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_slow, &readers[i]), 0);
	}
	pthread_mutex_lock(&slow.lock);
	while (slow.inside == 0)
		pthread_cond_wait(&slow.moved, &slow.lock);
	pthread_mutex_unlock(&slow.lock);
	for (uint32_t i = 0; i < WF_ARRAY_SIZE(others); i++) {
		struct wf_source *file = NULL;
		char got;
		assert_int_equal(wf_members_open(m, others[i], &file, NULL), 0);
		assert_int_equal(wf_source_read(file, 0, &got, 1), 0);
		assert_int_equal(got, 'f');
		wf_source_unref(file);
	}
	pthread_mutex_lock(&slow.lock);
	slow.go = true;
	pthread_cond_broadcast(&slow.moved);
	pthread_mutex_unlock(&slow.lock);
	for (uint32_t i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].r, 0);
		assert_ptr_equal(readers[i].source, readers[0].source);
	}
	assert_int_equal(slow.calls, 1);
	for (uint32_t i = 0; i < READERS; i++)
		wf_source_unref(readers[i].source);
	wf_members_unref(m);
}

/* One that is not there after all is looked for by each of its readers. */
static void test_slow_and_missing(void **state)
{
	struct wf_members *m = NULL;
	struct reader readers[READERS];
	char path[256];
	assert_int_equal(wf_members_new(scratch, &m, NULL), 0);
	uint32_t first = make(m, "slow");
	snprintf(path, sizeof path, "%s/slow", scratch);
	assert_int_equal(unlink(path), 0);
	slow.go = false;
	slow.calls = 0;
	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.members = m, .member = first};
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_slow, &readers[i]), 0);
	}
	pthread_mutex_lock(&slow.lock);
	while (slow.inside == 0)
		pthread_cond_wait(&slow.moved, &slow.lock);
	slow.go = true;
	pthread_cond_broadcast(&slow.moved);
	pthread_mutex_unlock(&slow.lock);
	for (uint32_t i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].r, -EIO);
	}
	assert_int_equal(slow.calls, READERS);
	wf_members_unref(m);
}

static int set_up(void **state)
{
	alarm(TOO_LONG_S); /* whoever waits for what he should not */
	return mkdtemp(scratch) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[300];
	snprintf(command, sizeof command, "rm -r %s", scratch);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_slow_and_missing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
