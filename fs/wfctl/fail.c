/* SPDX-License-Identifier: MIT */
/* Prints why something failed, and how far something is. */
#include "fs/wfctl/fail.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/err.h"
#include "fs/places.h"
#include "fs/say.h"
#include "fs/wfctl/call.h"

/* Of the one script that a process runs. */
static struct {
	const char *path;
	unsigned long line;
} script;

void wfctl_fail_at(const char *path, unsigned long line)
{
	script.path = path;
	script.line = line;
}

int wfctl_fail(const char *path, const char *fmt, ...)
{
	va_list ap;
	char text[1200];
	wfctl_progress(NULL);
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (script.path)
		fs_say("wfctl", script.path, "line %lu: %s%s%s", script.line, path ? path : "", path ? ": " : "", text);
	else
		fs_say("wfctl", path, "%s", text);
	return WFCTL_FAILED;
}

/* Where the checkpoint is mounted that another process holds. */
static int fail_busy(const char *path, const char *text)
{
	char mount[PATH_MAX];
	if (!fs_mount_of(path, mount, sizeof mount))
		return wfctl_fail(path, "%s", text);
	return wfctl_fail(path, "%s, and mounted on %s (name that, or wfctl umount it first)", text, mount);
}

int wfctl_fail_error(const char *path, int code, const struct wf_error *err)
{
	char text[700];
	if (!err || !err->code)
		return wfctl_fail(path, "%s", strerror(-code));
	wf_error_format(err, text, sizeof text);
	const char *named = text[0] == '/' ? NULL : path; /* the text opens with the file's path */
	if (code == -EBUSY)
		return fail_busy(path, text);
	return wfctl_fail(named, "%s", text);
}

void wfctl_note(void *ctx, const char *line)
{
	wfctl_progress(NULL);
	fs_say("wfctl", NULL, "%s", line);
}

bool wfctl_shows_progress(void)
{
	return isatty(STDERR_FILENO);
}

void wfctl_progress(const char *line)
{
	static bool shown;
	if (!line && shown)
		fputs("\r\033[K", stderr);
	else if (line && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s", line);
	shown = line && isatty(STDERR_FILENO);
	fflush(stderr);
}
