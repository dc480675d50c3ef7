/* SPDX-License-Identifier: MIT */
/* The opcodes of a pickle to its outline.
 *
 *   value, 32 bits    kind | index << 4      index: of a str, a container, a small int itself, or what follows from a class
 *
 * A stack machine as pickle/read.c has one, of which every value is one such number: no object is made but containers, no argument of a
 * call is kept. What a call makes is told by the name that is called and by the first of its arguments. An opcode that is not in the
 * switch, and a use of one that torch.save does not make, ends the outline: read.c then says what the pickle holds, or what is wrong
 * with it.
 */
#include "codec/pickle/outline.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/pickle/inner.h"
#include "codec/pickle/outline_inner.h"
#include "codec/bytes/util.h"

#define PICKLE_MAX (64u << 20) /* bytes; a byte costs up to twelve of memory */

/* ---- stack and memo ---- */

/* The first position above the last mark, and one operand below that; 0: there is none. */
static uint32_t above_mark(const struct outliner *m, uint32_t operands)
{
	uint32_t at = m->depth;
	while (at > 0 && outline_kind(m->stack[at - 1]) != MARK)
		at--;
	return at > operands && (!operands || outline_kind(m->stack[at - 2]) != MARK) ? at : 0;
}

static int put(struct outliner *m, uint32_t index)
{
	if (!wf_outline_has(m, 1) || index > m->memo_count * 2u + 1024)
		return OUTLINE_NOT_KNOWN;
	uint32_t before = m->memo_capacity;
	int r = wf_array_reserve(&m->memo, &m->memo_capacity, (uint64_t)index + 1, sizeof *m->memo, UINT32_MAX);
	if (r < 0)
		return r;
	memset(m->memo + before, 0, (size_t)(m->memo_capacity - before) * sizeof *m->memo);
	m->memo[index] = m->stack[m->depth - 1];
	m->memo_count++;
	return 0;
}

/* A value that is not known is no zero in the memo: GET of an index that was never set ends the outline. */
static int get(struct outliner *m, uint32_t index)
{
	if (index >= m->memo_capacity || !m->memo[index])
		return OUTLINE_NOT_KNOWN;
	return wf_outline_push(m, m->memo[index]);
}

/* ---- opcodes ---- */

static int fill_some(struct outliner *m, enum outline_kind kind, bool one)
{
	uint32_t operands = kind == DICT ? 2 : 1, start;
	if (one)
		return wf_outline_has(m, operands + 1) ? wf_outline_fill(m, kind, m->depth - operands)
						       : OUTLINE_NOT_KNOWN;
	if (!(start = above_mark(m, 1)))
		return OUTLINE_NOT_KNOWN;
	/* the mark goes from among them */
	memmove(m->stack + start - 1, m->stack + start, (m->depth - start) * sizeof *m->stack);
	m->depth--;
	return wf_outline_fill(m, kind, start - 1);
}

static int tuple(struct outliner *m)
{
	uint32_t start = above_mark(m, 0);
	if (!start)
		return OUTLINE_NOT_KNOWN;
	int r = wf_outline_tuple(m, start);
	if (r < 0)
		return r;
	m->stack[start - 1] = m->stack[start];
	m->depth = start;
	return 0;
}

/* Opcodes that make and change what holds others. */
static int step(struct outliner *m, uint8_t op)
{
	switch (op) {
	case OP_TUPLE:
		return tuple(m);
	case OP_TUPLE1:
	case OP_TUPLE2:
	case OP_TUPLE3: {
		uint32_t n = op - OP_TUPLE1 + 1u;
		return wf_outline_has(m, n) ? wf_outline_tuple(m, m->depth - n) : OUTLINE_NOT_KNOWN;
	}
	case OP_APPEND:
	case OP_APPENDS:
		return fill_some(m, LIST, op == OP_APPEND);
	case OP_SETITEM:
	case OP_SETITEMS:
		return fill_some(m, DICT, op == OP_SETITEM);
	case OP_GLOBAL:
		return wf_outline_global(m);
	case OP_STACK_GLOBAL:
		return wf_outline_stack_global(m);
	case OP_REDUCE:
		return wf_outline_call(m);
	case OP_NEWOBJ:
		return wf_outline_instance(m);
	case OP_BUILD:
		return wf_outline_build(m);
	case OP_BINPERSID:
		return wf_outline_storage(m);
	default:
		return OUTLINE_NOT_KNOWN;
	}
}

