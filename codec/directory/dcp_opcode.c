/* SPDX-License-Identifier: MIT */
/* Reads opcodes through a window, of which a jump fills a little, and who goes on from there more each time. */
#include "codec/directory/dcp_opcode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/pickle/opcodes.h"

#define WINDOW_BYTES ((size_t)256 << 10)
#define FIRST_BYTES ((size_t)4 << 10) /* what a jump reads; who goes on from there reads more each time */
#define MAX_LINE 4096u

/* What follows an opcode: a number of so many bytes, the same as the length of what comes then, or two lines. */
enum dcp_form {
	FORM_NOT_KNOWN,
	FORM_NOTHING,
	FORM_1,
	FORM_2,
	FORM_4,
	FORM_8,
	FORM_LENGTH_1,
	FORM_LENGTH_4,
	FORM_LENGTH_8,
	FORM_LINES
};

static const uint8_t forms[256] = {
	[OP_PROTO] = FORM_1,
	[OP_FRAME] = FORM_8,
	[OP_STOP] = FORM_NOTHING,
	[OP_MARK] = FORM_NOTHING,
	[OP_NONE] = FORM_NOTHING,
	[OP_NEWTRUE] = FORM_NOTHING,
	[OP_NEWFALSE] = FORM_NOTHING,
	[OP_BININT] = FORM_4,
	[OP_BININT1] = FORM_1,
	[OP_BININT2] = FORM_2,
	[OP_BINFLOAT] = FORM_8,
	[OP_LONG1] = FORM_LENGTH_1,
	[OP_LONG4] = FORM_LENGTH_4,
	[OP_BINUNICODE] = FORM_LENGTH_4,
	[OP_SHORT_BINUNICODE] = FORM_LENGTH_1,
	[OP_BINUNICODE8] = FORM_LENGTH_8,
	[OP_BINSTRING] = FORM_LENGTH_4,
	[OP_SHORT_BINSTRING] = FORM_LENGTH_1,
	[OP_BINBYTES] = FORM_LENGTH_4,
	[OP_SHORT_BINBYTES] = FORM_LENGTH_1,
	[OP_BINBYTES8] = FORM_LENGTH_8,
	[OP_BYTEARRAY8] = FORM_LENGTH_8,
	[OP_EMPTY_TUPLE] = FORM_NOTHING,
	[OP_EMPTY_LIST] = FORM_NOTHING,
	[OP_EMPTY_DICT] = FORM_NOTHING,
	[OP_EMPTY_SET] = FORM_NOTHING,
	[OP_TUPLE] = FORM_NOTHING,
	[OP_TUPLE1] = FORM_NOTHING,
	[OP_TUPLE2] = FORM_NOTHING,
	[OP_TUPLE3] = FORM_NOTHING,
	[OP_LIST] = FORM_NOTHING,
	[OP_DICT] = FORM_NOTHING,
	[OP_FROZENSET] = FORM_NOTHING,
	[OP_APPEND] = FORM_NOTHING,
	[OP_APPENDS] = FORM_NOTHING,
	[OP_SETITEM] = FORM_NOTHING,
	[OP_SETITEMS] = FORM_NOTHING,
	[OP_ADDITEMS] = FORM_NOTHING,
	[OP_GLOBAL] = FORM_LINES,
	[OP_STACK_GLOBAL] = FORM_NOTHING,
	[OP_REDUCE] = FORM_NOTHING,
	[OP_NEWOBJ] = FORM_NOTHING,
	[OP_NEWOBJ_EX] = FORM_NOTHING,
	[OP_BUILD] = FORM_NOTHING,
	[OP_BINGET] = FORM_1,
	[OP_LONG_BINGET] = FORM_4,
	[OP_BINPUT] = FORM_1,
	[OP_LONG_BINPUT] = FORM_4,
	[OP_MEMOIZE] = FORM_NOTHING,
};

static const uint8_t widths[] = {
	[FORM_1] = 1,        [FORM_2] = 2,        [FORM_4] = 4,        [FORM_8] = 8,
	[FORM_LENGTH_1] = 1, [FORM_LENGTH_4] = 4, [FORM_LENGTH_8] = 8, [FORM_LINES] = 0,
};

