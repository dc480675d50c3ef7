/* SPDX-License-Identifier: MIT */
/* What the files of the pickle reader and writer share among themselves: the reader's machine. */
#pragma once

#include "codec/bytes/cursor.h"
#include "codec/bytes/map.h"
#include "codec/pickle/opcodes.h"
#include "codec/pickle/pickle.h"

/* Index to object. Indices are dense in every pickle that a pickler wrote; those far past the number of entries go to
 * a hash table, so that one LONG_BINPUT cannot claim a table of its size. */
struct pickle_memo {
	wf_ref *dense;
	uint32_t dense_cap;
	uint32_t count; /* distinct indices set: what MEMOIZE uses next */
	struct wf_map sparse;
};

/* Returns 0 or -ENOMEM. */
int wf_pickle_memo_put(struct pickle_memo *m, uint32_t index, wf_ref value);
/* WF_NIL when unset. */
wf_ref wf_pickle_memo_get(const struct pickle_memo *m, uint64_t index);
void wf_pickle_memo_free(struct pickle_memo *m);

/* What reading and writing a pickle have in common, for its trace: an object that a call made, that was given a state, or
 * that was taken from the memo with so much in it. */
#define PICKLE_TRACE_CALL (UINT64_C(1) << 40)
#define PICKLE_TRACE_BUILD (UINT64_C(2) << 40)
#define PICKLE_TRACE_SEEN (UINT64_C(3) << 40)
#define PICKLE_TRACE_ROUNDS 64u /* further rounds of changes are not counted */

static inline bool wf_pickle_can_change(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_CALL) || wf_is(g, r, WF_LIST) || wf_is(g, r, WF_DICT) || wf_is(g, r, WF_SET);
}

struct pickle_machine {
	struct wf_graph *g;
	struct wf_cursor in;
	const struct wf_pickle_reader *hooks;
	struct wf_error *err;
	wf_ref *stack;
	uint32_t depth;
	uint32_t stack_cap;
	uint32_t *marks; /* stack depth at each MARK */
	uint32_t nmarks;
	uint32_t marks_cap;
	struct pickle_memo memo;
	uint64_t op_at; /* offset of the opcode at work */
	const char *op_name;
	uint8_t protocol;
	uint8_t last_op;
	uint64_t framed;             /* bytes that the last FRAME holds */
	bool binary;                 /* an opcode that protocol 0 does not have was met */
	uint64_t trace, before_call; /* before_call: without the last call */
	wf_ref last_call;
	wf_ref rebuild;    /* torch._utils._rebuild_tensor_v2, once it is there */
	bool dropped;      /* the result of a call was thrown away by the last opcode */
	bool just_dropped; /* ... by the one before */
	bool external;     /* long strings may stay in the source */
	bool stopped;
};

/* ---- pickle/machine.c ---- */

void wf_pickle_machine_free(struct pickle_machine *m);
/* Each fills the error for the opcode at work and returns the code. */
int wf_pickle_broken(struct pickle_machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int wf_pickle_refused(struct pickle_machine *m, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The input ended, or could not be read. */
int wf_pickle_cut(struct pickle_machine *m);
/* The opcode has n bytes, and fewer are left. */
int wf_pickle_short(struct pickle_machine *m, uint64_t n);
/* Memory or the graph's limit. */
int wf_pickle_no_room(struct pickle_machine *m);
/* Puts r on the stack; WF_NIL stands for a constructor that failed. */
int wf_pickle_push(struct pickle_machine *m, wf_ref r);

/* Depth of the last mark: no opcode reaches below it. */
uint32_t wf_pickle_floor(const struct pickle_machine *m);
/* Fails unless n operands stand above the last mark. */
int wf_pickle_need(struct pickle_machine *m, uint32_t n);
int wf_pickle_put_mark(struct pickle_machine *m);
/* Takes the last mark away; *ret_start is the first stack position above it. */
int wf_pickle_take_mark(struct pickle_machine *m, uint32_t *ret_start);

/* ---- pickle/tensors.c ---- */

/* With the function that rebuilds a tensor on the stack: where the rest of a tensor follows, reads it and puts the call in its place. */
int wf_pickle_tensor(struct pickle_machine *m);

/* ---- pickle/trace.c ---- */

/* Notes the call that made r, and that r was used again. */
void wf_pickle_trace_call(struct pickle_machine *m, wf_ref r);
void wf_pickle_trace_seen(struct pickle_machine *m, wf_ref r);

/* Opcodes that make and change objects: pickle/objects.c. */
int wf_pickle_constant(struct pickle_machine *m, uint8_t op);
int wf_pickle_collect(struct pickle_machine *m, uint8_t op);
int wf_pickle_small_tuple(struct pickle_machine *m, uint8_t op);
int wf_pickle_fill(struct pickle_machine *m, uint8_t op);
int wf_pickle_global(struct pickle_machine *m, uint8_t op);
int wf_pickle_call(struct pickle_machine *m, uint8_t op);
int wf_pickle_instance(struct pickle_machine *m, uint8_t op);
int wf_pickle_build(struct pickle_machine *m, uint8_t op);
int wf_pickle_persid(struct pickle_machine *m, uint8_t op);

/* Opcodes that push an atom: pickle/atoms.c. */
int wf_pickle_number(struct pickle_machine *m, uint8_t op);
int wf_pickle_text_number(struct pickle_machine *m, uint8_t op);
int wf_pickle_string(struct pickle_machine *m, uint8_t op);
int wf_pickle_text_string(struct pickle_machine *m, uint8_t op);
/* The rest of a line as the unsigned number that GET and PUT take. */
int wf_pickle_text_index(struct pickle_machine *m, uint64_t *ret);
/* The two lines of GLOBAL and INST. */
int wf_pickle_text_global(struct pickle_machine *m, wf_ref *ret);
/* A module or name that no import could ever mean is refused. */
int wf_pickle_check_name(struct pickle_machine *m, const char *name, size_t len);
