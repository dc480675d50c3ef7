/* SPDX-License-Identifier: MIT */
/* Object graph to opcodes, as CPython's pickler writes them; this is protocol 2, and others differ in the opcodes only:
 *
 *   PROTO 2 | object | STOP
 *
 *   list    EMPTY_LIST, put, then 1000 elements at a time:  MARK ... APPENDS, a single one:  x APPEND
 *   dict    EMPTY_DICT, put, then 1000 items at a time:     MARK k v ... SETITEMS, a single one:  k v SETITEM
 *   tuple   up to 3:  x ... TUPLE1..3, put     more:  MARK ... TUPLE, put
 *   call    function, arguments, REDUCE, put, then elements, items, state BUILD
 *
 * Protocol 0 has no batches. From 4 on sets have opcodes of their own.
 *
 * A list or dict of its own counts as single by its length; elements and items of a call by what is left of them, and
 * after an exact multiple of 1000 a dict of its own gets one more, empty batch. All three are CPython's ways.
 *
 * A tuple that contains itself comes by again before it is finished: the inner one is written out and memoised, and
 * the outer one, when it is complete and finds itself memoised, throws its elements away and gets that.
 */
#include "codec/pickle/pickle.h"

#include <errno.h>

#include "codec/pickle/writer.h"
#include "codec/bytes/util.h"

#define BATCH 1000u

static int save(struct pickle_writer *w, wf_ref r);

static bool is_at_hand(const struct pickle_writer *w, wf_ref r)
{
	enum wf_kind kind = wf_kind_of(w->out.g, r);

	return kind < WF_TUPLE || kind == WF_GLOBAL || wf_is_constant(w->out.g, r) || wf_emit_is_memoised(&w->out, r);
}

/* Whether all that a list or dict holds can be written without going deeper. */
static bool is_flat(const struct pickle_writer *w, wf_ref r)
{
	uint32_t n, m;
	const wf_ref *refs = wf_elements(w->out.g, r, &n);
	const struct wf_item *items = wf_items(w->out.g, r, &m);

	for (uint32_t i = 0; i < n; i++)
		if (!is_at_hand(w, refs[i]))
			return false;
	for (uint32_t i = 0; i < m; i++)
		if (items[i].key && !(is_at_hand(w, items[i].key) && is_at_hand(w, items[i].value)))
			return false;
	return true;
}

/* An argument of a call that is being written already. A list that is still being filled would be passed as far as it
 * is now. Where all its elements exist, a second list goes in its place, as CPython makes one for every frozenset;
 * otherwise the call was made with the unfinished list. */
static int save_argument(struct pickle_writer *w, wf_ref r)
{
	if (!wf_pickle_is_filled(w, r) || !wf_pickle_is_entered(w, r))
		return save(w, r);
	int rc = wf_pickle_charge_repeat(w, wf_pickle_count_live(w->out.g, r));
	if (rc < 0)
		return rc;
	if (!is_flat(w, r))
		return save(w, r);
	wf_emit_empty(&w->out, wf_is(w->out.g, r, WF_LIST) ? OP_EMPTY_LIST : OP_EMPTY_DICT);
	wf_emit_put(&w->out, WF_NIL);
	return wf_pickle_push_batch(w, r, true);
}

static int save_container(struct pickle_writer *w, wf_ref r, uint8_t op)
{
	wf_emit_empty(&w->out, op);
	wf_emit_put(&w->out, r);
	return wf_pickle_push_batch(w, r, true);
}

static int save_set(struct pickle_writer *w, wf_ref r)
{
	uint32_t n;

	if (w->out.protocol < 4 || wf_is(w->out.g, r, WF_FROZENSET)) {
		wf_elements(w->out.g, r, &n);
		return wf_pickle_enter(w, (struct pickle_frame){.kind = FRAME_SET, .ref = r, .total = n}, n);
	}
	wf_emit_op(&w->out, OP_EMPTY_SET);
	wf_emit_put(&w->out, r);
	return wf_pickle_push_batch(w, r, false);
}

static int save_tuple(struct pickle_writer *w, wf_ref r)
{
	uint32_t n;

	wf_elements(w->out.g, r, &n);
	if (n == 0) {
		wf_emit_empty(&w->out, OP_EMPTY_TUPLE);
		return 0;
	}
	wf_emit_tuple_mark(&w->out, n);
	return wf_pickle_enter(w, (struct pickle_frame){.kind = FRAME_TUPLE, .ref = r, .total = n}, n);
}

