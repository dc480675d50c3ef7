/* SPDX-License-Identifier: MIT */
/* A tensor as torch writes all but the first of a kind, read at once and kept as one packed object (wf_packed_tensor):
 *
 *   get _rebuild_tensor_v2 | MARK MARK get 'storage', get class, key put, get location, numel TUPLE put BINPERSID, offset,
 *   size tuple put, stride tuple put, requires_grad, get OrderedDict EMPTY_TUPLE REDUCE put, TUPLE put, REDUCE put
 *
 * Puts may be missing, but for the last one. Nothing is done unless all of it stands there in just these opcodes; what differs is read
 * opcode by opcode, and so is what is wrong.
 */
#include "codec/pickle/inner.h"

#include "codec/bytes/util.h"

#define MAX_BYTES 1024u /* of such a tensor; what is nearer to the end of the window is read opcode by opcode */
#define NO_PUT UINT64_MAX
#define NEXT_PUT (UINT64_MAX - 1) /* MEMOIZE */

/* The bytes after the function, as far as they were what they should be. */
struct tensor_bytes {
	const unsigned char *p, *end;
	bool ok;
};

/* What goes into the memo, in its order. */
enum { PUT_KEY, PUT_ID, PUT_SIZE, PUT_STRIDE, PUT_HOOKS, PUT_ARGS, PUT_CALL, PUT_COUNT };
static const uint8_t put_part[PUT_COUNT] = {0, 1, 3, 4, 5, 6, 7}; /* of the eight objects */

struct tensor_opcodes {
	struct wf_packed_parts parts;
	wf_ref shape[2 * WF_PACKED_MAX_NDIM], stride[WF_PACKED_MAX_NDIM];
	uint64_t puts[PUT_COUNT];
};

static uint8_t take(struct tensor_bytes *b)
{
	b->ok &= b->p < b->end;
	return b->ok ? *b->p++ : 0;
}

static void expect(struct tensor_bytes *b, uint8_t op)
{
	b->ok &= take(b) == op;
}

static uint32_t take_u32(struct tensor_bytes *b)
{
	b->ok &= b->end - b->p >= 4;
	if (!b->ok)
		return 0;
	b->p += 4;
	return wf_le32(b->p - 4);
}

static wf_ref take_get(struct pickle_machine *m, struct tensor_bytes *b, enum wf_kind kind)
{
	uint8_t op = take(b);
	uint32_t index = op == OP_BINGET ? take(b) : op == OP_LONG_BINGET ? take_u32(b) : UINT32_MAX;
	wf_ref r = b->ok ? wf_pickle_memo_get(&m->memo, index) : WF_NIL;
	b->ok &= wf_is(m->g, r, kind);
	return r;
}

static uint64_t take_put(struct tensor_bytes *b)
{
	switch (b->p < b->end ? *b->p : 0) {
	case OP_BINPUT:
		b->p++;
		return take(b);
	case OP_LONG_BINPUT:
		b->p++;
		return take_u32(b);
	case OP_MEMOIZE:
		b->p++;
		return NEXT_PUT;
	default:
		return NO_PUT;
	}
}

/* An int that is an immediate of the graph: sizes past them are made opcode by opcode. */
static wf_ref take_int(struct pickle_machine *m, struct tensor_bytes *b)
{
	int32_t v = 0;
	switch (take(b)) {
	case OP_BININT1:
		v = take(b);
		break;
	case OP_BININT2:
		v = take(b);
		v |= take(b) << 8;
		break;
	case OP_BININT:
		v = (int32_t)take_u32(b);
		break;
	default:
		b->ok = false;
	}
	b->ok &= v >= 0 && v < 1 << 30;
	return b->ok ? wf_int(m->g, v) : WF_NIL;
}

static bool is_int(const struct tensor_bytes *b)
{
	return b->p < b->end && (*b->p == OP_BININT1 || *b->p == OP_BININT2 || *b->p == OP_BININT);
}

/* EMPTY_TUPLE, or ints and the opcode for so many, and the put. */
static uint32_t take_ints(struct pickle_machine *m, struct tensor_bytes *b, wf_ref *ret, uint64_t *ret_put)
{
	uint32_t n = 0;
	bool marked = b->p < b->end && *b->p == OP_MARK;
	*ret_put = NO_PUT;
	if (b->p < b->end && *b->p == OP_EMPTY_TUPLE) {
		b->p++;
		return 0;
	}
	b->p += marked;
	for (; n < WF_PACKED_MAX_NDIM && is_int(b); n++)
		ret[n] = take_int(m, b);
	b->ok &= marked ? n > 0 : n > 0 && n < 4;
	if (b->ok)
		expect(b, marked ? OP_TUPLE : (uint8_t)(OP_TUPLE1 + n - 1));
	*ret_put = take_put(b);
	return n;
}

