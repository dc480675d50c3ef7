/* SPDX-License-Identifier: MIT */
/* Opcodes to object graph: the stack machine of a pickle, with inert objects in place of calls.
 *
 *   PROTO 2 | opcode, argument | ... | STOP
 *
 *   stack    objects; marks remember depths of it, and no opcode reaches below the last mark
 *   memo     index -> object, set by PUT and MEMOIZE, read by GET
 *
 * Objects are shared, never expanded: a pickle that doubles a list a thousand times costs a thousand lists.
 */
#include "codec/pickle/pickle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/pickle/inner.h"
#include "codec/bytes/util.h"

#define MAX_PLACES ((uint32_t)(WF_GRAPH_MAX_BYTES / sizeof(struct wf_pickle_place)))

/* ---- stack and marks ---- */

static int run_mark(struct pickle_machine *m, uint8_t op)
{
	return wf_pickle_put_mark(m);
}

static bool is_call(uint8_t op)
{
	return op == OP_REDUCE || op == OP_NEWOBJ || op == OP_NEWOBJ_EX || op == OP_OBJ || op == OP_INST;
}

static int run_pop(struct pickle_machine *m, uint8_t op)
{
	uint32_t start = 0;

	if (op == OP_POP_MARK) {
		int rc = wf_pickle_take_mark(m, &start);
		if (rc == 0)
			m->depth = start;
		return rc;
	}
	if (m->nmarks && wf_pickle_floor(m) == m->depth) { /* POP on a mark takes the mark, in CPython too */
		m->nmarks--;
		return 0;
	}
	int rc = wf_pickle_need(m, 1);
	if (rc < 0)
		return rc;
	m->depth--;
	m->dropped = is_call(m->last_op);
	return 0;
}

static int run_dup(struct pickle_machine *m, uint8_t op)
{
	int rc = wf_pickle_need(m, 1);
	if (rc < 0)
		return rc;
	wf_pickle_trace_seen(m, m->stack[m->depth - 1]);
	return wf_pickle_push(m, m->stack[m->depth - 1]);
}

/* ---- memo ---- */

static int run_put(struct pickle_machine *m, uint8_t op)
{
	uint64_t index = 0;
	int rc = 0;

	m->binary |= op != OP_PUT;
	switch (op) {
	case OP_BINPUT:
		index = wf_cursor_u8(&m->in);
		break;
	case OP_LONG_BINPUT:
		index = wf_cursor_u32(&m->in);
		break;
	case OP_MEMOIZE:
		index = m->memo.count;
		break;
	default:
		rc = wf_pickle_text_index(m, &index);
	}
	if (rc < 0)
		return rc;
	if (!m->in.ok)
		return wf_pickle_cut(m);
	if ((rc = wf_pickle_need(m, 1)) < 0)
		return rc;
	if (index >= WF_PICKLE_MAX_MEMO)
		return wf_pickle_refused(m, -E2BIG, "memo index %" PRIu64 "; the limit is %u", index,
					 WF_PICKLE_MAX_MEMO);
	wf_persid_set_memoised(m->g, m->stack[m->depth - 1]);
	rc = wf_pickle_memo_put(&m->memo, (uint32_t)index, m->stack[m->depth - 1]);
	return rc < 0 ? wf_pickle_no_room(m) : 0;
}

static int run_get(struct pickle_machine *m, uint8_t op)
{
	uint64_t index = 0;

	if (op == OP_GET) {
		int rc = wf_pickle_text_index(m, &index);
		if (rc < 0)
			return rc;
	} else {
		index = op == OP_BINGET ? wf_cursor_u8(&m->in) : wf_cursor_u32(&m->in);
	}
	if (!m->in.ok)
		return wf_pickle_cut(m);
	wf_ref r = wf_pickle_memo_get(&m->memo, index);
	if (!r)
		return wf_pickle_broken(m, "%s of the unset memo index %" PRIu64, m->op_name, index);
	wf_pickle_trace_seen(m, r);
	int rc = wf_pickle_push(m, r);
	return rc == 0 && r == m->rebuild ? wf_pickle_tensor(m) : rc;
}

/* ---- framing ---- */

static int run_proto(struct pickle_machine *m, uint8_t op)
{
	uint8_t v = wf_cursor_u8(&m->in);

	if (!m->in.ok)
		return wf_pickle_cut(m);
	if (v > 5)
		return wf_pickle_refused(m, -EOPNOTSUPP, "pickle protocol %u; 5 is the last one known", v);
	/* some names mean something else in another protocol */
	if (m->last_op && v != m->protocol)
		wf_graph_set_lossy(m->g, "it changes its protocol on the way");
	m->protocol = v;
	return 0;
}