static int save(struct pickle_writer *w, wf_ref r)
{
	struct pickle_out *o = &w->out;
	int64_t v;

	if (r == WF_NIL)
		return wf_fail(o->err, -EOPNOTSUPP, "an object with a missing part cannot be written");
	if (wf_emit_is_memoised(o, r)) {
		wf_pickle_write_trace_seen(w, r);
		wf_emit_get(o, r);
		return o->failed;
	}
	switch (wf_kind_of(o->g, r)) {
	case WF_NONE:
		wf_emit_op(o, OP_NONE);
		break;
	case WF_BOOL:
		wf_emit_bool(o, wf_bool_value(o->g, r));
		break;
	case WF_INT:
		wf_int_value(o->g, r, &v);
		wf_emit_int(o, v);
		break;
	case WF_LONG:
		wf_emit_long(o, r);
		break;
	case WF_FLOAT:
		wf_emit_float(o, wf_float_value(o->g, r));
		break;
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		wf_emit_string(o, r);
		break;
	case WF_GLOBAL:
		wf_emit_global(o, r);
		break;
	case WF_TUPLE:
		return save_tuple(w, r);
	case WF_LIST:
		return save_container(w, r, OP_EMPTY_LIST);
	case WF_DICT:
		return save_container(w, r, OP_EMPTY_DICT);
	case WF_SET:
	case WF_FROZENSET:
		return save_set(w, r);
	case WF_CALL:
		return wf_pickle_enter(w, (struct pickle_frame){.kind = FRAME_CALL, .ref = r}, 1);
	case WF_PERSID:
		return wf_pickle_push_frame(w, (struct pickle_frame){.kind = FRAME_PERSID, .ref = r});
	default:
		return wf_fail(o->err, -EOPNOTSUPP, "an object of an unknown kind cannot be written");
	}
	return o->failed;
}

static int step_tuple(struct pickle_writer *w, struct pickle_frame *f)
{
	struct pickle_out *o = &w->out;

	if (f->at < f->total) {
		wf_ref part = wf_element(o->g, f->ref, f->at++);
		return f->args ? save_argument(w, part) : save(w, part);
	}
	if (wf_emit_is_memoised(o, f->ref)) {
		bool marked = o->protocol < 2 || f->total > 3, at_once = marked && o->protocol > 0;
		if (at_once)
			wf_emit_op(o, OP_POP_MARK);
		for (uint32_t i = 0; !at_once && i < f->total + marked; i++)
			wf_emit_op(o, OP_POP);
		wf_emit_get(o, f->ref);
	} else {
		wf_emit_tuple(o, f->total);
		wf_emit_put(o, f->ref);
	}
	return wf_pickle_pop_frame(w);
}

/* One element or one key and its value; the frame may have moved afterwards. */
static int save_part(struct pickle_writer *w, struct pickle_frame *f)
{
	const struct wf_graph *g = w->out.g;
	uint32_t n;

	if (!wf_is(g, f->ref, WF_DICT)) {
		f->done++;
		return save(w, wf_element(g, f->ref, f->at++));
	}
	bool made = wf_pickle_is_made(w, f->ref), is_key = f->at % 2 == 0; /* at counts keys and values here */
	const struct wf_item *items = wf_items(g, f->ref, &n);
	while (!made && is_key && !items[f->at / 2].key)
		f->at += 2;
	int rc = made && is_key ? wf_pickle_make_item(w, f->at / 2) : 0;
	if (rc < 0)
		return rc;
	const struct wf_item *item = made ? &w->item : &items[f->at / 2];
	f->at++;
	f->done += !is_key;
	return save(w, is_key ? item->key : item->value);
}

static int step_batch(struct pickle_writer *w, struct pickle_frame *f)
{
	struct pickle_out *o = &w->out;
	enum wf_kind kind = wf_kind_of(o->g, f->ref);
	bool dict = kind == WF_DICT;
	/* Elements of a set stand in the list that set() is called with, unless they were added to a call's result. */
	uint8_t many = dict ? OP_SETITEMS : kind == WF_SET && !f->own ? OP_ADDITEMS : OP_APPENDS;
	bool half = dict && f->at % 2;

	if (f->stage == BATCH_BETWEEN) {
		if (f->done == f->total)
			return wf_pickle_leave_batch(w, f);
		uint32_t counted = f->own ? f->total : f->total - f->done;
		bool single = (counted == 1 && !o->hooks->marks) || o->protocol == 0;
		f->stage = single && many != OP_ADDITEMS ? BATCH_SINGLE : BATCH_INSIDE;
		if (f->stage == BATCH_INSIDE)
			wf_emit_op(o, OP_MARK);
		f->round = f->done;
		return save_part(w, f);
	}
	if (half)
		return save_part(w, f);
	if (f->stage == BATCH_SINGLE) {
		wf_emit_op(o, dict ? OP_SETITEM : OP_APPEND);
		f->stage = BATCH_BETWEEN;
		return o->failed;
	}
	bool full = f->done - f->round == BATCH;
	if (!full && f->done < f->total)
		return save_part(w, f);
	wf_emit_op(o, many);
	f->stage = BATCH_BETWEEN;
	if (full && dict && f->own && f->done == f->total) {
		wf_emit_op(o, OP_MARK);
		wf_emit_op(o, OP_SETITEMS);
	}
	return o->failed;
}

