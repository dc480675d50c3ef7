/* SPDX-License-Identifier: MIT */
/* Opcodes that make and change containers, globals and calls. A call is an inert object that remembers what would have
 * been called, with what, and what was done to the result. */
#include "codec/pickle/inner.h"

#include <errno.h>

#include "codec/bytes/util.h"

static const char *kind_name(const struct pickle_machine *m, wf_ref r)
{
	static const char *const names[WF_KIND_COUNT] = {
		[WF_NONE] = "None",
		[WF_BOOL] = "bool",
		[WF_INT] = "int",
		[WF_LONG] = "int",
		[WF_FLOAT] = "float",
		[WF_STR] = "str",
		[WF_PYSTR] = "str",
		[WF_BYTES] = "bytes",
		[WF_BYTEARRAY] = "bytearray",
		[WF_TUPLE] = "tuple",
		[WF_LIST] = "list",
		[WF_DICT] = "dict",
		[WF_SET] = "set",
		[WF_FROZENSET] = "frozenset",
		[WF_GLOBAL] = "class or function",
		[WF_CALL] = "object",
		[WF_PERSID] = "persistent object",
	};
	return names[wf_kind_of(m->g, r)];
}

/* ---- containers ---- */

int wf_pickle_constant(struct pickle_machine *m, uint8_t op)
{
	struct wf_graph *g = m->g;

	m->binary |= op == OP_EMPTY_TUPLE || op == OP_EMPTY_LIST || op == OP_EMPTY_DICT;
	switch (op) {
	case OP_NONE:
		return wf_pickle_push(m, wf_none(g));
	case OP_NEWTRUE:
	case OP_NEWFALSE:
		return wf_pickle_push(m, wf_bool(g, op == OP_NEWTRUE));
	case OP_EMPTY_TUPLE:
		return wf_pickle_push(m, wf_tuple(g, NULL, 0));
	case OP_EMPTY_LIST:
		return wf_pickle_push(m, wf_list(g));
	case OP_EMPTY_SET:
		return wf_pickle_push(m, wf_set(g));
	default:
		return wf_pickle_push(m, wf_dict(g));
	}
}

/* Replaces what stands from start on by r. */
static int collapse(struct pickle_machine *m, uint32_t start, wf_ref r)
{
	m->depth = start;
	return wf_pickle_push(m, r);
}

static int check_key(struct pickle_machine *m, wf_ref key)
{
	switch (wf_kind_of(m->g, key)) {
	case WF_LIST:
	case WF_DICT:
	case WF_SET:
	case WF_BYTEARRAY:
		return wf_pickle_broken(m, "%s with a %s for a key, which cannot be hashed", m->op_name,
					kind_name(m, key));
	default:
		return 0;
	}
}

static int add_items(struct pickle_machine *m, wf_ref dict, const wf_ref *from, uint32_t n)
{
	if (n % 2)
		return wf_pickle_broken(m, "%s with a key that has no value", m->op_name);
	for (uint32_t i = 0; i < n; i += 2) {
		int rc = check_key(m, from[i]);
		if (rc < 0)
			return rc;
		if (wf_dict_append(m->g, dict, from[i], from[i + 1]) < 0)
			return wf_pickle_no_room(m);
	}
	return 0;
}

static int add_elements(struct pickle_machine *m, wf_ref list, const wf_ref *from, uint32_t n)
{
	bool hashed = wf_is(m->g, list, WF_SET);

	for (uint32_t i = 0; i < n; i++) {
		int rc = hashed ? check_key(m, from[i]) : 0;
		if (rc < 0)
			return rc;
		if (wf_list_append(m->g, list, from[i]) < 0)
			return wf_pickle_no_room(m);
	}
	return 0;
}

/* TUPLE, LIST, DICT and FROZENSET make their object from all that is above the mark. */
int wf_pickle_collect(struct pickle_machine *m, uint8_t op)
{
	uint32_t start = 0;
	int rc = wf_pickle_take_mark(m, &start);

	if (rc < 0)
		return rc;
	const wf_ref *from = m->stack + start;
	uint32_t n = m->depth - start;
	wf_ref r;
	switch (op) {
	case OP_TUPLE:
		r = wf_tuple(m->g, from, n);
		break;
	case OP_FROZENSET:
		for (uint32_t i = 0; i < n; i++)
			if ((rc = check_key(m, from[i])) < 0)
				return rc;
		r = wf_frozenset(m->g, from, n);
		break;
	case OP_LIST:
		r = wf_list(m->g);
		rc = r ? add_elements(m, r, from, n) : 0;
		break;
	default:
		r = wf_dict(m->g);
		rc = r ? add_items(m, r, from, n) : 0;
	}
	return rc < 0 ? rc : collapse(m, start, r);
}

