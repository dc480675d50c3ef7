#include "busy.h"

#include <limits.h>
#include <time.h>

#include "places.h"

#define PATIENCE_MS 10000
#define PAUSE_MS 50

bool fs_wait_for_holder(const char *checkpoint, int *waited_ms)
{
	char mount[PATH_MAX];
	if (*waited_ms >= PATIENCE_MS || fs_mount_of(checkpoint, mount, sizeof mount))
		return false;
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
	*waited_ms += PAUSE_MS;
	return true;
}
