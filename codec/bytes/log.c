/* SPDX-License-Identifier: MIT */
/* One formatted line to whoever keeps the log. */
#include "codec/bytes/log.h"

#include <stdarg.h>
#include <stdio.h>

void wf_log_line(const struct wf_log *log, const char *fmt, ...)
{
	char line[WF_LOG_LINE_BYTES];
	va_list ap;
	if (!log->line)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	log->line(log->ctx, line);
}
