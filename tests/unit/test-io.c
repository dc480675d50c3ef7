/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "codec/bytes/io.h"
#include "codec/bytes/log.h"

static int temporary(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void test_ranges(void **state)
{
	char buf[16];
	size_t got = 99;
	int fd = temporary();
	assert_int_equal(wf_pwrite_all(fd, "0123456789", 10, 5), 0);
	assert_int_equal(wf_pread_all(fd, buf, 10, 5), 0);
	assert_memory_equal(buf, "0123456789", 10);
	assert_int_equal(wf_pread_all(fd, buf, 11, 5), -EIO);
	assert_int_equal(wf_pread_most(fd, buf, sizeof buf, 12, &got), 0);
	assert_int_equal(got, 3);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(wf_pread_most(fd, buf, sizeof buf, 15, &got), 0);
	assert_int_equal(got, 0);
	close(fd);
	assert_int_equal(wf_pread_most(-1, buf, 1, 0, &got), -EBADF);
	assert_int_equal(wf_pwrite_all(-1, buf, 1, 0), -EBADF);
}

static void test_directory(void **state)
{
	int by_path = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC), file = temporary();
	assert_int_equal(wf_sync_directory(by_path), 0);
	assert_int_equal(wf_sync_directory(file), -ENOTDIR);
	assert_int_equal(wf_sync_directory(-1), -EBADF);
	close(file);
	close(by_path);
}

static void keep(void *ctx, const char *line)
{
	strcpy(ctx, line);
}

static void test_log(void **state)
{
	char kept[WF_LOG_LINE_BYTES] = "", longer[2 * WF_LOG_LINE_BYTES];
	struct wf_log log = {keep, kept};
	wf_log_line(&log, "%s: %d of %d", "weights", 3, 4);
	assert_string_equal(kept, "weights: 3 of 4");
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	wf_log_line(&log, "%s", longer);
	assert_int_equal(strlen(kept), WF_LOG_LINE_BYTES - 1);
	wf_log_line(&(struct wf_log){0}, "%s", "nobody keeps it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