int dcp_cursor_open(struct dcp_cursor *c, struct wf_source *file)
{
	*c = (struct dcp_cursor){.file = file, .size = wf_source_size(file), .step = FIRST_BYTES};
	c->window = malloc(WINDOW_BYTES);
	return c->window ? 0 : -ENOMEM;
}

void dcp_cursor_close(struct dcp_cursor *c)
{
	free(c->window);
	c->window = NULL;
}

void dcp_cursor_seek(struct dcp_cursor *c, uint64_t at)
{
	if (at < c->window_at || at > c->window_at + c->have) {
		c->window_at = at;
		c->have = 0;
		c->step = FIRST_BYTES;
	}
	c->at = at;
}

/* So many bytes from `at` on, at most those of the window, or all that there are. */
static int need(struct dcp_cursor *c, size_t len, size_t *ret_have)
{
	size_t used = (size_t)(c->at - c->window_at);
	if (c->have - used < len && c->window_at + c->have < c->size) {
		memmove(c->window, c->window + used, c->have - used);
		c->window_at = c->at;
		c->have -= used;
		size_t more = WF_MIN(WF_MAX(c->step, len), WINDOW_BYTES) - c->have;
		more = (size_t)WF_MIN((uint64_t)more, c->size - c->window_at - c->have);
		int r = wf_source_read(c->file, c->window_at + c->have, c->window + c->have, more);
		if (r < 0)
			return r;
		c->have += more;
		c->step = WF_MIN(2 * c->step, WINDOW_BYTES);
		used = 0;
	}
	*ret_have = c->have - used;
	return 0;
}

static uint64_t number_at(const unsigned char *p, uint8_t width)
{
	return width == 8 ? wf_le64(p) : width == 4 ? wf_le32(p) : width == 2 ? wf_le16(p) : width == 1 ? *p : 0;
}

/* Two lines behind the opcode, which are within what the window has. */
static int measure_lines(struct dcp_cursor *c, uint64_t *ret_len)
{
	size_t have, len = 1;
	int r = need(c, 2 * MAX_LINE, &have);
	const unsigned char *p = c->window + (c->at - c->window_at);
	for (int i = 0; i < 2 && r == 0; i++) {
		const unsigned char *end = len < have ? memchr(p + len, '\n', have - len) : NULL;
		if (end)
			len = (size_t)(end - p) + 1;
		else
			r = DCP_NOT_KNOWN;
	}
	*ret_len = len;
	return r;
}

int dcp_cursor_next(struct dcp_cursor *c, struct dcp_opcode *ret)
{
	size_t have;
	int r = need(c, 16, &have);
	if (r < 0)
		return r;
	const unsigned char *p = c->window + (c->at - c->window_at);
	enum dcp_form form = have > 0 ? forms[*p] : FORM_NOT_KNOWN;
	uint8_t width = widths[form];
	if (form == FORM_NOT_KNOWN || have < 1 + (size_t)width)
		return DCP_NOT_KNOWN;
	*ret = (struct dcp_opcode){.op = *p, .at = c->at, .number = number_at(p + 1, width), .text = 1 + (size_t)width};
	uint64_t len = 1 + (uint64_t)width;
	if (form == FORM_LINES)
		r = measure_lines(c, &len);
	else if (form >= FORM_LENGTH_1 && wf_add_u64(len, ret->number, &len))
		r = DCP_NOT_KNOWN;
	if (r == 0 && len > c->size - c->at)
		r = DCP_NOT_KNOWN;
	if (r == 0 && len <= WINDOW_BYTES)
		r = need(c, (size_t)len, &have);
	if (r != 0)
		return r;
	ret->bytes = len <= WINDOW_BYTES ? c->window + (c->at - c->window_at) : NULL;
	ret->end = c->at + len;
	dcp_cursor_seek(c, ret->end);
	return 0;
}

int dcp_cursor_read(struct dcp_cursor *c, uint64_t at, void *buf, size_t len)
{
	if (at < c->window_at || at + len > c->window_at + c->have)
		return wf_source_read(c->file, at, buf, len);
	memcpy(buf, c->window + (at - c->window_at), len);
	return 0;
}
