/* SPDX-License-Identifier: MIT */
/* Finds the line of a mount's log that tells of a refused call. The daemon writes it before it answers the call, so that it is among the last ones:
 *
 *	2000-01-01 00:00:00 setxattr a/b/user.torch.class: EINVAL (Invalid argument): no content becomes a foo
 *	2000-01-01 00:00:00 a/b: Input/output error: shard.safetensors: no such file
 *
 * The first form is of edits, and has no reason where the errno says all. The second is of reads, and is written once. */
#include "fs/wfctl/mount_reason.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG ".weightfs/log"
#define LINES 16 /* from the end; others may have edits refused at the same time */
#define STAMP (sizeof "2000-01-01 00:00:00" - 1)

/* A refusal of a second ago may be another one; what is older is. */
#define SECONDS 2

static char *read_log(const struct wfctl_store *s)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	char path[4096], chunk[8192];
	ssize_t n;
	int fd = snprintf(path, sizeof path, "%s/%s", s->path, LOG) < (int)sizeof path
			 ? open(path, O_RDONLY | O_CLOEXEC)
			 : -1;
	if (fd < 0)
		return NULL;
	while ((n = read(fd, chunk, sizeof chunk)) > 0)
		wf_buffer_append(&text, chunk, (size_t)n);
	close(fd);
	wf_buffer_puts(&text, "");
	if (wf_buffer_status(&text) == 0)
		return wf_buffer_steal(&text);
	wf_buffer_free(&text);
	return NULL;
}

static bool is_recent(const char *line)
{
	char when[STAMP + 1];
	struct tm tm;
	time_t then = time(NULL) - SECONDS;
	return localtime_r(&then, &tm) && strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm) == STAMP &&
	       strncmp(line, when, STAMP) >= 0;
}

/* Behind the path, where the text goes on with it, or with a name in it; else NULL. */
static const char *behind(const char *text, const char *path, bool attribute)
{
	size_t len = strlen(path);
	if (strncmp(text, path, len) != 0)
		return NULL;
	text += len;
	if (attribute && !strncmp(text, "/user.", 6))
		text += strcspn(text, ": ");
	return *text == ':' ? text : NULL;
}

/* The reason in a line, or NULL. recent: an edit was refused just now. */
static const char *reason_in(const char *line, int code, const char *path, bool recent)
{
	char kind[128];
	const char *text = line + STAMP + 1, *call = strchr(text, ' '), *rest;
	snprintf(kind, sizeof kind, ": %s: ", strerror(-code));
	if ((rest = behind(text, path, false)) && !strncmp(rest, kind, strlen(kind)))
		return rest + strlen(kind);
	snprintf(kind, sizeof kind, ": %s (%s): ", strerrorname_np(-code), strerror(-code));
	rest = recent && call ? behind(call + 1, *path ? path : "/", true) : NULL;
	return rest && !strncmp(rest, kind, strlen(kind)) ? rest + strlen(kind) : NULL;
}

void wfctl_mount_reason(struct wfctl_store *s, int code, const char *path)
{
	int saved = errno;
	struct wf_buffer shown = WF_BUFFER_INIT;
	const char *reason = NULL;
	s->reason[0] = '\0';
	wf_buffer_printable(&shown, path, strlen(path));
	char *log = code == -ENOENT || code == -ENODATA ? NULL : read_log(s);
	size_t len = log ? strlen(log) : 0;
	bool repeated = false;
	for (int i = 0; !reason && i < LINES && len > 0; i++) {
		log[len - (log[len - 1] == '\n')] = '\0';
		char *end = strrchr(log, '\n'), *line = end ? end + 1 : log;
		len = (size_t)(line - log);
		if (*line == '(')
			repeated = true; /* the time of the line before it is that of the first time */
		else if (strlen(line) > STAMP && shown.data)
			reason = reason_in(line, code, shown.data, repeated || is_recent(line));
		repeated &= *line == '(';
	}
	if (reason) {
		s->reason_code = code;
		snprintf(s->reason, sizeof s->reason, "%s", reason);
	}
	free(log);
	wf_buffer_free(&shown);
	errno = saved;
}
