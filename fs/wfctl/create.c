/* SPDX-License-Identifier: MIT */
/* wfctl new and mount: a checkpoint, or a mount of one, where there was none. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/made.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

int wfctl_new(const struct wfctl_call *call)
{
	const char *path = call->arguments[0];
	struct wf_error err = {0};
	int r = wfctl_check_place(WFCTL_FILE, path);
	if (r == WFCTL_OK && (r = wf_new(path, &err)) < 0)
		r = r == -EEXIST ? wfctl_fail(path, "there is such a file already") : wfctl_fail_error(path, r, &err);
	return r;
}

/* ---- mount ---- */

/* The checkpoint's name without its suffix; NULL where that is no other name. */
static char *default_directory(const char *checkpoint)
{
	const char *slash = strrchr(checkpoint, '/'), *name = slash ? slash + 1 : checkpoint, *dot = strrchr(name, '.');
	return dot && dot != name ? strndup(checkpoint, (size_t)(dot - checkpoint)) : NULL;
}

/* The program beside this one, else the one in PATH. */
static void exec_weightfs(char **words)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "weightfs");
	char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
	if (slash) {
		strcpy(slash + 1, "weightfs");
		execv(path, words);
	}
	execvp("weightfs", words);
	wfctl_fail(NULL, "weightfs, which mounts, is not beside wfctl and not in PATH: %s", strerror(errno));
	_exit(WFCTL_FAILED);
}

static int run_weightfs(char **words, const char *made)
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		if (made)
			wfctl_mark_made(made);
		exec_weightfs(words);
	}
	if (child < 0)
		return wfctl_fail(NULL, "%s", strerror(errno));
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return wfctl_fail(NULL, "%s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) ? WFCTL_FAILED : WFCTL_OK : WFCTL_FAILED;
}

static int mount_at(const struct wfctl_call *call, const char *checkpoint, const char *directory)
{
	const char *options = wfctl_given(call, "options");
	const char *words[8];
	char path[PATH_MAX];
	struct stat st;
	int n = 0;
	words[n++] = "weightfs";
	if (wfctl_given(call, "foreground"))
		words[n++] = "-f";
	if (options) {
		words[n++] = "-o";
		words[n++] = options;
	}
	words[n++] = "--";
	words[n++] = checkpoint;
	words[n++] = directory;
	words[n] = NULL;
	if (stat(checkpoint, &st) < 0)
		return wfctl_fail(checkpoint, "%s", strerror(errno));
	bool made = mkdir(directory, 0777) == 0;
	if (!made && errno != EEXIST)
		return wfctl_fail(directory, "%s", strerror(errno));
	int r = run_weightfs((char **)words, made ? realpath(directory, path) : NULL);
	if (made && (r != WFCTL_OK || wfctl_given(call, "foreground")))
		rmdir(directory);
	return r;
}

int wfctl_mount(const struct wfctl_call *call)
{
	const char *checkpoint = call->arguments[0];
	char *own = call->count < 2 ? default_directory(checkpoint) : NULL;
	const char *directory = call->count < 2 ? own : call->arguments[1];
	int r = wfctl_check_place(WFCTL_FILE, checkpoint);
	if (r == WFCTL_OK)
		r = directory ? mount_at(call, checkpoint, directory)
			      : wfctl_fail(checkpoint, "its name has no suffix, so that a directory has to be named");
	free(own);
	return r;
}
