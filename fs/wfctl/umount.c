/* SPDX-License-Identifier: MIT */
/* wfctl umount: commit, unmount, and wait until the daemon has ended. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/control.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/holders.h"
#include "fs/wfctl/made.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

#define PAUSE_MS 50
#define PATIENCE_MS 2500 /* for what holds a mount in passing: a service that starts in a mount name space of its own */

/* umount(2) as root; fusermount3 for everybody else. */
static int unmount(const char *mount, int flags)
{
	int status;
	if (umount2(mount, flags) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	pid_t child = fork();
	if (child == 0) {
		execlp("fusermount3", "fusermount3", "-q", flags & MNT_DETACH ? "-uz" : "-u", "--", mount,
		       (char *)NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOPKG;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int fail_unmount(const char *mount, int r)
{
	if (r == -ENOPKG)
		return wfctl_fail(mount,
				  "not unmounted: fusermount3 is missing, through which everybody but root unmounts "
				  "(package fuse3)");
	return wfctl_fail_error(mount, r, NULL);
}

/* A mount whose daemon died; the kernel may still answer a plain stat. */
static bool is_dead(const char *mount)
{
	struct statx st;
	return statx(AT_FDCWD, mount, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0 && errno == ENOTCONN;
}

/* What was written between the commit and the unmount was committed by the daemon: did that work? Says why not. */
static bool tell_edits_left(const char *target)
{
	struct wf_error err = {0};
	char why[512];
	uint64_t edits = 0;
	int r = wf_waiting(target, &edits, why, sizeof why, &err);
	if (r < 0)
		wfctl_fail(target, "unmounted, but it cannot be seen whether the last edits are committed: %s",
			   err.text);
	else if (edits > 0)
		wfctl_fail(target, "unmounted, but %llu edits are not committed: %s", (unsigned long long)edits,
			   why[0] ? why : "wfctl commit says why");
	return r < 0 || edits > 0;
}

/* One line about who is in the way. did: what was done all the same. */
static int fail_held(const char *mount, const char *did, const struct fs_mounted *m, pid_t daemon, const char *at)
{
	struct wf_buffer holders = WF_BUFFER_INIT;
	if (fs_holders(m, daemon, at, &holders) == 0)
		wf_buffer_puts(
			&holders,
			"something holds it that cannot be seen from here (another user's process, a loop device, an "
			"NFS server, a file system on top)");
	wfctl_fail(mount, "%s: %s", did, holders.data ? holders.data : "?");
	wf_buffer_free(&holders);
	return -EBUSY;
}

/* Until the daemon has ended, which may take as long as its last commit: 0. -EBUSY while somebody else keeps the mount. */
static int wait_for_daemon(int pidfd, pid_t daemon, const struct fs_mounted *m)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	for (int waited_ms = 0; pidfd >= 0 && poll(&p, 1, PAUSE_MS) <= 0; waited_ms += PAUSE_MS) {
		enum fs_mount_state state = fs_mount_state(m);
		if (state != FS_MOUNT_GONE && (waited_ms > PATIENCE_MS || state == FS_MOUNT_HERE) &&
		    fs_is_serving(daemon) != 0)
			return -EBUSY;
	}
	return 0;
}

/* The mount has its edits committed. at: its absolute path. */
static int unmount_and_wait(const char *mount, const char *at, pid_t daemon, bool committed)
{
	struct fs_mounted m;
	/* held before the unmount: the daemon's end is what says that everything is written */
	int pidfd = (int)syscall(SYS_pidfd_open, daemon, 0);
	int r = fs_mounted_at(at, &m);
	if (r == 0 && (r = unmount(at, 0)) == -EBUSY)
		r = fail_held(mount, committed ? "committed, but not unmounted" : "not unmounted", &m, daemon, at);
	else if (r < 0)
		fail_unmount(mount, r);
	else if (wait_for_daemon(pidfd, daemon, &m) < 0)
		r = fail_held(mount,
			      committed ? "committed and unmounted here, but its daemon goes on"
					: "unmounted here, but its daemon goes on",
			      &m, daemon, NULL);
	fs_mounted_free(&m);
	if (pidfd >= 0)
		close(pidfd);
	return r;
}

/* The mount answers. */
static int commit_and_unmount(const char *mount, const struct wfctl_mounted *m)
{
	bool pending = m->writable && (m->dirty || m->relocated);
	int committed = pending ? wfctl_control_commit(mount) : 0, r;
	if (committed < 0)
		wfctl_fail_commit(mount, committed);
	if (committed < 0 && committed != -ENOTEMPTY)
		return committed;
	char *at = realpath(mount, NULL);
	if (!at || chdir("/") < 0) { /* this process itself must not hold it */
		r = -errno;
		wfctl_fail_error(mount, r, NULL);
	} else {
		bool made = wfctl_was_made(m->pid, at); /* while the daemon is there */
		r = unmount_and_wait(mount, at, m->pid, pending);
		if (r == 0 && made)
			rmdir(at);
		if (r == 0 && m->writable && m->checkpoint && tell_edits_left(m->output ? m->output : m->checkpoint))
			r = -EIO;
	}
	free(at);
	return r < 0 ? r : committed;
}

int wfctl_umount(const struct wfctl_call *call)
{
	struct wfctl_mounted m;
	const char *mount = call->arguments[0];
	int r = wfctl_check_place(WFCTL_MOUNT, mount);
	if (r != WFCTL_OK)
		return r;
	if (is_dead(mount)) {
		r = unmount(mount, MNT_DETACH);
		return r < 0 ? fail_unmount(mount, r)
			     : wfctl_fail(mount,
					  "unmounted, but its daemon had died: its last edits are not committed; the "
					  "next mount shows those that had reached the log");
	}
	wfctl_push_dirty_pages(mount);
	r = wfctl_mounted_read(mount, &m);
	if (r < 0)
		return wfctl_fail_error(mount, r, NULL);
	r = commit_and_unmount(mount, &m);
	wfctl_mounted_free(&m);
	return r < 0 ? WFCTL_FAILED : WFCTL_OK;
}
