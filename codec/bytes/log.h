/* SPDX-License-Identifier: MIT */
/* Lines for a log that somebody else keeps: what went wrong and was not asked about.
 *
 * A line is a sentence without a newline at its end, for a person; one that is longer than WF_LOG_LINE_BYTES is cut. Whoever
 * gives the function says which threads may be in it at once.
 */
#pragma once

#define WF_LOG_LINE_BYTES 512

struct wf_log {
	void (*line)(void *ctx, const char *line); /* NULL: nobody keeps it */
	void *ctx;
};

void wf_log_line(const struct wf_log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
