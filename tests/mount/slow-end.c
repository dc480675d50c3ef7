/* SPDX-License-Identifier: MIT */
/* Preloaded into the daemon by umount_slow.py: between the end of its mount and its own it takes SLOW_END ms, in which it has the
 * connection to the kernel open, as when threads of it are still at work. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

struct fuse_session;

void fuse_session_unmount(struct fuse_session *session); /* of libfuse */

void fuse_session_unmount(struct fuse_session *session)
{
	void (*real)(struct fuse_session *) = (void (*)(struct fuse_session *))dlsym(RTLD_NEXT, "fuse_session_unmount");
	const char *ms = getenv("SLOW_END");
	long wait = ms ? atol(ms) : 0;
	nanosleep(&(struct timespec){.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000}, NULL);
	real(session);
}