static int run_frame(struct pickle_machine *m, uint8_t op)
{
	uint64_t n = wf_cursor_u64(&m->in);

	if (!m->in.ok)
		return wf_pickle_cut(m);
	m->framed = n;
	return n > wf_cursor_left(&m->in) ? wf_pickle_short(m, n) : 0;
}

static int run_stop(struct pickle_machine *m, uint8_t op)
{
	int rc = wf_pickle_need(m, 1);
	m->stopped = rc == 0;
	return rc;
}

/* A class by a number of copyreg's: which one, only the process that wrote it knows. */
static int run_extension(struct pickle_machine *m, uint8_t op)
{
	char number[24];
	uint32_t code = op == OP_EXT1   ? wf_cursor_u8(&m->in)
			: op == OP_EXT2 ? wf_cursor_u16(&m->in)
					: wf_cursor_u32(&m->in);

	if (!m->in.ok)
		return wf_pickle_cut(m);
	snprintf(number, sizeof number, "extension %" PRIu32, code);
	wf_graph_set_lossy(m->g, "it names a class by a number of copyreg's");
	return wf_pickle_push(m, wf_global_named(m->g, "copyreg", number));
}

static int run_refuse(struct pickle_machine *m, uint8_t op)
{
	return wf_pickle_refused(m, -EOPNOTSUPP, "the opcode %s is not supported", m->op_name);
}

/* ---- the machine ---- */

static const struct {
	const char *name;
	int (*run)(struct pickle_machine *m, uint8_t op);
} opcodes[256] = {
#define OP(name, run) [OP_##name] = {#name, run}
	OP(MARK, run_mark),
	OP(STOP, run_stop),
	OP(POP, run_pop),
	OP(POP_MARK, run_pop),
	OP(DUP, run_dup),
	OP(FLOAT, wf_pickle_text_number),
	OP(INT, wf_pickle_text_number),
	OP(LONG, wf_pickle_text_number),
	OP(BININT, wf_pickle_number),
	OP(BININT1, wf_pickle_number),
	OP(BININT2, wf_pickle_number),
	OP(LONG1, wf_pickle_number),
	OP(LONG4, wf_pickle_number),
	OP(BINFLOAT, wf_pickle_number),
	OP(NONE, wf_pickle_constant),
	OP(NEWTRUE, wf_pickle_constant),
	OP(NEWFALSE, wf_pickle_constant),
	OP(EMPTY_TUPLE, wf_pickle_constant),
	OP(EMPTY_LIST, wf_pickle_constant),
	OP(EMPTY_DICT, wf_pickle_constant),
	OP(EMPTY_SET, wf_pickle_constant),
	OP(STRING, wf_pickle_text_string),
	OP(UNICODE, wf_pickle_text_string),
	OP(BINSTRING, wf_pickle_string),
	OP(SHORT_BINSTRING, wf_pickle_string),
	OP(BINUNICODE, wf_pickle_string),
	OP(SHORT_BINUNICODE, wf_pickle_string),
	OP(BINUNICODE8, wf_pickle_string),
	OP(BINBYTES, wf_pickle_string),
	OP(SHORT_BINBYTES, wf_pickle_string),
	OP(BINBYTES8, wf_pickle_string),
	OP(BYTEARRAY8, wf_pickle_string),
	OP(TUPLE, wf_pickle_collect),
	OP(LIST, wf_pickle_collect),
	OP(DICT, wf_pickle_collect),
	OP(FROZENSET, wf_pickle_collect),
	OP(TUPLE1, wf_pickle_small_tuple),
	OP(TUPLE2, wf_pickle_small_tuple),
	OP(TUPLE3, wf_pickle_small_tuple),
	OP(APPEND, wf_pickle_fill),
	OP(APPENDS, wf_pickle_fill),
	OP(SETITEM, wf_pickle_fill),
	OP(SETITEMS, wf_pickle_fill),
	OP(ADDITEMS, wf_pickle_fill),
	OP(GLOBAL, wf_pickle_global),
	OP(STACK_GLOBAL, wf_pickle_global),
	OP(REDUCE, wf_pickle_call),
	OP(NEWOBJ, wf_pickle_call),
	OP(NEWOBJ_EX, wf_pickle_call),
	OP(INST, wf_pickle_instance),
	OP(OBJ, wf_pickle_instance),
	OP(BUILD, wf_pickle_build),
	OP(BINPERSID, wf_pickle_persid),
	OP(PUT, run_put),
	OP(BINPUT, run_put),
	OP(LONG_BINPUT, run_put),
	OP(MEMOIZE, run_put),
	OP(GET, run_get),
	OP(BINGET, run_get),
	OP(LONG_BINGET, run_get),
	OP(PROTO, run_proto),
	OP(FRAME, run_frame),
	OP(PERSID, run_refuse),
	OP(EXT1, run_extension),
	OP(EXT2, run_extension),
	OP(EXT4, run_extension),
	OP(NEXT_BUFFER, run_refuse),
	OP(READONLY_BUFFER, run_refuse),
#undef OP
};

