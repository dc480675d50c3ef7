/* SPDX-License-Identifier: MIT */
/* The directory itself: opened only when it is ours, and everything in it only as the regular file that we made. Another
 * user may have put anything beside a checkpoint in /tmp: a FIFO that never answers, a link to a file that we would cut
 * off, or edits that we would commit. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

#define PAUSE_MS 5
#define ATTEMPTS 20

/* The directory that the overlay stands in. */
static int open_parent(const struct wf_overlay *ov, int *ret_fd)
{
	/* edits for another file, or for a directory whose main file the target is, stand elsewhere than in the target's home */
	cleanup_free char *beside =
		ov->apart ? strndup(ov->directory, (size_t)(strrchr(ov->directory, '/') + 1 - ov->directory)) : NULL;
	if (ov->apart && !beside)
		return -ENOMEM;
	int home = ov->apart ? open(beside, O_PATH | O_DIRECTORY | O_CLOEXEC) : wf_overlay_open_home(ov);
	if (home < 0)
		return ov->apart ? -errno : home;
	*ret_fd = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* one that may be passed through but not listed */
	if (*ret_fd < 0 && errno == EACCES) {
		*ret_fd = home;
		return 0;
	}
	int r = *ret_fd < 0 ? -errno : 0;
	close(home);
	return r;
}

static const char *own_name(const struct wf_overlay *ov)
{
	return strrchr(ov->directory, '/') + 1;
}

/* Whether somebody whom we need not trust could have put something there. A sentence with the reason, or NULL. */
static const char *stranger(const struct wf_overlay *ov, const struct stat *st, char *buf, size_t size)
{
	struct stat file;
	bool by_name = ov->elsewhere || ov->file_fd < 0;
	cleanup_fd int target = by_name ? wf_overlay_open_target(ov, O_PATH) : -1;
	bool owners = fstat(by_name ? target : ov->file_fd, &file) == 0 && file.st_uid == st->st_uid;
	if (st->st_uid != 0 && st->st_uid != geteuid() && !owners) {
		snprintf(buf, size, "belongs to user %u, who is neither root, you, nor the checkpoint's owner",
			 (unsigned int)st->st_uid);
		return buf;
	}
	return st->st_mode & (S_IWGRP | S_IWOTH) ? "can be written by others" : NULL;
}

static const char *odd_file(const struct wf_overlay *ov, const struct stat *st, char *buf, size_t size)
{
	if (!S_ISREG(st->st_mode))
		return "is no regular file";
	if (st->st_nlink != 1)
		return "has another name elsewhere";
	return stranger(ov, st, buf, size);
}

static int say_not_ours(const struct wf_overlay *ov, const char *name, const char *why, struct wf_error *err)
{
	return wf_fail(err, -EPERM, "%s%s%s %s: the edits in %s are not used", ov->directory, name ? "/" : "",
		       name ? name : "", why, name ? "that directory" : "it");
}

/* Everything in an open directory of ours. data: it is data/. */
static int check_entries(const struct wf_overlay *ov, int dir_fd, bool data, struct wf_error *err)
{
	char reason[160], name[NAME_MAX + 8];
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = 0;
	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || (!data && !strcmp(e->d_name, "data")) ||
		    fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* it has just been removed by the writer that we look at */
		const char *why = odd_file(ov, &st, reason, sizeof reason);
		snprintf(name, sizeof name, "%s%s", data ? "data/" : "", e->d_name);
		if (why)
			r = say_not_ours(ov, name, why, err);
	}
	closedir(d);
	return r;
}

