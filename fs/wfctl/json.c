#include "fs/wfctl/json.h"

#include <stdio.h>
#include <string.h>

const char *fs_json_member(const char *text, const char *end, const char *name)
{
	char quoted[64];
	int n = snprintf(quoted, sizeof quoted, "\"%s\": ", name);
	const char *at = text ? memmem(text, (size_t)(end - text), quoted, (size_t)n) : NULL;
	return at ? at + n : NULL;
}

static void put_code(struct wf_buffer *out, unsigned int code)
{
	if (code < 0x80 || (code >= 0xdc80 && code <= 0xdcff)) {
		wf_buffer_putc(out, (char)code);
	} else if (code < 0x800) {
		wf_buffer_putc(out, (char)(0xc0 | code >> 6));
		wf_buffer_putc(out, (char)(0x80 | (code & 0x3f)));
	} else {
		wf_buffer_putc(out, (char)(0xe0 | code >> 12));
		wf_buffer_putc(out, (char)(0x80 | (code >> 6 & 0x3f)));
		wf_buffer_putc(out, (char)(0x80 | (code & 0x3f)));
	}
}

void fs_json_string(const char *at, const char *end, struct wf_buffer *out)
{
	static const char escapes[] = "n\nt\tr\rb\bf\f";
	if (!at || at >= end || *at != '"')
		return;
	for (at++; at < end && *at != '"'; at++) {
		char hex[5] = "";
		unsigned int code;
		if (*at != '\\' || at + 1 >= end) {
			wf_buffer_putc(out, *at);
			continue;
		}
		const char *escape = strchr(escapes, *++at);
		if (*at == 'u' && end - at > 4) {
			memcpy(hex, at + 1, 4);
			if (sscanf(hex, "%4x", &code) == 1)
				put_code(out, code);
			at += 4;
		} else {
			wf_buffer_putc(out, escape ? escape[1] : *at);
		}
	}
}
