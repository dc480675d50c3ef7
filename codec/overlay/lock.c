/* SPDX-License-Identifier: MIT */
/* Takes the locks that keep a second writer out, and tells who holds them. */
#include "codec/overlay/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "codec/bytes/hold.h"
#include "codec/bytes/util.h"

/* The pid of who holds a flock on the file, from the kernel's own list; 0 when it does not say (the process that took
 * the lock has forked and ended, or lives in another pid name space). */
static int flock_holder(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return 0;
	FILE *f = fopen("/proc/locks", "re");
	if (!f)
		return 0;
	char line[256];
	int holder = 0;
	while (!holder && fgets(line, sizeof line, f)) {
		unsigned int major_no, minor_no;
		unsigned long long ino;
		int pid;
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_no, &minor_no, &ino) != 4)
			continue;
		if (ino == st.st_ino && major_no == major(st.st_dev) && minor_no == minor(st.st_dev))
			holder = pid;
	}
	fclose(f);
	return holder;
}

static int pid_of_lock_file(int fd)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	if (n <= 0)
		return 0;
	return atoi(text);
}

static int say_busy(const struct wf_overlay *ov, int pid, struct wf_error *err)
{
	if (pid > 0)
		return wf_fail(err, -EBUSY, "%s is already open for writing by process %d", ov->target, pid);
	return wf_fail(err, -EBUSY, "%s is already open for writing by another process", ov->target);
}

static int holder_pid(const struct wf_overlay *ov)
{
	int pid = flock_holder(ov->file_fd);
	if (pid > 0)
		return pid;
	cleanup_free char *path = NULL;
	if (asprintf(&path, "%s/lock", ov->directory) < 0) {
		path = NULL;
		return 0;
	}
	struct stat st;
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	return fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? 0 : pid_of_lock_file(fd);
}

int wf_overlay_lock_checkpoint(struct wf_overlay *ov, struct wf_error *err)
{
	/* for writing where possible: cutting back an append needs it, and so does a flock over NFS */
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY; /* a FIFO must not make us wait */
	int fd = ov->writable && !ov->elsewhere ? open(ov->checkpoint, O_RDWR | flags) : -1;
	if (fd < 0)
		fd = open(ov->checkpoint, O_RDONLY | flags);
	if (fd < 0)
		return wf_fail(err, -errno, "%s: %s", ov->checkpoint, strerror(errno));
	ov->file_fd = fd;
	struct stat st;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return wf_fail(err, -EINVAL, "%s is neither a regular file nor a block device", ov->checkpoint);
	if (!ov->writable || ov->elsewhere)
		return wf_hold_shared(fd) < 0
			       ? wf_fail(err, -EBUSY, "%s is being committed in place by another process: try again",
					 ov->checkpoint)
			       : 0;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return say_busy(ov, holder_pid(ov), err);
		/* no locks on this file system: the directory's lock is all there is */
		wf_log_line(&ov->log, "%s: cannot be locked: %s", ov->checkpoint, strerror(errno));
		return 0;
	}
	struct stat at_path, at_fd;
	if (stat(ov->checkpoint, &at_path) < 0 || fstat(fd, &at_fd) < 0)
		return wf_fail(err, -errno, "%s: %s", ov->checkpoint, strerror(errno));
	if (at_path.st_dev != at_fd.st_dev || at_path.st_ino != at_fd.st_ino)
		return wf_fail(err, -ESTALE, "%s was replaced while it was being opened: try again", ov->checkpoint);
	return 0;
}

void wf_overlay_note_pid(struct wf_overlay *ov)
{
	if (ov->lock_fd < 0 || ov->lock_pid == getpid())
		return;
	char text[32];
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
	if (pwrite(ov->lock_fd, text, n, 0) == n && ftruncate(ov->lock_fd, n) == 0)
		ov->lock_pid = getpid();
}

int wf_overlay_lock_directory(struct wf_overlay *ov, struct wf_error *err)
{
	if (ov->lock_fd >= 0)
		return 0;
	/* the holder may remove the file between our open and our lock: then the lock is on a file without a name */
	for (int attempt = 0; attempt < 8; attempt++) {
		int lock_fd, r = wf_overlay_open_at(ov, ov->dir_fd, "lock", O_RDWR | O_CREAT, &lock_fd);
		if (r < 0)
			return wf_fail(err, r, "%s/lock: %s", ov->directory, strerror(-r));
		cleanup_fd int fd = lock_fd;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EWOULDBLOCK)
				return say_busy(ov, pid_of_lock_file(fd), err);
			wf_log_line(&ov->log, "%s/lock: cannot be locked: %s", ov->directory, strerror(errno));
		}
		struct stat at_name, at_fd;
		if (fstat(fd, &at_fd) < 0)
			return wf_fail(err, -errno, "%s/lock: %s", ov->directory, strerror(errno));
		if (fstatat(ov->dir_fd, "lock", &at_name, AT_SYMLINK_NOFOLLOW) < 0 || at_name.st_ino != at_fd.st_ino)
			continue;
		ov->lock_fd = steal_fd(&fd);
		ov->lock_pid = 0;
		wf_overlay_note_pid(ov);
		return 0;
	}
	return wf_fail(err, -EBUSY, "%s is being opened and closed by other processes", ov->directory);
}

int wf_overlay_lock_file(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return -EBUSY;
}
