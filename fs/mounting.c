/* SPDX-License-Identifier: MIT */
/* Mounts, or finds out why it did not work, and agrees with the kernel. */
#include "mounting.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "places.h"
#include "say.h"

#define DEVICE "/dev/fuse"
#define PROFILE "/etc/apparmor.d/fusermount3"
#define CONTAINER_OPTIONS \
	"--device /dev/fuse --cap-add SYS_ADMIN (docker on a host with AppArmor: --security-opt apparmor=unconfined, too)"
#define WITHOUT "; wfctl works without a mount"
#define READ_AHEAD_KIB 1024

static int fail(const char *mountpoint, const char *why)
{
	fs_say("weightfs", mountpoint, "%s", why);
	return 1;
}

static bool is_passed(const char *mountpoint)
{
	return !strncmp(mountpoint, "/dev/fd/", 8); /* an opened device, whose mount is somebody else's work */
}

int fs_check_mountpoint(const char *mountpoint)
{
	struct stat st;
	if (is_passed(mountpoint))
		return 0;
	if (stat(mountpoint, &st) < 0 && errno == ENOENT)
		return fail(mountpoint, "there is no such directory to mount on (mkdir makes one)");
	if (stat(mountpoint, &st) < 0)
		return errno == ENOTCONN ? 0 : fail(mountpoint, strerror(errno)); /* a dead mount is taken away later */
	/* the kernel would mount on a file too, which then looks like a broken one */
	return S_ISDIR(st.st_mode) ? 0 : fail(mountpoint, "Not a directory: a mount point has to be one");
}

void fs_detach_dead_mount(const char *mountpoint)
{
	struct fs_place place;
	struct statx st;
	/* the kernel may still have the root's attributes: the daemon has to be asked */
	if (statx(AT_FDCWD, mountpoint, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) == 0 || errno != ENOTCONN ||
	    !fs_look_at(mountpoint, &place) || !place.weightfs)
		return;
	if (umount2(mountpoint, MNT_DETACH) == 0 || errno != EPERM)
		return;
	pid_t child = fork();
	if (child == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint, (char *)NULL);
		_exit(127);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* ---- what is known about this machine ---- */

static bool file_has(const char *path, const char *text)
{
	char buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);
	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return strstr(buf, text) != NULL;
}

static bool in_container(void)
{
	return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 ||
	       access("/run/systemd/container", F_OK) == 0 || getenv("container") ||
	       file_has("/proc/1/cgroup", "docker") || file_has("/proc/1/cgroup", "kubepods") ||
	       file_has("/proc/1/cgroup", "lxc");
}

static const char *device_problem(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0)
		return NULL;
	switch (errno) {
	case ENOENT:
		return in_container() ? DEVICE " is missing: start the container with " CONTAINER_OPTIONS WITHOUT
				      : DEVICE
			       " is missing: run `modprobe fuse` as root; a container is started with " CONTAINER_OPTIONS
				       WITHOUT;
	case ENODEV:
	case ENXIO:
		return "the kernel has no FUSE: run `modprobe fuse` as root" WITHOUT;
	case EPERM:
		return DEVICE " is not for this container: start it with " CONTAINER_OPTIONS WITHOUT;
	case EACCES:
		return "this user may not open " DEVICE " (as a rule its mode is 0666: chmod it as root)" WITHOUT;
	default:
		return NULL;
	}
}

static bool find_helper(struct stat *ret)
{
	const char *path = getenv("PATH");
	char file[4096], *folders = strdup(path ? path : ""), *rest = folders;
	bool found = stat("/usr/bin/fusermount3", ret) == 0 || stat("/bin/fusermount3", ret) == 0;
	for (const char *folder; !found && rest && (folder = strsep(&rest, ":"));) {
		snprintf(file, sizeof file, "%s/fusermount3", folder);
		found = stat(file, ret) == 0;
	}
	free(folders);
	return found;
}

/* Who is not root mounts through fusermount3. */
static const char *helper_problem(void)
{
	struct stat st;
	if (!find_helper(&st))
		return "fusermount3 is missing, through which everybody but root mounts: install the package fuse3" WITHOUT;
	if (geteuid() != 0 && (st.st_uid != 0 || !(st.st_mode & S_ISUID)))
		return "fusermount3 is not setuid root, so that only root can mount (chmod u+s /usr/bin/fusermount3, or the package "
		       "fuse3 anew)" WITHOUT;
	if (geteuid() != 0 && file_has("/proc/self/status", "NoNewPrivs:\t1"))
		return "this process may gain no privileges (no-new-privileges of a container or a service), which fusermount3 "
		       "needs" WITHOUT;
	return NULL;
}

/* ---- AppArmor ---- */

static bool has_folder(const struct wf_buffer *list, const char *folder, size_t len)
{
	for (size_t at = 0; at + len <= list->len; at++)
		if (!memcmp(list->data + at, folder, len) && (at == 0 || list->data[at - 1] == ' '))
			return true;
	return false;
}

