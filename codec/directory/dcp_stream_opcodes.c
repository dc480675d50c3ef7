/* SPDX-License-Identifier: MIT */
/* The window over a `.metadata`, and the opcodes one by one. */
#include <errno.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"
#include "codec/pickle/opcodes.h"

#define MAX_NAME 200u /* two of them are within the margin */
#define MAX_TEXT (64u << 10)

/* ---- the window ---- */

bool stream_fill_window(struct dcp_stream *s, struct stream_place *at, const stream_value *sp)
{
	size_t used = (size_t)(at->p - s->window);
	if (used > s->window_len || (used == s->window_len && s->window_at + used >= s->size) ||
	    sp > s->stack + STREAM_STACK_ROOM - STREAM_WINDOW_BYTES) {
		s->code = STREAM_NOT_KNOWN;
		return false;
	}
	size_t have = s->window_len - used;
	memmove(s->window, at->p, have);
	s->window_at += used;
	size_t more = (size_t)WF_MIN(s->size - s->window_at, (uint64_t)STREAM_WINDOW_BYTES) - have;
	s->code = wf_source_read(s->file, s->window_at + have, s->window + have, more);
	if (s->code < 0) {
		wf_fail(s->fill.err, s->code, "cannot read the metadata: %s", strerror(-s->code));
		return false;
	}
	s->window_len = have + more;
	memset(s->window + s->window_len, 0, STREAM_MARGIN_BYTES);
	s->code = stream_reserve_memo(s, STREAM_WINDOW_BYTES + STREAM_MARGIN_BYTES);
	bool last = s->window_at + s->window_len == s->size;
	at->p = s->window;
	at->safe = s->window + s->window_len - (last ? 0 : STREAM_MARGIN_BYTES);
	return s->code == 0;
}

/* ---- opcodes that are rare, or do much ---- */

static stream_value *push_mark(struct dcp_stream *s, stream_value *sp)
{
	*sp = stream_make(S_MARK, (uint64_t)(s->floor - s->stack));
	return s->floor = sp + 1;
}

/* Where the mark was, and the floor is the one below it; NULL: there is none. */
static stream_value *take_mark(struct dcp_stream *s)
{
	stream_value *mark = s->floor - 1;
	if (mark == s->stack)
		return NULL;
	s->floor = s->stack + stream_number(*mark);
	return mark;
}

static stream_value *run_tuple(struct dcp_stream *s, stream_value *sp)
{
	stream_value *mark = take_mark(s);
	if (!mark)
		return stream_end(s, STREAM_NOT_KNOWN);
	int r = stream_tuple(s, mark + 1, (size_t)(sp - mark) - 1, mark);
	return r == 0 ? mark + 1 : stream_end(s, r);
}

stream_value *stream_fill(struct dcp_stream *s, stream_value *sp, uint8_t op)
{
	bool items = op == OP_SETITEM || op == OP_SETITEMS, marked = op == OP_SETITEMS || op == OP_APPENDS;
	stream_value *below = marked ? take_mark(s) : sp - (items ? 2 : 1);
	if (!below || below - 1 < s->floor)
		return stream_end(s, STREAM_NOT_KNOWN);
	const stream_value *from = marked ? below + 1 : below;
	size_t n = (size_t)(sp - from);
	int r = n == 0  ? 0 /* CPython writes an empty batch after 1000 items */
		: items ? stream_set(s, below - 1, from, n)
			: stream_append(s, below - 1, from, n);
	return r == 0 ? below : stream_end(s, r);
}

stream_value *stream_call(struct dcp_stream *s, stream_value *sp, uint8_t op)
{
	if (sp - 2 < s->floor)
		return stream_end(s, STREAM_NOT_KNOWN);
	int r = op == OP_NEWOBJ   ? stream_new(s, sp[-2], sp[-1], sp - 2)
		: op == OP_REDUCE ? stream_reduce(s, sp[-2], sp[-1], sp - 2)
				  : stream_build(s, sp[-2], sp[-1]);
	return r == 0 ? sp - 1 : stream_end(s, r);
}

stream_value *stream_push_text(struct dcp_stream *s, stream_value *sp, const unsigned char *bytes, size_t len)
{
	uint32_t text;
	int r = stream_text(s, bytes, len, &text);
	if (r != 0)
		return stream_end(s, r);
	*sp = stream_make(S_TEXT, text);
	return sp + 1;
}

static stream_value *run_stack_global(struct dcp_stream *s, stream_value *sp)
{
	if (sp - 2 < s->floor || stream_kind(sp[-2]) != S_TEXT || stream_kind(sp[-1]) != S_TEXT)
		return stream_end(s, STREAM_NOT_KNOWN);
	int r = stream_global(s, (uint32_t)stream_number(sp[-2]), (uint32_t)stream_number(sp[-1]), sp - 2);
	return r == 0 ? sp - 1 : stream_end(s, r);
}

/* Two lines. */
static stream_value *run_global(struct dcp_stream *s, stream_value *sp, struct stream_place *at)
{
	uint32_t texts[2];
	for (int i = 0; i < 2; i++) {
		const unsigned char *end = memchr(at->p, '\n', MAX_NAME);
		int r = end ? stream_text(s, at->p, (size_t)(end - at->p), &texts[i]) : STREAM_NOT_KNOWN;
		if (r != 0)
			return stream_end(s, r);
		at->p = end + 1;
	}
	int r = stream_global(s, texts[0], texts[1], sp);
	return r == 0 ? sp + 1 : stream_end(s, r);
}

