/* SPDX-License-Identifier: MIT */
/* Tells a mount point from a checkpoint, and refuses what is neither. */
#include "fs/wfctl/where.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/places.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"

bool wfctl_is_mount(const char *path)
{
	char status[PATH_MAX];
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       snprintf(status, sizeof status, "%s/.weightfs/status", path) < (int)sizeof status &&
	       stat(status, &st) == 0;
}

/* A verb that works on mounts was given a directory on which there is none of weightfs. */
static int refuse_directory(const char *path)
{
	char mount[PATH_MAX], user[128];
	struct fs_place place;
	if (!fs_look_at(path, &place) || (!place.mounted && fs_mount_around(path, mount, sizeof mount)))
		return wfctl_fail(path, "not a weightfs mount: it is inside the one on %s", mount);
	if (!place.mounted)
		return wfctl_fail(path, "not a weightfs mount: a directory on which nothing is mounted");
	if (!place.weightfs)
		return wfctl_fail(path, "not a weightfs mount: a file system of type %s is mounted here", place.type);
	return wfctl_fail(path, "mounted by %s, and for that user alone (-o allow_other lets others in)",
			  fs_user_name(place.owner, user, sizeof user));
}

int wfctl_check_place(enum wfctl_place at, const char *path)
{
	const char *dash = fs_refuse_dash(path);
	char mount[PATH_MAX], user[128];
	struct fs_place place;
	struct statx st;
	if (dash)
		return wfctl_fail(path, "%s", dash);
	if (at == WFCTL_FILE)
		return WFCTL_OK;
	bool known = fs_look_at(path, &place);
	if (at == WFCTL_MOUNT && known && place.weightfs && geteuid() != 0 && place.owner != geteuid())
		return wfctl_fail(path, "not unmounted: it was mounted by %s; only that user and root can unmount it",
				  fs_user_name(place.owner, user, sizeof user));
	/* the kernel may still have the attributes of a mount whose daemon has died: that has to be asked */
	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0) {
		if (errno == ENOTCONN && at == WFCTL_EITHER)
			return wfctl_fail(
				path, "the daemon of this mount has died; wfctl umount frees it, and the edits of the "
				      "last sync are shown by the next mount");
		if (errno == EACCES && known && place.weightfs)
			return refuse_directory(path);
		return at == WFCTL_MOUNT && errno != ENOTCONN
			       ? wfctl_fail(path, "not a weightfs mount: %s", strerror(errno))
			       : WFCTL_OK;
	}
	if (S_ISDIR(st.stx_mode) && wfctl_is_mount(path))
		return WFCTL_OK;
	/* a checkpoint may be a directory: who opens it knows */
	if (S_ISDIR(st.stx_mode) && at == WFCTL_EITHER && known && !place.mounted &&
	    !fs_mount_around(path, mount, sizeof mount))
		return WFCTL_OK;
	if (S_ISDIR(st.stx_mode))
		return refuse_directory(path);
	if (at != WFCTL_MOUNT)
		return WFCTL_OK;
	if (fs_mount_of(path, mount, sizeof mount))
		return wfctl_fail(path, "not a weightfs mount: this checkpoint is mounted on %s; name that", mount);
	return wfctl_fail(path, "not a weightfs mount: a file, which is mounted nowhere here");
}
