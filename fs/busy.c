/* SPDX-License-Identifier: MIT */
/* Tries again while another process finishes its commit of a checkpoint. */
#include "busy.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#include "places.h"

#define PATIENCE_MS 10000
#define PAUSE_MS 50

int fs_when_free(const char *checkpoint, int (*attempt)(void *ctx), void *ctx)
{
	char mount[PATH_MAX];
	int r, waited_ms = 0;
	while ((r = attempt(ctx)) == -EBUSY && waited_ms < PATIENCE_MS &&
	       !fs_mount_of(checkpoint, mount, sizeof mount)) {
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
		waited_ms += PAUSE_MS;
	}
	return r;
}
