/* Who waits for whom: a writer among readers that never stop, and a reader among writers. Counted in calls of the others, not in
 * time, so that a busy machine does not matter. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/checkpoint.h"

#define MANY 6
#define CALLS 60
#define CHUNK ((size_t)4 << 20)
/* Calls of all the others for one of the lonely one: those under way, one more each, and as many as fit into the time in which a
 * busy machine does not run it. Where it starves, there is no end to them. */
#define LIMIT (CALLS * 100 * MANY)

static const char *files;
static char dir[64], file[96];
static struct wf_checkpoint *ck;
static struct wf_stat big;
static atomic_bool stop;
static atomic_uint calls;

static int setup(void **state)
{
	char command[4400];
	const struct wf_open_options o = {.writable = true};
	struct wf_error err = {0};
	char *zeroes = calloc(1, CHUNK);
	snprintf(dir, sizeof dir, "/tmp/test-locks-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(command, sizeof command, "cp %s/torch-2.15.pt %s", files, file);
	assert_int_equal(system(command), 0);
	assert_int_equal(wf_open(file, &o, &ck, &err), 0);
	assert_int_equal(wf_create(ck, WF_ROOT, "big", &big), 0);
	assert_int_equal(wf_write(ck, big.ino, NULL, 0, zeroes, CHUNK), CHUNK);
	free(zeroes);
	return 0;
}

static int teardown(void **state)
{
	char command[160];
	wf_close(ck);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
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
	};
	return cmocka_run_group_tests_name("locks", tests, NULL, NULL);
}
