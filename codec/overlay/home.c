/* SPDX-License-Identifier: MIT */
/* Where the files stand, as descriptors of directories. A path can come to lead elsewhere while the checkpoint is open: the directory
 * is renamed, or something is mounted over it, in the worst case our own mount, which would then wait for itself. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

#define DIRECTORY_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC)

static const char *base_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* 0: it cannot be opened. Never 0 otherwise: standard input may be closed. */
static int open_home(const char *path)
{
	cleanup_free char *directory = strndup(path, (size_t)(base_of(path) - path));
	cleanup_fd int fd = directory ? open(directory, DIRECTORY_FLAGS) : -1;
	int home = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return home < 0 ? 0 : home;
}

void wf_overlay_open_homes(struct wf_overlay *ov)
{
	ov->home_fd = open_home(ov->target);
	ov->source_home_fd = ov->elsewhere ? open_home(ov->checkpoint) : 0;
}

void wf_overlay_close_homes(struct wf_overlay *ov)
{
	if (ov->home_fd > 0)
		close(ov->home_fd);
	if (ov->source_home_fd > 0)
		close(ov->source_home_fd);
	ov->home_fd = ov->source_home_fd = 0;
}

static int open_in(int home, const char *path, int flags)
{
	/* O_NONBLOCK: what stands there now may be a FIFO */
	flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = home > 0 ? openat(home, base_of(path), flags) : open(path, flags);
	return fd < 0 ? -errno : fd;
}

int wf_overlay_open_target(const struct wf_overlay *ov, int flags)
{
	return open_in(ov->home_fd, ov->target, flags);
}

int wf_overlay_open_checkpoint(const struct wf_overlay *ov, int flags)
{
	return open_in(ov->elsewhere ? ov->source_home_fd : ov->home_fd, ov->checkpoint, flags);
}

int wf_overlay_open_home(const struct wf_overlay *ov)
{
	int fd = ov->home_fd > 0 ? fcntl(ov->home_fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (ov->home_fd <= 0) {
		cleanup_free char *directory = strndup(ov->target, (size_t)(base_of(ov->target) - ov->target));
		if (!directory)
			return -ENOMEM;
		fd = open(directory, DIRECTORY_FLAGS);
	}
	return fd < 0 ? -errno : fd;
}
