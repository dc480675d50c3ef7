/* What everything in edit/ stands on: lines for the log, and the reason of a refusal. */
#include "codec/edit/state.h"

#include <stdarg.h>
#include <stdio.h>

void wf_checkpoint_log(const struct wf_checkpoint *ck, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	if (!ck->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	ck->log(ck->log_ctx, line);
}

int wf_refuse(const struct wf_checkpoint *ck, int code, const char *fmt, ...)
{
	char reason[512];
	va_list ap;
	if (!ck->refused)
		return code;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	ck->refused(ck->refused_ctx, code, reason);
	return code;
}
