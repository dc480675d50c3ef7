/* SPDX-License-Identifier: MIT */
/* Preloaded into the daemon by crash.py: at the Nth call that changes a file, the process dies as by SIGKILL, or the call fails,
 * or waits.
 *
 * DIE_AT=FILE names a control file that is read at each such call: "N kill", "N ENOSPC", "N EIO", "N wait" (until somebody opens the
 * FIFO FILE.gate for writing), or "count". With a third word, the name of a function, only its calls are counted; "all" in place of N
 * is every call. Calls are counted from
 * the moment the control file's content changes, so that one daemon serves a set-up phase and the fault; at each call the count
 * so far is kept in FILE.count. Counted: every libc call that writes to, creates, renames, removes, resizes or syncs something in a
 * file system; /dev/fuse (writev) is not among them.
 */
#undef _FILE_OFFSET_BITS /* pwrite and pwrite64 are both wrapped: the first must not become the second */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char plan[64];
static unsigned long calls;

static ssize_t read_plan(char *buf, size_t size)
{
	const char *path = getenv("DIE_AT");
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return -1;
	ssize_t n = syscall(SYS_read, fd, buf, size - 1);
	syscall(SYS_close, fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

static void publish(void)
{
	char path[4096], text[32];
	snprintf(path, sizeof path, "%s.count", getenv("DIE_AT"));
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int n = snprintf(text, sizeof text, "%lu\n", calls);
	if (fd >= 0) {
		syscall(SYS_write, fd, text, n);
		syscall(SYS_close, fd);
	}
}

static void wait_at_gate(void)
{
	char path[4096];
	snprintf(path, sizeof path, "%s.gate", getenv("DIE_AT"));
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		syscall(SYS_close, fd);
}

/* true when this call is to fail; errno is set then. Does not return when the process is to die. */
static bool fault(const char *function)
{
	char now[64], what[16], only[32];
	unsigned long at = 0;
	int error = 0;
	bool waits = false;
	pthread_mutex_lock(&lock);
	if (read_plan(now, sizeof now) > 0) {
		if (strcmp(now, plan) != 0) {
			strcpy(plan, now);
			calls = 0;
		}
		bool all = !strncmp(plan, "all ", 4);
		int words = all ? 1 + sscanf(plan, "all %15s %31s", what, only)
				: sscanf(plan, "%lu %15s %31s", &at, what, only);
		if (words < 3 || !strcmp(only, function)) {
			calls++;
			publish();
		} else {
			words = 0;
		}
		if (words >= 2 && (all || calls == at)) {
			if (!strcmp(what, "kill"))
				kill(getpid(), SIGKILL);
			waits = !strcmp(what, "wait");
			error = waits ? 0 : !strcmp(what, "ENOSPC") ? ENOSPC : EIO;
		}
	}
	pthread_mutex_unlock(&lock);
	if (waits)
		wait_at_gate();
	if (error)
		errno = error;
	return error != 0;
}

#define WRAP(type, name, parameters, arguments)                             \
	type name parameters                                                \
	{                                                                   \
		static type(*real) parameters;                              \
		if (!real)                                                  \
			real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
		if (fault(#name))                                           \
			return -1;                                          \
		return real arguments;                                      \
	}

WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
WRAP(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRAP(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, ftruncate64, (int fd, off64_t n), (fd, n))
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
WRAP(int, rename, (const char *a, const char *b), (a, b))
WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, renameat2, (int a, const char *b, int c, const char *d, unsigned int f), (a, b, c, d, f))
WRAP(int, unlink, (const char *p), (p))
WRAP(int, unlinkat, (int d, const char *p, int f), (d, p, f))
WRAP(int, rmdir, (const char *p), (p))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m))
WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m))
WRAP(ssize_t, copy_file_range, (int a, off64_t *b, int c, off64_t *d, size_t n, unsigned int f), (a, b, c, d, n, f))
WRAP(ssize_t, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n))
WRAP(int, fchmod, (int fd, mode_t m), (fd, m))
WRAP(int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g))

static int open_counted(int dir, const char *path, int flags, mode_t mode)
{
	if ((flags & O_CREAT) && fault("open"))
		return -1;
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_counted(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_counted(dir, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