int wf_pickle_small_tuple(struct pickle_machine *m, uint8_t op)
{
	uint32_t n = op - OP_TUPLE1 + 1u;
	int rc = wf_pickle_need(m, n);

	if (rc < 0)
		return rc;
	return collapse(m, m->depth - n, wf_tuple(m->g, m->stack + m->depth - n, n));
}

/* SETITEM(S), APPEND(S) and ADDITEMS change the object below their operands. */
int wf_pickle_fill(struct pickle_machine *m, uint8_t op)
{
	uint32_t start = 0;
	int rc;

	if (op == OP_SETITEM || op == OP_APPEND) {
		uint32_t n = op == OP_SETITEM ? 2 : 1;
		if ((rc = wf_pickle_need(m, n + 1)) < 0)
			return rc;
		start = m->depth - n;
	} else {
		if ((rc = wf_pickle_take_mark(m, &start)) < 0)
			return rc;
		if (start <= wf_pickle_floor(m))
			return wf_pickle_broken(m, "%s with nothing below its MARK", m->op_name);
	}
	wf_ref object = m->stack[start - 1];
	const wf_ref *from = m->stack + start;
	uint32_t n = m->depth - start;
	m->depth = start;
	if (n == 0) /* CPython writes an empty batch after 1000 items */
		return 0;
	bool items = op == OP_SETITEM || op == OP_SETITEMS;
	wf_ref target = items               ? wf_dict_target(m->g, object)
			: op == OP_ADDITEMS ? wf_set_target(m->g, object)
					    : wf_list_target(m->g, object);
	if (!target && wf_graph_failed(m->g))
		return wf_pickle_no_room(m);
	if (!target)
		return wf_pickle_broken(m, "%s on a %s", m->op_name, kind_name(m, object));
	return items ? add_items(m, target, from, n) : add_elements(m, target, from, n);
}

/* ---- globals and calls ---- */

int wf_pickle_global(struct pickle_machine *m, uint8_t op)
{
	wf_ref r;
	size_t module_len, name_len;
	int rc;

	if (op == OP_GLOBAL) {
		rc = wf_pickle_text_global(m, &r);
		if (rc < 0)
			return rc;
	} else {
		if ((rc = wf_pickle_need(m, 2)) < 0)
			return rc;
		wf_ref module = m->stack[m->depth - 2], name = m->stack[m->depth - 1];
		const char *s = wf_bytes(m->g, module, &module_len), *t = wf_bytes(m->g, name, &name_len);
		if (!s || !t || !wf_is(m->g, module, WF_STR) || !wf_is(m->g, name, WF_STR))
			return wf_pickle_broken(m, "STACK_GLOBAL of a %s and a %s, not of two names",
						kind_name(m, module), kind_name(m, name));
		if ((rc = wf_pickle_check_name(m, s, module_len)) < 0 ||
		    (rc = wf_pickle_check_name(m, t, name_len)) < 0)
			return rc;
		r = wf_global(m->g, module, name);
		m->depth -= 2;
	}
	/* Before protocol 4 a dot in a name is part of the attribute's name. */
	if (m->protocol >= 4 && strchr(wf_global_name(m->g, r), '.'))
		wf_global_set_nested(m->g, r);
	if (wf_is_global(m->g, r, "torch._utils", "_rebuild_tensor_v2"))
		m->rebuild = r;
	return wf_pickle_push(m, r);
}

static int check_callable(struct pickle_machine *m, wf_ref func)
{
	switch (wf_kind_of(m->g, func)) {
	case WF_GLOBAL:
	case WF_PERSID:
	case WF_CALL:
		return 0;
	default:
		return wf_pickle_broken(m, "%s of a %s, which cannot be called", m->op_name, kind_name(m, func));
	}
}

