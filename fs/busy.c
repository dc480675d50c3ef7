#include "busy.h"

#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_MS 10000
#define PAUSE_MS 50

static bool is_mounted(const char *checkpoint)
{
	char *path = realpath(checkpoint, NULL);
	FILE *table = path ? setmntent("/proc/self/mounts", "re") : NULL;
	bool found = false;
	for (struct mntent *m; table && !found && (m = getmntent(table));)
		found = !strcmp(m->mnt_type, "fuse.weightfs") && !strcmp(m->mnt_fsname, path) && hasmntopt(m, "rw");
	if (table)
		endmntent(table);
	free(path);
	return found;
}

bool fs_wait_for_holder(const char *checkpoint, int *waited_ms)
{
	if (*waited_ms >= PATIENCE_MS || is_mounted(checkpoint))
		return false;
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
	*waited_ms += PAUSE_MS;
	return true;
}
