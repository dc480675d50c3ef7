/* A checkpoint that another process holds for writing although nothing is mounted any more: after umount(8) the daemon
 * commits, and until it is done nobody else may write. */
#pragma once

#include <stdbool.h>

/* Called when opening said -EBUSY. Pauses a little and returns true when another try makes sense: no mount shows the
 * checkpoint, and less than ten seconds were waited in all. *waited_ms: 0 at first, for this function's own use. */
bool fs_wait_for_holder(const char *checkpoint, int *waited_ms);