/* Opcodes without operands. */
static int step_atom(struct outliner *m, uint8_t op)
{
	struct wf_cursor *in = &m->in;
	switch (op) {
	case OP_PROTO:
		return wf_cursor_u8(in) <= 5 ? 0 : OUTLINE_NOT_KNOWN;
	case OP_FRAME:
		wf_cursor_skip(in, 8);
		return 0;
	case OP_MARK:
		return wf_outline_push(m, outline_make(MARK, 0));
	case OP_NONE:
	case OP_NEWTRUE:
	case OP_NEWFALSE:
		return wf_outline_push(m, outline_make(PLAIN, 0));
	case OP_BININT1:
		return wf_outline_int(m, wf_cursor_u8(in));
	case OP_BININT2:
		return wf_outline_int(m, wf_cursor_u16(in));
	case OP_BININT: /* a negative one is a large number here */
		return wf_outline_int(m, wf_cursor_u32(in));
	case OP_LONG1:
		return wf_outline_skipped(m, wf_cursor_u8(in));
	case OP_BINFLOAT:
		return wf_outline_skipped(m, 8);
	case OP_BINUNICODE:
		return wf_outline_string(m, wf_cursor_u32(in));
	case OP_SHORT_BINUNICODE:
		return wf_outline_string(m, wf_cursor_u8(in));
	case OP_BINBYTES:
		return wf_outline_skipped(m, wf_cursor_u32(in));
	case OP_SHORT_BINBYTES:
		return wf_outline_skipped(m, wf_cursor_u8(in));
	case OP_EMPTY_TUPLE:
		return wf_outline_push(m, outline_make(TUPLE, TUPLE_EMPTY));
	case OP_EMPTY_LIST:
		return wf_outline_container(m, LIST);
	case OP_EMPTY_DICT:
		return wf_outline_container(m, DICT);
	case OP_BINPUT:
		return put(m, wf_cursor_u8(in));
	case OP_LONG_BINPUT:
		return put(m, wf_cursor_u32(in));
	case OP_MEMOIZE:
		return put(m, m->memo_count);
	case OP_BINGET:
		return get(m, wf_cursor_u8(in));
	case OP_LONG_BINGET:
		return get(m, wf_cursor_u32(in));
	default:
		return step(m, op);
	}
}

static int run(struct outliner *m)
{
	for (;;) {
		uint8_t op = wf_cursor_u8(&m->in);
		int r = m->in.ok && op != OP_STOP ? step_atom(m, op) : 0;
		if (!m->in.ok)
			return m->in.error == -EUCLEAN ? OUTLINE_NOT_KNOWN : m->in.error;
		if (r != 0)
			return r;
		if (op == OP_STOP)
			break;
	}
	if (m->depth != 1 || !wf_outline_has(m, 1))
		return OUTLINE_NOT_KNOWN;
	m->o->root = m->stack[0];
	wf_outline_place(m, m->o->root);
	return 0;
}

int wf_outline_read(struct wf_source *s, struct wf_outline **ret)
{
	struct outliner m = {0};
	if (wf_source_size(s) > PICKLE_MAX)
		return OUTLINE_NOT_KNOWN;
	m.o = calloc(1, sizeof *m.o);
	int r = m.o ? wf_cursor_init_source(&m.in, s, 0, wf_source_size(s)) : -ENOMEM;
	if (r == 0)
		r = run(&m);
	wf_cursor_free(&m.in);
	free(m.stack);
	free(m.memo);
	if (r != 0)
		wf_outline_free(m.o);
	else
		*ret = m.o;
	return r;
}

void wf_outline_free(struct wf_outline *o)
{
	if (!o)
		return;
	for (uint32_t i = 0; i < o->node_count; i++)
		free(o->nodes[i].values);
	free(o->nodes);
	free(o->texts);
	wf_buffer_free(&o->bytes);
	free(o);
}
