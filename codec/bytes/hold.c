/* SPDX-License-Identifier: MIT */
/* Takes the lock of who reads a file in its place, or of who moves its bytes. */
#include "codec/bytes/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#define WAIT_MS 20
#define WAITS 250

static int hold(int fd, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = WF_HOLD_AT, .l_len = 1};
	return fcntl(fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES) ? -EBUSY : 0;
}

int wf_hold_shared(int fd)
{
	const struct timespec pause = {.tv_nsec = WAIT_MS * 1000000L};
	int r = hold(fd, F_RDLCK);
	/* not F_OFD_SETLKW: who holds it may be stopped, and nobody says for how long */
	for (int i = 0; r < 0 && i < WAITS; i++) {
		nanosleep(&pause, NULL);
		r = hold(fd, F_RDLCK);
	}
	return r;
}

int wf_hold_alone(int fd)
{
	return hold(fd, F_WRLCK);
}
