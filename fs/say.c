/* SPDX-License-Identifier: MIT */
/* Prints one line on standard error, whatever the names in it hold. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/buffer.h"

static void say_v(const char *program, const char *what, const char *fmt, va_list ap)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	char text[1200];
	int n = vsnprintf(text, sizeof text, fmt, ap);
	wf_buffer_printf(&line, "%s: ", program);
	if (what) {
		wf_buffer_printable(&line, what, strlen(what));
		wf_buffer_puts(&line, ": ");
	}
	if (n > 0)
		wf_buffer_printable(&line, text, strlen(text));
	wf_buffer_putc(&line, '\n');
	if (wf_buffer_status(&line) == 0)
		fwrite(line.data, 1, line.len, stderr);
	else
		fprintf(stderr, "%s: out of memory\n", program);
	wf_buffer_free(&line);
}

void fs_say(const char *program, const char *what, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say_v(program, what, fmt, ap);
	va_end(ap);
}