/* Opens a directory that is ours. name: for the error's text; NULL for the overlay itself. */
static int open_own(const struct wf_overlay *ov, int at, const char *name, int *ret_fd, struct wf_error *err)
{
	char reason[160];
	struct stat st;
	*ret_fd = -1;
	cleanup_fd int fd =
		openat(at, name ? name : own_name(ov), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return say_not_ours(ov, name, "is no directory", err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return wf_fail(err, -errno, "%s%s%s: %s", ov->directory, name ? "/" : "", name ? name : "",
			       strerror(errno));
	const char *why = stranger(ov, &st, reason, sizeof reason);
	int r = why ? say_not_ours(ov, name, why, err) : check_entries(ov, fd, name != NULL, err);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

int wf_overlay_open_directory(struct wf_overlay *ov, struct wf_error *err)
{
	int parent_fd, dir_fd = -1, data_fd = -1;
	int r = open_parent(ov, &parent_fd);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->directory, strerror(-r));
	cleanup_fd int parent = parent_fd;
	/* with a name that long there can be no directory beside it */
	r = strlen(own_name(ov)) > NAME_MAX ? 0 : open_own(ov, parent, NULL, &dir_fd, err);
	if (r == 0 && dir_fd >= 0)
		r = open_own(ov, dir_fd, "data", &data_fd, err);
	if (r < 0) {
		if (dir_fd >= 0)
			close(dir_fd);
		return r;
	}
	ov->dir_fd = dir_fd;
	ov->data_fd = data_fd;
	return 0;
}

int wf_overlay_make_directory(struct wf_overlay *ov)
{
	int parent_fd;
	if (ov->dir_fd >= 0)
		return 0;
	int r = open_parent(ov, &parent_fd);
	if (r < 0)
		return r;
	cleanup_fd int parent = parent_fd;
	if (mkdirat(parent, own_name(ov), 0700) < 0 && errno != EEXIST)
		return -errno;
	ov->new_directory = true;
	r = open_own(ov, parent, NULL, &ov->dir_fd, NULL);
	return r == 0 && ov->dir_fd < 0 ? -ENOENT : r;
}

int wf_overlay_make_data(struct wf_overlay *ov)
{
	if (ov->data_fd >= 0)
		return 0;
	if (mkdirat(ov->dir_fd, "data", 0700) < 0 && errno != EEXIST)
		return -errno;
	ov->new_log_name = true;
	int r = open_own(ov, ov->dir_fd, "data", &ov->data_fd, NULL);
	return r == 0 && ov->data_fd < 0 ? -ENOENT : r;
}

int wf_overlay_open_at(const struct wf_overlay *ov, int dir_fd, const char *name, int flags, int *ret_fd)
{
	char reason[160];
	struct stat st;
	/* a FIFO must be refused and not waited for, and what is refused not be cut off by the open */
	cleanup_fd int fd =
		openat(dir_fd, name, (flags & ~O_TRUNC) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EPERM : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (odd_file(ov, &st, reason, sizeof reason))
		return -EPERM;
	if ((flags & O_TRUNC) && ftruncate(fd, 0) < 0)
		return -errno;
	*ret_fd = steal_fd(&fd);
	return 0;
}

int wf_overlay_sync_parent(const struct wf_overlay *ov)
{
	int parent_fd, r = open_parent(ov, &parent_fd);
	if (r < 0)
		return r;
	cleanup_fd int parent = parent_fd;
	return wf_sync_directory(parent);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void remove_cut_logs(int dir_fd)
{
	char name[32];
	for (unsigned int i = 1; i < 1000; i++) {
		snprintf(name, sizeof name, "log.cut.%u", i);
		if (unlinkat(dir_fd, name, 0) < 0)
			return;
	}
}

/* Removes the overlay's own name when it is empty. NFS and many FUSE file systems keep the file of an open descriptor
 * under another name in its directory, until its last close has reached the server. Nobody says when that is. */
static void remove_empty(struct wf_overlay *ov)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	int parent_fd;
	if (open_parent(ov, &parent_fd) < 0)
		return;
	int r = unlinkat(parent_fd, own_name(ov), AT_REMOVEDIR) < 0 ? -errno : 0;
	close_fd(&ov->dir_fd);
	close_fd(&ov->lock_fd);
	/* from here on another writer may be in it, whose lock then keeps it */
	for (int i = 0; (r == -ENOTEMPTY || r == -EEXIST) && i < ATTEMPTS; i++) {
		nanosleep(&pause, NULL);
		r = unlinkat(parent_fd, own_name(ov), AT_REMOVEDIR) < 0 ? -errno : 0;
	}
	close(parent_fd);
}

void wf_overlay_remove_directory(struct wf_overlay *ov, bool cut_logs)
{
	if (ov->dir_fd < 0)
		return;
	if (cut_logs)
		remove_cut_logs(ov->dir_fd);
	/* with something left in it the lock must stay as well, so that two writers meet there */
	struct stat st;
	if (fstatat(ov->dir_fd, "files", &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    fstatat(ov->dir_fd, "log.cut.1", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	close_fd(&ov->data_fd);
	unlinkat(ov->dir_fd, "data", AT_REMOVEDIR);
	unlinkat(ov->dir_fd, "lock", 0);
	remove_empty(ov);
	close_fd(&ov->dir_fd);
	close_fd(&ov->lock_fd);
}