/* The result of a call: memoised, unless it contains itself and was finished inside. Returns whether it goes on. */
static bool finish_result(struct pickle_writer *w, wf_ref r, uint8_t op)
{
	struct pickle_out *o = &w->out;

	wf_emit_op(o, op);
	if (wf_is(o->g, r, WF_CALL))
		wf_pickle_write_trace(w, PICKLE_TRACE_CALL | r);
	if (wf_emit_is_memoised(o, r)) {
		wf_emit_op(o, OP_POP);
		wf_pickle_write_trace_seen(w, r);
		wf_emit_get(o, r);
		return false;
	}
	wf_emit_put(o, r);
	return true;
}

static int save_args(struct pickle_writer *w, wf_ref args, bool again)
{
	uint32_t depth = w->depth;
	int rc = save(w, args);

	if (rc == 0 && again && w->depth > depth && w->frames[depth].kind == FRAME_TUPLE)
		w->frames[depth].args = true;
	return rc;
}

/* OBJ takes its arguments from the stack, one at a time. */
static int save_marked_args(struct pickle_writer *w, struct pickle_frame *f)
{
	wf_ref arg = wf_element(w->out.g, wf_call_args(w->out.g, f->ref), f->at);

	if (arg == WF_NIL)
		return 0;
	f->at++;
	f->stage = CALL_ARGS;
	return save(w, arg);
}

static int step_call(struct pickle_writer *w, struct pickle_frame *f)
{
	static const uint8_t ops[] = {OP_REDUCE, OP_NEWOBJ, OP_NEWOBJ_EX};
	const struct wf_graph *g = w->out.g;
	enum wf_call_form form = wf_call_form_of(g, f->ref);
	struct wf_effects e = {0};

	if (f->stage >= CALL_LIST && !wf_call_effects(g, f->ref, f->round, &e))
		return wf_pickle_pop_frame(w);
	switch ((enum call_stage)f->stage++) {
	case CALL_FUNC:
		if (wf_call_by_mark(g, f->ref))
			wf_emit_op(&w->out, OP_MARK);
		return save(w, wf_call_func(g, f->ref));
	case CALL_ARGS:
		if (wf_call_by_mark(g, f->ref))
			return save_marked_args(w, f);
		return save_args(w, wf_call_args(g, f->ref), f->again);
	case CALL_KWARGS:
		return form == WF_CALL_NEWOBJ_EX ? save(w, wf_call_kwargs(g, f->ref)) : 0;
	case CALL_RESULT:
		if (!finish_result(w, f->ref, wf_call_by_mark(g, f->ref) ? OP_OBJ : ops[form]))
			return wf_pickle_pop_frame(w);
		return w->out.failed;
	case CALL_LIST:
		return wf_pickle_push_batch(w, e.list, false);
	case CALL_SET:
		return wf_pickle_push_batch(w, e.set, false);
	case CALL_DICT:
		return wf_pickle_push_batch(w, e.dict, false);
	case CALL_STATE:
		return e.state ? save(w, e.state) : 0;
	default:
		if (e.state) {
			wf_emit_op(&w->out, OP_BUILD);
			wf_pickle_write_trace(w, PICKLE_TRACE_BUILD | f->ref);
		}
		f->round++;
		f->stage = CALL_LIST;
		return w->out.failed;
	}
}

static int step_frozenset(struct pickle_writer *w, struct pickle_frame *f)
{
	struct pickle_out *o = &w->out;

	if (f->stage == 0) {
		f->stage = 1;
		wf_emit_op(o, OP_MARK);
	}
	if (f->at < f->total)
		return save(w, wf_element(o->g, f->ref, f->at++));
	if (wf_emit_is_memoised(o, f->ref)) {
		wf_emit_op(o, OP_POP_MARK);
		wf_emit_get(o, f->ref);
	} else {
		wf_emit_op(o, OP_FROZENSET);
		wf_emit_put(o, f->ref);
	}
	return wf_pickle_pop_frame(w);
}