/* Where the profile lets fusermount3 mount, up to the first wildcard of each rule. */
static void allowed_folders(struct wf_buffer *out)
{
	char *line = NULL;
	size_t size = 0;
	FILE *f = fopen(PROFILE, "re");
	while (f && getline(&line, &size, f) > 0) {
		const char *rule = line + strspn(line, " \t"), *to = strstr(rule, "->");
		if (strncmp(rule, "mount", 5) != 0 || !to)
			continue;
		to += 2 + strspn(to + 2, " \"");
		size_t len = strcspn(to + (to[0] == '@' ? 2 : 0), "*{?[,\"\n") + (to[0] == '@' ? 2 : 0);
		while (len > 1 && to[len - 1] == '/')
			len--;
		if (len < 2 || has_folder(out, to, len))
			continue;
		wf_buffer_puts(out, out->len ? ", " : "");
		wf_buffer_append(out, to, len);
	}
	if (f)
		fclose(f);
	free(line);
}

static bool apparmor_says(struct wf_buffer *out)
{
	struct wf_buffer folders = WF_BUFFER_INIT;
	if (!file_has("/sys/module/apparmor/parameters/enabled", "Y") || access(PROFILE, R_OK) < 0)
		return false;
	allowed_folders(&folders);
	wf_buffer_printf(out,
			 "AppArmor does not let fusermount3 mount here: its profile allows folders below %s (" PROFILE
			 "; as root a mount needs no fusermount3)",
			 folders.len ? folders.data : "some places");
	wf_buffer_free(&folders);
	return true;
}

/* ---- the reason ---- */

/* The last line, without the program's name before it. */
static const char *last_line(char *text)
{
	static const char *const names[] = {"fusermount3: ", "fuse: ", "weightfs: "};
	for (size_t len = strlen(text); len > 0 && text[len - 1] == '\n'; len--)
		text[len - 1] = '\0';
	char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	for (int i = 0; i < 3; i++)
		if (!strncmp(line, names[i], strlen(names[i])))
			line += strlen(names[i]);
	return line;
}

static int explain(const char *mountpoint, char *said)
{
	struct wf_buffer why = WF_BUFFER_INIT;
	const char *problem = device_problem();
	bool denied = strstr(said, strerror(EPERM)) || strstr(said, strerror(EACCES));
	bool by_helper = geteuid() != 0 || strstr(said, "fusermount");
	if (!problem && by_helper && (geteuid() != 0 || strstr(said, "exec")))
		problem = helper_problem();
	if (problem)
		wf_buffer_puts(&why, problem);
	else if (strstr(said, strerror(EACCES)) && strstr(said, "mount failed") && apparmor_says(&why))
		;
	else if (denied && strstr(said, "mount failed"))
		wf_buffer_printf(
			&why,
			"the kernel does not let this process mount (%s): a container is started with " CONTAINER_OPTIONS
				WITHOUT,
			last_line(said));
	else if (*said)
		wf_buffer_puts(&why, last_line(said));
	else
		wf_buffer_puts(&why, "cannot be mounted on");
	int r = fail(mountpoint, why.data ? why.data : strerror(ENOMEM));
	wf_buffer_free(&why);
	return r;
}

int fs_mount(struct fuse_session *session, const char *mountpoint)
{
	char said[4096] = "";
	int file = memfd_create("messages", MFD_CLOEXEC),
	    kept = file < 0 ? -1 : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (kept >= 0) {
		fflush(stderr);
		dup2(file, STDERR_FILENO);
	}
	int r = fuse_session_mount(session, mountpoint);
	if (kept >= 0) {
		fflush(stderr);
		dup2(kept, STDERR_FILENO);
		close(kept);
		ssize_t n = pread(file, said, sizeof said - 1, 0);
		said[n > 0 ? n : 0] = '\0';
	}
	if (file >= 0)
		close(file);
	if (r != 0)
		return explain(mountpoint, said);
	fputs(said, stderr); /* warnings */
	return 0;
}

/* ---- agreed with the kernel ---- */

/* The kernel reads ahead 128 KiB at a time unless root says more: a scan through a mapping then runs at twice the
 * speed. */
static void raise_read_ahead(const char *mountpoint)
{
	char path[128];
	struct statx st;
	/* only the device is wanted, and without asking the daemon, which is this process */
	if (geteuid() != 0 || statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC, 0, &st) < 0)
		return;
	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major, st.stx_dev_minor);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		dprintf(fd, "%d\n", READ_AHEAD_KIB);
		close(fd);
	}
}

void fs_answer_first(struct fuse_session *session, const char *mountpoint)
{
	struct fuse_buf message = {0};
	int n;
	do
		n = fuse_session_receive_buf(session, &message);
	while (n == -EINTR && !fuse_session_exited(session));
	if (n > 0)
		fuse_session_process_buf(session, &message);
	free(message.mem);
	/* With the answer the kernel goes back to as much as it offered to read ahead: a raise that comes earlier is lost. */
	if (n > 0)
		raise_read_ahead(mountpoint);
}
