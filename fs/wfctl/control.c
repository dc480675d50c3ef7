/* SPDX-License-Identifier: MIT */
/* Reads the control directory of a mount, and writes its commands. */
#include "fs/wfctl/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"

#define CHUNK_BYTES (256u << 10)

static int open_control(const char *mount, const char *name, int flags)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s/.weightfs/%s", mount, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int wfctl_control_read(const char *mount, const char *name, struct wf_buffer *out)
{
	int fd = open_control(mount, name, O_RDONLY);
	if (fd < 0)
		return fd;
	char *chunk = malloc(CHUNK_BYTES);
	ssize_t n = 0;
	while (chunk && (n = read(fd, chunk, CHUNK_BYTES)) > 0)
		wf_buffer_append(out, chunk, (size_t)n);
	int r = !chunk ? -ENOMEM : n < 0 ? -errno : wf_buffer_status(out);
	close(fd);
	free(chunk);
	return r;
}

int wfctl_control_ask(const char *mount, const char *name)
{
	int fd = open_control(mount, name, O_WRONLY), r = 0;
	if (fd < 0)
		return fd;
	if (write(fd, "1\n", 2) != 2)
		r = errno ? -errno : -EIO;
	close(fd);
	return r;
}

/* ---- the status ---- */

static int take(void *ctx, const struct wfctl_member *m)
{
	struct wfctl_mounted *all = ctx;
	const struct {
		const char *name;
		bool *flag;
		uint64_t *number;
		char **text;
	} members[] = {{"writable", .flag = &all->writable},
		       {"dirty", .flag = &all->dirty},
		       {"relocated", .flag = &all->relocated},
		       {"checkpoint", .text = &all->checkpoint},
		       {"output", .text = &all->output},
		       {"last_error", .text = &all->last_error},
		       {"commit.done_bytes", .number = &all->done_bytes},
		       {"commit.total_bytes", .number = &all->total_bytes},
		       {"commit.append_bytes", .number = &all->append_bytes},
		       {"only_in_objects.tensors", .number = &all->unseen_tensors},
		       {"only_in_objects.bytes", .number = &all->unseen_bytes}};
	if (!strcmp(m->name, "pid"))
		all->pid = (pid_t)wfctl_member_number(m);
	if (!strcmp(m->name, "commit"))
		all->committing = m->kind == WF_JSON_OBJECT;
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		if (strcmp(m->name, members[i].name) != 0)
			continue;
		if (members[i].flag)
			*members[i].flag = m->kind == WF_JSON_TRUE;
		else if (members[i].number)
			*members[i].number = wfctl_member_number(m);
		else if (m->kind == WF_JSON_STRING && !*members[i].text &&
			 !(*members[i].text = strndup(m->text, m->len)))
			return -ENOMEM;
	}
	return 0;
}

int wfctl_mounted_read(const char *mount, struct wfctl_mounted *ret)
{
	struct wf_buffer status = WF_BUFFER_INIT;
	*ret = (struct wfctl_mounted){0};
	int r = wfctl_control_read(mount, "status", &status);
	if (r == 0)
		r = wfctl_json_members(status.data ? status.data : "", status.len, take, ret);
	wf_buffer_free(&status);
	if (r < 0)
		wfctl_mounted_free(ret);
	return r;
}

void wfctl_mounted_free(struct wfctl_mounted *m)
{
	free(m->checkpoint);
	free(m->output);
	free(m->last_error);
	*m = (struct wfctl_mounted){0};
}

/* ---- a commit ---- */

static void show_progress(const char *mount)
{
	struct wfctl_mounted m = {0};
	char line[160];
	if (wfctl_mounted_read(mount, &m) == 0 && m.committing) {
		int n = snprintf(line, sizeof line, "committing: %llu of %llu MiB",
				 (unsigned long long)m.done_bytes >> 20, (unsigned long long)m.total_bytes >> 20);
		if (m.append_bytes > 0)
			snprintf(line + n, sizeof line - (size_t)n, " (-o commit=append would write %llu KiB)",
				 ((unsigned long long)m.append_bytes >> 10) + 1);
		wfctl_progress(line);
	}
	wfctl_mounted_free(&m);
}

/* In a child, so that this process can show how far the daemon is. */
int wfctl_control_commit(const char *mount)
{
	int status;
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		_exit(-wfctl_control_ask(mount, "commit"));
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (fd >= 0 && isatty(STDERR_FILENO) && poll(&p, 1, 500) == 0)
		show_progress(mount);
	if (fd >= 0)
		close(fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	wfctl_progress(NULL);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

int wfctl_fail_commit(const char *mount, int code)
{
	struct wfctl_mounted m = {0};
	const char *why = wfctl_mounted_read(mount, &m) == 0 ? m.last_error : NULL;
	int r = why && code == -ENOTEMPTY ? wfctl_fail(mount, "committed, but %s", why)
		: why                     ? wfctl_fail(mount, "not committed: %s (%s)", why, strerror(-code))
					  : wfctl_fail(mount, "not committed: %s", strerror(-code));
	wfctl_mounted_free(&m);
	return r;
}

void wfctl_push_dirty_pages(const char *mount)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	syncfs(fd);
	close(fd);
}