static bool is_get(uint8_t op)
{
	return op == OP_GET || op == OP_BINGET || op == OP_LONG_BINGET;
}

static bool is_string(uint8_t op)
{
	return opcodes[op].run == wf_pickle_string || opcodes[op].run == wf_pickle_text_string;
}

static int note_place(struct pickle_machine *m, uint8_t op)
{
	struct wf_pickle_places *p = m->hooks ? m->hooks->places : NULL;
	bool string = is_string(op);
	if (!p || (!string && op != OP_FRAME))
		return 0;
	int rc = wf_array_reserve(&p->all, &p->capacity, (uint64_t)p->count + 1, sizeof *p->all, MAX_PLACES);
	if (rc < 0)
		return rc == -E2BIG ? wf_pickle_refused(m, rc, "more than %u strings", p->count) : wf_pickle_no_room(m);
	p->all[p->count++] = (struct wf_pickle_place){.start = m->op_at,
						      .end = m->in.pos + (string ? 0 : m->framed),
						      .string = string ? m->stack[m->depth - 1] : WF_NIL,
						      .op = op};
	return 0;
}

static int step(struct pickle_machine *m)
{
	m->op_at = m->in.pos;
	m->op_name = NULL;
	uint8_t op = wf_cursor_u8(&m->in);
	if (!m->in.ok)
		return wf_pickle_cut(m);
	if (!opcodes[op].run)
		return wf_pickle_broken(m, "0x%02x is no pickle opcode", op);
	m->op_name = opcodes[op].name;
	/* A pickler throws a call's result away and gets the first one back where an object contains itself. Otherwise
	 * the call was made for what it does, and there is no object to remember it by. */
	if (m->dropped && !is_get(op))
		wf_graph_set_lossy(m->g, "it calls a function only for what that does, and drops the result");
	m->just_dropped = m->dropped;
	m->dropped = false;
	int rc = opcodes[op].run(m, op);
	m->last_op = op;
	return rc < 0 ? rc : note_place(m, op);
}

static int run(struct pickle_machine *m)
{
	for (uint64_t n = 0; !m->stopped; n++) {
		if (n == WF_PICKLE_MAX_OPCODES)
			return wf_pickle_refused(m, -E2BIG, "more than %llu opcodes", WF_PICKLE_MAX_OPCODES);
		int rc = step(m);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int wf_pickle_read(struct wf_graph *g, struct wf_source *source, uint64_t offset, uint64_t len,
		   const struct wf_pickle_reader *reader, wf_ref *ret_root, uint64_t *ret_end, struct wf_error *err)
{
	struct wf_error own_err = {0};
	cleanup_with(wf_pickle_machine_free) struct pickle_machine m = {
		.g = g, .hooks = reader, .err = err ? err : &own_err};
	int rc = wf_cursor_init_source(&m.in, source, offset, len);

	if (rc < 0)
		return wf_fail_at(err, rc, NULL, offset, "a pickle of %" PRIu64 " bytes does not fit here", len);
	if (!wf_graph_source(g))
		wf_graph_set_source(g, source);
	m.external = wf_graph_source(g) == source;
	uint32_t before = wf_graph_limit(g);
	if ((rc = run(&m)) < 0)
		return rc;
	/* Equal keys are only looked for when all items are there: their keys may be objects still being filled. */
	if (wf_graph_settle(g, before) < 0)
		return wf_pickle_no_room(&m);
	wf_graph_set_trace(g, m.trace);
	wf_graph_set_protocol(g, m.protocol ? m.protocol : m.binary);
	*ret_root = m.stack[m.depth - 1];
	*ret_end = m.in.pos;
	return 0;
}
