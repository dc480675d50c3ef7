/* wfctl status, commit, discard, umount, repack: a mount point is asked through its control directory, an unmounted
 * checkpoint is opened here. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "busy.h"
#include "holders.h"
#include "wfctl.h"

#define PAUSE_MS 50
#define PATIENCE_MS 2500 /* for what holds a mount in passing: a service that starts in a mount name space of its own */

/* ---- the control directory of a mount ---- */

static bool control_path(const char *mount, const char *name, char *buf, size_t size)
{
	return snprintf(buf, size, "%s/.weightfs/%s", mount, name) < (int)size;
}

bool wfctl_is_mount(const char *path)
{
	char status[4096];
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && control_path(path, "status", status, sizeof status) &&
	       stat(status, &st) == 0;
}

static int read_status(const char *mount, struct wf_buffer *out)
{
	char path[4096], chunk[4096];
	if (!control_path(mount, "status", path, sizeof path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n;
	while ((n = read(fd, chunk, sizeof chunk)) > 0)
		wf_buffer_append(out, chunk, (size_t)n);
	int r = n < 0 ? -errno : wf_buffer_status(out);
	close(fd);
	return r;
}

/* The text behind "name": in the status that weightfs wrote; it needs no more than this of JSON. */
static const char *status_field(const struct wf_buffer *status, const char *name)
{
	char quoted[64];
	snprintf(quoted, sizeof quoted, "\"%s\": ", name);
	const char *at = status->data ? strstr(status->data, quoted) : NULL;
	return at ? at + strlen(quoted) : NULL;
}

static unsigned long long status_number(const struct wf_buffer *status, const char *name)
{
	const char *at = status_field(status, name);
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool status_true(const struct wf_buffer *status, const char *name)
{
	const char *at = status_field(status, name);
	return at && !strncmp(at, "true", 4);
}

static void show_commit_progress(const char *mount)
{
	struct wf_buffer status = WF_BUFFER_INIT;
	char line[160];
	const char *commit = read_status(mount, &status) == 0 ? status_field(&status, "commit") : NULL;
	if (commit && *commit == '{') {
		int n = snprintf(line, sizeof line, "committing: %llu of %llu MiB",
				 status_number(&status, "done_bytes") >> 20,
				 status_number(&status, "total_bytes") >> 20);
		unsigned long long append = status_number(&status, "append_bytes");
		if (append > 0)
			snprintf(line + n, sizeof line - (size_t)n, " (-o commit=append would write %llu KiB)",
				 (append >> 10) + 1);
		wfctl_progress(line);
	}
	wf_buffer_free(&status);
}

/* Writes to the commit file in a child, so that this process can show how far the daemon is. Returns the errno of the
 * write. */
static int commit_mount(const char *mount)
{
	char path[4096];
	int status;
	if (!control_path(mount, "commit", path, sizeof path))
		return -ENAMETOOLONG;
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		_exit(fd >= 0 && write(fd, "1\n", 2) == 2 ? 0 : errno ? errno : EIO);
	}
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (fd >= 0 && isatty(STDERR_FILENO) && poll(&p, 1, 500) == 0)
		show_commit_progress(mount);
	if (fd >= 0)
		close(fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	wfctl_progress(NULL);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* The sentence that the daemon keeps about its last failed commit. */
static int fail_commit(const char *mount, int code)
{
	struct wf_buffer status = WF_BUFFER_INIT;
	const char *text = read_status(mount, &status) == 0 ? status_field(&status, "last_error") : NULL;
	const char *end = text && *text == '"' ? strpbrk(text + 1, "\"\n") : NULL;
	int r = end && code == -ENOTEMPTY
			? wfctl_fail(mount, "committed, but %.*s", (int)(end - text - 1), text + 1)
		: end ? wfctl_fail(mount, "not committed: %.*s (%s)", (int)(end - text - 1), text + 1, strerror(-code))
		      : wfctl_fail(mount, "not committed: %s", strerror(-code));
	wf_buffer_free(&status);
	return r;
}

/* Writes that came through shared mappings are the kernel's until it is asked for them. */
static void push_dirty_pages(const char *mount)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	syncfs(fd);
	close(fd);
}

/* ---- commands ---- */

int wfctl_status(int argc, char **argv)
{
	struct wf_buffer status = WF_BUFFER_INIT;
	int r;
	if (wfctl_is_mount(argv[1])) {
		r = read_status(argv[1], &status);
	} else {
		struct wf_checkpoint *ck = wfctl_open(argv[1], false);
		if (!ck)
			return WFCTL_FAILED;
		r = wf_status(ck, &status);
		wf_close(ck);
	}
	if (r == 0)
		fwrite(status.data, 1, status.len, stdout);
	wf_buffer_free(&status);
	return r < 0 ? wfctl_fail_error(argv[1], r, NULL) : WFCTL_OK;
}

static int commit_onto(const char *path, const char *onto)
{
	struct wf_error err = {0};
	int r, waited = 0;
	if (wfctl_is_mount(path))
		return wfctl_fail(path, "is mounted: unmount it first, which keeps the edits when its own commit fails");
	do
		r = wf_commit_onto(path, onto, &err);
	while (r == -EBUSY && fs_wait_for_holder(path, &waited));
	return r < 0 ? wfctl_fail_error(onto, r, &err) : WFCTL_OK;
}

static int commit_path(const char *path)
{
	struct wf_open_options options = {.writable = true};
	struct wf_checkpoint *ck;
	struct wf_error err = {0};
	if (wfctl_is_mount(path)) {
		push_dirty_pages(path);
		int r = commit_mount(path);
		return r < 0 ? fail_commit(path, r) : WFCTL_OK;
	}
	int r, waited = 0;
	do
		r = wf_open(path, &options, &ck, &err);
	while (r == -EBUSY && fs_wait_for_holder(path, &waited));
	if (r == 0) {
		r = wf_commit(ck, &err);
		wf_close(ck);
	}
	return r < 0 ? wfctl_fail_error(path, r, &err) : WFCTL_OK;
}

int wfctl_commit(int argc, char **argv)
{
	static const struct option options[] = {{"onto", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
	const char *onto = NULL;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c != 'o')
			return WFCTL_USAGE;
		onto = optarg;
	}
	if (argc - optind != 1)
		return WFCTL_USAGE;
	if (onto && wfctl_check_place(WFCTL_FILE, onto) != WFCTL_OK)
		return WFCTL_FAILED;
	if (!onto && wfctl_check_place(WFCTL_EITHER, argv[optind]) != WFCTL_OK)
		return WFCTL_FAILED;
	return onto ? commit_onto(argv[optind], onto) : commit_path(argv[optind]);
}

static int discard_mount(const char *mount)
{
	char path[4096];
	if (!control_path(mount, "discard", path, sizeof path))
		return wfctl_fail_error(mount, -ENAMETOOLONG, NULL);
	push_dirty_pages(mount); /* afterwards none comes that was written before */
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 || write(fd, "1\n", 2) != 2 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (r == -EBUSY)
		return wfctl_fail(mount, "not discarded: a file of the mount is open");
	return r < 0 ? wfctl_fail(mount, "not discarded: %s", strerror(-r)) : WFCTL_OK;
}

int wfctl_discard(int argc, char **argv)
{
	struct wf_error err = {0};
	if (wfctl_is_mount(argv[1]))
		return discard_mount(argv[1]);
	int r, waited = 0;
	do
		r = wf_discard(argv[1], &err);
	while (r == -EBUSY && fs_wait_for_holder(argv[1], &waited));
	return r < 0 ? wfctl_fail_error(argv[1], r, &err) : WFCTL_OK;
}

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
		return wfctl_fail(mount, "not unmounted: fusermount3 is missing, through which everybody but root unmounts "
					 "(package fuse3)");
	return wfctl_fail_error(mount, r, NULL);
}

/* A mount whose daemon died; the kernel may still answer a plain stat. */
static bool is_dead(const char *mount)
{
	struct statx st;
	return statx(AT_FDCWD, mount, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0 && errno == ENOTCONN;
}

/* The JSON string behind "name":, as far as the codec escapes. NULL: there is none. */
static char *status_string(const struct wf_buffer *status, const char *name)
{
	const char *at = status_field(status, name);
	char *text = at && *at == '"' ? strdup(at + 1) : NULL, *out = text;
	for (const char *in = text; in && *in != '"' && *in; in++) {
		unsigned int code;
		if (*in == '\\' && in[1] == 'u' && sscanf(in + 2, "%4x", &code) == 1) {
			*out++ = (char)code; /* control characters only: the rest stands as it is */
			in += 5;
		} else if (*in == '\\' && in[1]) {
			in++;
			*out++ = *in == 'n'   ? '\n'
				 : *in == 't' ? '\t'
				 : *in == 'r' ? '\r'
				 : *in == 'b' ? '\b'
				 : *in == 'f' ? '\f'
					      : *in;
		} else {
			*out++ = *in;
		}
	}
	if (text)
		*out = '\0';
	return text;
}

/* What was written between the commit and the unmount was committed by the daemon: did that work? Says why not. */
static bool tell_edits_left(const char *target)
{
	struct wf_error err = {0};
	char why[512];
	uint64_t edits = 0;
	int r = wf_waiting(target, &edits, why, sizeof why, &err);
	if (r < 0)
		wfctl_fail(target, "unmounted, but it cannot be seen whether the last edits are committed: %s", err.text);
	else if (edits > 0)
		wfctl_fail(target, "unmounted, but %llu edits are not committed: %s", (unsigned long long)edits,
			   why[0] ? why : "wfctl commit says why");
	return r < 0 || edits > 0;
}

/* One line about who is in the way. did: what was done all the same. */
static int fail_held(const char *mount, const char *did, dev_t dev, pid_t daemon, const char *at)
{
	struct wf_buffer holders = WF_BUFFER_INIT;
	if (fs_holders(dev, daemon, at, &holders) == 0)
		wf_buffer_puts(&holders, "something holds it that cannot be seen from here (another user's process, a loop device, an "
					 "NFS server, a file system on top)");
	wfctl_fail(mount, "%s: %s", did, holders.data ? holders.data : "?");
	wf_buffer_free(&holders);
	return -EBUSY;
}

/* Until the daemon has ended, which may take as long as its last commit: 0. -EBUSY while somebody else keeps the mount. */
static int wait_for_daemon(int pidfd, pid_t daemon, dev_t dev)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	for (int waited_ms = 0; pidfd >= 0 && poll(&p, 1, PAUSE_MS) <= 0; waited_ms += PAUSE_MS)
		if ((waited_ms > PATIENCE_MS || fs_is_mounted_here(dev)) && fs_is_serving(daemon) != 0)
			return -EBUSY;
	return 0;
}

/* The mount has its edits committed. at: its absolute path. */
static int unmount_and_wait(const char *mount, const char *at, pid_t daemon, bool committed)
{
	dev_t dev;
	/* held before the unmount: the daemon's end is what says that everything is written */
	int pidfd = (int)syscall(SYS_pidfd_open, daemon, 0);
	int r = fs_device_at(at, &dev);
	if (r == 0 && (r = unmount(at, 0)) == -EBUSY)
		r = fail_held(mount, committed ? "committed, but not unmounted" : "not unmounted", dev, daemon, at);
	else if (r < 0)
		fail_unmount(mount, r);
	else if (wait_for_daemon(pidfd, daemon, dev) < 0)
		r = fail_held(mount, committed ? "committed and unmounted here, but its daemon goes on"
					       : "unmounted here, but its daemon goes on",
			      dev, daemon, NULL);
	if (pidfd >= 0)
		close(pidfd);
	return r;
}

int wfctl_umount(int argc, char **argv)
{
	struct wf_buffer status = WF_BUFFER_INIT;
	const char *mount = argv[1];
	if (is_dead(mount)) {
		int r = unmount(mount, MNT_DETACH);
		return r < 0 ? fail_unmount(mount, r)
			     : wfctl_fail(mount,
					  "unmounted, but its daemon had died: its last edits are not committed; the "
					  "next mount shows those that had reached the log");
	}
	if (!wfctl_is_mount(mount))
		return wfctl_fail(mount, "not a weightfs mount");
	push_dirty_pages(mount);
	int r = read_status(mount, &status);
	if (r < 0) {
		wf_buffer_free(&status);
		return wfctl_fail_error(mount, r, NULL);
	}
	bool writable = status_true(&status, "writable");
	char *checkpoint = status_string(&status, "checkpoint"), *output = status_string(&status, "output");
	char *at = realpath(mount, NULL);
	bool pending = writable && (status_true(&status, "dirty") || status_true(&status, "relocated"));
	int committed = pending ? commit_mount(mount) : 0;
	if (committed < 0)
		fail_commit(mount, committed);
	if (committed < 0 && committed != -ENOTEMPTY) {
		r = committed;
	} else if (!at || chdir("/") < 0) { /* this process itself must not hold it */
		r = -errno;
		wfctl_fail_error(mount, r, NULL);
	} else {
		r = unmount_and_wait(mount, at, (pid_t)status_number(&status, "pid"), pending);
		if (r == 0 && writable && checkpoint && tell_edits_left(output ? output : checkpoint))
			r = -EIO;
	}
	free(at);
	free(checkpoint);
	free(output);
	wf_buffer_free(&status);
	return r < 0 || committed < 0 ? WFCTL_FAILED : WFCTL_OK;
}

int wfctl_repack(int argc, char **argv)
{
	static const struct option options[] = {{"trim", no_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
	struct wf_error err = {0};
	bool trim = false;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c != 't')
			return WFCTL_USAGE;
		trim = true;
	}
	if (argc - optind != 1)
		return WFCTL_USAGE;
	int r = wfctl_check_place(WFCTL_FILE, argv[optind]), waited = 0;
	if (r != WFCTL_OK)
		return r;
	do
		r = wf_repack(argv[optind], trim, &err);
	while (r == -EBUSY && fs_wait_for_holder(argv[optind], &waited));
	return r < 0 ? wfctl_fail_error(argv[optind], r, &err) : WFCTL_OK;
}