static void take_key(struct tensor_bytes *b, struct wf_packed_parts *parts)
{
	uint8_t op = take(b);
	uint32_t len = op == OP_BINUNICODE ? take_u32(b) : op == OP_SHORT_BINUNICODE ? take(b) : UINT32_MAX;
	b->ok &= len < MAX_BYTES && b->end - b->p >= len;
	if (!b->ok)
		return;
	parts->key = (const char *)b->p;
	parts->key_len = len;
	b->p += len;
	for (uint32_t i = 0; i < len; i++)
		b->ok &= !(parts->key[i] & 0x80); /* other texts may be no UTF-8 */
}

static void take_storage(struct pickle_machine *m, struct tensor_bytes *b, struct tensor_opcodes *t)
{
	t->parts.storage = take_get(m, b, WF_STR);
	t->parts.class = take_get(m, b, WF_GLOBAL);
	take_key(b, &t->parts);
	t->puts[PUT_KEY] = take_put(b);
	t->parts.location = take_get(m, b, WF_STR);
	t->parts.numel = take_int(m, b);
	expect(b, OP_TUPLE);
	t->puts[PUT_ID] = take_put(b);
	expect(b, OP_BINPERSID);
	b->ok = b->ok && wf_str_equal(m->g, t->parts.storage, "storage");
}

static void take_tensor(struct pickle_machine *m, struct tensor_bytes *b, struct tensor_opcodes *t)
{
	expect(b, OP_MARK);
	expect(b, OP_MARK);
	take_storage(m, b, t);
	t->parts.offset = take_int(m, b);
	uint32_t ndim = take_ints(m, b, t->shape, &t->puts[PUT_SIZE]);
	b->ok &= take_ints(m, b, t->stride, &t->puts[PUT_STRIDE]) == ndim;
	uint8_t op = take(b);
	b->ok &= op == OP_NEWFALSE || op == OP_NEWTRUE;
	t->parts.requires_grad = wf_bool(m->g, op == OP_NEWTRUE);
	t->parts.hooks_func = take_get(m, b, WF_GLOBAL);
	expect(b, OP_EMPTY_TUPLE);
	expect(b, OP_REDUCE);
	t->puts[PUT_HOOKS] = take_put(b);
	expect(b, OP_TUPLE);
	t->puts[PUT_ARGS] = take_put(b);
	expect(b, OP_REDUCE);
	t->puts[PUT_CALL] = take_put(b);
	b->ok &= t->puts[PUT_CALL] !=
		 NO_PUT; /* so that no call is the last opcode: whether it is thrown away is looked at there */
	if (!b->ok)
		return;
	memcpy(t->shape + ndim, t->stride, ndim * sizeof *t->shape);
	t->parts.ndim = ndim;
	t->parts.shape = t->shape;
}

static bool can_put(const struct tensor_opcodes *t)
{
	for (int i = 0; i < PUT_COUNT; i++)
		if (t->puts[i] < NEXT_PUT && t->puts[i] >= WF_PICKLE_MAX_MEMO)
			return false;
	return true;
}

/* What the opcodes would have done, one after the other, beside making the objects. */
static int do_rest(struct pickle_machine *m, const struct tensor_opcodes *t, wf_ref call)
{
	wf_ref first = call - (WF_PACKED_OBJECTS - 1);
	int rc = 0;
	for (int i = 0; i < PUT_COUNT && rc == 0; i++) {
		wf_ref r = first + put_part[i];
		if (i == PUT_HOOKS || i == PUT_CALL)
			wf_pickle_trace_call(m, r);
		if (t->puts[i] != NO_PUT)
			rc = wf_pickle_memo_put(&m->memo, t->puts[i] == NEXT_PUT ? m->memo.count : (uint32_t)t->puts[i],
						r);
	}
	m->binary = true;
	return rc < 0 ? wf_pickle_no_room(m) : 0;
}

int wf_pickle_tensor(struct pickle_machine *m)
{
	struct tensor_opcodes t;
	size_t len = 0;
	if (m->hooks && (m->hooks->places || (m->hooks->persid && !m->hooks->is_plain)))
		return 0;
	const unsigned char *p = wf_cursor_peek(&m->in, &len);
	struct tensor_bytes b = {.p = p, .end = p ? p + WF_MIN(len, (size_t)MAX_BYTES) : NULL, .ok = p != NULL};
	t.parts = (struct wf_packed_parts){.func = m->stack[m->depth - 1]};
	if (b.ok)
		take_tensor(m, &b, &t);
	if (!b.ok || !can_put(&t) ||
	    (m->hooks && m->hooks->persid && !m->hooks->is_plain(m->hooks->ctx, t.parts.key, t.parts.key_len)))
		return 0;
	wf_ref call = wf_packed_tensor(m->g, &t.parts);
	if (call == WF_NIL)
		return wf_graph_failed(m->g) ? wf_pickle_no_room(m) : 0;
	m->in.pos += (uint64_t)(b.p - p);
	m->stack[m->depth - 1] = call;
	return do_rest(m, &t, call);
}
