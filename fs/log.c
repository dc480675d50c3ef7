/* SPDX-License-Identifier: MIT */
/* What the daemon says: to syslog or standard error, and the last lines of it, with why calls were refused, in
 * .weightfs/log. A checkpoint's names may hold anything, so that control characters are written as %XX. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/bytes/buffer.h"

#define LINES_MAX 256u
#define LINE_BYTES 1200u

struct fs_log_lines {
	pthread_mutex_t lock;
	char *lines[LINES_MAX]; /* a ring */
	uint32_t first, count;
	uint32_t repeated; /* times that the last line was said again */
};

struct fs_log_lines *fs_log_new(void)
{
	struct fs_log_lines *l = calloc(1, sizeof *l);
	if (l)
		pthread_mutex_init(&l->lock, NULL);
	return l;
}

void fs_log_free(struct fs_log_lines *l)
{
	if (!l)
		return;
	for (uint32_t i = 0; i < LINES_MAX; i++)
		free(l->lines[i]);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Without the time, which two lines that say the same do not share. */
static const char *text_of(const char *line)
{
	return line + strlen("2000-01-01 00:00:00 ");
}

static void keep(struct fs_log_lines *l, const char *text)
{
	char when[32];
	struct tm tm;
	time_t now = time(NULL);
	if (!localtime_r(&now, &tm) || !strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm))
		return;
	pthread_mutex_lock(&l->lock);
	if (l->count > 0 && !strcmp(text_of(l->lines[(l->first + l->count - 1) % LINES_MAX]), text)) {
		l->repeated++;
	} else {
		char *line;
		if (l->count == LINES_MAX) {
			free(l->lines[l->first]);
			l->lines[l->first] = NULL;
			l->first = (l->first + 1) % LINES_MAX;
			l->count--;
		}
		l->repeated = 0;
		if (asprintf(&line, "%s %s", when, text) >= 0)
			l->lines[(l->first + l->count++) % LINES_MAX] = line;
	}
	pthread_mutex_unlock(&l->lock);
}

static void format(char *text, size_t size, const char *fmt, va_list ap)
{
	char raw[LINE_BYTES];
	struct wf_buffer line = WF_BUFFER_INIT;
	vsnprintf(raw, sizeof raw, fmt, ap);
	wf_buffer_printable(&line, raw, strlen(raw));
	snprintf(text, size, "%s", line.data ? line.data : "");
	wf_buffer_free(&line);
}

void fs_log(struct fs *fs, int priority, const char *fmt, ...)
{
	char text[3 * LINE_BYTES];
	va_list ap;
	va_start(ap, fmt);
	format(text, sizeof text, fmt, ap);
	va_end(ap);
	if (fs->to_syslog)
		syslog(priority, "%s", text);
	else
		fprintf(stderr, "weightfs: %s\n", text);
	if (fs->log)
		keep(fs->log, text);
}

void fs_log_only_here(struct fs *fs, const char *fmt, ...)
{
	char text[3 * LINE_BYTES];
	va_list ap;
	va_start(ap, fmt);
	format(text, sizeof text, fmt, ap);
	va_end(ap);
	if (fs->log)
		keep(fs->log, text);
}

int fs_log_text(struct fs *fs, struct wf_buffer *out)
{
	struct fs_log_lines *l = fs->log;
	pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < l->count; i++)
		wf_buffer_printf(out, "%s\n", l->lines[(l->first + i) % LINES_MAX]);
	if (l->repeated > 0)
		wf_buffer_printf(out, "(the last line %u more times)\n", l->repeated);
	pthread_mutex_unlock(&l->lock);
	return wf_buffer_status(out);
}