/* Passes over bytes that may go on behind the window. */
static bool skip(struct dcp_stream *s, struct stream_place *at, uint64_t len)
{
	size_t used = (size_t)(at->p - s->window);
	if (used > s->window_len || len > s->size - s->window_at - used) {
		s->code = STREAM_NOT_KNOWN;
		return false;
	}
	if (len <= s->window_len - used) {
		at->p += len;
		return true;
	}
	s->window_at += used + len;
	s->window_len = 0;
	at->p = at->safe = s->window;
	return true;
}

/* A text whose length has four bytes. */
static stream_value *run_long_text(struct dcp_stream *s, stream_value *sp, struct stream_place *at)
{
	uint32_t len = wf_le32(at->p);
	at->p += 4;
	if (len > MAX_TEXT)
		return stream_end(s, STREAM_NOT_KNOWN);
	if (len > STREAM_MARGIN_BYTES / 2) {
		if (!stream_fill_window(s, at, sp))
			return NULL;
		if (len > s->window_len)
			return stream_end(s, STREAM_NOT_KNOWN);
	}
	sp = stream_push_text(s, sp, at->p, len);
	at->p += len;
	return sp;
}

/* As many bytes of a number as `len` says, the least first. */
static stream_value long_value(const unsigned char *p, uint8_t len)
{
	uint64_t v = 0;
	for (uint8_t i = 0; i < len && i < 8; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return len > 8 || v > STREAM_INT_MAX || (len > 0 && p[len - 1] & 0x80) ? stream_make(S_SCALAR, 0)
									       : stream_make(S_INT, v);
}

static stream_value *put_at(struct dcp_stream *s, stream_value *sp, uint32_t index)
{
	return sp > s->floor && stream_put_at(&s->memo, index, sp[-1]) ? sp : stream_end(s, STREAM_NOT_KNOWN);
}

/* Opcodes of which there are few. */
static stream_value *run_rare(struct dcp_stream *s, stream_value *sp, uint8_t op, struct stream_place *at)
{
	uint64_t n = 0;
	switch (op) {
	case OP_PROTO:
		return *at->p++ <= 5 ? sp : stream_end(s, STREAM_NOT_KNOWN);
	case OP_FRAME:
		n = wf_le64(at->p);
		at->p += 8;
		return n <= s->size - WF_MIN(s->size, s->window_at + (uint64_t)(at->p - s->window))
			       ? sp
			       : stream_end(s, STREAM_NOT_KNOWN);
	case OP_GLOBAL:
		return run_global(s, sp, at);
	case OP_STACK_GLOBAL:
		return run_stack_global(s, sp);
	case OP_BINUNICODE:
		return run_long_text(s, sp, at);
	case OP_LONG1:
		n = *at->p++;
		*sp = long_value(at->p, (uint8_t)n);
		at->p += n;
		return sp + 1;
	case OP_BINPUT:
		return put_at(s, sp, *at->p++);
	case OP_LONG_BINPUT:
		n = wf_le32(at->p);
		at->p += 4;
		return put_at(s, sp, (uint32_t)n);
	case OP_NEWTRUE:
	case OP_NEWFALSE:
		break;
	case OP_BINFLOAT:
		n = 8;
		break;
	case OP_SHORT_BINBYTES:
		n = *at->p++;
		break;
	case OP_BINBYTES:
		n = wf_le32(at->p);
		at->p += 4;
		break;
	default:
		return stream_end(s, STREAM_NOT_KNOWN);
	}
	*sp = stream_make(S_SCALAR, 0);
	return skip(s, at, n) ? sp + 1 : NULL;
}

/* Opcodes that are followed by nothing. */
stream_value *stream_run_other(struct dcp_stream *s, stream_value *sp, uint8_t op, struct stream_place *at)
{
	int r;
	switch (op) {
	case OP_NONE:
		*sp = stream_make(S_NONE, 0);
		return sp + 1;
	case OP_EMPTY_TUPLE:
		*sp = stream_make(S_NO_TUPLE, 0);
		return sp + 1;
	case OP_EMPTY_LIST:
		*sp = stream_make(S_NO_LIST, 0);
		return sp + 1;
	case OP_EMPTY_DICT:
		*sp = stream_make(S_NO_DICT, 0);
		return sp + 1;
	case OP_MARK:
		return push_mark(s, sp);
	case OP_TUPLE1:
	case OP_TUPLE2:
	case OP_TUPLE3:
		sp -= op - OP_TUPLE1 + 1;
		r = sp < s->floor ? STREAM_NOT_KNOWN : stream_tuple(s, sp, op - OP_TUPLE1 + 1u, sp);
		return r == 0 ? sp + 1 : stream_end(s, r);
	case OP_TUPLE:
		return run_tuple(s, sp);
	case OP_APPEND:
	case OP_APPENDS:
	case OP_SETITEM:
		return stream_fill(s, sp, op);
	case OP_NEWOBJ:
	case OP_REDUCE:
		return stream_call(s, sp, op);
	default:
		return run_rare(s, sp, op, at);
	}
}