/* Python 2 also passed lists; the result of a call may be a tuple of a class of its own. */
static int check_args(struct pickle_machine *m, wf_ref args)
{
	switch (wf_kind_of(m->g, args)) {
	case WF_TUPLE:
	case WF_LIST:
	case WF_CALL:
		return 0;
	default:
		return wf_pickle_broken(m, "%s with a %s for its arguments, not a tuple", m->op_name,
					kind_name(m, args));
	}
}

int wf_pickle_call(struct pickle_machine *m, uint8_t op)
{
	uint32_t n = op == OP_NEWOBJ_EX ? 3 : 2;
	enum wf_call_form form = op == OP_REDUCE   ? WF_CALL_REDUCE
				 : op == OP_NEWOBJ ? WF_CALL_NEWOBJ
						   : WF_CALL_NEWOBJ_EX;
	int rc = wf_pickle_need(m, n);

	if (rc < 0)
		return rc;
	const wf_ref *from = m->stack + m->depth - n;
	if ((rc = check_callable(m, from[0])) < 0 || (rc = check_args(m, from[1])) < 0)
		return rc;
	wf_ref kwargs = n == 3 ? from[2] : WF_NIL;
	if (kwargs && !wf_is(m->g, kwargs, WF_DICT) && !wf_is(m->g, kwargs, WF_CALL))
		return wf_pickle_broken(m, "NEWOBJ_EX with a %s for its keyword arguments, not a dict",
					kind_name(m, kwargs));
	wf_ref made = wf_call(m->g, form, from[0], from[1], kwargs);
	wf_pickle_trace_call(m, made);
	return collapse(m, m->depth - n, made);
}

/* INST and OBJ of Python 2: without arguments they make the object and do not call its initialiser, as NEWOBJ does. */
int wf_pickle_instance(struct pickle_machine *m, uint8_t op)
{
	uint32_t start = 0;
	wf_ref class;
	int rc;

	if (op == OP_INST && (rc = wf_pickle_text_global(m, &class)) < 0)
		return rc;
	if ((rc = wf_pickle_take_mark(m, &start)) < 0)
		return rc;
	uint32_t first = start;
	if (op == OP_OBJ) {
		if (m->depth == start)
			return wf_pickle_broken(m, "OBJ without a class");
		class = m->stack[first++];
		if ((rc = check_callable(m, class)) < 0)
			return rc;
	}
	wf_ref args = wf_tuple(m->g, m->stack + first, m->depth - first);
	if (!args)
		return wf_pickle_no_room(m);
	enum wf_call_form form = m->depth > first ? WF_CALL_REDUCE : WF_CALL_NEWOBJ;
	wf_ref made = wf_call(m->g, form, class, args, WF_NIL);
	wf_call_set_by_mark(m->g, made);
	wf_pickle_trace_call(m, made);
	return collapse(m, start, made);
}

int wf_pickle_build(struct pickle_machine *m, uint8_t op)
{
	int rc = wf_pickle_need(m, 2);

	if (rc < 0)
		return rc;
	wf_ref object = m->stack[m->depth - 2];
	if (!wf_is(m->g, object, WF_CALL))
		return wf_pickle_broken(m, "BUILD on a %s", kind_name(m, object));
	if (wf_call_build(m->g, object, m->stack[m->depth - 1]) < 0)
		return wf_pickle_no_room(m);
	m->trace = wf_hash_mix(m->g, m->trace, PICKLE_TRACE_BUILD | object);
	m->depth--;
	return 0;
}

int wf_pickle_persid(struct pickle_machine *m, uint8_t op)
{
	int rc = wf_pickle_need(m, 1);

	if (rc < 0)
		return rc;
	wf_ref id = m->stack[--m->depth];
	if (!m->hooks || !m->hooks->persid)
		return wf_pickle_push(m, wf_persid(m->g, id));
	m->err->code = 0;
	wf_ref r = m->hooks->persid(m->hooks->ctx, m->g, id, m->err);
	if (r)
		return wf_pickle_push(m, r);
	if (wf_graph_failed(m->g) || !m->err->code)
		return wf_pickle_no_room(m);
	if (m->err->offset == WF_ERROR_NO_OFFSET)
		m->err->offset = m->op_at;
	return m->err->code;
}