/* Before protocol 4 there are no opcodes for sets: set([...]), with a list that no other object knows. */
static int step_set(struct pickle_writer *w, struct pickle_frame *f)
{
	struct pickle_out *o = &w->out;

	if (o->protocol >= 4)
		return step_frozenset(w, f);
	if (f->stage++ == 0) {
		wf_emit_helper(o, wf_is(o->g, f->ref, WF_SET) ? HELPER_SET : HELPER_FROZENSET);
		wf_emit_tuple_mark(o, 1);
		wf_emit_empty(o, OP_EMPTY_LIST);
		wf_emit_put(o, WF_NIL);
		return wf_pickle_push_batch(w, f->ref, true);
	}
	wf_emit_tuple(o, 1);
	wf_emit_put(o, WF_NIL);
	finish_result(w, f->ref, OP_REDUCE);
	return wf_pickle_pop_frame(w);
}

static int step_persid(struct pickle_writer *w, struct pickle_frame *f)
{
	struct pickle_out *o = &w->out;

	if (f->stage++ == 0) {
		wf_ref id = wf_persid_id(o->g, f->ref);
		if (o->hooks->persid)
			id = o->hooks->persid(o->hooks->ctx, f->ref, id);
		int rc = wf_pickle_make_room(w); /* for what it may have made */
		return rc < 0 ? rc : save(w, id);
	}
	wf_emit_op(o, OP_BINPERSID);
	if (wf_persid_memoised(o->g, f->ref))
		wf_emit_put(o, f->ref);
	return wf_pickle_pop_frame(w);
}

static int step(struct pickle_writer *w)
{
	static int (*const steps[])(struct pickle_writer *, struct pickle_frame *) = {
		[FRAME_TUPLE] = step_tuple, [FRAME_BATCH] = step_batch,   [FRAME_CALL] = step_call,
		[FRAME_SET] = step_set,     [FRAME_PERSID] = step_persid,
	};
	struct pickle_frame *f = &w->frames[w->depth - 1];
	int rc = steps[f->kind](w, f);
	return rc < 0 ? rc : w->out.failed;
}

int wf_pickle_write_all(struct pickle_writer *w, wf_ref root)
{
	w->out.protocol = w->out.hooks->as_read ? wf_graph_protocol(w->out.g) : 2;
	w->out.buf = malloc(PICKLE_OUT_BYTES);
	if (!w->out.buf)
		return wf_fail(w->out.err, -ENOMEM, "out of memory");
	int rc = wf_pickle_make_room(w);
	if (w->out.protocol >= 2)
		wf_emit_u8(&w->out, OP_PROTO, w->out.protocol);
	if (rc == 0)
		rc = save(w, root);
	while (rc == 0 && w->depth && w->looked_for < PICKLE_MAX_LOOKED_FOR)
		rc = step(w);
	if (rc < 0)
		return rc;
	wf_emit_op(&w->out, OP_STOP);
	return wf_emit_flush(&w->out);
}

int wf_pickle_write(const struct wf_graph *g, wf_ref root, const struct wf_pickle_writer *hooks, struct wf_error *err)
{
	cleanup_with(wf_pickle_writer_free) struct pickle_writer w = {.out = {.g = g, .hooks = hooks, .err = err}};

	if (wf_graph_lossy(g))
		return wf_fail(err, -EOPNOTSUPP, "this pickle can be read but not written: %s", wf_graph_lossy(g));
	return wf_pickle_write_all(&w, root);
}

struct memory_writer {
	struct wf_buffer *out;
	wf_ref (*persid)(void *, wf_ref, wf_ref);
	void *ctx;
};

static int write_memory(void *ctx, const void *data, size_t len)
{
	struct memory_writer *m = ctx;

	wf_buffer_append(m->out, data, len);
	return wf_buffer_status(m->out);
}

static wf_ref persid_memory(void *ctx, wf_ref persid, wf_ref id)
{
	struct memory_writer *m = ctx;
	return m->persid(m->ctx, persid, id);
}

int wf_pickle_write_buffer(const struct wf_graph *g, wf_ref root, wf_ref (*persid)(void *, wf_ref, wf_ref), void *ctx,
			   struct wf_buffer *out, struct wf_error *err)
{
	struct memory_writer m = {out, persid, ctx};
	const struct wf_pickle_writer hooks = {persid ? persid_memory : NULL, write_memory, &m};

	return wf_pickle_write(g, root, &hooks, err);
}
