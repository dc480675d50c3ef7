/* SPDX-License-Identifier: MIT */
/* Preloaded into the daemon by slow_source.py: every pread of the file that SLOW_SOURCE names takes 100 ms longer, as from a disk or a
 * server that is far away, once SLOW_SOURCE.slow exists. */
#undef _FILE_OFFSET_BITS /* pread and pread64 are both wrapped: the first must not become the second */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void wait_for_source(int fd)
{
	char flag[4096];
	struct stat asked, slow;
	const char *path = getenv("SLOW_SOURCE");
	if (!path || snprintf(flag, sizeof flag, "%s.slow", path) >= (int)sizeof flag || access(flag, F_OK) < 0 ||
	    stat(path, &slow) < 0 || fstat(fd, &asked) < 0 || asked.st_ino != slow.st_ino ||
	    asked.st_dev != slow.st_dev)
		return;
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	ssize_t (*real)(int, void *, size_t, off_t) = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
	wait_for_source(fd);
	return real(fd, buf, len, offset);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	ssize_t (*real)(int, void *, size_t, off64_t) =
		(ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
	wait_for_source(fd);
	return real(fd, buf, len, offset);
}
